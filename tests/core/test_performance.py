"""One record's figures, by hand."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from made_bars import START

from mntrading.core import metrics
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.performance import Performance, Trials, performance
from mntrading.params import StatisticsParams

RULES = StatisticsParams(level=0.95, n_boot=200, seed=0, pbo_splits=4)
HOUR = pd.Timedelta(1, unit="h")
DAYS = pd.date_range(START, periods=6, freq="D")
RETURNS = pd.Series([0.01, -0.02, 0.03, 0.0, -0.01, 0.02], index=DAYS)
TRADES = pd.DataFrame(
    {
        "gross_pnl": [60.0, -10.0, 50.0, 20.0],
        "net_pnl": [50.0, -20.0, 40.0, -5.0],
        "entry_fill": [START + k * HOUR for k in (0, 5, 10, 20)],
        "exit_fill": [START + k * HOUR for k in (2, 9, 16, 24)],
    }
)
NO_TRADES = TRADES.iloc[:0]


def record(returns: pd.Series = RETURNS, trades: pd.DataFrame = TRADES, **changed: object) -> Performance:
    given: dict = {"costs": 55.0, "turnover": 4_000.0, "exposure": 0.3, "capital": 1_000.0} | changed
    return performance(returns, trades, RULES, **given)


def test_every_figure_of_a_small_record():
    found = record()
    growth = np.cumprod(1 + np.concatenate(([0.0], RETURNS)))
    assert found.n_days == 6
    assert found.total_return == pytest.approx(growth[-1] - 1, rel=1e-12)
    assert found.sharpe == metrics.sharpe(RETURNS)
    assert found.sortino == metrics.sortino(RETURNS)
    assert found.calmar == metrics.calmar(RETURNS)
    assert found.max_drawdown == pytest.approx(0.02)
    # below the peak of day 1 on day 2, below that of day 3 on days 5; day 4 is flat at the peak, day 6 above it
    assert found.drawdown_days == 1
    assert found.gross_pnl == pytest.approx(0.12)
    assert found.costs == pytest.approx(0.055)
    assert found.cost_share == pytest.approx(55 / 120)
    assert found.turnover == pytest.approx(4.0)
    assert found.exposure == 0.3
    assert found.n_trades == 4
    assert found.hit_rate == 0.5
    assert found.profit_factor == pytest.approx(90 / 25)
    assert found.mean_holding_hours == pytest.approx((2 + 4 + 6 + 4) / 4)


def test_luck_is_told_with_the_moments_of_the_returns():
    moments = metrics.sharpe_moments(RETURNS)
    shape = {"skew": moments.skew, "kurtosis": moments.kurtosis}
    found = record(trials=Trials(20, 0.01))
    assert found.probabilistic_sharpe == metrics.probabilistic_sharpe_ratio(moments.sharpe, n_obs=6, **shape)
    assert found.deflated_sharpe == metrics.deflated_sharpe_ratio(
        moments.sharpe, n_obs=6, n_trials=20, trials_variance=0.01, **shape
    )
    assert found.n_trials == 20
    assert found.min_track_record_days == metrics.minimum_track_record_length(moments.sharpe, level=0.95, **shape)
    assert found.deflated_sharpe < found.probabilistic_sharpe
    assert record().deflated_sharpe == record().probabilistic_sharpe


def test_costs_have_no_share_of_a_profit_that_there_was_not():
    lost = TRADES.assign(gross_pnl=[-1.0, -1.0, 0.0, 0.0])
    assert math.isnan(record(trades=lost).cost_share)
    assert record(trades=TRADES.assign(gross_pnl=[10.0, 0.0, 0.0, 0.0])).cost_share == pytest.approx(5.5)


def test_no_loss_has_no_profit_factor():
    assert math.isnan(record(trades=TRADES.iloc[[0, 2]]).profit_factor)


def test_a_record_without_days_or_trades_is_valid():
    nothing = record(RETURNS.iloc[:0], NO_TRADES, costs=0.0, turnover=0.0, exposure=0.0)
    assert (nothing.n_days, nothing.n_trades, nothing.drawdown_days) == (0, 0, 0)
    assert (nothing.gross_pnl, nothing.costs, nothing.turnover) == (0.0, 0.0, 0.0)
    undefined = {name for name, value in asdict(nothing).items() if math.isnan(value)}
    assert {"total_return", "sharpe", "max_drawdown", "hit_rate", "profit_factor", "cost_share"} <= undefined


def test_idle_days_have_no_ratio_and_lose_nothing():
    idle = record(RETURNS * 0.0, NO_TRADES, costs=0.0, turnover=0.0)
    assert (idle.total_return, idle.max_drawdown) == (0.0, 0.0)
    assert all(math.isnan(value) for value in (idle.sharpe, idle.probabilistic_sharpe, idle.min_track_record_days))


def test_a_loss_is_never_a_long_enough_record():
    assert record(-RETURNS).min_track_record_days == math.inf


def test_the_drawdown_is_that_of_the_bars_where_there_are_some():
    bars = pd.Series([1_000.0, 800.0, 1_030.0])
    assert record(equity=bars).max_drawdown == pytest.approx(0.2)


def test_what_is_no_record_is_refused():
    with pytest.raises(BarDataError, match="nan"):
        record(RETURNS.replace(0.03, np.nan))
    with pytest.raises(ParameterError, match="capital is 0"):
        record(capital=0.0)


def test_trials_count_all_and_vary_over_those_with_a_ratio():
    rng = np.random.default_rng(0)
    returns = [rng.normal(0.0, 0.01, 50) for _ in range(3)]
    ratios = [metrics.sharpe(each, periods_per_year=1) for each in returns]
    found = Trials.of([*returns, np.zeros(50)])
    assert found.n_trials == 4
    assert found.variance == pytest.approx(np.var(ratios, ddof=1), rel=1e-12)
    assert Trials.of([]) == Trials(1, 0.0)
    assert Trials.of(returns[:1]) == Trials(1, 0.0)
