"""Inference and aggregation: live does what the backtest did, and fails closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mntrading.configuration import parameters
from mntrading.core import sizing, training
from mntrading.core.backtest import run_pair
from mntrading.core.bars import aggregate, to_ms
from mntrading.core.calibration import Calibration
from mntrading.core.coverage import Ledger
from mntrading.core.errors import ArtifactError, BarDataError
from mntrading.core.estimators import FittedModel
from mntrading.core.features import build_features, feature_names, spec_hash
from mntrading.core.labels import label
from mntrading.core.lines import signals_of
from mntrading.core.novelty import Novelty
from mntrading.core.simulation import market
from mntrading.core.training import TrainedModel, fit_group, formation_rows, predict
from mntrading.core.types import Pair, slug
from mntrading.datasets import (
    BarsDataset,
    BarStore,
    BarsUpdate,
    DatedArtifactDataset,
    PartitionedArtifactDataset,
    Partitions,
    StoredModel,
)
from mntrading.datasets.codecs import codec
from mntrading.datasets.storage import canonical_json, sha256
from mntrading.datasets.validation import check_document
from mntrading.kernels import code_stamp
from mntrading.params import StrategyParams
from mntrading.pipelines.common import digest, stamp_of
from mntrading.pipelines.deployment import inference as deployment
from mntrading.pipelines.deployment.orders import _signal, aggregate_orders
from mntrading.pipelines.deployment.paper import settle_account
from mntrading.pipelines.deployment.production_map import needed_probability
from mntrading.pipelines.deployment.promotion import freeze
from mntrading.pipelines.feature_engineering.nodes import market_of
from mntrading.pipelines.modelling.nodes import _stored

START = pd.Timestamp("2025-01-01T00:00:00Z")
STEP = pd.Timedelta(minutes=5)
HOUR = pd.Timedelta(hours=1)
DAY = pd.Timedelta(days=1)
HALF_LIFE_HOURS = 8.0
LABELS = parameters(Path(__file__).parents[2] / "conf")["feature_engineering"].labels


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


def production(
    params: Any, spec: Any, rule: Any, pair: Pair, formed: pd.Timestamp, windows: tuple[int, int] | None = None
) -> dict[str, Any]:
    beta_window, z_window = windows or (spec.beta_window, spec.z_window)
    entry = {
        "rule": {
            "label": "configured",
            "beta_window": beta_window,
            "z_window": z_window,
            "entry_z": rule.entry_z,
            "exit_z": rule.exit_z,
            "stop_z": rule.stop_z,
        },
        "pair_id": pair.id,
        "dependent": pair.dependent,
        "independent": pair.independent,
        "cluster": 1,
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
    registry = registry | {
        "inputs": {}, "parameters": made_with, "feature_spec": spec_hash(spec), "core_code": code_stamp()
    }  # fmt: skip
    ids = [entry["pair_id"] for entry in registry["champions"]]
    document, models = freeze(registry, ids, {}, spec, backtest, params.production, code_stamp())  # type: ignore[arg-type]
    assert models == {}
    return document


def at(moment: pd.Timestamp) -> dict[str, Any]:
    return {"as_of": moment.isoformat(), "symbols": {}}


@pytest.mark.parametrize("windows", [None, (300, 120)])
@pytest.mark.parametrize("share_missing", [0.0, 0.02])
def test_live_signals_bar_by_bar_are_the_decisions_of_the_backtest(
    tmp_path: Path,
    bars: dict[str, pd.DataFrame],
    pair: Pair,
    params: Any,
    spec: Any,
    rule: Any,
    share_missing: float,
    windows: tuple[int, int] | None,
) -> None:
    begin, end = START + pd.Timedelta(days=9), START + pd.Timedelta(days=11)
    rng = np.random.default_rng(5)
    bars = {symbol: frame.loc[rng.random(len(frame)) >= share_missing] for symbol, frame in bars.items()}
    beta_window, z_window = windows or (spec.beta_window, spec.z_window)
    own = spec.model_copy(update={"beta_window": beta_window, "z_window": z_window})
    features = build_features(bars[pair.dependent], bars[pair.independent], own)
    window = features.loc[(features.index >= begin) & (features.index < end)]
    # a watch that speaks up here and there
    watch = rule.break_monitor.model_copy(
        update={"max_p_value": 0.05, "window_bars": 576, "stride_bars": 6, "every_bars": 3}
    )
    rule = rule.model_copy(update={"break_monitor": watch})
    costs = params.backtest.costs.model_copy(update={"impact_bps": 0.0})
    traded = run_pair(
        bars[pair.dependent],
        bars[pair.independent],
        window,
        params.backtest.model_copy(update={"strategy": rule, "costs": costs}),
        half_life_bars=HALF_LIFE_HOURS * 12,
    )
    assert traded.trades["reason"].str.startswith("break").any()
    assert len(traded.trades) >= 2
    store, map_ = stored(tmp_path, bars), production(params, spec, rule, pair, begin, windows)
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


@pytest.mark.parametrize("name", ["logistic_regression", "lightgbm"])
def test_a_models_own_threshold_and_novelty_gate_decide_live_as_in_the_backtest(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any, name: str
) -> None:
    begin, end = START + pd.Timedelta(days=8), START + pd.Timedelta(days=11)
    legs = bars[pair.dependent], bars[pair.independent]
    features = build_features(*legs, spec)
    wanted = params.feature_engineering.labels.model_copy(update={"horizon": 48, "zscore_threshold": 0.8})
    labelled = features.join(label(features, *legs, wanted), how="inner")
    recipe = params.modelling.model_copy(
        update={
            "models": (name,),
            "gap": 48,
            "n_splits": 2,
            "min_events": 50,
            "calibration": "sigmoid",
            "threshold": params.modelling.threshold.model_copy(update={"choose": "expected_value", "min_share": 0.5}),
            "novelty": params.modelling.novelty.model_copy(update={"quantile": 0.55, "blocks_entry": True}),
        }
    )
    rows = formation_rows({pair.id: labelled}, START, begin)
    # what is tested is the way of a model, not its skill: z tells the label
    rows["label"] = (rows["z_abs"] < rows["z_abs"].median()).astype(np.int8)
    trained = fit_group(rows, feature_names(spec), recipe).model
    assert trained is not None
    window = features.loc[(features.index >= begin) & (features.index < end)]
    told = predict(trained, window)
    change = {"signals_from": "model", "entry_z": 0.8, "exit_z": 0.2, "probability_threshold": 1.0}
    easy = rule.model_copy(update=change)

    def trade(threshold: float | None, barred: pd.Series | None) -> pd.DataFrame:
        with_rule = params.backtest.model_copy(update={"strategy": easy})
        known = {"threshold": threshold, "barred": barred, "half_life_bars": HALF_LIFE_HOURS * 12}
        return run_pair(*legs, window, with_rule, told["probability"], **known).trades

    table = trade(trained.threshold, told["barred"])
    assert len(table) >= 3
    assert not table["entry_decision"].equals(trade(trained.threshold, None)["entry_decision"])
    assert len(trade(None, told["barred"])) < len(table)
    made_of = {"feature_spec": spec_hash(spec), "market_symbols": []}
    store, model = stored(tmp_path, bars), _stored(trained, made_of, wanted, 1)
    sha = sha256(codec("model").encode(model))
    dataset = PartitionedArtifactDataset(path=str(tmp_path / "models"), format="model", append=True)
    dataset.save({sha: model})
    map_ = production(params, spec, easy, pair, begin)
    map_ = asking(map_, sha, trained.threshold)
    state, entered, reasons = None, [], set()
    for moment in window.index[:-2]:
        signals, state = infer_signals(store, at(moment + STEP), map_, dataset.load(), state)
        ((signal,),) = signals.values()
        reasons.add(signal["reason"])
        assert signal["threshold"] == trained.threshold
        expected = told["probability"].loc[moment]
        assert signal["probability"] == (None if np.isnan(expected) else expected)
        if signal["action"] == "enter":
            entered.append((moment, signal["side"], signal["z"], signal["probability"]))
    columns = ("entry_decision", "side", "entry_z", "probability")
    assert entered == list(zip(*(table[column] for column in columns), strict=True))
    assert "no entry: unlike the training window" in reasons


def test_a_model_file_that_lacks_a_part_allows_no_entry(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    X = np.random.default_rng(0).normal(size=(200, 1))
    bare = StoredModel("sklearn", LogisticRegression().fit(X, X[:, 0] > 0), {"name": "x", "feature_names": ["z"]})
    sha = sha256(codec("model").encode(bare))
    dataset = PartitionedArtifactDataset(path=str(tmp_path / "models"), format="model", append=True)
    dataset.save({sha: bare})
    map_ = production(params, spec, rule, pair, begin)
    moment, _, _ = entering(stored(tmp_path, bars), map_, no_models(tmp_path / "none"), begin)
    map_ = asking(map_, sha)
    signals, _ = infer_signals(stored(tmp_path, bars), at(moment), map_, dataset.load(), None)
    ((signal,),) = signals.values()
    assert signal["action"] == "flat"
    assert "can't be used: holds no whole model" in signal["reason"]


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
        assert action(stale, map_) == ("flat", f"bars are {late} {'bar' if late == 1 else 'bars'} old")
    expired = production(params, spec, rule, pair, begin - pd.Timedelta(days=40))
    assert action(stored(tmp_path / "b", bars), expired) == ("flat", "the pair has expired at 2024-12-31T00:00:00Z")
    assert action(stored(tmp_path / "c", bars), asking(map_, "0" * 64)) == ("flat", f"model {'0' * 12} is missing")


def asking(map_: dict[str, Any], sha: str, threshold: float | None = None) -> dict[str, Any]:
    """The map with a model for its pair."""
    model = {"id": sha, "sha256": sha, "threshold": threshold}
    needed = needed_probability(StrategyParams.model_validate(map_["strategy"]), model)
    changed = {**map_, "pairs": [{**map_["pairs"][0], "model": model, "probability_threshold": needed}]}
    return {**changed, "id": production_id(changed)}


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


def test_a_state_that_was_altered_is_refused_and_says_how_to_go_on(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    store, moment = stored(tmp_path, bars), START + pd.Timedelta(days=10)
    map_ = production(params, spec, rule, pair, START + pd.Timedelta(days=9))
    _, state = infer_signals(store, at(moment), map_, no_models(tmp_path), None)
    told = json.loads(canonical_json(state))
    infer_signals(store, at(moment + STEP), map_, no_models(tmp_path), told)
    told["pairs"][pair.id]["strategy"]["cooldown"] += 1
    with pytest.raises(ArtifactError, match=r"_position_state.json: .* altered[\s\S]*starts flat"):
        infer_signals(store, at(moment + STEP), map_, no_models(tmp_path), told)


def test_a_map_that_the_log_does_not_speak_for_is_not_entered_by(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    store, models = stored(tmp_path, bars), no_models(tmp_path)
    map_ = production(params, spec, rule, pair, begin)
    moment, _, _ = entering(store, map_, models, begin)

    def action(live: str) -> tuple[str, list[str]]:
        log = [{"number": 1, "previous_map_id": None, "previous_line": None, "map_id": live}]
        signals, _ = deployment.infer_signals(store, at(moment), map_, models, None, store, log)
        ((line,),) = signals.values()
        return line["action"], line["doubts"]

    assert action(map_["id"]) == ("enter", [])
    said = f"the log of production says that map {'0' * 12} is live, not {map_['id'][:12]}"
    assert action("0" * 64) == ("flat", [said])


@pytest.mark.parametrize(
    ("names", "width", "said"),
    [(("z", "nowhere"), 2, "asks for the feature 'nowhere'"), (("z", "z_abs"), 1, "2 names of features for")],
)
def test_a_model_of_inputs_that_do_not_fit_allows_no_entry_and_stops_nothing(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any,
    names: tuple[str, ...], width: int, said: str,
) -> None:  # fmt: skip
    begin = START + pd.Timedelta(days=9)
    store, map_ = stored(tmp_path, bars), production(params, spec, rule, pair, begin)
    asked, models = with_model(map_, tmp_path, names, map_["feature_spec"], width)
    signals, _ = infer_signals(store, at(begin), asked, models, None)
    ((line,),) = signals.values()
    assert line["action"] == "flat"
    assert said in line["doubts"][0]


def ordered(
    folder: Path, store: BarStore, map_: Any, signals: Any, state: Any, params: Any, before: dict[str, Any] | None
) -> dict[str, Any]:
    """Orders of a bar on the account as it is settled at its close."""
    moment = pd.Timestamp(state["as_of"])
    dataset = DatedArtifactDataset(path=str(folder / "signals"), format="jsonl")
    dataset.save({stamp_of(moment): signals})
    nothing = PartitionedArtifactDataset(path=str(folder / "none"), format="parquet", missing_ok=True).load()
    account, _ = settle_account(state, map_, store, at(moment), nothing, params.portfolio, None, before, nothing)
    check_document(json.loads(canonical_json(account)), "paper_account")
    healthy = {"as_of": moment.isoformat(), "level": "ok", "reason": ""}
    document, history = aggregate_orders(
        dataset.load(), state, map_, account, store, at(moment), params.portfolio, healthy
    )
    assert history == {stamp_of(moment): document}
    check_document(json.loads(canonical_json(document)), "latest_orders")
    return document


def test_orders_open_both_legs_and_a_pair_that_left_the_map_is_closed(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    map_, models, store = production(params, spec, rule, pair, begin), no_models(tmp_path), stored(tmp_path, bars)
    moment, signal, state = entering(store, map_, models, begin)

    def orders(map_: dict[str, Any], signals: list[dict[str, Any]], state: Any, before: Any) -> dict[str, Any]:
        return ordered(tmp_path, store, map_, signals, state, params, before)

    opened = orders(map_, [signal], state, None)
    check_document(json.loads(canonical_json(opened)), "latest_orders")
    assert opened["book"]["holdings"] == []
    ((held),) = opened["wanted"]["holdings"]
    assert held["daily_risk"] > 0.0
    assert opened["hedge_errors"] == {pair.id: pytest.approx(0.0, abs=1e-9)}
    assert opened["volatility"] == pytest.approx(held["daily_risk"] / opened["equity"] * 365**0.5)
    assert opened["wanted"]["day"] == f"{moment:%Y-%m-%d}"
    assert opened["wanted"]["traded"] == pytest.approx(sum(order["notional"] for order in opened["orders"]))
    assert {order["symbol"] for order in opened["orders"]} == set(pair.symbols)
    assert {order["side"] for order in opened["orders"]} == {"buy", "sell"}
    empty = {"as_of": moment, "formation_start": START, "formation_end": moment, "champions": [], "rejected": []}
    nothing = promoted(empty, spec, params.backtest, params)
    signals, later = infer_signals(store, at(moment + STEP), nothing, models, state)
    ((left,),) = signals.values()
    assert (left["action"], left["side"]) == ("exit", 0)
    closed = orders(nothing, [left], later, opened)
    assert closed["book"]["holdings"] == opened["wanted"]["holdings"]
    assert closed["wanted"]["holdings"] == []
    assert all(order["reduce_only"] for order in closed["orders"])


@pytest.mark.parametrize("price", ["log", "level"])
def test_a_live_entry_knows_of_its_spread_what_the_backtests_trade_does(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any, price: str
) -> None:
    own = spec.model_copy(update={"price": price})
    begin = START + pd.Timedelta(days=9)
    map_, store = production(params, own, rule, pair, begin), stored(tmp_path, bars)
    moment, line, _ = entering(store, map_, no_models(tmp_path), begin)
    legs = [bars[symbol] for symbol in pair.symbols]
    frame = build_features(*legs, own)
    decided = moment - STEP
    trade = pd.DataFrame({
        "fold": ["fold_00"], "side": [line["side"]], "hedge_ratio": frame["hedge_ratio"].loc[[decided]].tolist(),
        "entry_z": frame["z"].loc[[decided]].tolist(), "probability": [np.nan], "threshold": [np.nan],
        "entry_decision": [decided], "exit_decision": [moment + DAY], "reason": [""],
    })  # fmt: skip
    hours = sizing.window_hours(own.z_window, STEP)
    known = sizing.with_risk(trade, frame, legs[0], half_life_hours=HALF_LIFE_HOURS, z_window_hours=hours)
    (research,) = signals_of({pair.id: known}, {"fold_00": [pair]}, frame.index, rule)[frame.index.get_loc(decided)]
    prices = {symbol: float(bars[symbol].set_index("timestamp")["close"].loc[decided]) for symbol in pair.symbols}
    live = _signal(line, map_, prices, "5m")
    names = ("pair", "action", "side", "hedge_ratio", "confidence", *sizing.RISK_COLUMNS)
    assert {name: getattr(live, name) for name in names} == {name: getattr(research, name) for name in names}
    assert 0.0 < live.spread_std < 0.1
    # what is not known, as on a bar without prices, is no number
    blank = _signal(line | dict.fromkeys(("spread_std", "half_life_hours", "hedge_ratio")), map_, prices, "5m")
    assert np.isnan([blank.spread_std, blank.half_life_hours, blank.hedge_ratio]).all()
    assert _signal(line | {"cluster": 4}, map_, prices, "5m").cluster == 4


def test_the_account_pays_the_rates_that_fall_due_on_what_it_holds(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    map_, store = production(params, spec, rule, pair, begin), stored(tmp_path, bars)
    moment, signal, state = entering(store, map_, no_models(tmp_path), begin)
    opened = ordered(tmp_path, store, map_, [signal], state, params, None)
    dated = PartitionedArtifactDataset(path=str(tmp_path / "rates"), format="parquet", append=True)
    due, later = [moment, moment + 2 * STEP], [moment - STEP, moment + 9 * STEP]  # on the second leg at other times
    dated.save({
        f"{slug(symbol)}-PERP": pd.DataFrame({"timestamp": times, "rate": [0.01, 0.02]})
        for symbol, times in zip(pair.symbols, (due, later), strict=True)
    })  # fmt: skip
    markets = at(moment + 3 * STEP)
    markets["symbols"] = {
        symbol: {"perpetual": f"{symbol}-PERP", "lot": None, "min_notional": None, "shortable": True}
        for symbol in pair.symbols
    }
    nothing = PartitionedArtifactDataset(path=str(tmp_path / "none"), format="parquet", missing_ok=True).load()
    charged = map_ | {"costs": map_["costs"] | {"carry": "funding"}}
    after = state | {"as_of": (moment + 3 * STEP).isoformat()}
    account, _ = settle_account(
        after, charged, store, markets, dated.load(), params.portfolio, None, opened, nothing
    )  # fmt: skip
    (held,) = account["book"]["holdings"]
    close = bars[pair.dependent].set_index("timestamp")["close"]
    paid = held["units_dependent"] * (0.01 * close[due[0]] + 0.02 * close[due[1]])
    assert account["totals"]["borrow"] == pytest.approx(paid)


def test_a_held_pair_that_no_signal_speaks_for_is_closed(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    map_, models, store = production(params, spec, rule, pair, begin), no_models(tmp_path), stored(tmp_path, bars)
    moment, signal, state = entering(store, map_, models, begin)
    opened = ordered(tmp_path, store, map_, [signal], state, params, None)
    later = state | {"as_of": (moment + STEP).isoformat()}
    closed = ordered(tmp_path, store, map_, [], later, params, opened)
    assert closed["book"]["holdings"]
    assert closed["wanted"]["holdings"] == []
    assert len(closed["orders"]) == 2


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


# --- features that are not those of the model


def with_model(
    map_: dict[str, Any], folder: Path, names: tuple[str, ...], spec: str, width: int | None = None
) -> tuple[dict[str, Any], Any]:
    """The map with a model for its pair that gives some probability for any finite features."""
    X = np.random.default_rng(0).normal(size=(60, len(names) if width is None else width))
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X[:, 0] > 0)
    n = len(names)
    everywhere = Novelty(np.zeros(n), np.ones(n), np.eye(n), limit=1e9, blocks_entry=False)
    trained = TrainedModel(
        FittedModel("logistic_regression", "sklearn", estimator, names), Calibration(), None, everywhere, {}
    )
    meta = {"name": "logistic_regression", "feature_names": list(names), "feature_spec": spec, "market_symbols": []}
    meta["labels"] = LABELS.model_dump(mode="json")
    stored_model = StoredModel("sklearn", estimator, meta | trained.document())
    sha = sha256(codec("model").encode(stored_model))
    dataset = PartitionedArtifactDataset(path=str(folder / "models"), format="model", append=True)
    dataset.save({sha: stored_model})
    return asking(map_, sha), dataset.load()


def test_a_pair_promoted_with_other_features_is_not_entered_and_may_be_left(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    store, map_, models = stored(tmp_path, bars), production(params, spec, rule, pair, begin), no_models(tmp_path)
    moment, _, state = entering(store, map_, models, begin)
    other = {**map_, "feature_spec": "0" * 64}
    other["id"] = production_id(other)
    ((told,),) = infer_signals(store, at(moment), other, models, None)[0].values()
    assert (told["action"], told["reason"]) == ("flat", "features are not those the pair was promoted with")
    actions = []
    while "exit" not in actions:
        moment += STEP
        signals, state = infer_signals(store, at(moment), other, models, state)
        actions += [line["action"] for (line,) in signals.values()]
    assert set(actions) == {"hold", "exit"}


def test_a_model_of_other_features_is_not_asked(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    store, map_ = stored(tmp_path, bars), production(params, spec, rule, pair, begin)
    moment, _, _ = entering(store, map_, no_models(tmp_path), begin)
    for of, told in (
        (map_["feature_spec"], None),
        ("0" * 64, "features are not those the model was trained on"),
    ):
        asked, models = with_model(map_, tmp_path / str(told), ("z", "z_abs"), of)
        ((line,),) = infer_signals(store, at(moment), asked, models, None)[0].values()
        assert (line["probability"] is None) == bool(told)
        if told:
            assert (line["action"], line["reason"]) == ("flat", told)


def hourly(folder: Path, bars: dict[str, pd.DataFrame], until: pd.Timestamp, asked: pd.Timestamp) -> BarStore:
    """Hourly bars that had closed by a time, asked for up to another one."""
    frames = {symbol: aggregate(frame, "1h") for symbol, frame in bars.items()}
    frames = {symbol: f.loc[f["timestamp"] < until.floor("h")].reset_index(drop=True) for symbol, f in frames.items()}
    ledger = Ledger(fetched=((to_ms(START), to_ms(asked.floor("h"))),))
    dataset = BarsDataset(path=str(folder / "ohlcv_1h.parquet"), timeframe="1h")
    dataset.save(BarsUpdate("made", frames, dict.fromkeys(frames, ledger)))
    return dataset.load()


def test_the_markets_volatility_is_live_what_it_is_in_research_or_nothing_is_entered(
    tmp_path: Path, bars: dict[str, pd.DataFrame], pair: Pair, params: Any, spec: Any, rule: Any
) -> None:
    begin = START + pd.Timedelta(days=9)
    spec = spec.model_copy(update={"include": ("z_dynamics", "market_volatility"), "market_window_hours": 12})
    plain = production(params, spec, rule, pair, begin)
    map_, models = with_model(
        {**plain, "market_symbols": sorted(bars)}, tmp_path, ("market_volatility",), spec_hash(spec)
    )
    market = market_of(hourly(tmp_path / "all", bars, begin + 2 * DAY, begin + 2 * DAY), tuple(bars), spec)
    whole = build_features(*(bars[symbol] for symbol in pair.symbols), spec, market=market)
    model = deployment.fitted(models[next(iter(models))])
    research = training.predict(model, whole)
    listed = {symbol: {"listed": True} for symbol in bars}
    for minutes in (0, 5, 55, 60, 65, 600):
        moment = begin + pd.Timedelta(minutes=minutes)
        clock = {"as_of": moment.isoformat(), "symbols": listed}
        known = hourly(tmp_path / f"known_{minutes}", bars, moment, moment)
        late = hourly(tmp_path / f"late_{minutes}", bars, moment - HOUR, moment - HOUR)
        store = stored(tmp_path / f"bars_{minutes}", bars, moment)
        ((line,),) = infer_signals(store, clock, map_, models, None, known)[0].values()
        assert line["probability"] == research["probability"].loc[moment - STEP]
        ((line,),) = infer_signals(store, clock, map_, models, None, late)[0].values()
        assert line["probability"] is None
        assert line["reason"] == "market_volatility is not known"
        assert line["action"] != "enter"
