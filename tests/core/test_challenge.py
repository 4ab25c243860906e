"""Challengers: the places they take, two accounts held against each other, and every rule failing alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.challenge import Comparison, Contender, compare, line_up, rules
from mntrading.core.errors import BarDataError
from mntrading.core.types import Pair
from mntrading.params import ShadowParams

HOUR = pd.Timedelta(1, unit="h")
SINCE = pd.Timestamp("2025-03-01T12:00:00Z")
PARAMS = ShadowParams(
    enabled=True, max_challengers=3, min_days=2, min_trades=2, min_return_gap=0.01, min_gap_errors=1.0,
    max_drawdown=0.10,
)  # fmt: skip
GOOD = Comparison(
    n_days=2.0, champion=0.01, challenger=0.05, gap=0.04, gap_errors=1.0, champion_drawdown=0.3, challenger_drawdown=0.1
)
TRADES = {"A__B": 2, "C__D": 5}


def contender(legs: str, cluster: int) -> Contender:
    return Contender(Pair(legs[0], legs[1]), cluster)


def series(values: list[float], first: pd.Timestamp = SINCE) -> pd.Series:
    return pd.Series(values, index=pd.date_range(first, periods=len(values), freq=HOUR, unit="ms"))


@pytest.fixture
def caps(params: Any) -> Any:
    return params.champions.model_copy(update={"max_pairs_per_symbol": 2, "max_pairs_per_cluster": 2})


def test_a_challenger_with_a_free_place_joins_the_champions(caps: Any) -> None:
    found = line_up([contender("AB", 1), contender("AC", 2)], [contender("DE", 1)], caps)
    assert found.pairs == ("A__B", "A__C", "D__E")
    assert found.replaced == {"D__E": ()}


@pytest.mark.parametrize(("legs", "cluster"), [("AX", 9), ("XA", 9), ("XY", 1)])
def test_a_cap_makes_the_last_champion_that_has_such_a_place_leave(caps: Any, legs: str, cluster: int) -> None:
    champions = [contender("AB", 1), contender("AC", 1), contender("DE", 2)]
    found = line_up(champions, [contender(legs, cluster)], caps)
    name = f"{legs[0]}__{legs[1]}"
    assert found.pairs == ("A__B", "D__E", name)
    assert found.replaced == {name: ("A__C",)}


def test_one_champion_can_make_room_under_two_caps_and_two_under_two(caps: Any) -> None:
    one = line_up([contender("AB", 1), contender("AC", 1)], [contender("AX", 1)], caps)
    assert one.replaced == {"A__X": ("A__C",)}
    two = line_up(
        [contender("AB", 3), contender("AC", 4), contender("EF", 1), contender("GH", 1)], [contender("AX", 1)], caps
    )
    assert two.replaced == {"A__X": ("A__C", "G__H")}
    assert two.champions == ("A__B", "E__F")


def test_a_challenger_does_not_take_the_place_of_one_before_it(caps: Any) -> None:
    challengers = [contender("AX", 1), contender("AY", 2), contender("AZ", 3), contender("PQ", 4)]
    found = line_up([], challengers, caps)
    assert found.challengers == ("A__X", "A__Y", "P__Q")


def test_one_that_finds_no_place_makes_no_champion_leave(caps: Any) -> None:
    challengers = [contender("PX", 1), contender("QX", 2), contender("AX", 3)]
    found = line_up([contender("AB", 4), contender("AC", 5)], challengers, caps)
    assert found.pairs == ("A__B", "A__C", "P__X", "Q__X")


def test_two_accounts_are_compared_from_what_they_had_in_common() -> None:
    champion = series([90.0, 100.0, 110.0, 99.0], SINCE - 2 * HOUR)
    challenger = series([100.0, 120.0, 108.0, 500.0], SINCE - HOUR)  # one bar more, which is left out
    found = compare(champion, challenger, base=100.0, since=SINCE, step=HOUR)
    assert found.n_days == pytest.approx(2 / 24)
    assert (found.champion, found.challenger) == pytest.approx((-0.01, 0.08))
    assert found.gap == pytest.approx(0.09)
    assert (found.champion_drawdown, found.challenger_drawdown) == pytest.approx((0.1, 0.1))
    assert np.isnan(found.gap_errors)


def test_the_gap_in_standard_errors_is_of_days_after_the_beginning() -> None:
    midnight = pd.Timestamp("2025-03-01T00:00:00Z")
    days = series([0.0] * 72, midnight)
    champion, challenger = days + 100.0, days.copy()
    for day, worth in enumerate((101.0, 104.03, 106.1106)):  # 1, 3 and 2 per cent
        challenger.iloc[24 * day : 24 * day + 24] = worth
    found = compare(champion, challenger, base=100.0, since=midnight, step=HOUR)
    assert found.n_days == 3.0
    assert found.gap_errors == pytest.approx(0.02 / (0.01 / np.sqrt(3)))


def test_ahead_of_the_first_bar_nothing_differs() -> None:
    found = compare(series([1.0]), series([], SINCE), base=1.0, since=SINCE, step=HOUR)
    assert (found.n_days, found.gap, found.challenger_drawdown) == (0.0, 0.0, 0.0)
    with pytest.raises(BarDataError, match="expected above 0"):
        compare(series([1.0]), series([1.0]), base=0.0, since=SINCE, step=HOUR)


def test_a_record_at_its_limits_keeps_every_rule() -> None:
    found = rules(GOOD, TRADES, [], PARAMS)
    assert [rule.name for rule in found if not rule.holds] == []
    assert {rule.name for rule in found} == {
        "min_days", "min_trades", "min_return_gap", "min_gap_errors", "max_drawdown", "doubts"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "figures", "trades", "doubts", "says"),
    [
        ("min_days", {"n_days": 1.99}, TRADES, [], "2.0 of 2 days"),
        ("min_trades", {}, {"A__B": 1, "C__D": 5}, [], "1 of 2 closed trades of A__B"),
        ("min_trades", {}, {}, [], "0 of 2 closed trades"),
        ("min_return_gap", {"gap": 0.01}, TRADES, [], "a gap of 1.00%, more than 1.00% is needed"),
        ("min_gap_errors", {"gap_errors": 0.99}, TRADES, [], "1.0 of its standard errors"),
        ("min_gap_errors", {"gap_errors": float("nan")}, TRADES, [], "no known number"),
        ("max_drawdown", {"challenger_drawdown": 0.101}, TRADES, [], "drawdown 10.1%, at most 10.0%"),
        ("doubts", {}, TRADES, ["A__B: bars are 2 bars old"], "in doubt: A__B: bars are 2 bars old"),
    ],
)
def test_each_rule_fails_alone(
    rule: str, figures: dict[str, float], trades: dict[str, int], doubts: list[str], says: str
) -> None:
    found = rules(replace(GOOD, **figures), trades, doubts, PARAMS)
    broken = [one for one in found if not one.holds]
    assert [one.name for one in broken] == [rule]
    assert says in broken[0].words


def test_chance_is_asked_only_where_a_limit_is_set() -> None:
    found = rules(
        replace(GOOD, gap_errors=float("nan")), TRADES, [], PARAMS.model_copy(update={"min_gap_errors": None})
    )
    assert all(rule.holds for rule in found)
    assert "min_gap_errors" not in {rule.name for rule in found}
