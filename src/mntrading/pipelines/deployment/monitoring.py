"""Between inference and orders: every production pair against what it was promoted on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import drift, health, training
from mntrading.core import relation as relations
from mntrading.core.bars import empty_bars, timeframe_ms, times_ms, to_ms
from mntrading.core.drift import Drift, Reliability
from mntrading.core.engine_inputs import Grid
from mntrading.core.errors import ArtifactError
from mntrading.core.features import build_features, spec_hash, warm_up_bars
from mntrading.core.health import Check, Observed
from mntrading.core.labels import label
from mntrading.core.relation import Relation
from mntrading.core.training import TrainedModel
from mntrading.core.types import Pair
from mntrading.core.uniqueness import label_uniqueness
from mntrading.datasets import BarStore, Partitions
from mntrading.params import FeatureParams, LabelParams, MonitoringParams, ScreeningParams, StrategyParams
from mntrading.pipelines.common import header, number, numbers
from mntrading.pipelines.feature_engineering.nodes import market_of
from mntrading.pipelines.modelling.nodes import fitted

LOGGER = logging.getLogger(__name__)

_HOUR = pd.Timedelta(1, unit="h")


def watch_production(
    ohlcv_5m: BarStore,
    ohlcv_1h: BarStore,
    production_map: dict[str, Any],
    production_models: Partitions,
    position_state: dict[str, Any],
    monitoring: MonitoringParams,
    screening: ScreeningParams,
) -> dict[str, Any]:
    """Drift, calibration, relation and data age of every production pair at the bar the signals are of.

    What can't be known although it should is a warning. The same bar gives the same bytes.
    """
    watch = _Watch.at(position_state, production_map, ohlcv_5m, ohlcv_1h, production_models, monitoring, screening)
    observed = {entry["pair_id"]: watch.observed(entry) for entry in production_map["pairs"]}
    checks = {pair_id: health.checks_of(one, monitoring) for pair_id, one in observed.items()}
    level, reason = health.verdict(checks, monitoring)
    LOGGER.log(logging.INFO if level == "ok" else logging.WARNING, "monitoring: %s%s", level, reason and f", {reason}")
    made_from = {"production_map": production_map, "position_state": position_state}
    return {
        **header(watch.bar_close, made_from, {"monitoring": monitoring, "screening": screening}),
        "map_id": production_map["id"],
        "level": level,
        "reason": reason,
        "compared_since": watch.since,
        "pairs": [watch.document(e, observed[e["pair_id"]], checks[e["pair_id"]]) for e in production_map["pairs"]],
    }


@dataclass(frozen=True)
class _Watch:
    """One bar close of everything in production, with the bars it takes."""

    production_map: Mapping[str, Any]
    sides: Mapping[str, int]
    spec: FeatureParams
    strategy: StrategyParams
    models: Partitions
    bars: Mapping[str, pd.DataFrame]
    log_hourly: pd.DataFrame
    market: pd.Series | None
    bar_close: pd.Timestamp
    step: pd.Timedelta
    since: pd.Timestamp
    params: MonitoringParams
    screening: ScreeningParams
    opened: dict[str, tuple[TrainedModel, Mapping[str, Any]]] = field(default_factory=dict)

    @classmethod
    def at(
        cls,
        position_state: Mapping[str, Any],
        production_map: Mapping[str, Any],
        ohlcv_5m: BarStore,
        ohlcv_1h: BarStore,
        models: Partitions,
        params: MonitoringParams,
        screening: ScreeningParams,
    ) -> _Watch:
        """Read what is needed; rows are compared from ``since`` on, after the formation window."""
        if position_state["map_id"] != production_map["id"]:
            raise ArtifactError(
                f"is of map {position_state['map_id'][:12]}, and {production_map['id'][:12]} is in production",
                where="signals/_position_state.json",
                fix="kedro run --tags inference",
            )
        bar_close = pd.Timestamp(position_state["as_of"])
        step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")
        spec = FeatureParams.model_validate(production_map["features"])
        strategy = StrategyParams.model_validate(production_map["strategy"])
        formed = pd.Timestamp(production_map["formation_end"])
        since = max(formed, bar_close - pd.Timedelta(params.window_days, unit="D"))
        entries = production_map["pairs"]
        start = bar_close - (strategy.break_monitor.window_bars + 1) * step
        asked = any(entry["model"] is not None for entry in entries) and since < bar_close
        if asked:
            start = min(start, since - (warm_up_bars(spec) + 2) * step)
        symbols = sorted({entry[leg] for entry in entries for leg in ("dependent", "independent")})
        bars = {s: ohlcv_5m.between(s, start, bar_close) if s in ohlcv_5m else empty_bars() for s in symbols}
        there = [symbol for symbol in symbols if symbol in ohlcv_1h]
        hourly = ohlcv_1h.wide("close", there, pd.Timestamp(production_map["formation_start"]), bar_close.floor("h"))
        market = None
        if asked:
            # twice the window settles the bits; an hour more for the first return
            begin = since.floor("h") - (2 * spec.market_window_hours + 1) * _HOUR
            market = market_of(ohlcv_1h, tuple(production_map["market_symbols"]), spec, begin, bar_close.floor("h"))
        sides = {pair_id: state["side"] for pair_id, state in position_state["pairs"].items()}
        return cls(
            production_map, sides, spec, strategy, models, bars, _logs(hourly, symbols), market,
            bar_close, step, since, params, screening,
        )  # fmt: skip

    def observed(self, entry: Mapping[str, Any]) -> Observed:
        """Everything measured of one pair."""
        pair = Pair(entry["dependent"], entry["independent"])
        trained, labels, doubts = self._model(entry)
        features: dict[str, Drift] = {}
        scores, came = None, None
        if trained is not None and labels is not None:
            features, scores, came = self._compared(pair, trained, labels)
        formed = pd.Timestamp(self.production_map["formation_end"])
        length = formed - pd.Timestamp(self.production_map["formation_start"])
        end = self.bar_close.floor("h")
        before = self._relation(pair, formed - length, formed)
        now = self._relation(pair, end - length, end)
        return Observed(
            age_bars=self._age_bars(pair),
            doubts=None if entry["model"] is None else doubts,
            features=features,
            scores=scores,
            calibration=came,
            before=before,
            now=now,
            known=now.n_bars / (length / _HOUR),
            half_life_ratio=now.half_life_bars / entry["half_life_hours"],
            break_p=self._break_p(pair, before.hedge_ratio),
        )

    def _age_bars(self, pair: Pair) -> int | None:
        a, b = (times_ms(self.bars[symbol]["timestamp"]) for symbol in pair.symbols)
        both = np.intersect1d(a, b, assume_unique=True)
        newest = to_ms(self.bar_close - self.step)
        return None if not len(both) else int((newest - both[-1]) // (self.step // pd.Timedelta(1, unit="ms")))

    def _relation(self, pair: Pair, start: pd.Timestamp, end: pd.Timestamp) -> Relation:
        window = self.log_hourly.loc[(self.log_hourly.index >= start) & (self.log_hourly.index < end)]
        return relations.relation(window, pair, self.screening)

    def _break_p(self, pair: Pair, hedge_ratio: float) -> float:
        rule = self.strategy.break_monitor
        index = pd.date_range(end=self.bar_close - self.step, periods=rule.window_bars, freq=self.step, unit="ms")
        grid = Grid.of(index)
        y, x = (np.log(grid.columns(self.bars[symbol], "close")[0]) for symbol in pair.symbols)
        return relations.break_p_value(y, x, hedge_ratio, rule)

    def _model(self, entry: Mapping[str, Any]) -> tuple[TrainedModel | None, LabelParams | None, tuple[str, ...]]:
        """The promoted model and what its labels are; or why it can't be asked."""
        model = entry["model"]
        if model is None:
            return None, None, ()
        name = f"model {model['id'][:12]}"
        if model["id"] not in self.models:
            return None, None, (f"{name} is missing",)
        if self.models.digests[model["id"]] != model["sha256"]:
            return None, None, (f"{name} is not the one that was promoted",)
        if model["id"] not in self.opened:
            try:
                stored = self.models[model["id"]]
                self.opened[model["id"]] = fitted(stored), stored.meta
            except ArtifactError as error:
                return None, None, (f"{name} can't be used: {error.what}",)
        trained, meta = self.opened[model["id"]]
        if meta["feature_spec"] != spec_hash(self.spec):
            return None, None, ("features are not those the model was trained on",)
        if entry["pair_id"] not in trained.references:
            return None, None, (f"{name} was fitted on no row of this pair: there is nothing to compare with",)
        return trained, LabelParams.model_validate(meta["labels"]), ()

    def _compared(
        self, pair: Pair, trained: TrainedModel, labels: LabelParams
    ) -> tuple[dict[str, Drift], Drift | None, Reliability]:
        """Rows like those the model was fitted on, since then: their features, its answers, and what came of them."""
        reference = trained.references[pair.id]
        legs = [self.bars[symbol] for symbol in pair.symbols]
        if self.since < self.bar_close:
            frame = build_features(legs[0], legs[1], self.spec, market=self.market)
        else:
            frame = build_features(legs[0].iloc[:0], legs[1].iloc[:0], self.spec)
        frame = frame.loc[frame.index >= self.since]
        events = frame.loc[frame["z"].abs() >= labels.zscore_threshold]
        events = events.loc[np.isfinite(events[list(trained.feature_names)].to_numpy()).all(axis=1)]
        told = training.predict(trained, events)["probability"]
        features = {name: drift.compare(bins, events[name].to_numpy()) for name, bins in reference.features.items()}
        scores = None if reference.scores is None else drift.compare(reference.scores, told.to_numpy())
        came = label(frame, legs[0], legs[1], labels).join(told, how="inner").assign(pair_id=pair.id)
        return features, scores, drift.reliability(
            came["label"].to_numpy(dtype=np.int64), came["probability"].to_numpy(), reference=reference,
            unique=float(label_uniqueness(came).sum()),
        )  # fmt: skip

    def document(self, entry: Mapping[str, Any], found: Observed, checks: Sequence[Check]) -> dict[str, Any]:
        """A pair's figures, their limits and its warnings as plain values."""
        answers = {} if found.scores is None else {"probability": found.scores}
        far = health.drifted(found.features, self.params) | health.drifted(answers, self.params)
        return {
            "pair_id": entry["pair_id"],
            "dependent": entry["dependent"],
            "independent": entry["independent"],
            "side": self.sides[entry["pair_id"]],
            "warnings": [check.words for check in checks if check.breached],
            "checks": [{**asdict(c), "value": number(c.value), "limit": number(c.limit)} for c in checks],
            "drift": [
                {"column": name, **numbers(asdict(one)), "drifted": name in far}
                for name, one in {**found.features, **answers}.items()
            ],
            "calibration": None if found.calibration is None else numbers(asdict(found.calibration)),
            "relation": {"formation": _plain(found.before), "now": _plain(found.now)},
        }


def _logs(closes: pd.DataFrame, symbols: list[str]) -> pd.DataFrame:
    """Logs of closes, a column of NaN for a symbol without bars."""
    wide = closes.reindex(columns=symbols)
    return pd.DataFrame(np.log(wide.to_numpy(dtype=np.float64)), index=wide.index, columns=symbols)


def _plain(one: Relation) -> dict[str, float | None]:
    """A relation over hourly bars."""
    return numbers(
        {
            "p_value": one.p_value,
            "half_life_hours": one.half_life_bars,
            "hedge_ratio": one.hedge_ratio,
            "n_bars": one.n_bars,
        }
    )
