"""Costs by what they were paid for, against the engine that charged them and against sums done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mntrading.core.account import simulate
from mntrading.core.backtest import run_pair
from mntrading.core.portfolio import Limits, Signal
from mntrading.core.types import Pair
from mntrading.reporting.attribution import (
    CHARGES,
    book_of,
    cumulated,
    gross_of,
    monthly_sums,
    rolling_sharpe,
    window_returns,
)

PAIR = Pair("AAA/USDT", "BBB/USDT")


def grid(n, start="2024-01-01"):
    return pd.date_range(start, periods=n, freq="5min", tz="UTC", unit="ms", name="timestamp")


@pytest.fixture
def backtested(params):
    """The engine's own result on a spread that swings."""
    index = grid(6000)
    rng = np.random.default_rng(3)
    b = 50 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(index))))
    spread = 0.02 * np.sin(np.arange(len(index)) / 60) + rng.normal(0, 5e-4, len(index))
    legs = [b * 2 * np.exp(spread), b]
    bars = [pd.DataFrame({"timestamp": index, "open": leg, "close": leg, "volume": 1e6}) for leg in legs]
    features = pd.DataFrame({"z": spread / 0.007, "hedge_ratio": 1.0}, index=index)
    strategy = params.backtest.strategy.model_copy(update={"break_monitor": quiet(params)})
    return run_pair(*bars, features, params.backtest.model_copy(update={"strategy": strategy}))


def quiet(params):
    """The monitor of breaks, off."""
    return params.backtest.strategy.break_monitor.model_copy(update={"max_p_value": None})


def test_net_with_everything_paid_added_back_is_what_the_trades_earned_before_costs(backtested):
    assert len(backtested.trades) > 5
    curve = backtested.costs.assign(fold="a", equity=backtested.equity)
    gross = gross_of(curve)
    assert gross.iloc[-1] == pytest.approx(backtested.trades["gross_pnl"].sum(), abs=1e-12)
    assert curve[list(CHARGES)].sum().sum() == pytest.approx(backtested.trades["costs"].sum(), abs=1e-12)
    at = pd.DatetimeIndex(backtested.trades["exit_fill"])
    earned = backtested.trades["gross_pnl"].cumsum().to_numpy()
    assert gross.loc[at].to_numpy() == pytest.approx(earned, abs=1e-12)


def test_windows_are_summed_each_from_one_notional():
    curve = pd.DataFrame({"fold": ["a", "a", "b", "b"], "equity": [1.0, 1.1, 1.0, 0.95]}, index=grid(4))
    assert cumulated(curve).to_numpy() == pytest.approx([0.0, 0.1, 0.1, 0.05])
    assert cumulated(curve.iloc[:0]).empty
    assert window_returns(curve.iloc[:0]).empty


def test_months_sum_to_the_year_and_the_year_to_the_end():
    index = pd.date_range("2023-11-15", "2024-02-10", freq="6h", tz="UTC", unit="ms")
    total = pd.Series(np.random.default_rng(0).normal(size=len(index)).cumsum(), index=index)
    table = monthly_sums(total)
    assert table.loc[2023, "Oct"] != table.loc[2023, "Oct"]
    assert table.loc[2024, ["Jan", "Feb"]].sum() == pytest.approx(table.loc[2024, "Year"])
    assert table["Year"].sum() == pytest.approx(total.iloc[-1])


def test_rolling_sharpe_uses_the_days_before_and_none_after():
    returns = pd.Series(np.random.default_rng(1).normal(0.001, 0.01, 60))
    whole, cut = rolling_sharpe(returns, 30), rolling_sharpe(returns.iloc[:40], 30)
    assert len(whole) == 31
    pd.testing.assert_series_equal(whole.iloc[:11], cut)
    assert rolling_sharpe(returns.iloc[:29], 30).empty


def test_a_book_of_fills_is_what_the_portfolio_held(params):
    index = grid(400)
    rng = np.random.default_rng(5)
    close = pd.DataFrame(
        {symbol: 10 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(index)))) for symbol in PAIR.symbols}, index=index
    )
    signals = {
        row: [Signal(PAIR, action, side, 1.0, 0.9, spread_std=0.01, half_life_hours=12.0)]
        for row, action, side in ((20, "enter", 1), (90, "exit", 0), (200, "enter", -1), (300, "exit", 0))
    }
    limits = {symbol: Limits() for symbol in PAIR.symbols}
    costs = params.backtest.costs.model_copy(update={"impact_bps": 0.0})
    result = simulate(signals, close, close, limits, params.portfolio, costs)
    assert len(result.fills) == 8
    book = book_of(result.fills, close)
    for name in ("gross", "net"):
        assert book[name].to_numpy() == pytest.approx(result.exposure[name].to_numpy(), abs=1e-6)
    assert book["gross"].iloc[-1] == 0.0
