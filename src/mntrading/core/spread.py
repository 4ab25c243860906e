"""Rolling hedge ratio, spread and z-score whose bits do not depend on where the history starts.

A rolling sum that adds the new bar and subtracts the old one drifts, and its last digits depend on every
bar since the first. Here nothing is ever subtracted. Time is cut into blocks of the window's length on
the **absolute** bar number. A window that ends inside a block is the tail of the block before it plus
the head of its own, so its sum is one backward running sum plus one forward running sum, both taken
about the same anchor: the value at the block's first bar, which lies in every such window. A slice of the
history therefore gives the bits the whole history gives, and centring about the anchor keeps full precision.

A Kalman filter remembers everything since its first bar. It is started anew at the same block boundaries, with the
block before as its run-in.
"""

from __future__ import annotations

import numpy as np

from mntrading.core.compiled import compiled, vectorised
from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray

PRIOR_VARIANCE = 1e6
"""Variance of intercept and slope when a filter starts, in units of the observation's: all but ignorance."""


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
def _sums(x: FloatArray, y: FloatArray, start: int, window: int, sums: FloatArray) -> tuple[float, float]:
    """Sums over every window that ends in the block from ``start`` on, and the anchors they are taken about.

    Fills ``sums`` (6, window), one column per row of the block: rows known, dx, dy, dx², dx·dy, dy², with d the
    distance from the anchor. The block before is walked backwards, this one forwards. A column whose window begins
    before row 0 holds nothing of use.
    """
    anchor_x = _anchor(x, start, window)
    anchor_y = _anchor(y, start, window)
    sums[:, :] = 0.0
    m = sx = sy = sxx = sxy = syy = 0.0
    for k in range(min(window - 1, start)):
        dx = x[start - 1 - k] - anchor_x
        dy = y[start - 1 - k] - anchor_y
        known = 0.0 if np.isnan(dx) or np.isnan(dy) else 1.0
        dx = dx if known else 0.0
        dy = dy if known else 0.0
        m += known
        sx += dx
        sy += dy
        sxx += dx * dx
        sxy += dx * dy
        syy += dy * dy
        at = window - 2 - k
        sums[0, at] = m
        sums[1, at] = sx
        sums[2, at] = sy
        sums[3, at] = sxx
        sums[4, at] = sxy
        sums[5, at] = syy
    m = sx = sy = sxx = sxy = syy = 0.0
    for at in range(min(window, x.shape[0] - start)):
        dx = x[start + at] - anchor_x
        dy = y[start + at] - anchor_y
        known = 0.0 if np.isnan(dx) or np.isnan(dy) else 1.0
        dx = dx if known else 0.0
        dy = dy if known else 0.0
        m += known
        sx += dx
        sy += dy
        sxx += dx * dx
        sxy += dx * dy
        syy += dy * dy
        sums[0, at] += m
        sums[1, at] += sx
        sums[2, at] += sy
        sums[3, at] += sxx
        sums[4, at] += sxy
        sums[5, at] += syy
    return anchor_x, anchor_y


@compiled
def _sums_of_one(x: FloatArray, start: int, window: int, sums: FloatArray) -> float:
    """``_sums`` of one series, in ``sums`` (3, window): rows known, dx, dx²."""
    anchor = _anchor(x, start, window)
    sums[:, :] = 0.0
    m = sx = sxx = 0.0
    for k in range(min(window - 1, start)):
        dx = x[start - 1 - k] - anchor
        known = 0.0 if np.isnan(dx) else 1.0
        dx = dx if known else 0.0
        m += known
        sx += dx
        sxx += dx * dx
        at = window - 2 - k
        sums[0, at] = m
        sums[1, at] = sx
        sums[2, at] = sxx
    m = sx = sxx = 0.0
    for at in range(min(window, x.shape[0] - start)):
        dx = x[start + at] - anchor
        known = 0.0 if np.isnan(dx) else 1.0
        dx = dx if known else 0.0
        m += known
        sx += dx
        sxx += dx * dx
        sums[0, at] += m
        sums[1, at] += sx
        sums[2, at] += sxx
    return anchor


@compiled
def _settled(first_bar: int, window: int) -> int:
    """First row that ends a whole window in a block that begins in the array.

    Windows that end before it would have other bits in a longer history: their rows are NaN.
    """
    return int(max(-first_bar % window, window - 1))


@vectorised
def _moments_of(
    m: FloatArray, sx: FloatArray, sy: FloatArray, sxx: FloatArray, sxy: FloatArray, syy: FloatArray,
    fewest: int, xx: FloatArray, xy: FloatArray, yy: FloatArray,
) -> None:  # fmt: skip
    for i in range(xx.shape[0]):
        var_x = max(sxx[i] - sx[i] * sx[i] / m[i], 0.0) / (m[i] - 1.0)
        covariance = (sxy[i] - sx[i] * sy[i] / m[i]) / (m[i] - 1.0)
        var_y = max(syy[i] - sy[i] * sy[i] / m[i], 0.0) / (m[i] - 1.0)
        known = m[i] >= fewest
        xx[i] = var_x if known else np.nan
        xy[i] = covariance if known else np.nan
        yy[i] = var_y if known else np.nan


@compiled
def _moments(
    x: FloatArray, y: FloatArray, window: int, first_bar: int, fewest: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variance of x, covariance, variance of y over every window with at least ``fewest`` rows."""
    n = x.shape[0]
    xx, xy, yy = np.empty(n), np.empty(n), np.empty(n)
    head = min(_settled(first_bar, window), n)
    xx[:head] = xy[:head] = yy[:head] = np.nan
    sums = np.empty((6, window))
    for start in range(-first_bar % window, n, window):
        first, last = max(start, window - 1), min(start + window, n)
        if first < last:
            _sums(x, y, start, window, sums)
            of = slice(first - start, last - start)
            _moments_of(
                sums[0, of], sums[1, of], sums[2, of], sums[3, of], sums[4, of], sums[5, of],
                fewest, xx[first:last], xy[first:last], yy[first:last],
            )  # fmt: skip
    return xx, xy, yy


@vectorised
def _hedge_of(
    m: FloatArray, sb: FloatArray, sa: FloatArray, sbb: FloatArray, sab: FloatArray,
    anchor_b: float, anchor_a: float, fewest: int, alpha: FloatArray, beta: FloatArray,
) -> None:  # fmt: skip
    for i in range(beta.shape[0]):
        mean_b = sb[i] / m[i]
        squares = sbb[i] - sb[i] * mean_b
        slope = (sab[i] - sa[i] * mean_b) / squares
        level = (anchor_a + sa[i] / m[i]) - slope * (anchor_b + mean_b)
        known = (m[i] >= fewest) & (squares > 0.0)
        beta[i] = slope if known else np.nan
        alpha[i] = level if known else np.nan


@compiled
def _hedge(
    a: FloatArray, b: FloatArray, window: int, lag: int, first_bar: int, fewest: int
) -> tuple[FloatArray, FloatArray]:
    """Least squares of a on b over every window, told ``lag`` rows after its end."""
    n = a.shape[0]
    alpha, beta = np.empty(n), np.empty(n)
    head = min(_settled(first_bar, window) + lag, n)
    alpha[:head] = beta[:head] = np.nan
    sums = np.empty((6, window))
    for start in range(-first_bar % window, n - lag, window):
        first, last = max(start, window - 1), min(start + window, n - lag)
        if first < last:
            anchor_b, anchor_a = _sums(b, a, start, window, sums)
            of, told = slice(first - start, last - start), slice(first + lag, last + lag)
            _hedge_of(
                sums[0, of], sums[1, of], sums[2, of], sums[3, of], sums[4, of],
                anchor_b, anchor_a, fewest, alpha[told], beta[told],
            )  # fmt: skip
    return alpha, beta


@vectorised
def _mean_std_of(
    m: FloatArray, s: FloatArray, ss: FloatArray, anchor: float, fewest: int, mean: FloatArray, deviation: FloatArray
) -> None:
    for i in range(mean.shape[0]):
        offset = s[i] / m[i]
        spread = np.sqrt(max(ss[i] - s[i] * offset, 0.0) / (m[i] - 1.0))
        known = m[i] >= fewest
        mean[i] = anchor + offset if known else np.nan
        deviation[i] = spread if known else np.nan


@compiled
def _mean_std(values: FloatArray, window: int, lag: int, first_bar: int, fewest: int) -> tuple[FloatArray, FloatArray]:
    """Mean and (n - 1)-normalised deviation of every window, told ``lag`` rows after its end."""
    n = values.shape[0]
    mean, deviation = np.empty(n), np.empty(n)
    head = min(_settled(first_bar, window) + lag, n)
    mean[:head] = deviation[:head] = np.nan
    sums = np.empty((3, window))
    for start in range(-first_bar % window, n - lag, window):
        first, last = max(start, window - 1), min(start + window, n - lag)
        if first < last:
            anchor = _sums_of_one(values, start, window, sums)
            of, told = slice(first - start, last - start), slice(first + lag, last + lag)
            _mean_std_of(sums[0, of], sums[1, of], sums[2, of], anchor, fewest, mean[told], deviation[told])
    return mean, deviation


@vectorised
def _z_of(values: FloatArray, mean: FloatArray, deviation: FloatArray, z: FloatArray) -> None:
    for i in range(values.shape[0]):
        distance = (values[i] - mean[i]) / deviation[i]
        z[i] = distance if deviation[i] > 0.0 else np.nan


@compiled
def _z(values: FloatArray, window: int, lag: int, first_bar: int, fewest: int) -> tuple[FloatArray, FloatArray]:
    """Distance of each value from ``_mean_std``, in its deviations, and these."""
    n = values.shape[0]
    z, deviation = np.empty(n), np.empty(n)
    head = min(_settled(first_bar, window) + lag, n)
    z[:head] = deviation[:head] = np.nan
    sums, mean = np.empty((3, window)), np.empty(window)
    for start in range(-first_bar % window, n - lag, window):
        first, last = max(start, window - 1), min(start + window, n - lag)
        if first < last:
            anchor = _sums_of_one(values, start, window, sums)
            of, told = slice(first - start, last - start), slice(first + lag, last + lag)
            _mean_std_of(sums[0, of], sums[1, of], sums[2, of], anchor, fewest, mean[of], deviation[told])
            _z_of(values[told], mean[of], deviation[told], z[told])
    return z, deviation


@vectorised
def _spread(a: FloatArray, b: FloatArray, alpha: FloatArray, beta: FloatArray) -> FloatArray:
    out = np.empty(a.shape[0])
    for i in range(a.shape[0]):
        out[i] = a[i] - (beta[i] * b[i] + alpha[i])
    return out


@compiled
def _first_infinite(values: FloatArray) -> int:
    """First row that is infinite, -1 where none is."""
    for i in range(values.shape[0]):
        if np.isinf(values[i]):
            return i
    return -1


@compiled
def _filter(
    a: FloatArray, b: FloatArray, window: int, lag: int, first_bar: int, fewest: int, noise: float, relative: bool
) -> tuple[FloatArray, FloatArray]:
    """Kalman filter of ``a = alpha + beta * b``, over two blocks at a time: the first its run-in, the second told.

    The state is that of the distances from the run-in's first known bar, in units of that bar's prices if ``relative``.
    """
    n = a.shape[0]
    alpha, beta = np.full(n, np.nan), np.full(n, np.nan)
    known = ~(np.isnan(a) | np.isnan(b))
    for start in range(-first_bar % window, n - lag - window, window):
        last = min(start + 2 * window, n - lag)
        begin = start
        while begin < last and not known[begin]:
            begin += 1
        if begin == last:
            continue
        anchor_a, anchor_b = a[begin], b[begin]
        unit_a, unit_b = (anchor_a, anchor_b) if relative else (1.0, 1.0)
        level = slope = 0.0
        p00 = p11 = PRIOR_VARIANCE
        p01 = 0.0
        present = 0
        for t in range(begin, last):
            present += known[t]
            if t - window >= begin:
                present -= known[t - window]
            p00 += noise
            p11 += noise
            x = (b[t] - anchor_b) / unit_b
            error = (a[t] - anchor_a) / unit_a - level - slope * x
            if known[t]:
                h0 = p00 + p01 * x
                h1 = p01 + p11 * x
                scale = h0 + h1 * x + 1.0
                k0 = h0 / scale
                k1 = h1 / scale
                level += k0 * error
                slope += k1 * error
                p00 -= k0 * h0
                p01 -= k0 * h1
                p11 -= k1 * h1
            if t >= start + window and present >= fewest:
                beta[t + lag] = slope * unit_a / unit_b
                alpha[t + lag] = anchor_a + level * unit_a - beta[t + lag] * anchor_b
    return alpha, beta


def _checked(values: FloatArray, name: str) -> FloatArray:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ParameterError(f"{name} has shape {array.shape}, expected one dimension")
    row = _first_infinite(array)
    if row >= 0:
        raise ParameterError(f"{name} is infinite at row {row}")
    return array


def _checked_legs(a: FloatArray, b: FloatArray, lag: int) -> tuple[FloatArray, FloatArray]:
    a, b = _checked(a, "a"), _checked(b, "b")
    if a.shape != b.shape:
        raise ParameterError(f"a has {a.shape[0]} rows and b {b.shape[0]}")
    if lag < 0:
        raise ParameterError(f"lag is {lag}: a negative lag would look ahead")
    return a, b


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
    return _moments(x, y, window, first_bar, fewest)


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
    a, b = _checked_legs(a, b, lag)
    return _hedge(a, b, window, lag, first_bar, _fewest_rows(window, min_fill))


def kalman_hedge(
    a: FloatArray,
    b: FloatArray,
    *,
    window: int,
    delta: float,
    lag: int = 1,
    first_bar: int = 0,
    min_fill: float = 1.0,
    relative: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Hedge of ``a`` by ``b`` as the state of a Kalman filter: intercept and slope each a random walk.

    ``a_t = alpha_t + beta_t * b_t + noise``, the steps of both walks with ``delta / (1 - delta)`` times the noise's
    variance. The intercept is that at the first bar of the filter's run, which keeps the two apart, and the start knows
    nothing of either (``PRIOR_VARIANCE``).

    A filter remembers all it has seen. So that the bits do not depend on where the history starts, time is cut into
    blocks of ``window`` bars on the absolute bar number: in each block the filter is one that was started with the
    block before. A value rests on ``window`` to ``2 * window - 1`` bars.

    Look-ahead: row t uses bars ≤ t - lag, from the start of the block before that of bar t - lag.

    Parameters
    ----------
    a, b
        Dependent and independent (log) prices, shape (n,), on a regular time grid; NaN where a bar is missing: the
        walks then go on and nothing is learned.
    window
        Bars of a block.
    delta
        Between 0 (never changes) and 1; ``1 / delta`` is about the square of the intercept's memory in bars.
    lag
        Rows between the last bar a state has seen and the row it is used on.
    first_bar
        Absolute bar number (open time // timeframe) of row 0.
    min_fill
        Share of the last ``window`` bars that must be present.
    relative
        Whether the filter runs on prices as multiples of those at its start, which gives ``delta`` the same meaning
        for prices of any size; for level prices. ``alpha`` and ``beta`` are those of the prices as given.

    Returns
    -------
    alpha, beta
        Shape (n,), NaN in the rows before the first block that has a whole one before it, and where bars are missing
        beyond ``min_fill``.

    Raises
    ------
    ParameterError
        For a ``delta`` outside 0 to 1, and what ``rolling_hedge`` refuses.

    References
    ----------
    Chan, "Algorithmic Trading" (2013), ch. 3; Harvey, "Forecasting, Structural Time Series Models and the Kalman
    Filter" (1989), ch. 3.
    """
    a, b = _checked_legs(a, b, lag)
    if not 0 < delta < 1:
        raise ParameterError(f"delta is {delta}, expected between 0 and 1")
    noise = delta / (1 - delta)
    return _filter(a, b, window, lag, first_bar, _fewest_rows(window, min_fill), noise, relative)


def spread(a: FloatArray, b: FloatArray, alpha: FloatArray, beta: FloatArray) -> FloatArray:
    """``a - (beta * b + alpha)`` row by row. Look-ahead: that of ``alpha`` and ``beta``."""
    out: FloatArray = _spread(a, b, alpha, beta)
    return out


def rolling_mean_std(
    values: FloatArray, *, window: int, lag: int = 0, first_bar: int = 0, min_fill: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Rolling mean and (n - 1)-normalised standard deviation; row t uses bars t - lag - window + 1 … t - lag."""
    values = _checked(values, "values")
    fewest = _fewest_rows(window, min_fill)
    if lag < 0:
        raise ParameterError(f"lag is {lag}: a negative lag would look ahead")
    return _mean_std(values, window, lag, first_bar, fewest)


def zscore(spread: FloatArray, *, window: int, lag: int = 0, first_bar: int = 0, min_fill: float = 1.0) -> FloatArray:
    """Distance of the spread from its rolling mean, in rolling standard deviations (n - 1).

    Look-ahead: row t uses the spread at t, and its mean and deviation over t - lag - window + 1 … t - lag.
    NaN in warm-up, where bars are missing beyond ``min_fill``, and where the spread did not move.
    """
    return zscore_and_std(spread, window=window, lag=lag, first_bar=first_bar, min_fill=min_fill)[0]


def zscore_and_std(
    spread: FloatArray, *, window: int, lag: int = 0, first_bar: int = 0, min_fill: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """``zscore``, and the deviation it is in."""
    values = _checked(spread, "spread")
    if lag < 0:
        raise ParameterError(f"lag is {lag}: a negative lag would look ahead")
    return _z(values, window, lag, first_bar, _fewest_rows(window, min_fill))
