"""Engle-Granger test of every ordered pair of a universe, exact and from the residuals.

Per ordered pair: regress the dependent log price on the independent one, take the residual, choose the lag
of an augmented Dickey-Fuller regression without deterministic terms, refit it on the longest sample that lag
allows. The result equals ``statsmodels.tsa.stattools.coint``; the work is O(T·p + p³) rather than O(T·p³),
because all moments of the Dickey-Fuller regression follow from p + 1 autocovariances of the differenced
residual and corrections at the edges of the sample.

Look-ahead: every figure uses all rows given and nothing else; pass the formation window, and only that.

References
----------
Engle, R. F., Granger, C. W. J. (1987). Co-integration and error correction: representation, estimation,
and testing. Econometrica, 55(2), 251-276.

Schwert, G. W. (1989). Tests for unit roots: a Monte Carlo investigation. Journal of Business & Economic
Statistics, 7(2), 147-159 (the default number of lags).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from mntrading.core.compiled import compiled
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.mackinnon import Trend, check_trend, mackinnon_p_value
from mntrading.core.types import BoolArray, FloatArray, IntArray

AutoLag = Literal["aic", "bic"]
Progress = Callable[[int, int], None]

PAIR_COLUMNS: Final = ("dependent", "independent", "alpha", "beta", "t_stat", "p_value", "lag", "n_obs")

_COLLINEAR: Final = 100.0 * math.sqrt(float(np.finfo(np.float64).eps))  # of 1 - R²
_NO_VARIATION: Final = 1e-20  # of the sum of squares left after detrending, relative to before
_DEPENDENT_COLUMN: Final = 1e-14  # Cholesky pivot relative to its diagonal element
_CRITERIA: Final = {None: 0, "aic": 1, "bic": 2}
_PAIRS_PER_CHUNK: Final = 1024


def engle_granger_pairs(
    log_prices: pd.DataFrame,
    *,
    max_lag: int | None = None,
    autolag: AutoLag | None = "aic",
    trend: Trend = "c",
    progress: Progress | None = None,
    n_threads: int = 1,
) -> pd.DataFrame:
    """Engle-Granger cointegration test of every ordered pair.

    Parameters
    ----------
    log_prices
        Frame (T bars × N symbols) of log prices, time increasing, N ≥ 2. NaN and infinities are refused.
    max_lag
        Most lagged differences in the Dickey-Fuller regression. ``None``: ceil(12·(T/100)^¼), at most
        T // 2 - 1.
    autolag
        Criterion the lag minimises over 0..``max_lag`` on the common sample of T - 1 - ``max_lag`` rows, ties
        to the smaller lag. ``None``: exactly ``max_lag`` lags.
    trend
        Deterministic terms of the cointegrating regression: ``n`` none, ``c`` constant, ``ct`` constant and
        linear trend.
    progress
        Called as ``progress(pairs done, pairs in all)`` in the calling thread, now and then and at the end.
    n_threads
        Worker threads. The result does not depend on it.

    Returns
    -------
    DataFrame
        One row per ordered pair, N·(N - 1) in all, ordered by dependent then independent in column order:

        - ``dependent``, ``independent``: symbols; ``alpha``, ``beta``: intercept and hedge ratio of
          ``dependent = alpha + beta·independent`` (``alpha`` is 0 for ``n``; for ``ct`` it is the intercept
          where the trend, which is 1 on the first bar, is 0);
        - ``t_stat``, ``p_value``: Dickey-Fuller statistic and MacKinnon's p-value for this direction alone;
        - ``lag``: lagged differences in the final regression; ``n_obs``: bars both legs share, T. The final
          regression has ``n_obs - 1 - lag`` rows.

        Legs that are collinear but for rounding (1 - R² ≤ 100·√eps) get ``t_stat`` -inf, ``p_value`` 0 and
        ``lag`` 0. Where a leg is constant (for ``ct``: a straight line), or the residual leaves nothing to
        estimate, there is no test: ``t_stat`` is NaN, ``lag`` 0 and ``p_value`` 1, so that the pair still
        counts as one; ``alpha`` and ``beta`` are NaN where a leg is constant.

    Raises
    ------
    BarDataError
        A value that is not a finite number, or time that does not increase; names the symbol and the row.
    ParameterError
        Fewer than two symbols, duplicate symbols, an unknown option, or too few rows for ``max_lag``.

    References
    ----------
    Engle and Granger (1987); MacKinnon (1994, 2010); Schwert (1989).
    """
    check_trend(trend)
    if autolag not in _CRITERIA:
        raise ParameterError(f"unknown autolag {autolag!r}, expected aic, bic or None", where="autolag")
    if n_threads < 1:
        raise ParameterError(f"n_threads is {n_threads}, expected at least 1", where="n_threads")
    values = _checked_values(log_prices)
    lags = _checked_max_lag(max_lag, n_bars=len(values))
    legs = _legs(values, trend)
    statistics = _run_pairs(legs, lags, _CRITERIA[autolag], progress, n_threads)
    return _table(log_prices.columns, legs, statistics, trend)


def default_max_lag(n_bars: int) -> int:
    """Schwert's number of lags for ``n_bars`` levels, ceil(12·(T/100)^¼), at most T // 2 - 1."""
    return min(n_bars // 2 - 1, math.ceil(12.0 * float((n_bars / 100.0) ** 0.25)))


# --- boundary ---


def _checked_values(log_prices: pd.DataFrame) -> FloatArray:
    """Values (T × N) of a frame that keeps the contract."""
    symbols = log_prices.columns
    if not symbols.is_unique:
        raise ParameterError(
            f"symbol {symbols[symbols.duplicated()][0]} stands twice, expected distinct columns",
            where="log_prices",
        )
    if len(symbols) < 2:
        raise ParameterError(f"{len(symbols)} symbols given, expected at least 2", where="log_prices")
    if len(log_prices) < 1:
        raise ParameterError("no rows given, expected one per bar", where="log_prices")
    index = log_prices.index
    if not (index.is_monotonic_increasing and index.is_unique):
        raise BarDataError("time does not increase from row to row, expected sorted distinct times", where="log_prices")
    for symbol, kind in log_prices.dtypes.items():
        if not pd.api.types.is_numeric_dtype(kind):
            raise BarDataError(f"values are {kind}, expected numbers", where=str(symbol))
    values = log_prices.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.argwhere(~np.isfinite(values).T)
    if len(bad):
        column, row = (int(number) for number in bad[0])
        raise BarDataError(
            f"log price is {values[row, column]} at {index[row]}, expected a finite number",
            where=str(symbols[column]),
        )
    return values


def _checked_max_lag(max_lag: int | None, *, n_bars: int) -> int:
    """Number of lags, given or by rule, that leaves the longest regression a degree of freedom."""
    lags = max(default_max_lag(n_bars), 0) if max_lag is None else max_lag
    if lags < 0:
        raise ParameterError(f"max_lag is {lags}, expected 0 or more", where="max_lag")
    if n_bars < 2 * lags + 3:
        raise ParameterError(
            f"{n_bars} rows are too few for {lags} lags, expected at least {2 * lags + 3}",
            where="max_lag",
            fix=f"lower max_lag to {max((n_bars - 3) // 2, 0)} or give more rows" if n_bars >= 3 else "give more rows",
        )
    return int(lags)


@dataclass(frozen=True)
class _Legs:
    """What the test needs of each series, once per series."""

    values: FloatArray  # (N, T): centred for c, detrended for ct, as given for n
    mean: FloatArray  # (N,), 0 for n
    slope: FloatArray  # (N,) per bar, 0 unless ct
    squares: FloatArray  # (N,) sum of squares of values
    total: FloatArray  # (N,) total sum of squares R² refers to: about the mean, about 0 for n
    testable: BoolArray  # (N,) False for a series without variation


def _legs(values: FloatArray, trend: Trend) -> _Legs:
    """Series freed of the deterministic terms, which then drop out of every pair's regression exactly."""
    rows = np.ascontiguousarray(values.T)
    n_series, n_bars = rows.shape
    mean, slope = np.zeros(n_series), np.zeros(n_series)
    testable = np.asarray(np.ptp(rows, axis=1) > 0.0, dtype=np.bool_)
    if trend == "n":
        total = np.einsum("it,it->i", rows, rows)
        return _Legs(rows, mean, slope, total, total, testable)
    mean = rows.mean(axis=1)
    rows = rows - mean[:, None]
    total = np.einsum("it,it->i", rows, rows)
    if trend == "c":
        return _Legs(rows, mean, slope, total, total, testable)
    time = np.arange(n_bars, dtype=np.float64) - (n_bars - 1) / 2.0
    for _ in range(2):
        step = rows @ time / (time @ time)
        rows = rows - step[:, None] * time
        slope = slope + step
    squares = np.einsum("it,it->i", rows, rows)
    return _Legs(rows, mean, slope, squares, total, testable & (squares > _NO_VARIATION * total))


# --- all pairs ---


@dataclass(frozen=True)
class _PairStatistics:
    """Raw outcome per ordered pair, in the order of ``_pair_codes``."""

    beta: FloatArray
    t_stat: FloatArray
    lag: IntArray


def _run_pairs(legs: _Legs, max_lag: int, criterion: int, progress: Progress | None, n_threads: int) -> _PairStatistics:
    """Test every ordered pair in chunks; a chunk writes its own slice of the result."""
    n_series = len(legs.values)
    total = n_series * (n_series - 1)
    found = _PairStatistics(np.full(total, np.nan), np.full(total, np.nan), np.zeros(total, dtype=np.int64))

    def test(first: int, last: int) -> int:
        _test_chunk(
            legs.values, legs.squares, legs.total, legs.testable, first, last, max_lag, criterion,
            found.beta, found.t_stat, found.lag,
        )  # fmt: skip
        return last - first

    done = 0
    for count in _each_chunk(test, total, n_threads):
        done += count
        if progress is not None:
            progress(done, total)
    return found


def _each_chunk(test: Callable[[int, int], int], total: int, n_threads: int) -> Iterator[int]:
    """Pairs done by each chunk as it finishes."""
    size = max(1, min(_PAIRS_PER_CHUNK, -(-total // n_threads)))
    chunks = [(first, min(first + size, total)) for first in range(0, total, size)]
    if n_threads == 1 or len(chunks) == 1:
        for first, last in chunks:
            yield test(first, last)
        return
    pool = ThreadPoolExecutor(max_workers=n_threads, thread_name_prefix="engle-granger")
    try:
        futures: list[Future[int]] = [pool.submit(test, first, last) for first, last in chunks]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pair_codes(n_series: int) -> tuple[IntArray, IntArray]:
    """Column numbers of the dependent and the independent leg of every ordered pair."""
    pair = np.arange(n_series * (n_series - 1), dtype=np.int64)
    dependent, rest = np.divmod(pair, n_series - 1)
    return dependent, rest + (rest >= dependent)


def _table(symbols: pd.Index, legs: _Legs, found: _PairStatistics, trend: Trend) -> pd.DataFrame:
    """The public frame of a raw outcome."""
    dependent, independent = _pair_codes(len(symbols))
    n_bars = legs.values.shape[1]
    centre = (n_bars + 1) / 2.0  # mean of the trend 1..T
    level = legs.mean - legs.slope * centre
    untested = np.isnan(found.t_stat)
    p_value = mackinnon_p_value(found.t_stat, trend)
    columns = {
        "dependent": symbols.take(dependent),
        "independent": symbols.take(independent),
        "alpha": level[dependent] - found.beta * level[independent],
        "beta": found.beta,
        "t_stat": found.t_stat,
        "p_value": np.where(untested, 1.0, p_value),
        "lag": found.lag,
        "n_obs": np.full(len(dependent), n_bars, dtype=np.int64),
    }
    return pd.DataFrame(columns, columns=list(PAIR_COLUMNS))


# --- kernels ---
# e = y - beta·x: residual; d_t = e_t - e_{t-1}; times run 0..T-1; a regression with q lags has the rows
# t = q+1..T-1. back[k] = d_{T-1-k}, followed by zeros.


@compiled
def _dot(a: FloatArray, b: FloatArray) -> float:
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
def _best_lag(
    a: FloatArray,
    own: FloatArray,
    level: FloatArray,
    levels: float,
    back: FloatArray,
    n_bars: int,
    max_lag: int,
    criterion: int,
) -> int:
    """Lag 0..max_lag that minimises the criterion on the common sample; ties go to the smaller lag."""
    n = max_lag + 1  # regressors: level, then the lags in order
    _fill(back, n_bars, max_lag, own, a, 1)
    a[0, 0] = levels
    a[0, n] = level[0]
    for lag in range(1, n):
        a[0, lag] = level[lag]
        a[lag, n] = own[lag]
    _floors(a, n)
    _eliminate(a, n)
    rows = n_bars - 1 - max_lag
    penalty = 2.0 if criterion == 1 else math.log(rows)
    rss, rank = own[0], 0
    best, lowest = 0, math.inf
    for lag in range(n):
        if a[lag, lag] > 0.0:
            rank += 1
        rss -= a[lag, n] * a[lag, n]
        value = (rows * math.log(rss) if rss > 0.0 else -math.inf) + penalty * rank
        if value < lowest:
            best, lowest = lag, value
    return best


@compiled
def _statistic(
    a: FloatArray, own: FloatArray, level: FloatArray, levels: float, back: FloatArray, n_bars: int, lag: int
) -> float:
    """t of the level in the regression with ``lag`` lags; the level comes last, so t falls out of the fit."""
    n = lag + 1
    _fill(back, n_bars, lag, own, a, 0)
    for i in range(lag):
        a[i, lag] = level[i + 1]
        a[i, n] = own[i + 1]
    a[lag, lag] = levels
    a[lag, n] = level[0]
    _floors(a, n)
    _eliminate(a, n)
    rss, rank = own[0], 0
    for i in range(n):
        if a[i, i] > 0.0:
            rank += 1
        rss -= a[i, n] * a[i, n]
    freedom = n_bars - 1 - lag - rank
    if a[lag, lag] <= 0.0 or freedom < 1:
        return math.nan
    if rss <= 0.0:
        return math.copysign(math.inf, a[lag, n])
    return float(a[lag, n] / math.sqrt(rss / freedom))


@compiled
def _test_chunk(
    legs: FloatArray,
    squares: FloatArray,
    total: FloatArray,
    testable: BoolArray,
    first: int,
    last: int,
    max_lag: int,
    criterion: int,
    beta: FloatArray,
    t_stat: FloatArray,
    best_lag: IntArray,
) -> None:
    """Test the ordered pairs first..last-1 and write their beta, t and lag."""
    n_series, n_bars = legs.shape
    width = (max_lag + 8) // 8 * 8
    e = np.empty(n_bars)
    back = np.zeros(n_bars + width + 16)
    covariance = np.empty(width)
    own, level = np.empty(max_lag + 1), np.empty(max_lag + 1)
    a = np.zeros((max_lag + 2, max_lag + 2))
    for pair in range(first, last):
        i, rest = divmod(pair, n_series - 1)
        j = rest + 1 if rest >= i else rest
        if not (testable[i] and testable[j]):
            continue
        y, x = legs[i], legs[j]
        b = _dot(x, y) / squares[j]
        beta[pair] = b
        for t in range(n_bars):
            e[t] = y[t] - b * x[t]
        for t in range(1, n_bars):
            back[n_bars - 1 - t] = e[t] - e[t - 1]
        sum_squares = _dot(e, e)
        if not 1.0 - sum_squares / total[i] < 1.0 - _COLLINEAR:
            t_stat[pair] = -math.inf
            continue
        _autocovariances(back, n_bars - 1, covariance)
        lag = max_lag
        levels = _own_lags(e, back, covariance, sum_squares, lag, own, level)
        if criterion != 0:
            lag = _best_lag(a, own, level, levels, back, n_bars, max_lag, criterion)
            if lag != max_lag:
                levels = _own_lags(e, back, covariance, sum_squares, lag, own, level)
        best_lag[pair] = lag
        t_stat[pair] = _statistic(a, own, level, levels, back, n_bars, lag)
