"""What the paper account goes on from, and that it says so where it can't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.errors import ArtifactError
from mntrading.datasets import BarsDataset
from mntrading.pipelines.deployment.orders import _last_close
from mntrading.pipelines.deployment.paper import _before

BAR, NEXT = pd.Timestamp("2025-02-24T00:05:00Z"), pd.Timestamp("2025-02-24T00:10:00Z")
PARTS = ("book", "wanted", "orders", "prices", "totals")


def orders(bar_close: pd.Timestamp) -> dict[str, Any]:
    return {"bar_close": bar_close.isoformat(), **{name: {} for name in PARTS}}


def account(bar_close: pd.Timestamp, before: Any) -> dict[str, Any]:
    return {"bar_close": bar_close.isoformat(), "before": before}


def test_an_account_goes_on_from_the_orders_and_a_bar_asked_for_again_from_where_it_began() -> None:
    assert _before(None, None, BAR) is None
    assert _before(account(BAR, None), orders(BAR), NEXT) == orders(BAR)
    assert _before(None, orders(BAR), NEXT) == orders(BAR)
    assert _before(account(NEXT, orders(BAR)), orders(NEXT), NEXT) == orders(BAR)


def test_an_account_without_its_orders_is_not_begun_anew() -> None:
    with pytest.raises(ArtifactError, match=r"latest_orders\.json: is missing[\s\S]*portfolio/history"):
        _before(account(BAR, None), None, NEXT)


def test_orders_of_the_bar_itself_do_not_tell_what_was_due_before_it() -> None:
    for known in (None, account(BAR, None)):
        with pytest.raises(ArtifactError, match=r"paper_account\.json: is not of the bar"):
            _before(known, orders(NEXT), NEXT)


def test_a_symbol_without_any_bar_has_the_price_of_the_orders_before(tmp_path: Path) -> None:
    store = BarsDataset(path=str(tmp_path / "ohlcv_5m.parquet"), timeframe="5m", missing_ok=True).load()
    assert _last_close(store, "A/USDT", BAR, 7.5) == 7.5
    assert np.isnan(_last_close(store, "A/USDT", BAR, None))
