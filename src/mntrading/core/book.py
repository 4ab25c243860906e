"""What the order builder reads and writes: signals, holdings, the book, an exchange's rules, orders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mntrading.core.types import Pair

Action = Literal["enter", "exit", "hold", "flat"]


@dataclass(frozen=True)
class Signal:
    """What a pair's strategy wants at one bar's close.

    Parameters
    ----------
    pair
        The pair, dependent leg first.
    action
        ``enter``, ``exit``, ``hold`` (stay in) or ``flat`` (stay out).
    side
        1 long the spread, -1 short it, 0 flat.
    hedge_ratio
        Notional of the independent leg per unit notional of the dependent one; used on entry.
    confidence
        Orders the entries; higher first, NaN last.
    reason
        In words.
    spread_std
        Deviation of the spread over its z window, per unit notional of the dependent leg: as it is for log prices,
        over the dependent leg's price for level prices (``sizing.relative_std``). NaN where unknown.
    half_life_hours
        Of the formation window's residual; NaN where unknown.
    z_window_hours
        Length of the window ``spread_std`` was measured over; NaN where unknown.
    cluster
        Pairs of one number move together; None is a cluster of its own.
    """

    pair: Pair
    action: Action
    side: int
    hedge_ratio: float
    confidence: float
    reason: str = ""
    spread_std: float = math.nan
    half_life_hours: float = math.nan
    z_window_hours: float = math.nan
    cluster: int | None = None


@dataclass(frozen=True)
class Holding:
    """Units of both legs a pair holds, and what was known of it: all frozen since its entry.

    Parameters
    ----------
    pair, side
        What is held: 1 long the spread, -1 short it.
    units_dependent, units_independent
        Signed units of the legs.
    confidence
        Of the entry, 0 where unknown; the least confident are closed first where something has to be.
    cluster
        Of the entry; None is a cluster of its own.
    daily_risk
        Deviation of a day's P&L in quote currency as expected at entry; None where unknown.
    """

    pair: Pair
    side: int
    units_dependent: float
    units_independent: float
    confidence: float = 0.0
    cluster: int | None = None
    daily_risk: float | None = None

    def units(self) -> dict[str, float]:
        """Units by symbol."""
        return {self.pair.dependent: self.units_dependent, self.pair.independent: self.units_independent}

    def notional(self, prices: Mapping[str, float]) -> float:
        """Marked notional of both legs, in quote currency."""
        return sum(abs(units) * prices[symbol] for symbol, units in self.units().items())


@dataclass(frozen=True)
class Unsent:
    """Units of a symbol the account holds beyond those of its pairs, because an order was too small to be sent."""

    symbol: str
    held: float
    side: int = 0

    def units(self) -> dict[str, float]:
        """Units by symbol."""
        return {self.symbol: self.held}


@dataclass(frozen=True)
class Book:
    """Cash, the holdings of every pair by pair id, and what the account holds beside them.

    Parameters
    ----------
    cash
        In quote currency.
    holdings
        By pair id.
    unsent
        By symbol: actual units less those of the holdings.
    day, traded
        The UTC day of the last orders as YYYY-MM-DD, and the notional traded in it, in quote currency.
    """

    cash: float
    holdings: Mapping[str, Holding] = field(default_factory=dict)
    unsent: Mapping[str, Unsent] = field(default_factory=dict)
    day: str | None = None
    traded: float = 0.0

    def targets(self) -> dict[str, float]:
        """Netted units by symbol that the holdings add up to, by name, so that a book has one sum."""
        out: dict[str, float] = {}
        for _, holding in sorted(self.holdings.items()):
            for symbol, units in holding.units().items():
                out[symbol] = out.get(symbol, 0.0) + units
        return out

    def units(self) -> dict[str, float]:
        """Netted units by symbol that the account has: the targets and what was not sent."""
        out = self.targets()
        for symbol, unsent in sorted(self.unsent.items()):
            out[symbol] = out.get(symbol, 0.0) + unsent.held
        return out

    def parts(self) -> dict[str, Holding | Unsent]:
        """Everything the units are made of, by a name of its own: for a ledger."""
        return {**self.holdings, **{f"unsent {symbol}": unsent for symbol, unsent in self.unsent.items()}}

    def equity(self, prices: Mapping[str, float]) -> float:
        """Cash plus marked units."""
        return self.cash + sum(units * prices[symbol] for symbol, units in self.units().items())


@dataclass(frozen=True)
class Limits:
    """An exchange's rules for one symbol: lot size and smallest notional (0 for none), and whether it can be short."""

    lot: float = 0.0
    min_notional: float = 0.0
    shortable: bool = True


@dataclass(frozen=True)
class Order:
    """A trade to be done on the next bar. Quantity is positive, in units of the base asset."""

    symbol: str
    side: Literal["buy", "sell"]
    quantity: float
    notional: float
    reference_price: float
    reduce_only: bool


@dataclass(frozen=True)
class Orders:
    """A book's next state and the orders that lead to it.

    Parameters
    ----------
    book
        Holdings after the orders; cash is still that of before, since fills are not known.
    targets
        Netted units by symbol that the holdings add up to.
    weights
        Notional of the targets by symbol as a share of equity.
    orders
        At most one per symbol; what they leave undone is in ``book.unsent``.
    refused
        Reason by pair id of every entry that was not made.
    closed
        Reason by pair id of every holding that was closed without its strategy asking.
    hedge_errors
        By pair id of every entry: actual over wanted hedge ratio, less one.
    equity
        At the reference prices, before the orders.
    volatility
        Expected annual volatility of the book after the orders as a share of equity; NaN where that of a holding is
        unknown.
    """

    book: Book
    targets: dict[str, float]
    weights: dict[str, float]
    orders: tuple[Order, ...]
    refused: dict[str, str]
    equity: float
    closed: dict[str, str] = field(default_factory=dict)
    hedge_errors: dict[str, float] = field(default_factory=dict)
    volatility: float = math.nan
