"""Candidates on the same days: noise is told from skill, and degenerate tables are valid."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mntrading.core import metrics
from mntrading.core.candidates import candidate_statistics
from mntrading.core.errors import BarDataError, ParameterError

OPTIONS = {"n_splits": 8, "n_boot": 200, "seed": 0}


def noise(seed: int, *, days: int = 96, candidates: int = 12) -> pd.DataFrame:
    names = [f"c{i:02d}" for i in range(candidates)]
    values = np.random.default_rng(seed).normal(0.0, 0.01, (days, candidates))
    return pd.DataFrame(values, columns=names, index=pd.date_range("2025-01-01", periods=days, tz="UTC"))


def test_noise_is_not_superior_and_choosing_among_it_is_overfitting():
    found = [candidate_statistics(noise(seed), **OPTIONS) for seed in range(30)]
    p = np.array([each.spa_consistent for each in found])
    assert np.mean([each.pbo for each in found]) == pytest.approx(0.5, abs=0.12)
    # p-values of noise are about uniform: few are small, and none piles up at either end
    assert (p <= 0.1).mean() <= 0.3
    assert 0.3 < p.mean() < 0.7
    assert all(each.spa_lower <= each.spa_consistent <= each.spa_upper for each in found)


def test_a_planted_skill_is_superior_and_the_choice_of_it_lasts():
    returns = noise(3)
    returns["c05"] += 0.005
    found = candidate_statistics(returns, **OPTIONS)
    assert found.best == "c05"
    assert found.best_sharpe == metrics.sharpe(returns["c05"])
    assert found.spa_upper < 0.02
    assert found.pbo < 0.1
    assert (found.n_candidates, found.n_trials, found.n_days) == (12, 12, 96)


def test_everyone_losing_is_far_from_superior():
    assert candidate_statistics(noise(1) - 0.004, **OPTIONS).spa_lower > 0.5


def test_how_much_a_candidate_bets_has_no_part_in_it():
    returns = noise(4)
    returns["c02"] += 0.004
    scaled = returns * np.linspace(0.1, 50.0, returns.shape[1])
    one, other = (candidate_statistics(table, **OPTIONS, block_length=2) for table in (returns, scaled))
    for name in ("spa_lower", "spa_consistent", "spa_upper", "pbo", "trials_variance"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9), name


def test_the_same_seed_gives_the_same_and_no_p_value_is_zero():
    returns = noise(5) + 0.05
    found = candidate_statistics(returns, **OPTIONS)
    assert found == candidate_statistics(returns, **OPTIONS)
    assert found.spa_consistent == 1 / 201


def test_blocks_are_longer_where_days_depend_on_each_other():
    steady = noise(6, days=200).rolling(10).mean().dropna()
    assert candidate_statistics(steady, **OPTIONS).block_length > candidate_statistics(noise(6), **OPTIONS).block_length
    assert candidate_statistics(steady, **OPTIONS, block_length=7).block_length == 7.0


def test_a_candidate_that_never_trades_is_a_trial_without_a_ratio():
    returns = noise(7).assign(idle=0.0)
    found, without = (candidate_statistics(table, **OPTIONS) for table in (returns, noise(7)))
    assert found.n_trials == without.n_trials + 1
    assert found.trials_variance == without.trials_variance
    assert found.spa_consistent == without.spa_consistent


@pytest.mark.parametrize(
    "returns", [noise(0).iloc[:0], noise(0)[[]], noise(0).iloc[:5], noise(0) * 0.0], ids=["rows", "columns", "few", "0"]
)
def test_nothing_to_tell_is_a_valid_outcome(returns):
    found = candidate_statistics(returns, **OPTIONS)
    assert (found.n_days, found.n_candidates) == returns.shape
    assert all(math.isnan(value) for value in (found.spa_lower, found.spa_consistent, found.spa_upper))


def test_wrong_tables_and_options_are_refused():
    broken = noise(0)
    broken.iloc[1, 3] = np.nan
    with pytest.raises(BarDataError, match="c03 at 2025-01-02"):
        candidate_statistics(broken, **OPTIONS)
    with pytest.raises(ParameterError, match="named twice"):
        candidate_statistics(pd.concat([noise(0), noise(0)], axis=1), **OPTIONS)
    with pytest.raises(ParameterError, match="n_boot is 0"):
        candidate_statistics(noise(0), n_splits=8, n_boot=0, seed=0)
    with pytest.raises(ParameterError, match="block_length is 0"):
        candidate_statistics(noise(0), **OPTIONS, block_length=0)
