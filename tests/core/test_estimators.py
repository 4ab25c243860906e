"""Every estimator by its name: what it learns, and what its bits depend on."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from made_bars import changed
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mntrading.core import estimators
from mntrading.core.errors import ParameterError

NAMES = ("a", "b", "c")
ALL = [
    "logistic_regression",
    "random_forest",
    "lightgbm",
    *(
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(name) is None, reason=f"the extra {name} is not installed"
            ),
        )
        for name in ("xgboost", "catboost")
    ),
]


def table(n: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).normal(size=(n, 3))
    return X, (X[:, 1] + 0.2 * np.random.default_rng(seed + 1).normal(size=n) > 0).astype(np.int64)


@pytest.fixture
def hyper(params):
    return params.modelling.estimators


@pytest.mark.parametrize("name", ALL)
def test_each_model_learns_what_matters_and_gives_probabilities(name, hyper):
    X, y = table()
    model = estimators.fit(name, X, y, feature_names=NAMES, seed=0, params=hyper)
    assert (model.name, model.feature_names) == (name, NAMES)
    probability = model.predict(table(seed=7)[0])
    assert probability.shape == (6000,)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert np.mean((probability > 0.5) == table(seed=7)[1]) > 0.85
    weight = estimators.importances(model)
    assert weight.sum() == pytest.approx(1.0)
    assert weight.argmax() == 1
    assert model.predict(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("name", [name for name in ALL if name != "logistic_regression"])
def test_the_seed_alone_decides_the_draw(name, hyper):
    X, y = table()
    one, again, other = (
        estimators.fit(name, X, y, feature_names=NAMES, seed=seed, params=hyper).predict(X) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", ALL)
def test_the_bits_do_not_depend_on_the_number_of_threads(name, hyper):
    X = np.random.default_rng(3).normal(size=(20_000, 30))
    y = (X[:, 0] + np.random.default_rng(4).normal(size=20_000) > 0).astype(np.int64)
    names = tuple(f"f{k}" for k in range(30))
    told = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            told.append(estimators.fit(name, X, y, feature_names=names, seed=0, params=hyper).predict(X))
    np.testing.assert_array_equal(*told)


@pytest.mark.parametrize("name", ALL)
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(name, hyper):
    X, y = table(2000)
    model = estimators.fit(name, X, y, feature_names=NAMES, seed=0, params=hyper)
    whole = model.predict(X)
    np.testing.assert_array_equal(np.concatenate([model.predict(X[i : i + 1]) for i in range(200)]), whole[:200])
    np.testing.assert_array_equal(model.predict(X[7:1234]), whole[7:1234])


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
def test_logistic_regression_is_scikit_learns_to_its_tolerance(C, hyper):
    X, y = table(3000)
    weight = np.random.default_rng(5).uniform(0.1, 1.0, 3000)
    chosen = changed(hyper, logistic_regression={"C": C, "max_iter": 100})
    mine = estimators.fit("logistic_regression", X, y, feature_names=NAMES, seed=0, params=chosen, weight=weight)
    balanced = np.where(y == 1, weight / weight[y == 1].mean(), weight / weight[y == 0].mean())
    Z = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(C=C, tol=1e-12, max_iter=10_000).fit(Z, y, sample_weight=balanced)
    np.testing.assert_allclose(mine.estimator[-1].coef_, theirs.coef_, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(mine.predict(X), mine.estimator.predict_proba(X)[:, 1], rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_weights_decide_between_rows_of_one_label_and_leave_the_base_rate_alone(name, hyper):
    rng = np.random.default_rng(8)
    X = rng.normal(size=(4000, 3))
    y = (rng.random(4000) < 0.7).astype(np.int64)
    # rows of label 1 weigh more: left alone, weights would teach a base rate near 0.9
    weight = np.where(y == 1, 1.0, 0.25)
    model = estimators.fit(name, X, y, feature_names=NAMES, seed=0, params=hyper, weight=weight)
    assert model.predict(X).mean() == pytest.approx(y.mean(), abs=0.02)
    # among them, those with a large b: now b speaks for label 1
    tilted = np.where((y == 1) & (X[:, 1] > 0), 4.0, 1.0)
    model = estimators.fit(name, X, y, feature_names=NAMES, seed=0, params=hyper, weight=tilted)
    high = X[:, 1] > 0
    assert model.predict(X[high]).mean() > model.predict(X[~high]).mean() + 0.01


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("logistic_regression", "random_forest")])
def test_rounds_are_fewer_where_more_would_fit_noise(name, hyper):
    fast = {"learning_rate": 0.5, "rounds": 200}
    chosen = changed(hyper, **{name: getattr(hyper, name).model_dump() | fast})
    (X, y), (X_after, y_after) = table(1500, seed=0), table(1500, seed=9)
    noisy = np.random.default_rng(1).permutation(y)
    few = estimators.best_rounds(name, (X, noisy, None), (X_after, y_after, None), seed=0, params=chosen, patience=10)
    many = estimators.best_rounds(name, (X, y, None), (X_after, y_after, None), seed=0, params=chosen, patience=10)
    assert few < many <= 200
    with pytest.raises(ParameterError, match="random_forest does not grow by rounds"):
        estimators.best_rounds("random_forest", (X, y, None), (X, y, None), seed=0, params=hyper, patience=3)


@pytest.mark.parametrize("name", ["xgboost", "catboost"])
def test_a_model_of_a_package_that_is_missing_names_its_extra(name, hyper, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    X, y = table(100)
    with pytest.raises(ParameterError, match=f"{name} is not installed") as caught:
        estimators.fit(name, X, y, feature_names=NAMES, seed=0, params=hyper)
    assert f"'.[{name}]'" in caught.value.fix
