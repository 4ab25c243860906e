"""Promotion, inference and aggregation: live does what the backtest did, and fails closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.backtest import run_pair
from mntrading.core.errors import ArtifactError, BarDataError, ParameterError
from mntrading.core.features import build_features
from mntrading.core.simulation import market
from mntrading.core.types import Pair
from mntrading.datasets import BarsDataset, BarStore, BarsUpdate, PartitionedArtifactDataset, Partitions
from mntrading.pipelines.common import digest
from mntrading.pipelines.deployment import nodes as deployment
from mntrading.pipelines.deployment.nodes import aggregate_orders, promote

START = pd.Timestamp("2025-01-01T00:00:00Z")
STEP = pd.Timedelta(minutes=5)
HALF_LIFE_HOURS = 8.0


@pytest.fixture(scope="module")
def bars() -> dict[str, pd.DataFrame]:
    frame = market("ou", seed=3, end=START + pd.Timedelta(days=12)).bars("5m")
    return {symbol: rows.reset_index(drop=True) for symbol, rows in frame.groupby("symbol")}


@pytest.fixture(scope="module")
def pair(bars: dict[str, pd.DataFrame]) -> Pair:
    truth = market("ou", seed=3, end=START + pd.Timedelta(days=12)).truth.iloc[0]
    return Pair(truth["dependent"], truth["independent"])


@pytest.fixture
def spec(params: Any) -> Any:
    small = {"beta_window": 432, "z_window": 144, "volatility_window": 48, "lag_features": 2}
    return params.feature_engineering.features.model_copy(update=small)


@pytest.fixture
def rule(params: Any) -> Any:
    return params.backtest.strategy.model_copy(update={"entry_z": 1.2, "stop_z": 3.0, "cooldown_bars": 12})


def stored(folder: Path, bars: dict[str, pd.DataFrame], until: pd.Timestamp | None = None) -> BarStore:
    cut = {s: b if until is None else b.loc[b["timestamp"] < until] for s, b in bars.items()}
    dataset = BarsDataset(path=str(folder / "ohlcv_5m.parquet"), timeframe="5m")
    dataset.save(BarsUpdate("made", cut, {}))
    return dataset.load()


def infer_signals(
    store: BarStore, markets: Any, map_: Any, models: Partitions, state: Any, hours: BarStore | None = None
) -> Any:
    """Inference that is given no hourly bars, as no feature here uses them."""
    return deployment.infer_signals(store, markets, map_, models, state, hours or store)


def no_models(folder: Path) -> Partitions:
    return PartitionedArtifactDataset(path=str(folder / "models"), format="model", missing_ok=True).load()


def production(params: Any, spec: Any, rule: Any, pair: Pair, formed: pd.Timestamp) -> dict[str, Any]:
    entry = {
        "pair_id": pair.id,
        "dependent": pair.dependent,
        "independent": pair.independent,
        "half_life_hours": HALF_LIFE_HOURS,
        "model": None,
    }
    registry = {
        "as_of": formed,
        "formation_start": START,
        "formation_end": formed,
        "champions": [entry],
        "rejected": [],
    }
    return promoted(registry, spec, params.backtest.model_copy(update={"strategy": rule}), params)


def promoted(registry: dict[str, Any], spec: Any, backtest: Any, params: Any) -> dict[str, Any]:
    made_with = {"features": digest(spec.model_dump(mode="json")), "backtest": digest(backtest.model_dump(mode="json"))}
    document, _, models = promote(registry | {"parameters": made_with}, {}, spec, backtest, params.production)  # type: ignore[arg-type]
    assert models == {}
    return document


def at(moment: pd.Timestamp) -> dict[str, Any]:
    return {"as_of": moment.isoformat(), "symbols": {}}


@pytest.mark.parametrize("share_missing", [0.0, 0.02])
def test_live_signals_bar_by_bar_are_the_decisions_of_the_backtest(
    tmp_path: Path,
    bars: dict[str, pd.DataFrame],
    pair: Pair,
    params: Any,
    spec: Any,
    rule: Any,
    share_missing: float,
) -> None:
    begin, end = START + pd.Timedelta(days=9), START + pd.Timedelta(days=11)
    rng = np.random.default_rng(5)
    bars = {symbol: frame.loc[rng.random(len(frame)) >= share_missing] for symbol, frame in bars.items()}
    features = build_features(bars[pair.dependent], bars[pair.independent], spec)
    window = features.loc[(features.index >= begin) & (features.index < end)]
    traded = run_pair(
        bars[pair.dependent],
        bars[pair.independent],
        window,
        params.backtest.model_copy(update={"strategy": rule}),
        half_life_bars=HALF_LIFE_HOURS * 12,
    )
    assert len(traded.trades) >= 3
    store, map_ = stored(tmp_path, bars), production(params, spec, rule, pair, begin)
    state, told = None, []
    for moment in window.index[:-2]:
        signals, state = infer_signals(store, at(moment + STEP), map_, no_models(tmp_path), state)
        ((signal,),) = signals.values()
        told.append((moment, signal["action"], signal["side"], signal["z"]))
    there = set.intersection(*(set(frame["timestamp"]) for frame in bars.values()))
    filled = [(moment, side, z) for moment, action, side, z in told if action == "enter" and moment + STEP in there]
    table = traded.trades
    assert filled == list(zip(table["entry_decision"], table["side"], table["entry_z"], strict=True))
    closed = table.loc[table["exit_decision"] < window.index[-2], "exit_decision"]
    assert [moment for moment, action, *_ in told if action == "exit"] == list(closed)


def test_signals_do_not_change_when_the_future_is_removed(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    moment = START + pd.Timedelta(days=9, hours=7)
    map_ = production(params, spec, rule, pair, START + pd.Timedelta(days=9))
    whole = infer_signals(stored(tmp_path / "whole", bars), at(moment), map_, no_models(tmp_path), None)
    cut = infer_signals(stored(tmp_path / "cut", bars, moment), at(moment), map_, no_models(tmp_path), None)
    assert whole == cut
    spoiled = {s: b.assign(close=b["close"].where(b["timestamp"] < moment, b["open"])) for s, b in bars.items()}
    assert infer_signals(stored(tmp_path / "x", spoiled), at(moment), map_, no_models(tmp_path), None) == whole


def test_a_bar_asked_for_twice_gives_the_same_signal_and_state(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    store, moment = stored(tmp_path, bars), START + pd.Timedelta(days=9, hours=7)
    map_ = production(params, spec, rule, pair, START + pd.Timedelta(days=9))
    _, before = infer_signals(store, at(moment - STEP), map_, no_models(tmp_path), None)
    once = infer_signals(store, at(moment), map_, no_models(tmp_path), before)
    assert infer_signals(store, at(moment), map_, no_models(tmp_path), once[1]) == once


def entering(
    store: BarStore, map_: dict[str, Any], models: Partitions, begin: pd.Timestamp
) -> tuple[pd.Timestamp, dict[str, Any], dict[str, Any]]:
    """The first bar of a stretch on which an entry is signalled."""
    for bar in range(600):
        moment = begin + bar * STEP
        signals, state = infer_signals(store, at(moment), map_, models, None)
        ((signal,),) = signals.values()
        if signal["action"] == "enter":
            return moment, signal, state
    pytest.fail("no entry in two days of bars")


def test_doubtful_inputs_give_no_entry_and_say_why(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    map_, models = production(params, spec, rule, pair, begin), no_models(tmp_path)
    moment, _, _ = entering(stored(tmp_path / "all", bars), map_, models, begin)

    def action(store: BarStore, map_: dict[str, Any]) -> tuple[str, str]:
        signals, _ = infer_signals(store, at(moment), map_, models, None)
        ((signal,),) = signals.values()
        return signal["action"], signal["reason"]

    for late in (1, 10):
        stale = stored(tmp_path / f"stale_{late}", bars, moment - late * STEP)
        assert action(stale, map_) == ("flat", f"bars are {late} bars old")
    expired = production(params, spec, rule, pair, begin - pd.Timedelta(days=40))
    assert action(stored(tmp_path / "b", bars), expired) == ("flat", "the production map has expired")
    wants = {**map_, "pairs": [{**map_["pairs"][0], "model": {"id": "live/pooled", "sha256": "0" * 64}}]}
    wants["id"] = production_id(wants)
    assert action(stored(tmp_path / "c", bars), wants) == ("flat", "model live/pooled is missing")


def production_id(map_: dict[str, Any]) -> str:
    from mntrading.datasets.storage import content_hash

    return content_hash({key: value for key, value in map_.items() if key != "id"})


def test_an_altered_map_and_a_state_from_the_future_are_refused(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    store, moment = stored(tmp_path, bars), START + pd.Timedelta(days=10)
    map_ = production(params, spec, rule, pair, START + pd.Timedelta(days=9))
    with pytest.raises(ArtifactError, match="altered after promotion"):
        infer_signals(store, at(moment), {**map_, "expires": "2099-01-01T00:00:00Z"}, no_models(tmp_path), None)
    _, state = infer_signals(store, at(moment), map_, no_models(tmp_path), None)
    with pytest.raises(BarDataError, match="ahead of the newest bar"):
        infer_signals(store, at(moment - STEP), map_, no_models(tmp_path), state)


def test_orders_open_both_legs_and_a_pair_that_left_the_map_is_closed(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    map_, models, store = production(params, spec, rule, pair, begin), no_models(tmp_path), stored(tmp_path, bars)
    moment, signal, state = entering(store, map_, models, begin)

    def orders(map_: dict[str, Any], signals: list[dict[str, Any]], state: Any, before: Any) -> dict[str, Any]:
        dataset = PartitionedArtifactDataset(path=str(tmp_path / "signals"), format="jsonl", append=True)
        stamp = f"{pd.Timestamp(state['as_of']):%Y%m%dT%H%M%SZ}"
        dataset.save({stamp: signals})
        document, history = aggregate_orders(
            dataset.load(), state, map_, store, at(pd.Timestamp(state["as_of"])), params.portfolio, before
        )
        assert history == {stamp: document}
        return document

    opened = orders(map_, [signal], state, None)
    assert {order["symbol"] for order in opened["orders"]} == set(pair.symbols)
    assert {order["side"] for order in opened["orders"]} == {"buy", "sell"}
    assert orders(map_, [signal], state, opened) == opened
    empty = {"as_of": moment, "formation_start": START, "formation_end": moment, "champions": [], "rejected": []}
    nothing = promoted(empty, spec, params.backtest, params)
    signals, later = infer_signals(store, at(moment + STEP), nothing, models, state)
    ((left,),) = signals.values()
    assert (left["action"], left["side"]) == ("exit", 0)
    closed = orders(nothing, [left], later, opened)
    assert closed["book"]["holdings"] == []
    assert all(order["reduce_only"] for order in closed["orders"])


def test_a_held_pair_that_no_signal_speaks_for_is_closed(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    map_, models, store = production(params, spec, rule, pair, begin), no_models(tmp_path), stored(tmp_path, bars)
    moment, signal, state = entering(store, map_, models, begin)
    dataset = PartitionedArtifactDataset(path=str(tmp_path / "signals"), format="jsonl", append=True)
    dataset.save({f"{moment:%Y%m%dT%H%M%SZ}": [signal], f"{moment + STEP:%Y%m%dT%H%M%SZ}": []})
    opened, _ = aggregate_orders(dataset.load(), state, map_, store, at(moment), params.portfolio, None)
    later = state | {"as_of": (moment + STEP).isoformat()}
    closed, _ = aggregate_orders(dataset.load(), later, map_, store, at(moment + STEP), params.portfolio, opened)
    assert opened["book"]["holdings"]
    assert closed["book"]["holdings"] == []
    assert len(closed["orders"]) == 2


def test_promotion_refuses_parameters_the_record_was_not_made_with(
    pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    registry = {
        "as_of": START,
        "formation_start": START,
        "formation_end": START,
        "champions": [],
        "rejected": [],
        "parameters": {
            "features": digest(spec.model_dump(mode="json")),
            "backtest": digest(params.backtest.model_dump(mode="json")),
        },
    }
    other = params.backtest.model_copy(update={"strategy": rule})
    with pytest.raises(ParameterError, match="backtest parameters are not those"):
        promote(registry, {}, spec, other, params.production)  # type: ignore[arg-type]


def test_a_pair_without_bars_ages_towards_its_time_stop(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    map_, models = production(params, spec, rule, pair, begin), no_models(tmp_path)
    moment, _, state = entering(stored(tmp_path / "all", bars), map_, models, begin)
    ended = stored(tmp_path / "ended", bars, moment + STEP)
    limit = int(rule.max_holding_half_lives * HALF_LIFE_HOURS * 12)
    signals, _ = infer_signals(ended, at(moment + (limit - 1) * STEP), map_, models, state)
    ((held,),) = signals.values()
    assert held["action"] == "hold"
    signals, _ = infer_signals(ended, at(moment + limit * STEP), map_, models, state)
    ((left,),) = signals.values()
    assert left["action"] == "exit"
