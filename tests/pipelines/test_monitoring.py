"""What is watched in production: quiet where all is well, and a warning for each thing that is not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.bars import aggregate
from mntrading.core.calibration import Calibration
from mntrading.core.errors import ArtifactError, BarDataError
from mntrading.core.features import build_features, feature_names, spec_hash
from mntrading.core.labels import label
from mntrading.core.portfolio import Book
from mntrading.core.simulation import Market, market
from mntrading.core.training import TrainedModel, fit_group, formation_rows
from mntrading.core.types import Pair
from mntrading.datasets import (
    ArtifactDataset,
    BarsDataset,
    BarStore,
    BarsUpdate,
    DatedArtifactDataset,
    PartitionedArtifactDataset,
    Partitions,
    StoredModel,
)
from mntrading.datasets.codecs import codec
from mntrading.datasets.storage import content_hash, sha256
from mntrading.pipelines.deployment.books import book_document
from mntrading.pipelines.deployment.monitoring import watch_production
from mntrading.pipelines.deployment.orders import aggregate_orders
from mntrading.pipelines.modelling.nodes import _stored, fitted

START = pd.Timestamp("2025-01-01T00:00:00Z")
DAY, STEP = pd.Timedelta(days=1), pd.Timedelta(minutes=5)
FORMED, NOW = START + 30 * DAY, START + 44 * DAY


@dataclass(frozen=True)
class Watched:
    """One pair in production with what watching it takes."""

    bars: dict[str, pd.DataFrame]
    pair: Pair
    spec: Any
    labels: Any
    trained: TrainedModel
    half_life_hours: float

    def stores(self, folder: Path, bars: dict[str, pd.DataFrame] | None = None) -> tuple[BarStore, BarStore]:
        bars = self.bars if bars is None else bars
        made = []
        for timeframe in ("5m", "1h"):
            frames = (
                bars if timeframe == "5m" else {s: aggregate(f, "1h").reset_index(drop=True) for s, f in bars.items()}
            )
            dataset = BarsDataset(path=str(folder / f"ohlcv_{timeframe}.parquet"), timeframe=timeframe)
            dataset.save(BarsUpdate("made", frames, {}))
            made.append(dataset.load())
        return made[0], made[1]

    def stored(self, trained: TrainedModel | None = None) -> StoredModel:
        made_of = {"feature_spec": spec_hash(self.spec), "market_symbols": []}
        return _stored(trained or self.trained, made_of, self.labels, 1)

    def models(self, folder: Path, model: StoredModel) -> tuple[str, Partitions]:
        dataset = PartitionedArtifactDataset(path=str(folder / "models"), format="model", append=True)
        sha = sha256(codec("model").encode(model))
        dataset.save({sha: model})
        return sha, dataset.load()

    def map(self, params: Any, sha: str | None, formed: pd.Timestamp = FORMED, days: int = 30) -> dict[str, Any]:
        entry = {
            "pair_id": self.pair.id, "dependent": self.pair.dependent, "independent": self.pair.independent,
            "half_life_hours": self.half_life_hours, "model": sha and {"id": sha, "sha256": sha},
            "rule": {"z_window": self.spec.z_window},
        }  # fmt: skip
        frozen = {
            "formation_start": (formed - days * DAY).isoformat(), "formation_end": formed.isoformat(),
            "features": self.spec.model_dump(mode="json"), "market_symbols": [],
            "strategy": params.backtest.strategy.model_dump(mode="json"),
            "costs": params.backtest.costs.model_dump(mode="json"), "pairs": [entry],
        }  # fmt: skip
        return {**frozen, "id": content_hash(frozen)}


def legs_of(simulated: Market) -> tuple[Pair, dict[str, pd.DataFrame], float]:
    truth = simulated.truth.iloc[0]
    pair = Pair(truth["dependent"], truth["independent"])
    grouped = simulated.bars("5m").groupby("symbol")
    bars = {symbol: grouped.get_group(symbol).reset_index(drop=True) for symbol in pair.symbols}
    return pair, bars, float(truth["half_life_hours"])


@pytest.fixture(scope="module")
def watched(params: Any) -> Watched:
    """A pair that holds, and a model fitted on its formation window."""
    pair, bars, half_life = legs_of(market("ou", seed=3, start=START, end=NOW))
    small = {"beta_window": 864, "z_window": 288, "volatility_window": 48, "lag_features": 2}
    spec = params.feature_engineering.features.model_copy(update=small)
    labels = params.feature_engineering.labels.model_copy(update={"horizon": 48, "zscore_threshold": 1.0})
    legs = [bars[symbol] for symbol in pair.symbols]
    features = build_features(legs[0], legs[1], spec)
    labelled = features.join(label(features, legs[0], legs[1], labels), how="inner")
    recipe = params.modelling.model_copy(
        update={"models": ("logistic_regression",), "gap": 48, "n_splits": 3, "min_events": 50}
    )
    trained = fit_group(formation_rows({pair.id: labelled}, START, FORMED), feature_names(spec), recipe).model
    assert trained is not None
    return Watched(bars, pair, spec, labels, trained, half_life)


def state_of(map_: dict[str, Any], at: pd.Timestamp = NOW, side: int = 0) -> dict[str, Any]:
    pairs = {entry["pair_id"]: {"side": side} for entry in map_["pairs"]}
    return {"as_of": at.isoformat(), "map_id": map_["id"], "pairs": pairs}


def watch(
    watched: Watched, folder: Path, params: Any, *, bars: dict[str, pd.DataFrame] | None = None,
    model: StoredModel | None = None, at: pd.Timestamp = NOW,
) -> dict[str, Any]:  # fmt: skip
    sha, models = watched.models(folder, model or watched.stored())
    map_ = watched.map(params, sha)
    stores = watched.stores(folder, bars)
    return watch_production(*stores, map_, models, state_of(map_, at), params.monitoring, params.screening)


def warnings(document: dict[str, Any]) -> list[str]:
    return [words for pair in document["pairs"] for words in pair["warnings"]]


def test_a_pair_that_holds_has_every_figure_no_warning_and_fits_the_schema(
    tmp_path: Path, watched: Watched, params: Any
) -> None:
    document = watch(watched, tmp_path, params)
    assert warnings(document) == []
    assert (document["level"], document["reason"]) == ("ok", "")
    (pair,) = document["pairs"]
    assert {row["column"] for row in pair["drift"]} == {*watched.trained.feature_names, "probability"}
    assert all(row["psi"] is not None and row["n_rows"] > 100 for row in pair["drift"])
    assert pair["calibration"]["n_independent"] > 5
    assert pair["relation"]["now"]["n_bars"] == 30 * 24
    dataset = ArtifactDataset(filepath=str(tmp_path / "m.json"), format="json", schema="monitoring")
    dataset.save(document)
    assert dataset.load()["level"] == "ok"


def test_the_same_bar_gives_the_same_bytes_whatever_comes_after_it(
    tmp_path: Path, watched: Watched, params: Any
) -> None:
    at = NOW - 3 * DAY
    texts = set()
    for name, bars in (
        ("whole", watched.bars),
        ("again", watched.bars),
        ("cut", {symbol: frame.loc[frame["timestamp"] < at] for symbol, frame in watched.bars.items()}),
    ):
        document = watch(watched, tmp_path / name, params, bars=bars, at=at)
        texts.add(codec("json").encode(document))
    assert len(texts) == 1


def test_rows_of_the_formation_window_are_not_compared_with_themselves(
    tmp_path: Path, watched: Watched, params: Any
) -> None:
    (pair,) = watch(watched, tmp_path, params, at=FORMED)["pairs"]
    assert {row["n_rows"] for row in pair["drift"]} == {0.0}
    early = [check["words"] for check in pair["checks"] if check["kind"] in ("drift", "scores", "calibration")]
    assert len(early) == 4
    assert all(words.startswith("too early") for words in early)
    assert pair["warnings"] == []


def test_a_feature_that_changes_after_the_formation_window_is_named(
    tmp_path: Path, watched: Watched, params: Any
) -> None:
    spikes = {
        symbol: frame.assign(
            volume=frame["volume"].where(frame["timestamp"] < FORMED, np.where(frame.index % 20 == 0, 1e6, 1.0))
        )
        for symbol, frame in watched.bars.items()
    }
    document = watch(watched, tmp_path, params, bars=spikes)
    (told,) = [words for words in warnings(document) if words.startswith("features drifted")]
    drifted = {row["column"] for row in document["pairs"][0]["drift"] if row["drifted"]}
    assert drifted - {"probability"} == {"volume_z_dependent", "volume_z_independent"}
    assert "volume_z_dependent PSI" in told
    assert document["level"] == "warning"  # drift is not among the kinds that reduce


def test_a_model_whose_probabilities_are_off_is_found(tmp_path: Path, watched: Watched, params: Any) -> None:
    share = watched.trained.references[watched.pair.id].base_rate
    wrong = Calibration("sigmoid", intercept=-4.0 if share > 0.5 else 4.0, slope=1.0)
    t = watched.trained
    off = TrainedModel(t.model, wrong, t.threshold, t.novelty, t.references)
    told = warnings(watch(watched, tmp_path, params, model=watched.stored(off)))
    assert [words.split(":")[0] for words in told] == [
        "the model's answers drifted",
        "probabilities are off",
        "probabilities are worse than the base rate",
    ]


def test_a_relation_that_breaks_is_warned_about_within_ten_days_of_bars(
    tmp_path: Path, watched: Watched, params: Any
) -> None:
    broken = START + 90 * DAY
    pair, bars, half_life = legs_of(market("break", seed=1, start=START, end=broken + 10 * DAY))
    breaking = Watched(bars, pair, watched.spec, watched.labels, watched.trained, half_life)
    map_ = breaking.map(params, None, formed=broken - 5 * DAY, days=60)
    stores, none = breaking.stores(tmp_path), PartitionedArtifactDataset(
        path=str(tmp_path / "none"), format="model", missing_ok=True
    ).load()  # fmt: skip
    levels = {}
    for days in (-4, -2, 0, 2, 4, 6, 8, 10):
        state = state_of(map_, broken + days * DAY)
        document = watch_production(*stores, map_, none, state, params.monitoring, params.screening)
        levels[days] = document["level"]
    assert {level for days, level in levels.items() if days <= 0} == {"ok"}
    assert levels[10] == "reducing"
    assert any("does not revert any more" in words for words in warnings(document))


def test_late_bars_and_missing_hours_are_warned_about(tmp_path: Path, watched: Watched, params: Any) -> None:
    one = watched.pair.dependent
    late = watched.bars | {one: watched.bars[one].loc[lambda rows: rows["timestamp"] < NOW - 3 * STEP]}
    assert "bars are 3 bars old, limit 0" in warnings(watch(watched, tmp_path / "late", params, bars=late))
    hole = watched.bars[one]["timestamp"].between(NOW - 20 * DAY, NOW - 10 * DAY)
    gap = watched.bars | {one: watched.bars[one].loc[~hole]}
    told = warnings(watch(watched, tmp_path / "gap", params, bars=gap))
    assert "the relation can't be tested: 67% of the newest window's bars are there, 90% needed" in told


def test_a_pair_without_any_bar_is_warned_about(tmp_path: Path, watched: Watched, params: Any) -> None:
    other = {"X/Y": watched.bars[watched.pair.dependent].assign(symbol="X/Y")}
    told = warnings(watch(watched, tmp_path, params, bars=other))
    assert "no bars" in told
    assert any("can't be tested: 0%" in words for words in told)


def test_a_model_that_is_missing_altered_or_knows_nothing_of_the_pair_is_warned_about(
    tmp_path: Path, watched: Watched, params: Any
) -> None:
    sha, models = watched.models(tmp_path, watched.stored())
    t = watched.trained
    bare = TrainedModel(t.model, t.calibration, t.threshold, t.novelty, {"A__B": t.references[watched.pair.id]})
    foreign, with_foreign = watched.models(tmp_path / "foreign", watched.stored(bare))
    stores = watched.stores(tmp_path)
    for there, model, told in (
        (models, {"id": "f" * 64, "sha256": "f" * 64}, "is missing"),
        (models, {"id": sha, "sha256": "f" * 64}, "is not the one that was promoted"),
        (with_foreign, {"id": foreign, "sha256": foreign}, "was fitted on no row of this pair"),
    ):
        map_ = watched.map(params, sha)
        map_["pairs"][0]["model"] = model
        document = watch_production(*stores, map_, there, state_of(map_), params.monitoring, params.screening)
        (words,) = warnings(document)
        assert told in words
        assert document["pairs"][0]["drift"] == []
        assert document["pairs"][0]["calibration"] is None


@pytest.mark.parametrize("part", ["references", "labels"])
def test_a_model_file_without_its_reference_holds_no_whole_model(watched: Watched, part: str) -> None:
    whole = watched.stored()
    assert fitted(whole).references.keys() == {watched.pair.id}
    lacking = StoredModel(whole.kind, whole.estimator, {k: v for k, v in whole.meta.items() if k != part})
    with pytest.raises(ArtifactError, match="holds no whole model"):
        fitted(lacking)


def test_a_reference_is_small_and_the_same_every_time(watched: Watched) -> None:
    document = watched.trained.document()["references"]
    assert len(json.dumps(document)) < 500 * (len(watched.trained.feature_names) + 1)
    assert codec("model").encode(watched.stored()) == codec("model").encode(watched.stored())


def test_nothing_in_production_is_a_valid_state(tmp_path: Path, watched: Watched, params: Any) -> None:
    map_ = watched.map(params, None) | {"pairs": []}
    none = PartitionedArtifactDataset(path=str(tmp_path / "none"), format="model", missing_ok=True).load()
    stores = watched.stores(tmp_path)
    document = watch_production(*stores, map_, none, state_of(map_), params.monitoring, params.screening)
    assert (document["level"], document["reason"], document["pairs"]) == ("ok", "no pair is in production", [])


def test_a_state_of_another_map_is_refused(tmp_path: Path, watched: Watched, params: Any) -> None:
    sha, models = watched.models(tmp_path, watched.stored())
    map_ = watched.map(params, sha)
    state = state_of(map_) | {"map_id": "0" * 64}
    with pytest.raises(ArtifactError, match="is in production"):
        watch_production(*watched.stores(tmp_path), map_, models, state, params.monitoring, params.screening)


def entry_of(watched: Watched) -> dict[str, Any]:
    return {
        "pair_id": watched.pair.id, "dependent": watched.pair.dependent, "independent": watched.pair.independent,
        "action": "enter", "side": 1, "hedge_ratio": 1.0, "confidence": 1.0, "reason": "entry", "spread_std": 0.01,
        "half_life_hours": 8.0, "cluster": None,
    }  # fmt: skip


def flat(sizes: Any) -> dict[str, Any]:
    """An account that holds nothing."""
    return {"book": book_document(Book(sizes.capital)), "before": None, "totals": {}}


@pytest.mark.parametrize(
    ("configured", "level", "effective", "n_orders"),
    [
        ("active", "warning", "active", 2),
        ("active", "reducing", "reducing", 0),
        ("reducing", "ok", "reducing", 0),
        ("halted", "reducing", "halted", 0),
    ],
)
def test_orders_are_made_by_the_stricter_kill_switch_and_say_why(
    tmp_path: Path, watched: Watched, params: Any, configured: Any, level: str, effective: str, n_orders: int
) -> None:
    map_, store = watched.map(params, None), watched.stores(tmp_path)[0]
    dataset = DatedArtifactDataset(path=str(tmp_path / "signals"), format="jsonl")
    dataset.save({f"{NOW:%Y%m%dT%H%M%SZ}": [entry_of(watched)]})
    told = {"as_of": NOW.isoformat(), "level": level, "reason": "1 of 1 pairs"}
    sizes = params.portfolio.model_copy(update={"kill_switch": configured})
    markets = {"as_of": NOW.isoformat(), "symbols": {}}
    document, _ = aggregate_orders(dataset.load(), state_of(map_), map_, flat(sizes), store, markets, sizes, told)
    assert document["kill_switch"] == effective
    assert len(document["orders"]) == n_orders
    assert ("monitoring: 1 of 1 pairs" in document["kill_switch_reason"]) == (configured != effective)


def test_a_symbol_without_any_bar_has_the_price_of_the_orders_before(
    tmp_path: Path, watched: Watched, params: Any
) -> None:
    map_ = watched.map(params, None)
    empty = BarsDataset(path=str(tmp_path / "none.parquet"), timeframe="5m", missing_ok=True).load()
    dataset = DatedArtifactDataset(path=str(tmp_path / "signals"), format="jsonl")
    dataset.save({f"{NOW:%Y%m%dT%H%M%SZ}": [entry_of(watched)]})
    told, markets = {"as_of": NOW.isoformat(), "level": "ok", "reason": ""}, {"symbols": {}}
    known = dict.fromkeys(watched.pair.symbols, 7.5)

    def prices(before: Any) -> Any:
        account, signals = flat(params.portfolio) | {"before": before}, dataset.load()
        return aggregate_orders(signals, state_of(map_), map_, account, empty, markets, params.portfolio, told)[0][
            "prices"
        ]

    assert prices({"prices": known}) == known
    with pytest.raises(BarDataError, match="reference price is nan"):
        prices(None)


def test_monitoring_of_another_bar_says_nothing_about_this_one(tmp_path: Path, watched: Watched, params: Any) -> None:
    map_, store = watched.map(params, None), watched.stores(tmp_path)[0]
    dataset = DatedArtifactDataset(path=str(tmp_path / "signals"), format="jsonl")
    dataset.save({f"{NOW:%Y%m%dT%H%M%SZ}": []})
    told = {"as_of": (NOW - STEP).isoformat(), "level": "ok", "reason": ""}
    markets, sizes = {"as_of": NOW.isoformat(), "symbols": {}}, params.portfolio
    with pytest.raises(ArtifactError, match="is of the bar closed at"):
        aggregate_orders(dataset.load(), state_of(map_), map_, flat(sizes), store, markets, sizes, told)
