"""Champions: which pairs of a roster have earned money to follow them, from completed trading windows only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pandas as pd

from mntrading.core import champion_rules, clusters, metrics
from mntrading.core.champion_rules import Failure
from mntrading.core.types import Pair
from mntrading.params import ChampionParams

Tried = Mapping[tuple[str, str], int]
"""Candidates tried by fold and pair id; one where there is no entry."""


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
    n_tried
        Candidates that were tried before the one that traded was chosen, itself included.
    """

    fold: str
    returns: pd.Series
    n_trades: int
    net_pnl: float
    costs: float
    n_tried: int = 1


@dataclass(frozen=True)
class Candidate:
    """A pair of the roster with its record, its cluster and every rule it breaks."""

    pair: Pair
    failures: tuple[Failure, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    cluster: int = 1
    challenger: bool = False

    @property
    def champion(self) -> bool:
        """Whether it keeps every rule and has a place."""
        return not self.failures

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every rule it breaks, in words."""
        return tuple(failure.reason for failure in self.failures)


@dataclass(frozen=True)
class Selection:
    """The candidates, champions ahead and best first, and the trials their ratios were charged with.

    Parameters
    ----------
    candidates
        One per pair of the roster.
    n_pairs_traded
        Pairs with a record.
    n_trials
        Strategies tried to make those records.
    trials_variance
        Variance of the Sharpe ratios per day of the pairs traded.
    """

    candidates: tuple[Candidate, ...]
    n_pairs_traded: int
    n_trials: int
    trials_variance: float

    @property
    def champions(self) -> tuple[Candidate, ...]:
        """Those that keep every rule and have a place."""
        return tuple(candidate for candidate in self.candidates if candidate.champion)

    @property
    def rejected(self) -> tuple[Candidate, ...]:
        """All others, challengers among them."""
        return tuple(candidate for candidate in self.candidates if not candidate.champion)

    @property
    def challengers(self) -> tuple[Candidate, ...]:
        """The best of those that lack nothing but evidence or a place."""
        return tuple(candidate for candidate in self.candidates if candidate.challenger)

    def explanation(self) -> str:
        """How many are champions, how many each rule rejected, and the nearest miss with what it lacks.

        "0 of 20 pairs: 12 have fewer than 4 trades, 9 have a Sharpe below 0.5; nearest: A__B, 3 of 4 trades". The
        nearest breaks the fewest rules, and of those lacks the least as shares of their limits.
        """
        head = f"{len(self.champions)} of {len(self.candidates)} {'pair' if len(self.candidates) == 1 else 'pairs'}"
        if not self.candidates:
            return f"{head}: the roster is empty"
        counts = Counter(f.has for candidate in self.rejected for f in {f.rule: f for f in candidate.failures}.values())
        told = [f"{n} {'has' if n == 1 else 'have'} {has}" for has, n in counts.most_common()]
        parts = [", ".join(candidate.pair.id for candidate in self.champions), ", ".join(told)]
        judged = [candidate for candidate in self.rejected if candidate.figures]
        if judged:
            near = min(judged, key=lambda c: (len(c.failures), sum(f.shortfall for f in c.failures)))
            parts.append(f"nearest: {near.pair.id}, {', '.join(f.nearly for f in near.failures)}")
        return f"{head}: {'; '.join(part for part in parts if part)}"


def count_trials(records: Mapping[frozenset[str], Sequence[WindowRecord]]) -> int:
    """Strategies tried to make these records: pairs, each times the most candidates tried for it in any window."""
    return sum(max(window.n_tried for window in windows) for windows in records.values() if windows)


def select_champions(
    roster: Sequence[Pair],
    records: Mapping[frozenset[str], Sequence[WindowRecord]],
    params: ChampionParams,
    *,
    n_trials: int,
    spreads: pd.DataFrame | None = None,
) -> Selection:
    """Judge every pair of a roster by its record in completed trading windows.

    A pair's record is what the same two symbols did in the windows in which they were on the roster then, in
    either direction. Those that keep every rule take places in the order of their deflated Sharpe ratios: at most
    ``max_pairs_per_symbol`` with a symbol and ``max_pairs_per_cluster`` in a cluster. Of the others, those that break
    nothing but evidence rules (``min_trades``, ``min_deflated_sharpe``) or caps are challengers, the best
    ``n_challengers`` of them.

    Look-ahead: uses the records and spreads given, which the caller has limited to windows that ended before.

    Parameters
    ----------
    roster
        Pairs to judge.
    records
        Records by the pair's unordered symbols.
    params
        Rules.
    n_trials
        Strategies tried in those windows (``count_trials``): what the deflated Sharpe ratio is charged with.
    spreads
        Daily changes of the pairs' spreads over the formation window (``clusters.spread_changes``), for pairs whose
        records share too few days; None for none.

    Returns
    -------
    One candidate per roster pair.
    """
    variance = _trials_variance(records)
    judged = [_judge(pair, records.get(pair.unordered, ()), params, max(n_trials, 1), variance) for pair in roster]
    judged.sort(key=_rank)
    cluster_of = _clusters(judged, records, params, spreads)
    order: dict[int, int] = {}
    placed: list[Candidate] = []
    for candidate in judged:
        number = order.setdefault(cluster_of[candidate.pair.id], len(order) + 1)
        here = replace(candidate, cluster=number)
        placed.append(here if here.failures else replace(here, failures=_no_place(here, placed, params)))
    curable = [c.pair for c in placed if c.failures and {f.kind for f in c.failures} <= champion_rules.CURABLE]
    challengers = set(curable[: params.n_challengers])
    marked = [replace(candidate, challenger=candidate.pair in challengers) for candidate in placed]
    marked.sort(key=lambda candidate: not candidate.champion)
    return Selection(tuple(marked), sum(map(bool, records.values())), n_trials, variance)


def _rank(candidate: Candidate) -> tuple[bool, float, str]:
    """Those that keep every rule first, then by deflated Sharpe ratio, then by name."""
    deflated = candidate.figures.get("deflated_sharpe", float("nan"))
    return bool(candidate.failures), -deflated if np.isfinite(deflated) else 1.0, candidate.pair.id


def _no_place(candidate: Candidate, before: Sequence[Candidate], params: ChampionParams) -> tuple[Failure, ...]:
    """The caps that leave a candidate without a place beside the champions before it."""
    champions = [other for other in before if other.champion]
    out = []
    for symbol in candidate.pair.symbols:
        there = [other.pair.id for other in champions if symbol in other.pair.symbols]
        if len(there) >= params.max_pairs_per_symbol:
            out.append(champion_rules.cap("max_pairs_per_symbol", symbol, params.max_pairs_per_symbol, there))
    there = [other.pair.id for other in champions if other.cluster == candidate.cluster]
    if len(there) >= params.max_pairs_per_cluster:
        where = f"cluster {candidate.cluster}"
        out.append(champion_rules.cap("max_pairs_per_cluster", where, params.max_pairs_per_cluster, there))
    return tuple(out)


def _clusters(
    judged: Sequence[Candidate],
    records: Mapping[frozenset[str], Sequence[WindowRecord]],
    params: ChampionParams,
    spreads: pd.DataFrame | None,
) -> dict[str, int]:
    """Cluster by pair id; a pair without a record is compared by its spread alone."""
    returns = {
        # windows that meet at another hour than midnight share a day
        c.pair.id: _joined(windows).groupby(level=0).sum()
        if (windows := records.get(c.pair.unordered))
        else _NO_RETURNS
        for c in judged
    }
    rules = params.clusters
    known = pd.DataFrame() if spreads is None else spreads
    correlation = clusters.correlations(returns, known, min_days=rules.min_days)
    return clusters.group(correlation, method=rules.linkage, min_correlation=rules.min_correlation)


_NO_RETURNS: Final = pd.Series(np.zeros(0), index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]"))


def _joined(windows: Sequence[WindowRecord]) -> pd.Series:
    joined: pd.Series = pd.concat([window.returns for window in windows])
    return joined


def _trials_variance(records: Mapping[frozenset[str], Sequence[WindowRecord]]) -> float:
    """Variance of the per-day Sharpe ratios of everything that was traded.

    Where fewer than two have a ratio there is nothing to measure it on; it is then what chance gives the ratio of T
    days without skill, 1 / (T − 1).
    """
    returns = [_joined(windows) for windows in records.values() if windows]
    ratios = np.array([metrics.sharpe(days, periods_per_year=1) for days in returns])
    finite = ratios[np.isfinite(ratios)]
    if len(finite) > 1:
        return float(finite.var(ddof=1))
    longest = max((len(days) for days in returns), default=0)
    return 1.0 / (longest - 1) if longest > 1 else 0.0


def _judge(
    pair: Pair, windows: Sequence[WindowRecord], params: ChampionParams, n_trials: int, trials_variance: float
) -> Candidate:
    if not windows:
        return Candidate(pair, (champion_rules.NO_RECORD,))
    returns = _joined(windows)
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
        "n_days": float(len(returns)),
        "n_tried": float(max(window.n_tried for window in windows)),
        "n_trades": float(sum(window.n_trades for window in windows)),
        "net_pnl": net,
        "costs": costs,
        "sharpe": metrics.sharpe(returns),
        "deflated_sharpe": deflated,
        "max_drawdown": metrics.max_drawdown(equity),
        "positive_folds": float(np.mean([window.net_pnl > 0 for window in windows])),
        "net_pnl_at_cost_multiple": net - (params.survives_cost_multiple - 1) * costs,
    }
    return Candidate(pair, champion_rules.failures(figures, params, n_trials=n_trials), figures)


def window_records(
    curves: Mapping[str, pd.DataFrame],
    windows: Mapping[str, pd.DataFrame],
    pairs: Mapping[str, Pair],
    folds: Sequence[str],
    tried: Tried | None = None,
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
    tried
        Candidates tried by fold and pair id; None for one each.
    """
    out: dict[frozenset[str], list[WindowRecord]] = {}
    order = {name: position for position, name in enumerate(folds)}
    counts = {} if tried is None else tried
    for pair_id, pair in sorted(pairs.items()):
        table = windows[pair_id]
        for row in table.loc[table["fold"].isin(order)].to_dict("records"):
            fold = row["fold"]
            equity = curves[pair_id].loc[curves[pair_id]["fold"] == fold, "equity"]
            record = WindowRecord(
                fold, metrics.daily_returns(equity), int(row["n_trades"]), row["net_pnl"], row["costs"],
                counts.get((fold, pair_id), 1),
            )  # fmt: skip
            out.setdefault(pair.unordered, []).append(record)
    for records in out.values():
        records.sort(key=lambda record: order[record.fold])
    return out


def times(*tried: Tried) -> dict[tuple[str, str], int]:
    """Candidates of several kinds together: each of one kind may have been tried with each of another."""
    out: dict[tuple[str, str], int] = {}
    for counts in tried:
        for key, n in counts.items():
            out[key] = out.get(key, 1) * n
    return out
