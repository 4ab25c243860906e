"""The section on the health of production pairs."""

from __future__ import annotations

from dataclasses import replace

from mntrading.reporting.health import drift_figure, health_figures, health_section
from mntrading.reporting.sections import latest_context


def test_no_pair_in_production_is_said_in_words_without_a_table(idle):
    section = health_section(idle.monitoring)
    assert section.text == ("No pair is in production, so there is nothing to watch.",)
    assert not section.tables
    assert not section.figures
    assert health_figures(idle.monitoring) == {}


GOOD, BAD = "AAA-USDT__BBB-USDT", "CCC-USDT__DDD-USDT"


def test_figures_stand_beside_their_limits_and_what_is_beyond_one_is_marked(health_of):
    quiet, loud = (health_section(health_of(GOOD, psi=0.31, drifted=drifted)) for drifted in (False, True))
    titles = [column.title for column in loud.tables[0].columns]
    assert titles == ["Pair", "Bars old (0)", "Drifted features (0)", "Calibration gap (0.1)"]
    assert quiet.tables[0].rows == ((GOOD, "0", "0", "–"),)
    assert loud.tables[0].rows == ((GOOD, "0", "1 !", "–"),)
    assert quiet.points == ()
    assert loud.points == (f"{GOOD}: features drifted: z PSI 0.31, limit 0.25",)
    assert "change no order" in loud.text[0]
    assert "Too early: 0.0 independent labels." in quiet.text


def test_a_level_that_reduces_is_told_with_its_reason(health_of):
    reduced = {
        **health_of(GOOD, drifted=True),
        "level": "reducing",
        "reason": "1 of 1 pairs breach a limit of drift: X",
    }
    assert health_section(reduced).text[0].startswith("The kill switch is set to reducing")
    assert "1 of 1 pairs breach a limit of drift: X." in health_section(reduced).text[0]


def test_the_heat_map_has_a_column_per_pair_and_marks_what_has_drifted(health_of):
    both = health_of(GOOD, psi=0.31, drifted=True)
    unknown = health_of(BAD)["pairs"][0] | {"drift": []}
    other = health_of(BAD)["pairs"][0] | {"drift": [{**both["pairs"][0]["drift"][0], "column": "y", "psi": None,
                                                     "drifted": False}]}  # fmt: skip
    figure = drift_figure({**both, "pairs": [*both["pairs"], other, unknown]})
    heat = figure.data[0]
    assert list(heat.x) == [GOOD, BAD]
    assert list(heat.y) == ["z", "y"]
    assert heat.z[0][0] == 0.31
    assert [list(row) for row in heat.text] == [["×", ""], ["", ""]]


def test_the_latest_report_tells_health_between_signals_and_performance(research, live, health_of):
    context = latest_context(research, replace(live, monitoring=health_of(GOOD)), "x.html")
    keys = [section.key for section in context.sections]
    assert keys.index("signals") < keys.index("health") < keys.index("performance")
    assert "drift" in context.captions
