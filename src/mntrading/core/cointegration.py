"""Engle-Granger test of every ordered pair of a universe, equal to ``statsmodels.tsa.stattools.coint``.

Per ordered pair: regress the dependent log price on the independent one, take the residual, choose the lag of an
augmented Dickey-Fuller regression without deterministic terms, refit it on the longest sample that lag allows.
All pairs share a handful of matrix products over time (``all_pairs``, ``moments``), after which a test is a small
Cholesky factor (``moment_tests``); where rounding could matter, a pair is tested again from its residuals
(``residual_tests``). docs/screening.md has the formulas.

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mntrading.core.all_pairs import Outcome, Window, run_windows
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.mackinnon import Trend, check_trend, mackinnon_p_value
from mntrading.core.residual_tests import CRITERIA, legs_of, residual_tests
from mntrading.core.types import FloatArray, IntArray, Pair
from mntrading.core.white_tests import white_t_stat

AutoLag = Literal["aic", "bic"]
Progress = Callable[[int, int], None]

PAIR_COLUMNS: Final = ("dependent", "independent", "alpha", "beta", "t_stat", "p_value", "lag", "n_obs")

_ROWS_AT_ONCE: Final = 1_000_000


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
        Frame (T bars × N symbols) of log prices, time increasing, N ≥ 2. NaN before a symbol's first bar means that
        it was listed later: its pairs are tested on the bars both legs have. NaN after it and infinities are
        refused.
    max_lag
        Most lagged differences in the Dickey-Fuller regression. ``None``: ceil(12·(n/100)^¼) for a pair with n
        common bars, at most n // 2 - 1.
    autolag
        Criterion the lag minimises over 0..``max_lag`` on the common sample of n - 1 - ``max_lag`` rows, ties to the
        smaller lag. ``None``: exactly ``max_lag`` lags.
    trend
        Deterministic terms of the cointegrating regression: ``n`` none, ``c`` constant, ``ct`` constant and
        linear trend. (Without a constant, R² is about zero and so close to 1 that nearly every pair is tested from
        its residuals, which takes tens of times longer.)
    progress
        Called as ``progress(pairs done, pairs in all)`` in the calling thread, now and then and at the end.
    n_threads
        Worker threads, or the ``n_jobs`` of what ``joblib.parallel_config`` was told to use: processes, a cluster. The
        result does not depend on it.

    Returns
    -------
    DataFrame
        One row per ordered pair, N·(N - 1) in all, ordered by dependent then independent in column order:

        - ``dependent``, ``independent``: symbols; ``alpha``, ``beta``: intercept and hedge ratio of
          ``dependent = alpha + beta·independent`` (``alpha`` is 0 for ``n``; for ``ct`` it is the intercept
          where the trend, which is 1 on the first common bar, is 0);
        - ``t_stat``, ``p_value``: Dickey-Fuller statistic and MacKinnon's p-value for this direction alone;
        - ``lag``: lagged differences in the final regression; ``n_obs``: bars both legs have. The final regression
          has ``n_obs - 1 - lag`` rows.

        Legs that are collinear but for rounding (1 - R² ≤ 100·√eps) get ``t_stat`` -inf, ``p_value`` 0 and
        ``lag`` 0. Where a leg is constant on the common bars (for ``ct``: a straight line), these are too few, or the
        residual leaves nothing to estimate, there is no test: ``t_stat`` is NaN, ``lag`` 0 and ``p_value`` 1, so that
        the pair still counts as one; ``alpha`` and ``beta`` are NaN where a leg is constant or the bars too few.

    Raises
    ------
    BarDataError
        A value that is not a finite number, or time that does not increase; names the symbol and the row.
    ParameterError
        Fewer than two symbols, duplicate symbols, an unknown option, or too few rows for ``max_lag`` in every pair.

    Notes
    -----
    A value may differ in its last digits with the company a symbol is screened in. Pairs with 1 - R² < 1e-3 do not:
    they come from ``engle_granger_residuals``, as does every pair whose lag or statistic could suffer from rounding.

    References
    ----------
    Engle and Granger (1987); MacKinnon (1994, 2010); Schwert (1989).
    """
    universe = _universe(log_prices, max_lag, autolag, trend, n_threads)
    n_series = universe.values.shape[1]
    total = n_series * (n_series - 1)
    found = _Found.empty(total)
    done = 0
    with closing(run_windows(universe.values, universe.windows, trend, CRITERIA[autolag], n_threads)) as tiles:
        for tile in tiles:
            place = tile.dependent * (n_series - 1) + tile.independent - (tile.independent > tile.dependent)
            found.put(place, tile)
            done += len(place)
            if progress is not None:
                progress(done, total)
    every = np.arange(n_series, dtype=np.int32)
    dependent = np.repeat(every, n_series - 1)
    independent = np.broadcast_to(every, (n_series, n_series))[~np.eye(n_series, dtype=np.bool_)]
    return _table(log_prices.columns, dependent, independent, found, trend)


def engle_granger_tiles(
    log_prices: pd.DataFrame,
    *,
    max_lag: int | None = None,
    autolag: AutoLag | None = "aic",
    trend: Trend = "c",
    n_threads: int = 1,
) -> Iterator[pd.DataFrame]:
    """The rows of ``engle_granger_pairs`` as they are found, for universes whose table would not fit into memory.

    Each frame holds some thousands of rows; a pair's two directions are always in the same one. Over all frames every
    ordered pair comes once, in an order that depends on the columns alone, and on whether workers are threads.

    Parameters
    ----------
    log_prices, max_lag, autolag, trend, n_threads
        As for ``engle_granger_pairs``.

    Yields
    ------
    DataFrame
        Columns of ``engle_granger_pairs``.

    Raises
    ------
    BarDataError, ParameterError
        As ``engle_granger_pairs``, when the first frame is asked for.
    """
    universe = _universe(log_prices, max_lag, autolag, trend, n_threads)
    for tile in run_windows(universe.values, universe.windows, trend, CRITERIA[autolag], n_threads):
        found = _Found.empty(len(tile.dependent))
        found.put(slice(None), tile)
        yield _table(log_prices.columns, tile.dependent, tile.independent, found, trend)


def engle_granger_residuals(
    log_prices: pd.DataFrame,
    pairs: Iterable[Pair],
    *,
    max_lag: int | None = None,
    autolag: AutoLag | None = "aic",
    trend: Trend = "c",
) -> pd.DataFrame:
    """The test of single pairs from their residuals: slower, and exact whatever the prices look like.

    What it gives for a pair depends on the two series alone.

    Parameters
    ----------
    log_prices, max_lag, autolag, trend
        As for ``engle_granger_pairs``.
    pairs
        Ordered pairs of columns, dependent leg first.

    Returns
    -------
    DataFrame
        Columns of ``engle_granger_pairs``, one row per pair in the order given.

    Raises
    ------
    BarDataError
        As ``engle_granger_pairs``.
    ParameterError
        As ``engle_granger_pairs``, or a pair of which ``log_prices`` has no column, or of a symbol with itself.
    """
    universe = _universe(log_prices, max_lag, autolag, trend, 1)
    dependent, independent = _columns_of(list(pairs), log_prices.columns)
    found = _Found.empty(len(dependent))
    for row, (y, x) in enumerate(zip(dependent, independent, strict=True)):
        first = max(universe.starts[y], universe.starts[x])
        n_bars = len(universe.values) - first
        lags = _max_lag(max_lag, n_bars)
        found.n_obs[row] = n_bars
        if lags is not None:
            legs = legs_of(universe.values[first:, [y, x]].T, trend)
            one = residual_tests(legs, np.array([0]), np.array([1]), max_lag=lags, criterion=CRITERIA[autolag])
            found.alpha[row] = legs.level[0] - one.beta[0] * legs.level[1]
            found.beta[row], found.t_stat[row], found.lag[row] = one.beta[0], one.t_stat[0], one.lag[0]
    return _table(log_prices.columns, dependent, independent, found, trend)


def white_t_stats(log_prices: pd.DataFrame, tests: pd.DataFrame, *, trend: Trend = "c") -> FloatArray:
    """Dickey-Fuller statistics of tested pairs with White's standard errors, for volatility that comes in clusters.

    Parameters
    ----------
    log_prices, trend
        As the tests were made with.
    tests
        Rows of ``engle_granger_pairs`` or ``engle_granger_residuals``: legs, ``beta`` and ``lag``.

    Returns
    -------
    Array, one per row: the statistic of the same regression as ``t_stat``, which refers to the same tables; NaN where
    there was no test, or nothing is left to estimate.

    Raises
    ------
    BarDataError, ParameterError
        As ``engle_granger_residuals``.

    References
    ----------
    White (1980); Demetrescu (2010): see ``core.white_tests``.
    """
    universe = _universe(log_prices, 0, None, trend, 1)
    pairs = [Pair(*legs) for legs in tests[["dependent", "independent"]].itertuples(index=False)]
    dependent, independent = _columns_of(pairs, log_prices.columns)
    found = np.full(len(pairs), np.nan)
    for row, (beta, lag) in enumerate(zip(tests["beta"].to_numpy(), tests["lag"].to_numpy(), strict=True)):
        if np.isfinite(beta):
            series = [dependent[row], independent[row]]
            legs = legs_of(universe.values[universe.starts[series].max() :, series].T, trend)
            found[row] = white_t_stat(legs.values[0] - beta * legs.values[1], int(lag))
    return found


def default_max_lag(n_bars: int) -> int:
    """Schwert's number of lags for ``n_bars`` levels, ceil(12·(T/100)^¼), at most T // 2 - 1."""
    return min(n_bars // 2 - 1, math.ceil(12.0 * float((n_bars / 100.0) ** 0.25)))


# --- boundary ---


@dataclass(frozen=True)
class _Universe:
    """Series that keep the contract, and the windows their pairs are tested on."""

    values: FloatArray  # (T, N), NaN before the first bar
    starts: IntArray  # (N,) first bar
    windows: list[Window]


def _universe(
    log_prices: pd.DataFrame, max_lag: int | None, autolag: AutoLag | None, trend: Trend, n_threads: int
) -> _Universe:
    check_trend(trend)
    if autolag not in CRITERIA:
        raise ParameterError(f"unknown autolag {autolag!r}, expected aic, bic or None", where="autolag")
    if n_threads < 1:
        raise ParameterError(f"n_threads is {n_threads}, expected at least 1", where="n_threads")
    if max_lag is not None and max_lag < 0:
        raise ParameterError(f"max_lag is {max_lag}, expected 0 or more", where="max_lag")
    values, starts = _checked_values(log_prices)
    n_bars = len(values)
    _check_rows(n_bars - int(np.partition(starts, 1)[1]), max_lag)
    windows = [
        Window(int(start), _max_lag(max_lag, n_bars - int(start)), np.flatnonzero(starts == start), older)
        for start in np.unique(starts)
        for older in [np.flatnonzero(starts < start)]
    ]
    return _Universe(values, starts, windows)


def _checked_values(log_prices: pd.DataFrame) -> tuple[FloatArray, IntArray]:
    """Values (T × N) of a frame that keeps the contract, and the row each column starts at."""
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
    finite = np.isfinite(values)
    if finite.all():
        return values, np.zeros(len(symbols), dtype=np.int64)
    starts = np.where(finite.any(axis=0), finite.argmax(axis=0), 0)
    before = np.arange(len(values))[:, None] < starts
    bad = np.argwhere(~(finite | (before & np.isnan(values))).T)
    if len(bad):
        column, row = (int(number) for number in bad[0])
        raise BarDataError(
            f"log price is {values[row, column]} at {index[row]}, expected a finite number "
            "(NaN only before the first bar)",
            where=str(symbols[column]),
        )
    return values, starts


def _max_lag(max_lag: int | None, n_bars: int) -> int | None:
    """Number of lags, given or by rule; None where it leaves the longest regression no degree of freedom."""
    lags = max(default_max_lag(n_bars), 0) if max_lag is None else int(max_lag)
    return lags if n_bars >= 2 * lags + 3 else None


def _check_rows(n_bars: int, max_lag: int | None) -> None:
    """Refuse a universe of which no pair has rows enough."""
    if _max_lag(max_lag, n_bars) is None:
        lags = max(default_max_lag(n_bars), 0) if max_lag is None else max_lag
        raise ParameterError(
            f"{n_bars} rows are too few for {lags} lags, expected at least {2 * lags + 3}",
            where="max_lag",
            fix=f"lower max_lag to {max((n_bars - 3) // 2, 0)} or give more rows" if n_bars >= 3 else "give more rows",
        )


def _columns_of(pairs: list[Pair], symbols: pd.Index) -> tuple[IntArray, IntArray]:
    """Column numbers of the dependent and the independent leg of each pair."""
    for pair in pairs:
        for symbol in pair.symbols:
            if symbol not in symbols:
                raise ParameterError("no such column in the prices", where=symbol)
        if pair.dependent == pair.independent:
            raise ParameterError(f"pair {pair.id} has one leg, expected two symbols", where="pairs")
    numbers = symbols.get_indexer(pd.Index([symbol for pair in pairs for symbol in pair.symbols])).astype(np.int64)
    return numbers[::2], numbers[1::2]


# --- table ---


@dataclass(frozen=True)
class _Found:
    """Outcomes by row of the table."""

    alpha: FloatArray
    beta: FloatArray
    t_stat: FloatArray
    lag: npt.NDArray[np.int32]
    n_obs: npt.NDArray[np.int32]

    @classmethod
    def empty(cls, n: int) -> _Found:
        """No test in any of n rows."""
        alpha, beta, t_stat = (np.full(n, np.nan) for _ in range(3))
        return cls(alpha, beta, t_stat, np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32))

    def put(self, place: IntArray | slice, tile: Outcome) -> None:
        """Write the tile's outcomes to those rows."""
        self.alpha[place], self.beta[place], self.t_stat[place] = tile.alpha, tile.beta, tile.t_stat
        self.lag[place], self.n_obs[place] = tile.lag, tile.n_obs


def _table(
    symbols: pd.Index,
    dependent: npt.NDArray[np.integer],
    independent: npt.NDArray[np.integer],
    found: _Found,
    trend: Trend,
) -> pd.DataFrame:
    """The public frame."""
    p_value = np.empty(len(dependent))
    for first in range(0, len(p_value), _ROWS_AT_ONCE):
        some = slice(first, first + _ROWS_AT_ONCE)
        t_stat = found.t_stat[some]
        p_value[some] = np.where(np.isnan(t_stat), 1.0, mackinnon_p_value(t_stat, trend))
    columns = {
        "dependent": symbols.take(dependent),
        "independent": symbols.take(independent),
        "alpha": found.alpha,
        "beta": found.beta,
        "t_stat": found.t_stat,
        "p_value": p_value,
        "lag": found.lag.astype(np.int64),
        "n_obs": found.n_obs.astype(np.int64),
    }
    return pd.DataFrame(columns, columns=list(PAIR_COLUMNS), copy=False)
