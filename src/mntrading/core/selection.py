"""Champions: which pairs of a roster have earned money to follow them, from completed trading windows only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.types import Pair
from mntrading.params import ChampionParams


@dataclass(frozen=True)
class WindowRecord:
    """One pair in one completed trading window, as its roster then traded it.

    Parameters
    ----------
    fold
        Name of the fold.
    returns
        Daily returns on the pair's notional, indexed by day.
    n_trades
        Closed trades.
    net_pnl, costs
        Of the window, as fractions of the notional.
    """

    fold: str
    returns: pd.Series
    n_trades: int
    net_pnl: float
    costs: float


@dataclass(frozen=True)
class Candidate:
    """A pair of the roster with its record and what the rules say about it."""

    pair: Pair
    champion: bool
    reasons: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)


def select_champions(
    roster: Sequence[Pair],
    records: Mapping[frozenset[str], Sequence[WindowRecord]],
    params: ChampionParams,
    *,
    n_trials: int,
) -> tuple[Candidate, ...]:
    """Judge every pair of a roster by its record in completed trading windows.

    A pair's record is what the same two symbols did in the windows in which they were on the roster then, in
    either direction. Best deflated Sharpe ratio first; a symbol is in at most ``max_pairs_per_symbol`` champions.

    Look-ahead: uses the records given, which the caller has limited to windows that ended before.

    Parameters
    ----------
    roster
        Pairs to judge.
    records
        Records by the pair's unordered symbols.
    params
        Rules.
    n_trials
        Pairs that were traded in those windows: the trials the deflated Sharpe ratio is charged with.

    Returns
    -------
    One candidate per roster pair, champions first.
    """
    spread_of_trials = _trials_variance(records)
    judged = [
        _judge(pair, records.get(pair.unordered, ()), params, max(n_trials, 1), spread_of_trials) for pair in roster
    ]
    judged.sort(key=lambda c: (not c.champion, -_or_worst(c.figures.get("deflated_sharpe")), c.pair.id))
    taken: Counter[str] = Counter()
    out = []
    for candidate in judged:
        chosen = candidate
        if candidate.champion and max(taken[s] for s in candidate.pair.symbols) >= params.max_pairs_per_symbol:
            why = f"a symbol is in {params.max_pairs_per_symbol} better champions already"
            chosen = Candidate(candidate.pair, False, (why,), candidate.figures)
        if chosen.champion:
            taken.update(chosen.pair.symbols)
        out.append(chosen)
    return tuple(sorted(out, key=lambda c: not c.champion))


def _or_worst(value: float | None) -> float:
    return -1.0 if value is None or not np.isfinite(value) else value


def _trials_variance(records: Mapping[frozenset[str], Sequence[WindowRecord]]) -> float:
    """Variance of the per-day Sharpe ratios of everything that was traded."""
    ratios = [
        metrics.sharpe(pd.concat([window.returns for window in windows]), periods_per_year=1)
        for windows in records.values()
        if windows
    ]
    finite = np.array([ratio for ratio in ratios if np.isfinite(ratio)])
    return float(finite.var(ddof=1)) if len(finite) > 1 else 0.0


def _judge(
    pair: Pair, windows: Sequence[WindowRecord], params: ChampionParams, n_trials: int, trials_variance: float
) -> Candidate:
    if not windows:
        return Candidate(pair, False, ("no completed trading window on the roster yet",))
    returns = pd.concat([window.returns for window in windows])
    equity = np.concatenate([[1.0], 1.0 + returns.cumsum().to_numpy()])
    costs = sum(window.costs for window in windows)
    net = sum(window.net_pnl for window in windows)
    moments = metrics.sharpe_moments(returns)
    deflated = (
        float("nan")
        if moments is None
        else metrics.deflated_sharpe_ratio(
            moments.sharpe,
            n_obs=moments.n_obs,
            n_trials=n_trials,
            trials_variance=trials_variance,
            skew=moments.skew,
            kurtosis=moments.kurtosis,
        )
    )
    figures = {
        "n_windows": float(len(windows)),
        "n_trades": float(sum(window.n_trades for window in windows)),
        "net_pnl": net,
        "costs": costs,
        "sharpe": metrics.sharpe(returns),
        "deflated_sharpe": deflated,
        "max_drawdown": metrics.max_drawdown(equity),
        "positive_folds": float(np.mean([window.net_pnl > 0 for window in windows])),
        "net_pnl_at_cost_multiple": net - (params.survives_cost_multiple - 1) * costs,
    }
    rules = (
        (figures["sharpe"] >= params.min_sharpe, f"Sharpe below {params.min_sharpe:g}"),
        (figures["max_drawdown"] <= params.max_drawdown, f"drawdown above {params.max_drawdown:.0%}"),
        (figures["n_trades"] >= params.min_trades, f"fewer than {params.min_trades} trades"),
        (
            figures["positive_folds"] >= params.min_positive_folds,
            f"fewer than {params.min_positive_folds:.0%} of folds positive",
        ),
        (
            deflated >= params.min_deflated_sharpe,
            f"deflated Sharpe ratio below {params.min_deflated_sharpe:g} over {n_trials} trials",
        ),
        (
            figures["net_pnl_at_cost_multiple"] > 0,
            f"does not survive {params.survives_cost_multiple:g}× costs",
        ),
    )
    failed = tuple(text for passed, text in rules if not passed)
    return Candidate(pair, not failed, failed, figures)


def window_records(
    curves: Mapping[str, pd.DataFrame],
    windows: Mapping[str, pd.DataFrame],
    pairs: Mapping[str, Pair],
    folds: Sequence[str],
) -> dict[frozenset[str], list[WindowRecord]]:
    """Records of completed trading windows by unordered pair, in the order of ``folds``.

    Look-ahead: none beyond the folds named.

    Parameters
    ----------
    curves
        By pair id: ``fold`` and ``equity`` of each bar (equity starts at 1 in each fold).
    windows
        By pair id: one row per fold traded, with ``fold``, ``n_trades``, ``net_pnl`` and ``costs``.
    pairs
        Pairs by id.
    folds
        Names of the folds to use.
    """
    out: dict[frozenset[str], list[WindowRecord]] = {}
    order = {name: position for position, name in enumerate(folds)}
    for pair_id, pair in sorted(pairs.items()):
        table = windows[pair_id]
        for row in table.loc[table["fold"].isin(order)].to_dict("records"):
            equity = curves[pair_id].loc[curves[pair_id]["fold"] == row["fold"], "equity"]
            record = WindowRecord(
                row["fold"], metrics.daily_returns(equity), int(row["n_trades"]), row["net_pnl"], row["costs"]
            )
            out.setdefault(pair.unordered, []).append(record)
    for records in out.values():
        records.sort(key=lambda record: order[record.fold])
    return out
