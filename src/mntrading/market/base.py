"""The one way to ask a market for bars, and what it may answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mntrading.core.errors import SourceError
from mntrading.core.types import FloatArray


class SymbolGoneError(SourceError):
    """The source does not serve this symbol any more, or never did; the others are not touched."""


class SourceBlockedError(SourceError):
    """The source refuses this address or these requests altogether: asking again makes it worse."""


class SourceUnreachableError(SourceError):
    """No answer, in all the attempts that are allowed."""


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
    perpetual
        Symbol of the perpetual on the same base and quote.
    """

    symbol: str
    base: str
    quote: str | None
    active: bool = True
    tick: float | None = None
    lot: float | None = None
    min_notional: float | None = None
    listed_ms: int | None = None
    delisted_ms: int | None = None
    shortable: bool = False
    perpetual: str | None = None


class MarketSource(Protocol):
    """Where bars come from: an exchange, files, the simulator, or a class of yours.

    A class of yours inherits from this one and says `identity`, `load_markets` and `fetch_ohlcv`; the
    rest has an answer here that fits most.
    """

    @property
    def identity(self) -> str:
        """Which market the bars are of, ``ccxt:binance``: stored beside them, so that two are never mixed."""
        ...

    def load_markets(self) -> dict[str, MarketInfo]:
        """Every symbol the source knows."""
        ...

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """One page of raw rows ``(n, 6)``: [open time in ms, open, high, low, close, volume].

        Rows from the first bar that opens at or after ``since``, at most ``limit`` of them. They are what
        the market answers: the last one may be still open, and any may be malformed.
        """
        ...

    def server_time(self) -> int:
        """The market's own clock, ms since the epoch: this machine's, where a source has none of its own."""
        return int(time.time() * 1000)

    def timeframes_of(self, symbol: str) -> frozenset[str] | None:  # noqa: ARG002 (most have all for each)
        """Timeframes the source has bars of this symbol in; None where it has any."""
        return None

    @property
    def concurrency(self) -> int:
        """How many threads may ask at once."""
        return 1

    def fetch_funding_rates(self, symbol: str, since: int, limit: int) -> FloatArray:  # noqa: ARG002
        """One page of ``(n, 2)`` rows [time in ms, funding rate] of a perpetual, from ``since`` on.

        The rate is the fraction of notional that longs pay to shorts at that time. No rows where the
        source has no such thing.
        """
        return np.empty((0, 2))
