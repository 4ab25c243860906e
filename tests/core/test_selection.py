"""Champions from hand-made records: each rule, the caps, challengers, trials, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_bars import changed, grid

from mntrading.core import metrics
from mntrading.core.selection import WindowRecord, count_trials, select_champions, times, window_records
from mntrading.core.types import Pair
from mntrading.params import ChampionParams

RULES = ChampionParams(
    min_sharpe=0.5, max_drawdown=0.15, min_trades=4, min_positive_folds=0.5, min_deflated_sharpe=0.5,
    survives_cost_multiple=2.0, max_pairs_per_symbol=2, max_pairs_per_cluster=9, n_challengers=2,
    clusters={"linkage": "average", "min_correlation": 0.5, "min_days": 14},
)  # fmt: skip
AB, AC, AD, CD, EF = Pair("A", "B"), Pair("A", "C"), Pair("A", "D"), Pair("C", "D"), Pair("E", "F")
DAYS = 14


def record(
    fold: int = 0, *, mean: float = 0.002, std: float = 0.003, trades: int = 5, costs: float = 0.004, seed: int = 0
) -> WindowRecord:
    shape = np.random.default_rng(seed + fold).normal(size=DAYS)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    days = pd.date_range(pd.Timestamp("2025-03-02", tz="UTC") + pd.Timedelta(days=DAYS * fold), periods=DAYS, unit="ms")
    returns = pd.Series(mean + std * shape, index=days)
    return WindowRecord(f"fold_{fold:02d}", returns, trades, float(returns.sum()), costs)


def judged(records: list[WindowRecord], rules: ChampionParams = RULES, n_trials: int = 1):
    (candidate,) = select_champions([AB], {AB.unordered: records}, rules, n_trials=n_trials).candidates
    return candidate


def test_a_pair_that_keeps_every_rule_is_a_champion():
    records = [record(0), record(1)]
    candidate = judged(records)
    assert candidate.champion
    assert candidate.reasons == ()
    returns = pd.concat([r.returns for r in records])
    moments = metrics.sharpe_moments(returns)
    assert candidate.figures == pytest.approx(
        {
            "n_windows": 2.0,
            "n_days": 28.0,
            "n_tried": 1.0,
            "n_trades": 10.0,
            "net_pnl": 2 * DAYS * 0.002,
            "costs": 0.008,
            "sharpe": metrics.sharpe(returns),
            "deflated_sharpe": metrics.deflated_sharpe_ratio(
                moments.sharpe,
                n_obs=28,
                n_trials=1,
                trials_variance=0.0,
                skew=moments.skew,
                kurtosis=moments.kurtosis,
            ),
            "max_drawdown": metrics.max_drawdown([1.0, *(1.0 + returns.cumsum())]),
            "positive_folds": 1.0,
            "net_pnl_at_cost_multiple": 2 * DAYS * 0.002 - 0.008,
        }
    )


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"min_sharpe": 99.0}, "Sharpe below 99"),
        ({"max_drawdown": 0.0001}, "drawdown above 0%"),
        ({"min_trades": 11}, "fewer than 11 trades"),
        ({"min_deflated_sharpe": 1.0}, "deflated Sharpe ratio below 1 over 1 trials"),
        ({"survives_cost_multiple": 9.0}, "does not survive 9× costs"),
    ],
)
def test_each_rule_rejects_by_itself_and_says_so(rule, reason):
    candidate = judged([record(0), record(1)], changed(RULES, **rule))
    assert not candidate.champion
    assert candidate.reasons == (reason,)


def test_a_share_of_losing_folds_is_rejected():
    records = [record(0, mean=0.02), record(1, mean=-0.0001), record(2, mean=-0.0001)]
    candidate = judged(records)
    assert candidate.reasons == ("fewer than 50% of folds positive",)
    assert candidate.figures["positive_folds"] == pytest.approx(1 / 3)


def test_every_broken_rule_is_told():
    candidate = judged([record(0, mean=-0.02, trades=1)])
    assert len(candidate.reasons) == 6


def test_a_pair_without_a_completed_window_is_no_champion():
    for records in ({}, {AB.unordered: []}):
        (candidate,) = select_champions([AB], records, RULES, n_trials=0).candidates
        assert not candidate.champion
        assert candidate.reasons == ("no completed trading window on the roster yet",)
        assert candidate.figures == {}


def test_a_pair_that_never_traded_is_no_champion():
    idle = record(0, mean=0.0, std=0.0, trades=0, costs=0.0)
    candidate = judged([idle])
    assert not candidate.champion
    assert "fewer than 4 trades" in candidate.reasons
    assert any(reason.startswith("deflated Sharpe") for reason in candidate.reasons)


def test_a_loss_on_the_first_day_is_a_drawdown():
    days = pd.date_range("2025-03-02", periods=4, tz="UTC", unit="ms")
    records = [WindowRecord("fold_00", pd.Series([-0.2, 0.3, 0.1, 0.1], index=days), 5, 0.3, 0.0)]
    candidate = judged(records)
    assert candidate.figures["max_drawdown"] == pytest.approx(0.2)
    assert "drawdown above 15%" in candidate.reasons


def test_the_same_symbols_in_the_other_direction_are_the_same_record():
    found = select_champions([Pair("B", "A")], {AB.unordered: [record(0), record(1)]}, RULES, n_trials=1)
    assert [candidate.pair.id for candidate in found.champions] == ["B__A"]


def test_more_trials_ask_for_more():
    # trials that differ, so that the best of many is expected to look good by chance
    records = {
        pair.unordered: [record(0, mean=mean, seed=i), record(1, mean=mean, seed=i)]
        for i, (pair, mean) in enumerate(((AB, 0.001), (AC, -0.001), (EF, 0.0005)))
    }
    few, many = (
        {
            c.pair: c.figures["deflated_sharpe"]
            for c in select_champions([AB, AC, EF], records, RULES, n_trials=n).candidates
        }
        for n in (2, 200)
    )
    assert many[AB] < few[AB]


def test_the_better_pairs_of_a_symbol_are_kept_up_to_its_cap():
    means = {AB: 0.004, AC: 0.003, AD: 0.002, EF: 0.001}
    records = {pair.unordered: [record(0, mean=m, seed=4), record(1, mean=m, seed=4)] for pair, m in means.items()}
    rules = changed(RULES, min_deflated_sharpe=0.0, min_sharpe=0.0)
    found = select_champions([EF, AD, AC, AB], records, rules, n_trials=4)
    assert [candidate.pair for candidate in found.champions] == [AB, AC, EF]
    (last,) = found.rejected
    assert last.pair == AD
    assert last.reasons == ("A has its 2 already: A__B, A__C",)
    (failure,) = last.failures
    assert (failure.rule, failure.taken_by) == ("max_pairs_per_symbol", ("A__B", "A__C"))
    assert last.figures["n_trades"] == 10.0
    assert last.figures["net_pnl"] == pytest.approx(2 * DAYS * 0.002)
    assert found.explanation() == (
        "3 of 4 pairs: A__B, A__C, E__F; 1 has no place left by max_pairs_per_symbol; "
        "nearest: A__D, the place is A__B, A__C's"
    )


def test_the_order_of_the_roster_does_not_change_the_verdict():
    records = {pair.unordered: [record(0), record(1)] for pair in (AB, AC, AD, EF)}
    forward = select_champions([AB, AC, AD, EF], records, RULES, n_trials=4)
    assert select_champions([EF, AD, AC, AB], records, RULES, n_trials=4) == forward
    assert [c.pair.id for c in forward.candidates] == ["A__B", "A__C", "E__F", "A__D"]


def test_an_empty_roster_has_no_candidates():
    found = select_champions([], {}, RULES, n_trials=0)
    assert found.candidates == ()
    assert found.explanation() == "0 of 0 pairs: the roster is empty"


def test_records_are_of_the_folds_named_in_their_order_and_of_both_directions():
    index = grid(2 * 288)
    curve = pd.DataFrame({"fold": ["fold_01"] * 288 + ["fold_00"] * 288, "equity": 1.0}, index=index)
    curve.iloc[287, 1] = 1.25
    lines = pd.DataFrame(
        {"fold": ["fold_01", "fold_00", "fold_02"], "n_trades": [3.0, 2.0, 9.0], "net_pnl": 0.25, "costs": 0.01}
    )
    other = lines.iloc[:0]
    out = window_records(
        {"A__B": curve, "B__A": curve.iloc[:0]}, {"A__B": lines, "B__A": other}, {"A__B": AB, "B__A": Pair("B", "A")},
        ["fold_00", "fold_01"],
    )  # fmt: skip
    assert list(out) == [AB.unordered]
    assert [r.fold for r in out[AB.unordered]] == ["fold_00", "fold_01"]
    assert [r.n_trades for r in out[AB.unordered]] == [2, 3]
    assert out[AB.unordered][1].returns.tolist() == pytest.approx([0.25])


# --- clusters ---


def test_of_pairs_that_move_together_the_better_take_the_places():
    # A__B and C__D earn on the same days, E__F on others
    together = {AB: record(0, mean=0.004, seed=4), CD: record(0, mean=0.003, seed=4)}
    records = {pair.unordered: [found] for pair, found in together.items()} | {
        EF.unordered: [record(0, mean=0.002, seed=9)]
    }
    rules = changed(RULES, max_pairs_per_cluster=1, min_deflated_sharpe=0.0)
    found = select_champions([EF, CD, AB], records, rules, n_trials=3)
    assert [(c.pair, c.cluster) for c in found.candidates] == [(AB, 1), (EF, 2), (CD, 1)]
    (lost,) = found.rejected
    assert lost.reasons == ("cluster 1 has its 1 already: A__B",)
    assert lost.failures[0].taken_by == ("A__B",)
    assert lost.figures["sharpe"] > RULES.min_sharpe
    assert lost.challenger
    assert len(select_champions([EF, CD, AB], records, RULES, n_trials=3).champions) == 2 + 1


def test_a_place_lost_by_two_caps_tells_both():
    records = {pair.unordered: [record(0, mean=m, seed=4)] for pair, m in ((AB, 0.004), (AC, 0.003))}
    rules = changed(RULES, max_pairs_per_cluster=1, max_pairs_per_symbol=1, min_deflated_sharpe=0.0)
    (lost,) = select_champions([AB, AC], records, rules, n_trials=2).rejected
    assert lost.reasons == ("A has its 1 already: A__B", "cluster 1 has its 1 already: A__B")


def test_one_that_breaks_a_rule_takes_no_place():
    records = {AB.unordered: [record(0, mean=0.004, trades=1)], AC.unordered: [record(0, mean=0.003)]}
    rules = changed(RULES, max_pairs_per_cluster=1, max_pairs_per_symbol=1, min_deflated_sharpe=0.0)
    found = select_champions([AB, AC], records, rules, n_trials=2)
    assert [candidate.pair for candidate in found.champions] == [AC]
    assert found.rejected[0].reasons == ("fewer than 4 trades",)


def test_pairs_without_common_days_are_compared_by_their_spreads():
    records = {AB.unordered: [record(0, mean=0.004)], CD.unordered: [record(1, mean=0.003)]}
    wave = np.sin(np.arange(30.0))
    moved = pd.DataFrame({"A__B": wave, "C__D": -wave}, index=pd.date_range("2025-01-01", periods=30, tz="UTC"))
    rules = changed(RULES, max_pairs_per_cluster=1, min_deflated_sharpe=0.0)
    apart = select_champions([AB, CD], records, rules, n_trials=2)
    assert len(apart.champions) == 2
    mirrored = select_champions([AB, CD], records, rules, n_trials=2, spreads=moved)
    assert [candidate.pair for candidate in mirrored.champions] == [AB]


def test_a_day_that_two_windows_share_is_one_day():
    first, second = record(0, mean=0.004), record(0, mean=0.003, seed=3)  # the same days twice
    found = select_champions([AB], {AB.unordered: [first, second]}, RULES, n_trials=1)
    assert found.candidates[0].cluster == 1


# --- challengers ---


def test_challengers_lack_nothing_but_evidence_or_a_place():
    good, thin, lossy = record(0, mean=0.004), record(0, mean=0.003, trades=1), record(0, mean=-0.001)
    records = {AB.unordered: [good], AC.unordered: [thin], EF.unordered: [lossy], CD.unordered: []}
    found = select_champions([AB, AC, EF, CD], records, changed(RULES, min_deflated_sharpe=0.0), n_trials=3)
    assert [candidate.pair for candidate in found.champions] == [AB]
    assert [candidate.pair for candidate in found.challengers] == [AC]
    assert {failure.kind for failure in found.challengers[0].failures} == {"evidence"}


def test_only_the_best_are_challengers():
    pairs = [AB, CD, EF, Pair("G", "H")]
    means = (0.001, 0.004, 0.003, 0.002)
    records = {
        p.unordered: [record(0, mean=m, trades=1, seed=i)] for i, (p, m) in enumerate(zip(pairs, means, strict=True))
    }
    rules = changed(RULES, min_deflated_sharpe=0.0, survives_cost_multiple=1.0)
    found = select_champions(pairs, records, rules, n_trials=4)
    assert [candidate.pair.id for candidate in found.challengers] == ["C__D", "E__F"]
    assert select_champions(pairs, records, changed(rules, n_challengers=0), n_trials=4).challengers == ()


# --- in words ---


def test_no_champion_is_explained_by_rule_and_nearest_miss():
    near = record(0, mean=0.004, trades=3)
    far = record(0, mean=-0.02, trades=1)
    records = {AB.unordered: [near], CD.unordered: [far]}
    found = select_champions([CD, AB, EF], records, changed(RULES, min_deflated_sharpe=0.0), n_trials=2)
    assert found.explanation() == (
        "0 of 3 pairs: 2 have fewer than 4 trades, 1 has a Sharpe below 0.5, 1 has a drawdown above 15%, "
        "1 has fewer than 50% of folds positive, 1 has a loss at 2× costs, "
        "1 has no completed trading window on the roster yet; nearest: A__B, 3 of 4 trades"
    )


def test_the_nearest_lacks_the_least():
    records = {AB.unordered: [record(0, trades=1)], CD.unordered: [record(0, trades=3)]}
    found = select_champions([AB, CD], records, changed(RULES, min_deflated_sharpe=0.0), n_trials=2)
    assert found.explanation().endswith("nearest: C__D, 3 of 4 trades")
    assert [failure.shortfall for failure in found.rejected[0].failures] == [0.75]


# --- trials ---


def test_trials_are_pairs_times_candidates_tried_for_each():
    def tried(fold, n):
        return replace(record(fold), n_tried=n)

    records = {AB.unordered: [tried(0, 12), tried(1, 36)], CD.unordered: [tried(0, 1)], EF.unordered: []}
    assert count_trials(records) == 36 + 1
    found = select_champions([AB], records, RULES, n_trials=37)
    assert (found.n_trials, found.n_pairs_traded) == (37, 2)
    assert found.candidates[0].figures["n_tried"] == 36.0


def test_candidates_of_two_kinds_are_tried_with_each_other():
    assert times({("f", "A__B"): 36, ("f", "C__D"): 2}, {("f", "A__B"): 3}) == {("f", "A__B"): 108, ("f", "C__D"): 2}


def test_the_variance_of_trials_is_that_of_their_ratios():
    records = {AB.unordered: [record(0, mean=0.003)], CD.unordered: [record(0, mean=0.001, seed=1)]}
    found = select_champions([AB], records, RULES, n_trials=2)
    # ratios 1 and 1/3 per day: sample variance (2/3)² / 2
    assert found.trials_variance == pytest.approx(2 / 9)


def test_one_record_alone_is_charged_with_the_variance_of_chance():
    found = select_champions([AB], {AB.unordered: [record(0)]}, RULES, n_trials=50)
    assert found.trials_variance == pytest.approx(1 / (DAYS - 1))
    alone = select_champions([AB], {AB.unordered: [record(0)]}, RULES, n_trials=1)
    assert found.candidates[0].figures["deflated_sharpe"] < alone.candidates[0].figures["deflated_sharpe"]


def test_records_carry_the_candidates_tried_in_their_fold():
    index = grid(288)
    curve = pd.DataFrame({"fold": "fold_00", "equity": 1.0}, index=index)
    line = pd.DataFrame({"fold": ["fold_00"], "n_trades": [2.0], "net_pnl": [0.1], "costs": [0.01]})
    for tried, n in ((None, 1), ({("fold_00", "A__B"): 5}, 5), ({("fold_01", "A__B"): 5}, 1)):
        out = window_records({"A__B": curve}, {"A__B": line}, {"A__B": AB}, ["fold_00"], tried)
        assert out[AB.unordered][0].n_tried == n
