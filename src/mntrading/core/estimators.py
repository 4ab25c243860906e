"""The models by name, and one way to fit and to score each of them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.errors import ParameterError
from mntrading.core.logistic import ridge_logistic
from mntrading.core.types import FloatArray, IntArray
from mntrading.core.uniqueness import class_balanced
from mntrading.params import EstimatorsParams, ModelName

Kind = Literal["lightgbm", "sklearn", "xgboost", "catboost"]
BOOSTERS = ("lightgbm", "xgboost", "catboost")
"""Models that grow round by round and can be stopped early."""


@dataclass(frozen=True)
class FittedModel:
    """A fitted model with the names of its inputs.

    Parameters
    ----------
    name
        Estimator's name in the parameters.
    kind
        Library it is of: a LightGBM or XGBoost ``Booster``, a ``CatBoost`` model, or a scikit-learn estimator.
    estimator
        The fitted object.
    feature_names
        Columns it was fitted on, in order.
    """

    name: str
    kind: Kind
    estimator: Any
    feature_names: tuple[str, ...]

    def predict(self, X: FloatArray) -> FloatArray:
        """Probability of label 1 for each row of X, shape (n,); a row's bits do not depend on the rows beside it."""
        if len(X) == 0:
            return np.zeros(0)
        if self.kind == "lightgbm":
            return np.asarray(self.estimator.predict(X, num_threads=1), dtype=np.float64)
        if self.kind == "xgboost":
            return np.asarray(self.estimator.inplace_predict(X), dtype=np.float64)
        if self.kind == "catboost":
            given = self.estimator.predict(X, prediction_type="Probability", thread_count=1)
            return np.asarray(given, dtype=np.float64)[:, 1]
        if self.name == "logistic_regression":
            scaler, last = self.estimator[0], self.estimator[-1]
            rows = np.ascontiguousarray(X, dtype=np.float64)
            return _logistic(rows, scaler.mean_, scaler.scale_, last.coef_[0], last.intercept_[0])
        return np.asarray(self.estimator.predict_proba(X)[:, 1], dtype=np.float64)


@compiled
def _logistic(X: FloatArray, mean: FloatArray, scale: FloatArray, weight: FloatArray, intercept: float) -> FloatArray:
    """Row by row: a library product's last bits change with the number of rows, and live asks for one at a time."""
    out = np.empty(X.shape[0])
    for i in range(X.shape[0]):
        total = intercept
        for j in range(X.shape[1]):
            total += (X[i, j] - mean[j]) / scale[j] * weight[j]
        out[i] = 1.0 / (1.0 + np.exp(-total)) if total >= 0 else np.exp(total) / (1.0 + np.exp(total))
    return out


def fit(
    name: ModelName,
    X: FloatArray,
    y: IntArray,
    *,
    feature_names: tuple[str, ...],
    seed: int,
    params: EstimatorsParams,
    weight: FloatArray | None = None,
    rounds: int | None = None,
) -> FittedModel:
    """Fit one model; the same inputs and seed give the same model on any number of threads.

    Parameters
    ----------
    X
        Finite rows, shape (n, len(feature_names)).
    y
        Labels 0 and 1, both present.
    weight
        Positive weights of the rows, shape (n,), scaled here within each class to a mean of one: they decide among
        rows of one label, and neither the base rate nor what penalties mean. None for equal ones.
    rounds
        Rounds of a booster instead of those of ``params``.

    Raises
    ------
    ParameterError
        When the model's package is not installed.
    """
    weight = None if weight is None else class_balanced(weight, y)
    if name == "lightgbm":
        lightgbm = _library("lightgbm")
        data = lightgbm.Dataset(X, label=y, weight=weight, feature_name=list(feature_names))
        booster = lightgbm.train(
            _lightgbm(params, len(y), seed), data, num_boost_round=rounds or params.lightgbm.rounds
        )
        return FittedModel(name, "lightgbm", booster, feature_names)
    if name == "xgboost":
        xgboost = _library("xgboost")
        data = xgboost.DMatrix(X, label=y, weight=weight, nthread=1)
        booster = xgboost.train(_xgboost(params, seed), data, num_boost_round=rounds or params.xgboost.rounds)
        return FittedModel(name, "xgboost", booster, feature_names)
    if name == "catboost":
        catboost = _library("catboost")
        model = catboost.CatBoost(_catboost(params, seed) | {"iterations": rounds or params.catboost.rounds})
        model.fit(catboost.Pool(X, label=y, weight=weight, feature_names=list(feature_names), thread_count=1))
        return FittedModel(name, "catboost", model, feature_names)
    if name == "logistic_regression":
        return FittedModel(name, "sklearn", _logistic_regression(X, y, weight, params), feature_names)
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(**params.random_forest.model_dump(), n_jobs=1, random_state=seed)
    return FittedModel(name, "sklearn", forest.fit(X, y, sample_weight=weight), feature_names)


def best_rounds(
    name: ModelName,
    train: tuple[FloatArray, IntArray, FloatArray | None],
    validation: tuple[FloatArray, IntArray, FloatArray | None],
    *,
    seed: int,
    params: EstimatorsParams,
    patience: int,
) -> int:
    """Rounds of a booster after which the log loss on validation rows is least.

    Look-ahead: the caller has kept the validation rows' labels apart from the training rows'.

    Parameters
    ----------
    train, validation
        Rows, labels and weights (or None) each.
    patience
        Rounds without improvement after which no more are tried; all of ``params`` at most.
    """
    (X, y, weight), (X_after, y_after, weight_after) = train, validation
    weight = None if weight is None else class_balanced(weight, y)
    weight_after = None if weight_after is None else class_balanced(weight_after, y_after)
    if name == "lightgbm":
        lightgbm = _library("lightgbm")
        data = lightgbm.Dataset(X, label=y, weight=weight)
        after = lightgbm.Dataset(X_after, label=y_after, weight=weight_after, reference=data)
        booster = lightgbm.train(
            _lightgbm(params, len(y), seed) | {"metric": "binary_logloss"},
            data, num_boost_round=params.lightgbm.rounds, valid_sets=[after],
            callbacks=[lightgbm.early_stopping(patience, verbose=False)],
        )  # fmt: skip
        return max(1, int(booster.best_iteration))
    if name == "xgboost":
        xgboost = _library("xgboost")
        data = xgboost.DMatrix(X, label=y, weight=weight, nthread=1)
        after = xgboost.DMatrix(X_after, label=y_after, weight=weight_after, nthread=1)
        booster = xgboost.train(
            _xgboost(params, seed) | {"eval_metric": "logloss"}, data, num_boost_round=params.xgboost.rounds,
            evals=[(after, "after")], early_stopping_rounds=patience, verbose_eval=False,
        )  # fmt: skip
        return max(1, int(booster.best_iteration) + 1)
    if name == "catboost":
        catboost = _library("catboost")
        model = catboost.CatBoost(_catboost(params, seed) | {"iterations": params.catboost.rounds})
        model.fit(
            catboost.Pool(X, label=y, weight=weight, thread_count=1),
            eval_set=catboost.Pool(X_after, label=y_after, weight=weight_after, thread_count=1),
            early_stopping_rounds=patience,
        )
        return max(1, int(model.get_best_iteration()) + 1)
    raise ParameterError(f"{name} does not grow by rounds, expected one of {list(BOOSTERS)}")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ParameterError(
            f"{name} is not installed",
            where="modelling.models",
            fix=f"uv pip install --editable '.[{name}]', or leave {name} out of modelling.models",
        ) from error


def _lightgbm(params: EstimatorsParams, n_rows: int, seed: int) -> dict[str, Any]:
    chosen = params.lightgbm
    leaf = int(n_rows * chosen.min_leaf_share)
    return {
        "objective": "binary",
        "learning_rate": chosen.learning_rate,
        "num_leaves": chosen.num_leaves,
        "min_data_in_leaf": min(chosen.max_leaf_rows, max(chosen.min_leaf_rows, leaf)),
        "feature_fraction": chosen.feature_fraction,
        "bagging_fraction": chosen.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": chosen.lambda_l2,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        "seed": seed,
    }


def _xgboost(params: EstimatorsParams, seed: int) -> dict[str, Any]:
    chosen = params.xgboost.model_dump(exclude={"rounds"})
    return chosen | {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "nthread": 1,
        "seed": seed,
        "verbosity": 0,
    }


def _catboost(params: EstimatorsParams, seed: int) -> dict[str, Any]:
    chosen = params.catboost.model_dump(exclude={"rounds"})
    return chosen | {
        "loss_function": "Logloss",
        "bootstrap_type": "Bernoulli",
        "random_seed": seed,
        "thread_count": 1,
        "allow_writing_files": False,
        "logging_level": "Silent",
    }


def _logistic_regression(X: FloatArray, y: IntArray, weight: FloatArray | None, params: EstimatorsParams) -> Any:
    """scikit-learn's own objects, with the coefficients of our solver."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = params.logistic_regression
    scaler, last = StandardScaler(), LogisticRegression(C=chosen.C, max_iter=chosen.max_iter)
    coefficients, intercept, iterations = ridge_logistic(
        scaler.fit_transform(X), y, np.ones(len(y)) if weight is None else weight,
        penalty=1.0 / chosen.C, max_iter=chosen.max_iter,
    )  # fmt: skip
    last.classes_ = np.array([0, 1])
    last.coef_, last.intercept_ = coefficients[np.newaxis], np.array([intercept])
    last.n_iter_, last.n_features_in_ = np.array([iterations], dtype=np.int32), X.shape[1]
    return make_pipeline(scaler, last)


def importances(model: FittedModel) -> FloatArray:
    """Importance of each feature, summing to one: gain, impurity decrease, or size of the standardised weight."""
    if model.kind == "lightgbm":
        raw = np.asarray(model.estimator.feature_importance("gain"), dtype=np.float64)
    elif model.kind == "xgboost":
        given = model.estimator.get_score(importance_type="total_gain")
        raw = np.array([float(given.get(f"f{k}", 0.0)) for k in range(len(model.feature_names))])
    elif model.kind == "catboost":
        raw = np.asarray(model.estimator.get_feature_importance(), dtype=np.float64)
    elif model.name == "logistic_regression":
        raw = np.abs(model.estimator[-1].coef_[0])
    else:
        raw = np.asarray(model.estimator.feature_importances_, dtype=np.float64)
    total = raw.sum()
    return raw / total if total > 0 else raw
