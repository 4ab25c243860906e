"""The rule each pair is traded by, fold by fold, and what every candidate would have earned afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pandas as pd

from mntrading.core import menu
from mntrading.core.bars import timeframe_ms
from mntrading.core.roster import Roster
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Commit, Partitions
from mntrading.params import BacktestParams, ComputeParams, FeatureParams, PortfolioParams
from mntrading.pipelines.backtesting.desk import Funding, market_of
from mntrading.pipelines.common import fan_out, header

LOGGER = logging.getLogger(__name__)

MENU_COLUMNS = ("fold", *menu.ITEM_COLUMNS, "reason", "overfitting", "out_of_block")


def choose_candidates(
    ohlcv_5m: BarStore,
    roster: dict[str, Any],
    markets: dict[str, Any],
    funding_rates: Partitions,
    backtest: BacktestParams,
    features: FeatureParams,
    sizes: PortfolioParams,
    compute: ComputeParams,
) -> Iterator[tuple[dict[str, pd.DataFrame] | Commit, ...]]:
    """Each pair's menu in each fold of its roster, the live one too, and the candidates' days in trading windows."""
    parsed = Roster.parse(roster)
    funding = Funding(markets, funding_rates, backtest.costs)
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")

    def look(item: tuple[str, Pair]) -> tuple[str, pd.DataFrame, pd.DataFrame]:
        pair_id, pair = item
        market = market_of(pair, ohlcv_5m, funding, sizes)
        tables, days = [], []
        for entry in parsed.folds:
            row = next((row for row in entry.pairs if row.pair.id == pair_id), None)
            if row is None:
                continue
            half_life = row.half_life_hours / (step / pd.Timedelta(1, unit="h"))
            chosen = menu.choose(market, entry.fold.formation_grid(step), backtest, features, half_life_bars=half_life)
            tables.append(
                chosen.table.assign(
                    fold=entry.fold.name,
                    reason=chosen.reason,
                    overfitting=chosen.overfitting,
                    out_of_block=chosen.out_of_block,
                )
            )
            if not entry.fold.is_live:
                window = entry.fold.trading_grid(step)
                earned = menu.follow(market, window, chosen.table, backtest, features, half_life_bars=half_life)
                days.append(earned.assign(fold=entry.fold.name))
        return pair_id, pd.concat(tables, ignore_index=True)[list(MENU_COLUMNS)], _joined(days)

    pairs = parsed.pairs
    left = taken = 0
    for pair_id, table, days in fan_out(look, list(pairs.items()), compute, "candidates", reads=ohlcv_5m):
        chosen = table.loc[table["chosen"]]
        taken += len(chosen)
        left += int((chosen["label"] != menu.CONFIGURED).sum())
        yield {pair_id: table}, {pair_id: days}
    LOGGER.info("rules: the configured one in %d of %d windows of pairs, another in %d", taken - left, taken, left)
    made_from = {"ohlcv_5m": ohlcv_5m, "roster": roster}
    head = header(roster["as_of"], made_from, {"backtest": backtest, "features": features, "portfolio": sizes})
    commit = Commit(tuple(pairs), head)
    yield commit, commit


def _joined(days: list[pd.DataFrame]) -> pd.DataFrame:
    if days:
        return pd.concat(days)
    return pd.DataFrame(
        {"fold": pd.Series(dtype="str")}, index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp")
    )
