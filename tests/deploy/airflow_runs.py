"""The schedules on a real Airflow: every DAG run by ``airflow dags test``, on the small market.

    make test-airflow

Airflow has an environment of its own in ``.services/airflow``; tasks run the project's. In turn,

- the DAGs load without an error, and have the tasks of ``dags/mntrading_steps.py`` in their order;
- the full cycle and then the short cycle run to their end; run again, they write the same bytes;
- a full cycle with a step that is killed at its half is tried again by Airflow, and writes the same bytes;
- a step that fails in every try fails the run, and nothing after it is run;
- nothing that a run is started with reaches a command;
- the dataset is built and uploaded, where a Swift server can be started to upload it to.

The last line has the figures; the exit code is 1 when anything is broken.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import secrets
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "dags"), str(PROJECT / "tests" / "services")]

from mntrading_steps import SCHEDULES  # noqa: E402 - found through the path above
from swift import Swift, installed  # noqa: E402

AIRFLOW: Final = PROJECT / ".services" / "airflow" / "bin"
KEDRO: Final = PROJECT / ".venv" / "bin" / "kedro"
NOT_DATA: Final = ("runs", "mlflow.db", "mlflow_artifacts", ".lock", "uploads")  # the last tells what one upload did
WHEN: Final = "2025-02-24"
BUCKET: Final = "mntrading"

# kedro, but for a step and a number of tries that are told: those are killed, as a machine short of memory would
_SABOTAGED: Final = """#!{python}
import os, pathlib, signal, subprocess, sys, time
place = pathlib.Path({place!r})
with (place / "commands").open("a") as file:
    file.write(repr(sys.argv[1:]) + chr(10))
step, times, after = (place / "sabotage").read_text().split() if (place / "sabotage").exists() else ("", 0, 0)
tried = place / "tried"
if step in sys.argv and (len(tried.read_text()) if tried.exists() else 0) < int(times):
    with tried.open("a") as file:
        file.write("x")
    child = subprocess.Popen([{kedro!r}, *sys.argv[1:]])
    time.sleep(float(after))
    child.kill()
    sys.exit(child.wait() or 1)
os.execv({kedro!r}, [{kedro!r}, *sys.argv[1:]])
"""

_ORDER: Final = """
import json, sys
sys.path.append({folder!r})
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({folder!r})
told = {{id_: [task.task_id for task in dag.topological_sort()] for id_, dag in bag.dags.items()}}
edges = {{id_: sorted((u, t.task_id) for t in dag.tasks for u in t.upstream_task_ids) for id_, dag in bag.dags.items()}}
runs = {{id_: [dag.max_active_runs, dag.catchup] for id_, dag in bag.dags.items()}}
print("ORDER" + json.dumps([bag.import_errors, told, edges, runs]))
"""


class BrokenError(Exception):
    """Something the schedules promise did not hold."""


class Airflow:
    """One Airflow with a home of its own.

    Parameters
    ----------
    home
        Folder of its database and logs.
    root
        Storage root of the project.
    """

    def __init__(self, home: Path, root: Path) -> None:
        self.home, self.root = home, root
        self.sabotaged = home / "kedro"
        script = _SABOTAGED.format(python=sys.executable, place=str(home), kedro=str(KEDRO))
        self.sabotaged.write_text(script)
        self.sabotaged.chmod(stat.S_IRWXU)
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # a task's own retries, without the minutes it waits between them
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            "AIRFLOW__CORE__MAX_TASK_RETRY_DELAY": "1",
            "DO_NOT_TRACK": "1",
            "MNTRADING_BIN": str(self.sabotaged),
            "MNTRADING_ENV": "test",
            "MNTRADING_STORAGE_ROOT": str(root),
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Airflow's."""
        command = [str(AIRFLOW / "airflow"), *arguments]
        return self._run(command, environment)

    def python(self, code: str) -> str:
        """What a script says, run in Airflow's environment."""
        done = self._run([str(AIRFLOW / "python"), "-c", code], {})
        _hold(done.returncode == 0, done.stderr[-2000:])
        return done.stdout

    def run(self, dag: str, *arguments: str, **environment: str) -> tuple[bool, str]:
        """Test a DAG; whether it succeeded, and what was said."""
        (self.home / "commands").unlink(missing_ok=True)
        (self.home / "tried").unlink(missing_ok=True)
        done = self("dags", "test", dag, WHEN, *arguments, **environment)
        return done.returncode == 0, done.stdout + done.stderr

    def commands(self) -> list[str]:
        """Commands the tasks of the last run have started."""
        return (self.home / "commands").read_text().splitlines()

    @contextmanager
    def killing(self, step: str, times: int, after: float) -> Iterator[None]:
        """Kill a step's first tries some seconds after their start."""
        file = self.home / "sabotage"
        file.write_text(f"{step} {times} {after}")
        try:
            yield
        finally:
            file.unlink()

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        told = {**self.environment, **environment}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=told, cwd=self.home)


def stored(root: Path) -> dict[str, str]:
    """Hash of every stored file but run records, tracking, and reports, which name the run that made them."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in NOT_DATA and "_report" not in path.name
    }


def dags_are_as_told(airflow: Airflow) -> str:
    """They load, in the order of the steps, one run at a time."""
    said = next(s for s in airflow.python(_ORDER.format(folder=str(PROJECT / "dags"))).splitlines() if "ORDER" in s)
    errors, order, edges, runs = json.loads(said.removeprefix("ORDER"))
    _hold(not errors, f"DAGs do not load: {errors}")
    expected = {id_: [step.name for step in steps] for id_, steps in SCHEDULES.items()}
    _hold(order == expected, f"{order} instead of {expected}")
    for id_, names in expected.items():
        _hold(edges[id_] == sorted(map(list, itertools.pairwise(names))), f"{id_}: {edges[id_]}")
        _hold(runs[id_] == [1, False], f"{id_}: more than one run at a time, or catching up")
    return f"{len(order)} DAGs with {sum(map(len, order.values()))} tasks"


def cycles_repeat(airflow: Airflow) -> str:
    """The cycles end well, twice with the same bytes; nothing of a run's conf reaches a command."""
    took = []
    for dag in ("mntrading_full_cycle", "mntrading_short_cycle"):
        begun = time.monotonic()
        _succeeds(airflow, dag)
        took.append(time.monotonic() - begun)
        first = stored(airflow.root)
        evil = json.dumps({"tags": "x; touch /tmp/owned", "MNTRADING_ENV": "base", "command": "$(id)"})
        begun = time.monotonic()
        if dag.endswith("short_cycle"):
            _succeeds(airflow, dag, "--conf", evil)
            expected = [repr(step.command({"MNTRADING_ENV": "test"})[1:]) for step in SCHEDULES[dag]]
            _hold(airflow.commands() == expected, f"a run's conf reached {airflow.commands()}")
            again = stored(airflow.root)
            _hold(first == again, f"{dag} run again changed {_difference(first, again)}")
    return f"full cycle {took[0]:.0f} s, short cycle {took[1]:.0f} s"


def killed_steps_are_tried_again(airflow: Airflow) -> str:
    """A full cycle with a killed step ends with the bytes it had."""
    before = stored(airflow.root)
    with airflow.killing("features", times=1, after=6.0):
        _succeeds(airflow, "mntrading_full_cycle")
    tried = sum("'features'" in command for command in airflow.commands())
    _hold(tried == 2, f"features was started {tried} times instead of twice")
    after = stored(airflow.root)
    _hold(before == after, f"a killed step tried again changed {_difference(before, after)}")
    return f"a killed step tried again to {len(after)} identical files"


def failed_steps_end_a_run(airflow: Airflow) -> str:
    """Nothing runs after a step that fails in every try, and what is stored stays."""
    before = stored(airflow.root)
    with airflow.killing("screen", times=9, after=1.0):
        succeeded, _ = airflow.run("mntrading_dataset_upload")
    _hold(not succeeded, "a run whose step failed in every try succeeded")
    tags = [re.findall(r"'--(?:tags|pipelines)', '(\w+)'", command)[0] for command in airflow.commands()]
    _hold(set(tags) == {"ingest", "screen"}, f"after a failed step there were {tags}")
    _hold(stored(airflow.root) == before, "a failed run changed what is stored")
    return f"a step killed {tags.count('screen')} times ends the run"


def datasets_are_uploaded(airflow: Airflow) -> str:
    """To a real S3 server, from the local root."""
    if not installed():
        raise BrokenError("no S3 server is installed: make test-airflow installs one")
    server = Swift(airflow.home.parent / secrets.token_hex(4))
    server.start()
    try:
        server.create_bucket(BUCKET)
        told = server.environment | {"MINIO_BUCKET": BUCKET, "NO_PROXY": "127.0.0.1"}
        _succeeds(airflow, "mntrading_dataset_upload", **told)
        first, sent = stored(airflow.root), _sent(airflow.root)
        _succeeds(airflow, "mntrading_dataset_upload", **told)
        again = stored(airflow.root)
        _hold(first == again, f"uploading again changed {_difference(first, again)}")
        once_more = _sent(airflow.root)
        _hold(sent > 0 and once_more == 0, f"{sent} files were sent, then {once_more} that were there")
    finally:
        server.kill()
    return f"dataset of {sent} files uploaded to {server.version}, none of them twice"


def _sent(root: Path) -> int:
    """Files that the last upload has sent."""
    return sum(folder["sent"] for folder in json.loads((root / "uploads/_summary.json").read_text())["folders"])


def _succeeds(airflow: Airflow, dag: str, *arguments: str, **environment: str) -> None:
    succeeded, said = airflow.run(dag, *arguments, **environment)
    _hold(succeeded, f"{dag} failed:\n{said[-4000:]}")


def _hold(true: bool, otherwise: str) -> None:
    if not true:
        raise BrokenError(otherwise)


def _difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(name for name in {**before, **after} if before.get(name) != after.get(name))[:10]


def main() -> int:
    """Try everything and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {
        "dags": dags_are_as_told,
        "cycles": cycles_repeat,
        "killed": killed_steps_are_tried_again,
        "failed": failed_steps_end_a_run,
        "upload": datasets_are_uploaded,
    }
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="of the test; all by default")
    given = parser.parse_args()
    begun, figures = time.monotonic(), []
    with tempfile.TemporaryDirectory(dir=os.environ.get("MNTRADING_TEST_PLACE")) as folder:
        place = Path(folder)
        (place / "airflow").mkdir()
        airflow = Airflow(place / "airflow", place / "data")
        try:
            _hold(airflow("db", "migrate").returncode == 0, "airflow db migrate failed")
            for part in (parts[name] for name in given.parts):
                sys.stdout.write(f"{part.__name__.replace('_', ' ')} …\n")
                sys.stdout.flush()
                figures.append(part(airflow))
            version = airflow("version").stdout.split()[-1]
        except BrokenError as error:
            sys.stdout.write(f"test-airflow: BROKEN: {error}\n")
            return 1
    seconds = time.monotonic() - begun
    sys.stdout.write(f"test-airflow: Airflow {version}, {', '.join(figures)}; {seconds:.0f} s; every invariant held\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
