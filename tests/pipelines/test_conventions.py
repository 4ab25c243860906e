"""The house's rules about wiring, held as tests."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from mntrading import params as params_module
from mntrading import settings
from mntrading.params import BLOCKS
from mntrading.pipeline_registry import register_pipelines

PROJECT = Path(__file__).resolve().parents[2]
STAGES = (
    "ingestion",
    "screening",
    "feature_engineering",
    "modelling",
    "backtesting",
    "deployment",
    "reporting",
)
TAGS = (
    "ingest",
    "screen",
    "features",
    "dataset",
    "train",
    "backtest",
    "select",
    "promote",
    "inference",
    "monitoring",
    "aggregate",
    "shadow",
    "report",
)
PRODUCTION = {
    "production_map",
    "production_history",
    "production_log",
    "production_models",
    "signals",
    "position_state",
    "monitoring",
    "latest_orders",
    "order_history",
    "paper_account",
    "paper_equity",
    "latest_report",
    "latest_report_html",
}


def load(env: str) -> OmegaConfigLoader:
    arguments = settings.CONFIG_LOADER_ARGS | {"default_run_env": env}
    return OmegaConfigLoader(str(PROJECT / "conf"), env=env, **arguments)


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    return register_pipelines()


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    return {name: entry for name, entry in load("local")["catalog"].items() if not name.startswith("_")}


@pytest.fixture(scope="module")
def everything(pipelines: dict[str, Pipeline]) -> list[Any]:
    return list({node.name: node for pipeline in pipelines.values() for node in pipeline.nodes}.values())


def test_every_stage_and_cycle_is_registered(pipelines: dict[str, Pipeline]) -> None:
    assert {*STAGES, "__default__", "full_cycle", "short_cycle", "promote"} <= set(pipelines)
    assert all(pipeline.nodes for pipeline in pipelines.values())


@pytest.mark.parametrize("tag", TAGS)
def test_every_step_has_a_tag_that_selects_nodes_of_the_full_cycle(pipelines: dict[str, Pipeline], tag: str) -> None:
    assert pipelines["full_cycle"].only_nodes_with_tags(tag).nodes


def test_the_default_pipeline_writes_no_production_file(pipelines: dict[str, Pipeline]) -> None:
    assert not pipelines["__default__"].all_outputs() & PRODUCTION
    assert pipelines["full_cycle"].all_outputs() >= PRODUCTION


def test_the_production_map_is_written_by_promotions_and_rollback_alone(everything: list[Any]) -> None:
    writers = {node.name for node in everything if "production_map" in node.outputs}
    assert writers == {"promote", "rollback", "promote_challenger"}


def test_rollback_previews_and_challengers_run_only_when_they_are_asked_for(pipelines: dict[str, Pipeline]) -> None:
    for name in ("promote_preview", "rollback", "promote_challenger", "promote_challenger_preview"):
        assert [node.name for node in pipelines[name].nodes] == [name]
        assert not {tag for node in pipelines[name].nodes for tag in node.tags}
        assert {other for other, pipeline in pipelines.items() if name in {n.name for n in pipeline.nodes}} == {name}
    for name in ("promote_preview", "promote_challenger_preview"):
        assert not pipelines[name].all_outputs() & PRODUCTION


@pytest.mark.parametrize("name", ["full_cycle", "short_cycle", "deployment"])
def test_the_shadow_writes_guarded_entries_alone_and_after_the_orders(
    pipelines: dict[str, Pipeline], entries: dict[str, Any], name: str
) -> None:
    shadow = pipelines[name].only_nodes_with_tags("shadow")
    written = {dataset for node in shadow.nodes for dataset in node.outputs}
    assert written
    assert all(entries[dataset]["type"].startswith("mntrading.datasets.Guarded") for dataset in written)
    assert not written & PRODUCTION
    order = [node.name for node in pipelines[name].nodes]
    for node in shadow.nodes:
        assert {n.name for n in pipelines[name].to_nodes(node.name).nodes} >= {"aggregate_orders"}
        assert order.index(node.name) > order.index("aggregate_orders")


def test_production_reads_nothing_that_the_shadow_makes(pipelines: dict[str, Pipeline]) -> None:
    for pipeline in pipelines.values():
        made = {dataset for node in pipeline.nodes if node.namespace for dataset in node.outputs}
        readers = {node.name for node in pipeline.nodes if not node.namespace and made & set(node.inputs)}
        assert readers <= {"render_report"}


def test_the_short_cycle_never_screens_trains_or_promotes(pipelines: dict[str, Pipeline]) -> None:
    tags = {tag for node in pipelines["short_cycle"].nodes for tag in node.tags}
    assert not tags & {"screen", "train", "backtest", "select", "promote"}


def test_a_node_has_the_name_of_its_function(everything: list[Any]) -> None:
    assert [node.name for node in everything if node.name.removeprefix("shadow.") != node.func.__name__] == []


def test_a_node_has_outputs(everything: list[Any]) -> None:
    assert not [node.name for node in everything if not node.outputs]


def test_every_dataset_a_node_names_is_in_the_catalog(everything: list[Any], entries: dict[str, Any]) -> None:
    named = {name for node in everything for name in (*node.inputs, *node.outputs) if not name.startswith("params:")}
    assert named <= set(entries)


def test_every_catalog_entry_is_used(everything: list[Any], entries: dict[str, Any]) -> None:
    named = {name for node in everything for name in (*node.inputs, *node.outputs)}
    assert set(entries) - named == {"run_history"}  # written by the hook that records every run


def test_every_catalog_entry_has_a_layer_and_the_command_that_makes_it(entries: dict[str, Any]) -> None:
    for name, entry in entries.items():
        assert entry["metadata"]["kedro-viz"]["layer"], name
        assert entry["made_by"].startswith("kedro run"), name


@pytest.mark.parametrize("name", ["__default__", "full_cycle"])
def test_layers_follow_each_other_so_that_the_lineage_shows_them(
    pipelines: dict[str, Pipeline], entries: dict[str, Any], name: str
) -> None:
    before: dict[str, set[str]] = {}
    for node in pipelines[name].nodes:
        layers = [
            {entries[dataset]["metadata"]["kedro-viz"]["layer"] for dataset in datasets if dataset in entries}
            for datasets in (node.inputs, node.outputs)
        ]
        for layer in layers[1]:
            before.setdefault(layer, set()).update(layers[0] - {layer})
    assert list(TopologicalSorter(before).static_order())[-1] == "reporting"


def test_every_json_entry_has_a_schema(entries: dict[str, Any]) -> None:
    assert not [name for name, entry in entries.items() if entry.get("format") == "json" and not entry.get("schema")]


@pytest.mark.parametrize("env", ["local", "test", "live", "files", "minio"])
def test_every_environment_gives_complete_parameters(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNTRADING_BARS", raising=False)
    given = load(env)["parameters"]
    assert set(given) == set(BLOCKS)
    for name, model in BLOCKS.items():
        model.model_validate(given[name])


@pytest.mark.parametrize("env", ["local", "test", "live", "files"])
def test_every_environment_gives_a_catalog(env: str) -> None:
    loader = load(env)
    catalog = DataCatalog.from_config(loader["catalog"], loader["credentials"])
    assert [catalog[name] for name in catalog]


def test_local_environments_differ_in_their_storage_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNTRADING_STORAGE_ROOT", raising=False)
    roots = [load(env)["globals"]["storage"]["root"] for env in ("local", "test", "live", "files")]
    assert len(set(roots)) == len(roots)


def test_every_parameter_block_feeds_a_node(everything: list[Any]) -> None:
    used = {name.removeprefix("params:").split(".")[0] for node in everything for name in node.inputs}
    assert set(BLOCKS) <= used


def test_no_parameter_has_a_hidden_default() -> None:
    blocks = [
        value
        for value in vars(params_module).values()
        if isinstance(value, type) and issubclass(value, params_module.Block)
    ]
    assert len(blocks) > 15
    assert not [
        f"{block.__name__}.{name}"
        for block in blocks
        for name, field in block.model_fields.items()
        if not field.is_required()
    ]


def test_no_secret_stands_in_a_configuration_file() -> None:
    for path in (PROJECT / "conf").rglob("*.yml"):
        text = path.read_text().lower()
        assert "secret_access_key:" not in text, path
        assert "password:" not in text, path
