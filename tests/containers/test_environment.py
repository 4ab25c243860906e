"""``make env``: secrets of its own, for its owner alone, never over what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mntrading.containers import environment
from mntrading.known_secrets import SECRETS, check_secrets

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(PROJECT / ".env.example", tmp_path)
    return tmp_path


def values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_every_secret_is_generated_strong_and_anew(folder):
    made = values(environment.filled((folder / ".env.example").read_text()))
    again = values(environment.filled((folder / ".env.example").read_text()))
    check_secrets(made)
    assert set(SECRETS) <= set(made)
    assert all(made[name] for name in made)
    assert not [name for name in SECRETS if made[name] == again[name]]
    assert (made["AWS_ACCESS_KEY_ID"], made["AWS_SECRET_ACCESS_KEY"]) == (
        made["MINIO_ROOT_USER"],
        made["MINIO_ROOT_PASSWORD"],
    )


def test_the_file_is_its_owners_alone_and_keeps_what_the_example_says(folder):
    environment.main(folder)
    file = folder / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    example, made = values((folder / ".env.example").read_text()), values(file.read_text())
    assert list(made) == list(example)
    assert {name: made[name] for name in example if example[name]} == {name: v for name, v in example.items() if v}


def test_one_that_is_there_is_left_alone(folder):
    (folder / ".env").write_text("MINE=1\n")
    environment.main(folder)
    assert (folder / ".env").read_text() == "MINE=1\n"


def test_the_example_has_no_secret_that_could_be_used():
    example = values((PROJECT / ".env.example").read_text())
    assert [name for name in example if name in SECRETS and example[name]] == []
