"""A Docker engine to test with: the one that runs, or one of its own; and a base image where none can be fetched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "mntrading-base:bookworm"
_TOOLS: Final = "Debian's packages docker.io, iptables and mmdebstrap, and Compose 2.24 as a plugin, are needed"
_SOURCES: Final = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")

# what python:3.11-slim-bookworm has, from packages; this machine's certificates, for whatever stands before its network
_BASE_FILE: Final = """
FROM mntrading-base:bare
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \\
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \\
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
RUN rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED && ln -sf /usr/bin/python3 /usr/local/bin/python
"""


class MissingError(Exception):
    """A tool the test needs and this machine has not."""


def call(*command: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says; with ``check`` what it said is in the error."""
    check = more.pop("check", True)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **more)
    if check and done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise RuntimeError(f"{' '.join(str(part) for part in command)} ended with {done.returncode}:\n{said}")
    return done


@contextlib.contextmanager
def running(root: Path) -> Iterator[None]:
    """An engine that answers; one that is started here keeps everything below ``root`` and is ended at the end.

    Raises
    ------
    MissingError
        Where there is no Docker, or no Compose.
    """
    if not shutil.which("docker"):
        raise MissingError(f"there is no docker on this machine: {_TOOLS}")
    if call("docker", "compose", "version", check=False).returncode:
        raise MissingError(f"docker has no compose plugin, 2.24 or newer: {_TOOLS}")
    if call("docker", "info", check=False).returncode == 0:
        yield
        return
    if not shutil.which("dockerd"):
        raise MissingError(f"no Docker engine answers and there is no dockerd to start: {_TOOLS}")
    root.mkdir(parents=True, exist_ok=True)
    command = [
        "dockerd",
        "--data-root",
        root / "data",
        "--exec-root",
        "/run/mntrading-docker",
        "--pidfile",
        root / "pid",
    ]
    with (root / "dockerd.log").open("ab") as log:
        engine = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 30
        while call("docker", "info", check=False).returncode:
            if engine.poll() is not None or time.monotonic() > until:
                raise MissingError(f"dockerd does not start: {(root / 'dockerd.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait()


def base_image(named: str) -> str:
    """The base image to build on: the one named where it is here or can be fetched, else one from packages."""
    for image in (named, BASE):
        if call("docker", "image", "inspect", image, check=False).returncode == 0:
            return image
    with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
        call("docker", "pull", "--quiet", named, timeout=120)
        return named
    if not shutil.which("mmdebstrap"):
        raise MissingError(f"{named} can't be fetched, and there is no mmdebstrap to make one: {_TOOLS}")
    source = next(path for path in _SOURCES if Path(path).exists())
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "base.tar"
        packages = "--include=ca-certificates,python3,python3-venv,python3-pip"
        call("mmdebstrap", "--variant=apt", "--mode=root", packages, "bookworm", tar, source)
        call("docker", "import", tar, "mntrading-base:bare")
        tar.unlink()
        shutil.copy(_CERTIFICATES, Path(folder) / "ca-certificates.crt")
        (Path(folder) / "Dockerfile").write_text(_BASE_FILE)
        call("docker", "build", "--quiet", "--tag", BASE, folder)
    return BASE


class Stack:
    """The compose project under test.

    Parameters
    ----------
    name
        Its name, which containers and volumes begin with.
    files
        Compose files, the later over the earlier.
    environment
        Variables that its files use.
    """

    def __init__(self, name: str, files: Sequence[Path], environment: Mapping[str, str]) -> None:
        self._command = ["docker", "compose", "--project-name", name, "--project-directory", str(PROJECT)]
        self._command += [part for file in files for part in ("--file", str(file))]
        self._environment = {**os.environ, **environment, "COMPOSE_PROGRESS": "plain"}

    def __call__(self, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of ``docker compose``."""
        environment = {**self._environment, **more.pop("environment", {})}
        return call(*self._command, *arguments, env=environment, cwd=PROJECT, **more)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a command of ``docker compose`` and leave it running."""
        command = [*self._command, *(str(part) for part in arguments)]
        return subprocess.Popen(
            command, env=self._environment, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )

    def container(self, service: str) -> str:
        """Id of a service's container."""
        return self("ps", "--all", "--quiet", service).stdout.strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        import json

        found: dict[str, Any] = json.loads(call("docker", "inspect", self.container(service)).stdout)[0]
        return found

    def kill(self, service: str) -> None:
        """Kill a service's first process with signal 9 from outside, so that it counts as having died."""
        os.kill(int(self.inspect(service)["State"]["Pid"]), signal.SIGKILL)

    def wait_healthy(self, service: str, *, restarts: int, within: float = 180.0) -> float:
        """Seconds until a service that has restarted so often is healthy."""
        begun = time.monotonic()
        while time.monotonic() < begun + within:
            found = self.inspect(service)
            if found["RestartCount"] >= restarts and found["State"].get("Health", {}).get("Status") == "healthy":
                return time.monotonic() - begun
            time.sleep(0.5)
        last = self("logs", "--tail", "30", service).stdout
        raise RuntimeError(f"{service} is not healthy {within:.0f} s after it was killed:\n{last}")


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
