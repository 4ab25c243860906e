"""Tear sheets of what was traded out of sample: what those of the pairs and of the portfolio have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.types import BoolArray, FloatArray, Pair
from mntrading.reporting.attribution import (
    rolling_sharpe,
)
from mntrading.reporting.context import ReportContext, Table
from mntrading.reporting.formats import decimal, percent
from mntrading.reporting.panels import (
    HeatPanel,
    Line,
    Panel,
    TimePanel,
    thinned,
)

PORTFOLIO: Final = "portfolio"
"""Name of the portfolio's sheet; a pair's is its id."""

OUT_OF_SAMPLE: Final = "out of sample, net of costs"
ROLLING_DAYS: Final = 30
Z_ALONE: Final = "kedro run --params backtest.strategy.signals_from=z"
SIDES: Final = {1: "long", -1: "short"}
CHARGE_NAMES: Final = {"fees": "Fees", "slippage": "Slippage", "borrow": "Borrow"}
OTHER_COLOURS: Final = ("#7a5c99", "#5d7f52", "#8c8c8c", "#b0656a", "#3f7f86", "#99855a")
"""Of what is neither champions nor roster, and has no colour of its own."""

_95: Final = 1.959964


@dataclass(frozen=True)
class Provenance:
    """What every sheet of a run says of itself.

    Parameters
    ----------
    as_of, source
        Newest moment of the market, and its identity.
    made_from
        Content hash by artefact.
    """

    as_of: pd.Timestamp
    source: str
    made_from: Mapping[str, str]

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader must know before any figure."""
        if not self.source.startswith("simulator"):
            return ()
        return (
            "Simulated market: the bars were made to a plan that decides which pairs are cointegrated. The figures "
            "show whether the machinery works and say nothing about real markets.",
        )

    @property
    def footer(self) -> str:
        """Hashes, shortened."""
        return "Made from " + ", ".join(f"{name} {value[:12]}" for name, value in sorted(self.made_from.items())) + "."


@dataclass(frozen=True)
class TearSheet:
    """A sheet in words and panels, before it is a page or a picture.

    Parameters
    ----------
    name
        Of the sheet.
    context
        Title, figures, sections and tables.
    panels
        By the names sections use.
    rows
        Names of the panels from the top, those side by side that have room for it.
    table
        The one table the picture has room for.
    """

    name: str
    context: ReportContext
    panels: Mapping[str, Panel]
    rows: tuple[tuple[str, ...], ...]
    table: tuple[Table, ...]

    @property
    def halves(self) -> tuple[str, ...]:
        """Names of panels that do not need the whole width."""
        return tuple(name for row in self.rows if len(row) > 1 for name in row if name in self.panels)


def sheet_pairs(roster: Roster, n_trades: Mapping[str, float]) -> tuple[Pair, ...]:
    """The pairs that have a sheet: every one that was traded or is on the live roster, by id.

    Parameters
    ----------
    roster
        Pairs of every fold.
    n_trades
        Closed trades by pair id.
    """
    live = {entry.pair.id for entry in roster.live.pairs}
    return tuple(pair for id_, pair in roster.pairs.items() if id_ in live or n_trades.get(id_, 0) > 0)


def span_of(pair: Pair, roster: Roster) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The stretch a pair's sheet shows: its trading windows, or the live formation window where it had none."""
    windows = windows_of(pair, roster)
    if windows:
        return windows[0].fold.formation_end, end_of(windows[-1])
    live = roster.live.fold
    return live.formation_start, live.formation_end


def windows_of(pair: Pair, roster: Roster) -> tuple[RosterFold, ...]:
    """The completed folds whose roster the pair was on."""
    return tuple(entry for entry in roster.completed if any(row.pair == pair for row in entry.pairs))


def end_of(entry: RosterFold) -> pd.Timestamp:
    """End of a fold's trading window."""
    end = entry.fold.trading_end
    return entry.fold.formation_end if end is None else end


def hours_of(trades: pd.DataFrame) -> pd.Series:
    """How long each trade was held, from fill to fill."""
    if trades.empty:
        return pd.Series(dtype="float64", index=trades.index)
    return (pd.DatetimeIndex(trades["exit_fill"]) - pd.DatetimeIndex(trades["entry_fill"])).to_series(
        index=trades.index
    ) / pd.Timedelta(1, unit="h")


def is_inside(index: pd.DatetimeIndex, windows: Sequence[RosterFold], *, by_day: bool = False) -> BoolArray:
    """Which times lie in a trading window; with ``by_day``, which days do."""
    inside = np.zeros(len(index), dtype=bool)
    for entry in windows:
        start = entry.fold.formation_end.floor("D") if by_day else entry.fold.formation_end
        inside |= (index >= start) & (index < end_of(entry))
    return inside


def counts_of(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Values in each bin."""
    return np.histogram(values, bins=edges)[0].astype(np.float64)


def interval_words(line: Mapping[str, Any], level: float) -> str:
    """The interval of a Sharpe ratio, or why there is none."""
    if line["sharpe_low"] is None:
        return "no interval: too few or idle days"
    return f"{percent(level, 0)} interval {decimal(line['sharpe_low'])} to {decimal(line['sharpe_high'])}"


def rolling_panel(lines: Iterable[tuple[str, str, pd.Series]], max_points: int) -> TimePanel:
    """Rolling Sharpe ratios, with the band a strategy without skill stays in 95 % of the time."""
    luck = _95 * float(np.sqrt(metrics.DAYS_PER_YEAR / ROLLING_DAYS))
    drawn = []
    longest = 0
    for name, colour, returns in lines:
        longest = max(longest, len(returns))
        ratios = rolling_sharpe(returns, ROLLING_DAYS)
        if ratios.notna().any():
            drawn.append(Line(name, thinned(ratios, max_points), colour, 1.4))
    why = (
        f"needs {ROLLING_DAYS} days of trading windows, there are {longest}"
        if longest < ROLLING_DAYS
        else "nothing moved in any stretch of that length"
    )
    return TimePanel(
        f"Sharpe of the last {ROLLING_DAYS} days (grey: luck, 95%)", tuple(drawn), digits=1,
        band=(-luck, luck) if drawn else None, empty=why,
    )  # fmt: skip


def month_panel(title: str, tables: Iterable[tuple[str, pd.DataFrame]], *, scaled_by: int | None = None) -> HeatPanel:
    """Years of one or several tables, with the months that any has; colours span the first ``scaled_by``, or all."""
    every = tuple(tables)
    shown = [month for month in metrics.MONTHS if any(one[month].notna().any() for _, one in every)]
    rows = [(f"{year} {name}".strip(), one.loc[year]) for name, one in every for year in one.index]
    values = np.array([[row[column] for column in (*shown, "Year")] for _, row in rows], dtype=np.float64)
    n_scaled = len(rows) if scaled_by is None else sum(len(one) for _, one in every[:scaled_by])
    return HeatPanel(
        title, tuple(name for name, _ in rows), (*shown, "Year"), values.reshape(len(rows), len(shown) + 1), n_scaled
    )
