"""Projects on the small simulated market: one finished once, copies of it, and empty ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project

from mntrading import runs


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
    monkeypatch.setenv("MNTRADING_STORAGE_ROOT", str(tmp_path / "fresh"))  # a test may have a finished one beside it
    return Project(tmp_path / "fresh")
