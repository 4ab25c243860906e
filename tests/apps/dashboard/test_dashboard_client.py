"""The API as the dashboard calls it."""

from __future__ import annotations

import pytest
from stub_api import SCHEMA, TOKEN, VALUES, StubApi, run_of, serving

from mntrading.apps.dashboard.client import ApiError, Client


def test_a_run_is_started_watched_and_cancelled(api: StubApi) -> None:
    client = Client(api.url, TOKEN)
    run = client.start("short_cycle", {"portfolio": {"kill_switch": "reducing"}}, "a-key")
    assert client.start("short_cycle", {"portfolio": {"kill_switch": "reducing"}}, "a-key")["id"] == run["id"]
    assert [one["id"] for one in client.runs()] == [run["id"]]
    assert client.run(run["id"])["log"] == ["a line of its log"]
    assert client.cancel(run["id"])["cancel_requested"]
    assert api.posts[0] == ("/run/short_cycle", {"parameters": {"portfolio": {"kill_switch": "reducing"}}}, "a-key")


def test_pipelines_and_parameters_come_as_they_are(api: StubApi) -> None:
    client = Client(api.url, TOKEN)
    assert [one.name for one in client.pipelines()] == ["full_cycle", "short_cycle", "promote"]
    assert client.parameters("short_cycle") == (SCHEMA, VALUES)


@pytest.mark.parametrize(("token", "said"), [(None, "without MNTRADING_API_TOKEN"), ("x" * 40, "does not know")])
def test_a_token_that_is_missing_or_wrong_is_told_apart_and_never_told(
    token: str | None, said: str, api: StubApi
) -> None:
    with pytest.raises(ApiError, match=said) as error:
        Client(api.url, token).runs()
    assert error.value.kind == "denied"
    assert token is None or token not in str(error.value) + repr(Client(api.url, token))


def test_nobody_at_the_address_is_told_with_what_to_start() -> None:
    with pytest.raises(ApiError, match="can't be reached") as error:
        Client("http://127.0.0.1:9", TOKEN).runs()
    assert (error.value.kind, error.value.fix) == ("down", "make api")


@pytest.mark.parametrize("status", [301, 307])
def test_the_token_does_not_follow_a_redirect(status: int, api: StubApi) -> None:
    with serving() as elsewhere:
        api.answers["/runs"] = (status, {"to": f"{elsewhere.url}/runs"})
        with pytest.raises(ApiError, match=str(status)):
            Client(api.url, TOKEN).runs()
        assert not elsewhere.asked


def test_a_problem_comes_with_its_fields_and_the_command_to_run_next(api: StubApi) -> None:
    api.answers["/run/short_cycle"] = (
        422,
        {"detail": "no", "next": "kedro run", "errors": [{"pointer": "/parameters/a", "detail": "too small"}]},
    )
    with pytest.raises(ApiError, match="no") as error:
        Client(api.url, TOKEN).start("short_cycle", {}, "key")
    assert (error.value.kind, error.value.fix) == ("refused", "kedro run")
    assert error.value.errors == (("/parameters/a", "too small"),)


def test_an_id_can_not_lead_to_another_route(api: StubApi) -> None:
    api.runs = [run_of("a")]
    with pytest.raises(ApiError, match="no such run"):
        Client(api.url, TOKEN).run("../pipelines")
