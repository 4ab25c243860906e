"""Models of every fold, and what they say about the window they trade."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core import evaluation, training
from mntrading.core.errors import ArtifactError
from mntrading.core.estimators import FittedModel, importances
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.training import PREDICTION_COLUMNS, GroupFit, TrainedModel
from mntrading.core.types import FloatArray, IntArray
from mntrading.datasets import Commit, Partitions, StoredModel
from mntrading.params import ComputeParams, FeatureParams, LabelParams, ModellingParams
from mntrading.pipelines.common import fan_out, header, must_follow, number, numbers, rows

LOGGER = logging.getLogger(__name__)

POOLED = "pooled"


def model_id(fold: str, group: str) -> str:
    """Where a group's model of a fold is stored; the group is a pair id or ``pooled``."""
    return f"{fold}/{group}"


def _groups(entry: RosterFold, scope: str) -> dict[str, tuple[str, ...]]:
    ids = tuple(row.pair.id for row in entry.pairs)
    if scope == "pair":
        return {pair_id: (pair_id,) for pair_id in ids}
    return {POOLED: ids} if ids else {}


def train_models(
    pair_datasets: Partitions,
    roster: dict[str, Any],
    modelling: ModellingParams,
    features: FeatureParams,
    labels: LabelParams,
    compute: ComputeParams,
) -> Iterator[dict[str, StoredModel] | Commit]:
    """One model per fold and group, fitted inside the fold's formation window only."""
    training.check_gap(modelling, labels)
    training.check_threshold(modelling, labels)
    must_follow(roster, pair_datasets=pair_datasets)
    names = tuple(pair_datasets.meta["feature_names"])
    groups = [
        (entry, group, pair_ids)
        for entry in Roster.parse(roster).folds
        for group, pair_ids in _groups(entry, modelling.scope).items()
    ]

    def fit(item: tuple[RosterFold, str, tuple[str, ...]]) -> tuple[str, GroupFit]:
        entry, group, pair_ids = item
        frames = {pair_id: pair_datasets[pair_id] for pair_id in pair_ids}
        window = training.formation_rows(frames, entry.fold.formation_start, entry.fold.formation_end)
        return model_id(entry.fold.name, group), training.fit_group(window, names, modelling)

    trained, scores = [], {}
    for id_, result in fan_out(fit, groups, compute, "training", reads=pair_datasets):
        chosen = result.model.name if result.model else None
        scores[id_] = {
            "chosen": chosen, "reason": result.reason, "candidates": rows(result.scores), "details": result.details,
        }  # fmt: skip
        LOGGER.info("%s: %s", id_, chosen or result.reason)
        if result.model is not None:
            trained.append(id_)
            yield {id_: _stored(result.model, pair_datasets.meta, labels, result.details["n_trials"])}
    made_from = {"pair_datasets": pair_datasets, "roster": roster}
    head = header(roster["as_of"], made_from, {"modelling": modelling, "features": features, "labels": labels})
    meta = {"scores": scores, "scope": modelling.scope, "feature_spec": pair_datasets.meta["feature_spec"]}
    yield Commit(tuple(trained), {**head, **meta})


def _stored(trained: TrainedModel, made_of: Mapping[str, Any], labels: LabelParams, n_trials: int) -> StoredModel:
    """The model with what it was made of: feature spec and market symbols of its datasets, and what a label is."""
    model = trained.model
    weights = dict(zip(model.feature_names, map(float, importances(model)), strict=True))
    meta = {
        "name": model.name,
        "feature_names": list(model.feature_names),
        "feature_spec": made_of["feature_spec"],
        "market_symbols": made_of["market_symbols"],
        "labels": labels.model_dump(mode="json"),
        "importances": weights,
        "n_trials": n_trials,
        **trained.document(),
    }
    return StoredModel(model.kind, model.estimator, meta)


def fitted(stored: StoredModel) -> TrainedModel:
    """The model as the core uses it.

    Raises
    ------
    ArtifactError
        When the file lacks what a model needs to be believed and watched, as those of earlier versions do.
    """
    try:
        names = tuple(stored.meta["feature_names"])
        LabelParams.model_validate(stored.meta["labels"])
        model = FittedModel(stored.meta["name"], stored.kind, stored.estimator, names)
        trained = TrainedModel.parse(model, stored.meta)
        if "feature_spec" not in stored.meta:
            raise KeyError("feature_spec")
        widths = {len(names), len(trained.novelty.mean), _N_INPUTS[stored.kind](stored.estimator)}
        if len(widths) > 1:
            raise ValueError(f"{len(names)} names of features for {sorted(widths)} inputs")
        return trained
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"holds no whole model: {error!r}", fix="kedro run --tags train, and the steps after it"
        ) from error


_N_INPUTS: Final[Mapping[str, Callable[[Any], int]]] = {
    "lightgbm": lambda estimator: int(estimator.num_feature()),
    "xgboost": lambda estimator: int(estimator.num_features()),
    "catboost": lambda estimator: len(estimator.feature_names_),
    "sklearn": lambda estimator: int(estimator.n_features_in_),
}
"""How many features a stored estimator takes, by its kind."""


def predict_pairs(
    pair_features: Partitions, pair_models: Partitions, roster: dict[str, Any], compute: ComputeParams
) -> Iterator[dict[str, pd.DataFrame] | Commit]:
    """Out-of-sample probabilities: each fold's model on the fold's own trading window.

    One frame per pair, indexed by bar open: what ``training.predict`` tells, and the ``fold`` whose model told it.
    Folds in which the pair has no model have no rows.
    """
    must_follow(roster, pair_features=pair_features, pair_models=pair_models)
    parsed = Roster.parse(roster)

    def predict(pair_id: str) -> tuple[str, pd.DataFrame]:
        frame = pair_features[pair_id]
        parts = [
            training.predict(fitted(pair_models[id_]), window).assign(fold=entry.fold.name)
            for entry in parsed.completed
            if (id_ := _model_of(pair_id, entry, pair_models)) is not None and len(window := trading_rows(frame, entry))
        ]
        kinds = {name: "bool" if name in ("novel", "barred") else "float64" for name in PREDICTION_COLUMNS}
        empty = pd.DataFrame(index=frame.index[:0], columns=[*kinds, "fold"]).astype({**kinds, "fold": "str"})
        return pair_id, pd.concat(parts) if parts else empty

    for pair_id, frame in fan_out(predict, sorted(pair_features), compute, "predictions", reads=pair_features):
        yield {pair_id: frame}
    made_from = {"pair_features": pair_features, "pair_models": pair_models, "roster": roster}
    yield Commit(tuple(pair_features), header(roster["as_of"], made_from, {}))


def _model_of(pair_id: str, entry: RosterFold, pair_models: Partitions) -> str | None:
    """Id of the model that serves a pair in a fold, None where it is not on the roster or has none."""
    if all(row.pair.id != pair_id for row in entry.pairs):
        return None
    for group in (pair_id, POOLED):
        if (id_ := model_id(entry.fold.name, group)) in pair_models:
            return id_
    return None


def trading_rows(frame: pd.DataFrame, entry: RosterFold) -> pd.DataFrame:
    """Rows of a fold's trading window."""
    inside = (frame.index >= entry.fold.formation_end) & (frame.index < entry.fold.trading_end)
    rows_inside: pd.DataFrame = frame.loc[inside]
    return rows_inside


def score_models(
    predictions: Partitions,
    pair_datasets: Partitions,
    pair_models: Partitions,
    roster: dict[str, Any],
    modelling: ModellingParams,
) -> dict[str, Any]:
    """In-formation scores of every candidate beside the out-of-sample scores of the chosen model."""
    must_follow(roster, predictions=predictions, pair_datasets=pair_datasets, pair_models=pair_models)
    windows = {
        entry.fold.name: pd.concat(
            [_NOTHING, *(_scored_rows(row.pair.id, entry, predictions, pair_datasets) for row in entry.pairs)]
        )
        for entry in Roster.parse(roster).completed
    }
    everything = pd.concat([_NOTHING, *windows.values()])
    out_of_sample = {fold: _scores(window, modelling) for fold, window in windows.items()}
    total = _scores(everything, modelling)
    return {
        **header(roster["as_of"], {"predictions": predictions, "pair_datasets": pair_datasets}, {}),
        "cross_validated": pair_models.meta["scores"],
        "out_of_sample": out_of_sample,
        "total": total,
        "details": {name: _details(rows, modelling) for name, rows in {**windows, "total": everything}.items()},
        "metrics": {f"out_of_sample.{name}": value for name, value in total.items()}
        | {
            f"out_of_sample.{fold}.{name}": scores[name]
            for fold, scores in out_of_sample.items()
            for name in ("roc_auc", "log_loss", "base_rate", "ece", "n_rows")
        },
    }


_NOTHING = pd.DataFrame(
    {
        "label": np.zeros(0, dtype=np.int8),
        "size": np.zeros(0),
        "probability": np.zeros(0),
        "threshold": np.zeros(0),
        "novel": np.zeros(0, dtype=bool),
    },
    index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp"),
)
"""Scored rows of a window without a model."""


def _scored_rows(pair_id: str, entry: RosterFold, predictions: Partitions, pair_datasets: Partitions) -> pd.DataFrame:
    labels = trading_rows(pair_datasets[pair_id], entry)[["label", "size"]]
    given: pd.DataFrame = predictions[pair_id]
    given = given.loc[given["fold"] == entry.fold.name, ["probability", "threshold", "novel"]]
    scored: pd.DataFrame = pd.concat([labels, given], axis=1, join="inner").dropna(subset=["probability"])
    return scored


def _scores(frame: pd.DataFrame, modelling: ModellingParams) -> dict[str, float | None]:
    y, probability = _told(frame)
    scores = evaluation.score("", y, probability, bins=modelling.evaluation.bins)
    return {name: number(float(value)) for name, value in scores.items() if name != "model"}


def _told(frame: pd.DataFrame) -> tuple[IntArray, FloatArray]:
    return frame["label"].to_numpy(dtype=np.int64), frame["probability"].to_numpy(dtype=np.float64)


def _details(frame: pd.DataFrame, modelling: ModellingParams) -> dict[str, Any]:
    """Calibration curve and ranking curves of out-of-sample rows, and what their own thresholds and novelty keep."""
    y, probability = _told(frame)
    needed = frame["threshold"].to_numpy(dtype=np.float64)
    own = np.isfinite(needed)
    kept = own & (probability >= needed)
    size = frame["size"].to_numpy(dtype=np.float64)
    return {
        "bins": evaluation.reliability(y, probability, modelling.evaluation.bins),
        "curves": evaluation.curves(y, probability, modelling.evaluation.curve_points),
        "threshold": None
        if not own.any()
        else numbers(
            {
                "kept": float(kept.sum() / own.sum()),
                "precision": float(y[kept].mean()) if kept.any() else float("nan"),
                "mean_size": float(size[kept].mean()) if kept.any() else float("nan"),
                "mean_size_of_all": float(size[own].mean()),
            }
        ),
        "novel_share": number(float(frame["novel"].mean())) if len(frame) else None,
    }
