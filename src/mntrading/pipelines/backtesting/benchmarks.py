"""Trades to hold the portfolios against: the rule on z without a model, and random pairs."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import menu, sizing
from mntrading.core.backtest import TRADE_COLUMNS, run_pair
from mntrading.core.benchmarks import placebo_pairs
from mntrading.core.errors import ParameterError
from mntrading.core.mean_reversion import half_life
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Partitions
from mntrading.params import BacktestParams, BenchmarkParams, ComputeParams, FeatureParams, PortfolioParams
from mntrading.pipelines.backtesting.desk import Desk, Funding
from mntrading.pipelines.common import fan_out, must_follow

LOGGER = logging.getLogger(__name__)

Z_RULE, PLACEBO = "z_rule", "placebo"
COLUMNS = ("line", "pair_id", "dependent", "independent", *TRADE_COLUMNS, *sizing.RISK_COLUMNS, "fold")
_DAY = pd.Timedelta(1, unit="D")
_HOUR = pd.Timedelta(1, unit="h")


def trade_benchmarks(
    ohlcv_1h: BarStore,
    ohlcv_5m: BarStore,
    predictions: Partitions,
    pair_menus: Partitions,
    roster: dict[str, Any],
    markets: dict[str, Any],
    funding_rates: Partitions,
    features: FeatureParams,
    backtest: BacktestParams,
    sizes: PortfolioParams,
    benchmarks: BenchmarkParams,
    compute: ComputeParams,
) -> pd.DataFrame:
    """Entries of every roster pair by the rule on z alone, filled or not, and of as many random pairs in each window.

    Random pairs are of symbols on any fold's roster that had bars when the formation window ended, and are not on that
    fold's roster; their half-lives and rules are chosen on the same formation window as those of the roster.
    """
    must_follow(roster, predictions=predictions, pair_menus=pair_menus)
    parsed = Roster.parse(roster)
    rule = backtest.model_copy(update={"strategy": backtest.strategy.model_copy(update={"signals_from": "z"})})
    funding = Funding(markets, funding_rates, backtest.costs)
    desk = Desk(ohlcv_5m, predictions, pair_menus, parsed, funding, rule, features, sizes)

    def trade(item: str | tuple[RosterFold, Pair, float | None]) -> pd.DataFrame:
        if isinstance(item, str):
            windows = [
                _told(window.trade().entered, Z_RULE, window.row.pair, window.entry) for window in desk.windows(item)
            ]
            return pd.concat(windows) if windows else pd.DataFrame(columns=list(COLUMNS))
        entry, pair, half_life_hours = item
        market, bars = desk.market(pair), math.inf if half_life_hours is None else half_life_hours / (desk.step / _HOUR)
        found = menu.choose(market, entry.fold.formation_grid(desk.step), rule, features, half_life_bars=bars).item
        spread = market.spread((found.beta_window, found.z_window), features)
        frame = spread.reindex(entry.fold.trading_grid(desk.step))
        result = run_pair(
            market.bars_a, market.bars_b, frame,
            rule.model_copy(update={"strategy": found.applied(rule.strategy)}),
            half_life_bars=bars, book=market.book, funding=market.funding,
        )  # fmt: skip
        entered = sizing.with_risk(
            result.entered, frame, market.bars_a, half_life_hours=half_life_hours,
            z_window_hours=sizing.window_hours(found.z_window, desk.step),
        )  # fmt: skip
        return _told(entered, PLACEBO, pair, entry)

    items: list[str | tuple[RosterFold, Pair, float | None]] = list(parsed.pairs)
    for number, entry in enumerate(parsed.completed):
        pool = [symbol for symbol in parsed.symbols if _listed(ohlcv_5m, symbol, entry.fold)]
        drawn = placebo_pairs(
            pool, [row.pair for row in entry.pairs], len(entry.pairs), seed=benchmarks.placebo_seed, fold=number
        )
        items += [(entry, pair, _half_life_hours(ohlcv_1h, pair, entry)) for pair in drawn]
    parts = [part for part in fan_out(trade, items, compute, "benchmarks", reads=ohlcv_5m) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _told(entered: pd.DataFrame, line: str, pair: Pair, entry: RosterFold) -> pd.DataFrame:
    legs = {"line": line, "pair_id": pair.id, "dependent": pair.dependent, "independent": pair.independent}
    told: pd.DataFrame = entered.assign(**legs, fold=entry.fold.name)[list(COLUMNS)]
    return told


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
