"""How log lines look: plain, or JSON with ``MNTRADING_LOG_FORMAT=json``; neither has a secret in it."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

from mntrading.core import redaction
from mntrading.core.errors import ParameterError

FORMAT = "MNTRADING_LOG_FORMAT"


def redacted(text: str) -> str:
    """The text without the secrets of this process's environment."""
    return redaction.redact(text, redaction.secrets_of(os.environ))


class RedactingFormatter(logging.Formatter):
    """Another formatter's lines without secrets, tracebacks included.

    Parameters
    ----------
    inner
        Makes the lines.
    """

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return redacted(self.inner.format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
            "process": record.process,
        }
        if record.exc_info:
            said["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)


@contextmanager
def unsaid(part: str) -> Iterator[None]:
    """Show no warning that has this in it, whatever filters say, while the block runs."""
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if part not in str(message):
            shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def install() -> None:
    """Put redaction, and the form of line that the environment asks for, on every handler there is.

    Warnings become log lines: what Python writes of them by itself passes no handler.

    Raises
    ------
    ParameterError
        ``MNTRADING_LOG_FORMAT`` is neither ``plain`` nor ``json``.
    """
    form = os.environ.get(FORMAT) or "plain"
    if form not in ("plain", "json"):
        raise ParameterError(f"{form!r} is no form of log lines", where=FORMAT, fix="use plain or json")
    logging.captureWarnings(True)
    loggers = [
        logging.root,
        *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)),
    ]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if form == "json":
            handler.setFormatter(JsonFormatter())
        elif not isinstance(handler.formatter, RedactingFormatter):
            handler.setFormatter(RedactingFormatter(handler.formatter))
