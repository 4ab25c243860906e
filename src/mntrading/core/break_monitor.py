"""Is a pair's relation still there? An augmented Dickey-Fuller test on the spread with its hedge ratio held still.

The rolling hedge ratio follows the prices wherever they go, so its spread looks stationary even where nothing holds the
legs together. What a position earns is decided by the ratio it was entered with. The test is therefore on
``y - beta * x`` with beta frozen: that of the entry while a position is held, that of the bar before one is taken.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.mackinnon import mackinnon_p_value
from mntrading.core.types import FloatArray
from mntrading.params import BreakMonitorParams

_LEAST_KNOWN = 0.6
"""Share of the test's rows that must be known; with fewer nothing is said."""


class Monitor(NamedTuple):
    """The test as the kernels take it; ``every`` of 0 is no test.

    ``y`` and ``x`` are the (log) prices behind the spread, NaN where a bar is missing; row t of the strategy is row
    ``offset + t`` of these.
    """

    y: FloatArray
    x: FloatArray
    offset: int
    window: int
    stride: int
    lags: int
    every: int
    highest: float


def off() -> Monitor:
    """No test."""
    nothing = np.zeros(0)
    return Monitor(nothing, nothing, 0, 1, 1, 0, 0, 0.0)


def history_bars(params: BreakMonitorParams) -> int:
    """Bars before a row that its test looks at; 0 without a test."""
    return 0 if params.max_p_value is None else params.window_bars


def monitor(y: FloatArray, x: FloatArray, params: BreakMonitorParams, *, offset: int) -> Monitor:
    """The test of ``params`` on the prices behind a spread.

    Look-ahead: a row's test uses the ``window_bars`` bars up to and including it.

    Parameters
    ----------
    y, x
        Dependent and independent (log) prices on a regular grid, shape (n,).
    params
        Level, window and how often.
    offset
        Row of ``y`` at which the strategy's rows begin.
    """
    if params.max_p_value is None:
        return off()
    return Monitor(
        np.ascontiguousarray(y, dtype=np.float64), np.ascontiguousarray(x, dtype=np.float64), offset,
        params.window_bars, params.stride_bars, params.lags, params.every_bars, highest_statistic(params.max_p_value),
    )  # fmt: skip


@lru_cache
def highest_statistic(p_value: float) -> float:
    """The statistic whose MacKinnon p-value for two series with a constant is ``p_value``, to 1e-10.

    The hedge ratio was estimated, hence the tables of the residual-based test.
    """
    low, high = -18.0, 0.9
    while high - low > 1e-10:
        middle = 0.5 * (low + high)
        if float(mackinnon_p_value(middle)) < p_value:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@compiled
def statistic(y: FloatArray, x: FloatArray, beta: float, row: int, window: int, stride: int, lags: int) -> float:
    """Augmented Dickey-Fuller t of ``y - beta * x`` with a constant, on every ``stride``-th bar up to ``row``.

    The regression is Δs_k on 1, s_{k-1}, Δs_{k-1} … Δs_{k-lags}; rows that touch a missing bar are left out. The
    window is summed on its own, about its own first value, so the bits do not depend on where the history starts.

    Returns
    -------
    float
        NaN where fewer than 60 % of the rows are known, or the spread did not move.
    """
    points = window // stride
    size = lags + 2
    s = np.empty(points)
    anchor = np.nan
    for k in range(points):
        at = row - (points - 1 - k) * stride
        s[k] = y[at] - beta * x[at] if at >= 0 else np.nan
        if np.isnan(anchor):
            anchor = s[k]
    for k in range(points):
        s[k] -= anchor
    moments = np.zeros((size, size))
    right = np.zeros(size)
    total = 0.0
    known = 0
    regressors = np.empty(size)
    for k in range(lags + 1, points):
        change = s[k] - s[k - 1]
        regressors[0] = 1.0
        for j in range(lags):
            regressors[1 + j] = s[k - 1 - j] - s[k - 2 - j]
        regressors[size - 1] = s[k - 1]
        ok = not np.isnan(change)
        for j in range(size):
            ok = ok and not np.isnan(regressors[j])
        if not ok:
            continue
        known += 1
        total += change * change
        for i in range(size):
            right[i] += regressors[i] * change
            for j in range(i + 1):
                moments[i, j] += regressors[i] * regressors[j]
    if known < _LEAST_KNOWN * (points - lags - 1) or known <= size:
        return np.nan
    # Cholesky with forward substitution; the level comes last, so its coefficient is the last one found
    explained = 0.0
    last = 0.0
    for i in range(size):
        for j in range(i + 1):
            value = moments[i, j]
            for k in range(j):
                value -= moments[i, k] * moments[j, k]
            if i == j:
                if not value > 1e-14 * max(moments[i, i], 1e-300):
                    return np.nan
                moments[i, i] = np.sqrt(value)
            else:
                moments[i, j] = value / moments[j, j]
        value = right[i]
        for k in range(i):
            value -= moments[i, k] * right[k]
        right[i] = value / moments[i, i]
        last = right[i]
        explained += last * last
    left = (total - explained) / (known - size)
    if not left > 0.0:
        return np.nan
    return float(last / np.sqrt(left))


@compiled
def broken(monitor: Monitor, beta: float, row: int) -> bool:
    """Whether the test on the strategy's row speaks against a relation; False where it says nothing.

    Look-ahead: uses bars up to and including ``row``.
    """
    found = statistic(monitor.y, monitor.x, beta, monitor.offset + row, monitor.window, monitor.stride, monitor.lags)
    return bool(found > monitor.highest)
