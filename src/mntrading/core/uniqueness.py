"""Weights for labels that overlap: how much of its span each label has to itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mntrading.core.compiled import compiled
from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray, IntArray


@compiled
def _average_uniqueness(first: IntArray, last: IntArray, n_bars: int) -> FloatArray:
    """Mean of 1 / (labels that cover the bar) over each label's bars, first to last inclusive."""
    change = np.zeros(n_bars + 1, dtype=np.int64)
    for i in range(first.shape[0]):
        change[first[i]] += 1
        change[last[i] + 1] -= 1
    share = np.zeros(n_bars + 1)
    covering = 0
    for bar in range(n_bars):
        covering += change[bar]
        share[bar + 1] = share[bar] + (1.0 / covering if covering > 0 else 0.0)
    out = np.empty(first.shape[0])
    for i in range(first.shape[0]):
        out[i] = (share[last[i] + 1] - share[first[i]]) / (last[i] + 1 - first[i])
    return out


def average_uniqueness(first: IntArray, last: IntArray) -> FloatArray:
    """Average uniqueness of labels that cover bars ``first`` to ``last``, both inclusive.

    Look-ahead: that of the labels themselves: a row's weight depends on which rows up to its label's end are labelled,
    and thereby on what came after it. It is for fitting only.

    Parameters
    ----------
    first, last
        Whole bar numbers, shape (n,), any order.

    Returns
    -------
    Values in (0, 1], shape (n,); 1 where no other label shares a bar. They sum to the number of independent labels
    the rows are worth.

    References
    ----------
    López de Prado, M. (2018). Advances in Financial Machine Learning, section 4.4. Wiley.
    """
    if len(first) == 0:
        return np.zeros(0)
    if (last < first).any():
        row = int(np.flatnonzero(last < first)[0])
        raise ParameterError(f"label {row} ends at bar {last[row]}, before it starts at bar {first[row]}")
    origin = int(first.min())
    return _average_uniqueness(first - origin, last - origin, int(last.max()) - origin + 1)


def label_uniqueness(rows: pd.DataFrame) -> FloatArray:
    """Average uniqueness of each row's label among the labels of its own pair, shape (n,).

    Pooled pairs keep their own concurrency: each pair weighs as many independent labels as its own bars hold.

    Parameters
    ----------
    rows
        Indexed by bar open, with ``label_end`` and ``pair_id``.
    """
    start = pd.DatetimeIndex(rows.index).as_unit("ns").asi8
    end = pd.DatetimeIndex(rows["label_end"]).as_unit("ns").asi8
    out = np.ones(len(rows))
    if len(rows) == 0:
        return out
    apart = np.gcd.reduce(np.abs(np.concatenate([start, end]) - start.min()))
    step = max(int(apart), 1)
    first, last = ((moment - start.min()) // step for moment in (start, end))
    for members in rows.groupby("pair_id", sort=False).indices.values():
        out[members] = average_uniqueness(first[members], last[members])
    return out


def class_balanced(weight: FloatArray, y: IntArray) -> FloatArray:
    """Weights scaled within each class so that its share of the weight is its share of the rows.

    A label that comes true quickly is followed by fewer labelled rows, so it shares its span with fewer: its uniqueness
    knows the outcome. Left alone, such weights would teach a base rate that no row has.

    Parameters
    ----------
    weight, y
        Positive weights and labels 0 and 1, shape (n,).
    """
    out = np.empty(len(weight))
    for value in (0, 1):
        mine = y == value
        if mine.any():
            out[mine] = weight[mine] / weight[mine].mean()
    return out
