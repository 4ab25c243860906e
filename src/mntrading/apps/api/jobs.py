"""Runs the queue: one process at a time, followed to its end, also across a restart of the API."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from mntrading.apps.api.store import Job, Store
from mntrading.core.errors import LockedError
from mntrading.logs import redacted

LOGGER = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 0.2
_IDLE_SECONDS: Final = 5.0
_SECRET: Final = "MNTRADING_API_TOKEN"  # noqa: S105 - the name, not the token


class Jobs:
    """Starts the runs of the queue, follows the one that runs, and ends the one that is to be cancelled.

    Parameters
    ----------
    store
        The queue.
    project, env
        The project's folder and its configuration environment.
    grace_seconds
        How long a cancelled run may take to end by itself before it is killed.
    command
        What starts a run's process; its arguments follow.
    """

    def __init__(
        self,
        store: Store,
        project: Path,
        env: str | None,
        grace_seconds: float,
        command: Sequence[str] = (sys.executable, "-m", "mntrading.apps.api.worker"),
    ) -> None:
        self.store, self._project, self._env = store, project, env
        self._grace, self._command = grace_seconds, tuple(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._told: tuple[str, float] | None = None
        self._lock: IO[str] | None = None
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- called by routes, from any thread

    @property
    def serving(self) -> bool:
        """Whether the queue is served."""
        return self._loop is not None

    def nudge(self) -> None:
        """Have the queue looked at at once."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    # -- life

    def open(self) -> None:
        """Take the queue for this API, and settle what a dead one has left.

        Raises
        ------
        LockedError
            Another API has it.
        """
        if self._lock is not None:
            return
        self._lock = (self.store.folder / "api.lock").open("a")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise LockedError(
                "another API serves this queue",
                where=str(self.store.folder),
                fix="stop it, or use another MNTRADING_STORAGE_ROOT or MNTRADING_API_STATE",
            ) from None
        self._settle()
        self.store.prune()

    def close(self) -> None:
        """Let the queue go; a run that runs goes on, and the next API follows it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def work(self) -> None:
        """Serve the queue until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                try:
                    busy = await asyncio.to_thread(self.step)
                except (sqlite3.Error, OSError):
                    LOGGER.exception("the queue can't be served now")
                    busy = False
                if busy:
                    await asyncio.to_thread(self._watch)
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), _IDLE_SECONDS)
        finally:
            self._loop = None

    def step(self) -> bool:
        """Look at the run that runs, or start the next one; whether one runs then."""
        job = self.store.running()
        if job is not None:
            if self._goes_on(job):
                return True
        else:
            self._reap()
        started = self.store.start_next()
        if started is not None:
            self._spawn(started)
        return started is not None

    # -- inside

    def _watch(self) -> None:
        """Wait a moment, less where the run's process ends before."""
        if self._child is None:
            time.sleep(_WATCH_SECONDS)
            return
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_WATCH_SECONDS)

    def _settle(self) -> None:
        """Right after a start: say what became of the run that ran when the last API died."""
        job = self.store.running()
        if job is None:
            return
        if job.pid is None:  # marked, and perhaps started, but not claimed: a late process finds it gone
            LOGGER.warning("run %s had not begun and is queued again", job.id)
            self.store.put_back(job)
            if job.cancel_requested:
                self.store.cancel(job.id)
        if self.store.running() is not None and not self._goes_on(job):
            LOGGER.warning("run %s died while nobody watched", job.id)

    def _goes_on(self, job: Job) -> bool:
        """Whether the run's process lives; ends the run whose process is dead, and kills what is to be cancelled."""
        child = self._child
        if job.pid is None:
            alive = child is not None and child.poll() is None
        else:
            alive = (child is not None and child.poll() is None) or self._is_locked(job.id)
        if not alive:
            self._bury(job)
            return False
        if job.cancel_requested:
            self._end(job)
        return True

    def _reap(self) -> None:
        """See the process of the run that ended last go; one that does not go is made to."""
        child = self._child
        if child is None:
            return
        try:
            code = child.wait(self._grace)
        except subprocess.TimeoutExpired:
            _signal(child.pid, signal.SIGKILL)
            code = child.wait()
        LOGGER.info("the run's process ended with %s", _ending(code))
        self._child = self._told = None
        self.store.prune()

    def _bury(self, job: Job) -> None:
        code = None if self._child is None else self._child.poll()
        why = "" if code is None else f" ({_ending(code)})"
        state = "cancelled" if job.cancel_requested else "killed"
        error = None if job.cancel_requested else f"its process ended without a word{why}: see the end of the log"
        if self.store.close(job.id, state, error):  # else it has ended by itself since it was looked at
            LOGGER.warning("run %s of %s: %s%s", job.id, job.pipeline, state, why)
        if self._child is not None:
            _signal(self._child.pid, signal.SIGKILL)  # what it may have started itself
            self._child = None
        self._told = None
        self.store.prune()

    def _end(self, job: Job) -> None:
        leader = job.pid or (self._child.pid if self._child else None)
        if leader is None:
            return
        if self._told is None or self._told[0] != job.id:
            self._told = (job.id, time.monotonic())
            _signal(leader, signal.SIGTERM)
        elif time.monotonic() - self._told[1] > self._grace:
            _signal(leader, signal.SIGKILL)

    def _is_locked(self, id_: str) -> bool:
        """Whether a process holds the run's lock."""
        with self.store.lock(id_).open("a") as probe:
            try:
                fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _spawn(self, job: Job) -> None:
        arguments = [str(self.store.folder), job.id, str(job.attempt), str(self._project)]
        arguments += [self._env] if self._env else []
        environment = {name: value for name, value in os.environ.items() if name != _SECRET}
        LOGGER.info("run %s of %s begins", job.id, job.pipeline)
        try:
            with self.store.log(job.id).open("ab") as log:
                self._child = subprocess.Popen(  # noqa: S603 - our own module, and ids of our own making
                    [*self._command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._project,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            self.store.close(job.id, "failed", f"its process can't be started: {error}")
            LOGGER.error("run %s can't be started: %s", job.id, error)


def _signal(leader: int, which: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, which)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def tail(file: Path, lines: int, most_bytes: int = 65_536) -> list[str]:
    """The last lines of a log; none where there is no file."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - most_bytes))
            data = stream.read()
    except FileNotFoundError:
        return []
    found = data.decode("utf-8", errors="replace").splitlines()
    return [redacted(line) for line in found[-lines:]] if lines else []
