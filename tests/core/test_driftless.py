"""The chance that a walk without drift reverts, against walks."""

from __future__ import annotations

import numpy as np
import pytest

from mntrading.core.driftless import reversion_chance
from mntrading.core.errors import ParameterError


def chance(z: float, horizon: int = 100, spread_std: float = 5.0) -> float:
    told = reversion_chance(np.array([z]), np.array([spread_std]), np.array([1.0]), revert_z=0.5, horizon=horizon)
    return float(told[0])


@pytest.mark.parametrize("z", [1.5, 2.5, -2.5])
def test_the_chance_is_that_of_walks(z: float) -> None:
    rng = np.random.default_rng(0)
    # one bar of noise is small beside the way to go, so that looking at closes only misses little
    paths = abs(z) * 50.0 + np.cumsum(rng.normal(size=(4000, 4000)), axis=1)
    reverted = (paths <= 0.5 * 50.0).any(axis=1).mean()
    assert chance(z, horizon=4000, spread_std=50.0) == pytest.approx(reverted, abs=0.025)


def test_it_falls_with_the_distance_and_grows_with_time_and_movement() -> None:
    assert chance(3.0) < chance(2.0) < chance(1.0) < chance(0.4) == 1.0
    assert chance(2.0, horizon=50) < chance(2.0, horizon=100)
    assert chance(2.0, spread_std=10.0) < chance(2.0, spread_std=5.0)
    assert chance(2.0) == chance(-2.0)


def test_what_is_not_known_has_no_chance_and_what_does_not_move_never_comes_back() -> None:
    z, level, change = (
        np.array(values) for values in ([2.0, np.nan, 2.0, 0.1, 2.0], [1.0, 1, 1, 1, np.nan], [0.0, 1, np.nan, 0, 1])
    )
    told = reversion_chance(z, level, change, revert_z=0.5, horizon=10)
    assert told[0] == 0.0
    assert told[3] == 1.0
    assert np.isnan(told[[1, 2, 4]]).all()


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(ParameterError, match="horizon is 0"):
        chance(2.0, horizon=0)
