"""Fixtures every test may use."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader

from mntrading.configuration import RESOLVERS
from mntrading.params import BLOCKS

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="session")
def params() -> Any:
    """Every parameter block of ``conf/base``, validated: ``params.backtest.costs.fee_rate``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # kedro's own call of a deprecated function
        loader = OmegaConfigLoader(str(CONF), base_env="base", default_run_env="base", custom_resolvers=RESOLVERS)
        values = loader["parameters"]
    return SimpleNamespace(**{key: BLOCKS[key].model_validate(block) for key, block in values.items()})
