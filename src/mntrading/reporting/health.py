"""The health of the pairs in production: figures against limits, warnings in words, and a heat map of drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from mntrading.reporting import style
from mntrading.reporting.context import Section, Table, table
from mntrading.reporting.formats import MISSING, decimal, p_value, plural

DRIFT: Final = "drift"
CAPTIONS: Final = {
    DRIFT: "Population stability index of each feature, and of the model's answers, against the rows the model was "
    "fitted on; × marks drift. A high index of few independent rows is chance, and not marked.",
}
_SHORT: Final = {
    "age of the data, bars": "Bars old",
    "doubts about the model": "Model doubts",
    "drifted features": "Drifted features",
    "drifted answers of the model": "Drifted answers",
    "share of ones less mean probability": "Calibration gap",
    "Brier score worse than the base rate's, errors": "Brier, errors worse",
    "Engle–Granger p": "p",
    "half-life over that at formation": "Half-life ratio",
    "drift of the hedge ratio": "Hedge drift",
    "break monitor p": "Break p",
}
"""Column titles of checks by name, in the order they stand in."""

_LARGEST: Final = 1.0  # of the colour scale
_ROW_HEIGHT: Final = 15


def health_section(monitoring: Mapping[str, Any]) -> Section:
    """What monitoring says of every pair in production."""
    pairs = monitoring["pairs"]
    title = "Health of the pairs in production"
    if not pairs:
        return Section("health", title, ("No pair is in production, so there is nothing to watch.",))
    points = tuple(f"{pair['pair_id']}: {words}" for pair in pairs for words in pair["warnings"])
    reason = f" {monitoring['reason'][:1].upper()}{monitoring['reason'][1:]}." if monitoring["reason"] else ""
    text = {
        "ok": f"{plural(len(pairs), 'pair')} within every limit.",
        "warning": f"Warnings.{reason} They change no order.",
        "reducing": f"The kill switch is set to reducing, exits only.{reason}",
    }[monitoring["level"]]
    waiting = (check for pair in pairs for check in pair["checks"] if not check["breached"])
    early = sorted({check["words"] for check in waiting if check["words"]})
    notes = tuple(f"{words[:1].upper()}{words[1:]}." for words in early)
    figures = (DRIFT,) if _compared(monitoring) else ()
    return Section("health", title, (text, *notes), points, figures, (*_limits(pairs), *_relations(pairs)))


def _limits(pairs: list[Mapping[str, Any]]) -> tuple[Table, ...]:
    """A row per pair and a column per check; every pair has the same limits."""
    limits = {check["name"]: check["limit"] for pair in pairs for check in pair["checks"]}
    order = [name for name in _SHORT if name in limits] + [name for name in limits if name not in _SHORT]
    rows = []
    for pair in pairs:
        checks = {check["name"]: check for check in pair["checks"]}
        rows.append((pair["pair_id"], *(_cell(checks.get(name)) for name in order)))
    heads = [f"#{_SHORT.get(name, name)} ({limits[name]:g})" for name in order]
    note = "In brackets the limit; ! is beyond it."
    return table("Figures against their limits", ("Pair", *heads), rows, note=note)


def _cell(check: Mapping[str, Any] | None) -> str:
    if check is None:
        return MISSING
    value = MISSING if check["value"] is None else f"{check['value']:.3g}"
    return f"{value} !" if check["breached"] else value


def _relations(pairs: list[Mapping[str, Any]]) -> tuple[Table, ...]:
    rows = [
        (
            pair["pair_id"],
            *(p_value(pair["relation"][when]["p_value"]) for when in ("formation", "now")),
            *(decimal(pair["relation"][when]["half_life_hours"], 1) for when in ("formation", "now")),
            *(decimal(pair["relation"][when]["hedge_ratio"]) for when in ("formation", "now")),
        )
        for pair in pairs
    ]
    columns = ("Pair", "#p, formation", "#p, now", "#Half-life, formation", "#now", "#Hedge ratio, formation", "#now")
    note = "Hourly bars of the formation window, and of as long a window up to now; half-lives in hours."
    return table("The relation then and now", columns, rows, note=note)


def _compared(monitoring: Mapping[str, Any]) -> bool:
    return any(row["psi"] is not None for pair in monitoring["pairs"] for row in pair["drift"])


def health_figures(monitoring: Mapping[str, Any]) -> dict[str, go.Figure]:
    """The heat map of drift, where there is anything to show."""
    return {DRIFT: drift_figure(monitoring)} if _compared(monitoring) else {}


def drift_figure(monitoring: Mapping[str, Any]) -> go.Figure:
    """Population stability index by feature and pair; drifted ones are marked."""
    pairs = [pair for pair in monitoring["pairs"] if pair["drift"]]
    columns = list(dict.fromkeys(row["column"] for pair in pairs for row in pair["drift"]))
    found = [{row["column"]: row for row in pair["drift"]} for pair in pairs]
    values = np.array([[_psi(rows.get(column)) for rows in found] for column in columns])
    marks = [["×" if rows.get(column, {}).get("drifted") else "" for rows in found] for column in columns]
    worth = [[rows.get(column, {}).get("n_independent", 0.0) for rows in found] for column in columns]
    figure = go.Figure(
        go.Heatmap(
            x=[pair["pair_id"] for pair in pairs], y=columns, z=np.minimum(values, _LARGEST).round(3), text=marks,
            texttemplate="%{text}", customdata=np.dstack([values, np.array(worth, dtype=np.float64)]).round(3),
            hovertemplate="%{y}, %{x}<br>PSI %{customdata[0]}, %{customdata[1]} independent rows<extra></extra>",
            colorscale=[[0.0, style.NOTHING], *([(k + 1) / 3, shade] for k, shade in enumerate(style.SCALE))],
            zmin=0, zmax=_LARGEST, xgap=1, ygap=1, hoverongaps=False, colorbar={"title": "PSI", "thickness": 10},
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    height = 120 + _ROW_HEIGHT * len(columns)
    return figure.update_layout(template=style.template(), height=height, hovermode="closest")


def _psi(row: Mapping[str, Any] | None) -> float:
    return float("nan") if row is None or row["psi"] is None else float(row["psi"])
