"""What a request may set: some fields of the frozen blocks, within bounds, checked twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_harness import TestClient

from mntrading.apps.api.parameters import PIPELINES, checked, model_of, settable
from mntrading.apps.api.worker import KEDRO_NAMES
from mntrading.configuration import parameters
from mntrading.params import BLOCKS

CONF = Path(__file__).parents[3] / "conf"


def leaves(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a value that holds no others, by where it stands."""
    if isinstance(schema, list):
        for one in schema:
            yield from leaves(one, path)
    elif isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield path, schema
        for name, one in schema.items():
            yield from leaves(one, f"{path}/{name}")


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_value_a_request_may_set_is_bounded_and_no_text_is_free(pipeline: str) -> None:
    schema = model_of(pipeline).model_json_schema()
    seen = 0
    for path, one in leaves(schema):
        kind = one["type"]
        if kind in ("integer", "number") and "enum" not in one:
            assert {"maximum", "exclusiveMaximum"} & set(one), path
            assert {"minimum", "exclusiveMinimum"} & set(one), path
        elif kind == "string":
            assert {"enum", "const", "pattern"} & set(one), path
        elif kind == "array":
            assert one["maxItems"] <= 12, path
        elif kind == "object":
            assert one["additionalProperties"] is False, path
        seen += 1
    assert seen


def test_sources_storage_and_workers_are_out_of_reach() -> None:
    reached = {block for _, blocks in PIPELINES.values() for block in blocks}
    assert reached == set(BLOCKS) - {"compute", "market", "ingestion", "upload"}


def test_the_pipelines_are_those_of_the_project_and_their_blocks_those_they_read() -> None:
    from mntrading.pipeline_registry import register_pipelines

    registered = register_pipelines()
    assert {KEDRO_NAMES.get(name, name) for name in PIPELINES} == set(registered) - {
        "upload"
    }  # which reads folders by name
    for name, (_, blocks) in PIPELINES.items():
        read = {
            entry.removeprefix("params:").split(".")[0]
            for entry in registered[KEDRO_NAMES.get(name, name)].inputs()
            if entry.startswith("params:")
        }
        assert set(blocks) == read - {"compute", "market", "ingestion"}, name


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"market": {"source": "custom"}}, "/parameters/market"),
        ({"compute": {"scheduler": "tcp://10.0.0.5:8786"}}, "/parameters/compute"),
        ({"storage": {"root": "/etc"}}, "/parameters/storage"),
        (
            {"screening": {"universe": {"excluded_bases": ["${env:HOME}"]}}},
            "/parameters/screening/universe/excluded_bases",
        ),
        ({"screening": {"trend": "${env:HOME}"}}, "/parameters/screening/trend"),
        ({"reporting": {"title": "x"}}, "/parameters/reporting/title"),
        ({"portfolio": {"kill_switch": "off"}}, "/parameters/portfolio/kill_switch"),
        ({"portfolio": {"top_k": "3"}}, "/parameters/portfolio/top_k"),
        ({"portfolio": {"top_k": True}}, "/parameters/portfolio/top_k"),
        ({"portfolio": {"top_k": 10**9}}, "/parameters/portfolio/top_k"),
        ({"portfolio": {"top_k": None}}, "/parameters/portfolio/top_k"),
        ({"portfolio": None}, "/parameters/portfolio"),
        ({"backtest": {"strategy": {"entry_z": 0.1}}}, "/parameters/backtest/strategy"),
        ({"backtest": {"menu": {"windows": [[100, 9]]}}}, "/parameters/backtest/menu/windows/0/1"),
        ({"production": {"rollback_to": "../../etc"}}, "/parameters/production/rollback_to"),
        ({"champions": {"max_champions": 1}}, "/parameters/champions"),
        ({"${env:HOME}": 1}, "/parameters/…"),
    ],
)
def test_what_is_not_for_a_request_is_refused_with_a_pointer_to_it(
    shared: TestClient, given: dict[str, Any], pointer: str
) -> None:
    answer = shared.post("/run/short_cycle", json={"parameters": given})
    assert answer.status_code == 422
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["type"] == "urn:mntrading:problem:invalid"
    assert pointer in [one["pointer"] for one in told["errors"]]
    assert shared.get("/runs").json() == {"runs": []}


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"1", b'"x"', b"\xff", b"[" * 60_000, b'{"parameters": {"portfolio": {"max_net": NaN}}}',
             b'{"parameters": {"portfolio": {"top_k": ' + b"9" * 5000 + b"}}}", b'{"parameters": "\\ud800"}']
)  # fmt: skip
def test_a_body_that_is_none_is_a_problem_and_no_crash(shared: TestClient, body: bytes) -> None:
    answer = shared.post("/run/short_cycle", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_values_are_checked_in_their_block_with_those_of_the_environment() -> None:
    blocks = parameters(CONF, "test")
    assert checked({"backtest": {"strategy": {"entry_z": 1.0}}}, blocks) == []
    assert checked({"backtest": {"strategy": {"entry_z": 5.0}}}, blocks) == [
        ("/parameters/backtest/strategy", "expected exit_z < entry_z < stop_z, got 0.5, 5.0, 4.0")
    ]


def test_a_form_can_be_made_of_schema_and_values(shared: TestClient) -> None:
    told = shared.get("/parameters/short_cycle").json()
    assert told["values"]["portfolio"]["kill_switch"] == "active"
    assert told["values"]["backtest"]["strategy"]["entry_z"] == 1.5  # conf/test
    assert set(told["schema"]["properties"]) == set(told["values"]) == set(PIPELINES["short_cycle"][1])
    assert "excluded_bases" not in told["values"]["screening"]["universe"]
    assert shared.get("/parameters/none").status_code == 404
    blocks = parameters(CONF, "test")
    for pipeline in PIPELINES:
        given = settable(pipeline, blocks)
        found = model_of(pipeline).model_validate(given).model_dump(mode="json", exclude_unset=True)
        assert found == given  # the values there are may be sent back
        assert checked(given, blocks) == []
