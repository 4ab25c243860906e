"""What a report says, above all when there is nothing to say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mntrading.reporting.evidence import BarRange
from mntrading.reporting.figures import draw
from mntrading.reporting.render import render_html, render_markdown
from mntrading.reporting.sections import latest_context, research_context


def section(context, key):
    (found,) = [part for part in context.sections if part.key == key]
    return found


def said(context, key):
    return " ".join(section(context, key).text)


def cells(context, key):
    return [row for shown in section(context, key).tables for row in shown.rows]


def test_orders_come_first(research, live):
    context = latest_context(research, live, "report.html")
    assert context.sections[0].key == "now"
    assert context.sections[0].tables[0].rows[0][:3] == ("sell", "AAA/USDT", "31,917.3")
    assert context.facts[0].value == "1"


def test_performance_is_labelled_out_of_sample_after_costs(research):
    shown = section(research_context(research, "x"), "performance").tables
    assert all("out of sample, after costs" in one.caption for one in shown)
    assert [column.title for column in shown[0].columns] == ["", "Champions", "Whole roster"]
    assert ("Sharpe ratio, 95% interval", "0.10 to 0.10", "0.20 to 0.20") in shown[0].rows


def test_research_with_champions_says_how_to_promote_them(research):
    assert "AAA-USDT__BBB-USDT" in said(research_context(research, "x"), "now")
    assert "kedro run --pipelines full_cycle" in said(research_context(research, "x"), "now")


def test_pairs_are_listed_with_verdict_and_reasons(research):
    verdicts = {row[0]: (row[1], row[-1]) for row in cells(research_context(research, "x"), "pairs")}
    assert verdicts == {
        "AAA-USDT__BBB-USDT": ("champion", "passes every rule"),
        "CCC-USDT__DDD-USDT": ("rejected", "Sharpe below 0.5"),
        "EEE-USDT__FFF-USDT": ("left", "not on the live roster"),
    }


def test_no_pair_is_explained_with_the_nearest_misses(nothing):
    context = research_context(nothing, "x")
    why = "0 of 435 pairs pass the Benjamini–Hochberg adjustment at 5%; nearest: AAA-USDT__BBB-USDT (adjusted p 0.0800)"
    for key in ("now", "pairs", "screening"):
        assert why in said(context, key)


def test_significant_pairs_that_stop_at_a_later_gate_are_explained(nothing):
    screens = {name: dict(found) for name, found in nothing.screens.items()}
    screens["live"]["funnel"] = {"tested": 435, "not significant": 433, "half-life too long": 2, "selected": 0}
    context = research_context(replace(nothing, screens=screens), "x")
    assert "2 of 435 pairs pass" in said(context, "now")
    assert "half-life too long (2)" in said(context, "now")


def test_the_best_pairs_that_stop_at_a_gate_are_not_said_to_be_significant(nothing):
    screens = {name: dict(found) for name, found in nothing.screens.items()}
    screens["live"]["funnel"] = {"tested": 435, "not among the best": 430, "half-life too long": 5, "selected": 0}
    best = nothing.screening.model_copy(update={"select": "top_k", "top_k": 5})
    context = research_context(replace(nothing, screens=screens, screening=best), "x")
    assert "None of the 5 best of 435 pairs passes every gate" in said(context, "now")
    assert "half-life too long (5)" in said(context, "now")


def test_a_universe_too_small_to_test_is_explained(nothing):
    screens = {name: dict(found) for name, found in nothing.screens.items()}
    screens["live"] |= {"n_symbols": 1, "n_tests": 0, "funnel": {"tested": 0, "selected": 0}, "pairs": []}
    context = research_context(replace(nothing, screens=screens), "x")
    assert "No pair was tested: 1 symbol passed the universe rules, two are needed" in said(context, "now")
    assert "too little volume (2)" in said(context, "now")


def test_no_champion_is_explained_by_the_rules_that_failed(research):
    why = "0 of 2 pairs: 2 have a Sharpe below 0.5; nearest: A__B, Sharpe 0.42 of 0.50"
    registry = {"champions": [], "rejected": [research.registry["rejected"][0]] * 2, "n_trials": 2}
    registry["explanation"] = why
    text = said(research_context(replace(research, registry=registry), "x"), "now")
    assert f"No pair on the live roster is a champion. {why}." in text


def test_the_only_pair_rejected_is_explained(no_window):
    text = said(research_context(no_window, "x"), "now")
    assert "is a champion. 0 of 1 pair: 1 has no completed trading window on the roster yet." in text


def test_no_completed_window_is_explained(no_window):
    context = research_context(no_window, "x")
    for key in ("performance", "folds"):
        assert "No trading window is complete yet" in said(context, key)
        assert section(context, key).tables == ()
    assert "no completed trading window on the roster yet" in said(context, "now")


def test_no_trade_at_all_is_explained(nothing):
    context = research_context(nothing, "x")
    assert "Nothing was traded in any trading window: 0 trading windows of 2" in said(context, "performance")
    assert section(context, "performance").tables == ()


def test_champions_that_stayed_in_cash_are_explained(research):
    idle = dict(research.summary["portfolio"]["champions"]) | {"n_fills": 0.0, "sharpe": None, "sharpe_low": None}
    summary = {**research.summary, "portfolio": {**research.summary["portfolio"], "champions": idle}}
    context = research_context(replace(research, summary=summary), "x")
    assert "stayed in cash" in said(context, "performance")
    assert ("Sharpe ratio", "–", "0.20") in cells(context, "performance")


def test_every_line_stands_beside_the_portfolios_with_what_its_record_is_worth(research):
    rows = cells(research_context(research, "x"), "lines")
    assert [row[0] for row in rows[:6]] == [
        "Champions", "Whole roster", "Cash", "Buy and hold, equal weights", "z rule without a model",
        "Placebo: random pairs",
    ]  # fmt: skip
    assert rows[3][1:4] == ("30.0%", "0.30", "0.30 to 0.30")
    text = said(research_context(research, "x"), "lines")
    assert "p 0.0200 (between 0.0100 and 0.0300)" in text
    assert "in 40% of the ways" in text


def test_a_record_without_a_profit_is_never_long_enough(research):
    lost = {**research.summary["benchmarks"]["placebo"], "sharpe": -1.0, "min_track_record_days": None}
    benchmarks = {**research.summary["benchmarks"], "placebo": lost}
    context = research_context(replace(research, summary={**research.summary, "benchmarks": benchmarks}), "x")
    assert "never" in next(row for row in cells(context, "lines") if row[0] == "Placebo: random pairs")


def test_where_the_profit_went_is_shown_in_total_and_by_window(research):
    rows = cells(research_context(research, "x"), "lines")
    assert ("Champions", "5.00%", "1.00%", "0.20%", "0.10%", "3.70%", "3.00") in rows
    assert ("fold_01, whole roster", "5.00%", "1.00%", "0.20%", "0.10%", "3.70%", "3.00") in rows


def test_too_few_days_for_a_test_are_said(research):
    unknown = {**research.summary["candidates"], "pbo": None} | dict.fromkeys(
        ("spa_lower", "spa_consistent", "spa_upper")
    )
    context = research_context(replace(research, summary={**research.summary, "candidates": unknown}), "x")
    assert "3 pairs over 8 days are too little to test" in said(context, "lines")


def test_other_assumptions_are_shown_and_the_bound_nobody_can_trade_is_named(research):
    rows = cells(research_context(research, "x"), "robustness")
    assert [row[0] for row in rows[:4]] == [
        "As traded", "2 times the costs", "Decisions 1 bar later",
        "Filled at the close it decided on (nobody can trade this)",
    ]  # fmt: skip
    assert rows[4:] == [("-0.5", "1.50 (1.5%)", "1.50 (1.5%)"), ("own", "2.00 (2.0%)", "2.00 (2.0%)")]


def test_late_second_legs_are_told_of_the_pairs_one_by_one(research):
    assert "in 20% of fills, the pairs one by one earn 2.00% of the capital instead of 3.00%" in said(
        research_context(research, "x"), "robustness"
    )


def test_levels_that_are_in_no_order_are_left_open(research):
    cell = {"entry_step": 0.0, "exit_step": 2.5, "total_return": None, "sharpe": None, "n_trades": None}
    found = {**research.robustness, "neighbourhood": [cell]}
    assert ("own", "–") in cells(research_context(replace(research, robustness=found), "x"), "robustness")


def test_nothing_traded_has_nothing_to_compare_or_vary(nothing):
    context = research_context(nothing, "x")
    for key in ("lines", "robustness"):
        assert "othing" in said(context, key)
        assert section(context, key).tables == ()


def test_no_model_is_explained(nothing, research):
    assert "No model was trained" in said(research_context(nothing, "x"), "models")
    weak = {
        id_: {**fit, "chosen": None, "reason": "too weak"} for id_, fit in research.scores["cross_validated"].items()
    }
    context = research_context(replace(research, scores={**research.scores, "cross_validated": weak}), "x")
    assert "No fold has a model" in said(context, "models")
    assert "none: too weak" in {row[1] for row in cells(context, "models")}


def test_a_model_for_each_pair_is_summed_up_by_fold(research):
    fit = research.scores["cross_validated"]["fold_00/pooled"]
    groups = {
        "fold_00/AAA-USDT__BBB-USDT": fit,
        "fold_00/EEE-USDT__FFF-USDT": {"chosen": None, "reason": "few", "candidates": []},
    }
    context = research_context(replace(research, scores={**research.scores, "cross_validated": groups}), "x")
    assert cells(context, "models")[0][:3] == ("fold_00", "1 of 2 groups", "0.600")


def test_what_lots_leave_of_a_hedge_is_said(research, live):
    assert "entries off by: AAA-USDT__BBB-USDT 0.041%" in said(latest_context(research, live, "x"), "now")


def test_nothing_in_production_is_explained(nothing, idle):
    context = latest_context(nothing, idle, "x")
    assert "Nothing to do: no pair is in production" in said(context, "now")
    assert "No pair is in production" in said(context, "signals")
    assert "No position is open" in said(context, "book")
    assert context.facts[0].value == "0"


@pytest.mark.parametrize(("switch", "meaning"), [("reducing", "exits only"), ("halted", "no orders at all")])
def test_a_thrown_kill_switch_is_said(research, live, switch, meaning):
    orders = {**live.orders, "kill_switch": switch}
    assert f"{switch}: {meaning}" in said(latest_context(research, replace(live, orders=orders), "x"), "now")


def test_refused_entries_are_said_with_reasons(research, live):
    orders = {**live.orders, "refused": {"AAA-USDT__BBB-USDT": "below the smallest notional"}}
    text = said(latest_context(research, replace(live, orders=orders), "x"), "now")
    assert "AAA-USDT__BBB-USDT (below the smallest notional)" in text


def test_production_of_earlier_champions_is_said(research, live):
    assert "earlier champions" in said(latest_context(research, replace(live, current=False), "x"), "now")
    assert "earlier champions" not in said(latest_context(research, live, "x"), "now")


def test_a_simulated_market_is_said_before_anything_else(research):
    assert research_context(research, "x").notices == ()
    notices = research_context(replace(research, source="simulator:demo:0"), "x").notices
    assert notices[0].startswith("Simulated market.")


def test_a_sharpe_ratio_too_good_to_be_true_is_doubted_on_real_bars_only(research):
    portfolio = research.summary["portfolio"]
    great = {**portfolio, "champions": {**portfolio["champions"], "sharpe": 5.0}}
    doubted = replace(research, summary={**research.summary, "portfolio": great})
    assert any("look for a mistake" in text for text in research_context(doubted, "x").notices)
    simulated = research_context(replace(doubted, source="simulator:demo:0"), "x").notices
    assert not any("look for a mistake" in text for text in simulated)


def test_doubts_about_the_artefacts_are_said_at_the_head(research):
    assert "old roster" in research_context(replace(research, doubts=("old roster",)), "x").notices


def test_a_store_without_bars_is_said(research):
    empty = BarRange.of("5m", "files:/bars", [])
    context = research_context(replace(research, bars=(*research.bars, empty)), "x")
    assert "No bars of 5m are stored" in said(context, "lineage")
    assert (empty.first, empty.end) == (None, None)


def test_range_of_bars_runs_from_first_open_to_last_close():
    entries = [
        {"first": "2024-01-02T00:00:00Z", "last": "2024-01-02T23:55:00Z", "rows": 288, "missing_bars": 0},
        {"first": "2024-01-01T00:00:00Z", "last": "2024-01-02T12:00:00Z", "rows": 400, "missing_bars": 33},
        {"rows": 0, "missing_bars": 0},
    ]
    found = BarRange.of("5m", "s", entries)
    assert (f"{found.first:%d %H:%M}", f"{found.end:%d %H:%M}") == ("01 00:00", "03 00:00")
    assert (found.n_symbols, found.n_bars, found.missing_bars) == (3, 688, 33)


@pytest.mark.parametrize("market", ["research", "nothing", "no_window"])
@pytest.mark.parametrize("state", ["live", "idle"])
def test_every_outcome_renders_without_an_empty_table_or_section(market, state, request):
    found, now = request.getfixturevalue(market), request.getfixturevalue(state)
    for context in (research_context(found, "x"), latest_context(found, now, "x")):
        for part in context.sections:
            assert part.text or part.points or part.tables, part.key
            assert all(shown.rows for shown in part.tables)
        for text in (render_markdown(context, draw(found)), render_html(context, draw(found))):
            assert "None" not in text.replace("None of the", "").split("<script>")[0]
            assert "nan" not in text.split("<script>")[0].lower().split()
