"""What the paper account goes on from, and that it says so where it can't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mntrading.core.errors import ArtifactError
from mntrading.core.simulation import market
from mntrading.datasets import BarsDataset, BarsUpdate
from mntrading.pipelines.common import sealed
from mntrading.pipelines.deployment.books import bars_with_price
from mntrading.pipelines.deployment.paper import _before

BAR, NEXT = pd.Timestamp("2025-02-24T00:05:00Z"), pd.Timestamp("2025-02-24T00:10:00Z")
STEP, DAY = pd.Timedelta(minutes=5), pd.Timedelta(days=1)
PARTS = ("book", "wanted", "orders", "prices", "totals")


def orders(bar_close: pd.Timestamp) -> dict[str, Any]:
    return sealed({"bar_close": bar_close.isoformat(), **{name: {} for name in PARTS}})


def account(bar_close: pd.Timestamp, before: Any) -> dict[str, Any]:
    return sealed({"bar_close": bar_close.isoformat(), "before": before})


def due(bar_close: pd.Timestamp) -> dict[str, Any]:
    return {name: value for name, value in orders(bar_close).items() if name != "id"}


def test_an_account_goes_on_from_the_orders_and_a_bar_asked_for_again_from_where_it_began() -> None:
    assert _before(None, None, BAR) is None
    assert _before(account(BAR, None), orders(BAR), NEXT) == due(BAR)
    assert _before(None, orders(BAR), NEXT) == due(BAR)
    assert _before(account(NEXT, due(BAR)), orders(NEXT), NEXT) == due(BAR)


def test_nothing_goes_on_from_what_was_altered() -> None:
    with pytest.raises(ArtifactError, match=r"latest_orders\.json: its content[\s\S]*portfolio/history"):
        _before(account(BAR, None), orders(BAR) | {"prices": {"A/USDT": 2.0}}, NEXT)
    with pytest.raises(ArtifactError, match=r"paper_account\.json: its content"):
        _before(account(BAR, due(BAR)) | {"before": None}, orders(BAR), BAR)


def test_an_account_without_its_orders_is_not_begun_anew() -> None:
    with pytest.raises(ArtifactError, match=r"latest_orders\.json: is missing[\s\S]*portfolio/history"):
        _before(account(BAR, None), None, NEXT)


def test_orders_of_the_bar_itself_do_not_tell_what_was_due_before_it() -> None:
    for known in (None, account(BAR, None)):
        with pytest.raises(ArtifactError, match=r"paper_account\.json: is not of the bar"):
            _before(known, orders(NEXT), NEXT)


def test_the_newest_bar_before_a_moment_is_found_however_long_ago_it_closed(tmp_path: Path) -> None:
    frame = market("ou", end=BAR - 10 * DAY).bars("5m")
    symbol = frame["symbol"].iloc[0]
    rows = frame[frame["symbol"] == symbol].reset_index(drop=True)
    dataset = BarsDataset(path=str(tmp_path / "ohlcv_5m.parquet"), timeframe="5m", missing_ok=True)
    dataset.save(BarsUpdate("simulator:ou:0", frames={symbol: rows}))
    store, newest = dataset.load(), rows["timestamp"].iloc[-1]
    assert list(bars_with_price(store, symbol, BAR, NEXT)["timestamp"]) == list(rows["timestamp"])
    near = bars_with_price(store, symbol, newest, newest)["timestamp"]
    assert near.iloc[-1] == newest - STEP
    assert newest - near.iloc[0] == 3 * DAY
    assert bars_with_price(store, "A/USDT", BAR, NEXT).empty
