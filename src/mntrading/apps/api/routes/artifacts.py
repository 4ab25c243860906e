"""Every catalog entry: what is known of it, and its bytes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from mntrading.apps.api import schemas
from mntrading.apps.api.deps import as_json, file, parts, stored
from mntrading.apps.api.schemas import ProblemDetails
from mntrading.apps.catalog import MEDIA_TYPES

router = APIRouter(tags=["artifacts"])

_BYTES: Final[dict[str, Any]] = {
    media.partition(";")[0]: {"schema": {}} for media in sorted({*MEDIA_TYPES.values(), "application/json"})
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": _BYTES, "description": "The bytes, as they are stored"},
    304: {"description": "They are those of the ETag in If-None-Match"},
    404: {"model": ProblemDetails, "description": "There is no such entry, or nothing is stored yet"},
    503: {"model": ProblemDetails, "description": "What is stored can't be read now"},
}
_SANDBOX: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'none'"
)

Name = Annotated[str, Path(max_length=128, examples=["latest_orders"])]


def as_file(name: str, suffix: str) -> dict[str, str]:
    """Headers with which a browser keeps a file and runs nothing of it."""
    safe = "".join(one if one.isalnum() or one in "._-" else "_" for one in name)
    return {"Content-Disposition": f'attachment; filename="{safe}{suffix}"', "Content-Security-Policy": _SANDBOX}


@router.get("/artifacts", response_model=schemas.Artifacts, summary="Every catalog entry with size, hash and time")
def artifacts(request: Request) -> Response:
    """What there is, and what makes what there is not."""
    return as_json({"artifacts": [asdict(entry) for entry in parts(request).catalog.entries()]})


@router.get(
    "/artifacts/{name}", response_class=Response, responses=_RESPONSES, summary="A file, or a folder's partitions"
)
async def artifact(
    request: Request,
    name: Name,
    limit: Annotated[int, Query(ge=1, le=10_000, description="partitions at most, those with the last ids")] = 1000,
) -> Response:
    """A file's bytes; of a folder of partitions, what its manifest says."""
    catalog = parts(request).catalog
    if catalog.kind(name) == "file":
        return await file(request, name, as_file(name, catalog.suffix(name)))
    folder = await run_in_threadpool(catalog.partitions, name, limit)
    rows = [{"id": id_, **known} for id_, known in folder.items()]
    return as_json({"name": name, "partitions": rows})


@router.get("/artifacts/{name}/{partition:path}", response_class=Response, responses=_RESPONSES, summary="A partition")
async def partition(
    request: Request, name: Name, partition: Annotated[str, Path(max_length=512, examples=["20250620T180000Z"])]
) -> Response:
    """A partition's bytes, checked against the manifest."""
    catalog = parts(request).catalog
    found = await run_in_threadpool(catalog.partition, name, partition)
    return stored(request, found, as_file(f"{name}-{partition}", catalog.suffix(name)))
