"""An account that trades a netted book bar by bar: fills at the next bar, costs, carry, cash and equity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mntrading.core.engine import Charges, slippage_rate
from mntrading.core.errors import ParameterError
from mntrading.core.ledger import TradeLedger
from mntrading.core.portfolio import Book, Limits, Signal, build_orders
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
    symbols = list(close.columns)
    column = {symbol: i for i, symbol in enumerate(symbols)}
    marks = close.ffill().to_numpy(dtype=np.float64)
    fills_at = fill.to_numpy(dtype=np.float64)
    n = len(close)
    unfillable = [row for row in signals if not 0 <= row < n - 1]
    if unfillable:
        raise ParameterError(f"signals at row {unfillable[0]} of {n} bars can't be filled on the next one")
    per_bar = pd.Timedelta(1, unit="D") / (close.index[1] - close.index[0]) if n > 1 else 1.0
    charged = Charges(
        costs.fee_rate, costs.slippage_bps * 1e-4, costs.impact_bps * 1e-4, costs.borrow_bps_per_day * 1e-4 / per_bar,
        costs.carry == "funding", 1.0,
    )  # fmt: skip
    volume = np.zeros((n, len(symbols))) if liquidity is None else liquidity[symbols].to_numpy(dtype=np.float64)
    rates = None if funding is None or not charged.by_funding else funding[symbols].to_numpy(dtype=np.float64)
    equity, gross, charges, exposure = np.zeros(n), np.zeros(n), np.zeros((n, 4)), np.zeros((n, 2))
    ledger = TradeLedger()
    book, units = Book(params.capital), np.zeros(len(symbols))
    filled: list[tuple[object, ...]] = []
    refused: dict[str, int] = {}
    start = 0
    for event in [*sorted(signals), n - 1]:
        rows = slice(start, event + 1)
        book, borrowed = _hold(book, units, marks, charged.borrow_rate, rates, rows, equity, gross, charges, exposure)
        ledger.carry({symbols[i]: amount for i, amount in borrowed.items()}, shorts_only=rates is None)
        start = event + 1
        if event == n - 1:
            break
        known = marks[event]
        prices = {symbol: known[i] for symbol, i in column.items() if np.isfinite(known[i])}
        result = build_orders(signals[event], prices, book, limits, params)
        for reason in result.refused.values():
            refused[reason] = refused.get(reason, 0) + 1
        cash, paid = book.cash, {}
        at = np.where(np.isfinite(fills_at[event + 1]), fills_at[event + 1], known)
        held = np.flatnonzero(units)
        gross[event + 1] = units[held] @ (marks[event + 1, held] - known[held])
        for order in result.orders:
            price = at[column[order.symbol]]
            quantity = order.quantity if order.side == "buy" else -order.quantity
            traded = order.quantity * price
            fee = traded * costs.fee_rate
            slippage = traded * slippage_rate(traded, volume[event + 1, column[order.symbol]], charged)
            cash -= quantity * price + fee + slippage
            charges[event + 1] += (fee, slippage, 0.0, traded)
            gross[event + 1] += quantity * (marks[event + 1, column[order.symbol]] - price)
            paid[order.symbol] = fee + slippage
            filled.append((close.index[event + 1], order.symbol, quantity, price, fee, slippage))
        ledger.fill(
            close.index[event + 1], book.holdings, result.book.holdings, dict(zip(symbols, at, strict=True)), paid
        )
        book = replace(result.book, cash=cash)
        units = np.array([book.units().get(symbol, 0.0) for symbol in symbols])
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


def _hold(
    book: Book,
    units: np.ndarray,
    marks: np.ndarray,
    borrow_rate: float,
    funding: np.ndarray | None,
    rows: slice,
    equity: np.ndarray,
    gross: np.ndarray,
    charges: np.ndarray,
    exposure: np.ndarray,
) -> tuple[Book, dict[int, float]]:
    """Carry frozen units over ``rows``: mark them, and pay borrow on what is short, or funding in its place.

    The first row's P&L is the fill's. Returns the book, and what was paid by column.
    """
    held = np.flatnonzero(units)
    value = marks[rows][:, held] * units[held]
    by_symbol = -np.minimum(value, 0.0) * borrow_rate if funding is None else value * funding[rows][:, held]
    borrow = by_symbol.sum(axis=1)
    charges[rows, 2] += borrow
    gross[rows.start + 1 : rows.stop] = np.diff(value.sum(axis=1))
    equity[rows] = book.cash - np.cumsum(borrow) + value.sum(axis=1)
    exposure[rows, 0], exposure[rows, 1] = np.abs(value).sum(axis=1), value.sum(axis=1)
    paid = dict(zip(held.tolist(), by_symbol.sum(axis=0).tolist(), strict=True))
    return replace(book, cash=book.cash - float(borrow.sum())), {i: amount for i, amount in paid.items() if amount}
