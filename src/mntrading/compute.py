"""Who does the work of a stage: threads, processes, or the workers of a Dask cluster.

``workers`` sets joblib's ambient backend, which is all that the rest of the code knows of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import joblib
import numba
import numpy as np
from joblib.parallel import BatchedCalls, ParallelBackendBase

from mntrading import __version__
from mntrading.core.errors import MNTradingError
from mntrading.params import ComputeParams

if TYPE_CHECKING:
    from distributed import Client, Future

LOGGER = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 5.0  # for a scheduler to answer
_WORKERS_SECONDS: Final = 30.0  # for workers to appear, and to come back
_WATCH_SECONDS: Final = 0.5
_SHARED_BYTES: Final = 100_000  # arrays from here on are sent once, not with every task

_HERE: Final = "kedro run --params compute.backend=threading,compute.scheduler=null"


class WorkersError(MNTradingError):
    """Workers that can't be had, or that were lost."""


@contextmanager
def workers(compute: ComputeParams) -> Iterator[None]:
    """Have joblib use the workers of ``compute`` while the block runs.

    Raises
    ------
    WorkersError
        A scheduler that can't be reached, workers that don't appear, processes or a cluster lost in the middle.
    """
    if compute.scheduler is not None:
        with _cluster(compute.scheduler, compute.n_workers) as backend, joblib.parallel_config(backend=backend):
            yield
    elif compute.backend == "loky":
        try:
            with joblib.parallel_config(backend="loky", n_jobs=compute.n_workers, inner_max_num_threads=1):
                yield
        except BrokenExecutor as error:
            raise WorkersError(
                f"one of {compute.n_workers} processes was ended in its work, as happens when memory is short",
                where="compute.n_workers",
                fix="the same command with --params compute.n_workers=1, or compute.backend=threading",
            ) from error
    else:
        with joblib.parallel_config(backend="threading", n_jobs=compute.n_workers):
            yield


@contextmanager
def _cluster(address: str, n_workers: int) -> Iterator[_Cluster]:
    """The cluster of the scheduler at ``address``, once so many workers are there."""
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise WorkersError(
            f"Dask is not installed ({error})",
            where="compute.backend",
            fix="uv pip install --constraint requirements-dev.lock --editable '.[dask]'; "
            f"or without a cluster: {_HERE}",
        ) from error
    # what tasks share is kept by the scheduler on purpose
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
        try:
            with ThreadPoolExecutor(1) as thread:  # of its own, as the caller's may have a running loop
                thread.submit(asyncio.run, _greet(address)).result()
            client = Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error) or f"nothing was said in {_ANSWER_SECONDS:.0f} s"
            raise WorkersError(
                f"no Dask scheduler can be reached at {address}: {reason}",
                where="compute.scheduler",
                fix=f"on its machine: dask scheduler, then: dask worker {address}; or without a cluster: {_HERE}",
            ) from error
        try:
            with _Cluster(client, address) as backend:
                backend.wait_for(n_workers)
                yield backend
        finally:
            with suppress(OSError):
                client.close(timeout=_ANSWER_SECONDS)


async def _greet(address: str) -> None:
    """Exchange greetings with who listens there, for which Dask's client would wait without end."""
    from distributed import Security
    from distributed.core import connect

    arguments = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_ANSWER_SECONDS, **arguments), _ANSWER_SECONDS)
    await comm.close()


class _Cluster(ParallelBackendBase):  # type: ignore[misc] # joblib has no types
    """joblib's tasks on the workers of a Dask cluster.

    joblib has a backend for Dask. It waits for ever when no worker is left, takes a lost task for one that returned,
    and what tasks share dies with the workers that hold it; here the scheduler keeps that too, like any other task.
    """

    supports_retrieve_callback = supports_return_generator = True

    def __init__(self, client: Client, address: str) -> None:
        super().__init__(nesting_level=0)
        self._client, self._address = client, address
        self._name, self._numbers = f"mntrading-{uuid4().hex}", count()
        self._pending: dict[tuple[str, int], tuple[Future, Callable[[object], None]]] = {}
        self._shared: dict[int, tuple[np.ndarray, Future]] = {}
        self._lock = threading.RLock()
        self._n_threads = 0
        self._lost: WorkersError | None = None
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._watch_over, name="dask-watch", daemon=True)

    def __enter__(self) -> _Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._watch.is_alive():
            self._watch.join()
        self.abort_everything()
        self.terminate()

    def wait_for(self, n_workers: int) -> None:
        """Wait until so many workers are there, and watch over them from then on."""
        deadline = time.monotonic() + _WORKERS_SECONDS
        while (found := self._count()) < n_workers:
            if time.monotonic() > deadline:
                raise self._error(
                    f"{found} of {n_workers} workers are there after {_WORKERS_SECONDS:.0f} s",
                    f"dask worker {self._address}, once for each that is missing, or lower compute.n_workers",
                )
            time.sleep(0.1)
        LOGGER.info("%d workers with %d threads at %s", found, self._n_threads, self._address)
        self._watch.start()

    # --- what joblib asks ---

    def effective_n_jobs(self, n_jobs: int) -> int:  # noqa: ARG002 # the cluster's own threads count
        """Threads of the cluster's workers; two at least, as joblib would do the work of one in this process."""
        return max(2, self._n_threads)

    def submit(self, func: BatchedCalls, callback: Callable[[object], None]) -> Future:
        """Hand over some tasks; ``callback`` gets what they return, or what went wrong."""
        tasks = [(task, [self._sent(value) for value in given], named) for task, given, named in func.items]
        number = next(self._numbers)
        key = (self._name, number)  # keys of one group: tasks are handed out as workers come free
        future = self._client.submit(_do, tasks, _release(), key=key, priority=-number, pure=False)
        with self._lock:
            self._pending[key] = future, callback
        self._client.loop.add_callback(self._collect, future)
        if self._lost is not None:
            self._fail(self._lost)
        return future

    def retrieve_result_callback(self, out: object) -> object:
        """What the tasks returned."""
        if isinstance(out, _Failed):
            raise out.error
        return out

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """What a task finds: no workers of its own."""
        return joblib.parallel.SequentialBackend(nesting_level=1), None

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002 # joblib's signature
        """Have the cluster forget what is not done yet."""
        with self._lock:
            for future, _ in self._pending.values():
                future.release()
            self._pending.clear()

    def terminate(self) -> None:
        """Have the cluster forget what the tasks shared."""
        with self._lock:
            self._shared.clear()

    # --- behind it ---

    def _sent(self, value: object) -> object:
        """The value, or what stands for it where it is large and other tasks will want it too."""
        if not (isinstance(value, np.ndarray) and value.nbytes >= _SHARED_BYTES):
            return value
        with self._lock:
            if id(value) not in self._shared:
                sent = self._client.submit(_same, value, key=f"mntrading-shared-{uuid4().hex}", pure=False)
                self._shared[id(value)] = value, sent
            return self._shared[id(value)][1]

    async def _collect(self, future: Future) -> None:
        """Hand on what a task comes to; a result that can't be had keeps no thread and no other result waiting."""
        out: object
        try:
            out = await self._client.gather(future, asynchronous=True)
        except Exception as error:  # noqa: BLE001 # raised where the result is waited for
            reason = str(error).partition("\n")[0]
            out = _Failed(
                self._error(
                    f"the work was lost: {type(error).__name__}: {reason}",
                    f"see what the scheduler and its workers say, then run again; or without a cluster: {_HERE}",
                )
            )
        with self._lock:
            _, callback = self._pending.pop(future.key, (None, None))
        if callback is not None:
            callback(out)

    def _watch_over(self) -> None:
        """Give up when no worker has been there for long."""
        seen = time.monotonic()
        while not self._closed.wait(_WATCH_SECONDS):
            if self._count():
                seen = time.monotonic()
            elif time.monotonic() - seen > _WORKERS_SECONDS:
                self._lost = self._error(
                    f"all workers were lost, and none came back in {_WORKERS_SECONDS:.0f} s",
                    f"dask worker {self._address}, then run again; or without a cluster: {_HERE}",
                )
                self._fail(self._lost)
                return

    def _count(self) -> int:
        """Workers there are; 0 where the scheduler does not answer."""
        scheduler = self._client.scheduler
        if self._client.status != "running" or scheduler is None:
            return 0
        try:
            found = self._client.sync(scheduler.identity, n_workers=0, callback_timeout=_ANSWER_SECONDS)
        except (OSError, RuntimeError):
            return 0
        self._n_threads = found["total_threads"]
        return int(found["n_workers"])

    def _fail(self, error: WorkersError) -> None:
        """End all that is waited for."""
        with self._lock:
            callbacks = [callback for _, callback in self._pending.values()]
            self._pending.clear()
        for callback in callbacks:
            callback(_Failed(error))

    def _error(self, what: str, fix: str) -> WorkersError:
        return WorkersError(what, where=f"compute.scheduler {self._address}", fix=fix)


# --- on a worker ---


@dataclass(frozen=True)
class _Failed:
    """What went wrong instead of a result."""

    error: Exception


def _release() -> str:
    """What has to be the same everywhere for results to be the same."""
    return f"mntrading {__version__}, numpy {np.__version__}, numba {numba.__version__}"


def _do(tasks: list[tuple[Callable[..., object], list[object], dict[str, Any]]], release: str) -> object:
    """Do the tasks, on a worker, and return what they return."""
    if (here := _release()) != release:
        from distributed import get_worker

        return _Failed(
            WorkersError(
                f"runs {here}, expected {release}",
                where=f"Dask worker {get_worker().address}",
                fix="install the release and the lock file that the run uses, and start the worker again",
            )
        )
    try:
        with joblib.parallel_config(backend="sequential"):
            return [task(*given, **named) for task, given, named in tasks]
    except Exception as error:  # noqa: BLE001 # raised again where the result is waited for
        error.add_note(traceback.format_exc())
        return _Failed(error)


def _same(value: np.ndarray) -> np.ndarray:
    """What tasks share, as a task: where its worker is lost, another one does it again."""
    return value
