"""One rate budget per host for the whole process: however many threads ask, the host sees one polite client."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from mntrading.market.base import SourceBlockedError

logger = logging.getLogger(__name__)

BACKOFF_SECONDS: Final = (1.0, 30.0)
"""First pause after a failure, and the longest; each failure in a row doubles it."""
LONGEST_HOLD_SECONDS: Final = 15 * 60.0
"""A host that asks for a longer silence stops the run instead."""


class Clock:
    """This machine's time, in seconds."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; never set back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class RateBudget:
    """When the next request may go to one host. Any number of threads may share it.

    Parameters
    ----------
    host
        As errors and logs name it.
    clock
        What times the waits.
    """

    def __init__(self, host: str, clock: Clock) -> None:
        self.host = host
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = self._held_until = -math.inf
        self._refusals = 0

    def spend(self, seconds: float) -> None:
        """Wait until the host may be asked, and keep it to oneself for ``seconds`` from then on.

        Raises
        ------
        SourceBlockedError
            The host asked for a silence longer than ``LONGEST_HOLD_SECONDS``.
        """
        while (pause := self._take(seconds)) > 0:
            self._clock.sleep(pause)

    def refuse(self, retry_after: float | None) -> None:
        """The host refused a request: no thread sends another for ``retry_after`` seconds, or for the back-off.

        Refusals of what was already under way count as one.

        Raises
        ------
        SourceBlockedError
            As in `spend`.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now >= self._held_until:
                self._refusals += 1
                logger.info("%s refuses requests for now", self.host)
            first, longest = BACKOFF_SECONDS
            pause = retry_after or min(first * 2 ** (self._refusals - 1), longest)
            self._held_until = max(self._held_until, now + pause)
            self._check(now)

    def accept(self) -> None:
        """The host answered: the next back-off is a short one again."""
        with self._lock:
            if self._clock.monotonic() >= self._held_until:
                self._refusals = 0

    def _take(self, seconds: float) -> float:
        """Seconds still to wait; 0 or less when the turn is taken."""
        with self._lock:
            now = self._clock.monotonic()
            self._check(now)
            pause = max(self._free_at, self._held_until) - now
            if pause <= 0:
                self._free_at = now + seconds
            return pause

    def _check(self, now: float) -> None:
        silence = self._held_until - now
        if silence > LONGEST_HOLD_SECONDS:
            raise SourceBlockedError(
                f"wants no request for {silence / 60:.0f} minutes",
                where=self.host,
                fix="run again after that, or choose another exchange: stored bars are kept, the rest is fetched",
            )


class Budgets:
    """Rate budgets by host."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._lock = threading.Lock()
        self._by_host: dict[str, RateBudget] = {}

    def of(self, host: str) -> RateBudget:
        """The one budget of a host."""
        with self._lock:
            return self._by_host.setdefault(host, RateBudget(host, self.clock))


PROCESS: Final = Budgets()
"""The budgets that all sources of this process share."""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, given in seconds or as an HTTP date; None without one.

    Parameters
    ----------
    headers
        The answer's headers, in any case.
    now
        Seconds since the epoch. The answer's own ``Date`` is preferred: the clocks may differ.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    asked = lower.get("retry-after", "")
    try:
        return max(float(asked), 0.0) if math.isfinite(float(asked)) else None
    except ValueError:
        until = _http_date(asked)
    sent = _http_date(lower.get("date", ""))
    return None if until is None else max(until - (now if sent is None else sent), 0.0)


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
