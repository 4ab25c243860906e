"""Figures a trading desk looks at: where every pair stands now, what the book holds, and what was expected of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mntrading.reporting import style
from mntrading.reporting.figures import decimate
from mntrading.reporting.formats import decimal

_ROW: Final = 30
_95: Final = 1.959964


@dataclass(frozen=True)
class PairNow:
    """Where a pair stands on the newest bar.

    Parameters
    ----------
    pair_id
        The pair.
    z
        In deviations; None where it is not known.
    entry_z, exit_z, stop_z
        Levels it is traded by, all 0 or more.
    side
        1 long the spread, -1 short, 0 flat.
    in_production
        Whether it may be traded.
    doubts
        What keeps it from being entered.
    """

    pair_id: str
    z: float | None
    entry_z: float
    exit_z: float
    stop_z: float
    side: int = 0
    in_production: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def reach(self) -> float:
        """|z| as a share of the entry level; -1 where z is not known."""
        return -1.0 if self.z is None or not self.entry_z else abs(self.z) / self.entry_z


def pair_name(pair_id: str) -> str:
    """``APT-USDT__FIL-USDT`` as ``APT / FIL`` where both are quoted in the same currency."""
    legs = [leg.rsplit("-", 1) for leg in pair_id.split("__")]
    if len(legs) == 2 and all(len(leg) == 2 for leg in legs) and legs[0][1] == legs[1][1]:
        return f"{legs[0][0]} / {legs[1][0]}"
    return pair_id.replace("__", " / ")


def short_pair(pair_id: str) -> str:
    """A pair's name in a figure, where a few HTML tags would be read."""
    return escape(pair_name(pair_id))


def pairs_now_figure(pairs: Sequence[PairNow]) -> go.Figure:
    """z of every pair beside its own levels: grey up to entry, a red tick at the stop; the furthest on top.

    Parameters
    ----------
    pairs
        At least one.
    """
    ordered = sorted(pairs, key=lambda pair: (pair.reach, pair.pair_id))
    names = [short_pair(pair.pair_id) for pair in ordered]
    figure = go.Figure(layout={"template": style.template()})
    figure.add_trace(
        go.Bar(
            y=names, x=[2 * pair.entry_z for pair in ordered], base=[-pair.entry_z for pair in ordered],
            orientation="h", width=0.5, marker={"color": style.NOT_SIGNIFICANT}, name="no entry", hoverinfo="skip",
        )
    )  # fmt: skip
    stops = [(name, sign * pair.stop_z) for name, pair in zip(names, ordered, strict=True) for sign in (-1, 1)]
    figure.add_trace(
        go.Scatter(
            y=[name for name, _ in stops], x=[at for _, at in stops], mode="markers", name="stop", hoverinfo="skip",
            marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": style.SHORT}},
        )
    )  # fmt: skip
    kinds = (
        ("long the spread", "triangle-up", style.LONG, lambda pair: pair.side > 0),
        ("short the spread", "triangle-down", style.SHORT, lambda pair: pair.side < 0),
        ("flat, in production", "circle", style.CHAMPIONS, lambda pair: not pair.side and pair.in_production),
        ("on the roster only", "circle-open", style.MUTED, lambda pair: not pair.side and not pair.in_production),
    )
    for name, symbol, colour, belongs in kinds:
        shown = [
            (label, pair) for label, pair in zip(names, ordered, strict=True) if pair.z is not None and belongs(pair)
        ]
        if shown:
            figure.add_trace(
                go.Scatter(
                    y=[label for label, _ in shown], x=[pair.z for _, pair in shown], mode="markers", name=name,
                    marker={"symbol": symbol, "size": 12, "color": colour, "line": {"width": 2, "color": colour}},
                    text=[_said(pair) for _, pair in shown], hovertemplate="%{text}<extra></extra>",
                )
            )  # fmt: skip
    reach = max(max(pair.stop_z, abs(pair.z or 0.0)) for pair in ordered) * 1.1
    figure.update_xaxes(title="z of the spread now, standard deviations", range=[-reach, reach], zeroline=True,
                        zerolinecolor=style.MUTED)  # fmt: skip
    figure.update_yaxes(categoryorder="array", categoryarray=names, showgrid=False)
    return figure.update_layout(
        height=120 + _ROW * len(names), hovermode="closest", margin_t=56, legend={"y": 1.0, "yanchor": "bottom"}
    )


def _said(pair: PairNow) -> str:
    text = f"{short_pair(pair.pair_id)}<br>z {decimal(pair.z)}, entry at {pair.entry_z:g}, stop at {pair.stop_z:g}"
    return text + "".join(f"<br>{escape(doubt)}" for doubt in pair.doubts)


def weights_figure(held: Mapping[str, float], wanted: Mapping[str, float]) -> go.Figure:
    """Weight of each symbol now and once the orders are filled, the largest on top.

    Parameters
    ----------
    held, wanted
        Share of equity by symbol, signed; at least one between them.
    """
    symbols = sorted({*held, *wanted}, key=lambda one: (max(abs(held.get(one, 0)), abs(wanted.get(one, 0))), one))
    names = [escape(symbol.split("/")[0]) for symbol in symbols]
    figure = go.Figure(layout={"template": style.template()})
    for name, found, colour in (("after the orders", wanted, style.CHAMPIONS), ("now", held, style.STOPPED)):
        figure.add_trace(
            go.Bar(
                y=names, x=[found.get(symbol, 0.0) for symbol in symbols], name=name, orientation="h",
                marker={"color": colour}, hovertemplate=f"%{{y}} {name}: %{{x:.2%}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(
        title="Share of equity, short below zero", tickformat=".0%", zeroline=True, zerolinecolor=style.MUTED
    )
    figure.update_yaxes(showgrid=False)
    return figure.update_layout(
        height=130 + 34 * len(symbols), hovermode="closest", legend_traceorder="reversed", margin_t=44
    )


def expectation_figure(equity: pd.Series, mean: float, deviation: float, *, max_points: int) -> go.Figure:
    """Net return of the account, and the band in which the backtest's days would have led it 95 times of 100.

    Parameters
    ----------
    equity
        By bar, the first its start.
    mean, deviation
        Of the backtest's daily returns.
    max_points
        Points of a trace.
    """
    index = pd.DatetimeIndex(equity.index)
    days = (index - index[0]) / pd.Timedelta(1, unit="D")
    middle = pd.Series(mean * days, index=index)
    half = pd.Series(_95 * deviation * np.sqrt(days), index=index)
    figure = go.Figure(layout={"template": style.template(), "height": 320})
    edges = ((middle + half, None), (middle - half, "tonexty"))
    for series, fill in edges:
        thin = decimate(series, max_points)
        figure.add_trace(
            go.Scatter(
                x=times_of(thin.index), y=thin.to_numpy(), mode="lines", line={"width": 0}, fill=fill,
                fillcolor="rgba(107,115,124,0.15)", name="backtest, 95%", showlegend=fill is not None, hoverinfo="skip",
            )
        )  # fmt: skip
    for series, name, colour, dash in (
        (middle, "backtest, mean", style.MUTED, "dash"),
        (equity / equity.iloc[0] - 1.0, "paper account", style.CHAMPIONS, "solid"),
    ):
        thin = decimate(series, max_points)
        figure.add_trace(
            go.Scatter(
                x=times_of(thin.index), y=thin.to_numpy(), mode="lines", name=name, hovertemplate="%{y:.2%}",
                line={"color": colour, "width": 1.8, "dash": dash},
            )
        )  # fmt: skip
    figure.update_yaxes(tickformat=".2%", title="Net return")
    return figure


def times_of(index: pd.Index) -> list[str]:
    """Times to the minute, as plotly reads them, without the zone."""
    return [f"{stamp:%Y-%m-%dT%H:%M}" for stamp in index]
