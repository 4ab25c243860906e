"""What the engine is given: bars, features and parameters of one pair as arrays on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from mntrading.core import break_monitor, engine
from mntrading.core.bars import times_ms
from mntrading.core.break_monitor import Monitor
from mntrading.core.engine import Charges, Lots, Prices, Told
from mntrading.core.errors import ParameterError
from mntrading.core.features import in_logs
from mntrading.core.spread import rolling_mean_std
from mntrading.core.types import BoolArray, FloatArray
from mntrading.params import BacktestParams, BreakMonitorParams, CostParams, LeggingParams

_DAY_MS: Final = 86_400_000
_FIVE_MINUTES_MS: Final = 300_000
_LEAST_TRADED: Final = 0.1
"""Share of a day's bars that must exist for its volume to be known."""


@dataclass(frozen=True)
class Book:
    """What a pair is traded with: the quote notional behind one unit of equity, and each leg's lots.

    Parameters
    ----------
    notional
        Quote currency; what impact and lots are measured by.
    lots
        Smallest unit of each leg, dependent first; 0 where there is none.
    min_notionals
        Smallest order of each leg in quote currency; 0 where there is none.
    """

    notional: float = 1.0
    lots: tuple[float, float] = (0.0, 0.0)
    min_notionals: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Grid:
    """A regular grid of bar opens: ``start + k * step`` in milliseconds, k from 0 to n - 1."""

    start: int
    step: int
    n: int

    @classmethod
    def of(cls, index: pd.DatetimeIndex, *, before: int = 0) -> Grid:
        """The grid of a regular index, begun ``before`` bars earlier."""
        if not len(index):
            return cls(0, _FIVE_MINUTES_MS, 0)
        opens = times_ms(index)
        following = opens[1] if len(opens) > 1 else opens[0] + _FIVE_MINUTES_MS
        if len(opens) == 1 and index.freq is not None:
            following = times_ms(pd.DatetimeIndex([index[0] + index.freq]))[0]
        step = int(following - opens[0])
        return cls(int(opens[0]) - before * step, step, len(index) + before)

    @property
    def per_day(self) -> float:
        """Bars a day."""
        return _DAY_MS / self.step

    def columns(self, bars: pd.DataFrame, *names: str) -> tuple[FloatArray, ...]:
        """Columns of a symbol's bars, which are in order of time; NaN where the grid has a bar and they have none."""
        opens = times_ms(bars["timestamp"])
        first, last = np.searchsorted(opens, (self.start, self.start + self.n * self.step))
        steps = np.diff(opens[first:last], prepend=self.start - self.step)
        if len(steps) == self.n and bool((steps == self.step).all()):  # none is missing
            return tuple(bars[name].to_numpy(dtype=np.float64)[first:last].copy() for name in names)
        row, rest = np.divmod(opens[first:last] - self.start, self.step)
        out = np.full((len(names), self.n), np.nan)
        on = rest == 0
        for values, name in zip(out, names, strict=True):
            values[row[on]] = bars[name].to_numpy(dtype=np.float64)[first:last][on]
        return tuple(out)


def prices_of(
    bars_a: pd.DataFrame,
    bars_b: pd.DataFrame,
    index: pd.DatetimeIndex,
    params: BacktestParams,
    *,
    funding: tuple[pd.Series, pd.Series] | None = None,
) -> Prices:
    """Both legs on the regular grid of ``index``.

    Raises
    ------
    ParameterError
        For ``carry: funding`` without rates.
    """
    grid = Grid.of(index)
    (fill_a, close_a), (fill_b, close_b) = (grid.columns(bars, params.fill_at, "close") for bars in (bars_a, bars_b))
    nothing = np.zeros(grid.n)
    usual_a = usual_b = funding_a = funding_b = nothing
    if params.costs.impact_bps > 0.0:
        usual_a, usual_b = (usual_volume(bars, index) for bars in (bars_a, bars_b))
    if params.costs.carry == "funding":
        if funding is None:
            raise ParameterError(
                "is funding, and there are no funding rates of both legs",
                where="backtest.costs.carry",
                fix="--params backtest.costs.carry=borrow, or ingestion.funding=true where the market has them",
            )
        funding_a, funding_b = (due_rates(rates, index) for rates in funding)
    day = (grid.start + np.arange(grid.n, dtype=np.int64) * grid.step) // _DAY_MS
    return Prices(
        fill_a, fill_b, close_a, close_b, engine.last_known(close_a), engine.last_known(close_b), usual_a, usual_b,
        funding_a, funding_b, late_fills(index, params.legging), day - day[0] if grid.n else day,
    )  # fmt: skip


def usual_volume(bars: pd.DataFrame, index: pd.DatetimeIndex) -> FloatArray:
    """Mean quote volume of a bar over the day that ends with the bar before each row; NaN where it is not known.

    Look-ahead: row t uses bars < t, and from any history of two days the same bits.
    """
    day = max(round(Grid.of(index).per_day), 2)
    grid = Grid.of(index, before=2 * day)
    volume, close = grid.columns(bars, "volume", "close")
    first_bar = grid.start // grid.step
    usual, _ = rolling_mean_std(volume * close, window=day, lag=1, first_bar=first_bar, min_fill=_LEAST_TRADED)
    return usual[grid.n - len(index) :]


def due_rates(rates: pd.Series, index: pd.DatetimeIndex) -> FloatArray:
    """The rates that fall due on each bar, summed; a rate is due on the bar its time falls into."""
    grid = Grid.of(index)
    out = np.zeros(grid.n)
    row = (times_ms(pd.DatetimeIndex(rates.index)) - grid.start) // grid.step
    inside = (row >= 0) & (row < grid.n)
    np.add.at(out, row[inside], rates.to_numpy(dtype=np.float64)[inside])
    return out


def late_fills(index: pd.DatetimeIndex, legging: LeggingParams) -> BoolArray:
    """Bars on which the second leg's fill slips: drawn by the bar's own number, whatever the window begins with."""
    grid = Grid.of(index)
    if legging.probability == 0.0 or not grid.n:
        return np.zeros(grid.n, dtype=bool)
    bar = (grid.start // grid.step + np.arange(grid.n)).astype(np.uint64)
    # splitmix64: a hash of the bar and the seed, so that a bar's draw is its own
    mixed = bar + np.uint64((0x9E3779B97F4A7C15 * (legging.seed + 1)) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray(mixed / np.float64(2.0**64) < legging.probability)


def window_of(features: pd.DataFrame) -> pd.DatetimeIndex:
    """The bar opens of the rows to trade."""
    return pd.DatetimeIndex(features.index)


def told_of(features: pd.DataFrame, *, probability: pd.Series | None = None, barred: pd.Series | None = None) -> Told:
    """Signals of every row."""
    index = window_of(features)
    chance = np.full(len(index), np.nan)
    if probability is not None:
        chance = probability.reindex(index).to_numpy(dtype=np.float64)
    novel = np.zeros(len(index), dtype=bool)
    if barred is not None:
        novel[:] = barred.reindex(index, fill_value=False).to_numpy(dtype=bool)
    beta = features["beta"] if "beta" in features else features["hedge_ratio"]
    z, hedge, slope = (
        np.ascontiguousarray(column, dtype=np.float64) for column in (features["z"], features["hedge_ratio"], beta)
    )
    return Told(z, hedge, slope, chance, novel)


def charges_of(costs: CostParams, book: Book, index: pd.DatetimeIndex) -> Charges:
    """Costs per bar and unit of notional."""
    return charges_a_bar(costs, Grid.of(index).per_day, book.notional)


def charges_a_bar(costs: CostParams, bars_a_day: float, notional: float = 1.0) -> Charges:
    """Costs as the engine and the account take them; with a notional of 1 amounts are in quote currency."""
    return Charges(
        costs.fee_rate, costs.slippage_bps * 1e-4, costs.impact_bps * 1e-4,
        costs.borrow_bps_per_day * 1e-4 / bars_a_day, costs.carry == "funding", notional,
    )  # fmt: skip


def multiplied(costs: CostParams, multiple: float) -> CostParams:
    """The same costs, each ``multiple`` times as high; funding, which is the market's, stays."""
    own = costs.model_dump()
    times = {name: value * multiple for name, value in own.items() if isinstance(value, float)}
    return CostParams(**own | times)


def lots_of(book: Book) -> Lots:
    """The exchange's rules."""
    return Lots(*book.lots, *book.min_notionals)


def monitor_of(bars_a: pd.DataFrame, bars_b: pd.DataFrame, features: pd.DataFrame, rule: BreakMonitorParams) -> Monitor:
    """The break monitor over the rows of ``features`` and the bars before them.

    Raises
    ------
    ParameterError
        When it is on and ``features`` lacks the column ``beta``.
    """
    before = break_monitor.history_bars(rule)
    if before == 0 or not len(features):
        return break_monitor.off()
    if "beta" not in features:
        raise ParameterError("needs the column beta of the features", where="backtest.strategy.break_monitor")
    grid = Grid.of(window_of(features), before=before)
    (y,), (x,) = (grid.columns(bars, "close") for bars in (bars_a, bars_b))
    if in_logs(features):
        y, x = np.log(y), np.log(x)
    return break_monitor.monitor(y, x, rule, offset=before)
