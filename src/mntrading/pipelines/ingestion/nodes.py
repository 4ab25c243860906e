"""Bars from the market into the store, of each symbol what is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import bars
from mntrading.core.coverage import Interval
from mntrading.core.errors import SourceError
from mntrading.core.listing import choose, quote_volume
from mntrading.core.roster import Roster
from mntrading.core.types import slug
from mntrading.datasets import BarStore, BarsUpdate, Partitions
from mntrading.market import MarketInfo, MarketSource, SymbolGoneError, market_time, open_source
from mntrading.market.fetching import Ended, Job, Piece, fetch_all, n_missing
from mntrading.market.paging import fetch_range
from mntrading.params import IngestionParams, MarketParams
from mntrading.pipelines.common import SCHEMA_VERSION, progress
from mntrading.pipelines.ingestion.account import Account

LOGGER = logging.getLogger(__name__)

_DAY_MS = 86_400_000
_FUNDING_PAGE = 1000
_AT_ONCE = 8  # symbols


# ------------------------------------------------------------------------------------------- markets


def fetch_markets(
    market: MarketParams,
    ingestion: IngestionParams,
    stored: BarStore,
    markets_stored: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The symbols to ingest with their trading rules, and the market's clock, which is the run's ``as_of``.

    A symbol that is not traded any more stays: a past window's universe is what was listed then. One that the
    source does not even name any more stays with the bars that are stored. Returned a second time as the
    day's snapshot of the rules.
    """
    source = open_source(market)
    known = source.load_markets()
    listing = _listing(source, known, ingestion, markets_stored)
    symbols = listing["symbols"]
    gone = [] if ingestion.symbols is not None else sorted(set(stored) - set(known))
    as_of = bars.from_ms(market_time(source, market))
    if ingestion.until_utc is not None:
        as_of = min(as_of, pd.Timestamp(ingestion.until_utc))
    LOGGER.info(
        "%s: %d symbols, %d of them new and %d gone, as of %s; %d stored ones are not asked for any more",
        source.identity, len(symbols) + len(gone), len(set(symbols) - set(stored)), len(gone), as_of,
        len(set(stored) - set(symbols) - set(gone)),
    )  # fmt: skip
    markets = {
        "schema_version": SCHEMA_VERSION,
        "as_of": as_of,
        "since": pd.Timestamp(ingestion.since_utc),
        "source": source.identity,
        "listing": listing,
        "symbols": {symbol: _rules(known[symbol]) | _dates(symbol, known.get(symbol), stored) for symbol in symbols}
        | {symbol: _gone(symbol) | _dates(symbol, None, stored) for symbol in gone},
    }
    return markets, {f"{as_of:%Y-%m-%d}": markets}


def _listing(
    source: MarketSource,
    known: Mapping[str, MarketInfo],
    ingestion: IngestionParams,
    before: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The symbols asked for by name or by rule, and how many were left out for what reason."""
    rule = ingestion.listing
    if ingestion.symbols is not None:
        missing = [symbol for symbol in ingestion.symbols if symbol not in known]
        if missing:
            raise SourceError(
                f"{source.identity} has no symbol {', '.join(missing)}",
                where="ingestion.symbols",
                fix="correct the list, or set it to null to have symbols chosen by ingestion.listing",
            )
        return {"rule": None, "symbols": sorted(ingestion.symbols), "funnel": {}}
    needed = {ingestion.screening_timeframe, ingestion.trading_timeframe}
    served = {name: info for name, info in known.items() if needed <= (source.timeframes_of(name) or needed)}
    at = pd.Timestamp(rule.ranked_at or ingestion.since_utc)
    told = {"source": source.identity, "at": at.isoformat(), **rule.model_dump(mode="json")}
    if before and before["listing"]["rule"] == told and rule.top_n is not None:
        # the past does not change: ranked once is enough
        return {**before["listing"], "symbols": sorted(set(before["listing"]["symbols"]) & set(known))}
    volumes = None
    if rule.top_n is not None:
        eligible = choose(served, None, rule.model_copy(update={"top_n": None}), at).symbols
        volumes = _volumes(source, eligible, ingestion, bars.to_ms(at))
    chosen = choose(served, volumes, rule, at)
    return {"rule": told, "symbols": sorted(chosen.symbols), "funnel": chosen.funnel}


def _volumes(source: MarketSource, symbols: Sequence[str], ingestion: IngestionParams, at: int) -> dict[str, float]:
    """Quote volume of each symbol in the days before a time; none of one without bars then."""
    since = at - ingestion.listing.ranked_days * _DAY_MS

    def volume(symbol: str) -> float:
        served = source.timeframes_of(symbol)
        timeframe = "1d" if served is None or "1d" in served else ingestion.screening_timeframe
        try:
            rows = fetch_range(source, symbol, timeframe, since_ms=since, until_ms=at, page_limit=ingestion.page_limit)
        except SymbolGoneError:
            return 0.0
        return quote_volume(rows)

    with ThreadPoolExecutor(source.concurrency) as pool:
        found = progress(pool.map(volume, symbols), len(symbols), "ranking symbols by volume")
        return {symbol: total for symbol, total in zip(symbols, found, strict=True) if total > 0}


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
        "perpetual": info.perpetual,
    }


def _dates(symbol: str, info: MarketInfo | None, stored: BarStore) -> dict[str, Any]:
    """First and last moment of trading: as the source says, else as the stored bars show; None where neither does."""
    first, last = (info.listed_ms, info.delisted_ms) if info else (None, None)
    span, fetched = stored.span(symbol), stored.ledger(symbol).fetched
    if span and first is None and fetched and fetched[0][0] < span[0]:
        first = span[0]
    if span and last is None and not (info and info.active):
        last = span[1]
    return {
        "listed_from": None if first is None else bars.from_ms(first),
        "listed_until": None if last is None else bars.from_ms(last),
    }


def _gone(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("@")[0].partition("/")
    return dict.fromkeys(("tick", "lot", "min_notional", "perpetual")) | {
        "base": base,
        "quote": quote or None,
        "listed": False,
        "active": False,
        "shortable": False,
    }


# ---------------------------------------------------------------------------------------------- bars


def fetch_bars_1h(
    market: MarketParams, ingestion: IngestionParams, markets: dict[str, Any], stored: BarStore
) -> Iterator[BarsUpdate]:
    """Bars of every symbol at the screening timeframe."""
    wanted = _wanted(markets, ingestion, ingestion.screening_timeframe)
    jobs = [Job(symbol, symbol, wanted) for symbol, rules in markets["symbols"].items() if rules["listed"]]
    yield from _fetch(market, ingestion, markets, jobs, ingestion.screening_timeframe, stored, ingestion.verify)


def fetch_bars_5m(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: dict[str, Any],
    roster: dict[str, Any],
    ohlcv_1h: BarStore,
    stored: BarStore,
) -> Iterator[BarsUpdate]:
    """Bars of the roster's symbols, of all its folds, at the trading timeframe.

    Where the screening bars have shown that a symbol passed from one coin to another, each coin has its own.
    """
    symbols = Roster.parse(roster).symbols
    first, until = _wanted(markets, ingestion, ingestion.trading_timeframe)
    jobs = []
    for symbol in symbols:
        notes, served_as = ohlcv_1h.ledger(symbol).notes, symbol.partition("@")[0]
        span = (
            max(first, bars.to_ms(pd.Timestamp(notes.get("listed_from", bars.from_ms(first))))),
            min(until, bars.to_ms(pd.Timestamp(notes.get("listed_until", bars.from_ms(until))))),
        )
        if markets["symbols"].get(served_as, {"listed": True})["listed"]:
            jobs.append(Job(symbol, served_as, span))
    yield from _fetch(market, ingestion, markets, jobs, ingestion.trading_timeframe, stored, ingestion.verify)


def refresh_bars_5m(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: dict[str, Any],
    production_map: dict[str, Any],
    stored: BarStore,
    latest_orders: dict[str, Any] | None,
) -> Iterator[BarsUpdate]:
    """Newest bars, at the trading timeframe, of the symbols of production pairs and of pairs still held."""
    symbols = _live_symbols(production_map, latest_orders)
    wanted = _wanted(markets, ingestion, ingestion.trading_timeframe)
    jobs = [
        Job(symbol, symbol, wanted) for symbol in symbols if markets["symbols"].get(symbol, {"listed": True})["listed"]
    ]
    # of what is read now the hashes as well: a file that can't be read would stop every pair
    verify = ingestion.verify
    yield from _fetch(market, ingestion, markets, jobs, ingestion.trading_timeframe, stored, verify, of=symbols)


def _live_symbols(production_map: Mapping[str, Any], latest_orders: Mapping[str, Any] | None) -> list[str]:
    """Symbols of the pairs in production, and of those held or about to be."""
    held = [*latest_orders["book"]["holdings"], *latest_orders["wanted"]["holdings"]] if latest_orders else []
    return sorted({pair[leg] for pair in (*production_map["pairs"], *held) for leg in ("dependent", "independent")})


def refresh_bars_1h(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: dict[str, Any],
    production_map: dict[str, Any],
    stored: BarStore,
) -> Iterator[BarsUpdate]:
    """Newest hourly bars of the symbols whose volatility production models look at; of none where none does."""
    wanted = _wanted(markets, ingestion, ingestion.screening_timeframe)
    listed = [name for name in production_map["market_symbols"] if markets["symbols"].get(name, {}).get("listed")]
    jobs = [Job(symbol, symbol, wanted) for symbol in listed]
    verify = ingestion.verify
    yield from _fetch(market, ingestion, markets, jobs, ingestion.screening_timeframe, stored, verify, of=listed)


def _wanted(markets: Mapping[str, Any], ingestion: IngestionParams, timeframe: str) -> Interval:
    """Open times of the bars that should be there: from ``since_utc`` to the last one closed at ``as_of``."""
    step = bars.timeframe_ms(timeframe)
    first = -(-bars.to_ms(pd.Timestamp(ingestion.since_utc)) // step) * step
    return first, bars.to_ms(pd.Timestamp(markets["as_of"])) // step * step


def _fetch(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: Mapping[str, Any],
    jobs: Sequence[Job],
    timeframe: str,
    stored: BarStore,
    verify: str,
    of: Collection[str] | None = None,
) -> Iterator[BarsUpdate]:
    """What is missing of each job's bars, in pieces; a table of it at the end, whatever happens."""
    # some sources take a second to open, and a live cycle often has nothing to ask for
    source = open_source(market) if jobs else None
    identity = markets["source"] if source is None else source.identity
    damage = stored.damage(hashes=verify == "hashes", of=of)
    if damage:
        LOGGER.warning("bars %s: %s; put in quarantine, to be fetched again", timeframe, damage)
    # an update without bars first: a store exists, and is of one market only, even when there is nothing to fetch
    yield BarsUpdate(identity, damage=damage)
    if damage:
        stored = stored.reload()
    as_of = bars.to_ms(pd.Timestamp(markets["as_of"]))
    gone = [symbol for symbol in stored if not markets["symbols"].get(symbol, {"listed": True})["listed"]]
    account = Account(timeframe, jobs, stored, n_missing(jobs, stored, timeframe, as_of, ingestion), gone)
    try:
        if source is not None:
            yield from _updates(fetch_all(source, jobs, stored, timeframe, as_of, ingestion), identity, account)
    finally:
        account.close()
    if jobs and not account.n_with_bars:
        raise account.first_error or SourceError(
            f"{identity} gave no {timeframe} bars from {ingestion.since_utc} on for any of {len(jobs)} symbols",
            where="ingestion.since_utc",
            fix="kedro run --pipelines ingestion --params ingestion.since_utc=… (an earlier or later time)",
        )


def _updates(items: Iterator[Piece | Ended], source: str, account: Account) -> Iterator[BarsUpdate]:
    """Pieces as updates, those of some symbols at once: the store writes them side by side.

    What came is handed on at least every second, and whatever ends the fetching.
    """
    waiting: dict[str, Piece] = {}
    since = time.monotonic()

    def handed_on() -> Iterator[BarsUpdate]:
        nonlocal since
        if waiting:
            yield _update(source, waiting)
            waiting.clear()
        since = time.monotonic()

    try:
        for item in items:
            account.note(item)
            if isinstance(item, Piece):
                if item.symbol in waiting:
                    yield from handed_on()
                waiting[item.symbol] = item
            if len(waiting) >= _AT_ONCE or time.monotonic() - since > 1.0:
                yield from handed_on()
    except SourceError:
        yield from handed_on()
        raise
    yield from handed_on()


def _update(source: str, pieces: Mapping[str, Piece]) -> BarsUpdate:
    return BarsUpdate(
        source,
        frames={name: bars.bars_from_rows(piece.rows, name) for name, piece in pieces.items() if len(piece.rows)},
        ledgers={name: piece.ledger for name, piece in pieces.items()},
        archive={name: piece.archive for name, piece in pieces.items() if piece.archive},
    )


# ------------------------------------------------------------------------------------- funding rates


def fetch_funding_rates(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: dict[str, Any],
    roster: dict[str, Any],
    stored: Partitions,
) -> Iterator[dict[str, pd.DataFrame]]:
    """Funding rates of the perpetuals of the roster's symbols, each from where it stopped.

    Rows up to ``as_of``; ``rate`` is the fraction of notional that longs pay to shorts at ``timestamp``.
    """
    yield {}
    if ingestion.funding:
        perpetuals = _perpetuals(Roster.parse(roster).symbols, markets)
        source = open_source(market)
        for perpetual in progress(perpetuals, len(perpetuals), "funding rates"):
            yield from _newer_rates(source, perpetual, ingestion, markets, stored)


def refresh_funding_rates(
    market: MarketParams,
    ingestion: IngestionParams,
    markets: dict[str, Any],
    production_map: dict[str, Any],
    stored: Partitions,
    latest_orders: dict[str, Any] | None,
) -> Iterator[dict[str, pd.DataFrame]]:
    """Newest funding rates of the perpetuals of production pairs and of pairs still held.

    What can't be had now stops no exit: it is warned of, and asked for again by the next cycle.
    """
    yield {}
    perpetuals = _perpetuals(_live_symbols(production_map, latest_orders), markets) if ingestion.funding else []
    if not perpetuals:
        return
    source = open_source(market)
    for perpetual in perpetuals:
        try:
            yield from _newer_rates(source, perpetual, ingestion, markets, stored)
        except SourceError as error:
            LOGGER.warning("%s: %s; what falls due until it comes is charged to no account", perpetual, error)


def _perpetuals(symbols: Iterable[str], markets: Mapping[str, Any]) -> list[str]:
    """The perpetuals of symbols that have one."""
    rules = [markets["symbols"].get(symbol, {}) for symbol in symbols]
    return sorted({rule["perpetual"] for rule in rules if rule.get("perpetual")})


def _newer_rates(
    source: MarketSource, perpetual: str, ingestion: IngestionParams, markets: Mapping[str, Any], stored: Partitions
) -> Iterator[dict[str, pd.DataFrame]]:
    """A perpetual's stored rates with those since, where there are any."""
    before = stored.get(slug(perpetual))
    first = bars.to_ms(pd.Timestamp(ingestion.since_utc))
    since = first if before is None else int(bars.times_ms(before["timestamp"])[-1]) + 1
    fresh = _funding(source, perpetual, since, bars.to_ms(pd.Timestamp(markets["as_of"])))
    if len(fresh):
        yield {slug(perpetual): pd.concat([before, fresh], ignore_index=True) if before is not None else fresh}


def _funding(source: MarketSource, perpetual: str, since: int, until: int) -> pd.DataFrame:
    """Rates in a range, page by page."""
    pages = []
    while since <= until:
        page = source.fetch_funding_rates(perpetual, since, _FUNDING_PAGE)
        page = page[(page[:, 0] >= since) & (page[:, 0] <= until)]
        if not len(page):
            break
        pages.append(page)
        since = int(page[-1, 0]) + 1
    rows = np.vstack(pages) if pages else np.empty((0, 2))
    stamps = pd.DatetimeIndex(rows[:, 0].astype("datetime64[ms]")).tz_localize("UTC")
    return pd.DataFrame({"timestamp": stamps, "symbol": perpetual, "rate": rows[:, 1]}).astype({"symbol": "str"})
