"""Registries, models and what promotion makes of them, as small as they can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mntrading.configuration import parameters
from mntrading.core.calibration import Calibration
from mntrading.core.estimators import FittedModel
from mntrading.core.features import spec_hash
from mntrading.core.novelty import Novelty
from mntrading.core.training import TrainedModel
from mntrading.datasets import (
    KEPT,
    ArtifactDataset,
    GuardedArtifactDataset,
    PartitionedArtifactDataset,
    Partitions,
    StoredModel,
)
from mntrading.datasets.storage import canonical_json
from mntrading.kernels import code_stamp
from mntrading.pipelines.common import digest
from mntrading.pipelines.deployment.promotion import promote
from mntrading.pipelines.deployment.rollback import rollback
from mntrading.pipelines.deployment.shadow import freeze_shadow

LABELS = parameters(Path(__file__).parents[2] / "conf")["feature_engineering"].labels
AS_OF = "2025-02-24T00:00:00Z"
AB, CD, EF = "A-USDT__B-USDT", "C-USDT__D-USDT", "E-USDT__F-USDT"


def model_of(spec: str, threshold: float | None = None, seed: int = 0) -> StoredModel:
    """A model that tells some probability of one feature."""
    X = np.random.default_rng(seed).normal(size=(60, 1))
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X[:, 0] > 0)
    everywhere = Novelty(np.zeros(1), np.ones(1), np.eye(1), limit=1e9, blocks_entry=False)
    fitted = FittedModel("logistic_regression", "sklearn", estimator, ("z",))
    trained = TrainedModel(fitted, Calibration(), threshold, everywhere, {})
    meta = {"name": fitted.name, "feature_names": ["z"], "feature_spec": spec, "market_symbols": ["A/USDT"]}
    meta["labels"] = LABELS.model_dump(mode="json")
    return StoredModel("sklearn", estimator, meta | trained.document())


def stored(folder: Path, models: dict[str, StoredModel], *, append: bool = False) -> Partitions:
    """Models as they are loaded from a folder."""
    dataset = PartitionedArtifactDataset(path=str(folder), format="model", append=True, missing_ok=True)
    if models or append:
        dataset.save(models)
    return dataset.load()


def champion(pair_id: str, model: dict[str, str] | None = None, **rule: Any) -> dict[str, Any]:
    """A registry's entry, of what promotion reads."""
    dependent, _, independent = pair_id.replace("-", "/").partition("__")
    levels = {"label": "configured", "beta_window": 500, "z_window": 200, "entry_z": 2.0, "exit_z": 0.5, "stop_z": 4.0}
    return {
        "pair_id": pair_id, "dependent": dependent, "independent": independent, "cluster": 2, "half_life_hours": 8.0,
        "rule": levels | rule, "model": model,
    }  # fmt: skip


def challenger(
    pair_id: str, *kinds: str, flagged: bool = True, cluster: int = 2, model: dict[str, str] | None = None
) -> dict[str, Any]:
    """A candidate that failed by rules of these kinds, ``evidence`` where none is named."""
    failures = [{"kind": kind} for kind in kinds or ("evidence",)]
    return champion(pair_id, model) | {"cluster": cluster, "challenger": flagged, "failures": failures}


def registry_of(params: Any, champions: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A registry made with these parameters by the code there is."""
    features = params.feature_engineering.features
    made_with = {
        name: digest(block.model_dump(mode="json"))
        for name, block in (("features", features), ("backtest", params.backtest), ("champions", params.champions))
    }
    return {
        "as_of": AS_OF, "inputs": {"roster": "1" * 64}, "parameters": made_with, "feature_spec": spec_hash(features),
        "core_code": code_stamp(), "formation_start": "2025-01-25T00:00:00Z", "formation_end": AS_OF,
        "champions": [entry | {"challenger": False} for entry in champions], "rejected": [], **changes,
    }  # fmt: skip


@dataclass
class Desk:
    """Production files in a folder, saved and loaded as the catalog does, and the ways they change."""

    root: Path
    params: Any
    runs: int = 0
    pair_models: Partitions = field(init=False)

    def __post_init__(self) -> None:
        models = self.root / "models"
        self.pair_models = stored(models / "pairs", {})
        self.map = ArtifactDataset(
            filepath=str(models / "production_map.json"), format="json", schema="production_map", missing_ok=True
        )
        self.log = ArtifactDataset(
            filepath=str(models / "production_log.jsonl"), format="jsonl", schema="production_log", missing_ok=True
        )
        self.history = PartitionedArtifactDataset(
            path=str(models / "production_history"), format="json", schema="production_map", append=True,
            missing_ok=True,
        )  # fmt: skip
        self.models = PartitionedArtifactDataset(
            path=str(models / "production"), format="model", append=True, missing_ok=True
        )
        self.shadow_map = GuardedArtifactDataset(
            filepath=str(models / "shadow_map.json"), format="json", schema="production_map", missing_ok=True
        )
        self.shadow_log = GuardedArtifactDataset(
            filepath=str(models / "shadow_log.jsonl"), format="jsonl", schema="production_log", missing_ok=True
        )

    def trained(self, threshold: float | None = None, seed: int = 0) -> dict[str, str]:
        """A registry's reference to a model that is trained now, in place of the one before."""
        spec = spec_hash(self.params.feature_engineering.features)
        self.pair_models = stored(self.root / "models/pairs", {"live/pooled": model_of(spec, threshold, seed)})
        return {"id": "live/pooled", "sha256": self.pair_models.digests["live/pooled"]}

    def record(self) -> dict[str, str]:
        """Another run, as the next node is told of it."""
        self.runs += 1
        return {"run_id": f"run-{self.runs}", "revision": "0123abc"}

    def promote(self, registry: dict[str, Any], production: Any = None) -> dict[str, Any]:
        """Promote, and save what it gives in its order."""
        made = promote(
            registry, self.pair_models, self.params.feature_engineering.features, self.params.backtest,
            production or self.params.production, self.params.champions, self.history.load(), self.log.load(),
            self.record(),
        )  # fmt: skip
        for dataset, data in zip((self.models, self.history, self.log, self.map), made, strict=True):
            dataset.save(data)
        return made[-1]

    def freeze_shadow(self, registry: dict[str, Any], **changes: Any) -> dict[str, Any] | None:
        """Freeze the shadow beside production, and save what it gives in its order."""
        own = self.params.production
        own = own.model_copy(update={"shadow": own.shadow.model_copy(update=changes)})
        made = freeze_shadow(
            registry, self.pair_models, self.params.feature_engineering.features, self.params.backtest, own,
            self.params.champions, self.map.load(), self.shadow_log.load(), self.record(),
        )  # fmt: skip
        for dataset, data in zip((self.models, self.shadow_log, self.shadow_map), made, strict=True):
            if data is not KEPT:
                dataset.save(data)
        return self.shadow_map.load()

    def rollback(self, to: str | None = None) -> dict[str, Any]:
        """Roll back, and save what it gives in its order."""
        production = self.params.production.model_copy(update={"rollback_to": to})
        made = rollback(self.log.load(), self.history.load(), self.models.load(), production, self.record())
        for dataset, data in zip((self.log, self.map), made, strict=True):
            dataset.save(data)
        return made[-1]

    def files(self) -> dict[str, bytes]:
        """Bytes of every production file."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "pairs" not in path.parts
        }

    def map_bytes(self) -> bytes:
        """Bytes of the production map."""
        return (self.root / "models/production_map.json").read_bytes()


def canonical(document: Any) -> bytes:
    """A document's bytes in its file."""
    return canonical_json(document)
