"""The app: routes, errors, the guard around them, and the queue that is served as long as it lives."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from mntrading import __version__
from mntrading.apps.api import problems
from mntrading.apps.api.deps import Parts
from mntrading.apps.api.jobs import Jobs
from mntrading.apps.api.metrics import Metrics
from mntrading.apps.api.routes import artifacts, health, results, runs
from mntrading.apps.api.schemas import ProblemDetails
from mntrading.apps.api.security import OPEN, Guard
from mntrading.apps.api.settings import Settings
from mntrading.apps.api.store import Store
from mntrading.apps.catalog import ReadCatalog

WORKER: Final = (sys.executable, "-m", "mntrading.apps.api.worker")
_DESCRIPTION: Final = """Runs of MNTrading on demand, one at a time, and everything that is stored, read-only.

Every call but `GET /health` bears the token: `Authorization: Bearer <token>`. Errors are problem details (RFC 9457)."""


class Api(FastAPI):
    """FastAPI with the guard outside of everything else, errors included."""

    def __init__(self, parts: Parts, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state.parts = parts

    def build_middleware_stack(self) -> ASGIApp:
        """Whatever answers, the guard has let it through."""
        parts: Parts = self.state.parts
        return Guard(super().build_middleware_stack(), parts.settings, parts.metrics)

    def openapi(self) -> dict[str, Any]:
        """The description, with the schemas of the artefacts and the errors that any call may meet."""
        if not self.openapi_schema:
            made = get_openapi(title=self.title, version=self.version, description=self.description, routes=self.routes)
            self.openapi_schema = _completed(made)
        return self.openapi_schema


def create_app(settings: Settings, command: Sequence[str] = WORKER) -> Api:
    """The API.

    Parameters
    ----------
    settings
        What it is started with.
    command
        What starts the process of a run.

    Raises
    ------
    MNTradingError
        The configuration can't be read, or another API serves the queue.
    """
    store = Store(settings.state)
    parts = Parts(
        settings=settings,
        catalog=ReadCatalog.open(settings.project, settings.env),
        store=store,
        jobs=Jobs(store, settings.project, settings.env, settings.grace_seconds, command),
        metrics=Metrics(),
    )

    @asynccontextmanager
    async def served(_: FastAPI) -> AsyncIterator[None]:
        parts.jobs.open()
        work = asyncio.create_task(parts.jobs.work())
        try:
            yield
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            parts.jobs.close()

    app = Api(
        parts,
        title="MNTrading",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=served,
        docs_url="/docs" if settings.demo else None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # each route is tried in turn: flat, the few slow ones first, then those that are asked most
    for one in (artifacts, results, health, runs):
        app.router.routes.extend(one.router.routes)
    problems.install(app)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(settings.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
            expose_headers=["ETag", "Location", "Idempotency-Replayed", "Retry-After", "X-Request-ID"],
        )
    return app


def _completed(made: dict[str, Any]) -> dict[str, Any]:
    components = made.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schemas = components.setdefault("schemas", {})
    schemas.setdefault("ProblemDetails", ProblemDetails.model_json_schema())
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for name, _ in results.DOCUMENTS.values():
        schemas |= artefact_schema(name)
    told = {
        400: "A body that is no JSON",
        401: "No token, or not the token",
        403: "A page that may not call the API",
        404: "There is none",
        421: "A name that is not served here",
        422: "The request is not of its schema",
        429: "Too many refused tokens",
    }
    for path, operations in made["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in OPEN else [{"token": []}]
            answers = operation["responses"]
            for status, what in told.items():
                if status == 400 and "requestBody" not in operation:
                    continue
                if path in OPEN and status in (401, 404, 422, 429):
                    continue
                answers.setdefault(str(status), {"description": what})
            for status, answer in answers.items():
                if int(status) >= 400 and path != "/ready":
                    answer["content"] = {
                        problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
                    }
    return made


def artefact_schema(name: str) -> dict[str, Any]:
    """A stored artefact's JSON Schema as components, its own definitions beside it."""
    schema = json.loads((files("mntrading.schemas") / f"{name}.json").read_text("utf-8"))
    schema.pop("$schema", None)
    parts = schema.pop("$defs", {})
    named = {name: schema, **{f"{name}.{part}": one for part, one in parts.items()}}
    text = json.dumps(named).replace('"#/$defs/', f'"#/components/schemas/{name}.')
    found: dict[str, Any] = json.loads(text)
    return found
