"""Calibration and thresholds: by hand, out of fold, and without turning the order round."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mntrading.core.calibration import Calibration, calibrate_splits, fit_calibration
from mntrading.core.evaluation import score
from mntrading.core.thresholds import choose_threshold
from mntrading.datasets.storage import compact_json
from mntrading.params import ThresholdParams


def overconfident(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logit is twice what it should be."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.5, 1.0, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return 1 / (1 + np.exp(-2 * logit)), y


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_overconfidence_is_taken_back(kind):
    p, y = overconfident(20_000)
    other, other_y = overconfident(20_000, seed=1)
    corrected = fit_calibration(kind, p, y, n_independent=20_000)(other)
    assert score("", other_y, other)["ece"] > 0.06
    assert score("", other_y, corrected)["ece"] < 0.015
    assert score("", other_y, corrected)["log_loss"] < score("", other_y, other)["log_loss"]


def test_a_sigmoid_moves_as_far_as_independent_labels_can_say():
    p, y = overconfident(20_000)
    slopes = [fit_calibration("sigmoid", p, y, n_independent=n).slope for n in (1, 100, 20_000)]
    assert slopes[0] == pytest.approx(1.0, abs=0.05)
    assert slopes[0] > slopes[1] > slopes[2]
    assert slopes[2] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_a_correction_never_turns_the_order_round(kind):
    p, y = overconfident(5000)
    backwards = fit_calibration(kind, 1 - p, y, n_independent=5000)
    assert (np.diff(backwards(np.linspace(0.001, 0.999, 500))) >= 0).all()


def test_nothing_is_corrected_by_few_rows_or_one_class():
    p, y = overconfident(5000)
    for kind in ("none", "sigmoid", "isotonic"):
        assert fit_calibration(kind, p[:99], y[:99], n_independent=99) == Calibration()
        assert fit_calibration(kind, p, np.ones(5000, dtype=np.int64), n_independent=99) == Calibration()
    assert fit_calibration("none", p, y, n_independent=5000) == Calibration()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(100, 500), kind=st.sampled_from(["sigmoid", "isotonic"]))
def test_corrected_probabilities_stay_inside_their_bounds_and_come_back_from_json(seed, n, kind):
    p, y = overconfident(n, seed)
    fitted = fit_calibration(kind, p, y, n_independent=n / 10)
    out = fitted(np.array([0.0, 1e-9, 0.3, 1.0]))
    assert ((out > 0) & (out < 1)).all() or fitted == Calibration()
    again = Calibration.parse(json.loads(compact_json(fitted.document())))
    np.testing.assert_array_equal(again(p), fitted(p))
    np.testing.assert_array_equal(np.concatenate([fitted(p[i : i + 1]) for i in range(50)]), fitted(p)[:50])


def test_a_split_is_corrected_by_rows_of_earlier_splits_that_it_may_train_on_and_by_no_other():
    p, y = overconfident(4000)
    rows = np.arange(4000)
    splits = [(rows[: start - 50], rows[start : start + 1000]) for start in (1000, 2000, 3000)]
    raw = [p[test] for _, test in splits]
    ones = np.full(4000, 0.1)
    out = calibrate_splits("sigmoid", raw, y, splits, uniqueness=ones)
    np.testing.assert_array_equal(out[0], raw[0])
    expected = fit_calibration("sigmoid", p[1000:2950], y[1000:2950], n_independent=ones[1000:2950].sum())
    np.testing.assert_array_equal(out[2], expected(raw[2]))
    # labels of a split's own rows, of later ones and of rows purged before it change nothing
    for spoiled in (slice(1950, 2000), slice(2000, 3000), slice(3000, 4000)):
        other = y.copy()
        other[spoiled] = 1 - other[spoiled]
        np.testing.assert_array_equal(calibrate_splits("sigmoid", raw, other, splits, uniqueness=ones)[1], out[1])


# --- thresholds

RULE = ThresholdParams(choose="expected_value", min_share=0.25, margin=0.1, precision=0.7, beta=1.0)
P = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
Y = np.array([1, 1, 0, 1, 0, 0, 1, 0])
SIZE = np.array([0.2, 0.4, -0.3, 0.9, -0.2, -0.5, 0.1, -1.0])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 0.6),  # .1 + .3 - .4 + .8 = .8, the greatest sum
        ({"margin": 0.8}, 0.8),  # all sums fall: the fewest rows allowed
        ({"margin": 0.0, "min_share": 1.0}, 0.2),
        ({"choose": "precision"}, 0.6),  # 3 of 4
        ({"choose": "precision", "precision": 1.0}, 0.8),
        ({"choose": "precision", "precision": 0.5}, 0.2),
        ({"choose": "precision", "precision": 0.9, "min_share": 0.3}, 0.6),  # none reaches it: the best share
        ({"choose": "f_beta"}, 0.6),  # F = 6/8, the greatest
        ({"choose": "f_beta", "beta": 5.0}, 0.3),
        ({"choose": "fixed"}, None),
    ],
)
def test_thresholds_by_hand(change, expected):
    rule = ThresholdParams.model_validate(RULE.model_dump() | change)
    order = np.random.default_rng(0).permutation(8)
    assert choose_threshold(P[order], Y[order], SIZE[order], rule) == expected


def test_equal_probabilities_are_kept_or_left_together():
    rule = ThresholdParams.model_validate(RULE.model_dump() | {"min_share": 0.01})
    told = np.array([0.9, 0.5, 0.5, 0.1])
    assert choose_threshold(told, Y[:4], np.array([0.2, 2.0, -5.0, 0.0]), rule) == 0.9
    assert choose_threshold(told, Y[:4], np.array([0.2, 5.0, -2.0, 0.0]), rule) == 0.5


def test_without_sizes_or_rows_the_fixed_threshold_holds():
    assert choose_threshold(P, Y, None, RULE) is None
    assert choose_threshold(P[:0], Y[:0], SIZE[:0], RULE) is None
