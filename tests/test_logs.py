"""No secret of the environment reaches a log line, a message or a record."""

from __future__ import annotations

import io
import json
import logging
import warnings
from typing import Any

import pytest

from mntrading import logs, runs
from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.core.redaction import HIDDEN, is_secret, redact, redact_tree, secrets_of

CANARY = "c4n4ry+/=Zx"
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "MLFLOW_TRACKING_URI": "https://someone:p%40ss-w0rd@mlflow.example/path",
    "HOME": "/home/someone-else",
    "N_TOKEN": "1234567890",
    "SHORT_SECRET": "abc",
}


def test_secrets_are_known_by_the_names_of_variables_and_as_users_of_addresses() -> None:
    found = secrets_of(ENVIRONMENT)
    assert {CANARY, "someone:p%40ss-w0rd", "p%40ss-w0rd", "p@ss-w0rd"} <= set(found)
    assert not {"/home/someone-else", "abc", "1234567890"} & set(found)
    assert list(found) == sorted(found, key=lambda value: (-len(value), value))


@pytest.mark.filterwarnings("always")
def test_one_warning_is_held_back_whatever_filters_say_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: said.append(str(message)))
    with logs.unsaid("of theirs"):
        warnings.warn("a thing of theirs", stacklevel=1)
        warnings.warn("a thing of ours", stacklevel=1)
    warnings.warn("a thing of theirs, later", stacklevel=1)
    assert said == ["a thing of ours", "a thing of theirs, later"]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("MINIO_ROOT_PASSWORD", "AWS_ACCESS_KEY_ID", "GH_TOKEN", "api_key")),
        *((name, False) for name in ("S3_ENDPOINT_URL", "storage.root", "HOME")),
    ],
)
def test_names_tell_what_is_secret(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_text_loses_secrets_users_in_addresses_and_signatures() -> None:
    text = f"get https://u:p@host/x?X-Amz-Signature=0a1b&y=1 with {CANARY}"
    assert redact(text, (CANARY,)) == f"get https://{HIDDEN}@host/x?X-Amz-Signature={HIDDEN}&y=1 with {HIDDEN}"
    assert redact("postgresql://mlflow:pw@db/x and s3://bucket/key@1") == (
        f"postgresql://{HIDDEN}@db/x and s3://bucket/key@1"
    )


def test_nested_values_are_hidden_by_name_and_by_content() -> None:
    given = {"a": [f"x {CANARY}", 1, None], "b": {"secret": "whatever", "n": 2.5}}
    hidden = {"a": [f"x {HIDDEN}", 1, None], "b": {"secret": HIDDEN, "n": 2.5}}
    assert redact_tree(given, (CANARY,)) == hidden


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A logger of the test's own with its handler, and what it has written."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    written, logger = io.StringIO(), logging.getLogger("canary")
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)


@pytest.mark.parametrize("form", ["plain", "json"])
def test_every_handler_writes_lines_without_secrets_tracebacks_included(
    lines: Any, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, written = lines
    monkeypatch.setenv(logs.FORMAT, form)
    others = {handler: handler.formatter for handler in logging.root.handlers}
    monkeypatch.setattr(logging, "captureWarnings", lambda _: None)  # pytest has its own way with them
    logs.install()
    logs.install()
    for handler, formatter in others.items():
        handler.setFormatter(formatter)
    try:
        raise ValueError(f"refused {CANARY}")
    except ValueError:
        logger.exception("with %s", CANARY)
    text = written.getvalue()
    assert CANARY not in text
    assert f"refused {HIDDEN}" in text
    if form == "json":
        said = json.loads(text)
        assert (said["level"], said["logger"], said["message"]) == ("ERROR", "canary", f"with {HIDDEN}")
        assert "Traceback" in said["traceback"]


def test_unknown_form_of_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.FORMAT, "xml")
    with pytest.raises(ParameterError, match="'xml' is no form"):
        logs.install()


@pytest.mark.parametrize("error", [ArtifactError(f"with {CANARY}"), RuntimeError(f"with {CANARY}")])
def test_errors_that_end_a_command_are_told_without_secrets(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)

    @runs.stated
    def fails() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        fails()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert CANARY not in said
    assert f"with {HIDDEN}" in said


def test_refusal_of_a_resolver_needs_no_traceback_either() -> None:
    from omegaconf import OmegaConf

    def refuses() -> None:
        raise ParameterError("no server is named", fix="name one")

    OmegaConf.register_new_resolver("refuses", refuses, replace=True)
    with pytest.raises(Exception, match="no server is named") as raised:
        _ = OmegaConf.create({"a": "${refuses:}"}).a
    assert isinstance(runs.expected(raised.value), ParameterError)
    assert runs.expected(KeyError("another")) is None
