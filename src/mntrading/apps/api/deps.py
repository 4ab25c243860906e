"""What routes share: the API's parts, and how bytes that are stored are answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from mntrading.apps.api.jobs import Jobs
from mntrading.apps.api.metrics import Metrics
from mntrading.apps.api.settings import Settings
from mntrading.apps.api.store import Store
from mntrading.apps.catalog import ReadCatalog, Stored
from mntrading.datasets.storage import sha256


@dataclass(frozen=True)
class Parts:
    """What the API is made of."""

    settings: Settings
    catalog: ReadCatalog
    store: Store
    jobs: Jobs
    metrics: Metrics


def parts(request: Request) -> Parts:
    """The parts of the app a request is for."""
    return cast(Parts, request.app.state.parts)


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    body = json.dumps(value, ensure_ascii=True, allow_nan=False).encode()
    return Response(body, status, headers, "application/json")


async def file(request: Request, name: str, headers: dict[str, str] | None = None) -> Response:
    """A catalog entry's file, from memory where it is unchanged."""
    catalog = parts(request).catalog
    found = catalog.cached(name)
    if found is None:
        found = await run_in_threadpool(catalog.read, name)
    return stored(request, found, headers)


async def derived(request: Request, name: str, key: tuple[object, ...], make: Callable[[ReadCatalog], Any]) -> Response:
    """What is made of a catalog entry, as JSON, from memory where the entry is unchanged."""
    catalog = parts(request).catalog
    found = catalog.held(name, key)
    if found is None:
        found = await run_in_threadpool(catalog.derived, name, key, lambda: _document(make(catalog)))
    return stored(request, cast(Stored, found))


def stored(request: Request, found: Stored, headers: dict[str, str] | None = None) -> Response:
    """Stored bytes with their hash as entity tag; none of them where the client has them."""
    known = found.headers | headers if headers else found.headers
    if known["ETag"] in request.headers.get("if-none-match", ""):
        return Response(None, 304, known)
    return Response(found.data, 200, known, found.media_type)


def _document(value: Any) -> Stored:
    data = json.dumps(value, ensure_ascii=True, allow_nan=False).encode()
    return Stored(data, sha256(data), datetime.now(UTC), "application/json")
