"""What the short runs of the live faults share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the scene, which the first to come prepares: it takes longer than what is played on it."""
    return tmp_path_factory.mktemp("stage")
