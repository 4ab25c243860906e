"""The distance to the training rows against its textbook form, and what counts as novel."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from mntrading.core.novelty import Novelty, fit_novelty, shrinkage
from mntrading.datasets.storage import compact_json


def rows(n: int = 3000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 1))
    return np.hstack([common + 0.3 * rng.normal(size=(n, 3)), 5 + 2 * rng.normal(size=(n, 2)), np.full((n, 1), 7.0)])


def test_the_distance_is_mahalanobis_of_the_shrunk_correlation():
    X = rows()
    gate = fit_novelty(X, n_independent=500.0)
    scale = np.append(X[:, :5].std(axis=0), 1.0)
    Z = (X - X.mean(axis=0)) / scale
    matrix = Z.T @ Z / len(Z)
    weight = shrinkage(matrix, float((((Z**2).sum(axis=1)) ** 2).mean()), 500.0)
    inverse = np.linalg.inv((1 - weight) * matrix + weight * np.eye(6))
    expected = np.sqrt(np.einsum("ij,jk,ik->i", Z, inverse, Z) / 6)
    np.testing.assert_allclose(gate.distance(X), expected, rtol=1e-9)


def test_independent_rows_are_shrunk_as_ledoit_and_wolf_say():
    X = rows()[:, :5]
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    matrix = Z.T @ Z / len(Z)
    mine = shrinkage(matrix, float((((Z**2).sum(axis=1)) ** 2).mean()), float(len(Z)))
    assert mine == pytest.approx(LedoitWolf(assume_centered=True).fit(Z).shrinkage_, rel=1e-9)


def test_fewer_independent_rows_shrink_more_up_to_the_identity():
    X = rows()
    told = [fit_novelty(X, n_independent=n).distance(X + 1.0) for n in (3000.0, 50.0, 1.0)]
    along = (X + 1.0 - X.mean(axis=0)) / np.append(X[:, :5].std(axis=0), 1.0)
    np.testing.assert_allclose(told[2], np.sqrt((along**2).mean(axis=1)), rtol=1e-9)
    assert told[0].mean() != pytest.approx(told[1].mean(), rel=1e-3)


def test_what_breaks_the_correlation_is_further_off_than_what_is_merely_large():
    gate = fit_novelty(rows(), n_independent=3000.0)
    typical = np.array([[0.0, 0.0, 0.0, 5.0, 5.0, 7.0]])
    large = typical + np.array([1.5, 1.5, 1.5, 0, 0, 0])
    torn = typical + np.array([1.5, -1.5, 0.0, 0, 0, 0])
    assert gate.distance(typical)[0] < gate.distance(large)[0] < gate.distance(torn)[0]


def test_a_rows_distance_does_not_depend_on_the_rows_beside_it_or_on_json():
    X = rows()
    gate = fit_novelty(X, n_independent=100.0, limit=2.0, blocks_entry=True)
    whole = gate.distance(X)
    np.testing.assert_array_equal(np.concatenate([gate.distance(X[i : i + 1]) for i in range(100)]), whole[:100])
    again = Novelty.parse(json.loads(compact_json(gate.document())))
    np.testing.assert_array_equal(again.distance(X), whole)
    assert (again.limit, again.blocks_entry) == (2.0, True)
