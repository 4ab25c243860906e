"""What a walk without drift would do: how much of a label's predictability is geometry, and no skill."""

from __future__ import annotations

import numpy as np

from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray


def reversion_chance(
    z: FloatArray, spread_std: FloatArray, change_std: FloatArray, *, revert_z: float, horizon: int
) -> FloatArray:
    """Chance that a walk without drift comes from z to within ``revert_z`` of its mean inside ``horizon`` bars.

    By the reflection principle ``2 Φ(-d / (σ √horizon))``, with d the way to go and σ the deviation of one bar's
    change; mean and deviation of the window stand still. Nothing is fitted: a model of ``z_threshold`` labels has found
    something only where it ranks rows better than this.

    Look-ahead: that of its arguments.

    Parameters
    ----------
    z
        Distance of the spread from its mean in deviations, either sign, shape (n,).
    spread_std, change_std
        Deviation of the spread's level and of its one-bar changes, in one unit, shape (n,).
    revert_z, horizon
        As of the labels.

    Returns
    -------
    Probabilities, shape (n,): 1 where z is within ``revert_z`` already, NaN where an argument is.

    Raises
    ------
    ParameterError
        For a horizon below 1.

    References
    ----------
    Feller (1968), An Introduction to Probability Theory and Its Applications, vol. 1, section III.1.
    """
    from scipy.special import ndtr

    if horizon < 1:
        raise ParameterError(f"horizon is {horizon}, expected at least 1 bar")
    way = np.maximum(np.abs(z) - revert_z, 0.0) * spread_std
    reach = change_std * np.sqrt(horizon)
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.where(way > 0, way / reach, 0.0 * (way + reach))
    chance: FloatArray = 2.0 * ndtr(-steps)
    return chance
