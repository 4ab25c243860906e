"""Whether the API lives, whether it can work, and its figures."""

from __future__ import annotations

import json
import os
import sqlite3
import urllib.error
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from mntrading.apps.api import schemas
from mntrading.apps.api.deps import Parts, as_json, parts
from mntrading.apps.catalog import MissingEntryError, ReadCatalog
from mntrading.configuration import local_root
from mntrading.core.errors import MNTradingError

router = APIRouter(tags=["health"])

_PROBE_SECONDS: Final = 3.0


@router.get("/health", response_model=schemas.Alive, summary="Whether the API answers; needs no token")
async def health() -> Response:
    """Say that the process answers."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get(
    "/ready",
    response_model=schemas.Ready,
    responses={503: {"model": schemas.Ready, "description": "Something it depends on is not there"}},
    summary="Storage, MLflow, queue and the age of the data",
)
def ready(request: Request) -> Response:
    """Ask everything the API depends on."""
    found = parts(request)
    checks = {
        "storage": _storage(found.catalog),
        "mlflow": _mlflow(found.catalog),
        "queue": _queue(found),
        "data": _data(found),
    }
    good = all(check["ok"] for check in checks.values())
    return as_json({"ready": good, "checks": checks}, 200 if good else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text"}},
    summary="Figures for Prometheus",
)
def metrics(request: Request) -> Response:
    """Everything that is counted."""
    found = parts(request)
    for state, count in found.store.counts().items():
        found.metrics.runs.labels(state).set(count)
    running = found.store.running()
    found.metrics.running_since.set(_timestamp(running.started_at) if running else 0.0)
    found.metrics.data_as_of.set(_timestamp(_as_of(found.catalog)))
    return Response(found.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _timestamp(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


def _check(ok: bool, detail: str) -> dict[str, Any]:
    return {"ok": ok, "detail": detail}


def _storage(catalog: ReadCatalog) -> dict[str, Any]:
    if catalog.local:
        root = local_root(catalog.root)
        if not root.exists():
            return _check(True, "nothing is stored yet")
        good = os.access(root, os.R_OK | os.W_OK | os.X_OK)
        return _check(good, "readable and writable" if good else "not readable and writable")
    try:
        catalog.version("run_record")
    except MNTradingError as error:
        return _check(False, error.what)
    return _check(True, "reachable")


def _queue(found: Parts) -> dict[str, Any]:
    try:
        counts = found.store.counts()
    except sqlite3.Error as error:
        return _check(False, f"can't be read: {error}")
    if not found.jobs.serving:
        return _check(False, "nobody serves it")
    return _check(True, f"{counts['queued']} queued, {counts['running']} running")


def _mlflow(catalog: ReadCatalog) -> dict[str, Any]:
    try:
        uri = catalog.tracking_uri
    except MNTradingError as error:
        return _check(False, error.what)
    if uri.startswith("sqlite:"):
        file = Path(uri.removeprefix("sqlite:///"))
        if not file.exists():
            return _check(True, "no run has been tracked yet")
        try:
            with sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_PROBE_SECONDS) as connection:
                connection.execute("SELECT COUNT(*) FROM experiments").fetchone()
        except sqlite3.Error as error:
            return _check(False, f"its database can't be read: {error}")
        return _check(True, "its database answers")
    if not uri.startswith(("http://", "https://")):
        return _check(True, "not asked: it is no server")
    return _server(uri)


def _server(uri: str) -> dict[str, Any]:
    """Ask a call that a real client makes: ``/health`` would answer to names that the others refuse."""
    request = urllib.request.Request(  # noqa: S310 - the address is the configuration's, http or https
        f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 1}).encode(),
        headers={"Content-Type": "application/json", **_credentials()},
    )
    try:
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS) as answer:  # noqa: S310
            answer.read(1)
    except urllib.error.HTTPError as error:
        return _check(False, f"answers {error.code}")
    except OSError as error:
        return _check(False, f"does not answer: {getattr(error, 'reason', error)}")
    return _check(True, "answers")


def _credentials() -> dict[str, str]:
    """MLflow's own settings of who asks."""
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _as_of(catalog: ReadCatalog) -> str | None:
    try:
        return str(catalog.load("latest_orders")["as_of"])
    except MissingEntryError:
        return None


def _data(found: Parts) -> dict[str, Any]:
    try:
        as_of = _as_of(found.catalog)
    except MNTradingError as error:
        return _check(False, error.what) | {"as_of": None, "age_seconds": None}
    if as_of is None:
        detail = "there are no orders yet; next: kedro run --pipelines full_cycle"
        return _check(True, detail) | {"as_of": None, "age_seconds": None}
    age = datetime.now(UTC).timestamp() - _timestamp(as_of)
    most = found.settings.max_data_age_minutes
    good = most is None or age <= 60.0 * most
    told = "not judged" if most is None else f"at most {most} minutes are allowed"
    return _check(good, f"orders of {as_of}, {age / 60.0:.0f} minutes old; {told}") | {
        "as_of": as_of,
        "age_seconds": round(age, 1),
    }
