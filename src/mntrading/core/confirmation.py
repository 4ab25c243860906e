"""Whether a pair that passed the cointegration test deserves it: second opinions on one formation window.

Johansen's trace test asks again without a dependent leg, the KPSS statistic turns the null around, sub-windows ask
whether the relation held throughout, and Hansen's sup-F asks whether it broke. They are made for the pairs that
survived multiple testing: all look at the window that selected the pair, so they confirm, and are no new evidence
to pay for.

Look-ahead: every figure uses all rows given and nothing else; pass the formation window, and only that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from mntrading.core.checks import finite_series
from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray

JOHANSEN_CRITICAL: Final = {0.10: (13.4294, 2.7055), 0.05: (15.4943, 3.8415), 0.01: (19.9349, 6.6349)}
"""Trace statistics for rank 0 and rank at most 1 that two series with a constant exceed by chance at each level.

MacKinnon, J. G., Haug, A. A., Michelis, L. (1999). Numerical distribution functions of likelihood ratio tests for
cointegration. Journal of Applied Econometrics, 14(5), 563-577; to four decimals as statsmodels tabulates them.
"""

SHIN_CRITICAL: Final = {0.10: 0.231, 0.05: 0.314, 0.01: 0.533}
"""KPSS statistics that the residual of a constant and one regressor exceeds by chance at each level: Shin (1994)."""

_KPSS_CRITICAL: Final = (0.347, 0.463, 0.574, 0.739)
_KPSS_P: Final = (0.10, 0.05, 0.025, 0.01)

_TRIMS: Final = (0.05, 0.10, 0.15, 0.20, 0.25)
_SUP_F_P: Final = (0.5, 0.25, 0.10, 0.05, 0.025, 0.01, 0.005, 0.001)
# a row for each trim: what sup-F exceeds with the probabilities above, see simulate_sup_f
_SUP_F: Final = (
    (7.02, 9.15, 11.55, 13.32, 14.94, 17.19, 18.62, 22.12),
    (6.47, 8.62, 10.99, 12.69, 14.44, 16.57, 18.10, 21.39),
    (6.01, 8.13, 10.50, 12.20, 13.89, 15.98, 17.61, 20.79),
    (5.59, 7.69, 10.09, 11.75, 13.47, 15.54, 17.25, 20.38),
    (5.15, 7.26, 9.64, 11.31, 13.01, 15.18, 16.74, 20.20),
)

_DICKEY_FULLER: Final = -1.62  # 10 % of one series without deterministic terms, asymptotic
_MIN_WINDOW_BARS: Final = 10
_MIN_BREAK_BARS: Final = 50
_MAX_PERSISTENCE: Final = 0.97
_SINGULAR: Final = 1e-12  # of a determinant relative to the product of the diagonal


@dataclass(frozen=True)
class JohansenTrace:
    """Trace statistics of two series: ``rank_0`` against no relation, ``rank_1`` against more than one.

    Two integrated series with one cointegrating relation exceed the critical value of ``rank_0`` and stay below
    that of ``rank_1``, whose table is made for prices with drift: without one, a quarter of true pairs exceed its 5 %
    value. Judge a pair by ``rank_0``. NaN where a series is constant or the two are collinear.
    """

    rank_0: float
    rank_1: float


@dataclass(frozen=True)
class Kpss:
    """KPSS statistic with p-values interpolated within 1 % and 10 %.

    ``p_value`` is that of an observed series, ``p_residual`` that of a cointegrating regression's residual. NaN
    for a constant series.
    """

    statistic: float
    p_value: float
    p_residual: float
    n_lags: int


@dataclass(frozen=True)
class StructuralBreak:
    """Largest F over the candidate breaks, its p-value, and the row (of T) after which the break fits best."""

    sup_f: float
    p_value: float
    row: int


def johansen_trace(a: npt.ArrayLike, b: npt.ArrayLike, *, n_lags: int) -> JohansenTrace:
    """Johansen's trace test of two series with a constant.

    Unlike the Engle-Granger test it has no dependent leg, and with ``rank_1`` it tells one relation from two
    stationary series.

    Parameters
    ----------
    a, b
        Log prices (T,). NaN and infinities are refused.
    n_lags
        Lagged differences of the vector error correction model, 0 or more.

    Returns
    -------
    JohansenTrace
        Equal to ``statsmodels`` ``coint_johansen(det_order=0, k_ar_diff=n_lags)``; see ``JOHANSEN_CRITICAL``.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        Legs of different length, ``n_lags`` negative, or too few rows for it.

    References
    ----------
    Johansen, S. (1991). Estimation and hypothesis testing of cointegration vectors in Gaussian vector
    autoregressive models. Econometrica, 59(6), 1551-1580.
    """
    if n_lags < 0:
        raise ParameterError(f"n_lags is {n_lags}, expected 0 or more", where="n_lags")
    legs = np.column_stack(_checked_legs(a, b, at_least=4 * n_lags + 8))
    if not (np.ptp(legs, axis=0) > 0.0).all():
        return JohansenTrace(math.nan, math.nan)
    legs = legs - legs.mean(axis=0)
    moves = np.diff(legs, axis=0)
    short_run = np.column_stack([moves[n_lags - k : len(moves) - k] for k in range(n_lags + 1)])
    short_run -= short_run.mean(axis=0)
    level = legs[1 : len(legs) - n_lags]
    level = level - level.mean(axis=0)
    change, lagged = short_run[:, :2], short_run[:, 2:]
    if n_lags:
        both = np.column_stack((change, level))
        both -= lagged @ np.linalg.lstsq(lagged, both, rcond=None)[0]
        change, level = both[:, :2], both[:, 2:]
    s_levels, s_changes, s_cross = level.T @ level, change.T @ change, level.T @ change
    if _singular(s_levels) or _singular(s_changes):
        return JohansenTrace(math.nan, math.nan)
    # canonical correlations: symmetric, so that the roots are real whatever the rounding
    root = np.linalg.inv(np.linalg.cholesky(s_levels))
    half = root @ s_cross
    squared = np.linalg.eigvalsh(half @ np.linalg.solve(s_changes, half.T))
    terms = -len(level) * np.log1p(-np.clip(squared, 0.0, 1.0 - np.finfo(np.float64).eps))
    return JohansenTrace(float(terms.sum()), float(terms[0]))


def kpss(residual: npt.ArrayLike, *, n_lags: int | None = None) -> Kpss:
    """KPSS test of level stationarity, with Shin's p-value for residuals of a cointegrating regression.

    The null is that the series is stationary (the pair cointegrated): a small p speaks against the pair. A
    regression bends its residual towards its mean, so the KPSS table, made for observed series, lets too much
    pass; Shin's table for a constant and one regressor is the one for a pair, and ``p_residual`` is from it. It
    holds for a regressor that does not react to the spread; with the least-squares residual of one that does, it
    is approximate. Long half-lives against the window make both p-values too small.

    Parameters
    ----------
    residual
        Values (T,), T ≥ 3. NaN and infinities are refused.
    n_lags
        Lags of the Bartlett long-run variance. ``None``: chosen as Hobijn, Franses and Ooms do.

    Returns
    -------
    Kpss
        ``statistic``, ``p_value`` and ``n_lags`` equal ``statsmodels`` ``kpss(regression="c", nlags="auto")``.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        Fewer than 3 values, or ``n_lags`` not within 0 and T - 1.

    References
    ----------
    Kwiatkowski, D., Phillips, P. C. B., Schmidt, P., Shin, Y. (1992). Testing the null hypothesis of
    stationarity against the alternative of a unit root. Journal of Econometrics, 54, 159-178.

    Shin, Y. (1994). A residual-based test of the null of cointegration against the alternative of no
    cointegration. Econometric Theory, 10(1), 91-115 (the table for a constant and one regressor).

    Hobijn, B., Franses, P. H., Ooms, M. (2004). Generalizations of the KPSS-test for stationarity. Statistica
    Neerlandica, 58(4), 483-502.
    """
    values = finite_series(residual, "residual", at_least=3)
    n = len(values)
    if n_lags is not None and not 0 <= n_lags < n:
        raise ParameterError(f"n_lags is {n_lags}, expected 0 to {n - 1}", where="n_lags")
    if np.ptp(values) == 0.0:
        return Kpss(math.nan, math.nan, math.nan, n_lags or 0)
    centred = values - values.mean()
    lags = _hobijn_lags(centred) if n_lags is None else n_lags
    covariance = _cross(centred, centred, lags)
    weight = 1.0 - np.arange(1, lags + 1) / (lags + 1.0)
    long_run = covariance[0] + 2.0 * float(weight @ covariance[1:])
    partial = np.cumsum(centred)
    statistic = float(partial @ partial) / n**2 / long_run
    return Kpss(
        statistic,
        float(np.interp(statistic, _KPSS_CRITICAL, _KPSS_P)),
        float(np.interp(statistic, list(SHIN_CRITICAL.values()), list(SHIN_CRITICAL))),
        lags,
    )


def subwindow_stability(a: npt.ArrayLike, b: npt.ArrayLike, *, n_windows: int) -> float:
    """Share of sub-windows in which the spread of the whole window's hedge reverts to the whole window's mean.

    The residual of the regression over all rows is cut into ``n_windows`` parts of equal length (the first takes
    the rows left over). A part reverts when its Dickey-Fuller t, without deterministic terms and without lags, is
    below -1.62 (the 10 % value of one observed series). Without a constant, because a spread that reverts to a
    different level in each part is of no use to a hedge and a mean fitted once. A t and not a half-life, because
    least squares finds a half-life of a few dozen bars in any random walk as short as a part. It is a count for
    comparison, not a test with a size: the residual was fitted to revert. In six parts of a 60-day window of hourly
    bars, planted pairs with half-lives of 6 to 14 hours revert in 99 % of the parts, walks that passed the test at
    1 % by chance in 59 %.

    Parameters
    ----------
    a, b
        Log prices (T,) of the dependent and the independent leg. NaN and infinities are refused.
    n_windows
        Parts, each of 10 rows or more.

    Returns
    -------
    float
        Within [0, 1]. NaN where the independent leg is constant, or the legs are collinear.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        Legs of different length, ``n_windows`` not positive, or too few rows for it.
    """
    left, right = _checked_legs(a, b, at_least=bars_needed(n_windows))
    alpha, beta = _line(left, right)
    residual = left - alpha - beta * right
    if not _varies(residual, left):
        return math.nan
    reverts = 0
    for part in _parts(len(residual), n_windows):
        before, change = residual[part][:-1], np.diff(residual[part])
        squares = float(before @ before)
        if squares == 0.0:
            continue
        speed = float(before @ change) / squares
        error = change - speed * before
        variance = float(error @ error) / (len(change) - 1)
        reverts += speed < _DICKEY_FULLER * math.sqrt(variance / squares)
    return reverts / n_windows


def hedge_ratio_drift(a: npt.ArrayLike, b: npt.ArrayLike, *, n_windows: int) -> float:
    """Largest relative distance of a sub-window's hedge ratio from the whole window's: max |β_i - β| / |β|.

    Walks that passed the test by chance are far apart here (1.2 is the median of six parts of 60 days of hourly bars)
    and planted pairs close together (0.4 at most), unless the spread is wide: 0.5 is the median where the spread's
    deviation is five times that of an hourly return of the legs.

    Parameters
    ----------
    a, b
        Log prices (T,) of the dependent and the independent leg. NaN and infinities are refused.
    n_windows
        Parts of equal length (the first takes the rows left over), each of 10 rows or more.

    Returns
    -------
    float
        0 or more; 1 says that some part's hedge ratio is nothing, or double. ``inf`` for a hedge ratio of 0;
        NaN where the independent leg is constant in the window or a part.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        Legs of different length, ``n_windows`` not positive, or too few rows for it.
    """
    left, right = _checked_legs(a, b, at_least=bars_needed(n_windows))
    whole = _line(left, right)[1]
    parts = np.array([_line(left[part], right[part])[1] for part in _parts(len(left), n_windows)])
    furthest = float(np.abs(parts - whole).max())
    if math.isnan(whole) or math.isnan(furthest):
        return math.nan
    return furthest / abs(whole) if whole else math.inf


def structural_break(a: npt.ArrayLike, b: npt.ArrayLike, *, trim: float = 0.15) -> StructuralBreak:
    """Hansen's sup-F test that intercept and hedge ratio of a cointegrating regression were the same throughout.

    The null is cointegration with one intercept and one hedge ratio: a small p says that the relation broke inside
    the window, by a shift of level, of hedge ratio, or because the spread wandered off. (The Gregory-Hansen test
    has the null of no cointegration; to reject it would let the broken pair pass.)

    The scores are those of the fully modified regression, so that an independent leg which reacts to the spread
    leaves the null distribution as it is. Their long-run variance is prewhitened by the residual's first
    autocorrelation, at most 0.97, lest a break that makes the residual persistent hide behind its own variance.
    Spreads with a half-life beyond some 20 bars are therefore rejected too often when they are stable.

    Parameters
    ----------
    a, b
        Log prices (T,) of the dependent and the independent leg, T ≥ 50. NaN and infinities are refused.
    trim
        Share of rows at either end in which no break is looked for, within 0.05 and 0.25.

    Returns
    -------
    StructuralBreak
        ``p_value`` is interpolated in a table simulated by ``simulate_sup_f`` and lies within 0.001 and 0.5. NaN,
        and row 0, where the independent leg is a straight line or the legs are collinear.

    Raises
    ------
    BarDataError
        A value that is not finite.
    ParameterError
        Legs of different length, fewer than 50 rows, or ``trim`` out of its bounds.

    References
    ----------
    Hansen, B. E. (1992). Tests for parameter instability in regressions with I(1) processes. Journal of Business &
    Economic Statistics, 10(3), 321-335.

    Andrews, D. W. K., Monahan, J. C. (1992). An improved heteroskedasticity and autocorrelation consistent
    covariance matrix estimator. Econometrica, 60(4), 953-966.
    """
    if not _TRIMS[0] <= trim <= _TRIMS[-1]:
        raise ParameterError(f"trim is {trim}, expected {_TRIMS[0]} to {_TRIMS[-1]}", where="trim")
    left, right = _checked_legs(a, b, at_least=_MIN_BREAK_BARS)
    alpha, beta = _line(left, right)
    residual = left - alpha - beta * right
    moves = np.diff(right)
    if not _varies(residual, left) or np.ptp(moves[1:-1]) == 0.0:
        return StructuralBreak(math.nan, math.nan, 0)
    run = _long_run(residual, moves)
    # the two first rows went to the difference and to the prewhitening
    level = right[2:] - right[2:].mean()
    modified = left[2:] - run.response * (right[2:] - right[1:-1])
    offset = np.array([0.0, run.bias])
    design = np.column_stack((np.ones(len(level)), level))
    fitted = np.linalg.solve(design.T @ design, design.T @ modified - len(level) * offset)
    scores = design * (modified - design @ fitted)[:, None] - offset
    f = _f_statistics(scores, level, trim) / run.variance
    best = int(f.argmax())
    p_value = np.interp(trim, _TRIMS, [_tail(f[best], row) for row in _SUP_F])
    return StructuralBreak(float(f[best]), float(p_value), 2 + _first_break(len(level), trim) + best)


def simulate_sup_f(trim: float, *, n_draws: int, n_bars: int, rng: np.random.Generator) -> FloatArray:
    """Draws of the sup-F statistic under its null, from which the table of ``structural_break`` was made.

    A random walk is the regressor, independent noise of known variance the residual: the limit of the fully
    modified regression. The table holds the quantiles of 40,000 draws of 1,000 bars.

    Parameters
    ----------
    trim
        Share of rows at either end in which no break is looked for.
    n_draws, n_bars
        Draws, and length of each.
    rng
        Source of the draws.

    Returns
    -------
    Array (n_draws,).
    """
    found = np.empty(n_draws, dtype=np.float64)
    for draw in range(n_draws):
        walk = np.cumsum(rng.standard_normal(n_bars))
        noise = rng.standard_normal(n_bars)
        alpha, beta = _line(noise, walk)
        error = noise - alpha - beta * walk
        walk -= walk.mean()
        found[draw] = _f_statistics(np.column_stack((error, walk * error)), walk, trim).max()
    return found


@dataclass(frozen=True)
class _LongRun:
    """What the fully modified regression needs of residual and regressor moves.

    ``response`` of the residual to the moves, ``bias`` of the scores, ``variance`` of the residual given the moves.
    """

    response: float
    bias: float
    variance: float


def _long_run(residual: FloatArray, moves: FloatArray) -> _LongRun:
    """Long-run moments: the residual prewhitened by its first autocorrelation, Bartlett's kernel on the rest."""
    centred = residual[1:] - residual[1:].mean()
    persistence = min(float(centred[1:] @ centred[:-1]) / float(centred[:-1] @ centred[:-1]), _MAX_PERSISTENCE)
    shock = centred[1:] - persistence * centred[:-1]
    move = (moves - moves.mean())[1:]
    n, reach = len(shock), _andrews_lags(shock, move)
    weight = 1.0 - np.arange(1, reach + 1) / (reach + 1.0)
    own = _cross(shock, shock, reach)
    walk = _cross(move, move, reach)
    after, before = _cross(move, shock, reach), _cross(shock, move, reach)
    follows = float(weight @ after[1:])
    joint = (after[0] + follows + float(weight @ before[1:])) / (1.0 - persistence)
    one_sided = walk[0] + float(weight @ walk[1:])
    walk_variance = walk[0] + 2.0 * float(weight @ walk[1:])
    response = joint / walk_variance
    toward = (float(move @ centred[1:]) / n + follows) / (1.0 - persistence)
    variance = (own[0] + 2.0 * float(weight @ own[1:])) / (1.0 - persistence) ** 2
    return _LongRun(response, toward - one_sided * response, variance - joint * response)


def _andrews_lags(*series: FloatArray) -> int:
    """Lags of Bartlett's kernel by the first autocorrelations, as Andrews (1991), all series alike."""
    rho = np.array([float(x[1:] @ x[:-1]) / float(x[:-1] @ x[:-1]) for x in series]).clip(-0.9, 0.9)
    curvature = float(np.mean(4.0 * rho**2 / (1.0 - rho**2) ** 2))
    return int(1.1447 * (curvature * len(series[0])) ** (1.0 / 3.0))


def _f_statistics(scores: FloatArray, level: FloatArray, trim: float) -> FloatArray:
    """F of a break after each row between ``trim`` and 1 - ``trim``, for scores of unit long-run variance.

    ``scores`` (T, 2) add up to 0; ``level`` (T,) is the centred regressor.
    """
    n = len(level)
    rows = np.arange(_first_break(n, trim), n - _first_break(n, trim))
    sums = np.cumsum(scores, axis=0)[rows]
    ones, mixed, squares = rows + 1.0, np.cumsum(level)[rows], np.cumsum(level * level)
    whole = squares[-1]
    squares = squares[rows]
    # M - M M_n⁻¹ M, M_n being diagonal for a centred regressor
    v00 = ones - ones**2 / n - mixed**2 / whole
    v01 = mixed - ones * mixed / n - mixed * squares / whole
    v11 = squares - mixed**2 / n - squares**2 / whole
    determinant = v00 * v11 - v01**2
    form = v11 * sums[:, 0] ** 2 - 2.0 * v01 * sums[:, 0] * sums[:, 1] + v00 * sums[:, 1] ** 2
    # where the regressor has not moved yet there are no two lines to tell apart
    known = determinant > _SINGULAR * v00 * v11
    return np.asarray(np.divide(form, determinant, out=np.zeros(len(rows)), where=known), dtype=np.float64)


def _first_break(n: int, trim: float) -> int:
    """Row after which the first break may come."""
    return math.ceil(trim * n) - 1


def _tail(statistic: float, quantiles: tuple[float, ...]) -> float:
    """p-value between the tabulated quantiles, linear in its logarithm."""
    return math.exp(float(np.interp(statistic, quantiles, np.log(_SUP_F_P))))


def _hobijn_lags(centred: FloatArray) -> int:
    n = len(centred)
    reach = int(n ** (2.0 / 9.0))
    covariance = 2.0 * _cross(centred, centred, reach)
    ratio = float(np.arange(reach + 1) @ covariance) / (covariance[0] / 2.0 + float(covariance[1:].sum()))
    return min(int(1.1447 * (ratio * ratio) ** (1.0 / 3.0) * n ** (1.0 / 3.0)), n - 1)


def _cross(first: FloatArray, then: FloatArray, lags: int) -> FloatArray:
    """Mean of ``first`` at t times ``then`` at t + k, for k from 0 to ``lags``; both centred."""
    n = len(first)
    return np.array([first[: n - k] @ then[k:] for k in range(lags + 1)]) / n


def _singular(matrix: FloatArray) -> bool:
    scale = float(matrix[0, 0] * matrix[1, 1])
    return not scale > 0.0 or scale - float(matrix[0, 1]) ** 2 <= _SINGULAR * scale


def _line(dependent: FloatArray, independent: FloatArray) -> tuple[float, float]:
    """Intercept and slope by least squares; NaN where the independent leg is constant."""
    if np.ptp(independent) == 0.0:
        return math.nan, math.nan
    level = independent - independent.mean()
    beta = float(level @ dependent) / float(level @ level)
    return float(dependent.mean()) - beta * float(independent.mean()), beta


def _varies(residual: FloatArray, dependent: FloatArray) -> bool:
    centred = dependent - dependent.mean()
    return bool(float(residual @ residual) > _SINGULAR * float(centred @ centred))


def _parts(n: int, n_windows: int) -> list[slice]:
    size, rest = divmod(n, n_windows)
    cuts = [0, *(rest + size * (k + 1) for k in range(n_windows))]
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def bars_needed(n_windows: int) -> int:
    """Least bars of a pair whose window is cut into that many parts."""
    if n_windows < 1:
        raise ParameterError(f"n_windows is {n_windows}, expected 1 or more", where="n_windows")
    return _MIN_WINDOW_BARS * n_windows


def _checked_legs(a: npt.ArrayLike, b: npt.ArrayLike, *, at_least: int) -> tuple[FloatArray, FloatArray]:
    left, right = (
        finite_series(a, "dependent leg", at_least=at_least),
        finite_series(b, "independent leg", at_least=at_least),
    )
    if len(left) != len(right):
        raise ParameterError(f"legs have {len(left)} and {len(right)} rows, expected as many of each", where="legs")
    return left, right
