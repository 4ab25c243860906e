"""The whole roster traded again under other costs, timing and levels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mntrading.core import account, metrics
from mntrading.core.lines import Attribution, line_performance, returns_in_windows, signals_of
from mntrading.core.performance import Performance
from mntrading.core.robustness import late_legs, neighbourhood, scenarios
from mntrading.core.roster import Roster
from mntrading.core.schedule import Fold
from mntrading.datasets import BarStore, Partitions
from mntrading.params import (
    BacktestParams,
    ComputeParams,
    FeatureParams,
    PortfolioParams,
    RobustnessParams,
    StatisticsParams,
)
from mntrading.pipelines.backtesting.desk import Desk, Exchange, Funding
from mntrading.pipelines.common import fan_out, header, must_follow, number, numbers

LOGGER = logging.getLogger(__name__)

_LATE_LEGS = "late_legs"
_FIGURES = (
    "total_return", "sharpe", "sharpe_low", "sharpe_high", "max_drawdown", "gross_pnl", "costs", "turnover", "n_trades",
    "hit_rate",
)  # fmt: skip


def probe_robustness(
    ohlcv_5m: BarStore,
    predictions: Partitions,
    pair_menus: Partitions,
    roster: dict[str, Any],
    markets: dict[str, Any],
    funding_rates: Partitions,
    backtest: BacktestParams,
    features: FeatureParams,
    sizes: PortfolioParams,
    statistics: StatisticsParams,
    robustness: RobustnessParams,
    compute: ComputeParams,
) -> dict[str, Any]:
    """The whole-roster portfolio at multiplied costs, one bar later and earlier, and at neighbouring levels of z.

    Levels are moved from those each pair is traded at, which its menu may have chosen.
    """
    must_follow(roster, predictions=predictions, pair_menus=pair_menus)
    parsed = Roster.parse(roster)
    funding = Funding(markets, funding_rates, backtest.costs)
    desk = Desk(ohlcv_5m, predictions, pair_menus, parsed, funding, backtest, features, sizes)
    ways, cells = scenarios(backtest, robustness), neighbourhood(backtest, robustness)

    def variants(own: BacktestParams) -> list[tuple[str, BacktestParams, int]]:
        again = (*scenarios(own, robustness), late_legs(own, robustness))
        found = [(way.name, way.backtest, way.shift_bars) for way in again]
        return found + [(c.name, c.backtest, 0) for c in neighbourhood(own, robustness) if c.backtest is not None]

    def trade(pair_id: str) -> tuple[str, dict[str, pd.DataFrame]]:
        parts: dict[str, list[pd.DataFrame]] = {}
        for window in desk.windows(pair_id):
            for name, other, shift in variants(window.backtest):
                found = window.trade(other, shift_bars=shift).entered.assign(fold=window.entry.fold.name)
                parts.setdefault(name, []).append(found)
        return pair_id, {name: pd.concat(some) for name, some in parts.items()}

    names = [way.name for way in ways] + [_LATE_LEGS] + [cell.name for cell in cells]
    traded: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in names}
    for pair_id, found in fan_out(trade, list(parsed.pairs), compute, "robustness", reads=ohlcv_5m):
        for name, trades in found.items():
            traded[name][pair_id] = trades
    exchange = Exchange.of(ohlcv_5m, parsed, markets, funding)
    members = {entry.fold.name: [row.pair for row in entry.pairs] for entry in parsed.completed}
    index = pd.DatetimeIndex(exchange.close.index)

    def book(trades: Mapping[str, pd.DataFrame], way: BacktestParams) -> account.PortfolioResult:
        return exchange.trade(signals_of(_all(trades, parsed), members, index, backtest.strategy), sizes, way)

    folds = [entry.fold for entry in parsed.completed]
    results = {
        way.name: line_performance(book(traded[way.name], way.backtest), folds, statistics, capital=sizes.capital)
        for way in ways
    }
    made_from = {"ohlcv_5m": ohlcv_5m, "predictions": predictions, "pair_menus": pair_menus, "roster": roster}
    blocks = {"backtest": backtest, "portfolio": sizes, "statistics": statistics, "robustness": robustness}
    document = {
        **header(roster["as_of"], made_from, blocks),
        "entry_z": backtest.strategy.entry_z,
        "exit_z": backtest.strategy.exit_z,
        "cost_multiple": robustness.cost_multiple,
        "shift_bars": robustness.shift_bars,
        "scenarios": [
            {"name": way.name, "looks_ahead": way.looks_ahead, **_figures(results[way.name], _FIGURES)} for way in ways
        ],
        "late_legs": {
            "share": robustness.legging.probability,
            **{
                name: sizes.pair_gross * sum(float(trades["net_pnl"].sum()) for trades in traded[key].values())
                for name, key in (("as_traded", "as_traded"), ("net", _LATE_LEGS))
            },
        },
        "neighbourhood": [
            {
                "entry_step": cell.entry_step,
                "exit_step": cell.exit_step,
                **_cell(None if cell.backtest is None else book(traded[cell.name], backtest), folds, sizes.capital),
            }
            for cell in cells
        ],
        "metrics": _tracked(results),
    }
    LOGGER.info("whole roster again: %s", ", ".join(_in_words(way.name, results[way.name]) for way in ways))
    return document


def _all(trades: Mapping[str, pd.DataFrame], roster: Roster) -> dict[str, pd.DataFrame]:
    """Entries of every pair; one whose levels were in no order to trade has none."""
    nothing = pd.DataFrame({"fold": []})
    return {pair_id: trades.get(pair_id, nothing) for pair_id in roster.pairs}


def _figures(found: Performance, names: Sequence[str]) -> dict[str, float | None]:
    figures = found.figures()
    return numbers({name: figures[name] for name in names})


def _cell(result: account.PortfolioResult | None, folds: Sequence[Fold], capital: float) -> dict[str, float | None]:
    """Net return, Sharpe ratio and trades of one point of the neighbourhood; None where it can't be traded."""
    if result is None:
        return dict.fromkeys(("total_return", "sharpe", "n_trades"))
    return numbers(
        {
            "total_return": Attribution.of(result, capital).net,
            "sharpe": metrics.sharpe(returns_in_windows(result.equity, folds, capital)),
            "n_trades": float((result.trades["side"] != 0).sum()),
        }
    )


def _tracked(results: Mapping[str, Performance]) -> dict[str, float | None]:
    keys = ("total_return", "sharpe")
    return {f"{name}.{key}": number(getattr(found, key)) for name, found in results.items() for key in keys}


def _in_words(name: str, found: Performance) -> str:
    return f"{name.replace('_', ' ')} {found.total_return:.2%}"
