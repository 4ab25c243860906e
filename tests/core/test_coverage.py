"""Intervals against sets of points, and a ledger against a plain account of what was asked for and came."""

from __future__ import annotations

import itertools
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mntrading.core.coverage import Gap, Ledger, merged, subtracted

points = st.integers(0, 40)
intervals = st.lists(st.tuples(points, points), max_size=8)
HOUR = 3_600_000


def covered(parts):
    return {point for first, until in parts for point in range(first, until)}


@given(intervals)
def test_merged_intervals_are_the_same_times_disjoint_and_in_order(parts):
    out = merged(parts)
    assert covered(out) == covered(parts)
    assert all(first < until for first, until in out)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(out))


@given(st.tuples(points, points), intervals)
def test_subtracted_intervals_are_what_is_left_over(wanted, parts):
    out = subtracted(wanted, parts)
    assert covered(out) == covered([wanted]) - covered(parts)
    assert out == merged(out)


def answered(ledger, span, opens, *, at, listed_from=None, rejected=(), step=1):
    there = np.array(sorted(opens), dtype=np.int64)
    return ledger.answered(
        span, there, step=step, asked_at=at, rejected=dict.fromkeys(rejected, "bad"), revised={},
        listed_from=listed_from,
    )  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(
    spans=st.lists(st.tuples(points, points).filter(lambda s: s[0] < s[1]), min_size=1, max_size=6),
    bars=st.sets(points),
    bad=st.sets(points),
    listed=st.none() | points,
)
def test_a_gap_is_what_was_asked_for_and_did_not_come_since_the_listing(spans, bars, bad, listed):
    bars = {bar for bar in bars if listed is not None and bar >= listed}
    ledger, asked = Ledger(), {}
    for at, span in enumerate(spans):
        inside = bars & set(range(*span))
        ledger = answered(ledger, span, inside, at=at, listed_from=listed, rejected=bad & set(range(*span)))
        asked |= dict.fromkeys(range(*span), at)
    missing = {point: at for point, at in asked.items() if listed is not None and point >= listed and point not in bars}
    found = {point: gap for gap in ledger.gaps for point in range(gap.first, gap.until)}
    assert {point: gap.asked_at for point, gap in found.items()} == missing
    assert {point for point, gap in found.items() if gap.reason == "rejected"} == set(missing) & bad
    assert covered(ledger.fetched) == set(asked)
    assert set(ledger.rejected) == (bad & set(asked)) - bars
    assert Ledger.parse(json.loads(json.dumps(ledger.document()))) == ledger


def test_only_what_is_missing_is_asked_for_and_young_gaps_again():
    ledger = answered(Ledger(), (10, 20), {10, 11, 14, 15, 18}, at=20, listed_from=10)
    assert [(gap.first, gap.until) for gap in ledger.gaps] == [(12, 14), (16, 18), (19, 20)]
    assert ledger.to_fetch((5, 30), as_of=30, final_ms=5) == ((5, 10), (16, 18), (19, 30))
    assert ledger.to_fetch((5, 30), as_of=30, final_ms=100) == ((5, 10), (12, 14), (16, 18), (19, 30))
    # asked at this very time already: a run that is taken up again does not ask twice
    assert ledger.to_fetch((5, 30), as_of=20, final_ms=100) == ((5, 10), (20, 30))
    assert ledger.to_fetch((11, 17), as_of=30, final_ms=100) == ((12, 14), (16, 17))


def test_pieces_of_any_size_leave_the_same_ledger():
    bars, bad = {3, 4, 9, 10, 11, 20}, {5, 6, 15}
    whole = answered(Ledger(), (0, 25), bars, at=25, listed_from=3, rejected=bad)
    for cut in range(1, 25):
        ledger = Ledger()
        for span in ((0, cut), (cut, 25)):
            inside = set(range(*span))
            listed = None if span == (0, cut) and cut <= 3 else 3
            ledger = answered(ledger, span, bars & inside, at=25, listed_from=listed, rejected=bad & inside)
        assert ledger == whole


def test_a_bar_that_comes_after_all_leaves_the_list_of_the_refused():
    ledger = answered(Ledger(), (0, 5), {0, 1, 4}, at=5, listed_from=0, rejected={2, 3})
    assert ledger.gaps == (Gap(2, 4, "rejected", 5),)
    again = answered(ledger, (2, 4), {2}, at=9, listed_from=0)
    assert again.rejected == {3: "bad"}
    assert again.gaps == (Gap(3, 4, "rejected", 9),)


def test_bars_that_are_lost_were_never_asked_for():
    ledger = answered(Ledger(), (0, 10), {0, 1, 5, 9}, at=10, listed_from=0)
    lost = ledger.without((4, 8))
    assert lost.fetched == ((0, 4), (8, 10))
    assert lost.gaps == (Gap(2, 4, "exchange", 10), Gap(8, 9, "exchange", 10))


def test_two_coins_share_no_gap():
    ledger = answered(Ledger(), (0, 10 * HOUR), {0, 3 * HOUR, 8 * HOUR}, at=10 * HOUR, listed_from=0, step=HOUR)
    before, after = ledger.split(8 * HOUR)
    assert [gap.until // HOUR for gap in before.gaps] == [3, 8]
    assert [gap.first // HOUR for gap in after.gaps] == [9]
    assert before.notes["listed_until"] == after.notes["listed_from"] == "1970-01-01T08:00:00Z"
    assert before.fetched == after.fetched == ledger.fetched
