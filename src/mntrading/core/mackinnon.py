"""MacKinnon's response surfaces for the residual-based test of two series.

The figures are those for N = 2 integrated variables: the p-value surfaces of MacKinnon (1994) and the
finite-sample critical values of MacKinnon (2010).

References
----------
MacKinnon, J. G. (1994). Approximate asymptotic distribution functions for unit-root and cointegration
tests. Journal of Business & Economic Statistics, 12(2), 167-176.

MacKinnon, J. G. (2010). Critical values for cointegration tests. Queen's Economics Department Working
Paper 1227.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray

Trend = Literal["n", "c", "ct"]
"""Deterministic terms of the cointegrating regression: none, constant, constant and linear trend."""


@dataclass(frozen=True)
class _Surface:
    """p = Phi(polynomial in tau); coefficients ascend in the power of tau."""

    lowest: float  # p is 0 below
    split: float  # the left-tail polynomial holds up to here
    highest: float  # p is 1 above
    left_tail: tuple[float, float, float]
    rest: tuple[float, float, float, float]


_SURFACES: Final[dict[str, _Surface]] = {
    "n": _Surface(-19.62, -1.53, 1.51, (1.9129, 1.3857, 0.035322), (1.5578, 0.8558, -0.2083, -0.033549)),
    "c": _Surface(-18.86, -2.62, 0.92, (2.92, 1.5012, 0.039796), (2.1945, 0.64695, -0.29198, -0.042377)),
    "ct": _Surface(-21.15, -3.19, 0.63, (3.6646, 1.5419, 0.036448), (2.85, 0.5272, -0.36622, -0.051695)),
}

# rows: 1 %, 5 %, 10 %; columns: powers 0..3 of 1 / n_obs. Without deterministic terms none were published.
_CRITICAL: Final[dict[str, tuple[tuple[float, float, float, float], ...]]] = {
    "c": (
        (-3.89644, -10.9519, -22.527, 0.0),
        (-3.33613, -6.1101, -6.823, 0.0),
        (-3.04445, -4.2412, -2.720, 0.0),
    ),
    "ct": (
        (-4.32762, -15.4387, -35.679, 0.0),
        (-3.78057, -9.5106, -12.074, 0.0),
        (-3.49631, -7.0815, -7.538, 21.892),
    ),
}


def check_trend(trend: str) -> None:
    """Raise ``ParameterError`` when ``trend`` is none of ``n``, ``c``, ``ct``."""
    if trend not in _SURFACES:
        raise ParameterError(f"unknown trend {trend!r}, expected one of {sorted(_SURFACES)}", where="trend")


def mackinnon_p_value(t: npt.ArrayLike, trend: Trend = "c") -> FloatArray:
    """Approximate asymptotic p-value of the Engle-Granger statistic of two series.

    Parameters
    ----------
    t
        Statistics, any shape. ``-inf`` gives 0, ``+inf`` gives 1, NaN stays NaN.
    trend
        Deterministic terms of the cointegrating regression.

    Returns
    -------
    Array of the shape of ``t``, within [0, 1].

    Raises
    ------
    ParameterError
        Unknown ``trend``.

    References
    ----------
    MacKinnon (1994).
    """
    from scipy.special import ndtr

    check_trend(trend)
    surface = _SURFACES[trend]
    tau = np.asarray(t, dtype=np.float64)
    bounded = np.clip(tau, surface.lowest, surface.highest)
    a, b = surface.left_tail, surface.rest
    left = (a[2] * bounded + a[1]) * bounded + a[0]
    rest = ((b[3] * bounded + b[2]) * bounded + b[1]) * bounded + b[0]
    p = np.asarray(ndtr(np.where(bounded <= surface.split, left, rest)), dtype=np.float64)
    p = np.where(tau > surface.highest, 1.0, p)
    return np.where(tau < surface.lowest, 0.0, p)


def mackinnon_critical_values(n_obs: float, trend: Trend = "c") -> FloatArray:
    """Finite-sample critical values of the Engle-Granger statistic of two series.

    Parameters
    ----------
    n_obs
        Observations; the Engle-Granger test takes the number of bars less one. ``inf`` gives the asymptotic
        values.
    trend
        Deterministic terms of the cointegrating regression.

    Returns
    -------
    Array (3,): the 1 %, 5 % and 10 % values. NaN for ``trend="n"``, for which none were published.

    Raises
    ------
    ParameterError
        Unknown ``trend``, or ``n_obs`` not positive.

    References
    ----------
    MacKinnon (2010), tables 2 and 3. The 1 % value for a constant takes the paper's -22.527 / n_obs²;
    statsmodels 0.15 and arch 8.0 print -33.527 there (statsmodels issue 10271).
    """
    check_trend(trend)
    if not n_obs > 0:
        raise ParameterError(f"n_obs is {n_obs}, expected a positive number", where="n_obs")
    if trend not in _CRITICAL:
        return np.full(3, np.nan)
    table = np.asarray(_CRITICAL[trend], dtype=np.float64)
    return np.asarray(table @ (1.0 / n_obs) ** np.arange(4), dtype=np.float64)
