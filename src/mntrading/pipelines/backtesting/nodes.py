"""Out-of-sample trading: every pair of every roster, then the netted portfolio of those chosen at the time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import clusters, metrics, portfolio, selection
from mntrading.core.backtest import TRADE_COLUMNS, PairResult, run_pair
from mntrading.core.bars import timeframe_ms
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.strategy import confidence
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
from mntrading.pipelines.common import fan_out, header, must_follow, number, numbers, rows
from mntrading.pipelines.modelling.nodes import POOLED, model_id

LOGGER = logging.getLogger(__name__)

CURVE_COLUMNS = ("fold", "equity", "side", "units_a", "units_b")
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

    def trade(item: tuple[str, Pair]) -> tuple[str, dict[str, PairResult]]:
        pair_id, pair = item
        bars_a, bars_b = ohlcv_5m[pair.dependent], ohlcv_5m[pair.independent]
        frame, given = pair_features[pair_id], predictions[pair_id]
        results = {}
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
        return pair_id, results

    pairs = parsed.pairs
    for pair_id, results in fan_out(trade, list(pairs.items()), compute, "backtest"):
        yield {pair_id: _curves(results)}, {pair_id: _trades(results)}, {pair_id: _windows(results)}
    made_from = {
        "ohlcv_5m": ohlcv_5m,
        "pair_features": pair_features,
        "predictions": predictions,
        "roster": roster,
    }
    commit = Commit(tuple(pairs), header(roster["as_of"], made_from, {"backtest": backtest}))
    yield commit, commit, commit


def _curves(results: Mapping[str, PairResult]) -> pd.DataFrame:
    parts = [
        result.positions.assign(fold=fold, equity=result.equity)[list(CURVE_COLUMNS)]
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


def _windows(results: Mapping[str, PairResult]) -> pd.DataFrame:
    table = pd.DataFrame([{"fold": fold, **result.metrics} for fold, result in results.items()])
    return table if len(table) else pd.DataFrame(columns=["fold", "n_trades", "net_pnl", "gross_pnl", "costs"])


def backtest_portfolio(
    pair_curves: Partitions,
    trades: Partitions,
    pair_windows: Partitions,
    ohlcv_5m: BarStore,
    roster: dict[str, Any],
    markets: dict[str, Any],
    pair_models: Partitions,
    backtest: BacktestParams,
    champions: ChampionParams,
    sizes: PortfolioParams,
    statistics: StatisticsParams,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The walk-forward portfolio twice: of each fold's champions, and of its whole roster.

    Champions of a fold are chosen from the trading windows before it, so the champions' curve contains the choice.
    Returns equity curves, the champions portfolio's fills, and the summary.
    """
    must_follow(roster, pair_windows=pair_windows, pair_models=pair_models)
    parsed = Roster.parse(roster)
    curves, windows = dict(pair_curves), dict(pair_windows)
    tried = models_tried(parsed, pair_models)
    chosen = {
        entry.fold.name: _champions_of(entry, parsed, curves, windows, champions, ohlcv_5m, tried)
        for entry in parsed.completed
    }
    everyone = {entry.fold.name: tuple(row.pair for row in entry.pairs) for entry in parsed.completed}
    traded = dict(trades)
    close, fill = _prices(ohlcv_5m, parsed, backtest.fill_at)
    limits = exchange_limits(markets)
    results = {
        name: portfolio.simulate(
            _signals(traded, members, close.index, backtest.strategy), close, fill, limits, sizes, backtest.costs
        )
        for name, members in (("champions", chosen), ("roster", everyone))
    }
    equity = pd.DataFrame({name: result.equity for name, result in results.items()}, index=close.index)
    equity.index.name = "timestamp"
    folds = [_fold_line(entry, chosen[entry.fold.name], equity, windows) for entry in parsed.completed]
    totals = {name: _statistics(result, parsed, statistics) for name, result in results.items()}
    made_from = {"pair_curves": pair_curves, "trades": trades, "ohlcv_5m": ohlcv_5m, "roster": roster}
    params = {"backtest": backtest, "champions": champions, "portfolio": sizes, "statistics": statistics}
    pairs = _pair_table(parsed, windows)
    summary = {
        **header(roster["as_of"], made_from, params),
        "portfolio": totals,
        "folds": folds,
        "pairs": pairs,
        "refused_entries": results["champions"].refused,
        "metrics": _tracked(totals, folds, pairs),
    }
    for name, total in totals.items():
        LOGGER.info("%s portfolio, out of sample after costs: %s", name, _in_words(total))
    return equity, results["champions"].fills, summary


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


def _prices(ohlcv_5m: BarStore, roster: Roster, fill_at: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes and fill prices of every symbol traded, over the trading windows."""
    if not roster.completed or not roster.symbols:
        nothing = pd.DataFrame(index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp"))
        return nothing, nothing
    start, end = roster.completed[0].fold.formation_end, roster.completed[-1].fold.trading_end
    symbols = [symbol for symbol in roster.symbols if symbol in ohlcv_5m]
    close, fill = (ohlcv_5m.wide(column, symbols, start, end) for column in ("close", fill_at))
    return close, fill


def _signals(
    trades: Mapping[str, pd.DataFrame],
    members: Mapping[str, tuple[Pair, ...]],
    index: pd.Index,
    rule: StrategyParams,
) -> dict[int, list[portfolio.Signal]]:
    """Entries and exits of the members' trades, at the bar before each fill.

    An exit that had to wait over missing bars is acted on at the last bar before it could be filled.
    """
    out: dict[int, list[portfolio.Signal]] = {}
    for fold, pairs in members.items():
        for pair in pairs:
            table = trades[pair.id]
            for row in table.loc[table["fold"] == fold].to_dict("records"):
                rank = confidence(rule, z=row["entry_z"], probability=row["probability"], threshold=row["threshold"])
                enter = portfolio.Signal(pair, "enter", row["side"], row["hedge_ratio"], rank, "entry")
                leave = portfolio.Signal(pair, "exit", 0, row["hedge_ratio"], rank, row["reason"])
                out.setdefault(int(index.searchsorted(row["entry_fill"])) - 1, []).append(enter)
                out.setdefault(int(index.searchsorted(row["exit_fill"])) - 1, []).append(leave)
    return out


def _fold_line(
    entry: RosterFold, champions: tuple[Pair, ...], equity: pd.DataFrame, windows: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    inside = equity.loc[(equity.index >= entry.fold.formation_end) & (equity.index < entry.fold.trading_end)]
    change = inside.iloc[-1] / inside.iloc[0] - 1 if len(inside) else pd.Series({"champions": 0.0, "roster": 0.0})
    mine = [windows[row.pair.id] for row in entry.pairs]
    lines = [table.loc[table["fold"] == entry.fold.name] for table in mine]
    return {
        "fold": entry.fold.name,
        "trading_start": entry.fold.formation_end,
        "trading_end": entry.fold.trading_end,
        "n_pairs": len(entry.pairs),
        "n_champions": len(champions),
        "champions": [pair.id for pair in champions],
        "n_trades": int(sum(line["n_trades"].sum() for line in lines)),
        "net_pnl": float(sum(line["net_pnl"].sum() for line in lines)),
        "champions_return": number(float(change["champions"])),
        "roster_return": number(float(change["roster"])),
    }


def _statistics(
    result: portfolio.PortfolioResult, roster: Roster, statistics: StatisticsParams
) -> dict[str, float | None]:
    """Figures of a portfolio's daily returns inside trading windows; None where they are not defined."""
    returns = metrics.daily_returns(result.equity)
    inside = np.zeros(len(returns), dtype=bool)
    for entry in roster.completed:
        inside |= (returns.index >= entry.fold.formation_end.floor("D")) & (returns.index < entry.fold.trading_end)
    returns = returns.loc[inside]
    moments = metrics.sharpe_moments(returns)
    low = high = probabilistic = float("nan")
    if moments is not None:
        low, high = metrics.sharpe_interval(
            returns, level=statistics.level, n_boot=statistics.n_boot, seed=statistics.seed
        )
        probabilistic = metrics.probabilistic_sharpe_ratio(
            moments.sharpe, n_obs=moments.n_obs, skew=moments.skew, kurtosis=moments.kurtosis
        )
    charges = result.costs.sum()
    capital = result.equity.iloc[0] if len(result.equity) else float("nan")
    return numbers(
        {
            "total_return": result.equity.iloc[-1] / capital - 1 if len(result.equity) else float("nan"),
            "annual_return": metrics.annual_return(returns),
            "annual_volatility": metrics.annual_volatility(returns),
            "sharpe": metrics.sharpe(returns),
            "sharpe_low": low,
            "sharpe_high": high,
            "probabilistic_sharpe": probabilistic,
            "sortino": metrics.sortino(returns),
            "max_drawdown": metrics.max_drawdown(result.equity) if len(result.equity) else float("nan"),
            "n_days": float(len(returns)),
            "n_fills": float(len(result.fills)),
            "turnover": float(charges["turnover"]) / capital,
            "costs": float(charges[["fees", "slippage", "borrow"]].sum()) / capital,
            "mean_gross": float((result.exposure["gross"] / result.equity).mean()) if len(result.equity) else 0.0,
        }
    )


def _in_words(total: Mapping[str, float | None]) -> str:
    net, sharpe, low, high = (total[key] for key in ("total_return", "sharpe", "sharpe_low", "sharpe_high"))
    if sharpe is None:
        return "nothing was traded"
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"net {net or 0.0:.2%}, Sharpe {sharpe:.2f}{interval}"


def _tracked(
    totals: Mapping[str, Mapping[str, float | None]], folds: list[dict[str, Any]], pairs: list[dict[str, Any]]
) -> dict[str, float | None]:
    """Figures for the tracking server: portfolios, folds, and the pairs in aggregate."""
    net = np.array([line["net_pnl"] for line in pairs], dtype=np.float64)
    out: dict[str, float | None] = {
        f"{name}.{key}": value for name, total in totals.items() for key, value in total.items()
    }
    for line in folds:
        keys = ("n_pairs", "n_champions", "n_trades", "champions_return", "roster_return")
        out |= {f"fold.{line['fold']}.{key}": line[key] for key in keys}
    return out | {
        "pairs.n_traded": float(len(net)),
        "pairs.share_positive": number(float((net > 0).mean())) if len(net) else None,
        "pairs.median_net_pnl": number(float(np.median(net))) if len(net) else None,
        "pairs.total_costs": float(sum(line["costs"] for line in pairs)),
    }


def _pair_table(roster: Roster, windows: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """One line per pair over all windows it was traded in, best net P&L first."""
    lines = []
    for pair_id in roster.pairs:
        table = windows[pair_id]
        if len(table):
            total = table[["net_pnl", "gross_pnl", "costs", "n_trades", "turnover"]].sum()
            lines.append({"pair_id": pair_id, "n_windows": len(table), **total.to_dict()})
    return rows(pd.DataFrame(lines).sort_values("net_pnl", ascending=False)) if lines else []
