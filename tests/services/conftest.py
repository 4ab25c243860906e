"""Real services for the tests of this folder, each started once, and one line of what was measured on them."""

from __future__ import annotations

import os
import secrets
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader

from mntrading.configuration import RESOLVERS

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))  # the kinds of save are told there

import swift
from swift import Swift

CONF = Path(__file__).parents[2] / "conf"
REQUIRED = "MNTRADING_REQUIRE_SERVICES"
BUCKET = "mntrading"
FIGURES = pytest.StashKey[dict[str, object]]()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> dict[str, object]:
    """What the closing line tells, by name."""
    return request.config.stash.setdefault(FIGURES, {})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, figures: dict[str, object]) -> Iterator[Swift]:
    """A Swift server with its S3 interface; tests that need one are skipped where none is installed."""
    if not swift.installed():
        reason = "no S3 server is installed: make test-s3 installs one"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    server = Swift(tmp_path_factory.mktemp("swift"))
    server.start()
    server.create_bucket(BUCKET)
    figures["server"] = f"{server.version} started in {server.started_in:.1f} s"
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3(server: Swift, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of the test's own in a bucket, the environment being that of ``--env minio``."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries again by itself; both together take long to give up
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MNTRADING_LEASE", "settled")  # Swift's conditional writes are not atomic
    return f"s3://{BUCKET}/{secrets.token_hex(4)}"


@pytest.fixture
def credentials(s3: str) -> dict[str, Any]:
    """What the configuration of ``--env minio`` gives every dataset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # kedro's own call of a deprecated function
        loader = OmegaConfigLoader(str(CONF), base_env="base", env="minio", custom_resolvers=RESOLVERS)
        return dict(loader["credentials"]["s3"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Close with the figures."""
    figures = config.stash.get(FIGURES, {})
    if figures:
        said = ", ".join(f"{value} {name}" if name != "server" else f"{value}" for name, value in figures.items())
        terminalreporter.write_line(f"s3: {said}")
