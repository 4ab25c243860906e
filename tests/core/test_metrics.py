"""Performance figures: hand-computed cases, published values, and what selection does to noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mntrading.core import metrics
from mntrading.core.errors import BarDataError, ParameterError

RETURNS = np.array([0.01, -0.02, 0.03, 0.0, -0.01, 0.02])
EQUITY = np.array([100.0, 110.0, 99.0, 104.5, 121.0, 115.0, 118.0, 121.0])


def times(*stamps: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps, tz="UTC")


# equity


def test_drawdown_is_the_fraction_below_the_peak_so_far():
    expected = [0.0, 0.0, 0.1, 0.05, 0.0, 6 / 121, 3 / 121, 0.0]
    found = metrics.drawdown(pd.Series(EQUITY, index=list("abcdefgh")))
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert list(found.index) == list("abcdefgh")
    assert metrics.max_drawdown(EQUITY) == pytest.approx(0.1)


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=50), st.integers(1, 50))
def test_drawdown_does_not_know_the_future(equity, n):
    np.testing.assert_array_equal(metrics.drawdown(equity[:n]), metrics.drawdown(equity)[:n])


def test_drawdown_lasts_until_the_peak_is_reached_again_or_the_data_end():
    assert metrics.drawdown_duration(EQUITY) == 2
    assert metrics.drawdown_duration([100, 90, 95, 99, 98]) == 4
    assert metrics.drawdown_duration([1, 2, 3]) == 0


def test_no_equity_has_no_drawdown():
    assert math.isnan(metrics.max_drawdown([]))
    assert len(metrics.drawdown([])) == 0
    assert metrics.drawdown_duration([]) == 0
    assert metrics.max_drawdown([100.0]) == 0.0


def test_equity_that_starts_at_nothing_is_refused():
    with pytest.raises(ParameterError, match="positive equity"):
        metrics.max_drawdown([0.0, 1.0])


def test_daily_returns_take_the_last_equity_of_each_utc_day():
    stamps = times("2025-01-01 10:00", "2025-01-01 23:59", "2025-01-02 00:00", "2025-01-02 12:00", "2025-01-04 01:00")
    found = metrics.daily_returns(pd.Series([100.0, 102.0, 90.0, 104.04, 93.636], index=stamps))
    np.testing.assert_allclose(found, [0.02, 0.02, -0.1], rtol=1e-12)
    assert list(found.index) == list(times("2025-01-01", "2025-01-02", "2025-01-04"))


def test_daily_returns_compound_to_the_whole():
    index = pd.date_range("2025-01-01 05:00", periods=500, freq="h", tz="UTC")
    equity = pd.Series(100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 500).cumsum()), index=index)
    whole = equity.iloc[-1] / equity.iloc[0]
    assert np.prod(1 + metrics.daily_returns(equity)) == pytest.approx(whole, rel=1e-12)


def test_daily_returns_after_ruin_are_nothing():
    index = pd.date_range("2025-01-01", periods=5, freq="D", tz="UTC")
    found = metrics.daily_returns(pd.Series([100.0, 50.0, -10.0, 20.0, 30.0], index=index))
    np.testing.assert_allclose(found, [0.0, -0.5, -1.0, 0.0, 0.0])


def test_daily_returns_of_nothing_are_nothing():
    assert metrics.daily_returns(pd.Series([], index=times(), dtype=float)).empty


def test_daily_returns_refuse_local_unsorted_or_missing_values():
    with pytest.raises(BarDataError, match="UTC"):
        metrics.daily_returns(pd.Series([1.0], index=pd.DatetimeIndex(["2025-01-01"])))
    with pytest.raises(BarDataError, match="does not increase"):
        metrics.daily_returns(pd.Series([1.0, 1.0], index=times("2025-01-02", "2025-01-01")))
    with pytest.raises(BarDataError, match=r"2025-01-02.*nan"):
        metrics.daily_returns(pd.Series([1.0, np.nan], index=times("2025-01-01", "2025-01-02")))


# returns


def test_ratios_of_a_hand_computed_series():
    mean = 0.03 / 6
    deviation = math.sqrt(sum((r - mean) ** 2 for r in RETURNS) / 5)
    assert metrics.sharpe(RETURNS) == pytest.approx(mean / deviation * math.sqrt(365), rel=1e-12)
    assert metrics.sharpe(RETURNS, periods_per_year=1) == pytest.approx(mean / deviation, rel=1e-12)
    assert metrics.annual_volatility(RETURNS) == pytest.approx(deviation * math.sqrt(365), rel=1e-12)
    downside = math.sqrt((0.02**2 + 0.01**2) / 6)
    assert metrics.sortino(RETURNS) == pytest.approx(mean / downside * math.sqrt(365), rel=1e-12)


def test_annual_return_compounds_and_calmar_divides_by_the_drawdown():
    assert metrics.annual_return([0.1, 0.1], periods_per_year=2) == pytest.approx(0.21)
    assert metrics.annual_return([0.1, -0.5, 0.1], periods_per_year=3) == pytest.approx(1.1 * 0.5 * 1.1 - 1)
    assert metrics.calmar([0.1, -0.5, 0.1], periods_per_year=3) == pytest.approx((1.1 * 0.5 * 1.1 - 1) / 0.5)
    assert metrics.calmar([-0.2, 0.1], periods_per_year=2) == pytest.approx(-0.12 / 0.2)
    assert metrics.annual_return([0.1, -1.0, 5.0]) == -1.0
    assert metrics.annual_return([5.0] * 3, periods_per_year=5000) == math.inf


@pytest.mark.parametrize(
    "figure",
    [metrics.sharpe, metrics.sortino, metrics.calmar, metrics.annual_return, metrics.annual_volatility],
)
def test_no_returns_give_no_figure_and_nan_is_refused(figure):
    assert math.isnan(figure([]))
    with pytest.raises(BarDataError, match="value at 1 is nan"):
        figure([0.1, np.nan, 0.2])


def test_returns_without_risk_have_no_ratio():
    assert math.isnan(metrics.sharpe([0.01]))
    assert math.isnan(metrics.sharpe(np.zeros(10)))
    assert math.isnan(metrics.sharpe(np.full(1000, 0.1)))
    assert math.isnan(metrics.sortino([0.01, 0.02]))
    assert math.isnan(metrics.calmar([0.01, 0.02]))
    assert metrics.annual_volatility(np.full(7, 0.1)) == 0.0


def test_monthly_table_compounds_within_months_and_years():
    index = times("2024-11-30", "2024-12-01", "2024-12-31", "2025-02-01")
    table = metrics.monthly_table(pd.Series([0.1, 0.1, -0.5, 0.02], index=index))
    assert list(table.index) == [2024, 2025]
    assert list(table.columns) == [*metrics.MONTHS, "Year"]
    assert table.loc[2024, "Nov"] == pytest.approx(0.1)
    assert table.loc[2024, "Dec"] == pytest.approx(-0.45)
    assert table.loc[2024, "Year"] == pytest.approx(1.1 * 1.1 * 0.5 - 1)
    assert table.loc[2025, "Feb"] == table.loc[2025, "Year"] == pytest.approx(0.02)
    assert table.drop(columns="Year").notna().to_numpy().sum() == 3


def test_monthly_table_of_no_returns_has_no_rows():
    table = metrics.monthly_table(pd.Series([], index=times(), dtype=float))
    assert table.shape == (0, 13)


# interval


def test_interval_is_repeatable_holds_the_estimate_and_changes_with_the_seed():
    returns = np.random.default_rng(1).normal(0.001, 0.01, 400)
    first = metrics.sharpe_interval(returns, n_boot=300)
    assert first == metrics.sharpe_interval(returns, n_boot=300)
    assert first != metrics.sharpe_interval(returns, n_boot=300, seed=1)
    assert first[0] < metrics.sharpe(returns) < first[1]


def test_interval_has_the_width_theory_gives_independent_returns():
    returns = np.random.default_rng(2).normal(0.0, 0.01, 1000)
    low, high = metrics.sharpe_interval(returns, block_length=1, n_boot=1000, periods_per_year=1)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(1000), rel=0.1)


def test_interval_widens_with_the_level_and_with_dependence():
    noise = np.random.default_rng(3).normal(0.0, 0.01, 1000)
    persistent = np.convolve(noise, np.ones(10) / 10, mode="valid")
    narrow = metrics.sharpe_interval(noise, level=0.5, n_boot=300)
    wide = metrics.sharpe_interval(noise, level=0.95, n_boot=300)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    single = metrics.sharpe_interval(persistent, block_length=1, n_boot=300)
    blocks = metrics.sharpe_interval(persistent, n_boot=300)
    assert blocks[1] - blocks[0] > 1.5 * (single[1] - single[0])


@pytest.mark.parametrize("returns", [[], RETURNS, np.zeros(100), np.full(100, 0.01)])
def test_interval_of_too_little_is_unknown(returns):
    assert all(math.isnan(bound) for bound in metrics.sharpe_interval(returns))


def test_interval_refuses_options_out_of_range():
    for wrong in ({"level": 1.0}, {"block_length": 0.5}, {"n_boot": 0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            metrics.sharpe_interval(RETURNS, **wrong)


# selection and luck


def test_probabilistic_sharpe_ratio_of_the_published_example():
    assert metrics.probabilistic_sharpe_ratio(0.458, n_obs=24) == pytest.approx(0.982, abs=5e-4)
    skewed = metrics.probabilistic_sharpe_ratio(0.458, n_obs=24, skew=-2.448, kurtosis=10.164)
    assert skewed == pytest.approx(0.913, abs=5e-4)


def test_probabilistic_sharpe_ratio_at_the_benchmark_is_one_half():
    assert metrics.probabilistic_sharpe_ratio(0.1, n_obs=100, benchmark=0.1) == pytest.approx(0.5)


def test_probabilistic_sharpe_ratio_of_impossible_input_is_unknown():
    assert math.isnan(metrics.probabilistic_sharpe_ratio(0.1, n_obs=1))
    assert math.isnan(metrics.probabilistic_sharpe_ratio(math.nan, n_obs=100))
    assert math.isnan(metrics.probabilistic_sharpe_ratio(1.0, n_obs=100, skew=5.0))


def test_deflated_sharpe_ratio_of_the_published_example():
    daily = {"n_obs": 1250, "trials_variance": 0.5 / 250, "skew": -3.0, "kurtosis": 10.0}
    assert metrics.expected_max_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    hundred = metrics.deflated_sharpe_ratio(2.5 / math.sqrt(250), n_trials=100, **daily)
    assert hundred == pytest.approx(0.9004, abs=5e-5)
    fewer = metrics.deflated_sharpe_ratio(2.5 / math.sqrt(250), n_trials=46, **daily)
    assert fewer == pytest.approx(0.9505, abs=5e-5)


def test_one_trial_is_no_selection():
    assert metrics.expected_max_sharpe(1, 0.3) == 0.0
    once = metrics.deflated_sharpe_ratio(0.1, n_obs=300, n_trials=1, trials_variance=0.3)
    assert once == metrics.probabilistic_sharpe_ratio(0.1, n_obs=300)


def test_expected_maximum_is_that_of_simulated_noise():
    best = np.random.default_rng(4).normal(0, 0.2, (4000, 50)).max(axis=1).mean()
    assert metrics.expected_max_sharpe(50, 0.04) == pytest.approx(best, rel=0.02)


def test_trials_out_of_range_are_refused():
    with pytest.raises(ParameterError, match="n_trials is 0"):
        metrics.expected_max_sharpe(0, 0.1)
    with pytest.raises(ParameterError, match="trials_variance is -1"):
        metrics.expected_max_sharpe(5, -1)


@pytest.mark.parametrize(("periods", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_minimum_track_record_of_the_published_example(periods, years):
    length = metrics.minimum_track_record_length(2 / math.sqrt(periods), benchmark=1 / math.sqrt(periods))
    assert length / periods == pytest.approx(years, abs=0.005)


def test_minimum_track_record_is_where_the_probability_reaches_the_level():
    shape = {"skew": -1.0, "kurtosis": 6.0, "benchmark": 0.02}
    length = metrics.minimum_track_record_length(0.12, level=0.9, **shape)
    below = metrics.probabilistic_sharpe_ratio(0.12, n_obs=math.floor(length), **shape)
    above = metrics.probabilistic_sharpe_ratio(0.12, n_obs=math.ceil(length), **shape)
    assert below < 0.9 <= above
    assert metrics.minimum_track_record_length(0.1, benchmark=0.1) == math.inf
    assert math.isnan(metrics.minimum_track_record_length(math.nan))
    with pytest.raises(ParameterError, match="level"):
        metrics.minimum_track_record_length(0.1, level=0.5)


def test_overfitting_is_as_likely_as_not_on_noise():
    found = [
        metrics.probability_of_backtest_overfitting(np.random.default_rng(seed).normal(size=(320, 20)), n_splits=10)
        for seed in range(40)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


def test_overfitting_is_unlikely_where_one_candidate_has_skill():
    returns = np.random.default_rng(5).normal(size=(640, 30))
    returns[:, 3] += 0.3
    assert metrics.probability_of_backtest_overfitting(returns) < 0.01


def test_overfitting_is_certain_where_the_winner_of_one_half_loses_the_other():
    trend = np.tile([0.01, 0.012], 20)
    returns = np.column_stack((np.concatenate((trend, -trend)), np.concatenate((-trend, trend)) * 0.99))
    assert metrics.probability_of_backtest_overfitting(returns, n_splits=2) == 1.0


def test_overfitting_equals_the_definition_by_ranks():
    from itertools import combinations

    from scipy.stats import rankdata

    returns = np.random.default_rng(6).normal(0.0, 0.01, (67, 7))
    blocks = np.array_split(returns[67 - 66 :], 6)
    below = []
    for part in combinations(range(6), 3):
        inside = np.concatenate([blocks[k] for k in part])
        outside = np.concatenate([blocks[k] for k in range(6) if k not in part])
        best = (inside.mean(axis=0) / inside.std(axis=0)).argmax()
        rank = rankdata(outside.mean(axis=0) / outside.std(axis=0))[best]
        below.append(1.0 if rank < 4 else 0.5 if rank == 4 else 0.0)
    found = metrics.probability_of_backtest_overfitting(returns, n_splits=6)
    assert found == pytest.approx(np.mean(below), abs=1e-12)


def test_overfitting_of_candidates_that_are_the_same_is_one_half():
    same = np.repeat(np.random.default_rng(7).normal(size=(64, 1)), 4, axis=1)
    assert metrics.probability_of_backtest_overfitting(same, n_splits=4) == 0.5
    assert metrics.probability_of_backtest_overfitting(np.zeros((64, 4)), n_splits=4) == 0.5


def test_overfitting_of_too_little_is_unknown_and_wrong_input_is_refused():
    assert math.isnan(metrics.probability_of_backtest_overfitting(np.zeros((100, 1))))
    assert math.isnan(metrics.probability_of_backtest_overfitting(np.zeros((10, 5))))
    assert math.isnan(metrics.probability_of_backtest_overfitting(np.zeros((0, 5))))
    with pytest.raises(ParameterError, match="even"):
        metrics.probability_of_backtest_overfitting(np.zeros((100, 5)), n_splits=5)
    with pytest.raises(ParameterError, match="time × candidate"):
        metrics.probability_of_backtest_overfitting(np.zeros(100))
    with pytest.raises(BarDataError, match="row 2, candidate 1"):
        metrics.probability_of_backtest_overfitting([[0.0, 0.0], [0.0, 0.0], [0.0, np.nan]])
