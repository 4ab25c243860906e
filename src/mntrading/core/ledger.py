"""Trades of a netted book, pair by pair: what each one earned, and its share of what the netted orders cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import pandas as pd

BOOK_TRADE_COLUMNS: Final = (
    "name", "side", "entry_fill", "exit_fill", "gross_pnl", "costs", "net_pnl", "closed",
)  # fmt: skip
"""Columns of a book's trades; amounts in quote currency."""


class Held(Protocol):
    """Units of one pair, frozen since its entry, or units that belong to none."""

    @property
    def side(self) -> int:
        """1 long the spread, -1 short it, 0 of no pair."""

    def units(self) -> dict[str, float]:
        """Units by symbol."""


@dataclass
class _Open:
    held: Held
    entry_fill: pd.Timestamp
    value: float
    costs: float = 0.0


class TradeLedger:
    """Follows a book from fill to fill.

    Legs of several pairs net into one order, which costs less than they would alone. What it did cost is split
    among the pairs that changed by their units in that symbol, and borrow among those that were short of it, so that
    the trades' costs add up to the book's and their gross P&L to its price P&L.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._rows: list[tuple[object, ...]] = []

    def fill(
        self,
        time: pd.Timestamp,
        before: Mapping[str, Held],
        after: Mapping[str, Held],
        prices: Mapping[str, float],
        costs: Mapping[str, float],
    ) -> None:
        """Book the change from one set of holdings to the next at a bar's fill prices.

        Parameters
        ----------
        time
            Open time of the bar of the fills.
        before, after
            Holdings by pair id; one that is the very same object in both has not been traded.
        prices
            Fill price by symbol of everything that changes.
        costs
            Fees and slippage by symbol of the netted orders.
        """
        left = {name: held for name, held in before.items() if after.get(name) is not held}
        entered = {name: held for name, held in after.items() if before.get(name) is not held}
        traded: dict[str, float] = {}
        for held in (*left.values(), *entered.values()):
            for symbol, units in held.units().items():
                traded[symbol] = traded.get(symbol, 0.0) + abs(units)

        def share(held: Held) -> float:
            return sum(
                costs.get(symbol, 0.0) * abs(units) / traded[symbol] for symbol, units in held.units().items() if units
            )

        for name, held in left.items():
            self._open[name].costs += share(held)
            self._close(name, time, prices, closed=True)
        for name, held in entered.items():
            self._open[name] = _Open(held, time, _value(held, prices), share(held))

    def carry(self, paid: Mapping[str, float], *, shorts_only: bool) -> None:
        """Charge what was paid to hold, by symbol, to the trades that hold it.

        Borrow is paid on a netted short, by those that are short; funding by everyone, each on its own units.
        """
        for symbol, amount in paid.items():
            units = {name: entry.held.units().get(symbol, 0.0) for name, entry in self._open.items()}
            if shorts_only:
                units = {name: min(held, 0.0) for name, held in units.items()}
            total = sum(units.values())
            for name, held in units.items():
                if held:
                    self._open[name].costs += amount * held / total

    def trades(self, time: pd.Timestamp | None, marks: Mapping[str, float]) -> pd.DataFrame:
        """Every trade in order of its exit; those still open valued at ``marks`` and not ``closed``."""
        if time is not None:
            for name in list(self._open):
                self._close(name, time, marks, closed=False)
        return pd.DataFrame(self._rows, columns=list(BOOK_TRADE_COLUMNS))

    def _close(self, name: str, time: pd.Timestamp, prices: Mapping[str, float], *, closed: bool) -> None:
        entry = self._open.pop(name)
        gross = _value(entry.held, prices) - entry.value
        self._rows.append(
            (name, entry.held.side, entry.entry_fill, time, gross, entry.costs, gross - entry.costs, closed)
        )


def _value(held: Held, prices: Mapping[str, float]) -> float:
    return sum(units * prices[symbol] for symbol, units in held.units().items())
