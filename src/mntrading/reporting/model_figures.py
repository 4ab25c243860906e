"""Figures of models: frames of ``model_scores`` in, ``plotly`` figures out."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mntrading.core.schedule import LIVE
from mntrading.reporting import style

_COLOURS: Final = (style.CHAMPIONS, style.ROSTER, style.LONG, style.SHORT, style.SPREAD)


def model_figures(scores: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Figures of a ``model_scores`` artefact by name; those without anything to show are left out.

    ``calibration`` is of all trading windows, beside that of the live models inside their formation window;
    ``importance`` is that of the live model, where there is one for all pairs.
    """
    live = [fit for id_, fit in scores["cross_validated"].items() if id_.split("/", 1)[0] == LIVE and fit["chosen"]]
    curves = {"trading windows": pd.DataFrame(scores["details"]["total"]["bins"])}
    if len(live) == 1:
        curves["live model, out of fold"] = pd.DataFrame(live[0]["details"]["calibration"]["bins"])
    figures = {}
    if any(len(bins) for bins in curves.values()):
        figures["calibration"] = calibration_figure(curves)
    if len(live) == 1:
        importance = pd.DataFrame(live[0]["details"]["importance"])
        figures["importance"] = importance_figure(importance.astype({"permutation": float, "permutation_std": float}))
    return figures


def calibration_figure(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Share of ones against the probability told, one line a curve; a point is as large as its bin's rows.

    Parameters
    ----------
    curves
        By name, bins with ``probability``, ``share`` and ``n_rows``; empty ones are left out.
    """
    figure = _square("Probability told", "Share that reverted")
    for colour, (name, bins) in zip(_cycle(len(curves)), curves.items(), strict=True):
        if not len(bins):
            continue
        rows = bins["n_rows"].to_numpy(dtype=np.float64)
        figure.add_trace(
            go.Scatter(
                x=bins["probability"], y=bins["share"], name=escape(name), mode="lines+markers",
                line={"color": colour, "width": 1.5}, marker={"size": 5 + 13 * np.sqrt(rows / rows.max())},
                customdata=rows, hovertemplate="told %{x:.2f}, came %{y:.2f}, %{customdata:,.0f} rows",
            )
        )  # fmt: skip
    return figure


def roc_figure(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """True against false positive rate, one line a curve.

    Parameters
    ----------
    curves
        By name, points with ``false_positive`` and ``true_positive``; empty ones are left out.
    """
    figure = _square("False positive rate", "True positive rate")
    for colour, (name, points) in zip(_cycle(len(curves)), curves.items(), strict=True):
        if len(points):
            figure.add_trace(
                go.Scatter(
                    x=points["false_positive"], y=points["true_positive"], name=escape(name), mode="lines",
                    line={"color": colour, "width": 1.5},
                )
            )  # fmt: skip
    return figure


def precision_recall_figure(curves: Mapping[str, pd.DataFrame], base_rate: float | None) -> go.Figure:
    """Precision against recall, one line a curve, over the base rate.

    Parameters
    ----------
    curves
        By name, points with ``recall`` and ``precision``; empty ones are left out.
    base_rate
        Precision of no skill, drawn as a line; None for none.
    """
    figure = go.Figure(layout={"template": style.template(), "height": 360})
    figure.update_xaxes(title="Recall", range=[0, 1.01]).update_yaxes(title="Precision", range=[0, 1.01])
    if base_rate is not None:
        figure.add_hline(y=base_rate, line={"color": style.MUTED, "width": 1, "dash": "dot"})
    for colour, (name, points) in zip(_cycle(len(curves)), curves.items(), strict=True):
        if len(points):
            figure.add_trace(
                go.Scatter(
                    x=points["recall"], y=points["precision"], name=escape(name), mode="lines",
                    line={"color": colour, "width": 1.5},
                )
            )  # fmt: skip
    return figure


def importance_figure(importance: pd.DataFrame, *, n_features: int = 15) -> go.Figure:
    """The features whose permutation costs most out of fold, with the spread over splits; gain beside it.

    Parameters
    ----------
    importance
        ``feature``, ``gain``, and ``permutation`` with ``permutation_std`` (NaN where it was not measured, then
        sorted by gain).
    n_features
        Features shown at most.
    """
    measured = importance["permutation"].notna().any()
    column = "permutation" if measured else "gain"
    top = importance.sort_values(column, ascending=False).head(n_features)[::-1]
    figure = go.Figure(layout={"template": style.template(), "height": 80 + 22 * max(len(top), 4)})
    figure.add_trace(
        go.Bar(
            x=top[column], y=[escape(str(name)) for name in top["feature"]], orientation="h",
            name="Rise of log loss" if measured else "Gain", marker={"color": style.CHAMPIONS},
            error_x={"array": top["permutation_std"], "color": style.MUTED, "thickness": 1} if measured else None,
            customdata=top["gain"], hovertemplate="%{x:.4f}, gain %{customdata:.1%}",
        )
    )  # fmt: skip
    figure.update_layout(hovermode="closest", showlegend=False)
    figure.update_xaxes(title="Rise of the log loss when shuffled" if measured else "Share of gain")
    return figure


def _square(across: str, up: str) -> go.Figure:
    figure = go.Figure(layout={"template": style.template(), "height": 360})
    figure.update_xaxes(title=across, range=[0, 1.01]).update_yaxes(title=up, range=[0, 1.01])
    figure.add_trace(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", showlegend=False, hoverinfo="skip",
            line={"color": style.MUTED, "width": 1, "dash": "dot"},
        )
    )  # fmt: skip
    return figure


def _cycle(n: int) -> list[str]:
    return [_COLOURS[k % len(_COLOURS)] for k in range(n)]
