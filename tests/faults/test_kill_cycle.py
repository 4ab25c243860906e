"""Kill -9 in a live cycle, a few times; ``make kill-cycle`` does it at length."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
@pytest.mark.xdist_group("live_faults")
def test_a_live_cycle_killed_anywhere_goes_on_as_if_nothing_had_been(stage: Path) -> None:
    script = Path(__file__).with_name("kill_cycle.py")
    command = [sys.executable, script, "--kills", "3", "--place", stage]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = "".join(done.stdout.splitlines()[-1:])
    clean = "0 unreadable, 0 lost, 0 differences, 0 inconsistent, 0 in the way of the next run"
    assert last.startswith("kill-cycle: 3 kills, "), done.stdout + done.stderr[-3000:]
    assert last.endswith(f"{clean}; 3 of 3 mutants found out"), done.stdout
    assert done.returncode == 0
