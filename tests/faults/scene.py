"""A finished project of the test environment on which one more short cycle has everything to do.

Three pairs are in production, each with a model of its own. One is held and leaves on the way to the new bar, two enter
on the new bar: one of these is the pair a fault is aimed at, the other shows that the rest goes on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cycles
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mntrading.configuration import parameters
from mntrading.core.calibration import Calibration
from mntrading.core.estimators import FittedModel
from mntrading.core.features import build_spread
from mntrading.core.menu import Item, Levels
from mntrading.core.novelty import Novelty
from mntrading.core.training import TrainedModel
from mntrading.datasets import ArtifactDataset, BarsDataset, BarStore, PartitionedArtifactDataset, StoredModel
from mntrading.datasets.storage import plain
from mntrading.params import FeatureParams

CLOSED: Final = pd.Timestamp("2025-02-24T00:00:00Z")
STEP: Final = pd.Timedelta(minutes=5)
RESEARCH: Final = {
    "feature_engineering": {"features": {"include": ["z_dynamics", "market_volatility"]}},
    "modelling": {"models": ["logistic_regression"]},
}
"""Fewer features than the environment's, one of them the whole market's; one model in place of two."""

_WHOLE: Final = ("z", "market_volatility")
_STAGES: Final = ("ingest", "screen", "features", "dataset", "train", "backtest", "select")
_FURTHEST: Final = 900
_NEAREST: Final = 580


@dataclass(frozen=True)
class Scene:
    """A storage root ahead of its new bar.

    Parameters
    ----------
    root
        Storage root; read only.
    held, hit, spared
        Pairs: held, with an exit due by the new bar; entering, and aimed at; entering, and let alone.
    legs
        Symbols of each pair.
    stored_until, bar
        Close of the newest bar that is stored, and of the new one.
    """

    root: Path
    held: str
    hit: str
    spared: str
    legs: Mapping[str, tuple[str, str]]
    stored_until: pd.Timestamp
    bar: pd.Timestamp


def research(folder: Path) -> Path:
    """One research run of the test environment."""
    root = folder / "research"
    ended = cycles.forked(root, cycles.served(iso(CLOSED)) | RESEARCH, ("full_cycle",), _STAGES)
    if ended.code:
        raise RuntimeError(f"research ended with {ended.code}: {ended.said}")
    return root


def prepared(folder: Path) -> Scene:
    """The scene of a folder; where it has none yet, from a research run of its own."""
    kept = folder / "scene.json"
    if kept.exists():
        known = json.loads(kept.read_text())
        times = {name: pd.Timestamp(known.pop(name)) for name in ("stored_until", "bar")}
        legs = {name: (a, b) for name, (a, b) in known.pop("legs").items()}
        return Scene(Path(known.pop("root")), legs=legs, **known, **times)
    scene = _made(folder)
    kept.write_text(json.dumps(asdict(scene), default=str))
    return scene


def _made(folder: Path) -> Scene:
    base = research(folder)
    registry = cycles.apart(lambda: _with_models(base))
    first = cycles.copy(base, folder / "scratch")
    _save_registry(first, registry)
    _promoted(first, CLOSED, "promote")
    _run(first, CLOSED + _FURTHEST * STEP)
    for rules, bar in cycles.apart(lambda: list(_rules(first, registry))):
        scene = _tried(cycles.copy(base, folder / "scene"), registry, rules, bar)
        if scene is not None:
            return scene
    raise RuntimeError("there is no bar in three days on which two pairs enter after a third was held")


def _tried(root: Path, registry: dict[str, Any], rules: Mapping[str, Mapping[str, Any]], bar: int) -> Scene | None:
    """The scene of some rules and bar, if it comes out as wanted."""
    changed = [_changed(entry, rules[entry["pair_id"]], _trained(root)) for entry in registry["champions"]]
    _save_registry(root, registry | {"champions": changed})
    _promoted(root, CLOSED, "promote", "inference", "aggregate")
    _run(root, CLOSED + STEP)
    roles = {row["role"]: pair_id for pair_id, row in rules.items()}
    scene = Scene(
        root, roles["held"], roles["hit"], roles["spared"],
        {entry["pair_id"]: (entry["dependent"], entry["independent"]) for entry in changed}, CLOSED + STEP,
        CLOSED + bar * STEP,
    )  # fmt: skip
    book = holdings(root, "book")
    tried = cycles.copy(root, root.parent / "tried")
    _run(tried, scene.bar)
    return scene if book == {scene.held} and holdings(tried, "wanted") == {scene.hit, scene.spared} else None


def _changed(entry: Mapping[str, Any], by: Mapping[str, Any], models: PartitionedArtifactDataset) -> dict[str, Any]:
    """A registry's entry as the scene has it."""
    model = _reference(models, f"market/{entry['pair_id']}") if by["role"] == "hit" else entry["model"]
    return {**entry, "rule": entry["rule"] | by["rule"], "model": model, **by["own"]}


def holdings(root: Path, which: str) -> set[str]:
    """Pairs of the newest orders' ``book`` or ``wanted``."""
    document = json.loads((root / "portfolio/latest_orders.json").read_text())
    return {row["pair_id"] for row in document[which]["holdings"]}


def _rules(root: Path, registry: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Levels under which one pair enters at once, and two others on a later bar and not before."""
    store = BarsDataset(path=str(root / "raw/ohlcv_5m.parquet"), timeframe="5m").load()
    features = FeatureParams.model_validate(json.loads((root / "models/production_map.json").read_text())["features"])
    z = {entry["pair_id"]: _z(entry, store, features) for entry in registry["champions"]}
    for held, hit, spared in itertools.permutations(z):
        now = abs(z[held].loc[CLOSED - STEP])
        for bar in range(_NEAREST, _FURTHEST, 12):
            then = {name: abs(z[name].loc[CLOSED + (bar - 1) * STEP]) for name in (hit, spared)}
            early = {name: z[name].loc[[CLOSED - STEP, CLOSED]].abs().max() for name in then}
            if not all(early[name] + 0.02 < then[name] < 3.0 for name in then) or not 0.1 < now < 3.0:
                continue
            rules = {
                name: {"role": role, "rule": {"entry_z": float(then[name] - 0.01), "exit_z": 0.0}, "own": {}}
                for role, name in (("hit", hit), ("spared", spared))
            }
            # the time stop comes by the new bar, so that the exit needs no bars
            own = {"half_life_hours": (bar - 2) / 12 / 4.0}
            rules[held] = {"role": "held", "rule": {"entry_z": float(now * 0.9), "exit_z": 0.0}, "own": own}
            yield rules, bar


def _z(entry: Mapping[str, Any], store: BarStore, features: FeatureParams) -> pd.Series:
    rule = entry["rule"]
    levels = Levels(**{name: rule[name] for name in ("entry_z", "exit_z", "stop_z")})
    own = Item(rule["label"], rule["beta_window"], rule["z_window"], levels).spread_params(features)
    return build_spread(store[entry["dependent"]], store[entry["independent"]], own)["z"]


def model_of(names: tuple[str, ...], made_of: Mapping[str, Any], seed: int = 0) -> StoredModel:
    """A model that is for nearly every entry."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, len(names)))
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4)).fit(X, rng.random(400) < 0.9)
    return stored(FittedModel("logistic_regression", "sklearn", estimator, names), made_of)


def stored(model: FittedModel, made_of: Mapping[str, Any]) -> StoredModel:
    """A model with what its word is judged by, which lets all pass; ``made_of`` as the meta of a trained one has it."""
    n = len(model.feature_names)
    everywhere = Novelty(np.zeros(n), np.ones(n), np.eye(n), limit=1e9, blocks_entry=False)
    trained = TrainedModel(model, Calibration(), None, everywhere, {})
    meta = {name: made_of[name] for name in ("feature_spec", "market_symbols", "labels")}
    named = {"name": model.name, "feature_names": list(model.feature_names)}
    return StoredModel(model.kind, model.estimator, meta | named | trained.document())


def _with_models(root: Path) -> dict[str, Any]:
    """The registry with every candidate a champion by a model of its own, which is stored."""
    registry = ArtifactDataset(filepath=str(root / "models/registry.json"), format="json").load()
    entries = sorted(registry["champions"] + registry["rejected"], key=lambda entry: str(entry["pair_id"]))[:3]
    dataset = _trained(root)
    datasets = PartitionedArtifactDataset(
        path=str(root / "datasets/pairs"), manifest="../_manifest.json", format="parquet"
    ).load()
    blocks = parameters(cycles.PROJECT / "conf")
    labels = blocks["feature_engineering"].labels.model_dump(mode="json")  # type: ignore[attr-defined]
    made_of = {name: datasets.meta[name] for name in ("feature_spec", "market_symbols")} | {"labels": labels}
    models = {f"live/{e['pair_id']}": model_of(("z",), made_of, seed) for seed, e in enumerate(entries)}
    # of the pair that is aimed at, which any may come to be: it looks at the whole market
    models |= {f"market/{e['pair_id']}": model_of(_WHOLE, made_of, seed) for seed, e in enumerate(entries)}
    dataset.save(models)
    champions = [entry | {"model": _reference(dataset, f"live/{entry['pair_id']}")} for entry in entries]
    return dict(plain(registry | {"champions": champions, "rejected": []}))


def _trained(root: Path) -> PartitionedArtifactDataset:
    return PartitionedArtifactDataset(path=str(root / "models/pairs"), format="model", append=True)


def _reference(dataset: PartitionedArtifactDataset, id_: str) -> dict[str, str]:
    return {"id": id_, "sha256": dataset.load().digests[id_]}


def _save_registry(root: Path, registry: Mapping[str, Any]) -> None:
    file = str(root / "models/registry.json")
    ArtifactDataset(filepath=file, format="json", schema="champion_registry").save(registry)


def _promoted(root: Path, at: pd.Timestamp, *tags: str) -> None:
    _checked(cycles.forked(root, cycles.served(iso(at)) | RESEARCH, ("full_cycle",), tags))


def _run(root: Path, at: pd.Timestamp) -> None:
    _checked(cycles.forked(root, cycles.served(iso(at))))


def _checked(ended: cycles.Ended) -> None:
    if ended.code:
        raise RuntimeError(f"a run ended with {ended.code}: {ended.said}")


def iso(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
