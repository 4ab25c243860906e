"""Engle-Granger tests of all pairs of two panels from their sums, eight pairs at a time.

The residual is e = y - b·x with b = Σxy / Σx²; it needs no intercept, because v is free of deterministic terms.
Every sum over e is then a polynomial in b of sums over x and y. A regression with q lags has the rows
t = q+1..T-1; with S_ij = Σ de_{t-i}·de_{t-j}, L_j = Σ e_{t-1}·de_{t-j} and Q = Σ e²_{t-1} over these rows

    S_0l = R_l - Σ_{t=l+1..q} de_t·de_{t-l}           S_{i+1,j+1} = S_ij + de_{q-i}·de_{q-j} - de_{T-1-i}·de_{T-1-j}
    L_0 = ½·(e²_{T-1} - e²_q - S_00)                  L_{j+1} = L_j + S_0j + e_q·de_{q-j} - e_{T-1}·de_{T-1-j}
    Q = Σe² - e²_{T-1} - Σ_{s<q} e_s²

One Cholesky factor of the lags' S, with L and S_0· as right sides, gives the fit for every number of lags: with
z and w the right sides substituted forward, k lags leave RSS_k = S_00 - Σw² - (L_0 - Σwz)² / (Q - Σz²), sums over
the first k.

A pair is *delicate* where rounding could matter: little of a sum is left of the terms it was made of, two numbers
of lags are all but equally good, or a regressor depends on those before it. It is left to ``residual_tests``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.lanes import WIDTH, Lanes, fma, fnma, load, root, splat, store, where_less
from mntrading.core.moments import LAGGED, LAST, SQUARES, TOTAL
from mntrading.core.types import BoolArray, FloatArray, IntArray

_CANCELLED: Final = 1e-3  # what must be left of a sum, of the terms it was made of
_DEPENDENT: Final = 1e-3  # Cholesky pivot relative to its diagonal element, and what a regression leaves
_TIE: Final = 1e-5  # of the criterion, which is n·ln RSS + …

_PAD: Final = 4  # rows of zeros before the first differences, for loops that take four lags at a time

# rows of the outcome of one fit, in lanes
_SOUND, _LAG, _BETA, _ENERGY, _T_STAT, _LEVELS, _LEVEL_SCALE, _STEP_SCALE = range(0, 8 * WIDTH, WIDTH)


@compiled
def run_tile(
    gram: FloatArray,
    cross: FloatArray,
    row_series: FloatArray,
    column_series: FloatArray,
    usable: BoolArray,
    n_bars: int,
    max_lag: int,
    criterion: int,
    beta: FloatArray,
    t_stat: FloatArray,
    best_lag: IntArray,
    delicate: BoolArray,
) -> None:
    """Test m × n pairs in both directions.

    Parameters
    ----------
    gram, cross
        Σuv (m × n) and C_l (p + 1 × m × n), n being whole lanes.
    row_series, column_series
        ``Panel.series`` of the two panels.
    usable
        Pairs to test (m × n).
    n_bars, max_lag, criterion
        T; p; a value of ``residual_tests.CRITERIA``.
    beta, t_stat, best_lag, delicate
        Outcomes (2 × m × n): the row's series on the column's, and the other way round.
    """
    m, n = gram.shape
    n_facts, width = column_series.shape
    fit_rows = n_bars - 1 - max_lag
    cost = 2.0 / fit_rows if criterion == 1 else math.log(fit_rows) / fit_rows
    lagged, ends, own, level, a, outcome = _workspace(max_lag)
    row = np.empty(n_facts * WIDTH)
    for i in range(m):
        for fact in range(n_facts):
            store(row, fact * WIDTH, splat(row_series[fact, i]))
        for j in range(0, n, WIDTH):
            if not usable[i, j : j + WIDTH].any():
                continue
            pair = i * n + j
            product = load(gram, pair)
            for direction in range(2):
                if direction == 0:
                    b = product / load(column_series, SQUARES * width + j)
                    _combine(b, product, row, 0, WIDTH, column_series, j, width, max_lag, lagged, ends, outcome)
                else:
                    b = product / load(row, SQUARES * WIDTH)
                    _combine(b, product, column_series, j, width, row, 0, WIDTH, max_lag, lagged, ends, outcome)
                for lag in range(max_lag + 1):
                    c = load(cross, lag * m * n + pair)
                    store(lagged, lag * WIDTH, fnma(b, c, load(lagged, lag * WIDTH)))
                if criterion != 0:
                    _fit(max_lag, max_lag, lagged, ends, own, level, a, outcome)
                    _choose(max_lag, cost, _TIE / fit_rows, own, level, a, outcome)
                for s in range(WIDTH):
                    if usable[i, j + s]:
                        beta[direction, i, j + s] = outcome[_BETA + s]
                        if criterion == 0:
                            best_lag[direction, i, j + s] = max_lag
                        elif outcome[_SOUND + s] > 0.0:
                            best_lag[direction, i, j + s] = int(outcome[_LAG + s])
                        else:
                            delicate[direction, i, j + s] = True
    _refit(
        gram, cross, row_series, column_series, usable, n_bars, max_lag,
        beta, t_stat, best_lag, delicate, lagged, ends, own, level, a, outcome,
    )  # fmt: skip


@compiled
def _workspace(max_lag: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Lanes of R_l(e), of the residual's ends, of S_0l, of L_j, of the matrix and of the outcome."""
    n_lags = max_lag + 1
    stride = _stride(max_lag)
    sizes = (n_lags + _PAD, 1 + _PAD + 3 * n_lags, n_lags + _PAD, n_lags + 1, (max_lag + 2) * stride, 8)
    buffer = np.zeros((sum(sizes) + 1) * WIDTH)
    first = (-buffer.ctypes.data // 8) % WIDTH  # so that lanes do not straddle cache lines
    lagged = buffer[first : first + sizes[0] * WIDTH]
    first += sizes[0] * WIDTH
    ends = buffer[first : first + sizes[1] * WIDTH]
    first += sizes[1] * WIDTH
    own = buffer[first : first + sizes[2] * WIDTH]
    first += sizes[2] * WIDTH
    level = buffer[first : first + sizes[3] * WIDTH]
    first += sizes[3] * WIDTH
    a = buffer[first : first + sizes[4] * WIDTH]
    first += sizes[4] * WIDTH
    return lagged, ends, own, level, a, buffer[first : first + sizes[5] * WIDTH]


@compiled
def _stride(max_lag: int) -> int:
    """Columns of the matrix: an even number of lags, two right sides, and what blocks of four overrun."""
    return int(max_lag + max_lag % 2 + 6)


@compiled
def _combine(
    b: Lanes,
    product: Lanes,
    y: FloatArray,
    y_at: int,
    y_stride: int,
    x: FloatArray,
    x_at: int,
    x_stride: int,
    max_lag: int,
    lagged: FloatArray,
    ends: FloatArray,
    outcome: FloatArray,
) -> None:
    """Sums over e = y - b·x; the lagged sums still lack the part of the two series together."""
    n_lags = max_lag + 1
    store(outcome, _BETA, b)
    store(outcome, _ENERGY, fnma(b, product, load(y, SQUARES * y_stride + y_at)))
    store(outcome, _LEVEL_SCALE, load(y, TOTAL * y_stride + y_at))
    squared = b * b
    for lag in range(n_lags):
        fact = LAGGED + lag
        store(lagged, lag * WIDTH, fma(squared, load(x, fact * x_stride + x_at), load(y, fact * y_stride + y_at)))
    store(outcome, _STEP_SCALE, load(lagged, 0))
    store(ends, 0, fnma(b, load(x, LAST * x_stride + x_at), load(y, LAST * y_stride + y_at)))
    for k in range(3 * n_lags):
        fact, place = LAGGED + n_lags + k, 1 + k if k < n_lags else 1 + _PAD + k
        store(ends, place * WIDTH, fnma(b, load(x, fact * x_stride + x_at), load(y, fact * y_stride + y_at)))


@compiled
def _fit(
    q: int,
    max_lag: int,
    lagged: FloatArray,
    ends: FloatArray,
    own: FloatArray,
    level: FloatArray,
    a: FloatArray,
    outcome: FloatArray,
) -> None:
    """Factor the regression with q lags; own[l] = S_0l, level[j] = L_j."""
    n_lags = max_lag + 1
    heads, steps, tails = WIDTH, (1 + _PAD + n_lags) * WIDTH, (1 + _PAD + 2 * n_lags) * WIDTH
    # sums over the rows of the regression
    for lag in range(0, q + 1, 4):
        s0, s1 = load(lagged, lag * WIDTH), load(lagged, (lag + 1) * WIDTH)
        s2, s3 = load(lagged, (lag + 2) * WIDTH), load(lagged, (lag + 3) * WIDTH)
        for t in range(lag + 1, q + 1):
            d, back = load(ends, steps + t * WIDTH), steps + (t - lag) * WIDTH
            s0 = fnma(d, load(ends, back), s0)
            s1 = fnma(d, load(ends, back - WIDTH), s1)
            s2 = fnma(d, load(ends, back - 2 * WIDTH), s2)
            s3 = fnma(d, load(ends, back - 3 * WIDTH), s3)
        store(own, lag * WIDTH, s0)
        store(own, (lag + 1) * WIDTH, s1)
        store(own, (lag + 2) * WIDTH, s2)
        store(own, (lag + 3) * WIDTH, s3)
    last, first = load(ends, 0), load(ends, heads + q * WIDTH)
    levels = fnma(last, last, load(outcome, _ENERGY))
    for t in range(q):
        e = load(ends, heads + t * WIDTH)
        levels = fnma(e, e, levels)
    store(outcome, _LEVELS, levels)
    steps_squared = load(own, 0)
    running = splat(0.5) * ((last - first) * (last + first) - steps_squared)
    store(level, 0, running)
    for lag in range(q):
        running = running + load(own, lag * WIDTH)
        running = fma(first, load(ends, steps + (q - lag) * WIDTH), running)
        running = fnma(last, load(ends, tails + lag * WIDTH), running)
        store(level, (lag + 1) * WIDTH, running)
    # the matrix: lags, then both right sides; an odd number of lags gets one that explains nothing
    stride, even = _stride(max_lag) * WIDTH, q + q % 2
    for j in range(q):
        s = fma(load(ends, steps + q * WIDTH), load(ends, steps + (q - j) * WIDTH), load(own, j * WIDTH))
        store(a, j * WIDTH, fnma(load(ends, tails), load(ends, tails + j * WIDTH), s))
    for i in range(1, q):
        head, tail = load(ends, steps + (q - i) * WIDTH), load(ends, tails + i * WIDTH)
        for j in range(i, q):
            s = fma(head, load(ends, steps + (q - j) * WIDTH), load(a, (i - 1) * stride + (j - 1) * WIDTH))
            store(a, i * stride + j * WIDTH, fnma(tail, load(ends, tails + j * WIDTH), s))
    nothing = splat(0.0)
    if even > q:
        for i in range(q):
            store(a, i * stride + q * WIDTH, nothing)
        store(a, q * stride + q * WIDTH, splat(1.0))
        store(a, q * stride + even * WIDTH, nothing)
        store(a, q * stride + (even + 1) * WIDTH, nothing)
    for i in range(q):
        store(a, i * stride + even * WIDTH, load(level, (i + 1) * WIDTH))
        store(a, i * stride + (even + 1) * WIDTH, load(own, (i + 1) * WIDTH))
    smallest = _factor(a, even, stride)
    # is enough left of every sum
    one = splat(1.0)
    sound = where_less(splat(_DEPENDENT), smallest, one, nothing)
    sound = where_less(splat(_CANCELLED) * load(outcome, _LEVEL_SCALE), levels, sound, nothing)
    sound = where_less(splat(_CANCELLED) * load(outcome, _STEP_SCALE), steps_squared, sound, nothing)
    store(outcome, _SOUND, sound)


@compiled
def _factor(a: FloatArray, n: int, stride: int) -> Lanes:
    """Cholesky of n rows (an even number) with two right sides, in place; smallest pivot over diagonal element.

    Two rows by four columns at a time, so that the eight sums stay in registers.
    """
    smallest = splat(1.0)
    r01 = scale0 = scale1 = splat(0.0)
    for i in range(0, n, 2):
        upper, lower = i * stride, (i + 1) * stride
        for j in range(i, n + 2, 4):
            at = j * WIDTH
            s00, s01 = load(a, upper + at), load(a, upper + at + WIDTH)
            s02, s03 = load(a, upper + at + 2 * WIDTH), load(a, upper + at + 3 * WIDTH)
            s10, s11 = load(a, lower + at), load(a, lower + at + WIDTH)
            s12, s13 = load(a, lower + at + 2 * WIDTH), load(a, lower + at + 3 * WIDTH)
            whole0, whole1 = s00, s11
            for k in range(i):
                r = k * stride
                u, v = load(a, r + i * WIDTH), load(a, r + (i + 1) * WIDTH)
                x0, x1 = load(a, r + at), load(a, r + at + WIDTH)
                x2, x3 = load(a, r + at + 2 * WIDTH), load(a, r + at + 3 * WIDTH)
                s00, s01, s02, s03 = fnma(u, x0, s00), fnma(u, x1, s01), fnma(u, x2, s02), fnma(u, x3, s03)
                s10, s11, s12, s13 = fnma(v, x0, s10), fnma(v, x1, s11), fnma(v, x2, s12), fnma(v, x3, s13)
            if j == i:
                share = s00 / whole0
                smallest = where_less(share, smallest, share, smallest)
                scale0 = splat(1.0) / root(s00)
                r01 = s01 * scale0
                s11 = fnma(r01, r01, s11)
                share = s11 / whole1
                smallest = where_less(share, smallest, share, smallest)
                scale1 = splat(1.0) / root(s11)
                s00, s01, s02, s03 = s00 * scale0, r01, s02 * scale0, s03 * scale0
                s10, s11 = splat(0.0), s11 * scale1
            else:
                s00, s01, s02, s03 = s00 * scale0, s01 * scale0, s02 * scale0, s03 * scale0
                s10, s11 = fnma(r01, s00, s10) * scale1, fnma(r01, s01, s11) * scale1
            s12, s13 = fnma(r01, s02, s12) * scale1, fnma(r01, s03, s13) * scale1
            store(a, upper + at, s00)
            store(a, upper + at + WIDTH, s01)
            store(a, upper + at + 2 * WIDTH, s02)
            store(a, upper + at + 3 * WIDTH, s03)
            store(a, lower + at, s10)
            store(a, lower + at + WIDTH, s11)
            store(a, lower + at + 2 * WIDTH, s12)
            store(a, lower + at + 3 * WIDTH, s13)
    return smallest


@compiled
def _choose(
    max_lag: int, cost: float, tie: float, own: FloatArray, level: FloatArray, a: FloatArray, outcome: FloatArray
) -> None:
    """Lag 0..max_lag that minimises RSS_k·exp(cost·k), which orders the fits as the criterion does."""
    stride, right = _stride(max_lag) * WIDTH, (max_lag + max_lag % 2) * WIDTH
    steps, across, levels = load(own, 0), load(level, 0), load(outcome, _LEVELS)
    left, rss = levels, steps - across * across / levels
    best, lowest, second = splat(0.0), rss, splat(math.inf)
    weight, growth = splat(1.0), splat(math.exp(cost))
    for k in range(max_lag):
        z, w = load(a, k * stride + right), load(a, k * stride + right + WIDTH)
        steps, across, left = fnma(w, w, steps), fnma(z, w, across), fnma(z, z, left)
        rss = steps - across * across / left
        weight = weight * growth
        value = rss * weight
        worse = where_less(value, lowest, lowest, value)
        second = where_less(worse, second, worse, second)
        best = where_less(value, lowest, splat(float(k + 1)), best)
        lowest = where_less(value, lowest, value, lowest)
    store(outcome, _LAG, best)
    nothing = splat(0.0)
    sound = load(outcome, _SOUND)
    sound = where_less(splat(_DEPENDENT) * levels, left, sound, nothing)
    sound = where_less(splat(_DEPENDENT) * load(own, 0), rss, sound, nothing)
    sound = where_less(lowest * splat(1.0 + tie), second, sound, nothing)
    store(outcome, _SOUND, sound)


@compiled
def _statistic(
    q: int, max_lag: int, freedom: int, own: FloatArray, level: FloatArray, a: FloatArray, outcome: FloatArray
) -> None:
    """t of the level in the regression with q lags."""
    stride, right = _stride(max_lag) * WIDTH, (q + q % 2) * WIDTH
    steps, across, left = load(own, 0), load(level, 0), load(outcome, _LEVELS)
    for k in range(q):
        z, w = load(a, k * stride + right), load(a, k * stride + right + WIDTH)
        steps, across, left = fnma(w, w, steps), fnma(z, w, across), fnma(z, z, left)
    rss = steps - across * across / left
    store(outcome, _T_STAT, across / root(left * rss / splat(float(freedom))))
    nothing = splat(0.0)
    sound = load(outcome, _SOUND)
    sound = where_less(splat(_DEPENDENT) * load(outcome, _LEVELS), left, sound, nothing)
    store(outcome, _SOUND, where_less(splat(_DEPENDENT) * load(own, 0), rss, sound, nothing))


@compiled
def _refit(
    gram: FloatArray,
    cross: FloatArray,
    row_series: FloatArray,
    column_series: FloatArray,
    usable: BoolArray,
    n_bars: int,
    max_lag: int,
    beta: FloatArray,
    t_stat: FloatArray,
    best_lag: IntArray,
    delicate: BoolArray,
    lagged: FloatArray,
    ends: FloatArray,
    own: FloatArray,
    level: FloatArray,
    a: FloatArray,
    outcome: FloatArray,
) -> None:
    """Statistics of all tests that have a lag, those with the same lag eight at a time."""
    m, n = gram.shape
    n_lags = max_lag + 1
    first = np.zeros(n_lags + 1, dtype=np.int64)
    for code in range(2 * m * n):
        direction, pair = divmod(code, m * n)
        i, j = divmod(pair, n)
        if usable[i, j] and not delicate[direction, i, j]:
            first[best_lag[direction, i, j] + 1] += 1
    first = np.cumsum(first)
    order = np.empty(first[-1], dtype=np.int64)
    place = first.copy()
    for code in range(2 * m * n):
        direction, pair = divmod(code, m * n)
        i, j = divmod(pair, n)
        if usable[i, j] and not delicate[direction, i, j]:
            lag = best_lag[direction, i, j]
            order[place[lag]] = code
            place[lag] += 1
    for q in range(n_lags):
        for start in range(first[q], first[q + 1], WIDTH):
            for s in range(WIDTH):
                code = order[min(start + s, first[q + 1] - 1)]
                direction, pair = divmod(code, m * n)
                i, j = divmod(pair, n)
                if direction == 0:
                    y, x, y_at, x_at = row_series, column_series, i, j
                else:
                    y, x, y_at, x_at = column_series, row_series, j, i
                b = beta[direction, i, j]
                outcome[_ENERGY + s] = y[SQUARES, y_at] - b * gram[i, j]
                outcome[_LEVEL_SCALE + s] = y[TOTAL, y_at]
                outcome[_STEP_SCALE + s] = y[LAGGED, y_at] + b * b * x[LAGGED, x_at]
                ends[s] = y[LAST, y_at] - b * x[LAST, x_at]
                for lag in range(q + 1):
                    fact = LAGGED + lag
                    both = y[fact, y_at] + b * (b * x[fact, x_at] - cross[lag, i, j])
                    lagged[lag * WIDTH + s] = both
                    fact += n_lags
                    ends[(1 + lag) * WIDTH + s] = y[fact, y_at] - b * x[fact, x_at]
                    fact += n_lags
                    ends[(1 + _PAD + n_lags + lag) * WIDTH + s] = y[fact, y_at] - b * x[fact, x_at]
                    fact += n_lags
                    ends[(1 + _PAD + 2 * n_lags + lag) * WIDTH + s] = y[fact, y_at] - b * x[fact, x_at]
            _fit(q, max_lag, lagged, ends, own, level, a, outcome)
            _statistic(q, max_lag, n_bars - 2 - 2 * q, own, level, a, outcome)
            for s in range(min(WIDTH, first[q + 1] - start)):
                direction, pair = divmod(order[start + s], m * n)
                i, j = divmod(pair, n)
                t_stat[direction, i, j] = outcome[_T_STAT + s]
                delicate[direction, i, j] = not outcome[_SOUND + s] > 0.0
