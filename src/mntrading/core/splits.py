"""Time-series cross-validation that keeps every label's future out of the training rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt
import pandas as pd

from mntrading.core.errors import ParameterError
from mntrading.core.types import IntArray


class PurgedTimeSeriesSplit:
    """Expanding (or rolling) splits by time, purged by label end and embargoed by ``gap`` bars.

    The distinct times of X are cut into ``n_splits + 1`` equal blocks; block i + 1 is the i-th test set and
    everything before it may train, except rows whose label ends at or after the test set's start less
    ``gap`` bars. Rows of different pairs at one time always fall on the same side.

    Parameters
    ----------
    n_splits
        Number of splits, at least 2.
    gap
        Embargo between the last label end used for training and the first test row, in bars of the finest
        step found in the index.
    max_train_size
        Most rows to train on, the latest ones; None for all.
    """

    def __init__(self, n_splits: int = 5, gap: int = 0, max_train_size: int | None = None) -> None:
        if n_splits < 2:
            raise ParameterError(f"n_splits is {n_splits}, expected at least 2")
        if gap < 0:
            raise ParameterError(f"gap is {gap}, expected 0 or more bars")
        if max_train_size is not None and max_train_size < 1:
            raise ParameterError(f"max_train_size is {max_train_size}, expected at least 1 row, or None for all")
        self.n_splits, self.gap, self.max_train_size = n_splits, gap, max_train_size

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of splits, as scikit-learn asks for it."""
        del X, y, groups
        return self.n_splits

    def split(
        self,
        X: pd.DataFrame,
        y: object = None,
        groups: object = None,
        *,
        label_end: pd.Series | pd.DatetimeIndex | None = None,
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Row numbers of each training and test set.

        Parameters
        ----------
        X
            Frame with a DatetimeIndex (bar opens); several rows may share a time.
        label_end
            Open time of the last bar each row's label uses, aligned with X. Without it the row's own time.

        Yields
        ------
        train, test
            Sorted row numbers. A split whose training set is purged away is yielded with an empty one.

        Raises
        ------
        ParameterError
            When X has no more distinct times than splits, or ``label_end`` another length or a row without a time.
        """
        del y, groups
        times, ends, distinct = _spans(X, label_end)
        if len(distinct) <= self.n_splits:
            raise ParameterError(f"{len(distinct)} distinct times can't be cut into {self.n_splits} splits")
        embargo = self.gap * int(np.diff(distinct).min())
        edges = np.linspace(0, len(distinct), self.n_splits + 2).round().astype(int)
        for block in range(1, self.n_splits + 1):
            first = distinct[edges[block]]
            last = distinct[edges[block + 1] - 1]
            test = np.flatnonzero((times >= first) & (times <= last))
            train = np.flatnonzero((times < first) & (ends < first - embargo))
            if self.max_train_size is not None and len(train) > self.max_train_size:
                latest = np.argsort(times[train], kind="stable")[-self.max_train_size :]
                train = np.sort(train[latest])
            yield train, test


class CombinatorialPurgedSplit:
    """Every choice of ``n_test_groups`` out of ``n_groups`` blocks of time as test set, purged on both sides.

    Each block is tested C(n_groups - 1, n_test_groups - 1) times, so the out-of-fold values join to that many whole
    paths through time: a distribution of a candidate's score where one walk forward gives a single number. Training
    rows may lie after test rows: for the choice among candidates inside one window, never for a record.

    Parameters
    ----------
    n_groups
        Blocks of equally many distinct times, at least 2.
    n_test_groups
        Blocks tested at once, at least 1 and below ``n_groups``.
    gap
        Embargo in bars of the finest step found in the index, on both sides of every test block: a training label
        ends more than ``gap`` bars before it, or its row comes more than ``gap`` bars after its last label's end.

    References
    ----------
    López de Prado, M. (2018). Advances in Financial Machine Learning, chapters 7 and 12. Wiley.
    """

    def __init__(self, n_groups: int = 6, n_test_groups: int = 2, gap: int = 0) -> None:
        if n_groups < 2:
            raise ParameterError(f"n_groups is {n_groups}, expected at least 2")
        if not 1 <= n_test_groups < n_groups:
            raise ParameterError(f"n_test_groups is {n_test_groups}, expected 1 to {n_groups - 1}")
        if gap < 0:
            raise ParameterError(f"gap is {gap}, expected 0 or more bars")
        self.n_groups, self.n_test_groups, self.gap = n_groups, n_test_groups, gap

    @property
    def n_paths(self) -> int:
        """Whole paths through time that the test sets join to."""
        return comb(self.n_groups - 1, self.n_test_groups - 1)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of splits, as scikit-learn asks for it."""
        del X, y, groups
        return comb(self.n_groups, self.n_test_groups)

    def chosen(self) -> list[tuple[int, ...]]:
        """Test blocks of each split, in the order of ``split``."""
        return list(combinations(range(self.n_groups), self.n_test_groups))

    def paths(self) -> IntArray:
        """Which split gives each block of each path, shape (n_paths, n_groups)."""
        return np.array(
            [[i for i, blocks in enumerate(self.chosen()) if g in blocks] for g in range(self.n_groups)], dtype=np.int64
        ).T

    def blocks(self, X: pd.DataFrame) -> IntArray:
        """Block of each row of X."""
        times, _, distinct = _spans(X, None)
        edges = self._edges(distinct)
        return (np.searchsorted(edges, np.searchsorted(distinct, times), side="right") - 1).astype(np.int64)

    def split(
        self,
        X: pd.DataFrame,
        y: object = None,
        groups: object = None,
        *,
        label_end: pd.Series | pd.DatetimeIndex | None = None,
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Row numbers of each training and test set; arguments and errors as ``PurgedTimeSeriesSplit.split``."""
        del y, groups
        times, ends, distinct = _spans(X, label_end)
        block = self.blocks(X)
        embargo = self.gap * int(np.diff(distinct).min())
        rows = [np.flatnonzero(block == g) for g in range(self.n_groups)]
        # what one test block forbids does not depend on the others
        allowed = [
            (ends < times[mine].min() - embargo) | (times > max(ends[mine].max(), times[mine].max()) + embargo)
            for mine in rows
        ]
        for blocks in self.chosen():
            fit = np.logical_and.reduce([allowed[g] for g in blocks])
            yield np.flatnonzero(fit), np.sort(np.concatenate([rows[g] for g in blocks]))

    def _edges(self, distinct: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if len(distinct) < self.n_groups:
            raise ParameterError(f"{len(distinct)} distinct times can't be cut into {self.n_groups} groups")
        return np.linspace(0, len(distinct), self.n_groups + 1).round().astype(np.int64)


def latest_block(
    X: pd.DataFrame, share: float, gap: int, *, label_end: pd.Series | pd.DatetimeIndex | None = None
) -> tuple[IntArray, IntArray]:
    """Row numbers before and in the latest ``share`` of the distinct times, purged and embargoed as a split's.

    Either may be empty. Arguments and errors as ``PurgedTimeSeriesSplit.split``.
    """
    times, ends, distinct = _spans(X, label_end)
    if len(distinct) < 2:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    embargo = gap * int(np.diff(distinct).min())
    first = distinct[min(round((1 - share) * len(distinct)), len(distinct) - 1)]
    return np.flatnonzero((times < first) & (ends < first - embargo)), np.flatnonzero(times >= first)


def _spans(
    X: pd.DataFrame, label_end: pd.Series | pd.DatetimeIndex | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and end of each row's label, and the distinct starts, in nanoseconds."""
    if not isinstance(X.index, pd.DatetimeIndex):
        raise ParameterError(f"X is indexed by {type(X.index).__name__}, expected bar open times")
    times = _nanoseconds(X.index)
    ends = times if label_end is None else _nanoseconds(pd.DatetimeIndex(label_end))
    if len(ends) != len(times):
        raise ParameterError(f"label_end has {len(ends)} rows and X {len(times)}")
    if label_end is not None and pd.isna(label_end).any():
        raise ParameterError(f"label_end is not known at row {int(np.flatnonzero(pd.isna(label_end))[0])}")
    return times, ends, np.unique(times)


def _nanoseconds(index: pd.DatetimeIndex) -> npt.NDArray[np.int64]:
    return index.as_unit("ns").asi8.astype(np.int64, copy=False)
