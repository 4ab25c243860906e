"""Who does the work: threads, processes, and a real Dask cluster whose workers and scheduler are killed."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from distributed import Client
from pydantic import ValidationError

from dask_cluster import end, run_dask, start_scheduler
from mntrading import compute
from mntrading.compute import WorkersError, workers
from mntrading.core import all_pairs
from mntrading.core.cointegration import engle_granger_pairs, engle_granger_tiles
from mntrading.core.errors import MNTradingError
from mntrading.params import ComputeParams

pytestmark = pytest.mark.xdist_group("dask")  # one scheduler for all

FREE = 3  # tiles of twenty

# what a worker is told: to note the tiles it begins and ends, and after some to stay in one until the gate is open
PRELOAD = """
import os, time
from mntrading.core import all_pairs

def note(what):
    with open({log!r}, "a") as log:
        log.write(f"{{what}} {{os.getpid()}}\\n")

def closed():
    with open({log!r}) as log:
        return log.read().count("ended") >= {free} and not os.path.exists({gate!r})

if not hasattr(all_pairs, "at_once"):
    all_pairs.at_once = all_pairs._TileTest.__call__

def noted(self, tile):
    note("began")
    while closed():
        time.sleep(0.01)
    found = all_pairs.at_once(self, tile)
    note("ended")
    return found

all_pairs._TileTest.__call__ = noted
"""


def walks(n_bars: int = 300, n_series: int = 140, n_late: int = 20) -> pd.DataFrame:
    """Random walks, the last of which are listed late and the very last too late for a test."""
    values = np.random.default_rng(n_series).standard_normal((n_bars, n_series)).cumsum(axis=0) / 100.0
    values[: n_bars // 2, n_series - n_late :] = np.nan
    values[: n_bars - 5, -1] = np.nan
    index = pd.date_range("2025-01-01", periods=n_bars, freq="h", tz="UTC")
    return pd.DataFrame(values, index=index, columns=[f"S{k}" for k in range(n_series)])


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return walks()


@pytest.fixture(scope="module")
def expected(prices) -> pd.DataFrame:
    """By threads. Kernels are compiled by then, so that workers find them in the cache."""
    return engle_granger_pairs(prices, n_threads=2)


@dataclass
class Cluster:
    """A scheduler, and workers that come and go."""

    address: str
    scheduler: subprocess.Popen[bytes]
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    n_started: int = 0

    @property
    def log(self) -> Path:
        return self.folder / "tiles.log"

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    def have(self, n: int) -> list[subprocess.Popen[bytes]]:
        """Have so many workers, a new log and a closed gate."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        for worker in self.workers[n:]:
            end(worker)
        self.log.write_text("")
        self.gate.unlink(missing_ok=True)
        preload = self.folder / "preload.py"
        preload.write_text(PRELOAD.format(log=str(self.log), gate=str(self.gate), free=FREE))
        for _ in range(n - len(self.workers)):
            name = f"worker-{self.n_started}"
            options = ["worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--name", name]
            options += ["--preload", str(preload), "--local-directory", str(self.folder / name)]
            self.workers.append(run_dask(options, self.folder / name))
            self.n_started += 1
        self.workers = self.workers[:n]
        return list(self.workers)

    def counts(self, what: str) -> Counter[int]:
        """Tiles that were begun or ended, by process."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return Counter(int(pid) for said, pid in lines if said == what)

    def kill_in_a_tile(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill a worker in the middle of the work: others were done, and it has begun one that it can't end."""
        self.wait_in_a_tile(worker)
        end(worker)

    def wait_in_a_tile(self, worker: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60.0
        while (
            self.counts("ended").total() < FREE or self.counts("began")[worker.pid] == self.counts("ended")[worker.pid]
        ):
            if time.monotonic() > deadline:
                self.gate.touch()
                raise AssertionError("the worker had no tile to work on")
            time.sleep(0.01)


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A scheduler, without workers yet."""
    cluster = Cluster(*start_scheduler(folder), folder)
    try:
        yield cluster
    finally:
        cluster.have(0)
        end(cluster.scheduler)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("dask")) as made:
        yield made


def on(address: str, n_workers: int = 2) -> ComputeParams:
    return ComputeParams(backend="dask", n_workers=n_workers, scheduler=address)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Act in a thread beside what the block does."""
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(action)
        yield
        done.result()


# --- a cluster ---


def test_a_worker_that_is_killed_in_the_middle_of_a_tile_changes_nothing(cluster, prices, expected):
    victim, survivor = cluster.have(2)

    def kill() -> None:
        cluster.kill_in_a_tile(victim)
        cluster.gate.touch()

    with workers(on(cluster.address)), meanwhile(kill):
        found = engle_granger_pairs(prices)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    began, ended = cluster.counts("began"), cluster.counts("ended")
    assert began[victim.pid] == ended[victim.pid] + 1
    assert began[survivor.pid] == ended[survivor.pid] > 0
    assert set(began) == {victim.pid, survivor.pid}  # and none in this process


def test_new_workers_go_on_where_all_have_died(cluster, prices, expected):
    first = cluster.have(2)

    def replace_all() -> None:
        for worker in first:
            cluster.kill_in_a_tile(worker)
        cluster.have(1)
        cluster.gate.touch()

    with workers(on(cluster.address)), meanwhile(replace_all):
        found = engle_granger_pairs(prices)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    (new,) = cluster.workers
    assert cluster.counts("ended")[new.pid] > 0


def test_a_cluster_gives_tiles_and_errors_as_threads_do_and_keeps_nothing(cluster, prices, expected, monkeypatch):
    cluster.have(2)
    cluster.gate.touch()
    with workers(on(cluster.address)):
        found = pd.concat(engle_granger_tiles(prices)).set_index(["dependent", "independent"])
        whole = expected.set_index(["dependent", "independent"])
        pd.testing.assert_frame_equal(found.loc[whole.index], whole, check_exact=True)
        # a reader may leave
        tiles = engle_granger_tiles(prices)
        next(tiles)
        tiles.close()
        # a task's own error is handed on as it is
        with pytest.raises(ValueError, match="math domain error"):
            joblib.Parallel(n_jobs=2)(joblib.delayed(math.sqrt)(x) for x in (1.0, -1.0))
        # a worker of another release is refused
        monkeypatch.setattr(compute, "__version__", "9.9.9")
        with pytest.raises(WorkersError, match=r"expected mntrading 9\.9\.9") as caught:
            engle_granger_pairs(prices)
        assert "Dask worker tcp://127.0.0.1" in str(caught.value)

    def n_tasks(dask_scheduler) -> int:
        return len(dask_scheduler.tasks)

    with Client(cluster.address, set_as_default=False) as watcher:
        deadline = time.monotonic() + 10.0
        while (left := watcher.run_on_scheduler(n_tasks)) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert left == 0


def test_when_all_workers_die_and_none_come_back_the_run_ends_with_an_error(cluster, prices, monkeypatch):
    both = cluster.have(2)

    def kill_all() -> None:
        for worker in both:
            cluster.kill_in_a_tile(worker)
        monkeypatch.setattr(compute, "_WORKERS_SECONDS", 2.0)

    lost = pytest.raises(WorkersError, match="all workers were lost")
    with lost as caught, workers(on(cluster.address)), within(20.0), meanwhile(kill_all):
        engle_granger_pairs(prices)
    assert f"dask worker {cluster.address}" in str(caught.value)


def test_workers_that_never_appear_are_not_waited_for_without_end(cluster, monkeypatch):
    cluster.have(0)
    monkeypatch.setattr(compute, "_WORKERS_SECONDS", 1.0)
    missing = pytest.raises(WorkersError, match="0 of 2 workers are there")
    with within(8.0), missing as caught, workers(on(cluster.address)):
        raise AssertionError("not reached")
    assert f"dask worker {cluster.address}" in str(caught.value)


def test_a_scheduler_that_is_killed_in_the_middle_ends_the_run_with_an_error(tmp_path, prices):
    with running_cluster(tmp_path) as cluster:
        (worker,) = cluster.have(1)

        def kill() -> None:
            cluster.wait_in_a_tile(worker)
            end(cluster.scheduler)

        lost = pytest.raises(WorkersError, match="the work was lost")
        with lost as caught, workers(on(cluster.address, 1)), within(20.0), meanwhile(kill):
            engle_granger_pairs(prices)
    assert cluster.address in str(caught.value)


@pytest.mark.parametrize("listens", [False, True])
def test_a_scheduler_that_does_not_answer_is_named_at_once(listens, monkeypatch):
    if listens:
        monkeypatch.setattr(compute, "_ANSWER_SECONDS", 1.0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if listens:
            listener.listen()  # and never says a word
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        silent = pytest.raises(WorkersError, match="no Dask scheduler can be reached")
        with within(10.0), silent as caught, workers(on(address)):
            raise AssertionError("not reached")
    assert address in str(caught.value)
    assert "dask scheduler" in str(caught.value)
    assert isinstance(caught.value, MNTradingError)


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    missing = pytest.raises(WorkersError, match=r"Dask is not installed[\s\S]*\.\[dask\]")
    with missing, workers(on("tcp://127.0.0.1:1")):
        raise AssertionError("not reached")


# --- processes and threads ---


def test_processes_give_the_same_bits_as_threads(prices, expected):
    with workers(ComputeParams(backend="loky", n_workers=2, scheduler=None)):
        found = engle_granger_pairs(prices, n_threads=2)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_process_that_is_killed_ends_the_run_with_an_error():
    ended = pytest.raises(WorkersError, match="one of 2 processes was ended")
    with ended as caught, workers(ComputeParams(backend="loky", n_workers=2, scheduler=None)):
        joblib.Parallel(n_jobs=2)(joblib.delayed(os._exit)(1) for _ in range(2))
    assert "n_workers=1" in str(caught.value)


def test_threads_are_what_joblib_is_told_and_only_while_the_block_runs(prices, expected):
    with workers(ComputeParams(backend="threading", n_workers=2, scheduler=None)):
        assert joblib.effective_n_jobs(None) == 2
        assert joblib.parallel.get_active_backend()[0].uses_threads
        found = engle_granger_pairs(prices, n_threads=2)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert joblib.effective_n_jobs(None) == 1


def test_a_slow_reader_is_not_run_away_from():
    taken: list[int] = []

    def arguments() -> Iterator[int]:
        for k in range(100):
            taken.append(k)
            yield k

    with joblib.parallel_config(backend="threading"):
        results = all_pairs._each_elsewhere(lambda values, k: values[0] + k, np.zeros(1), arguments(), 2)
        assert [next(results) for _ in range(8)] == list(range(8))
        time.sleep(0.05)
        assert len(taken) == 8
        assert list(results) == list(range(8, 100))


# --- parameters ---


@pytest.mark.parametrize(
    ("backend", "scheduler", "message"),
    [
        ("dask", None, "a scheduler is for backend: dask"),
        ("threading", "tcp://10.0.0.5:8786", "a scheduler is for backend: dask"),
        ("loky", "tcp://10.0.0.5:8786", "a scheduler is for backend: dask"),
        ("dask", "10.0.0.5:8786", "no address such as"),
        ("dask", "tcp://10.0.0.5", "no address such as"),
        ("dask", "tcp://10.0.0.5:0", "no address such as"),
        ("dask", "tcp://10.0.0.5:99999", "Port out of range"),
        ("dask", "tcp://10.0.0.5:8786/x", "no address such as"),
        ("dask", "tcp://me:secret@10.0.0.5:8786", "no address such as"),
        ("dask", "inproc://10.0.0.5:8786", "no address such as"),
        ("multiprocessing", None, "'threading', 'loky' or 'dask'"),
    ],
)
def test_a_backend_and_a_scheduler_that_do_not_belong_together_are_refused(backend, scheduler, message):
    with pytest.raises(ValidationError, match=message):
        ComputeParams(backend=backend, n_workers=2, scheduler=scheduler)


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:8786", "tls://dask.internal:8786", "tcp://[::1]:8786"])
def test_addresses_of_schedulers(address):
    assert ComputeParams(backend="dask", n_workers=1, scheduler=address).scheduler == address
