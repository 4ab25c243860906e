"""The small simulated market with what a live market does wrong: late bars, symbols that go, clocks that are off."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import pandas as pd

from mntrading.core.bars import to_ms
from mntrading.core.types import FloatArray
from mntrading.market import MarketInfo, MarketSource, SymbolGoneError
from mntrading.market.base import SourceUnreachableError
from mntrading.market.simulator import SimulatorSource


@lru_cache(maxsize=2)
def simulated(end: str) -> SimulatorSource:
    """The market of the test environment up to a time."""
    return SimulatorSource("dirty", seed=3, n_symbols=12, end=pd.Timestamp(end))


class Served(MarketSource):
    """That market at a time, with faults.

    Parameters
    ----------
    end
        The market's time, ISO 8601.
    late
        By symbol and timeframe, ``A/USDT 5m``: time from which on its bars are not there.
    holes
        By the same: time from which and time up to which they are not.
    unreachable
        What it does not answer about, by the same names.
    gone
        Symbols the market does not name any more.
    clock
        What its clock says; the market's time by default.
    """

    def __init__(
        self,
        end: str,
        late: Mapping[str, str] | None = None,
        holes: Mapping[str, list[str]] | None = None,
        unreachable: list[str] | None = None,
        gone: list[str] | None = None,
        clock: str | None = None,
    ) -> None:
        self._source, self._clock, self._gone = simulated(end), pd.Timestamp(clock or end), gone or []
        self._unreachable = unreachable or []
        never = {name: [since, "2100-01-01T00:00:00Z"] for name, since in (late or {}).items()}
        self._holes = {name: [to_ms(pd.Timestamp(at)) for at in hole] for name, hole in (never | (holes or {})).items()}

    @property
    def identity(self) -> str:
        return self._source.identity

    def load_markets(self) -> dict[str, MarketInfo]:
        return {name: info for name, info in self._source.load_markets().items() if name not in self._gone}

    def timeframes_of(self, symbol: str) -> frozenset[str]:
        return self._source.timeframes_of(symbol)

    def server_time(self) -> int:
        return to_ms(self._clock)

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        if symbol in self._gone:
            raise SymbolGoneError(f"no symbol {symbol!r}", where=self.identity)
        if f"{symbol} {timeframe}" in self._unreachable:
            raise SourceUnreachableError("does not answer", where=self.identity)
        rows = self._source.fetch_ohlcv(symbol, timeframe, since, limit)
        first, until = self._holes.get(f"{symbol} {timeframe}", (0, 0))
        return rows[(rows[:, 0] < first) | (rows[:, 0] >= until)]
