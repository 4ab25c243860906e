"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mntrading.params import BLOCKS

CONF = Path(__file__).parents[1] / "conf" / "base"


@pytest.fixture(scope="session")
def params() -> Any:
    """Every parameter block of ``conf/base``, validated: ``params.backtest.costs.fee_rate``."""
    documents = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(CONF.glob("parameters*.yml"))]
    values = {key: block for document in documents for key, block in document.items()}
    return SimpleNamespace(**{key: BLOCKS[key].model_validate(block) for key, block in values.items()})
