"""How much of a record of daily returns selection and luck explain.

Sharpe ratios here are **per period**, not annual; NaN and infinities are refused; too few observations, or none, give
NaN and never an error.

References
----------
Bailey, D. H., López de Prado, M. (2012). The Sharpe ratio efficient frontier. Journal of Risk, 15(2), 3-44.

Bailey, D. H., López de Prado, M. (2014). The deflated Sharpe ratio: correcting for selection bias, backtest
overfitting and non-normality. Journal of Portfolio Management, 40(5), 94-107.

Bailey, D. H., Borwein, J., López de Prado, M., Zhu, Q. J. (2017). The probability of backtest
overfitting. Journal of Computational Finance, 20(4), 39-69.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mntrading.core.checks import NO_VARIANCE, sample_deviation
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.types import FloatArray

_SPLITS_AT_ONCE: Final = 1024
_NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class SharpeMoments:
    """What the probabilistic and the deflated Sharpe ratio need of a series of returns, per period."""

    sharpe: float
    n_obs: int
    skew: float
    kurtosis: float


def sharpe_moments(returns: pd.Series) -> SharpeMoments | None:
    """Per-period Sharpe ratio, length, and population skewness and kurtosis; None without variation."""
    values = returns.to_numpy(dtype=np.float64)
    if len(values) < 3:
        return None
    deviation = sample_deviation(values)
    if not deviation > 0.0:
        return None
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return SharpeMoments(
        sharpe=float(values.mean()) / deviation,
        n_obs=len(values),
        skew=float((centred**3).mean()) / variance**1.5,
        kurtosis=float((centred**4).mean()) / variance**2,
    )


def probabilistic_sharpe_ratio(
    sharpe: float, *, n_obs: int, skew: float = 0.0, kurtosis: float = 3.0, benchmark: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds ``benchmark``.

    Parameters
    ----------
    sharpe, benchmark
        Observed and reference Sharpe ratio, both **per period**.
    n_obs
        Returns the ratio was computed from.
    skew, kurtosis
        Third and fourth standardised moments of the returns; a normal distribution has 0 and 3.

    Returns
    -------
    float
        Within [0, 1]. NaN for fewer than two returns, a NaN ratio, or moments no distribution can have.

    References
    ----------
    Bailey and López de Prado (2012).
    """
    spread = _sharpe_spread(sharpe, skew, kurtosis)
    if n_obs < 2 or not spread > 0.0 or math.isnan(benchmark):
        return math.nan
    return _normal_cdf((sharpe - benchmark) * math.sqrt(n_obs - 1.0) / spread)


def expected_max_sharpe(n_trials: int, trials_variance: float) -> float:
    """Expected highest Sharpe ratio among ``n_trials`` independent strategies without skill.

    Parameters
    ----------
    n_trials
        Strategies tried, at least 1. One trial is no selection and gives 0.
    trials_variance
        Variance of their Sharpe ratios; the result has the unit of its root.

    Raises
    ------
    ParameterError
        ``n_trials`` below 1 or ``trials_variance`` negative or not finite.

    References
    ----------
    Bailey and López de Prado (2014).
    """
    if n_trials < 1:
        raise ParameterError(f"n_trials is {n_trials}, expected at least 1", where="n_trials")
    if not (trials_variance >= 0.0 and math.isfinite(trials_variance)):
        raise ParameterError(f"trials_variance is {trials_variance}, expected 0 or more", where="trials_variance")
    if n_trials == 1:
        return 0.0
    first = _NORMAL.inv_cdf(1.0 - 1.0 / n_trials)
    second = _NORMAL.inv_cdf(1.0 - 1.0 / (n_trials * math.e))
    return math.sqrt(trials_variance) * ((1.0 - np.euler_gamma) * first + np.euler_gamma * second)


def deflated_sharpe_ratio(
    sharpe: float,
    *,
    n_obs: int,
    n_trials: int,
    trials_variance: float,
    skew: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Probability that the true Sharpe ratio of the best of ``n_trials`` exceeds what luck alone would show.

    Parameters
    ----------
    sharpe
        Sharpe ratio of the strategy chosen, **per period**.
    n_obs
        Returns it was computed from.
    n_trials
        Strategies tried, the chosen one included.
    trials_variance
        Variance over the trials of their Sharpe ratios per period.
    skew, kurtosis
        Third and fourth standardised moments of the returns.

    Returns
    -------
    float
        Within [0, 1]; NaN as in ``probabilistic_sharpe_ratio``.

    Raises
    ------
    ParameterError
        As ``expected_max_sharpe``.

    References
    ----------
    Bailey and López de Prado (2014).
    """
    benchmark = expected_max_sharpe(n_trials, trials_variance)
    return probabilistic_sharpe_ratio(sharpe, n_obs=n_obs, skew=skew, kurtosis=kurtosis, benchmark=benchmark)


def minimum_track_record_length(
    sharpe: float, *, skew: float = 0.0, kurtosis: float = 3.0, benchmark: float = 0.0, level: float = 0.95
) -> float:
    """Returns needed before ``sharpe`` exceeds ``benchmark`` with confidence ``level``.

    Parameters
    ----------
    sharpe, benchmark
        Observed and reference Sharpe ratio, both **per period**.
    skew, kurtosis
        Third and fourth standardised moments of the returns.
    level
        Confidence, within (0.5, 1).

    Returns
    -------
    float
        Number of periods, not rounded. ``inf`` where ``sharpe`` does not exceed ``benchmark``; NaN for a
        NaN ratio or moments no distribution can have.

    Raises
    ------
    ParameterError
        ``level`` out of range.

    References
    ----------
    Bailey and López de Prado (2012).
    """
    if not 0.5 < level < 1.0:
        raise ParameterError(f"level is {level}, expected within (0.5, 1)", where="level")
    spread = _sharpe_spread(sharpe, skew, kurtosis)
    if not spread > 0.0 or math.isnan(benchmark):
        return math.nan
    if sharpe <= benchmark:
        return math.inf
    return 1.0 + (spread * _NORMAL.inv_cdf(level) / (sharpe - benchmark)) ** 2


def probability_of_backtest_overfitting(returns: npt.ArrayLike, *, n_splits: int = 16) -> float:
    """Share of splits where the candidate best in sample ranks below the median out of sample.

    Combinatorially symmetric cross-validation: time is cut into ``n_splits`` blocks of equal length,
    every half of the blocks is the sample once and its complement the test. Candidates are ranked by
    Sharpe ratio, 0 where a candidate has no variance; ties share their mean rank, and a rank exactly at
    the median counts one half.

    Parameters
    ----------
    returns
        Array (T periods × N candidates) of returns per period. The oldest T mod ``n_splits`` rows are
        left out.
    n_splits
        Number of blocks, even, at least 2; 16 gives 12,870 splits.

    Returns
    -------
    float
        Within [0, 1], about one half where no candidate has skill. NaN for fewer than two candidates, or
        too few rows for two in each half.

    Raises
    ------
    BarDataError
        A return that is not finite.
    ParameterError
        ``n_splits`` odd or below 2, or ``returns`` not two-dimensional.

    References
    ----------
    Bailey, Borwein, López de Prado and Zhu (2017).
    """
    if n_splits < 2 or n_splits % 2:
        raise ParameterError(f"n_splits is {n_splits}, expected an even number, 2 or more", where="n_splits")
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2:
        raise ParameterError(f"shape is {values.shape}, expected time × candidate", where="returns")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise BarDataError(
            f"row {row}, candidate {column} is {values[row, column]}, expected a finite number",
            where="returns",
        )
    n_candidates = values.shape[1]
    block_rows = values.shape[0] // n_splits
    n_half = block_rows * (n_splits // 2)
    if n_candidates < 2 or n_half < 2 or block_rows < 1:
        return math.nan
    blocks = values[values.shape[0] - block_rows * n_splits :].reshape(n_splits, block_rows, n_candidates)
    sums, squares = blocks.sum(axis=1), (blocks**2).sum(axis=1)
    chosen = np.array(list(combinations(range(n_splits), n_splits // 2)), dtype=np.int64)
    below = 0.0
    for start in range(0, len(chosen), _SPLITS_AT_ONCE):
        part = chosen[start : start + _SPLITS_AT_ONCE]
        inside = np.zeros((len(part), n_splits))
        np.put_along_axis(inside, part, 1.0, axis=1)
        best = _ratio(inside @ sums, inside @ squares, n_half).argmax(axis=1)
        outside = _ratio((1.0 - inside) @ sums, (1.0 - inside) @ squares, n_half)
        own = np.take_along_axis(outside, best[:, None], axis=1)
        # twice the mean rank less (N + 1): negative below the median, 0 at it
        position = (outside < own).sum(axis=1) - (outside > own).sum(axis=1)
        below += float(np.count_nonzero(position < 0)) + 0.5 * float(np.count_nonzero(position == 0))
    return below / len(chosen)


def _ratio(sums: FloatArray, squares: FloatArray, n_obs: int) -> FloatArray:
    """Sharpe ratio per period from sums and sums of squares of ``n_obs`` returns; 0 without variance."""
    mean = sums / n_obs
    variance = squares / n_obs - mean**2
    risky = variance > NO_VARIANCE * squares / n_obs
    return np.asarray(np.where(risky, mean / np.sqrt(np.where(risky, variance, 1.0)), 0.0), dtype=np.float64)


def _sharpe_spread(sharpe: float, skew: float, kurtosis: float) -> float:
    """Standard deviation of the estimated ratio times √(T - 1), NaN where its square is not positive."""
    square = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    return math.sqrt(square) if square > 0.0 else math.nan


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))
