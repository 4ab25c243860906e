"""The page that starts runs, against a stub of the API."""

from __future__ import annotations

import re

import pytest
from dashboard_pages import opened, texts
from streamlit.testing.v1 import AppTest
from stub_api import StubApi, run_of


def _button(app: AppTest, key: str) -> object:
    return next(button for button in app.button if button.key == key)


def test_short_is_one_post_with_a_key(api: StubApi) -> None:
    app = opened("run")
    _button(app, "start-short_cycle").click().run()
    assert not app.exception
    ((path, body, key),) = api.posts
    assert (path, body) == ("/run/short_cycle", {})
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", key or "")


def test_a_double_click_is_one_run(api: StubApi) -> None:
    app = opened("run")
    for _ in range(2):
        _button(app, "start-full_cycle").click().run()
    assert len(api.posts) == 2
    assert len({key for *_, key in api.posts}) == 1
    assert len(api.runs) == 1


def test_short_and_full_are_two_runs(api: StubApi) -> None:
    app = opened("run")
    _button(app, "start-short_cycle").click().run()
    _button(app, "start-full_cycle").click().run()
    assert [run["pipeline"] for run in api.runs] == ["full_cycle", "short_cycle"]


def test_a_form_sends_what_was_changed_and_nothing_else(api: StubApi) -> None:
    app = opened("run")
    next(box for box in app.selectbox if box.key == "short_cycle/portfolio/kill_switch").select("reducing")
    next(box for box in app.number_input if box.key == "short_cycle/portfolio/target_volatility").set_value(0.1)
    next(button for button in app.button if button.label == "Start short cycle").click().run()
    assert not app.exception
    ((path, body, _),) = api.posts
    assert path == "/run/short_cycle"
    assert body == {"parameters": {"portfolio": {"kill_switch": "reducing", "target_volatility": 0.1}}}


def test_a_form_left_as_it_is_runs_with_the_environments_values(api: StubApi) -> None:
    app = opened("run")
    next(button for button in app.button if button.label == "Start short cycle").click().run()
    assert api.posts[0][1] == {}


def test_what_the_schema_refuses_is_not_sent(api: StubApi) -> None:
    app = opened("run")
    next(box for box in app.number_input if box.key == "short_cycle/backtest/strategy/entry_z").set_value(0.0)
    next(button for button in app.button if button.label == "Start short cycle").click().run()
    assert not api.posts
    assert "entry\\_z" in texts(app) or "entry_z" in texts(app)


def test_what_runs_is_shown_with_its_log_and_can_be_cancelled(api: StubApi) -> None:
    api.runs = [run_of("run-a"), run_of("run-b", state="queued", position=1, started_at=None, progress=None, step=None)]
    app = opened("run")
    assert "a line of its log" in texts(app)
    _button(app, "cancel-run-a").click().run()
    assert not app.exception
    assert [path for path, *_ in api.posts] == ["/runs/run-a/cancel"]


def test_a_refusal_of_the_api_is_shown_by_field(api: StubApi) -> None:
    wrong = {"detail": "wrong parameters", "errors": [{"pointer": "/parameters/portfolio/top_k", "detail": "too many"}]}
    api.answers["/run/short_cycle"] = (422, wrong)
    app = opened("run")
    _button(app, "start-short_cycle").click().run()
    assert not app.exception
    assert "portfolio.top_k" in texts(app)
    assert "too many" in texts(app)


@pytest.mark.parametrize("state", ["finished", "refused", "failed", "cancelled", "killed"])
def test_the_history_tells_how_runs_ended(state: str, api: StubApi) -> None:
    api.runs = [run_of("run-a", state=state, finished_at="2026-01-01T00:00:21Z", error="nothing stored\nmore")]
    app = opened("run")
    assert not app.exception
    (row,) = next(table for table in app.dataframe if "Took" in table.value).value.to_dict("records")
    assert row["Took"] == "20 s"
    assert row["What it said"] == "nothing stored"
