"""Step 9: what every production pair does on its newest closed bar."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core import strategy, training
from mntrading.core.bars import timeframe_ms, to_ms
from mntrading.core.break_monitor import history_bars
from mntrading.core.coverage import subtracted
from mntrading.core.engine_inputs import monitor_of
from mntrading.core.errors import ArtifactError, BarDataError
from mntrading.core.features import build_features, build_spread, spec_hash, warm_up_bars
from mntrading.core.menu import Item
from mntrading.datasets import BarStore, Partitions, StoredModel
from mntrading.datasets.codecs import codec
from mntrading.datasets.storage import content_hash
from mntrading.kernels import code_stamp
from mntrading.params import (
    FeatureParams,
    StrategyParams,
)
from mntrading.pipelines.common import SCHEMA_VERSION, intact, number, sealed, stamp_of
from mntrading.pipelines.deployment.production_map import check, doubts_by_entry, doubts_by_log
from mntrading.pipelines.feature_engineering.nodes import market_of
from mntrading.pipelines.modelling.nodes import fitted

LOGGER = logging.getLogger(__name__)


_STATE: Final = "signals/_position_state.json"
_NO_Z: Final = "z is not known"
_ACTIONS = {strategy.ENTER: "enter", strategy.EXIT: "exit"}


def infer_signals(
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    production_map: dict[str, Any],
    production_models: Partitions,
    position_state: dict[str, Any] | None,
    ohlcv_1h: BarStore,
    production_log: list[dict[str, Any]] | None = None,
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Signals of every production pair at its newest closed bar, and the state to go on from.

    Bars missed since the last call are stepped through one by one, exits only, and those on which a pair left have
    their lines as well; entries are taken on the newest bar alone. Doubtful inputs fail closed: no entry, exits still
    allowed, and the doubts in the signal. The same newest bar gives the same bytes, however often it is asked for.

    Raises
    ------
    ArtifactError, BarDataError
        The map or the state was altered, the map has parameters that this code does not know, or the state is of a
        later bar: there is nothing to go by then.
    """
    check(production_map, production_log)
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")
    bar_close = pd.Timestamp(markets["as_of"]).floor(step)
    before = _state_before(position_state, bar_close)
    live = _Live(
        production_map, FeatureParams.model_validate(production_map["features"]),
        StrategyParams.model_validate(production_map["strategy"]), ohlcv_5m, production_models,
        _market(ohlcv_1h, markets, production_map, bar_close), bar_close, step,
        doubts_by_log(production_map, production_log),
    )  # fmt: skip
    lines: dict[pd.Timestamp, list[dict[str, Any]]] = {bar_close: []}
    after = {}
    for entry in production_map["pairs"]:
        told, after[entry["pair_id"]] = live.follow(entry, before.get(entry["pair_id"]))
        for line in told:
            lines.setdefault(line["bar_close"], []).append(line)
    for pair_id in sorted(set(before) - set(after)):
        if before[pair_id]["side"]:
            left = {"pair_id": pair_id, **before[pair_id]}
            why = "closing: pair is not in production any more"
            lines[bar_close].append(live.line(left, bar_close, "exit", 0, why))
    told_now = ", ".join(f"{line['pair_id']} {line['action']}" for line in lines[bar_close])
    LOGGER.info("signals %s: %s", stamp_of(bar_close), told_now or "none")
    state = sealed({
        "schema_version": SCHEMA_VERSION,
        "as_of": bar_close,
        "map_id": production_map["id"],
        "doubts": {line["pair_id"]: line["doubts"] for line in lines[bar_close] if line["doubts"]},
        "before": before,
        "pairs": after,
    })  # fmt: skip
    return {stamp_of(moment): lines[moment] for moment in sorted(lines)}, state


@lru_cache(maxsize=32)
def _fitted(stored: bytes) -> tuple[training.TrainedModel, str]:
    """A model and the features it was trained on; the same bytes are read once, for all pairs and bars."""
    model: StoredModel = codec("model").decode(stored)
    return fitted(model), model.meta["feature_spec"]


def _state_before(position_state: Mapping[str, Any] | None, bar_close: pd.Timestamp) -> dict[str, Any]:
    """State of every pair ahead of this bar; that of the same bar's first call when it is asked for again."""
    if position_state is None:
        return {}
    intact(
        position_state,
        _STATE,
        "restore it from a backup; or remove it: the next kedro run --pipelines short_cycle starts flat, and "
        "closes what the account holds",
    )
    written = pd.Timestamp(position_state["as_of"])
    if written > bar_close:
        raise BarDataError(
            f"the state is of {written}, ahead of the newest bar at {bar_close}",
            where=_STATE,
            fix="check the market's clock (kedro run --tags ingest), or remove the file to start flat",
        )
    return dict(position_state["before"] if written == bar_close else position_state["pairs"])


@dataclass(frozen=True)
class _Live:
    """One bar close of everything in production."""

    production_map: Mapping[str, Any]
    features: FeatureParams
    strategy: StrategyParams
    ohlcv_5m: BarStore
    models: Partitions
    market: pd.Series | None
    bar_close: pd.Timestamp
    step: pd.Timedelta
    doubts_of_all: tuple[str, ...]

    @property
    def newest_open(self) -> pd.Timestamp:
        """Open time of the newest closed bar."""
        return self.bar_close - self.step

    def follow(
        self, entry: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Step one pair from its last bar to the newest: its lines, the newest last, and its state."""
        # time goes on where bars are missing: a held pair ages, and its time stop comes
        begin = self.newest_open if before is None else pd.Timestamp(before["last_open"]) + self.step
        todo = pd.date_range(begin, self.newest_open, freq=self.step, unit="ms")
        item = Item.of_rule(entry["rule"])
        own_spec, own_rule = item.spread_params(self.features), item.applied(self.strategy)
        history = max(warm_up_bars(self.features), warm_up_bars(own_spec), history_bars(own_rule.break_monitor))
        start = begin - (history + 2) * self.step
        legs = [self.ohlcv_5m.between(entry[leg], start, self.bar_close) for leg in ("dependent", "independent")]
        # the spread that is traded may have other windows than the one the model's features are made of
        frame = build_spread(legs[0], legs[1], own_spec)
        staleness = int((self.newest_open - frame.index[-1]) / self.step) if len(frame) else None
        frame = frame.reindex(todo)
        told, doubts = self._told(entry, legs, todo)
        doubts = [*self._doubts(entry, staleness), *doubts]
        if staleness == 0 and pd.isna(frame["z"].iloc[-1]) and _NO_Z not in doubts:
            doubts.append(_NO_Z)
        own_threshold = None if told is None else float(told["threshold"].iloc[-1])
        levels = strategy.rule_of(
            own_rule, half_life_bars=entry["half_life_hours"] / (self.step / pd.Timedelta(1, unit="h")),
            needs_probability=strategy.asks_model(self.strategy, entry["model"] is not None), threshold=own_threshold,
        )  # fmt: skip
        monitor = monitor_of(legs[0], legs[1], frame, own_rule.break_monitor)
        fills, closes = (_both(legs, column, todo) for column in (self.production_map["fill_at"], "close"))
        state = strategy.StrategyState(**before["strategy"]) if before else strategy.StrategyState()
        lines = []
        for row, moment in enumerate(todo):
            known, said = frame.iloc[row], _asked(told, row)
            state, action, reason = strategy.step(
                state, levels, z=float(known["z"]), hedge_ratio=float(known["hedge_ratio"]),
                probability=said["probability"], fill=fills[row], close=closes[row], barred=said["barred"],
                entries_allowed=moment == self.newest_open and not doubts, beta=float(known["beta"]),
                monitor=monitor, row=row,
            )  # fmt: skip
            newest = moment == self.newest_open
            if newest or action == strategy.EXIT:
                acted = _ACTIONS.get(action, "hold" if state.side else "flat")
                measured = self._measured(entry, known, said) | {"staleness_bars": staleness}
                alone = doubts if newest else ()
                lines.append(self.line(entry, moment + self.step, acted, state.side, reason, alone, measured))
        return lines, {
            "dependent": entry["dependent"],
            "independent": entry["independent"],
            "side": state.side,
            "strategy": asdict(state),
            "last_open": self.newest_open,
        }

    def line(
        self,
        pair: Mapping[str, Any],
        bar_close: pd.Timestamp,
        action: str,
        side: int,
        reason: str,
        doubts: Sequence[str] = (),
        known: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One line of a bar's signals; its id is the hash of its content, and what is not known is None."""
        signal = {
            **{name: pair[name] for name in ("pair_id", "dependent", "independent")},
            "bar_close": bar_close,
            "action": action,
            "side": side,
            **dict.fromkeys(_MEASURED),
            **(known or {}),
            "reason": "; ".join(doubts) if doubts and action in ("hold", "flat") else reason,
            "doubts": list(doubts),
            "map_id": self.production_map["id"],
        }
        return {**signal, "id": content_hash(signal)[:16]}

    def _measured(self, entry: Mapping[str, Any], known: pd.Series, said: Mapping[str, Any]) -> dict[str, Any]:
        told = said["probability"] is not None
        return {
            **{name: number(float(known[name])) for name in ("z", "hedge_ratio", "beta", "spread_std")},
            "half_life_hours": entry["half_life_hours"],
            "cluster": entry["cluster"],
            "probability": number(said["probability"]) if told else None,
            "threshold": strategy.entry_threshold(self.strategy, said["threshold"]) if told else None,
            "novelty": number(said["novelty"]) if told else None,
            "confidence": strategy.confidence(
                self.strategy, z=float(known["z"]), probability=said["probability"], threshold=said["threshold"]
            ),
            "model_sha256": entry["model"]["sha256"] if entry["model"] else None,
        }

    def _doubts(self, entry: Mapping[str, Any], staleness: int | None) -> list[str]:
        """Why no entry may be made now, model apart; empty when all is well."""
        out = [*self.doubts_of_all, *doubts_by_entry(entry, self.features, self.strategy)]
        if staleness != 0:
            out.append(
                "no bars" if staleness is None else f"bars are {staleness} {'bar' if staleness == 1 else 'bars'} old"
            )
        if self.bar_close > pd.Timestamp(entry["expires"]):
            out.append(f"the pair has expired at {entry['expires']}")
        if self.production_map["core_code"] != code_stamp():
            out.append("the code is not that the pair was promoted with")
        if self.production_map["feature_spec"] != spec_hash(self.features):
            out.append("features are not those the pair was promoted with")
        return out

    def _told(
        self, entry: Mapping[str, Any], legs: list[pd.DataFrame], todo: pd.DatetimeIndex
    ) -> tuple[pd.DataFrame | None, list[str]]:
        """What the promoted model says of each row, and why it can't be had. Exits go on without it."""
        model = entry["model"]
        if model is None:
            return None, []
        name = f"model {model['id'][:12]}"
        if model["id"] not in self.models:
            return None, [f"{name} is missing"]
        if self.models.digests[model["id"]] != model["sha256"]:
            return None, [f"{name} is not the one that was promoted"]
        try:
            promoted, made_of = _fitted(self.models.stored(model["id"]))
            if made_of != spec_hash(self.features):
                return None, ["features are not those the model was trained on"]
            features = build_features(legs[0], legs[1], self.features, market=self.market).reindex(todo)
            told = _predicted(promoted, features)
        except ArtifactError as error:
            return None, [f"{name} can't be used: {error.what}"]
        if promoted.threshold != model["threshold"]:
            return told, [f"{name} asks for a threshold of {promoted.threshold}, the map of {model['threshold']}"]
        probability = float(told["probability"].iloc[-1])
        if not np.isfinite(probability):
            unknown = [c for c in promoted.feature_names if not np.isfinite(float(features[c].iloc[-1]))]
            return told, [f"{unknown[0]} is not known" if unknown else f"{name} says no probability"]
        if not 0.0 <= probability <= 1.0:
            return told, [f"{name} says {probability:g}, expected a probability"]
        return told, []


def _predicted(promoted: training.TrainedModel, features: pd.DataFrame) -> pd.DataFrame:
    """What a model says of each row.

    Raises
    ------
    ArtifactError
        It asks for features that are not made, or its library fails at it.
    """
    unknown = [name for name in promoted.feature_names if name not in features]
    if unknown:
        raise ArtifactError(f"asks for the feature {unknown[0]!r}, which is not made")
    try:
        return training.predict(promoted, features)
    except Exception as error:
        # the file decides what its library does, so the class of its failure says nothing
        raise ArtifactError(f"fails at its features: {error}") from error


def _both(legs: list[pd.DataFrame], column: str, index: pd.DatetimeIndex) -> list[tuple[float, float]]:
    """One column of both legs by row of the index, NaN where a bar is missing."""
    a, b = (leg.set_index("timestamp")[column].reindex(index).tolist() for leg in legs)
    return list(zip(a, b, strict=True))


def _market(
    ohlcv_1h: BarStore, markets: Mapping[str, Any], production_map: Mapping[str, Any], bar_close: pd.Timestamp
) -> pd.Series | None:
    """The market's volatility over the symbols it was trained on; None where no feature uses it or it can't be had.

    It can't while a symbol that is still listed has not been asked for up to the last closed hour: the median of the
    others would be another value than the one research will find.
    """
    spec, symbols = FeatureParams.model_validate(production_map["features"]), production_map["market_symbols"]
    hour = pd.Timedelta(1, unit="h")
    end = bar_close.floor("h")
    # twice the window settles the bits; an hour more for the first return
    start = end - (2 * spec.market_window_hours + 1) * hour
    wanted = (to_ms(start), to_ms(end))
    listed = [symbol for symbol in symbols if markets["symbols"].get(symbol, {"listed": False})["listed"]]
    late = [symbol for symbol in listed if subtracted(wanted, ohlcv_1h.ledger(symbol).fetched)]
    if late:
        LOGGER.warning("hourly bars of %d symbols are not known up to %s, first %s", len(late), end, late[0])
        return None
    return market_of(ohlcv_1h, tuple(symbols), spec, start, end)


def _asked(told: pd.DataFrame | None, row: int) -> dict[str, Any]:
    """What the decision step is told by the model about one bar."""
    if told is None:
        return {"probability": None, "threshold": None, "novelty": None, "barred": False}
    known = {name: float(told[name].iloc[row]) for name in ("probability", "threshold", "novelty")}
    return {**known, "barred": bool(told["barred"].iloc[row])}


_MEASURED = (
    "z", "hedge_ratio", "beta", "spread_std", "half_life_hours", "cluster", "probability", "threshold", "novelty",
    "confidence", "staleness_bars", "model_sha256",
)  # fmt: skip
