from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mntrading.core import simulation
from mntrading.core.errors import SourceError
from mntrading.market.paging import fetch_range
from mntrading.market.simulator import SimulatorSource

END = simulation.START + pd.Timedelta(days=2)


def test_the_simulator_says_which_market_its_bars_are_of() -> None:
    source = SimulatorSource("ou", seed=3, end=END)
    assert source.identity == "simulator:ou:3"
    assert source.server_time() == int(END.timestamp() * 1000)


def test_markets_tell_listings_and_delistings() -> None:
    source = SimulatorSource("demo", end=simulation.START + pd.Timedelta(days=121))
    infos = source.load_markets()
    assert tuple(infos) == source.market.symbols
    gone = [info for info in infos.values() if not info.active]
    assert [info.delisted_ms for info in gone] == [int((simulation.START.timestamp() + 120 * 86400) * 1000)]
    assert infos["USDC/USDT"].base == "USDC"
    assert {info.quote for info in infos.values()} == {"USDT"}


def test_pages_add_up_to_the_bars_of_the_market() -> None:
    source = SimulatorSource("ou", end=END)
    symbol = source.market.symbols[0]
    start = int(simulation.START.timestamp() * 1000)
    rows = fetch_range(source, symbol, "5m", since_ms=start, until_ms=source.server_time(), page_limit=100)
    assert np.array_equal(rows, source.market.rows(symbol, "5m"))


def test_a_page_starts_at_since_and_keeps_its_limit() -> None:
    source = SimulatorSource("ou", end=END)
    symbol = source.market.symbols[0]
    since = int(simulation.START.timestamp() * 1000) + 1
    page = source.fetch_ohlcv(symbol, "1h", since, 5)
    assert np.array_equal(page, source.market.rows(symbol, "1h")[1:6])


def test_every_symbol_has_5m_and_1h_bars_and_an_unknown_one_has_none() -> None:
    source = SimulatorSource("ou", end=END)
    assert source.timeframes_of(source.market.symbols[0]) >= {"5m", "1h", "1d"}
    assert source.timeframes_of("NOPE/USDT") == frozenset()
    with pytest.raises(SourceError, match="no symbol 'NOPE/USDT'"):
        source.fetch_ohlcv("NOPE/USDT", "1h", None, None)
