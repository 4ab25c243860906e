"""How much of an entry fits: caps as sums of absolute weights, and legs on whole lots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SLACK = 1e-12
"""Weights beyond a cap that are rounding."""


@dataclass(frozen=True)
class Cap:
    """A limit on ``Σ |now + s·change|``, where s is the share of an entry that is made.

    Parameters
    ----------
    name
        In the reason for which an entry is refused.
    now, change
        What is there without the entry and what all of it adds, as shares of equity.
    limit
        Largest sum.
    may_ease
        Whether an entry that lowers a sum beyond the limit, as price moves leave it, may be made.
    """

    name: str
    now: Sequence[float]
    change: Sequence[float]
    limit: float
    may_ease: bool = True

    def total(self, share: float) -> float:
        """The sum with a share of the entry."""
        return sum(abs(n + share * c) for n, c in zip(self.now, self.change, strict=True))

    def share(self) -> float:
        """Largest share of the entry, 0 to 1, up to which the sum is within the limit or does not rise."""
        if not self.may_ease and self.total(0.0) > self.limit:
            return 0.0
        turns = [-n / c for n, c in zip(self.now, self.change, strict=True) if c != 0.0]
        # the sum is convex and straight between the points at which a leg changes sides
        for low, high in pairwise([0.0, *sorted(turn for turn in turns if 0.0 < turn < 1.0), 1.0]):
            before, after = self.total(low), self.total(high)
            if after <= self.limit + SLACK or (self.may_ease and after <= before + SLACK):
                continue
            if before >= self.limit:
                return low
            return low + (high - low) * (self.limit - before) / (after - before)
        return 1.0

    def broken(self) -> bool:
        """Whether the whole entry breaks the limit."""
        return self.total(1.0) > (max(self.limit, self.total(0.0)) if self.may_ease else self.limit) + SLACK


def lots_down(units: float, lot: float) -> float:
    """Units rounded towards zero to whole lots; a whole number up to rounding is kept. A lot of 0 rounds nothing."""
    if lot <= 0.0:
        return units
    n = abs(units) / lot
    nearest = round(n)
    whole = nearest if abs(n - nearest) <= 1e-9 * max(1.0, nearest) else math.floor(n)
    return math.copysign(whole * lot, units)


def _lots_near(units: float, lot: float) -> float:
    return units if lot <= 0.0 else round(units / lot) * lot


def legs_on_lots(dependent: float, independent: float, lots: tuple[float, float]) -> list[tuple[float, float]]:
    """Ways to put two legs on whole lots without making either larger, the truest to their ratio first.

    Rounding both down moves the ratio by up to a lot of each. So either leg may be the one that is rounded down, and
    the other follows it to its nearest lot.

    Parameters
    ----------
    dependent, independent
        Wanted units, both above 0.
    lots
        Of the dependent and of the independent leg.

    Returns
    -------
    Pairs of units above 0; none where a leg is smaller than its lot.
    """
    ratio = independent / dependent
    first, second = lots_down(dependent, lots[0]), lots_down(independent, lots[1])
    ways = [
        (first, second),
        (first, min(_lots_near(first * ratio, lots[1]), second)),
        (min(_lots_near(second / ratio, lots[0]), first), second),
    ]
    found = [(a, b) for a, b in ways if a > 0.0 and b > 0.0]
    return sorted(found, key=lambda way: (abs(way[1] / (way[0] * ratio) - 1.0), -way[0]))
