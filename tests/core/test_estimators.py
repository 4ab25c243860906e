from __future__ import annotations

import numpy as np
import pytest

from mntrading.core import estimators

NAMES = ("a", "b", "c")


def table(n: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).normal(size=(n, 3))
    return X, (X[:, 1] + 0.2 * np.random.default_rng(seed + 1).normal(size=n) > 0).astype(np.int64)


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "lightgbm"])
def test_each_model_learns_what_matters_and_gives_probabilities(name):
    X, y = table()
    model = estimators.fit(name, X, y, feature_names=NAMES, seed=0)
    assert (model.name, model.feature_names) == (name, NAMES)
    probability = model.predict(table(seed=7)[0])
    assert probability.shape == (6000,)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert np.mean((probability > 0.5) == table(seed=7)[1]) > 0.85
    weight = estimators.importances(model)
    assert weight.sum() == pytest.approx(1.0)
    assert weight.argmax() == 1
    assert model.predict(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("name", ["random_forest", "lightgbm"])
def test_the_seed_alone_decides_the_draw(name):
    X, y = table()
    one, again, other = (estimators.fit(name, X, y, feature_names=NAMES, seed=seed).predict(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
