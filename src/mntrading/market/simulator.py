"""The built-in simulator as a market source: no network, no files, the same bars on every machine."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mntrading.core import bars, simulation
from mntrading.core.errors import SourceError
from mntrading.core.types import FloatArray
from mntrading.market.base import MarketInfo, MarketSource


class SimulatorSource(MarketSource):
    """Bars of `mntrading.core.simulation.market`; its clock stands at the market's end.

    Parameters
    ----------
    name, seed, n_symbols, start, end
        As `mntrading.core.simulation.market` takes them. ``dirty`` serves its hostile rows.

    Examples
    --------
    >>> source = SimulatorSource("ou", end=pd.Timestamp("2025-01-02", tz="UTC"))
    >>> source.fetch_ohlcv("BROBIX/USDT", "1h", None, 3).shape
    (3, 6)
    """

    def __init__(
        self,
        name: str,
        seed: int = 0,
        n_symbols: int | None = None,
        start: pd.Timestamp | None = None,
        end: pd.Timestamp | None = None,
    ) -> None:
        self._size = "" if n_symbols is None else f":{n_symbols}"
        self.market = simulation.market(name, seed=seed, n_symbols=n_symbols, start=start, end=end)
        self._served: dict[str, dict[str, FloatArray]] = {}

    @property
    def identity(self) -> str:
        """``simulator:<name>:<seed>``, with the number of symbols where it is not the market's own."""
        return f"simulator:{self.market.name}:{self.market.seed}{self._size}"

    def load_markets(self) -> dict[str, MarketInfo]:
        """Symbols listed before the market's end."""
        infos = {}
        for row in self.market.listings.to_dict("records"):
            delisted = None if pd.isna(row["delisted"]) else bars.to_ms(row["delisted"])
            infos[str(row["symbol"])] = MarketInfo(
                symbol=str(row["symbol"]),
                base=str(row["base"]),
                quote=str(row["quote"]),
                active=delisted is None,
                tick=float(row["tick"]),
                lot=float(row["lot"]),
                min_notional=float(row["min_notional"]),
                listed_ms=bars.to_ms(row["listed"]),
                delisted_ms=delisted,
                shortable=True,
            )
        return infos

    def timeframes_of(self, symbol: str) -> frozenset[str]:
        """Every simulated timeframe, for every symbol the market has."""
        return frozenset(simulation.TIMEFRAMES if symbol in self.market.symbols else ())

    def server_time(self) -> int:
        """The market's end."""
        return bars.to_ms(self.market.end)

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """One page, in the order the market sends it.

        Raises
        ------
        SourceError
            The market has no such symbol.
        ParameterError
            The timeframe can't be simulated.
        """
        if symbol not in self.market.symbols:
            raise SourceError(
                f"no symbol {symbol!r}",
                where=self.identity,
                fix=f"use one of its {len(self.market.symbols)} symbols, such as {self.market.symbols[0]}",
            )
        if timeframe not in self._served:
            self._served[timeframe] = {name: part.rows for name, part in self.market.served(timeframe).items()}
        rows = self._served[timeframe].get(symbol, np.empty((0, 6)))
        by_time = np.argsort(rows[:, 0], kind="stable")
        begin = 0 if since is None else int(np.searchsorted(rows[by_time, 0], since))
        stop = None if limit is None else begin + limit
        return rows[np.sort(by_time[begin:stop])]
