"""What a desk looks at: pairs, signals, positions, orders, account, health, report, champions, production, backtest."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

import pandas as pd
from fastapi import APIRouter, Query, Request, Response

from mntrading.apps.api import schemas
from mntrading.apps.api.deps import derived, file
from mntrading.apps.api.routes.artifacts import as_file
from mntrading.apps.api.schemas import ProblemDetails
from mntrading.apps.catalog import ReadCatalog

router = APIRouter(tags=["results"])

_MISSING: dict[int | str, dict[str, Any]] = {
    304: {"description": "It is that of the ETag in If-None-Match"},
    404: {"model": ProblemDetails, "description": "Nothing is stored yet; `next` is the command to run"},
    503: {"model": ProblemDetails, "description": "What is stored can't be read now"},
}
MaxPoints = Annotated[int, Query(ge=10, le=20_000, description="points at most")]

DOCUMENTS = {
    "/positions": ("position_state", "State of every pair in production"),
    "/orders/latest": ("latest_orders", "The newest orders, and what they lead to"),
    "/account": ("paper_account", "The paper account after the newest bar"),
    "/monitoring": ("monitoring", "Health of the pairs in production"),
    "/champions": ("champion_registry", "Champions, and why the others are none"),
    "/production": ("production_map", "What is live"),
    "/backtest/summary": ("backtest_summary", "The walk-forward backtest"),
    "/backtest/robustness": ("robustness", "The backtest again with other numbers"),
}
"""Route by route the JSON artefact that is the answer, as it is stored."""


def _document(name: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def get(request: Request) -> Response:
        return await file(request, name)

    get.__annotations__["request"] = Request
    get.__doc__ = f"The artefact `{name}` as it is stored."
    return get


for _path, (_name, _what) in DOCUMENTS.items():
    router.add_api_route(
        _path,
        _document(_name),
        methods=["GET"],
        response_class=Response,
        responses={
            200: {
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_name}"}}},
                "description": "As it is stored",
            },
            **_MISSING,
        },
        summary=_what,
        operation_id=f"get_{_name}",
    )


@router.get("/pairs", response_model=schemas.Pairs, responses=_MISSING, summary="The pairs of the live fold")
async def pairs(request: Request) -> Response:
    """The pairs that the newest formation window has selected."""

    def make(catalog: ReadCatalog) -> dict[str, Any]:
        roster = catalog.load("roster")
        fold = roster["folds"][-1]
        return {"as_of": roster["as_of"], **{name: value for name, value in fold.items() if name != "name"}}

    return await derived(request, "roster", ("pairs",), make)


@router.get("/signals/latest", response_model=schemas.Signals, responses=_MISSING, summary="The newest bar's signals")
async def signals(request: Request) -> Response:
    """What the pairs in production say on the newest bar."""

    def make(catalog: ReadCatalog) -> dict[str, Any]:
        newest = catalog.newest("signals")
        return {"bar_close": newest, "signals": catalog.load("signals")[newest]}

    return await derived(request, "signals", ("latest",), make)


@router.get("/production/log", response_model=schemas.Lines, responses=_MISSING, summary="Every change of production")
async def production_log(request: Request) -> Response:
    """Promotions and rollbacks, oldest first."""
    return await derived(
        request, "production_log", ("log",), lambda catalog: {"entries": catalog.load("production_log")}
    )


@router.get("/equity", response_model=schemas.Series, responses=_MISSING, summary="The paper account bar by bar")
async def equity(request: Request, max_points: MaxPoints = 2000) -> Response:
    """Equity, cash, exposure and costs of the paper account."""

    def make(catalog: ReadCatalog) -> dict[str, Any]:
        catalog.newest("paper_equity")
        days = catalog.load("paper_equity")
        return series(pd.concat([days[day] for day in days]), max_points)

    return await derived(request, "paper_equity", ("series", max_points), make)


@router.get(
    "/backtest/equity", response_model=schemas.Series, responses=_MISSING, summary="Equity of portfolio and benchmarks"
)
async def backtest_equity(request: Request, max_points: MaxPoints = 2000) -> Response:
    """Walk-forward equity, out of sample and after costs, of the champions, the roster and the benchmarks."""
    return await derived(
        request,
        "equity_curves",
        ("series", max_points),
        lambda catalog: series(catalog.load("equity_curves"), max_points),
    )


@router.get(
    "/report/latest",
    response_class=Response,
    responses={
        200: {
            "content": {"text/markdown": {"schema": {"type": "string"}}, "text/html": {"schema": {"type": "string"}}},
            "description": "The report",
        },
        **_MISSING,
    },
    summary="The newest report",
)
async def report(request: Request, format: Literal["markdown", "html"] = "markdown") -> Response:
    """The newest report, as Markdown or as one page that needs nothing else."""
    if format == "html":
        return await file(request, "latest_report_html", as_file("latest_report", ".html"))
    return await file(request, "latest_report")


def series(frame: pd.DataFrame, most: int) -> dict[str, Any]:
    """A frame's columns with at most so many rows, evenly spaced, the last one among them."""
    step = max(1, math.ceil(len(frame) / most))
    rows = frame.iloc[(len(frame) - 1) % step :: step] if len(frame) else frame
    return {
        "index": list(pd.DatetimeIndex(rows.index).strftime("%Y-%m-%dT%H:%M:%SZ")),
        "columns": {
            str(name): [value if math.isfinite(value) else None for value in rows[name].tolist()] for name in rows
        },
    }
