"""Step 7: the live roster judged by its record; champions and rejected candidates."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import pandas as pd

from mntrading.core.menu import Item, chosen_item
from mntrading.core.roster import Roster
from mntrading.core.selection import Candidate
from mntrading.datasets import BarStore, Partitions
from mntrading.kernels import code_stamp
from mntrading.params import (
    ChampionParams,
)
from mntrading.pipelines.backtesting.nodes import candidates_tried, formation_spreads, judge
from mntrading.pipelines.common import header, must_follow, number, numbers
from mntrading.pipelines.modelling.nodes import POOLED, model_id

LOGGER = logging.getLogger(__name__)


def select_champions(
    roster: dict[str, Any],
    pair_curves: Partitions,
    pair_windows: Partitions,
    pair_models: Partitions,
    pair_menus: Partitions,
    ohlcv_5m: BarStore,
    champions: ChampionParams,
) -> dict[str, Any]:
    """Judge the live roster by every completed trading window; champions and rejected candidates with reasons."""
    must_follow(roster, pair_windows=pair_windows, pair_models=pair_models, pair_menus=pair_menus)
    parsed = Roster.parse(roster)
    spreads, tried = formation_spreads(parsed.live, ohlcv_5m), candidates_tried(parsed, pair_models, pair_menus)
    found = judge(parsed.live, parsed, dict(pair_curves), dict(pair_windows), champions, spreads=spreads, tried=tried)
    half_lives = {row.pair.id: row.half_life_hours for row in parsed.live.pairs}

    def entry_of(candidate: Candidate) -> dict[str, Any]:
        id_ = candidate.pair.id
        menus: pd.DataFrame = pair_menus[id_]
        item = chosen_item(menus.loc[menus["fold"] == parsed.live.fold.name])
        return _registry_entry(candidate, half_lives[id_], item, pair_models)

    made_from = {
        "roster": roster, "pair_windows": pair_windows, "pair_models": pair_models, "pair_menus": pair_menus,
        "spreads": spreads,
    }  # fmt: skip
    LOGGER.info("champions of the live roster: %s", found.explanation())
    head = header(roster["as_of"], made_from, {"champions": champions})
    made_with = {
        "backtest": pair_windows.meta["parameters"]["backtest"],
        "features": pair_models.meta["parameters"]["features"],
    }
    return {
        **head,
        "parameters": head["parameters"] | made_with,
        "feature_spec": pair_models.meta["feature_spec"],
        "core_code": code_stamp(),
        "formation_start": parsed.live.fold.formation_start,
        "formation_end": parsed.live.fold.formation_end,
        "n_pairs_traded": found.n_pairs_traded,
        "n_trials": found.n_trials,
        "trials_variance": found.trials_variance,
        "explanation": found.explanation(),
        "champions": [entry_of(candidate) for candidate in found.champions],
        "rejected": [entry_of(candidate) for candidate in found.rejected],
    }


def _registry_entry(
    candidate: Candidate, half_life_hours: float, item: Item, pair_models: Partitions
) -> dict[str, Any]:
    ids = [model_id("live", group) for group in (candidate.pair.id, POOLED)]
    model = next((id_ for id_ in ids if id_ in pair_models), None)
    return {
        "pair_id": candidate.pair.id,
        "dependent": candidate.pair.dependent,
        "independent": candidate.pair.independent,
        "champion": candidate.champion,
        "challenger": candidate.challenger,
        "cluster": candidate.cluster,
        "reasons": list(candidate.reasons),
        "failures": [
            {
                "rule": failure.rule,
                "kind": failure.kind,
                "value": number(failure.value),
                "limit": failure.limit,
                "taken_by": list(failure.taken_by),
            }
            for failure in candidate.failures
        ],
        "figures": numbers(candidate.figures),
        "half_life_hours": half_life_hours,
        "rule": frozen_rule(item),
        "model": None if model is None else {"id": model, "sha256": pair_models.digests[model]},
    }


def frozen_rule(item: Item) -> dict[str, Any]:
    """What was chosen for a pair, as the registry and the production map have it."""
    return {
        "label": item.label,
        "beta_window": item.beta_window,
        "z_window": item.z_window,
        **asdict(item.levels),
    }
