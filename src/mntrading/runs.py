"""The one place that starts a Kedro session: command line, notebooks, API and schedulers all go through it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar, cast

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project
from kedro.validation import ParameterValidationError
from omegaconf.errors import InterpolationResolutionError

from mntrading.core.errors import MNTradingError, ParameterError
from mntrading.logs import redacted

P = ParamSpec("P")
R = TypeVar("R")

EXPECTED_ERRORS = (MNTradingError, ParameterValidationError)
"""Errors that state their case in one message; no traceback is shown for them."""


def expected(error: BaseException | None) -> BaseException | None:
    """The expected error behind an exception that Kedro or OmegaConf may have wrapped; None where there is none."""
    while error is not None and not isinstance(error, EXPECTED_ERRORS):
        # OmegaConf names no cause of what a resolver has raised
        error = error.__context__ if isinstance(error, InterpolationResolutionError) else error.__cause__
    return error


@dataclass(frozen=True)
class RunRecord:
    """What is known of one run when it has ended.

    Parameters
    ----------
    run_id
        Kedro's session id.
    pipelines
        Registered pipelines that were run.
    env
        Configuration environment.
    status
        ``finished``, ``failed``, or ``refused`` where live inputs were too doubtful to enter on.
    started_at, finished_at
        Wall clock, ISO 8601, UTC.
    revision
        Git revision of the code, with ``+dirty`` for uncommitted changes; empty outside a checkout.
    mlflow_run_id
        Empty when tracking is off.
    error
        Message of the error that ended the run; empty when it finished.
    """

    run_id: str
    pipelines: tuple[str, ...]
    env: str
    status: str
    started_at: str
    finished_at: str
    revision: str
    mlflow_run_id: str
    error: str


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    step
        Node that has begun; empty when the last one is done.
    done
        Nodes that are done.
    total
        Nodes of the run.
    """

    step: str
    done: int
    total: int


class Journal:
    """Keeps the record of this process's run, for whoever started it, and tells the one who watches how far it is.

    ``close`` ends a run that was not ended by Kedro's hooks: they are not called for what fails in a hook, nor for
    an interrupt.
    """

    record: RunRecord | None = None
    close: Callable[[BaseException], None] | None = None
    watch: Callable[[Progress], None] | None = None

    def tell(self, progress: Progress) -> None:
        """Tell whoever watches."""
        if self.watch is not None:
            self.watch(progress)


JOURNAL = Journal()


class TerminatedError(SystemExit):
    """The process was told to end; it does so with the exit code a shell gives for it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def __str__(self) -> str:
        return "the process was told to end (SIGTERM)"


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Have SIGTERM end a run as an interrupt does: its record is closed, and its lease given back at once.

    Whoever has a handler of its own keeps it.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows is to be left in peace
        raise TerminatedError

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Session(KedroSession):
    """Kedro's session: tags alone choose among all steps, and errors that state their case get no traceback."""

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Self:
        """Create a session, unless there is no configuration environment of its name."""
        session = cast(Self, super().create(*args, **kwargs))
        env, conf = session.store.get("env"), Path(session._conf_source)
        if env and conf.is_dir() and not (conf / env).is_dir():
            known = sorted(path.name for path in conf.iterdir() if path.is_dir() and path.name != "base")
            raise ParameterError(f"there is no environment {env!r}", where="--env", fix=f"use one of {known}")
        return session

    def __enter__(self) -> Self:
        return self

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run pipelines; tags without a pipeline's name mean the steps of the full cycle that have them."""
        named = args or kwargs.get("pipeline_name") or kwargs.get("pipeline_names")
        if kwargs.get("tags") and not named:
            kwargs["pipeline_names"] = ["full_cycle"]
        with _ended_in_order():
            try:
                return super().run(*args, **kwargs)
            except BaseException as error:
                if JOURNAL.close is not None:
                    JOURNAL.close(error)
                raise

    def _log_exception(self, exc_type: Any, exc_value: Any, exc_tb: Any) -> None:
        if expected(exc_value) is None:
            super()._log_exception(exc_type, exc_value, exc_tb)


def open_session(project: Path, env: str | None = None, params: dict[str, Any] | None = None) -> Session:
    """A session of the project, which must have been bootstrapped."""
    return Session.create(project, env=env, runtime_params=params)


def stated(run: Callable[P, R]) -> Callable[P, R]:
    """Print an expected error as its one message, any other one with its traceback, and exit with 1.

    Neither has a secret of the environment in it.
    """

    @wraps(run)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return run(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- told whole, and the exit code is 1
            message = expected(error)
            told = f"\nError: {message}\n" if message else "".join(traceback.format_exception(error))
            sys.stderr.write(redacted(told))
            raise SystemExit(1) from None

    return wrapper


def run(
    pipeline: str | Sequence[str],
    *,
    env: str | None = None,
    params: dict[str, Any] | None = None,
    tags: Sequence[str] = (),
) -> RunRecord:
    """Run registered pipelines in a fresh process and return the record of the run.

    Parameters
    ----------
    pipeline
        Name or names of registered pipelines.
    env
        Configuration environment; None for ``local``.
    params
        Overrides, nested like the parameters files.
    tags
        Run only the nodes that have one of these tags.

    Raises
    ------
    MNTradingError
        For everything the run refuses, with the command to run next.
    """
    names = (pipeline,) if isinstance(pipeline, str) else tuple(pipeline)
    project = find_kedro_project(Path.cwd())
    if project is None:
        raise ParameterError(f"{Path.cwd()} is not inside the project", fix="change into the project's folder first")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        return pool.submit(run_here, Path(project), names, env, params or {}, tuple(tags)).result()


def run_here(
    project: Path,
    names: tuple[str, ...],
    env: str | None,
    params: dict[str, Any],
    tags: tuple[str, ...] = (),
    watch: Callable[[Progress], None] | None = None,
) -> RunRecord:
    """Run registered pipelines in this process, which runs nothing else, and return the record of the run.

    Parameters
    ----------
    project
        The project's folder.
    names, env, params, tags
        See ``run``.
    watch
        Called when a node begins and when the last one is done.
    """
    JOURNAL.watch = watch
    bootstrap_project(project)
    with open_session(project, env, params) as session:
        session.run(pipeline_names=list(names), tags=tags)
    if JOURNAL.record is None:
        raise RuntimeError("the run left no record: the project's hooks are not registered")
    return JOURNAL.record
