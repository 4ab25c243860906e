"""From pair signals to one netted book: entries by confidence, caps, lots, orders.

``build_orders`` is used for every bar of the walk-forward portfolio and for live orders alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mntrading.core.errors import BarDataError
from mntrading.core.types import Pair
from mntrading.params import PortfolioParams

Action = Literal["enter", "exit", "hold", "flat"]

_SMALLEST_SCALE = 0.25
"""An entry that the caps would cut below this share of its size is refused instead."""

_ROUNDING = 1e-12


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
    """

    pair: Pair
    action: Action
    side: int
    hedge_ratio: float
    confidence: float
    reason: str = ""


@dataclass(frozen=True)
class Holding:
    """Units of both legs a pair holds, frozen since its entry."""

    pair: Pair
    side: int
    units_dependent: float
    units_independent: float

    def units(self) -> dict[str, float]:
        """Units by symbol."""
        return {self.pair.dependent: self.units_dependent, self.pair.independent: self.units_independent}


@dataclass(frozen=True)
class Book:
    """Cash and the holdings of every pair, by pair id."""

    cash: float
    holdings: Mapping[str, Holding] = field(default_factory=dict)

    def units(self) -> dict[str, float]:
        """Netted units by symbol."""
        out: dict[str, float] = {}
        for holding in self.holdings.values():
            for symbol, units in holding.units().items():
                out[symbol] = out.get(symbol, 0.0) + units
        return out

    def equity(self, prices: Mapping[str, float]) -> float:
        """Cash plus marked holdings."""
        return self.cash + sum(units * prices[symbol] for symbol, units in self.units().items())


@dataclass(frozen=True)
class Limits:
    """An exchange's rules for one symbol: lot size and smallest notional; 0 where there is none."""

    lot: float = 0.0
    min_notional: float = 0.0


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
        Netted units by symbol.
    weights
        Netted notional by symbol as a share of equity.
    orders
        One order per symbol whose units change.
    refused
        Reason by pair id of every entry that was not made.
    equity
        At the reference prices, before the orders.
    """

    book: Book
    targets: dict[str, float]
    weights: dict[str, float]
    orders: tuple[Order, ...]
    refused: dict[str, str]
    equity: float


def build_orders(
    signals: Sequence[Signal],
    prices: Mapping[str, float],
    state: Book,
    limits: Mapping[str, Limits],
    params: PortfolioParams,
) -> Orders:
    """Net the signals of all pairs into one book within the caps.

    Exits are always made, and an entry for a pair that is still held closes the old trade first. Entries are
    taken by confidence while fewer than ``top_k`` pairs are held; an entry is cut to fit the symbol, gross and
    net caps, and refused where less than a quarter of it would fit, where a leg falls below the exchange's lot
    or smallest notional (both legs or neither), or where it would leave a symbol short and ``allow_short`` is
    off. Units are frozen from entry to exit, so caps bind on entries: a price move alone never trades.

    Look-ahead: none; orders are to be filled on the next bar.

    Parameters
    ----------
    signals
        At most one per pair. A held pair without a signal stays as it is.
    prices
        Reference price by symbol, of every symbol held or to be entered.
    state
        Cash and holdings.
    limits
        Exchange rules by symbol; none where a symbol is absent.
    params
        Sizes, caps and the kill switch: ``reducing`` allows exits only, ``halted`` no order at all.

    Raises
    ------
    BarDataError
        For a price that is missing or not positive, two signals of one pair, or equity that is not positive.
    """
    _check(signals, prices, state)
    equity = state.equity(prices)
    if equity <= 0:
        raise BarDataError(f"equity is {equity:.2f}, expected above 0", where="portfolio")
    holdings = dict(state.holdings)
    refused: dict[str, str] = {}
    if params.kill_switch != "halted":
        for signal in signals:
            # a strategy that enters is flat: whatever the pair still holds is of a trade that has ended
            if signal.action != "hold":
                holdings.pop(signal.pair.id, None)
    entries = [s for s in signals if s.action == "enter"]
    for signal in sorted(entries, key=lambda s: (np.isnan(s.confidence), -s.confidence, s.pair.id)):
        if params.kill_switch != "active":
            refused[signal.pair.id] = f"kill switch is {params.kill_switch}"
        elif len(holdings) >= params.top_k:
            refused[signal.pair.id] = f"{params.top_k} pairs are held already"
        else:
            holding = _sized(signal, prices, Book(0.0, holdings).units(), equity, limits, params)
            if isinstance(holding, str):
                refused[signal.pair.id] = holding
            else:
                holdings[signal.pair.id] = holding
    book = replace(state, holdings=holdings)
    targets = book.units()
    return Orders(
        book=book,
        targets=targets,
        weights={symbol: units * prices[symbol] / equity for symbol, units in targets.items()},
        orders=_orders(state, book, prices),
        refused=refused,
        equity=equity,
    )


def _check(signals: Sequence[Signal], prices: Mapping[str, float], state: Book) -> None:
    ids = [signal.pair.id for signal in signals]
    if len(set(ids)) < len(ids):
        twice = next(pair_id for pair_id in ids if ids.count(pair_id) > 1)
        raise BarDataError(f"{ids.count(twice)} signals for one bar, expected one", where=twice)
    needed = set(state.units())
    for signal in signals:
        if signal.action == "enter":
            needed.update(signal.pair.symbols)
    for symbol in sorted(needed):
        price = prices.get(symbol, float("nan"))
        if not (np.isfinite(price) and price > 0):
            raise BarDataError(f"reference price is {price}, expected above 0", where=symbol)


def _sized(
    signal: Signal,
    prices: Mapping[str, float],
    held: Mapping[str, float],
    equity: float,
    limits: Mapping[str, Limits],
    params: PortfolioParams,
) -> Holding | str:
    """The entry's units within caps and lots, or the reason it is refused."""
    if signal.side not in (-1, 1):
        return f"side is {signal.side}, expected 1 or -1"
    if not (np.isfinite(signal.hedge_ratio) and signal.hedge_ratio > 0):
        return f"hedge ratio is {signal.hedge_ratio}"
    weights = {symbol: units * prices[symbol] / equity for symbol, units in held.items()}
    dependent = signal.side * params.pair_gross / (1.0 + signal.hedge_ratio)
    wanted = {signal.pair.dependent: dependent, signal.pair.independent: -dependent * signal.hedge_ratio}
    scale, cap = _scale_within_caps(wanted, weights, params)
    if scale < _SMALLEST_SCALE:
        return f"{cap} cap"
    units: dict[str, float] = {}
    for symbol, weight in wanted.items():
        rule = limits.get(symbol, Limits())
        units[symbol] = _round_to_lot(scale * weight * equity / prices[symbol], rule.lot)
        if units[symbol] == 0.0 or abs(units[symbol]) * prices[symbol] < rule.min_notional:
            return f"{symbol} leg is below the exchange's smallest order"
        if not params.allow_short and held.get(symbol, 0.0) + units[symbol] < 0:
            return f"{symbol} can't be sold short here (portfolio.allow_short is off)"
    net = sum(weights.values())
    after = net + sum(units[symbol] * prices[symbol] / equity for symbol in units)
    # lots may cut one leg more than the other
    if abs(after) > max(params.max_net, abs(net)) + _ROUNDING:
        return "net cap"
    return Holding(signal.pair, signal.side, units[signal.pair.dependent], units[signal.pair.independent])


def _scale_within_caps(
    wanted: Mapping[str, float], weights: Mapping[str, float], params: PortfolioParams
) -> tuple[float, str]:
    """Largest share of the wanted weights, at most 1, that breaks no cap, and the cap that binds."""
    scale, cap = 1.0, ""
    for symbol, change in wanted.items():
        now = weights.get(symbol, 0.0)
        room = params.max_symbol_weight - now * np.sign(change)
        if room / abs(change) < scale:
            scale, cap = room / abs(change), f"{symbol} symbol"
    gross = sum(abs(weight) for weight in weights.values())
    room = (params.max_gross - gross) / sum(abs(change) for change in wanted.values())
    if room < scale:
        scale, cap = room, "gross"
    net, change = sum(weights.values()), sum(wanted.values())
    if abs(change) > 0:
        room = (params.max_net - net * np.sign(change)) / abs(change)
        if room < scale:
            scale, cap = room, "net"
    return max(scale, 0.0), cap


def _round_to_lot(units: float, lot: float) -> float:
    return units if lot <= 0 else float(np.sign(units) * np.floor(abs(units) / lot + 1e-9) * lot)


def _orders(before: Book, after: Book, prices: Mapping[str, float]) -> tuple[Order, ...]:
    largest: dict[str, float] = {}
    for holding in (*before.holdings.values(), *after.holdings.values()):
        for symbol, units in holding.units().items():
            largest[symbol] = max(largest.get(symbol, 0.0), abs(units))
    now, then = before.units(), after.units()
    out = []
    for symbol in sorted(largest):
        old, new = now.get(symbol, 0.0), then.get(symbol, 0.0)
        change = new - old
        # sums of frozen units leave dust of a few ulps of the largest of them behind
        if abs(change) <= _ROUNDING * largest[symbol]:
            continue
        out.append(
            Order(
                symbol=symbol,
                side="buy" if change > 0 else "sell",
                quantity=abs(change),
                notional=abs(change) * prices[symbol],
                reference_price=prices[symbol],
                reduce_only=abs(new) < abs(old) and old * new >= 0,
            )
        )
    return tuple(out)
