"""Out-of-sample trading: every pair of every roster, then the netted portfolio of those chosen at the time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mntrading.core import account, clusters, selection
from mntrading.core.backtest import TRADE_COLUMNS, PairResult
from mntrading.core.benchmarks import cash, hold_equally
from mntrading.core.lines import on_grid, signals_of
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.sizing import RISK_COLUMNS
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Commit, Partitions
from mntrading.params import (
    BacktestParams,
    ChampionParams,
    ComputeParams,
    FeatureParams,
    PortfolioParams,
    StatisticsParams,
)
from mntrading.pipelines.backtesting.benchmarks import PLACEBO, Z_RULE
from mntrading.pipelines.backtesting.desk import Desk, Exchange, Funding, Window
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
    rule_document,
    tracked,
    trials_of,
)
from mntrading.pipelines.common import fan_out, header, must_follow
from mntrading.pipelines.modelling.nodes import POOLED, model_id

LOGGER = logging.getLogger(__name__)

SIGNAL_COLUMNS = ("spread", "z", "hedge_ratio")
"""What was decided on: with ``LEVELS``, all that is needed to draw a pair as it was traded."""

CURVE_COLUMNS = ("fold", "equity", "side", "units_a", "units_b", "fees", "slippage", "borrow", *SIGNAL_COLUMNS)
LEVELS = ("entry_z", "exit_z", "stop_z")
_SUMMED = ("n_trades", "net_pnl", "gross_pnl", "costs")
Chunk = tuple[dict[str, pd.DataFrame] | Commit, ...]


def backtest_pairs(
    ohlcv_5m: BarStore,
    pair_features: Partitions,
    predictions: Partitions,
    pair_menus: Partitions,
    roster: dict[str, Any],
    markets: dict[str, Any],
    funding_rates: Partitions,
    backtest: BacktestParams,
    features: FeatureParams,
    sizes: PortfolioParams,
    compute: ComputeParams,
) -> Iterator[Chunk]:
    """Each pair in each trading window whose roster it was on: curves, trades, unfilled entries, one line a window."""
    must_follow(roster, pair_features=pair_features, predictions=predictions, pair_menus=pair_menus)
    parsed = Roster.parse(roster)
    funding = Funding(markets, funding_rates, backtest.costs)
    desk = Desk(ohlcv_5m, predictions, pair_menus, parsed, funding, backtest, features, sizes)

    def trade(pair_id: str) -> tuple[str, tuple[pd.DataFrame, ...]]:
        traded = {window.entry.fold.name: (window, window.trade()) for window in desk.windows(pair_id)}
        trades = _entries({fold: result.trades for fold, (_, result) in traded.items()})
        unfilled = _entries({fold: result.unfilled for fold, (_, result) in traded.items()})
        return pair_id, (_curves(traded), trades, unfilled, _windows(traded))

    pairs = parsed.pairs
    for pair_id, tables in fan_out(trade, list(pairs), compute, "backtest", reads=ohlcv_5m):
        yield tuple({pair_id: table} for table in tables)
    made_from = {"ohlcv_5m": ohlcv_5m, "predictions": predictions, "pair_menus": pair_menus, "roster": roster}
    head = header(roster["as_of"], made_from, {"backtest": backtest, "features": features, "portfolio": sizes})
    yield (Commit(tuple(pairs), head),) * 4


def _curves(traded: Mapping[str, tuple[Window, PairResult]]) -> pd.DataFrame:
    parts = [
        pd.concat([result.positions, result.costs, window.frame[list(SIGNAL_COLUMNS)]], axis=1).assign(
            fold=fold, equity=result.equity
        )[list(CURVE_COLUMNS)]
        for fold, (window, result) in traded.items()
    ]
    if parts:
        return pd.concat(parts)
    index = pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp")
    return pd.DataFrame(columns=list(CURVE_COLUMNS[1:]), index=index, dtype="float64").assign(
        fold=pd.Series(dtype="str")
    )[list(CURVE_COLUMNS)]


def _entries(by_fold: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    parts = [entries.assign(fold=fold) for fold, entries in by_fold.items() if len(entries)]
    return (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*TRADE_COLUMNS, *RISK_COLUMNS, "fold"])
    )


def _windows(traded: Mapping[str, tuple[Window, PairResult]]) -> pd.DataFrame:
    table = pd.DataFrame(
        [
            {
                "fold": fold,
                "rule": window.item.label,
                **{name: getattr(window.backtest.strategy, name) for name in LEVELS},
                **result.metrics,
            }
            for fold, (window, result) in traded.items()
        ]
    )
    return table if len(table) else pd.DataFrame(columns=["fold", "rule", *LEVELS, *_SUMMED])


def backtest_portfolio(
    pair_curves: Partitions,
    trades: Partitions,
    unfilled_entries: Partitions,
    pair_windows: Partitions,
    benchmark_trades: pd.DataFrame,
    ohlcv_1h: BarStore,
    ohlcv_5m: BarStore,
    cointegration_tests: Partitions,
    roster: dict[str, Any],
    markets: dict[str, Any],
    pair_models: Partitions,
    pair_menus: Partitions,
    candidate_returns: Partitions,
    funding_rates: Partitions,
    backtest: BacktestParams,
    champions: ChampionParams,
    sizes: PortfolioParams,
    statistics: StatisticsParams,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The walk-forward portfolio of each fold's champions and of its whole roster, beside the lines to beat.

    Champions of a fold are chosen from the trading windows before it, so the champions' curve contains the choice.
    Returns equity curves of every line, the champions portfolio's fills, and the summary.
    """
    must_follow(
        roster, unfilled_entries=unfilled_entries, pair_windows=pair_windows, pair_models=pair_models,
        pair_menus=pair_menus, candidate_returns=candidate_returns,
    )  # fmt: skip
    parsed = Roster.parse(roster)
    curves, windows, traded = dict(pair_curves), dict(pair_windows), dict(trades)
    entered = {pair_id: pd.concat([table, unfilled_entries[pair_id]]) for pair_id, table in traded.items()}
    tried = candidates_tried(parsed, pair_models, pair_menus)
    judged = {
        entry.fold.name: judge(
            entry, parsed, curves, windows, champions, spreads=formation_spreads(entry, ohlcv_5m), tried=tried
        )
        for entry in parsed.completed
    }
    chosen = {fold: tuple(candidate.pair for candidate in found.champions) for fold, found in judged.items()}
    clusters = {fold: {one.pair.id: one.cluster for one in found.champions} for fold, found in judged.items()}
    exchange = Exchange.of(ohlcv_5m, parsed, markets, Funding(markets, funding_rates, backtest.costs))
    index = pd.DatetimeIndex(exchange.close.index)

    def book(
        entered: Mapping[str, pd.DataFrame],
        members: Mapping[str, Sequence[Pair]],
        clusters: Mapping[str, Mapping[str, int]] | None = None,
    ) -> account.PortfolioResult:
        signals = signals_of(entered, members, index, backtest.strategy, clusters=clusters)
        return exchange.trade(signals, sizes, backtest)

    results = {
        "champions": book(entered, chosen, clusters),
        "roster": book(entered, {entry.fold.name: [row.pair for row in entry.pairs] for entry in parsed.completed}),
        "cash": cash(index, sizes.capital),
        "buy_and_hold": _held(ohlcv_1h, cointegration_tests, parsed, index, backtest, sizes.capital),
        **{line: book(*_members(benchmark_trades, line)) for line in (Z_RULE, PLACEBO)},
    }
    equity = pd.DataFrame(
        {name: on_grid(result.equity, index, sizes.capital) for name, result in results.items()},
        index=index,
    )
    equity.index.name = "timestamp"
    made_from = {
        "pair_curves": pair_curves, "trades": trades, "unfilled_entries": unfilled_entries,
        "benchmark_trades": benchmark_trades, "ohlcv_1h": ohlcv_1h, "ohlcv_5m": ohlcv_5m, "roster": roster,
    }  # fmt: skip
    params = {"backtest": backtest, "champions": champions, "portfolio": sizes, "statistics": statistics}
    summary = {
        **header(roster["as_of"], made_from, params),
        **_summary(
            results,
            parsed,
            chosen,
            curves,
            traded,
            windows,
            dict(pair_menus),
            dict(candidate_returns),
            tried,
            statistics,
            backtest.menu.cost_multiple,
            sizes.capital,
        ),
    }
    for name, total in {**summary["portfolio"], **summary["benchmarks"]}.items():
        LOGGER.info("%s, out of sample after costs: %s", name.replace("_", " "), in_words(total))
    return equity, results["champions"].fills, summary


def _summary(
    results: Mapping[str, account.PortfolioResult],
    roster: Roster,
    chosen: Mapping[str, tuple[Pair, ...]],
    curves: Mapping[str, pd.DataFrame],
    trades: Mapping[str, pd.DataFrame],
    windows: Mapping[str, pd.DataFrame],
    menus: Mapping[str, pd.DataFrame],
    candidates: Mapping[str, pd.DataFrame],
    tried: selection.Tried,
    statistics: StatisticsParams,
    cost_multiple: float,
    capital: float,
) -> dict[str, Any]:
    """Everything the summary says of the lines, the trading windows and the pairs."""
    folds = [entry.fold for entry in roster.completed]
    returns = pair_returns(curves, roster)
    trials = trials_of(returns, tried)
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
        "rules": rule_document(menus, candidates, statistics, cost_multiple),
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
) -> account.PortfolioResult:
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


def candidates_tried(roster: Roster, pair_models: Partitions, pair_menus: Partitions) -> dict[tuple[str, str], int]:
    """What was tried for each fold and pair: rules of its menu, and models, those of a search included."""
    scores = pair_models.meta["scores"]
    out = {}
    for entry in roster.completed:
        for row in entry.pairs:
            fits = [scores.get(model_id(entry.fold.name, group)) for group in (row.pair.id, POOLED)]
            models = max((fit["details"]["n_trials"] for fit in fits if fit and fit["details"]), default=0)
            rules = int((pair_menus[row.pair.id]["fold"] == entry.fold.name).sum())
            out[entry.fold.name, row.pair.id] = rules + models
    return out
