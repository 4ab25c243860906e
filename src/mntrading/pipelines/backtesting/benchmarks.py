"""Trades to hold the portfolios against: the rule on z without a model, and random pairs."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core.backtest import TRADE_COLUMNS, run_pair
from mntrading.core.bars import timeframe_ms
from mntrading.core.benchmarks import placebo_pairs
from mntrading.core.errors import ParameterError
from mntrading.core.features import build_features, warm_up_bars
from mntrading.core.mean_reversion import half_life
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Partitions
from mntrading.params import BacktestParams, BenchmarkParams, ComputeParams, FeatureParams
from mntrading.pipelines.common import fan_out, must_follow

LOGGER = logging.getLogger(__name__)

Z_RULE, PLACEBO = "z_rule", "placebo"
COLUMNS = ("line", "pair_id", "dependent", "independent", *TRADE_COLUMNS, "fold")
_DAY = pd.Timedelta(1, unit="D")
_HOUR = pd.Timedelta(1, unit="h")


def trade_benchmarks(
    ohlcv_1h: BarStore,
    ohlcv_5m: BarStore,
    pair_features: Partitions,
    roster: dict[str, Any],
    features: FeatureParams,
    backtest: BacktestParams,
    benchmarks: BenchmarkParams,
    compute: ComputeParams,
) -> pd.DataFrame:
    """Trades of every roster pair by the rule on z alone, and of as many random pairs in each window.

    Random pairs are of symbols on any fold's roster that had bars when the formation window ended, and are not on that
    fold's roster; their features are of the same spec, their half-lives those of the same formation window.
    """
    must_follow(roster, pair_features=pair_features)
    parsed = Roster.parse(roster)
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")
    rule = backtest.model_copy(update={"strategy": backtest.strategy.model_copy(update={"signals_from": "z"})})
    # the other features have no part in the rule, and none in z
    spec = features.model_copy(update={"include": ("z_dynamics",)})
    before = warm_up_bars(spec) * step

    def trade(item: tuple[str, Fold, Pair, float | None]) -> pd.DataFrame:
        line, fold, pair, half_life_hours = item
        bars_a, bars_b = (_between(ohlcv_5m[symbol], fold.formation_end - before, fold) for symbol in pair.symbols)
        frame = pair_features[pair.id] if line == Z_RULE else build_features(bars_a, bars_b, spec)
        window = frame.reindex(fold.trading_grid(step))
        bars = None if half_life_hours is None else half_life_hours / (step / _HOUR)
        trades = run_pair(bars_a, bars_b, window, rule, half_life_bars=bars).trades
        legs = {"line": line, "pair_id": pair.id, "dependent": pair.dependent, "independent": pair.independent}
        return trades.assign(**legs, fold=fold.name)[list(COLUMNS)]

    items: list[tuple[str, Fold, Pair, float | None]] = [
        (Z_RULE, entry.fold, row.pair, row.half_life_hours) for entry in parsed.completed for row in entry.pairs
    ]
    for number, entry in enumerate(parsed.completed):
        pool = [symbol for symbol in parsed.symbols if _listed(ohlcv_5m, symbol, entry.fold)]
        drawn = placebo_pairs(
            pool, [row.pair for row in entry.pairs], len(entry.pairs), seed=benchmarks.placebo_seed, fold=number
        )
        items += [(PLACEBO, entry.fold, pair, _half_life_hours(ohlcv_1h, pair, entry)) for pair in drawn]
    parts = [part for part in fan_out(trade, items, compute, "benchmarks") if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _between(bars: pd.DataFrame, start: pd.Timestamp, fold: Fold) -> pd.DataFrame:
    inside: pd.DataFrame = bars.loc[(bars["timestamp"] >= start) & (bars["timestamp"] < fold.trading_end)]
    return inside


def _listed(ohlcv_5m: BarStore, symbol: str, fold: Fold) -> bool:
    """Whether a symbol has bars in the day before the formation window ends."""
    if symbol not in ohlcv_5m:
        return False
    entry = ohlcv_5m.entry(symbol)
    return bool(entry["first"] < fold.formation_end - _DAY and entry["last"] >= fold.formation_end - _DAY)


def _half_life_hours(ohlcv_1h: BarStore, pair: Pair, entry: RosterFold) -> float | None:
    """Half-life of the residual over the formation window, as the screen has it; None where it has none."""
    fold = entry.fold
    close = ohlcv_1h.wide("close", pair.symbols, fold.formation_start, fold.formation_end)
    legs = np.log(close.dropna().to_numpy(dtype=np.float64))
    try:
        beta, alpha = np.linalg.lstsq(np.column_stack((legs[:, 1], np.ones(len(legs)))), legs[:, 0], rcond=None)[0]
        return half_life(legs[:, 0] - beta * legs[:, 1] - alpha)
    except ParameterError:
        LOGGER.info("%s in %s: too few hourly bars for a half-life, so no time stop", pair.id, fold.name)
        return None
