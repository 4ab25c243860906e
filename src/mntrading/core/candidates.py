"""Many candidates on the same days: does the best of them beat cash, and is choosing it more than overfitting?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from mntrading.core import luck, metrics
from mntrading.core.checks import sample_deviation
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.performance import Trials
from mntrading.core.types import FloatArray

_MIN_DAYS: Final = 20


@dataclass(frozen=True)
class CandidateStatistics:
    """What a table of daily returns says of its candidates as a whole; NaN where a figure is not defined.

    Parameters
    ----------
    n_candidates, n_days
        Columns and rows.
    pbo
        Probability of backtest overfitting by combinatorially symmetric cross-validation.
    spa_lower, spa_consistent, spa_upper
        p-values of superior predictive ability against cash: small where the best candidate earns more than the best
        of as many without skill.
    best, best_sharpe
        The candidate of the highest Sharpe ratio, and that ratio per year; None where no candidate has one.
    trials_variance, n_trials
        Variance of the candidates' Sharpe ratios per day, and their number: what a deflated Sharpe ratio is charged.
    block_length
        Mean length of the bootstrap's blocks in days.
    """

    n_candidates: int
    n_days: int
    pbo: float
    spa_lower: float
    spa_consistent: float
    spa_upper: float
    best: str | None
    best_sharpe: float
    trials_variance: float
    n_trials: int
    block_length: float


def candidate_statistics(
    returns: pd.DataFrame, *, n_splits: int, n_boot: int, seed: int, block_length: int | None = None
) -> CandidateStatistics:
    """Overfitting, superior predictive ability and the spread of a set of candidates.

    Superior predictive ability is Hansen's (2005) test with losses of minus the return and cash, which earns nothing,
    as the benchmark. Each candidate is scaled to a deviation of one first, so that the statistic is about Sharpe
    ratios and a candidate that bets more does not count for more; one that never trades has no part in it.

    Look-ahead: none; the figures describe days that are over.

    Parameters
    ----------
    returns
        Daily returns (day × candidate), without missing values. No days or no candidates are valid.
    n_splits
        Blocks of the cross-validation, even.
    n_boot, seed
        Samples of the stationary bootstrap; the same seed gives the same p-values.
    block_length
        Mean length of its blocks in days; None for the mean over candidates of Politis and White's (2004).

    Raises
    ------
    BarDataError
        A return that is not finite.
    ParameterError
        A candidate named twice, or an option out of range.

    References
    ----------
    Hansen, P. R. (2005). A test for superior predictive ability. Journal of Business & Economic Statistics,
    23(4), 365-380.
    """
    if not returns.columns.is_unique:
        raise ParameterError("a candidate is named twice", where="returns")
    if n_boot < 1:
        raise ParameterError(f"n_boot is {n_boot}, expected 1 or more", where="n_boot")
    if block_length is not None and block_length < 1:
        raise ParameterError(f"block_length is {block_length}, expected 1 or more", where="block_length")
    values = returns.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        where = f"{returns.columns[column]} at {returns.index[row]}"
        raise BarDataError(f"return is {values[row, column]}, expected a finite number", where=where)
    sharpes = np.array([metrics.sharpe(column) for column in values.T])
    known = np.flatnonzero(np.isfinite(sharpes))
    best = int(known[sharpes[known].argmax()]) if known.size else None
    trials = Trials.of(values.T)
    p_values, blocks = _superior(values[:, known], n_boot, seed, block_length)
    return CandidateStatistics(
        n_candidates=values.shape[1],
        n_days=values.shape[0],
        pbo=luck.probability_of_backtest_overfitting(values, n_splits=n_splits),
        spa_lower=p_values[0],
        spa_consistent=p_values[1],
        spa_upper=p_values[2],
        best=None if best is None else str(returns.columns[best]),
        best_sharpe=math.nan if best is None else float(sharpes[best]),
        trials_variance=trials.variance,
        n_trials=trials.n_trials,
        block_length=blocks,
    )


def _superior(
    values: FloatArray, n_boot: int, seed: int, block_length: int | None
) -> tuple[tuple[float, float, float], float]:
    """The three p-values against cash and the block length; NaN for too few days or no candidate with variance."""
    n_days, n_candidates = values.shape
    if n_days < _MIN_DAYS or n_candidates == 0:
        return (math.nan, math.nan, math.nan), math.nan
    from arch.bootstrap import SPA, optimal_block_length

    scaled = values / np.array([sample_deviation(column) for column in values.T])
    if block_length is None:
        with np.errstate(all="ignore"):
            lengths = optimal_block_length(scaled)["stationary"].to_numpy(dtype=np.float64)
        usual = float(np.mean(np.where(np.isfinite(lengths), lengths, 1.0)))
        block_length = int(np.clip(math.ceil(usual), 1, n_days))
    test = SPA(np.zeros(n_days), -scaled, block_size=block_length, reps=n_boot, bootstrap="stationary", seed=seed)
    with np.errstate(invalid="ignore"):  # the variance of a column may come out below zero in short samples
        test.compute()
    # the sample itself counts as one of the draws, so that no p-value is zero
    lower, consistent, upper = (
        (float(test.pvalues[name]) * n_boot + 1.0) / (n_boot + 1.0) for name in ("lower", "consistent", "upper")
    )
    return (lower, consistent, upper), float(block_length)
