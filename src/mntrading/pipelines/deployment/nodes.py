"""Champions, the frozen production map, live signals and the orders they net to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from mntrading.core import portfolio, strategy, training
from mntrading.core.bars import timeframe_ms, to_ms
from mntrading.core.break_monitor import history_bars
from mntrading.core.coverage import subtracted
from mntrading.core.engine_inputs import monitor_of
from mntrading.core.errors import ArtifactError, BarDataError, ParameterError
from mntrading.core.features import build_features, build_spread, spec_hash, warm_up_bars
from mntrading.core.menu import Item, Levels, chosen_item
from mntrading.core.roster import Roster
from mntrading.core.selection import Candidate
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Partitions, StoredModel
from mntrading.datasets.codecs import codec
from mntrading.datasets.storage import content_hash, sha256
from mntrading.params import (
    BacktestParams,
    ChampionParams,
    CostParams,
    FeatureParams,
    PortfolioParams,
    ProductionParams,
    StrategyParams,
)
from mntrading.pipelines.backtesting.desk import exchange_limits
from mntrading.pipelines.backtesting.nodes import candidates_tried, formation_spreads, judge
from mntrading.pipelines.common import SCHEMA_VERSION, digest, header, must_follow, number, numbers
from mntrading.pipelines.feature_engineering.nodes import market_of
from mntrading.pipelines.modelling.nodes import POOLED, fitted, model_id

LOGGER = logging.getLogger(__name__)

_ACTIONS = {strategy.ENTER: "enter", strategy.EXIT: "exit"}


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
        "rule": {
            "label": item.label,
            "beta_window": item.beta_window,
            "z_window": item.z_window,
            **asdict(item.levels),
        },
        "model": None if model is None else {"id": model, "sha256": pair_models.digests[model]},
    }


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
        "pairs": pairs,
    }
    id_ = content_hash(frozen)
    LOGGER.info("production map %s: %d pairs, valid to %s", id_[:12], len(pairs), frozen["expires"])
    document = {**frozen, "id": id_}
    return document, {id_[:16]: document}, models


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
    action, reason = strategy.HOLD, ""
    columns = (frame[name] for name in ("spread", "z", "hedge_ratio", "beta"))
    for row, (moment, spread, z, hedge_ratio, beta) in enumerate(zip(todo, *columns, strict=True)):
        if state.side and not state.bars_held and pd.isna(spread):
            # the bar to fill the entry on is missing: the entry is off, as in research
            state = strategy.StrategyState()
        known = _asked(told, moment)
        state, action, reason = strategy.step(
            state, levels, z=float(z), hedge_ratio=float(hedge_ratio), probability=known["probability"],
            barred=known["barred"], entries_allowed=moment == newest_open and not doubts,
            beta=float(beta), monitor=monitor, row=row,
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


def aggregate_orders(
    signals: Partitions,
    position_state: dict[str, Any],
    production_map: dict[str, Any],
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    sizes: PortfolioParams,
    previous: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Net the newest bar's signals into orders, on the book the orders before left.

    The book takes orders as filled at their reference price with the production map's costs.
    """
    bar_close = pd.Timestamp(position_state["as_of"])
    stamp = f"{bar_close:%Y%m%dT%H%M%SZ}"
    given = signals[stamp]
    book = _book_before(previous, bar_close, sizes.capital)
    wanted = [_signal(line) for line in given]
    told = {signal.pair.id for signal in wanted}
    wanted += [
        portfolio.Signal(
            holding.pair, "exit", 0, float("nan"), 0.0, "closing: held, and nothing speaks for it any more"
        )
        for pair_id, holding in sorted(book.holdings.items())
        if pair_id not in told
    ]
    symbols = sorted({*book.units(), *(s for signal in wanted for s in signal.pair.symbols)})
    prices = {symbol: _last_close(ohlcv_5m, symbol, bar_close) for symbol in symbols}
    result = portfolio.build_orders(wanted, prices, book, exchange_limits(markets), sizes)
    charged = CostParams.model_validate(production_map["costs"])
    rate = charged.fee_rate + charged.slippage_bps * 1e-4
    paid = sum((o.notional if o.side == "buy" else -o.notional) + o.notional * rate for o in result.orders)
    after = portfolio.Book(book.cash - paid, result.book.holdings)
    weights = result.weights
    document = {
        **header(bar_close, {"signals": given, "production_map": production_map}, {"portfolio": sizes}),
        "bar_close": bar_close,
        "map_id": production_map["id"],
        "equity": result.equity,
        "gross": sum(abs(weight) for weight in weights.values()),
        "net": sum(weights.values()),
        "orders": [
            {**asdict(order), "id": content_hash([stamp, production_map["id"], asdict(order)])[:16]}
            for order in result.orders
        ],
        "targets": result.targets,
        "weights": weights,
        "refused": result.refused,
        "kill_switch": sizes.kill_switch,
        "book_before": _book_document(book),
        "book": _book_document(after),
        "reason": _why_nothing(production_map, given) if not result.orders else "",
    }
    LOGGER.info("orders %s: %d, gross %.2f of equity", stamp, len(result.orders), document["gross"])
    return document, {stamp: document}


def _why_nothing(production_map: Mapping[str, Any], given: list[dict[str, Any]]) -> str:
    if not production_map["pairs"]:
        return "no pair is in production: the registry has no champion"
    return "no pair enters or exits on this bar: " + "; ".join(
        f"{line['pair_id']} {line['action']} ({line['reason'] or 'holding'})" for line in given
    )


def _signal(line: Mapping[str, Any]) -> portfolio.Signal:
    return portfolio.Signal(
        Pair(line["dependent"], line["independent"]),
        line["action"],
        line["side"],
        float("nan") if line["hedge_ratio"] is None else line["hedge_ratio"],
        0.0 if line["confidence"] is None else line["confidence"],
        line["reason"],
    )


def _last_close(store: BarStore, symbol: str, bar_close: pd.Timestamp) -> float:
    bars = store[symbol]
    known = bars.loc[bars["timestamp"] < bar_close, "close"]
    return float(known.iloc[-1]) if len(known) else float("nan")


def _book_before(previous: Mapping[str, Any] | None, bar_close: pd.Timestamp, capital: float) -> portfolio.Book:
    """The book ahead of this bar; that of the same bar's first orders when they are asked for again."""
    if previous is None:
        return portfolio.Book(capital)
    again = pd.Timestamp(previous["bar_close"]) == bar_close
    document = previous["book_before"] if again else previous["book"]
    holdings = {
        row["pair_id"]: portfolio.Holding(
            Pair(row["dependent"], row["independent"]),
            row["side"],
            row["units_dependent"],
            row["units_independent"],
        )
        for row in document["holdings"]
    }
    return portfolio.Book(document["cash"], holdings)


def _book_document(book: portfolio.Book) -> dict[str, Any]:
    return {
        "cash": book.cash,
        "holdings": [
            {
                "pair_id": pair_id,
                "dependent": holding.pair.dependent,
                "independent": holding.pair.independent,
                "side": holding.side,
                "units_dependent": holding.units_dependent,
                "units_independent": holding.units_independent,
            }
            for pair_id, holding in sorted(book.holdings.items())
        ],
    }
