"""Many processes start on one storage root at the same moment: one of them gets the lease."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier as BarrierType
from multiprocessing.synchronize import Event as EventType
from typing import Any

from mntrading.core.errors import LockedError, MNTradingError
from mntrading.objects.lease import SETTLE_SECONDS, Lease
from mntrading.objects.store import Store


@dataclass
class Outcome:
    """What became of the starters of one round."""

    winners: list[str] = field(default_factory=list)
    refused: int = 0
    refused_without_the_winner: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    winner_pid: int = 0

    @property
    def broken(self) -> list[str]:
        """Invariants that do not hold."""
        found = [f"{len(self.winners)} winners: {self.winners}"] if len(self.winners) != 1 else []
        if self.refused_without_the_winner:
            found.append(f"{self.refused_without_the_winner} refusals that do not name the winner")
        return found + self.errors


def _start(
    name: str,
    root: str,
    credentials: Mapping[str, Any],
    mode: Any,
    ttl: float,
    gate: BarrierType,
    told: Any,
    leave: EventType,
    settle: float,
) -> None:
    lease = Lease(Store(root, credentials, read_seconds=60.0), mode, ttl_seconds=ttl, settle_seconds=settle)
    gate.wait()
    try:
        lease.acquire({"run_id": name, "pipelines": ["short_cycle"], "started_at": "now", "host": "here"})
    except LockedError as refused:
        told.put((name, os.getpid(), "refused", refused.what))
        return
    except MNTradingError as error:
        told.put((name, os.getpid(), "error", str(error)))
        return
    told.put((name, os.getpid(), "won", ""))
    leave.wait()
    try:
        lease.check()
        lease.release()
    except MNTradingError as error:
        told.put((name, os.getpid(), "error", str(error)))


def race(
    n: int,
    root: str,
    credentials: Mapping[str, Any],
    mode: str,
    *,
    ttl: float = 120.0,
    settle: float = SETTLE_SECONDS,
    kill: bool = False,
    tag: str = "r",
) -> Outcome:
    """Start so many processes at once; the winner is killed at the end, or ends well.

    Parameters
    ----------
    n
        Processes.
    root, credentials, mode, ttl, settle
        Of the lease.
    kill
        Whether the winner is killed instead of releasing its lease.
    tag
        What the names of the starters begin with.
    """
    of = multiprocessing.get_context("fork")
    gate, told, leave = of.Barrier(n + 1), of.SimpleQueue(), of.Event()
    starters = [
        of.Process(target=_start, args=(f"{tag}{number}", root, credentials, mode, ttl, gate, told, leave, settle))
        for number in range(n)
    ]
    for one in starters:
        one.start()
    gate.wait()
    begun, outcome, refusals = time.monotonic(), Outcome(), []
    for _ in range(n):
        name, pid, how, said = told.get()
        if how == "won":
            outcome.winners.append(name)
            outcome.winner_pid = pid
        elif how == "refused":
            refusals.append(said)
        else:
            outcome.errors.append(said)
    outcome.seconds = time.monotonic() - begun
    outcome.refused = len(refusals)
    if outcome.winners:
        named = f"run {outcome.winners[0]} "
        outcome.refused_without_the_winner = sum(not said.startswith(named) for said in refusals)
    if kill and outcome.winner_pid:
        os.kill(outcome.winner_pid, signal.SIGKILL)
    else:  # an event would wait for the answer of a sleeper that was killed
        leave.set()
    for one in starters:
        one.join()
    while not told.empty():
        outcome.errors.append(told.get()[3])
    return outcome
