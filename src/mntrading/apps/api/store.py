"""The queue of runs, in SQLite: it survives whatever happens to the API, and lets one run begin at a time.

A run is ``queued``, then ``running``, and ends as ``finished``, ``refused`` (live outputs are written, no entry was
allowed), ``failed``, ``cancelled`` or ``killed`` (its process died). The dispatcher marks the oldest queued run as
running and starts a process, which claims the run before it does anything: a process that comes too late, after a
restart of the API has given its run to another, finds the attempt's number gone and leaves.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ENDED: Final = ("finished", "refused", "failed", "cancelled", "killed")
STATES: Final = ("queued", "running", *ENDED)
KEPT: Final = 1000
"""Runs that have ended of which the newest are kept."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  pipeline TEXT NOT NULL,
  parameters TEXT NOT NULL,
  idempotency_key TEXT UNIQUE,
  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'refused', 'failed', 'cancelled', 'killed')),
  attempt INTEGER NOT NULL DEFAULT 0,
  pid INTEGER,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  step TEXT,
  done INTEGER,
  total INTEGER,
  created_at TEXT NOT NULL,
  started_at TEXT,
  finished_at TEXT,
  kedro_run_id TEXT,
  mlflow_run_id TEXT,
  error TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_runs ON runs (state) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS waiting ON runs (seq) WHERE state = 'queued';
CREATE VIEW IF NOT EXISTS told AS SELECT runs.*, place FROM runs LEFT JOIN
  (SELECT seq, ROW_NUMBER() OVER (ORDER BY seq) AS place FROM runs WHERE state = 'queued') USING (seq);
PRAGMA user_version = 1;
"""
_WAIT_SECONDS: Final = 30.0


class QueueFullError(Exception):
    """As many runs wait as may."""


class KeyReusedError(Exception):
    """The idempotency key belongs to a run of another pipeline or with other parameters."""


@dataclass(frozen=True)
class Job:
    """One run of the queue; times are ISO 8601, UTC; its place is that among the runs that wait, from 1."""

    seq: int
    id: str
    pipeline: str
    parameters: dict[str, Any]
    state: str
    attempt: int
    pid: int | None
    cancel_requested: bool
    step: str | None
    done: int | None
    total: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    kedro_run_id: str | None
    mlflow_run_id: str | None
    error: str | None
    place: int | None

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED


def now() -> str:
    """Wall clock, ISO 8601, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """The queue's database in a local folder, for the API and the processes of its runs.

    Every change is one transaction, on the disk when the call returns.

    Parameters
    ----------
    folder
        Local folder of the queue; made where it is missing, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "runs").mkdir(exist_ok=True, mode=0o700)
        self._local = threading.local()
        self._connection().executescript(_SCHEMA)

    def log(self, id_: str) -> Path:
        """The file a run's process writes to."""
        return self.folder / "runs" / f"{id_}.log"

    def lock(self, id_: str) -> Path:
        """The file a run's process holds a lock on while it lives."""
        return self.folder / "runs" / f"{id_}.lock"

    # -- reading

    def get(self, id_: str) -> Job | None:
        """A run by its id."""
        return self._one("SELECT * FROM told WHERE id = ?", id_)

    def recent(self, limit: int, state: str | None = None) -> list[Job]:
        """The newest runs, the newest first."""
        rows = self._connection().execute(
            "SELECT * FROM told WHERE ?1 IS NULL OR state = ?1 ORDER BY seq DESC LIMIT ?2", (state, limit)
        )
        return [_job(row) for row in rows]

    def running(self) -> Job | None:
        """The run that runs."""
        return self._one("SELECT * FROM told WHERE state = 'running'")

    def counts(self) -> dict[str, int]:
        """Number of runs by state, those kept."""
        rows = self._connection().execute("SELECT state, COUNT(*) FROM runs GROUP BY state")
        return dict.fromkeys(STATES, 0) | dict(rows.fetchall())

    # -- the API's part

    def add(self, pipeline: str, parameters: Mapping[str, Any], key: str | None, most: int) -> tuple[Job, bool]:
        """Put a run in the queue, or find the one that the key stands for.

        Parameters
        ----------
        pipeline, parameters
            What to run.
        key
            Idempotency key; the same one with the same request gives the same run.
        most
            Runs that may wait.

        Returns
        -------
        The run, and whether it was there already.

        Raises
        ------
        QueueFullError
            So many wait already.
        KeyReusedError
            The key stands for another request.
        """
        text = json.dumps(parameters, sort_keys=True, allow_nan=False)
        with self._change() as change:
            if key is not None:
                held = self._one("SELECT * FROM told WHERE idempotency_key = ?", key)
                if held is not None:
                    if (held.pipeline, held.parameters) != (pipeline, json.loads(text)):
                        raise KeyReusedError
                    return held, True
            if change.execute("SELECT COUNT(*) FROM runs WHERE state = 'queued'").fetchone()[0] >= most:
                raise QueueFullError
            at = now()
            id_ = f"{at.replace('-', '').replace(':', '')}-{secrets.token_hex(4)}"
            change.execute(
                "INSERT INTO runs (id, pipeline, parameters, idempotency_key, state, created_at) "
                "VALUES (?, ?, ?, ?, 'queued', ?)",
                (id_, pipeline, text, key, at),
            )
            return self._known(id_), False

    def start_next(self) -> Job | None:
        """Mark the oldest queued run as running, if none runs; None where there is nothing to start."""
        with self._change() as change:
            if self.running() is not None:
                return None
            row = change.execute("SELECT id FROM runs WHERE state = 'queued' ORDER BY seq LIMIT 1").fetchone()
            if row is None:
                return None
            change.execute(
                "UPDATE runs SET state = 'running', attempt = attempt + 1, pid = NULL, started_at = ? WHERE id = ?",
                (now(), row[0]),
            )
            return self._known(row[0])

    def put_back(self, job: Job) -> bool:
        """Queue a run again that was marked as running and that no process has claimed."""
        with self._change() as change:
            done = change.execute(
                "UPDATE runs SET state = 'queued', started_at = NULL "
                "WHERE id = ? AND state = 'running' AND attempt = ? AND pid IS NULL",
                (job.id, job.attempt),
            )
            return done.rowcount == 1

    def cancel(self, id_: str) -> Job | None:
        """End a queued run, or mark a running one to be ended; the run as it is then, None of an unknown one."""
        with self._change() as change:
            change.execute(
                "UPDATE runs SET state = 'cancelled', cancel_requested = 1, finished_at = ? "
                "WHERE id = ? AND state = 'queued'",
                (now(), id_),
            )
            change.execute("UPDATE runs SET cancel_requested = 1 WHERE id = ? AND state = 'running'", (id_,))
            return self.get(id_)

    def prune(self, kept: int = KEPT) -> None:
        """Forget the oldest runs that have ended, with their logs."""
        with self._change() as change:
            rows = change.execute(
                "SELECT id FROM runs WHERE state NOT IN ('queued', 'running') ORDER BY seq DESC LIMIT -1 OFFSET ?",
                (kept,),
            )
            gone = [row[0] for row in rows]
            change.executemany("DELETE FROM runs WHERE id = ?", [(id_,) for id_ in gone])
        for id_ in gone:
            self.log(id_).unlink(missing_ok=True)
            self.lock(id_).unlink(missing_ok=True)

    # -- the part of a run's process

    def claim(self, id_: str, attempt: int, pid: int) -> Job | None:
        """Take a run for this process; None where it is another's, or to be run no more."""
        with self._change() as change:
            done = change.execute(
                "UPDATE runs SET pid = ? WHERE id = ? AND state = 'running' AND attempt = ? AND pid IS NULL",
                (pid, id_, attempt),
            )
            return self._known(id_) if done.rowcount == 1 else None

    def progress(self, id_: str, step: str, done: int, total: int) -> None:
        """Say how far a run is."""
        with self._change() as change:
            change.execute(
                "UPDATE runs SET step = ?, done = ?, total = ? WHERE id = ? AND state = 'running'",
                (step or None, done, total, id_),
            )

    def close(
        self, id_: str, state: str, error: str | None = None, kedro: str | None = None, mlflow: str | None = None
    ) -> bool:
        """End a run that runs; False where it has ended already."""
        with self._change() as change:
            done = change.execute(
                "UPDATE runs SET state = ?, error = ?, kedro_run_id = ?, mlflow_run_id = ?, step = NULL, "
                "finished_at = ? WHERE id = ? AND state = 'running'",
                (state, error, kedro, mlflow, now(), id_),
            )
            return done.rowcount == 1

    # -- inside

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection: readers and the one writer do not wait for each other."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(self.folder / "queue.db", timeout=_WAIT_SECONDS, isolation_level=None)
            found.row_factory = sqlite3.Row
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = FULL")
            self._local.connection = found
        return found

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _one(self, query: str, *given: object) -> Job | None:
        row = self._connection().execute(query, given).fetchone()
        return None if row is None else _job(row)

    def _known(self, id_: str) -> Job:
        job = self.get(id_)
        if job is None:
            raise LookupError(id_)
        return job


def _job(row: sqlite3.Row) -> Job:
    known = {name: row[name] for name in Job.__dataclass_fields__}
    known |= {"parameters": json.loads(known["parameters"]), "cancel_requested": bool(known["cancel_requested"])}
    return Job(**known)
