"""The funnel of a run's screens as a table of the terminal."""

from __future__ import annotations

import pandas as pd
import pytest

from mntrading.pipelines.screening.account import MAX_WIDTH, funnel_table

REASONS = (
    "half-life too short", "half-life too long", "Hurst exponent too high", "too few mean crossings",
    "returns hardly correlated", "near-identical symbols", "no relation by Johansen's trace",
    "residual not stationary by KPSS", "reverts in too few sub-windows", "hedge ratio drifts",
    "relation broke inside the window", "symbol has its cap of pairs", "roster is full", "not among the best",
)  # fmt: skip


def screen(fold, end, *, stopped=None, selected=0, significant=None, tested=435, universe=None):
    stopped = stopped or {}
    n = sum(stopped.values()) + selected if significant is None else significant
    return {
        "fold": fold,
        "formation_end": pd.Timestamp(end, tz="UTC"),
        "n_symbols": 30,
        "n_tests": tested,
        "universe_funnel": universe or {"passed": 30, "excluded base": 0},
        "funnel": {"tested": tested, "not significant": tested - n, **stopped, "selected": selected},
        "pairs": [{"significant": k < n} for k in range(n + 3)],
    }


def roster(**moves):
    return {
        "folds": [
            {"name": name, "entered": ["x"] * entered, "left": ["y"] * left} for name, (entered, left) in moves.items()
        ]
    }


def table(*screens, **moves):
    moves = moves or {found["fold"]: (0, 0) for found in screens}
    return funnel_table({found["fold"]: found for found in screens}, roster(**moves))


def cells(line):
    return line.split()


def test_each_fold_has_a_line_with_its_numbers():
    lines = table(
        screen("fold_00", "2024-03-01", stopped={"hedge ratio drifts": 2}, selected=5, tested=4950),
        screen("live", "2024-04-01", selected=7),
        fold_00=(5, 0),
        live=(3, 1),
    )
    assert lines[0] == "screening: 2 folds"
    assert cells(lines[-2]) == ["fold_00", "2024-03-01", "30", "4,950", "7", "2", "5", "5", "0"]
    assert cells(lines[-1]) == ["live", "2024-04-01", "30", "435", "7", "0", "7", "3", "1"]


def test_folds_are_in_the_order_of_time_whatever_that_of_the_documents():
    lines = table(screen("live", "2024-04-01"), screen("fold_00", "2024-03-01"))
    assert [cells(line)[0] for line in lines[-2:]] == ["fold_00", "live"]


def test_stored_documents_give_the_same_table():
    found = screen("live", "2024-04-01", selected=2)
    assert table({**found, "formation_end": "2024-04-01T00:00:00Z"}) == table(found)


def test_a_gate_that_stopped_nothing_has_no_column():
    lines = table(screen("live", "2024-04-01", stopped={"roster is full": 0, "hedge ratio drifts": 1}))
    head = " ".join(" ".join(lines[:-1]).split())
    assert "drifts" in head
    assert "full" not in head


def test_a_gate_of_one_fold_has_a_zero_in_the_others():
    lines = table(
        screen("fold_00", "2024-03-01", stopped={"roster is full": 3}), screen("live", "2024-04-01", selected=1)
    )
    assert cells(lines[-1])[5] == "0"


@pytest.mark.parametrize("n_gates", range(len(REASONS) + 1))
def test_lines_are_never_too_long_and_no_gate_is_lost(n_gates):
    stopped = {why: 3000 // (k + 1) for k, why in enumerate(REASONS[:n_gates])}
    lines = table(
        screen("fold_00", "2024-03-01", stopped=stopped, selected=20, tested=81_210),
        screen("live", "2024-04-01", stopped=stopped, universe={"passed": 30, "too many gaps": 4, "hardly moves": 9}),
    )
    assert max(map(len, lines)) <= MAX_WIDTH
    told = " ".join(" ".join(lines).split())
    first = next(line for line in lines if cells(line)[0] == "fold_00")
    counts = [int(cell.replace(",", "")) for cell in cells(first)[5:-3]]
    assert sum(counts) == sum(stopped.values())
    if "other gates" in told:
        assert f"{REASONS[n_gates - 1]} {2 * stopped[REASONS[n_gates - 1]]:,}" in told


def test_gates_that_stopped_the_most_keep_their_columns():
    stopped = {why: k + 1 for k, why in enumerate(REASONS)}
    lines = table(screen("live", "2024-04-01", stopped=stopped))
    assert "not among" in " ".join(lines[:4])
    assert any(line.startswith("  other gates, all folds: ") for line in lines)


def test_where_symbols_of_the_newest_fold_stopped_is_said_below():
    lines = table(
        screen("fold_00", "2024-03-01", universe={"passed": 30, "too many gaps": 8}),
        screen("live", "2024-04-01", universe={"passed": 30, "excluded base": 2, "too little volume": 11}),
    )
    assert lines[-1] == "  symbols left out of live: too little volume 11, excluded base 2"


def test_significant_pairs_are_counted_themselves():
    """With the best k taken, pairs may be stopped at a gate without being significant."""
    lines = table(screen("live", "2024-04-01", stopped={"half-life too long": 4}, significant=1))
    assert cells(lines[-1])[4:6] == ["1", "4"]


def test_a_fold_without_any_test_has_a_line_of_zeros():
    found = {**screen("live", "2024-04-01", tested=0), "funnel": {"tested": 0, "selected": 0}, "pairs": []}
    assert cells(table(found)[-1]) == ["live", "2024-04-01", "30", "0", "0", "0", "0", "0"]


def test_columns_are_aligned_at_their_right_ends():
    lines = table(
        screen("fold_00", "2024-03-01", stopped={"hedge ratio drifts": 200}, selected=20, tested=81_210),
        screen("live", "2024-04-01"),
    )[-3:]
    assert len({len(line) for line in lines}) == 1
