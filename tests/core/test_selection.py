"""Champions from hand-made records: each rule, the cap per symbol, and the order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_bars import changed, grid

from mntrading.core import metrics
from mntrading.core.selection import WindowRecord, select_champions, window_records
from mntrading.core.types import Pair
from mntrading.params import ChampionParams

RULES = ChampionParams(
    min_sharpe=0.5, max_drawdown=0.15, min_trades=4, min_positive_folds=0.5, min_deflated_sharpe=0.5,
    survives_cost_multiple=2.0, max_pairs_per_symbol=2,
)  # fmt: skip
AB, AC, AD, EF = Pair("A", "B"), Pair("A", "C"), Pair("A", "D"), Pair("E", "F")
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
    (candidate,) = select_champions([AB], {AB.unordered: records}, rules, n_trials=n_trials)
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
        (candidate,) = select_champions([AB], records, RULES, n_trials=0)
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
    (candidate,) = select_champions([Pair("B", "A")], {AB.unordered: [record(0), record(1)]}, RULES, n_trials=1)
    assert candidate.champion


def test_more_trials_ask_for_more():
    # trials that differ, so that the best of many is expected to look good by chance
    records = {
        pair.unordered: [record(0, mean=mean, seed=i), record(1, mean=mean, seed=i)]
        for i, (pair, mean) in enumerate(((AB, 0.001), (AC, -0.001), (EF, 0.0005)))
    }
    few, many = (
        {c.pair: c.figures["deflated_sharpe"] for c in select_champions([AB, AC, EF], records, RULES, n_trials=n)}
        for n in (2, 200)
    )
    assert many[AB] < few[AB]


def test_the_better_pairs_of_a_symbol_are_kept_up_to_its_cap():
    means = {AB: 0.004, AC: 0.003, AD: 0.002, EF: 0.001}
    records = {pair.unordered: [record(0, mean=m, seed=4), record(1, mean=m, seed=4)] for pair, m in means.items()}
    rules = changed(RULES, min_deflated_sharpe=0.0, min_sharpe=0.0)
    out = select_champions([EF, AD, AC, AB], records, rules, n_trials=4)
    assert [candidate.pair for candidate in out if candidate.champion] == [AB, AC, EF]
    assert out[-1].pair == AD
    assert out[-1].reasons == ("a symbol is in 2 better champions already",)


def test_the_order_of_the_roster_does_not_change_the_verdict():
    records = {pair.unordered: [record(0), record(1)] for pair in (AB, AC, AD, EF)}
    forward = select_champions([AB, AC, AD, EF], records, RULES, n_trials=4)
    assert select_champions([EF, AD, AC, AB], records, RULES, n_trials=4) == forward
    assert [c.pair.id for c in forward] == ["A__B", "A__C", "E__F", "A__D"]


def test_an_empty_roster_has_no_candidates():
    assert select_champions([], {}, RULES, n_trials=0) == ()


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
