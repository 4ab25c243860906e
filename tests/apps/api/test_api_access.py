"""Who may call the API, by which name, from which page, and with what."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_harness import BEARER, PROJECT, TOKEN, TestClient, client_of, settings
from starlette.websockets import WebSocketDisconnect

from mntrading.apps.api.security import Limiter
from mntrading.apps.api.settings import LOOPBACK, check_token, read
from mntrading.core.errors import ParameterError

NO_TOKEN = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN.lower()}"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": TOKEN},
    {"Authorization": f"Bearer  {TOKEN}"},
]


def operations(client: TestClient) -> list[tuple[str, str]]:
    """Every method and path of the API, the parts of paths filled in."""
    paths = client.app.openapi()["paths"]
    return [
        (method.upper(), path.replace("{run_id}", "20260101T000000Z-00000000").replace("{", "").replace("}", ""))
        for path, methods in paths.items()
        for method in methods
    ]


@pytest.fixture
def bare(state: Path) -> Iterator[TestClient]:
    """A client without a token, which may fail as often as it likes."""
    with client_of(settings(state, max_failures=10_000), raise_server_exceptions=False) as one:
        yield one


def test_nothing_but_liveness_answers_without_the_token(bare: TestClient) -> None:
    asked = operations(bare)
    assert len(asked) > 30
    assert ("POST", "/run/short_cycle") in asked
    for method, path in asked:
        if path == "/health":
            continue
        for headers in NO_TOKEN:
            answer = bare.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
    assert bare.get("/runs", headers=BEARER).json() == {"runs": []}


def test_paths_there_are_not_are_refused_alike_without_the_token(bare: TestClient) -> None:
    assert bare.get("/docs").status_code == 401
    assert bare.get("/no/such/thing").status_code == 401
    assert bare.get("/no/such/thing", headers=BEARER).status_code == 404


def test_two_tokens_are_none(bare: TestClient) -> None:
    headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")]
    assert bare.get("/runs", headers=headers).status_code == 401


def test_liveness_needs_no_token_and_tells_nothing(bare: TestClient) -> None:
    answer = bare.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_a_client_that_guesses_is_told_to_wait_and_the_right_token_still_passes(state: Path) -> None:
    with client_of(settings(state, max_failures=3)) as one:
        wrong = {"Authorization": "Bearer " + "x" * 40}
        assert [one.get("/runs", headers=wrong).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        answer = one.get("/runs", headers=wrong)
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert one.get("/runs", headers=BEARER).status_code == 200


def test_failures_are_forgotten_after_a_minute_and_counted_by_network() -> None:
    at = [0.0]
    limiter = Limiter(2, lambda: at[0])
    assert [limiter.failed("2001:db8::1"), limiter.failed("2001:db8::2")] == [0, 0]
    assert limiter.failed("2001:db8::ffff") == 61
    assert limiter.failed("2001:db8:1::1") == limiter.failed("192.0.2.1") == 0
    at[0] = 60.5
    assert limiter.failed("2001:db8::1") == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "testserver@evil.example"]
)
def test_a_name_that_is_not_served_here_is_refused_whatever_the_token(shared: TestClient, host: str) -> None:
    for path in ("/health", "/runs"):
        answer = shared.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "LOCALHOST"])
def test_loopback_names_are_served_at_any_port(shared: TestClient, host: str) -> None:
    assert shared.get("/runs", headers={"Host": host}).status_code == 200


def test_pages_of_other_origins_can_neither_start_nor_read(client: TestClient) -> None:
    for origin in ("https://evil.example", "null", "http://testserver:81", "https://testserver"):
        for method, path in (("POST", "/run/short_cycle"), ("GET", "/runs"), ("OPTIONS", "/run/short_cycle")):
            assert client.request(method, path, headers={"Origin": origin}).status_code == 403, (origin, method)
    assert client.post("/run/short_cycle", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/runs").json() == {"runs": []}
    assert client.post("/run/short_cycle", headers={"Origin": "http://testserver"}).status_code == 202


def test_an_allowed_origin_may_call_from_a_browser(state: Path) -> None:
    desk = "https://desk.example"
    asks = {"Origin": desk, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with client_of(settings(state, allowed_origins=frozenset({desk}))) as one:
        assert one.options("/run/short_cycle", headers=asks).headers["access-control-allow-origin"] == desk
        assert one.post("/run/short_cycle", headers={"Origin": desk}).status_code == 401
        answer = one.post("/run/short_cycle", headers={"Origin": desk, **BEARER})
        assert answer.status_code == 202
        assert answer.headers["access-control-allow-origin"] == desk


def test_a_body_beyond_the_cap_is_refused_with_and_without_a_stated_length(shared: TestClient) -> None:
    big = b'{"parameters": {}, "x": "' + b"a" * 70_000 + b'"}'
    headers = {"Content-Type": "application/json"}

    def chunks() -> Iterator[bytes]:
        yield from (big[start : start + 1000] for start in range(0, len(big), 1000))

    for content in (big, chunks()):
        answer = shared.post("/run/short_cycle", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["type"] == "urn:mntrading:problem:too-large"
    assert shared.get("/runs").json() == {"runs": []}


def test_a_form_from_another_page_is_no_request(shared: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = shared.post("/run/short_cycle", content=b'{"parameters": {}}', headers={"Content-Type": kind})
        assert answer.status_code == 422


def test_every_answer_says_how_it_is_to_be_treated(shared: TestClient) -> None:
    for path in ("/health", "/runs", "/no/such/thing", "/orders/latest", "/artifacts"):
        headers = shared.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers
        assert len(headers["x-request-id"]) == 16


def test_websockets_are_closed(shared: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect) as raised, shared.websocket_connect("/runs"):
        pass
    assert raised.value.code == 1008


# --- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "what"),
    [
        ("Zk3vQ9x_Lw7Tn2Rb8Yc5Hd1Js6Gf4Pm", "fewer than 32"),
        ("a" * 40, "different characters"),
        ("abcdefghij0123456789" * 2, "repeats itself"),
        ("please-changeme-9f8e7d6c5b4a3g2h1i0j", "everybody tries first"),
        ("MyPassword-9f8e7d6c5b4a3g2h1i0jklmn", "everybody tries first"),
        ("MNTrading-9f8e7d6c5b4a3g2h1i0jklmn0", "everybody tries first"),
        ("Zk3vQ9x_Lw7Tn2Rb8Yc5 Hd1Js6Gf4Pm0a", "visible ASCII"),
        ("Zk3vQ9x_Lw7Tn2Rb8Yc5Hd1Js6Gf4Pm0é", "visible ASCII"),
    ],
)
def test_a_token_that_could_be_guessed_is_refused(token: str, what: str) -> None:
    with pytest.raises(ParameterError, match=what) as raised:
        check_token(token)
    assert token not in str(raised.value)


def test_a_random_token_is_taken() -> None:
    check_token(TOKEN)
    check_token("0f2b9c4d7e81a6350f9c2d4e6b8a7153")


def test_without_a_token_it_does_not_start_but_for_a_demo_on_loopback() -> None:
    with pytest.raises(ParameterError, match="there is no token") as raised:
        read({}, PROJECT)
    assert "secrets.token_urlsafe" in str(raised.value)
    with pytest.raises(ParameterError, match="loopback alone"):
        read({}, PROJECT, demo=True, host="0.0.0.0")  # noqa: S104 - refused
    with pytest.raises(ParameterError, match="loopback alone"):
        read({"MNTRADING_API_HOST": "192.0.2.1"}, PROJECT, demo=True)
    found = read({}, PROJECT, demo=True)
    assert (found.token, found.host) == (None, "127.0.0.1")


def test_the_command_says_what_is_missing_and_leaves(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mntrading.apps.api", "--port", "1"]
    environment = {"PATH": "/usr/bin:/bin", "MNTRADING_STORAGE_ROOT": str(tmp_path / "data")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, env=environment)
    assert done.returncode == 1
    assert "MNTRADING_API_TOKEN: there is no token" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_settings_are_checked_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "MNTRADING_API_TOKEN": TOKEN,
        "MNTRADING_API_ALLOWED_HOSTS": "desk.example, API,[fd00::1]",
        "MNTRADING_API_ALLOWED_ORIGINS": "https://desk.example",
        "KEDRO_ENV": "test",
    }
    found = read(environ, PROJECT)
    assert found.allowed_hosts == {*LOOPBACK, "desk.example", "api", "fd00::1"}
    assert found.env == "test"
    assert TOKEN not in repr(found)
    for name, value in (
        ("MNTRADING_API_PORT", "0"),
        ("MNTRADING_API_PORT", "99999"),
        ("MNTRADING_API_ALLOWED_HOSTS", "*"),
        ("MNTRADING_API_ALLOWED_ORIGINS", "*"),
        ("MNTRADING_API_ALLOWED_ORIGINS", "https://desk.example/path"),
    ):
        with pytest.raises(ParameterError):
            read(environ | {name: value}, PROJECT)


# --- the demo's alias -----------------------------------------------------------------------------------------


def test_the_alias_is_off_unless_it_is_turned_on_and_needs_the_token_then(state: Path, client: TestClient) -> None:
    assert client.get("/run/short_cycle_now").status_code == 404
    assert client.get("/runs").json() == {"runs": []}
    with pytest.raises(ParameterError, match="needs a token"):
        read({"MNTRADING_API_SHORT_CYCLE_NOW": "1"}, PROJECT, demo=True)


def test_the_alias_starts_a_short_cycle_for_whoever_bears_the_token(state: Path) -> None:
    with client_of(settings(state, short_cycle_now=True)) as one:
        assert one.get("/run/short_cycle_now").status_code == 401
        assert one.get("/run/short_cycle_now", headers={**BEARER, "Origin": "https://evil.example"}).status_code == 403
        answer = one.get("/run/short_cycle_now", headers={**BEARER, "Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
        answer = one.get("/run/short_cycle_now", headers=BEARER)
        assert (answer.status_code, answer.json()["pipeline"]) == (202, "short_cycle")


def test_a_demo_without_a_token_is_open_on_this_machine_but_for_the_alias(state: Path) -> None:
    with client_of(settings(state, token=None, demo=True)) as one:
        assert one.get("/runs").status_code == 200
        assert one.get("/run/short_cycle_now").status_code == 404
        assert one.post("/run/short_cycle", headers={"Origin": "https://evil.example"}).status_code == 403
        assert one.get("/runs", headers={"Host": "evil.example"}).status_code == 421
        assert "swagger" in one.get("/docs").text.lower()
        json.loads(one.get("/openapi.json").text)
