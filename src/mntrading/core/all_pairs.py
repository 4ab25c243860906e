"""Engle-Granger tests of all pairs of a universe: windows, panels, tiles, threads.

A pair is tested on the bars both legs have, so pairs are grouped by the later of the two listings, the *window*:
those listed with it meet one another and all that were listed before. Series come in panels, whose sums over the
window (``moments``) fit into memory whatever the number of series; a tile of two panels is one task: two matrix
products, eight pairs at a time through ``moment_tests``, the delicate ones again from their residuals.

A tile is worked on by one thread, and no sum depends on what other series there are, so neither does a pair's result,
nor on the number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from mntrading.core.mackinnon import Trend
from mntrading.core.moment_tests import run_tile
from mntrading.core.moments import COLUMNS, Blocks, CrossSums, Panel, gram, panel_of
from mntrading.core.residual_tests import legs_of, residual_tests
from mntrading.core.types import BoolArray, FloatArray, IntArray

_BAND: Final = 512  # series whose sums are in memory at a time, twice
_PANEL: Final = 64  # most series of a panel
_LEAST_PANEL: Final = COLUMNS
_TASKS_AHEAD: Final = 4  # per thread

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
    """Outcomes tile by tile, in the same order whatever the number of threads.

    Parameters
    ----------
    values
        Log prices (T × N), finite from each series' listing on.
    windows
        Which pairs to test over which window.
    trend, criterion
        Deterministic terms; a value of ``residual_tests.CRITERIA``.
    n_threads
        Worker threads.
    """
    with _Workers(n_threads) as workers:
        for window in windows:
            yield from _test_window(values[window.start :], window, trend, criterion, workers)


class _Workers:
    """Threads that do tasks and hand back what they return in the order of the tasks."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> _Workers:
        if self._n_threads > 1:
            self._pool = ThreadPoolExecutor(max_workers=self._n_threads, thread_name_prefix="engle-granger")
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def each(self, task: Callable[[_A], _B], arguments: Iterable[_A]) -> Iterator[_B]:
        """What ``task`` returns for each argument; only so many are worked on ahead of the reader."""
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


def _test_window(
    values: FloatArray, window: Window, trend: Trend, criterion: int, workers: _Workers
) -> Iterator[Outcome]:
    size = _panel_size(len(window.listed) + len(window.older))
    listed, older = _bands(window.listed, size), _bands(window.older, size)
    if window.max_lag is None:
        for k, band in enumerate(listed):
            for other in listed[k:] + older:
                yield from (_no_test(a, b, len(values)) for a, b in _tiles(band, other))
        return
    blocks = Blocks.cheapest(len(values), window.max_lag + 1)
    test = _TileTest(values, trend, blocks, criterion)

    def sums(series: IntArray) -> _Listed:
        return _Listed(series, panel_of(values[:, series], trend, blocks))

    for k, band in enumerate(listed):
        first = list(workers.each(sums, band))
        for other in listed[k:] + older:
            second = first if other is band else list(workers.each(sums, other))
            yield from workers.each(test, _tiles(first, second))


def _panel_size(n_series: int) -> int:
    """Series of a panel: some tens of tiles also where the series are few."""
    return min(_PANEL, max(_LEAST_PANEL, -(-n_series // (4 * COLUMNS)) * COLUMNS))


def _bands(series: IntArray, panel_size: int) -> list[list[IntArray]]:
    """Series by band and panel."""
    panels = [series[first : first + panel_size] for first in range(0, len(series), panel_size)]
    per_band = _BAND // panel_size
    return [panels[first : first + per_band] for first in range(0, len(panels), per_band)]


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
