"""Models in MLflow: what a fold's and a model's run hold, and the registry's aliases."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

with warnings.catch_warnings():  # the frameworks warn about themselves when they are imported
    warnings.simplefilter("ignore")
    import mlflow

from mntrading import tracking, tracking_runs
from mntrading.core import training
from mntrading.datasets import Commit, PartitionedArtifactDataset
from mntrading.pipelines.modelling import nodes


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():  # mlflow's models of its tables are ahead of what sqlalchemy likes
        warnings.simplefilter("ignore")
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
        yield mlflow.MlflowClient()
        mlflow.set_tracking_uri(before)


def test_an_alias_follows_the_hash_and_leaves_models_that_lost_it(client: Any) -> None:
    for group, hashes in (("pooled", "ab"), ("A__B", "cd")):
        client.create_registered_model(f"mntrading-{group}")
        for sha in hashes:
            client.create_model_version(f"mntrading-{group}", "nowhere", tags={"sha256": sha})
    client.create_registered_model("another")

    def aliases() -> dict[str, dict[str, str]]:
        return {model.name: model.aliases for model in client.search_registered_models()}

    assert tracking.move_alias("champion", {"a", "d"}) == {"mntrading-pooled": "1", "mntrading-A__B": "2"}
    assert tracking.move_alias("production", {"b"}) == {"mntrading-pooled": "2"}
    assert tracking.move_alias("champion", {"b", "unknown"}) == {"mntrading-pooled": "2"}
    told = {name: {alias: str(version) for alias, version in given.items()} for name, given in aliases().items()}
    assert told == {"mntrading-pooled": {"champion": "2", "production": "2"}, "mntrading-A__B": {}, "another": {}}


def test_a_models_run_says_what_it_was_made_of_and_how_to_ask_it(client: Any, tmp_path: Path, params: Any) -> None:
    n = 900
    rng = np.random.default_rng(0)
    index = pd.date_range("2025-01-01", periods=n, freq="5min", tz="UTC", unit="ms")
    x, y = rng.normal(size=(2, n))
    columns = {"x": x, "y": y, "label": (1.5 * x + rng.normal(size=n) > 0).astype("int8"), "pair_id": "A__B"}
    rows = pd.DataFrame({**columns, "label_end": index + pd.Timedelta(60, unit="min")}, index=index)
    recipe = params.modelling.model_copy(update={"models": ("logistic_regression",), "n_splits": 3, "gap": 12})
    fit = training.fit_group(rows, ("x", "y"), recipe)
    made_of = {"feature_spec": "f" * 64, "market_symbols": []}
    models = PartitionedArtifactDataset(path=str(tmp_path / "models"), format="model")
    ids = ("fold_00/pooled", "live/pooled")
    assert fit.model is not None
    stored = nodes._stored(fit.model, made_of, params.feature_engineering.labels, 1)
    models.save(dict.fromkeys(ids, stored))
    models.save(Commit(ids, made_of))
    told = {"chosen": fit.model.name, "reason": "", "candidates": nodes.rows(fit.scores), "details": fit.details}
    window = pd.DataFrame(
        {"label": rows["label"], "probability": x / 9 + 0.5, "threshold": np.nan, "novel": False, "size": 0.0}
    ).clip(0, 1)
    scores = {
        "inputs": {"pair_datasets": "d" * 64},
        "cross_validated": dict.fromkeys(ids, told),
        "out_of_sample": {"fold_00": nodes._scores(window, recipe)},
        "details": {"fold_00": nodes._details(window, recipe)},
    }
    cycle = client.create_run(client.create_experiment("models", artifact_location=(tmp_path / "files").as_uri()))
    tracking.log_models(cycle.info.run_id, scores, models.load())

    def below(run_id: str) -> dict[str, Any]:
        found = client.search_runs([cycle.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
        return {run.info.run_name: run for run in found}

    def figures(run: Any) -> set[str]:
        return {Path(entry.path).stem for entry in client.list_artifacts(run.info.run_id, "figures")}

    folds = below(cycle.info.run_id)
    assert set(folds) == {"fold_00", "live"}
    assert figures(folds["fold_00"]) == {"calibration", "roc", "precision_recall"}
    assert folds["fold_00"].data.metrics["out_of_sample.lift"] > 1
    assert (figures(folds["live"]), folds["live"].data.metrics) == (set(), {})
    (model,) = below(folds["live"].info.run_id).values()
    assert figures(model) == {"calibration", "roc", "precision_recall", "importance"}
    sha = models.load().digests["live/pooled"]
    hashes = {"feature_spec": "f" * 64, "sha256.pair_datasets": "d" * 64, "sha256.model": sha}
    assert hashes.items() <= model.data.tags.items()
    splits = client.get_metric_history(model.info.run_id, "split.logistic_regression.roc_auc")
    assert [point.step for point in splits] == [0, 1, 2]
    version = client.get_model_version_by_alias("mntrading-pooled", "candidate")
    assert version.tags["sha256"] == sha
    folder = client.download_artifacts(model.info.run_id, "model", str(tmp_path))
    described = mlflow.models.Model.load(folder)
    assert described.signature.inputs.input_names() == ["x", "y"]
    assert described.metadata == {"feature_spec": "f" * 64, "inputs.pair_datasets": "d" * 64}
    example = described.load_input_example(folder)
    assert example.columns.tolist() == ["x", "y"]
    assert training.predict(fit.model, example)["probability"].between(0, 1).all()


def test_challengers_get_their_alias_unless_their_model_serves_a_champion(client: Any) -> None:
    for group, sha in (("A__B", "a"), ("C__D", "c"), ("E__F", "e"), ("pooled", "p")):
        client.create_registered_model(f"mntrading-{group}")
        client.create_model_version(f"mntrading-{group}", "nowhere", tags={"sha256": sha})
        client.set_registered_model_alias(f"mntrading-{group}", "candidate", 1)

    def entry(sha: str | None, *, challenger: bool = False) -> dict[str, Any]:
        return {"model": sha and {"id": "live/any", "sha256": sha}, "challenger": challenger}

    def move(registry: dict[str, Any]) -> dict[str, set[str]]:
        for alias, hashes in tracking.contenders(registry).items():
            tracking.move_alias(alias, hashes)
        return {
            model.name.removeprefix("mntrading-"): set(model.aliases) - {"candidate"}
            for model in client.search_registered_models()
        }

    rejected = [entry("c", challenger=True), entry("e"), entry("p", challenger=True), entry(None, challenger=True)]
    first = {"champions": [entry("a"), entry("p"), entry(None)], "rejected": rejected}
    assert move(first) == {"A__B": {"champion"}, "C__D": {"challenger"}, "E__F": set(), "pooled": {"champion"}}
    # the challenger wins, and the champion it beat for the place challenges it
    second = {"champions": [entry("c")], "rejected": [entry("a", challenger=True)]}
    assert move(second) == {"A__B": {"challenger"}, "C__D": {"champion"}, "E__F": set(), "pooled": set()}


class History:
    """Closed records by the id of their run."""

    def __init__(self, **statuses: str) -> None:
        self._records = {id_: {"run_id": id_, "status": status} for id_, status in statuses.items()}

    def exists(self) -> bool:
        return bool(self._records)

    def load(self) -> dict[str, Any]:
        return self._records


def test_runs_left_open_are_ended_as_their_records_say_and_others_are_left_alone(client: Any) -> None:
    experiment = client.create_experiment("x")

    def left(run_id: str | None, parent: str = "") -> str:
        tags = {"mlflow.parentRunId": parent, **({tracking_runs.RUN_ID: run_id} if run_id else {})}
        return client.create_run(experiment, tags=tags).info.run_id

    killed, failed, elsewhere, untagged, own = (left(id_) for id_ in ("k", "f", "of another root", None, "own"))
    below = left("k", killed)
    history = History(k="killed", f="failed", own="finished")
    ended = tracking_runs.reconcile(client.get_run(own).info, history)
    assert set(ended) == {killed, below, failed}
    status = {id_: client.get_run(id_).info.status for id_ in (killed, below, failed, elsewhere, untagged, own)}
    assert status == {
        killed: "KILLED",
        below: "KILLED",
        failed: "FAILED",
        elsewhere: "RUNNING",
        untagged: "RUNNING",
        own: "RUNNING",
    }
    assert tracking_runs.reconcile(client.get_run(own).info, history) == []
    assert tracking_runs.reconcile(client.get_run(own).info, History()) == []


def test_what_mlflow_raises_is_one_message_with_the_way_out() -> None:
    with pytest.raises(tracking_runs.TrackingError, match="MLflow failed: gone") as raised, tracking_runs.told():
        raise mlflow.exceptions.MlflowException("gone\nand more")
    assert "tracking=off" in str(raised.value.fix)
    with pytest.raises(KeyError), tracking_runs.told():
        raise KeyError("not MLflow's")
