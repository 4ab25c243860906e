"""Dickey-Fuller statistics with White's standard errors.

Where volatility comes in clusters, as that of coins does, the ordinary statistic has heavier tails than the tables
know: on hourly GARCH walks of 60 days a p-value of 1e-4 comes twelve times as often as it should. With White's
standard errors it does not. The screen believes the weaker of the two.

Look-ahead: every figure uses all values given and nothing else; pass the formation window, and only that.

References
----------
White, H. (1980). A heteroskedasticity-consistent covariance matrix estimator and a direct test for
heteroskedasticity. Econometrica, 48(4), 817-838.

Demetrescu, M. (2010). On the Dickey-Fuller test with White standard errors. Statistical Papers, 51(1), 11-25.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.residual_tests import dot
from mntrading.core.types import FloatArray

_DEPENDENT: Final = 1e-10  # of a regressor's square, left by those before it


@compiled
def white_t_stat(residual: FloatArray, lag: int) -> float:
    """Statistic of ``d_t = ρ·e_{t-1} + φ_1·d_{t-1} + … + φ_lag·d_{t-lag}`` with White's (HC0) standard error of ρ.

    Parameters
    ----------
    residual
        Residual e of the cointegrating regression (T,), finite.
    lag
        Lagged differences, 0 or more.

    Returns
    -------
    The statistic; NaN where the regression has no row to spare or leaves nothing.
    """
    n_rows = len(residual) - 1 - lag
    if n_rows <= lag + 1:
        return np.nan
    d = residual[1:] - residual[:-1]
    # by Frisch and Waugh: level and difference, both freed of the lagged differences
    gram = np.empty((lag, lag))
    of_level, of_difference = np.empty(lag), np.empty(lag)
    for j in range(lag):
        lagged = d[lag - 1 - j : lag - 1 - j + n_rows]
        for i in range(j + 1):
            gram[i, j] = gram[j, i] = dot(d[lag - 1 - i : lag - 1 - i + n_rows], lagged)
        of_level[j] = dot(residual[lag : lag + n_rows], lagged)
        of_difference[j] = dot(d[lag : lag + n_rows], lagged)
    _solve(gram, of_level, of_difference)
    level, difference = residual[lag : lag + n_rows].copy(), d[lag : lag + n_rows].copy()
    for j in range(lag):
        lagged = d[lag - 1 - j : lag - 1 - j + n_rows]
        level -= of_level[j] * lagged
        difference -= of_difference[j] * lagged
    squares = dot(level, level)
    product = dot(level, difference)
    if squares <= 0.0:
        return np.nan
    noise = level * (difference - product / squares * level)
    variance = dot(noise, noise)
    return product / math.sqrt(variance) if variance > 0.0 else np.nan


@compiled
def _solve(gram: FloatArray, first: FloatArray, second: FloatArray) -> None:
    """Coefficients of two right sides, in their place; a column that depends on those before it gets none."""
    n = len(first)
    for k in range(n):
        own = gram[k, k]
        for j in range(k):
            factor = gram[k, j]
            for i in range(j):
                factor -= gram[k, i] * gram[j, i]
            gram[k, j] = factor / gram[j, j] if gram[j, j] > 0.0 else 0.0
            own -= gram[k, j] * gram[k, j]
        gram[k, k] = math.sqrt(own) if own > _DEPENDENT * gram[k, k] else 0.0
    for side in (first, second):
        for k in range(n):
            value = side[k]
            for j in range(k):
                value -= gram[k, j] * side[j]
            side[k] = value / gram[k, k] if gram[k, k] > 0.0 else 0.0
        for k in range(n - 1, -1, -1):
            value = side[k]
            for j in range(k + 1, n):
                value -= gram[j, k] * side[j]
            side[k] = value / gram[k, k] if gram[k, k] > 0.0 else 0.0
