"""Generated books through the order builder, bar by bar, held against what must be true of any book.

python tests/faults/books.py --books 5000
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import fuzzing
import numpy as np
import pandas as pd
from hypothesis import strategies as st

from mntrading.core.portfolio import Book, Holding, Limits, Orders, Signal, build_orders
from mntrading.core.types import Pair
from mntrading.params import PortfolioParams, SizingParams

Build = Callable[..., Orders]

SYMBOLS = ("A", "B", "C", "D", "E")
PAIRS = tuple(Pair(a, b) for a in SYMBOLS for b in SYMBOLS if a != b)
START = pd.Timestamp("2025-01-01T00:00:00Z")
SMALL = 1e-9


# ------------------------------------------------------------------------------------ making books


@dataclass(frozen=True)
class Bar:
    """What the builder is asked on one bar."""

    close: pd.Timestamp
    prices: Mapping[str, float]
    signals: tuple[Signal, ...]
    kill_switch: str


@dataclass(frozen=True)
class Case:
    """A book from its first bar on."""

    params: PortfolioParams
    limits: Mapping[str, Limits]
    bars: tuple[Bar, ...]


def _either(usual: object, *others: object) -> st.SearchStrategy:
    """The usual value three times in four: with every rule tight at once nothing would ever be entered."""
    return st.sampled_from([usual] * 3 * max(len(others), 1) + list(others))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random pairs with shared legs over some bars, under rules that bind and rules that do not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    capital = 10.0 ** draw(st.integers(3, 6))
    params = PortfolioParams(
        capital=capital,
        top_k=draw(_either(10, 1, 2, 3)),
        pair_gross=draw(_either(0.2, 0.02, 0.05, 0.5, 1.0)),
        sizing=SizingParams(
            rule=draw(_either("inverse_risk", "equal_notional")),
            reference_std=0.005,
            reference_half_life_hours=12.0,
            low=draw(_either(0.5, 0.1, 1.0)),
            high=draw(_either(1.5, 1.0, 3.0)),
        ),
        max_symbol_weight=draw(_either(0.25, 0.05, 3.0)),
        max_cluster_gross=draw(_either(0.5, 0.1, 9.0)),
        max_gross=draw(_either(2.0, 0.3, 9.0)),
        max_net=draw(_either(0.5, 0.02, 9.0)),
        volatility_target=draw(_either(None, 0.2, 0.05, 0.01)),
        pair_correlation=draw(_either(0.2, 0.0, 1.0)),
        max_daily_turnover=draw(_either(None, 4.0, 0.5, 0.2)),
        max_hedge_error=draw(_either(0.05, 0.0, 0.3, 10.0)),
        allow_short=draw(_either(True, False)),
        kill_switch="active",
    )
    prices = {symbol: float(10.0 ** rng.uniform(-4, 5)) for symbol in SYMBOLS}
    limits: dict[str, Limits] = {}
    long_only = draw(st.sampled_from(["", "A", "B", "AB"]))
    for symbol in SYMBOLS:
        lot = draw(_either(1e-4, 0.0, 0.01, 0.1)) * 0.2 * capital / prices[symbol]
        least = draw(_either(1e-4, 0.0, 0.01, 0.03)) * capital
        # a lot that is a power of ten, as exchanges have them, one time in two
        lot = 10.0 ** round(math.log10(lot)) if lot and rng.random() < 0.5 else lot
        limits[symbol] = Limits(lot, least, symbol not in long_only)
    # few symbols share more legs, which cover each other and net to small orders
    known = SYMBOLS[: int(rng.choice([3, 4, 5]))]
    pool = [pair for pair in PAIRS if {*pair.symbols} <= {*known}]
    bars = []
    close = START + pd.Timedelta(hours=int(rng.integers(24)))
    for _ in range(draw(st.integers(2, 10))):
        close += pd.Timedelta(minutes=5) * int(rng.choice([1, 12, 200]))
        moves = np.exp(rng.normal(0, draw(_either(0.02, 0.0, 0.3)), len(SYMBOLS)))
        prices = {symbol: price * float(move) for (symbol, price), move in zip(prices.items(), moves, strict=True)}
        chosen = draw(st.lists(st.sampled_from(pool), min_size=2, max_size=6, unique=True))
        switch = str(rng.choice(["active", "reducing", "halted"], p=[0.9, 0.05, 0.05]))
        bars.append(Bar(close, prices, tuple(_signal(pair, rng) for pair in chosen), switch))
    return Case(params, limits, tuple(bars))


def _signal(pair: Pair, rng: np.random.Generator) -> Signal:
    unknown = rng.random(4) < 0.05
    return Signal(
        pair,
        str(rng.choice(["enter", "enter", "enter", "exit", "hold", "flat"])),
        int(rng.choice([-1, 1])),
        float(10.0 ** rng.uniform(-0.7, 0.7)),
        math.nan if unknown[0] else float(rng.choice([0.5, rng.random()])),
        spread_std=math.nan if unknown[1] else float(10.0 ** rng.uniform(-3.5, -1)),
        half_life_hours=math.nan if unknown[2] else float(10.0 ** rng.uniform(0, 3)),
        z_window_hours=math.nan if unknown[3] else float(rng.choice([12.0, 25.0, 100.0])),
        cluster=None if rng.random() < 0.3 else int(rng.integers(0, 3)),
    )


# ------------------------------------------------------------------------------------ what must hold


@dataclass
class Figures:
    """What came of all books."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    worst_identity: float = 0.0

    def line(self) -> str:
        """One line for people and logs."""
        c = self.counts
        return (
            f"fuzz-books: {c['books']} books, {c['bars']} bars, {c['entered']} entries and {c['refused']} refused for "
            f"{len(self.reasons)} reasons, {c['left']} exits, {c['closed']} closed for being short, {c['orders']} "
            f"orders, {c['unsent']} amounts left unsent; worst identity {self.worst_identity:.1e}; "
            f"broken invariants {c['broken']}"
        )


def examine(case: Case, figures: Figures, build: Build = build_orders) -> list[str]:
    """Lead a book through its bars and say what does not hold."""
    book, wrong = Book(case.params.capital), []
    counts = figures.counts
    counts["books"] += 1
    for number, bar in enumerate(case.bars):
        params = case.params.model_copy(update={"kill_switch": bar.kill_switch})
        if _worth(book, bar.prices) <= 0:
            break
        result = build(bar.signals, bar.prices, book, case.limits, params, bar_close=bar.close)
        found = [
            *_sums(bar, book, result, figures),
            *_orders(bar, case.limits, result),
            *_pairs(bar, book, result, params),
            *_entries(bar, book, result, params, case.limits),
            *_caps(bar, book, result, params),
            *_shorts(book, result, params, case.limits),
        ]
        again = build(
            bar.signals[::-1], bar.prices, replace(book, holdings=dict(reversed(book.holdings.items()))), case.limits,
            params, bar_close=bar.close,
        )  # fmt: skip
        if again != result and not math.isnan(result.volatility):
            found.append("another order of the same signals and holdings gives another result")
        wrong += [f"bar {number}: {what}" for what in found]
        new = _new(book, result)
        counts.update({
            "bars": 1, "entered": len(new), "refused": len(result.refused), "closed": len(result.closed),
            "orders": len(result.orders), "unsent": len(result.book.unsent), "broken": len(found),
            "left": len([1 for name, h in book.holdings.items() if result.book.holdings.get(name) is not h]),
        })  # fmt: skip
        figures.reasons.update(reason.partition(" ")[2] for reason in result.refused.values())
        spent = sum(_signed(order) * bar.prices[order.symbol] for order in result.orders)
        book = replace(result.book, cash=result.book.cash - spent)
        if abs(_worth(book, bar.prices) - result.equity) > SMALL * case.params.capital:
            wrong.append(f"bar {number}: filled at the reference prices, orders change the equity")
    return wrong


def _signed(order: object) -> float:
    return order.quantity if order.side == "buy" else -order.quantity  # type: ignore[attr-defined]


def _sum(holdings: Mapping[str, Holding]) -> dict[str, float]:
    """Netted units of holdings, added up here."""
    units = dict.fromkeys(SYMBOLS, 0.0)
    for holding in holdings.values():
        units[holding.pair.dependent] += holding.units_dependent
        units[holding.pair.independent] += holding.units_independent
    return units


def _account(book: Book) -> dict[str, float]:
    """Units the account has: the holdings' and those that were not sent."""
    units = _sum(book.holdings)
    for symbol, unsent in book.unsent.items():
        units[symbol] += unsent.held
    return units


def _worth(book: Book, prices: Mapping[str, float]) -> float:
    return book.cash + sum(units * prices[symbol] for symbol, units in _account(book).items())


def _scale(*books: Book) -> dict[str, float]:
    """Units that passed through each symbol: what sums of them are rounded to."""
    scale = dict.fromkeys(SYMBOLS, 0.0)
    for book in books:
        for holding in book.holdings.values():
            for symbol, units in holding.units().items():
                scale[symbol] += abs(units)
        for symbol, unsent in book.unsent.items():
            scale[symbol] += abs(unsent.held)
    return scale


def _new(before: Book, result: Orders) -> dict[str, Holding]:
    return {name: h for name, h in result.book.holdings.items() if before.holdings.get(name) is not h}


def _kept(before: Book, result: Orders) -> dict[str, Holding]:
    return {name: h for name, h in result.book.holdings.items() if before.holdings.get(name) is h}


def _sums(bar: Bar, before: Book, result: Orders, figures: Figures) -> list[str]:
    """Finite figures; before and orders is after, after is holdings and unsent; equity."""
    wrong = []
    numbers = [
        result.equity, *result.targets.values(), *result.weights.values(), *result.hedge_errors.values(),
        *(x for order in result.orders for x in (order.quantity, order.notional)),
        *(unsent.held for unsent in result.book.unsent.values()), result.book.cash, result.book.traded,
    ]  # fmt: skip
    if not np.isfinite(numbers).all():
        wrong.append("a figure is not finite")
    if all(h.daily_risk is not None for h in result.book.holdings.values()) and not math.isfinite(result.volatility):
        wrong.append("the volatility is not known though that of every pair is")
    reached, then, scale = _account(before), _account(result.book), _scale(before, result.book)
    for order in result.orders:
        reached[order.symbol] += _signed(order)
    held = _sum(result.book.holdings)
    for symbol in SYMBOLS:
        off = abs(reached[symbol] - then[symbol]) / max(scale[symbol], 1e-300)
        figures.worst_identity = max(figures.worst_identity, off)
        if off > SMALL:
            wrong.append(f"{symbol}: units before and orders are not the units after")
        if abs(held[symbol] - result.targets.get(symbol, 0.0)) > SMALL * scale[symbol]:
            wrong.append(f"{symbol}: holdings are not the target")
    if abs(result.equity - _worth(before, bar.prices)) > SMALL * max(abs(before.cash), result.equity):
        wrong.append("the equity is not cash and marked units")
    return wrong


def _orders(bar: Bar, limits: Mapping[str, Limits], result: Orders) -> list[str]:
    """Orders the exchange takes, and amounts left unsent that it would not."""
    wrong = []
    for order in result.orders:
        lot, least = limits[order.symbol].lot, limits[order.symbol].min_notional
        if lot and abs(order.quantity / lot - round(order.quantity / lot)) > 1e-6:
            wrong.append(f"{order.symbol}: {order.quantity} is no whole number of lots of {lot}")
        if order.quantity <= 0 or order.quantity * bar.prices[order.symbol] < least:
            wrong.append(f"{order.symbol}: an order of {order.notional} is below {least}")
        unsent = result.book.unsent.get(order.symbol)
        if unsent and abs(unsent.held) > lot * (1 + 1e-6):
            wrong.append(f"{order.symbol}: an order was sent and more than a lot left unsent")
    if len({order.symbol for order in result.orders}) < len(result.orders):
        wrong.append("two orders for one symbol")
    return wrong


def _pairs(bar: Bar, before: Book, result: Orders, params: PortfolioParams) -> list[str]:
    """Every signal is answered, and nothing else happens to a pair."""
    wrong = []
    asked = {signal.pair.id: signal.action for signal in bar.signals}
    halted = params.kill_switch == "halted"
    new, after = _new(before, result), result.book.holdings
    for name, action in asked.items():
        if action == "enter" and (name in new) == (name in result.refused):
            wrong.append(f"{name} is to enter, and is neither held nor refused, or both")
        if action == "enter" and name not in new and name in after and not halted:
            wrong.append(f"{name} was entered anew, and its old trade is still held")
        if action in ("exit", "flat") and name in after and not halted:
            wrong.append(f"{name} was to be left, and is held")
    if any(asked.get(name) != "enter" for name in (*new, *result.refused)):
        wrong.append("a pair is entered or refused that nobody asked about")
    if not all((*result.refused.values(), *result.closed.values())):
        wrong.append("no reason is given")
    for name in before.holdings.keys() - after.keys():
        if asked.get(name, "hold") == "hold" and name not in result.closed:
            wrong.append(f"{name} is gone, and nobody says why")
    if set(result.hedge_errors) != set(new):
        wrong.append("hedge errors are not those of the entries")
    if halted and (result.orders or result.book != before):
        wrong.append("halted, and something changed")
    if params.kill_switch != "active" and new:
        wrong.append(f"{params.kill_switch}, and a pair is entered")
    return wrong


def _entries(
    bar: Bar, before: Book, result: Orders, params: PortfolioParams, limits: Mapping[str, Limits]
) -> list[str]:
    """Both legs or neither, on lots, large enough, hedged, and of the size there is to be."""
    wrong = []
    signals = {signal.pair.id: signal for signal in bar.signals}
    for name, holding in _new(before, result).items():
        signal = signals[name]
        a, b = holding.units_dependent, holding.units_independent
        if a * b >= 0 or np.sign(a) != signal.side:
            wrong.append(f"{name} does not hold one leg against the other")
            continue
        for symbol, units in holding.units().items():
            rule = limits[symbol]
            if rule.lot and abs(units / rule.lot - round(units / rule.lot)) > 1e-6:
                wrong.append(f"{name}: {symbol} is no whole number of lots")
            if abs(units) * bar.prices[symbol] < rule.min_notional:
                wrong.append(f"{name}: {symbol} is below the smallest order")
        notional = abs(a) * bar.prices[holding.pair.dependent], abs(b) * bar.prices[holding.pair.independent]
        error = notional[1] / notional[0] / signal.hedge_ratio - 1
        if abs(error - result.hedge_errors.get(name, math.nan)) > SMALL or abs(error) > params.max_hedge_error + SMALL:
            wrong.append(f"{name}: hedge error is {error}, said to be {result.hedge_errors.get(name)}")
        size = sum(notional) / result.equity / params.pair_gross
        most = 1.0 if params.sizing.rule == "equal_notional" else params.sizing.high
        if size > most * (1 + SMALL):
            wrong.append(f"{name} has {size} times the notional of a pair")
    return wrong


def _caps(bar: Bar, before: Book, result: Orders, params: PortfolioParams) -> list[str]:
    """No cap is broken that was kept, or more than it was, once there is an entry."""
    new, kept = _new(before, result), _kept(before, result)
    if not new:
        return []
    wrong = []

    def weights(holdings: Mapping[str, Holding]) -> np.ndarray:
        units = _sum(holdings)
        return np.array([units[symbol] * bar.prices[symbol] / result.equity for symbol in SYMBOLS])

    now, then = weights(result.book.holdings), weights(kept)
    if (np.abs(now) > np.maximum(params.max_symbol_weight, np.abs(then)) + SMALL).any():
        wrong.append("symbol cap")
    if np.abs(now).sum() > max(params.max_gross, np.abs(then).sum()) + SMALL:
        wrong.append("gross cap")
    if abs(now.sum()) > max(params.max_net, abs(then.sum())) + SMALL:
        wrong.append("net cap")
    told = {s.pair.id: s.cluster for s in bar.signals if s.action == "hold" and s.cluster is not None}
    clusters: dict[object, float] = {}
    for name, holding in result.book.holdings.items():
        cluster = holding.cluster if name in new else told.get(name, holding.cluster)
        key = name if cluster is None else cluster
        own = sum(abs(u) * bar.prices[s] for s, u in holding.units().items()) / result.equity
        clusters[key] = clusters.get(key, 0.0) + own
    entered = {name if h.cluster is None else h.cluster for name, h in new.items()}
    if any(clusters[key] > params.max_cluster_gross + SMALL for key in entered):
        wrong.append("cluster cap")
    if len(result.book.holdings) > params.top_k:
        wrong.append("more pairs than top_k")
    if params.volatility_target is not None:
        risks = [math.nan if h.daily_risk is None else h.daily_risk for h in result.book.holdings.values()]
        x = np.array(risks) / result.equity
        correlation = np.full((len(x), len(x)), params.pair_correlation)
        np.fill_diagonal(correlation, 1.0)
        if not math.sqrt(365 * (x @ correlation @ x)) <= params.volatility_target + SMALL:
            wrong.append("volatility target")
    if params.max_daily_turnover is not None:
        today = before.traded if before.day == f"{bar.close:%Y-%m-%d}" else 0.0
        traded = today + sum(order.quantity * bar.prices[order.symbol] for order in result.orders)
        if traded > params.max_daily_turnover * result.equity * (1 + SMALL):
            wrong.append("turnover budget")
        if result.orders and abs(traded - result.book.traded) > SMALL * traded:
            wrong.append("what was traded today is not what is said")
    return wrong


def _shorts(before: Book, result: Orders, params: PortfolioParams, limits: Mapping[str, Limits]) -> list[str]:
    """Nothing is short that may not be: neither what pairs hold nor what the account has."""
    if params.kill_switch == "halted":
        return []
    scale = _scale(before, result.book)
    return [
        f"{symbol} is short"
        for units in (_sum(result.book.holdings), _account(result.book))
        for symbol in SYMBOLS
        if not (params.allow_short and limits[symbol].shortable) and units[symbol] < -SMALL * scale[symbol]
    ]


# ------------------------------------------------------------------------------------------- running


def fuzz(
    n_books: int,
    *,
    seed_: int = 0,
    build: Build = build_orders,
    figures: Figures | None = None,
    shrink: bool = True,
) -> Figures:
    """Run books until all are through or one breaks something, which ``shrink`` makes as small as can be."""
    known = Figures() if figures is None else figures

    fuzzing.draw(cases(), lambda drawn: examine(drawn, known, build), n_books, seed_=seed_, shrink=shrink)
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a book that breaks something is shown, and the exit code is 1."""
    return fuzzing.command_line(__doc__, "books", 5000, fuzz, Figures(), arguments)


if __name__ == "__main__":
    sys.exit(main())
