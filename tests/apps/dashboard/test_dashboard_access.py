"""Who may see the dashboard, and what it is started with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mntrading.apps.dashboard import __main__ as launcher
from mntrading.apps.dashboard import settings
from mntrading.apps.dashboard.access import PASSWORD, Throttle, check_exposure, is_loopback, is_right
from mntrading.core.errors import ParameterError


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_needs_no_password(address: str) -> None:
    assert is_loopback(address)
    check_exposure(address, None)


@pytest.mark.parametrize("address", [None, "", "0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "128.0.0.1"])  # noqa: S104
def test_any_other_address_needs_one(address: str | None) -> None:
    assert not is_loopback(address)
    with pytest.raises(ParameterError, match=PASSWORD):
        check_exposure(address, None)
    check_exposure(address, "correct horse battery")


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "ababababababab"])
def test_a_password_that_could_be_guessed_is_refused_everywhere(password: str) -> None:
    for address in ("127.0.0.1", "10.0.0.1"):
        with pytest.raises(ParameterError):
            check_exposure(address, password)


def test_only_the_password_itself_is_right() -> None:
    assert is_right("correct horse battery", "correct horse battery")
    assert not is_right("correct horse batter", "correct horse battery")
    assert is_right("pässwort mit ü", "pässwort mit ü")


def test_the_throttle_opens_again_after_its_time() -> None:
    throttle = Throttle(most=3, seconds=60.0)
    for at in (0.0, 1.0, 2.0):
        assert throttle.wait(at) == 0.0
        throttle.refuse(at)
    assert throttle.wait(3.0) == pytest.approx(57.0)
    assert throttle.wait(61.0) == 0.0


def test_the_launcher_refuses_to_listen_elsewhere_before_anything_does(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("streamlit.web.cli.main", lambda *args, **_: started.append(args))
    with pytest.raises(SystemExit, match=PASSWORD):
        launcher.main(["--host", "0.0.0.0"])  # noqa: S104
    assert not started


def test_the_launcher_serves_on_loopback_and_answers_to_its_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("streamlit.web.cli.main", lambda arguments, **_: started.append(arguments))
    monkeypatch.setenv(settings.ALLOWED_HOSTS, "desk.example.org")
    launcher.main(["--port", "8599"])
    (arguments,) = started
    assert "--server.address=127.0.0.1" in arguments
    assert "--server.port=8599" in arguments
    assert [one for one in arguments if "allowedHosts" in one] == [
        f"--server.allowedHosts={name}" for name in ("localhost", "127.0.0.1", "::1", "desk.example.org")
    ]


@pytest.mark.parametrize("text", ["ftp://host", "127.0.0.1:8000", "http://user:word@host", "javascript:alert(1)"])
def test_an_address_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    for name in (settings.API_URL, settings.MLFLOW_URL):
        with pytest.raises(ParameterError, match=name):
            settings.read({name: text}, tmp_path)


def test_settings_never_print_what_is_secret(tmp_path: Path) -> None:
    found = settings.read({settings.API_TOKEN: "secret-token", PASSWORD: "secret-password"}, tmp_path)
    assert "secret" not in repr(found) + str(found)
    assert (found.api_url, found.token) == ("http://127.0.0.1:8000", "secret-token")


def test_the_configuration_of_streamlit_is_closed() -> None:
    import tomllib

    found = tomllib.loads((launcher.APP.parent / ".streamlit" / "config.toml").read_text())
    assert found["browser"]["gatherUsageStats"] is False
    assert found["server"]["address"] == "127.0.0.1"
    assert found["server"]["enableXsrfProtection"] is True
    assert found["server"]["enableCORS"] is True
    assert found["client"]["toolbarMode"] == "minimal"
    assert found["client"]["showErrorDetails"] == "none"
    assert found["client"]["allowedOrigins"] == []
