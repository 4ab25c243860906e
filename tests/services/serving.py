"""What every server of these tests has in common: a port of its own, a group of processes, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

STARTS_WITHIN: Final = 60.0


def free_ports(n: int) -> list[int]:
    """So many ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [found.getsockname()[1] for found in sockets]


def environment(**more: str) -> dict[str, str]:
    """The environment without what would send a server's own calls elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | more


def start(command: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a server in a process group of its own, its words in a log."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [str(part) for part in command], stdout=file, stderr=file, start_new_session=True, env=dict(env)
        )


def end(server: subprocess.Popen[bytes] | None, by: signal.Signals = signal.SIGKILL) -> None:
    """End a server's process group and wait for it."""
    if server is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, by)
    server.wait()


def wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path, *, seconds: float = STARTS_WITHIN) -> None:
    """Wait until a server listens.

    Raises
    ------
    RuntimeError
        It has ended, or does not listen in time; the end of its log stands in the message.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    said = log.read_text("utf-8", errors="replace")[-3000:]
    end(server)
    raise RuntimeError(f"{server.args!r} did not start:\n{said}")
