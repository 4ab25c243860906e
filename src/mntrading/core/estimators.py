"""The models by name, and one way to fit and to score each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mntrading.core.types import FloatArray, IntArray
from mntrading.params import ModelName


@dataclass(frozen=True)
class FittedModel:
    """A fitted model with the names of its inputs.

    Parameters
    ----------
    name
        Estimator's name in the parameters.
    kind
        ``lightgbm`` (estimator is a Booster) or ``sklearn``.
    estimator
        The fitted object.
    feature_names
        Columns it was fitted on, in order.
    """

    name: str
    kind: Literal["lightgbm", "sklearn"]
    estimator: Any
    feature_names: tuple[str, ...]

    def predict(self, X: FloatArray) -> FloatArray:
        """Probability of label 1 for each row of X, shape (n,)."""
        if len(X) == 0:
            return np.zeros(0)
        if self.kind == "lightgbm":
            return np.asarray(self.estimator.predict(X, num_threads=1), dtype=np.float64)
        return np.asarray(self.estimator.predict_proba(X)[:, 1], dtype=np.float64)


# Neighbouring rows share most of their history, so tens of thousands of them carry what a few hundred independent
# ones would: every model is held far below what the row count alone would allow.
_LIGHTGBM = {
    "objective": "binary", "learning_rate": 0.02, "num_leaves": 6,
    "feature_fraction": 0.5, "bagging_fraction": 0.3, "bagging_freq": 1, "lambda_l2": 100.0,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip
_LIGHTGBM_ROUNDS = 100


def fit(name: ModelName, X: FloatArray, y: IntArray, *, feature_names: tuple[str, ...], seed: int) -> FittedModel:
    """Fit one model; the same inputs and seed give the same model on any number of threads.

    Parameters
    ----------
    X
        Finite rows, shape (n, len(feature_names)).
    y
        Labels 0 and 1, both present.
    """
    if name == "lightgbm":
        import lightgbm

        data = lightgbm.Dataset(X, label=y, feature_name=list(feature_names))
        sized = {"seed": seed, "min_data_in_leaf": min(500, max(20, len(y) // 20))}
        booster = lightgbm.train(_LIGHTGBM | sized, data, num_boost_round=_LIGHTGBM_ROUNDS)
        return FittedModel(name, "lightgbm", booster, feature_names)
    estimator = _sklearn(name, seed)
    estimator.fit(X, y)
    return FittedModel(name, "sklearn", estimator, feature_names)


def _sklearn(name: ModelName, seed: int) -> Any:
    if name == "logistic_regression":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
    from sklearn.ensemble import RandomForestClassifier

    # neighbouring rows tell nearly the same story: a tree on a fifth of them is faster and no worse
    return RandomForestClassifier(
        n_estimators=100,
        max_depth=8,
        min_samples_leaf=50,
        max_samples=0.2,
        max_features="sqrt",
        n_jobs=1,
        random_state=seed,
    )


def importances(model: FittedModel) -> FloatArray:
    """Importance of each feature, summing to one: gain, impurity decrease, or size of the standardised weight."""
    if model.kind == "lightgbm":
        raw = np.asarray(model.estimator.feature_importance("gain"), dtype=np.float64)
    elif model.name == "logistic_regression":
        raw = np.abs(model.estimator[-1].coef_[0])
    else:
        raw = np.asarray(model.estimator.feature_importances_, dtype=np.float64)
    total = raw.sum()
    return raw / total if total > 0 else raw
