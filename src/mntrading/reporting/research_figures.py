"""Figures of research beside those of the reports: funnels, the roster over time, skill, robustness, features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mntrading.reporting import style
from mntrading.reporting.desk_figures import short_pair, times_of
from mntrading.reporting.figures import decimate
from mntrading.reporting.formats import decimal, percent

_LABEL: Final = 24  # letters of a line of a label


def funnel_figure(symbols: Mapping[str, int], pairs: Mapping[str, int]) -> go.Figure:
    """How many symbols and pairs each rule stopped, and how many passed; lengths by square root, so that few are seen.

    Parameters
    ----------
    symbols, pairs
        Counts by what became of them; those that passed are ``passed`` and ``selected``, ``tested`` is their sum.
    """
    stages = (
        ("Symbols", "passed", {name: n for name, n in symbols.items() if n or name == "passed"}),
        ("Pairs", "selected", {name: n for name, n in pairs.items() if name != "tested" and (n or name == "selected")}),
    )
    sizes = [max(len(found), 1) for _, _, found in stages]
    figure = make_subplots(
        rows=2, cols=1, row_heights=[size / sum(sizes) for size in sizes], vertical_spacing=0.16,
        subplot_titles=[f"{name}: {sum(found.values()):,}" for name, _, found in stages],
    ).update_layout(template=style.template())  # fmt: skip
    for row, (_, passed, found) in enumerate(stages, start=1):
        ordered = sorted(found.items(), key=lambda item: (item[0] == passed, -item[1]))
        names = [("on the roster" if name == "selected" else name) for name, _ in ordered]
        counts = [n for _, n in ordered]
        figure.add_trace(
            go.Bar(
                y=[escape(name) for name in names], x=np.sqrt(counts), orientation="h",
                text=[f" {n:,}" for n in counts], textposition="outside", cliponaxis=False,
                hovertemplate="%{y}: %{text}<extra></extra>",
                marker={"color": [style.CHAMPIONS if name == passed else style.STOPPED for name, _ in ordered]},
                showlegend=False,
            ),
            row=row, col=1,
        )  # fmt: skip
        figure.update_xaxes(visible=False, range=[0, 1.15 * float(np.sqrt(max([*counts, 1])))], row=row, col=1)
        figure.update_yaxes(autorange="reversed", showgrid=False, row=row, col=1)
    figure.update_annotations(font={"size": 13, "color": style.INK}, xanchor="left", x=0)
    return figure.update_layout(height=110 + 26 * sum(sizes), hovermode="closest", bargap=0.3)


def roster_figure(folds: Sequence[str], pairs: Mapping[str, Sequence[str | None]]) -> go.Figure:
    """Which pairs were on the roster of which window, and which of them were champions.

    Parameters
    ----------
    folds
        Windows by the day they begin, in order.
    pairs
        By pair ``roster``, ``champion`` or None for each window.
    """
    names = {pair_id: short_pair(pair_id) for pair_id in pairs}
    figure = go.Figure(layout={"template": style.template()})
    for what, label, colour in (("roster", "on the roster", style.SCALE[0]), ("champion", "champion", style.CHAMPIONS)):
        cells = [
            (fold, names[pair_id])
            for pair_id, states in pairs.items()
            for fold, state in zip(folds, states, strict=True)
            if state == what
        ]
        if cells:
            figure.add_trace(
                go.Scatter(
                    x=[fold for fold, _ in cells], y=[name for _, name in cells], mode="markers", name=label,
                    marker={"symbol": "square", "size": 17, "color": colour},
                    hovertemplate="%{y}, from %{x}<extra></extra>",
                )
            )  # fmt: skip
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=list(folds), title="Window begins",
                        range=[-0.6, len(folds) - 0.4], showgrid=False)  # fmt: skip
    figure.update_yaxes(
        categoryorder="array", categoryarray=[names[one] for one in reversed(list(pairs))], showgrid=True
    )
    return figure.update_layout(height=120 + 28 * max(len(pairs), 2), hovermode="closest", margin_t=40)


def scenarios_figure(names: Sequence[str], scenarios: Sequence[Mapping[str, Any]], *, level: float) -> go.Figure:
    """Net return, and the Sharpe ratio with its interval, of the same roster under other assumptions.

    Parameters
    ----------
    names
        What each is called, in the order of ``scenarios``.
    scenarios
        ``total_return``, ``sharpe``, ``sharpe_low`` and ``sharpe_high``; None where unknown.
    level
        Of the interval.
    """
    labels = ["<br>".join(escape(part) for part in wrap(name, _LABEL)) for name in names]
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06,
        subplot_titles=["Net return", f"Sharpe, {percent(level, 0)} interval"],
    ).update_layout(template=style.template())  # fmt: skip
    returns = [np.nan if line["total_return"] is None else line["total_return"] for line in scenarios]
    figure.add_trace(
        go.Bar(
            y=labels, x=returns, orientation="h", showlegend=False, width=0.45,
            marker={"color": [style.LONG if value > 0 else style.SHORT for value in returns]},
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        ),
        row=1, col=1,
    )  # fmt: skip
    known = [(label, line) for label, line in zip(labels, scenarios, strict=True) if line["sharpe"] is not None]
    low = [line["sharpe"] - (line["sharpe"] if line["sharpe_low"] is None else line["sharpe_low"]) for _, line in known]
    high = [
        (line["sharpe"] if line["sharpe_high"] is None else line["sharpe_high"]) - line["sharpe"] for _, line in known
    ]
    figure.add_trace(
        go.Scatter(
            y=[label for label, _ in known], x=[line["sharpe"] for _, line in known], mode="markers", showlegend=False,
            marker={"size": 9, "color": style.CHAMPIONS}, hovertemplate="%{y}: %{x:.2f}<extra></extra>",
            error_x={"type": "data", "array": high, "arrayminus": low, "color": style.MUTED, "thickness": 1.5},
        ),
        row=1, col=2,
    )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", row=1, col=1)
    figure.update_xaxes(zeroline=True, zerolinecolor=style.MUTED, nticks=6)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_annotations(font={"size": 12, "color": style.MUTED})
    return figure.update_layout(height=110 + 42 * len(labels), hovermode="closest")


def neighbourhood_figure(cells: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Net return by how far entry and exit are from each pair's own levels; the Sharpe ratio in each cell.

    Parameters
    ----------
    cells
        ``entry_step``, ``exit_step``, ``total_return`` and ``sharpe``; None where levels would be out of order.
    """
    entries, exits = (sorted({float(cell[key]) for cell in cells}) for key in ("entry_step", "exit_step"))
    values, said = np.full((len(entries), len(exits)), np.nan), [["" for _ in exits] for _ in entries]
    for cell in cells:
        row, column = entries.index(cell["entry_step"]), exits.index(cell["exit_step"])
        if cell["total_return"] is not None:
            values[row, column] = cell["total_return"]
            said[row][column] = f"{percent(cell['total_return'])}<br>Sharpe {decimal(cell['sharpe'], 1)}"
    bound = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values, x=[_step(one) for one in exits], y=[_step(one) for one in entries], zmin=-bound, zmax=bound,
            colorscale=style.diverging(), text=said, texttemplate="%{text}", textfont={"size": 11, "color": style.INK},
            hovertemplate="entry %{y}, exit %{x}<br>%{text}<extra></extra>", xgap=2, ygap=2, showscale=False,
        ),
        layout={"template": style.template(), "height": 120 + 46 * len(entries), "hovermode": "closest"},
    )  # fmt: skip
    figure.update_xaxes(title="Exit at |z|, from each pair's own", type="category", showgrid=False)
    figure.update_yaxes(title="Entry at |z|", type="category", showgrid=False)
    return figure


def _step(change: float) -> str:
    return "own" if change == 0 else f"{change:+g}".replace("-", "−")


def skill_figure(folds: Sequence[str], scores: Sequence[Mapping[str, Any]]) -> go.Figure:
    """ROC AUC of each trading window against chance, and how much more often a picked row came true than any row.

    Parameters
    ----------
    folds
        Windows by the day they begin.
    scores
        ``roc_auc``, ``lift`` and ``n_rows`` of each, in the same order.
    """
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=["ROC AUC (0.5 is chance)", "Lift (1 is none)"],
    ).update_layout(template=style.template())
    for row, (key, chance) in enumerate((("roc_auc", 0.5), ("lift", 1.0)), start=1):
        values = [np.nan if line[key] is None else line[key] for line in scores]
        figure.add_trace(
            go.Bar(
                x=list(folds), y=[value - chance for value in values], base=chance, showlegend=False,
                customdata=[[value, line["n_rows"]] for value, line in zip(values, scores, strict=True)],
                hovertemplate="%{customdata[0]:.3f} on %{customdata[1]:,.0f} rows<extra></extra>",
                marker={"color": [style.CHAMPIONS if value > chance else style.SHORT for value in values]},
            ),
            row=row, col=1,
        )  # fmt: skip
        figure.add_hline(chance, line={"color": style.MUTED, "width": 1, "dash": "dot"}, row=row, col=1)
    figure.update_xaxes(type="category")
    figure.update_annotations(font={"size": 12, "color": style.MUTED}, xanchor="left", x=0)
    return figure.update_layout(height=360, hovermode="closest")


def features_figure(features: pd.DataFrame, columns: Sequence[str], *, max_points: int) -> go.Figure:
    """Features of a pair one below the other, each on its own scale.

    Parameters
    ----------
    features
        By bar open.
    columns
        Those shown, at least one.
    max_points
        Points of a trace.
    """
    figure = make_subplots(
        rows=len(columns), cols=1, shared_xaxes=True, vertical_spacing=0.3 / max(len(columns), 3),
        subplot_titles=[escape(column.replace("_", " ")) for column in columns],
    ).update_layout(template=style.template())  # fmt: skip
    for row, column in enumerate(columns, start=1):
        thin = decimate(features[column], max_points)
        figure.add_trace(
            go.Scatter(
                x=times_of(thin.index), y=thin.to_numpy(), mode="lines", showlegend=False,
                line={"color": style.SPREAD, "width": 1.1}, hovertemplate="%{y:.4g}<extra></extra>",
            ),
            row=row, col=1,
        )  # fmt: skip
    figure.update_annotations(font={"size": 12, "color": style.MUTED}, xanchor="left", x=0)
    return figure.update_layout(height=80 + 150 * len(columns))
