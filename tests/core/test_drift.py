"""Drift and calibration by effective sample sizes: hand-computed, found where it is, quiet where it is not."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.stats import ks_2samp, kstwobign

from mntrading.core.drift import (
    Bins,
    PairReference,
    bins_of,
    compare,
    memory_rows,
    population_stability,
    references,
    reliability,
    smoothed_shares,
)

REFERENCE, NEW = 40 * 288, 14 * 288


def ar(n: int, half_life: float, rng: np.random.Generator) -> np.ndarray:
    """A stationary AR(1) column with unit variance."""
    a = 0.5 ** (1 / half_life)
    run_in = 20 * int(half_life)
    return lfilter([np.sqrt(1 - a * a)], [1, -a], rng.normal(size=n + run_in))[run_in:]


# --- by hand


def test_the_index_is_what_a_hand_makes_of_two_lists_of_shares():
    expected, found = np.array([0.5, 0.3, 0.2]), np.array([0.25, 0.3, 0.45])
    # -0.25 ln(0.5) + 0 + 0.25 ln(2.25)
    assert population_stability(expected, found) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(2.25), rel=1e-12)
    assert population_stability(found, expected) == pytest.approx(population_stability(expected, found), rel=1e-12)
    assert population_stability(expected, expected) == 0.0


def test_half_an_independent_row_is_added_to_each_bin():
    shares = smoothed_shares(np.array([30, 10, 0]), 4.0)
    np.testing.assert_allclose(shares, np.array([3.5, 1.5, 0.5]) / 5.5)


def test_a_column_is_compared_at_the_edges_of_its_reference():
    reference = Bins(np.array([1.0, 2.0]), np.array([50, 30, 20]), 5.0)  # 20 independent rows
    found = compare(reference, np.array([0.5, 1.5, 1.5, 2.0, 3.0] * 10))  # 10 of them: shares 0.2, 0.6, 0.2
    assert (found.n_rows, found.n_independent) == (50, 10.0)
    assert found.ks == pytest.approx(0.3)  # 0.5 against 0.2 at the first edge
    assert found.p_value == pytest.approx(kstwobign.sf(0.3 * np.sqrt(20 * 10 / 30)))
    expected, new = np.array([10.5, 6.5, 4.5]) / 21.5, np.array([2.5, 6.5, 2.5]) / 11.5
    assert found.psi == pytest.approx(np.sum((new - expected) * np.log(new / expected)))


def test_the_distance_at_the_edges_is_close_below_that_of_the_whole_samples():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=4000), rng.normal(0.4, size=4000)
    whole = ks_2samp(a, b).statistic
    assert whole - 0.05 < compare(bins_of(a), b).ks <= whole + 1e-12


def test_no_new_row_tells_nothing_and_a_constant_is_one_row():
    found = compare(bins_of(np.arange(100.0)), np.zeros(0))
    assert np.isnan([found.psi, found.ks, found.p_value]).all()
    constant = bins_of(np.full(50, 2.0))
    assert (constant.counts.tolist(), constant.memory) == ([50, 0], 50.0)


def test_a_value_on_an_edge_counts_below_it():
    assert Bins(np.array([1.0]), np.array([1, 1]), 1.0).count(np.array([1.0, 1.0 + 1e-9])).tolist() == [1, 1]


# --- memory


@pytest.mark.parametrize("half_life", [1, 10, 100])
def test_memory_is_the_autocorrelation_time_or_somewhat_more(half_life):
    a = 0.5 ** (1 / half_life)
    found = [memory_rows(ar(40_000, half_life, np.random.default_rng(seed))) for seed in range(5)]
    assert 0.9 < np.mean(found) / ((1 + a) / (1 - a)) < 1.5


def test_rows_without_memory_are_worth_themselves_and_a_trend_is_worth_a_handful():
    rng = np.random.default_rng(0)
    assert memory_rows(rng.normal(size=5000)) < 2.0
    trend = np.arange(5000.0) + rng.normal(size=5000)
    assert 5000 / memory_rows(trend) < 7.0


# --- how often it is wrong, and whether it sees


def warned(drift, level=0.01):
    return drift.psi > 0.25 and drift.p_value <= level


@pytest.mark.parametrize("half_life", [6, 96, 1000])
def test_a_stationary_column_is_warned_about_no_more_often_than_the_level(half_life):
    rng = np.random.default_rng(half_life)
    by_rows, by_memory = [], []
    for _ in range(100):
        column = ar(REFERENCE + NEW, half_life, rng)
        reference = bins_of(column[:REFERENCE])
        found = compare(reference, column[REFERENCE:])
        by_memory.append(warned(found))
        by_rows.append(kstwobign.sf(found.ks * np.sqrt(REFERENCE * NEW / (REFERENCE + NEW))) <= 0.01)
    assert np.mean(by_memory) <= 0.03  # two standard errors above 0.01
    assert np.mean(by_rows) > 0.3  # a test that counts rows


@pytest.mark.parametrize(("shift", "scale"), [(1.5, 1.0), (0.0, 4.0)])
def test_a_shifted_or_wider_column_is_found(shift, scale):
    rng = np.random.default_rng(5)
    found = []
    for _ in range(20):
        column = ar(REFERENCE + NEW, 24, rng)
        found.append(warned(compare(bins_of(column[:REFERENCE]), shift + scale * column[REFERENCE:])))
    assert np.mean(found) >= 0.8


# --- references


def rows(n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    pair = np.array(["A__B", "C__D"] * (n // 2))
    x = rng.normal(size=n) + 5 * (pair == "C__D")
    return pd.DataFrame({"x": x, "label": rng.integers(0, 2, n), "pair_id": pair})


def test_each_pair_has_a_reference_of_its_own_that_survives_its_json_form():
    given = rows()
    scored = given.iloc[100:500].assign(probability=0.5 + given["x"] / 100)
    made = references(given, ("x",), np.full(len(given), 0.1), scored)
    assert list(made) == ["A__B", "C__D"]
    a, c = (made[pair_id].features["x"].edges.mean() for pair_id in made)
    assert c - a == pytest.approx(5.0, abs=0.3)
    assert made["A__B"].n_independent == pytest.approx(30.0, rel=1e-5)
    assert made["A__B"].scores.counts.sum() == 200
    for one in made.values():
        again = PairReference.parse(json.loads(json.dumps(one.document())))
        assert again.document() == one.document()
    assert len(json.dumps(made["A__B"].document())) < 1000


def test_a_reference_without_sense_is_refused():
    good = bins_of(np.arange(100.0)).document()
    for change in ({"counts": [1, 2]}, {"memory": 0.5}, {"counts": [0] * 10}):
        with pytest.raises(ValueError, match="counts for"):
            Bins.parse(good | change)


# --- calibration


def reference(base_rate=0.5, n_independent=1e9, memory=1.0):
    return PairReference(base_rate, n_independent, memory, {}, None)


def test_calibration_is_what_a_hand_makes_of_four_rows():
    y, p = np.array([1, 0, 1, 1]), np.array([0.8, 0.4, 0.6, 0.2])
    found = reliability(y, p, reference=reference(), unique=4.0)
    assert (found.predicted, found.observed) == pytest.approx((0.5, 0.75))
    assert found.brier == pytest.approx((0.04 + 0.16 + 0.16 + 0.64) / 4)
    assert found.brier_base == pytest.approx(0.25)
    assert found.gain == pytest.approx(0.0)
    assert found.gap_error == pytest.approx(np.sqrt((0.16 + 0.24 + 0.24 + 0.16) / 4 / 4))


def test_labels_are_worth_no_more_than_surprises_were_and_the_training_sample_counts_too():
    y, p = np.array([1, 0, 1, 1] * 25), np.full(100, 0.5)
    plain = reliability(y, p, reference=reference(), unique=20.0)
    slow = reliability(y, p, reference=reference(memory=10.0, n_independent=10.0), unique=20.0)
    assert (plain.n_independent, slow.n_independent) == (20.0, 10.0)
    assert plain.gap_error == pytest.approx(0.5 / np.sqrt(20))
    assert slow.gap_error == pytest.approx(0.5 * np.sqrt(1 / 10 + 1 / 10))


def test_no_complete_label_is_no_figure():
    found = reliability(np.zeros(0, dtype=np.int64), np.zeros(0), reference=reference(), unique=0.0)
    assert found.n_rows == 0
    assert np.isnan(found.gap)
