"""Time-series cross-validation that keeps every label's future out of the training rows."""

from __future__ import annotations

from collections.abc import Iterator

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
        if not isinstance(X.index, pd.DatetimeIndex):
            raise ParameterError(f"X is indexed by {type(X.index).__name__}, expected bar open times")
        times = _nanoseconds(X.index)
        ends = times if label_end is None else _nanoseconds(pd.DatetimeIndex(label_end))
        if len(ends) != len(times):
            raise ParameterError(f"label_end has {len(ends)} rows and X {len(times)}")
        if label_end is not None and pd.isna(label_end).any():
            raise ParameterError(f"label_end is not known at row {int(np.flatnonzero(pd.isna(label_end))[0])}")
        distinct = np.unique(times)
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


def _nanoseconds(index: pd.DatetimeIndex) -> npt.NDArray[np.int64]:
    return index.as_unit("ns").asi8.astype(np.int64, copy=False)
