"""Step 8: champions frozen with everything live inference needs, and what promotion would change."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from mntrading.core import champion_rules
from mntrading.core.challenge import Contender, Lineup, line_up
from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.core.features import spec_hash
from mntrading.core.types import Pair
from mntrading.datasets import Partitions, StoredModel
from mntrading.datasets.codecs import codec
from mntrading.datasets.storage import content_hash, plain, reporting, sha256
from mntrading.kernels import code_stamp
from mntrading.params import (
    BacktestParams,
    ChampionParams,
    FeatureParams,
    ProductionParams,
)
from mntrading.pipelines.common import SCHEMA_VERSION, digest, sealed
from mntrading.pipelines.deployment import production_log as log
from mntrading.pipelines.deployment.changes import diff
from mntrading.pipelines.deployment.production_map import hedge_of, needed_probability
from mntrading.pipelines.modelling.nodes import fitted

LOGGER = logging.getLogger(__name__)

MODELS: Final = "models/production"
"""Folder of the promoted models below the storage root, as the catalog has it."""

HISTORY_ID: Final = 16
"""Characters of a map's id that name it in the history."""

_FROZEN = ("pair_id", "dependent", "independent", "cluster", "half_life_hours", "rule")
"""What the production map takes from a registry entry as it is."""

_REGISTRY: Final = "models/registry.json"
_ANEW: Final = "kedro run (to make the record anew)"


def promote(
    champion_registry: dict[str, Any],
    pair_models: Partitions,
    features: FeatureParams,
    backtest: BacktestParams,
    production: ProductionParams,
    champions: ChampionParams,
    production_history: Partitions,
    production_log: list[dict[str, Any]] | None,
    run_record: dict[str, Any],
) -> tuple[dict[str, StoredModel], dict[str, dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Freeze the champions with everything live inference needs; the map's id is the hash of its content.

    Challengers that were taken in on their record keep their places while the registry finds nothing against them.

    Models are copied to production by their hash, so that training anew changes nothing that is live. Returns the
    models, the map's entry in the history, the log and the map, in the order they are saved in: the map names nothing
    that is not there yet. The same champions promoted again leave every file as it is.
    """
    lines = log.checked(production_log)
    before = known(production_history, log.current(lines))
    pairs = _pairs(champion_registry, before, lines, champions)
    document, models = freeze(champion_registry, pairs, pair_models, features, backtest, production, code_stamp())
    changes = diff(before, document)
    lines = log.appended(lines, "promote", document, changes, run_record)
    LOGGER.info("%s", "\n".join(changes.lines()))
    return models, {document["id"][:HISTORY_ID]: document}, lines, document


def promote_preview(
    champion_registry: dict[str, Any],
    pair_models: Partitions,
    features: FeatureParams,
    backtest: BacktestParams,
    production: ProductionParams,
    champions: ChampionParams,
    production_map: dict[str, Any] | None,
    production_log: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    """What promotion would change in the production map there is now; nothing of production is written."""
    pairs = _pairs(champion_registry, production_map, log.checked(production_log), champions)
    document, _ = freeze(champion_registry, pairs, pair_models, features, backtest, production, code_stamp())
    changes = diff(production_map, document)
    LOGGER.info("%s", "\n".join(changes.lines()))
    return {
        "schema_version": SCHEMA_VERSION,
        "as_of": document["as_of"],
        "inputs": document["inputs"],
        **changes.document(),
        "lines": changes.lines(),
    }


def _pairs(
    registry: Mapping[str, Any], before: Mapping[str, Any] | None, lines: log.Log, params: ChampionParams
) -> tuple[str, ...]:
    """What promotion puts into production: champions, and challengers taken in on their record that may stay."""
    champions = [entry["pair_id"] for entry in registry["champions"]]
    there = {entry["pair_id"] for entry in (before or {"pairs": ()})["pairs"]}
    kept = [pair_id for pair_id in log.taken(lines) if pair_id in there and stands(registry, pair_id)]
    return lined_up(registry, champions, kept, params).pairs


def lined_up(
    registry: Mapping[str, Any], champions: Sequence[str], challengers: Sequence[str], params: ChampionParams
) -> Lineup:
    """Pairs of a registry with others as challengers in their midst."""
    entries = entries_of(registry)

    def contenders(pair_ids: Sequence[str]) -> list[Contender]:
        found = (entries[pair_id] for pair_id in pair_ids)
        return [Contender(Pair(entry["dependent"], entry["independent"]), entry["cluster"]) for entry in found]

    return line_up(contenders(champions), contenders(challengers), params)


def entries_of(registry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every candidate of a registry by pair id, champions first."""
    return {entry["pair_id"]: entry for entry in (*registry["champions"], *registry["rejected"])}


def stands(registry: Mapping[str, Any], pair_id: str) -> bool:
    """Whether a registry has a pair that is no champion, and finds nothing against it but evidence or a place."""
    entry = next((entry for entry in registry["rejected"] if entry["pair_id"] == pair_id), None)
    return entry is not None and {failure["kind"] for failure in entry["failures"]} <= champion_rules.CURABLE


def freeze(
    champion_registry: Mapping[str, Any],
    pair_ids: Sequence[str],
    pair_models: Partitions,
    features: FeatureParams,
    backtest: BacktestParams,
    production: ProductionParams,
    core_code: str,
) -> tuple[dict[str, Any], dict[str, StoredModel]]:
    """The production map of pairs of a registry, as plain values, and its models by hash.

    The same registry, pairs, parameters and code of the core give the same map.

    Raises
    ------
    ParameterError, ArtifactError
        Parameters, features, code or a model are not those the champions were chosen with.
    """
    spec = spec_hash(features)
    _check_record(champion_registry, features, backtest, spec, core_code)
    validity = {name: champion_registry[name] for name in ("formation_start", "formation_end")}
    validity["expires"] = pd.Timestamp(validity["formation_end"]) + pd.Timedelta(production.valid_days, unit="D")
    models: dict[str, StoredModel] = {}
    pairs, market_symbols = [], set()
    entries = entries_of(champion_registry)
    for entry in (entries[pair_id] for pair_id in pair_ids):
        model = None
        if entry["model"] is not None:
            stored = _judged(entry["model"], pair_models, spec)
            with reporting(entry["model"]["id"]):
                trained = fitted(stored)
            market_symbols.update(stored.meta["market_symbols"])
            sha = sha256(codec("model").encode(stored))
            models[sha] = stored
            model = {
                "id": sha,
                "sha256": sha,
                "uri": f"{MODELS}/{sha}{codec('model').suffix}",
                "name": trained.name,
                "threshold": trained.threshold,
            }
        pairs.append(
            {
                **{key: entry[key] for key in _FROZEN},
                **validity,
                "hedge": hedge_of(features, entry["rule"]),
                "model": model,
                "probability_threshold": needed_probability(backtest.strategy, model),
            }
        )
    frozen = {
        "schema_version": SCHEMA_VERSION,
        "as_of": champion_registry["as_of"],
        "inputs": {"champion_registry": content_hash(champion_registry), **champion_registry["inputs"]},
        "parameters": champion_registry["parameters"],
        "core_code": core_code,
        **validity,
        "features": features.model_dump(mode="json"),
        "feature_spec": spec,
        "market_symbols": sorted(market_symbols),
        "strategy": backtest.strategy.model_dump(mode="json"),
        "costs": backtest.costs.model_dump(mode="json"),
        "fill_at": backtest.fill_at,
        "pairs": pairs,
    }
    return plain(sealed(frozen)), models


def _check_record(
    registry: Mapping[str, Any], features: FeatureParams, backtest: BacktestParams, spec: str, core_code: str
) -> None:
    """Refuse a registry that other parameters, features or code than those of now have made."""
    for name, block in (("features", features), ("backtest", backtest)):
        if registry["parameters"][name] != digest(block.model_dump(mode="json")):
            raise ParameterError(
                f"the {name} parameters are not those the champions' record was made with",
                where=_REGISTRY,
                fix=f"{_ANEW}, or leave the parameters as they were",
            )
    if registry["feature_spec"] != spec:
        raise ArtifactError(
            "its record was made with other features than the code makes now", where=_REGISTRY, fix=_ANEW
        )
    if registry["core_code"] != core_code:
        raise ArtifactError(
            f"its record was made by other code ({registry['core_code'][:12]}) than the core is now ({core_code[:12]})",
            where=_REGISTRY,
            fix=_ANEW,
        )


def _judged(model: Mapping[str, str], pair_models: Partitions, spec: str) -> StoredModel:
    """The model a champion was chosen with."""
    if pair_models.digests.get(model["id"]) != model["sha256"]:
        raise ArtifactError("was trained anew since the champions were chosen", where=model["id"], fix=_ANEW)
    stored: StoredModel = pair_models[model["id"]]
    if stored.meta["feature_spec"] != spec:
        raise ArtifactError(
            "was trained on other features than the code and the parameters make now",
            where=model["id"],
            fix="kedro run (to train it anew)",
        )
    return stored


def known(history: Partitions, id_: str | None) -> dict[str, Any] | None:
    """The map the log says is in production; None where there is none, or where the history was begun anew."""
    if id_ is not None and id_[:HISTORY_ID] not in history:
        LOGGER.warning("map %s is not in the history any more: every pair counts as one that enters", id_[:12])
        return None
    return None if id_ is None else history[id_[:HISTORY_ID]]
