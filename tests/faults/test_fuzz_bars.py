"""A short run of the fuzzing that `fuzz_bars.py` does at length, and that it sees what it is there to see."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fuzz_bars import fuzz

from mntrading.core.quality import Judged, judge


def test_no_batch_of_hostile_rows_gets_an_invalid_bar_stored() -> None:
    figures = fuzz(300)
    counts = figures.counts
    assert counts["batches"] >= 300
    assert counts["invalid"] == 0
    assert min(counts[name] for name in ("stored", "rejected", "pending", "splits", "reloaded")) > 0


def repairing(*args: Any, **options: Any) -> Judged:
    judged = judge(*args, **options)
    rows = judged.rows.copy()
    rows[:, 5] += 1.0
    return dataclasses.replace(judged, rows=rows)


def forgetful(*args: Any, **options: Any) -> Judged:
    judged = judge(*args, **options)
    return dataclasses.replace(judged, rejected=judged.rejected.iloc[1:])


def blind_to_other_coins(*args: Any, **options: Any) -> Judged:
    return dataclasses.replace(judge(*args, **options), splits=())


def trusting(*args: Any, rules: Any, **options: Any) -> Judged:
    return judge(*args, rules=rules.model_copy(update={"max_jump": 1e15}), **options)


@pytest.mark.parametrize("mutant", [repairing, forgetful, blind_to_other_coins, trusting])
def test_a_judge_that_is_wrong_is_found_out(mutant: Any) -> None:
    with pytest.raises(AssertionError):
        fuzz(300, judge_rows=mutant, shrink=False)
