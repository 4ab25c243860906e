"""Which rows are believed: hand-made cases, and that it never matters how the rows were cut."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import changed

from mntrading.core import bars, quality
from mntrading.core.quality import Judged, judge, maybe_renamed
from mntrading.core.types import FloatArray
from mntrading.params import QualityParams

STEP = 300_000
T0 = 1_735_689_600_000
HOUR = 12  # bars
RULES = QualityParams(max_jump=20.0, confirm_bars=3, reuse_gap_hours=2.0, reuse_jump=3.0)


def row(k: float, price: float = 100.0, **change: float) -> list[float]:
    values = {
        "time": T0 + k * STEP, "open": price, "high": price * 1.01, "low": price * 0.99, "close": price, "volume": 5.0,
    }  # fmt: skip
    return list((values | change).values())


def path(*prices: float, start: float = 0) -> FloatArray:
    return np.array([row(start + k, price) for k, price in enumerate(prices)]).reshape(-1, 6)


def places(judged: Judged) -> list[float]:
    return ((judged.rows[:, 0] - T0) / STEP).tolist()


def reasons(judged: Judged) -> dict[float, str]:
    opens = bars.times_ms(judged.rejected["timestamp"])
    return dict(zip(((opens - T0) / STEP).tolist(), judged.rejected["reason"], strict=True))


def split_places(judged: Judged) -> list[float]:
    return [(split - T0) / STEP for split in judged.splits]


# ------------------------------------------------------------------------------------ the contract


def test_of_conflicting_rows_the_first_valid_one_is_kept() -> None:
    rows = np.array([row(2), row(1, close=np.nan), row(1, 100), row(1, 101), row(1, 100), row(0)])
    judged = judge(rows, "5m", rules=RULES, final=True)
    assert judged.rows[:, 4].tolist() == [100, 100, 100]
    assert judged.rejected["reason"].tolist() == ["not finite", quality.CONFLICTING]
    assert str(judged.rejected["timestamp"].dtype) == bars.TIMESTAMP_DTYPE


@pytest.mark.parametrize("rows", [np.empty((0, 6)), np.array([row(0, close=np.nan)])])
def test_without_a_good_row_there_is_none(rows: FloatArray) -> None:
    judged = judge(rows, "5m", rules=RULES, final=False)
    assert judged.rows.shape == (0, 6)
    assert list(judged.rejected.columns) == ["timestamp", "reason"]
    assert str(judged.rejected["timestamp"].dtype) == bars.TIMESTAMP_DTYPE
    assert (judged.splits, judged.pending_from) == ((), None)


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (np.nan, "not finite"),
        (np.inf, "not finite"),
        (-STEP, bars.TIME_RANGE),
        (T0 * 1000.0, bars.TIME_RANGE),  # microseconds
        (1e300, "off the 5m grid"),
    ],
)
def test_a_row_with_an_impossible_time_is_rejected_without_one(time: float, reason: str) -> None:
    judged = judge(np.array([row(0, time=time), row(1)]), "5m", rules=RULES, final=False)
    assert places(judged) == [1]
    assert judged.rejected["timestamp"].isna().tolist() == [True]
    assert judged.rejected["reason"].tolist() == [reason]


def test_what_is_accepted_is_what_a_plain_reading_of_the_contract_accepts() -> None:
    numbers = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1.0, 2.0)
    rows = [[T0 + k * STEP, *values] for k, values in enumerate(itertools.product(numbers, repeat=5))]

    def is_good(open_: float, high: float, low: float, close: float, volume: float) -> bool:
        finite = all(np.isfinite([open_, high, low, close, volume]))
        return finite and 0 < low <= min(open_, close) and max(open_, close) <= high and volume >= 0

    judged = judge(np.array(rows), "5m", rules=RULES, final=True)
    assert judged.rows.tolist() == [row for row in rows if is_good(*row[1:])]
    assert len(judged.rejected) == len(rows) - len(judged.rows)


def test_the_rows_given_are_not_touched() -> None:
    rows = path(100, 1e5, 100)[::-1].copy()
    kept = rows.copy()
    judge(rows, "5m", rules=RULES, final=True)
    assert np.array_equal(rows, kept)


# ------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize("factor", [1000, 20.5, 0.001, 0.0488])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_rows_in_another_unit_are_rejected_and_their_neighbours_kept(factor: float, length: int) -> None:
    judged = judge(path(100, 101, *[100 * factor] * length, 102, 103), "5m", rules=RULES, final=True)
    assert places(judged) == [0, 1, 2 + length, 3 + length]
    assert reasons(judged) == {2 + k: quality.WRONG_UNIT for k in range(length)}
    assert judged.splits == ()


@pytest.mark.parametrize("factor", [20.0, 0.05, 10.0])
def test_a_move_within_the_bound_is_a_price(factor: float) -> None:
    prices = [100.0, 100 * factor, 100.0]
    rows = np.array([row(k, price, high=price, low=price) for k, price in enumerate(prices)])
    judged = judge(rows, "5m", rules=RULES, final=True)
    assert (places(judged), len(judged.rejected), judged.splits) == ([0, 1, 2], 0, ())


def test_a_price_that_stays_away_is_another_coin() -> None:
    judged = judge(path(100, 100, 3000, 3100, 2900, 3000), "5m", rules=RULES, final=True)
    assert places(judged) == [0, 1, 2, 3, 4, 5]
    assert judged.rejected.empty
    assert split_places(judged) == [2]


def test_another_coin_has_its_own_wrong_units() -> None:
    judged = judge(path(100, 3000, 3000, 3, 3000, 3000), "5m", rules=RULES, final=True)
    assert reasons(judged) == {3: quality.WRONG_UNIT}
    assert split_places(judged) == [1]


def test_a_jump_near_the_end_waits_for_what_comes_next() -> None:
    rows = path(100, 100, 3000, 3000, 3000)
    rows = np.vstack([rows, row(3.5), row(1, close=np.nan), row(4, close=np.nan)])
    judged = judge(rows, "5m", rules=RULES, final=False)
    assert judged.pending_from == T0 + 2 * STEP
    assert places(judged) == [0, 1]
    assert reasons(judged) == {1: "not finite"}


def test_a_jump_that_nothing_follows_is_rejected_in_the_end() -> None:
    judged = judge(path(100, 100, 3000, 3000, 3000), "5m", rules=RULES, final=True)
    assert judged.pending_from is None
    assert reasons(judged) == dict.fromkeys([2, 3, 4], quality.UNCONFIRMED)


@pytest.mark.parametrize("change", [{"high": 2001.0}, {"low": 4.99}])
def test_a_bad_tick_alone_is_rejected(change: dict[str, float]) -> None:
    judged = judge(np.array([row(0), row(1, **change), row(2)]), "5m", rules=RULES, final=True)
    assert places(judged) == [0, 2]
    assert reasons(judged) == {1: quality.BAD_TICK}


def test_a_listing_may_open_anywhere() -> None:
    judged = judge(np.array([row(0, open=0.01, low=0.01), row(1), row(2)]), "5m", rules=RULES, final=True)
    assert places(judged) == [0, 1, 2]


def test_the_largest_and_smallest_numbers_are_compared_without_overflow() -> None:
    huge, tiny = row(1, 1e308), row(2, 1e-307)
    judged = judge(np.array([row(0), huge, tiny, row(3)]), "5m", rules=RULES, final=True)
    assert reasons(judged) == dict.fromkeys([1, 2], quality.WRONG_UNIT)
    assert places(judge(np.array([huge, row(2, 1e308), row(3)]), "5m", rules=RULES, final=True)) == [1, 2]


# ------------------------------------------------------------------------------------------- reuse


@pytest.mark.parametrize(
    ("silent_bars", "factor", "split"),
    [
        (2 * HOUR, 3.1, True),
        (2 * HOUR, 0.3, True),
        (2 * HOUR, 1000.0, True),
        (2 * HOUR, 2.9, False),
        (2 * HOUR, 0.34, False),
        (2 * HOUR - 1, 3.1, False),
    ],
)
def test_after_a_silence_another_price_is_another_coin_at_once(silent_bars: int, factor: float, split: bool) -> None:
    rows = np.vstack([path(100, 100), path(100 * factor, 100 * factor, start=2 + silent_bars)])
    judged = judge(rows, "5m", rules=RULES, final=False)
    assert len(judged.rows) == 4
    assert split_places(judged) == ([2 + silent_bars] if split else [])


@pytest.mark.parametrize(("silent_bars", "split"), [(2 * HOUR - 1, False), (2 * HOUR, True)])
def test_a_row_that_is_rejected_does_not_end_a_silence(silent_bars: int, split: bool) -> None:
    rows = np.vstack([path(100, 100), row(2, high=1e6), path(310, 310, start=2 + silent_bars)])
    judged = judge(rows, "5m", rules=RULES, final=False)
    assert split_places(judged) == ([2 + silent_bars] if split else [])


def test_bars_next_to_each_other_are_no_silence() -> None:
    daily = path(100, 400, 100)
    daily[:, 0] = T0 + 86_400_000 * np.arange(3)
    assert judge(daily, "1d", rules=changed(RULES, reuse_gap_hours=24.0), final=True).splits == ()


# ---------------------------------------------------------------------------- what is stored already


def test_the_last_stored_row_gives_the_level() -> None:
    alone = judge(path(3000, start=1), "5m", rules=RULES, final=False)
    assert alone.pending_from is None
    held = judge(path(3000, start=1), "5m", before=path(1, 100, start=-1), rules=RULES, final=False)
    assert held.pending_from == T0 + STEP


def test_a_row_of_what_is_stored_is_no_news() -> None:
    stored = path(100, 100)
    rows = np.array([row(1), row(2)])
    judged = judge(rows, "5m", before=stored, after=path(100, start=3), rules=RULES, final=True)
    assert (places(judged), len(judged.rejected)) == ([2], 0)


def test_stored_rows_are_not_replaced_and_not_preceded() -> None:
    rows = np.array([row(-1), row(1, 101), row(2), row(3, 101), row(9)])
    judged = judge(rows, "5m", before=path(100, start=1), after=path(100, start=3), rules=RULES, final=True)
    assert places(judged) == [2]
    assert reasons(judged) == {
        -1: quality.OUTSIDE, 1: quality.CONFLICTING, 3: quality.CONFLICTING, 9: quality.OUTSIDE,
    }  # fmt: skip


def test_stored_rows_that_follow_end_a_jump() -> None:
    judged = judge(path(100, 3000), "5m", after=path(100, start=2), rules=RULES, final=True)
    assert (places(judged), reasons(judged), judged.splits) == ([0], {1: quality.WRONG_UNIT}, ())


def test_stored_rows_that_follow_confirm_a_jump() -> None:
    judged = judge(path(100, 3000), "5m", after=path(3000, 3000, 3000, start=2), rules=RULES, final=True)
    assert (places(judged), split_places(judged), len(judged.rejected)) == ([0, 1], [1], 0)


@pytest.mark.parametrize(("start", "price"), [(2, 3000), (2 + 2 * HOUR, 301)])
def test_a_jump_onto_the_first_stored_row_is_a_split_there(start: int, price: float) -> None:
    judged = judge(path(100, 100), "5m", after=path(price, start=start), rules=RULES, final=False)
    assert (places(judged), split_places(judged)) == ([0, 1], [start])


def test_a_jump_left_open_before_stored_rows_of_another_coin_is_a_split_there() -> None:
    judged = judge(path(100, 3000), "5m", after=path(3000, start=2), rules=RULES, final=True)
    assert reasons(judged) == {1: quality.UNCONFIRMED}
    assert split_places(judged) == [2]
    assert judge(path(100, 3000), "5m", after=path(3000, start=2), rules=RULES, final=False).splits == ()


# ------------------------------------------------------------------------------------------- chunks


@dataclass(frozen=True)
class Stretch:
    """Some bars at one factor of the path, after a silence, with what is wrong with the first of them."""

    length: int
    factor: float
    silence: int
    fault: str


STRETCHES = st.lists(
    st.builds(
        Stretch,
        length=st.integers(1, 6),
        factor=st.sampled_from([1.0, 1.0, 1.0, 1.05, 4.0, 0.2, 25.0, 1000.0, 0.001]),
        silence=st.sampled_from([0, 0, 0, 1, 2 * HOUR - 1, 2 * HOUR, 3 * HOUR]),
        fault=st.sampled_from(["", "", "", "nan", "tick", "conflict", "twin", "off grid", "no time"]),
    ),
    max_size=12,
)


def raw_rows(stretches: list[Stretch]) -> FloatArray:
    out: list[list[float]] = []
    k = 0
    for stretch in stretches:
        k += stretch.silence
        for place in range(stretch.length):
            price = stretch.factor * (100 + k % 7)
            out.append(row(k, price))
            if place == 0:
                out += {
                    "nan": [row(k, price, close=np.nan)],
                    "tick": [row(k + 0.0, price, high=price * 500)],
                    "conflict": [row(k, price * 1.1), row(k, price * 30)],
                    "twin": [row(k, price)],
                    "off grid": [row(k + 0.5, price)],
                    "no time": [row(k, price, time=np.nan)],
                }.get(stretch.fault, [])
                if stretch.fault == "tick":
                    del out[-2]
            k += 1
    return np.array(out).reshape(-1, 6)


def in_chunks(rows: FloatArray, cuts: list[int], after: FloatArray | None, rules: QualityParams) -> Judged:
    """Judge as a caller does who gets the rows bit by bit."""
    edges = [-np.inf, *sorted(T0 + cut * STEP for cut in cuts), np.inf]
    timeless = np.isnan(rows[:, 0])
    carried, before = np.empty((0, 6)), np.empty((0, 6))
    parts: list[Judged] = []
    for n, (start, stop) in enumerate(itertools.pairwise(edges)):
        final = n == len(cuts)
        chunk = rows[((rows[:, 0] >= start) & (rows[:, 0] < stop)) | (timeless & final)]
        raw = np.vstack([carried, chunk])
        judged = judge(raw, "5m", before=before, after=after if final else None, rules=rules, final=final)
        carried = np.empty((0, 6)) if judged.pending_from is None else raw[raw[:, 0] >= judged.pending_from]
        before = judged.rows[-1:] if len(judged.rows) else before
        parts.append(judged)
    return Judged(
        rows=np.vstack([part.rows for part in parts]),
        rejected=pd.concat([part.rejected for part in parts], ignore_index=True),
        splits=tuple(split for part in parts for split in part.splits),
        pending_from=parts[-1].pending_from,
    )


@settings(deadline=None, max_examples=200)
@given(
    stretches=STRETCHES,
    cuts=st.lists(st.integers(0, 80), max_size=6),
    confirm_bars=st.integers(1, 5),
    after_factor=st.sampled_from([None, 1.0, 4.0, 1000.0]),
    seed=st.integers(0, 9),
)
def test_chunks_are_judged_as_the_whole_is(
    stretches: list[Stretch], cuts: list[int], confirm_bars: int, after_factor: float | None, seed: int
) -> None:
    rows = raw_rows(stretches)
    rules = changed(RULES, confirm_bars=confirm_bars)
    after = None
    if after_factor is not None:
        after = path(*[100 * after_factor] * 3, start=sum(s.length + s.silence for s in stretches) + 1)
    whole = judge(rows, "5m", after=after, rules=rules, final=True)
    pieces = in_chunks(rows, cuts, after, rules)
    assert np.array_equal(pieces.rows, whole.rows)
    pd.testing.assert_frame_equal(pieces.rejected, whole.rejected)
    assert pieces.splits == whole.splits
    assert pieces.pending_from is None

    stamps, which = np.unique(rows[:, 0], return_inverse=True)  # rows of one stamp keep the order they came in
    mixed = np.argsort(np.random.default_rng(seed).random(len(stamps))[which], kind="stable")
    shuffled = judge(rows[mixed], "5m", after=after, rules=rules, final=True)
    assert np.array_equal(shuffled.rows, whole.rows)
    pd.testing.assert_frame_equal(shuffled.rejected, whole.rejected)
    assert shuffled.splits == whole.splits


@settings(deadline=None, max_examples=200)
@given(stretches=STRETCHES, confirm_bars=st.integers(1, 5))
def test_the_vectorised_judge_agrees_with_one_that_goes_row_by_row(stretches: list[Stretch], confirm_bars: int) -> None:
    rules = changed(RULES, confirm_bars=confirm_bars)
    rows = raw_rows(stretches)
    judged = judge(rows, "5m", rules=rules, final=False)
    valid = {}
    for candidate in rows[bars.invalid_rows(rows, "5m") == ""].tolist():
        valid.setdefault(candidate[0], candidate)
    accepted, splits, pending = _row_by_row([valid[time] for time in sorted(valid)], rules)
    assert judged.rows.tolist() == accepted
    assert (list(judged.splits), judged.pending_from) == (splits, pending)


def _row_by_row(rows: list[list[float]], rules: QualityParams) -> tuple[list[list[float]], list[int], int | None]:
    """The rules as they are written down, one row after the other."""

    def apart(a: float, b: float, factor: float) -> bool:
        return max(a, b) > factor * min(a, b)

    accepted: list[list[float]] = []
    splits: list[int] = []
    run: list[list[float]] = []
    waiting = list(rows)
    while waiting:
        current = waiting.pop(0)
        level = accepted[-1][4] if accepted else current[4]
        if run:
            if not apart(current[4], level, rules.max_jump):
                run = []  # back: the run was in a wrong unit, and this row is judged by itself
                waiting.insert(0, current)
            else:
                run.append(current)
                if len(run) == rules.confirm_bars + 1:
                    splits.append(int(run[0][0]))
                    accepted.append(run[0])
                    waiting[:0] = run[1:]
                    run = []
        elif (
            accepted
            and current[0] - accepted[-1][0] - STEP >= rules.reuse_gap_hours * 3_600_000
            and apart(current[4], level, rules.reuse_jump)
        ):
            splits.append(int(current[0]))
            accepted.append(current)
        elif apart(current[4], level, rules.max_jump):
            run = [current]
        elif not accepted or not any(apart(current[k], level, rules.max_jump) for k in (2, 3)):
            accepted.append(current)
    return accepted, splits, int(run[0][0]) if run else None


# ------------------------------------------------------------------------------------------ renames


def test_the_nearest_price_is_taken_for_the_new_name() -> None:
    hour = 3_600_000
    ended = {"MATIC": (0, 0.40), "FTM": (0, 0.70), "OLD": (0, 9.0)}
    began = {
        "POL": (hour, 0.401), "S": (2 * hour, 0.70), "NEAR": (hour, 0.41), "LATE": (99 * hour, 9.0), "TWIN": (0, 9.0),
    }  # fmt: skip
    found = maybe_renamed(ended, began, within_ms=48 * hour, max_log_difference=0.05)
    assert found == {"FTM": "S", "MATIC": "POL"}


def test_no_symbol_is_taken_twice() -> None:
    found = maybe_renamed(
        {"B": (0, 1.00), "A": (0, 1.01), "C": (0, 1.3)}, {"N": (1, 1.0), "M": (1, 1.02)},
        within_ms=5, max_log_difference=0.05,
    )  # fmt: skip
    assert found == {"B": "N", "A": "M"}
