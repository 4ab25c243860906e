from __future__ import annotations

import json

import pandas as pd

from mntrading.core.roster import LiveBefore, Roster, RosterPair
from mntrading.core.schedule import LIVE, Fold
from mntrading.core.types import Pair


def fold(name: str, month: int) -> Fold:
    start, end, trading_end = (pd.Timestamp(2025, month + i, 1, tz="UTC") for i in range(3))
    return Fold(name, start, end, None if name == LIVE else trading_end)


def member(dependent: str, independent: str) -> RosterPair:
    return RosterPair(Pair(dependent, independent), 8.5, 0.01, 1.25)


AB, BC, CD = member("A/USDT", "B/USDT"), member("B/USDT", "C/USDT"), member("C/USDT", "D/USDT")
ROSTER = Roster.build(
    [(fold("fold_00", 1), [AB, BC]), (fold("fold_01", 2), []), (fold("fold_02", 3), [BC]), (fold(LIVE, 4), [CD, BC])]
)


def test_each_fold_says_who_entered_and_who_left():
    ab, bc, cd = "A-USDT__B-USDT", "B-USDT__C-USDT", "C-USDT__D-USDT"
    assert [entry.entered for entry in ROSTER.folds] == [(ab, bc), (), (bc,), (cd,)]
    assert [entry.left for entry in ROSTER.folds] == [(), (ab, bc), (), ()]


def test_pairs_and_symbols_are_those_of_any_fold():
    assert list(ROSTER.pairs) == ["A-USDT__B-USDT", "B-USDT__C-USDT", "C-USDT__D-USDT"]
    assert ROSTER.symbols == ("A/USDT", "B/USDT", "C/USDT", "D/USDT")
    assert ROSTER.live.fold.is_live
    assert [entry.fold.name for entry in ROSTER.completed] == ["fold_00", "fold_01", "fold_02"]


def test_a_stored_roster_comes_back_as_it_was():
    assert Roster.parse(ROSTER.document()) == ROSTER
    stored = json.loads(json.dumps(ROSTER.document(), default=str))
    assert Roster.parse(stored) == ROSTER


def test_a_roster_without_pairs_is_a_roster():
    empty = Roster.build([(fold(LIVE, 1), [])])
    assert Roster.parse(empty.document()) == empty
    assert empty.symbols == ()
    assert empty.completed == ()


# --- the run before

PARAMETERS = {"screening": "0" * 64}
YESTERDAY = pd.Timestamp("2025-05-31", tz="UTC")


def live(pairs: list[RosterPair], before: LiveBefore | None = None) -> Roster:
    return Roster.build([(fold("fold_00", 3), [AB]), (fold(LIVE, 4), pairs)], before)


def stored(roster: Roster, as_of: pd.Timestamp) -> dict[str, object]:
    return json.loads(json.dumps({"as_of": as_of, "parameters": PARAMETERS, **roster.document()}, default=str))


def test_the_live_fold_differs_from_the_live_pairs_of_the_run_before():
    before = LiveBefore(YESTERDAY, (AB.pair, BC.pair))
    roster = live([BC, CD], before)
    assert (roster.live.entered, roster.live.left) == (("C-USDT__D-USDT",), ("A-USDT__B-USDT",))
    assert roster.folds[0].entered == ("A-USDT__B-USDT",)
    assert Roster.parse(stored(roster, YESTERDAY)) == roster


def before_of(document: dict[str, object] | None, as_of: pd.Timestamp, **other: object) -> LiveBefore | None:
    given = {"parameters": PARAMETERS, "max_age": pd.Timedelta(14, unit="D")} | other
    return LiveBefore.of(document, as_of, **given)


def test_the_run_before_is_the_stored_roster_unless_it_is_being_made_again_or_later():
    today, tomorrow = (YESTERDAY + pd.Timedelta(days, unit="D") for days in (1, 2))
    assert before_of(None, today) is None
    first = stored(live([AB, BC]), YESTERDAY)
    before = before_of(first, today)
    assert before == LiveBefore(YESTERDAY, (AB.pair, BC.pair))
    second = stored(live([BC], before), today)
    assert before_of(second, today) == before
    assert before_of(second, tomorrow) == LiveBefore(today, (BC.pair,))
    assert before_of(second, YESTERDAY) is None
    assert before_of(first, YESTERDAY + pd.Timedelta(14, unit="D")) is not None
    assert before_of(first, YESTERDAY + pd.Timedelta(15, unit="D")) is None
    assert before_of(first, today, parameters={"screening": "1" * 64}) is None
