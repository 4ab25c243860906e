"""Half-life, Hurst exponent and mean crossings on processes whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.mean_reversion import half_life, hurst, mean_crossings


def ar1(phi: float, n: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=n)
    values = np.empty(n)
    values[0] = noise[0] / math.sqrt(1 - phi**2) if abs(phi) < 1 else noise[0]
    for t in range(1, n):
        values[t] = phi * values[t - 1] + noise[t]
    return values


@pytest.mark.parametrize("phi", [0.5, 0.9, 0.99])
def test_half_life_of_a_noiseless_decay_is_exact(phi):
    decay = 3.0 + 2.0 * phi ** np.arange(200)
    assert half_life(decay) == pytest.approx(-math.log(2) / math.log(phi), rel=1e-9)


def test_half_life_of_a_long_ar1_is_recovered():
    assert half_life(ar1(0.97, 200_000)) == pytest.approx(-math.log(2) / math.log(0.97), rel=0.05)


def test_half_life_equals_the_least_squares_regression():
    spread = ar1(0.9, 1440, seed=3)
    design = np.column_stack((spread[:-1], np.ones(1439)))
    speed = np.linalg.lstsq(design, np.diff(spread), rcond=None)[0][0]
    assert half_life(spread) == pytest.approx(-math.log(2) / math.log1p(speed), rel=1e-10)


def test_half_life_of_a_diverging_or_constant_spread_is_infinite():
    assert half_life(1.05 ** np.arange(50)) == math.inf
    assert half_life(np.full(50, 0.1)) == math.inf
    assert half_life((-3.0) ** np.arange(20)) == math.inf


def test_half_life_of_a_spread_that_changes_side_every_bar_is_zero():
    assert half_life((-0.5) ** np.arange(20)) == 0.0


@given(shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
def test_no_figure_depends_on_level_or_unit(shift, scale):
    spread = ar1(0.9, 300, seed=5)
    moved = shift + scale * spread
    assert half_life(moved) == pytest.approx(half_life(spread), rel=1e-6)
    assert hurst(moved) == pytest.approx(hurst(spread), abs=1e-6)
    assert mean_crossings(moved) == mean_crossings(spread)


def test_hurst_of_random_walks_is_one_half():
    found = [hurst(np.random.default_rng(seed).normal(size=1440).cumsum()) for seed in range(60)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)
    assert np.std(found) < 0.08


def test_hurst_of_mean_reverting_spreads_is_below_one_half_in_every_window():
    assert max(hurst(ar1(0.95, 1440, seed)) for seed in range(40)) < 0.4


def test_hurst_of_a_short_window_is_half_the_slope_over_lags_two_to_a_quarter_of_it():
    spread = ar1(0.9, 40, seed=8)
    lags = np.arange(2, 11)
    mean_square = [np.mean((spread[lag:] - spread[:-lag]) ** 2) for lag in lags]
    slope = np.polyfit(np.log(lags), np.log(mean_square), 1)[0]
    assert hurst(spread) == pytest.approx(slope / 2, rel=1e-10)


def test_hurst_of_a_straight_line_is_one():
    assert hurst(np.arange(1000.0)) == pytest.approx(1.0, abs=1e-12)


def test_hurst_of_white_noise_is_about_zero():
    assert hurst(np.random.default_rng(1).normal(size=5000)) == pytest.approx(0.0, abs=0.02)


def test_hurst_of_a_constant_spread_is_unknown():
    assert math.isnan(hurst(np.full(100, 0.3)))


def test_crossings_are_counted_once_and_touching_is_none():
    assert mean_crossings([1, -1, 1, -1]) == 3
    assert mean_crossings([1, 0, 1, 0, -2]) == 1
    assert mean_crossings([1, 0, -1]) == 1
    assert mean_crossings([2.0] * 5) == 0
    assert mean_crossings([]) == 0


def test_crossings_of_white_noise_are_every_second_bar():
    assert mean_crossings(np.random.default_rng(2).normal(size=10_001)) == pytest.approx(5000, abs=150)


@pytest.mark.parametrize("figure", [half_life, hurst, mean_crossings])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_value_that_is_not_finite_is_refused_by_the_name_of_the_spread(figure, wrong):
    spread = pd.Series(ar1(0.9, 50), name="APT-USDT__FIL-USDT")
    spread.iloc[7] = wrong
    with pytest.raises(BarDataError, match=r"APT-USDT__FIL-USDT: value 7"):
        figure(spread)


def test_too_few_values_are_refused():
    with pytest.raises(ParameterError, match="at least 3"):
        half_life([1.0, 2.0])
    with pytest.raises(ParameterError, match="at least 20"):
        hurst(np.arange(19.0))
    with pytest.raises(ParameterError, match="one value per bar"):
        half_life(np.zeros((5, 2)))
