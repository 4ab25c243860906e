"""Adjusted p-values: the published example, and the definitions as properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from mntrading.core.errors import ParameterError
from mntrading.core.multiple_testing import METHODS, adjust, direction_adjusted

BH_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
    0.7590, 1.0,
]  # fmt: skip
PROBABILITIES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40)


@pytest.mark.parametrize(("method", "rejected"), [("bh", 4), ("by", 3), ("bonferroni", 3), ("none", 9)])
def test_example_of_benjamini_and_hochberg(method, rejected):
    assert int((adjust(BH_1995, method=method) <= 0.05).sum()) == rejected


@pytest.mark.parametrize(("method", "theirs"), [("bh", "fdr_bh"), ("by", "fdr_by"), ("bonferroni", "bonferroni")])
@given(p=PROBABILITIES)
def test_adjusted_values_equal_statsmodels(method, theirs, p):
    np.testing.assert_allclose(adjust(p, method=method), multipletests(p, method=theirs)[1], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("method", METHODS)
@given(p=PROBABILITIES, seed=st.integers(0, 99))
def test_order_of_the_tests_is_immaterial_and_no_value_shrinks(method, p, seed):
    shuffle = np.random.default_rng(seed).permutation(len(p))
    adjusted = adjust(p, method=method)
    np.testing.assert_array_equal(adjust(np.array(p)[shuffle], method=method), adjusted[shuffle])
    assert (adjusted >= np.array(p) * (1 - 1e-12)).all()
    assert (adjusted <= 1.0).all()


def test_hand_computed_step_up():
    np.testing.assert_allclose(adjust([0.04, 0.01, 0.03], method="bh"), [0.04, 0.03, 0.04], rtol=1e-14)
    by = np.array([0.04, 0.03, 0.04]) * (1 + 1 / 2 + 1 / 3)
    np.testing.assert_allclose(adjust([0.04, 0.01, 0.03], method="by"), by, rtol=1e-14)
    np.testing.assert_allclose(adjust([0.04, 0.01, 0.5], method="bonferroni"), [0.12, 0.03, 1.0], rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_shape_is_kept_and_no_tests_give_no_values(method):
    assert adjust(np.full((2, 3), 0.5), method=method).shape == (2, 3)
    assert adjust([], method=method).shape == (0,)


def test_input_is_not_changed():
    p = np.array([0.3, 0.1, 0.2])
    for method in METHODS:
        adjust(p, method=method)[:] = 7.0
    np.testing.assert_array_equal(p, [0.3, 0.1, 0.2])


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1, np.inf])
def test_value_that_is_no_probability_is_refused(wrong):
    with pytest.raises(ParameterError, match="number 1"):
        adjust([0.5, wrong], method="none")
    with pytest.raises(ParameterError, match="p-value"):
        direction_adjusted([0.5, 0.5], [0.5, wrong])


def test_unknown_method_is_refused():
    with pytest.raises(ParameterError, match="holm"):
        adjust([0.5], method="holm")


def test_better_direction_is_paid_for_twice_and_capped_at_one():
    np.testing.assert_allclose(
        direction_adjusted([0.01, 0.9, 0.6, 0.0], [0.20, 0.02, 0.7, 0.3]), [0.02, 0.04, 1.0, 0.0]
    )
    assert float(direction_adjusted(0.01, 0.5)) == pytest.approx(0.02)
