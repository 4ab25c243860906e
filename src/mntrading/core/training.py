"""Fit and choose models inside one formation window; nothing after it is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import drift, evaluation, fitting, search
from mntrading.core.calibration import Calibration, calibrate_splits, fit_calibration
from mntrading.core.drift import PairReference
from mntrading.core.errors import ParameterError
from mntrading.core.estimators import FittedModel, importances
from mntrading.core.evaluation import SCORE_COLUMNS, score
from mntrading.core.fitting import Sample
from mntrading.core.novelty import Novelty, fit_novelty
from mntrading.core.splits import PurgedTimeSeriesSplit
from mntrading.core.thresholds import choose_threshold
from mntrading.core.types import FloatArray, IntArray
from mntrading.core.uniqueness import label_uniqueness
from mntrading.params import LabelParams, ModellingParams

PREDICTION_COLUMNS = ("probability", "threshold", "novelty", "novel", "barred")
"""What ``predict`` tells about a row."""


@dataclass(frozen=True)
class TrainedModel:
    """A fitted model with everything its word is judged by; research and live ask it in the same way.

    Parameters
    ----------
    model
        The estimator.
    calibration
        Correction of its probabilities.
    threshold
        Probability it asks for an entry; None for the strategy's own.
    novelty
        Which rows are unlike those it was fitted on.
    references
        What it was fitted on by pair, for live to be compared with.
    """

    model: FittedModel
    calibration: Calibration
    threshold: float | None
    novelty: Novelty
    references: Mapping[str, PairReference]

    @property
    def name(self) -> str:
        """Estimator's name in the parameters."""
        return self.model.name

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Columns it was fitted on, in order."""
        return self.model.feature_names

    def document(self) -> dict[str, Any]:
        """JSON form of all but the estimator."""
        return {
            "calibration": self.calibration.document(),
            "threshold": self.threshold,
            "novelty": self.novelty.document(),
            "references": {pair_id: one.document() for pair_id, one in self.references.items()},
        }

    @classmethod
    def parse(cls, model: FittedModel, document: Mapping[str, Any]) -> TrainedModel:
        """The model of its estimator and the JSON form of the rest."""
        threshold = document["threshold"]
        return cls(
            model,
            Calibration.parse(document["calibration"]),
            None if threshold is None else float(threshold),
            Novelty.parse(document["novelty"]),
            {pair_id: PairReference.parse(one) for pair_id, one in document["references"].items()},
        )


@dataclass(frozen=True)
class GroupFit:
    """The outcome of one group's training: a model, or the reason there is none.

    Parameters
    ----------
    model
        Refitted on every row of the formation window; None when the group could not be trained.
    out_of_fold
        ``pair_id``, ``timestamp``, ``label`` and each candidate's calibrated ``probability_<name>`` on rows neither
        the model nor its calibration was fitted on.
    scores
        One row per candidate model, ``SCORE_COLUMNS`` over the out-of-fold rows.
    reason
        Why there is no model; empty when there is one.
    details
        Plain numbers about the splits, and about the chosen model: calibration, curves, importance, stability,
        threshold. Empty when nothing could be cross-validated.
    """

    model: TrainedModel | None
    out_of_fold: pd.DataFrame
    scores: pd.DataFrame
    reason: str
    details: dict[str, Any] = field(default_factory=dict)


BASE_RATE = "base_rate"
_EVEN = 0.5


def check_gap(params: ModellingParams, labels: LabelParams) -> None:
    """The embargo must cover the label's horizon."""
    if params.gap < labels.horizon:
        raise ParameterError(
            f"gap is {params.gap} bars, expected at least the label horizon of {labels.horizon} bars",
            where="modelling.gap",
            fix=f"--params modelling.gap={labels.horizon}",
        )


def check_threshold(params: ModellingParams, labels: LabelParams) -> None:
    """A threshold's margin must be in the unit of the labels' sizes."""
    threshold = params.threshold
    if threshold.choose == "expected_value" and labels.label_type == "net_pnl" and threshold.margin != 0.0:
        raise ParameterError(
            f"margin is {threshold.margin} deviations of the spread, and sizes of net_pnl labels are shares of the "
            "notional with costs paid",
            where="modelling.threshold.margin",
            fix="--params modelling.threshold.margin=0.0",
        )


def formation_rows(datasets: Mapping[str, pd.DataFrame], start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Labelled rows of all pairs whose whole label lies inside [start, end), by time, then pair.

    ``datasets`` maps a pair id to its dataset: features, ``label`` and ``label_end``, indexed by bar open.
    """
    parts = []
    for pair_id in sorted(datasets):
        rows = datasets[pair_id]
        inside = (rows.index >= start) & (rows["label_end"] < end).to_numpy()
        parts.append(rows.loc[inside].assign(pair_id=pair_id))
    if not parts:
        return pd.DataFrame()
    return pd.concat(parts).sort_index(kind="stable")


def fit_group(rows: pd.DataFrame, feature_names: tuple[str, ...], params: ModellingParams) -> GroupFit:
    """Cross-validate every candidate model, choose the one of least out-of-fold log loss, refit it on all rows.

    A group with too few events, or with one class only, gets no model and a reason. To be chosen a candidate must
    beat the base rate's log loss over all out-of-fold rows and in most splits, and rank better than chance: without
    skill there is no model either. In the fits rows weigh what their labels do not share; scores, calibration and
    threshold count every row once, because what a row weighs depends on what came after it.

    Look-ahead: uses ``rows`` only, which the caller has cut at the formation end; training rows of each split are
    purged by label end, and its probabilities are calibrated by splits before it.

    Parameters
    ----------
    rows
        Output of ``formation_rows``.
    feature_names
        Columns to fit on.
    params
        Candidates, splits, gap, recipe, seed.
    """
    nothing = (
        pd.DataFrame(columns=["pair_id", "timestamp", "label"]),
        pd.DataFrame(columns=list(SCORE_COLUMNS)),
    )
    if len(rows) < params.min_events:
        return GroupFit(None, *nothing, f"{len(rows)} labelled rows, {params.min_events} needed")
    usable = np.isfinite(rows[list(feature_names)].to_numpy(dtype=np.float64)).all(axis=1)
    rows = rows.loc[usable]
    y = rows["label"].to_numpy(dtype=np.int64)
    if len(rows) < params.min_events:
        return GroupFit(None, *nothing, f"{len(rows)} rows with all features, {params.min_events} needed")
    if y.min() == y.max():
        return GroupFit(None, *nothing, f"all {len(y)} labels are {y[0]}")
    unique = label_uniqueness(rows)
    weight = unique if params.sample_weights == "uniqueness" else None
    sample = Sample(
        rows[list(feature_names)].to_numpy(dtype=np.float64), y, weight,
        pd.DatetimeIndex(rows.index), pd.DatetimeIndex(rows["label_end"]), feature_names,
    )  # fmt: skip
    splits = _usable_splits(sample, params)
    if not splits:
        return GroupFit(None, *nothing, "no split leaves both classes to train on after purging")
    tested = np.concatenate([test for _, test in splits])
    out_of_fold = pd.DataFrame(
        {"pair_id": rows["pair_id"].to_numpy()[tested], "timestamp": rows.index[tested], "label": y[tested]}
    )
    given: dict[str, list[FloatArray]] = {BASE_RATE: [np.full(len(test), y[train].mean()) for train, test in splits]}
    raw: dict[str, list[FloatArray]] = {}
    fits: dict[str, list[FittedModel]] = {}
    for name in params.models:
        fits[name] = [fitting.fit(name, sample.take(train), params) for train, _ in splits]
        raw[name] = [model.predict(sample.X[test]) for model, (_, test) in zip(fits[name], splits, strict=True)]
        given[name] = calibrate_splits(params.calibration, raw[name], y, splits, uniqueness=unique)
        out_of_fold[f"probability_{name}"] = np.concatenate(given[name])
    bins = params.evaluation.bins
    scores = [score(name, y[tested], np.concatenate(parts), bins=bins) for name, parts in given.items()]
    table = pd.DataFrame(scores, columns=list(SCORE_COLUMNS))
    details: dict[str, Any] = {
        "n_trials": search.n_trials(params),
        "n_independent": float(unique.sum()),
        "splits": _by_split(given, sample, splits, bins),
    }
    loss = dict(zip(table["model"], table["log_loss"], strict=True))
    area = dict(zip(table["model"], table["roc_auc"], strict=True))
    skilled = [
        name
        for name in params.models
        if loss[name] < loss[BASE_RATE]
        and area[name] > _EVEN
        and _splits_won(given[name], given[BASE_RATE], y, splits) > len(splits) / 2
    ]
    if not skilled:
        reason = "no candidate beats the base rate out of fold"
        return GroupFit(None, out_of_fold, table, reason, evaluation.plain(details))
    best = min(skilled, key=loss.__getitem__)
    chance = np.concatenate(given[best])
    size = rows["size"].to_numpy(dtype=np.float64)[tested] if "size" in rows else None
    latest = slice(None) if params.max_train_size is None else slice(-params.max_train_size, None)
    model = TrainedModel(
        fitting.fit(best, sample.take(latest), params),
        fit_calibration(
            params.calibration, np.concatenate(raw[best]), y[tested], n_independent=float(unique[tested].sum())
        ),
        choose_threshold(chance, y[tested], size, params.threshold),
        _novelty(sample, unique, splits, latest, params),
        drift.references(rows.iloc[latest], feature_names, unique[latest], out_of_fold.assign(probability=chance)),
    )
    details |= {
        "calibration": {
            "kind": params.calibration,
            "raw_log_loss": score(best, y[tested], np.concatenate(raw[best]))["log_loss"],
            "bins": evaluation.reliability(y[tested], chance, bins),
        },
        "curves": evaluation.curves(y[tested], chance, params.evaluation.curve_points),
        "threshold": at_threshold(chance, y[tested], size, model.threshold),
        "novelty_limit": model.novelty.limit,
        **_importance(fits[best], model.model, sample, splits, params),
    }
    return GroupFit(model, out_of_fold, table, "", evaluation.plain(details))


def at_threshold(
    probability: FloatArray, y: IntArray, size: FloatArray | None, threshold: float | None
) -> dict[str, float | None] | None:
    """What is kept by a model's own threshold: share of rows, share of ones and mean size; None without one."""
    if threshold is None:
        return None
    kept = probability >= threshold
    return evaluation.plain(  # type: ignore[no-any-return]
        {
            "value": threshold,
            "kept": float(kept.mean()) if len(kept) else float("nan"),
            "precision": float(y[kept].mean()) if kept.any() else float("nan"),
            "mean_size": float(size[kept].mean()) if size is not None and kept.any() else float("nan"),
            "mean_size_of_all": float(size.mean()) if size is not None and len(size) else float("nan"),
        }
    )


def _novelty(
    sample: Sample,
    unique: FloatArray,
    splits: Sequence[tuple[IntArray, IntArray]],
    latest: slice,
    params: ModellingParams,
) -> Novelty:
    """Distance to the rows of the refit; the limit from how far test rows lie from their split's training rows."""
    distances = [
        fit_novelty(sample.X[train], n_independent=float(unique[train].sum())).distance(sample.X[test])
        for train, test in splits
    ]
    return fit_novelty(
        sample.X[latest], n_independent=float(unique[latest].sum()),
        limit=float(np.quantile(np.concatenate(distances), params.novelty.quantile)),
        blocks_entry=params.novelty.blocks_entry,
    )  # fmt: skip


def _by_split(
    given: Mapping[str, list[FloatArray]], sample: Sample, splits: Sequence[tuple[IntArray, IntArray]], bins: int
) -> list[dict[str, Any]]:
    """Scores of every candidate in every split."""
    return [
        {
            "test_start": sample.index[test[0]],
            "test_end": sample.index[test[-1]],
            "n_train": len(train),
            "candidates": [score(name, sample.y[test], parts[i], bins=bins) for name, parts in given.items()],
        }
        for i, (train, test) in enumerate(splits)
    ]


def _importance(
    fits: Sequence[FittedModel],
    model: FittedModel,
    sample: Sample,
    splits: Sequence[tuple[IntArray, IntArray]],
    params: ModellingParams,
) -> dict[str, Any]:
    """Importance by gain and by permutation of out-of-fold rows, and how alike splits are in both."""
    chosen = params.evaluation
    groups = evaluation.feature_groups(model.feature_names, group_lags=chosen.group_lags)
    by_gain = [_grouped(importances(one), groups) for one in fits]
    by_permutation = [
        evaluation.permutation_importance(
            one.predict, sample.X[test], sample.y[test], groups, max_rows=chosen.permutation_rows, seed=params.seed
        )
        for one, (_, test) in zip(fits, splits, strict=True)
        if chosen.permutation_rows
    ]
    gain = _grouped(importances(model), groups)
    area = [float(score("", sample.y[test], one.predict(sample.X[test]))["roc_auc"]) for one, (_, test) in
            zip(fits, splits, strict=True)]  # fmt: skip
    return {
        "importance": [
            {
                "feature": name,
                "gain": gain[name],
                "permutation": float(np.mean([one[name] for one in by_permutation])) if by_permutation else None,
                "permutation_std": float(np.std([one[name] for one in by_permutation])) if by_permutation else None,
            }
            for name in groups
        ],
        "stability": {
            "gain_rank_correlation": evaluation.rank_correlation([list(one.values()) for one in by_gain]),
            "permutation_rank_correlation": evaluation.rank_correlation([list(one.values()) for one in by_permutation]),
            "roc_auc_std": float(np.nanstd(area)) if np.isfinite(area).any() else float("nan"),
            "roc_auc_min": float(np.nanmin(area)) if np.isfinite(area).any() else float("nan"),
        },
    }


def _grouped(values: FloatArray, groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {name: float(values[list(columns)].sum()) for name, columns in groups.items()}


def _splits_won(
    given: list[FloatArray], base: list[FloatArray], y: IntArray, splits: list[tuple[IntArray, IntArray]]
) -> int:
    """Splits in which a candidate's log loss is below the base rate's."""
    from sklearn.metrics import log_loss

    return sum(
        log_loss(y[test], mine, labels=[0, 1]) < log_loss(y[test], theirs, labels=[0, 1])
        for (_, test), mine, theirs in zip(splits, given, base, strict=True)
    )


def _usable_splits(sample: Sample, params: ModellingParams) -> list[tuple[IntArray, IntArray]]:
    if sample.index.nunique() <= params.n_splits:
        return []
    splitter = PurgedTimeSeriesSplit(params.n_splits, params.gap, params.max_train_size)
    y = sample.y
    return [
        (train, test)
        for train, test in splitter.split(sample.frame(), label_end=sample.label_end)
        if len(test) and len(train) and y[train].min() != y[train].max()
    ]


def predict(trained: TrainedModel, features: pd.DataFrame) -> pd.DataFrame:
    """What a model says about each row, ``PREDICTION_COLUMNS``; a row's bits do not depend on the rows beside it.

    ``probability`` is calibrated and ``novelty`` the distance to the training rows, both NaN where an input is not
    finite. ``threshold`` is the model's own (NaN for the strategy's), ``novel`` says that the distance is beyond the
    model's limit, and ``barred`` that for this reason there is to be no entry.

    Look-ahead: that of the features.
    """
    X = features[list(trained.feature_names)].to_numpy(dtype=np.float64)
    finite = np.isfinite(X).all(axis=1)
    probability, distance = np.full(len(X), np.nan), np.full(len(X), np.nan)
    probability[finite] = trained.calibration(trained.model.predict(X[finite]))
    distance[finite] = trained.novelty.distance(X[finite])
    novel = distance > trained.novelty.limit
    columns = {
        "probability": probability,
        "threshold": np.full(len(X), np.nan if trained.threshold is None else trained.threshold),
        "novelty": distance,
        "novel": novel,
        "barred": novel & trained.novelty.blocks_entry,
    }
    return pd.DataFrame(columns, index=features.index, columns=list(PREDICTION_COLUMNS))
