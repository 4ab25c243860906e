"""The menu in the report: every candidate, how often it was chosen, and the picture of both."""

from __future__ import annotations

from mntrading.reporting.rules import menu_figure, rules_section


def test_every_candidate_is_shown_with_what_it_was_worth_and_earned(research):
    section = rules_section(research.summary["rules"], 10)
    (shown,) = section.tables
    assert shown.rows == (
        ("configured", "2", "1.00%", "3.00%", "1.00"), ("configured · optimal", "1", "-2.00%", "-1.00%", "-0.50"),
    )  # fmt: skip
    assert "at 2 times the costs; in 2 of 3 windows" in section.text[0]
    assert "20%" in section.text[1]


def test_a_menu_of_one_is_said_in_words(research):
    alone = research.summary["rules"] | {"n_candidates": 1}
    assert rules_section(alone, 10).tables == ()
    assert "nothing to choose" in rules_section(alone, 10).text[0]


def test_the_choice_is_marked_where_it_was_made(research):
    figure = menu_figure(research.summary["rules"])
    assert list(figure.data[0].x) == ["configured", "optimal"]
    assert figure.data[0].z.tolist() == [[0.01, -0.02]]
    assert [(mark.x, mark.y, mark.text) for mark in figure.layout.annotations] == [
        ("configured", "configured", "★ 2"), ("optimal", "configured", "★ 1"),
    ]  # fmt: skip
    assert menu_figure(research.summary["rules"] | {"candidates": []}) is None
