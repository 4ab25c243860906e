"""The screen of one formation window: all pairs tested, multiple testing paid for, gates, caps, hysteresis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import confirmation, mean_reversion
from mntrading.core.cointegration import Progress, engle_granger_pairs, engle_granger_residuals, white_t_stats
from mntrading.core.mackinnon import mackinnon_p_value
from mntrading.core.multiple_testing import adjust, direction_adjusted
from mntrading.core.residual_tests import legs_of
from mntrading.core.types import FloatArray, IntArray, Pair, slug
from mntrading.core.universe import Universe, select_universe
from mntrading.params import ConfirmationParams, ScreeningParams

SELECTED = "selected"
NOT_SIGNIFICANT = "not significant"
NOT_AMONG_BEST = "not among the best"

CONFIRMATION_COLUMNS = ("johansen_trace", "kpss_statistic", "stable_share", "hedge_ratio_drift", "break_p")

PAIR_COLUMNS = (
    "pair_id", "dependent", "independent", "alpha", "beta", "t_stat", "p_value", "t_white", "p_robust",
    "p_both_directions", "p_adjusted", "lag", "n_obs", "half_life_hours", "hurst", "mean_crossings",
    "return_correlation", "liquidity",
    *CONFIRMATION_COLUMNS, "significant", "verdict", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Screen:
    """What one formation window's screen found.

    Parameters
    ----------
    tests
        One row per unordered pair tested, better direction: columns of ``engle_granger_pairs``, ``t_white`` (NaN where
        the pair was far from significant), ``p_robust``, ``p_both_directions`` and ``p_adjusted``.
    pairs
        ``PAIR_COLUMNS`` of every pair that passed multiple testing or was taken as one of the best k (selected or
        stopped by a later gate, with the reason), and of the nearest misses. ``CONFIRMATION_COLUMNS`` are NaN where
        the gate is off or the pair did not come as far.
    universe
        The symbols tested and the funnel before them.
    funnel
        Pairs by the reason they stopped at; ``selected`` last. ``not significant`` counts those that stopped for
        it: with ``select: top_k`` a pair may go further without being significant.
    n_tests
        Unordered pairs tested, the number multiple testing is paid for.
    rows_dropped
        Bars of the window left out because a symbol of the universe that was listed by then had none there.
    """

    tests: pd.DataFrame
    pairs: pd.DataFrame
    universe: Universe
    funnel: dict[str, int]
    n_tests: int
    rows_dropped: int

    @property
    def selected(self) -> tuple[Pair, ...]:
        """The pairs that passed everything, best first."""
        rows = self.pairs.loc[self.pairs["verdict"] == SELECTED]
        return tuple(Pair(d, i) for d, i in zip(rows["dependent"], rows["independent"], strict=True))


def screen(
    close: pd.DataFrame,
    volume: pd.DataFrame,
    params: ScreeningParams,
    *,
    previous: Collection[Pair] = (),
    n_threads: int = 1,
    progress: Progress | None = None,
) -> Screen:
    """Screen every pair of one formation window.

    A pair's p-value is twice the smaller one of its two directions', so choosing the better direction
    is paid for, and multiple testing runs over all pairs. A pair of the ``previous`` roster stays, in its
    direction, while its adjusted p-value is within ``keep_level`` (hysteresis); a new one needs ``level``. With
    ``select: top_k`` the k pairs of the smallest adjusted p-values are taken instead, and only those, significant
    or not.

    A pair taken meets the gates in this order and stops at the first it fails: half-life, Hurst exponent, mean
    crossings, correlation of returns; then the confirmations that are on, all computed for whoever comes so far:
    Johansen's trace, KPSS, stability over sub-windows, drift of the hedge ratio, structural break; then the caps.

    Both directions of a pair are tested on the bars both legs have: a symbol listed inside the window takes part with
    the bars since then. With ``robust`` a p-value is the larger one of the test's own and that with White's standard
    errors, for volatility that comes in clusters.

    Look-ahead: uses the rows given, which the caller has cut at the formation end.

    Parameters
    ----------
    close, volume
        Matrices (time on the complete grid × symbol) of the formation window; NaN where there is no bar.
    params
        Universe rules, test, adjustment, gates and caps.
    previous
        Pairs of the roster before this one.
    n_threads
        Threads for the tests.
    progress
        Called as ``progress(tests done, tests in all)``, now and then and when all pairs are tested.
    """
    universe = select_universe(close, volume, params.universe)
    if len(universe.symbols) < 2:
        return _nothing_tested(universe)
    log_close = close[list(universe.symbols)].astype("float64").transform(np.log)
    complete = without_gaps(log_close)
    tests = _test(complete, params, {pair.unordered: pair for pair in previous}, n_threads, progress)
    window = _Window(complete, _step_hours(close), universe)
    candidates = _gated(tests, window, params, {pair.unordered for pair in previous})
    further = candidates.loc[candidates["reason"] != NOT_SIGNIFICANT]
    stopped = Counter(further.loc[further["verdict"] != SELECTED, "reason"])
    funnel = {
        "tested": len(tests),
        NOT_SIGNIFICANT: len(tests) - len(further),
        **dict(sorted(stopped.items())),
        SELECTED: int((candidates["verdict"] == SELECTED).sum()),
    }
    return Screen(tests, candidates, universe, funnel, len(tests), len(log_close) - len(complete))


def _nothing_tested(universe: Universe) -> Screen:
    pairs = pd.DataFrame(columns=list(PAIR_COLUMNS))
    tests = pairs[["pair_id", "dependent", "independent", "p_value", "p_adjusted"]]
    return Screen(tests, pairs, universe, {"tested": 0, SELECTED: 0}, 0, 0)


def without_gaps(log_close: pd.DataFrame) -> pd.DataFrame:
    """The bars that every symbol listed by then has; NaN before a symbol's listing."""
    known = log_close.notna().to_numpy()
    listed = np.maximum.accumulate(known, axis=0)
    complete: pd.DataFrame = log_close.loc[(known == listed).all(axis=1) & listed.any(axis=1)]
    return complete


def _step_hours(frame: pd.DataFrame) -> float:
    return float((frame.index[1] - frame.index[0]) / pd.Timedelta(1, unit="h"))


# --- tests


def _test(
    log_close: pd.DataFrame,
    params: ScreeningParams,
    previous: Mapping[frozenset[str], Pair],
    n_threads: int,
    progress: Progress | None,
) -> pd.DataFrame:
    """One row per unordered pair, best first, in the direction of the smaller p-value or that of the last roster.

    Pairs that are significant or on the roster before are tested again from their residuals, so that their figures owe
    nothing to the symbols they were screened with. With ``robust``, those within ``keep_level`` are tested with White's
    standard errors too. That can only raise p-values, and whoever is beyond a level stays beyond it: the pairs found
    are those that testing all of them so would find.
    """
    ordered = engle_granger_pairs(
        log_close,
        max_lag=params.max_lag,
        autolag=params.autolag,
        trend=params.trend,
        progress=progress,
        n_threads=n_threads,
    )
    ordered["t_white"], ordered["p_robust"] = np.nan, ordered["p_value"]
    first, second = np.triu_indices(log_close.shape[1], 1)
    # the engine's rows are by dependent, then independent, each in column order
    forward = first * (log_close.shape[1] - 1) + second - 1
    backward = second * (log_close.shape[1] - 1) + first
    held = np.zeros(len(first), dtype=np.bool_)
    turned_before = held.copy()
    place = {symbol: number for number, symbol in enumerate(log_close.columns)}
    for pair in previous.values():
        if set(pair.symbols) <= set(place):
            dependent, independent = (place[symbol] for symbol in pair.symbols)
            low, high = sorted((dependent, independent))
            row = low * len(place) - low * (low + 1) // 2 + high - low - 1
            held[row], turned_before[row] = True, dependent == high
    p_adjusted = _adjusted(ordered, forward, backward, params)
    again = np.flatnonzero((p_adjusted <= (params.keep_level if params.robust else params.level)) | held)
    if params.top_k is not None:
        again = np.union1d(again, np.argsort(p_adjusted, kind="stable")[: params.top_k])
    if len(again):
        rows = np.concatenate((forward[again], backward[again]))
        legs = [Pair(*row) for row in ordered.loc[rows, ["dependent", "independent"]].to_numpy()]
        exact = engle_granger_residuals(
            log_close, legs, max_lag=params.max_lag, autolag=params.autolag, trend=params.trend
        )
        for name in exact.columns[2:]:
            ordered.loc[rows, name] = exact[name].to_numpy()
        ordered.loc[rows, "p_robust"] = exact["p_value"].to_numpy()
        if params.robust:
            t_white = white_t_stats(log_close, exact, trend=params.trend)
            # no statistic is no evidence
            weaker = np.fmax(
                exact["p_value"], np.where(np.isnan(t_white), 1.0, mackinnon_p_value(t_white, params.trend))
            )
            ordered.loc[rows, ["t_white", "p_robust"]] = np.column_stack((t_white, weaker))
        p_adjusted = _adjusted(ordered, forward, backward, params)
    p, t = ordered["p_robust"].to_numpy(), ordered["t_stat"].to_numpy()
    # by p, then by t: p-values of very strong pairs are equal to the last digit
    turned = (p[backward] < p[forward]) | ((p[backward] == p[forward]) & (t[backward] < t[forward]))
    turned = np.where(held, turned_before, turned)
    rows = np.where(turned, backward, forward)
    # put in order once, as tables of millions of pairs are what a screen's memory goes to
    order = np.lexsort((p[rows], p_adjusted))
    tests = ordered.take(rows[order]).reset_index(drop=True)
    tests["p_both_directions"] = direction_adjusted(p[forward], p[backward])[order]
    y, x = (np.where(turned, *both)[order] for both in ((second, first), (first, second)))
    slugs = np.array([slug(symbol) for symbol in log_close.columns], dtype=object)
    tests["pair_id"] = (slugs + "__")[y] + slugs[x]
    tests["p_adjusted"] = p_adjusted[order]
    return tests


def _adjusted(ordered: pd.DataFrame, forward: IntArray, backward: IntArray, params: ScreeningParams) -> FloatArray:
    p = ordered["p_robust"].to_numpy()
    return adjust(direction_adjusted(p[forward], p[backward]), method=params.adjustment)


# --- gates


class _Window:
    """What the gates look at: log closes of a universe, NaN before a symbol's listing."""

    def __init__(self, log_close: pd.DataFrame, step_hours: float, universe: Universe) -> None:
        self.step_hours = step_hours
        self._liquidity = universe.liquidity.to_dict()
        self._values = np.ascontiguousarray(log_close.to_numpy().T)
        self._listed = np.isfinite(self._values).argmax(axis=1)
        self._number = {symbol: number for number, symbol in enumerate(log_close.columns)}

    def legs(self, pair: Pair) -> FloatArray:
        """Log closes (2 × T) of the dependent and the independent leg on the bars both have."""
        numbers = [self._number[symbol] for symbol in pair.symbols]
        return self._values[numbers, self._listed[numbers].max() :]

    def liquidity(self, pair: Pair) -> float:
        """Median quote volume per bar of the leg that trades less."""
        return float(min(self._liquidity[symbol] for symbol in pair.symbols))


def _gated(
    tests: pd.DataFrame, window: _Window, params: ScreeningParams, previous: Collection[frozenset[str]]
) -> pd.DataFrame:
    """Verdict and reason of every pair taken, best first, and of the nearest misses."""
    in_reach = int((tests["p_adjusted"] <= params.keep_level).sum())
    per_symbol: Counter[str] = Counter()
    rows: list[dict[Hashable, Any]] = []
    misses = selected = 0
    for rank, test in enumerate(tests.head(max(in_reach, params.top_k or 0) + params.n_reported).to_dict("records")):
        pair = Pair(test["dependent"], test["independent"])
        level = params.keep_level if pair.unordered in previous else params.level
        significant = bool(test["p_adjusted"] <= level)
        taken = significant if params.top_k is None else rank < params.top_k
        if not (taken or significant):
            misses += 1
            if misses > params.n_reported:
                continue
        legs = window.legs(pair)
        found = _diagnose(legs, test, params, window.step_hours) | {"liquidity": window.liquidity(pair)}
        reason = NOT_AMONG_BEST if significant else NOT_SIGNIFICANT
        if taken:
            reason = _stopped_at(found, params)
        if not reason:
            figures = _confirm(legs, float(test["beta"]), params.confirmation)
            found |= figures
            reason = _contradicted_by(figures, params.confirmation)
        if not reason and max(per_symbol[symbol] for symbol in pair.symbols) >= params.max_pairs_per_symbol:
            reason = "symbol has its cap of pairs"
        if not reason and selected >= params.max_pairs:
            reason = "roster is full"
        if not reason:
            per_symbol.update(pair.symbols)
            selected += 1
        verdict = "rejected" if reason else SELECTED
        outcome = {"significant": significant, "verdict": verdict, "reason": reason}
        rows.append(dict(test) | dict[Hashable, Any](found) | outcome)
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).astype(dict.fromkeys(CONFIRMATION_COLUMNS, "float64"))


def _diagnose(
    legs: FloatArray, test: Mapping[Hashable, Any], params: ScreeningParams, step_hours: float
) -> dict[str, float | int]:
    if not np.isfinite(test["beta"]):
        return dict.fromkeys(("half_life_hours", "hurst", "mean_crossings", "return_correlation"), float("nan"))
    dependent, independent = legs_of(legs, params.trend).values
    residual = dependent - test["beta"] * independent
    return {
        "half_life_hours": mean_reversion.half_life(residual) * step_hours,
        "hurst": mean_reversion.hurst(residual),
        "mean_crossings": mean_reversion.mean_crossings(residual),
        "return_correlation": float(np.corrcoef(*np.diff(legs))[0, 1]),
    }


def _stopped_at(found: dict[str, float | int], params: ScreeningParams) -> str:
    gates = (
        (found["half_life_hours"] < params.min_half_life_hours, "half-life too short"),
        (not found["half_life_hours"] <= params.max_half_life_hours, "half-life too long"),
        (not found["hurst"] <= params.max_hurst, "Hurst exponent too high"),
        (found["mean_crossings"] < params.min_mean_crossings, "too few mean crossings"),
        (not found["return_correlation"] >= params.min_return_correlation, "returns hardly correlated"),
        (found["return_correlation"] > params.max_return_correlation, "near-identical symbols"),
    )
    return next((why for stops, why in gates if stops), "")


def _confirm(legs: FloatArray, beta: float, params: ConfirmationParams) -> dict[str, float]:
    """Figures of the confirmations that are on; NaN where the pair has too few bars for one."""
    a, b = legs
    nan = float("nan")
    in_parts = len(a) >= confirmation.bars_needed(params.n_windows)
    found: dict[str, float] = {}
    if params.johansen_level is not None:
        found["johansen_trace"] = confirmation.johansen_trace(a, b, n_lags=params.johansen_lags).rank_0
    if params.kpss_level is not None:
        found["kpss_statistic"] = confirmation.kpss(a - beta * b, n_lags=params.kpss_lags).statistic
    if params.min_stable_share is not None:
        found["stable_share"] = confirmation.subwindow_stability(a, b, n_windows=params.n_windows) if in_parts else nan
    if params.max_hedge_ratio_drift is not None:
        drift = confirmation.hedge_ratio_drift(a, b, n_windows=params.n_windows) if in_parts else nan
        found["hedge_ratio_drift"] = drift
    if params.break_level is not None:
        found["break_p"] = confirmation.structural_break(a, b, trim=params.break_trim).p_value
    return found


def _contradicted_by(found: Mapping[str, float], params: ConfirmationParams) -> str:
    """Reason of the first confirmation that fails; a figure that is NaN confirms nothing."""
    johansen, kpss, break_level = params.johansen_level, params.kpss_level, params.break_level
    share, drift = params.min_stable_share, params.max_hedge_ratio_drift
    gates = (
        (
            johansen is not None and not found["johansen_trace"] > confirmation.JOHANSEN_CRITICAL[johansen][0],
            "no relation by Johansen's trace",
        ),
        (
            kpss is not None and not found["kpss_statistic"] <= confirmation.SHIN_CRITICAL[kpss],
            "residual not stationary by KPSS",
        ),
        (share is not None and not found["stable_share"] >= share, "reverts in too few sub-windows"),
        (drift is not None and not found["hedge_ratio_drift"] <= drift, "hedge ratio drifts"),
        (break_level is not None and not found["break_p"] > break_level, "relation broke inside the window"),
    )
    return next((why for stops, why in gates if stops), "")
