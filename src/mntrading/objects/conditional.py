"""Whether a store keeps the one promise a lease rests on: of many writers that create an object, one succeeds."""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from mntrading.objects.store import Store, StoreError

WRITERS: Final = 5
_HOLD_SECONDS: Final = 1.5
FOLDER: Final = ".lease/probe"


@dataclass(frozen=True)
class Verdict:
    """What a probe has seen.

    Parameters
    ----------
    known
        Whether the store knows the condition: a second writer, after the first had ended, was refused.
    winners
        How many of the writers that raced were told they had created the object.
    """

    known: bool
    winners: int

    @property
    def atomic(self) -> bool:
        """Whether a lease can rest on it."""
        return self.known and self.winners == 1

    def require(self, store: Store) -> None:
        """Refuse a store on which no lease can rest.

        Raises
        ------
        StoreError
            It is not atomic.
        """
        if not self.atomic:
            raise StoreError(
                f"no lease can rest on this store: {self}",
                where=store.shown,
                fix="use a store with atomic conditional writes; or MNTRADING_LEASE=settled, which reads each claim "
                "back after a pause; or MNTRADING_LEASE=off where nothing else can start a run (docs/operations.md)",
            )

    def __str__(self) -> str:
        if not self.known:
            return "the store does not know If-None-Match: a second writer replaced the first one's object"
        return f"{self.winners} of {WRITERS} simultaneous writers were told that they created one object"


class _Held(io.BytesIO):
    """A body that is not handed out before every writer's request has been looked at by the server.

    A server that tests the condition when a request begins, and not when its object is published, lets all of
    them through then. The first pass over the body is the signature's, so holding begins once it is armed.
    """

    def __init__(self, data: bytes, gate: threading.Barrier) -> None:
        super().__init__(data)
        self._gate, self.armed = gate, False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.armed:
            self.armed = False
            with contextlib.suppress(threading.BrokenBarrierError):  # others were refused, or wait for this one
                self._gate.wait(_HOLD_SECONDS)
        return super().read(size)


def probe(store: Store) -> Verdict:
    """Race some writers of one object against each other, and a late one after them.

    Raises
    ------
    StoreError
        The store can't be reached, refuses the keys, or none of the writers succeeded.
    """
    name = f"{FOLDER}/{secrets.token_hex(8)}"
    gate = threading.Barrier(WRITERS)
    store.client.meta.events.register("before-send.s3.PutObject", _arm, unique_id="mntrading-probe")

    def write(number: int) -> bool:
        return store.create(name, _Held(f"{number}".encode() * 32, gate))

    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            winners = sum(pool.map(write, range(WRITERS)))
        known = not store.create(name, b"late")
    finally:
        store.client.meta.events.unregister("before-send.s3.PutObject", _arm, unique_id="mntrading-probe")
        store.delete(name)
    if winners == 0:
        raise StoreError(
            f"none of {WRITERS} writers could create an object that was not there",
            where=store.shown,
            fix="look at the store's log; without conditional writes: MNTRADING_LEASE (docs/operations.md)",
        )
    return Verdict(known, winners)


def _arm(request: Any, **_: Any) -> None:
    if isinstance(request.body, _Held):
        request.body.armed = True
