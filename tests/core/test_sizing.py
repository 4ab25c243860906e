"""Deviation, volatility and size of a pair: by hand, and against simulated Ornstein–Uhlenbeck spreads."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mntrading.core import sizing
from mntrading.core.book import Signal
from mntrading.core.types import Pair
from mntrading.params import SizingParams

RULE = SizingParams(rule="inverse_risk", reference_std=0.005, reference_half_life_hours=12.0, low=0.5, high=1.5)


def signal(std: float = 0.01, half_life: float = 12.0, window: float = math.nan, hedge: float = 1.0) -> Signal:
    return Signal(
        Pair("A", "B"), "enter", 1, hedge, 0.5, spread_std=std, half_life_hours=half_life, z_window_hours=window
    )  # fmt: skip


def simulated(std: float, half_life: float, n_paths: int, hours: int) -> np.ndarray:
    """Stationary AR(1) paths at one point an hour, with the autocorrelation 2^(-t / half-life)."""
    rng, phi = np.random.default_rng(1), 0.5 ** (1.0 / half_life)
    paths = np.empty((n_paths, hours))
    paths[:, 0] = rng.normal(0, std, n_paths)
    for t in range(1, hours):
        paths[:, t] = phi * paths[:, t - 1] + rng.normal(0, std * math.sqrt(1 - phi**2), n_paths)
    return paths


@pytest.mark.parametrize("half_life", [4.0, 24.0, 96.0])
def test_daily_volatility_is_that_of_a_simulated_spread(half_life):
    paths = simulated(0.02, half_life, 200_000, 25)
    expected = (paths[:, 24] - paths[:, 0]).std() / 2.0
    assert sizing.daily_volatility(signal(0.02, half_life)) == pytest.approx(expected, rel=0.01)
    # a window's own deviation is told with the length of the window
    measured = math.sqrt(paths.var(axis=1, ddof=1).mean())
    told = sizing.daily_volatility(signal(measured, half_life, 25.0))
    assert told == pytest.approx(expected, rel=0.02)


def test_a_window_much_longer_than_the_half_life_shows_all_of_the_deviation():
    assert sizing.stationary_std(0.01, 1.0, 100_000.0) == pytest.approx(0.01, rel=1e-4)
    # one correlation time: 1 - 2 · e^-1 of the variance
    assert sizing.stationary_std(0.01, 10 * math.log(2), 10.0) == pytest.approx(0.01 / math.sqrt(1 - 2 / math.e))


def test_the_short_window_and_the_walk_are_limits_of_the_formulas():
    around = [sizing.stationary_std(0.01, 10 * math.log(2) / times, 10.0) for times in (0.9999e-3, 1.0001e-3)]
    assert around[0] == pytest.approx(around[1], rel=1e-3)
    slow = sizing.daily_volatility(signal(0.01, 1e7, 25.0))
    walk = sizing.daily_volatility(signal(0.01, math.nan, 25.0))
    assert slow == pytest.approx(walk, rel=1e-4)
    assert walk == pytest.approx(0.01 * math.sqrt(144 / 25) / 2)


@given(std=st.floats(1e-4, 0.1), half_life=st.floats(0.5, 5000), window=st.none() | st.floats(1, 2000))
def test_an_unknown_half_life_is_taken_for_the_worst(std, half_life, window):
    window = math.nan if window is None else window
    unknown = sizing.daily_volatility(signal(std, math.nan, window))
    assert sizing.daily_volatility(signal(std, half_life, window)) <= unknown * (1 + 1e-6)


@given(std=st.floats(1e-5, 1.0), half_life=st.floats(0.1, 1e4), factor=st.floats(1.0, 10.0))
def test_a_louder_or_slower_spread_never_gets_more(std, half_life, factor):
    size = sizing.size_multiple(signal(std, half_life), RULE)
    assert 0.5 <= size <= 1.5
    assert sizing.size_multiple(signal(std * factor, half_life), RULE) <= size
    assert sizing.size_multiple(signal(std, half_life * factor), RULE) <= size


@pytest.mark.parametrize("unknown", [math.nan, math.inf, 0.0, -1.0])
def test_what_is_not_known_gets_the_smallest_size(unknown):
    assert sizing.size_multiple(signal(unknown), RULE) == 0.5
    assert sizing.size_multiple(signal(half_life=unknown), RULE) == 0.5
    assert math.isnan(sizing.daily_volatility(signal(unknown)))
    equal = RULE.model_copy(update={"rule": "equal_notional"})
    assert sizing.size_multiple(signal(unknown, unknown), equal) == 1.0


def test_the_deviation_is_per_unit_of_both_legs():
    assert sizing.size_multiple(signal(0.01, hedge=1.0), RULE) == pytest.approx(1.0)
    assert sizing.size_multiple(signal(0.02, hedge=3.0), RULE) == pytest.approx(1.0)


@given(
    held=st.lists(st.floats(1e-5, 0.02), max_size=6), entry=st.floats(1e-6, 0.05), correlation=st.floats(0, 1),
    target=st.floats(0.01, 1.0),
)  # fmt: skip
def test_the_share_that_fits_reaches_the_target_and_no_more(held, entry, correlation, target):
    share = sizing.share_within_volatility(held, entry, correlation, target)
    reached = sizing.book_volatility([*held, share * entry], correlation)
    assert 0.0 <= share <= 1.0
    if share == 0.0:
        assert sizing.book_volatility(held, correlation) >= target * (1 - 1e-9)
    else:
        assert reached <= target * (1 + 1e-9)
        assert share == 1.0 or reached == pytest.approx(target, rel=1e-9)


def test_trades_get_what_their_entries_knew_in_logs_and_at_level_prices():
    index = pd.date_range("2025-01-01", periods=6, freq="5min", tz="UTC", name="timestamp", unit="ms")
    bars = pd.DataFrame({"timestamp": index, "close": [10.0, 20.0, 40.0, 50.0, 80.0, 100.0]})
    frame = pd.DataFrame({"spread_std": np.arange(1.0, 7.0), "beta": 2.0, "hedge_ratio": 2.0}, index=index)
    trades = pd.DataFrame({"entry_decision": index[[1, 3]]})
    known = {"half_life_hours": 8.0, "z_window_hours": 25.0}
    logs = sizing.with_risk(trades, frame, bars, **known)
    assert logs["spread_std"].tolist() == [2.0, 4.0]
    assert (logs["half_life_hours"] == 8.0).all()
    assert (logs["z_window_hours"] == 25.0).all()
    level = sizing.with_risk(trades, frame.assign(hedge_ratio=0.5), bars, **known)
    assert level["spread_std"].tolist() == [2.0 / 20.0, 4.0 / 50.0]
    assert level["spread_std"].tolist()[0] == sizing.relative_std(2.0, 20.0, logs=False)
    unknown = sizing.with_risk(trades.iloc[:0], frame, bars, half_life_hours=None, z_window_hours=25.0)
    assert list(unknown.columns) == ["entry_decision", *sizing.RISK_COLUMNS]
    without = sizing.with_risk(trades, frame, bars, half_life_hours=None, z_window_hours=25.0)
    assert without["half_life_hours"].isna().all()
