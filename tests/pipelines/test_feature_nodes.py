"""Features and labels are made once of what they are made from, and again when that has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.bars import bars_from_rows, to_ms
from mntrading.core.roster import Roster, RosterPair
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets import BarsDataset, BarStore, BarsUpdate, Commit, PartitionedArtifactDataset, Partitions
from mntrading.params import ComputeParams
from mntrading.pipelines.feature_engineering.nodes import build_features, label_pairs, market_of

START = pd.Timestamp("2025-01-01T00:00:00Z")
ONE = ComputeParams(backend="threading", n_workers=1, scheduler=None)


def made_bars(n: int) -> dict[str, pd.DataFrame]:
    """Bars of four symbols that follow one walk; the first ``n`` of as many as there may be."""
    rng = np.random.default_rng(7)
    walk = np.cumsum(rng.normal(0, 0.002, 2000))
    out = {}
    for k, symbol in enumerate(("AAA/USDT", "BBB/USDT", "CCC/USDT", "DDD/USDT")):
        own = pd.Series(rng.normal(0, 0.02, 2000)).ewm(alpha=0.05).mean().to_numpy()
        close = 10.0 * np.exp((1 + 0.1 * k) * walk + own)[:n]
        opens = to_ms(START) + 300_000 * np.arange(n)
        rows = np.column_stack([opens, close, close, close, close, rng.lognormal(3, 1, 2000)[:n]])
        out[symbol] = bars_from_rows(rows, symbol)
    return out


def made_roster(pairs: list[Pair]) -> dict[str, Any]:
    fold = Fold("live", START, START + pd.Timedelta(days=5), None)
    chosen = [RosterPair(pair, 8.0, 0.01, 1.0) for pair in pairs]
    return {"as_of": START + pd.Timedelta(days=5), **Roster.build([(fold, chosen)]).document()}


class Folder:
    """A folder of partitions, and what the last run saved in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole = PartitionedArtifactDataset(path=str(path), format="parquet")
        self.before = PartitionedArtifactDataset(path=str(path), format="parquet", missing_ok=True, unfinished_ok=True)

    def run(self, chunks: Iterator[Any], limit: int | None = None) -> list[str]:
        made: list[str] = []
        for chunk in chunks:
            if not isinstance(chunk, Commit) and len(made) == limit:
                break
            self.whole.save(chunk)
            made += [] if isinstance(chunk, Commit) else list(chunk)
        return made

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.path.glob("*.parquet"))}


class Job:
    """Bars, a roster of three pairs of four symbols, and the folders features and labels go to."""

    def __init__(self, folder: Path, params: Any, bars: dict[str, pd.DataFrame]) -> None:
        self.folder, self.bars = folder, bars
        self.features, self.datasets = Folder(folder / "features"), Folder(folder / "datasets")
        small = {"beta_window": 288, "z_window": 144, "volatility_window": 48, "lag_features": 2}
        self.spec = params.feature_engineering.features.model_copy(update=small)
        self.labels = params.feature_engineering.labels.model_copy(update={"horizon": 12, "zscore_threshold": 1.0})
        names = sorted(bars)
        self.pairs = [Pair(names[0], names[1]), Pair(names[0], names[2]), Pair(names[3], names[2])]

    def store(self, timeframe: str = "5m") -> BarStore:
        dataset = BarsDataset(path=str(self.folder / f"ohlcv_{timeframe}.parquet"), timeframe=timeframe)
        bars = self.bars
        if timeframe == "1h":
            bars = {s: b.loc[b["timestamp"].dt.minute == 0].reset_index(drop=True) for s, b in bars.items()}
        dataset.save(BarsUpdate("made", bars, {}))
        return dataset.load()

    @property
    def roster(self) -> dict[str, Any]:
        return made_roster(self.pairs)

    def build(self, limit: int | None = None) -> list[str]:
        given = self.store(), self.store("1h"), self.roster, self.spec, ONE, self.features.before.load()
        return self.features.run(build_features(*given), limit)

    def label(self, limit: int | None = None) -> list[str]:
        given = self.features.whole.load(), self.store(), self.roster, self.labels, ONE, self.datasets.before.load()
        return self.datasets.run(label_pairs(*given), limit)


@pytest.fixture
def job(tmp_path: Path, params: Any) -> Job:
    return Job(tmp_path / "job", params, made_bars(1200))


def clean(job: Job, tmp_path: Path, params: Any) -> Job:
    """The same job from nothing."""
    other = Job(tmp_path / "clean", params, job.bars)
    other.spec, other.labels, other.pairs = job.spec, job.labels, job.pairs
    other.build()
    other.label()
    return other


def test_what_has_not_changed_is_not_made_again(job: Job) -> None:
    every = sorted(pair.id for pair in job.pairs)
    assert job.build() == job.label() == every
    before = job.features.bytes(), job.datasets.bytes()
    assert job.build() == job.label() == []
    assert (job.features.bytes(), job.datasets.bytes()) == before
    assert sorted(job.features.whole.load()) == sorted(job.datasets.whole.load()) == every


def test_bars_that_have_come_remake_the_pairs_of_their_symbols(job: Job, tmp_path: Path, params: Any) -> None:
    job.bars["BBB/USDT"] = made_bars(1100)["BBB/USDT"]
    job.build()
    job.label()
    before = job.features.bytes()
    job.bars["BBB/USDT"] = made_bars(1200)["BBB/USDT"]
    assert job.build() == job.label() == [job.pairs[0].id]
    after = job.features.bytes()
    assert [name for name in after if after[name] == before[name]] == [f"{p.id}.parquet" for p in job.pairs[1:]]
    other = clean(job, tmp_path, params)
    assert job.features.bytes() == other.features.bytes()
    assert job.datasets.bytes() == other.datasets.bytes()
    assert job.datasets.whole.load().meta["base_rate"] == other.datasets.whole.load().meta["base_rate"]


def test_a_parameter_that_has_changed_remakes_all_of_its_stage(job: Job) -> None:
    every = sorted(pair.id for pair in job.pairs)
    job.build()
    job.label()
    job.labels = job.labels.model_copy(update={"horizon": 24})
    assert (job.build(), job.label()) == ([], every)
    job.spec = job.spec.model_copy(update={"z_window": 150})
    assert (job.build(), job.label()) == (every, every)


def test_a_run_that_was_killed_is_gone_on_with(job: Job, tmp_path: Path, params: Any) -> None:
    every = sorted(pair.id for pair in job.pairs)
    assert job.build(limit=1) == every[:1]
    assert job.build() == every[1:]
    assert job.label(limit=2) == every[:2]
    assert job.label() == every[2:]
    other = clean(job, tmp_path, params)
    for mine, theirs in ((job.features, other.features), (job.datasets, other.datasets)):
        assert mine.bytes() == theirs.bytes()
        assert mine.whole.load().meta == theirs.whole.load().meta
        assert [mine.whole.load().entry(id_) for id_ in every] == [theirs.whole.load().entry(id_) for id_ in every]


def test_a_pair_that_comes_is_made_and_one_that_goes_is_removed(job: Job) -> None:
    job.build()
    job.label()
    job.pairs = [*job.pairs[1:], Pair("DDD/USDT", "BBB/USDT")]
    assert job.build() == job.label() == ["DDD-USDT__BBB-USDT"]
    assert sorted(job.features.whole.load()) == sorted(pair.id for pair in job.pairs)


def test_a_stored_pair_that_was_damaged_is_made_again(job: Job) -> None:
    job.build()
    kept = job.features.bytes()
    damaged = job.features.path / f"{job.pairs[1].id}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert job.build() == [job.pairs[1].id]
    assert job.features.bytes() == kept


def test_hourly_bars_matter_to_pairs_only_with_the_markets_volatility(job: Job) -> None:
    every = sorted(pair.id for pair in job.pairs)
    hours = job.store("1h")
    some = tuple(hours)[:2]
    assert job.build() == every
    assert job.features.whole.load().meta["market_symbols"] == []
    job.spec = job.spec.model_copy(update={"include": (*job.spec.include, "market_volatility")})
    assert job.build() == every
    made: Partitions = job.features.whole.load()
    assert made.meta["market_symbols"] == sorted(job.bars)
    known = made[every[0]]["market_volatility"]
    assert known.iloc[26 * 12 :].notna().all()
    assert market_of(hours, some, job.spec).notna().any()
    assert market_of(hours, some, job.spec.model_copy(update={"include": ("z_lags",)})) is None


def test_the_manifest_says_of_each_pair_what_its_labels_are_like(job: Job) -> None:
    job.build()
    job.label()
    made = job.datasets.whole.load()
    for id_, frame in made.items():
        said = made.entry(id_)
        assert said["rows"] == len(frame) > 50
        assert said["base_rate"] == pytest.approx(frame["label"].mean())
        assert 1 / 12 < said["mean_uniqueness"] < 1
        assert len(said["key"]) == 64
    together = pd.concat(dict(made))
    assert made.meta["n_rows"] == len(together)
    assert made.meta["base_rate"] == pytest.approx(together["label"].mean())
