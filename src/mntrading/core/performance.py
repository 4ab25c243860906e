"""Every figure of one record: daily returns, the trades behind them, and what selection and luck make of both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mntrading.core import luck, metrics
from mntrading.core.errors import ParameterError
from mntrading.params import StatisticsParams


@dataclass(frozen=True)
class Trials:
    """What was tried before a record was picked: how many, and the variance of their per-period Sharpe ratios."""

    n_trials: int = 1
    variance: float = 0.0

    @classmethod
    def of(cls, returns: Iterable[npt.ArrayLike]) -> Trials:
        """Trials by the daily returns of each; all count, those without a Sharpe ratio have no part in the variance.

        No trials at all are one: the record itself.
        """
        ratios = np.array([metrics.sharpe(each, periods_per_year=1) for each in returns])
        known = ratios[np.isfinite(ratios)]
        return cls(max(len(ratios), 1), float(known.var(ddof=1)) if len(known) > 1 else 0.0)


@dataclass(frozen=True)
class Performance:
    """One record's figures; NaN where a figure is not defined. Amounts are shares of the capital.

    Parameters
    ----------
    n_days
        Daily returns.
    total_return, annual_return, annual_volatility
        Compounded over the record, compounded per year, and the deviation per year.
    sharpe, sharpe_low, sharpe_high
        Annualised ratio and its stationary-bootstrap interval.
    sortino, calmar
        Mean over downside deviation; yearly return over the maximum drawdown of the daily returns.
    max_drawdown, drawdown_days
        Largest fraction lost from a peak, at bars where those are given; most days spent below an earlier daily peak.
    gross_pnl, costs, cost_share
        P&L before costs; fees, slippage and borrow; costs over gross P&L, NaN where nothing was earned before costs.
    turnover, exposure
        Notional traded, in multiples of the capital; mean gross notional over equity.
    n_trades, hit_rate, profit_factor, mean_holding_hours
        Trades; share with a net profit; net profits over net losses, NaN without a loss; mean time from fill to fill.
    probabilistic_sharpe
        Probability that the true Sharpe ratio is above zero.
    deflated_sharpe, n_trials
        Probability that it is above what the best of ``n_trials`` without skill would show.
    min_track_record_days
        Days a record of this Sharpe ratio and shape needs for ``probabilistic_sharpe`` to reach the level; ``inf``
        where the ratio is not above zero.
    """

    n_days: int
    total_return: float
    annual_return: float
    annual_volatility: float
    sharpe: float
    sharpe_low: float
    sharpe_high: float
    sortino: float
    calmar: float
    max_drawdown: float
    drawdown_days: int
    gross_pnl: float
    costs: float
    cost_share: float
    turnover: float
    exposure: float
    n_trades: int
    hit_rate: float
    profit_factor: float
    mean_holding_hours: float
    probabilistic_sharpe: float
    deflated_sharpe: float
    n_trials: int
    min_track_record_days: float

    def figures(self) -> dict[str, float]:
        """All figures by name."""
        return {name: float(value) for name, value in asdict(self).items()}


def performance(
    returns: pd.Series,
    trades: pd.DataFrame,
    params: StatisticsParams,
    *,
    costs: float,
    turnover: float,
    exposure: float,
    capital: float = 1.0,
    equity: pd.Series | None = None,
    trials: Trials | None = None,
) -> Performance:
    """Figures of a record.

    Look-ahead: none in what it is used for; every figure looks back over a record that is complete.

    Parameters
    ----------
    returns
        Daily simple returns in time order; none is a valid record.
    trades
        One row per trade: ``gross_pnl``, ``net_pnl``, ``entry_fill`` and ``exit_fill``.
    params
        Level, bootstrap samples and seed.
    costs, turnover, exposure
        Fees, slippage and borrow paid; notional traded; mean gross notional over equity. The first two, like the
        trades' P&L, in units of ``capital``.
    capital
        What amounts are divided by.
    equity
        Values at bars for the maximum drawdown; None for that of the compounded daily returns.
    trials
        What was tried; None for nothing but this record.

    Raises
    ------
    BarDataError
        A return that is not finite.
    ParameterError
        Capital that is not positive.
    """
    if not capital > 0.0:
        raise ParameterError(f"capital is {capital}, expected above 0", where="capital")
    tried = Trials() if trials is None else trials
    low, high = metrics.sharpe_interval(returns, level=params.level, n_boot=params.n_boot, seed=params.seed)
    growth = np.cumprod(np.concatenate((np.ones(1), np.maximum(1.0 + returns.to_numpy(dtype=np.float64), 0.0))))
    probabilistic, deflated, length = _luck(returns, params.level, tried)
    gross, net = (trades[name].to_numpy(dtype=np.float64) / capital for name in ("gross_pnl", "net_pnl"))
    lost = -net[net < 0].sum()
    held = [leave - enter for enter, leave in zip(trades["entry_fill"], trades["exit_fill"], strict=True)]
    earned = float(gross.sum())
    return Performance(
        n_days=len(returns),
        total_return=float(growth[-1] - 1.0) if len(returns) else math.nan,
        annual_return=metrics.annual_return(returns),
        annual_volatility=metrics.annual_volatility(returns),
        sharpe=metrics.sharpe(returns),
        sharpe_low=low,
        sharpe_high=high,
        sortino=metrics.sortino(returns),
        calmar=metrics.calmar(returns),
        max_drawdown=metrics.max_drawdown(growth if equity is None or equity.empty else equity)
        if len(returns)
        else math.nan,
        drawdown_days=metrics.drawdown_duration(growth),
        gross_pnl=earned,
        costs=costs / capital,
        cost_share=costs / capital / earned if earned > 0.0 else math.nan,
        turnover=turnover / capital,
        exposure=exposure,
        n_trades=len(trades),
        hit_rate=float((net > 0).mean()) if len(net) else math.nan,
        profit_factor=float(net[net > 0].sum() / lost) if lost > 0.0 else math.nan,
        mean_holding_hours=sum(held, pd.Timedelta(0)).total_seconds() / 3600 / len(held) if held else math.nan,
        probabilistic_sharpe=probabilistic,
        deflated_sharpe=deflated,
        n_trials=tried.n_trials,
        min_track_record_days=length,
    )


def _luck(returns: pd.Series, level: float, trials: Trials) -> tuple[float, float, float]:
    """Probabilistic and deflated Sharpe ratio and the minimum track record; NaN without variation."""
    moments = luck.sharpe_moments(returns)
    if moments is None:
        return math.nan, math.nan, math.nan
    shape = {"skew": moments.skew, "kurtosis": moments.kurtosis}
    return (
        luck.probabilistic_sharpe_ratio(moments.sharpe, n_obs=moments.n_obs, **shape),
        luck.deflated_sharpe_ratio(
            moments.sharpe, n_obs=moments.n_obs, n_trials=trials.n_trials, trials_variance=trials.variance, **shape
        ),
        luck.minimum_track_record_length(moments.sharpe, level=level, **shape),
    )
