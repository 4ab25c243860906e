"""The compose stack on a real Docker engine: built, started, used, killed, and held against what it promises.

    make test-compose

The image is built from a base that is fetched or, where there is no network to fetch from, made of packages. Swift
stands in for MinIO's image and the distribution's PostgreSQL for the official one (``tests/deploy/standins``); all
else is docker-compose.yml as it is. In turn,

- known default passwords are refused before anything starts;
- every service gets healthy, runs as a user with no rights to gain on a file system it can't write, and listens on
  this machine alone; no secret is in any layer of the image, those that lie in files beside its sources neither;
- the eleven steps of the quick start run in the ``app`` service, on small parameters, stored in the object store and
  tracked by the MLflow server;
- a step is killed at its half and run again: the same bytes;
- the API lets nobody in without its token, serves the very orders of the object store, and runs a short cycle to its
  end; the dashboard answers;
- every service is killed with signal 9 in turn, and is healthy again by itself with everything it kept.

The last line has the figures; the exit code is 1 when anything is broken.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
from engine import PROJECT, MissingError, Stack, base_image, call, running, say
from layers import traces

from mntrading.containers.environment import filled

STEPS: Final = (
    "ingest", "screen", "features", "dataset", "train", "backtest", "select", "promote", "inference", "aggregate",
    "report",
)  # fmt: skip
PORTS: Final = ("MINIO_PORT", "MINIO_CONSOLE_PORT", "MLFLOW_PORT", "API_PORT", "STREAMLIT_PORT", "SEAWEEDFS_PORT")
IMAGE: Final = "mntrading:test"
ONCE: Final = ("preflight", "setup-minio")
KILLED_STEP: Final = "features"

# run in the app service: every object of the bucket but run records and leases, by name, with the hash of its bytes
_OBJECTS: Final = """
import hashlib, json, os, sys
from mntrading.containers.buckets import Buckets
client = Buckets.of_environment().client
found = {}
for page in client.get_paginator("list_objects_v2").paginate(Bucket=sys.argv[1]):
    for entry in page.get("Contents", ()):
        if not entry["Key"].startswith(("runs/", ".lease/")):
            body = client.get_object(Bucket=sys.argv[1], Key=entry["Key"])["Body"].read()
            found[entry["Key"]] = hashlib.sha256(body).hexdigest()
json.dump(found, sys.stdout)
"""

# what the MLflow server keeps: runs by status, registered models with their aliases
_TRACKED: Final = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=5000)
models = {m.name: sorted(m.aliases.items()) for m in client.search_registered_models()}
artifacts = sum(len(client.list_artifacts(run.info.run_id)) for run in runs[:3])
json.dump({"runs": sorted(r.info.run_id for r in runs), "models": models, "artifacts": artifacts}, sys.stdout)
"""


# a step by two workers of a cluster in the container: the image has what they need
_BY_DASK: Final = f"""
cd /tmp
dask scheduler --host 127.0.0.1 --port 8786 --no-dashboard & scheduler=$!
dask worker tcp://127.0.0.1:8786 --host 127.0.0.1 --nworkers 2 --nthreads 1 --no-dashboard & workers=$!
cd /app
export MNTRADING_COMPUTE_BACKEND=dask MNTRADING_COMPUTE_SCHEDULER=tcp://127.0.0.1:8786
kedro run --tags {KILLED_STEP}
code=$?
kill $workers $scheduler
wait
exit $code
"""


class BrokenError(Exception):
    """Something the stack promises did not hold."""


class Trial:
    """One stack under test, and the figures of it."""

    def __init__(self, stack: Stack, environment: dict[str, str]) -> None:
        self.stack, self.environment = stack, environment
        self.figures: dict[str, str] = {}
        self.long_running = ["minio", "postgres", "mlflow", "app", *_apps()]

    def build(self) -> None:
        """The image, and the stand-ins, with secrets lying about where they usually do."""
        begun = time.monotonic()
        hidden = secrets.token_hex(16)
        beside = [PROJECT / f".env.{hidden[:8]}", PROJECT / "conf" / "local" / f"credentials_{hidden[:8]}.yml"]
        try:
            for path in beside:
                path.write_text(f"canary: {hidden}\n")
            self.stack("build", "minio", "postgres", "app", timeout=3600)
        finally:
            for path in beside:
                path.unlink(missing_ok=True)
        wanted = [hidden, *(value for name, value in self.environment.items() if _is_secret(name))]
        found = traces(IMAGE, wanted)
        _hold(not found, f"the image's layers hold secrets: {found[:10]}")
        self.figures["secrets searched for in its layers"] = f"{len(wanted)}, 0 found"
        size = int(call("docker", "image", "inspect", "--format", "{{.Size}}", IMAGE).stdout)
        base = int(call("docker", "image", "inspect", "--format", "{{.Size}}", self.environment["PYTHON_IMAGE"]).stdout)
        self.figures["image"] = f"{size / 1e9:.2f} GB, {(size - base) / 1e9:.2f} of them above its base"
        self.figures["built in"] = f"{time.monotonic() - begun:.0f} s"

    def refuse_defaults(self) -> None:
        """With a known password nothing but the check may have been started."""
        for name, value in (("MINIO_ROOT_PASSWORD", "minioadmin"), ("POSTGRES_PASSWORD", "adminadmin")):
            done = self.stack("up", "--detach", "--wait", "minio", environment={name: value}, check=False)
            said = self.stack("logs", "--no-color", "preflight", environment={name: value}).stdout
            ran = [
                s for s in self.long_running if self.stack.container(s) and self.stack.inspect(s)["State"]["Running"]
            ]
            self.stack("down", "--volumes", "--timeout", "1")
            _hold(done.returncode != 0 and not ran, f"{name}={value} was not refused: {ran} runs")
            _hold(name in said and value not in said.replace(name, ""), f"{name} refused without saying so:\n{said}")

    def up(self) -> None:
        """Everything that this checkout has, healthy."""
        begun = time.monotonic()
        self.stack("up", "--detach", "--wait", "minio", "setup-minio", "mlflow", *_apps(), "app", timeout=600)
        self.figures["up in"] = f"{time.monotonic() - begun:.0f} s"

    def inspect(self) -> None:
        """What a service may do, and what an image tells."""
        for service in (*self.long_running, *ONCE):
            found = self.stack.inspect(service)
            host, config = found["HostConfig"], found["Config"]
            _hold(host["ReadonlyRootfs"], f"{service}: its root file system can be written")
            _hold(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{service}: keeps capabilities")
            _hold("no-new-privileges:true" in host["SecurityOpt"], f"{service}: may gain privileges")
            _hold(config["User"] not in ("", "0", "root"), f"{service}: runs as root")
            for port, bound in (host["PortBindings"] or {}).items():
                _hold(all(b["HostIp"] == "127.0.0.1" for b in bound), f"{service}: {port} is open to the network")
        told = call("docker", "history", "--no-trunc", IMAGE).stdout + call("docker", "image", "inspect", IMAGE).stdout
        kept = [name for name, value in self.environment.items() if _is_secret(name) and value in told]
        _hold(not kept, f"the image knows {kept}")
        self._app("test", "!", "-e", "/app/.env")

    def quick_start(self) -> None:
        """The eleven steps; one of them is killed at its half first."""
        took = {}
        for step in STEPS:
            begun = time.monotonic()
            if step == KILLED_STEP:
                self._kill_step(step, after=took["screen"] / 4)
            self._app("kedro", "run", "--tags", step, timeout=1800)
            took[step] = time.monotonic() - begun
            say(f"  {step}: {took[step]:.0f} s")
        self.figures["eleven steps in"] = f"{sum(took.values()):.0f} s"
        before = self.objects("MINIO_BUCKET")
        for name in ("pairs/roster.json", "models/production_map.json", "portfolio/latest_orders.json"):
            _hold(name in before, f"{name} is not in the bucket")
        for way, command in (("again", ("kedro", "run", "--tags", KILLED_STEP)), ("by Dask", ("sh", "-c", _BY_DASK))):
            self._app(*command, timeout=1800)
            after = self.objects("MINIO_BUCKET")
            _hold(before == after, f"run {way}, {KILLED_STEP} changed {_difference(before, after)}")
        self.figures["objects"] = str(len(before))

    def use_apps(self) -> None:
        """API and dashboard, as whoever is on this machine."""
        token = {"Authorization": f"Bearer {self.environment['MNTRADING_API_TOKEN']}"}
        api, dashboard = (f"http://127.0.0.1:{self.environment[f'{name}_PORT']}" for name in ("API", "STREAMLIT"))
        orders = "portfolio/latest_orders.json"
        with httpx.Client(base_url=api, timeout=60.0) as client:
            for method, path in (("GET", "/orders/latest"), ("POST", "/run/short_cycle")):
                _hold(client.request(method, path).status_code == 401, f"{method} {path} needs no token")
            ready = client.get("/ready", headers=token)
            _hold(ready.status_code == 200, f"the API is not ready: {ready.text}")
            begun = time.monotonic()
            told = client.post("/run/short_cycle", headers=token).json()
            while not told.get("finished_at"):
                _hold("id" in told and time.monotonic() < begun + 600, f"the API's short cycle does not end: {told}")
                time.sleep(2)
                told = client.get(f"/runs/{told['id']}", headers=token).json()
            _hold(told["state"] == "finished", f"the API's short cycle: {told}")
            self.figures["a short cycle by the API in"] = f"{time.monotonic() - begun:.0f} s"
            served = hashlib.sha256(client.get("/orders/latest", headers=token).content).hexdigest()
            _hold(served == self.objects("MINIO_BUCKET")[orders], "the API serves other orders than are stored")
        page = httpx.get(dashboard, timeout=60.0)
        _hold(page.status_code == 200 and "<title>" in page.text, f"the dashboard: {page.status_code}")

    def kill_all(self) -> None:
        """Each service in turn, with all that is kept before and after."""
        before = self.kept()
        _hold(bool(before["runs"]) and bool(before["MLFLOW_BUCKET"]), "MLflow has no runs or no artefacts to keep")
        took = {}
        for service in self.long_running:
            restarts = self.stack.inspect(service)["RestartCount"] + 1
            self.stack.kill(service)
            took[service] = self.stack.wait_healthy(service, restarts=restarts)
            if service == "app":
                self._app("true")
            after = self.kept()
            changed = [name for name in before if before[name] != after[name]]
            _hold(not changed, f"{service} killed: {changed} changed, {_difference(before, after)}")
            say(f"  {service} killed, healthy after {took[service]:.0f} s, nothing lost")
        self.figures["killed -9"] = f"{len(took)} services, healthy again within {max(took.values()):.0f} s"
        self.figures["runs tracked"] = str(len(before["runs"]))

    def objects(self, bucket: str) -> dict[str, str]:
        """Hash of everything in a bucket."""
        found: dict[str, str] = json.loads(self._app("python", "-c", _OBJECTS, self.environment[bucket]).stdout)
        return found

    def kept(self) -> dict[str, Any]:
        """All that services keep, asked through the services."""
        tracked: dict[str, Any] = json.loads(self._app("python", "-c", _TRACKED).stdout)
        return tracked | {name: self.objects(name) for name in ("MINIO_BUCKET", "MLFLOW_BUCKET")}

    def _kill_step(self, step: str, after: float) -> None:
        """Kill the app service while a step is at work; it comes back by itself."""
        restarts = self.stack.inspect("app")["RestartCount"] + 1
        running = self.stack.start("exec", "-T", "app", "kedro", "run", "--tags", step)
        time.sleep(after)
        _hold(running.poll() is None, f"{step} had ended before it was killed")
        self.stack.kill("app")
        running.wait()
        self.stack.wait_healthy("app", restarts=restarts)
        time.sleep(float(self.environment["MNTRADING_LEASE_TTL_SECONDS"]))  # what the dead run held, it loses

    def _runs(self, service: str) -> bool:
        return bool(self.stack.inspect(service)["State"]["Running"])

    def _app(self, *command: str, **more: Any) -> Any:
        return self.stack("exec", "-T", "app", *command, **more)


def _apps() -> list[str]:
    """Services of applications that this checkout has."""
    apps = PROJECT / "src" / "mntrading" / "apps"
    there = {"api": apps / "api", "streamlit": apps / "dashboard" / "app.py"}
    return [service for service, path in there.items() if path.exists()]


def _is_secret(name: str) -> bool:
    return name.endswith(("PASSWORD", "SECRET", "TOKEN", "KEY"))


def _hold(true: bool, otherwise: str) -> None:
    if not true:
        raise BrokenError(otherwise)


def _difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Some of what is not as it was."""
    found = []
    for name in {**before, **after}:
        left, right = before.get(name), after.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found += [f"{name}/{deeper}" for deeper in _difference(left, right)]
        elif left != right:
            found.append(name)
    return sorted(found)[:10]


def environment(base: str, place: Path) -> dict[str, str]:
    """What ``make env`` writes, with ports that are free, and a configuration of small parameters."""
    made = dict(
        line.split("=", 1) for line in filled((PROJECT / ".env.example").read_text()).splitlines() if "=" in line
    )
    made = {name: value for name, value in made.items() if not name.startswith("#")}
    made["MINIO_ROOT_USER"] = made["AWS_ACCESS_KEY_ID"] = f"mnt:{secrets.token_hex(4)}"  # as Swift wants it
    with ExitStack() as opened:
        for name in PORTS:
            found = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            made[name] = str(found.getsockname()[1])
    small = place / "stack"  # an environment of configuration: the object store's, with the tests' parameters
    small.mkdir()
    for path in (*(PROJECT / "conf" / "minio").iterdir(), *(PROJECT / "conf" / "test").glob("parameters*")):
        shutil.copy(path, small)
    call("chmod", "-R", "a+rX", place)
    return made | {
        "PYTHON_IMAGE": base,
        "MNTRADING_TAG": "test",
        "MNTRADING_ENV": "stack",
        "MNTRADING_LEASE": "settled",  # Swift does not compare and write in one
        "MNTRADING_LEASE_TTL_SECONDS": "20",
        "STACK_CONF": str(small),
    }


def main() -> int:
    """Try it, tell the figures, and leave nothing."""
    begun = time.monotonic()
    place = os.environ.get("MNTRADING_DOCKER_ROOT")
    root = Path(place) if place else PROJECT / ".services" / "docker"
    try:
        with running(root), tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            base = base_image("python:3.11-slim-bookworm")
            told = environment(base, Path(folder))
            files = [PROJECT / "docker-compose.yml", PROJECT / "tests" / "deploy" / "standins" / "compose.yml"]
            trial = Trial(Stack("mntrading-test", files, told), told)
            trial.stack("down", "--volumes", "--timeout", "1")
            try:
                for part in (
                    trial.build, trial.refuse_defaults, trial.up, trial.inspect, trial.quick_start, trial.use_apps,
                    trial.kill_all,
                ):  # fmt: skip
                    say(f"{part.__name__.replace('_', ' ')} …")
                    part()
            finally:
                trial.stack("down", "--volumes", "--timeout", "1")
    except (MissingError, BrokenError, RuntimeError) as error:
        say(f"test-compose: BROKEN: {error}")
        return 1
    figures = ", ".join(f"{name} {value}" for name, value in trial.figures.items())
    say(f"test-compose: {figures}; {time.monotonic() - begun:.0f} s in all, on {base}; every invariant held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
