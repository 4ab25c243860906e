"""Out-of-sample trading: every pair of every roster, then the netted portfolio of those chosen at the time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mntrading.core import clusters, portfolio, selection
from mntrading.core.backtest import TRADE_COLUMNS, PairResult, run_pair
from mntrading.core.bars import timeframe_ms
from mntrading.core.benchmarks import cash, hold_equally
from mntrading.core.lines import on_grid, signals_of
from mntrading.core.performance import Trials
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Commit, Partitions
from mntrading.params import (
    BacktestParams,
    ChampionParams,
    ComputeParams,
    PortfolioParams,
    StatisticsParams,
    StrategyParams,
)
from mntrading.pipelines.backtesting.benchmarks import PLACEBO, Z_RULE
from mntrading.pipelines.backtesting.summary import (
    PORTFOLIOS,
    attribution_documents,
    candidate_document,
    fold_line,
    in_words,
    line_documents,
    monthly_documents,
    pair_documents,
    pair_returns,
    tracked,
)
from mntrading.pipelines.common import fan_out, header, must_follow
from mntrading.pipelines.modelling.nodes import POOLED, model_id

LOGGER = logging.getLogger(__name__)

SIGNAL_COLUMNS = ("spread", "z", "hedge_ratio")
"""What was decided on: with ``LEVELS``, all that is needed to draw a pair as it was traded."""

CURVE_COLUMNS = ("fold", "equity", "side", "units_a", "units_b", "fees", "slippage", "borrow", *SIGNAL_COLUMNS)
LEVELS = ("entry_z", "exit_z", "stop_z")
Chunk = tuple[dict[str, pd.DataFrame] | Commit, ...]


def backtest_pairs(
    ohlcv_5m: BarStore,
    pair_features: Partitions,
    predictions: Partitions,
    roster: dict[str, Any],
    backtest: BacktestParams,
    compute: ComputeParams,
) -> Iterator[Chunk]:
    """Each pair in each trading window whose roster it was on: curves, trades and one line a window."""
    must_follow(roster, pair_features=pair_features, predictions=predictions)
    parsed = Roster.parse(roster)
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")

    def trade(item: tuple[str, Pair]) -> tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        pair_id, pair = item
        bars_a, bars_b = ohlcv_5m[pair.dependent], ohlcv_5m[pair.independent]
        frame, given = pair_features[pair_id], predictions[pair_id]
        results, seen = {}, {}
        for entry in parsed.completed:
            on_roster = next((row for row in entry.pairs if row.pair.id == pair_id), None)
            if on_roster is None:
                continue
            # every bar of the window: a leg delisted in it ends in missing bars, which nobody knew before
            window = frame.reindex(entry.fold.trading_grid(step))
            told = given.loc[given["fold"] == entry.fold.name]
            results[entry.fold.name] = run_pair(
                bars_a, bars_b, window, backtest, None if told.empty else told["probability"],
                threshold=None if told.empty else float(told["threshold"].iloc[0]), barred=told["barred"],
                half_life_bars=on_roster.half_life_hours / (step / pd.Timedelta(1, unit="h")),
            )  # fmt: skip
            seen[entry.fold.name] = window[list(SIGNAL_COLUMNS)]
        return pair_id, _curves(results, seen), _trades(results), _windows(results, backtest.strategy)

    pairs = parsed.pairs
    for pair_id, curves, table, windows in fan_out(trade, list(pairs.items()), compute, "backtest"):
        yield {pair_id: curves}, {pair_id: table}, {pair_id: windows}
    made_from = {
        "ohlcv_5m": ohlcv_5m,
        "pair_features": pair_features,
        "predictions": predictions,
        "roster": roster,
    }
    commit = Commit(tuple(pairs), header(roster["as_of"], made_from, {"backtest": backtest}))
    yield commit, commit, commit


def _curves(results: Mapping[str, PairResult], seen: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    parts = [
        pd.concat([result.positions, result.costs, seen[fold]], axis=1).assign(fold=fold, equity=result.equity)[
            list(CURVE_COLUMNS)
        ]
        for fold, result in results.items()
    ]
    if parts:
        return pd.concat(parts)
    index = pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp")
    return pd.DataFrame(columns=list(CURVE_COLUMNS[1:]), index=index, dtype="float64").assign(
        fold=pd.Series(dtype="str")
    )[list(CURVE_COLUMNS)]


def _trades(results: Mapping[str, PairResult]) -> pd.DataFrame:
    parts = [result.trades.assign(fold=fold) for fold, result in results.items() if len(result.trades)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*TRADE_COLUMNS, "fold"])


def _windows(results: Mapping[str, PairResult], rule: StrategyParams) -> pd.DataFrame:
    levels = {name: getattr(rule, name) for name in LEVELS}
    table = pd.DataFrame([{"fold": fold, **levels, **result.metrics} for fold, result in results.items()])
    return table if len(table) else pd.DataFrame(columns=["fold", *LEVELS, "n_trades", "net_pnl", "gross_pnl", "costs"])


def backtest_portfolio(
    pair_curves: Partitions,
    trades: Partitions,
    pair_windows: Partitions,
    benchmark_trades: pd.DataFrame,
    ohlcv_1h: BarStore,
    ohlcv_5m: BarStore,
    cointegration_tests: Partitions,
    roster: dict[str, Any],
    markets: dict[str, Any],
    pair_models: Partitions,
    backtest: BacktestParams,
    champions: ChampionParams,
    sizes: PortfolioParams,
    statistics: StatisticsParams,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The walk-forward portfolio of each fold's champions and of its whole roster, beside the lines to beat.

    Champions of a fold are chosen from the trading windows before it, so the champions' curve contains the choice.
    Returns equity curves of every line, the champions portfolio's fills, and the summary.
    """
    must_follow(roster, pair_windows=pair_windows, pair_models=pair_models)
    parsed = Roster.parse(roster)
    curves, windows, traded = dict(pair_curves), dict(pair_windows), dict(trades)
    tried = models_tried(parsed, pair_models)
    chosen = {
        entry.fold.name: _champions_of(entry, parsed, curves, windows, champions, ohlcv_5m, tried)
        for entry in parsed.completed
    }
    close, fill = prices(ohlcv_5m, parsed, backtest.fill_at)
    limits = exchange_limits(markets)

    def book(trades: Mapping[str, pd.DataFrame], members: Mapping[str, Sequence[Pair]]) -> portfolio.PortfolioResult:
        signals = signals_of(trades, members, close.index, backtest.strategy)
        return portfolio.simulate(signals, close, fill, limits, sizes, backtest.costs)

    results = {
        "champions": book(traded, chosen),
        "roster": book(traded, {entry.fold.name: [row.pair for row in entry.pairs] for entry in parsed.completed}),
        "cash": cash(pd.DatetimeIndex(close.index), sizes.capital),
        "buy_and_hold": _held(ohlcv_1h, cointegration_tests, parsed, close.index, backtest, sizes.capital),
        **{line: book(*_members(benchmark_trades, line)) for line in (Z_RULE, PLACEBO)},
    }
    equity = pd.DataFrame(
        {
            name: on_grid(result.equity, pd.DatetimeIndex(close.index), sizes.capital)
            for name, result in results.items()
        },
        index=close.index,
    )
    equity.index.name = "timestamp"
    made_from = {
        "pair_curves": pair_curves, "trades": trades, "benchmark_trades": benchmark_trades, "ohlcv_1h": ohlcv_1h,
        "ohlcv_5m": ohlcv_5m, "roster": roster,
    }  # fmt: skip
    params = {"backtest": backtest, "champions": champions, "portfolio": sizes, "statistics": statistics}
    summary = {
        **header(roster["as_of"], made_from, params),
        **_summary(results, parsed, chosen, curves, traded, windows, statistics, sizes.capital),
    }
    for name, total in {**summary["portfolio"], **summary["benchmarks"]}.items():
        LOGGER.info("%s, out of sample after costs: %s", name.replace("_", " "), in_words(total))
    return equity, results["champions"].fills, summary


def _summary(
    results: Mapping[str, portfolio.PortfolioResult],
    roster: Roster,
    chosen: Mapping[str, tuple[Pair, ...]],
    curves: Mapping[str, pd.DataFrame],
    trades: Mapping[str, pd.DataFrame],
    windows: Mapping[str, pd.DataFrame],
    statistics: StatisticsParams,
    capital: float,
) -> dict[str, Any]:
    """Everything the summary says of the lines, the trading windows and the pairs."""
    folds = [entry.fold for entry in roster.completed]
    returns = pair_returns(curves, roster)
    trials = Trials.of(returns.values())
    lines = line_documents(results, folds, statistics, capital, trials)
    totals = {name: lines[name] for name in PORTFOLIOS}
    benchmarks = {name: line for name, line in lines.items() if name not in PORTFOLIOS}
    attribution = attribution_documents(results, folds, capital)
    by_fold = [fold_line(entry, chosen[entry.fold.name], windows, attribution) for entry in roster.completed]
    pairs = pair_documents(returns, trades, windows, statistics, trials)
    return {
        "portfolio": totals,
        "benchmarks": benchmarks,
        "attribution": attribution,
        "monthly": monthly_documents(results, folds, capital),
        "candidates": candidate_document(returns, statistics),
        "folds": by_fold,
        "pairs": pairs,
        "refused_entries": results["champions"].refused,
        "metrics": tracked(totals, benchmarks, by_fold, pairs),
    }


def _members(benchmark_trades: pd.DataFrame, line: str) -> tuple[dict[str, pd.DataFrame], dict[str, tuple[Pair, ...]]]:
    """Trades by pair of one benchmark line, and its pairs by fold."""
    own = benchmark_trades.loc[benchmark_trades["line"] == line]
    pairs = {
        str(fold): tuple(sorted({Pair(*map(str, legs)) for legs in part[["dependent", "independent"]].to_numpy()}))
        for fold, part in own.groupby("fold")
    }
    return {str(pair_id): table for pair_id, table in own.groupby("pair_id")}, pairs


def _held(
    ohlcv_1h: BarStore,
    cointegration_tests: Partitions,
    roster: Roster,
    index: pd.Index,
    backtest: BacktestParams,
    capital: float,
) -> portfolio.PortfolioResult:
    """Equal-weight buy and hold of the symbols each fold's screen tested, on hourly bars."""
    if not len(index):
        return cash(pd.DatetimeIndex(index), capital)
    universes = [(entry.fold, _tested(cointegration_tests[entry.fold.stamp])) for entry in roster.completed]
    symbols = sorted({symbol for _, own in universes for symbol in own})
    # a symbol that is listed has a bar in the last day of the formation window
    start = roster.completed[0].fold.formation_end - pd.Timedelta(2, unit="D")
    end = roster.completed[-1].fold.trading_end
    close, fill = (ohlcv_1h.wide(column, symbols, start, end) for column in ("close", backtest.fill_at))
    return hold_equally(close, fill, universes, backtest.costs, capital)


def _tested(tests: pd.DataFrame) -> tuple[str, ...]:
    return tuple(sorted({*tests["dependent"], *tests["independent"]}))


def _champions_of(
    entry: RosterFold,
    roster: Roster,
    curves: Mapping[str, pd.DataFrame],
    windows: Mapping[str, pd.DataFrame],
    champions: ChampionParams,
    ohlcv_5m: BarStore,
    tried: selection.Tried,
) -> tuple[Pair, ...]:
    """Champions of a fold by the windows before it."""
    spreads = formation_spreads(entry, ohlcv_5m)
    found = judge(entry, roster, curves, windows, champions, spreads=spreads, tried=tried)
    return tuple(candidate.pair for candidate in found.champions)


def judge(
    entry: RosterFold,
    roster: Roster,
    curves: Mapping[str, pd.DataFrame],
    windows: Mapping[str, pd.DataFrame],
    champions: ChampionParams,
    *,
    spreads: pd.DataFrame | None = None,
    tried: selection.Tried | None = None,
) -> selection.Selection:
    """Champions and rejected candidates of a fold's roster by the trading windows completed before it.

    ``tried`` has the candidates tried by fold and pair id; what is not in it was tried alone.
    """
    names = [fold.fold.name for fold in roster.completed]
    known = names[: names.index(entry.fold.name)] if entry.fold.name in names else names
    records = selection.window_records(curves, windows, roster.pairs, known, tried)
    pairs = [row.pair for row in entry.pairs]
    return selection.select_champions(
        pairs, records, champions, n_trials=selection.count_trials(records), spreads=spreads
    )


def formation_spreads(entry: RosterFold, ohlcv_5m: BarStore) -> pd.DataFrame:
    """Daily changes of the spreads of a fold's pairs inside its formation window."""
    symbols = sorted({symbol for row in entry.pairs for symbol in row.pair.symbols if symbol in ohlcv_5m})
    close = ohlcv_5m.wide("close", symbols, entry.fold.formation_start, entry.fold.formation_end)
    return clusters.spread_changes(close, entry.pairs)


def models_tried(roster: Roster, pair_models: Partitions) -> dict[tuple[str, str], int]:
    """Models tried in training for each fold and pair, those of a search included; no entry where none was."""
    scores = pair_models.meta["scores"]
    out = {}
    for entry in roster.completed:
        for row in entry.pairs:
            fits = [scores.get(model_id(entry.fold.name, group)) for group in (row.pair.id, POOLED)]
            counts = [fit["details"]["n_trials"] for fit in fits if fit and fit["details"]]
            if counts:
                out[entry.fold.name, row.pair.id] = max(counts)
    return out


def exchange_limits(markets: Mapping[str, Any]) -> dict[str, portfolio.Limits]:
    """Lot sizes and smallest notionals by symbol."""
    return {
        symbol: portfolio.Limits(rules["lot"] or 0.0, rules["min_notional"] or 0.0)
        for symbol, rules in markets["symbols"].items()
    }


def prices(ohlcv_5m: BarStore, roster: Roster, fill_at: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes and fill prices of every symbol on a roster, over the trading windows."""
    if not roster.completed or not roster.symbols:
        nothing = pd.DataFrame(index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp"))
        return nothing, nothing
    start, end = roster.completed[0].fold.formation_end, roster.completed[-1].fold.trading_end
    symbols = [symbol for symbol in roster.symbols if symbol in ohlcv_5m]
    close, fill = (ohlcv_5m.wide(column, symbols, start, end) for column in ("close", fill_at))
    return close, fill
