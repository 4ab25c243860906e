"""Fixtures every test may use."""

from __future__ import annotations

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
