"""From pair signals to one netted book: exits, entries by confidence within caps, lots, orders.

``build_orders`` is used for every bar of the walk-forward portfolio and for live orders alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mntrading.core import sizing
from mntrading.core.book import Action, Book, Holding, Limits, Order, Orders, Signal, Unsent
from mntrading.core.caps import Cap, legs_on_lots, lots_down
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.params import PortfolioParams

__all__ = ["Action", "Book", "Holding", "Limits", "Order", "Orders", "Signal", "Unsent", "build_orders"]

_SMALLEST_SCALE = 0.25
"""An entry that the caps would cut below this share of its size is refused instead."""

_ROUNDING = 1e-12


def build_orders(
    signals: Sequence[Signal],
    prices: Mapping[str, float],
    state: Book,
    limits: Mapping[str, Limits],
    params: PortfolioParams,
    *,
    bar_close: pd.Timestamp | None = None,
) -> Orders:
    """Net the signals of all pairs into one book within the caps.

    **Exits** are always made, and an entry for a pair that is still held closes the old trade first. Where they leave
    a symbol short that may not be (``allow_short`` off, or not ``shortable``), pairs that are short of it are closed
    too: those entered with the least confidence first, then by name from the end, until it is not short.

    **Entries** are taken by confidence, then by name, while fewer than ``top_k`` pairs are held. Each has the size of
    ``sizing.size_multiple`` and is cut to fit the caps on a symbol, on a cluster, on gross and net, the volatility
    target and what the day's turnover budget leaves. It is refused where less than a quarter of it would fit, where
    lots and smallest orders leave no two legs within ``max_hedge_error`` of the hedge ratio (both legs or neither),
    or where it would leave a symbol short that may not be. Units are frozen from entry to exit, so caps bind on
    entries: a price move alone never trades.

    **Orders** are what leads from the account's units to those of the holdings, in symbols that a pair entered or left
    on this bar, in whole lots. One below the exchange's smallest notional is not sent. What is not sent stays in
    ``Book.unsent``, counts in the equity, and goes with the next order of its symbol.

    **Turnover** is the notional of orders in a UTC day, at reference prices. An order belongs to the day its bar closes
    in, as it is filled on the bar that opens then. Exits count and are never refused.

    Look-ahead: none; orders are to be filled on the next bar.

    Parameters
    ----------
    signals
        At most one per pair. A held pair without a signal stays as it is; the cluster of a ``hold`` stands in for the
        one it was entered with.
    prices
        Reference price by symbol, of every symbol held or to be entered.
    state
        Cash, holdings, what was not sent, and what was traded today.
    limits
        Exchange rules by symbol; none where a symbol is absent.
    params
        Sizes, caps and the kill switch: ``reducing`` allows exits only, ``halted`` no order at all.
    bar_close
        Close of the signals' bar, UTC; needed for a turnover budget, and without it nothing is counted.

    Raises
    ------
    BarDataError
        For a price that is missing or not positive, two signals of one pair, or equity that is not positive.
    ParameterError
        For a turnover budget without ``bar_close``, or one without a time zone.
    """
    _check(signals, prices, state)
    equity = state.equity(prices)
    if equity <= 0:
        raise BarDataError(f"equity is {equity:.2f}, expected above 0", where="portfolio")
    day = _day(bar_close, params)
    desk = _Desk(state, dict(state.holdings), prices, equity, limits, params, state.traded if day == state.day else 0.0)
    closed: dict[str, str] = {}
    if params.kill_switch != "halted":
        for signal in signals:
            # a strategy that enters is flat: whatever the pair still holds is of a trade that has ended
            if signal.action != "hold":
                desk.holdings.pop(signal.pair.id, None)
        closed = _close_shorts(desk)
    clusters = {pair_id: holding.cluster for pair_id, holding in desk.holdings.items()}
    told = [s for s in signals if s.action == "hold" and s.cluster is not None]
    clusters |= {signal.pair.id: signal.cluster for signal in told if signal.pair.id in clusters}
    refused: dict[str, str] = {}
    errors: dict[str, float] = {}
    entries = [s for s in signals if s.action == "enter"]
    for signal in sorted(entries, key=_rank):
        pair_id = signal.pair.id
        if params.kill_switch != "active":
            refused[pair_id] = f"kill switch is {params.kill_switch}"
        elif len(desk.holdings) >= params.top_k:
            refused[pair_id] = f"{params.top_k} pairs are held already"
        else:
            found = _entered(signal, desk, clusters)
            if isinstance(found, str):
                refused[pair_id] = found
            else:
                desk.holdings[pair_id], errors[pair_id] = found
                clusters[pair_id] = signal.cluster
    after = replace(state, holdings=desk.holdings)
    orders, unsent = orders_between(state, after, prices, limits)
    if orders and day is not None:
        after = replace(after, day=day, traded=desk.traded + sum(order.notional for order in orders))
    targets = after.targets()
    return Orders(
        book=replace(after, unsent=unsent),
        targets=targets,
        weights={symbol: units * prices[symbol] / equity for symbol, units in targets.items()},
        orders=orders,
        refused=refused,
        equity=equity,
        closed=closed,
        hedge_errors=errors,
        volatility=sizing.book_volatility(desk.risks(), params.pair_correlation),
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


def _rank(signal: Signal) -> tuple[bool, float, str]:
    """By confidence, the unknown ones last, then by name."""
    unknown = math.isnan(signal.confidence)
    return unknown, 0.0 if unknown else -signal.confidence, signal.pair.id


def _day(bar_close: pd.Timestamp | None, params: PortfolioParams) -> str | None:
    if bar_close is None:
        if params.max_daily_turnover is not None:
            raise ParameterError("needs the time of the bar's close", where="portfolio.max_daily_turnover")
        return None
    if bar_close.tzinfo is None:
        raise ParameterError(f"bar_close is {bar_close}, expected a time zone", where="portfolio")
    return f"{bar_close.tz_convert('UTC'):%Y-%m-%d}"


@dataclass(frozen=True)
class _Desk:
    """A bar's orders in the making: ``holdings`` is the one thing that changes."""

    before: Book
    holdings: dict[str, Holding]
    prices: Mapping[str, float]
    equity: float
    limits: Mapping[str, Limits]
    params: PortfolioParams
    traded: float

    def rule(self, symbol: str) -> Limits:
        return self.limits.get(symbol, Limits())

    def may_be_short(self, symbol: str) -> bool:
        return self.params.allow_short and self.rule(symbol).shortable

    def weight(self, symbol: str, units: float) -> float:
        return units * self.prices[symbol] / self.equity

    def risks(self) -> list[float]:
        """Daily risk of every holding as a share of equity, NaN where unknown."""
        known = (holding.daily_risk for _, holding in sorted(self.holdings.items()))
        return [math.nan if risk is None else risk / self.equity for risk in known]


# ------------------------------------------------------------------------------------------ exits


def _close_shorts(desk: _Desk) -> dict[str, str]:
    """Close pairs until no symbol is short that may not be; reasons by pair id."""
    closed: dict[str, str] = {}
    while True:
        largest = _largest(desk.holdings.values())
        short = [
            symbol
            for symbol, units in sorted(Book(0.0, desk.holdings).targets().items())
            if units < -_ROUNDING * largest[symbol] and not desk.may_be_short(symbol)
        ]
        if not short:
            return closed
        sellers = [(h.confidence, name) for name, h in desk.holdings.items() if h.units().get(short[0], 0.0) < 0.0]
        # by name from the end among equals, as entries are taken by name from the start
        last = max(name for confidence, name in sellers if confidence == min(sellers)[0])
        del desk.holdings[last]
        closed[last] = f"closing: nothing covers its short leg any more, and {short[0]} {_no_short(desk)}"


def _no_short(desk: _Desk) -> str:
    why = "portfolio.allow_short is off" if not desk.params.allow_short else "its market has no margin or perpetual"
    return f"can't be sold short here ({why})"


# ---------------------------------------------------------------------------------------- entries


def _entered(signal: Signal, desk: _Desk, clusters: Mapping[str, int | None]) -> tuple[Holding, float] | str:
    """The entry within caps and lots and its hedge error, or the reason it is refused."""
    if signal.side not in (-1, 1):
        return f"side is {signal.side}, expected 1 or -1"
    if not (np.isfinite(signal.hedge_ratio) and signal.hedge_ratio > 0):
        return f"hedge ratio is {signal.hedge_ratio}"
    prices, params = desk.prices, desk.params
    first, second = signal.pair.symbols
    daily = sizing.daily_volatility(signal)
    if params.volatility_target is not None and math.isnan(daily):
        return "its volatility is not known (portfolio.volatility_target is set)"
    size = params.pair_gross * sizing.size_multiple(signal, params.sizing)
    dependent = signal.side * size / (1.0 + signal.hedge_ratio)
    wanted = {first: dependent, second: -dependent * signal.hedge_ratio}
    caps = _caps(wanted, signal, desk, clusters)
    shares = [(cap.share(), cap.name) for cap in caps]
    if params.volatility_target is not None:
        fits = sizing.share_within_volatility(
            desk.risks(), daily * size, params.pair_correlation, params.volatility_target
        )
        shares.append((fits, "volatility target"))
    scale, tightest = min(shares, key=lambda found: found[0])
    if scale < _SMALLEST_SCALE:
        return tightest
    units = {symbol: scale * weight * desk.equity / prices[symbol] for symbol, weight in wanted.items()}
    rounded = _on_lots(units, desk)
    if isinstance(rounded, str):
        return rounded
    legs, error = rounded
    held, largest = Book(0.0, desk.holdings).targets(), _largest(desk.holdings.values())
    for symbol, change in legs.items():
        dust = _ROUNDING * max(largest.get(symbol, 0.0), abs(change))
        if held.get(symbol, 0.0) + change < -dust and not desk.may_be_short(symbol):
            return f"{symbol} {_no_short(desk)}"
    # lots may cut one leg more than the other
    weights = {symbol: desk.weight(symbol, change) for symbol, change in legs.items()}
    broken = next((cap.name for cap in _caps(weights, signal, desk, clusters) if cap.broken()), None)
    if broken:
        return broken
    made = sum(abs(weight) for weight in weights.values())
    entered = Holding(
        signal.pair, signal.side, legs[first], legs[second],
        confidence=0.0 if math.isnan(signal.confidence) else signal.confidence,
        cluster=signal.cluster,
        daily_risk=None if math.isnan(daily) else daily * made * desk.equity,
    )  # fmt: skip
    return entered, error


def _caps(
    change: Mapping[str, float], signal: Signal, desk: _Desk, clusters: Mapping[str, int | None]
) -> tuple[Cap, ...]:
    """Every cap an entry of these weights meets, the volatility target apart."""
    params, both = desk.params, list(change)
    weights = {s: desk.weight(s, units) for s, units in Book(0.0, desk.holdings).targets().items()}
    now, added = [weights.get(symbol, 0.0) for symbol in both], list(change.values())
    elsewhere = sum(abs(weight) for symbol, weight in weights.items() if symbol not in change)
    same = [
        desk.holdings[pair_id].notional(desk.prices) / desk.equity
        for pair_id, cluster in sorted(clusters.items())
        if pair_id in desk.holdings and cluster is not None and cluster == signal.cluster
    ]
    caps = [
        *(
            Cap(f"{symbol} symbol cap", [n], [c], params.max_symbol_weight)
            for symbol, n, c in zip(both, now, added, strict=True)
        ),
        Cap("cluster cap", [sum(same)], [sum(abs(c) for c in added)], params.max_cluster_gross),
        Cap("gross cap", now, added, params.max_gross - elsewhere),
        Cap("net cap", [sum(weights.values())], [sum(added)], params.max_net),
    ]
    if params.max_daily_turnover is not None:
        pending = {s: desk.weight(s, units) for s, units in _pending(desk, both).items()}
        others = sum(abs(weight) for symbol, weight in pending.items() if symbol not in change)
        room = params.max_daily_turnover - desk.traded / desk.equity - others
        caps.append(Cap("turnover budget", [pending[symbol] for symbol in both], added, room, may_ease=False))
    return tuple(caps)


def _pending(desk: _Desk, symbols: Sequence[str]) -> dict[str, float]:
    """Units to trade so far, in symbols that a pair entered or left and in those given."""
    now, then = desk.before.units(), Book(0.0, desk.holdings).targets()
    touched = {*_touched(desk.before.holdings, desk.holdings), *symbols}
    return {symbol: then.get(symbol, 0.0) - now.get(symbol, 0.0) for symbol in sorted(touched)}


def _on_lots(units: Mapping[str, float], desk: _Desk) -> tuple[dict[str, float], float] | str:
    """Signed units of both legs on whole lots and their hedge error, or the reason there are none."""
    rules = {symbol: desk.rule(symbol) for symbol in units}
    for symbol, wanted in units.items():
        down = abs(lots_down(wanted, rules[symbol].lot))
        if down == 0.0 or down * desk.prices[symbol] < rules[symbol].min_notional:
            return f"{symbol} leg is below the exchange's smallest order"
    (first, dependent), (second, independent) = units.items()
    ratio = abs(independent / dependent)
    ways = legs_on_lots(abs(dependent), abs(independent), (rules[first].lot, rules[second].lot))
    for a, b in ways:
        error = b / (a * ratio) - 1.0
        if abs(error) > desk.params.max_hedge_error + _ROUNDING:
            break
        if all(x * desk.prices[s] >= rules[s].min_notional for s, x in ((first, a), (second, b))):
            return {first: math.copysign(a, dependent), second: math.copysign(b, independent)}, error
    return "lots leave a hedge error beyond portfolio.max_hedge_error"


# ----------------------------------------------------------------------------------------- orders


def _touched(before: Mapping[str, Holding], after: Mapping[str, Holding]) -> set[str]:
    """Symbols of the pairs that entered or left; a holding that stayed is the very same object."""
    changed = [holding for pair_id, holding in before.items() if after.get(pair_id) is not holding]
    changed += [holding for pair_id, holding in after.items() if before.get(pair_id) is not holding]
    return {symbol for holding in changed for symbol in holding.pair.symbols}


def _largest(holdings: Iterable[Holding]) -> dict[str, float]:
    """Largest units of a symbol in any one holding: what sums of them are rounded to."""
    largest: dict[str, float] = {}
    for holding in holdings:
        for symbol, units in holding.units().items():
            largest[symbol] = max(largest.get(symbol, 0.0), abs(units))
    return largest


def orders_between(
    before: Book, after: Book, prices: Mapping[str, float], limits: Mapping[str, Limits]
) -> tuple[tuple[Order, ...], dict[str, Unsent]]:
    """Orders from one book to the next, and what they leave unsent."""
    largest = _largest([*before.holdings.values(), *after.holdings.values()])
    now, then = before.units(), after.targets()
    out, unsent = [], dict(before.unsent)
    for symbol in sorted(_touched(before.holdings, after.holdings)):
        rule = limits.get(symbol, Limits())
        old, new = now.get(symbol, 0.0), then.get(symbol, 0.0)
        # sums of frozen units leave dust of a few ulps of the largest of them behind
        scale = max(largest[symbol], abs(old))
        dust = _ROUNDING * scale
        quantity = abs(lots_down(new - old, rule.lot))
        sent = quantity > dust and quantity * prices[symbol] >= rule.min_notional
        reached = old + math.copysign(quantity, new - old) if sent else old
        unsent.pop(symbol, None)
        if abs(reached - new) <= max(dust, 1e-9 * min(rule.lot, scale)):
            reached = new
        else:
            unsent[symbol] = Unsent(symbol, reached - new)
        if sent:
            out.append(
                Order(
                    symbol=symbol,
                    side="buy" if new > old else "sell",
                    quantity=quantity,
                    notional=quantity * prices[symbol],
                    reference_price=prices[symbol],
                    reduce_only=abs(reached) < abs(old) and old * reached >= 0,
                )
            )
    return tuple(out), unsent
