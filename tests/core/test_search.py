"""The search for hyper-parameters: what a candidate's loss is, and that all of it happens inside the given rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_bars import changed, grid
from sklearn.metrics import log_loss

from mntrading.core import estimators, fitting, search
from mntrading.core.errors import ParameterError
from mntrading.core.fitting import Sample
from mntrading.core.splits import CombinatorialPurgedSplit
from mntrading.params import ModellingParams

FILE = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters_modelling.yml").read_text())["modelling"]
SEARCH = {"trials": 6, "n_groups": 4, "n_test_groups": 2, "space": {"logistic_regression.C": [1e-6, 10.0]}}
PARAMS = ModellingParams.model_validate(
    FILE | {"models": ["logistic_regression", "lightgbm"], "gap": 3, "search": SEARCH}
)


def sample(n: int = 800) -> Sample:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2))
    y = (1.5 * X[:, 0] + rng.normal(size=n) > 0).astype(np.int64)
    end = pd.DatetimeIndex(grid(n + 5)[5:])
    return Sample(X, y, rng.uniform(0.2, 1.0, n), pd.DatetimeIndex(grid(n)), end, ("x", "y"))


def test_a_candidates_losses_are_those_of_whole_paths_of_out_of_fold_rows():
    rows = sample()
    losses = search.path_losses("logistic_regression", rows, PARAMS.estimators, PARAMS)
    splitter = CombinatorialPurgedSplit(4, 2, gap=3)
    told = []
    for train, test in splitter.split(rows.frame(), label_end=rows.label_end):
        inner = rows.take(train)
        model = estimators.fit(
            "logistic_regression", inner.X, inner.y, feature_names=("x", "y"), seed=0, params=PARAMS.estimators,
            weight=inner.weight,
        )  # fmt: skip
        told.append(dict(zip(test.tolist(), model.predict(rows.X[test]), strict=True)))
    assert len(losses) == splitter.n_paths == 3
    block = splitter.blocks(rows.frame())
    for loss, path in zip(losses, splitter.paths(), strict=True):
        probability = [told[path[block[i]]][i] for i in range(len(rows.y))]
        assert loss == pytest.approx(log_loss(rows.y, probability))


def test_every_candidate_counts_as_a_trial():
    assert search.n_trials(PARAMS) == 6 + 1  # LightGBM has nothing to search in this space
    assert search.n_trials(changed(PARAMS, search=SEARCH | {"trials": 0})) == 2


def test_without_optuna_a_search_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ParameterError, match="optuna is not installed") as caught:
        fitting.fit("logistic_regression", sample(), PARAMS)
    assert "'.[optuna]'" in caught.value.fix


def test_a_search_is_never_worse_than_the_configured_values_and_repeats_itself():
    pytest.importorskip("optuna", reason="extra optuna is not installed")
    rows = sample()
    bad = PARAMS.estimators.model_copy(
        update={"logistic_regression": changed(PARAMS.estimators.logistic_regression, C=1e-6)}
    )
    params = PARAMS.model_copy(update={"estimators": bad})
    found = search.best("logistic_regression", rows, params)
    assert found == search.best("logistic_regression", rows, params)
    assert found.logistic_regression.C > 1e-4
    assert found.lightgbm == bad.lightgbm
    losses = [search.path_losses("logistic_regression", rows, chosen, params).mean() for chosen in (found, bad)]
    assert losses[0] < losses[1]
    one = params.model_copy(update={"search": changed(params.search, trials=1)})
    assert search.best("logistic_regression", rows, one) == bad
    assert search.best("lightgbm", rows, params) == bad
