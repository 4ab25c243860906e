"""The watch on the held spread: the statistic against statsmodels, its bits, its size, and what it says of a break."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import UNWATCHED, changed
from statsmodels.tsa.stattools import adfuller

from mntrading.core import break_monitor
from mntrading.core.mackinnon import mackinnon_p_value

ON = changed(UNWATCHED, max_p_value=0.5)


def legs(n: int, *, seed: int, pull: float) -> tuple[np.ndarray, np.ndarray]:
    """Log prices of two legs whose spread ``y - 0.8 x`` is pulled back by ``pull`` a bar; 0 is a walk."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(0, 0.002, n))
    spread = np.zeros(n)
    for t in range(1, n):
        spread[t] = (1 - pull) * spread[t - 1] + rng.normal(0, 0.001)
    return 0.8 * x + spread, x


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    pull=st.sampled_from([0.0, 0.02, 0.3]),
    lags=st.integers(0, 4),
    stride=st.sampled_from([1, 3, 12]),
    beta=st.floats(0.2, 2.0),
)
def test_the_statistic_is_that_of_statsmodels(seed, pull, lags, stride, beta):
    y, x = legs(900, seed=seed, pull=pull)
    found = break_monitor.statistic(y, x, beta, 880, 800, stride, lags)
    sampled = (y - beta * x)[880 - (800 // stride - 1) * stride : 881 : stride]
    expected = adfuller(sampled, maxlag=lags, autolag=None, regression="c", result_object=False)[0]
    assert found == pytest.approx(expected, abs=1e-8)


def test_rows_that_touch_a_missing_bar_are_left_out():
    y, x = legs(400, seed=1, pull=0.05)
    y[[100, 250, 251]] = np.nan
    found = break_monitor.statistic(y, x, 0.8, 399, 400, 1, 1)
    spread = y - 0.8 * x
    change = np.diff(spread)
    table = np.column_stack([change[1:], np.ones(398), spread[1:-1], change[:-1]])
    table = table[np.isfinite(table).all(axis=1)]
    coefficients, rest, *_ = np.linalg.lstsq(table[:, 1:], table[:, 0], rcond=None)
    variance = rest[0] / (len(table) - 3) * np.linalg.inv(table[:, 1:].T @ table[:, 1:])[1, 1]
    assert found == pytest.approx(coefficients[1] / math.sqrt(variance), abs=1e-9)


def test_nothing_is_said_where_too_little_is_known_or_nothing_moves():
    y, x = legs(400, seed=1, pull=0.05)
    assert math.isnan(break_monitor.statistic(y, x, 0.8, 120, 400, 1, 1))  # begins before the first bar
    holes = y.copy()
    holes[::2] = np.nan
    assert math.isnan(break_monitor.statistic(holes, x, 0.8, 399, 400, 1, 1))
    still = np.full(400, 1.25)
    assert math.isnan(break_monitor.statistic(still, still, 1.0, 399, 400, 1, 1))
    watch = break_monitor.monitor(still, still, ON, offset=399)
    assert not break_monitor.broken(watch, 1.0, 0)


def test_the_bits_do_not_depend_on_where_the_history_starts():
    y, x = legs(700, seed=3, pull=0.02)
    whole = break_monitor.statistic(y, x, 0.7, 650, 300, 3, 2)
    for start in (0, 17, 200, 350):
        assert break_monitor.statistic(y[start:], x[start:], 0.7, 650 - start, 300, 3, 2) == whole


def test_later_bars_change_nothing():
    y, x = legs(700, seed=3, pull=0.02)
    before = break_monitor.statistic(y, x, 0.7, 500, 300, 3, 2)
    y[501:] += 5.0
    assert break_monitor.statistic(y, x, 0.7, 500, 300, 3, 2) == before


@pytest.mark.parametrize("p", [0.01, 0.05, 0.5, 0.9])
def test_the_level_is_mackinnons(p):
    assert float(mackinnon_p_value(break_monitor.highest_statistic(p))) == pytest.approx(p, abs=1e-8)


def test_a_relation_is_kept_and_its_end_is_seen():
    watched = changed(UNWATCHED, max_p_value=0.5, window_bars=1200, stride_bars=6, lags=1)
    said = {"kept": 0, "ended": 0}
    for seed in range(60):
        for name, pull in (("kept", 0.02), ("ended", 0.0)):
            y, x = legs(1400, seed=seed, pull=pull)
            said[name] += break_monitor.broken(break_monitor.monitor(y, x, watched, offset=1399), 0.8, 0)
    assert said["kept"] == 0
    assert said["ended"] >= 24  # about 1 - 0.5 of walks, less what the frozen slope takes


def test_without_a_level_there_is_no_watch():
    assert break_monitor.monitor(np.zeros(5), np.zeros(5), UNWATCHED, offset=0).every == 0
    assert break_monitor.history_bars(UNWATCHED) == 0
    assert break_monitor.history_bars(ON) == ON.window_bars


def test_a_window_that_holds_no_regression_is_refused():
    with pytest.raises(ValueError, match="too few for"):
        changed(UNWATCHED, window_bars=100, stride_bars=12)
