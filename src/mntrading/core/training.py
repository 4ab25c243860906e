"""Fit and choose models inside one formation window; nothing after it is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core import estimators
from mntrading.core.errors import ParameterError
from mntrading.core.estimators import FittedModel
from mntrading.core.splits import PurgedTimeSeriesSplit
from mntrading.core.types import FloatArray, IntArray
from mntrading.params import LabelParams, ModellingParams


@dataclass(frozen=True)
class GroupFit:
    """The outcome of one group's training: a model, or the reason there is none.

    Parameters
    ----------
    model
        Refitted on every row of the formation window; None when the group could not be trained.
    out_of_fold
        ``pair_id``, ``timestamp``, ``label`` and each candidate's ``probability_<name>`` on rows it was not
        fitted on.
    scores
        One row per candidate model: log loss, Brier score, ROC-AUC, PR-AUC, base rate, rows, over the
        out-of-fold rows.
    reason
        Why there is no model; empty when there is one.
    """

    model: FittedModel | None
    out_of_fold: pd.DataFrame
    scores: pd.DataFrame
    reason: str


BASE_RATE = "base_rate"

SCORE_COLUMNS = ("model", "log_loss", "brier", "roc_auc", "pr_auc", "base_rate", "lift", "n_rows")


def check_gap(params: ModellingParams, labels: LabelParams) -> None:
    """The embargo must cover the label's horizon."""
    if params.gap < labels.horizon:
        raise ParameterError(
            f"gap is {params.gap} bars, expected at least the label horizon of {labels.horizon} bars",
            where="modelling.gap",
            fix=f"--params modelling.gap={labels.horizon}",
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
    skill there is no model either.

    Look-ahead: uses ``rows`` only, which the caller has cut at the formation end; training rows of each split are
    purged by label end.

    Parameters
    ----------
    rows
        Output of ``formation_rows``.
    feature_names
        Columns to fit on.
    params
        Candidates, splits, gap, seed.
    """
    nothing = (
        pd.DataFrame(columns=["pair_id", "timestamp", "label"]),
        pd.DataFrame(columns=list(SCORE_COLUMNS)),
    )
    if len(rows) < params.min_events:
        return GroupFit(None, *nothing, f"{len(rows)} labelled rows, {params.min_events} needed")
    usable = np.isfinite(rows[list(feature_names)].to_numpy(dtype=np.float64)).all(axis=1)
    rows = rows.loc[usable]
    X = rows[list(feature_names)].to_numpy(dtype=np.float64)
    y = rows["label"].to_numpy(dtype=np.int64)
    if len(rows) < params.min_events:
        return GroupFit(None, *nothing, f"{len(rows)} rows with all features, {params.min_events} needed")
    if y.min() == y.max():
        return GroupFit(None, *nothing, f"all {len(y)} labels are {y[0]}")
    splits = _usable_splits(rows, X, y, params)
    if not splits:
        return GroupFit(None, *nothing, "no split leaves both classes to train on after purging")
    tested = np.concatenate([test for _, test in splits])
    out_of_fold = pd.DataFrame(
        {"pair_id": rows["pair_id"].to_numpy()[tested], "timestamp": rows.index[tested], "label": y[tested]}
    )
    given: dict[str, list[FloatArray]] = {BASE_RATE: [np.full(len(test), y[train].mean()) for train, test in splits]}
    for name in params.models:
        given[name] = [
            estimators.fit(name, X[train], y[train], feature_names=feature_names, seed=params.seed).predict(X[test])
            for train, test in splits
        ]
        out_of_fold[f"probability_{name}"] = np.concatenate(given[name])
    scores = [score(name, y[tested], np.concatenate(parts)) for name, parts in given.items()]
    table = pd.DataFrame(scores, columns=list(SCORE_COLUMNS))
    loss = dict(zip(table["model"], table["log_loss"], strict=True))
    area = dict(zip(table["model"], table["roc_auc"], strict=True))
    skilled = [
        name
        for name in params.models
        if loss[name] < loss[BASE_RATE]
        and area[name] > 0.5
        and _splits_won(given[name], given[BASE_RATE], y, splits) > len(splits) / 2
    ]
    if not skilled:
        return GroupFit(None, out_of_fold, table, "no candidate beats the base rate out of fold")
    best = min(skilled, key=loss.__getitem__)
    latest = slice(None) if params.max_train_size is None else slice(-params.max_train_size, None)
    model = estimators.fit(best, X[latest], y[latest], feature_names=feature_names, seed=params.seed)
    return GroupFit(model, out_of_fold, table, "")


def _splits_won(
    given: list[FloatArray], base: list[FloatArray], y: IntArray, splits: list[tuple[IntArray, IntArray]]
) -> int:
    """Splits in which a candidate's log loss is below the base rate's."""
    from sklearn.metrics import log_loss

    return sum(
        log_loss(y[test], mine, labels=[0, 1]) < log_loss(y[test], theirs, labels=[0, 1])
        for (_, test), mine, theirs in zip(splits, given, base, strict=True)
    )


def _usable_splits(
    rows: pd.DataFrame, X: FloatArray, y: IntArray, params: ModellingParams
) -> list[tuple[IntArray, IntArray]]:
    if rows.index.nunique() <= params.n_splits:
        return []
    splitter = PurgedTimeSeriesSplit(params.n_splits, params.gap, params.max_train_size)
    frame = pd.DataFrame(X, index=rows.index)
    return [
        (train, test)
        for train, test in splitter.split(frame, label_end=pd.DatetimeIndex(rows["label_end"]))
        if len(test) and len(train) and y[train].min() != y[train].max()
    ]


def score(name: str, y: IntArray, probability: FloatArray) -> dict[str, float | str]:
    """Scores of probabilities against labels; ranking scores are NaN where only one class is present."""
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    base = float(y.mean()) if len(y) else float("nan")
    both = len(y) > 0 and y.min() != y.max()
    precision = float(average_precision_score(y, probability)) if both else float("nan")
    return {
        "model": name,
        "log_loss": float(log_loss(y, probability, labels=[0, 1])) if len(y) else float("nan"),
        "brier": float(brier_score_loss(y, probability)) if len(y) else float("nan"),
        "roc_auc": float(roc_auc_score(y, probability)) if both else float("nan"),
        "pr_auc": precision,
        "base_rate": base,
        "lift": precision / base if both else float("nan"),
        "n_rows": float(len(y)),
    }


def predict(model: FittedModel, features: pd.DataFrame) -> pd.Series:
    """Probability on the rows where every input is finite; NaN on the others.

    Look-ahead: that of the features.
    """
    X = features[list(model.feature_names)].to_numpy(dtype=np.float64)
    finite = np.isfinite(X).all(axis=1)
    out = np.full(len(X), np.nan)
    out[finite] = model.predict(X[finite])
    return pd.Series(out, index=features.index, name="probability")
