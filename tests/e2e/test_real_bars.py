"""A small run on real exchange bars, where a sample of them is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from project import Project

pytestmark = pytest.mark.xdist_group("e2e")

SYMBOLS = ["BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "AVAX", "LTC", "DOT"]


@pytest.fixture
def sample() -> Path:
    folder = os.environ.get("MNTRADING_SAMPLE_BARS")
    if not folder:
        pytest.skip("MNTRADING_SAMPLE_BARS names no folder of exchange bars")
    return Path(folder)


def test_the_whole_job_runs_on_real_bars_and_says_what_it_found(fresh: Project, sample: Path) -> None:
    listed = pd.read_csv(sample / "quality_5m.csv")["symbol"].tolist()
    symbols = [name for name in listed if name.split("/")[0] in SYMBOLS]
    params = {
        "market": {"source": "files", "files": {"path": str(sample), "as_of": "2025-03-31T00:00:00Z"}},
        "ingestion": {"symbols": symbols},
        "screening": {"level": 1.0, "keep_level": 1.0, "max_pairs": 4, "adjustment": "none"},
    }
    record = fresh.run("full_cycle", params)
    assert record.status == "finished"
    roster = fresh.json("pairs/roster.json")
    assert len(roster["folds"]) > 2
    assert len(fresh.json("raw/markets.json")["symbols"]) == len(symbols) >= 8
    stored = pd.read_parquet(fresh.root / "raw/ohlcv_5m.parquet", columns=["symbol", "timestamp"])
    assert stored["timestamp"].max() == pd.Timestamp("2025-03-30T23:55:00Z")
    assert sorted(stored["symbol"].unique()) == roster["symbols"]
    summary = fresh.json("backtest_results/_summary.json")
    assert sum(line["n_trades"] for line in summary["folds"]) > 0
    assert (fresh.root / "portfolio/_latest_report.html").stat().st_size > 10_000
