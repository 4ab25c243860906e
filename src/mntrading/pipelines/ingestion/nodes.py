"""Bars from the market into the store, each symbol from where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mntrading.core import bars
from mntrading.core.errors import SourceError
from mntrading.core.roster import Roster
from mntrading.datasets import BarStore, BarsUpdate
from mntrading.market import open_source
from mntrading.market.base import MarketInfo, MarketSource, fetch_range, select_valid
from mntrading.params import IngestionParams, MarketParams
from mntrading.pipelines.common import SCHEMA_VERSION, progress

LOGGER = logging.getLogger(__name__)


def fetch_markets(market: MarketParams, ingestion: IngestionParams, stored: BarStore) -> dict[str, Any]:
    """The symbols to ingest with their trading rules, and the market's clock, which is the run's ``as_of``.

    A symbol that is not traded any more stays: a past window's universe is what was listed then. One that the
    source does not even name any more stays with the bars that are stored.
    """
    source = open_source(market)
    known = source.load_markets()
    symbols = _symbols(source, known, ingestion)
    gone = [] if ingestion.symbols is not None else sorted(set(stored) - set(known))
    as_of = bars.from_ms(source.server_time())
    if ingestion.until_utc is not None:
        as_of = min(as_of, pd.Timestamp(ingestion.until_utc))
    LOGGER.info("%s: %d symbols, as of %s", source.identity, len(symbols) + len(gone), as_of)
    return {
        "schema_version": SCHEMA_VERSION,
        "as_of": as_of,
        "since": pd.Timestamp(ingestion.since_utc),
        "source": source.identity,
        "symbols": {symbol: _rules(known[symbol]) for symbol in symbols} | {symbol: _gone(symbol) for symbol in gone},
    }


def _symbols(source: MarketSource, known: Mapping[str, MarketInfo], ingestion: IngestionParams) -> list[str]:
    if ingestion.symbols is not None:
        missing = [symbol for symbol in ingestion.symbols if symbol not in known]
        if missing:
            raise SourceError(
                f"{source.identity} has no symbol {', '.join(missing)}",
                where="ingestion.symbols",
                fix="correct the list, or set it to null for every symbol of the quote currency",
            )
        return sorted(ingestion.symbols)
    needed = {ingestion.screening_timeframe, ingestion.trading_timeframe}
    symbols = sorted(
        symbol
        for symbol, info in known.items()
        if info.quote == ingestion.quote and needed <= source.timeframes_of(symbol)
    )
    if not symbols:
        raise SourceError(
            f"{source.identity} has no symbol quoted in {ingestion.quote} with bars of {sorted(needed)}",
            where="ingestion.quote",
            fix="kedro run --pipelines ingestion --params ingestion.quote=…",
        )
    return symbols


def _rules(info: MarketInfo) -> dict[str, Any]:
    return {
        "base": info.base,
        "quote": info.quote,
        "listed": True,
        "active": info.active,
        "tick": info.tick,
        "lot": info.lot,
        "min_notional": info.min_notional,
        "shortable": info.shortable,
    }


def _gone(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("/")
    return dict.fromkeys(("tick", "lot", "min_notional")) | {
        "base": base,
        "quote": quote or None,
        "listed": False,
        "active": False,
        "shortable": False,
    }


def fetch_bars_1h(
    market: MarketParams, ingestion: IngestionParams, markets: dict[str, Any], stored: BarStore
) -> Iterator[BarsUpdate]:
    """Bars of every symbol at the screening timeframe."""
    yield from _fetch(market, ingestion, markets, tuple(markets["symbols"]), ingestion.screening_timeframe, stored)


def fetch_bars_5m(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: dict[str, Any],
    roster: dict[str, Any],
    stored: BarStore,
) -> Iterator[BarsUpdate]:
    """Bars of the roster's symbols, of all its folds, at the trading timeframe."""
    symbols = Roster.parse(roster).symbols
    yield from _fetch(market, ingestion, markets, symbols, ingestion.trading_timeframe, stored)


def refresh_bars_5m(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: dict[str, Any],
    production_map: dict[str, Any],
    stored: BarStore,
    latest_orders: dict[str, Any] | None,
) -> Iterator[BarsUpdate]:
    """Newest bars, at the trading timeframe, of the symbols of production pairs and of pairs still held."""
    held = latest_orders["book"]["holdings"] if latest_orders else []
    pairs = [*production_map["pairs"], *held]
    symbols = sorted({pair[leg] for pair in pairs for leg in ("dependent", "independent")})
    yield from _fetch(market, ingestion, markets, symbols, ingestion.trading_timeframe, stored)


def _fetch(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: Mapping[str, Any],
    symbols: Sequence[str],
    timeframe: str,
    stored: BarStore,
) -> Iterator[BarsUpdate]:
    source = open_source(market)
    since, until = bars.to_ms(pd.Timestamp(ingestion.since_utc)), bars.to_ms(pd.Timestamp(markets["as_of"]))
    # an update without bars first: a store exists, and is of one market only, even when there is nothing to fetch
    yield BarsUpdate(source.identity, {}, {})
    fetched = failed = 0
    for symbol in progress(symbols, len(symbols), f"bars {timeframe}"):
        if not markets["symbols"].get(symbol, {"listed": True})["listed"]:
            continue  # nobody serves it any more; what is stored stays
        before = stored[symbol] if symbol in stored else bars.empty_bars()
        known_bad = stored.entry(symbol).get("rejected", {}) if symbol in stored else {}
        frame, meta = _fetch_symbol(source, symbol, timeframe, before, known_bad, since, until, ingestion.page_limit)
        if frame.empty:
            failed += 1
            LOGGER.warning("%s has no %s bars in the range asked for", symbol, timeframe)
            continue
        fetched += len(frame) - len(before)
        yield BarsUpdate(source.identity, {symbol: frame}, {symbol: meta})
    LOGGER.info("bars %s: %d new bars, %d symbols without any", timeframe, fetched, failed)
    if symbols and failed == len(symbols):
        raise SourceError(
            f"{source.identity} gave no {timeframe} bars from {ingestion.since_utc} on for any of "
            f"{len(symbols)} symbols",
            where="ingestion.since_utc",
            fix="kedro run --pipelines ingestion --params ingestion.since_utc=… (an earlier or later time)",
        )


def _fetch_symbol(
    source: MarketSource,
    symbol: str,
    timeframe: str,
    before: pd.DataFrame,
    known_bad: Mapping[str, str],
    since: int,
    until: int,
    page_limit: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Stored bars of a symbol completed at both ends, and what is to be said about them.

    ``known_bad`` is the ledger of rows refused so far, reason by open time; a row that has become valid leaves it.
    """
    step = bars.timeframe_ms(timeframe)
    ranges = [(since, until)]
    if not before.empty:
        opens = bars.times_ms(before["timestamp"])
        # the last stored bar is asked for again: a jump on the newest bar is judged by the bar after it
        ranges = [(since, int(opens[0])), (int(opens[-1]), until)]
    frame, rejected = before, dict(known_bad)
    for start, end in ranges:
        if end - start < step:
            continue
        rows = fetch_range(source, symbol, timeframe, since_ms=start, until_ms=end, page_limit=page_limit)
        good, bad = select_valid(rows, timeframe)
        rejected |= {f"{row['timestamp']:%Y-%m-%dT%H:%M:%S.%fZ}": row["reason"] for row in bad.to_dict("records")}
        if len(good):
            frame = bars.upsert(frame, bars.bars_from_rows(good, symbol))
    stored = {f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}" for moment in frame["timestamp"]} if rejected else set()
    return frame, {
        "requested_since": bars.from_ms(since),
        "requested_until": bars.from_ms(until),
        "rejected": {moment: reason for moment, reason in sorted(rejected.items()) if moment not in stored},
    }
