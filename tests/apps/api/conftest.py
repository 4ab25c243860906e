"""An API in this process, on a project in which nothing has been run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_harness import BEARER, TestClient, client_of, plan, settings


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the queue; the storage root beside it is empty."""
    monkeypatch.setenv("MNTRADING_STORAGE_ROOT", str(tmp_path / "data"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    plan(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def client(state: Path) -> Iterator[TestClient]:
    """A client that bears the token."""
    with client_of(settings(state), headers=BEARER, raise_server_exceptions=False) as one:
        yield one


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The same for all tests of a file, for requests that are refused or change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    plan(folder / "state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNTRADING_STORAGE_ROOT", str(folder / "data"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with client_of(settings(folder / "state"), headers=BEARER, raise_server_exceptions=False) as one:
            yield one
