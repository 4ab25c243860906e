"""The screen on made-up universes whose truth is known; ``make placebo`` does it at length."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binomtest

from mntrading.core import mean_reversion
from mntrading.core.multiple_testing import direction_adjusted

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
UNIVERSES = 20  # of each kind, number of symbols, and with a factor or without
UNLIKELY = 0.01

KINDS = ("gaussian", "fat", "clustered")


@pytest.fixture(scope="module")
def placebo() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("placebo")


@pytest.fixture(scope="module")
def null(placebo):
    return placebo.null_cells(UNIVERSES, 0, {"white": placebo.screening_params(adjustment="bh", robust=True)})


@pytest.fixture(scope="module")
def planted(placebo):
    rules = {name: placebo.screening_params(adjustment="bh", robust=name == "white") for name in ("bh", "white")}
    return placebo.planted_universes(10, 0, rules)


def above(hits: int, of: int, bound: float) -> float:
    """How likely so many hits are where the share is the bound."""
    return float(binomtest(hits, of, bound, alternative="greater").pvalue)


def test_a_universe_is_its_seed_and_nothing_else(placebo):
    for make in (placebo.null_universe, placebo.planted_universe):
        one, same, other = (make(30, True, "clustered", seed) for seed in ((1, 2), (1, 2), (1, 3)))
        assert one.log_prices.equals(same.log_prices)
        np.testing.assert_array_equal(one.half_life_hours, same.half_life_hours)
        assert not np.isclose(one.log_prices, other.log_prices).any(axis=0).all()
        assert one.log_prices.shape == (1440, 30)


@pytest.mark.parametrize("kind", KINDS)
def test_increments_have_the_tails_and_the_clusters_they_are_named_for(placebo, kind):
    drawn = placebo.shocks(200, kind, np.random.default_rng(0))[placebo.WARM_UP :]
    squares = drawn**2
    kurtosis = (drawn**4).mean() / squares.mean() ** 2
    clustering = np.mean([np.corrcoef(column[1:], column[:-1])[0, 1] for column in squares.T])
    assert drawn.mean() == pytest.approx(0.0, abs=0.01)
    assert squares.mean() == pytest.approx(1.0, abs=0.1)
    assert (kurtosis > 5.0) == (kind != "gaussian")
    assert (clustering > 0.1) == (kind == "clustered")


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_pairs_of_435_are_planted_and_revert_as_told(placebo, kind):
    told, measured, wandering = [], [], []
    first, second = np.triu_indices(30, 1)
    for number in range(8):
        universe = placebo.planted_universe(30, number % 2 == 1, kind, (0, number))
        assert (universe.planted.sum(), len(universe.planted)) == (20, 435)
        values = universe.log_prices.to_numpy()
        for i, j, half_life in zip(first, second, universe.half_life_hours, strict=True):
            slope, level = np.polyfit(values[:, j], values[:, i], 1)
            found = mean_reversion.half_life(values[:, i] - slope * values[:, j] - level)
            if np.isnan(half_life):
                wandering.append(found)
                continue
            assert 0.5 < slope < 1.7
            told.append(half_life)
            measured.append(found)
    assert 4.0 <= min(told) < max(told) <= 36.0
    assert 0.75 < np.median(np.array(measured) / told) < 1.1  # a regression on 60 days takes spreads for a bit faster
    assert np.median(wandering) > 60.0


def kept(placebo, cells, form="{}"):
    """No bound broken by more than chance."""
    shares = {bound: placebo.Share.over(cells, form.format(method)) for method, bound in placebo.BOUNDS.items()}
    return all(above(share.hits, share.of, bound) > UNLIKELY for bound, share in shares.items())


def test_where_there_is_nothing_multiple_testing_finds_something_as_rarely_as_it_promises(placebo, null):
    cells = [cell for cell in null[0] if cell.increments != "clustered"]
    assert len(cells) == 8
    assert placebo.Share.over(cells, "bh").of == 8 * UNIVERSES
    assert kept(placebo, cells)
    assert not [why for why in placebo.null_broken(cells) if "increments" in why]


def test_where_volatility_clusters_the_promise_is_kept_with_white_s_errors_and_not_without(placebo, null):
    cells = [cell for cell in null[0] if cell.increments == "clustered"]
    assert not kept(placebo, cells)
    assert len(placebo.null_broken(cells)) == 4  # bh and by, over all and of their kind
    assert kept(placebo, cells, "{} white")
    assert kept(placebo, null[0], "{} white")


def test_the_screen_goes_by_the_p_values_of_the_test(placebo):
    params = {robust: placebo.screening_params(adjustment="bh", robust=robust) for robust in (False, True)}
    universe = placebo.planted_universe(30, True, "clustered", (0, 0))
    plain = direction_adjusted(*placebo.p_values(universe))
    p = {robust: placebo.p_of_screen(universe, placebo.screened(universe, params[robust])) for robust in params}
    np.testing.assert_allclose(p[False], plain, rtol=1e-6)
    assert (p[True] >= plain * (1 - 1e-6)).all()
    assert (p[True] > plain * 1.01).any()


def test_the_check_would_see_that_tests_are_not_paid_for(placebo):
    cells = []
    for number in range(UNIVERSES):
        cell = placebo.Cell(30, False, "gaussian")
        both = direction_adjusted(*placebo.p_values(placebo.null_universe(30, False, "gaussian", (0, number))))
        for method in placebo.BOUNDS:
            cell.add(method, int(placebo.significant(both, "none").sum()))
        cells.append(cell)
    for method, bound in placebo.BOUNDS.items():
        share = placebo.Share.over(cells, method)
        assert above(share.hits, share.of, bound) < 1e-6
    assert len(placebo.null_broken(cells)) == 4


def test_the_smaller_p_value_of_two_directions_is_twice_as_common_as_told_and_paying_for_it_mends_that(null):
    _, calibration = null
    for kind in ("gaussian", "fat"):
        for level in (0.05, 0.01):
            assert calibration[kind].share(level) < 1.15 * level
            assert calibration[kind].share(level, paid=False) > 1.4 * level


def test_planted_pairs_are_found_and_little_else(placebo, planted):
    by_way, n_buckets = planted.ways, len(placebo.BUCKETS) - 1
    assert planted.universes == 30
    assert by_way["bh"].planted == 30 * 20
    assert by_way["bh"].power > 0.75
    assert by_way["bh"].fdr < placebo.MAX_FDR
    assert by_way["bonferroni"].power < by_way["by"].power < by_way["bh"].power
    assert by_way["bh white"].power < by_way["bh"].power
    assert by_way["bh"].power_of(0) > 0.98
    assert by_way["bh"].power_of(n_buckets - 1) < 0.5


def test_without_multiple_testing_most_finds_are_false(placebo):
    recovery = placebo.Recovery()
    for number in range(6):
        universe = placebo.planted_universe(30, False, "gaussian", (0, number))
        recovery.add(universe, placebo.significant(direction_adjusted(*placebo.p_values(universe)), "none"))
    done = placebo.Planted(6, {"bh": recovery})
    assert recovery.fdr > 0.3
    assert any("FDR" in why for why in placebo.planted_broken(done))


def test_the_whole_screen_says_where_each_planted_pair_ends(placebo, planted):
    whole = planted.ways["screen bh"]
    assert planted.true_ends.total() == 30 * 20
    assert planted.false_ends.total() == 30 * 415
    assert planted.true_ends["selected"] == whole.found
    assert 0.7 < whole.power <= planted.ways["bh"].power
    assert whole.fdr < 0.02


def test_the_screen_of_null_universes_finds_no_more_than_its_multiple_testing(null):
    for cell in null[0]:
        finds = (cell.finds[way] for way in ("screen white", "bh white", "bh"))
        assert all(a <= b <= c for a, b, c in zip(*finds, strict=True))
