"""Errors as problem details (RFC 9457): what was wrong, and the command to run next; no value a client sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from mntrading.apps.catalog import MissingEntryError, UnknownEntryError
from mntrading.core.errors import ArtifactError, MNTradingError

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:mntrading:problem:"


class Problem(Exception):  # noqa: N818 - what RFC 9457 calls it
    """An answer that is a problem.

    Parameters
    ----------
    status
        HTTP status.
    kind
        Short name of the problem, the end of its ``type``.
    detail
        What was wrong in this case.
    next_
        Command to run next.
    errors
        JSON pointers into the request, and what is wrong there.
    headers
        Further headers.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        next_: str | None = None,
        errors: Sequence[tuple[str, str]] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.next = status, kind, detail, next_
        self.errors, self.headers = tuple(errors), headers or {}

    def body(self, instance: str) -> bytes:
        """The problem as JSON."""
        document: dict[str, Any] = {
            "type": _TYPE + self.kind,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.next:
            document["next"] = self.next
        if self.errors:
            document["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in self.errors]
        return json.dumps(document, ensure_ascii=True).encode()

    def response(self, request: Request) -> Response:
        """The problem as an answer."""
        return Response(
            self.body(request.url.path),
            self.status,
            media_type=MEDIA_TYPE,
            headers={"Cache-Control": "no-store", **self.headers},
        )


def of(error: MNTradingError) -> Problem:
    """The problem behind an error of the project."""
    if isinstance(error, UnknownEntryError):
        return Problem(404, "not-found", error.what)
    if isinstance(error, MissingEntryError):
        return Problem(404, "not-made-yet", error.what, next_=error.fix)
    if isinstance(error, ArtifactError):
        return Problem(503, "unreadable", error.what, next_=error.fix, headers={"Retry-After": "5"})
    return Problem(503, "unavailable", error.what, next_=error.fix, headers={"Retry-After": "5"})


def install(app: FastAPI) -> None:
    """Have every error of an app answered as a problem."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - what it is registered for
        return error.response(request)

    async def stated(request: Request, error: Exception) -> Response:
        assert isinstance(error, MNTradingError)  # noqa: S101
        return of(error).response(request)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        found = [(_pointer(one["loc"]), str(one["msg"]).removeprefix("Value error, ")) for one in error.errors()]
        return Problem(422, "invalid", "the request is not of its schema", errors=found[:50]).response(request)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        kinds = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 400: "malformed"}
        kind = kinds.get(error.status_code, "http")
        headers = dict(error.headers or {})
        return Problem(error.status_code, kind, str(error.detail), headers=headers).response(request)

    async def unexpected(request: Request, _: Exception) -> Response:
        return Problem(500, "internal", "an error that is in the API's log").response(request)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(MNTradingError, stated)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)


def _pointer(place: Sequence[Any]) -> str:
    """JSON pointer of a place in the body, or kind and name of another part, without names the client made up."""
    parts = [str(part) for part in place]
    return "/" + "/".join(part if part.isidentifier() or part.isdigit() else "…" for part in parts if part != "body")
