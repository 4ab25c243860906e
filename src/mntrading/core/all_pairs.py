"""Engle-Granger tests of all pairs of a universe: windows, panels, tiles, workers.

A pair is tested on the bars both legs have, so pairs are grouped by the later of the two listings, the *window*:
those listed with it meet one another and all that were listed before. Series come in panels, whose sums over the
window (``moments``) fit into memory whatever the number of series; a tile of two panels is one task: two matrix
products, eight pairs at a time through ``moment_tests``, the delicate ones again from their residuals.

Threads share the sums of a panel. Where joblib was told to use workers that share no memory
(``joblib.parallel_config``), a task is a strip of panels against another: it names its series and makes their sums
anew from the prices, which go to a worker once.

A tile is worked on by one thread, and no sum depends on what other series there are, so neither does a pair's result,
nor on the number of workers or what they are.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

import joblib
import numpy as np
from joblib.parallel import get_active_backend

from mntrading.core.mackinnon import Trend
from mntrading.core.moment_tests import run_tile
from mntrading.core.moments import COLUMNS, Blocks, CrossSums, Panel, gram, panel_of
from mntrading.core.residual_tests import legs_of, residual_tests
from mntrading.core.types import BoolArray, FloatArray, IntArray

_BAND: Final = 512  # series whose sums are in memory at a time, twice
_PANEL: Final = 64  # most series of a panel
_LEAST_PANEL: Final = COLUMNS
_STRIPS: Final = 4  # at least so many, that there is work for several workers
_TASKS_AHEAD: Final = 4  # per worker

_A = TypeVar("_A")
_B = TypeVar("_B")


@dataclass(frozen=True)
class Window:
    """The pairs whose later leg was listed at bar ``start``, and how they are tested.

    Parameters
    ----------
    start
        First bar of the window, which ends with the last row.
    max_lag
        Most lags, or None where the window is too short for a test.
    listed, older
        Numbers of the series listed at ``start`` and before.
    """

    start: int
    max_lag: int | None
    listed: IntArray
    older: IntArray


@dataclass(frozen=True)
class Outcome:
    """Tests of some ordered pairs over one window, each pair in both directions. NaN: no test."""

    dependent: IntArray
    independent: IntArray
    alpha: FloatArray
    beta: FloatArray
    t_stat: FloatArray
    lag: IntArray
    n_obs: int


def run_windows(
    values: FloatArray, windows: list[Window], trend: Trend, criterion: int, n_threads: int
) -> Generator[Outcome]:
    """Outcomes tile by tile, in the same order whatever the number of workers.

    Parameters
    ----------
    values
        Log prices (T × N), finite from each series' listing on.
    windows
        Which pairs to test over which window.
    trend, criterion
        Deterministic terms; a value of ``residual_tests.CRITERIA``.
    n_threads
        Worker threads, or the ``n_jobs`` of what joblib was told to use.
    """
    backend, _ = get_active_backend(prefer="threads")
    if getattr(backend, "supports_sharedmem", False):
        with _Threads(n_threads) as threads:
            for window in windows:
                yield from _test_window(values, window, trend, criterion, threads)
        return
    for window in windows:
        if window.max_lag is None:
            yield from _untested(window, len(values))
    strips = (strip for window in windows for strip in _strips(window, trend, criterion))
    for outcomes in _each_elsewhere(_test_strip, values, strips, n_threads):
        yield from outcomes


class _Threads:
    """Threads that do tasks and hand back what they return in the order of the tasks."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> _Threads:
        if self._n_threads > 1:
            self._pool = ThreadPoolExecutor(max_workers=self._n_threads, thread_name_prefix="engle-granger")
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def each(self, task: Callable[[_A], _B], arguments: Iterable[_A]) -> Iterator[_B]:
        """What ``task`` returns for each argument; only so many are worked on ahead of the reader.

        joblib's own threads would be slower: it looks for results every 10 ms, as long as some universes take in all.
        """
        if self._pool is None:
            yield from map(task, arguments)
            return
        ahead: deque[Future[_B]] = deque()
        for argument in arguments:
            ahead.append(self._pool.submit(task, argument))
            if len(ahead) > _TASKS_AHEAD * self._n_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _each_elsewhere(
    task: Callable[[FloatArray, _A], _B], values: FloatArray, arguments: Iterator[_A], n_jobs: int
) -> Iterator[_B]:
    """What ``task`` returns for the values and each argument, by joblib's workers, in the order of the arguments.

    joblib does not wait for its reader, so it gets only some arguments at a time.
    """
    backend, _ = get_active_backend()
    n_ahead = _TASKS_AHEAD * backend.effective_n_jobs(n_jobs)
    with joblib.Parallel(n_jobs, return_as="generator", pre_dispatch="all", batch_size=1) as parallel:
        while some := list(islice(arguments, n_ahead)):
            results = parallel(joblib.delayed(task)(values, argument) for argument in some)
            try:
                for result in results:  # noqa: UP028 # what a reader leaves is given up below, not by joblib
                    yield result
            finally:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # that a reader who stops early gives work away
                    results.close()


def _test_window(
    values: FloatArray, window: Window, trend: Trend, criterion: int, threads: _Threads
) -> Iterator[Outcome]:
    if window.max_lag is None:
        yield from _untested(window, len(values))
        return
    size = _panel_size(window)
    listed, older = (_bands(series, size, _BAND // size) for series in (window.listed, window.older))
    test = _TileTest.of(values, window.start, window.max_lag, trend, criterion)
    for k, band in enumerate(listed):
        first = list(threads.each(test.sums, band))
        for other in listed[k:] + older:
            second = first if other is band else list(threads.each(test.sums, other))
            yield from threads.each(test, _tiles(first, second))


@dataclass(frozen=True)
class _Strip:
    """Tiles for one worker: panels against others, or against one another where there are no others."""

    start: int
    max_lag: int
    trend: Trend
    criterion: int
    rows: list[IntArray]
    columns: list[IntArray] | None


def _strips(window: Window, trend: Trend, criterion: int) -> Iterator[_Strip]:
    """The pairs of a window in strips whose number and order depend on its series alone."""
    if window.max_lag is None:
        return
    size = _panel_size(window)
    n_panels = -(-(len(window.listed) + len(window.older)) // size)
    width = min(_BAND // size, -(-n_panels // _STRIPS))
    listed, older = (_bands(series, size, width) for series in (window.listed, window.older))
    for k, rows in enumerate(listed):
        yield _Strip(window.start, window.max_lag, trend, criterion, rows, None)
        for columns in listed[k + 1 :] + older:
            yield _Strip(window.start, window.max_lag, trend, criterion, rows, columns)


def _test_strip(values: FloatArray, strip: _Strip) -> list[Outcome]:
    """The task of a worker with a memory of its own."""
    test = _TileTest.of(values, strip.start, strip.max_lag, strip.trend, strip.criterion)
    rows = [test.sums(series) for series in strip.rows]
    columns = rows if strip.columns is None else [test.sums(series) for series in strip.columns]
    return [test(tile) for tile in _tiles(rows, columns)]


def _panel_size(window: Window) -> int:
    """Series of a panel: some tens of tiles also where the series are few."""
    n_series = len(window.listed) + len(window.older)
    return min(_PANEL, max(_LEAST_PANEL, -(-n_series // (4 * COLUMNS)) * COLUMNS))


def _bands(series: IntArray, panel_size: int, n_panels: int) -> list[list[IntArray]]:
    """Series by panel, so many panels to a band."""
    panels = [series[first : first + panel_size] for first in range(0, len(series), panel_size)]
    return [panels[first : first + n_panels] for first in range(0, len(panels), n_panels)]


def _tiles(band: list[_A], other: list[_A]) -> Iterator[tuple[_A, _A]]:
    """Pairs of panels; those of a band with itself once."""
    for k, panel in enumerate(band):
        for second in band[k:] if other is band else other:
            yield panel, second


@dataclass(frozen=True)
class _Listed:
    """A panel and the numbers of its series."""

    series: IntArray
    panel: Panel


class _TileTest:
    """The task: every pair of two panels, in both directions."""

    def __init__(self, values: FloatArray, trend: Trend, blocks: Blocks, criterion: int) -> None:
        self._values, self._trend, self._blocks, self._criterion = values, trend, blocks, criterion
        self._cross = CrossSums(blocks)

    @classmethod
    def of(cls, values: FloatArray, start: int, max_lag: int, trend: Trend, criterion: int) -> _TileTest:
        """Tests over the bars from ``start`` on."""
        inside = values[start:]
        return cls(inside, trend, Blocks.cheapest(len(inside), max_lag + 1), criterion)

    def sums(self, series: IntArray) -> _Listed:
        """The panel of these series."""
        return _Listed(series, panel_of(self._values[:, series], self._trend, self._blocks))

    def __call__(self, tile: tuple[_Listed, _Listed]) -> Outcome:
        rows, columns = tile[0].panel, tile[1].panel
        products = gram(rows, columns)
        met = _met(*tile)
        usable = np.zeros(products.shape, dtype=np.bool_)
        usable[: len(rows), : len(columns)] = met
        usable &= rows.testable[:, None] & columns.testable
        beta, t_stat = np.full((2, *usable.shape), np.nan), np.full((2, *usable.shape), np.nan)
        lag = np.zeros((2, *usable.shape), dtype=np.int64)
        delicate = np.zeros((2, *usable.shape), dtype=np.bool_)
        run_tile(
            products, self._cross(rows, columns), rows.series, columns.series, usable,
            len(self._values), self._blocks.n_lags - 1, self._criterion, beta, t_stat, lag, delicate,
        )  # fmt: skip
        i, j = met.nonzero()
        first, second = tile[0].series[i], tile[1].series[j]
        found = Outcome(
            np.concatenate((first, second)),
            np.concatenate((second, first)),
            np.concatenate(
                (
                    rows.level[i] - beta[0, i, j] * columns.level[j],
                    columns.level[j] - beta[1, i, j] * rows.level[i],
                )
            ),
            np.concatenate((beta[0, i, j], beta[1, i, j])),
            np.concatenate((t_stat[0, i, j], t_stat[1, i, j])),
            np.concatenate((lag[0, i, j], lag[1, i, j])),
            len(self._values),
        )
        self._test_again(found, np.concatenate((delicate[0, i, j], delicate[1, i, j])).nonzero()[0])
        return found

    def _test_again(self, found: Outcome, which: IntArray) -> None:
        """Put in what the residuals of these pairs say."""
        if not len(which):
            return
        series, at = np.unique(np.concatenate((found.dependent[which], found.independent[which])), return_inverse=True)
        legs = legs_of(self._values[:, series].T, self._trend)
        y, x = at[: len(which)], at[len(which) :]
        again = residual_tests(legs, y, x, max_lag=self._blocks.n_lags - 1, criterion=self._criterion)
        found.alpha[which] = legs.level[y] - again.beta * legs.level[x]
        found.beta[which], found.t_stat[which], found.lag[which] = again.beta, again.t_stat, again.lag


def _met(rows: _Listed, columns: _Listed) -> BoolArray:
    """Pairs of the tile (m × n): all, or those above the diagonal of a panel with itself."""
    met = np.ones((len(rows.series), len(columns.series)), dtype=np.bool_)
    return np.triu(met, 1) if rows is columns else met


def _untested(window: Window, n_bars: int) -> Iterator[Outcome]:
    """The pairs of a window that is too short, tile by tile."""
    size = _panel_size(window)
    listed, older = (_bands(series, size, 1) for series in (window.listed, window.older))
    for k, (rows,) in enumerate(listed):
        for (columns,) in listed[k:] + older:
            yield _no_test(rows, columns, n_bars - window.start)


def _no_test(rows: IntArray, columns: IntArray, n_obs: int) -> Outcome:
    """The pairs of a tile of a window that is too short."""
    met = np.ones((len(rows), len(columns)), dtype=np.bool_)
    i, j = (np.triu(met, 1) if rows is columns else met).nonzero()
    first, second = rows[i], columns[j]
    nothing = np.full(2 * len(i), np.nan)
    return Outcome(
        np.concatenate((first, second)), np.concatenate((second, first)), nothing, nothing, nothing,
        np.zeros(2 * len(i), dtype=np.int64), n_obs,
    )  # fmt: skip
