"""Two-leg backtest of one pair: units frozen at entry, next-bar fills, cash and positions kept.

Profit and loss comes from held units times leg prices, never from differences of a spread whose hedge ratio
drifts. At every bar ``cash + units_a * price_a + units_b * price_b = equity``, and the equity is one unit of
notional at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.compiled import compiled
from mntrading.core.strategy import REASONS, asks_model, decide, entry_threshold, max_holding_bars
from mntrading.core.types import BoolArray, FloatArray, IntArray
from mntrading.params import BacktestParams

TRADE_COLUMNS = (
    "entry_decision", "entry_fill", "exit_decision", "exit_fill", "side", "entry_z", "exit_z", "probability",
    "threshold", "hedge_ratio", "units_a", "units_b", "entry_price_a", "entry_price_b", "exit_price_a", "exit_price_b",
    "gross_pnl", "costs", "net_pnl", "bars_held", "reason", "across_gap",
)  # fmt: skip


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
    costs
        ``fees``, ``slippage``, ``borrow`` and traded ``turnover`` of each bar.
    metrics
        Statistics of the daily returns and of the trades.
    """

    equity: pd.Series
    positions: pd.DataFrame
    trades: pd.DataFrame
    costs: pd.DataFrame
    metrics: dict[str, float]


@compiled
def _simulate(
    fill_a: FloatArray, fill_b: FloatArray, close_a: FloatArray, close_b: FloatArray,
    z: FloatArray, hedge: FloatArray, probability: FloatArray, barred: BoolArray, needs_probability: bool,
    entry_z: float, exit_z: float, stop_z: float, threshold: float, min_hedge: float, max_hedge: float,
    max_holding: int, cooldown_bars: int, fee_rate: float, slippage_rate: float, borrow_rate: float,
) -> tuple[FloatArray, FloatArray, IntArray]:  # fmt: skip
    """Bars in, per-bar books, trades and trade rows out.

    Book columns: equity, cash, units a, units b, side, fees, slippage, borrow, turnover.
    Trade columns: gross P&L, costs, units a, units b, four fill prices, z and probability at entry, z at exit,
    hedge ratio at entry.
    Trade rows: entry decision, entry fill, exit decision, exit fill, side, reason, bars held, across a gap.
    """
    n = z.shape[0]
    book = np.zeros((n, 9))
    value = np.zeros((n // 2 + 1, 12))
    where = np.zeros((n // 2 + 1, 8), dtype=np.int64)
    trades = 0
    cash = 1.0
    units_a = units_b = 0.0
    mark_a = mark_b = np.nan
    side = held = cooldown = 0
    filled_side = 0
    pending = 0  # an ENTER or EXIT decided and not yet filled
    next_a = next_b = 0.0
    trade_costs = 0.0
    entry_cash = 0.0
    for t in range(n):
        here = not (np.isnan(fill_a[t]) or np.isnan(fill_b[t]))
        fees = slippage = borrow = turnover = 0.0
        # borrow on what was short over the bar that has just passed
        if filled_side != 0:
            short = max(-units_a * mark_a, 0.0) + max(-units_b * mark_b, 0.0)
            borrow = short * borrow_rate
            cash -= borrow
            trade_costs += borrow
        if pending == 1:
            if here:
                units_a, units_b = next_a, next_b
                turnover = abs(units_a) * fill_a[t] + abs(units_b) * fill_b[t]
                fees, slippage = turnover * fee_rate, turnover * slippage_rate
                entry_cash = cash
                cash -= units_a * fill_a[t] + units_b * fill_b[t] + fees + slippage
                trade_costs = fees + slippage
                filled_side = side
                value[trades, 2], value[trades, 3] = units_a, units_b
                value[trades, 4], value[trades, 5] = fill_a[t], fill_b[t]
                where[trades, 1] = t
            else:  # the bar to fill on is missing: the entry is off
                side = held = 0
            pending = 0
        elif pending == 2 and (here or t == n - 1):
            # the window's last bar is missing: close at the last known prices, and say so
            price_a, price_b = (fill_a[t], fill_b[t]) if here else (mark_a, mark_b)
            turnover = abs(units_a) * price_a + abs(units_b) * price_b
            fees, slippage = turnover * fee_rate, turnover * slippage_rate
            cash += units_a * price_a + units_b * price_b - fees - slippage
            trade_costs += fees + slippage
            value[trades, 0] = cash - entry_cash + trade_costs
            value[trades, 1] = trade_costs
            value[trades, 6], value[trades, 7] = price_a, price_b
            where[trades, 3] = t
            if not here or t - where[trades, 2] > 1:
                where[trades, 7] = 1
            units_a = units_b = 0.0
            filled_side = 0
            trades += 1
            pending = 0
        if not np.isnan(close_a[t]):
            mark_a = close_a[t]
        if not np.isnan(close_b[t]):
            mark_b = close_b[t]
        if filled_side != 0 and not here:
            where[trades, 7] = 1
        equity = cash
        if filled_side != 0:
            equity += units_a * mark_a + units_b * mark_b
        book[t, 0], book[t, 1], book[t, 2], book[t, 3], book[t, 4] = (
            equity,
            cash,
            units_a,
            units_b,
            filled_side,
        )
        book[t, 5], book[t, 6], book[t, 7], book[t, 8] = fees, slippage, borrow, turnover
        # the decision at this bar's close, to be filled on the next bar
        if pending == 0 and t < n - 1:
            before = side
            closing = t >= n - 2
            priced = not (np.isnan(close_a[t]) or np.isnan(close_b[t]))
            side, held, cooldown, action, reason = decide(
                side, held, cooldown, z[t], hedge[t], probability[t], needs_probability, barred[t], priced, closing,
                entry_z, exit_z, stop_z, threshold, min_hedge, max_hedge, max_holding, cooldown_bars,
            )  # fmt: skip
            if action == 1:
                pending = 1
                gross_a = 1.0 / (1.0 + hedge[t])
                next_a = side * gross_a / close_a[t]
                next_b = -side * gross_a * hedge[t] / close_b[t]
                where[trades, 0], where[trades, 4], where[trades, 7] = t, side, 0
                value[trades, 8], value[trades, 9], value[trades, 11] = z[t], probability[t], hedge[t]
            elif action == 2:
                pending = 2
                where[trades, 2], where[trades, 5] = t, reason
                where[trades, 6] = t - where[trades, 0]
                value[trades, 10] = z[t]
                where[trades, 4] = before
        elif pending == 2:
            # the strategy is flat and its cool-down runs, whether or not the exit could be filled yet
            cooldown = max(cooldown - 1, 0)
    return book, value[:trades], where[:trades]


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
) -> PairResult:
    """Trade one pair over the rows of ``features``; flat before the first and after the last.

    Look-ahead: a decision on bar t uses columns of row t and is filled on bar t + 1 at its open (or close, by
    ``fill_at``). Units are set from closes of bar t with the notional split by the hedge ratio and frozen until
    the exit. A missing next bar cancels an entry and delays an exit to the first bar that exists; the trade then
    says ``across_gap``.

    Parameters
    ----------
    bars_a, bars_b
        Long bars of the dependent and the independent leg.
    features
        Rows of the window to trade (columns ``z`` and ``hedge_ratio``), regular grid.
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

    Returns
    -------
    PairResult
    """
    strategy = params.strategy
    needs_probability = asks_model(strategy, probability is not None)
    index = features.index
    legs = [_leg(bars, index, params.fill_at) for bars in (bars_a, bars_b)]
    chance = (
        np.full(len(index), np.nan) if probability is None else probability.reindex(index).to_numpy(dtype=np.float64)
    )
    novel = np.zeros(len(index), dtype=bool)
    if barred is not None:
        novel[:] = barred.reindex(index, fill_value=False).to_numpy(dtype=bool)
    needed = entry_threshold(strategy, threshold)
    bars_per_day = pd.Timedelta(1, unit="D") / _step(index)
    book, value, where = _simulate(
        legs[0][0], legs[1][0], legs[0][1], legs[1][1],
        features["z"].to_numpy(dtype=np.float64), features["hedge_ratio"].to_numpy(dtype=np.float64),
        chance, novel, needs_probability,
        strategy.entry_z, strategy.exit_z, strategy.stop_z, needed,
        strategy.min_hedge_ratio, strategy.max_hedge_ratio,
        max_holding_bars(strategy, half_life_bars), strategy.cooldown_bars,
        params.costs.fee_rate, params.costs.slippage_bps * 1e-4,
        params.costs.borrow_bps_per_day * 1e-4 / bars_per_day,
    )  # fmt: skip
    equity = pd.Series(book[:, 0], index=index, name="equity")
    positions = pd.DataFrame(book[:, [4, 2, 3, 1]], index=index, columns=["side", "units_a", "units_b", "cash"])
    costs = pd.DataFrame(book[:, 5:], index=index, columns=["fees", "slippage", "borrow", "turnover"])
    trades = _trades(value, where, index, needed if needs_probability else np.nan)
    return PairResult(equity, positions, trades, costs, summarise(equity, trades, costs, positions))


def _step(index: pd.Index) -> pd.Timedelta:
    return index[1] - index[0] if len(index) > 1 else pd.Timedelta(5, unit="min")


def _leg(bars: pd.DataFrame, index: pd.Index, fill_at: str) -> tuple[FloatArray, FloatArray]:
    prices = bars.set_index("timestamp")[[fill_at, "close"]] if fill_at != "close" else None
    if prices is None:
        close = bars.set_index("timestamp")["close"].reindex(index).to_numpy(dtype=np.float64)
        return close, close
    aligned = prices.reindex(index)
    return aligned[fill_at].to_numpy(dtype=np.float64), aligned["close"].to_numpy(dtype=np.float64)


def _trades(value: FloatArray, where: IntArray, index: pd.Index, threshold: float) -> pd.DataFrame:
    columns = {
        "entry_decision": index[where[:, 0]], "entry_fill": index[where[:, 1]],
        "exit_decision": index[where[:, 2]], "exit_fill": index[where[:, 3]],
        "side": where[:, 4], "entry_z": value[:, 8], "exit_z": value[:, 10], "probability": value[:, 9],
        "threshold": np.full(len(value), threshold), "hedge_ratio": value[:, 11],
        "units_a": value[:, 2], "units_b": value[:, 3],
        "entry_price_a": value[:, 4], "entry_price_b": value[:, 5],
        "exit_price_a": value[:, 6], "exit_price_b": value[:, 7],
        "gross_pnl": value[:, 0], "costs": value[:, 1], "net_pnl": value[:, 0] - value[:, 1],
        "bars_held": where[:, 6], "reason": np.array(REASONS, dtype=object)[where[:, 5]],
        "across_gap": where[:, 7].astype(bool),
    }  # fmt: skip
    return pd.DataFrame(columns, columns=list(TRADE_COLUMNS)).astype({"reason": "str"})


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
