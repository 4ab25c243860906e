"""Performance of daily simple returns, and how much of it selection and luck explain.

Conventions, unless a function says otherwise: returns are simple returns per period (0.01 is one per
cent), one per UTC day; a year has 365 periods, as markets never close; NaN and infinities are refused;
too few observations, or none, give NaN and never an error. Sharpe ratios that enter the probabilistic
figures are **per period**, not annual.

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

from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.types import FloatArray

DAYS_PER_YEAR: Final = 365
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_NO_VARIANCE: Final = 1e-12  # standard deviation relative to the largest value: rounding, not risk
_MIN_BOOTSTRAP_OBS: Final = 20
_SPLITS_AT_ONCE: Final = 1024
_NORMAL: Final = NormalDist()


# --- equity ---


def daily_returns(equity: pd.Series) -> pd.Series:
    """Simple returns of the last equity of each UTC day.

    Parameters
    ----------
    equity
        Account value at increasing UTC times, the first one positive. A day without a value has no row;
        the next day's return then covers both.

    Returns
    -------
    Series of float indexed by UTC midnight; the first day is measured from the first equity. Once equity
    is zero or less the account is lost: that day returns -1 and later ones 0. Empty for empty input. Row
    t uses equity of day t and before.

    Raises
    ------
    BarDataError
        Index that is not UTC times increasing, or a value that is not finite.
    ParameterError
        First equity not positive.
    """
    index = equity.index
    if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
        raise BarDataError("index is not of UTC times, expected a DatetimeIndex with tz UTC", where="equity")
    if not (index.is_monotonic_increasing and index.is_unique):
        raise BarDataError("time does not increase from row to row", where="equity")
    values = _finite(equity, "equity")
    if values.size == 0:
        return pd.Series(np.empty(0), index=index, name=equity.name)
    _check_start(values)
    day = index.floor("D")
    last = np.append(np.flatnonzero(day[1:] != day[:-1]), len(values) - 1)
    closes = np.concatenate((values[:1], values[last]))
    alive = np.minimum.accumulate(closes) > 0.0
    before = np.where(alive, closes, 1.0)[:-1]
    returns = np.where(alive[:-1], np.maximum(closes[1:] / before - 1.0, -1.0), 0.0)
    return pd.Series(returns, index=day[last], name=equity.name)


def drawdown(equity: pd.Series | npt.ArrayLike) -> pd.Series:
    """Fraction of its highest value so far that equity has lost, 0 at a peak, positive below.

    Parameters
    ----------
    equity
        Account values in time order, the first one positive.

    Returns
    -------
    Series of the length and index of ``equity``; row t uses equity of t and before.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        First equity not positive.
    """
    values = _finite(equity, "equity")
    index = equity.index if isinstance(equity, pd.Series) else pd.RangeIndex(len(values))
    return pd.Series(_drawdown(values), index=index, name="drawdown")


def max_drawdown(equity: pd.Series | npt.ArrayLike) -> float:
    """Largest ``drawdown`` as a positive fraction; 0 for equity that never falls, NaN for no values.

    Raises as ``drawdown`` does.
    """
    values = _drawdown(_finite(equity, "equity"))
    return float(values.max()) if values.size else math.nan


def drawdown_duration(equity: pd.Series | npt.ArrayLike) -> int:
    """Longest run of periods spent below an earlier peak, ended by recovery or by the end of the data.

    0 for equity that never falls and for no values. Raises as ``drawdown`` does.
    """
    below = _drawdown(_finite(equity, "equity")) > 0.0
    position = np.arange(len(below))
    last_peak = np.maximum.accumulate(np.where(below, -1, position)) if below.size else position
    return int((position - last_peak).max(initial=0))


def _drawdown(equity: FloatArray) -> FloatArray:
    if equity.size == 0:
        return equity
    _check_start(equity)
    return np.asarray(1.0 - equity / np.maximum.accumulate(equity), dtype=np.float64)


# --- returns ---


def sharpe(returns: npt.ArrayLike, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Annualised Sharpe ratio: mean over sample standard deviation, times √``periods_per_year``.

    The risk-free rate is taken as zero. NaN for fewer than two returns or returns without variance.

    Raises
    ------
    BarDataError
        A return that is not finite.
    """
    values = _finite(returns, "returns")
    deviation = _deviation(values)
    if not deviation > 0.0:
        return math.nan
    return float(values.mean()) / deviation * math.sqrt(periods_per_year)


def sortino(returns: npt.ArrayLike, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Annualised Sortino ratio: mean over the root mean square of the negative returns, all periods counted.

    NaN for fewer than two returns or none below zero.

    Raises
    ------
    BarDataError
        A return that is not finite.

    References
    ----------
    Sortino, F. A., Price, L. N. (1994). Performance measurement in a downside risk framework. Journal of
    Investing, 3(3), 59-64.
    """
    values = _finite(returns, "returns")
    if values.size < 2:
        return math.nan
    downside = math.sqrt(float(np.mean(np.minimum(values, 0.0) ** 2)))
    return float(values.mean()) / downside * math.sqrt(periods_per_year) if downside > 0.0 else math.nan


def annual_return(returns: npt.ArrayLike, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Compounded return per year; -1 once a period lost everything, NaN for no returns.

    Raises
    ------
    BarDataError
        A return that is not finite.
    """
    values = _finite(returns, "returns")
    if values.size == 0:
        return math.nan
    if values.min() <= -1.0:
        return -1.0
    with np.errstate(over="ignore"):
        return float(np.expm1(np.log1p(values).sum() * (periods_per_year / values.size)))


def annual_volatility(returns: npt.ArrayLike, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Sample standard deviation of the returns, times √``periods_per_year``; NaN for fewer than two.

    Raises
    ------
    BarDataError
        A return that is not finite.
    """
    return _deviation(_finite(returns, "returns")) * math.sqrt(periods_per_year)


def calmar(returns: npt.ArrayLike, *, periods_per_year: float = DAYS_PER_YEAR) -> float:
    """Compounded return per year over the maximum drawdown of the compounded returns.

    NaN for no returns or where nothing was ever lost.

    Raises
    ------
    BarDataError
        A return that is not finite.
    """
    values = _finite(returns, "returns")
    if values.size == 0:
        return math.nan
    equity = np.cumprod(np.concatenate((np.ones(1), np.maximum(1.0 + values, 0.0))))
    worst = max_drawdown(equity)
    return annual_return(values, periods_per_year=periods_per_year) / worst if worst > 0.0 else math.nan


def monthly_table(returns: pd.Series) -> pd.DataFrame:
    """Compounded returns by calendar month.

    Parameters
    ----------
    returns
        Simple returns indexed by time.

    Returns
    -------
    DataFrame indexed by ``year``, columns Jan..Dec and ``Year``; NaN for a month without returns, which the
    year's figure leaves out. No rows for no returns.

    Raises
    ------
    BarDataError
        Index that is not of times, or a return that is not finite.
    """
    if not isinstance(returns.index, pd.DatetimeIndex):
        raise BarDataError("index is not of times, expected a DatetimeIndex", where="returns")
    growth = 1.0 + _finite(returns, "returns")
    years = returns.index.year.to_numpy(dtype=np.int64)
    months = returns.index.month.to_numpy(dtype=np.int64)
    named, rows = np.unique(years, return_inverse=True)
    table = np.full((len(named), len(MONTHS) + 1), np.nan)
    for row, year in enumerate(named):
        table[row, -1] = np.prod(growth[years == year]) - 1.0
    for row, month in sorted(set(zip(rows.tolist(), months.tolist(), strict=True))):
        table[row, month - 1] = np.prod(growth[(rows == row) & (months == month)]) - 1.0
    return pd.DataFrame(table, index=pd.Index(named, name="year"), columns=[*MONTHS, "Year"])


def sharpe_interval(
    returns: npt.ArrayLike,
    *,
    level: float = 0.95,
    block_length: float | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    periods_per_year: float = DAYS_PER_YEAR,
) -> tuple[float, float]:
    """Percentile interval of the annualised Sharpe ratio by stationary block bootstrap.

    Parameters
    ----------
    returns
        Simple returns per period, in time order.
    level
        Coverage, within (0, 1).
    block_length
        Mean length of the blocks in periods, at least 1; ``None`` for the length of Politis and White (2004).
    n_boot
        Bootstrap samples.
    seed
        The same seed gives the same interval.
    periods_per_year
        Periods the ratio is annualised with.

    Returns
    -------
    (low, high); (NaN, NaN) for fewer than 20 returns or returns without variance.

    Raises
    ------
    BarDataError
        A return that is not finite.
    ParameterError
        ``level``, ``block_length`` or ``n_boot`` out of range.

    References
    ----------
    Politis, D. N., Romano, J. P. (1994). The stationary bootstrap. Journal of the American Statistical
    Association, 89(428), 1303-1313.

    Politis, D. N., White, H. (2004). Automatic block-length selection for the dependent bootstrap.
    Econometric Reviews, 23(1), 53-70.
    """
    if not 0.0 < level < 1.0:
        raise ParameterError(f"level is {level}, expected within (0, 1)", where="level")
    if block_length is not None and not block_length >= 1.0:
        raise ParameterError(f"block_length is {block_length}, expected 1 or more", where="block_length")
    if n_boot < 1:
        raise ParameterError(f"n_boot is {n_boot}, expected 1 or more", where="n_boot")
    values = _finite(returns, "returns")
    if values.size < _MIN_BOOTSTRAP_OBS or not _deviation(values) > 0.0:
        return math.nan, math.nan
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    if block_length is None:
        with np.errstate(all="ignore"):
            block_length = float(optimal_block_length(values)["stationary"].iloc[0])
        block_length = min(max(block_length, 1.0), float(values.size)) if math.isfinite(block_length) else 1.0
    bootstrap = StationaryBootstrap(block_length, values, seed=np.random.default_rng(seed))
    ratios = bootstrap.apply(lambda sample: sharpe(sample, periods_per_year=periods_per_year), n_boot)
    ratios = ratios[np.isfinite(ratios)]
    if ratios.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(ratios, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


# --- selection and luck ---


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
    if len(values) < 3 or not values.std() > 0:
        return None
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return SharpeMoments(
        sharpe=sharpe(returns, periods_per_year=1),
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
    risky = variance > _NO_VARIANCE * squares / n_obs
    return np.asarray(np.where(risky, mean / np.sqrt(np.where(risky, variance, 1.0)), 0.0), dtype=np.float64)


def _sharpe_spread(sharpe: float, skew: float, kurtosis: float) -> float:
    """Standard deviation of the estimated ratio times √(T - 1), NaN where its square is not positive."""
    square = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    return math.sqrt(square) if square > 0.0 else math.nan


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


# --- boundary ---


def _finite(values: pd.Series | npt.ArrayLike, where: str) -> FloatArray:
    """One-dimensional finite values."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ParameterError(f"shape is {array.shape}, expected one value per period", where=where)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        at = values.index[bad[0]] if isinstance(values, pd.Series) else bad[0]
        raise BarDataError(f"value at {at} is {array[bad[0]]}, expected a finite number", where=where)
    return array


def _check_start(equity: FloatArray) -> None:
    if not equity[0] > 0.0:
        raise ParameterError(f"first value is {equity[0]}, expected a positive equity", where="equity")


def _deviation(values: FloatArray) -> float:
    """Sample standard deviation, 0 where it is but rounding, NaN for fewer than two values."""
    if values.size < 2:
        return math.nan
    deviation = float(values.std(ddof=1))
    return deviation if deviation > _NO_VARIANCE * float(np.abs(values).max()) else 0.0
