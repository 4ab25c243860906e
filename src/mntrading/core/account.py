"""An account that trades a netted book bar by bar: fills at the next bar, costs, carry, cash and equity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from mntrading.core.compiled import compiled
from mntrading.core.engine import Charges, slippage_rate
from mntrading.core.engine_inputs import charges_a_bar
from mntrading.core.errors import ParameterError
from mntrading.core.ledger import TradeLedger
from mntrading.core.portfolio import Book, Limits, Order, Signal, build_orders, orders_between
from mntrading.core.strategy import OFF, REASONS
from mntrading.core.types import FloatArray
from mntrading.params import CostParams, PortfolioParams


@dataclass(frozen=True)
class PortfolioResult:
    """The walk-forward portfolio.

    Parameters
    ----------
    equity
        Cash plus marked holdings at each bar's close, starting from the capital.
    costs
        ``fees``, ``slippage``, ``borrow`` and ``turnover`` of each bar, in quote currency.
    exposure
        ``gross`` and ``net`` notional of each bar, in quote currency.
    fills
        One row per order filled: time, symbol, quantity (signed), price, fee, slippage.
    refused
        Entries not made, by reason.
    gross
        Price P&L of each bar before costs, from units, closes and fill prices: with the costs it explains every
        change of equity.
    trades
        One row per trade of a pair, ``ledger.BOOK_TRADE_COLUMNS``; their P&L and costs add up to the book's.
    """

    equity: pd.Series
    costs: pd.DataFrame
    exposure: pd.DataFrame
    fills: pd.DataFrame
    refused: dict[str, int]
    gross: pd.Series
    trades: pd.DataFrame


@dataclass(frozen=True)
class Trade:
    """One order as it was filled: signed quantity, price, and costs in quote currency."""

    symbol: str
    quantity: float
    price: float
    fee: float
    slippage: float


@dataclass(frozen=True)
class Filled:
    """Cash after orders were filled, and each of them."""

    cash: float
    trades: tuple[Trade, ...]

    @property
    def paid(self) -> dict[str, float]:
        """Fee and slippage by symbol."""
        return {trade.symbol: trade.fee + trade.slippage for trade in self.trades}


def fill_orders(
    cash: float, orders: Sequence[Order], at: Mapping[str, float], volume: Mapping[str, float], charges: Charges
) -> Filled:
    """Fill orders in the order given, at ``at``, with costs by the usual quote ``volume`` of the bar.

    Look-ahead: prices of the bar of the fill; the volume as known before it.
    """
    trades = []
    for order in orders:
        price = float(at[order.symbol])
        quantity = order.quantity if order.side == "buy" else -order.quantity
        traded = order.quantity * price
        fee = traded * charges.fee_rate
        slippage = traded * slippage_rate(traded, float(volume[order.symbol]), charges)
        cash -= quantity * price + fee + slippage
        trades.append(Trade(order.symbol, quantity, price, fee, slippage))
    return Filled(cash, tuple(trades))


@dataclass(frozen=True)
class Carried:
    """A book held over some bars: cash at the end, and of each bar equity, exposure, P&L and what holding cost.

    ``gross`` is the change of the marked value since the bar before, NaN on the first. ``by_symbol`` is what holding
    cost over all bars.
    """

    cash: float
    equity: FloatArray
    gross: FloatArray
    paid: FloatArray
    exposure: FloatArray
    by_symbol: dict[str, float]


def carry(
    cash: float, units: Mapping[str, float], marks: FloatArray, charges: Charges, funding: FloatArray | None
) -> Carried:
    """Hold units over bars: mark them at each close, and pay borrow on what is short, or funding in its place.

    Bars are added up one after the other, so that a stretch and its bars one by one come to the same bits.

    Look-ahead: row t uses the marks and rates of rows up to t.

    Parameters
    ----------
    units
        By symbol, in the order of the columns of ``marks`` and ``funding`` (bars × symbols).
    funding
        Share of the notional that longs pay on each bar, where it is charged; None for borrow.
    """
    rows, columns = marks.shape
    equity, gross, paid, exposure = np.empty(rows), np.empty(rows), np.empty(rows), np.empty((rows, 2))
    by_symbol = np.zeros(columns)
    held = np.array(list(units.values()), dtype=np.float64)
    rates = np.zeros((rows, columns)) if funding is None else np.ascontiguousarray(funding)
    cash = _carry(cash, held, np.ascontiguousarray(marks), rates, charges, equity, gross, paid, exposure, by_symbol)
    return Carried(float(cash), equity, gross, paid, exposure, dict(zip(units, by_symbol.tolist(), strict=True)))


@compiled
def _carry(
    cash: float, units: FloatArray, marks: FloatArray, funding: FloatArray, charges: Charges, equity: FloatArray,
    gross: FloatArray, paid: FloatArray, exposure: FloatArray, by_symbol: FloatArray,
) -> float:  # fmt: skip
    before = np.nan
    for row in range(marks.shape[0]):
        value = absolute = cost = 0.0
        for i in range(units.shape[0]):
            worth = units[i] * marks[row, i]
            own = worth * funding[row, i] if charges.by_funding else max(-worth, 0.0) * charges.borrow_rate
            by_symbol[i] += own
            cost += own
            value += worth
            absolute += abs(worth)
        cash -= cost
        equity[row], gross[row], paid[row] = cash + value, value - before, cost
        exposure[row, 0], exposure[row, 1] = absolute, value
        before = value
    return cash


def simulate(
    signals: Mapping[int, Sequence[Signal]],
    close: pd.DataFrame,
    fill: pd.DataFrame,
    limits: Mapping[str, Limits],
    params: PortfolioParams,
    costs: CostParams,
    *,
    liquidity: pd.DataFrame | None = None,
    funding: pd.DataFrame | None = None,
) -> PortfolioResult:
    """Trade the netted book of many pairs over a stretch of bars with ``build_orders``.

    On a bar that a leg lacks an entry is off, which had its place under the caps until then. A pair that leaves stays
    until the first bar that has both legs, and is asked to leave at every close before it; as live, its place is given
    to others from the first one on.

    Look-ahead: orders are built from closes of row t and filled at row t + 1.

    Parameters
    ----------
    signals
        Signals by the row at whose close they are acted on; none on the last row.
    close, fill
        Matrices (time on the complete grid × symbol) of closes and of the prices orders fill at.
    limits, params, costs
        Exchange rules, sizes and caps, costs.
    liquidity
        Usual quote volume of a bar as known before it, of the shape of ``close``; needed where orders have impact.
    funding
        Share of the notional that longs pay on each bar, of the shape of ``close``; needed for ``carry: funding``.

    Raises
    ------
    ParameterError
        For signals at a row that no later row can fill, or that is none; for costs whose liquidity or funding is
        missing.
    """
    if costs.impact_bps > 0.0 and liquidity is None:
        raise ParameterError("needs the usual volume of each bar", where="backtest.costs.impact_bps")
    if costs.carry == "funding" and funding is None:
        raise ParameterError("is funding, and there are no funding rates", where="backtest.costs.carry")
    symbols = sorted(close.columns)
    column = {symbol: i for i, symbol in enumerate(symbols)}
    marks = close[symbols].ffill().to_numpy(dtype=np.float64)
    fills_at = fill[symbols].to_numpy(dtype=np.float64)
    n = len(close)
    unfillable = [row for row in signals if not 0 <= row < n - 1]
    if unfillable:
        raise ParameterError(f"signals at row {unfillable[0]} of {n} bars can't be filled on the next one")
    charged = charges_a_bar(costs, pd.Timedelta(1, unit="D") / (close.index[1] - close.index[0]) if n > 1 else 1.0)
    volume = np.zeros((n, len(symbols))) if liquidity is None else liquidity[symbols].to_numpy(dtype=np.float64)
    rates = None if funding is None or not charged.by_funding else funding[symbols].to_numpy(dtype=np.float64)
    equity, gross, charges, exposure = np.zeros(n), np.zeros(n), np.zeros((n, 4)), np.zeros((n, 2))
    ledger = TradeLedger()
    book = Book(params.capital)
    filled: list[tuple[object, ...]] = []
    refused: dict[str, int] = {}
    start, events = 0, [*sorted(signals), n - 1]
    leaving: dict[str, Signal] = {}
    while events:
        event = events.pop(0)
        rows = slice(start, event + 1)
        units = {symbol: held for symbol, held in sorted(book.units().items()) if held}
        where = [column[symbol] for symbol in units]
        held = carry(book.cash, units, marks[rows][:, where], charged, None if rates is None else rates[rows][:, where])
        book = replace(book, cash=held.cash)
        equity[rows], exposure[rows], charges[rows, 2] = held.equity, held.exposure, charges[rows, 2] + held.paid
        gross[start + 1 : event + 1] = held.gross[1:]
        ledger.carry({s: amount for s, amount in held.by_symbol.items() if amount}, shorts_only=rates is None)
        start = event + 1
        if event == n - 1:
            break
        known = marks[event]
        prices = {symbol: known[i] for symbol, i in column.items() if np.isfinite(known[i])}
        told = {signal.pair.id: signal for signal in signals.get(event, ())}
        given = list((leaving | told).values())
        result = build_orders(given, prices, book, limits, params, bar_close=close.index[event + 1])
        here = {symbol for symbol, i in column.items() if np.isfinite(fills_at[start, i])}
        due, off = _reachable(Due(book, result.book, result.orders, prices), here, limits)
        for reason in (*result.refused.values(), *(REASONS[OFF] for _ in off)):
            refused[reason] = refused.get(reason, 0) + 1
        stay = due.wanted.holdings.keys() - result.book.holdings.keys()
        leaving = {signal.pair.id: signal for signal in given if signal.action == "exit" and signal.pair.id in stay}
        if (off or stay) and events[0] != start:
            events.insert(0, start)  # who stayed is asked again; an entry that is off may have been a short's cover
        at = dict(zip(symbols, fills_at[start], strict=True))
        gross[start] = sum(held * (marks[start, column[symbol]] - prices[symbol]) for symbol, held in units.items())
        done = fill_orders(book.cash, due.orders, at, dict(zip(symbols, volume[start], strict=True)), charged)
        for trade in done.trades:
            charges[start] += (trade.fee, trade.slippage, 0.0, abs(trade.quantity) * trade.price)
            gross[start] += trade.quantity * (marks[start, column[trade.symbol]] - trade.price)
            filled.append((close.index[start], *astuple(trade)))
        ledger.fill(close.index[start], book.parts(), due.wanted.parts(), at, done.paid)
        book = replace(due.wanted, cash=done.cash)
    table = pd.DataFrame(filled, columns=["time", "symbol", "quantity", "price", "fee", "slippage"])
    return PortfolioResult(
        equity=pd.Series(equity, index=close.index, name="equity"),
        costs=pd.DataFrame(charges, index=close.index, columns=["fees", "slippage", "borrow", "turnover"]),
        exposure=pd.DataFrame(exposure, index=close.index, columns=["gross", "net"]),
        fills=table,
        refused=refused,
        gross=pd.Series(gross, index=close.index, name="gross"),
        trades=ledger.trades(close.index[-1] if n else None, dict(zip(symbols, marks[-1], strict=True)) if n else {}),
    )


# --------------------------------------------------------------------------------- an account that is live


@dataclass(frozen=True)
class Due:
    """What is to be done with an account on the next bar.

    Parameters
    ----------
    book
        As it is now.
    wanted
        As it will be once the orders are filled, its cash apart; a holding that stays is the very same object.
    orders
        That lead from the one to the other.
    prices
        Reference prices by symbol that they were made with.
    """

    book: Book
    wanted: Book
    orders: tuple[Order, ...]
    prices: Mapping[str, float]


@dataclass(frozen=True)
class Stretch:
    """Bars an account lives through (time × symbol, sorted by symbol), of every symbol that it holds or trades.

    Parameters
    ----------
    fill
        Prices orders fill at, NaN where a bar is missing.
    mark
        Last known closes.
    volume
        Usual quote volume of a bar as known before it.
    funding
        Share of the notional that longs pay, where it is charged; None for borrow.
    """

    fill: pd.DataFrame
    mark: pd.DataFrame
    volume: pd.DataFrame
    funding: pd.DataFrame | None


SETTLED_COLUMNS: Final = ("equity", "cash", "gross", "net", "fees", "slippage", "borrow", "turnover")
"""Of each bar, in quote currency; ``borrow`` or the funding that stands in its place."""


@dataclass(frozen=True)
class Settled:
    """An account after some bars.

    Parameters
    ----------
    book
        Cash and holdings after the last of them.
    bars
        ``SETTLED_COLUMNS`` of each bar; ``gross`` and ``net`` are exposures.
    fills
        Each order's fill, with the open time of its bar.
    off
        Pairs whose entry was not filled because a bar was missing; both legs or neither.
    """

    book: Book
    bars: pd.DataFrame
    fills: tuple[tuple[pd.Timestamp, Trade], ...]
    off: tuple[str, ...]


def settle(due: Due, bars: Stretch, limits: Mapping[str, Limits], charges: Charges) -> Settled:
    """Fill what is due on the next bar, and hold what there is then; bar by bar what ``simulate`` does, to the bit.

    On a bar that a leg lacks, a pair's entry is off and its exit waits for the first bar that has both.

    Look-ahead: none; the bars have closed.
    """
    book, waiting, off = due.book, due, []
    fills: list[tuple[pd.Timestamp, Trade]] = []
    rows = []
    rates, symbols = bars.funding, [str(symbol) for symbol in bars.mark.columns]
    for row, time in enumerate(bars.mark.index):
        done = Filled(book.cash, ())
        if waiting.wanted is not waiting.book:
            prices = bars.fill.iloc[row].to_numpy(dtype=np.float64)
            at = {symbol: float(price) for symbol, price in zip(symbols, prices, strict=True) if np.isfinite(price)}
            volume = dict(zip(symbols, bars.volume.iloc[row].to_numpy(dtype=np.float64), strict=True))
            now, entries = _reachable(waiting, set(at), limits)
            done = fill_orders(book.cash, now.orders, at, volume, charges)
            off += entries
            fills += [(time, trade) for trade in done.trades]
            book = replace(now.wanted, cash=done.cash)
            left = {name: held for name, held in book.holdings.items() if waiting.wanted.holdings.get(name) is held}
            rest = book if len(left) == len(book.holdings) else replace(book, holdings=left)
            waiting = Due(book, rest, (), due.prices)
        units = {symbol: held for symbol, held in sorted(book.units().items()) if held}
        marks = bars.mark.iloc[[row]][list(units)].to_numpy(dtype=np.float64)
        due_now = None if rates is None else rates.iloc[[row]][list(units)].to_numpy(dtype=np.float64)
        held = carry(book.cash, units, marks, charges, due_now)
        book = replace(book, cash=held.cash)
        traded = sum(abs(trade.quantity) * trade.price for trade in done.trades)
        fees, slippage = sum(trade.fee for trade in done.trades), sum(trade.slippage for trade in done.trades)
        rows.append((held.equity[0], held.cash, *held.exposure[0], fees, slippage, held.paid[0], traded))
    told = pd.DataFrame(rows, index=bars.mark.index, columns=list(SETTLED_COLUMNS), dtype="float64")
    return Settled(book, told, tuple(fills), tuple(sorted(off)))


def _reachable(due: Due, priced: set[str], limits: Mapping[str, Limits]) -> tuple[Due, list[str]]:
    """What of the change can be done on a bar that has prices of some symbols, and the entries that are off."""
    before, after = due.book.holdings, due.wanted.holdings
    stuck = [
        name
        for name in {*before, *after}
        if before.get(name) is not after.get(name)
        and not {s for held in (before.get(name), after.get(name)) if held for s in held.units()} <= priced
    ]
    if not stuck and due.orders:  # an exit that waited has no orders of its own yet
        return due, []
    holdings = {name: held for name, held in after.items() if name not in stuck}
    wanted = replace(due.wanted, holdings=holdings | {name: before[name] for name in stuck if name in before})
    orders, unsent = orders_between(due.book, wanted, due.prices, limits)
    return replace(due, wanted=replace(wanted, unsent=unsent), orders=orders), sorted(set(stuck) - set(before))
