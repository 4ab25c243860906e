"""Purged splits: what may train, on hand-made cases and on any index of events."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import grid
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from leak_detectors import labels_beside_their_test_rows
from mntrading.core.errors import ParameterError
from mntrading.core.splits import CombinatorialPurgedSplit, PurgedTimeSeriesSplit, latest_block

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


def test_the_latest_block_is_purged_and_embargoed_from_what_is_before():
    X = frame(grid(10))
    before, latest = latest_block(X, 0.3, 1, label_end=X.index + BAR)
    assert (before.tolist(), latest.tolist()) == ([0, 1, 2, 3, 4], [7, 8, 9])
    assert [rows.tolist() for rows in latest_block(X.iloc[:1], 0.3, 0)] == [[], []]
    assert latest_block(X, 0.01, 0)[1].tolist() == [9]


# --- combinatorial


def combinatorial_by_hand(
    at: np.ndarray, end: np.ndarray, n_groups: int, n_test_groups: int, gap: int
) -> list[tuple[list[int], list[int]]]:
    """Plain Python twin on whole bar numbers."""
    distinct = sorted(set(at.tolist()))
    step = min(b - a for a, b in pairwise(distinct))
    edges = [round(len(distinct) * g / n_groups) for g in range(n_groups + 1)]
    group = {t: g for g in range(n_groups) for t in distinct[edges[g] : edges[g + 1]]}
    out = []
    for blocks in combinations(range(n_groups), n_test_groups):
        test = [i for i in range(len(at)) if group[at[i]] in blocks]
        train = []
        for i in range(len(at)):
            near = False
            for g in blocks:
                mine = [j for j in range(len(at)) if group[at[j]] == g]
                begin = min(at[j] for j in mine) - gap * step
                finish = max(max(at[j], end[j]) for j in mine) + gap * step
                near |= at[i] <= finish and end[i] >= begin
            if not near:
                train.append(i)
        out.append((train, test))
    return out


def test_combinations_by_hand():
    X = frame(grid(6))
    splitter = CombinatorialPurgedSplit(3, 1, gap=0)
    assert (splitter.get_n_splits(), splitter.n_paths) == (3, 1)
    assert lists(splitter, X) == [([2, 3, 4, 5], [0, 1]), ([0, 1, 4, 5], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    end = X.index + BAR
    assert lists(splitter, X, label_end=end)[1] == ([0, 5], [2, 3])
    assert lists(CombinatorialPurgedSplit(3, 1, gap=1), X)[1] == ([0, 5], [2, 3])


def test_every_path_runs_through_every_block_once_and_every_tested_block_is_in_one_path():
    splitter = CombinatorialPurgedSplit(6, 2)
    paths = splitter.paths()
    assert paths.shape == (splitter.n_paths, 6) == (5, 6)
    assert splitter.get_n_splits() == 15
    used = [(int(split), g) for path in paths for g, split in enumerate(path)]
    assert sorted(used) == sorted((i, g) for i, blocks in enumerate(splitter.chosen()) for g in blocks)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    n=st.integers(8, 60),
    n_groups=st.integers(2, 5),
    tests=st.integers(1, 4),
    gap=st.integers(0, 8),
)
def test_on_any_events_combinations_are_those_of_the_plain_twin(seed, n, n_groups, tests, gap):
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(120, size=n, replace=True))
    if tests >= n_groups or len(set(at)) < n_groups:
        return
    end = at + rng.integers(0, 12, n)
    index = grid(200)
    X = frame(index[at])
    splitter = CombinatorialPurgedSplit(n_groups, tests, gap)
    step = np.diff(np.unique(at)).min() * BAR
    splits = splitter.split(X, label_end=index[end])
    assert labels_beside_their_test_rows(splits, index[at], index[end], gap * step) == []
    expected = combinatorial_by_hand(at, end, n_groups, tests, gap)
    assert lists(splitter, X, label_end=index[end]) == expected
    blocks = splitter.blocks(X)
    for (_, test), chosen in zip(expected, splitter.chosen(), strict=True):
        assert set(blocks[test]) == set(chosen)


def test_combinations_are_those_of_an_independent_package():
    purgedcv = pytest.importorskip("purgedcv", reason="purgedcv is not installed")
    n, horizon = 240, 7
    index = grid(n)
    end = index + horizon * BAR
    theirs = purgedcv.CombinatorialPurgedCV(
        n_splits=6,
        n_test_groups=2,
        prediction_times=pd.Series(index.tz_localize(None)),
        # its spans are open at the end, ours closed
        evaluation_times=pd.Series((end + pd.Timedelta(milliseconds=1)).tz_localize(None)),
    )
    mine = lists(CombinatorialPurgedSplit(6, 2), frame(index), label_end=end)
    other = [(train.tolist(), test.tolist()) for train, test in theirs.split(np.zeros((n, 1)))]
    assert mine == other


def test_what_cannot_be_combined_is_refused():
    with pytest.raises(ParameterError, match="n_groups is 1"):
        CombinatorialPurgedSplit(1, 1)
    with pytest.raises(ParameterError, match="n_test_groups is 3, expected 1 to 2"):
        CombinatorialPurgedSplit(3, 3)
    with pytest.raises(ParameterError, match="gap is -1"):
        CombinatorialPurgedSplit(3, 1, gap=-1)
    with pytest.raises(ParameterError, match="2 distinct times can't be cut into 3 groups"):
        lists(CombinatorialPurgedSplit(3, 1), frame(grid(2).repeat(4)))
