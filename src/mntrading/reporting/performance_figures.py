"""Panels as ``plotly`` figures: what a tear sheet's page shows. Text that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mntrading.reporting import style
from mntrading.reporting.panels import (
    BarPanel,
    Form,
    HeatPanel,
    HistogramPanel,
    Panel,
    ScatterPanel,
    Stack,
    TimePanel,
    WaterfallPanel,
    spaced,
)

_PANEL_HEIGHT: Final = 150
_BETWEEN: Final = 46
_TOP: Final = 26
_BOTTOM: Final = 30
_SYMBOLS: Final = {"up": "triangle-up", "down": "triangle-down", "exit": "circle"}


def panel_figure(panel: Panel) -> go.Figure:
    """A panel, or a stack of them, as one figure in the house style."""
    if isinstance(panel, Stack):
        traces, layout = _stack(panel)
    elif isinstance(panel, HeatPanel):
        traces, layout = _heat(panel)
    elif isinstance(panel, WaterfallPanel):
        traces, layout = _waterfall(panel)
    elif isinstance(panel, BarPanel):
        traces, layout = _bars(panel)
    elif isinstance(panel, HistogramPanel):
        traces, layout = _histogram(panel)
    else:
        traces, layout = _scatter(panel)
    return go.Figure(data=traces, layout={"template": style.template(), **layout})


# ------------------------------------------------------------------------------------------ time


def _stack(stack: Stack) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Panels over one time axis, each under its own title, the axis' times below the last."""
    heights = [round(_PANEL_HEIGHT * panel.weight) for panel in stack.panels]
    inner = sum(heights) + _BETWEEN * (len(heights) - 1)
    traces: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    top = inner
    for number, (panel, height) in enumerate(zip(stack.panels, heights, strict=True), start=1):
        domain = [(top - height) / inner, top / inner]
        top -= height + _BETWEEN
        suffix = "" if number == 1 else str(number)
        layout[f"yaxis{suffix}"] = _value_axis(panel.form) | {
            "domain": domain, "anchor": "x", **({"range": list(panel.bounds)} if panel.bounds else {}),
        }  # fmt: skip
        notes.append(_heading(panel.title, domain[1]))
        drawn = _time_traces(panel, f"y{suffix}", {trace["legendgroup"] for trace in traces})
        traces += drawn
        shapes += _time_shapes(panel, f"y{suffix}")
        notes += _level_names(panel, f"y{suffix}")
        if not drawn:
            notes.append(_words(panel.empty, sum(domain) / 2))
    shapes += [_window_line(start) for start in stack.starts]
    named = any(trace.get("showlegend") for trace in traces)
    margin = {"l": 8, "r": 62 if any(panel.levels for panel in stack.panels) else 12, "t": _TOP, "b": _BOTTOM}
    # with several panels the first one's title has the top of the figure: the legend goes below
    legend = {"orientation": "h", "x": 0, "y": -(_BOTTOM + 6) / inner, "yanchor": "top", "yref": "paper"}
    below = 58 if named else 0
    layout |= {
        "height": inner + margin["t"] + margin["b"] + below,
        "margin": margin | {"b": margin["b"] + below},
        "legend": legend,
        "hovermode": "x",
        "xaxis": {
            "range": [_time(stack.span[0]), _time(stack.span[1])],
            "anchor": "free",  # an axis without lines would not be anchored to, and the times stand in the middle
            "position": 0,
            "type": "date",
            "automargin": False,
            "nticks": 6,
            "tickangle": 0,
        },
        "shapes": shapes,
        "annotations": notes,
    }
    return traces, layout


def _time_traces(panel: TimePanel, axis: str, named: Collection[str]) -> list[dict[str, Any]]:
    """Lines and marks; a line that another panel has named is switched on and off with that one."""
    out: list[dict[str, Any]] = []
    several = len(panel.lines) > 1
    for line in panel.lines:
        if line.values.empty:
            continue
        out.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": _times(pd.DatetimeIndex(line.values.index)),
                "y": line.values.to_numpy(dtype=np.float64),
                "name": escape(line.name),
                "yaxis": axis,
                "line": {"color": line.colour, "width": line.width, "dash": line.dash},
                "legendgroup": line.name,
                "showlegend": several and line.name not in named,
                "connectgaps": False,
                "hovertemplate": f"{escape(line.name)} %{{y:{_hover(panel.form, panel.digits)}}}<extra></extra>",
                **({"fill": "tozeroy", "fillcolor": _faint(line.colour)} if line.filled else {}),
            }
        )
    for marks in panel.marks:
        out.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": _times(marks.times),
                "y": marks.values,
                "text": [escape(said) for said in marks.said],
                "name": escape(marks.name),
                "yaxis": axis,
                "hovertemplate": f"{escape(marks.name)}<br>%{{text}}<extra></extra>",
                "legendgroup": marks.name,
                "showlegend": True,
                "marker": {
                    "symbol": _SYMBOLS[marks.symbol] + ("" if marks.filled else "-open"),
                    "size": 6 if marks.symbol == "exit" else 9,
                    "color": marks.colour,
                    "line": {"width": 1.4, "color": marks.colour},
                },
            }
        )
    return out


def _time_shapes(panel: TimePanel, axis: str) -> list[dict[str, Any]]:
    out = []
    if panel.band:
        low, high = panel.band
        out.append(
            {
                "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": low, "y1": high,
                "fillcolor": style.NOTHING, "line": {"width": 0}, "layer": "below",
            }
        )  # fmt: skip
    if panel.bounds is None and _reaches_zero(panel):
        out.append(_across(0.0) | {"yref": axis})
    for level in panel.levels:
        for start, end, height in level.stretches:
            out.append(
                {
                    "type": "line", "xref": "x", "x0": _time(start), "x1": _time(end), "yref": axis, "y0": height,
                    "y1": height, "opacity": 0.7, "line": {"color": level.colour, "width": 1, "dash": level.dash},
                }
            )  # fmt: skip
    return out


def _reaches_zero(panel: TimePanel) -> bool:
    """Whether zero lies among the values, so that a line there does not stretch the axis."""
    lows = [float(line.values.min()) for line in panel.lines if len(line.values)]
    highs = [float(line.values.max()) for line in panel.lines if len(line.values)]
    return bool(lows) and min(lows) <= 0 <= max(highs)


def _level_names(panel: TimePanel, axis: str) -> list[dict[str, Any]]:
    return [
        {
            "xref": "paper", "x": 1, "xanchor": "left", "yref": axis, "y": level.stretches[-1][2], "yanchor": "middle",
            "text": f" {level.name}", "showarrow": False, "font": {"size": 10, "color": level.colour},
        }
        for level in panel.levels
        if level.stretches
    ]  # fmt: skip


def _window_line(start: pd.Timestamp) -> dict[str, Any]:
    return {
        "type": "line", "xref": "x", "x0": _time(start), "x1": _time(start), "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": style.MUTED, "width": 1, "dash": "dot"}, "opacity": 0.35, "layer": "below",
    }  # fmt: skip


# ----------------------------------------------------------------------------------------- others


def _heat(panel: HeatPanel) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The sum's column is set off by a gap, and coloured on its own scale."""
    n = len(panel.columns)
    place = [*range(n - 1), n - 0.75]
    traces = []
    for part in (slice(0, n - 1), slice(n - 1, n)):
        values = panel.values[:, part]
        reach = panel.reach(part)
        traces.append(
            {
                "type": "heatmap",
                "x": place[part],
                "y": list(range(len(panel.rows))),
                "z": [[None if np.isnan(v) else float(v) for v in row] for row in values],
                "text": [["" if np.isnan(v) else f"{v:+.2%}".replace("-", "−") for v in row] for row in values],
                "texttemplate": "%{text}",
                "textfont": {"size": 11.5, "color": style.INK},
                "hoverinfo": "skip",
                "zmin": -reach,
                "zmax": reach,
                "colorscale": style.diverging(),
                "showscale": False,
                "xgap": 2,
                "ygap": 2,
            }
        )
    layout = {
        "height": _TOP + 34 + max(44 * len(panel.rows), 80),
        "margin": {"l": 8, "r": 12, "t": _TOP + 20, "b": 8},
        "xaxis": {
            "tickvals": place, "ticktext": list(panel.columns), "side": "top", "showgrid": False, "fixedrange": True,
        },
        "yaxis": {
            "tickvals": list(range(len(panel.rows))), "ticktext": [escape(row) for row in panel.rows],
            "autorange": "reversed", "showgrid": False, "fixedrange": True,
        },
        "title": _left(panel.title),
        # months and names side by side need more than a phone has: it scrolls there
        "meta": {"min_width": 7 * max((len(row) for row in panel.rows), default=0) + 62 * n},
    }  # fmt: skip
    return traces, layout


def _waterfall(panel: WaterfallPanel) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    last = len(panel.steps) - 1
    trace = {
        "type": "waterfall",
        "x": [escape(label) for label in panel.labels],
        "y": list(panel.steps),
        "measure": ["absolute" if i == 0 else "total" if i == last else "relative" for i in range(last + 1)],
        "text": [
            f"{value:{'+' if 0 < i < last else ''}.{panel.digits}%}".replace("-", "−")
            for i, value in enumerate(panel.steps)
        ],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{x} %{text}<extra></extra>",
        "connector": {"line": {"color": style.MUTED, "width": 0.8}},
        "decreasing": {"marker": {"color": "#c9776c"}},
        "increasing": {"marker": {"color": style.LONG}},
        "totals": {"marker": {"color": style.CHAMPIONS}},
    }
    return [trace], _small(panel.title) | {
        "yaxis": _value_axis("percent"),
        "xaxis": {"fixedrange": True, "type": "category"},
        "hovermode": "closest",
    }


def _bars(panel: BarPanel) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    labels = [escape(label) for label in panel.labels]
    written = _hover("percent", panel.digits + 1)
    traces: list[dict[str, Any]] = []
    for one in panel.bars:
        along, across = (one.values, labels) if panel.horizontal else (labels, one.values)
        value = "x" if panel.horizontal else "y"
        traces.append(
            {
                "type": "bar", "x": along, "y": across, "name": one.name, "marker": {"color": one.colour},
                "orientation": "h" if panel.horizontal else "v",
                "hovertemplate": f"{one.name} %{{{value}:{written}}}<extra></extra>",
            }
        )  # fmt: skip
    if panel.total is not None:
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": labels, "y": panel.total.values, "name": panel.total.name,
                "marker": {"symbol": "diamond", "size": 8, "color": panel.total.colour},
                "hovertemplate": f"{panel.total.name} %{{y:{written}}}<extra></extra>",
            }
        )  # fmt: skip
    layout = _small(panel.title) | {"barmode": "relative", "bargap": 0.3}
    values, names = _value_axis("percent"), {"type": "category", "fixedrange": True}
    if panel.horizontal:
        height = 22 * len(labels)
        layout |= {"title": _left(panel.title), "annotations": []}
        layout |= {"xaxis": values, "yaxis": names | {"autorange": "reversed", "showgrid": False}, "hovermode": "y"}
        layout |= {
            "height": height + 110,
            "legend": _legend_below(height, 30),
            "margin": {"l": 8, "r": 12, "t": _TOP, "b": 80},
        }
    else:
        shown = [labels[i] for i in spaced(len(labels), 7)]
        names |= {"tickvals": shown, "ticktext": shown, "tickangle": 0, "tickfont": {"size": 10}}
        layout["meta"] = {"min_width": 60 + 62 * len(shown)}
        layout |= {"xaxis": names, "yaxis": values, "height": 360, "legend": _legend_below(360 - _TOP - 92, 34),
                   "margin": {"l": 8, "r": 12, "t": _TOP, "b": 92}}  # fmt: skip
    return traces, layout


def _histogram(panel: HistogramPanel) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    middles = (panel.edges[:-1] + panel.edges[1:]) / 2
    width = float(panel.edges[1] - panel.edges[0])
    lows, highs = panel.edges[:-1], panel.edges[1:]
    bar = {
        "type": "bar",
        "x": middles,
        "y": panel.counts,
        "width": [width * 0.94] * len(middles),
        "marker": {"color": [style.LONG if middle > 0 else style.SHORT for middle in middles], "opacity": 0.75},
        "text": [f"{low:.{panel.digits}%} to {high:.{panel.digits}%}" for low, high in zip(lows, highs, strict=True)],
        "textposition": "none",
        "hovertemplate": f"%{{text}}: %{{y}} {panel.noun}s<extra></extra>",
        "showlegend": False,
    }
    traces: list[dict[str, Any]] = [bar]
    if panel.curve is not None:
        traces.append(
            {
                "type": "scatter", "mode": "lines", "x": middles, "y": panel.curve, "name": "normal distribution",
                "line": {"color": style.INK, "width": 1.2, "dash": "dash", "shape": "spline"}, "hoverinfo": "skip",
                "showlegend": False,
            }
        )  # fmt: skip
    layout = _small(panel.title)
    layout["xaxis"] = _value_axis("percent") | {"title": {"text": panel.unit}}
    layout["yaxis"] = {"title": {"text": f"{panel.noun.capitalize()}s"}, "fixedrange": True, "rangemode": "tozero"}
    layout["hovermode"] = "closest"
    layout["shapes"] = [_upright(0.0, style.MUTED, "solid")]
    if panel.middle is not None:
        name, at = panel.middle
        layout["shapes"].append(_upright(at, style.INK, "dot"))
        layout["annotations"].append(
            {
                "x": at, "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "top", "showarrow": False,
                "text": f" {name} {at:+.{panel.digits + 1}%}", "font": {"size": 11, "color": style.INK},
            }
        )  # fmt: skip
    return traces, layout


def _scatter(panel: ScatterPanel) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    traces = [
        {
            "type": "scatter", "mode": "markers", "x": cloud.x, "y": cloud.y, "name": escape(cloud.name),
            "text": [escape(said) for said in cloud.said], "hovertemplate": "%{text}<extra></extra>",
            "marker": {"size": 7, "color": cloud.colour, "opacity": 0.75},
            "showlegend": True,
        }
        for cloud in panel.clouds
    ]  # fmt: skip
    layout = _small(panel.title)
    layout["xaxis"] = {"title": {"text": panel.x_title}, "rangemode": "tozero"}
    layout["yaxis"] = _value_axis("percent") | {"title": {"text": panel.y_title}}
    layout |= {"hovermode": "closest", "shapes": [_across(0.0)], "height": 360}
    layout |= {"legend": _legend_below(360 - _TOP - 92, 48), "margin": {"l": 8, "r": 12, "t": _TOP, "b": 92}}
    return traces, layout


# ----------------------------------------------------------------------------------------- shared


def _small(title: str) -> dict[str, Any]:
    return {
        "height": 320,
        "margin": {"l": 8, "r": 12, "t": _TOP, "b": 44},
        "annotations": [_heading(title, 1)],
    }


def _heading(title: str, top: float) -> dict[str, Any]:
    """A panel's title, flush left above it."""
    return {
        "xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": top, "yanchor": "bottom", "yshift": 4,
        "text": f"<b>{escape(title)}</b>", "showarrow": False, "font": {"size": 12.5, "color": style.INK},
        "align": "left",
    }  # fmt: skip


def _left(title: str) -> dict[str, Any]:
    """The title of a panel with names at its left, flush with these."""
    return {
        "text": f"<b>{escape(title)}</b>", "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container",
        "yanchor": "top", "pad": {"t": 6, "l": 8}, "font": {"size": 12.5, "color": style.INK},
    }  # fmt: skip


def _words(text: str, middle: float) -> dict[str, Any]:
    return {
        "xref": "paper", "x": 0.5, "xanchor": "center", "yref": "paper", "y": middle, "yanchor": "middle",
        "text": escape(text), "showarrow": False, "font": {"size": 12, "color": style.MUTED},
    }  # fmt: skip


def _legend_below(inner: int, distance: int) -> dict[str, Any]:
    return {"orientation": "h", "x": 0, "xanchor": "left", "y": -distance / inner, "yanchor": "top"}


def _upright(at: float, colour: str, dash: str) -> dict[str, Any]:
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1,
            "line": {"color": colour, "width": 1, "dash": dash}}  # fmt: skip


def _across(at: float) -> dict[str, Any]:
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at, "layer": "below",
            "line": {"color": style.MUTED, "width": 0.8}}  # fmt: skip


def _value_axis(form: Form) -> dict[str, Any]:
    return {"tickformat": ".4~%", "fixedrange": True} if form == "percent" else {"fixedrange": True}


def _hover(form: Form, digits: int) -> str:
    return f".{digits}%" if form == "percent" else f".{digits}f"


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"


def _times(index: pd.DatetimeIndex) -> Sequence[str]:
    """Times to the minute, as plotly reads them, without the zone."""
    minutes = index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index
    text: Iterable[str] = np.datetime_as_string(minutes.to_numpy(), unit="m")
    return [str(one) for one in text]


def _time(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"
