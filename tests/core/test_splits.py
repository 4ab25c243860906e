"""Purged splits: what may train, on hand-made cases and on any index of events."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import grid
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from mntrading.core.errors import ParameterError
from mntrading.core.splits import PurgedTimeSeriesSplit

BAR = pd.Timedelta(minutes=5)


def frame(index: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(float(len(index)))}, index=index)


def lists(splitter: PurgedTimeSeriesSplit, X: pd.DataFrame, **given_: object) -> list[tuple[list[int], list[int]]]:
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(X, **given_)]


def test_without_labels_everything_before_a_block_trains_for_it():
    assert lists(PurgedTimeSeriesSplit(2), frame(grid(6))) == [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]


def test_rows_whose_label_ends_in_the_test_block_are_purged():
    X = frame(grid(6))
    end = X.index + 1 * BAR
    assert lists(PurgedTimeSeriesSplit(2), X, label_end=end) == [([0], [2, 3]), ([0, 1, 2], [4, 5])]
    far = X.index + BAR * np.array([0, 0, 9, 0, 0, 0])
    assert lists(PurgedTimeSeriesSplit(2), X, label_end=far)[1] == ([0, 1, 3], [4, 5])


def test_the_embargo_is_in_bars_between_the_last_label_end_and_the_first_test_row():
    X = frame(grid(9))
    assert lists(PurgedTimeSeriesSplit(2, gap=1), X) == [([0, 1], [3, 4, 5]), ([0, 1, 2, 3, 4], [6, 7, 8])]
    end = X.index + BAR
    assert lists(PurgedTimeSeriesSplit(2, gap=1), X, label_end=end) == [([0], [3, 4, 5]), ([0, 1, 2, 3], [6, 7, 8])]


def test_a_training_set_that_is_purged_away_is_empty():
    X = frame(grid(9))
    (train, test), _ = lists(PurgedTimeSeriesSplit(2, gap=50), X)
    assert (train, test) == ([], [3, 4, 5])


def test_rows_of_one_time_are_on_one_side():
    X = frame(grid(6).repeat(3))
    assert lists(PurgedTimeSeriesSplit(2), X) == [
        (list(range(6)), list(range(6, 12))),
        (list(range(12)), list(range(12, 18))),
    ]


def test_order_of_the_rows_does_not_matter():
    X = frame(grid(6))[::-1]
    assert lists(PurgedTimeSeriesSplit(2), X) == [([4, 5], [2, 3]), ([2, 3, 4, 5], [0, 1])]


def test_the_latest_rows_train_when_their_number_is_capped():
    X = frame(grid(9))
    assert [train for train, _ in lists(PurgedTimeSeriesSplit(2, 0, 2), X)] == [[1, 2], [4, 5]]
    assert [train for train, _ in lists(PurgedTimeSeriesSplit(2, 1, 2), X)] == [[0, 1], [3, 4]]


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ParameterError, match="n_splits is 1"):
        PurgedTimeSeriesSplit(1)
    with pytest.raises(ParameterError, match="gap is -1"):
        PurgedTimeSeriesSplit(2, gap=-1)
    with pytest.raises(ParameterError, match="max_train_size is 0"):
        PurgedTimeSeriesSplit(2, max_train_size=0)
    with pytest.raises(ParameterError, match="2 distinct times"):
        lists(PurgedTimeSeriesSplit(2), frame(grid(2).repeat(10)))
    with pytest.raises(ParameterError, match="label_end has 4 rows and X 6"):
        lists(PurgedTimeSeriesSplit(2), frame(grid(6)), label_end=grid(4))
    with pytest.raises(ParameterError, match="indexed by RangeIndex"):
        lists(PurgedTimeSeriesSplit(2), pd.DataFrame({"x": range(9)}))
    unknown = grid(6).insert(2, pd.NaT)[:6]
    with pytest.raises(ParameterError, match="label_end is not known at row 2"):
        lists(PurgedTimeSeriesSplit(2), frame(grid(6)), label_end=unknown)


def test_it_is_a_splitter_scikit_learn_can_use():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=200)}, index=grid(200))
    y = (X["x"] + rng.normal(size=200) > 0).astype(int)
    splitter = PurgedTimeSeriesSplit(4, gap=3)
    assert splitter.get_n_splits(X) == 4
    assert cross_val_score(LogisticRegression(), X, y, cv=splitter).shape == (4,)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    n=st.integers(8, 120),
    n_splits=st.integers(2, 5),
    gap=st.integers(0, 20),
    cap=st.one_of(st.none(), st.integers(1, 40)),
)
def test_on_any_events_no_training_label_comes_within_the_gap_of_its_test_block(seed, n, n_splits, gap, cap):
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(400, size=n, replace=True))
    index = grid(400)[at]
    if index.nunique() <= n_splits:
        return
    end = index + BAR * rng.integers(0, 30, n)
    step = np.diff(np.unique(at)).min() * BAR
    seen: list[int] = []
    for train, test in PurgedTimeSeriesSplit(n_splits, gap, cap).split(frame(index), label_end=end):
        assert len(test) > 0
        first = index[test].min()
        assert not set(train) & set(test)
        assert not set(index[train]) & set(index[test])
        allowed = np.flatnonzero((index < first) & (end + gap * step < first))
        assert set(train) <= set(allowed)
        assert len(train) == (len(allowed) if cap is None else min(cap, len(allowed)))
        if len(train):
            assert index[train].min() >= np.sort(index[allowed])[-len(train)]
        inside = (index >= first) & (index <= index[test].max())
        assert np.flatnonzero(inside).tolist() == test.tolist()
        seen += test.tolist()
    assert len(seen) == len(set(seen))
    assert max(seen) == n - 1
