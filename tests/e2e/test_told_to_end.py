"""A run that is told to end, as by ``docker stop`` or a scheduler, closes its record and lets the next one in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def started(root: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "mntrading",
        "--env",
        "test",
        "--pipelines",
        "ingestion",
        "--params",
        "tracking=off",
    ]
    env = os.environ | {"MNTRADING_STORAGE_ROOT": str(root)}
    return subprocess.Popen(command, cwd=PROJECT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_its_record_is_closed_and_the_next_run_goes_on(tmp_path: Path) -> None:
    record = tmp_path / "runs" / "current.json"
    run = started(tmp_path)
    deadline = time.monotonic() + 120
    while not record.exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM, said
    told = json.loads(record.read_text())
    assert (told["status"], told["error"]) == ("failed", "the process was told to end (SIGTERM)")
    assert "Traceback" not in said
    after = started(tmp_path)
    said, _ = after.communicate(timeout=120)
    assert after.returncode == 0, said
    assert json.loads(record.read_text())["status"] == "finished"
    assert "was killed" not in said
