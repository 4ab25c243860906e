"""Search for hyper-parameters by combinatorial purged cross-validation, inside the rows of one fit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mntrading.core import estimators
from mntrading.core.errors import ParameterError
from mntrading.core.splits import CombinatorialPurgedSplit
from mntrading.core.types import FloatArray
from mntrading.params import EstimatorsParams, ModellingParams, ModelName

if TYPE_CHECKING:
    from mntrading.core.fitting import Sample


def n_trials(params: ModellingParams) -> int:
    """Candidates that one group's training tries, for whoever deflates by their number."""
    searched = {name.partition(".")[0] for name in params.search.space}
    return sum(max(params.search.trials, 1) if name in searched else 1 for name in params.models)


def path_losses(name: ModelName, sample: Sample, chosen: EstimatorsParams, params: ModellingParams) -> FloatArray:
    """Log loss of one candidate along each path of the combinatorial splits, shape (n_paths,).

    A split whose training rows are of one class tells the base rate of nothing: one half.
    """
    from sklearn.metrics import log_loss

    splitter = CombinatorialPurgedSplit(params.search.n_groups, params.search.n_test_groups, params.gap)
    frame = sample.frame()
    block = splitter.blocks(frame)
    told = []
    for train, test in splitter.split(frame, label_end=sample.label_end):
        given = np.full(len(sample.y), np.nan)
        inner = sample.take(train)
        if len(np.unique(inner.y)) < 2:
            given[test] = 0.5
        else:
            fitted = estimators.fit(
                name, inner.X, inner.y, feature_names=sample.feature_names, seed=params.seed, params=chosen,
                weight=inner.weight,
            )  # fmt: skip
            given[test] = fitted.predict(sample.X[test])
        told.append(given)
    values = np.array(told)
    return np.array(
        [log_loss(sample.y, values[path[block], np.arange(len(block))], labels=[0, 1]) for path in splitter.paths()]
    )


def best(name: ModelName, sample: Sample, params: ModellingParams) -> EstimatorsParams:
    """Hyper-parameters of least mean log loss over the paths; the configured ones are the first trial.

    Look-ahead: inside ``sample`` only; training rows may lie after test rows there, for the choice alone.

    Raises
    ------
    ParameterError
        When optuna is not installed.
    """
    space = {key.partition(".")[2]: span for key, span in params.search.space.items() if key.startswith(f"{name}.")}
    if not space or sample.index.nunique() < params.search.n_groups:
        return params.estimators
    optuna = _optuna()
    block = getattr(params.estimators, name)

    def with_values(values: dict[str, Any]) -> EstimatorsParams:
        changed = type(block).model_validate(block.model_dump() | values)
        return params.estimators.model_copy(update={name: changed})

    def objective(trial: Any) -> float:
        values = {
            field: trial.suggest_int(field, int(low), int(high), log=True)
            if isinstance(getattr(block, field), int)
            else trial.suggest_float(field, low, high, log=True)
            for field, (low, high) in space.items()
        }
        return float(path_losses(name, sample, with_values(values), params).mean())

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=params.seed))
    configured = {field: getattr(block, field) for field in space}
    if all(isinstance(value, int | float) and low <= value <= high for value, (low, high) in
           zip(configured.values(), space.values(), strict=True)):  # fmt: skip
        study.enqueue_trial(configured)
    study.optimize(objective, n_trials=params.search.trials)
    return with_values(study.best_params)


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ParameterError(
            "optuna is not installed",
            where="modelling.search.trials",
            fix="uv pip install --editable '.[optuna]', or --params modelling.search.trials=0",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
