"""Requests and answers of the API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mntrading.apps.api.store import Job

State = Literal["queued", "running", "finished", "refused", "failed", "cancelled", "killed"]

RUN_EXAMPLE: dict[str, Any] = {
    "id": "20261128T014512Z-1a2b3c4d",
    "pipeline": "short_cycle",
    "parameters": {"portfolio": {"kill_switch": "reducing"}},
    "state": "running",
    "created_at": "2026-11-28T01:45:12Z",
    "started_at": "2026-11-28T01:45:13Z",
    "finished_at": None,
    "position": None,
    "step": "infer_signals",
    "progress": {"done": 3, "total": 8},
    "cancel_requested": False,
    "kedro_run_id": None,
    "mlflow_run_id": None,
    "error": None,
}


class Answer(BaseModel):
    """Base of answers: nothing beside what is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Alive(Answer):
    """The API answers."""

    status: Literal["alive"] = "alive"


class Check(Answer):
    """One thing the API depends on."""

    ok: bool
    detail: str


class DataCheck(Check):
    """How old what is live is."""

    as_of: str | None = Field(description="close of the bar that the newest orders belong to")
    age_seconds: float | None


class Checks(Answer):
    """What the API depends on."""

    storage: Check
    mlflow: Check
    queue: Check
    data: DataCheck


class Ready(Answer):
    """Whether runs can be started and results read."""

    ready: bool
    checks: Checks


class Pipeline(Answer):
    """A pipeline that can be run."""

    name: str
    description: str
    blocks: tuple[str, ...] = Field(description="parameter blocks of which a request may set fields")


class Pipelines(Answer):
    """The pipelines that can be run."""

    pipelines: tuple[Pipeline, ...]


class Parameters(Answer):
    """What a request for a pipeline may set, and the values it has otherwise."""

    pipeline: str
    json_schema: dict[str, Any] = Field(alias="schema", description="JSON Schema of the request's `parameters`")
    values: dict[str, Any]


class Progress(Answer):
    """Nodes of a run."""

    done: int
    total: int


class Run(Answer):
    """A run of the queue; times are ISO 8601, UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [RUN_EXAMPLE]})

    id: str
    pipeline: str
    parameters: dict[str, Any]
    state: State = Field(
        description="refused: live outputs were written, no entry was allowed; killed: its process died"
    )
    created_at: str
    started_at: str | None
    finished_at: str | None
    position: int | None = Field(description="place in the queue, from 1")
    step: str | None = Field(description="node that runs")
    progress: Progress | None
    cancel_requested: bool
    kedro_run_id: str | None = Field(description="its record is the partition of this id of run_history")
    mlflow_run_id: str | None
    error: str | None


class RunDetail(Run):
    """A run with the end of its log."""

    log: tuple[str, ...]


class Runs(Answer):
    """Runs, the newest first."""

    runs: tuple[Run, ...]


class Artifact(Answer):
    """A catalog entry."""

    name: str
    layer: str
    kind: Literal["file", "partitions", "bars"]
    format: str
    path: str = Field(description="where it lies below the storage root")
    exists: bool
    bytes: int | None
    sha256: str | None
    modified_at: str | None
    partitions: int | None
    made_by: str | None = Field(description="command that makes it")
    problem: str | None = Field(description="why nothing more is known of what is stored")


class Artifacts(Answer):
    """Every catalog entry."""

    artifacts: tuple[Artifact, ...]


class Pairs(Answer):
    """The pairs of the live fold."""

    as_of: str
    formation_start: str
    formation_end: str
    trading_end: str | None
    entered: tuple[str, ...]
    left: tuple[str, ...]
    pairs: tuple[dict[str, Any], ...]


class Signals(Answer):
    """The newest bar's signals."""

    bar_close: str
    signals: tuple[dict[str, Any], ...]


class Lines(Answer):
    """The log of production, oldest first."""

    entries: tuple[dict[str, Any], ...]


class Series(Answer):
    """Columns over time; at most the asked number of points, the last one always among them."""

    index: tuple[str, ...]
    columns: dict[str, tuple[float | None, ...]]


class Wrong(Answer):
    """Something wrong in a request."""

    pointer: str
    detail: str


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:mntrading:problem:not-made-yet",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "latest_orders has not been made yet",
                    "instance": "/orders/latest",
                    "next": "kedro run --pipelines full_cycle",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    next: str | None = Field(default=None, description="command to run next")
    errors: tuple[Wrong, ...] | None = None


def run_of(job: Job) -> dict[str, Any]:
    """A run as it is told."""
    return {
        "id": job.id,
        "pipeline": job.pipeline,
        "parameters": job.parameters,
        "state": job.state,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "position": job.place,
        "step": job.step,
        "progress": None if job.total is None else {"done": job.done, "total": job.total},
        "cancel_requested": job.cancel_requested,
        "kedro_run_id": job.kedro_run_id,
        "mlflow_run_id": job.mlflow_run_id,
        "error": job.error,
    }
