"""How a spread reverts: half-life, Hurst exponent, crossings of its mean.

Look-ahead: every figure uses all values given and nothing else; pass the formation window, and only that.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from mntrading.core.checks import finite_series

_MIN_HALF_LIFE_BARS: Final = 3
_MIN_HURST_BARS: Final = 20
_HURST_FIRST_LAG: Final = 2  # bid-ask bounce and ticks weigh most at lag 1
_HURST_LAST_LAG: Final = 100
_HURST_LAGS: Final = 24


def half_life(spread: npt.ArrayLike) -> float:
    """Bars a deviation takes to halve, by exact discretisation of the AR(1) regression.

    Fits ``spread_t - spread_{t-1} = c + λ·spread_{t-1}`` by least squares; the half-life is
    -ln 2 / ln(1 + λ).

    Parameters
    ----------
    spread
        Values (T,), one per bar, T ≥ 3. NaN and infinities are refused.

    Returns
    -------
    float
        Bars. ``inf`` where nothing reverts: λ ≥ 0, a constant spread, or λ ≤ -2 (ever wider swings). 0.0 for
        -2 < λ ≤ -1, where the deviation is gone or has changed sign within one bar, the limit as λ → -1.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        Fewer than 3 values.
    """
    values = finite_series(spread, "spread", at_least=_MIN_HALF_LIFE_BARS)
    level = values[:-1] - values[:-1].mean()
    variation = float(level @ level)
    if variation == 0.0 or np.ptp(values[:-1]) == 0.0:
        return math.inf
    speed = float(level @ np.diff(values)) / variation
    if speed >= 0.0 or speed <= -2.0:
        return math.inf
    return 0.0 if speed <= -1.0 else -math.log(2.0) / math.log1p(speed)


def hurst(spread: npt.ArrayLike) -> float:
    """Hurst exponent from the scaling of the mean square of lagged differences (generalised, q = 2).

    The mean of ``(spread_{t+l} - spread_t)²`` grows as l^(2H): the exponent is half the least-squares
    slope of its logarithm on log l, over at most two dozen lags spaced geometrically from 2 to
    min(100, T // 4). Differences are not demeaned: at the long lags of a short window their mean takes a
    good part of their variance with it.

    Parameters
    ----------
    spread
        Values (T,), one per bar, T ≥ 20. NaN and infinities are refused.

    Returns
    -------
    float
        About 0.5 for a random walk, below for a mean-reverting spread, above for a trending one. NaN
        where some lagged difference is zero throughout (a constant or exactly periodic spread), so that
        no comparison holds.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        Fewer than 20 values.

    References
    ----------
    Di Matteo, T. (2007). Multi-scaling in finance. Quantitative Finance, 7(1), 21-36.

    Gneiting, T., Ševčíková, H., Percival, D. B. (2012). Estimators of fractal dimension: assessing the
    roughness of time series and spatial data. Statistical Science, 27(2), 247-277.
    """
    values = finite_series(spread, "spread", at_least=_MIN_HURST_BARS)
    last = min(_HURST_LAST_LAG, len(values) // 4)
    lags = np.unique(np.rint(np.geomspace(_HURST_FIRST_LAG, last, _HURST_LAGS)).astype(np.int64))
    mean_square = np.empty(len(lags), dtype=np.float64)
    for i, lag in enumerate(lags.tolist()):
        moved = values[lag:] - values[:-lag]
        mean_square[i] = (moved @ moved) / len(moved)
    if not (mean_square > 0.0).all():
        return math.nan
    scale = np.log(lags.astype(np.float64))
    scale -= scale.mean()
    return float(scale @ np.log(mean_square) / (scale @ scale)) / 2.0


def mean_crossings(spread: npt.ArrayLike) -> int:
    """Times the spread passes from one side of its mean to the other; touching the mean is no crossing.

    Parameters
    ----------
    spread
        Values (T,), one per bar. NaN and infinities are refused. Empty and constant spreads have 0 crossings.

    Raises
    ------
    BarDataError
        A value that is not finite.
    """
    values = finite_series(spread, "spread", at_least=0)
    if values.size == 0 or np.ptp(values) == 0.0:
        return 0
    side = np.sign(values - values.mean())
    side = side[side != 0.0]
    return int(np.count_nonzero(side[1:] != side[:-1]))
