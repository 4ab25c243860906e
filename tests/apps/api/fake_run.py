"""Stands in for the process of a run: claims it as the real one does, and does what a file beside the queue says.

``fake.json``: ``seconds`` a run takes, ``ending`` (what it ends with), ``deaf`` (whether SIGTERM is ignored), ``child``
(whether it starts a process of its own). ``ran.txt`` gets a line when a run begins and one when it ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mntrading.apps.api.store import Job
from mntrading.apps.api.worker import Outcome, Tell, serve


def main() -> int:
    folder = Path(sys.argv[1])
    plan = json.loads((folder / "fake.json").read_text())

    def told(what: str) -> None:
        with (folder / "ran.txt").open("a") as ran:
            ran.write(what + "\n")

    def execute(job: Job, tell: Tell) -> Outcome:
        if plan.get("deaf"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told(f"begin {job.id} {os.getpid()}")
        print("a line of the log", flush=True)  # noqa: T201
        if plan.get("child"):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            told(f"child {child.pid}")
        tell("first_node", 0, 2)
        time.sleep(plan.get("seconds", 0.0))
        tell("second_node", 1, 2)
        if plan.get("ending") == "raises":
            raise ValueError("of no use")
        tell("", 2, 2)
        told(f"end {job.id}")
        return Outcome(plan.get("ending", "finished"), kedro_run_id="2026-01-01T00.00.00.000Z")

    return serve(folder, sys.argv[2], int(sys.argv[3]), execute)


if __name__ == "__main__":
    sys.exit(main())
