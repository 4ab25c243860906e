"""Compiled kernels never outlive the code they were compiled from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mntrading import kernels

PACKAGE = Path(kernels.__file__).parent


def test_each_state_of_the_core_has_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("x = 1")
    (tmp_path / "params.py").write_text("y = 1")
    first = kernels.code_stamp(tmp_path)
    assert kernels.code_stamp(tmp_path) == first
    (tmp_path / "core" / "a.py").write_text("x = 2")
    second = kernels.code_stamp(tmp_path)
    (tmp_path / "core" / "a.py").rename(tmp_path / "core" / "b.py")
    third = kernels.code_stamp(tmp_path)
    (tmp_path / "params.py").write_text("y = 2")
    assert len({first, second, third, kernels.code_stamp(tmp_path)}) == 4


@pytest.mark.parametrize(
    ("told", "expected"),
    [("{}", "{}/mntrading-{}"), ("{}/mntrading-0123", "{}/mntrading-{}"), ("{}/mntrading-{}", "{}/mntrading-{}")],
)
def test_the_folder_lies_below_the_one_that_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, expected: str
) -> None:
    stamp = kernels.code_stamp()
    monkeypatch.setenv("NUMBA_CACHE_DIR", told.format(tmp_path, stamp))
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    kernels.keep_apart()
    assert os.environ["NUMBA_CACHE_DIR"] == expected.format(tmp_path, stamp)


def test_a_change_of_one_module_reaches_the_kernels_of_another(tmp_path: Path) -> None:
    """What calls into a changed module is compiled anew, although its own file is as it was."""
    package = tmp_path / "mntrading"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "core" / "callee.py").write_text(
        "from mntrading.core.compiled import compiled\n\n\n@compiled\ndef answer() -> int:\n    return 1\n"
    )
    (package / "core" / "caller.py").write_text(
        "from mntrading.core.callee import answer\nfrom mntrading.core.compiled import compiled\n\n\n"
        "@compiled\ndef asked() -> int:\n    return answer()\n"
    )

    def ask() -> str:
        code = "from mntrading.core.caller import asked; print(asked())"
        env = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
        return done.stdout.strip()

    assert (ask(), ask()) == ("1", "1")
    callee = package / "core" / "callee.py"
    callee.write_text(callee.read_text().replace("return 1", "return 2"))
    assert ask() == "2"
