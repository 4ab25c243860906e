"""One look for every figure: light, thin grid, one accent per series, legible on paper and on a phone."""

from __future__ import annotations

from typing import Final

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
