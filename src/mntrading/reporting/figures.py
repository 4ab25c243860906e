"""Figures of the reports: frames in, ``plotly`` figures out.

Every trace holds at most ``max_points`` points, thinned so that peaks and troughs stay. Text that comes from
data is escaped, as plotly reads a few HTML tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mntrading.core import metrics
from mntrading.reporting import style
from mntrading.reporting.evidence import Research
from mntrading.reporting.model_figures import model_figures
from mntrading.reporting.rules import menu_figure
from mntrading.reporting.screen_figures import Network, heat_map_figure, network_figure

N_PAIR_WINDOWS = 2
_NAMES = {"champions": ("Champions", style.CHAMPIONS), "roster": ("Whole roster", style.ROSTER)}


def draw(research: Research) -> dict[str, go.Figure]:
    """The figures a report has, by name; those without anything to show are left out."""
    points = research.reporting.max_points
    out = {}
    if research.traded:
        starts = [entry.fold.formation_end for entry in research.roster.completed]
        out["equity"] = equity_figure(research.equity, starts, max_points=points)
    if any(line["n_pairs"] for line in research.summary["folds"]):
        out["folds"] = folds_figure(research.summary["folds"])
    if research.best is not None and len(research.best.trades):
        curve, trades = last_windows(research.best.curve, research.best.trades, research.summary["folds"])
        held = research.best.windows.set_index("fold").loc[list(dict.fromkeys(trades["fold"]))]
        out["pair"] = pair_figure(curve, trades, held, max_points=points)
    if (menu := menu_figure(research.summary["rules"])) is not None:
        out["menu"] = menu
    pairs = research.live_screen["pairs"]
    if len(research.tests):
        out["screening_heat_map"] = heat_map_figure(research.tests, pairs, level=research.screening.level)
    network = Network.of(pairs)
    if network.symbols:
        out["pair_network"] = network_figure(network)
    return out | model_figures(research.scores)


def decimate(series: pd.Series, max_points: int) -> pd.Series:
    """At most ``max_points`` rows of a series, in order: its ends, and the lowest and highest of each stretch.

    A stretch without any known value keeps one row, so that a gap stays a gap.

    Parameters
    ----------
    series
        Values in time order; NaN where there is none.
    max_points
        Rows to keep, at least 4.
    """
    if max_points < 4:
        raise ValueError(f"max_points is {max_points}, expected at least 4")
    n = len(series)
    if n <= max_points:
        return series
    values = series.to_numpy(dtype=np.float64)
    kept = {0, n - 1}
    edges = np.linspace(1, n - 1, (max_points - 2) // 2 + 1).astype(np.int64)
    for start, end in pairwise(edges):
        stretch = values[start:end]
        if np.isnan(stretch).all():
            kept.add(int(start))
            continue
        kept |= {int(start + np.nanargmin(stretch)), int(start + np.nanargmax(stretch))}
    return series.iloc[sorted(kept)]


def equity_figure(equity: pd.DataFrame, starts: Sequence[pd.Timestamp], *, max_points: int) -> go.Figure:
    """Return since the start and drawdown of each portfolio, with a line where each trading window begins.

    Parameters
    ----------
    equity
        Account value (bar × portfolio), not empty.
    starts
        Begin of each trading window.
    max_points
        Points of a trace.
    """
    figure = _rows(2, (0.68, 0.32))
    for column in reversed(equity.columns):  # the first portfolio is drawn last, on top
        name, colour = _NAMES.get(column, (str(column), style.SPREAD))
        growth = equity[column] / equity[column].iloc[0] - 1
        below = -metrics.drawdown(equity[column])
        for row, series in enumerate((growth, below), start=1):
            thinned = decimate(series, max_points)
            trace = _line(thinned, name, colour, hover="%{y:.2%}", legend=row == 1, group=name)
            figure.add_trace(trace, row=row, col=1)
    for start in starts:
        figure.add_vline(_naive(start), line={"color": style.MUTED, "width": 1, "dash": "dot"}, opacity=0.45)
    figure.update_yaxes(tickformat=".0%", title_text="Net return", row=1, col=1)
    figure.update_yaxes(tickformat=".1%", title_text="Drawdown", row=2, col=1)
    return figure.update_layout(height=460, legend_traceorder="reversed")


def folds_figure(folds: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Pairs traded and net return of each trading window, champions beside the whole roster."""
    figure = _rows(2, (0.5, 0.5))
    names = [f"{pd.Timestamp(line['trading_start']):%d %b<br>%Y}" for line in folds]
    rows = (("n_champions", "n_pairs", "%{y}"), ("champions_return", "roster_return", "%{y:.2%}"))
    for row, (champions, roster, hover) in enumerate(rows, start=1):
        for key, (name, colour) in zip((champions, roster), _NAMES.values(), strict=True):
            bar = go.Bar(
                x=names,
                y=[line[key] for line in folds],
                name=name,
                marker_color=colour,
                hovertemplate=hover,
                legendgroup=name,
                showlegend=row == 1,
            )
            figure.add_trace(bar, row=row, col=1)
    figure.update_yaxes(title_text="Pairs", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="Net return", tickformat=".1%", row=2, col=1)
    figure.update_xaxes(type="category")
    return figure.update_layout(height=400)


def last_windows(
    curve: pd.DataFrame, trades: pd.DataFrame, folds: Sequence[Mapping[str, Any]], n: int = N_PAIR_WINDOWS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars and trades of the newest windows that a pair traded in, so that single trades can be made out."""
    traded = [line for line in folds if (trades["fold"] == line["fold"]).any()][-n:]
    inside = pd.Series(False, index=curve.index)
    for line in traded:
        inside |= (curve.index >= pd.Timestamp(line["trading_start"])) & (
            curve.index < pd.Timestamp(line["trading_end"])
        )
    return curve.loc[inside], trades.loc[trades["fold"].isin([line["fold"] for line in traded])]


def pair_figure(curve: pd.DataFrame, trades: pd.DataFrame, windows: pd.DataFrame, *, max_points: int) -> go.Figure:
    """Spread and z of one pair with its rule's levels and what was decided.

    Parameters
    ----------
    curve
        Columns ``spread`` and ``z``, indexed by bar open.
    trades
        ``entry_decision``, ``entry_z``, ``exit_decision``, ``exit_z``, ``side``, ``reason`` and ``net_pnl``.
    windows
        Levels ``entry_z``, ``exit_z`` and ``stop_z`` of each window shown; where they differ all are drawn.
    max_points
        Points of a trace.
    """
    figure = _rows(2, (0.4, 0.6))
    figure.add_trace(
        _line(decimate(curve["spread"], max_points), "Spread", style.SPREAD, hover="%{y:.4f}", legend=False),
        row=1,
        col=1,
    )
    z = _line(decimate(curve["z"], max_points), "z", style.SPREAD, hover="%{y:.2f}", legend=False)
    figure.add_trace(z.update(line_width=1), row=2, col=1)
    kinds = (("entry", "dash"), ("exit", "dot"), ("stop", "solid"))
    levels = [(level, name, dash) for name, dash in kinds for level in windows[f"{name}_z"].unique()]
    for level, name, dash in levels:
        for sign in (1, -1) if level else (1,):
            figure.add_hline(
                sign * level,
                line={"color": style.SHORT if name == "stop" else style.MUTED, "width": 1, "dash": dash},
                opacity=0.6,
                annotation={"text": f" {name} {sign * level:g}", "font": {"size": 10, "color": style.MUTED}},
                annotation_position="right",
                row=2,
                col=1,
            )
    for trace in _marks(trades):
        figure.add_trace(trace, row=2, col=1)
    edge = windows["stop_z"].max() * 1.15
    figure.update_yaxes(title_text="Spread (log)", row=1, col=1)
    figure.update_yaxes(title_text="z", range=[-edge, edge], row=2, col=1)
    return figure.update_layout(height=520, hovermode="closest", margin_r=58)


def _marks(trades: pd.DataFrame) -> list[go.Scatter]:
    """Entries by direction, and exits."""
    kinds = (
        ("Long the spread", trades["side"] > 0, "entry", "triangle-up", style.LONG),
        ("Short the spread", trades["side"] < 0, "entry", "triangle-down", style.SHORT),
        ("Exit", trades["side"] != 0, "exit", "circle-open", style.INK),
    )
    out = []
    for name, which, end, symbol, colour in kinds:
        rows = trades.loc[which]
        if len(rows):
            said = [
                f"{name}, z {z:.2f}" + (f"<br>{escape(why)}<br>net {net:.2%}" if end == "exit" else "")
                for z, why, net in zip(rows[f"{end}_z"], rows["reason"], rows["net_pnl"], strict=True)
            ]
            out.append(
                go.Scatter(
                    x=_times(pd.DatetimeIndex(rows[f"{end}_decision"])),
                    y=rows[f"{end}_z"].to_numpy(),
                    mode="markers",
                    name=name,
                    text=said,
                    hovertemplate="%{text}<extra></extra>",
                    marker={"symbol": symbol, "size": 8, "color": colour, "line": {"width": 1.5, "color": colour}},
                )
            )
    return out


def _rows(n: int, heights: Sequence[float]) -> go.Figure:
    figure = make_subplots(rows=n, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=list(heights))
    return figure.update_layout(template=style.template())


def _line(
    series: pd.Series, name: str, colour: str, *, hover: str, legend: bool = True, group: str | None = None
) -> go.Scatter:
    return go.Scatter(
        x=_times(pd.DatetimeIndex(series.index)),
        y=series.to_numpy(),
        mode="lines",
        name=name,
        legendgroup=group,
        showlegend=legend,
        line={"color": colour, "width": 1.6},
        hovertemplate=hover,
        connectgaps=False,
    )


def _times(index: pd.DatetimeIndex) -> list[str]:
    return [f"{stamp:%Y-%m-%dT%H:%M}" for stamp in index]


def _naive(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"
