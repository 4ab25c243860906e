"""One look for every figure: light, thin grid, one accent per series, legible on paper and on a phone."""

from __future__ import annotations

import re
from typing import Any, Final

import plotly.graph_objects as go

INK: Final = "#22262b"
MUTED: Final = "#6b737c"
GRID: Final = "#e6e8eb"
PAPER: Final = "#ffffff"
CHAMPIONS: Final = "#1b6a8f"
ROSTER: Final = "#c8842b"
SPREAD: Final = "#4a5560"
LONG: Final = "#2f7d4f"
SHORT: Final = "#b3403a"
SCALE: Final = ("#bcd7e3", "#4f97b8", "#0f4a68")
"""From just significant to strong; told apart in grey print as well."""

NOTHING: Final = "#f7f8f8"
NOT_SIGNIFICANT: Final = "#dadee2"
STOPPED: Final = "#a3abb3"

DIVERGING: Final = ("#dd9184", "#f0d2ca", "#fafaf9", "#c6dde6", "#74adc6")
"""From loss to profit by way of nearly white: told apart without red and green, and dark text is legible on all."""

LINE_NAMES: Final = {
    "champions": "Champions",
    "roster": "Whole roster",
    "cash": "Cash",
    "buy_and_hold": "Buy and hold, equal weights",
    "z_rule": "z rule without a model",
    "placebo": "Placebo: random pairs",
}
"""What the walk-forward lines are called, the portfolios first."""

LINE_COLOURS: Final = {
    "champions": CHAMPIONS, "roster": ROSTER, "cash": MUTED, "buy_and_hold": STOPPED, "z_rule": LONG,
    "placebo": "#8a6fa8",
}  # fmt: skip

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
CONFIG: Final = {"responsive": True, "displaylogo": False, "displayModeBar": False}


def diverging() -> list[list[float | str]]:
    """``DIVERGING`` as a colour scale."""
    return [[i / (len(DIVERGING) - 1), colour] for i, colour in enumerate(DIVERGING)]


def template() -> go.layout.Template:
    """The house template of all figures."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "ticks": "",
        "automargin": True,
        "title": {"font": {"size": 12, "color": MUTED}, "standoff": 8},
        "tickfont": {"size": 11, "color": MUTED},
    }
    layout = {
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "margin": {"l": 8, "r": 12, "t": 34, "b": 8},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": GRID, "font": {"size": 12}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": axis,
        "yaxis": axis,
        "bargap": 0.35,
        "bargroupgap": 0.08,
    }
    return go.layout.Template(layout=layout)


_DARK: Final = {
    INK: "#e3e6ea",
    MUTED: "#98a2ad",
    GRID: "#2a3038",
    PAPER: "#12161c",
    CHAMPIONS: "#58a9d0",
    ROSTER: "#dfa355",
    SPREAD: "#a5b1bd",
    LONG: "#5db883",
    SHORT: "#e1766f",
    SCALE[0]: "#1d4052",
    SCALE[1]: "#3e86a8",
    SCALE[2]: "#a8d6ec",
    NOTHING: "#171c22",
    NOT_SIGNIFICANT: "#29313a",
    STOPPED: "#65707b",
    DIVERGING[0]: "#a9564c",
    DIVERGING[1]: "#5d3733",
    DIVERGING[2]: "#1c2127",
    DIVERGING[3]: "#26424f",
    DIVERGING[4]: "#3f7f9c",
    "#8a6fa8": "#b298d0",
    "#7a5c99": "#b08fd0",
    "#87919a": "#8b96a1",
    "#9db8c7": "#4d6f81",
    "#b9cdd8": "#3a5666",
}
"""What each colour of a light figure is on a dark page."""

_SHADES: Final = re.compile(r"rgba\((\d+), ?(\d+), ?(\d+), ?([\d.]+)\)")


def dark(figure: go.Figure) -> go.Figure:
    """The same figure for a dark page: every colour of the house replaced, shades of it too, nothing else changed."""
    plain = figure.to_plotly_json()
    return go.Figure(data=_darkened(plain["data"]), layout=_darkened(plain["layout"]), skip_invalid=False)


def _darkened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _darkened(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_darkened(one) for one in value)
    if isinstance(value, str):
        found = _DARK.get(value.lower())
        return _SHADES.sub(_dark_shade, value) if found is None else found
    return value


def _dark_shade(match: re.Match[str]) -> str:
    """``rgba(27,106,143,0.13)`` with the dark colour's parts."""
    red, green, blue = (int(part) for part in match.group(1, 2, 3))
    found = _DARK.get(f"#{red:02x}{green:02x}{blue:02x}")
    if found is None:
        return match.group(0)
    parts = ",".join(str(int(found[at : at + 2], 16)) for at in (1, 3, 5))
    return f"rgba({parts},{match.group(4)})"
