"""The menu: which windows and levels a pair is traded by, chosen inside its formation window only.

Every candidate trades the formation window by the rule on z, at a multiple of the costs, cut into blocks that begin
and end flat. Its worth is the mean net P&L of a block less one standard error, so that one lucky block does not decide.
The choice leaves the configured rule only where another is worth more and where choosing itself holds up: the
probability of backtest overfitting over the window's days is within a bound. All candidates are kept, with what they
did afterwards: each was a trial.

References
----------
Bertram, W. K. (2010). Analytic solutions for optimal statistical arbitrage trading. Physica A, 389(11), 2234-2243.

Lin, Y.-X., McCrae, M., Gulati, C. (2006). Loss protection in pairs trading through minimum profit bounds: a
cointegration approach. Journal of Applied Mathematics and Decision Sciences, 2006, 73803.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core import engine
from mntrading.core.engine import Prices, Told
from mntrading.core.engine_inputs import (
    Book,
    Grid,
    charges_of,
    lots_of,
    monitor_of,
    multiplied,
    prices_of,
    told_of,
    window_of,
)
from mntrading.core.features import build_spread, in_logs
from mntrading.core.metrics import probability_of_backtest_overfitting
from mntrading.core.strategy import rule_of
from mntrading.core.types import FloatArray, IntArray
from mntrading.params import BacktestParams, CostParams, FeatureParams, StrategyParams

CONFIGURED: Final = "configured"

ITEM_COLUMNS: Final = (
    "label", "beta_window", "z_window", "entry_z", "exit_z", "stop_z", "worth", "net_pnl", "n_trades", "chosen",
)  # fmt: skip
"""One row per candidate of ``Choice.table``."""

_LOWEST_ENTRY: Final = 0.5
_SHORTEST_WINDOW: Final = 36
_MOST_SPLITS: Final = 12


@dataclass(frozen=True)
class Levels:
    """When a trade begins and ends, in deviations of the spread."""

    entry_z: float
    exit_z: float
    stop_z: float

    @property
    def ordered(self) -> bool:
        """Whether exit, entry and stop come in this order."""
        return self.exit_z < self.entry_z < self.stop_z


@dataclass(frozen=True)
class Item:
    """One candidate.

    Parameters
    ----------
    label
        What it is on the menu; the same for every pair, though the numbers behind it may be the pair's own.
    beta_window, z_window
        In trading bars.
    levels
        Entry, exit and stop.
    """

    label: str
    beta_window: int
    z_window: int
    levels: Levels

    @classmethod
    def of_rule(cls, rule: Mapping[str, Any]) -> Item:
        """The candidate of a rule as the registry and the production map have it."""
        levels = Levels(**{name: rule[name] for name in ("entry_z", "exit_z", "stop_z")})
        return cls(rule["label"], rule["beta_window"], rule["z_window"], levels)

    def applied(self, params: StrategyParams) -> StrategyParams:
        """The strategy with this candidate's levels."""
        levels = self.levels
        return params.model_copy(update={"entry_z": levels.entry_z, "exit_z": levels.exit_z, "stop_z": levels.stop_z})

    def spread_params(self, params: FeatureParams) -> FeatureParams:
        """The features' parameters with this candidate's windows."""
        return params.model_copy(update={"beta_window": self.beta_window, "z_window": self.z_window})


@dataclass(frozen=True)
class Choice:
    """What one pair is traded by in one fold.

    Parameters
    ----------
    item
        The chosen candidate.
    table
        ``ITEM_COLUMNS``, one row a candidate in the order of the menu; ``worth`` and ``net_pnl`` per block and in all,
        of the formation window at the menu's multiple of the costs.
    reason
        Why this one, in words.
    overfitting
        Probability of backtest overfitting over the formation window's days; NaN where there is nothing to choose.
    out_of_block
        Net P&L over all blocks of always taking the best of the other blocks: what choosing is worth.
    """

    item: Item
    table: pd.DataFrame
    reason: str
    overfitting: float
    out_of_block: float


def windows(params: BacktestParams, features: FeatureParams, half_life_bars: float) -> dict[str, tuple[int, int]]:
    """Beta and z window of every window choice by its name; the configured one first, the same one never twice.

    A multiple of the half-life is a z window, with a beta window twice as long; neither is longer than the configured
    beta window.
    """
    out = {CONFIGURED: (features.beta_window, features.z_window)}
    if not params.menu.enabled:
        return out
    for beta, z in params.menu.windows:
        if (beta, z) not in out.values():
            out[f"{beta}/{z} bars"] = (beta, z)
    for multiple in params.menu.half_life_multiples:
        if math.isfinite(half_life_bars):
            z = min(max(round(multiple * half_life_bars), _SHORTEST_WINDOW), features.beta_window)
            out[f"{multiple:g} half-lives"] = (min(2 * z, features.beta_window), z)
    return out


def cost_in_deviations(frame: pd.DataFrame, bars_a: pd.DataFrame, costs: CostParams) -> float:
    """Fees and slippage of a round trip in deviations of the spread, by the window's medians; NaN where unknown.

    Look-ahead: uses every row of ``frame``.

    Parameters
    ----------
    frame
        ``STATE_COLUMNS`` of a formation window.
    bars_a
        Bars of the dependent leg, in whose price a spread of level prices is.
    costs
        Of the backtest; impact and carry are left out.
    """
    deviation = frame["spread_std"].to_numpy() / (1.0 + frame["hedge_ratio"].to_numpy())
    if not in_logs(frame):
        (close_a,) = Grid.of(window_of(frame)).columns(bars_a, "close")
        deviation = deviation / close_a
    known = deviation[np.isfinite(deviation) & (deviation > 0)]
    if not len(known):
        return math.nan
    return float(2.0 * (costs.fee_rate + costs.slippage_bps * 1e-4) / np.median(known))


def optimal_entry(cost: float, *, stop_z: float) -> float:
    """Entry of most expected net profit a unit of time on an Ornstein-Uhlenbeck spread left at its mean.

    With entries at ±x and exits at 0, in stationary deviations, the mean cycle lasts (π / 2κ)·erfi(x / √2) and earns
    x - ``cost``. The maximum does not depend on the speed of reversion κ.

    Parameters
    ----------
    cost
        Of a round trip, in deviations of the spread, 0 or more.
    stop_z
        The entry is below it, and at least 0.5.

    References
    ----------
    Bertram (2010).
    """
    from scipy.special import erfi

    x = np.arange(_LOWEST_ENTRY, stop_z, 0.01)
    rate = (x - cost) / erfi(x / math.sqrt(2.0))
    return float(x[int(np.argmax(rate))])


def minimum_profit_entry(cost: float, profit: float, *, exit_z: float) -> float:
    """Entry that leaves ``profit`` after ``cost``, all in deviations of the spread, when it ends at ``exit_z``.

    References
    ----------
    Lin, McCrae and Gulati (2006).
    """
    return max(exit_z + cost + profit, _LOWEST_ENTRY)


def levels(params: BacktestParams, cost: float) -> dict[str, Levels]:
    """Levels of every candidate by name, the configured ones first; those that are not in order are left out.

    ``cost`` is that of a round trip in deviations of the spread.
    """
    rule, menu = params.strategy, params.menu
    out = {CONFIGURED: Levels(rule.entry_z, rule.exit_z, rule.stop_z)}
    if not menu.enabled:
        return out
    for stop in menu.stop_z:
        for entry in menu.entry_z:
            for leave in menu.exit_z:
                item = Levels(entry, leave, stop)
                if item.ordered and item not in out.values():
                    out[f"entry {entry:g}, exit {leave:g}, stop {stop:g}"] = item
    if menu.optimal and math.isfinite(cost):
        per_bp = cost / (2.0 * (params.costs.fee_rate * 1e4 + params.costs.slippage_bps)) if cost > 0 else 0.0
        best = Levels(optimal_entry(cost, stop_z=rule.stop_z), 0.0, rule.stop_z)
        least = Levels(minimum_profit_entry(cost, menu.min_profit_bps * per_bp, exit_z=0.0), 0.0, rule.stop_z)
        out |= {"optimal": best} | ({"minimum profit": least} if least.ordered else {})
    return out


@dataclass(frozen=True)
class Market:
    """One pair's bars and what it is traded with. Spreads are made once for each pair of windows.

    Parameters
    ----------
    bars_a, bars_b
        Bars of the dependent and the independent leg.
    book
        Notional and lots.
    funding
        Rates of both legs where funding is charged.
    """

    bars_a: pd.DataFrame
    bars_b: pd.DataFrame
    book: Book = field(default_factory=Book)
    funding: tuple[pd.Series, pd.Series] | None = None
    _spreads: dict[tuple[int, int], pd.DataFrame] = field(default_factory=dict, init=False, repr=False)

    def spread(self, item: tuple[int, int], features: FeatureParams) -> pd.DataFrame:
        """``STATE_COLUMNS`` of the whole history for a beta and a z window."""
        if item not in self._spreads:
            params = features.model_copy(update={"beta_window": item[0], "z_window": item[1]})
            self._spreads[item] = build_spread(self.bars_a, self.bars_b, params)
        return self._spreads[item]


def choose(
    market: Market,
    formation: pd.DatetimeIndex,
    params: BacktestParams,
    features: FeatureParams,
    *,
    half_life_bars: float,
) -> Choice:
    """Choose the candidate a pair is traded by, from its formation window alone.

    Look-ahead: uses bars of ``formation`` and before; nothing after its last bar.

    Parameters
    ----------
    market
        The pair.
    formation
        Bar opens of the formation window, regular.
    params
        Strategy, costs and menu.
    features
        The configured windows, and how the spread is made.
    half_life_bars
        Of the formation window.
    """
    params = params.model_copy(update={"costs": multiplied(params.costs, params.menu.cost_multiple)})
    names = windows(params, features, half_life_bars)
    prices = prices_of(market.bars_a, market.bars_b, formation, params, funding=market.funding)
    found: list[tuple[Item, FloatArray, int]] = []  # candidate, daily P&L by block, trades
    blocks: list[IntArray] = []
    for window, (beta, z) in names.items():
        frame = market.spread((beta, z), features).reindex(formation)
        cost = cost_in_deviations(frame, market.bars_a, params.costs)
        items = [Item(_label(window, name), beta, z, item) for name, item in levels(params, cost).items()]
        daily, trades, blocks = _by_block(market, prices, frame, params, items, half_life_bars, params.menu.n_blocks)
        found += [(item, daily[:, k], int(trades[k])) for k, item in enumerate(items)]
    items = [item for item, _, _ in found]
    pnl = np.column_stack([days for _, days, _ in found])
    by_block = np.array([pnl[days].sum(axis=0) for days in blocks])
    error = by_block.std(axis=0, ddof=1) / math.sqrt(len(by_block)) if len(by_block) > 1 else 0.0
    worth = by_block.mean(axis=0) - error
    overfitting = _overfitting(pnl) if len(items) > 1 else math.nan
    best, reason = _best(worth, overfitting, params)
    table = pd.DataFrame(
        {
            "label": [item.label for item in items],
            "beta_window": [item.beta_window for item in items],
            "z_window": [item.z_window for item in items],
            **{name: [getattr(item.levels, name) for item in items] for name in ("entry_z", "exit_z", "stop_z")},
            "worth": worth,
            "net_pnl": by_block.sum(axis=0),
            "n_trades": [trades for _, _, trades in found],
            "chosen": np.arange(len(items)) == best,
        },
        columns=list(ITEM_COLUMNS),
    )
    return Choice(items[best], table, reason, overfitting, _out_of_block(by_block))


def follow(
    market: Market,
    window: pd.DatetimeIndex,
    choice: pd.DataFrame,
    params: BacktestParams,
    features: FeatureParams,
    *,
    half_life_bars: float,
) -> pd.DataFrame:
    """What every candidate earned afterwards: daily net P&L of the notional by label, by the rule on z.

    Look-ahead: that of ``run_pair`` in ``window``.

    Parameters
    ----------
    market, params, features, half_life_bars
        As for ``choose``.
    window
        Bar opens of the trading window, regular.
    choice
        ``Choice.table`` of the fold.
    """
    out: dict[str, FloatArray] = {}
    prices = prices_of(market.bars_a, market.bars_b, window, params, funding=market.funding)
    days = window.floor("D").unique()
    everything = [_item(row) for row in choice.to_dict("records")]
    for beta, z in dict.fromkeys((item.beta_window, item.z_window) for item in everything):
        frame = market.spread((beta, z), features).reindex(window)
        items = [item for item in everything if (item.beta_window, item.z_window) == (beta, z)]
        daily, _, _ = _by_block(market, prices, frame, params, items, half_life_bars, 1)
        out |= {item.label: daily[:, k] for k, item in enumerate(items)}
    return pd.DataFrame(out, index=days)[list(choice["label"])]


def chosen_item(table: pd.DataFrame) -> Item:
    """The chosen candidate of a ``Choice.table``."""
    return _item(table.loc[table["chosen"]].to_dict("records")[0])


def _item(row: Mapping[Any, Any]) -> Item:
    levels = Levels(*(float(row[name]) for name in ("entry_z", "exit_z", "stop_z")))
    return Item(str(row["label"]), int(row["beta_window"]), int(row["z_window"]), levels)


def _label(window: str, name: str) -> str:
    return CONFIGURED if window == name == CONFIGURED else f"{window} · {name}"


def _by_block(
    market: Market,
    prices: Prices,
    frame: pd.DataFrame,
    params: BacktestParams,
    items: Sequence[Item],
    half_life_bars: float,
    n_blocks: int,
) -> tuple[FloatArray, IntArray, list[IntArray]]:
    """Daily P&L (days × items), trades by item, and the days of each block.

    Blocks are whole days; each is begun and left flat, so a day belongs to one block and no trade to two.
    """
    index = window_of(frame)
    told = told_of(frame)
    monitor = monitor_of(market.bars_a, market.bars_b, frame, params.strategy.break_monitor)
    charges, lots = charges_of(params.costs, market.book, index), lots_of(market.book)
    rules = np.array(
        [
            rule_of(item.applied(params.strategy), half_life_bars=half_life_bars, needs_probability=False)
            for item in items
        ],
        dtype=np.float64,
    )
    n_days = int(prices.day[-1]) + 1 if len(index) else 0
    pnl, trades = np.zeros((n_days, len(items))), np.zeros(len(items), dtype=np.int64)
    blocks = [days for days in np.array_split(np.arange(n_days), n_blocks) if len(days)]
    for days in blocks:
        first, end = np.searchsorted(prices.day, [days[0], days[-1] + 1])
        part = slice(int(first), int(end))
        daily, count = np.empty((len(items), len(days))), np.zeros(len(items), dtype=np.int64)
        engine.sweep(
            _prices_in(prices, part), _told_in(told, part), rules, charges, lots,
            monitor._replace(offset=monitor.offset + part.start), daily, count,
        )  # fmt: skip
        pnl[days] = np.diff(daily, axis=1, prepend=1.0).T
        trades += count
    return pnl, trades, blocks


def _prices_in(prices: Prices, part: slice) -> Prices:
    cut = Prices._make(column[part] for column in prices)
    return cut._replace(day=cut.day - cut.day[0])


def _told_in(told: Told, part: slice) -> Told:
    return Told._make(column[part] for column in told)


def _overfitting(pnl: FloatArray) -> float:
    splits = min(_MOST_SPLITS, len(pnl) // 2)
    return probability_of_backtest_overfitting(pnl, n_splits=splits - splits % 2) if splits >= 2 else math.nan


def _best(worth: FloatArray, overfitting: float, params: BacktestParams) -> tuple[int, str]:
    """Place of the candidate to take (0 is the configured one), and why."""
    best = int(np.argmax(worth))
    if len(worth) == 1:
        return 0, "the menu is off"
    if best == 0 or not worth[best] > worth[0]:
        return 0, "no candidate is worth more"
    if not worth[best] > 0:
        return 0, "no candidate is worth anything after costs"
    if not overfitting <= params.menu.max_overfitting:
        return 0, f"choosing does not hold up: probability of overfitting {overfitting:.2f}"
    return best, "worth most in the formation window"


def _out_of_block(by_block: FloatArray) -> float:
    """P&L of the best candidate of the other blocks in each block."""
    total = by_block.sum(axis=0)
    return float(sum(by_block[k, int(np.argmax(total - by_block[k]))] for k in range(len(by_block))))
