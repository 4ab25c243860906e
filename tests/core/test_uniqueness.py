"""Weights of overlapping labels against a plain twin, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import grid

from mntrading.core.errors import ParameterError
from mntrading.core.uniqueness import average_uniqueness, label_uniqueness

BAR = pd.Timedelta(minutes=5)


def by_hand(first: np.ndarray, last: np.ndarray) -> list[float]:
    covering = {bar: sum(a <= bar <= b for a, b in zip(first, last, strict=True)) for bar in range(max(last) + 1)}
    return [float(np.mean([1 / covering[bar] for bar in range(a, b + 1)])) for a, b in zip(first, last, strict=True)]


def test_labels_alone_weigh_one_and_equal_ones_share():
    assert average_uniqueness(np.array([0, 5]), np.array([4, 9])).tolist() == [1.0, 1.0]
    assert average_uniqueness(np.array([3, 3, 3, 3]), np.array([7, 7, 7, 7])) == pytest.approx(0.25)
    # the published example: bars 0-2, 2-3, 4-5
    assert average_uniqueness(np.array([0, 2, 4]), np.array([2, 3, 5])) == pytest.approx([5 / 6, 3 / 4, 1.0])
    assert average_uniqueness(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)).shape == (0,)


def test_a_label_that_ends_before_it_starts_is_refused():
    with pytest.raises(ParameterError, match="label 1 ends at bar 3, before it starts at bar 4"):
        average_uniqueness(np.array([0, 4]), np.array([2, 3]))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 100_000), n=st.integers(1, 40), span=st.integers(0, 20))
def test_on_any_labels_the_weights_are_those_of_the_plain_twin(seed, n, span):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 60, n)
    last = first + rng.integers(0, span + 1, n)
    weight = average_uniqueness(first, last)
    np.testing.assert_allclose(weight, by_hand(first, last), rtol=1e-12)
    assert ((weight > 0) & (weight <= 1 + 1e-12)).all()
    np.testing.assert_allclose(average_uniqueness(first + 10**6, last + 10**6), weight, rtol=0)
    order = rng.permutation(n)
    np.testing.assert_allclose(average_uniqueness(first[order], last[order]), weight[order], rtol=0)


def test_each_pair_is_weighed_by_its_own_labels_alone():
    rng = np.random.default_rng(0)
    frames = []
    for pair_id in ("A__B", "C__D"):
        at = np.sort(rng.choice(200, 50, replace=False))
        frames.append(pd.DataFrame({"label_end": grid(300)[at + 24], "pair_id": pair_id}, index=grid(300)[at]))
    rows = pd.concat(frames).sort_index(kind="stable")
    pooled = label_uniqueness(rows)
    for frame in frames:
        mine = (rows["pair_id"] == frame["pair_id"].iloc[0]).to_numpy()
        np.testing.assert_allclose(pooled[mine], label_uniqueness(frame), rtol=1e-12)
    first = (frames[0].index - grid(1)[0]) // BAR
    np.testing.assert_allclose(label_uniqueness(frames[0]), by_hand(first.to_numpy(), first.to_numpy() + 24))


def test_weights_know_nothing_past_their_labels_end():
    at = np.sort(np.random.default_rng(1).choice(200, 80, replace=False))
    rows = pd.DataFrame({"label_end": grid(300)[at + 12], "pair_id": "A__B"}, index=grid(300)[at])
    whole = label_uniqueness(rows)
    for cut in (40, 90, 160):
        before = rows.loc[rows.index <= grid(300)[cut]]
        known = (before["label_end"] <= grid(300)[cut]).to_numpy()
        np.testing.assert_allclose(label_uniqueness(before)[known], whole[: len(before)][known], rtol=1e-12)
