"""Models in MLflow: a run per fold and per model, their figures and files, and the registry's aliases.

A model is logged as the project's own bytes beside an ``MLmodel`` file with its signature: MLflow's flavours would
pickle what wraps an estimator, and a model here is more than its estimator.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mntrading.datasets import Partitions
from mntrading.datasets.models import model_meta

REGISTERED: Final = "mntrading"
"""Prefix of the registered models' names: one for each group of pairs, ``mntrading-pooled``."""
CANDIDATE, CHALLENGER, CHAMPION, PRODUCTION = "candidate", "challenger", "champion", "production"
_LIVE: Final = "live"
_PARENT: Final = "mlflow.parentRunId"
_EXAMPLE: Final = "input_example.json"
_MOST_METRICS: Final = 1000  # that MLflow takes at once


def log_models(
    run_id: str, scores: Mapping[str, Any], pair_models: Partitions, tags: Mapping[str, str] | None = None
) -> None:
    """Log every fold and every trained group below a run, and register the live fold's models as candidates.

    Parameters
    ----------
    run_id
        The run they belong to.
    scores
        The ``model_scores`` artefact.
    pair_models
        The models.
    tags
        What each of the runs below is tagged with.
    """
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    made_of = {"feature_spec": pair_models.meta["feature_spec"], **(tags or {})}
    made_of |= {f"sha256.{name}": digest for name, digest in scores["inputs"].items()}
    folds: dict[str, str] = {}
    for id_, fit in scores["cross_validated"].items():
        fold, _, group = id_.partition("/")
        if fold not in folds:
            folds[fold] = _run(client, experiment, run_id, fold, _fold_metrics(scores, fold), made_of)
            _log_figures(client, folds[fold], _fold_figures(scores, fold))
        params = {"chosen": str(fit["chosen"]), "reason": fit["reason"], "group": group}
        params |= {f"n_{name}": str(fit["details"][f"n_{name}"]) for name in ("trials",) if fit["details"]}
        known = made_of | ({"sha256.model": pair_models.digests[id_]} if id_ in pair_models else {})
        child = _run(client, experiment, folds[fold], f"{fold}/{group}", _chosen_metrics(fit), known, params)
        if id_ in pair_models:
            _log_figures(client, child, _model_figures(fit["details"]))
            source = _log_model(client, child, id_, pair_models, scores["inputs"])
            if fold == _LIVE:
                _register(client, group, source, child, pair_models.digests[id_])


def move_alias(alias: str, hashes: Collection[str]) -> dict[str, str]:
    """Point an alias of the registry at the versions of these models, and take it from every other model.

    Parameters
    ----------
    alias
        ``CHAMPION``, ``CHALLENGER`` or ``PRODUCTION``.
    hashes
        SHA-256 of the stored models that are to have it.

    Returns
    -------
    Version by registered model, of those that have it now.
    """
    from mlflow import MlflowClient

    client = MlflowClient()
    moved = {}
    for model in _registered(client):
        versions = client.search_model_versions(f"name = '{model.name}'")
        hits = [int(version.version) for version in versions if version.tags.get("sha256") in hashes]
        if hits:
            moved[model.name] = str(max(hits))
            client.set_registered_model_alias(model.name, alias, moved[model.name])
        elif alias in model.aliases:
            client.delete_registered_model_alias(model.name, alias)
    return moved


def contenders(registry: Mapping[str, Any]) -> dict[str, set[str]]:
    """SHA-256 by alias of the models that a registry's champions and challengers trade with.

    A model that serves a champion is no challenger, whatever other pairs it serves: it would challenge itself.
    """
    champions = hashes_of(registry["champions"])
    challengers = hashes_of(entry for entry in registry["rejected"] if entry["challenger"])
    return {CHAMPION: champions, CHALLENGER: challengers - champions}


def hashes_of(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """SHA-256 of the models that entries of a registry or a production map name."""
    return {entry["model"]["sha256"] for entry in entries if entry["model"]}


def _registered(client: Any) -> Iterator[Any]:
    """Every model the project has registered, page by page."""
    token = None
    while token != "":
        page = client.search_registered_models(f"name LIKE '{REGISTERED}-%'", page_token=token)
        yield from page
        token = page.token or ""


def _run(
    client: Any,
    experiment: str,
    parent: str,
    name: str,
    metrics: Iterable[tuple[str, Any, int]],
    tags: Mapping[str, str],
    params: Mapping[str, str] | None = None,
) -> str:
    """A finished run below another one; a metric is its name, its value and the split it is of."""
    from mlflow.entities import Metric, Param

    run = client.create_run(experiment, run_name=name, tags={_PARENT: parent, **tags})
    now = int(time.time() * 1000)
    known = [Metric(key, float(value), now, step) for key, value, step in metrics if value is not None]
    given = [Param(key, value) for key, value in (params or {}).items()]
    for first in range(0, max(len(known), 1), _MOST_METRICS):
        client.log_batch(run.info.run_id, known[first : first + _MOST_METRICS], given if first == 0 else [])
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _fold_metrics(scores: Mapping[str, Any], fold: str) -> Iterator[tuple[str, Any, int]]:
    """Out-of-sample scores of a fold's trading window; none for the live one."""
    for name, value in scores["out_of_sample"].get(fold, {}).items():
        yield f"out_of_sample.{name}", value, 0


def _chosen_metrics(fit: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Cross-validated scores of every candidate, also split by split, and of the chosen model what there is."""
    details = fit["details"]
    for prefix, step, rows in [
        ("cross_validated", 0, fit["candidates"]),
        *(("split", k, split["candidates"]) for k, split in enumerate(details.get("splits", []))),
    ]:
        for row in rows:
            yield from ((f"{prefix}.{row['model']}.{name}", row[name], step) for name in row if name != "model")
    for part in ("stability", "threshold"):
        yield from ((f"{part}.{name}", value, 0) for name, value in (details.get(part) or {}).items())


def _fold_figures(scores: Mapping[str, Any], fold: str) -> dict[str, Any]:
    """Figures of a fold's trading window, where its models told anything."""
    details = scores["details"].get(fold)
    if not details or not details["bins"]:
        return {}
    return _curves("out of sample", details["bins"], details["curves"], scores["out_of_sample"][fold]["base_rate"])


def _model_figures(details: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a trained model, of out-of-fold rows."""
    from mntrading.reporting import model_figures

    bins = details["calibration"]["bins"]
    rows = sum(line["n_rows"] for line in bins)
    base_rate = sum(line["n_rows"] * line["share"] for line in bins) / rows
    importance = pd.DataFrame(details["importance"]).astype({"permutation": float, "permutation_std": float})
    return {
        **_curves("cross-validated", bins, details["curves"], base_rate),
        "importance": model_figures.importance_figure(importance),
    }


def _curves(
    name: str, bins: list[Any], curves: Mapping[str, list[list[float]]], base_rate: float | None
) -> dict[str, Any]:
    from mntrading.reporting import model_figures

    roc = pd.DataFrame(curves["roc"], columns=["false_positive", "true_positive"])
    precision_recall = pd.DataFrame(curves["precision_recall"], columns=["recall", "precision"])
    return {
        "calibration": model_figures.calibration_figure({name: pd.DataFrame(bins)}),
        "roc": model_figures.roc_figure({name: roc}),
        "precision_recall": model_figures.precision_recall_figure({name: precision_recall}, base_rate),
    }


def _log_figures(client: Any, run_id: str, figures: Mapping[str, Any]) -> None:
    if not figures:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in figures.items():
            figure.write_html(Path(folder) / f"{name}.html", include_plotlyjs="cdn")
        client.log_artifacts(run_id, folder, "figures")


def _log_model(client: Any, run_id: str, id_: str, pair_models: Partitions, inputs: Mapping[str, str]) -> str:
    """The model's bytes with signature and input example; returns where they are."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    data = pair_models.stored(id_)
    kind, meta = model_meta(data)
    names = meta["feature_names"]
    example = pd.DataFrame([meta["novelty"]["mean"]], columns=names)  # the centre of the training rows
    described = Model(
        artifact_path="model",
        run_id=run_id,
        flavors={"mntrading": {"data": "model.zip", "kind": kind, "sha256": pair_models.digests[id_]}},
        signature=ModelSignature(
            inputs=Schema([ColSpec("double", name) for name in names]),
            outputs=Schema([ColSpec("double", name) for name in ("probability", "novelty")]),
        ),
        saved_input_example_info={"artifact_path": _EXAMPLE, "type": "dataframe", "pandas_orient": "split"},
        metadata={"feature_spec": meta["feature_spec"], **{f"inputs.{k}": v for k, v in inputs.items()}},
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.zip").write_bytes(data)
        example.to_json(Path(folder) / _EXAMPLE, orient="split", index=False)
        described.save(str(Path(folder) / "MLmodel"))
        client.log_artifacts(run_id, folder, "model")
    return f"{client.get_run(run_id).info.artifact_uri}/model"


def _register(client: Any, group: str, source: str, run_id: str, sha: str) -> None:
    from mlflow.exceptions import MlflowException

    name = f"{REGISTERED}-{group}"
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, source, run_id, tags={"sha256": sha})
    client.set_registered_model_alias(name, CANDIDATE, version.version)
