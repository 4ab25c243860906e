"""Rolling hedge ratio and z-score against long double arithmetic, and the same bits from any slice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import same_bits

from mntrading.core.errors import ParameterError
from mntrading.core.spread import (
    PRIOR_VARIANCE,
    kalman_hedge,
    lagged,
    rolling_hedge,
    rolling_mean_std,
    rolling_moments,
    spread,
    zscore,
)


def prices(n: int, seed: int = 0, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    b = 10.0 + np.cumsum(rng.normal(0, 0.002, n))
    a = 1.5 + 0.7 * b + rng.normal(0, 0.01, n)
    for values in (a, b):
        values[rng.uniform(size=n) < missing] = np.nan
    return a, b


def exact_fit(a: np.ndarray, b: np.ndarray) -> tuple[np.longdouble, np.longdouble]:
    """Least squares of a on b in long double, over the rows both are known."""
    both = ~(np.isnan(a) | np.isnan(b))
    x, y = b[both].astype(np.longdouble), a[both].astype(np.longdouble)
    dx, dy = x - x.mean(), y - y.mean()
    beta = (dx @ dy) / (dx @ dx)
    return y.mean() - beta * x.mean(), beta


def exact_z(a: np.ndarray, b: np.ndarray, window: int, z_window: int, lag: int) -> np.ndarray:
    """z of the rolling spread in long double, each window fitted anew."""
    n = len(a)
    value = np.full(n, np.nan, dtype=np.longdouble)
    for t in range(window - 1 + lag, n):
        rows = slice(t - lag - window + 1, t - lag + 1)
        alpha, beta = exact_fit(a[rows], b[rows])
        value[t] = a[t] - (beta * b[t] + alpha)
    z = np.full(n, np.nan, dtype=np.longdouble)
    for t in range(window + z_window - 2 + 2 * lag, n):
        past = value[t - lag - z_window + 1 : t - lag + 1]
        past = past[~np.isnan(past)]
        z[t] = (value[t] - past.mean()) / past.std(ddof=1)
    return z


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("window", [2, 7, 100, 300])
def test_hedge_is_least_squares_on_the_window_that_ends_lag_bars_before(window, lag):
    a, b = prices(700, seed=window)
    alpha, beta = rolling_hedge(a, b, window=window, lag=lag)
    for t in range(window - 1 + lag, 700, 13):
        rows = slice(t - lag - window + 1, t - lag + 1)
        exact_alpha, exact_beta = exact_fit(a[rows], b[rows])
        assert beta[t] == pytest.approx(float(exact_beta), rel=1e-9)
        assert alpha[t] == pytest.approx(float(exact_alpha), rel=1e-9, abs=1e-9)
        slope, intercept = np.polyfit(b[rows], a[rows], 1)
        assert beta[t] == pytest.approx(slope, rel=1e-6)
        assert alpha[t] == pytest.approx(intercept, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("lag", [0, 1, 4])
def test_warm_up_is_window_less_one_plus_lag_rows_and_not_one_more(lag):
    a, b = prices(200)
    for window in (2, 50, 77):
        for values in rolling_hedge(a, b, window=window, lag=lag):
            assert np.isnan(values[: window - 1 + lag]).all()
            assert np.isfinite(values[window - 1 + lag :]).all()
        z = zscore(a, window=window, lag=lag)
        assert np.isnan(z[: window - 1 + lag]).all()
        assert np.isfinite(z[window - 1 + lag :]).all()


@pytest.mark.parametrize("first_bar", [0, 1_234_567])
def test_z_of_the_rolling_spread_is_that_of_long_double(first_bar):
    a, b = prices(900, seed=5)
    alpha, beta = rolling_hedge(a, b, window=200, lag=1, first_bar=first_bar)
    z = zscore(spread(a, b, alpha, beta), window=60, lag=1, first_bar=first_bar)
    exact = exact_z(a, b, 200, 60, 1)
    known = ~np.isnan(exact)
    assert known.sum() == 900 - 260
    assert np.abs(z[known] - exact[known]).max() <= 1e-11


def test_zscore_is_the_distance_from_the_mean_in_n_less_one_deviations():
    values = np.random.default_rng(2).normal(5, 2, 300)
    z = zscore(values, window=20)
    for t in range(19, 300):
        window = values[t - 19 : t + 1]
        assert z[t] == pytest.approx((values[t] - window.mean()) / window.std(ddof=1), abs=1e-11)


def test_zscore_by_hand():
    z = zscore(np.array([1.0, 2.0, 3.0, 3.0]), window=3)
    assert z[2] == pytest.approx(1.0, abs=1e-15)
    assert z[3] == pytest.approx((3 - 8 / 3) / np.sqrt(1 / 3), abs=1e-14)
    late = zscore(np.array([1.0, 2.0, 3.0, 7.0]), window=3, lag=1)
    assert np.isnan(late[:3]).all()
    assert late[3] == pytest.approx(5.0, abs=1e-14)


def test_moments_are_those_of_numpy():
    a, b = prices(150, seed=3)
    var_a, covariance, var_b = rolling_moments(a, b, window=40)
    for t in range(39, 150):
        expected = np.cov(a[t - 39 : t + 1], b[t - 39 : t + 1])
        assert (var_a[t], covariance[t], var_b[t]) == pytest.approx(
            (expected[0, 0], expected[0, 1], expected[1, 1]), rel=1e-9
        )


# --------------------------------------------------------------- the same bits from any slice


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 50),
    cut=st.integers(0, 300),
    window=st.integers(2, 90),
    first_bar=st.integers(0, 10_000_000),
    lag=st.integers(0, 3),
)
def test_any_slice_gives_the_bits_of_the_whole_from_its_first_window_on(seed, cut, window, first_bar, lag):
    a, b = prices(420, seed)
    whole = rolling_hedge(a, b, window=window, lag=lag, first_bar=first_bar)
    part = rolling_hedge(a[cut:], b[cut:], window=window, lag=lag, first_bar=first_bar + cut)
    warm = window - 1 + lag
    for every, some in zip(whole, part, strict=True):
        assert same_bits(every[cut + warm :], some[warm:])
    whole_z = zscore(a, window=window, lag=lag, first_bar=first_bar)
    part_z = zscore(a[cut:], window=window, lag=lag, first_bar=first_bar + cut)
    assert same_bits(whole_z[cut + warm :], part_z[warm:])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 50),
    cut=st.integers(0, 200),
    window=st.integers(2, 70),
    first_bar=st.integers(0, 10_000_000),
    missing=st.sampled_from([0.02, 0.2, 0.6]),
    min_fill=st.sampled_from([0.3, 0.8]),
)
def test_slices_of_a_history_with_missing_bars_agree_beyond_two_windows(
    seed, cut, window, first_bar, missing, min_fill
):
    a, b = prices(420, seed, missing)
    whole = rolling_hedge(a, b, window=window, first_bar=first_bar, min_fill=min_fill)
    part = rolling_hedge(a[cut:], b[cut:], window=window, first_bar=first_bar + cut, min_fill=min_fill)
    warm = 2 * window + 1
    for every, some in zip(whole, part, strict=True):
        assert same_bits(every[cut + warm :], some[warm:])
    whole_z = zscore(a, window=window, first_bar=first_bar, min_fill=min_fill)
    part_z = zscore(a[cut:], window=window, first_bar=first_bar + cut, min_fill=min_fill)
    assert same_bits(whole_z[cut + warm :], part_z[warm:])


def test_a_slice_told_the_wrong_first_bar_gives_other_bits():
    a, b = prices(420)
    whole = rolling_hedge(a, b, window=50, first_bar=7)[1]
    part = rolling_hedge(a[20:], b[20:], window=50, first_bar=7)[1]
    assert not same_bits(whole[120:], part[100:])
    assert part[100:] == pytest.approx(whole[120:], rel=1e-9)


@given(st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_later_bars_change_no_bit_before_them(t):
    a, b = prices(301, missing=0.05)
    whole = rolling_hedge(a, b, window=20, first_bar=11, min_fill=0.5)
    early = rolling_hedge(a[:t], b[:t], window=20, first_bar=11, min_fill=0.5)
    for every, some in zip(whole, early, strict=True):
        assert same_bits(every[:t], some)


# ------------------------------------------------------------------------------ missing bars


def test_a_window_is_used_while_its_share_of_bars_is_present():
    values = np.arange(40.0)
    values[[20, 22]] = np.nan
    mean, _ = rolling_mean_std(values, window=10, min_fill=0.9)
    one_missing = [*range(20, 22), *range(30, 32)]
    two_missing = range(22, 30)
    assert np.isfinite(mean[one_missing]).all()
    assert np.isnan(mean[two_missing]).all()
    assert np.isfinite(rolling_mean_std(values, window=10, min_fill=0.8)[0][9:]).all()
    assert np.isnan(rolling_mean_std(values, window=10)[0][20:32]).all()
    assert np.isfinite(rolling_mean_std(values, window=10)[0][32:]).all()


def test_a_window_with_missing_bars_is_fitted_on_the_bars_both_legs_have():
    a, b = prices(400, seed=9, missing=0.15)
    alpha, beta = rolling_hedge(a, b, window=60, lag=1, min_fill=0.5)
    for t in range(60, 400, 7):
        exact_alpha, exact_beta = exact_fit(a[t - 60 : t], b[t - 60 : t])
        assert beta[t] == pytest.approx(float(exact_beta), rel=1e-9)
        assert alpha[t] == pytest.approx(float(exact_alpha), rel=1e-9, abs=1e-9)


def test_two_bars_are_the_fewest_of_any_window():
    values = np.full(30, np.nan)
    values[[10, 15]] = 1.0, 2.0
    mean, deviation = rolling_mean_std(values, window=10, min_fill=0.01)
    assert np.flatnonzero(np.isfinite(mean)).tolist() == list(range(15, 20))
    assert deviation[15] == pytest.approx(np.sqrt(0.5), abs=1e-15)


def test_precision_is_kept_after_a_gap_longer_than_the_window():
    rng = np.random.default_rng(0)
    values = 10.0 + rng.normal(0, 1e-6, 200)
    values[30:81] = np.nan  # the block of bars 80..119 begins, and the one before it lies, in the gap
    _, deviation = rolling_mean_std(values, window=40, min_fill=0.5)
    for t in range(101, 121):
        assert deviation[t] == pytest.approx(float(np.nanstd(values[t - 39 : t + 1], ddof=1)), rel=1e-8)


# ------------------------------------------------------------------------------------ borders


def test_a_leg_that_does_not_move_has_no_hedge_ratio_and_a_flat_spread_no_z():
    a, _ = prices(50)
    alpha, beta = rolling_hedge(a, np.full(50, 3.3), window=10)
    assert np.isnan(alpha).all()
    assert np.isnan(beta).all()
    assert np.isnan(zscore(np.full(50, 0.1), window=10)).all()


def test_a_history_shorter_than_the_window_is_all_warm_up():
    a, b = prices(9)
    assert np.isnan(rolling_hedge(a, b, window=10)[1]).all()
    assert np.isnan(rolling_hedge(a[:0], b[:0], window=10)[1]).all()


def test_lagging_by_more_rows_than_there_are_leaves_none():
    assert np.isnan(lagged(np.arange(3.0), 5)).all()
    assert lagged(np.arange(4.0), 2)[2:].tolist() == [0.0, 1.0]
    assert lagged(np.arange(3.0), 0).tolist() == [0.0, 1.0, 2.0]


def test_arrays_given_are_left_as_they_were():
    a, b = prices(100, missing=0.1)
    before = a.copy(), b.copy()
    rolling_hedge(a, b, window=10)
    zscore(a, window=10)
    assert same_bits(a, before[0])
    assert same_bits(b, before[1])


def test_what_cannot_be_fitted_is_refused():
    a, b = prices(50)
    with pytest.raises(ParameterError, match="look ahead"):
        rolling_hedge(a, b, window=10, lag=-1)
    with pytest.raises(ParameterError, match="at least 2"):
        rolling_hedge(a, b, window=1)
    with pytest.raises(ParameterError, match="at least 2"):
        zscore(a, window=0)
    with pytest.raises(ParameterError, match="50 rows and b 49"):
        rolling_hedge(a, b[:-1], window=10)
    with pytest.raises(ParameterError, match="one dimension"):
        rolling_hedge(np.zeros((5, 2)), b, window=10)
    with pytest.raises(ParameterError, match="one dimension"):
        zscore(np.zeros((5, 2)), window=3)
    for wrong in (np.inf, -np.inf):
        broken = b.copy()
        broken[17] = wrong
        with pytest.raises(ParameterError, match="b is infinite at row 17"):
            rolling_hedge(a, broken, window=10)
        with pytest.raises(ParameterError, match="spread is infinite at row 17"):
            zscore(broken, window=10)


def test_moments_of_series_of_different_lengths_are_refused():
    a, b = prices(50)
    with pytest.raises(ParameterError, match="50 rows and y 49"):
        rolling_moments(a, b[:-1], window=10)


# ------------------------------------------------------------------------------- Kalman filter


def filtered(
    a: np.ndarray, b: np.ndarray, window: int, delta: float, first_bar: int, relative: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The textbook filter with matrices, started anew for every block with the block before it."""
    n = len(a)
    alpha, beta = np.full(n, np.nan), np.full(n, np.nan)
    steps = delta / (1 - delta) * np.eye(2)
    for t in range(n):
        start = t - (first_bar + t) % window - window
        if start < 0:
            continue
        begin = next(i for i in range(start, t + 1) if not np.isnan(a[i] + b[i]))
        unit_a, unit_b = (a[begin], b[begin]) if relative else (1.0, 1.0)
        state, covariance = np.zeros(2), PRIOR_VARIANCE * np.eye(2)
        for i in range(begin, t + 1):
            covariance = covariance + steps
            if np.isnan(a[i] + b[i]):
                continue
            H = np.array([1.0, (b[i] - b[begin]) / unit_b])
            innovation = (a[i] - a[begin]) / unit_a - H @ state
            S = H @ covariance @ H + 1.0
            K = covariance @ H / S
            state = state + K * innovation
            I_KH = np.eye(2) - np.outer(K, H)
            covariance = I_KH @ covariance @ I_KH.T + np.outer(K, K)
        beta[t] = state[1] * unit_a / unit_b
        alpha[t] = a[begin] + state[0] * unit_a - beta[t] * b[begin]
    return alpha, beta


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("lag", [0, 1])
def test_the_filter_is_the_textbook_one_started_with_the_block_before(relative, missing, lag):
    a, b = prices(160, seed=4, missing=missing)
    expected = filtered(a, b, 40, 1e-3, 13, relative)
    found = kalman_hedge(a, b, window=40, delta=1e-3, lag=lag, first_bar=13, min_fill=0.1, relative=relative)
    for mine, theirs in zip(found, expected, strict=True):
        assert np.isnan(mine[: 67 + lag]).all()  # bars 13…39 end a block, 40…79 are the first run-in
        assert mine[67 + lag :] == pytest.approx(theirs[67 : 160 - lag], rel=1e-6, abs=1e-8)


def test_without_noise_in_its_walks_the_filter_is_least_squares_since_its_start():
    a, b = prices(200)
    alpha, beta = kalman_hedge(a, b, window=100, delta=1e-300, lag=0)
    for t in (100, 150, 199):
        slope, level = exact_fit(a[: t + 1], b[: t + 1])[::-1]
        assert beta[t] == pytest.approx(float(slope), rel=2e-2)  # the prior draws it a little towards nothing
        assert alpha[t] + beta[t] * b[t] == pytest.approx(float(level + slope * b[t]), rel=1e-4)


def test_the_filter_follows_a_hedge_ratio_that_changes():
    rng = np.random.default_rng(3)
    b = 10 + np.cumsum(rng.normal(0, 0.5, 2000))
    true = np.where(np.arange(2000) < 1000, 0.7, 1.3)
    a = 2.0 + true * (b - b[999]) + rng.normal(0, 0.1, 2000)
    beta = kalman_hedge(a, b, window=400, delta=1e-4)[1]
    assert beta[990] == pytest.approx(0.7, abs=0.1)
    assert beta[1990] == pytest.approx(1.3, abs=0.1)


def test_prices_of_any_size_have_the_same_relative_filter():
    a, b = prices(300)
    alpha, beta = kalman_hedge(a, b, window=50, delta=1e-4, relative=True)
    big_alpha, big_beta = kalman_hedge(1024.0 * a, b, window=50, delta=1e-4, relative=True)
    assert same_bits(big_beta, 1024.0 * beta)
    assert same_bits(big_alpha, 1024.0 * alpha)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 50),
    cut=st.integers(0, 300),
    window=st.integers(2, 60),
    first_bar=st.integers(0, 10_000_000),
    lag=st.integers(0, 3),
    missing=st.sampled_from([0.0, 0.02, 0.4]),
)
def test_the_filter_of_a_slice_has_the_bits_of_the_whole_wherever_it_has_a_value(
    seed, cut, window, first_bar, lag, missing
):
    a, b = prices(420, seed, missing)
    given = {"window": window, "delta": 1e-5, "lag": lag, "min_fill": 0.5}
    whole = kalman_hedge(a, b, first_bar=first_bar, **given)
    part = kalman_hedge(a[cut:], b[cut:], first_bar=first_bar + cut, **given)
    early = kalman_hedge(a[: cut + 1], b[: cut + 1], first_bar=first_bar, **given)
    for every, some, head in zip(whole, part, early, strict=True):
        told = ~np.isnan(some)
        assert same_bits(every[cut:][told], some[told])
        assert same_bits(every[cut + 2 * window + lag :], some[2 * window + lag :])
        assert same_bits(every[: cut + 1], head)


def test_a_filter_needs_its_share_of_the_last_bars_and_a_delta_that_is_a_share():
    a, b = prices(300)
    a[150:170] = np.nan
    beta = kalman_hedge(a, b, window=40, delta=1e-4, lag=0, min_fill=0.8)[1]
    assert np.flatnonzero(np.isnan(beta)).tolist()[40:] == list(range(158, 201))
    for delta in (0.0, 1.0, -1e-3):
        with pytest.raises(ParameterError, match="between 0 and 1"):
            kalman_hedge(a, b, window=40, delta=delta)
    with pytest.raises(ParameterError, match="look ahead"):
        kalman_hedge(a, b, window=40, delta=0.1, lag=-1)
