"""The exchange on a socket: a plain threading server, because some faults need the raw connection."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from mntrading.core.types import FloatArray
from mntrading.market.base import MarketSource
from mntrading.market.budget import Clock
from mntrading.market.loopback.exchange import Answers, RefusalError, error_body
from mntrading.market.loopback.faults import DATA, STATUSES, Fault

_HTML: Final = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Accept our terms.</body></html>"
_LOG_LENGTH: Final = 100_000
_MINUTE: Final = 60.0
_BAN_SECONDS: Final = 120
_PATIENCE: Final = 10  # requests beyond the limit before the ban
_WEIGHTS: Final = {"klines": 2, "exchangeInfo": 20, "ticker/24hr": 2}


@dataclass(frozen=True)
class Request:
    """One request as it arrived, and what became of it."""

    path: str
    query: dict[str, str]
    symbol: str | None
    headers: dict[str, str]
    at: float
    """Seconds on the loopback's clock."""
    status: int | None
    """None where the connection was cut without an answer."""
    fault: str | None


class ManualClock(Clock):
    """A clock that moves only when somebody sleeps on it: waits take no time, and can be read off.

    Parameters
    ----------
    start
        Seconds since the epoch; this machine's time by default.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """The same number: it is never set back either."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on."""
        with self._lock:
            self._now += seconds
            self.slept.append(seconds)


class Loopback:
    """Binance's public REST interface on 127.0.0.1, replaying a source. A context manager.

    Parameters
    ----------
    source
        Where the bars and symbols come from.
    faults
        What goes wrong; may be replaced at any time, which also starts the counts anew.
    port
        0 for a free one.
    now_ms
        The exchange's clock; the source's own by default.
    speed
        How many times faster than real time the clock runs on from there; 0 stands still.
    skew_ms
        Added to the clock in what ``/time`` answers, and nowhere else.
    latency_ms
        Added to every answer.
    weight_per_minute
        Request weight allowed in a minute: more gets 429 with Retry-After, and going on gets 418.
    perpetuals
        Symbols that have a perpetual; None for all that can be sold short.
    seed
        Decides which requests and bars the faults strike.
    clock
        What times the rate limit and the running clock.

    Attributes
    ----------
    requests
        Number of requests by path.
    log
        The last 100,000 of them, in the order they were answered.
    """

    def __init__(
        self,
        source: MarketSource,
        faults: Iterable[Fault] = (),
        *,
        port: int = 0,
        now_ms: int | None = None,
        speed: float = 0.0,
        skew_ms: int = 0,
        latency_ms: float = 0.0,
        weight_per_minute: int | None = None,
        perpetuals: Collection[str] | None = None,
        seed: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.skew_ms, self.latency_ms, self.speed, self.seed = skew_ms, latency_ms, speed, seed
        self._clock = clock or Clock()
        self._started = self._clock.monotonic()
        self.now_ms = source.server_time() if now_ms is None else now_ms
        self._answers = Answers(source, self.now, perpetuals=perpetuals)
        self._lock = threading.Lock()
        self._faults: tuple[Fault, ...] = tuple(faults)
        self._counts: Counter[str] = Counter()
        self._limit = None if weight_per_minute is None else _RateLimit(weight_per_minute, self._clock)
        self.requests: Counter[str] = Counter()
        self.log: deque[Request] = deque(maxlen=_LOG_LENGTH)
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="loopback")
        self._thread.start()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What goes wrong at present."""
        return self._faults

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        with self._lock:
            self._faults = tuple(faults)
            self._counts.clear()

    def now(self) -> int:
        """The exchange's clock, ms since the epoch."""
        return self.now_ms + int(1000 * self.speed * (self._clock.monotonic() - self._started))

    def close(self) -> None:
        """Stop serving and close every connection."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ---------------------------------------------------------------------------- one request

    def serve(self, handler: _Handler) -> None:
        """Answer one request, or fail to."""
        at = self._clock.monotonic()
        parts = urlsplit(handler.path)
        path, query = parts.path, dict(parse_qsl(parts.query))
        symbol = self._answers.symbol_of(query)
        struck = self._struck(path, symbol, query.get("interval", ""))
        if self.latency_ms:
            self.closing.wait(self.latency_ms / 1000)
        fault = next((fault for fault in struck if fault.kind not in DATA), None)
        headers: dict[str, str] = {}
        status: int | None
        if (waits := self._limit.refusal(_weight(path, query)) if self._limit else None) is not None:
            status, body = waits[0], error_body(-1003, "Too much request weight used.")
            headers["Retry-After"] = str(waits[1])
        elif fault is not None and fault.kind in ("timeout", "reset"):
            status, body = None, b""
        elif fault is not None:
            status, body = self._spoilt(fault, path, query)
            if fault.kind in ("418", "429") and fault.retry_after is not None:
                headers["Retry-After"] = fault.retry_after
        else:
            status, body = self._good(path, query, struck)
        kinds = ",".join(item.kind for item in ([fault] if fault else struck)) or None
        with self._lock:
            self.log.append(Request(path, query, symbol, dict(handler.headers.items()), at, status, kinds))
        if status is not None:
            handler.reply(status, body, headers)
        elif fault is not None and fault.kind == "timeout":
            self.closing.wait(fault.seconds)
            handler.close_connection = True
        else:
            handler.reset()

    def _struck(self, path: str, symbol: str | None, interval: str) -> list[Fault]:
        key = f"{path} {symbol} {interval}"
        with self._lock:
            self.requests[path] += 1
            self._counts[key] += 1
            count, faults = self._counts[key], self._faults
        return [fault for fault in faults if fault.strikes(path, symbol, key, count, self.seed)]

    def _good(self, path: str, query: dict[str, str], struck: list[Fault]) -> tuple[int, bytes]:
        if path in ("/api/v3/time", "/fapi/v1/time", "/dapi/v1/time"):
            return 200, json.dumps({"serverTime": self.now() + self.skew_ms}).encode()

        def damage(rows: FloatArray, step_ms: int) -> FloatArray:
            for fault in struck:
                rows = fault.damage(rows, step_ms, seed=self.seed, now_ms=self.now())
            return rows

        try:
            return 200, self._answers.answer(path, query, damage if struck else None)
        except RefusalError as refusal:
            return refusal.status, refusal.body

    def _spoilt(self, fault: Fault, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if fault.kind == "unknown_symbol":
            return 400, error_body(-1121, "Invalid symbol.")
        if fault.kind == "truncated":
            status, body = self._good(path, query, [])
            return status, body[: max(len(body) * 2 // 3, 1)]
        if fault.kind == "body":
            return 200, fault.body.encode()
        if fault.kind == "451":
            return 451, error_body(0, "Service unavailable from a restricted location.")
        if fault.kind in ("418", "429"):
            return int(fault.kind), error_body(-1003, "Too many requests.")
        return (int(fault.kind) if fault.kind in STATUSES else 200), _HTML


class _RateLimit:
    """Weight in windows of a minute; whoever goes on while refused is banned."""

    def __init__(self, weight: int, clock: Clock) -> None:
        self._weight, self._clock = weight, clock
        self._lock = threading.Lock()
        self._begin = clock.monotonic()
        self._used = self._over = 0
        self._banned_until = -math.inf

    def refusal(self, weight: int) -> tuple[int, int] | None:
        """Status and seconds to stay away; None when the request is served."""
        with self._lock:
            now = self._clock.monotonic()
            if now < self._banned_until:
                return 418, math.ceil(self._banned_until - now)
            if now - self._begin >= _MINUTE:
                self._begin, self._used, self._over = now, 0, 0
            if self._used + weight <= self._weight:
                self._used += weight
                return None
            self._over += 1
            if self._over > _PATIENCE:
                self._banned_until = now + _BAN_SECONDS
                return 418, _BAN_SECONDS
            return 429, math.ceil(self._begin + _MINUTE - now)


def _weight(path: str, query: dict[str, str]) -> int:
    name = "ticker/24hr" if path.endswith("ticker/24hr") else path.rpartition("/")[2]
    if name == "ticker/24hr" and "symbol" not in query:
        return 80
    return _WEIGHTS.get(name, 1)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self.server.loopback.serve(self)

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        kind = "text/html" if body.startswith(b"<") else "application/json"
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('Status',))[0]}", f"Date: {self.date_time_string()}"]
        lines += [f"Content-Type: {kind};charset=UTF-8", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

    def reset(self) -> None:
        """Close so that the other side gets RST instead of an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """The loopback keeps its own log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], loopback: Loopback) -> None:
        self.loopback = loopback
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._changed:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Close without the polite goodbye, which would turn a reset into an end."""
        request.close()
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def server_close(self) -> None:
        super().server_close()
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the other side was quicker
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news; anything else is a defect of the loopback."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
