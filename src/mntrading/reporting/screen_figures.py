"""Figures of one formation window's screen: p-values of pairs as a heat map, and the pairs as a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from mntrading.core.types import BoolArray, FloatArray
from mntrading.reporting import style
from mntrading.reporting.formats import decimal, moment, p_value, plural
from mntrading.reporting.graph_layout import labels_above, lay_out

N_SYMBOLS = 40
N_STOPPED = 80
_SELECTED = "selected"
_WIDTH = 700.0  # pixels a figure has on paper; on a screen it is stretched
_TOP = 34  # margin above a plot, in pixels
_NARROWEST = 680  # a narrower screen scrolls sideways
_LETTER, _LINE = 6.6, 17.0  # pixels of a label's letter and of its line
_STOPPED_LENGTH = 1.3  # of a line, beside 1 of a selected pair's
_STRONGEST = 8.0  # -log10 p beyond which shades do not differ
_WEAKEST_TOP = 3.0  # the scale reaches at least this far


@dataclass(frozen=True)
class Network:
    """What of a screen's pairs is drawn.

    Parameters
    ----------
    selected, stopped
        Rows of pairs: on the roster, and significant but stopped at a later gate.
    symbols
        Their symbols, sorted.
    n_hidden
        Pairs that were stopped and are not drawn.
    """

    selected: tuple[Mapping[str, Any], ...]
    stopped: tuple[Mapping[str, Any], ...]
    symbols: tuple[str, ...]
    n_hidden: int

    @classmethod
    def of(
        cls, pairs: Iterable[Mapping[str, Any]], *, n_symbols: int = N_SYMBOLS, n_stopped: int = N_STOPPED
    ) -> Network:
        """Every selected pair, and stopped ones by their evidence as long as both limits hold."""
        every = list(pairs)
        selected = tuple(row for row in every if row["verdict"] == _SELECTED)
        stopped = [row for row in every if row["verdict"] != _SELECTED and row["significant"]]
        symbols = {symbol for row in selected for symbol in _legs(row)}
        shown: list[Mapping[str, Any]] = []
        for row in sorted(stopped, key=lambda row: (row["p_adjusted"], row["pair_id"])):
            if len(shown) < n_stopped and len(symbols | {*_legs(row)}) <= n_symbols:
                symbols |= {*_legs(row)}
                shown.append(row)
        return cls(selected, tuple(shown), tuple(sorted(symbols)), len(stopped) - len(shown))


def network_caption(network: Network) -> str:
    """What a reader of the network must know."""
    hidden = f" {plural(network.n_hidden, 'more stopped pair')} not shown." if network.n_hidden else ""
    return (
        "Pairs of the live formation window: thick lines are on the roster, thin ones are significant and were "
        f"stopped at a later gate.{hidden} The larger a symbol, the more is traded of the thinner leg of its most "
        "liquid pair."
    )


def heat_map_caption(tests: pd.DataFrame) -> str:
    """What a reader of the heat map must know."""
    n = len({*tests["dependent"], *tests["independent"]})
    which = f" The {N_SYMBOLS} of {n} symbols with the strongest pairs." if n > N_SYMBOLS else ""
    return (
        "Evidence for cointegration of each pair in the live formation window: the darker, the smaller the adjusted "
        f"p-value; grey is not significant.{which} Symbols that pair with each other stand together."
    )


def screen_figures(screen: Mapping[str, Any], tests: pd.DataFrame, *, level: float) -> tuple[go.Figure, go.Figure]:
    """Heat map and network, each saying which screen it is of; in words where there is nothing to draw.

    Parameters
    ----------
    screen
        Document of a fold's screen.
    tests
        Every test of it.
    level
        Adjusted p-value that a pair needs.
    """
    window = f"formation window to {moment(screen['formation_end'])} UTC"
    network = Network.of(screen["pairs"])
    heat_map = f"Adjusted p-values, {window}: {plural(len(tests), 'pair')} tested"
    pairs = f"Pairs, {window}: {len(network.selected)} on the roster, {len(network.stopped)} stopped at a gate"
    if network.n_hidden:
        pairs += f", {network.n_hidden} more not shown"
    return (
        _headed(heat_map_figure(tests, screen["pairs"], level=level), heat_map)
        if len(tests)
        else _empty(f"No pair was tested, {window}"),
        _headed(network_figure(network), pairs) if network.symbols else _empty(f"No pair is significant, {window}"),
    )


def _headed(figure: go.Figure, text: str) -> go.Figure:
    """A line above the plot on the right: kedro-viz has its own place for a title, across the legend."""
    place = {"x": 1, "xref": "paper", "xanchor": "right", "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 8}
    return figure.add_annotation(text=text, showarrow=False, font={"size": 12}, **place).update_layout(margin_t=_TOP)


def _empty(text: str) -> go.Figure:
    figure = go.Figure(layout={"template": style.template(), "height": 240})
    figure.add_annotation(text=escape(text), showarrow=False, font={"size": 14, "color": style.MUTED})
    hidden = {"visible": False, "fixedrange": True}
    return figure.update_layout(xaxis=hidden, yaxis=hidden)


# --------------------------------------------------------------------------------------- heat map


def heat_map_figure(tests: pd.DataFrame, pairs: Iterable[Mapping[str, Any]], *, level: float) -> go.Figure:
    """Adjusted p-value of each pair of symbols; selected pairs and those stopped at a gate are marked.

    At most ``N_SYMBOLS`` symbols are shown: those of selected pairs, then those with the strongest evidence. They
    are in the order of an average-linkage clustering by evidence, so that groups stand on the diagonal.

    Parameters
    ----------
    tests
        ``dependent``, ``independent`` and ``p_adjusted`` of every test, at least one.
    pairs
        Rows of the screen's pairs, with verdict and reason.
    level
        Adjusted p-value that a pair needs: below it shades are blue.
    """
    rows = [row for row in pairs if row["verdict"] == _SELECTED or row["significant"]]
    evidence = _evidence(tests, _strongest_symbols(tests, rows))
    symbols = evidence.index[_by_cluster(np.nan_to_num(evidence.to_numpy(dtype=np.float64)))]
    strength = evidence.loc[symbols, symbols].to_numpy(dtype=np.float64)
    names = _short_names(symbols)
    place = {symbol: at for at, symbol in enumerate(symbols)}
    height = int(np.clip(16 * len(names), 240, 640))
    top = float(np.clip(np.ceil(np.nanmax(strength, initial=0)), _WEAKEST_TOP, _STRONGEST))
    below = np.tril(np.ones_like(strength, dtype=bool), -1)
    p = np.where(below, 10**-strength, np.nan)
    figure = go.Figure(
        go.Heatmap(
            x=names[:-1],
            y=names[1:],
            z=np.where(below, np.minimum(strength, top), np.nan).round(3)[1:, :-1],
            customdata=_significant_digits(p[1:, :-1]),
            hovertemplate="%{y} and %{x}<br>adjusted p %{customdata:.2g}<extra></extra>",
            colorscale=_colours(level, top),
            zmin=0,
            zmax=top,
            xgap=1,
            ygap=1,
            hoverongaps=False,
            colorbar=_colour_bar(level, top, height),
        )
    )
    cell = min(_WIDTH / len(names), height / len(names))
    for selected in (True, False):
        chosen = [
            (sorted((place[a], place[b])), row)
            for row in rows
            if (row["verdict"] == _SELECTED) == selected
            and {a := row["dependent"], b := row["independent"]} <= {*place}
        ]
        figure.add_trace(_cell_marks(chosen, names, selected=selected, size=float(np.clip(cell * 0.62, 6, 13))))
    axis = {
        "type": "category",
        "showgrid": False,
        "tickmode": "array",
        "categoryorder": "array",
        "tickfont": {"size": 10 if len(names) > 25 else 11, "color": style.INK},
        "fixedrange": True,
    }
    end = len(names) - 1.5
    angle = -90 if len(names) > 10 else 0
    figure.update_xaxes(**axis, categoryarray=names[:-1], tickvals=names[:-1], range=[-0.5, end], tickangle=angle)
    figure.update_yaxes(**axis, categoryarray=names[1:], tickvals=names[1:], range=[end, -0.5])
    return figure.update_layout(
        template=style.template(),
        height=height + 70,
        margin_t=_TOP // 3,
        hovermode="closest",
        legend={"x": 1, "xanchor": "right", "y": 1, "yanchor": "top", "orientation": "v"},
        meta={"min_width": _NARROWEST},
    )


def _strongest_symbols(tests: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Symbols of selected pairs, then those of the smallest p-values, as many as are shown; sorted."""
    legs = pd.concat([tests["dependent"], tests["independent"]], ignore_index=True)
    best = pd.concat([tests["p_adjusted"]] * 2, ignore_index=True).astype("float64").groupby(legs).min().fillna(np.inf)
    chosen = {symbol for row in rows if row["verdict"] == _SELECTED for symbol in _legs(row)}
    ranked = sorted(best.index, key=lambda symbol: (symbol not in chosen, best[symbol], symbol))
    return sorted(ranked[:N_SYMBOLS])


def _evidence(tests: pd.DataFrame, symbols: Sequence[str]) -> pd.DataFrame:
    """-log10 of the adjusted p-value (symbol × symbol), NaN where there is no test."""
    place = {symbol: at for at, symbol in enumerate(symbols)}
    inside = tests.loc[tests["dependent"].isin(place) & tests["independent"].isin(place)]
    a, b = inside["dependent"].map(place).to_numpy(int), inside["independent"].map(place).to_numpy(int)
    found = np.full((len(symbols), len(symbols)), np.nan)
    found[a, b] = found[b, a] = -np.log10(np.clip(inside["p_adjusted"].to_numpy(dtype=np.float64), 1e-300, 1.0))
    return pd.DataFrame(found, index=list(symbols), columns=list(symbols))


def _by_cluster(strength: FloatArray) -> list[int]:
    """Order in which symbols with strong pairs stand together."""
    if len(strength) < 3:
        return list(range(len(strength)))
    distance = 1 - np.minimum(strength, _STRONGEST) / _STRONGEST
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return [int(leaf) for leaf in hierarchy.leaves_list(tree)]


def _significant_digits(p: FloatArray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(f"{value:.3g}") for value in row] for row in p]


def _colours(level: float, top: float) -> list[tuple[float, str]]:
    """Greys up to the level, blues from there on."""
    edge = float(np.clip(-np.log10(max(level, 1e-300)) / top, 0.0, 0.95))
    return [
        (0.0, style.NOTHING),
        (edge, style.NOT_SIGNIFICANT),
        (edge, style.SCALE[0]),
        (edge + (1 - edge) * 0.5, style.SCALE[1]),
        (1.0, style.SCALE[2]),
    ]


def _colour_bar(level: float, top: float, height: int) -> dict[str, Any]:
    ticks = {0.0: "1"} | {float(power): f"1e-{power}" for power in range(2, int(top) + 1, 2 if top > 4 else 1)}
    edge = -np.log10(max(level, 1e-300))
    ticks = {at: text for at, text in ticks.items() if abs(at - edge) > top / 16}
    if edge <= top:
        ticks[float(edge)] = f"{level:g}"
    ticks[top] = f"≤1e-{top:g}"
    return {
        "title": {"text": "adjusted p", "font": {"size": 11, "color": style.MUTED}},
        "tickvals": sorted(ticks),
        "ticktext": [ticks[at] for at in sorted(ticks)],
        "thickness": 12,
        "lenmode": "pixels",
        "len": min(250, height - 90),
        "y": 1 - 62 / height,
        "yanchor": "top",
        "x": 1,
        "xanchor": "right",
        "tickfont": {"size": 10, "color": style.MUTED},
    }


def _cell_marks(
    chosen: Sequence[tuple[Sequence[int], Mapping[str, Any]]], names: Sequence[str], *, selected: bool, size: float
) -> go.Scatter:
    """Marks on cells: an orange disc for the roster, a small ring for what a gate stopped."""
    looks = (
        {"color": style.ROSTER, "size": size, "line": {"width": 1.5, "color": style.PAPER}}
        if selected
        else {"color": style.PAPER, "size": size * 0.55, "line": {"width": 1, "color": style.INK}}
    )
    return go.Scatter(
        x=[names[low] for (low, _), _ in chosen],
        y=[names[high] for (_, high), _ in chosen],
        mode="markers",
        marker=looks,
        name="on the roster" if selected else "significant, stopped at a gate",
        text=[_said(row) for _, row in chosen],
        hovertemplate="%{text}<extra></extra>",
        showlegend=bool(chosen),
    )


# ---------------------------------------------------------------------------------------- network


def network_figure(network: Network) -> go.Figure:
    """Symbols as nodes, pairs as lines: thick those of the roster, thin those that a gate stopped.

    Parameters
    ----------
    network
        With at least one pair.
    """
    names = dict(zip(network.symbols, _short_names(network.symbols), strict=True))
    at = {symbol: k for k, symbol in enumerate(network.symbols)}
    radius = _radii(network)
    radii = np.array(list(radius.values()))
    labels = np.array([[_LETTER * len(names[symbol]) + 4, _LINE] for symbol in at])
    boxes = np.column_stack([np.maximum(2 * radii, labels[:, 0]), 2 * radii + _LINE])
    drawn = (*network.selected, *network.stopped)
    edges = [(at[a], at[b]) for a, b in map(_legs, drawn)]
    lengths = [1.0] * len(network.selected) + [_STOPPED_LENGTH] * len(network.stopped)
    layout = lay_out(len(at), edges, lengths, boxes, width=_WIDTH)
    centres = (layout.places - (0, _LINE / 2)).round(1)  # a box holds the node above its label
    above = labels_above(centres, edges, radii, labels)
    place = {symbol: centres[k] for symbol, k in at.items()}
    figure = go.Figure()
    kinds = (
        (network.stopped, "significant, stopped at a gate", style.STOPPED, 1.0),
        (network.selected, "on the roster", style.CHAMPIONS, 4.0),
    )
    for rows, name, colour, width in kinds:
        if rows:
            figure.add_trace(_lines(rows, place, name, colour, width))
    figure.add_trace(_edge_hover(drawn, place))
    figure.add_trace(_nodes(network, names, place, radius).update(textposition=_positions(above)))
    hidden = {"visible": False, "fixedrange": True}
    return figure.update_layout(
        template=style.template(),
        height=round(layout.height + _LINE) + 8 + _TOP,
        hovermode="closest",
        xaxis={**hidden, "range": [0, _WIDTH]},
        yaxis={**hidden, "range": [layout.height + 4, -_LINE]},
        margin={"l": 4, "r": 4, "t": _TOP, "b": 4},
        legend_traceorder="reversed",
        meta={"min_width": _NARROWEST},
    )


def _positions(above: BoolArray) -> list[str]:
    return ["top center" if up else "bottom center" for up in above]


def _radii(network: Network) -> dict[str, float]:
    """Radius by symbol, in the order of symbols: its area follows the liquidity of the symbol's most liquid pair."""
    liquidity = _liquidity(network)
    most = max(liquidity.values(), default=0.0)
    return {s: 5.5 + 8.5 * float(np.sqrt(liquidity[s] / most)) if most > 0 else 8.0 for s in network.symbols}


def _liquidity(network: Network) -> dict[str, float]:
    """Quote volume per bar of the thinner leg of each symbol's most liquid pair; 0 where it is not known."""
    found = dict.fromkeys(network.symbols, 0.0)
    for row in (*network.selected, *network.stopped):
        for symbol in _legs(row):
            found[symbol] = max(found[symbol], row["liquidity"] or 0.0)
    return found


def _lines(
    rows: Sequence[Mapping[str, Any]], place: Mapping[str, FloatArray], name: str, colour: str, width: float
) -> go.Scatter:
    ends = [(place[a], place[b]) for a, b in map(_legs, rows)]
    return go.Scatter(
        x=[value for a, b in ends for value in (float(a[0]), float(b[0]), None)],
        y=[value for a, b in ends for value in (float(a[1]), float(b[1]), None)],
        mode="lines",
        name=name,
        line={"color": colour, "width": width},
        hoverinfo="skip",
    )


def _edge_hover(rows: Sequence[Mapping[str, Any]], place: Mapping[str, FloatArray]) -> go.Scatter:
    """Invisible points along the lines that say what each is: a line itself answers at its ends only."""
    spots = [
        (place[row["dependent"]] * (1 - share) + place[row["independent"]] * share, _said(row))
        for row in rows
        for share in (0.35, 0.5, 0.65)
    ]
    return go.Scatter(
        x=[round(float(spot[0]), 1) for spot, _ in spots],
        y=[round(float(spot[1]), 1) for spot, _ in spots],
        text=[text for _, text in spots],
        mode="markers",
        marker={"size": 12, "opacity": 0},
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _nodes(
    network: Network, names: Mapping[str, str], place: Mapping[str, FloatArray], radius: Mapping[str, float]
) -> go.Scatter:
    selected = Counter(symbol for row in network.selected for symbol in _legs(row))
    stopped = Counter(symbol for row in network.stopped for symbol in _legs(row))
    liquidity = _liquidity(network)
    said = [
        f"<b>{names[s]}</b><br>{plural(selected[s], 'pair')} on the roster, {stopped[s]} stopped"
        + (f"<br>{decimal(liquidity[s], 0)} per bar in the thinner leg of its most liquid pair" * (liquidity[s] > 0))
        for s in network.symbols
    ]
    return go.Scatter(
        x=[float(place[s][0]) for s in network.symbols],
        y=[float(place[s][1]) for s in network.symbols],
        mode="markers+text",
        text=[names[s] for s in network.symbols],
        textfont={"size": 11, "shadow": "auto"},  # readable across lines, on light and on dark
        customdata=said,
        hovertemplate="%{customdata}<extra></extra>",
        marker={
            "size": [round(2 * radius[s], 1) for s in network.symbols],
            "color": [style.CHAMPIONS if selected[s] else style.PAPER for s in network.symbols],
            "opacity": 1,
            "line": {"width": 1.5, "color": [style.PAPER if selected[s] else style.MUTED for s in network.symbols]},
        },
        showlegend=False,
    )


# ----------------------------------------------------------------------------------------- shared


def _legs(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["dependent"], row["independent"]


def _said(row: Mapping[str, Any]) -> str:
    """A pair in words, for a reader who points at it."""
    verdict = "on the roster" if row["verdict"] == _SELECTED else f"stopped: {row['reason']}"
    weak = "" if row["significant"] else ", not significant"
    text = f"{row['dependent']} on {row['independent']}<br>adjusted p {p_value(row['p_adjusted'])}{weak}"
    if row["half_life_hours"] is not None:
        text += f", half-life {decimal(row['half_life_hours'], 1)} h"
    return "<br>".join(escape(part) for part in (*text.split("<br>"), verdict))


def _short_names(symbols: Iterable[str]) -> list[str]:
    """Symbols without their quote currency where that keeps them apart."""
    every = list(symbols)
    bases = [symbol.split("/")[0] for symbol in every]
    return [escape(text) for text in (bases if len(set(bases)) == len(bases) else every)]
