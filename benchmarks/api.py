"""Requests a second and 99th percentile of the API's read routes, beside a bare FastAPI route in the same run.

    make bench-api

Two servers with the same settings, each in a process of its own: the API on a finished project, with its guard, token,
headers and metrics; and an app of one route that returns a small constant. They are asked in turns, several rounds, by
``wrk`` where it is installed and by a driver in Python where it is not, over connections that stay open. Told are
medians over the rounds, and how many of the bare route's requests go into the time of one of each route's. The last
line has the figures; the exit code is 1 when a read of less than 100 kB takes more than twice the bare route's time
(``/runs`` and ``/artifacts``, which look at everything, are told and not judged), or answers other than 200.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[1]
TOKEN: Final = secrets.token_urlsafe(32)
ROUTES: Final = (
    "/health",
    "/orders/latest",
    "/positions",
    "/signals/latest",
    "/pairs",
    "/account",
    "/monitoring",
    "/champions",
    "/production",
    "/backtest/summary",
    "/equity",
    "/report/latest",
    "/artifacts/latest_orders",
    "/runs",
    "/artifacts",
)
WORST: Final = 2.0
_JUDGED: Final = ("/runs", "/artifacts")  # a query and a walk over everything: told, not judged
_LARGE: Final = 100_000
BARE: Final = """
import sys
import uvicorn
from fastapi import FastAPI
from mntrading.apps.api.__main__ import SERVER
app = FastAPI()
@app.get("/bare")
async def bare():
    return {"status": "alive"}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), **SERVER)
"""


@dataclass(frozen=True)
class Speed:
    """Requests a second, and the 99th percentile of the time to an answer in ms."""

    per_second: float
    p99_ms: float


def say(text: str) -> None:
    """Tell at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def server(command: Sequence[str], port: int, probe: str) -> Iterator[str]:
    """A server in a process of its own, once it answers."""
    environment = {**os.environ, "MNTRADING_API_TOKEN": TOKEN}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, *command], cwd=PROJECT, env=environment, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(300):
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(log.read().decode()[-2000:])
                try:
                    ask(url + probe)
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str) -> tuple[int, int]:
    """Status and length of one answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return answer.status, len(answer.read())


def wrk(url: str, seconds: float, connections: int) -> Speed:
    """Driven by wrk."""
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
        "-H", f"Authorization: Bearer {TOKEN}", url,
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    if bad:
        raise SystemExit(f"{url}: {bad[0]}")
    (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", said)
    ((value, unit),) = re.findall(r"99%\s+([\d.]+)(us|ms|s)", said)
    return Speed(float(rate), float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit])


async def _drive(url: str, seconds: float, connections: int) -> list[float]:
    _, _, rest = url.partition("://")
    address, _, path = rest.partition("/")
    host, _, port = address.partition(":")
    head = f"GET /{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    until, took = time.perf_counter() + seconds, []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{url}: {answer[:60]!r}")
            found = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            await reader.readexactly(int(found[1]) if found else 0)
            took.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return took


def driver(url: str, seconds: float, connections: int) -> Speed:
    """Driven from Python, which is slower than the servers are: ratios come out smaller than they are."""
    took = asyncio.run(_drive(url, seconds, connections))
    return Speed(len(took) / seconds, 1e3 * statistics.quantiles(took, n=100)[-1])


def prepared(root: Path, stored: Path | None) -> None:
    """A finished project at the storage root."""
    if stored is not None:
        shutil.copytree(stored, root)
        return
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipelines", "full_cycle"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def main() -> int:
    """Measure; 1 when a route is too slow or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="storage root of a finished project, to use a copy of")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    measure = wrk if shutil.which("wrk") else driver
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MNTRADING_STORAGE_ROOT"] = str(Path(folder) / "data")
        prepared(Path(folder) / "data", args.root)
        ports = free_port(), free_port()
        with (
            server(["-m", "mntrading.apps.api", "--port", str(ports[0]), "--env", "test"], ports[0], "/health") as api,
            server(["-c", BARE, str(ports[1])], ports[1], "/bare") as bare,
        ):
            sizes = {route: ask(api + route)[1] for route in ROUTES}
            found: dict[str, list[Speed]] = {route: [] for route in ("/bare", *ROUTES)}
            ratios: dict[str, list[float]] = {route: [] for route in ROUTES}
            for _ in range(args.rounds):
                for route in ROUTES:
                    base = measure(bare + "/bare", args.seconds / 2, args.connections)
                    speed = measure(api + route, args.seconds, args.connections)
                    found["/bare"].append(base)
                    found[route].append(speed)
                    ratios[route].append(base.per_second / speed.per_second)
    say(f"{'route':<26}{'bytes':>9}{'requests/s':>12}{'p99 ms':>9}{'ratio':>8}")
    for route, speeds in found.items():
        rate, p99 = (statistics.median(one) for one in zip(*((s.per_second, s.p99_ms) for s in speeds), strict=True))
        ratio = statistics.median(ratios[route]) if route in ratios else 1.0
        say(f"{route:<26}{sizes.get(route, 18):>9,}{rate:>12,.0f}{p99:>9.2f}{ratio:>8.2f}")
    judged = {
        route: statistics.median(ratios[route]) for route in ROUTES if sizes[route] < _LARGE and route not in _JUDGED
    }
    figures = {
        "driver": measure.__name__,
        "bare_per_s": round(statistics.median(one.per_second for one in found["/bare"])),
        "bare_p99_ms": round(statistics.median(one.p99_ms for one in found["/bare"]), 2),
        "median_ratio": round(statistics.median(judged.values()), 2),
        "worst_ratio": round(max(judged.values()), 2),
        "worst": max(judged, key=judged.__getitem__),
    }
    say(f"api: {json.dumps(figures)}")
    return int(max(judged.values()) > WORST)


if __name__ == "__main__":
    sys.exit(main())
