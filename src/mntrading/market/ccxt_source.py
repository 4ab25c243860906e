"""Any exchange ccxt speaks to: public market data only, errors turned into what to do next."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar

import numpy as np

from mntrading.core.errors import ParameterError, SourceError
from mntrading.core.types import FloatArray
from mntrading.market.base import MarketInfo

_BLOCKED: Final = re.compile(r"(?:^|\s)(403|404|451)(?=\s|$)")
_FIRST_STAMP_MS: Final = 1_230_768_000_000  # 2009-01-01: no coin had a price before
_DAY_MS: Final = 86_400_000
_BACKOFF_SECONDS: Final = (1.0, 30.0)  # first pause, and the longest
_DECIMAL_PLACES: Final = 2
_TICK_SIZE: Final = 4

Answer = TypeVar("Answer")


class CcxtSource:
    """A thin, honest layer on a synchronous ccxt exchange with its rate limiter on.

    Only network failures are retried, with capped exponential backoff and jitter. A blocked address
    (403, 451), an unknown symbol and an answer that isn't market data are errors at once.

    Parameters
    ----------
    exchange_id
        ccxt's name of the exchange, such as ``binance``.
    max_attempts
        Calls made before a network failure is given up on.
    market_type
        ``spot`` or ``swap``: the markets that are listed.
    exchange
        An exchange object to use instead of ccxt's own.
    sleep
        Called with the seconds to pause.
    """

    def __init__(
        self,
        exchange_id: str,
        *,
        max_attempts: int = 5,
        market_type: Literal["spot", "swap"] = "spot",
        exchange: Any = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if max_attempts < 1:
            raise ParameterError(f"max_attempts is {max_attempts}, expected 1 or more")
        self._id = exchange_id
        self._max_attempts = max_attempts
        self._market_type = market_type
        self._exchange = _connect(exchange_id) if exchange is None else exchange
        self._sleep = sleep
        self._jitter = np.random.default_rng()

    @property
    def identity(self) -> str:
        """``ccxt:<exchange>``, with ``:swap`` behind it for perpetuals."""
        return f"ccxt:{self._id}" if self._market_type == "spot" else f"ccxt:{self._id}:{self._market_type}"

    def load_markets(self) -> dict[str, MarketInfo]:
        """The exchange's markets of the source's type."""
        markets = self._call("markets", self._exchange.load_markets)
        if not isinstance(markets, Mapping):
            raise self._garbage("markets", f"{type(markets).__name__}, expected a table of markets")
        mode = getattr(self._exchange, "precisionMode", _TICK_SIZE)
        return {
            str(symbol): _info(str(symbol), market, mode)
            for symbol, market in sorted(markets.items())
            if market.get("type", "spot") == self._market_type
        }

    def timeframes_of(self, symbol: str) -> frozenset[str]:  # noqa: ARG002 (an exchange has all for each)
        """Every timeframe the exchange serves."""
        return frozenset(getattr(self._exchange, "timeframes", None) or ())

    def server_time(self) -> int:
        """The exchange's clock, or this machine's when the exchange tells no time."""
        if (getattr(self._exchange, "has", None) or {}).get("fetchTime"):
            answer = self._call("server time", self._exchange.fetch_time)
            if not self._is_stamp(answer):
                raise self._garbage("server time", f"{answer!r}, expected milliseconds since the epoch")
            return int(answer)
        return int(self._exchange.milliseconds())

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """One page of the exchange's rows sorted by time; a missing price is NaN.

        Raises
        ------
        SourceError
            Unknown symbol or timeframe, a blocked address, no answer, or one that isn't bars.
        """
        known = self.timeframes_of(symbol)
        if known and timeframe not in known:
            raise SourceError(
                f"no {timeframe} bars, there are {', '.join(sorted(known))}",
                where=self.identity,
                fix="use one of them",
            )
        answer = self._call(
            f"{timeframe} bars of {symbol}",
            lambda: self._exchange.fetch_ohlcv(symbol, timeframe, since, limit),
        )
        rows = self._rows(f"{timeframe} bars of {symbol}", answer)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        if since is not None:
            rows = rows[rows[:, 0] >= since]
        return rows if limit is None else rows[:limit]

    def _rows(self, what: str, answer: Any) -> FloatArray:
        if not isinstance(answer, list):
            raise self._garbage(what, f"{type(answer).__name__}, expected a list of rows")
        for row in answer:
            if not isinstance(row, list | tuple) or len(row) != 6:
                raise self._garbage(what, f"row {row!r:.120}, expected [time, open, high, low, close, volume]")
            if not self._is_stamp(row[0]):
                raise self._garbage(what, f"time {row[0]!r} in row {row!r:.120}, expected ms between 2009 and tomorrow")
            if not all(value is None or _is_number(value) for value in row[1:]):
                raise self._garbage(what, f"row {row!r:.120}, expected numbers")
        if answer and all(value is None for row in answer for value in row[1:]):
            raise self._garbage(what, f"{len(answer)} rows without a number")
        return np.array(
            [[math.nan if value is None else float(value) for value in row] for row in answer],
            dtype=np.float64,
        ).reshape(-1, 6)

    def _is_stamp(self, value: Any) -> bool:
        return _is_number(value) and _FIRST_STAMP_MS <= value <= self._exchange.milliseconds() + _DAY_MS

    def _call(self, what: str, ask: Callable[[], Answer]) -> Answer:
        from ccxt.base import errors  # ccxt takes seconds to import

        for attempt in range(1, self._max_attempts + 1):
            try:
                return ask()
            except errors.BadSymbol as error:
                raise SourceError(
                    f"{what}: the exchange has no such symbol ({error})",
                    where=self.identity,
                    fix="take it out of the symbols asked for, or choose an exchange that lists it",
                ) from error
            except errors.NetworkError as error:
                blocked = _BLOCKED.search(str(error)) if isinstance(error, errors.ExchangeNotAvailable) else None
                if blocked:
                    raise SourceError(
                        f"{what}: the exchange answers {blocked[1]}, it is blocked here",
                        where=self.identity,
                        fix="choose another exchange, or read the bars from files",
                    ) from error
                if attempt == self._max_attempts:
                    raise SourceError(
                        f"{what}: no answer in {attempt} attempts ({type(error).__name__}: {error!s:.200})",
                        where=self.identity,
                        fix="check the network, then run again: stored bars are kept, the rest is fetched",
                    ) from error
                self._sleep(self._pause(attempt))
            except errors.BadResponse as error:
                raise self._garbage(what, f"{error!s:.200}") from error
            except errors.BaseError as error:
                raise SourceError(
                    f"{what}: {type(error).__name__}: {error!s:.200}",
                    where=self.identity,
                    fix="see the exchange's message; another exchange may allow it",
                ) from error
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                # what ccxt raises on an HTML page served with status 200
                raise self._garbage(what, f"{type(error).__name__}: {error!s:.200}") from error
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _pause(self, attempt: int) -> float:
        """Seconds before the next attempt: the exchange's Retry-After if longer, at most half a minute."""
        first, longest = _BACKOFF_SECONDS
        pause = first * 2 ** (attempt - 1) * self._jitter.uniform(0.5, 1.0)
        headers = getattr(self._exchange, "last_response_headers", None) or {}
        asked = str(next((value for name, value in headers.items() if name.lower() == "retry-after"), ""))
        return float(min(max(pause, float(asked) if asked.isdigit() else 0.0), longest))

    def _garbage(self, what: str, detail: str) -> SourceError:
        return SourceError(
            f"{what}: the answer isn't market data: {detail}",
            where=self.identity,
            fix="a proxy, a login page or maintenance may answer in its place: open its site, then run again",
        )


def _connect(exchange_id: str) -> Any:
    import ccxt  # takes seconds, and nothing else here needs it

    if exchange_id not in ccxt.exchanges:
        raise SourceError(
            f"ccxt knows no exchange {exchange_id!r}",
            fix="use one of ccxt.exchanges, such as binance, kraken or okx",
        )
    return getattr(ccxt, exchange_id)({"enableRateLimit": True})


def _info(symbol: str, market: Mapping[str, Any], precision_mode: int) -> MarketInfo:
    precision, limits = market.get("precision") or {}, market.get("limits") or {}
    listed: Any = market.get("created")
    active = market.get("active")
    return MarketInfo(
        symbol=symbol,
        base=str(market.get("base") or symbol.partition("/")[0]),
        quote=str(market["quote"]) if market.get("quote") else None,
        active=active is None or bool(active),
        tick=_step(precision.get("price"), precision_mode),
        lot=_step(precision.get("amount"), precision_mode),
        min_notional=_positive((limits.get("cost") or {}).get("min")),
        listed_ms=int(listed) if _is_number(listed) else None,
        delisted_ms=None,
        shortable=market.get("type") == "swap" or market.get("margin") is True,
    )


def _step(precision: Any, mode: int) -> float | None:
    """Size of a step; None where the exchange gives significant digits, which are no step."""
    if not _is_number(precision):
        return None
    if mode == _DECIMAL_PLACES:
        return float(10.0 ** -int(precision))
    return _positive(precision) if mode == _TICK_SIZE else None


def _positive(value: Any) -> float | None:
    return float(value) if _is_number(value) and value > 0 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
