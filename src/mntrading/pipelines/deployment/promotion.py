"""Step 8: champions frozen with everything live inference needs."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.core.features import spec_hash
from mntrading.datasets import Partitions, StoredModel
from mntrading.datasets.codecs import codec
from mntrading.datasets.storage import content_hash, sha256
from mntrading.params import (
    BacktestParams,
    FeatureParams,
    ProductionParams,
)
from mntrading.pipelines.common import SCHEMA_VERSION, digest

LOGGER = logging.getLogger(__name__)


_FROZEN = ("pair_id", "dependent", "independent", "half_life_hours", "rule")
"""What the production map takes from a registry entry as it is."""


def promote(
    champion_registry: dict[str, Any],
    pair_models: Partitions,
    features: FeatureParams,
    backtest: BacktestParams,
    production: ProductionParams,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, StoredModel]]:
    """Freeze the champions with everything live inference needs; the map's id is the hash of its content.

    Models are copied to production by their hash, so that training anew changes nothing that is live. Returns the
    map, its entry in the history, and the models.
    """
    for name, block in (("features", features), ("backtest", backtest)):
        if champion_registry["parameters"][name] != digest(block.model_dump(mode="json")):
            raise ParameterError(
                f"the {name} parameters are not those the champions' record was made with",
                where="models/registry.json",
                fix="kedro run (to make the record anew), or leave the parameters as they were",
            )
    spec = spec_hash(features)
    if champion_registry["feature_spec"] != spec:
        raise ArtifactError(
            "its record was made with other features than the code makes now",
            where="models/registry.json",
            fix="kedro run (to make the record anew)",
        )
    models, pairs = {}, []
    market_symbols: set[str] = set()
    for entry in champion_registry["champions"]:
        model = None
        if entry["model"] is not None:
            stored = pair_models[entry["model"]["id"]]
            if stored.meta["feature_spec"] != spec:
                raise ArtifactError(
                    "was trained on other features than the code and the parameters make now",
                    where=entry["model"]["id"],
                    fix="kedro run (to train it anew)",
                )
            market_symbols.update(stored.meta["market_symbols"])
            sha = sha256(codec("model").encode(stored))
            models[sha] = stored
            model = {"id": sha, "sha256": sha}
        pairs.append({key: entry[key] for key in _FROZEN})
        pairs[-1]["model"] = model
    frozen = {
        "schema_version": SCHEMA_VERSION,
        "as_of": champion_registry["as_of"],
        "inputs": {"champion_registry": content_hash(champion_registry)},
        "formation_start": champion_registry["formation_start"],
        "formation_end": champion_registry["formation_end"],
        "expires": pd.Timestamp(champion_registry["formation_end"]) + pd.Timedelta(production.valid_days, unit="D"),
        "features": features.model_dump(mode="json"),
        "feature_spec": spec,
        "market_symbols": sorted(market_symbols),
        "strategy": backtest.strategy.model_dump(mode="json"),
        "costs": backtest.costs.model_dump(mode="json"),
        "fill_at": backtest.fill_at,
        "pairs": pairs,
    }
    id_ = content_hash(frozen)
    LOGGER.info("production map %s: %d pairs, valid to %s", id_[:12], len(pairs), frozen["expires"])
    document = {**frozen, "id": id_}
    return document, {id_[:16]: document}, models
