"""What a tear sheet draws, said once: each panel holds its values, and the page and the picture both draw it.

Series of bars are thinned when a panel is made, never marks: a trade stands where it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mntrading.core.types import FloatArray
from mntrading.reporting.figures import decimate

Form = Literal["percent", "number"]
Dash = Literal["solid", "dash", "dot"]
Symbol = Literal["up", "down", "exit"]


@dataclass(frozen=True)
class Line:
    """A series over time; ``filled`` down or up to zero."""

    name: str
    values: pd.Series
    colour: str
    width: float = 1.4
    dash: Dash = "solid"
    filled: bool = False


@dataclass(frozen=True)
class Level:
    """A height that holds from one moment to another, once or in several stretches; named at its right end."""

    name: str
    stretches: tuple[tuple[pd.Timestamp, pd.Timestamp, float], ...]
    colour: str
    dash: Dash


@dataclass(frozen=True)
class Marks:
    """Single moments, each with what is said of it; never thinned."""

    name: str
    times: pd.DatetimeIndex
    values: FloatArray
    said: tuple[str, ...]
    colour: str
    symbol: Symbol
    filled: bool


@dataclass(frozen=True)
class TimePanel:
    """Lines, levels and marks over time.

    Parameters
    ----------
    title
        What is shown, with its unit.
    lines, levels, marks
        In the order they are drawn.
    form
        How values are written.
    digits
        Decimals of a value.
    band
        Low and high of a grey stretch behind everything.
    bounds
        Least and largest value shown; by the data where it is None.
    weight
        Height among the panels it is stacked with.
    empty
        Said in place of the lines where there are none.
    """

    title: str
    lines: tuple[Line, ...]
    form: Form = "number"
    digits: int = 2
    levels: tuple[Level, ...] = ()
    marks: tuple[Marks, ...] = ()
    band: tuple[float, float] | None = None
    bounds: tuple[float, float] | None = None
    weight: float = 1.0
    empty: str = ""


@dataclass(frozen=True)
class Stack:
    """Panels one above the other over the same stretch of time, with a fine line where each window begins."""

    panels: tuple[TimePanel, ...]
    starts: tuple[pd.Timestamp, ...]
    span: tuple[pd.Timestamp, pd.Timestamp]


@dataclass(frozen=True)
class HeatPanel:
    """A table of fractions in colour, NaN where there is none; the last column stands apart, as a sum does.

    The first ``n_scaled`` rows set how strong a colour is.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: FloatArray
    n_scaled: int

    def reach(self, part: slice) -> float:
        """The value of the strongest colour among some columns."""
        return float(np.nanmax(np.abs(self.values[: self.n_scaled, part]), initial=0.0)) or 1.0


@dataclass(frozen=True)
class WaterfallPanel:
    """Steps of a sum from its first value down or up to its last; fractions."""

    title: str
    labels: tuple[str, ...]
    steps: tuple[float, ...]
    digits: int = 2


@dataclass(frozen=True)
class BarSeries:
    """Bars of one colour, one a label."""

    name: str
    values: FloatArray
    colour: str


@dataclass(frozen=True)
class BarPanel:
    """Bars stacked on each side of zero, with an optional mark of their sum; fractions.

    ``horizontal`` bars are listed from the top.
    """

    title: str
    labels: tuple[str, ...]
    bars: tuple[BarSeries, ...]
    total: BarSeries | None = None
    horizontal: bool = False
    digits: int = 1


@dataclass(frozen=True)
class HistogramPanel:
    """Counts between edges, bars below and above zero in two colours, with a curve to hold them against.

    ``curve`` is what a normal distribution of the same mean and deviation would count in each bin.
    """

    title: str
    unit: str
    edges: FloatArray
    counts: FloatArray
    noun: str
    curve: FloatArray | None = None
    middle: tuple[str, float] | None = None
    digits: int = 2


@dataclass(frozen=True)
class Cloud:
    """Points of one kind, each with what is said of it; never thinned."""

    name: str
    x: FloatArray
    y: FloatArray
    said: tuple[str, ...]
    colour: str


@dataclass(frozen=True)
class ScatterPanel:
    """Points by two measures; ``y`` in fractions."""

    title: str
    x_title: str
    y_title: str
    clouds: tuple[Cloud, ...]
    digits: int = 2


Panel = Stack | HeatPanel | WaterfallPanel | BarPanel | HistogramPanel | ScatterPanel


def on_grid(series: pd.Series, step: pd.Timedelta) -> pd.Series:
    """A series on its complete grid, NaN where a time is missing, so that a line breaks there."""
    if len(series) < 2:
        return series
    grid = pd.date_range(series.index[0], series.index[-1], freq=step, unit="ms", name=series.index.name)
    return series if len(grid) == len(series) else series.reindex(grid)


def thinned(series: pd.Series, max_points: int) -> pd.Series:
    """At most ``max_points`` rows of a series, its ends and extremes among them; empty where no value is known."""
    known = series.loc[series.first_valid_index() : series.last_valid_index()] if series.notna().any() else series[:0]
    return decimate(known, max_points)


def bin_edges(values: FloatArray, *, least: int = 8, most: int = 40) -> FloatArray:
    """Edges of equal bins by the rule of Freedman and Diaconis, one of them at zero.

    Parameters
    ----------
    values
        At least one, finite.
    least, most
        Bounds of the number of bins, kept but for a bin at each end.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    reach = high - low
    if not reach > 1e-12:
        return np.array([-0.01, 0.0, 0.01])
    first, third = np.quantile(values, [0.25, 0.75])
    wanted = 2 * float(third - first) / len(values) ** (1 / 3)
    width = float(np.clip(wanted if wanted > 0 else reach / least, reach / most, reach / least))
    below, above = int(np.ceil(-low / width - 1e-9)), int(np.ceil(high / width - 1e-9))
    # rounding must leave neither end outside; the largest value belongs to the last bin
    below += low < -below * width
    above += high >= above * width
    return np.asarray(np.arange(-below, above + 1) * width, dtype=np.float64)


def spaced(n: int, most: int = 8) -> list[int]:
    """At most ``most`` of ``n`` places at equal distances, the first among them, for labels that need room."""
    return list(range(0, n, max(-(-n // most), 1)))
