"""Challengers beside production: the places they would take, and whether their record in shadow lets them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.errors import BarDataError
from mntrading.core.types import Pair
from mntrading.params import ChampionParams, ShadowParams


@dataclass(frozen=True)
class Contender:
    """A pair and its cluster, as the choice of champions numbered it."""

    pair: Pair
    cluster: int


@dataclass(frozen=True)
class Lineup:
    """Pairs that trade together.

    Parameters
    ----------
    champions
        Ids of those that keep their place, in their order.
    challengers
        Ids of those that found one, in their order.
    replaced
        By challenger, the champions whose place it takes; nothing for one that found a place free.
    """

    champions: tuple[str, ...]
    challengers: tuple[str, ...]
    replaced: Mapping[str, tuple[str, ...]]

    @property
    def pairs(self) -> tuple[str, ...]:
        """All of them, champions first."""
        return (*self.champions, *self.challengers)


def line_up(champions: Sequence[Contender], challengers: Sequence[Contender], params: ChampionParams) -> Lineup:
    """Champions with challengers in their midst, within the caps per symbol and cluster.

    Challengers are placed one by one. Where a cap leaves no room, the last champion that has such a place leaves; a
    challenger does not take the place of one before it, and finds none then.

    Parameters
    ----------
    champions, challengers
        Best first.
    params
        ``max_pairs_per_symbol`` and ``max_pairs_per_cluster``; the other rules are not asked.
    """
    standing, placed = list(champions), list[Contender]()
    replaced: dict[str, tuple[str, ...]] = {}
    for challenger in challengers:
        left = _leaving(challenger, standing, placed, params)
        if left is None:
            continue
        standing = [champion for champion in standing if champion not in left]
        placed.append(challenger)
        replaced[challenger.pair.id] = tuple(champion.pair.id for champion in left)
    return Lineup(tuple(c.pair.id for c in standing), tuple(c.pair.id for c in placed), replaced)


def _leaving(
    challenger: Contender, standing: Sequence[Contender], placed: Sequence[Contender], params: ChampionParams
) -> list[Contender] | None:
    """The champions that make room, the last first; None where challengers before it have the places."""
    left: list[Contender] = []

    def rivals(among: Sequence[Contender], symbol: str | None) -> list[Contender]:
        if symbol is None:
            return [other for other in among if other.cluster == challenger.cluster]
        return [other for other in among if symbol in other.pair.symbols]

    caps = [(symbol, params.max_pairs_per_symbol) for symbol in challenger.pair.symbols]
    for symbol, places in [*caps, (None, params.max_pairs_per_cluster)]:
        there = rivals([champion for champion in standing if champion not in left], symbol)
        while len(there) + len(rivals(placed, symbol)) >= places:
            if not there:
                return None
            left.append(there.pop())
    return left


@dataclass(frozen=True)
class Comparison:
    """Two accounts over the same bars, from the equity they had in common.

    Parameters
    ----------
    n_days
        From the beginning to the last bar's close.
    champion, challenger
        Net returns.
    gap
        The challenger's less the champion's.
    gap_errors
        Mean gap of daily returns in its standard errors; NaN below two days or where it never varies.
    champion_drawdown, challenger_drawdown
        Largest fall from a peak, as a share of it.
    """

    n_days: float
    champion: float
    challenger: float
    gap: float
    gap_errors: float
    champion_drawdown: float
    challenger_drawdown: float


def compare(
    champion: pd.Series, challenger: pd.Series, *, base: float, since: pd.Timestamp, step: pd.Timedelta
) -> Comparison:
    """Hold two accounts against each other over the bars both have from ``since`` on.

    Look-ahead: none; the bars have closed.

    Parameters
    ----------
    champion, challenger
        Equity in quote currency at each bar's close, by the bar's open time, UTC, sorted.
    base
        Equity of both at ``since``.
    since
        Close of the last bar that both have in common.
    step
        Length of a bar.

    Raises
    ------
    BarDataError
        The base is not positive.
    """
    if not base > 0.0:
        raise BarDataError(f"equity in the beginning is {base}, expected above 0", where="shadow")
    both = champion.index.intersection(challenger.index)
    both = both[both >= since]
    first = pd.Series([base], index=pd.DatetimeIndex([since - step]).as_unit("ms"))
    mine, theirs = (pd.concat([first, equity.loc[both]]) for equity in (challenger, champion))
    returns = [float(equity.iloc[-1]) / base - 1.0 for equity in (theirs, mine)]
    gaps = metrics.daily_returns(mine) - metrics.daily_returns(theirs)
    daily = gaps.loc[gaps.index >= since.floor("D")].to_numpy()
    spread = float(daily.std(ddof=1)) if len(daily) > 1 else 0.0
    return Comparison(
        n_days=float((mine.index[-1] + step - since) / pd.Timedelta(1, unit="D")),
        champion=returns[0],
        challenger=returns[1],
        gap=returns[1] - returns[0],
        gap_errors=float(daily.mean() / (spread / np.sqrt(len(daily)))) if spread > 0.0 else float("nan"),
        champion_drawdown=metrics.max_drawdown(theirs),
        challenger_drawdown=metrics.max_drawdown(mine),
    )


@dataclass(frozen=True)
class Rule:
    """One rule that a record in shadow must keep.

    Parameters
    ----------
    name
        Of the parameter; ``doubts`` for that nothing is in doubt.
    holds
        Whether it does.
    value, limit
        The figure and its limit; NaN where it is not known.
    words
        The figure beside its limit: "3.0 of 14 days".
    """

    name: str
    holds: bool
    value: float
    limit: float
    words: str


def rules(
    found: Comparison, trades: Mapping[str, int], doubts: Sequence[str], params: ShadowParams
) -> tuple[Rule, ...]:
    """Every rule of promotion with what a record says of it; a figure that is not known breaks its rule.

    Parameters
    ----------
    found
        The two accounts.
    trades
        Closed trades by challenger.
    doubts
        What is in doubt of the shadow now, in words.
    params
        Limits.
    """
    fewest = min(trades, key=lambda pair_id: (trades[pair_id], pair_id), default="")
    least = trades.get(fewest, 0)
    asked = [
        Rule("min_days", found.n_days >= params.min_days, found.n_days, float(params.min_days),
             f"{found.n_days:.1f} of {params.min_days} days"),
        Rule("min_trades", bool(trades) and least >= params.min_trades, float(least), float(params.min_trades),
             f"{least} of {params.min_trades} closed trades{f' of {fewest}' if fewest else ''}"),
        Rule("min_return_gap", found.gap > params.min_return_gap, found.gap, params.min_return_gap,
             f"net return {found.challenger:.2%} against {found.champion:.2%} of production, a gap of {found.gap:.2%}, "
             f"more than {params.min_return_gap:.2%} is needed"),
    ]  # fmt: skip
    if params.min_gap_errors is not None:
        told = f"{found.gap_errors:.1f}" if np.isfinite(found.gap_errors) else "no known number"
        asked.append(
            Rule("min_gap_errors", found.gap_errors >= params.min_gap_errors, found.gap_errors, params.min_gap_errors,
                 f"the daily gap is {told} of its standard errors, at least {params.min_gap_errors:g} is needed")
        )  # fmt: skip
    return (
        *asked,
        Rule("max_drawdown", found.challenger_drawdown <= params.max_drawdown, found.challenger_drawdown,
             params.max_drawdown, f"drawdown {found.challenger_drawdown:.1%}, at most {params.max_drawdown:.1%}"),
        Rule("doubts", not doubts, float(len(doubts)), 0.0, f"in doubt: {'; '.join(doubts) or 'nothing'}"),
    )  # fmt: skip
