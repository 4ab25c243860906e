"""The image's entrypoint: becomes its command, or says why not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STRONG = "kV3n0-Qx8sT1zLw5RbY7uHc2JdF6aGp9MeXo4iNq"


def enter(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MINIO", "AWS", "POSTGRES"))}
    entry = [sys.executable, "-m", "mntrading.containers.entrypoint", *command]
    return subprocess.run(entry, capture_output=True, text=True, env=clean | environment, check=False)


def test_the_command_takes_its_place_with_its_arguments_and_exit_code():
    done = enter(sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b", "$(c)")
    assert (done.returncode, done.stdout) == (7, "['a b', '$(c)']\n")


@pytest.mark.parametrize("name", ["MINIO_ROOT_PASSWORD", "AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD"])
def test_a_default_password_starts_nothing_and_one_line_says_so(name):
    done = enter(sys.executable, "-c", "print('started')", **{name: "minioadmin"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {name}: ")
    assert "minioadmin" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_strong_password_is_let_through_and_an_unknown_command_is_named():
    assert enter("true", MINIO_ROOT_PASSWORD=STRONG).returncode == 0
    done = enter("no-such-command")
    assert done.returncode == 1
    assert "no-such-command" in done.stderr
