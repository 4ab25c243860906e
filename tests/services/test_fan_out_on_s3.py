"""Work over pairs on the workers of a Dask cluster that read an object store by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from dask_cluster import workers_at
from mntrading.core.simulation import market
from mntrading.datasets import BarsDataset, BarStore, BarsUpdate
from mntrading.params import ComputeParams
from mntrading.pipelines.common import fan_out

pytestmark = pytest.mark.xdist_group("s3")

DASK = "dask"


@pytest.fixture
def cluster(tmp_path: Any) -> Iterator[ComputeParams]:
    with workers_at(tmp_path / "dask", 2) as address:
        yield ComputeParams(backend=DASK, n_workers=2, scheduler=address)


def of(place: str, credentials: Any = None) -> BarStore:
    """Bars of the ``ou`` market, stored at a place."""
    frame = market("ou", end=pd.Timestamp("2025-01-05T00:00:00Z")).bars("5m")
    dataset = BarsDataset(path=f"{place}/ohlcv_5m.parquet", timeframe="5m", missing_ok=True, credentials=credentials)
    dataset.save(BarsUpdate("made", {symbol: rows.reset_index(drop=True) for symbol, rows in frame.groupby("symbol")}))
    return dataset.load()


def test_workers_read_the_store_and_give_what_threads_give(
    s3: str, credentials: Any, cluster: ComputeParams, tmp_path: Any
) -> None:
    def closes(symbol: str) -> tuple[str, str, list[float]]:
        import threading

        rows = stored[symbol]
        return symbol, threading.current_thread().name, rows["close"].tolist()

    stored = of(s3, credentials)
    there = list(fan_out(closes, list(stored), cluster, "closes", reads=stored))
    threads = ComputeParams(backend="threading", n_workers=2, scheduler=None)
    here = list(fan_out(closes, list(stored), threads, "closes", reads=stored))
    assert [(symbol, rows) for symbol, _, rows in there] == [(symbol, rows) for symbol, _, rows in here]
    assert len(there) >= 2
    assert all("Dask" in name for _, name, _ in there)
    assert not any("Dask" in name for _, name, _ in here)
    # what lies on this machine alone is read on this machine
    stored = of(str(tmp_path))
    assert not any("Dask" in name for _, name, _ in fan_out(closes, list(stored), cluster, "closes", reads=stored))


def test_what_fails_on_a_worker_fails_here(s3: str, credentials: Any, cluster: ComputeParams) -> None:
    def wrong(symbol: str) -> None:
        raise ValueError(f"{symbol} {len(stored[symbol])}")

    stored = of(s3, credentials)
    with pytest.raises(ValueError, match=r"/USDT \d+"):
        list(fan_out(wrong, list(stored), cluster, "nothing", reads=stored))
