"""Runs of the pipelines with everything stored on a real S3 server."""

from __future__ import annotations

import pytest
import saves

from mntrading import runs

pytestmark = pytest.mark.xdist_group("s3")

SMALL = {
    "market": {"simulator": {"name": "dirty", "n_symbols": 8, "end": "2025-02-24T00:00:00Z"}},
    "schedule": {"formation_days": 30, "trading_days": 7, "step_days": 7},
}


@pytest.mark.slow
def test_bars_and_pairs_are_made_on_s3_and_a_second_run_changes_no_bar(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIO_BUCKET", s3.removeprefix("s3://"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs.run(["ingestion", "screening"], env="minio", params=SMALL)
    stored = _data(s3)
    assert {"raw/markets.json", "raw/ohlcv_1h.meta/_store.json", "pairs/roster.json"} <= set(stored)
    assert [name for name in stored if name.startswith("raw/ohlcv_5m.parquet/")]
    runs.run(["ingestion", "screening"], env="minio", params=SMALL)
    assert _data(s3) == stored


def _data(place: str) -> dict[str, str]:
    """What is stored but the records of runs and their leases."""
    return {name: sha for name, sha in saves.tree(place).items() if not name.startswith(("runs/", ".lease/"))}
