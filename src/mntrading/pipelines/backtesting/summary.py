"""The out-of-sample results as plain values: every line's figures, tables and attribution, and the pairs'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.account import PortfolioResult
from mntrading.core.candidates import candidate_statistics
from mntrading.core.lines import Attribution, fold_table, line_performance, returns_in_windows
from mntrading.core.performance import Trials, performance
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.params import StatisticsParams
from mntrading.pipelines.common import number, numbers, rows

PORTFOLIOS = ("champions", "roster")
"""Lines that trade what the run found; the others are there to hold them against."""

CHOSEN = ("champions", "roster", "z_rule")
"""Lines made of pairs that were tried and picked: these pay for every pair tried."""


def line_documents(
    results: Mapping[str, PortfolioResult],
    folds: Sequence[Fold],
    statistics: StatisticsParams,
    capital: float,
    trials: Trials,
) -> dict[str, dict[str, float | None]]:
    """Figures of every line by its name."""
    out = {}
    for name, result in results.items():
        tried = trials if name in CHOSEN else None
        found = line_performance(result, folds, statistics, capital=capital, trials=tried)
        out[name] = numbers(found.figures() | {"n_fills": float(len(result.fills))})
    return out


def attribution_documents(
    results: Mapping[str, PortfolioResult], folds: Sequence[Fold], capital: float
) -> dict[str, dict[str, Any]]:
    """P&L before costs, costs by kind and net of every line, in total and by trading window."""
    return {
        name: {
            "total": numbers(Attribution.of(result, capital).figures()),
            "folds": rows(fold_table(result, folds, capital)),
        }
        for name, result in results.items()
    }


def monthly_documents(
    results: Mapping[str, PortfolioResult], folds: Sequence[Fold], capital: float
) -> dict[str, list[dict[str, Any]]]:
    """Returns by calendar month of every line."""
    out = {}
    for name, result in results.items():
        table = metrics.monthly_table(returns_in_windows(result.equity, folds, capital))
        out[name] = [
            {"year": int(year), "month": month, "return": float(table.loc[year, label])}
            for year in table.index
            for month, label in enumerate(metrics.MONTHS, start=1)
            if np.isfinite(table.loc[year, label])
        ]
    return out


def pair_returns(curves: Mapping[str, pd.DataFrame], roster: Roster) -> dict[str, pd.Series]:
    """Daily returns of every pair that was traded, on its notional, over the windows it was on a roster in."""
    out = {}
    for pair_id in roster.pairs:
        curve = curves[pair_id]
        parts = [
            metrics.daily_returns(curve.loc[curve["fold"] == entry.fold.name, "equity"]) for entry in roster.completed
        ]
        filled = [part for part in parts if len(part)]
        if filled:
            out[pair_id] = pd.concat(filled)
    return out


def pair_documents(
    returns: Mapping[str, pd.Series],
    trades: Mapping[str, pd.DataFrame],
    windows: Mapping[str, pd.DataFrame],
    statistics: StatisticsParams,
    trials: Trials,
) -> list[dict[str, Any]]:
    """One line per pair over all windows it was traded in, best net P&L first."""
    lines = []
    for pair_id, daily in returns.items():
        table = windows[pair_id]
        total = table[["net_pnl", "gross_pnl", "costs", "n_trades", "turnover"]].sum()
        found = performance(
            daily,
            trades[pair_id],
            statistics,
            costs=float(total["costs"]),
            turnover=float(total["turnover"]),
            exposure=float(table["exposure"].mean()),
            trials=trials,
        )
        summed = {str(name): float(value) for name, value in total.items()}
        lines.append({"pair_id": pair_id, "n_windows": len(table), **found.figures(), **summed})
    return rows(pd.DataFrame(lines).sort_values("net_pnl", ascending=False)) if lines else []


def candidate_document(returns: Mapping[str, pd.Series], statistics: StatisticsParams) -> dict[str, Any]:
    """What the pairs say as candidates to choose from; a day on which a pair was on no roster counts as 0."""
    table = pd.DataFrame({name: daily.groupby(level=0).sum() for name, daily in returns.items()}).fillna(0.0)
    found = candidate_statistics(table, n_splits=statistics.pbo_splits, n_boot=statistics.n_boot, seed=statistics.seed)
    figures = ("pbo", "spa_lower", "spa_consistent", "spa_upper", "best_sharpe", "trials_variance", "block_length")
    return {
        "of": "pairs",
        "n_candidates": found.n_candidates,
        "n_days": found.n_days,
        "n_trials": found.n_trials,
        "best": found.best,
        **{name: number(getattr(found, name)) for name in figures},
    }


def trials_of(returns: Mapping[str, pd.Series], tried: Mapping[tuple[str, str], int]) -> Trials:
    """Everything that was tried, as the choice of champions counts it, and how far apart the pairs' records are.

    A pair counts with the most that was tried for it in any window. The variance is that of the records traded:
    over all candidates it would mostly say how much the dear ones among them lose, which makes a high ratio by luck no
    likelier.
    """
    counts = (max((n for (_, id_), n in tried.items() if id_ == pair_id), default=1) for pair_id in returns)
    return replace(Trials.of(returns.values()), n_trials=max(sum(counts), 1))


def rule_document(
    menus: Mapping[str, pd.DataFrame],
    candidates: Mapping[str, pd.DataFrame],
    statistics: StatisticsParams,
    cost_multiple: float,
) -> dict[str, Any]:
    """The menu's candidates as strategies for the whole roster: what each earned in the trading windows.

    A candidate's day is the sum over pairs of its net P&L on one unit of notional each; its worth, by which rules were
    chosen, is the mean over pairs and formation windows.
    """
    parts = [table.drop(columns="fold") for table in candidates.values() if len(table)]
    table = pd.concat(parts).groupby(level=0).sum(min_count=0) if parts else pd.DataFrame()
    found = candidate_statistics(table, n_splits=statistics.pbo_splits, n_boot=statistics.n_boot, seed=statistics.seed)
    figures = ("pbo", "spa_lower", "spa_consistent", "spa_upper", "best_sharpe", "trials_variance", "block_length")
    every = pd.concat(menus.values()) if menus else pd.DataFrame({"label": [], "chosen": [], "worth": []})
    chosen = every.loc[every["chosen"].astype("bool"), "label"].value_counts()
    worth = every.groupby("label")["worth"].mean().to_dict()
    return {
        "n_candidates": found.n_candidates,
        "n_days": found.n_days,
        "n_windows": int(chosen.sum()),
        "cost_multiple": cost_multiple,
        "best": found.best,
        **{name: number(getattr(found, name)) for name in figures},
        "candidates": [
            {
                "label": str(label),
                "worth": float(worth[label]),
                "net_pnl": float(table[label].sum()),
                "sharpe": number(metrics.sharpe(table[label])),
                "n_chosen": int(chosen.get(label, 0)),
            }
            for label in table
        ],
    }


def fold_line(
    entry: RosterFold,
    champions: Sequence[Pair],
    windows: Mapping[str, pd.DataFrame],
    attribution: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One trading window: who was on the roster, what the pairs did alone, and the two portfolios."""
    mine = [windows[row.pair.id] for row in entry.pairs]
    lines = [table.loc[table["fold"] == entry.fold.name] for table in mine]
    earned = {
        name: next(line["return"] for line in attribution[name]["folds"] if line["fold"] == entry.fold.name)
        for name in PORTFOLIOS
    }
    return {
        "fold": entry.fold.name,
        "trading_start": entry.fold.formation_end,
        "trading_end": entry.fold.trading_end,
        "n_pairs": len(entry.pairs),
        "n_champions": len(champions),
        "champions": [pair.id for pair in champions],
        "n_trades": int(sum(line["n_trades"].sum() for line in lines)),
        "net_pnl": float(sum(line["net_pnl"].sum() for line in lines)),
        **{f"{name}_return": 0.0 if change is None else change for name, change in earned.items()},
    }


def tracked(
    totals: Mapping[str, Mapping[str, float | None]],
    benchmarks: Mapping[str, Mapping[str, float | None]],
    folds: Sequence[Mapping[str, Any]],
    pairs: Sequence[Mapping[str, Any]],
) -> dict[str, float | None]:
    """Figures for the tracking server: portfolios, benchmark lines, folds, and the pairs in aggregate."""
    net = np.array([line["net_pnl"] for line in pairs], dtype=np.float64)
    out: dict[str, float | None] = {
        f"{name}.{key}": value for name, total in totals.items() for key, value in total.items()
    }
    out |= {f"benchmark.{name}.{key}": line[key] for name, line in benchmarks.items() for key in _COMPARED}
    for line in folds:
        keys = ("n_pairs", "n_champions", "n_trades", "champions_return", "roster_return")
        out |= {f"fold.{line['fold']}.{key}": line[key] for key in keys}
    return out | {
        "pairs.n_traded": float(len(net)),
        "pairs.share_positive": number(float((net > 0).mean())) if len(net) else None,
        "pairs.median_net_pnl": number(float(np.median(net))) if len(net) else None,
        "pairs.total_costs": float(sum(line["costs"] for line in pairs)),
    }


_COMPARED = ("total_return", "sharpe", "max_drawdown", "costs")


def in_words(total: Mapping[str, float | None]) -> str:
    """A line's result in a few words."""
    net, sharpe, low, high = (total[key] for key in ("total_return", "sharpe", "sharpe_low", "sharpe_high"))
    if sharpe is None:
        return "nothing was traded"
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"net {net or 0.0:.2%}, Sharpe {sharpe:.2f}{interval}"
