"""The production map as live steps read it: unaltered, of parameters this code knows, and at one with itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from mntrading.core import strategy
from mntrading.core.errors import ArtifactError
from mntrading.params import CostParams, FeatureParams, StrategyParams
from mntrading.pipelines.common import seal_holds
from mntrading.pipelines.deployment import production_log as log

WHERE: Final = "models/production_map.json"
SHOWN: Final = 12
"""Characters of an id in messages; enough to name the map in ``production.rollback_to``."""


def check(production_map: Mapping[str, Any], production_log: log.Log | None) -> None:
    """Refuse a map that was altered after promotion, or whose parameters this code does not know.

    Raises
    ------
    ArtifactError
        Naming the command that restores the map the log says is live.
    """
    sound = seal_holds(production_map)
    problem = "" if sound else "its content does not match its id: it was altered after promotion"
    unknown = unreadable(production_map)
    if not problem and unknown:
        problem = f"is not one this code can trade by: {unknown}"
    if problem:
        id_ = str(production_log[-1]["map_id"] if production_log else production_map["id"])[:SHOWN]
        raise ArtifactError(
            problem,
            where=WHERE,
            fix=f"kedro run --pipelines rollback --params production.rollback_to={id_} (restores the very map), "
            "or kedro run --pipelines promote (makes it from the registry)",
        )


def unreadable(production_map: Mapping[str, Any]) -> str | None:
    """The first parameter of a map that this code does not know or take, and why; None where it knows them all."""
    for name, block in (("features", FeatureParams), ("strategy", StrategyParams), ("costs", CostParams)):
        try:
            block.model_validate(production_map[name])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return f"{'.'.join(str(part) for part in (name, *first['loc']))}: {first['msg']}"
    return None


def doubts_by_log(production_map: Mapping[str, Any], production_log: log.Log | None) -> tuple[str, ...]:
    """Why the log of production does not speak for a map; empty where it does, or where there is no log."""
    try:
        live = log.current(log.checked(production_log))
    except ArtifactError as error:
        return (f"the log of production can't be believed: {error.what}",)
    if live in (None, production_map["id"]):
        return ()
    return (f"the log of production says that map {str(live)[:SHOWN]} is live, not {production_map['id'][:SHOWN]}",)


def doubts_by_entry(entry: Mapping[str, Any], features: FeatureParams, params: StrategyParams) -> list[str]:
    """Where what a map says of a pair is at odds with its own features, rule and strategy."""
    out = []
    for name, expected in hedge_of(features, entry["rule"]).items():
        if entry["hedge"][name] != expected:
            out.append(f"hedge.{name} is {entry['hedge'][name]}, by its features and rule it is {expected}")
    said, needed = entry["probability_threshold"], needed_probability(params, entry["model"])
    if said != needed:
        out.append(f"probability_threshold is {said}, by its strategy and model it is {needed}")
    return out


def hedge_of(features: FeatureParams, rule: Mapping[str, Any]) -> dict[str, Any]:
    """How the traded spread is made: the features' way of it over the pair's own windows, in trading bars."""
    return {
        "estimator": features.hedge,
        "kalman_delta": features.kalman.delta if features.hedge == "kalman" else None,
        "price": features.price,
        "beta_window": rule["beta_window"],
        "z_window": rule["z_window"],
        "lag_bars": features.hedge_lag_bars,
        "min_window_fill": features.min_window_fill,
    }


def needed_probability(params: StrategyParams, model: Mapping[str, Any] | None) -> float | None:
    """Probability an entry needs; None where no model is asked."""
    if not strategy.asks_model(params, model is not None):
        return None
    return strategy.entry_threshold(params, model["threshold"] if model else None)
