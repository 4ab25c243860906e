"""An API to try things on: in this process or in one of its own, with runs that are stood in for or real ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

with warnings.catch_warnings():  # the test client warns of what it is made with
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

from mntrading.apps.api.main import create_app
from mntrading.apps.api.settings import LOOPBACK, Settings
from mntrading.apps.api.store import Store

PROJECT: Final = Path(__file__).parents[3]
FAKE_RUN: Final = (sys.executable, str(Path(__file__).with_name("fake_run.py")))
REAL_RUN: Final = (sys.executable, "-m", "mntrading.apps.api.worker")
TOKEN: Final = "Zk3vQ9x_Lw7Tn2Rb8Yc5Hd1Js6Gf4Pm0a"  # noqa: S105 - of these tests alone
BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}


def settings(state: Path, **changes: Any) -> Settings:
    """Settings of an API on this project, the queue in a folder."""
    state.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = {
        "project": PROJECT,
        "env": "test",
        "token": TOKEN,
        "host": "127.0.0.1",
        "port": 8000,
        "allowed_hosts": frozenset({*LOOPBACK, "testserver"}),
        "allowed_origins": frozenset(),
        "state": state,
        "grace_seconds": 1.0,
    }
    return Settings(**known | changes)


def plan(state: Path, **what: Any) -> None:
    """What runs that are stood in for do."""
    state.mkdir(parents=True, exist_ok=True)
    (state / "fake.json").write_text(json.dumps(what))


def ran(state: Path) -> list[list[str]]:
    """What they have said they did, word by word."""
    file = state / "ran.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def until(done: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What ``done`` answers once it is true; fails when it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextmanager
def client_of(settings_: Settings, command: Sequence[str] = FAKE_RUN, **kwargs: Any) -> Iterator[TestClient]:
    """A client of an API in this process; the run that is left in the end is killed."""
    app = create_app(settings_, command)
    with TestClient(app, **kwargs) as client:
        yield client
    child = app.state.parts.jobs._child
    if child is not None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@dataclass
class ApiProcess:
    """An API in a process of its own, that can be killed and started again.

    Parameters
    ----------
    state
        Folder of its queue.
    environment
        Further variables of its environment.
    command
        What starts the process of a run.
    """

    state: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = FAKE_RUN
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **kwargs: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=BEARER, timeout=30.0, **kwargs)

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("fake_api.py")), str(self.state), str(self.port),
                 *self.command],
                stdout=log, stderr=subprocess.STDOUT, cwd=PROJECT, env={**os.environ, **self.environment},
            )  # fmt: skip
        until(self._answers, 60.0)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it, and the run it may have left."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        job = Store(self.state).running()
        if job is not None and job.pid is not None and alive(job.pid):
            os.killpg(job.pid, signal.SIGKILL)

    def said(self) -> str:
        return (self.state / "api.log").read_text()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the API ended with {self.process.returncode}: {self.said()[-2000:]}")
        try:
            return httpx.get(f"{self.url}/health", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False
