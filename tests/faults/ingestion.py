"""Ingestion from the loopback exchange as something to kill: the nodes, real ccxt, and a market with hostile rows."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Final

import ccxt  # noqa: F401 -- before any fork
import numpy as np
import pandas as pd
from fault_matrix import parameters
from saves import Findings, different, duplicated, lost, total, unreadable

from mntrading.core.errors import MNTradingError
from mntrading.core.quality import judge
from mntrading.datasets import BarsDataset
from mntrading.datasets.storage import canonical_json
from mntrading.market.budget import Budgets
from mntrading.market.ccxt_source import CcxtSource
from mntrading.market.loopback import Fault, Loopback, ManualClock
from mntrading.market.simulator import SimulatorSource
from mntrading.pipelines.ingestion import nodes

_DAYS: Final = 45
_SYMBOLS: Final = 8
_SINCE: Final = 1_735_689_600_000
_DAY_MS: Final = 86_400_000


class Ingestion:
    """Bars of 5m of a hostile market over two months, the first fifth of which is there already."""

    name = "ingestion"

    def __init__(self) -> None:
        given = parameters()
        self._market = given.market
        self._ingestion = given.ingestion.model_copy(update={"screening_timeframe": "5m", "page_limit": 300})
        source = _served()
        pegged = self._ingestion.listing.excluded_bases
        names = [name for name, info in source.load_markets().items() if info.base not in pegged]
        rows = {name: source.fetch_ohlcv(name, "5m", _SINCE, None) for name in names}
        self._truth = {
            name: judge(given, "5m", rules=self._ingestion.quality, final=True).rows for name, given in rows.items()
        }
        self._exchange, self._url = _serve()

    def close(self) -> None:
        """Stop the exchange."""
        os.kill(self._exchange, signal.SIGKILL)
        os.waitpid(self._exchange, 0)

    def prepare(self, place: str) -> None:
        """The first days."""
        self._ingest(place, _DAYS // 5)

    def work(self, place: str) -> None:
        """The rest."""
        self._ingest(place, _DAYS)

    finish = work

    def check(self, place: str, saves: int | None) -> Findings:  # noqa: ARG002 -- a save is no version here
        """Every bar is one the exchange has, once; what was there still is; what counts as fetched is there."""
        folder = f"{place}/ohlcv_5m.parquet"
        try:
            store = _dataset(place).load()
            frame, damage = store.frame(), store.damage(hashes=True)
            table = pd.read_parquet(folder)
        except (MNTradingError, OSError, ValueError) as error:
            return unreadable(f"{place}: {error}")
        found = [unreadable(f"{place}: {damage}")] if damage else []
        if len(table) != len(frame) or table.duplicated(["symbol", "timestamp"]).any():
            found.append(duplicated(f"{place}: {len(table)} rows in the files, {len(frame)} in the store"))
        for symbol, rows in self._truth.items():
            stored = store.rows(symbol, 0, 2**62)
            known = rows[np.isin(rows[:, 0], stored[:, 0])]
            if not np.array_equal(known, stored):
                found.append(different(f"{place}: {symbol}"))
            ledger = store.ledger(symbol)
            absent = rows[~np.isin(rows[:, 0], stored[:, 0]), 0]
            kept_before = absent < _SINCE + _DAYS // 5 * _DAY_MS
            answered = [any(first <= at < until for first, until in ledger.fetched) for at in absent]
            gaps = [any(gap.first <= at < gap.until for gap in ledger.gaps) for at in absent]
            if (kept_before & ~np.array(gaps, dtype=bool)).any() or (np.array(answered) & ~np.array(gaps)).any():
                found.append(lost(f"{place}: bars of {symbol}"))
        return total(found)

    def _ingest(self, place: str, days: int) -> None:
        source = CcxtSource(
            "binance", max_attempts=5, max_concurrency=3, base_url=self._url, budgets=Budgets(ManualClock())
        )
        nodes.open_source = lambda _: source
        dataset = _dataset(place)
        until = pd.Timestamp(_SINCE + days * _DAY_MS, unit="ms", tz="UTC").to_pydatetime()
        ingestion = self._ingestion.model_copy(update={"until_utc": until})
        markets, _ = nodes.fetch_markets(self._market, ingestion, dataset.load(), None)
        told = json.loads(canonical_json(markets))
        for update in nodes.fetch_bars_1h(self._market, ingestion, told, dataset.load()):
            dataset.save(update)


def _dataset(place: str) -> BarsDataset:
    return BarsDataset(path=f"{place}/ohlcv_5m.parquet", timeframe="5m", missing_ok=True)


def _served() -> SimulatorSource:
    end = pd.Timestamp(_SINCE + _DAYS * _DAY_MS, unit="ms", tz="UTC")
    return SimulatorSource("dirty", n_symbols=_SYMBOLS, end=end)


def _serve() -> tuple[int, str]:
    """The exchange in a process of its own, which may have threads: its number and its address."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with suppress(KeyboardInterrupt), Loopback(_served(), [Fault("503", every=5)]) as exchange:
            os.write(writing, exchange.url.encode())
            os.close(writing)
            signal.pause()
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:  # noqa: PTH123 -- a pipe
        return pid, stream.read().decode()
