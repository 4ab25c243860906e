"""The whole roster traded again under other costs, timing and levels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from mntrading.core import metrics, portfolio
from mntrading.core.bars import timeframe_ms
from mntrading.core.lines import Attribution, line_performance, returns_in_windows, signals_of
from mntrading.core.performance import Performance
from mntrading.core.robustness import neighbourhood, scenarios, trade_again
from mntrading.core.roster import Roster
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Partitions
from mntrading.params import BacktestParams, ComputeParams, PortfolioParams, RobustnessParams, StatisticsParams
from mntrading.pipelines.backtesting.nodes import exchange_limits, prices
from mntrading.pipelines.common import fan_out, header, must_follow, number, numbers

LOGGER = logging.getLogger(__name__)

_FIGURES = (
    "total_return", "sharpe", "sharpe_low", "sharpe_high", "max_drawdown", "gross_pnl", "costs", "turnover", "n_trades",
    "hit_rate",
)  # fmt: skip


def probe_robustness(
    ohlcv_5m: BarStore,
    pair_features: Partitions,
    predictions: Partitions,
    roster: dict[str, Any],
    markets: dict[str, Any],
    backtest: BacktestParams,
    sizes: PortfolioParams,
    statistics: StatisticsParams,
    robustness: RobustnessParams,
    compute: ComputeParams,
) -> dict[str, Any]:
    """The whole-roster portfolio at multiplied costs, one bar later and earlier, and at neighbouring levels of z."""
    must_follow(roster, pair_features=pair_features, predictions=predictions)
    parsed = Roster.parse(roster)
    ways, cells = scenarios(backtest, robustness), neighbourhood(backtest, robustness)
    variants = [(way.name, way.backtest, way.shift_bars) for way in ways]
    variants += [(cell.name, cell.backtest, 0) for cell in cells if cell.backtest is not None]
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")

    def trade(item: tuple[str, Pair]) -> tuple[str, dict[str, pd.DataFrame]]:
        pair_id, pair = item
        bars_a, bars_b = ohlcv_5m[pair.dependent], ohlcv_5m[pair.independent]
        frame, given = pair_features[pair_id], predictions[pair_id]
        parts: dict[str, list[pd.DataFrame]] = {name: [] for name, _, _ in variants}
        for entry in parsed.completed:
            on_roster = next((row for row in entry.pairs if row.pair.id == pair_id), None)
            if on_roster is None:
                continue
            told = given.loc[given["fold"] == entry.fold.name]
            found = trade_again(
                bars_a, bars_b, frame.reindex(entry.fold.trading_grid(step)), variants,
                probability=None if told.empty else told["probability"],
                threshold=None if told.empty else float(told["threshold"].iloc[0]), barred=told["barred"],
                half_life_bars=on_roster.half_life_hours / (step / pd.Timedelta(1, unit="h")),
            )  # fmt: skip
            for name, trades in found.items():
                parts[name].append(trades.assign(fold=entry.fold.name))
        return pair_id, {name: pd.concat(some) for name, some in parts.items() if some}

    traded: dict[str, dict[str, pd.DataFrame]] = {name: {} for name, _, _ in variants}
    for pair_id, found in fan_out(trade, list(parsed.pairs.items()), compute, "robustness"):
        for name, trades in found.items():
            traded[name][pair_id] = trades
    book = _book(ohlcv_5m, parsed, exchange_limits(markets), sizes)
    folds = [entry.fold for entry in parsed.completed]
    results = {
        way.name: line_performance(book(traded[way.name], way.backtest), folds, statistics, capital=sizes.capital)
        for way in ways
    }
    made_from = {
        "ohlcv_5m": ohlcv_5m, "pair_features": pair_features, "predictions": predictions, "roster": roster
    }  # fmt: skip
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
        "neighbourhood": [
            {
                "entry_z": cell.entry_z,
                "exit_z": cell.exit_z,
                **_cell(
                    None if cell.backtest is None else book(traded[cell.name], cell.backtest), folds, sizes.capital
                ),
            }
            for cell in cells
        ],
        "metrics": _tracked(results),
    }
    LOGGER.info("whole roster again: %s", ", ".join(_in_words(way.name, results[way.name]) for way in ways))
    return document


def _book(
    ohlcv_5m: BarStore, roster: Roster, limits: Mapping[str, portfolio.Limits], sizes: PortfolioParams
) -> Callable[[Mapping[str, pd.DataFrame], BacktestParams], portfolio.PortfolioResult]:
    """A function of trades and parameters that trades them as one book of every fold's whole roster."""
    members = {entry.fold.name: [row.pair for row in entry.pairs] for entry in roster.completed}
    frames = {name: prices(ohlcv_5m, roster, name) for name in ("open", "close")}

    def book(trades: Mapping[str, pd.DataFrame], backtest: BacktestParams) -> portfolio.PortfolioResult:
        close, fill = frames[backtest.fill_at]
        signals = signals_of(trades, members, close.index, backtest.strategy)
        return portfolio.simulate(signals, close, fill, limits, sizes, backtest.costs)

    return book


def _figures(found: Performance, names: Sequence[str]) -> dict[str, float | None]:
    figures = found.figures()
    return numbers({name: figures[name] for name in names})


def _cell(result: portfolio.PortfolioResult | None, folds: Sequence[Fold], capital: float) -> dict[str, float | None]:
    """Net return, Sharpe ratio and trades of one point of the neighbourhood; None where it can't be traded."""
    if result is None:
        return dict.fromkeys(("total_return", "sharpe", "n_trades"))
    return numbers(
        {
            "total_return": Attribution.of(result, capital).net,
            "sharpe": metrics.sharpe(returns_in_windows(result.equity, folds, capital)),
            "n_trades": float(len(result.trades)),
        }
    )


def _tracked(results: Mapping[str, Performance]) -> dict[str, float | None]:
    keys = ("total_return", "sharpe")
    return {f"{name}.{key}": number(getattr(found, key)) for name, found in results.items() for key in keys}


def _in_words(name: str, found: Performance) -> str:
    return f"{name.replace('_', ' ')} {found.total_return:.2%}"
