"""What stands before every route: who may call, by which name, from which page, and how answers are to be treated."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mntrading.apps.api.metrics import Metrics
from mntrading.apps.api.problems import MEDIA_TYPE, Problem
from mntrading.apps.api.settings import Settings

LOGGER = logging.getLogger(__name__)

OPEN: Final = ("/health",)
ALIAS: Final = "/run/short_cycle_now"
"""The one GET that does something."""

_TOO_LARGE: Final = "the body is larger than any request's"
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_METHODS: Final = (*_SAFE, "POST", "PUT", "PATCH", "DELETE")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"interest-cohort=()"),
)
_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_MINUTE: Final = 60.0
_CLIENTS: Final = 10_000


class Limiter:
    """Counts the refused tokens of each client over a minute.

    A right token always passes: it can't be guessed, and the one who has to halt trading must not be locked out by
    somebody else's failures behind the same address.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def failed(self, client: str) -> int:
        """Count a failure; seconds the client has to wait, 0 while it may try."""
        now, key = self._clock(), _network(client)
        recent = [at for at in self._failures.pop(key, []) if now - at < _MINUTE]
        wait = int(_MINUTE - (now - recent[0])) + 1 if len(recent) >= self._most else 0
        self._failures[key] = recent if wait else [*recent, now]
        while len(self._failures) > _CLIENTS:
            self._failures.popitem(last=False)
        return wait


def _network(client: str) -> str:
    """What one caller owns: an IPv4 address, or a /64 of IPv6."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return client if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


class Guard:
    """The outermost layer of the app: whatever it does not let through reaches nothing.

    Parameters
    ----------
    app
        What it guards.
    settings
        Token, hosts, origins.
    metrics
        What is counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._token = None if settings.token is None else _digest(settings.token.encode())
        self._limiter = Limiter(settings.max_failures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        request_id = secrets.token_hex(8).encode()

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                names = {name for name, _ in headers}
                headers += _HEADERS
                headers.append((b"x-request-id", request_id))
                if b"cache-control" not in names:
                    headers.append((b"cache-control", b"no-store"))
                if b"content-security-policy" not in names:
                    headers.append((b"content-security-policy", _POLICY))
            await send(message)

        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._settings.max_body_bytes:
                raise HTTPException(413, _TOO_LARGE)
            return message

        problem = self._refusal(scope)
        try:
            if problem is not None:
                self._metrics.refused.labels(problem.kind).inc()
                await _answer(problem, scope, guarded)
            else:
                await self._app(scope, counted, guarded)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.seconds.labels(method, route, status).observe(time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> Problem | None:
        """Why a request is not served; None where it is."""
        hosts, origins, given, site, length = [], [], [], b"", b"0"
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"authorization":
                given.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"content-length":
                length = value
        if len(hosts) != 1 or _name(hosts[0]) not in self._settings.allowed_hosts:
            return Problem(421, "host", "this name is not served here", next_="MNTRADING_API_ALLOWED_HOSTS=<the name>")
        acts = scope["method"] not in _SAFE or scope["path"] == ALIAS
        if scope["path"] in OPEN and not acts:
            return None
        if any(not self._is_known(origin, scope, hosts[0]) for origin in origins) or (
            acts and site == b"cross-site" and not origins
        ):
            return Problem(403, "origin", "pages of this origin may not call the API")
        if scope["method"] == "OPTIONS" and origins:
            return None  # a browser asks before it calls, and has no token to show then
        return self._unauthorized(scope, given) or self._too_large(length)

    def _too_large(self, length: bytes) -> Problem | None:
        if length.isdigit() and len(length) < 20 and int(length) <= self._settings.max_body_bytes:
            return None
        return Problem(413, "too-large", _TOO_LARGE)

    def _is_known(self, origin: bytes, scope: Scope, host: bytes) -> bool:
        text = origin.decode("latin-1").lower()
        own = f"{scope['scheme']}://{host.decode('latin-1').lower()}"
        return text == own or text in self._settings.allowed_origins

    def _unauthorized(self, scope: Scope, given: list[bytes]) -> Problem | None:
        if self._token is None:
            return None if scope["path"] != ALIAS else Problem(404, "not-found", "Not Found")
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        if hmac.compare_digest(_digest(token), self._token) and scheme.lower() == b"bearer":
            return None
        client = scope["client"][0] if scope.get("client") else "unknown"
        wait = self._limiter.failed(client)
        if wait:
            return Problem(429, "too-many-failures", "too many refused tokens", headers={"Retry-After": str(wait)})
        LOGGER.warning("%s was refused: %s", client, "no token" if not given else "not the token")
        return Problem(
            401,
            "unauthorized",
            "needs Authorization: Bearer <token>",
            headers={"WWW-Authenticate": 'Bearer realm="mntrading"'},
        )


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()  # of one length, so that comparing tells nothing of the token's


def _name(host: bytes) -> str:
    """A Host header's name without its port and brackets."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


async def _answer(problem: Problem, scope: Scope, send: Send) -> None:
    body = problem.body(scope["path"])
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
