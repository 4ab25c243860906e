"""A stretch of a trading window lived through by the short cycle's nodes equals its backtest, holes in it or not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("e2e")
ROOT = Path(__file__).parents[2]


def test_bars_from_the_first_entry_on_are_the_backtests_to_the_bit(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "holes/whole")  # each trade of which then lacks the bar of its entry or exit
    command = [sys.executable, "benchmarks/replay.py", "--market", "holes", "--keep", str(tmp_path), "--bars", "40"]
    environment = {name: value for name, value in os.environ.items() if name != "MNTRADING_SAMPLE_BARS"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = re.search(
        r"(\d+) decisions 0 differ, (\d+) fills 0 differ, (\d+) off 0 differ, 40 equity 0 differ", done.stdout
    )
    assert told, done.stdout[-2000:]
    assert min(map(int, told.groups())) > 0
