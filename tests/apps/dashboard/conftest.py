"""A dashboard in this process, beside a stub of the API, on a project in which nothing has been run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit import config
from stub_api import StubApi, serving

from mntrading.apps.dashboard import services
from mntrading.apps.dashboard.access import PASSWORD
from mntrading.apps.dashboard.settings import API_TOKEN, API_URL, MLFLOW_URL, S3_URL, VIZ_URL


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubApi]:
    """An API that answers, and the dashboard set to it."""
    with serving() as stub:
        monkeypatch.setenv(API_URL, stub.url)
        monkeypatch.setenv(API_TOKEN, stub.token)
        yield stub


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with nothing in it, which no test writes to."""
    return tmp_path_factory.mktemp("nothing")


@pytest.fixture(autouse=True)
def dashboard(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On loopback, in the small environment, on an empty storage root, with an API that is down."""
    monkeypatch.setenv("MNTRADING_STORAGE_ROOT", str(nothing))
    monkeypatch.setenv("KEDRO_ENV", "test")
    monkeypatch.setenv(API_URL, "http://127.0.0.1:9")
    for name in (API_TOKEN, PASSWORD, MLFLOW_URL, S3_URL, VIZ_URL, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    address = config.get_option("server.address")
    config.set_option("server.address", "127.0.0.1")
    yield
    config.set_option("server.address", address)
    services.throttle.clear()
