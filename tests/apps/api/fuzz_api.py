"""The API under whatever can be sent to it, and killed while it works.

    make fuzz-api

One full cycle of the test environment, then, each against a real API in a process of its own:

- **schema**: schemathesis draws requests from the OpenAPI description, so many for every operation, right and wrong:
  no 5xx, every answer of a documented status, type and schema, wrong requests refused, nothing answered without the
  token;
- **traversal**: ways out of the storage root in names, partition ids, run ids and queries: no byte from outside, and
  what is answered is what is stored;
- **access**: every operation that changes something, without, with an empty and with a wrong token;
- **crowd**: 200 POSTs at once: every one a run, one at a time, none lost, all through to their end;
- **death**: the API killed with -9 in the middle of runs, with the run's process and without: right after the restart
  the queue is whole and every run is told as what it is;
- **real**: a short cycle through the API with the API killed in its middle: followed to its end; another one with its
  process killed too, told as killed; and the live files have the bytes of a cycle that nothing disturbed.

Runs but the real ones are stood in for by a process that does nothing. Each kind of check is first shown a mutant of
the API that it must find out. The last line has the figures; the exit code is 1 when anything is broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest import mock
from urllib.parse import unquote

import httpx
from api_harness import (
    BEARER,
    FAKE_RUN,
    PROJECT,
    REAL_RUN,
    TOKEN,
    ApiProcess,
    alive,
    client_of,
    plan,
    ran,
    settings,
    until,
)
from traversal import paths

from mntrading.apps.api.jobs import Jobs
from mntrading.apps.api.problems import Problem
from mntrading.apps.api.security import Guard
from mntrading.apps.api.store import Store
from mntrading.apps.catalog import ReadCatalog, Stored

CROWD: Final = 200
OUTSIDE: Final = "bytes from outside the storage root"
LIVE: Final = (
    "models/production_map.json",
    "signals/_position_state.json",
    "portfolio/latest_orders.json",
    "portfolio/paper_account.json",
)
_REAL_SECONDS: Final = 300.0
# a request of its schema may still be at odds with the environment's values, which only the API knows
_NOT_CHECKED: Final = "positive_data_acceptance"


@dataclass
class Figures:
    """What came of it."""

    requests: int = 0
    operations: int = 0
    least: int = 0
    server_errors: int = 0
    violations: int = 0
    payloads: int = 0
    outside: int = 0
    let_in: int = 0
    access: int = 0
    crowd: int = 0
    lost: int = 0
    at_once: int = 0
    deaths: int = 0
    untold: int = 0
    mutants: int = 0
    missed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """Invariants that did not hold."""
        return (
            self.server_errors + self.violations + self.outside + self.let_in + self.lost + self.untold
            + max(0, self.at_once - 1) + len(self.missed)
        )  # fmt: skip

    def line(self) -> str:
        """One line for people and logs."""
        return (
            f"fuzz-api: {self.requests} requests to {self.operations} operations (at least {self.least} each), "
            f"{self.server_errors} 5xx, {self.violations} schema violations; {self.payloads} traversal payloads, "
            f"{self.outside} bytes from outside; {self.access} requests without the token, {self.let_in} let in; "
            f"{self.crowd} POSTs at once, {self.at_once} run at a time, {self.lost} lost; {self.deaths} deaths, "
            f"{self.untold} untold; {self.mutants - len(self.missed)} of {self.mutants} mutants found out"
        )


def say(text: str) -> None:
    """Tell at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def served(folder: Path, command: Sequence[str] = FAKE_RUN, **what: Any) -> Iterator[ApiProcess]:
    """An API in a process of its own, its queue in a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    plan(folder, **what)
    process = ApiProcess(folder, command=command)
    process.start()
    try:
        yield process
    finally:
        process.stop()


# --- what may be sent -----------------------------------------------------------------------------------------


def schema(process: ApiProcess, figures: Figures, examples: int, seed: int, folder: Path) -> None:
    """Requests drawn from the description, and more of them where an operation has too few different ones."""
    report = folder / "schemathesis.json"
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{process.url}/openapi.json",
        "--header", f"Authorization: Bearer {TOKEN}", "--max-examples", str(examples), "--seed", str(seed),
        "--phases", "examples,coverage,fuzzing", "--checks", "all", "--exclude-checks", _NOT_CHECKED,
        "--workers", "2", "--continue-on-failure", "--no-shrink", "--warnings", "off", "--generation-database", "none",
        "--suppress-health-check", "all", "--report", "json", "--report-json-path", str(report), "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"schemathesis ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    told = json.loads(report.read_text())
    figures.violations += int(told["test_cases"]["unique_failures"]) + int(told["operations"]["errored"])
    if done.returncode:
        figures.violations = max(1, figures.violations)
        figures.notes.append(done.stdout[-6000:])
    with process.client() as client:
        described = client.get("/openapi.json").json()["paths"]
        operations = {(method.upper(), path) for path, methods in described.items() for method in methods}
        figures.operations = len(operations)
        _topped_up(client, figures, operations, described, examples, random.Random(seed))  # noqa: S311
        counts = _counts(client)
    figures.requests = sum(sum(by.values()) for by in counts.values())
    figures.least = min(sum(counts[one].values()) for one in operations)
    figures.server_errors = sum(
        count for (_, path), by in counts.items() for status, count in by.items() if status >= 500 and path != "/ready"
    )


def _topped_up(
    client: httpx.Client,
    figures: Figures,
    operations: Collection[tuple[str, str]],
    described: dict[str, Any],
    examples: int,
    rng: random.Random,
) -> None:
    """Requests with arbitrary queries and headers, to operations that the drawing had fewer different ones for."""
    counts = _counts(client)
    for method, path in sorted(operations):
        for _ in range(examples - sum(counts.get((method, path), {}).values())):
            drawn = (chr(rng.randrange(33, 0x2FF)) for _ in range(rng.randrange(2, 30)))
            text = "".join(drawn).replace("\x7f", "~")  # with a control character it is no HTTP, and never comes in
            headers = {rng.choice(["Accept", "If-None-Match", "Range", "Cookie", "X-Forwarded-For"]): text.encode()}
            answer = client.request(method, path.format(name="signals", partition="x", run_id="x", pipeline="promote"),
                                    params={text: text}, headers=headers)  # fmt: skip
            if str(answer.status_code) not in described[path][method.lower()]["responses"]:
                figures.violations += 1
                figures.notes.append(f"{method} {path}: {answer.status_code} is not documented")


_COUNT: Final = re.compile(
    r'mntrading_api_request_seconds_count\{method="(\w+)",route="([^"]+)",status="(\d+)"\} ([0-9.e+]+)'
)


def _counts(client: httpx.Client) -> dict[tuple[str, str], dict[int, int]]:
    """Answers by operation and status, as the API itself has counted them."""
    found: dict[tuple[str, str], dict[int, int]] = {}
    for method, route, status, count in _COUNT.findall(client.get("/metrics").text):
        found.setdefault((method, route.replace(":path}", "}")), {})[int(status)] = int(float(count))
    return found


def traversal(client: httpx.Client, figures: Figures, root: Path, n: int) -> None:
    """Ways out of the storage root."""
    canary = root.parent / "canary.txt"
    canary.write_text(OUTSIDE)
    inside = {_digest(file.read_bytes()) for file in root.rglob("*") if file.is_file()}
    marks = (OUTSIDE, "root:x:", "SQLite format", TOKEN, "[tool.kedro]")
    for path in paths(n):
        answer = client.get(path)
        figures.payloads += 1
        told = answer.content.decode("latin-1")
        from_outside = any(mark in told for mark in marks)
        if answer.status_code == 200 and not from_outside:
            listed = (
                path.startswith(("/artifacts/", "/parameters/"))
                and answer.headers["content-type"] == "application/json"
            )
            from_outside = _digest(answer.content) not in inside and not listed
        if from_outside or answer.status_code >= 500:
            figures.outside += 1
            figures.notes.append(f"{path}: {answer.status_code} {told[:100]}")


def access(client: httpx.Client, figures: Figures) -> None:
    """Operations that change something, without the token."""
    described = client.get("/openapi.json", headers=BEARER).json()["paths"]
    acting = [("GET", "/run/short_cycle_now")]
    acting += [(m.upper(), path) for path, methods in described.items() for m in methods if m not in ("get", "head")]
    tokens = (
        None,
        "",
        "Bearer",
        "Bearer x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}=",
        f"Basic {TOKEN}",
        TOKEN,
    )
    before = client.get("/runs", headers=BEARER).text
    for method, path in acting:
        for token in tokens:
            headers = {} if token is None else {"Authorization": token}
            answer = client.request(method, path.format(run_id="x"), headers=headers)
            figures.access += 1
            if answer.status_code != 401:
                figures.let_in += 1
                figures.notes.append(f"{method} {path} with {token!r}: {answer.status_code}")
    if client.get("/runs", headers=BEARER).text != before:
        figures.let_in += 1
        figures.notes.append("a run came of a request without the token")


# --- what may happen ------------------------------------------------------------------------------------------


def crowd(client: httpx.Client, figures: Figures, state: Path, n: int) -> None:
    """Many POSTs at once."""
    with ThreadPoolExecutor(n) as pool:
        answers = list(pool.map(lambda _: client.post("/run/reporting", headers=BEARER), range(n)))
    figures.crowd += n
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    figures.lost += n - len(ids)
    runs: list[dict[str, Any]] = []

    def over() -> bool:
        runs[:] = client.get(f"/runs?limit={min(1000, 5 * n)}", headers=BEARER).json()["runs"]
        return all(run["state"] not in ("queued", "running") for run in runs)

    with suppress(AssertionError):  # what is not through then counts as lost
        until(over, 10.0 + 2.0 * n)
    through = {run["id"] for run in runs if run["state"] == "finished"}
    figures.lost += len(ids - through)
    at_once = 0
    for what, *_ in ran(state):
        at_once += {"begin": 1, "end": -1}.get(what, 0)
        figures.at_once = max(figures.at_once, at_once)
    begun = [line[1] for line in ran(state) if line[0] == "begin"]
    if len(begun) != len(set(begun)):
        figures.lost += 1
        figures.notes.append("a run has begun twice")


def deaths(folder: Path, figures: Figures, n: int, rng: random.Random) -> None:
    """The API killed in the middle of runs that are stood in for; every other time the run's process too."""
    for turn in range(n):
        with served(folder, seconds=600.0) as process:
            with process.client() as client:
                ids = [client.post("/run/short_cycle").json()["id"] for _ in range(4)]
                time.sleep(rng.uniform(0.0, 0.6))  # before its process is there, before it has claimed its run, after
            process.kill()
            figures.deaths += 1
            job = Store(folder).running()
            dies = turn % 2 == 0 and job is not None and job.pid is not None
            if dies and job is not None:
                os.kill(int(job.pid or 0), signal.SIGKILL)
                until(lambda job=job: not alive(int(job.pid)))
            plan(folder)
            process.start()
            with process.client() as client:
                told = {run["id"]: run["state"] for run in client.get("/runs").json()["runs"]}
                _check(figures, sorted(told) == sorted(ids), f"runs {told} of {ids}")
                first, rest = told.get(ids[0]), [told.get(id_) for id_ in ids[1:]]
                _check(figures, first == "killed" if dies else first in ("running", "queued"), f"{dies}: {told}")
                _check(figures, set(rest) <= {"queued", "running", "finished"}, str(told))
                client.post(f"/runs/{ids[0]}/cancel")
                with suppress(AssertionError):
                    until(lambda: Store(folder).counts()["finished"] >= 3, 60.0)
                _check(figures, Store(folder).counts()["finished"] >= 3, f"the queue does not go on: {told}")
            begun = [line[1] for line in ran(folder) if line[0] == "begin"]
            _check(figures, len(begun) == len(set(begun)), "a run has begun twice")


def real(folder: Path, figures: Figures, root: Path) -> None:
    """Short cycles in earnest, the API killed in their middle."""
    with served(folder, REAL_RUN) as process:

        def begun(client: httpx.Client, id_: str) -> bool:
            return bool(client.get(f"/runs/{id_}").json()["step"])

        def ended(id_: str) -> str:
            def over() -> str | None:
                job = Store(folder).get(id_)
                return job.state if job is not None and job.ended else None

            return str(until(over, _REAL_SECONDS))

        with process.client() as client:
            usual = client.post("/run/short_cycle").json()["id"]
            _check(figures, ended(usual) == "finished", f"a short cycle ended as {Store(folder).get(usual)}")
            expected = _live(root)
            followed = client.post("/run/short_cycle").json()["id"]
            until(lambda: begun(client, followed), _REAL_SECONDS)
        process.kill()
        figures.deaths += 1
        process.start()
        with process.client() as client:
            now = client.get(f"/runs/{followed}").json()["state"]
            _check(figures, now in ("running", "finished"), f"right after the restart: {now}")
            _check(figures, ended(followed) == "finished", "the run that went on did not finish")
            dead = client.post("/run/short_cycle").json()["id"]
            until(lambda: begun(client, dead), _REAL_SECONDS)
        process.kill()
        figures.deaths += 1
        job = Store(folder).get(dead)
        os.killpg(int(job.pid or 0) if job else 0, signal.SIGKILL)
        until(lambda: not alive(int(job.pid or 0) if job else 0))
        process.start()
        with process.client() as client:
            now = client.get(f"/runs/{dead}").json()["state"]
            _check(figures, now == "killed", f"right after the restart: {now}")
            cancelled = client.post("/run/full_cycle").json()["id"]
            until(lambda: begun(client, cancelled), _REAL_SECONDS)
            client.post(f"/runs/{cancelled}/cancel")
            _check(figures, ended(cancelled) == "cancelled", "a full cycle was not cancelled")
            again = client.post("/run/short_cycle").json()["id"]
            _check(figures, ended(again) == "finished", f"the next cycle ended as {Store(folder).get(again)}")
        _check(figures, _live(root) == expected, "live files differ from those of an undisturbed cycle")


def _check(figures: Figures, good: bool, what: str) -> None:
    if not good:
        figures.untold += 1
        figures.notes.append(what)


def _live(root: Path) -> dict[str, str]:
    return {name: _digest((root / name).read_bytes()) for name in LIVE}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- whether broken APIs are found out ------------------------------------------------------------------------


def blind_spots(folder: Path, root: Path, figures: Figures) -> None:
    """Mutants of the API that the checks have to find out."""
    state = folder / "mutant"

    def mutant(what: str, found: Callable[[httpx.Client, Figures], int], *patches: Any) -> None:
        shutil.rmtree(state, ignore_errors=True)
        plan(state)
        figures.mutants += 1
        own = Figures()
        with ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            client = stack.enter_context(client_of(settings(state, max_failures=10_000), raise_server_exceptions=False))
            if not found(client, own):
                figures.missed.append(what)

    def by_path(self: ReadCatalog, name: str, id_: str) -> Stored:
        data = (root / "signals" / unquote(id_)).read_bytes()
        return Stored(data, "0", datetime.now(UTC), "text/plain")

    def accessed(client: httpx.Client, own: Figures) -> int:
        access(client, own)
        return own.let_in

    def walked(client: httpx.Client, own: Figures) -> int:
        client.headers.update(BEARER)
        traversal(client, own, root, 500)
        return own.outside

    def crowded(client: httpx.Client, own: Figures) -> int:
        plan(state, seconds=0.1)
        crowd(client, own, state, 10)
        return int(own.at_once > 1 or own.lost)

    def hasty(self: Jobs) -> bool:
        for job in self.store.recent(100, "queued"):
            with self.store._change() as change:
                change.execute("DROP INDEX IF EXISTS one_runs")
                change.execute("UPDATE runs SET state = 'running', attempt = 1 WHERE id = ?", (job.id,))
            self._spawn(replace(job, attempt=1))
        return True

    empty = mock.patch.object(Guard, "_unauthorized", lambda *given: None if given[2] else _UNAUTHORIZED)
    mutant("an empty token passes", accessed, empty)
    mutant("a partition is read by its path", walked, mock.patch.object(ReadCatalog, "partition", by_path))
    mutant("runs begin at once", crowded, mock.patch.object(Jobs, "step", hasty))


_UNAUTHORIZED: Final = Problem(401, "unauthorized", "needs a token")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all of it; 1 if anything is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--examples", type=int, default=500, help="requests for every operation")
    parser.add_argument("--deaths", type=int, default=10, help="APIs killed in the middle of a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="storage root of a finished cycle of --env test, to use a copy of")
    options = parser.parse_args(arguments)
    figures, began = Figures(), time.monotonic()
    rng = random.Random(options.seed)  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="fuzz-api-") as place:
        folder, root = Path(place), Path(place) / "data"
        os.environ.update({"MNTRADING_STORAGE_ROOT": str(root), "DO_NOT_TRACK": "1"})
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        _prepare(root, options.root)
        blind_spots(folder, root, figures)
        with served(folder / "schema", seconds=600.0) as process, process.client() as client:
            schema(process, figures, options.examples, options.seed, folder)
            say(f"schema: {time.monotonic() - began:.0f} s")
            traversal(client, figures, root, 500)
            client.headers.pop("Authorization")
            access(client, figures)
        with (
            served(folder / "crowd") as process,
            httpx.Client(base_url=process.url, timeout=120.0, limits=_MANY) as many,
        ):
            crowd(many, figures, process.state, CROWD)
        say(f"crowd: {time.monotonic() - began:.0f} s")
        deaths(folder / "deaths", figures, options.deaths, rng)
        say(f"deaths: {time.monotonic() - began:.0f} s")
        real(folder / "real", figures, root)
    for note in figures.notes[:20]:
        say(note)
    for missed in figures.missed:
        say(f"NOT FOUND OUT: {missed}")
    say(f"{figures.line()}; {time.monotonic() - began:.0f} s{'; BROKEN' if figures.broken else ''}")
    return int(bool(figures.broken))


_MANY: Final = httpx.Limits(max_connections=CROWD)


def _prepare(root: Path, stored: Path | None) -> None:
    """A finished full cycle at the storage root."""
    if stored is not None:
        shutil.copytree(stored, root)
        return
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipelines", "full_cycle"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    if done.returncode:
        raise RuntimeError(f"the full cycle ended with {done.returncode}: {done.stderr[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
