"""Kill -9 in every kind of save, a few times each; ``make kill-loop`` does it at length."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_saves_killed_at_random_moments_leave_whole_versions(tmp_path):
    script = Path(__file__).with_name("kill_loop.py")
    command = [sys.executable, script, "--kills", "24", "--versions", "5", "--place", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = "kill-loop: 24 kills, 0 unreadable, 0 lost, 0 duplicated, 0 differences"
    assert done.stdout.splitlines()[-1:] == [last], done.stdout + done.stderr
    assert done.returncode == 0
