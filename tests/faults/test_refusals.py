"""A few of the ways live inputs can be wrong; ``make refusals`` goes through all."""

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
def test_wrong_live_inputs_are_told_and_stop_what_they_concern_alone(stage: Path) -> None:
    script = Path(__file__).with_name("refusals.py")
    done = subprocess.run([sys.executable, script, "--few", "--place", stage], capture_output=True, text=True)
    last = done.stdout.splitlines()[-1:]
    expected = r"refusals: \d+ cases, .* 0 not as expected; 3 of 3 mutants found out \(\d+ s\)"
    assert re.fullmatch(expected, "".join(last)), done.stdout + done.stderr[-3000:]
    assert done.returncode == 0
