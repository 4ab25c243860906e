"""Health checks say what was answered, and fail where it was no success."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mntrading.containers import health


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good" else 503)
        self.end_headers()
        self.wfile.write(b"the database is away")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_success_is_healthy(server, capsys):
    assert health.main([f"{server}/good"]) == 0
    assert capsys.readouterr().out == f"{server}/good: 200\n"


def test_an_error_is_told_with_what_the_service_says(server, capsys):
    assert health.main([f"{server}/bad"]) == 1
    assert capsys.readouterr().out == f"{server}/bad: 503 the database is away\n"


def test_nobody_there_is_no_health(capsys):
    assert health.main(["http://127.0.0.1:9/"]) == 1
    assert "refused" in capsys.readouterr().out


def test_a_proxy_of_the_environment_is_not_asked(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert health.main([f"{server}/good"]) == 0


def test_only_the_web_is_asked():
    with pytest.raises(ValueError, match="only http"):
        health.answer("file:///etc/passwd")


def test_storage_without_keys_says_which_variable_is_missing(monkeypatch):
    from mntrading.core.errors import ParameterError

    for name in ("S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ParameterError, match="S3_ENDPOINT_URL"):
        health.main(["--storage"])
