"""Two-leg backtest of one pair: units frozen at entry, next-bar fills, cash and positions kept.

Profit and loss comes from held units times leg prices, never from differences of a spread whose hedge ratio
drifts. At every bar ``cash + units_a * price_a + units_b * price_b = equity``, and the equity is one unit of
notional at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core import engine, metrics
from mntrading.core.engine import BOOK_COLUMNS, Prices
from mntrading.core.engine_inputs import Book, charges_of, lots_of, monitor_of, prices_of, told_of, window_of
from mntrading.core.strategy import OFF, REASONS, Rule, asks_model, rule_of
from mntrading.core.types import FloatArray, IntArray
from mntrading.params import BacktestParams

TRADE_COLUMNS = (
    "entry_decision", "entry_fill", "exit_decision", "exit_fill", "side", "entry_z", "exit_z", "probability",
    "threshold", "hedge_ratio", "units_a", "units_b", "entry_price_a", "entry_price_b", "exit_price_a", "exit_price_b",
    "gross_pnl", "costs", "net_pnl", "bars_held", "reason", "across_gap",
)  # fmt: skip


COST_COLUMNS = ("fees", "slippage", "borrow", "turnover")
"""Of each bar; ``slippage`` with impact, ``borrow`` or the funding that stands in its place."""


@dataclass(frozen=True)
class PairResult:
    """What one pair did over one window; notional of one unit, so P&L reads as a fraction of it.

    Parameters
    ----------
    equity
        Cash plus marked positions at each bar's close, starting from 1.
    positions
        ``side``, ``units_a``, ``units_b`` and ``cash`` held at each bar's close.
    trades
        One row per closed trade, ``TRADE_COLUMNS``; decisions, fills and exits as bar open times.
    unfilled
        Entries that were decided and not filled, with the columns of ``trades``: ``entry_fill`` is the bar that was
        missing, and there is no exit. Until then such an entry has its place in a book of many pairs.
    costs
        ``COST_COLUMNS`` of each bar.
    metrics
        Statistics of the daily returns and of the trades.
    """

    equity: pd.Series
    positions: pd.DataFrame
    trades: pd.DataFrame
    unfilled: pd.DataFrame
    costs: pd.DataFrame
    metrics: dict[str, float]

    @property
    def entered(self) -> pd.DataFrame:
        """All entries that were decided, filled or not."""
        return pd.concat([self.trades, self.unfilled], ignore_index=True)


def run_pair(
    bars_a: pd.DataFrame,
    bars_b: pd.DataFrame,
    features: pd.DataFrame,
    params: BacktestParams,
    probability: pd.Series | None = None,
    *,
    threshold: float | None = None,
    barred: pd.Series | None = None,
    half_life_bars: float | None = None,
    book: Book | None = None,
    funding: tuple[pd.Series, pd.Series] | None = None,
) -> PairResult:
    """Trade one pair over the rows of ``features``; flat before the first and after the last.

    Look-ahead: a decision on bar t uses columns of row t and is filled on bar t + 1 at its open (or close, by
    ``fill_at``). Units are set from closes of bar t with the notional split by the hedge ratio and frozen until
    the exit. A missing next bar takes an entry off (it is then in ``unfilled``) and delays an exit to the first bar
    that exists; the trade then says ``across_gap``.

    Parameters
    ----------
    bars_a, bars_b
        Long bars of the dependent and the independent leg.
    features
        Rows of the window to trade (columns ``z`` and ``hedge_ratio``; for the break monitor ``beta`` too), regular
        grid.
    params
        Strategy, costs and fill rule.
    probability
        Model's probability by bar open, for entries. Where it is None there is no entry by ``signals_from: model``, and
        by ``auto`` the rule on z decides alone.
    threshold
        Probability the model itself asks for; None for the strategy's.
    barred
        Rows by bar open, or None for none, that allow no entry because the model never saw their like.
    half_life_bars
        For the time stop; None for none.
    book
        Notional, lots and smallest orders; None for fractions of any size.
    funding
        Rates by time that longs of each leg pay, where ``costs.carry`` is ``funding``.

    Returns
    -------
    PairResult

    Raises
    ------
    ParameterError
        For ``carry: funding`` without rates, and a break monitor without the column ``beta``.
    """
    strategy = params.strategy
    needs_probability = asks_model(strategy, probability is not None)
    sizes = book or Book()
    index = window_of(features)
    n = len(index)
    prices = prices_of(bars_a, bars_b, index, params, funding=funding)
    told = told_of(features, probability=probability, barred=barred)
    rule = rule_of(strategy, half_life_bars=half_life_bars, needs_probability=needs_probability, threshold=threshold)
    kept, value, where = np.zeros((len(BOOK_COLUMNS), n)), np.zeros((n, 12)), np.zeros((n, 8), dtype=np.int64)
    daily = np.empty(_n_days(prices))
    entries = engine.trade(
        prices, told, rule, charges_of(params.costs, sizes, index), lots_of(sizes),
        monitor_of(bars_a, bars_b, features, params.strategy.break_monitor), True, kept, value, where,
        engine.day_ends(prices.day, len(daily)), daily, np.zeros(0, dtype=np.uint8),
    )  # fmt: skip
    columns = dict(zip(BOOK_COLUMNS, kept, strict=True))
    equity = pd.Series(columns["equity"], index=index, name="equity")
    positions = pd.DataFrame({name: columns[name] for name in ("side", "units_a", "units_b", "cash")}, index=index)
    costs = pd.DataFrame({name: columns[name] for name in COST_COLUMNS}, index=index)
    asked = rule.probability_threshold if needs_probability else np.nan
    table = _entered(value[:entries], where[:entries], index, asked)
    filled = where[:entries, 5] != OFF
    trades = table.loc[filled].reset_index(drop=True)
    unfilled = table.loc[~filled].reset_index(drop=True)
    return PairResult(equity, positions, trades, unfilled, costs, summarise(equity, trades, costs, positions))


@dataclass(frozen=True)
class Sweep:
    """What many rules did over one window.

    Parameters
    ----------
    returns
        Daily returns on the notional (equity differences), one row a UTC day and one column a rule.
    n_trades
        Closed trades of each rule.
    """

    returns: pd.DataFrame
    n_trades: IntArray


def run_rules(
    bars_a: pd.DataFrame,
    bars_b: pd.DataFrame,
    features: pd.DataFrame,
    params: BacktestParams,
    rules: Sequence[Rule],
    *,
    probability: pd.Series | None = None,
    barred: pd.Series | None = None,
    book: Book | None = None,
    funding: tuple[pd.Series, pd.Series] | None = None,
) -> Sweep:
    """``run_pair`` of many rules on the same signals, of which only the days' returns and the trades are kept.

    A rule's equity at each day's end is that of ``run_pair``, bit for bit. A pass skips the bars on which its rule does
    nothing, so that a hundred rules cost little more than a few passes bar by bar.

    Look-ahead: that of ``run_pair``.

    Parameters
    ----------
    bars_a, bars_b, features, params, probability, barred, book, funding
        As for ``run_pair``; of the strategy only the break monitor is used.
    rules
        At least one.
    """
    index = window_of(features)
    sizes = book or Book()
    prices = prices_of(bars_a, bars_b, index, params, funding=funding)
    told = told_of(features, probability=probability, barred=barred)
    daily, trades = np.empty((len(rules), _n_days(prices))), np.zeros(len(rules), dtype=np.int64)
    engine.sweep(
        prices, told, np.array(rules, dtype=np.float64), charges_of(params.costs, sizes, index), lots_of(sizes),
        monitor_of(bars_a, bars_b, features, params.strategy.break_monitor), daily, trades,
    )  # fmt: skip
    days = index[engine.day_ends(prices.day, daily.shape[1])].floor("D")
    returns = np.diff(daily, axis=1, prepend=1.0).T
    return Sweep(pd.DataFrame(returns, index=days), trades)


def _n_days(prices: Prices) -> int:
    return int(prices.day[-1]) + 1 if len(prices.day) else 0


def _entered(value: FloatArray, where: IntArray, index: pd.Index, threshold: float) -> pd.DataFrame:
    moments = [index.take(rows, allow_fill=True, fill_value=np.nan) for rows in where[:, :4].T]  # -1 is none
    columns = {
        **dict(zip(TRADE_COLUMNS[:4], moments, strict=True)),
        "side": where[:, 4], "entry_z": value[:, 8], "exit_z": value[:, 10], "probability": value[:, 9],
        "threshold": np.full(len(value), threshold), "hedge_ratio": value[:, 11],
        "units_a": value[:, 2], "units_b": value[:, 3],
        "entry_price_a": value[:, 4], "entry_price_b": value[:, 5],
        "exit_price_a": value[:, 6], "exit_price_b": value[:, 7],
        "gross_pnl": value[:, 0], "costs": value[:, 1], "net_pnl": value[:, 0] - value[:, 1],
        "bars_held": where[:, 6], "reason": pd.Series(np.array(REASONS, dtype=object)[where[:, 5]], dtype="str"),
        "across_gap": where[:, 7].astype(bool),
    }  # fmt: skip
    return pd.DataFrame(columns, columns=list(TRADE_COLUMNS))


def summarise(
    equity: pd.Series, trades: pd.DataFrame, costs: pd.DataFrame, positions: pd.DataFrame
) -> dict[str, float]:
    """Statistics of one window; ratios that are not defined are NaN."""
    returns = metrics.daily_returns(equity)
    paid = costs[["fees", "slippage", "borrow"]].to_numpy().sum()
    gross = float(trades["gross_pnl"].sum())
    return {
        "net_pnl": float(trades["net_pnl"].sum()),
        "gross_pnl": gross,
        "costs": float(paid),
        "turnover": float(costs["turnover"].sum()),
        "sharpe": metrics.sharpe(returns),
        "max_drawdown": metrics.max_drawdown(equity),
        "n_trades": float(len(trades)),
        "hit_rate": float((trades["net_pnl"] > 0).mean()) if len(trades) else float("nan"),
        "mean_bars_held": float(trades["bars_held"].mean()) if len(trades) else float("nan"),
        "exposure": float((positions["side"] != 0).mean()) if len(positions) else 0.0,
    }
