"""Start, watch and cancel runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field, create_model

from mntrading.apps.api import schemas
from mntrading.apps.api.deps import Parts, as_json, parts
from mntrading.apps.api.jobs import tail
from mntrading.apps.api.parameters import PIPELINES, Subset, checked, model_of, settable
from mntrading.apps.api.problems import Problem
from mntrading.apps.api.schemas import ProblemDetails, run_of
from mntrading.apps.api.store import KeyReusedError, QueueFullError

LOGGER = logging.getLogger(__name__)

router = APIRouter(tags=["runs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="the same key with the same request gives the same run",
        pattern="^[A-Za-z0-9._:-]{1,128}$",
        examples=["4c9d7c1e-9d3a-4f6e-8f0a-0a6f6f1f2b3c"],
    ),
]
RunId = Annotated[str, Path(max_length=64, examples=[schemas.RUN_EXAMPLE["id"]])]

ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": schemas.Run,
        "description": "It is in the queue",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "the run"},
            "Idempotency-Replayed": {"schema": {"type": "string"}, "description": "true: it was there already"},
        },
    },
    422: {"model": ProblemDetails, "description": "Parameters that can't be, or a key of another request"},
    429: {"model": ProblemDetails, "description": "As many runs wait as may"},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ProblemDetails, "description": "There is none"}}


def start(found: Parts, pipeline: str, given: dict[str, Any], key: str | None, client: str) -> Response:
    """Put a run into the queue."""
    wrong = checked(given, found.catalog.parameters()) if given else []
    if wrong:
        raise Problem(422, "invalid", "parameters that do not go together", errors=wrong)
    try:
        job, known = found.store.add(pipeline, given, key, found.settings.max_queued)
    except KeyReusedError:
        raise Problem(422, "idempotency-key-reused", "the Idempotency-Key stands for another request") from None
    except QueueFullError:
        detail = f"{found.settings.max_queued} runs wait already"
        raise Problem(429, "queue-full", detail, headers={"Retry-After": "30"}) from None
    if not known:
        LOGGER.info("run %s of %s queued by %s", job.id, pipeline, client)
        found.jobs.nudge()
    headers = {"Location": f"/runs/{job.id}"} | ({"Idempotency-Replayed": "true"} if known else {})
    return as_json(run_of(job), 202, headers)


def _route(pipeline: str) -> Callable[..., Response]:
    """The route that starts a pipeline; its body has the pipeline's own model."""
    name = "".join(part.title() for part in pipeline.split("_"))
    parameters = model_of(pipeline)
    model: Any = create_model(
        f"{name}Request",
        __base__=Subset,
        __doc__=f"A run of {pipeline}.",
        parameters=(parameters, Field(default_factory=parameters, description="nested like the parameters files")),
    )

    def post(request: Request, idempotency_key: Any = None, body: Any = None) -> Response:
        given = {} if body is None else body.parameters.model_dump(mode="json", exclude_unset=True)
        return start(parts(request), pipeline, given, idempotency_key, client_of(request))

    post.__name__ = f"run_{pipeline}"
    post.__annotations__ |= {"idempotency_key": IdempotencyKey, "body": model | None}
    post.__doc__ = f"{PIPELINES[pipeline][0]}."
    return post


def client_of(request: Request) -> str:
    """Address a request came from."""
    return request.client.host if request.client else "unknown"


for _name, (_what, _) in PIPELINES.items():
    router.add_api_route(
        f"/run/{_name}",
        _route(_name),
        methods=["POST"],
        status_code=202,
        responses=ACCEPTED,
        summary=_what,
        operation_id=f"run_{_name}",
    )


@router.get(
    "/run/short_cycle_now",
    status_code=202,
    responses={**ACCEPTED, **UNKNOWN},
    summary="POST /run/short_cycle for a demo; off unless MNTRADING_API_SHORT_CYCLE_NOW=1",
)
def run_short_cycle_now(request: Request) -> Response:
    """Put a short cycle into the queue."""
    found = parts(request)
    if not found.settings.short_cycle_now:
        raise Problem(404, "not-found", "Not Found", next_="POST /run/short_cycle")
    return start(found, "short_cycle", {}, None, client_of(request))


@router.get("/pipelines", response_model=schemas.Pipelines, summary="What can be run")
async def pipelines() -> Response:
    """Every pipeline that can be run."""
    rows = [{"name": name, "description": what, "blocks": list(blocks)} for name, (what, blocks) in PIPELINES.items()]
    return as_json({"pipelines": rows})


PipelineName = Literal[tuple(PIPELINES)]  # type: ignore[valid-type]


@router.get(
    "/parameters/{pipeline}",
    response_model=schemas.Parameters,
    responses=UNKNOWN,
    summary="What a request for a pipeline may set, and the values it has otherwise",
)
def parameters(request: Request, pipeline: Annotated[str, Path(max_length=64, examples=["short_cycle"])]) -> Response:
    """JSON Schema and current values of the parameters of a pipeline's requests."""
    if pipeline not in PIPELINES:
        raise Problem(404, "not-found", "there is no such pipeline", next_="GET /pipelines")
    values = settable(pipeline, parts(request).catalog.parameters())
    return as_json({"pipeline": pipeline, "schema": model_of(pipeline).model_json_schema(), "values": values})


@router.get("/runs", response_model=schemas.Runs, summary="The newest runs")
async def runs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    state: Annotated[schemas.State | None, Query()] = None,
) -> Response:
    """Runs of the queue, the newest first."""
    return as_json({"runs": [run_of(job) for job in parts(request).store.recent(limit, state)]})


@router.get("/runs/{run_id}", response_model=schemas.RunDetail, responses=UNKNOWN, summary="A run")
async def run(request: Request, run_id: RunId, log_lines: Annotated[int, Query(ge=0, le=2000)] = 100) -> Response:
    """A run, how far it is, and the end of its log."""
    found = parts(request)
    job = found.store.get(run_id)
    if job is None:
        raise Problem(404, "not-found", "there is no such run", next_="GET /runs")
    return as_json(run_of(job) | {"log": tail(found.store.log(job.id), log_lines)})


@router.post(
    "/runs/{run_id}/cancel",
    status_code=202,
    responses={
        202: {"model": schemas.Run, "description": "It is cancelled, or will be within seconds"},
        409: {"model": ProblemDetails, "description": "It has ended"},
        **UNKNOWN,
    },
    summary="Cancel a run that waits or runs",
)
def cancel(request: Request, run_id: RunId) -> Response:
    """Take a run from the queue, or end the one that runs with everything it has started."""
    found = parts(request)
    before = found.store.get(run_id)
    if before is not None and before.ended and before.state != "cancelled":
        raise Problem(409, "ended", f"the run has ended: {before.state}")
    job = found.store.cancel(run_id)
    if job is None:
        raise Problem(404, "not-found", "there is no such run", next_="GET /runs")
    LOGGER.info("run %s: cancellation asked for by %s", job.id, client_of(request))
    found.jobs.nudge()
    return as_json(run_of(job), 202)
