"""One fit from rows to estimator: hyper-parameters, rounds and weights, all from the rows it is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core import estimators, search
from mntrading.core.estimators import FittedModel
from mntrading.core.splits import latest_block
from mntrading.core.types import FloatArray, IntArray
from mntrading.params import EstimatorsParams, ModellingParams, ModelName


@dataclass(frozen=True)
class Sample:
    """Labelled rows, aligned, shape (n,) each: features (n, d), labels, weights or None, and the labels' spans."""

    X: FloatArray
    y: IntArray
    weight: FloatArray | None
    index: pd.DatetimeIndex
    label_end: pd.DatetimeIndex
    feature_names: tuple[str, ...]

    def take(self, rows: IntArray | slice) -> Sample:
        """Some of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        return Sample(self.X[rows], self.y[rows], weight, self.index[rows], self.label_end[rows], self.feature_names)

    def frame(self) -> pd.DataFrame:
        """The rows' times, as a splitter takes them."""
        return pd.DataFrame(index=self.index)


def fit(name: ModelName, sample: Sample, params: ModellingParams) -> FittedModel:
    """Fit one model by the whole recipe: search, early stopping, weights.

    Look-ahead: everything is chosen inside ``sample``; what the recipe is worth shows on rows outside it.

    Parameters
    ----------
    name
        The model.
    sample
        Training rows, both labels present.
    params
        The recipe.
    """
    chosen = params.estimators
    if params.search.trials:
        chosen = search.best(name, sample, params)
    return estimators.fit(
        name, sample.X, sample.y, feature_names=sample.feature_names, seed=params.seed, params=chosen,
        weight=sample.weight, rounds=_rounds(name, sample, chosen, params),
    )  # fmt: skip


def _rounds(name: ModelName, sample: Sample, chosen: EstimatorsParams, params: ModellingParams) -> int | None:
    """Rounds by the latest block of the rows; None, so all of them, where it can't tell."""
    stopping = params.early_stopping
    if stopping.patience is None or name not in estimators.BOOSTERS:
        return None
    before, after = latest_block(sample.frame(), stopping.validation_share, params.gap, label_end=sample.label_end)
    inner, held_out = sample.take(before), sample.take(after)
    if min(len(np.unique(inner.y)), len(np.unique(held_out.y))) < 2:
        return None
    return estimators.best_rounds(
        name, (inner.X, inner.y, inner.weight), (held_out.X, held_out.y, held_out.weight),
        seed=params.seed, params=chosen, patience=stopping.patience,
    )  # fmt: skip
