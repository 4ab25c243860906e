"""A project folder to run in: real sessions in fresh processes, on the small simulated market."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():  # the frameworks warn about themselves when they are imported
    warnings.simplefilter("ignore")
    import mntrading.settings  # noqa: F401

from mntrading import runs

NOT_DATA = ("runs", "mlflow.db", "mlflow_artifacts", ".lock")


@dataclass(frozen=True)
class Project:
    """One storage root and the ways to use it."""

    root: Path

    def run(self, pipelines: str | Sequence[str], params: dict[str, Any] | None = None, **more: Any) -> runs.RunRecord:
        return runs.run(pipelines, env=more.pop("env", "test"), params=params, **more)

    def json(self, path: str) -> Any:
        return json.loads((self.root / path).read_text())

    def files(self) -> dict[str, str]:
        """Hash of every stored file but run records and tracking."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] not in NOT_DATA
        }


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all tests: creating its tables takes longer than most of them."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def _environment(tracking: str) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking)
        patch.setenv("DO_NOT_TRACK", "1")
        patch.delenv("MNTRADING_BARS", raising=False)
        yield patch


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, _environment: pytest.MonkeyPatch) -> Path:
    """Storage root of a finished full cycle. Read only: take ``project`` to run on a copy."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNTRADING_STORAGE_ROOT", str(root))
        runs.run("full_cycle", env="test")
    return root


@pytest.fixture
def project(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which the full cycle has been run, for this test alone."""
    import shutil

    root = tmp_path / "data"
    shutil.copytree(finished, root)
    monkeypatch.setenv("MNTRADING_STORAGE_ROOT", str(root))
    return Project(root)


@pytest.fixture
def fresh(tmp_path: Path, _environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which nothing has been run."""
    monkeypatch.setenv("MNTRADING_STORAGE_ROOT", str(tmp_path / "data"))
    return Project(tmp_path / "data")
