"""The whole of full and short cycle on real services, faults of each of them, kills, and many starts at once.

    python tests/services/services.py                  everything; some ten minutes
    python tests/services/services.py --parts starts   the race for the lease alone

Ends with one line of figures, and with exit code 1 where an invariant does not hold: the bytes of a run on S3 are those
of a run on files; a fault ends a run in words, in time and with exit code 1, or not at all; the run after it leaves the
bytes of a run that nothing disturbed; of many starters one wins; who lost the lease writes nothing more.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import ceph
import postgres
import saves
import swift
from ceph import Ceph
from faulty import Fault
from running import LONGEST, PROJECT, Findings, Project, data, difference, finish, say
from serving import environment
from stack import BUCKET, Stack
from starts import race

PARTS: Final = ("cycles", "faults", "killed", "fenced", "starts")
TTL: Final = 40.0


# --- parts --------------------------------------------------------------------------------------------------


class Services:
    """The stack, the project on it, and what a run of it leaves when nothing disturbs it."""

    def __init__(self, work: Path, findings: Findings, store: Any) -> None:
        self.work, self.findings = work, findings
        self.stack = Stack(work / "stack", store)
        self.conf = work / "conf"
        shutil.copytree(PROJECT / "conf", self.conf)
        for file in (self.conf / "test").glob("parameters*.yml"):
            shutil.copy(file, self.conf / "minio")
        self.place = f"s3://{BUCKET}/cycles"
        self.expected: dict[str, str] = {}
        self.requests = self.asked = 0
        self.project: Project

    def start(self) -> None:
        """Start everything."""
        self.stack.start()
        env = self.stack.environment("cycles") | {"MNTRADING_LEASE_TTL_SECONDS": str(TTL)}
        self.project = Project(self.conf, environment(**env), "minio")
        os.environ.update(self.stack.store.environment | {"NO_PROXY": "127.0.0.1"})
        self.findings.figures["on"] = f"{self.stack.store.version}, {self.stack.postgres.version}, MLflow; run"

    def cycles(self) -> None:
        """Both cycles on files and on S3: the same bytes."""
        files = self.work / "files"
        env = environment(MNTRADING_STORAGE_ROOT=str(files), DO_NOT_TRACK="1")
        env.pop("MLFLOW_TRACKING_URI", None)
        local = Project(self.conf, env, "test")
        seconds = {}
        for project in (local, self.project):
            for cycle in ("full_cycle", "short_cycle"):
                before = self.stack.s3_way.requests, self.stack.mlflow_way.requests
                ended = project.run(cycle)
                say(f"{cycle} --env {project.name}: exit code {ended.code} after {ended.seconds:.0f} s")
                self.findings.hold(ended.code == 0, f"{cycle} --env {project.name} ended with {ended.text[-1500:]}")
                seconds[project.name, cycle] = ended.seconds
                self.requests = self.stack.s3_way.requests - before[0]
                self.asked = self.stack.mlflow_way.requests - before[1]
        self.expected = data(self.place)
        differ = difference(self.expected, data(str(files)))
        self.findings.hold(not differ, f"S3 against files: {differ}")
        self.findings.hold(len(self.expected) > 50, f"only {len(self.expected)} artefacts on S3")
        self.findings.figures["artefacts with the bytes of files"] = len(self.expected)
        self.findings.figures["s for the full and short cycle on S3 (files)"] = " + ".join(
            f"{seconds['minio', cycle]:.0f} ({seconds['test', cycle]:.0f})" for cycle in ("full_cycle", "short_cycle")
        )
        self._tracked()

    def _tracked(self) -> None:
        """Runs have ended in MLflow; their artefacts come through the server, for a client without keys."""
        from mlflow import MlflowClient

        hidden = {name: os.environ.pop(name) for name in tuple(os.environ) if name.startswith("AWS_")}
        os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"
        try:
            client = MlflowClient(self.stack.mlflow.uri)
            experiment = client.get_experiment_by_name("mntrading")
            found = client.search_runs([experiment.experiment_id], max_results=1000)
            self.findings.hold({run.info.status for run in found} == {"FINISHED"}, "a run stands open in MLflow")
            versions = client.search_model_versions()
            self.findings.hold(bool(versions), "no model is registered")
            for version in versions[:3]:
                text = client.download_artifacts(version.run_id, "model/MLmodel", str(self.work))
                self.findings.hold("mntrading" in Path(text).read_text(), "an artefact is not what was logged")
            self.findings.figures["runs in MLflow"] = len(found)
        finally:
            os.environ.update(hidden)

    def reference(self) -> None:
        """What the parts that disturb runs begin with, where the cycles were not asked for."""
        if not self.expected:
            for cycle in ("full_cycle", "short_cycle"):
                before = self.stack.s3_way.requests, self.stack.mlflow_way.requests
                ended = self.project.run(cycle)
                self.findings.hold(ended.code == 0, f"{cycle} ended with {ended.text[-1500:]}")
                self.requests = self.stack.s3_way.requests - before[0]
                self.asked = self.stack.mlflow_way.requests - before[1]
            self.expected = data(self.place)

    def faults(self) -> None:
        """Every fault in the middle of a short cycle, and the run after it."""
        self.reference()
        for case in self._cases():
            case.begin()
            ended = self.project.run("short_cycle", params=case.params)
            hits = case.hits()
            case.end()
            said = ended.message or ("done" if ended.code == 0 else ended.text[-300:])
            say(f"{case.name:<34} exit {ended.code} {ended.seconds:5.1f} s {hits:3d} hits  {said[:150]}")
            self.findings.hold(hits > 0, f"{case.name}: no request was hit")
            self.findings.hold(ended.code in case.codes, f"{case.name}: exit code {ended.code}: {ended.text[-1500:]}")
            self.findings.hold("Traceback" not in ended.text, f"{case.name}: a traceback: {ended.text[-3000:]}")
            self.findings.hold(ended.code == 0 or bool(ended.message), f"{case.name}: no message")
            self.findings.hold(ended.seconds < LONGEST, f"{case.name}: took {ended.seconds:.0f} s")
            again = self.project.run("short_cycle", patience=TTL * 2)
            self.findings.hold(again.code == 0, f"after {case.name}: {again.text[-1500:]}")
            differ = difference(data(self.place), self.expected)
            self.findings.hold(not differ, f"after {case.name}: {differ}")
            self.findings.figures["faults"] = int(self.findings.figures.get("faults", 0)) + 1
        self._nothing_open()

    def _cases(self) -> Iterable[Case]:
        s3, mlflow, half = self.stack.s3_way, self.stack.mlflow_way, self.requests // 2
        puts = ("PUT",)
        for name, fault, codes in (
            ("S3 down from the middle on", Fault("down", after=half), {1}),
            ("S3 down for two requests", Fault("down", after=half, times=2), {0}),
            ("S3 slow", Fault("slow", seconds=0.1), {0}),
            ("S3 answers 403", Fault("403", after=half), {1}),
            ("S3 answers 503 twice", Fault("503", after=half, times=2), {0}),
            ("S3 answers 503", Fault("503", after=half), {1}),
            ("S3 resets one write", Fault("reset", after=8, methods=puts, times=1), {0}),
            ("S3 resets every write", Fault("reset", after=8, methods=puts), {1}),
            ("S3 cuts one answer", Fault("truncate", after=half // 4, methods=("GET",), times=1), {0, 1}),
        ):
            yield Case(name, codes, lambda fault=fault: s3.fail(fault), lambda: s3.failed, lambda: s3.fail(Fault()))
        for name, fault, codes in (
            ("MLflow down before the run", Fault("down"), {1}),
            ("MLflow down in the middle", Fault("down", after=self.asked // 2), {1}),
            ("MLflow answers 503 once", Fault("503", after=self.asked // 2, times=1), {0}),
        ):
            yield Case(
                name, codes, lambda fault=fault: mlflow.fail(fault), lambda: mlflow.failed, lambda: mlflow.fail(Fault())
            )
        yield Case(
            "MLflow down, tracking=off",
            {0},
            lambda: mlflow.fail(Fault("down")),
            lambda: 1 if mlflow.failed == 0 else 0,  # nobody asked it
            lambda: mlflow.fail(Fault()),
            params="tracking=off",
        )
        yield Case("PostgreSQL killed and started", {0, 1}, self._restart_later, lambda: self._restarted, self._joined)

    def _restart_later(self) -> None:
        import threading

        self._restarted = 0
        first = self.stack.mlflow_way.requests + self.asked // 2

        def restart() -> None:
            until = time.monotonic() + LONGEST
            while self.stack.mlflow_way.requests < first and time.monotonic() < until:
                time.sleep(0.02)
            self.stack.postgres.kill()
            self._restarted = 1
            time.sleep(1.0)
            self.stack.postgres.start()

        self._thread = threading.Thread(target=restart)
        self._thread.start()

    def _joined(self) -> None:
        self._thread.join()
        until = time.monotonic() + 60
        while self.stack.mlflow.status() != 200 and time.monotonic() < until:
            time.sleep(0.2)

    def _nothing_open(self) -> None:
        """No run stands open in MLflow once a run has gone through."""
        from mlflow import MlflowClient

        client = MlflowClient(self.stack.mlflow.uri)
        experiment = client.get_experiment_by_name("mntrading")
        found = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        self.findings.hold(not found, f"{len(found)} runs stand open in MLflow")

    def killed(self) -> None:
        """A run killed in its middle: the next one is refused until its time is up, then finishes."""
        self.reference()
        run = self._in_the_middle()
        run.kill()
        finish(run)
        refused = self.project.run("short_cycle")
        holder = re.search(r"run (\S+) \(short_cycle", refused.text)
        self.findings.hold(
            refused.code == 1 and holder is not None, f"start beside a killed run: {refused.text[-800:]}"
        )
        again = self.project.run("short_cycle", patience=TTL * 2)
        self.findings.hold(again.code == 0, f"after a kill: {again.text[-1500:]}")
        differ = difference(data(self.place), self.expected)
        self.findings.hold(not differ, f"after a kill: {differ}")
        self._nothing_open()
        if holder is not None:
            self._ended_as_killed(holder[1])
        self.findings.figures["killed run followed"] = 1

    def _ended_as_killed(self, run_id: str) -> None:
        from mlflow import MlflowClient

        name = f"runs/history/{run_id.replace(':', '')}.json"
        record = json.loads(saves.files(self.place).get(name, b"{}"))
        self.findings.hold(record.get("status") == "killed", f"{name} says {record.get('status')}")
        client = MlflowClient(self.stack.mlflow.uri)
        experiment = client.get_experiment_by_name("mntrading")
        found = client.search_runs([experiment.experiment_id], f"tags.`mntrading.run_id` = '{run_id}'")
        told = {one.info.status for one in found}
        self.findings.hold(told <= {"KILLED", "FINISHED"} and "KILLED" in told, f"MLflow says {told} of {run_id}")

    def fenced(self) -> None:
        """A run that sleeps past its time and wakes up beside the one that followed it writes nothing more."""
        self.reference()
        run = self._in_the_middle()
        run.send_signal(signal.SIGSTOP)
        other = self.project.run("short_cycle", patience=TTL * 2)
        self.findings.hold(other.code == 0, f"beside a sleeping run: {other.text[-1500:]}")
        before = saves.tree(self.place)
        run.send_signal(signal.SIGCONT)
        woken = finish(run)
        after = saves.tree(self.place)
        self.findings.hold(woken.code == 1 and "lost the lease" in woken.text, f"the woken run: {woken.text[-1500:]}")
        self.findings.hold(before == after, f"the woken run wrote: {difference(after, before)}")
        differ = difference(data(self.place), self.expected)
        self.findings.hold(not differ, f"after a woken run: {differ}")
        self.findings.figures["woken run fenced"] = 1

    def _in_the_middle(self) -> subprocess.Popen[str]:
        """A short cycle that has its lease, its run in MLflow, and half of its requests behind it."""
        first = self.stack.s3_way.requests + self.requests // 2
        run, until = self.project.start("short_cycle"), time.monotonic() + LONGEST
        while self.stack.s3_way.requests < first and run.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        self.findings.hold(run.poll() is None, "a run ended before its middle")
        return run


@dataclass(frozen=True)
class Case:
    """A fault: how it begins, how often it hit, how it ends, and how the run may end."""

    name: str
    codes: set[int]
    begin: Callable[[], None]
    hits: Callable[[], int]
    end: Callable[[], None]
    params: str = ""


def starts(findings: Findings, server: Any, n: int) -> None:
    """Many starts at once on one store, three times with an orderly end and once after a killed winner."""
    server.create_bucket("starts")
    keys = server.environment
    credentials = {
        "endpoint_url": keys["S3_ENDPOINT_URL"],
        "key": keys["AWS_ACCESS_KEY_ID"],
        "secret": keys["AWS_SECRET_ACCESS_KEY"],
        "client_kwargs": {"region_name": "us-east-1"},
    }
    mode = "strict" if isinstance(server, Ceph) else "settled"
    ttl, slowest = 60.0, 0.0
    for number in range(4):
        if number == 3:
            time.sleep(ttl)  # the winner before was killed
        outcome = race(n, "s3://starts/root", credentials, mode, ttl=ttl, kill=number == 2, tag=f"round{number}-")
        slowest = max(slowest, outcome.seconds)
        say(
            f"{n} starts on {server.version} ({mode}): {len(outcome.winners)} won, {outcome.refused} refused, "
            f"{len(outcome.errors)} errors, {outcome.seconds:.1f} s"
        )
        for broken in outcome.broken:
            findings.hold(False, f"{n} starts on {server.version}: {broken}")
    findings.figures[f"times {n} starts on {server.version} ({mode}) with one winner, at most {slowest:.1f} s"] = 4


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--store", choices=("swift", "ceph"), default="swift", help="what the cycles run on")
    chosen = parser.parse_args()
    parts = chosen.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}")
    missing = [said for there, said in _needs(parts, chosen.store) if not there]
    if missing:
        sys.stderr.write("\n".join(f"services: {said}" for said in missing) + "\n")
        return 1
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        work.chmod(0o755)
        if set(parts) - {"starts"}:
            (work / "stack").mkdir()
            store = Ceph(work / "ceph") if chosen.store == "ceph" else None
            services = Services(work, findings, store)
            try:
                services.start()
                for part in parts:
                    if part != "starts":
                        say(part)
                        getattr(services, part)()
                if "starts" in parts and chosen.store == "swift":
                    starts(findings, services.stack.store, chosen.starts)
            finally:
                services.stack.kill()
        if "starts" in parts and ceph.installed():
            server = Ceph(work / "starts")
            try:
                server.start()
                starts(findings, server, chosen.starts)
            finally:
                server.kill()
        elif "starts" in parts:
            say(ceph.ADVICE)
            findings.figures["starts on Ceph, which is not installed"] = 0
    sys.stdout.write(findings.line() + "\n")
    return 1 if findings.broken else 0


def _needs(parts: list[str], store: str) -> list[tuple[bool, str]]:
    cycles = bool(set(parts) - {"starts"})
    return [
        (not cycles or store != "swift" or swift.installed(), "no S3 server is installed: make .services/swift/.ready"),
        (not cycles or postgres.binaries() is not None, postgres.Postgres.ADVICE),
        (store != "ceph" or ceph.installed(), ceph.ADVICE),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
