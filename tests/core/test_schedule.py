"""The walk-forward schedule on dates counted by hand."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest
from made_bars import changed

from mntrading.core.errors import ParameterError
from mntrading.core.schedule import LIVE, Fold, walk_forward
from mntrading.params import ScheduleParams

RULE = ScheduleParams(formation_days=60, trading_days=14, step_days=14)


def day(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_folds_of_half_a_year():
    folds = walk_forward(day("2025-01-01"), day("2025-06-18"), RULE)
    assert [fold.name for fold in folds] == [f"fold_{i:02d}" for i in range(7)] + [LIVE]
    assert folds[0] == Fold("fold_00", day("2025-01-01"), day("2025-03-02"), day("2025-03-16"))
    assert folds[1] == Fold("fold_01", day("2025-01-15"), day("2025-03-16"), day("2025-03-30"))
    assert folds[6] == Fold("fold_06", day("2025-03-26"), day("2025-05-25"), day("2025-06-08"))
    assert folds[7] == Fold(LIVE, day("2025-04-19"), day("2025-06-18"), None)
    assert [fold.is_live for fold in folds] == [False] * 7 + [True]


def test_trading_windows_follow_each_other_without_overlap():
    folds = walk_forward(day("2025-01-01"), day("2025-06-18"), RULE)[:-1]
    for before, after in pairwise(folds):
        assert before.trading_end == after.formation_end
    apart = walk_forward(day("2025-01-01"), day("2025-06-18"), changed(RULE, step_days=20))[:-1]
    for before, after in pairwise(apart):
        assert after.formation_end - before.trading_end == pd.Timedelta(days=6)


def test_a_trading_window_that_ends_exactly_now_counts_and_a_minute_less_does_not():
    end = day("2025-01-01") + pd.Timedelta(days=60 + 14 + 14)
    assert len(walk_forward(day("2025-01-01"), end, RULE)) == 3
    assert len(walk_forward(day("2025-01-01"), end - pd.Timedelta(minutes=1), RULE)) == 2


def test_one_formation_window_is_the_live_fold_alone():
    end = day("2025-03-02")
    assert walk_forward(day("2025-01-01"), end, RULE) == (Fold(LIVE, day("2025-01-01"), end, None),)


def test_a_history_shorter_than_one_formation_window_is_refused():
    with pytest.raises(ParameterError, match="2025-01-01 00:00 to 2025-03-01 23:59 UTC do not hold") as caught:
        walk_forward(day("2025-01-01"), day("2025-03-01 23:59"), RULE)
    assert caught.value.where == "schedule.formation_days"


def test_the_live_fold_is_formed_up_to_now_whatever_the_step():
    live = walk_forward(day("2025-01-01"), day("2025-06-17 05:35"), RULE)[-1]
    assert live.formation_end == day("2025-06-17 05:35")
    assert live.formation_end - live.formation_start == pd.Timedelta(days=60)
    assert live.stamp == "20250617T053500Z"


def test_more_history_adds_folds_and_changes_none():
    short = walk_forward(day("2025-01-01"), day("2025-05-01"), RULE)[:-1]
    assert walk_forward(day("2025-01-01"), day("2025-08-01"), RULE)[: len(short)] == short
