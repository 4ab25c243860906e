"""Challengers in the report: side by side with production, and what they still lack."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from mntrading.reporting.account_sections import advice_section
from mntrading.reporting.evidence import Shadow
from mntrading.reporting.shadow import FIGURE, shadow_figures, shadow_section


def test_both_accounts_stand_side_by_side_from_what_they_had_in_common(live) -> None:
    section = shadow_section(live.shadow)
    side_by_side, _ = section.tables
    assert [row[0] for row in side_by_side.rows] == ["Production", "With challengers"]
    assert [row[1:] for row in side_by_side.rows] == [
        ("100,100.00", "0.10%", "0.20%", "6"),
        ("100,400.00", "0.40%", "0.10%", "7"),
    ]
    assert "in place of OLD-USDT__TRY-USDT" in section.text[0]
    assert "0.30% in 15.0 days" in section.text[0]


def test_rules_that_are_missing_are_named(live) -> None:
    section = shadow_section(live.shadow)
    assert section.text[1] == "They may not be promoted yet; missing: closed trades of each challenger."
    assert [row[1] for row in section.tables[1].rows] == ["kept", "missing"]
    assert "promote_challenger" not in " ".join(advice_section(live).points)


def test_where_every_rule_holds_the_command_is_said(live) -> None:
    ready = replace(live.shadow, record={**live.shadow.record, "ready": True})
    assert "kedro run --pipelines promote_challenger takes them in" in shadow_section(ready).text[1]
    assert "promote_challenger_preview" in " ".join(advice_section(replace(live, shadow=ready)).points)


def test_trouble_is_said_in_one_sentence_and_to_be_looked_at(live) -> None:
    trouble = Shadow(None, pd.DataFrame(), "state: was altered\nNext: remove it", trouble=True)
    (text,) = shadow_section(trouble).text
    assert text == "No challenger is followed: state: was altered Next: remove it."
    assert "challengers in shadow have not been followed" in " ".join(
        advice_section(replace(live, shadow=trouble)).points
    )
    assert shadow_figures(trouble, max_points=100) == {}


def test_the_lines_begin_where_the_record_does_and_differ_in_colour(live) -> None:
    figure = shadow_figures(live.shadow, max_points=100)[FIGURE]
    returns = {trace.name: trace for trace in figure.data if trace.showlegend}
    assert set(returns) == {"Production", "With challengers"}
    assert all(trace.y[0] == 0.0 and len(trace.y) == 4 for trace in returns.values())
    assert len({trace.line.color for trace in returns.values()}) == 2


def test_accounts_that_have_not_moved_are_not_drawn(live) -> None:
    still = replace(live.shadow, equity=live.shadow.equity * 0.0 + 100.0)
    assert shadow_figures(still, max_points=100) == {}
    assert shadow_section(still).figures == ()
