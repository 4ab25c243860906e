"""The screen of one formation window: all pairs tested, multiple testing paid for, gates, caps, hysteresis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import confirmation, mean_reversion
from mntrading.core.cointegration import engle_granger_pairs
from mntrading.core.multiple_testing import adjust, direction_adjusted
from mntrading.core.types import Pair
from mntrading.core.universe import Universe, select_universe
from mntrading.params import ConfirmationParams, ScreeningParams

SELECTED = "selected"
NOT_SIGNIFICANT = "not significant"
NOT_AMONG_BEST = "not among the best"

CONFIRMATION_COLUMNS = ("johansen_trace", "kpss_statistic", "stable_share", "hedge_ratio_drift", "break_p")

PAIR_COLUMNS = (
    "pair_id", "dependent", "independent", "alpha", "beta", "t_stat", "p_value", "p_both_directions", "p_adjusted",
    "lag", "n_obs", "half_life_hours", "hurst", "mean_crossings", "return_correlation", "liquidity",
    *CONFIRMATION_COLUMNS, "significant", "verdict", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Screen:
    """What one formation window's screen found.

    Parameters
    ----------
    tests
        One row per unordered pair tested, better direction: test columns and ``p_adjusted``.
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
        Bars of the window left out because a symbol of the universe had none there.
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
) -> Screen:
    """Screen every pair of one formation window.

    Both directions of each pair are tested; its p-value is twice the smaller one, so choosing the better direction
    is paid for, and multiple testing runs over all pairs. A pair of the ``previous`` roster stays, in its
    direction, while its adjusted p-value is within ``keep_level`` (hysteresis); a new one needs ``level``. With
    ``select: top_k`` the k pairs of the smallest adjusted p-values are taken instead, and only those, significant
    or not.

    A pair taken meets the gates in this order and stops at the first it fails: half-life, Hurst exponent, mean
    crossings, correlation of returns; then the confirmations that are on, all computed for whoever comes so far:
    Johansen's trace, KPSS, stability over sub-windows, drift of the hedge ratio, structural break; then the caps.

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
    """
    universe = select_universe(close, volume, params.universe)
    log_close = close[list(universe.symbols)].astype("float64").transform(np.log)
    complete = log_close.dropna()
    if len(universe.symbols) < 2:
        return _nothing_tested(universe)
    ordered = engle_granger_pairs(
        complete, max_lag=params.max_lag, autolag=params.autolag, trend=params.trend, n_threads=n_threads
    )
    tests = _both_directions(ordered, {pair.unordered: pair for pair in previous})
    tests["p_adjusted"] = adjust(tests["p_both_directions"].to_numpy(), method=params.adjustment)
    tests = tests.sort_values(["p_adjusted", "p_value", "pair_id"], ignore_index=True)
    candidates = _gated(tests, complete, universe, params, {pair.unordered for pair in previous})
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


def _both_directions(ordered: pd.DataFrame, previous: dict[frozenset[str], Pair]) -> pd.DataFrame:
    """One row per unordered pair in the direction of the smaller p-value, or that of the previous roster."""
    first = ordered["dependent"] < ordered["independent"]
    forward = ordered[first].set_index(["dependent", "independent"]).sort_index()
    backward = ordered[~first].set_index(["independent", "dependent"]).sort_index()
    p_forward, p_backward = forward["p_value"].to_numpy(), backward["p_value"].to_numpy()
    # by p, then by t: p-values of very strong pairs are equal to the last digit
    swap = (p_backward < p_forward) | (
        (p_backward == p_forward) & (backward["t_stat"].to_numpy() < forward["t_stat"].to_numpy())
    )
    for row, symbols in enumerate(forward.index):
        kept = previous.get(frozenset(symbols))
        if kept is not None:
            swap[row] = kept.dependent != symbols[0]
    better = pd.DataFrame(
        {name: np.where(swap, backward[name], forward[name]) for name in forward.columns}, index=forward.index
    ).reset_index()
    better.loc[swap, ["dependent", "independent"]] = better.loc[swap, ["independent", "dependent"]].to_numpy()
    better["p_both_directions"] = direction_adjusted(p_forward, p_backward)
    better["pair_id"] = [Pair(d, i).id for d, i in zip(better["dependent"], better["independent"], strict=True)]
    return better.astype({"lag": "int64", "n_obs": "int64"})


def _gated(
    tests: pd.DataFrame,
    log_close: pd.DataFrame,
    universe: Universe,
    params: ScreeningParams,
    previous: Collection[frozenset[str]],
) -> pd.DataFrame:
    """Verdict and reason of every pair taken, best first, and of the nearest misses."""
    # the smallest step: bars that some symbol lacks have been dropped
    hours = log_close.index.to_series().diff().min() / pd.Timedelta(1, unit="h")
    returns = log_close.diff().iloc[1:]
    per_symbol: Counter[str] = Counter()
    rows: list[dict[Hashable, Any]] = []
    misses = selected = 0
    for rank, test in enumerate(tests.to_dict("records")):
        pair = Pair(test["dependent"], test["independent"])
        level = params.keep_level if pair.unordered in previous else params.level
        significant = bool(test["p_adjusted"] <= level)
        taken = significant if params.top_k is None else rank < params.top_k
        if not (taken or significant):
            misses += 1
            if misses > params.n_reported:
                if test["p_adjusted"] > params.keep_level:
                    break
                continue
        found = _diagnose(log_close, returns, test, hours)
        found["liquidity"] = float(min(universe.liquidity[symbol] for symbol in pair.symbols))
        reason = NOT_AMONG_BEST if significant else NOT_SIGNIFICANT
        if taken:
            reason = _stopped_at(found, params)
        if not reason:
            figures = _confirm(log_close, pair, float(test["beta"]), params.confirmation)
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
    log_close: pd.DataFrame, returns: pd.DataFrame, test: Mapping[Hashable, Any], hours: float
) -> dict[str, float | int]:
    dependent, independent = test["dependent"], test["independent"]
    if not np.isfinite(test["beta"]):
        return dict.fromkeys(("half_life_hours", "hurst", "mean_crossings", "return_correlation"), float("nan"))
    residual = (log_close[dependent] - test["beta"] * log_close[independent] - test["alpha"]).to_numpy()
    return {
        "half_life_hours": mean_reversion.half_life(residual) * hours,
        "hurst": mean_reversion.hurst(residual),
        "mean_crossings": mean_reversion.mean_crossings(residual),
        "return_correlation": float(np.corrcoef(returns[dependent], returns[independent])[0, 1]),
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


def _confirm(log_close: pd.DataFrame, pair: Pair, beta: float, params: ConfirmationParams) -> dict[str, float]:
    """Figures of the confirmations that are on."""
    legs = log_close[pair.dependent], log_close[pair.independent]
    found: dict[str, float] = {}
    if params.johansen_level is not None:
        found["johansen_trace"] = confirmation.johansen_trace(*legs, n_lags=params.johansen_lags).rank_0
    if params.kpss_level is not None:
        residual = (legs[0] - beta * legs[1]).rename(pair.id)
        found["kpss_statistic"] = confirmation.kpss(residual, n_lags=params.kpss_lags).statistic
    if params.min_stable_share is not None:
        found["stable_share"] = confirmation.subwindow_stability(*legs, n_windows=params.n_windows)
    if params.max_hedge_ratio_drift is not None:
        found["hedge_ratio_drift"] = confirmation.hedge_ratio_drift(*legs, n_windows=params.n_windows)
    if params.break_level is not None:
        found["break_p"] = confirmation.structural_break(*legs, trim=params.break_trim).p_value
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
