"""Rolling hedge ratio, spread and z-score whose bits do not depend on where the history starts.

A rolling sum that adds the new bar and subtracts the old one drifts, and its last digits depend on every
bar since the first. Here nothing is ever subtracted. Time is cut into blocks of the window's length on
the **absolute** bar number. A window that ends inside a block is the tail of the block before it plus
the head of its own, so its sum is one backward running sum plus one forward running sum, both taken
about the same anchor: the value at the block's first bar, which lies in every such window. A slice of the
history therefore gives the bits the whole history gives, and centring about the anchor keeps full precision.
"""

from __future__ import annotations

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray


@compiled
def _anchor(values: FloatArray, start: int, window: int) -> float:
    """Value at ``start``, or the last known one within a window before it, or else the first known one after it.

    Where the anchor lies after ``start``, no window that ends before it has any value to sum.
    """
    stop = max(start - window, -1)
    for i in range(start, stop, -1):
        if not np.isnan(values[i]):
            return float(values[i])
    for i in range(start + 1, min(start + window, values.shape[0])):
        if not np.isnan(values[i]):
            return float(values[i])
    return 0.0


@compiled
def _window_moments(
    x: FloatArray, y: FloatArray, window: int, first_bar: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows seen, means of x and y, and centred second moments of every window, by suffix plus prefix sums.

    Returns arrays (n,), (n, 2) and (n, 3): count; mean x, mean y; Sxx, Sxy, Syy about the means. Bars where x
    or y is NaN are left out of a window's sums and count. Rows before the first complete window are zero.
    """
    n = x.shape[0]
    count = np.zeros(n)
    mean = np.zeros((n, 2))
    second = np.zeros((n, 3))
    tail = np.zeros((window + 1, 6))
    start = -(first_bar % window)
    while start < n:
        first = max(start, 0)
        anchor_x = _anchor(x, first, window)
        anchor_y = _anchor(y, first, window)
        # suffix sums of the block before: tail[k] covers its last k bars
        tail[0, :] = 0.0
        for k in range(1, window):
            i = start - k
            tail[k, :] = tail[k - 1, :]
            if i >= 0 and not (np.isnan(x[i]) or np.isnan(y[i])):
                dx = x[i] - anchor_x
                dy = y[i] - anchor_y
                tail[k, 0] += 1.0
                tail[k, 1] += dx
                tail[k, 2] += dy
                tail[k, 3] += dx * dx
                tail[k, 4] += dx * dy
                tail[k, 5] += dy * dy
        # prefix sums of this block, one row at a time
        c = sx = sy = sxx = sxy = syy = 0.0
        for t in range(first, min(start + window, n)):
            if not (np.isnan(x[t]) or np.isnan(y[t])):
                dx = x[t] - anchor_x
                dy = y[t] - anchor_y
                c += 1.0
                sx += dx
                sy += dy
                sxx += dx * dx
                sxy += dx * dy
                syy += dy * dy
            if t < window - 1:
                continue
            k = start + window - 1 - t
            m = c + tail[k, 0]
            count[t] = m
            if m == 0.0:
                continue
            tx = sx + tail[k, 1]
            ty = sy + tail[k, 2]
            mean[t, 0] = anchor_x + tx / m
            mean[t, 1] = anchor_y + ty / m
            second[t, 0] = sxx + tail[k, 3] - tx * tx / m
            second[t, 1] = sxy + tail[k, 4] - tx * ty / m
            second[t, 2] = syy + tail[k, 5] - ty * ty / m
        start += window
    return count, mean, second


def _checked(values: FloatArray, name: str) -> FloatArray:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ParameterError(f"{name} has shape {array.shape}, expected one dimension")
    if np.isinf(array).any():
        raise ParameterError(f"{name} is infinite at row {int(np.flatnonzero(np.isinf(array))[0])}")
    return array


def _fewest_rows(window: int, min_fill: float) -> int:
    if window < 2:
        raise ParameterError(f"window is {window}, expected at least 2 bars")
    return max(2, int(np.ceil(window * min_fill)))


def lagged(values: FloatArray, lag: int) -> FloatArray:
    """Values of ``lag`` rows before; the first ``lag`` rows are NaN."""
    if lag < 0:
        raise ParameterError(f"lag is {lag}: a negative lag would look ahead")
    if lag == 0:
        return values
    out = np.full_like(values, np.nan)
    out[lag:] = values[:-lag]
    return out


def rolling_moments(
    x: FloatArray, y: FloatArray, *, window: int, first_bar: int = 0, min_fill: float = 1.0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rolling (n - 1)-normalised variance of x, covariance and variance of y.

    Row t uses bars t - window + 1 … t. NaN in warm-up and where fewer than ``min_fill * window`` bars of
    the window are present.
    """
    x, y = _checked(x, "x"), _checked(y, "y")
    if x.shape != y.shape:
        raise ParameterError(f"x has {x.shape[0]} rows and y {y.shape[0]}")
    fewest = _fewest_rows(window, min_fill)
    count, _, second = _window_moments(x, y, window, first_bar)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(
            (count >= fewest)[:, None], np.maximum(second, [0.0, -np.inf, 0.0]) / (count - 1)[:, None], np.nan
        )
    return scaled[:, 0], scaled[:, 1], scaled[:, 2]


def rolling_hedge(
    a: FloatArray, b: FloatArray, *, window: int, lag: int = 1, first_bar: int = 0, min_fill: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Rolling ordinary least squares of ``a`` on ``b`` with intercept.

    Look-ahead: row t uses bars t - lag - window + 1 … t - lag.

    Parameters
    ----------
    a, b
        Dependent and independent (log) prices, shape (n,), on a regular time grid; NaN where a bar is missing.
    window
        Bars in each regression.
    lag
        Rows between the last bar of a regression and the row it is used on.
    first_bar
        Absolute bar number (open time // timeframe) of row 0: any slice of a history then gives the same bits.
    min_fill
        Share of the window's bars that must be present.

    Returns
    -------
    alpha, beta
        Shape (n,), NaN in the first ``window - 1 + lag`` rows, where bars are missing beyond ``min_fill``,
        and where ``b`` did not move.

    Raises
    ------
    ParameterError
        For a window below 2, a negative lag, infinite values, or shapes that differ.

    References
    ----------
    Chan, "Algorithmic Trading" (2013), ch. 3, for the rolling hedge ratio.
    """
    a, b = _checked(a, "a"), _checked(b, "b")
    if a.shape != b.shape:
        raise ParameterError(f"a has {a.shape[0]} rows and b {b.shape[0]}")
    fewest = _fewest_rows(window, min_fill)
    count, mean, second = _window_moments(b, a, window, first_bar)
    with np.errstate(invalid="ignore", divide="ignore"):
        fitted = (count >= fewest) & (second[:, 0] > 0)
        beta = np.where(fitted, second[:, 1] / second[:, 0], np.nan)
        alpha = mean[:, 1] - beta * mean[:, 0]
    return lagged(alpha, lag), lagged(beta, lag)


def spread(a: FloatArray, b: FloatArray, alpha: FloatArray, beta: FloatArray) -> FloatArray:
    """``a - (beta * b + alpha)`` row by row. Look-ahead: that of ``alpha`` and ``beta``."""
    return a - (beta * b + alpha)


def rolling_mean_std(
    values: FloatArray, *, window: int, lag: int = 0, first_bar: int = 0, min_fill: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Rolling mean and (n - 1)-normalised standard deviation; row t uses bars t - lag - window + 1 … t - lag."""
    values = _checked(values, "values")
    fewest = _fewest_rows(window, min_fill)
    count, mean, second = _window_moments(values, values, window, first_bar)
    with np.errstate(invalid="ignore", divide="ignore"):
        full = count >= fewest
        deviation = np.where(full, np.sqrt(np.maximum(second[:, 0], 0.0) / (count - 1)), np.nan)
        average = np.where(full, mean[:, 0], np.nan)
    return lagged(average, lag), lagged(deviation, lag)


def zscore(spread: FloatArray, *, window: int, lag: int = 0, first_bar: int = 0, min_fill: float = 1.0) -> FloatArray:
    """Distance of the spread from its rolling mean, in rolling standard deviations (n - 1).

    Look-ahead: row t uses the spread at t, and its mean and deviation over t - lag - window + 1 … t - lag.
    NaN in warm-up, where bars are missing beyond ``min_fill``, and where the spread did not move.
    """
    values = _checked(spread, "spread")
    average, deviation = rolling_mean_std(values, window=window, lag=lag, first_bar=first_bar, min_fill=min_fill)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(deviation > 0, (values - average) / deviation, np.nan)
