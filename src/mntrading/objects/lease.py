"""One run at a time on a storage root in an object store: a lease made of objects that are created once.

Below ``.lease/`` of the root, for every lease there ever was, by number:

====================  ======================================================================================
``000042.json``       the claim: who holds it. Created if there is none of that number: one writer succeeds
``000042.beat``       written anew while the holder lives; how old it is, the server's clock says
``000042.released``   the holder has ended
``latest``            the number of a lease, to begin looking from
====================  ======================================================================================

A lease that is released, or has not been written anew for its time to live, may be followed by the next number.
The holder gives up by itself at half that time without an acknowledged beat, by a clock of this machine that
counts what it slept, and never takes a lease up again. Only creation needs a condition: ``If-Match`` on an
object is not known everywhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from mntrading.core.errors import LockedError, ParameterError
from mntrading.objects.conditional import probe
from mntrading.objects.store import Store, StoreError

LOGGER = logging.getLogger(__name__)

Mode = Literal["strict", "settled", "off"]
MODES: Final = ("strict", "settled", "off")
TTL_SECONDS: Final = 120.0
SETTLE_SECONDS: Final = 3.0

_FOLDER: Final = ".lease"
_CLAIM: Final = re.compile(r"(\d{6,})\.json")
_KEPT: Final = 10  # claims that stay behind the newest one, for starters that looked long ago


class LeaseLostError(LockedError):
    """This run no longer holds the storage root, so it must not write."""


def clock() -> float:
    """Seconds of this machine, suspended ones included; for durations only."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Claim:
    """Who holds a lease.

    Parameters
    ----------
    epoch
        Number of the lease.
    about
        What the holder says of itself: ``run_id``, ``pipelines``, ``started_at``, ``host``.
    quiet_seconds
        Seconds since it last wrote, on the server's clock.
    released
        Whether it has ended.
    """

    epoch: int
    about: Mapping[str, Any]
    quiet_seconds: float
    released: bool


class Lease:
    """The lease of one storage root.

    Parameters
    ----------
    store
        The root.
    mode
        ``strict`` refuses stores that fail the probe of conditional writes. ``settled`` takes them, and reads its
        claim back after a pause: it holds as long as no write of a claim takes longer than the pause.
    ttl_seconds
        Silence of a holder after which another run may follow.
    settle_seconds
        The pause of ``settled``.
    """

    def __init__(
        self,
        store: Store,
        mode: Mode = "strict",
        *,
        ttl_seconds: float = TTL_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        if mode not in ("strict", "settled"):
            raise ParameterError(f"{mode!r} is no lease", where="storage.lease", fix=f"use one of {', '.join(MODES)}")
        if ttl_seconds < 2 * settle_seconds:
            raise ParameterError(
                f"{ttl_seconds} is below twice the pause of {settle_seconds} s", where="storage.lease_ttl_seconds"
            )
        self._store, self._mode = store, mode
        self._ttl, self._settle = ttl_seconds, settle_seconds
        self._epoch, self._token = 0, ""
        self._confirmed, self._lost = 0.0, "it was never taken"
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def epoch(self) -> int:
        """Number of the lease that is held, 0 for none."""
        return self._epoch

    # -- taking

    def holder(self) -> Claim | None:
        """The newest claim there is; None where there never was one."""
        epoch = self._newest()
        if epoch == 0:
            return None
        claimed, beaten = self._store.head(_name(epoch, "json")), self._store.head(_name(epoch, "beat"))
        ages = [found.age_seconds for found in (claimed, beaten) if found is not None]
        released = self._store.head(_name(epoch, "released")) is not None
        return Claim(epoch, self._about(epoch), min(ages, default=0.0), released)

    def acquire(self, about: Mapping[str, Any]) -> Claim | None:
        """Take the lease, or say who has it; then keep it until it is released or lost.

        Returns
        -------
        The claim of a holder that fell silent and was followed; None where there was none.

        Raises
        ------
        LockedError
            Another run holds it, or was faster.
        StoreError
            The store can't be reached, or its conditional writes don't hold.
        """
        before = self.holder()
        if before is not None and not before.released and before.quiet_seconds < self._ttl:
            raise self._held(before)
        if self._mode == "strict":
            probe(self._store).require(self._store)
        epoch, token = (before.epoch if before else 0) + 1, secrets.token_hex(16)
        begun = clock()
        document = json.dumps({**about, "token": token}, sort_keys=True).encode()
        if not self._store.create(_name(epoch, "json"), document) and self._owner(epoch) != token:
            # the second question: this client's own write, answered too late and sent again
            raise self._held(Claim(epoch, self._about(epoch), 0.0, released=False))
        if self._mode == "settled":
            self._ended.wait(self._settle)
        newest = self._newest()
        if newest != epoch or self._owner(epoch) != token:
            raise self._held(Claim(newest, self._about(newest), 0.0, released=False))
        self._store.put(_name(epoch, "beat"), token.encode())
        self._store.put(f"{_FOLDER}/latest", str(epoch).encode())
        self._epoch, self._token, self._confirmed, self._lost = epoch, token, begun, ""
        self.check()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return before if before is not None and not before.released else None

    # -- keeping

    def check(self, where: str = "") -> None:
        """Make sure that this run still holds the lease; no call is made.

        Parameters
        ----------
        where
            What is about to be written.

        Raises
        ------
        LeaseLostError
            It does not, or can't know it.
        """
        silent = clock() - self._confirmed
        if not self._lost and silent > self._ttl / 2:
            self._lost = f"its beat was not acknowledged for {silent:.0f} s"
        if self._lost:
            raise LeaseLostError(
                f"this run has lost the lease of the storage root: {self._lost}; nothing more was written",
                where=where or self._store.shown,
                fix="run it again once no other run is at work",
            )

    def beat(self) -> None:
        """Show that this run lives, and look whether it is still the holder.

        Raises
        ------
        LeaseLostError
            It is not.
        StoreError
            The store could not be asked.
        """
        self.check()
        begun = clock()
        self._store.put(_name(self._epoch, "beat"), self._token.encode())
        if self._owner(self._epoch) != self._token:
            self._lost = "another run's claim stands in place of its own"
        elif self._store.head(_name(self._epoch + 1, "json")) is not None:
            self._lost = f"{self._about(self._epoch + 1).get('run_id', 'another run')} has followed it"
        self.check()  # a beat that came too late takes nothing up again
        self._confirmed = begun

    def release(self) -> None:
        """End the lease and let the next run in at once; a lease that was lost is left as it is."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._epoch == 0 or self._lost:
            return
        self._lost = "it was released"
        self._store.put(_name(self._epoch, "released"), b"")
        for epoch in range(self._epoch - _KEPT, 0, -1):
            if self._store.head(_name(epoch, "json")) is None:
                break
            for ending in ("beat", "released", "json"):
                self._store.delete(_name(epoch, ending))

    def _keep(self) -> None:
        while not self._ended.wait(self._ttl / 12):
            try:
                self.beat()
            except LeaseLostError as error:
                LOGGER.error("%s", error.what)
                return
            except StoreError as error:
                LOGGER.warning("no beat of the lease: %s", error.what)

    # -- looking

    def _newest(self) -> int:
        """Number of the newest claim: what the pointer or the listing says, and from there on one by one."""
        pointer = (self._store.get(f"{_FOLDER}/latest") or b"0").decode("ascii", "replace")
        listed = (_CLAIM.fullmatch(name) for name in self._store.names(_FOLDER))
        epoch = max((int(match[1]) for match in listed if match), default=0)
        epoch = max(epoch, int(pointer) if pointer.isdigit() else 0)
        while self._store.head(_name(epoch + 1, "json")) is not None:
            epoch += 1
        return epoch

    def _document(self, epoch: int) -> dict[str, Any]:
        with contextlib.suppress(ValueError):  # a claim that can't be read is some other run's all the same
            document = json.loads(self._store.get(_name(epoch, "json")) or b"{}")
            return document if isinstance(document, dict) else {}
        return {}

    def _owner(self, epoch: int) -> str:
        return str(self._document(epoch).get("token", ""))

    def _about(self, epoch: int) -> dict[str, Any]:
        return {name: value for name, value in self._document(epoch).items() if name != "token"}

    def _held(self, claim: Claim) -> LockedError:
        about = claim.about
        left = max(self._ttl - claim.quiet_seconds, 0.0)
        return LockedError(
            f"run {about.get('run_id', 'unknown')} ({', '.join(about.get('pipelines', []))}, since "
            f"{about.get('started_at', 'unknown')}, on {about.get('host', 'unknown')}) holds the storage root",
            where=self._store.shown,
            fix=f"wait for it, or use another bucket; if it was killed, its lease ends {left:.0f} s from now",
        )


def lease_of(
    store: Store, mode: str, *, ttl_seconds: float = TTL_SECONDS, settle_seconds: float = SETTLE_SECONDS
) -> Lease | None:
    """The lease that ``storage.lease`` asks for; None for ``off``."""
    if mode == "off":
        return None
    return Lease(store, mode, ttl_seconds=ttl_seconds, settle_seconds=settle_seconds)  # type: ignore[arg-type]


def _name(epoch: int, ending: str) -> str:
    return f"{_FOLDER}/{epoch:06d}.{ending}"
