"""A Dask cluster's processes on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DASK = Path(sys.executable).with_name("dask")


def run_dask(options: list[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True)
    with (folder / "said.log").open("wb") as said:
        no_pages = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        # a result that died with its worker is asked for this long before the task is done again
        environment = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
        return subprocess.Popen([DASK, *options, *no_pages], stdout=said, stderr=said, cwd=folder, env=environment)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def start_scheduler(folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Address and process, on a port that was free."""
    where = folder / "scheduler" / "scheduler.json"
    process = run_dask(
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(where)], where.parent
    )
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        if where.exists() and (text := where.read_text()):
            return json.loads(text)["address"], process
        time.sleep(0.05)
    end(process)
    raise AssertionError((where.parent / "said.log").read_text())


@contextmanager
def workers_at(folder: Path, n: int) -> Iterator[str]:
    """Address of a scheduler with so many workers of one thread, each a process."""
    address, scheduler = start_scheduler(folder)
    workers = []
    try:
        for number in range(n):
            place = folder / f"worker-{number}"
            options = ["worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny"]
            workers.append(run_dask([*options, "--local-directory", str(place)], place))
        yield address
    finally:
        for process in (*workers, scheduler):
            end(process)
