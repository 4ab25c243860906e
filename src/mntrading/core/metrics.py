"""Performance of daily simple returns.

Conventions, unless a function says otherwise: returns are simple returns per period (0.01 is one per
cent), one per UTC day; a year has 365 periods, as markets never close; NaN and infinities are refused;
too few observations, or none, give NaN and never an error.

What selection and luck explain of them is ``core.luck``, whose public names are found here too.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mntrading.core.checks import NO_VARIANCE, sample_deviation
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.luck import (
    SharpeMoments,
    deflated_sharpe_ratio,
    expected_max_sharpe,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    probability_of_backtest_overfitting,
    sharpe_moments,
)
from mntrading.core.types import FloatArray

__all__ = [
    "DAYS_PER_YEAR", "MONTHS", "SharpeMoments", "annual_return", "annual_volatility", "calmar", "daily_returns",
    "deflated_sharpe_ratio", "drawdown", "drawdown_duration", "expected_max_sharpe", "max_drawdown",
    "minimum_track_record_length", "monthly_table", "probabilistic_sharpe_ratio",
    "probability_of_backtest_overfitting", "sharpe", "sharpe_interval", "sharpe_moments", "sortino",
]  # fmt: skip

DAYS_PER_YEAR: Final = 365
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MIN_BOOTSTRAP_OBS: Final = 20


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
    deviation = sample_deviation(values)
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
    return sample_deviation(_finite(returns, "returns")) * math.sqrt(periods_per_year)


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
    if values.size < _MIN_BOOTSTRAP_OBS or not sample_deviation(values) > 0.0:
        return math.nan, math.nan
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    if block_length is None:
        with np.errstate(all="ignore"):
            block_length = float(optimal_block_length(values)["stationary"].iloc[0])
        block_length = min(max(block_length, 1.0), float(values.size)) if math.isfinite(block_length) else 1.0
    bootstrap = StationaryBootstrap(block_length, values, seed=np.random.default_rng(seed))
    samples = values[np.array([bootstrap.update_indices() for _ in range(n_boot)])]
    deviation = samples.std(axis=1, ddof=1)
    risky = deviation > NO_VARIANCE * np.abs(samples).max(axis=1)
    ratios = samples[risky].mean(axis=1) / deviation[risky] * math.sqrt(periods_per_year)
    if ratios.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(ratios, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


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
