"""The preflight: a line for every service that can't be used, in time."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

with warnings.catch_warnings():  # the framework warns about itself when it is imported
    warnings.simplefilter("ignore")
    import mlflow  # noqa: F401

from mntrading import preflight
from mntrading.core.errors import MNTradingError
from mntrading.preflight import Check, PreflightError, checks, fly

KEYS = {"key": "known", "secret": "hidden-secret", "client_kwargs": {"region_name": "us-east-1"}}
STORAGE = {"root": "s3://bucket", "credentials": "s3", "lease": "strict", "lease_ttl_seconds": 120}


@contextlib.contextmanager
def answering(status: int, body: bytes = b"", *, after: float = 0.0) -> Iterator[str]:
    """A server that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(after)
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def refused(uri: str | None, endpoint: str | None = None, *, seconds: float = 5.0) -> str:
    storage = STORAGE if endpoint else {**STORAGE, "root": "data"}
    with pytest.raises(PreflightError) as raised:
        fly(checks(storage, {**KEYS, "endpoint_url": endpoint}, uri), seconds=seconds)
    assert "hidden-secret" not in str(raised.value)
    return str(raised.value)


def test_files_need_no_flight() -> None:
    assert checks({**STORAGE, "root": "data"}, None, "sqlite:///x.db") == []
    fly([])


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, "--allowed-hosts"), (401, "MLFLOW_TRACKING_USERNAME"), (404, "is not the address"), (503, "its database")],
)
def test_mlflow_that_refuses_is_told_with_what_to_do(status: int, said: str) -> None:
    with answering(status) as uri:
        line = refused(uri).splitlines()[1]
    assert line.startswith(f"  MLflow: {uri}: MLflow answers {status}. Next: ")
    assert said in line
    assert line.endswith("--params tracking=off")


def test_mlflow_that_answers_is_passed() -> None:
    with answering(200, b'{"experiments": []}') as uri:
        fly(checks({**STORAGE, "root": "data"}, None, uri))


S3_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>m</Message></Error>"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, b"SignatureDoesNotMatch", "refuses the keys (403 SignatureDoesNotMatch)"),
        (403, b"AccessDenied", "refuses the keys (403 AccessDenied)"),
        (404, b"NoSuchBucket", "there is no bucket 'bucket'"),
        (503, b"SlowDown", "fails (503 SlowDown)"),
    ],
)
def test_store_that_refuses_is_told_with_what_to_do(status: int, code: bytes, said: str) -> None:
    with answering(status, S3_ERROR % code) as endpoint:
        line = refused(None, endpoint).splitlines()[1]
    assert line.startswith(f"  storage: s3://bucket at {endpoint}: ")
    assert said in line
    assert ". Next: " in line


def test_each_of_several_failures_has_its_line_and_all_are_asked_at_once() -> None:
    with answering(200, after=3) as hanging, answering(503) as failing:
        begun = time.monotonic()
        told = refused(failing, hanging, seconds=0.5).splitlines()
        took = time.monotonic() - begun
    assert told[0] == "2 of 2 services can't be used"
    assert "did not answer within 0.5 s" in told[1]
    assert "MLflow answers 503" in told[2]
    assert took < 2.5


def test_error_nobody_foresaw_is_a_line_too() -> None:
    def ask() -> None:
        raise KeyError("surprise")

    with pytest.raises(PreflightError, match="KeyError: 'surprise'"):
        fly([Check("storage", "somewhere", ask)])


def test_address_nobody_listens_on_is_told() -> None:
    assert "MLflow does not answer (Connection refused)" in refused("http://127.0.0.1:1")


def test_whole_error_is_of_the_kind_that_needs_no_traceback() -> None:
    assert issubclass(PreflightError, MNTradingError)
    assert preflight.SECONDS == 5.0
