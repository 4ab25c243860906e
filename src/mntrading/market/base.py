"""The one way to ask a market for bars, how to page through it, and which of its answers to believe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pandas as pd

from mntrading.core import bars
from mntrading.core.errors import ParameterError
from mntrading.core.types import BoolArray, FloatArray

MAX_JUMP: Final = 20.0  # a close this many times the one before, and back at the next bar, is another unit
CONFLICTING: Final = "conflicting duplicate"
WRONG_UNIT: Final = "wrong unit"
UNCONFIRMED: Final = "jump not yet confirmed by a next bar"


@dataclass(frozen=True)
class MarketInfo:
    """What a source says of one symbol; None where it doesn't say.

    Attributes
    ----------
    symbol, base, quote
        As the source spells them; ``quote`` is None when the symbol doesn't name it.
    active
        Trading now.
    tick, lot
        Steps of price and of amount (base units).
    min_notional
        Smallest order, in quote units.
    listed_ms, delisted_ms
        First and last moment of trading.
    shortable
        Whether the leg can be sold short there.
    """

    symbol: str
    base: str
    quote: str | None
    active: bool
    tick: float | None
    lot: float | None
    min_notional: float | None
    listed_ms: int | None
    delisted_ms: int | None
    shortable: bool


class MarketSource(Protocol):
    """Where bars come from: an exchange, files, the simulator."""

    @property
    def identity(self) -> str:
        """Which market the bars are of, ``ccxt:binance``: stored beside them, so that two are never mixed."""
        ...

    def load_markets(self) -> dict[str, MarketInfo]:
        """Every symbol the source knows."""
        ...

    def timeframes_of(self, symbol: str) -> frozenset[str]:
        """Timeframes the source has bars of this symbol in."""
        ...

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """One page of raw rows ``(n, 6)``: [open time in ms, open, high, low, close, volume].

        Rows from the first bar that opens at or after ``since``, at most ``limit`` of them. They are what
        the market answers: the last one may be still open, and any may be malformed.
        """
        ...

    def server_time(self) -> int:
        """The market's own clock, ms since the epoch."""
        ...


def fetch_range(
    source: MarketSource,
    symbol: str,
    timeframe: str,
    *,
    since_ms: int,
    until_ms: int,
    page_limit: int,
) -> FloatArray:
    """All raw rows of a symbol that open at or after ``since_ms`` and are closed by ``until_ms``.

    Pages overlap by one bar, so duplicates inside a page push no bar out. An empty page is stepped over by
    one page's time, so a hole longer than a page hides nothing behind it. The start of every request is
    later than the one before: the walk always ends.

    Parameters
    ----------
    since_ms, until_ms
        Bounds in ms; a bar is taken only if ``open + timeframe <= min(until_ms, source.server_time())``.
    page_limit
        Rows asked for at a time: no more than the source serves at once.

    Returns
    -------
    ``(n, 6)`` raw rows sorted by time, exact duplicates dropped, nothing else judged: see `select_valid`.

    Raises
    ------
    ParameterError
        ``page_limit`` below 1.
    SourceError
        What the source raises.
    """
    if page_limit < 1:
        raise ParameterError(f"page_limit is {page_limit}, expected 1 or more")
    step = bars.timeframe_ms(timeframe)
    last_open = min(until_ms, source.server_time()) - step
    pages: list[FloatArray] = []
    since, window = since_ms, page_limit
    short_page: tuple[float, int] | None = None  # newest stamp and length of a page that wasn't full
    while since <= last_open:
        page = np.asarray(source.fetch_ohlcv(symbol, timeframe, since, page_limit), dtype=np.float64).reshape(-1, 6)
        page = page[page[:, 0] >= since]  # a row without a stamp belongs to no bar
        if not len(page):
            since = _bars_later(since, window, step)
            continue
        pages.append(page)
        newest = float(page[:, 0].max())
        if short_page and step in page[:, 0] - short_page[0]:
            # the page before ended without a hole: that is all this source serves at once
            window = min(window, short_page[1])
        short_page = (newest, len(page)) if len(page) < page_limit else None
        since = math.ceil(newest) if newest > since else _bars_later(since, 1, step)
    if not pages:
        return np.empty((0, 6))
    rows = np.vstack(pages)
    rows = rows[rows[:, 0] <= last_open]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return _without_exact_duplicates(rows)


def select_valid(rows: FloatArray, timeframe: str) -> tuple[FloatArray, pd.DataFrame]:
    """Split raw rows into bars to keep and rows to reject. No value is repaired or filled.

    Rows are sorted by time and exact duplicates dropped. Rejected are rows that break the bar contract
    (see `bars.invalid_rows`), all but the first valid one of rows with the same stamp, and rows in a wrong
    unit: a close more than 20 times, or less than a twentieth of, the last accepted one, that is back at
    the next row. Such a jump on the very last row is rejected too, until a next bar confirms it, so a
    caller that adds to stored bars passes the last stored one along.

    Parameters
    ----------
    rows
        ``(n, 6)`` raw rows [open time in ms, open, high, low, close, volume] of one symbol.
    timeframe
        Grid the open times must lie on.

    Returns
    -------
    good_rows
        ``(m, 6)`` valid rows, strictly increasing in time.
    rejected
        timestamp and reason of each rejected row, sorted by time.
    """
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    table = table[np.argsort(table[:, 0], kind="stable")]
    table = _without_exact_duplicates(table)
    reason = bars.invalid_rows(table, timeframe).to_numpy(dtype=object)

    valid = np.flatnonzero(reason == "")
    again = np.flatnonzero(np.diff(table[valid, 0]) == 0) + 1
    reason[valid[again]] = CONFLICTING

    kept = np.flatnonzero(reason == "")
    strange, unconfirmed = _unit_errors(table[kept, 4])
    reason[kept[strange]] = WRONG_UNIT
    if unconfirmed:
        reason[kept[-1]] = UNCONFIRMED

    bad = reason != ""
    stamps = pd.to_datetime(pd.Series(table[bad, 0]), unit="ms", utc=True).astype(bars.TIMESTAMP_DTYPE)
    return table[~bad], pd.DataFrame({"timestamp": stamps, "reason": pd.Series(reason[bad], dtype="str")})


def _without_exact_duplicates(rows: FloatArray) -> FloatArray:
    again: BoolArray = pd.DataFrame(rows).duplicated().to_numpy(dtype=np.bool_)
    return rows[~again]


def _bars_later(since: int, count: int, step: int) -> int:
    """Grid time ``count`` bars after the bar ``since`` falls into."""
    return (since // step + count) * step


def _unit_errors(close: FloatArray) -> tuple[BoolArray, bool]:
    """Which closes jump away from the last accepted one and back; whether the last one may do so yet."""
    strange = np.zeros(len(close), dtype=np.bool_)
    level, limit = np.log(close), math.log(MAX_JUMP)
    for i in np.flatnonzero(np.abs(np.diff(level)) > limit) + 1:
        before = i - 1
        while strange[before]:
            before -= 1
        if abs(level[i] - level[before]) <= limit:
            continue
        if i + 1 == len(close):
            return strange, True
        strange[i] = abs(level[i + 1] - level[before]) <= limit
    return strange, False
