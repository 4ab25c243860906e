"""Any exchange ccxt speaks to: public market data only, errors turned into what to do next."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from mntrading.core.errors import ParameterError, SourceError
from mntrading.core.types import FloatArray
from mntrading.market.base import (
    MarketInfo,
    MarketSource,
    SourceBlockedError,
    SourceUnreachableError,
    SymbolGoneError,
)
from mntrading.market.budget import BACKOFF_SECONDS, PROCESS, Budgets, Clock, RateBudget, retry_after

logger = logging.getLogger(__name__)

KEY_VARIABLES: Final = {"apiKey": "MNTRADING_EXCHANGE_KEY", "secret": "MNTRADING_EXCHANGE_SECRET"}
"""Environment variables an exchange's key may stand in. Public data needs none."""

_FIRST_STAMP_MS: Final = 1_230_768_000_000  # 2009-01-01: no coin had a price before
_DAY_MS: Final = 86_400_000
_CLOCKS_AGREE_MS: Final = 30_000
_REFUSED: Final = (418, 429)
_DECIMAL_PLACES: Final = 2
_TICK_SIZE: Final = 4
_NUMBER_OR_NONE: Final = frozenset({int, float, type(None)})
_NOT_UNDERSTOOD: Final = (TypeError, ValueError, KeyError, IndexError, AttributeError)  # ccxt's parsers on nonsense

Answer = TypeVar("Answer")


class _NotMarketDataError(SourceError):
    """Something answered in the exchange's place."""


class CcxtSource(MarketSource):
    """A thin, honest layer on synchronous ccxt exchange objects, one per thread.

    All threads and sources of the process share one rate budget per host, with ccxt's own cost of each
    endpoint. Network failures and answers that aren't market data (a proxy may answer once) are tried
    again after a capped exponential back-off with jitter; a blocked address and an unknown symbol are
    errors at once.

    Parameters
    ----------
    exchange_id
        ccxt's name of the exchange, such as ``binance``.
    max_attempts
        Calls made before a failure is given up on.
    max_concurrency
        How many threads may ask at once.
    base_url
        Another server that speaks as the exchange does, such as the loopback exchange: every request goes
        there, without proxies and without keys.
    market_type
        ``spot`` or ``swap``: the markets that are listed.
    timeout_seconds
        How long one answer may take.
    budgets
        Rate budgets and clock: the process's own, unless a test brings its own.
    """

    def __init__(
        self,
        exchange_id: str,
        *,
        max_attempts: int = 5,
        max_concurrency: int = 1,
        base_url: str | None = None,
        market_type: Literal["spot", "swap"] = "spot",
        timeout_seconds: float = 15.0,
        budgets: Budgets = PROCESS,
    ) -> None:
        import ccxt  # takes seconds, and nothing else here needs it

        for name, value in (("max_attempts", max_attempts), ("max_concurrency", max_concurrency)):
            if value < 1:
                raise ParameterError(f"{name} is {value}, expected 1 or more", where="market.ccxt")
        if exchange_id not in ccxt.exchanges:
            raise SourceError(
                f"ccxt knows no exchange {exchange_id!r}",
                fix="use one of ccxt.exchanges, such as binance, kraken or okx",
            )
        self._id = exchange_id
        self._max_attempts = max_attempts
        self._max_concurrency = max_concurrency
        self._base_url = None if base_url is None else _checked_url(base_url)
        self._market_type = market_type
        self._timeout_ms = int(1000 * timeout_seconds)
        self._budgets = budgets
        self._threads = threading.local()
        self._loading = threading.Lock()
        self._loaded: Any = None  # the exchange object that has loaded the markets
        self._clocks_compared = False

    @property
    def identity(self) -> str:
        """``ccxt:<exchange>``, with ``:swap`` behind it for perpetuals and ``@<host>`` for another server."""
        kind = "" if self._market_type == "spot" else f":{self._market_type}"
        server = "" if self._base_url is None else f"@{urlsplit(self._base_url).netloc}"
        return f"ccxt:{self._id}{kind}{server}"

    @property
    def concurrency(self) -> int:
        """How many threads may ask at once."""
        return self._max_concurrency

    def load_markets(self) -> dict[str, MarketInfo]:
        """The exchange's markets of the source's type, asked for once."""
        exchange = self._with_markets()
        markets: Mapping[str, Mapping[str, Any]] = exchange.markets
        perpetuals = {
            (market.get("base"), market.get("quote")): str(symbol)
            for symbol, market in markets.items()
            if market.get("swap") and market.get("linear") and market.get("active") is not False
        }
        mode = getattr(exchange, "precisionMode", _TICK_SIZE)
        return {
            str(symbol): _info(str(symbol), market, mode, perpetuals.get((market.get("base"), market.get("quote"))))
            for symbol, market in sorted(markets.items())
            if market.get("type", "spot") == self._market_type
        }

    def timeframes_of(self, symbol: str) -> frozenset[str] | None:  # noqa: ARG002 (an exchange has all for each)
        """Every timeframe the exchange serves; None where ccxt names none."""
        return frozenset(self._line().exchange.timeframes or ()) or None

    def server_time(self) -> int:
        """The earlier of the exchange's clock and this machine's, so that neither closes a bar too early."""
        if not self._line().exchange.has.get("fetchTime"):
            return self._now_ms()
        theirs = self._ask("server time", self._fetch_time)
        ours = self._now_ms()
        if self._base_url is None and not self._clocks_compared and abs(theirs - ours) > _CLOCKS_AGREE_MS:
            behind = self.identity if theirs < ours else "this machine"
            logger.warning("The clock of %s is %.0f s behind; it is the one used", behind, abs(theirs - ours) / 1000)
        self._clocks_compared = True
        return min(theirs, ours)

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """One page of the exchange's rows sorted by time; a missing price is NaN.

        Raises
        ------
        SymbolGoneError
            The exchange doesn't serve the symbol.
        SourceBlockedError, SourceUnreachableError
            A blocked address; no answer.
        SourceError
            An unknown timeframe, or an answer that isn't bars.
        """
        known = self.timeframes_of(symbol)
        if known and timeframe not in known:
            raise SourceError(
                f"no {timeframe} bars, there are {', '.join(sorted(known))}",
                where=self.identity,
                fix="use one of them",
            )
        self._with_markets()
        what = f"{timeframe} bars of {symbol}"
        rows = self._ask(what, lambda exchange: self._rows(what, exchange.fetch_ohlcv(symbol, timeframe, since, limit)))
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        if since is not None:
            rows = rows[rows[:, 0] >= since]
        return rows if limit is None else rows[:limit]

    def fetch_funding_rates(self, symbol: str, since: int, limit: int) -> FloatArray:
        """One page of ``(n, 2)`` rows [time in ms, funding rate] of a perpetual, sorted by time.

        Raises
        ------
        SourceError
            As in `fetch_ohlcv`.
        """
        if not self._with_markets().has.get("fetchFundingRateHistory"):
            return np.empty((0, 2))
        what = f"funding rates of {symbol}"
        rates = self._ask(
            what, lambda exchange: self._rates(what, exchange.fetch_funding_rate_history(symbol, since, limit))
        )
        rates = rates[np.argsort(rates[:, 0], kind="stable")]
        return rates[rates[:, 0] >= since][:limit]

    # ------------------------------------------------------------------------------ what is believed

    def _rows(self, what: str, answer: Any) -> FloatArray:
        if not isinstance(answer, list):
            raise self._garbage(what, f"{type(answer).__name__}, expected a list of rows")
        now_ms = self._now_ms()
        for row in answer:
            is_row = isinstance(row, list | tuple) and len(row) == 6
            if not (is_row and _is_stamp(row[0], now_ms) and _NUMBER_OR_NONE.issuperset(map(type, row))):
                raise self._garbage(what, f"row {row!r:.120}, expected a time since 2009 in ms and five numbers")
        rows = np.array(answer, dtype=np.float64).reshape(-1, 6)
        if len(rows) and np.isnan(rows[:, 1:]).all():
            raise self._garbage(what, f"{len(rows)} rows without a number")
        return rows

    def _rates(self, what: str, answer: Any) -> FloatArray:
        for entry in answer:
            time, rate = entry["timestamp"], entry["fundingRate"]
            if not (_is_stamp(time, self._now_ms()) and _is_number(rate) and abs(rate) < 1):
                raise self._garbage(what, f"funding rate {rate!r} at {time!r}, expected a fraction between -1 and 1")
        return np.array([[entry["timestamp"], entry["fundingRate"]] for entry in answer], np.float64).reshape(-1, 2)

    def _fetch_time(self, exchange: Any) -> int:
        answer = exchange.fetch_time()
        if not _is_number(answer) or answer < _FIRST_STAMP_MS:
            raise self._garbage("server time", f"{answer!r}, expected milliseconds since the epoch")
        return int(answer)

    def _garbage(self, what: str, detail: str) -> _NotMarketDataError:
        return _NotMarketDataError(
            f"{what}: the answer isn't market data: {detail}",
            where=self.identity,
            fix="a proxy, a login page or maintenance may answer in its place: open its site, then run again",
        )

    # ------------------------------------------------------------------------------------ asking

    def _line(self) -> _Line:
        """This thread's line to the exchange."""
        line: _Line | None = getattr(self._threads, "line", None)
        if line is None:
            line = self._threads.line = _Line(self._id, self._timeout_ms, self._base_url, self._budgets)
        return line

    def _with_markets(self) -> Any:
        """This thread's exchange object, with the markets in it that one of them has loaded."""
        with self._loading:
            if self._loaded is None:
                self._ask("markets", self._load)
                self._loaded = self._line().exchange
        exchange = self._line().exchange
        if exchange.markets is not self._loaded.markets:
            exchange.set_markets_from_exchange(self._loaded)
        return exchange

    def _load(self, exchange: Any) -> None:
        if not exchange.load_markets():
            raise self._garbage("markets", "no markets")

    def _ask(self, what: str, ask: Callable[[Any], Answer]) -> Answer:
        """The answer, in as many attempts as are allowed."""
        first, longest = BACKOFF_SECONDS
        retrying = Retrying(
            stop=stop_after_attempt(self._max_attempts),
            wait=wait_exponential_jitter(initial=first, max=longest),
            retry=retry_if_exception_type((SourceUnreachableError, _NotMarketDataError)),
            sleep=self._budgets.clock.sleep,
            before_sleep=_log_attempt,
            reraise=True,
        )
        answer: Answer = retrying(self._ask_once, what, ask)
        return answer

    def _ask_once(self, what: str, ask: Callable[[Any], Answer]) -> Answer:
        from ccxt.base.errors import BaseError, DDoSProtection, RateLimitExceeded

        line = self._line()
        line.status = None
        try:
            return ask(line.exchange)
        except (BaseError, *_NOT_UNDERSTOOD) as error:
            if isinstance(error, DDoSProtection | RateLimitExceeded) and line.status not in _REFUSED:
                line.budget.refuse(None)  # said in the answer's text only
            # ccxt's message may quote a signed request: with keys it goes no further than `_explained`
            raise self._explained(what, error, line) from (None if line.keys else error)

    def _explained(self, what: str, error: Exception, line: _Line) -> SourceError:
        """What an error of ccxt's means here."""
        from ccxt.base import errors

        told = f"{type(error).__name__}: {line.without_keys(str(error)):.200}"
        if isinstance(error, errors.BadSymbol):
            return SymbolGoneError(
                f"{what}: the exchange has no such symbol ({told})",
                where=self.identity,
                fix="take it out of the symbols asked for, or choose an exchange that lists it",
            )
        blocked = line.status in (403, 451) and not isinstance(error, errors.AuthenticationError)
        not_there = line.status == 404 and isinstance(error, errors.ExchangeNotAvailable)
        if blocked or not_there or isinstance(error, errors.RestrictedLocation):
            return SourceBlockedError(
                f"{what}: the exchange answers {line.status}, it is blocked here",
                where=self.identity,
                fix="choose another exchange, or read the bars from files",
            )
        if isinstance(error, (errors.BadResponse, *_NOT_UNDERSTOOD)):
            return self._garbage(what, told)
        if isinstance(error, errors.OperationFailed):
            return SourceUnreachableError(
                f"{what}: no answer in {self._max_attempts} attempts ({told})",
                where=self.identity,
                fix="check the network, then run again: stored bars are kept, the rest is fetched",
            )
        return SourceError(
            f"{what}: {told}", where=self.identity, fix="see the exchange's message; another exchange may allow it"
        )

    def _now_ms(self) -> int:
        return int(self._budgets.clock.time() * 1000)


class _Line:
    """One thread's exchange object; each of its requests and answers passes through here.

    On its way out a request is sent to the right server, in its host's turn. On its way back an answer is
    looked at before ccxt parses it: ccxt takes text that is no JSON for rows, and drops those too early to
    be asked for.
    """

    def __init__(self, exchange_id: str, timeout_ms: int, base_url: str | None, budgets: Budgets) -> None:
        import ccxt

        found = {name: os.environ.get(variable) for name, variable in KEY_VARIABLES.items()}
        self.keys = {name: key for name, key in found.items() if key and base_url is None}
        self.exchange = exchange = getattr(ccxt, exchange_id)({"timeout": timeout_ms, "enableRateLimit": True})
        for name, key in self.keys.items():
            setattr(exchange, name, key)
        exchange.logger = _silent()  # at its chattiest it writes down the headers of a request, keys and all
        exchange.session.trust_env = base_url is None  # proxies are for the exchange itself
        self.status: int | None = None
        self._base_url = base_url
        self._budgets = budgets
        self._clock: Clock = budgets.clock
        self.budget: RateBudget = budgets.of("")
        self._cost = 1.0
        self._fetch, self._on_rest_response = exchange.fetch, exchange.on_rest_response
        exchange.throttle, exchange.fetch, exchange.on_rest_response = self._throttle, self._send, self._receive
        exchange.parse_ohlcv = self._stamped(exchange.parse_ohlcv, 0)
        exchange.parse_funding_rate_history = self._stamped(exchange.parse_funding_rate_history, "timestamp")

    def without_keys(self, text: str) -> str:
        for key in self.keys.values():
            text = text.replace(key, "***")
        return text

    def _throttle(self, cost: float | None = None) -> None:
        """What ccxt calls before a request: the host isn't known yet, so the cost is only kept."""
        self._cost = 1.0 if cost is None else float(cost)

    def _send(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        from ccxt.base.errors import BadResponse

        if self._base_url is not None:
            parts = urlsplit(url)
            url = self._base_url + parts.path + (f"?{parts.query}" if parts.query else "")
        self.budget = self._budgets.of(urlsplit(url).netloc)
        self.budget.spend(self._cost * self.exchange.rateLimit / 1000)
        answer = self._fetch(url, method, headers, body)
        if not isinstance(answer, dict | list) or answer == {}:
            raise BadResponse(f"{answer!r:.80} is no JSON")
        return answer

    def _receive(self, code: int, reason: str, url: str, method: str, headers: Any, *rest: Any) -> Any:
        self.status = code
        if code in _REFUSED:
            self.budget.refuse(retry_after(headers, self._clock.time()))
        elif code < 400:
            self.budget.accept()
        return self._on_rest_response(code, reason, url, method, headers, *rest)

    def _stamped(self, parse: Callable[..., Any], key: int | str) -> Callable[..., Any]:
        """A parser of ccxt's that refuses what has no time of this world."""
        from ccxt.base.errors import BadResponse

        def parse_stamped(raw: Any, market: Any = None) -> Any:
            parsed = parse(raw, market)
            if not _is_stamp(parsed[key], int(self._clock.time() * 1000)):
                raise BadResponse(f"time {parsed[key]!r} in {raw!r:.80}, expected ms between 2009 and tomorrow")
            return parsed

        return parse_stamped


def _silent() -> logging.Logger:
    quiet = logging.getLogger(f"{__name__}.requests")
    quiet.disabled = True
    return quiet


def _log_attempt(state: RetryCallState) -> None:
    logger.info("%s: attempt %d failed, next in %.1f s", state.args[0], state.attempt_number, state.upcoming_sleep)


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError(
            f"{base_url!r} is no address", where="market.ccxt.base_url", fix="use one such as http://127.0.0.1:8787"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _info(symbol: str, market: Mapping[str, Any], precision_mode: int, perpetual: str | None) -> MarketInfo:
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
        shortable=market.get("type") == "swap" or market.get("margin") is True or perpetual is not None,
        perpetual=perpetual,
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


def _is_stamp(value: Any, now_ms: int) -> bool:
    return _is_number(value) and _FIRST_STAMP_MS <= value <= now_ms + _DAY_MS
