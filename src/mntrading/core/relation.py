"""Is the relation a pair was selected for still there, on the newest window of the same length?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core import break_monitor, mean_reversion
from mntrading.core.cointegration import default_max_lag, engle_granger_residuals
from mntrading.core.mackinnon import mackinnon_p_value
from mntrading.core.residual_tests import legs_of
from mntrading.core.types import FloatArray, Pair
from mntrading.params import BreakMonitorParams, ScreeningParams


@dataclass(frozen=True)
class Relation:
    """A pair's relation over one window.

    Parameters
    ----------
    p_value
        Engle-Granger in the direction the pair is traded in; NaN where there was no test.
    half_life_bars
        Of the residual, in bars; inf where it does not revert, NaN without a test.
    hedge_ratio
        Slope of the log price of the dependent leg on that of the independent one.
    n_bars
        Bars both legs have.
    """

    p_value: float
    half_life_bars: float
    hedge_ratio: float
    n_bars: int


def relation(log_closes: pd.DataFrame, pair: Pair, params: ScreeningParams) -> Relation:
    """The screen's test of one pair over one window, and the half-life of its residual.

    Look-ahead: uses the rows given and nothing else.

    Parameters
    ----------
    log_closes
        Log closes, time increasing, a column per leg. Rows on which a leg has none are left out.
    pair
        Dependent and independent leg.
    params
        Lags and deterministic terms of the test.
    """
    nan = float("nan")
    known = log_closes.loc[log_closes.notna().all(axis=1), list(pair.symbols)]
    lags = max(default_max_lag(len(known)), 0) if params.max_lag is None else params.max_lag
    if len(known) < 2 * lags + 3:
        return Relation(nan, nan, nan, len(known))
    test = engle_granger_residuals(
        known, [pair], max_lag=params.max_lag, autolag=params.autolag, trend=params.trend
    ).iloc[0]
    if not np.isfinite(test["t_stat"]):
        return Relation(nan, nan, nan, len(known))
    dependent, independent = legs_of(known.to_numpy().T, params.trend).values
    residual = dependent - test["beta"] * independent
    return Relation(float(test["p_value"]), mean_reversion.half_life(residual), float(test["beta"]), len(known))


def break_p_value(y: FloatArray, x: FloatArray, hedge_ratio: float, params: BreakMonitorParams) -> float:
    """p-value of the break monitor on the last bar, the hedge ratio held at a given one; NaN where it says nothing.

    Look-ahead: uses the ``window_bars`` bars up to the last one.

    Parameters
    ----------
    y, x
        Log closes of the dependent and the independent leg on a regular grid, NaN where a bar is missing, shape (n,).
    hedge_ratio
        Slope to hold still.
    params
        Window, stride and lags; its level is not used.
    """
    if not len(y):
        return float("nan")
    found = break_monitor.statistic(
        np.ascontiguousarray(y, dtype=np.float64), np.ascontiguousarray(x, dtype=np.float64), hedge_ratio, len(y) - 1,
        params.window_bars, params.stride_bars, params.lags,
    )  # fmt: skip
    return float("nan") if np.isnan(found) else float(mackinnon_p_value(found))
