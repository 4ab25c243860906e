"""Every page on an empty project, with the API up, down, and asking for another token; and who may see them."""

from __future__ import annotations

import pytest
from dashboard_pages import PAGES, TITLES, opened, texts
from streamlit import config
from streamlit.testing.v1 import AppTest
from stub_api import StubApi

from mntrading.apps.dashboard import __main__ as launcher
from mntrading.apps.dashboard import services
from mntrading.apps.dashboard.access import PASSWORD
from mntrading.apps.dashboard.settings import API_TOKEN


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_an_empty_project_says_what_to_run_next(page: str, api: StubApi) -> None:
    app = opened(page)
    assert not app.exception
    assert [title.value for title in app.title] == [TITLES[page]]
    said = texts(app)
    assert "kedro run" in said or "Full cycle" in said or page == "run"
    if page == "run":
        assert [button.label for button in app.button][:2] == ["Short cycle", "Full cycle"]


@pytest.mark.parametrize("page", ["overview", "run"])
def test_a_dead_api_is_named_with_what_to_start_and_no_traceback(page: str) -> None:
    app = opened(page)
    assert not app.exception
    assert "can't be reached" in texts(app)
    assert "make api" in texts(app)


@pytest.mark.parametrize("given", [None, "another-token-than-the-one-of-the-api-000"])
def test_a_missing_or_wrong_token_is_named_and_never_shown(
    given: str | None, api: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is None:
        monkeypatch.delenv(API_TOKEN)
    else:
        monkeypatch.setenv(API_TOKEN, given)
    app = opened("run")
    assert not app.exception
    assert "MNTRADING" in texts(app)
    assert "MNTRADING_API_TOKEN" in texts(app).replace("\\", "")
    assert given is None or given not in texts(app)
    assert not app.button


def test_an_environment_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDRO_ENV", "nowhere")
    app = opened("overview")
    assert not app.exception
    assert "nowhere" in texts(app)


def test_beyond_loopback_nothing_is_shown_without_a_password(api: StubApi) -> None:
    config.set_option("server.address", "0.0.0.0")  # noqa: S104 - what is refused
    app = opened("overview")
    assert PASSWORD in texts(app).replace("\\", "")
    assert [title.value for title in app.title] == ["MNTrading"]


def test_the_password_opens_every_page_and_a_wrong_one_none(api: StubApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "correct horse battery")
    config.set_option("server.address", "0.0.0.0")  # noqa: S104
    app = AppTest.from_file(str(launcher.APP), default_timeout=60).run()
    assert [title.value for title in app.title] == ["MNTrading"]
    app.text_input[0].input("correct horse batterz")
    app.button[0].click().run()
    assert "not the password" in texts(app)
    app.text_input[0].input("correct horse battery")
    app.button[0].click().run()
    assert [title.value for title in app.title] == ["Overview"]
    assert not app.exception


def test_after_too_many_wrong_passwords_not_even_the_right_one_is_taken(
    api: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, "correct horse battery")
    for _ in range(10):
        services.throttle().refuse(1e18)
    app = AppTest.from_file(str(launcher.APP), default_timeout=60).run()
    app.text_input[0].input("correct horse battery")
    app.button[0].click().run()
    assert "Too many" in texts(app)


def test_no_folder_lets_a_page_be_reached_past_the_password() -> None:
    # Streamlit serves the scripts of a folder `pages` beside the app by their address, before the app has run once
    assert not launcher.APP.with_name("pages").exists()
