"""The datasets in a Kedro catalog and under a runner."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from mntrading.core.bars import bars_from_rows
from mntrading.core.errors import ArtifactError
from mntrading.datasets import BarStore, BarsUpdate, Commit, Partitions, StoredModel

MADE_BY = "kedro run --pipelines feature_engineering"


@pytest.fixture
def catalog(tmp_path):
    shared = {"type": "mntrading.datasets.PartitionedArtifactDataset", "made_by": MADE_BY}
    bars = {
        "type": "mntrading.datasets.BarsDataset",
        "path": f"{tmp_path}/raw/ohlcv_1h.parquet",
        "timeframe": "1h",
    }
    config = {
        "roster": {
            "type": "mntrading.datasets.ArtifactDataset",
            "filepath": f"{tmp_path}/pairs/roster.json",
            "format": "json",
            "made_by": "kedro run --pipelines screening",
            "metadata": {"kedro-viz": {"layer": "primary"}},
        },
        "pair_features": shared
        | {"path": f"{tmp_path}/features/pairs", "format": "parquet", "suffix": "/features.parquet"},
        "pair_models": shared | {"path": f"{tmp_path}/models/pairs", "format": "model"},
        "memory_{name}": shared
        | {
            "path": f"memory://{tmp_path}/{{name}}",
            "format": "jsonl",
            "append": True,
            "credentials": "storage",
        },
        "ohlcv_1h": bars,
        "ohlcv_1h_stored": bars | {"missing_ok": True},
    }
    return DataCatalog.from_config(config, credentials={"storage": {"use_listings_cache": False}})


def build_features(roster: list[str]) -> Iterator[dict[str, pd.DataFrame] | Commit]:
    """A node that yields partition after partition, and the commit."""
    for pair in roster:
        if pair == "BAD":
            raise ValueError("no bars")
        yield {pair: pd.DataFrame({"z": [float(len(pair))]})}
    yield Commit(ids=tuple(roster), meta={"pairs": len(roster)})


def count_rows(pair_features: Partitions) -> dict[str, int]:
    return {pair: len(frame) for pair, frame in pair_features.items()}


FEATURES = Pipeline(
    [
        Node(build_features, inputs="roster", outputs="pair_features", name="build_features"),
        Node(count_rows, inputs="pair_features", outputs="rows", name="count_rows"),
    ]
)


def test_generator_node_saves_as_it_goes_and_the_next_node_reads_the_whole(catalog, tmp_path):
    catalog.save("roster", ["A__B", "C__D"])
    outputs = SequentialRunner().run(FEATURES, catalog)
    assert outputs["rows"].load() == {"A__B": 1, "C__D": 1}
    assert catalog.load("pair_features").meta == {"pairs": 2}
    assert catalog.exists("pair_features")
    catalog.save("roster", ["C__D"])
    SequentialRunner().run(FEATURES, catalog)
    assert list(catalog.load("pair_features")) == ["C__D"]
    assert not (tmp_path / "features" / "pairs" / "A__B").exists()


def test_node_that_fails_midway_leaves_a_folder_that_says_so(catalog):
    catalog.save("roster", ["A__B", "BAD"])
    with pytest.raises(ValueError, match="no bars"):
        SequentialRunner().run(FEATURES, catalog)
    assert not catalog.exists("pair_features")
    with pytest.raises(ArtifactError, match=f"was not finished\nNext: {MADE_BY}") as caught:
        SequentialRunner().run(FEATURES.filter(node_names=["count_rows"]), catalog)
    assert caught.value.fix == MADE_BY


def test_missing_input_reaches_the_caller_of_the_run_as_it_was_raised(catalog):
    with pytest.raises(ArtifactError, match=r"roster\.json: does not exist\nNext: kedro run --pipelines screening"):
        SequentialRunner().run(FEATURES, catalog)


def test_factory_entry_with_credentials_on_another_filesystem(catalog):
    catalog.save("memory_signals", {"2024-01-01T00": [{"side": "buy"}]})
    catalog.save("memory_signals", {"2024-01-01T01": []})
    assert list(catalog.load("memory_signals")) == ["2024-01-01T00", "2024-01-01T01"]
    catalog.release("memory_signals")
    assert not catalog.exists("memory_other")


def test_model_partitions_in_the_catalog(catalog):
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression().fit([0.0, 1.0, 2.0], [0.0, 0.5, 1.0])
    catalog.save("pair_models", {"A__B": StoredModel("sklearn", model, {"fold": 1})})
    catalog.save("pair_models", Commit(ids=("A__B",)))
    loaded = catalog.load("pair_models")["A__B"]
    assert loaded.meta == {"fold": 1}
    assert loaded.estimator.predict([0.5]).tolist() == model.predict([0.5]).tolist()


def test_bars_are_updated_through_two_entries_of_one_path(catalog):
    def fetch(stored: BarStore) -> BarsUpdate:
        n = len(stored["A/B"]) + 1 if "A/B" in stored else 1
        rows = [[k * 3_600_000, 1.0, 1.0, 1.0, 1.0, 1.0] for k in range(n)]
        return BarsUpdate("sim", {"A/B": bars_from_rows(pd.DataFrame(rows).to_numpy(), "A/B")})

    pipeline = Pipeline([Node(fetch, inputs="ohlcv_1h_stored", outputs="ohlcv_1h", name="fetch")])
    for n in (1, 2, 3):
        SequentialRunner().run(pipeline, catalog)
        assert len(catalog.load("ohlcv_1h").wide("close")) == n


def test_datasets_describe_themselves_without_secrets(catalog):
    for name in ("roster", "pair_features", "ohlcv_1h", "memory_signals"):
        text = repr(catalog.get(name))
        assert "mntrading.datasets." in text
        assert "use_listings_cache" not in text
