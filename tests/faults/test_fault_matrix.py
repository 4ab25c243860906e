"""The whole matrix of faults; ``make fault-matrix`` prints it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_fault_of_an_exchange_leaves_a_bar_invalid_lost_or_twice():
    command = [sys.executable, Path(__file__).with_name("fault_matrix.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("fault-matrix: 47 faults, "), done.stdout + done.stderr
    assert last.endswith(" stored bars compared, 0 invalid, 0 lost, 0 duplicated, 0 not as expected"), done.stdout
    assert done.returncode == 0
