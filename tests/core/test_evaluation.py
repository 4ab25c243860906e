"""Scores and descriptions of models, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import auc, log_loss

from mntrading.core import evaluation

Y = np.array([0, 0, 1, 1, 1, 0, 1, 0])
P = np.array([0.05, 0.15, 0.15, 0.95, 1.0, 0.45, 0.45, 0.45])


def test_bins_by_hand():
    bins = evaluation.reliability(Y, P, 10)
    assert [(row["lower"], row["n_rows"], row["share"]) for row in bins] == [
        (0.0, 1, 0.0), (0.1, 2, 0.5), (0.4, 3, pytest.approx(1 / 3)), (0.9, 2, 1.0),
    ]  # fmt: skip
    assert [row["probability"] for row in bins] == pytest.approx([0.05, 0.15, 0.45, 0.975])
    by_hand = (1 * 0.05 + 2 * 0.35 + 3 * (0.45 - 1 / 3) + 2 * 0.025) / 8
    assert evaluation.calibration_error(bins) == pytest.approx(by_hand)
    assert np.isnan(evaluation.calibration_error([]))


def test_a_thinned_curve_keeps_its_ends_and_its_area():
    rng = np.random.default_rng(0)
    p = rng.random(5000)
    y = (rng.random(5000) < p).astype(np.int64)
    whole = np.array(evaluation.curves(y, p, 10**6)["roc"])
    thin = np.array(evaluation.curves(y, p, 60)["roc"])
    assert len(thin) <= 60 < len(whole)
    assert thin[0].tolist() == [0, 0]
    assert thin[-1].tolist() == [1, 1]
    assert auc(*thin.T) == pytest.approx(auc(*whole.T), abs=0.005)
    assert evaluation.curves(np.ones(5, dtype=np.int64), p[:5], 10) == {"roc": [], "precision_recall": []}


def test_lags_of_one_feature_are_one_group():
    names = ("z", "z_lag_1", "z_lag_2", "lag_x", "a_lag_b")
    assert evaluation.feature_groups(names, group_lags=True) == {
        "z": [0],
        "z_lags": [1, 2],
        "lag_x": [3],
        "a_lag_b": [4],
    }
    assert list(evaluation.feature_groups(names, group_lags=False)) == list(names)


def test_permutation_importance_is_the_rise_of_the_log_loss():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3000, 3))
    y = (rng.random(3000) < 1 / (1 + np.exp(-2 * X[:, 0]))).astype(np.int64)

    def predict(X: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-2 * X[:, 0]))

    groups = {"a": [0], "b": [1], "both": [0, 2]}
    told = evaluation.permutation_importance(predict, X, y, groups, max_rows=3000, seed=0)
    again = evaluation.permutation_importance(predict, X, y, groups, max_rows=3000, seed=0)
    assert told == again
    alone = rng.permutation(3000)
    assert told["a"] == pytest.approx(log_loss(y, predict(X[alone])) - log_loss(y, predict(X)), abs=0.1)
    assert told["both"] == pytest.approx(told["a"], abs=0.1)
    assert told["b"] == 0.0
    few = evaluation.permutation_importance(predict, X, y, groups, max_rows=300, seed=0)
    assert few["a"] == pytest.approx(told["a"], abs=0.3)


def test_rank_correlation_is_spearmans_mean_over_pairs():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(4, 12)).tolist()
    pairs = [spearmanr(rows[i], rows[j]).statistic for i in range(4) for j in range(i)]
    assert evaluation.rank_correlation(rows) == pytest.approx(np.mean(pairs))
    assert np.isnan(evaluation.rank_correlation(rows[:1]))
    assert np.isnan(evaluation.rank_correlation([[1.0, 1.0], [1.0, 2.0]]))
