"""The menu of rules in the reports: what each candidate was worth before and earned after, and what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from mntrading.core.menu import CONFIGURED
from mntrading.reporting import style
from mntrading.reporting.context import Section, table
from mntrading.reporting.formats import count, decimal, p_value, percent, plural

_BETWEEN: Final = " · "


def rules_section(rules: Mapping[str, Any], n_table_rows: int) -> Section:
    """Every candidate with what it earned in the trading windows, and whether picking the best of them is luck."""
    title = "The rules on the menu"
    if rules["n_candidates"] < 2 or not rules["n_windows"]:
        return Section("rules", title, ("Every pair is traded by the configured rule: there was nothing to choose.",))
    lines = sorted(rules["candidates"], key=lambda line: (-line["n_chosen"], -line["net_pnl"]))
    kept = next((line["n_chosen"] for line in lines if line["label"] == CONFIGURED), 0)
    text = (
        f"Each pair's windows and levels were chosen from {rules['n_candidates']} candidates inside its formation "
        f"window, at {rules['cost_multiple']:g} times the costs; in {kept} of {plural(rules['n_windows'], 'window')} "
        "of a pair the configured rule stayed. What a candidate earned in the trading windows was not known then: it "
        "is shown for every one of them, chosen or not, and each counts as a trial.",
        *_luck(rules),
    )
    rows = [
        (
            line["label"], count(line["n_chosen"]), percent(line["worth"], 2), percent(line["net_pnl"], 2),
            decimal(line["sharpe"]),
        )
        for line in lines[:n_table_rows]
    ]  # fmt: skip
    columns = ("Windows · levels", "#Times chosen", "#Worth before", "#Net after", "#Sharpe after")
    note = (
        "Worth before: mean net P&L of a block of the formation window, less one standard error, over all pairs and "
        "windows. Net and Sharpe ratio after: all pairs on one unit of notional each, by the rule on z, out of "
        "sample and after costs."
    )
    return Section("rules", title, text, figures=("menu",), tables=table("Candidates", columns, rows, note=note))


def _luck(rules: Mapping[str, Any]) -> tuple[str, ...]:
    if rules["pbo"] is None or rules["spa_consistent"] is None:
        return ()
    return (
        f"Picking the candidate that was best on one half of the days gives one below the median of the other half in "
        f"{percent(rules['pbo'], 0)} of the ways to halve them (probability of backtest overfitting). That the best "
        f"of them beats cash by more than the best of as many without skill: p {p_value(rules['spa_consistent'])}.",
    )


def menu_figure(rules: Mapping[str, Any]) -> go.Figure | None:
    """Worth of each candidate before trading (windows × levels), with how often it was chosen; None for no menu."""
    cells = {_place(line["label"]): line for line in rules["candidates"]}
    windows, levels = (list(dict.fromkeys(place[axis] for place in cells)) for axis in (0, 1))
    if len(cells) < 2:
        return None
    worth = np.full((len(windows), len(levels)), np.nan)
    chosen = np.zeros(worth.shape, dtype=np.int64)
    for (window, level), line in cells.items():
        at = windows.index(window), levels.index(level)
        worth[at], chosen[at] = line["worth"], line["n_chosen"]
    bound = float(np.nanmax(np.abs(worth))) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=worth, x=levels, y=windows, zmin=-bound, zmax=bound, colorscale=style.diverging(),
            hovertemplate="%{y}, %{x}<br>worth %{z:.3%}<extra></extra>",
            colorbar={"title": {"text": "Worth", "side": "right"}, "tickformat": ".1%", "thickness": 12},
            xgap=2, ygap=2,
        )
    )  # fmt: skip
    for row, column in np.argwhere(chosen > 0):
        figure.add_annotation(
            x=levels[column], y=windows[row], text=f"★ {chosen[row, column]}", showarrow=False,
            font={"size": 13, "color": style.INK},
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-35)
    return figure.update_layout(height=130 + 46 * len(windows) + 110)


def _place(label: str) -> tuple[str, str]:
    window, _, level = label.partition(_BETWEEN)
    return window, level or CONFIGURED
