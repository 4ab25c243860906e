"""Engle-Granger tests of single pairs from their residuals: the exact way, one pair at a time.

Per ordered pair: regress the dependent series on the independent one, take the residual, choose the lag of an
augmented Dickey-Fuller regression without deterministic terms, refit it on the longest sample that lag allows.
The work is O(T·p + p³) rather than O(T·p³), because all moments of the Dickey-Fuller regression follow from
p + 1 autocovariances of the differenced residual and corrections at the edges of the sample. Sums of squares lose
twice the digits that the regressors' dependence costs; where that is too many, as with samples of twenty bars, the
regressors themselves are orthogonalised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.mackinnon import Trend
from mntrading.core.types import BoolArray, FloatArray, IntArray

CRITERIA: Final = {None: 0, "aic": 1, "bic": 2}

_COLLINEAR: Final = 100.0 * math.sqrt(float(np.finfo(np.float64).eps))  # of 1 - R²
NO_VARIATION: Final = 1e-20  # of the sum of squares left after detrending, relative to before
_DEPENDENT_COLUMN: Final = 1e-14  # Cholesky pivot relative to its diagonal element
_WELL_POSED: Final = 1e-3  # least such pivot, and least share of the sum of squares left, to trust sums of squares
_DEPENDENT_EXACTLY: Final = 1e-26  # what orthogonalisation leaves of a regressor's sum of squares
_PERFECT_FIT: Final = 1e-30  # share of the sum of squares left by a regression


@dataclass(frozen=True)
class Legs:
    """What the test needs of each series over one window, once per series."""

    values: FloatArray  # (N, T): centred for c, detrended for ct, as given for n
    mean: FloatArray  # (N,), 0 for n
    slope: FloatArray  # (N,) per bar, 0 unless ct
    squares: FloatArray  # (N,) sum of squares of values
    total: FloatArray  # (N,) total sum of squares R² refers to: about the mean, about 0 for n
    testable: BoolArray  # (N,) False for a series without variation

    @property
    def n_bars(self) -> int:
        """Length of the window."""
        return int(self.values.shape[1])

    @property
    def level(self) -> FloatArray:
        """Value at time 0 of the line taken out (N,), where the trend is 1 on the window's first bar."""
        return self.mean - self.slope * (self.n_bars + 1) / 2.0


def legs_of(rows: FloatArray, trend: Trend) -> Legs:
    """Series (N × T) freed of the deterministic terms, which then drop out of every pair's regression exactly."""
    rows = np.ascontiguousarray(rows)
    n_series, n_bars = rows.shape
    mean, slope = np.zeros(n_series), np.zeros(n_series)
    testable = np.asarray(np.ptp(rows, axis=1) > 0.0, dtype=np.bool_)
    if trend == "n":
        total = np.einsum("it,it->i", rows, rows)
        return Legs(rows, mean, slope, total, total, testable)
    mean = rows.mean(axis=1)
    rows = rows - mean[:, None]
    total = np.einsum("it,it->i", rows, rows)
    if trend == "c":
        return Legs(rows, mean, slope, total, total, testable)
    time = np.arange(n_bars, dtype=np.float64) - (n_bars - 1) / 2.0
    for _ in range(2):
        step = rows @ time / max(time @ time, 1.0)
        rows = rows - step[:, None] * time
        slope = slope + step
    squares = np.einsum("it,it->i", rows, rows)
    return Legs(rows, mean, slope, squares, total, testable & (squares > NO_VARIATION * total))


@dataclass(frozen=True)
class Statistics:
    """Raw outcomes of a list of tests; NaN where there was no test."""

    beta: FloatArray
    t_stat: FloatArray
    lag: IntArray


def residual_tests(
    legs: Legs,
    y: IntArray,
    x: IntArray,
    *,
    max_lag: int,
    criterion: int,
) -> Statistics:
    """Test series ``y[k]`` on series ``x[k]``, for every k.

    Parameters
    ----------
    legs
        Series over their window.
    y, x
        Row numbers, one per test.
    max_lag, criterion
        Most lags; a value of ``CRITERIA``.
    """
    found = Statistics(np.full(len(y), np.nan), np.full(len(y), np.nan), np.zeros(len(y), dtype=np.int64))
    _test_list(
        legs.values, legs.squares, legs.total, legs.testable,
        y, x, max_lag, criterion, found.beta, found.t_stat, found.lag,
    )  # fmt: skip
    return found


# --- kernels ---
# e = y - beta·x: residual; d_t = e_t - e_{t-1}; times run 0..T-1; a regression with q lags has the rows
# t = q+1..T-1. back[k] = d_{T-1-k}, followed by zeros.


@compiled
def dot(a: FloatArray, b: FloatArray) -> float:
    """Inner product over eight interleaved partial sums."""
    n = len(a)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for i in range(0, n - 7, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    for i in range(n - n % 8, n):
        s0 += a[i] * b[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@compiled
def _autocovariances(back: FloatArray, n_diff: int, out: FloatArray) -> None:
    """out[l] = Σ_t d_t·d_{t-l} over the whole range, the lag in the inner loop for the sake of SIMD."""
    width = len(out)
    out[:] = 0.0
    for k in range(0, n_diff, 8):
        a0, a1, a2, a3 = back[k], back[k + 1], back[k + 2], back[k + 3]
        a4, a5, a6, a7 = back[k + 4], back[k + 5], back[k + 6], back[k + 7]
        run = back[k : k + width + 7]
        for lag in range(width):
            out[lag] += ((a0 * run[lag] + a1 * run[lag + 1]) + (a2 * run[lag + 2] + a3 * run[lag + 3])) + (
                (a4 * run[lag + 4] + a5 * run[lag + 5]) + (a6 * run[lag + 6] + a7 * run[lag + 7])
            )


@compiled
def _own_lags(
    e: FloatArray,
    back: FloatArray,
    covariance: FloatArray,
    squares: float,
    q: int,
    own: FloatArray,
    level: FloatArray,
) -> float:
    """Moments of rows q+1..T-1: own[l] = Σ d_t·d_{t-l}, level[l] = Σ e_{t-1}·d_{t-l}; returns Σ e²_{t-1}."""
    last = len(e) - 1
    head = last - q  # back[head + i] = d_{q-i}
    for lag in range(q + 1):
        cut = 0.0
        for k in range(head, last - lag):
            cut += back[k] * back[k + lag]
        own[lag] = covariance[lag] - cut
    level[0] = 0.5 * ((e[last] - e[q]) * (e[last] + e[q]) - own[0])
    for lag in range(q):
        level[lag + 1] = level[lag] + own[lag] + e[q] * back[head + lag] - e[last] * back[lag]
    levels = squares - e[last] * e[last]
    for s in range(q):
        levels -= e[s] * e[s]
    return float(levels)


@compiled
def _fill(back: FloatArray, n_bars: int, q: int, own: FloatArray, a: FloatArray, offset: int) -> None:
    """Moments of lagged differences, upper triangle: a[offset+i, offset+j] = Σ d_{t-1-i}·d_{t-1-j}."""
    head = n_bars - 1 - q
    if q == 0:
        return
    first = a[offset]
    for j in range(q):
        first[offset + j] = own[j] + back[head] * back[head + j] - back[0] * back[j]
    for i in range(1, q):
        above, here = a[offset + i - 1], a[offset + i]
        h, b = back[head + i], back[i]
        for j in range(i, q):
            here[offset + j] = above[offset + j - 1] + h * back[head + j] - b * back[j]


@compiled
def _eliminate(a: FloatArray, n: int) -> None:
    """Cholesky of the upper triangle of a[:n, :n] in place; column n, the right side, is substituted forward.

    A column that depends on those before it gets a zero row, and so leaves the fit alone.
    """
    for k in range(n):
        row = a[k]
        pivot = row[k]
        if pivot <= a[n, k]:
            row[k : n + 1] = 0.0
            continue
        scale = 1.0 / math.sqrt(pivot)
        for j in range(k, n + 1):
            row[j] *= scale
        for i in range(k + 1, n):
            factor = row[i]
            below = a[i]
            for j in range(i, n + 1):
                below[j] -= factor * row[j]


@compiled
def _floors(a: FloatArray, n: int) -> None:
    """Keep in a[n] the pivot below which a column counts as dependent."""
    for k in range(n):
        a[n, k] = _DEPENDENT_COLUMN * a[k, k]


@compiled
def _well_posed(a: FloatArray, n: int, share_left: float) -> bool:
    """Whether a factor of n regressors and what it leaves can be trusted to a dozen digits."""
    for k in range(n):
        if not a[k, k] * a[k, k] * _DEPENDENT_COLUMN >= _WELL_POSED * a[n, k]:
            return False
    return share_left >= _WELL_POSED


@compiled
def _orthogonalise(e: FloatArray, q: int, level_first: bool, rss: FloatArray, ranks: IntArray) -> float:
    """Regression with q lags by orthogonal regressors, each made so twice; the last one's coefficient.

    rss[k], ranks[k]: what the first k + 1 regressors leave, and how many of them are independent.
    """
    n = len(e) - 1 - q
    basis = np.empty((q + 1, n))
    rest = e[q + 1 :] - e[q:-1]
    whole = dot(rest, rest)
    rank, coefficient = 0, 0.0
    for k in range(q + 1):
        column = basis[k]
        lag = k if level_first else (k + 1) % (q + 1)  # 0 stands for the level
        for t in range(n):
            column[t] = e[q + t] if lag == 0 else e[q + 1 + t - lag] - e[q + t - lag]
        before = dot(column, column)
        for _ in range(2):
            for m in range(k):
                column -= dot(basis[m], column) * basis[m]
        after = dot(column, column)
        if after <= _DEPENDENT_EXACTLY * before:
            column[:] = 0.0
            coefficient = 0.0
        else:
            column /= math.sqrt(after)
            coefficient = dot(column, rest)
            rest -= coefficient * column
            rank += 1
        left = dot(rest, rest)
        rss[k] = left if left > _PERFECT_FIT * whole else 0.0
        ranks[k] = rank
    return coefficient


@compiled
def _lowest(rss: FloatArray, ranks: IntArray, rows: int, criterion: int) -> int:
    """Number of lags with the least criterion; ties go to the smaller one."""
    penalty = 2.0 if criterion == 1 else math.log(rows)
    best, lowest = 0, math.inf
    for lag in range(len(rss)):
        value = (rows * math.log(rss[lag]) if rss[lag] > 0.0 else -math.inf) + penalty * ranks[lag]
        if value < lowest:
            best, lowest = lag, value
    return best


@compiled
def _best_lag(
    e: FloatArray,
    a: FloatArray,
    own: FloatArray,
    level: FloatArray,
    levels: float,
    back: FloatArray,
    max_lag: int,
    criterion: int,
) -> int:
    """Lag 0..max_lag that minimises the criterion on the common sample."""
    n, n_bars = max_lag + 1, len(e)  # regressors: level, then the lags in order
    _fill(back, n_bars, max_lag, own, a, 1)
    a[0, 0] = levels
    a[0, n] = level[0]
    for lag in range(1, n):
        a[0, lag] = level[lag]
        a[lag, n] = own[lag]
    _floors(a, n)
    _eliminate(a, n)
    rss, ranks = np.empty(n), np.empty(n, dtype=np.int64)
    left, rank = own[0], 0
    for lag in range(n):
        if a[lag, lag] > 0.0:
            rank += 1
        left -= a[lag, n] * a[lag, n]
        rss[lag], ranks[lag] = left, rank
    if not _well_posed(a, n, left / own[0]):
        _orthogonalise(e, max_lag, True, rss, ranks)
    return _lowest(rss, ranks, n_bars - 1 - max_lag, criterion)


@compiled
def _statistic(
    e: FloatArray, a: FloatArray, own: FloatArray, level: FloatArray, levels: float, back: FloatArray, lag: int
) -> float:
    """t of the level in the regression with ``lag`` lags; the level comes last, so t falls out of the fit."""
    n, n_bars = lag + 1, len(e)
    _fill(back, n_bars, lag, own, a, 0)
    for i in range(lag):
        a[i, lag] = level[i + 1]
        a[i, n] = own[i + 1]
    a[lag, lag] = levels
    a[lag, n] = level[0]
    _floors(a, n)
    _eliminate(a, n)
    left, rank = own[0], 0
    for i in range(n):
        if a[i, i] > 0.0:
            rank += 1
        left -= a[i, n] * a[i, n]
    coefficient, independent = a[lag, n], a[lag, lag] > 0.0
    if not _well_posed(a, n, left / own[0]):
        rss, ranks = np.empty(n), np.empty(n, dtype=np.int64)
        coefficient = _orthogonalise(e, lag, False, rss, ranks)
        left, rank = rss[lag], ranks[lag]
        independent = rank > (ranks[lag - 1] if lag > 0 else 0)
    freedom = n_bars - 1 - lag - rank
    if not independent or freedom < 1:
        return math.nan
    if left <= 0.0:
        return math.copysign(math.inf, coefficient)
    return float(coefficient / math.sqrt(left / freedom))


@compiled
def _test_list(
    rows: FloatArray,
    squares: FloatArray,
    total: FloatArray,
    testable: BoolArray,
    y_index: IntArray,
    x_index: IntArray,
    max_lag: int,
    criterion: int,
    beta: FloatArray,
    t_stat: FloatArray,
    best_lag: IntArray,
) -> None:
    """Test the ordered pairs of the list and write their beta, t and lag."""
    n_bars = rows.shape[1]
    width = (max_lag + 8) // 8 * 8
    e = np.empty(n_bars)
    back = np.zeros(n_bars + width + 16)
    covariance = np.empty(width)
    own, level = np.empty(max_lag + 1), np.empty(max_lag + 1)
    a = np.zeros((max_lag + 2, max_lag + 2))
    for pair in range(len(y_index)):
        i, j = y_index[pair], x_index[pair]
        if not (testable[i] and testable[j]):
            continue
        y, x = rows[i], rows[j]
        b = dot(x, y) / squares[j]
        beta[pair] = b
        for t in range(n_bars):
            e[t] = y[t] - b * x[t]
        for t in range(1, n_bars):
            back[n_bars - 1 - t] = e[t] - e[t - 1]
        sum_squares = dot(e, e)
        if not 1.0 - sum_squares / total[i] < 1.0 - _COLLINEAR:
            t_stat[pair] = -math.inf
            continue
        _autocovariances(back, n_bars - 1, covariance)
        lag = max_lag
        levels = _own_lags(e, back, covariance, sum_squares, lag, own, level)
        if criterion != 0:
            lag = _best_lag(e, a, own, level, levels, back, max_lag, criterion)
            if lag != max_lag:
                levels = _own_lags(e, back, covariance, sum_squares, lag, own, level)
        best_lag[pair] = lag
        t_stat[pair] = _statistic(e, a, own, level, levels, back, lag)
