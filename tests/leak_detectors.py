"""Checks for knowledge of the future that know nothing of the code they check.

Each takes a way to compute something and says what gave it away; nothing said is what the project's code has to give.
``test_leaks`` holds them against planted leaks, so that their silence elsewhere means something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mntrading.core.evaluation import score

Bars = Mapping[str, pd.DataFrame]
Known = Callable[[Bars, pd.Timestamp], object]

_PRICES = ["open", "high", "low", "close"]


def _spoiled(bars: pd.DataFrame, later: pd.Series) -> pd.DataFrame:
    """Later prices ten times as high and volumes a hundred times as large."""
    moved = {c: bars[c].where(~later, 10 * bars[c]) for c in _PRICES if c in bars}
    return bars.assign(**moved, volume=bars["volume"].where(~later, 100 * bars["volume"]))


def same(left: object, right: object) -> bool:
    """Bit-by-bit equality of frames, arrays, numbers and texts, and of containers of them."""
    if isinstance(left, pd.DataFrame | pd.Series):
        return isinstance(right, type(left)) and left.equals(right)
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    if isinstance(left, Mapping):
        return set(left) == set(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    return bool(left == right) or (left is None and right is None)


def moments_changed_by_the_future(
    known: Known, bars: Bars, moments: Iterable[pd.Timestamp], *, own_bar: bool = False
) -> list[pd.Timestamp]:
    """Bars at whose close something stands that later bars change, by their absence or by their prices.

    Parameters
    ----------
    known
        What stands at the close of the bar that opens at a moment, from these bars.
    bars
        Bars by symbol.
    moments
        Bars to try.
    own_bar
        Whether the bar itself counts as later, for what must be known before it.
    """
    out = []
    for moment in moments:
        full = known(bars, moment)
        later = {s: b["timestamp"] >= moment if own_bar else b["timestamp"] > moment for s, b in bars.items()}
        spoiled = {s: _spoiled(b, later[s]) for s, b in bars.items()}
        cut = {s: b.loc[~later[s]].reset_index(drop=True) for s, b in bars.items()}
        tried = [spoiled] if own_bar else [spoiled, cut]
        if not all(same(full, known(other, moment)) for other in tried):
            out.append(moment)
    return out


def touched_by(compute: Callable[[pd.DataFrame], object], rows: pd.DataFrame, held_out: np.ndarray) -> list[str]:
    """Which of a held-out row's contents changes the result: labels, sizes or features.

    Parameters
    ----------
    compute
        Rows with ``label``, ``size`` and features to anything.
    rows
        All rows.
    held_out
        Which of them must not matter.
    """
    before = compute(rows)
    features = [c for c in rows if c not in ("label", "label_end", "size", "pair_id")]
    changes = {
        "labels": rows.assign(label=rows["label"].where(~held_out, 1 - rows["label"])),
        "sizes": rows.assign(size=rows["size"].where(~held_out, 3.0 - rows["size"])),
        "features": rows.assign(**{c: rows[c].where(~held_out, 5.0 - 3.0 * rows[c]) for c in features}),
    }
    return [name for name, other in changes.items() if not same(before, compute(other))]


def labels_beside_their_test_rows(
    splits: Iterable[tuple[np.ndarray, np.ndarray]],
    index: pd.DatetimeIndex,
    label_end: pd.DatetimeIndex,
    embargo: pd.Timedelta,
) -> list[int]:
    """Splits in which a training label's span comes within the embargo of a test label's."""
    out = []
    for i, (train, test) in enumerate(splits):
        begin, finish = index[train].to_numpy(), label_end[train].to_numpy()
        first, last = index[test].to_numpy() - embargo, label_end[test].to_numpy() + embargo
        order = np.argsort(first, kind="stable")
        reach = np.maximum.accumulate(last[order])
        # of the test labels that start before a training label's end, does the one reaching furthest touch it?
        before = np.searchsorted(first[order], finish, side="right") - 1
        if (before >= 0).any() and (reach[np.maximum(before, 0)] >= begin)[before >= 0].any():
            out.append(i)
    return out


def skill_on_noise(
    predict: Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]], tables: Sequence[pd.DataFrame]
) -> float:
    """Mean ROC-AUC over tables whose labels have nothing to do with their features: one half, or there is a leak.

    Parameters
    ----------
    predict
        Rows to labels and probabilities of those it predicts.
    tables
        Made-up rows.
    """
    areas = []
    for table in tables:
        y, probability = predict(table)
        areas.append(float(score("", y, probability)["roc_auc"]))
    return float(np.mean(areas))
