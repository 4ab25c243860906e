"""The schedules' steps against the pipelines they run. Airflow itself is not needed here: make test-airflow."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from mntrading.pipeline_registry import register_pipelines

PROJECT = Path(__file__).parents[2]
DAGS = PROJECT / "dags"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(DAGS))
    from mntrading_steps import DATASET_UPLOAD, FULL_CYCLE, SCHEDULES, SHORT_CYCLE, Step

PIPELINES = register_pipelines()


def step_of(steps: tuple[Step, ...]) -> dict[str, int]:
    """Place of the step that runs a node, by the node's name."""
    full = PIPELINES["full_cycle"]
    return {
        node.name: place
        for place, step in enumerate(steps)
        for node in (full.only_nodes_with_tags(step.tag) if step.tag else PIPELINES[step.pipeline]).nodes
    }


def out_of_order(steps: tuple[Step, ...]) -> list[str]:
    """Nodes that a step runs before a node they need."""
    places = step_of(steps)
    needs = PIPELINES["full_cycle"].node_dependencies
    return [
        f"{node.name} before {needed.name}"
        for node, all_needed in needs.items()
        for needed in all_needed
        if node.name in places and needed.name in places and places[node.name] < places[needed.name]
    ]


@pytest.mark.parametrize("dag", SCHEDULES)
def test_every_command_names_a_pipeline_or_a_tag_that_there_is(dag):
    tags = {tag for node in PIPELINES["full_cycle"].nodes for tag in node.tags}
    for step in SCHEDULES[dag]:
        assert step.tag in tags if step.tag else step.pipeline in {*PIPELINES, "upload"}


def test_the_full_cycle_runs_each_of_its_nodes_in_their_order():
    assert set(step_of(FULL_CYCLE)) == {node.name for node in PIPELINES["full_cycle"].nodes}
    assert out_of_order(FULL_CYCLE) == []


@pytest.mark.parametrize("place", range(len(FULL_CYCLE) - 2))
def test_two_steps_in_the_other_order_are_found_out(place):
    swapped = [step for step in FULL_CYCLE if step.name != "research_report"]  # promotion does not wait for it
    swapped[place : place + 2] = reversed(swapped[place : place + 2])
    assert out_of_order(tuple(swapped))


def test_the_dataset_is_built_in_order_before_it_is_uploaded():
    *built, last = DATASET_UPLOAD
    assert out_of_order(tuple(built)) == []
    assert {"build_features", "label_pairs"} <= set(step_of(tuple(built)))
    assert last.pipeline == "upload"


def test_the_short_cycle_is_one_process():
    assert [step.pipeline for step in SHORT_CYCLE] == ["short_cycle"]


@pytest.mark.parametrize("dag", SCHEDULES)
def test_commands_are_of_constants_and_the_schedulers_settings(dag):
    told = {"MNTRADING_BIN": "/opt/venv/bin/kedro", "MNTRADING_ENV": "minio", "MNTRADING_TAGS": "evil"}
    for step in SCHEDULES[dag]:
        what = ["--tags", step.tag] if step.tag else ["--pipelines", step.pipeline]
        assert step.command(told) == ["/opt/venv/bin/kedro", "run", *what, "--env", "minio"]
    assert SHORT_CYCLE[0].command({})[0] == str(PROJECT / ".venv" / "bin" / "kedro")


def test_what_is_uploaded_is_built_on_a_local_root_and_goes_below_a_prefix():
    told = {"MNTRADING_ENV": "minio", "MNTRADING_UPLOAD_ENV": "upload"}
    assert {step.command(told)[-1] for step in DATASET_UPLOAD} == {"upload"}
    assert {step.command({})[-1] for step in DATASET_UPLOAD} == {"upload"}
    assert {step.command(told)[-1] for step in (*FULL_CYCLE, *SHORT_CYCLE)} == {"minio"}
    conf = PROJECT / "conf" / "upload"
    assert not yaml.safe_load((conf / "globals.yml").read_text())["storage"]["root"].startswith("s3")
    assert yaml.safe_load((conf / "parameters_upload.yml").read_text())["upload"]["prefix"]


def test_a_step_has_either_a_tag_or_a_pipeline():
    for wrong in ({}, {"tag": "ingest", "pipeline": "ingestion"}):
        with pytest.raises(ValueError, match="either"):
            Step("x", **wrong)


@pytest.mark.parametrize("dag", SCHEDULES)
def test_a_file_makes_its_own_dag_one_run_at_a_time_without_catching_up(dag):
    tree = ast.parse((DAGS / f"{dag}.py").read_text())
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "DAG")
    told = {keyword.arg: keyword.value for keyword in call.keywords}
    assert ast.literal_eval(told["max_active_runs"]) == 1
    assert ast.literal_eval(told["catchup"]) is False
    assert any(isinstance(n, ast.Constant) and n.value == dag for n in ast.walk(tree))


@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda path: path.name)
def test_nothing_here_knows_a_shell_a_template_or_a_runs_conf(file):
    text = file.read_text()
    for word in ("shell=True", "BashOperator", "os.system", "{{", "dag_run", "conf["):
        assert word not in text
