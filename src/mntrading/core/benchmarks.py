"""Lines to hold a portfolio against, over the same trading windows and the same capital."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from mntrading.core.account import PortfolioResult
from mntrading.core.errors import ParameterError
from mntrading.core.ledger import BOOK_TRADE_COLUMNS
from mntrading.core.schedule import Fold
from mntrading.core.types import FloatArray, IntArray, Pair
from mntrading.params import CostParams


def cash(index: pd.DatetimeIndex, capital: float) -> PortfolioResult:
    """The capital, untouched, at every bar."""
    book = _Holdings(index, 0, capital)
    return book.result()


def hold_equally(
    close: pd.DataFrame,
    fill: pd.DataFrame,
    universes: Sequence[tuple[Fold, Sequence[str]]],
    costs: CostParams,
    capital: float,
) -> PortfolioResult:
    """The whole capital in equal parts of each fold's universe, bought and held over its trading window.

    At a window's first bar the book is brought to equal weights of the equity at the close before it, and what is no
    longer in the universe is sold; at the close of a window's last bar everything is sold where the next window does
    not follow at once. Costs are paid on what is traded, out of the same equity. A symbol without a bar is filled and
    valued at its last price, so one delisted in the window stays at that until the next.

    Look-ahead: universes are those known at each formation end; sizes use closes before the bar they are filled on.

    Parameters
    ----------
    close, fill
        Matrices (time on the complete grid × symbol) from before the first window to the end of the last.
    universes
        Folds in time order, each with the symbols its screen admitted.
    costs
        Fees and slippage; nothing is short.
    capital
        At the start.

    Returns
    -------
    PortfolioResult
        At the bars of ``close`` from the first window's first bar on; no rows without windows. A trade is one symbol
        from its first purchase until all of it is sold.

    Raises
    ------
    ParameterError
        For a symbol that has no column.
    """
    windows = [(fold, set(symbols)) for fold, symbols in universes if fold.trading_end is not None]
    absent = sorted(set().union(*(symbols for _, symbols in windows)) - set(close.columns))
    if absent:
        raise ParameterError(f"{absent[0]} has no column", where="close")
    first = int(close.index.searchsorted(windows[0][0].formation_end)) if windows else len(close)
    book = _Holdings(pd.DatetimeIndex(close.index), first, capital, close, fill, costs)
    for number, (fold, symbols) in enumerate(windows):
        inside = np.flatnonzero((close.index >= fold.formation_end) & (close.index < fold.trading_end))
        if not len(inside):
            continue
        book.rebalance(int(inside[0]), np.array([symbol in symbols for symbol in close.columns]))
        follows = number + 1 < len(windows) and windows[number + 1][0].formation_end == fold.trading_end
        if not follows:
            book.sell_out(int(inside[-1]))
    return book.result()


class _Holdings:
    """Cash and long units over the bars of a matrix, from row ``first`` on."""

    def __init__(
        self,
        index: pd.DatetimeIndex,
        first: int,
        capital: float,
        close: pd.DataFrame | None = None,
        fill: pd.DataFrame | None = None,
        costs: CostParams | None = None,
    ) -> None:
        n = len(index)
        self._index, self._first, self._next = index, first, first
        self._names = [] if close is None else list(close.columns)
        self._marks = np.empty((n, 0)) if close is None else close.ffill().to_numpy(dtype=np.float64)
        self._fills = np.empty((n, 0)) if fill is None else fill.to_numpy(dtype=np.float64)
        self._rates = (0.0, 0.0) if costs is None else (costs.fee_rate, costs.slippage_bps * 1e-4)
        self._cash = capital
        self._units, self._spent, self._paid = (np.zeros(len(self._names)) for _ in range(3))
        self._since = np.full(len(self._names), -1, dtype=np.int64)
        self._equity, self._gross, self._value = (np.zeros(n) for _ in range(3))
        self._charges = np.zeros((n, 4))
        self._filled: list[tuple[object, ...]] = []
        self._trades: list[tuple[object, ...]] = []

    def rebalance(self, row: int, wanted: np.ndarray) -> None:
        """Equal weights of the wanted symbols that have a price, of the equity before ``row``, filled on it."""
        self._carry(row)
        known = self._marks[row - 1] if row else np.full(len(self._names), np.nan)
        chosen = np.flatnonzero(wanted & np.isfinite(known))
        held = np.flatnonzero(self._units)
        equity = self._cash + float(self._units[held] @ known[held])
        goal = np.zeros(len(self._names))
        goal[chosen] = equity / (1.0 + sum(self._rates)) / max(len(chosen), 1) / known[chosen]
        self._gross[row] += float(self._units[held] @ (self._marks[row, held] - known[held]))
        self._trade(row, goal, np.where(np.isfinite(self._fills[row]), self._fills[row], known))

    def sell_out(self, row: int) -> None:
        """Sell everything at the close of ``row``."""
        self._carry(row + 1)
        self._next = row
        self._trade(row, np.zeros(len(self._names)), self._marks[row])

    def result(self) -> PortfolioResult:
        """The record; what is still held is valued at the last close."""
        self._carry(len(self._index))
        for i in np.flatnonzero(self._units):
            self._close(int(i), len(self._index) - 1, self._units[i] * self._marks[-1, i], closed=False)
        rows = slice(self._first, None)
        index, held = self._index[rows], self._value[rows]
        return PortfolioResult(
            equity=pd.Series(self._equity[rows], index=index, name="equity"),
            costs=pd.DataFrame(
                self._charges[rows], index=index, columns=["fees", "slippage", "borrow", "turnover"]
            ),
            exposure=pd.DataFrame({"gross": held, "net": held}, index=index),
            fills=pd.DataFrame(self._filled, columns=["time", "symbol", "quantity", "price", "fee", "slippage"]),
            refused={},
            gross=pd.Series(self._gross[rows], index=index, name="gross"),
            trades=pd.DataFrame(self._trades, columns=list(BOOK_TRADE_COLUMNS)),
        )  # fmt: skip

    def _carry(self, row: int) -> None:
        """Mark what is held from the row after the last event to the one before ``row``."""
        rows = slice(self._next, row)
        held = np.flatnonzero(self._units)
        value = self._marks[rows][:, held] @ self._units[held]
        self._value[rows], self._equity[rows] = value, self._cash + value
        self._gross[rows.start + 1 : rows.stop] += np.diff(value)
        self._next = row

    def _trade(self, row: int, goal: FloatArray, price: FloatArray) -> None:
        change = goal - self._units
        which: IntArray = np.flatnonzero(change)
        for i in which.tolist():
            traded = abs(change[i]) * price[i]
            fee, slippage = traded * self._rates[0], traded * self._rates[1]
            self._cash -= change[i] * price[i] + fee + slippage
            self._gross[row] += change[i] * (self._marks[row, i] - price[i])
            self._charges[row] += (fee, slippage, 0.0, traded)
            self._filled.append((self._index[row], self._names[i], change[i], price[i], fee, slippage))
            if self._since[i] < 0:
                self._since[i] = row
            self._spent[i] += change[i] * price[i]
            self._paid[i] += fee + slippage
            if goal[i] == 0.0:
                self._close(i, row, 0.0, closed=True)
        self._units = goal
        held = np.flatnonzero(goal)
        self._value[row] = float(goal[held] @ self._marks[row, held])
        self._equity[row] = self._cash + self._value[row]

    def _close(self, i: int, row: int, worth: float, *, closed: bool) -> None:
        gross, paid = float(worth - self._spent[i]), float(self._paid[i])
        times = (self._index[self._since[i]], self._index[row])
        self._trades.append((self._names[i], 1, *times, gross, paid, gross - paid, closed))
        self._spent[i], self._paid[i], self._since[i] = 0.0, 0.0, -1


def placebo_pairs(
    symbols: Sequence[str], excluded: Sequence[Pair], n_pairs: int, *, seed: int, fold: int
) -> tuple[Pair, ...]:
    """Random pairs of symbols in random directions, none of them ``excluded`` in either one.

    Look-ahead: none; prices have no part in the choice.

    Parameters
    ----------
    symbols
        To draw from.
    excluded
        Pairs that are not to be drawn.
    n_pairs
        As many as this, or all there are.
    seed, fold
        The same two give the same pairs.
    """
    taken = {pair.unordered for pair in excluded}
    free = [legs for legs in combinations(sorted(set(symbols)), 2) if frozenset(legs) not in taken]
    rng = np.random.default_rng([seed, fold])
    places = rng.permutation(len(free))[:n_pairs].tolist()
    turned = (rng.random(len(places)) < 0.5).tolist()
    return tuple(Pair(*(free[i][::-1] if turn else free[i])) for i, turn in zip(places, turned, strict=True))
