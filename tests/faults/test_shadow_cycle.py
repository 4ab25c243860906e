"""Challengers in shadow beside a live cycle, in short; ``make shadow-cycle`` does it at length."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
@pytest.mark.xdist_group("live_faults")
def test_the_shadow_does_what_production_would_and_is_in_nobodys_way(stage: Path) -> None:
    script = Path(__file__).with_name("shadow_cycle.py")
    done = subprocess.run([sys.executable, script, "--few", "--place", stage], capture_output=True, text=True)
    last = "".join(done.stdout.splitlines()[-1:])
    expected = r"shadow-cycle: \d+ runs, 3 damages, 0 kills; 0 not as expected \(\d+ s\)"
    assert re.fullmatch(expected, last), done.stdout + done.stderr[-3000:]
    assert done.returncode == 0
