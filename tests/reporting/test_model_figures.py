"""Figures of models: what is drawn, and that nothing is drawn of nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mntrading.core import evaluation
from mntrading.reporting import model_figures


@pytest.fixture
def told() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = rng.random(5000)
    return (rng.random(5000) < p).astype(np.int64), p


def test_a_calibrated_model_lies_on_the_diagonal(told):
    bins = pd.DataFrame(evaluation.reliability(*told, 10))
    figure = model_figures.calibration_figure({"out <of> sample": bins, "nothing": bins.head(0)})
    _, drawn = figure.data
    assert drawn.name == "out &lt;of&gt; sample"
    np.testing.assert_allclose(drawn.x, drawn.y, atol=0.06)
    assert max(drawn.marker.size) == 18


def test_ranking_curves_run_from_corner_to_corner(told):
    curves = evaluation.curves(*told, 40)
    roc = pd.DataFrame(curves["roc"], columns=["false_positive", "true_positive"])
    _, drawn = model_figures.roc_figure({"a": roc}).data
    assert (drawn.x[0], drawn.y[0], drawn.x[-1], drawn.y[-1]) == (0, 0, 1, 1)
    assert len(drawn.x) <= 40
    points = pd.DataFrame(curves["precision_recall"], columns=["recall", "precision"])
    (drawn,) = model_figures.precision_recall_figure({"a": points, "b": points.head(0)}, 0.5).data
    assert drawn.x[0] == 0
    assert drawn.x[-1] == 1
    assert drawn.y[-1] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("measured", [True, False])
def test_the_most_important_feature_is_on_top(measured):
    table = pd.DataFrame({"feature": list("abc"), "gain": [0.2, 0.5, 0.3], "permutation": [0.03, 0.01, 0.02],
                          "permutation_std": [0.01] * 3})  # fmt: skip
    if not measured:
        table[["permutation", "permutation_std"]] = np.nan
    (bar,) = model_figures.importance_figure(table, n_features=2).data
    assert bar.y == (("c", "a") if measured else ("c", "b"))
