"""What Binance's public REST interface answers, given a source to replay and a clock."""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np

from mntrading.core import bars
from mntrading.core.errors import MNTradingError, ParameterError
from mntrading.core.types import FloatArray, IntArray
from mntrading.market.base import MarketInfo, MarketSource

INTERVALS: Final = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d")
FUNDING_STEP_MS: Final = 8 * 3_600_000

_DAY_MS: Final = 86_400_000
_FOREVER_MS: Final = 4_133_404_800_000  # what Binance calls the delivery date of a perpetual
_BOOKS_KEPT: Final = 32
_LIMITS: Final = {"klines": (500, 1000), "fapi klines": (500, 1500), "fundingRate": (100, 1000)}

Damage = Callable[[FloatArray, int], FloatArray]


class RefusalError(Exception):
    """An answer in Binance's error form."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(code, message)


def error_body(code: int, message: str) -> bytes:
    """``{"code":-1121,"msg":"Invalid symbol."}``."""
    return json.dumps({"code": code, "msg": message}, separators=(",", ":")).encode()


class Book:
    """All rows of one symbol and timeframe, rendered once: a page is a slice of the text."""

    def __init__(self, rows: FloatArray, step_ms: int) -> None:
        self.rows = rows
        self.opens: IntArray = rows[:, 0].astype(np.int64)
        self.step_ms = step_ms
        fragments = render(rows, step_ms)
        self._text = ",".join(fragments).encode()
        self._begins = np.concatenate([[0], np.cumsum([len(part) + 1 for part in fragments])]).astype(np.int64)

    def text(self, begin: int, stop: int) -> bytes:
        """Rows ``begin`` to ``stop`` (exclusive) joined by commas."""
        return self._text[int(self._begins[begin]) : int(self._begins[stop]) - 1] if stop > begin else b""


class Answers:
    """The exchange without its server and without its faults.

    Parameters
    ----------
    source
        Where the bars and symbols come from. Any thread may ask: the source is asked by one at a time.
    now
        The exchange's clock in ms.
    perpetuals
        Symbols that have a perpetual on the same base and quote; None for all that can be sold short.
    """

    def __init__(
        self, source: MarketSource, now: Callable[[], int], *, perpetuals: Collection[str] | None = None
    ) -> None:
        self._source, self._now = source, now
        self._lock = threading.RLock()
        self._books: OrderedDict[tuple[str, str], Book] = OrderedDict()
        self._source_clock = source.server_time()
        infos = source.load_markets()
        unnamed = [info.symbol for info in infos.values() if info.quote is None]
        if unnamed:
            raise ParameterError(
                f"{len(unnamed)} symbols name no quote currency, such as {unnamed[0]}",
                where=source.identity,
                fix="say which it is: --quote USDT",
            )
        self._ids = {f"{info.base}{info.quote}": info for info in infos.values()}
        self._perpetuals = frozenset(
            perpetuals if perpetuals is not None else (info.symbol for info in infos.values() if info.shortable)
        )

    def symbol_of(self, query: Mapping[str, str]) -> str | None:
        """The symbol a request is about, as the source spells it; None where it names none there is."""
        info = self._ids.get(query.get("symbol", ""))
        return info.symbol if info else None

    def answer(self, path: str, query: Mapping[str, str], damage: Damage | None = None) -> bytes:
        """The body of a good answer; ``damage`` spoils its bars.

        Raises
        ------
        RefusalError
            With the status and body that Binance answers.
        """
        handlers: dict[str, Callable[[], Any]] = {
            "/api/v3/ping": dict,
            "/api/v3/exchangeInfo": self._spot_info,
            "/api/v3/ticker/24hr": lambda: self._tickers(query),
            "/fapi/v1/ping": dict,
            "/fapi/v1/exchangeInfo": self._perpetual_info,
            "/fapi/v1/fundingRate": lambda: self._funding(query),
            "/dapi/v1/exchangeInfo": lambda: {"timezone": "UTC", "serverTime": self._now(), "symbols": []},
        }
        if path in ("/api/v3/klines", "/fapi/v1/klines"):
            return self._klines(path, query, damage)
        if path not in handlers:
            raise RefusalError(-5000, f"Path {path}, Method GET is invalid", 404)
        return json.dumps(handlers[path](), separators=(",", ":")).encode()

    # -------------------------------------------------------------------------------------- bars

    def _klines(self, path: str, query: Mapping[str, str], damage: Damage | None) -> bytes:
        info = self._known(query, perpetual=path.startswith("/fapi"))
        book = self._book(info.symbol, query.get("interval", ""))
        limit = _limit(query, "fapi klines" if path.startswith("/fapi") else "klines")
        now, step = self._now(), book.step_ms
        closed = int(np.searchsorted(book.opens, now - step, side="right"))
        first = _time(query, "startTime")
        last = min(now, _time(query, "endTime") or now)
        begin = 0 if first is None else int(np.searchsorted(book.opens, first))
        stop = min(closed, int(np.searchsorted(book.opens, last, side="right")))
        newest = self._open_candle(book, now)
        newest = newest[(newest[:, 0] >= (first or 0)) & (newest[:, 0] <= last)]
        if damage is not None:
            reach = 2 * limit + 10  # what is dropped makes room for what comes after
            stop = min(stop, begin + reach) if first is not None else stop
            begin = max(begin, stop - reach) if first is None else begin
            rows = damage(np.vstack([book.rows[begin:stop], newest]), step)
            rows = rows[:limit] if first is not None else rows[-limit:]
            return b"[" + ",".join(render(rows, step)).encode() + b"]"
        if first is None:
            begin = max(begin, stop + len(newest) - limit)
        room = limit - max(stop - begin, 0)
        text = book.text(begin, min(stop, begin + limit))
        extra = ",".join(render(newest[: max(room, 0)], step)).encode()
        return b"[" + (b",".join((text, extra)) if text and extra else text + extra) + b"]"

    def _open_candle(self, book: Book, now: int) -> FloatArray:
        """The bar that is still open, as far as it has come; none when the symbol doesn't trade."""
        step = book.step_ms
        begin = int(np.searchsorted(book.opens, now - step, side="right"))
        stop = int(np.searchsorted(book.opens, now, side="right"))
        opened = now // step * step
        elapsed = max((now - opened) / step, 0.01)
        if stop > begin:
            rows = book.rows[begin:stop].copy()
            if self._source_clock >= opened + step:  # whole in the source, but not yet here
                rows[:, 2:5] = rows[:, 1:2] + (rows[:, 2:5] - rows[:, 1:2]) * elapsed
                rows[:, 5] *= elapsed
            return rows
        if not begin or book.opens[begin - 1] != opened - step or not np.isfinite(book.rows[begin - 1]).all():
            return np.empty((0, 6))
        price, volume = book.rows[begin - 1, 4:6].tolist()
        return np.array([[opened, price, price * 1.001, price * 0.999, price * 1.0005, volume * elapsed]])

    def _book(self, symbol: str, interval: str) -> Book:
        with self._lock:
            key = (symbol, interval)
            if key not in self._books:
                served = self._source.timeframes_of(symbol)
                if interval not in INTERVALS or (served is not None and interval not in served):
                    raise RefusalError(-1120, "Invalid interval.")
                try:
                    rows = self._source.fetch_ohlcv(symbol, interval, None, None)
                except MNTradingError as error:
                    raise RefusalError(-1120, "Invalid interval.") from error
                rows = rows[np.argsort(rows[:, 0], kind="stable")]
                self._books[key] = Book(rows, bars.timeframe_ms(interval))
            self._books.move_to_end(key)
            if len(self._books) > _BOOKS_KEPT:
                self._books.popitem(last=False)
            return self._books[key]

    # -------------------------------------------------------------------------- symbols and prices

    def _known(self, query: Mapping[str, str], *, perpetual: bool = False) -> MarketInfo:
        info = self._ids.get(query.get("symbol", ""))
        if info is None or not self._listed(info) or (perpetual and info.symbol not in self._perpetuals):
            raise RefusalError(-1121, "Invalid symbol.")
        return info

    def _listed(self, info: MarketInfo) -> bool:
        return info.listed_ms is None or info.listed_ms <= self._now()

    def _trades(self, info: MarketInfo) -> bool:
        return info.active if info.delisted_ms is None else info.delisted_ms > self._now()

    def _spot_info(self) -> dict[str, Any]:
        symbols = [
            {
                "symbol": name,
                "status": "TRADING" if self._trades(info) else "BREAK",
                "baseAsset": info.base,
                "baseAssetPrecision": 8,
                "quoteAsset": info.quote,
                "quotePrecision": 8,
                "orderTypes": ["LIMIT", "MARKET"],
                "isSpotTradingAllowed": True,
                "isMarginTradingAllowed": info.shortable,
                "filters": _filters(info, {"filterType": "NOTIONAL", "minNotional": _text(info.min_notional)}),
                "permissions": [],
            }
            for name, info in self._ids.items()
            if self._listed(info)
        ]
        return self._info(symbols)

    def _perpetual_info(self) -> dict[str, Any]:
        symbols = [
            {
                "symbol": name,
                "pair": name,
                "contractType": "PERPETUAL",
                "deliveryDate": _FOREVER_MS,
                "onboardDate": info.listed_ms or 0,
                "status": "TRADING" if self._trades(info) else "SETTLING",
                "baseAsset": info.base,
                "quoteAsset": info.quote,
                "marginAsset": info.quote,
                "baseAssetPrecision": 8,
                "quotePrecision": 8,
                "filters": _filters(info, {"filterType": "MIN_NOTIONAL", "notional": _text(info.min_notional)}),
            }
            for name, info in self._ids.items()
            if info.symbol in self._perpetuals and self._listed(info)
        ]
        return self._info(symbols)

    def _info(self, symbols: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": self._now(),
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": symbols,
        }

    def _tickers(self, query: Mapping[str, str]) -> Any:
        if "symbol" in query:
            return self._ticker(query["symbol"], self._known(query))
        wanted: Iterable[str] = json.loads(query["symbols"]) if "symbols" in query else self._ids
        return [self._ticker(name, self._known({"symbol": name})) for name in wanted if self._listed(self._ids[name])]

    def _ticker(self, name: str, info: MarketInfo) -> dict[str, Any]:
        served = self._source.timeframes_of(info.symbol)
        usable = [interval for interval in INTERVALS if served is None or interval in served]
        book = self._book(info.symbol, "1h" if "1h" in usable else usable[0])
        now = self._now()
        stop = int(np.searchsorted(book.opens, now - book.step_ms, side="right"))
        day = book.rows[int(np.searchsorted(book.opens, now - _DAY_MS)) : stop]
        day = day[np.isfinite(day).all(axis=1)]
        first, high, low, close = (day[0, 1], day[:, 2].max(), day[:, 3].min(), day[-1, 4]) if len(day) else (0.0,) * 4
        volume, turnover = float(day[:, 5].sum()), float((day[:, 4] * day[:, 5]).sum())
        return {
            "symbol": name,
            "priceChange": _text(close - first),
            "priceChangePercent": _text(100 * (close / first - 1) if first else 0.0),
            "weightedAvgPrice": _text(turnover / volume if volume else 0.0),
            "prevClosePrice": _text(first),
            "lastPrice": _text(close),
            "lastQty": "0",
            "bidPrice": _text(close),
            "bidQty": "0",
            "askPrice": _text(close),
            "askQty": "0",
            "openPrice": _text(first),
            "highPrice": _text(high),
            "lowPrice": _text(low),
            "volume": _text(volume),
            "quoteVolume": _text(turnover),
            "openTime": now - _DAY_MS,
            "closeTime": now,
            "firstId": 0,
            "lastId": 0,
            "count": len(day),
        }

    def _funding(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """A rate every 8 hours since the listing: 0.01 % with a slow swing around it."""
        info = self._known(query, perpetual=True)
        limit = _limit(query, "fundingRate")
        since, now = _time(query, "startTime"), self._now()
        last = min(now, _time(query, "endTime") or now) // FUNDING_STEP_MS
        begin = info.listed_ms or now - 1000 * _DAY_MS
        first = -(-max(begin, since or 0) // FUNDING_STEP_MS)
        slots = range(first, last + 1)
        return [
            {"symbol": query["symbol"], "fundingTime": k * FUNDING_STEP_MS, "fundingRate": _text(funding_rate(info, k))}
            for k in (slots[:limit] if since is not None else slots[-limit:])
        ]


def funding_rate(info: MarketInfo, slot: int) -> float:
    """The rate of a perpetual at ``slot`` times 8 hours since the epoch."""
    phase = sum(info.base.encode()) % 17
    return round(1e-4 * (1.0 + 2.0 * math.sin(slot / 11 + phase)), 8)


def render(rows: FloatArray, step_ms: int) -> list[str]:
    """Rows in the 12 columns of a kline; a missing number is ``"NaN"`` or null by turns."""
    fragments = []
    for k, (stamp, *values) in enumerate(rows.tolist()):
        o, h, low, c, v = values
        opened = int(stamp)
        text = (
            f'[{opened},"{o!r}","{h!r}","{low!r}","{c!r}","{v!r}",{opened + step_ms - 1},"{c * v:.2f}",100,"0","0","0"]'
        )
        if "e" in text or "n" in text:  # an exponent, nan or inf
            shown = [_text(value) if math.isfinite(value) else "NaN" if k % 2 else None for value in values]
            text = json.dumps([opened, *shown, opened + step_ms - 1, "0", 100, "0", "0", "0"], separators=(",", ":"))
        fragments.append(text)
    return fragments


def _filters(info: MarketInfo, notional: dict[str, Any]) -> list[dict[str, Any]]:
    tick, lot = _text(info.tick), _text(info.lot)
    price = {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "0", "tickSize": tick}
    size = {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000", "stepSize": lot}
    stated = ((price, info.tick), (size, info.lot), (notional, info.min_notional))
    return [described for described, value in stated if value]


def _limit(query: Mapping[str, str], kind: str) -> int:
    default, largest = _LIMITS[kind]
    asked = query.get("limit", str(default))
    if not asked.isdigit() or int(asked) < 1:
        raise RefusalError(-1102, "Mandatory parameter 'limit' was not sent, was empty/null, or malformed.")
    return min(int(asked), largest)


def _time(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    if not query[name].isdigit():
        raise RefusalError(-1100, f"Illegal characters found in parameter '{name}'.")
    return int(query[name])


def _text(value: float | None) -> str:
    """A number as Binance writes it: no exponent, and no digit lost."""
    return np.format_float_positional(value or 0.0, trim="-")
