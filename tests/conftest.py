"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mntrading.configuration import parameters

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="session")
def params() -> Any:
    """Every parameter block of ``conf/base``, validated: ``params.backtest.costs.fee_rate``."""
    return SimpleNamespace(**parameters(CONF))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, and say so, unless it is asked for."""
    if os.environ.get("MNTRADING_SLOW_TESTS"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes a minute or more: make test-slow"))
