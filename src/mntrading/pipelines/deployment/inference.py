"""Step 9: what every production pair does on its newest closed bar."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from mntrading.core import strategy, training
from mntrading.core.bars import timeframe_ms, to_ms
from mntrading.core.break_monitor import history_bars
from mntrading.core.coverage import subtracted
from mntrading.core.engine_inputs import monitor_of
from mntrading.core.errors import ArtifactError, BarDataError
from mntrading.core.features import build_features, build_spread, spec_hash, warm_up_bars
from mntrading.core.menu import Item, Levels
from mntrading.datasets import BarStore, Partitions
from mntrading.datasets.storage import content_hash
from mntrading.params import (
    FeatureParams,
    StrategyParams,
)
from mntrading.pipelines.common import SCHEMA_VERSION, number
from mntrading.pipelines.feature_engineering.nodes import market_of
from mntrading.pipelines.modelling.nodes import fitted

LOGGER = logging.getLogger(__name__)


_ACTIONS = {strategy.ENTER: "enter", strategy.EXIT: "exit"}


def infer_signals(
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    production_map: dict[str, Any],
    production_models: Partitions,
    position_state: dict[str, Any] | None,
    ohlcv_1h: BarStore,
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Signals of every production pair at its newest closed bar, and the state to go on from.

    Bars missed since the last call are stepped through one by one, exits only; entries are taken on the newest bar
    alone. Doubtful inputs fail closed: no entry, exits still allowed, and the reason in the signal. The same
    newest bar gives the same bytes, however often it is asked for.
    """
    _check_map(production_map)
    as_of = pd.Timestamp(markets["as_of"])
    step_ms = timeframe_ms(ohlcv_5m.timeframe)
    step = pd.Timedelta(step_ms, unit="ms")
    bar_close = as_of.floor(step)
    before = _state_before(position_state, bar_close)
    market = _market(ohlcv_1h, markets, production_map, bar_close)
    signals, after = [], {}
    for entry in production_map["pairs"]:
        pair_id = entry["pair_id"]
        signal, state = _infer_pair(
            entry, production_map, ohlcv_5m, market, production_models, before.get(pair_id), bar_close, step
        )
        signals.append(signal)
        after[pair_id] = state
    for pair_id in sorted(set(before) - set(after)):
        if before[pair_id]["side"]:
            left = {"pair_id": pair_id, **before[pair_id]}
            why = "closing: pair is not in production any more"
            signals.append(_line(left, production_map, bar_close, action="exit", side=0, reason=why, known={}))
    stamp = f"{bar_close:%Y%m%dT%H%M%SZ}"
    LOGGER.info("signals %s: %s", stamp, ", ".join(f"{s['pair_id']} {s['action']}" for s in signals) or "none")
    state = {
        "schema_version": SCHEMA_VERSION,
        "as_of": bar_close,
        "map_id": production_map["id"],
        "before": before,
        "pairs": after,
    }
    return {stamp: signals}, state


def _check_map(production_map: Mapping[str, Any]) -> None:
    content = {key: value for key, value in production_map.items() if key != "id"}
    if content_hash(content) != production_map["id"]:
        raise ArtifactError(
            "its content does not match its id: it was altered after promotion",
            where="models/production_map.json",
            fix="kedro run --tags promote",
        )


def _state_before(position_state: Mapping[str, Any] | None, bar_close: pd.Timestamp) -> dict[str, Any]:
    """State of every pair ahead of this bar; that of the same bar's first call when it is asked for again."""
    if position_state is None:
        return {}
    written = pd.Timestamp(position_state["as_of"])
    if written > bar_close:
        raise BarDataError(
            f"the state is of {written}, ahead of the newest bar at {bar_close}",
            where="signals/_position_state.json",
            fix="check the market's clock (kedro run --tags ingest), or remove the file to start flat",
        )
    return dict(position_state["before"] if written == bar_close else position_state["pairs"])


def _infer_pair(
    entry: Mapping[str, Any],
    production_map: Mapping[str, Any],
    ohlcv_5m: BarStore,
    market: pd.Series | None,
    production_models: Partitions,
    before: Mapping[str, Any] | None,
    bar_close: pd.Timestamp,
    step: pd.Timedelta,
) -> tuple[dict[str, Any], dict[str, Any]]:
    rule = StrategyParams.model_validate(production_map["strategy"])
    spec = FeatureParams.model_validate(production_map["features"])
    newest_open = bar_close - step
    last_open = None if before is None else pd.Timestamp(before["last_open"])
    item = Item(entry["rule"]["label"], entry["rule"]["beta_window"], entry["rule"]["z_window"], _levels(entry))
    own_spec, own_rule = item.spread_params(spec), item.applied(rule)
    history = max(warm_up_bars(spec), warm_up_bars(own_spec), history_bars(rule.break_monitor))
    first_needed = (last_open or newest_open) - (history + 1) * step
    legs = [_recent(ohlcv_5m, entry[leg], first_needed, newest_open) for leg in ("dependent", "independent")]
    frame = build_features(legs[0], legs[1], spec, market=market)
    staleness = int((newest_open - frame.index[-1]) / step) if len(frame) else None
    told, doubts = _told(entry, frame, production_models, spec_hash(spec))
    if entry["model"] is None and production_map["feature_spec"] != spec_hash(spec):
        doubts.append("features are not those the pair was promoted with")
    if staleness == 0 and told is not None and pd.isna(told["probability"].iloc[-1]):
        doubts.append("a feature is not known")
    doubts += _doubts(production_map, staleness, bar_close)
    # time goes on where bars are missing: a held pair ages, and its time stop comes
    begin = newest_open if last_open is None else last_open + step
    todo = pd.date_range(begin, newest_open, freq=step, unit="ms")
    # the spread that is traded may have other windows than the one the model's features are made of
    frame = build_spread(legs[0], legs[1], own_spec).reindex(todo)
    own_threshold = None
    if told is not None:
        own_threshold = float(told["threshold"].iloc[0]) if len(told) else None
        told = told.reindex(todo)
    state = strategy.StrategyState(**before["strategy"]) if before else strategy.StrategyState()
    levels = strategy.rule_of(
        own_rule, half_life_bars=entry["half_life_hours"] / (step / pd.Timedelta(1, unit="h")),
        needs_probability=strategy.asks_model(rule, entry["model"] is not None),
        threshold=own_threshold,
    )  # fmt: skip
    monitor = monitor_of(legs[0], legs[1], frame, rule.break_monitor)
    fills, closes = (_both(legs, column, todo) for column in (production_map["fill_at"], "close"))
    action, reason = strategy.HOLD, ""
    columns = (frame[name] for name in ("z", "hedge_ratio", "beta"))
    for row, (moment, z, hedge_ratio, beta) in enumerate(zip(todo, *columns, strict=True)):
        known = _asked(told, moment)
        state, action, reason = strategy.step(
            state, levels, z=float(z), hedge_ratio=float(hedge_ratio), probability=known["probability"],
            fill=fills[row], close=closes[row], barred=known["barred"],
            entries_allowed=moment == newest_open and not doubts, beta=float(beta), monitor=monitor, row=row,
        )  # fmt: skip
    last = frame.iloc[-1] if len(frame) else pd.Series(float("nan"), index=frame.columns)
    newest = _asked(told, newest_open)
    held = "hold" if state.side else "flat"
    signal = _line(
        entry, production_map, bar_close, action=_ACTIONS.get(action, held), side=state.side,
        reason="; ".join(doubts) or reason,
        known={
            **{name: number(float(last[name])) for name in ("z", "hedge_ratio", "spread_std")},
            "half_life_hours": entry["half_life_hours"],
            "probability": None if told is None else number(newest["probability"]),
            "threshold": None if told is None else strategy.entry_threshold(rule, newest["threshold"]),
            "novelty": None if told is None else number(newest["novelty"]),
            "confidence": strategy.confidence(
                rule, z=float(last["z"]), probability=newest["probability"], threshold=newest["threshold"]
            ),
            "staleness_bars": staleness,
            "model_sha256": entry["model"]["sha256"] if entry["model"] else None,
        },
    )  # fmt: skip
    return signal, {
        "dependent": entry["dependent"],
        "independent": entry["independent"],
        "side": state.side,
        "strategy": asdict(state),
        "last_open": newest_open,
    }


def _both(legs: list[pd.DataFrame], column: str, index: pd.DatetimeIndex) -> list[tuple[float, float]]:
    """One column of both legs by row of the index, NaN where a bar is missing."""
    a, b = (leg.set_index("timestamp")[column].reindex(index).tolist() for leg in legs)
    return list(zip(a, b, strict=True))


def _levels(entry: Mapping[str, Any]) -> Levels:
    return Levels(**{name: entry["rule"][name] for name in ("entry_z", "exit_z", "stop_z")})


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


def _recent(store: BarStore, symbol: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    bars: pd.DataFrame = store[symbol]
    return bars.loc[(bars["timestamp"] >= start) & (bars["timestamp"] <= end)]


def _doubts(production_map: Mapping[str, Any], staleness: int | None, bar_close: pd.Timestamp) -> list[str]:
    """Why no entry may be made now, model apart; empty when all is well."""
    out = []
    if staleness != 0:
        out.append("no bars" if staleness is None else f"bars are {staleness} bars old")
    if bar_close > pd.Timestamp(production_map["expires"]):
        out.append("the production map has expired")
    return out


def _told(
    entry: Mapping[str, Any], frame: pd.DataFrame, production_models: Partitions, spec: str
) -> tuple[pd.DataFrame | None, list[str]]:
    """What the promoted model says of each row, and why it can't be had. Exits go on without it."""
    model = entry["model"]
    if model is None:
        return None, []
    if model["id"] not in production_models:
        return None, [f"model {model['id'][:12]} is missing"]
    if production_models.digests[model["id"]] != model["sha256"]:
        return None, [f"model {model['id'][:12]} is not the one that was promoted"]
    try:
        stored = production_models[model["id"]]
        promoted = fitted(stored)
    except ArtifactError as error:
        return None, [f"model {model['id'][:12]} can't be used: {error.what}"]
    if stored.meta["feature_spec"] != spec:
        return None, ["features are not those the model was trained on"]
    return training.predict(promoted, frame), []


def _asked(told: pd.DataFrame | None, moment: pd.Timestamp) -> dict[str, Any]:
    """What the decision step is told by the model about one bar."""
    if told is None:
        return {"probability": None, "threshold": None, "novelty": None, "barred": False}
    line = told.loc[[moment]].to_dict("records")[0]
    known = {name: float(line[name]) for name in ("probability", "threshold", "novelty")}
    # where the bar is missing nothing is known, and the decision step asks for z first
    return {**known, "barred": line["barred"] is True}


_MEASURED = (
    "z", "hedge_ratio", "spread_std", "half_life_hours", "probability", "threshold", "novelty", "confidence",
    "staleness_bars", "model_sha256",
)  # fmt: skip


def _line(
    pair: Mapping[str, Any],
    production_map: Mapping[str, Any],
    bar_close: pd.Timestamp,
    *,
    action: str,
    side: int,
    reason: str,
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """One line of a bar's signals; its id is the hash of its content, and what is not known is None."""
    signal = {
        **{name: pair[name] for name in ("pair_id", "dependent", "independent")},
        "bar_close": bar_close,
        "action": action,
        "side": side,
        **dict.fromkeys(_MEASURED),
        **known,
        "reason": reason,
        "map_id": production_map["id"],
    }
    return {**signal, "id": content_hash(signal)[:16]}
