"""Full disks and errors in the middle of saves, a sample of them; ``make disk-full`` goes through all."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs a limit on the size of files", allow_module_level=True)

import disk_full

FEW = ["--saves", "14", "--injected", "9"]


def _is_clean(output: str) -> bool:
    line = output.splitlines()[-1]
    return (
        line.startswith("disk-full: 14 saves on a full disk")
        and "63 injected exceptions; previous version readable in 100 %" in line
        and line.endswith("0 temporary files left, 0 unclear errors")
    )


def test_saves_that_fail_leave_the_version_before_and_say_why(capsys):
    code = disk_full.main(["--no-mount", *FEW])
    output = capsys.readouterr().out
    assert code == 0, output
    assert _is_clean(output)


def test_the_same_holds_on_a_disk_that_is_full(capfd):
    code = disk_full.on_a_small_disk(FEW)
    if code is None:
        pytest.skip("no disk can be mounted here")
    output = capfd.readouterr().out
    assert code == 0, output
    assert _is_clean(output)
