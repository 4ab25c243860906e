"""The process of one run: ``python -m mntrading.apps.api.worker <folder> <run> <attempt> <project> [<env>]``.

It holds a lock on a file of the run for as long as it lives, claims the run, runs it through ``mntrading.runs``, and
writes how it ended. The API needs neither to wait for it nor to be there when it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from mntrading.apps.api.store import Job, Store

KEDRO_NAMES = {"research": "__default__"}
"""Names of the API that Kedro has others for."""


@dataclass(frozen=True)
class Outcome:
    """How a run has ended."""

    state: str
    error: str | None = None
    kedro_run_id: str | None = None
    mlflow_run_id: str | None = None


Tell = Callable[[str, int, int], None]
"""Told the step that begins, the steps that are done, and all of them."""
Execute = Callable[[Job, Tell], Outcome]


class Ended(Exception):  # noqa: N818 - no error: the run was asked to end
    """The process was told to end."""


def _end(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows is to be left in peace
    raise Ended("was told to end")


def serve(folder: Path, id_: str, attempt: int, execute: Execute) -> int:
    """Claim a run, run it, and write how it ended.

    Parameters
    ----------
    folder
        Folder of the queue.
    id_, attempt
        The run, and which start of it this is.
    execute
        What runs it.
    """
    store = Store(folder)
    with store.lock(id_).open("a") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)  # not handed down to processes this one starts; gone when it dies
        job = store.claim(id_, attempt, os.getpid())
        if job is None:
            return 0
        signal.signal(signal.SIGTERM, _end)
        outcome = _outcome(store, job, execute)
        store.close(id_, outcome.state, outcome.error, outcome.kedro_run_id, outcome.mlflow_run_id)
    return int(outcome.state != "finished")


def _outcome(store: Store, job: Job, execute: Execute) -> Outcome:
    try:
        outcome = execute(job, lambda step, done, total: store.progress(job.id, step, done, total))
    except Ended:
        outcome = Outcome("killed", "its process was told to end, by whom is not known")
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends the run and is told
        traceback.print_exc()
        outcome = Outcome("failed", f"{type(error).__name__}: {error}")
    now = store.get(job.id)
    if outcome.state in ("failed", "killed") and now is not None and now.cancel_requested:
        return replace(outcome, state="cancelled", error=None)
    return outcome


def execute_in(project: Path, env: str | None) -> Execute:
    """What runs a pipeline of the project in this process."""

    def execute(job: Job, tell: Tell) -> Outcome:
        from mntrading import runs
        from mntrading.core.errors import DoubtError

        def watch(progress: runs.Progress) -> None:
            tell(progress.step, progress.done, progress.total)

        name = KEDRO_NAMES.get(job.pipeline, job.pipeline)
        try:
            runs.run_here(project, (name,), env, job.parameters, watch=watch)
            state, error = "finished", None
        except Exception as raised:
            stated = runs.expected(raised)
            if stated is None:
                raise
            logging.getLogger(__name__).error("%s", stated)
            state, error = ("refused" if isinstance(stated, DoubtError) else "failed"), str(stated)
        record = runs.JOURNAL.record
        return Outcome(
            state, error, record.run_id if record else None, (record.mlflow_run_id or None) if record else None
        )

    return execute


def main(arguments: Sequence[str]) -> int:
    """Run what the API has put into the queue."""
    folder, id_, attempt, project, *env = arguments
    os.chdir(project)
    return serve(Path(folder), id_, int(attempt), execute_in(Path(project), env[0] if env else None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
