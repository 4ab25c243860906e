"""The rules a pair's record must keep to be a champion, and how they speak of one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mntrading.params import ChampionParams

Kind = Literal["record", "performance", "evidence", "cap"]
CURABLE: Final = frozenset({"evidence", "cap"})
"""Kinds of failure that say nothing against the pair: more of the same record, or a place, would mend them."""


@dataclass(frozen=True)
class Failure:
    """A rule that a candidate breaks.

    Parameters
    ----------
    rule
        Name of the parameter; ``record`` for a pair without any.
    kind
        ``record`` there is nothing to judge, ``performance`` it is not good enough, ``evidence`` there is not enough
        of it, ``cap`` better pairs have the places.
    reason
        The rule in words.
    has
        What those that break it have, to be counted: "12 have *fewer than 4 trades*".
    nearly
        The figure beside its limit: "3 of 4 trades".
    value, limit
        Figure and limit; for a cap the better pairs and the places.
    shortfall
        What the figure lacks as a share of its limit, infinite where it is not defined; 0 for a cap.
    taken_by
        For a cap, the pairs that have the places.
    """

    rule: str
    kind: Kind
    reason: str
    has: str
    nearly: str
    value: float
    limit: float
    shortfall: float
    taken_by: tuple[str, ...] = ()


NO_RECORD: Final = Failure(
    rule="record",
    kind="record",
    reason="no completed trading window on the roster yet",
    has="no completed trading window on the roster yet",
    nearly="no completed trading window",
    value=0.0,
    limit=1.0,
    shortfall=float("inf"),
)


def failures(figures: Mapping[str, float], params: ChampionParams, *, n_trials: int) -> tuple[Failure, ...]:
    """Every rule that a record's figures break, in order; a figure that is not defined breaks its rule.

    Parameters
    ----------
    figures
        ``sharpe``, ``max_drawdown``, ``n_trades``, ``positive_folds``, ``deflated_sharpe``,
        ``net_pnl_at_cost_multiple`` and ``costs`` of the record.
    params
        Rules.
    n_trials
        What the deflated Sharpe ratio was charged with.
    """
    sharpe, drawdown, trades = figures["sharpe"], figures["max_drawdown"], figures["n_trades"]
    positive, deflated, net = figures["positive_folds"], figures["deflated_sharpe"], figures["net_pnl_at_cost_multiple"]
    folds = f"{params.min_positive_folds:.0%} of folds positive"
    below = f"{params.min_deflated_sharpe:g} over {n_trials} trials"
    costs = f"{params.survives_cost_multiple:g}× costs"
    checked = (
        _at_least("min_sharpe", "performance", sharpe, params.min_sharpe, f"Sharpe below {params.min_sharpe:g}",
                  f"a Sharpe below {params.min_sharpe:g}", f"Sharpe {sharpe:.2f} of {params.min_sharpe:.2f}"),
        _at_most("max_drawdown", "performance", drawdown, params.max_drawdown,
                 f"drawdown above {params.max_drawdown:.0%}", f"a drawdown above {params.max_drawdown:.0%}",
                 f"drawdown {drawdown:.1%}, at most {params.max_drawdown:.1%}"),
        _at_least("min_trades", "evidence", trades, params.min_trades, f"fewer than {params.min_trades} trades",
                  f"fewer than {params.min_trades} trades", f"{trades:.0f} of {params.min_trades} trades"),
        _at_least("min_positive_folds", "performance", positive, params.min_positive_folds, f"fewer than {folds}",
                  f"fewer than {folds}", f"{positive:.0%} of {folds}"),
        _at_least("min_deflated_sharpe", "evidence", deflated, params.min_deflated_sharpe,
                  f"deflated Sharpe ratio below {below}", f"a deflated Sharpe ratio below {below}",
                  f"deflated Sharpe {deflated:.2f} of {params.min_deflated_sharpe:.2f}"),
        _above_zero("survives_cost_multiple", net, figures["costs"], f"does not survive {costs}",
                    f"a loss at {costs}", f"net {net:.2%} at {costs}"),
    )  # fmt: skip
    return tuple(failure for failure in checked if failure is not None)


def cap(rule: str, where: str, places: int, taken_by: Sequence[str]) -> Failure:
    """A place lost to better pairs."""
    pairs = ", ".join(taken_by)
    reason = f"{where} has its {places} already: {pairs}"
    return Failure(
        rule, "cap", reason, f"no place left by {rule}", f"the place is {pairs}'s", float(len(taken_by)), float(places),
        0.0, tuple(taken_by),
    )  # fmt: skip


def _at_least(rule: str, kind: Kind, value: float, limit: float, reason: str, has: str, nearly: str) -> Failure | None:
    return (
        None if value >= limit else Failure(rule, kind, reason, has, nearly, value, limit, _share(limit - value, limit))
    )


def _at_most(rule: str, kind: Kind, value: float, limit: float, reason: str, has: str, nearly: str) -> Failure | None:
    return (
        None if value <= limit else Failure(rule, kind, reason, has, nearly, value, limit, _share(value - limit, limit))
    )


def _above_zero(rule: str, value: float, scale: float, reason: str, has: str, nearly: str) -> Failure | None:
    return None if value > 0 else Failure(rule, "performance", reason, has, nearly, value, 0.0, _share(-value, scale))


def _share(missing: float, scale: float) -> float:
    if not np.isfinite(missing):
        return float("inf")
    return missing / abs(scale) if scale else missing
