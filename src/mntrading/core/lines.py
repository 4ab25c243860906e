"""What an account did over the stitched trading windows: its signals, its days, where its P&L came from and went to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.account import PortfolioResult
from mntrading.core.performance import Performance, Trials, performance
from mntrading.core.portfolio import Signal
from mntrading.core.schedule import Fold
from mntrading.core.sizing import RISK_COLUMNS
from mntrading.core.strategy import confidence
from mntrading.core.types import Pair
from mntrading.params import StatisticsParams, StrategyParams

_OF_TRADES: Final = (
    "side", "hedge_ratio", "entry_z", "probability", "threshold", "entry_decision", "exit_decision", "reason",
    *RISK_COLUMNS,
)  # fmt: skip
_CHARGES: Final = ("fees", "slippage", "borrow", "turnover")


# --- trades of pairs, as signals of a book


def signals_of(
    trades: Mapping[str, pd.DataFrame],
    members: Mapping[str, Sequence[Pair]],
    index: pd.Index,
    rule: StrategyParams,
    *,
    clusters: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[int, list[Signal]]:
    """Entries and exits of the members' trades, at the bars they were decided on.

    An entry that was not filled is one without an exit: nobody knew at its close that the next bar would be missing.

    Parameters
    ----------
    trades
        By pair id, what ``run_pair`` entered, filled or not, with ``fold`` and the ``RISK_COLUMNS``.
    members
        By fold, the pairs whose trades count.
    index
        Bars of the book.
    rule
        Ranks entries.
    clusters
        By fold and pair id, for the cap on clusters; None where each pair is one of its own.
    """
    out: dict[int, list[Signal]] = {}
    for fold, pairs in members.items():
        for pair in pairs:
            table = trades[pair.id]
            rows = table.loc[table["fold"] == fold]
            if rows.empty:
                continue
            cluster = None if clusters is None else clusters[fold][pair.id]
            for side, hedge, z, probability, threshold, entered, left, why, *risk in zip(
                *(rows[name].tolist() for name in _OF_TRADES), strict=True
            ):
                rank = confidence(rule, z=z, probability=probability, threshold=threshold)
                known = dict(zip(RISK_COLUMNS, risk, strict=True))
                enter = Signal(pair, "enter", side, hedge, rank, "entry", cluster=cluster, **known)
                out.setdefault(int(index.searchsorted(entered)), []).append(enter)
                if not pd.isna(left):
                    leave = Signal(pair, "exit", 0, hedge, rank, why)
                    out.setdefault(int(index.searchsorted(left)), []).append(leave)
    return out


# --- where the P&L came from and went to


@dataclass(frozen=True)
class Attribution:
    """A stretch's P&L before costs, what went where, and what is left: ``net = gross - fees - slippage - borrow``.

    ``net`` is the change of equity, ``gross`` that of the marked units: each is measured on its own. ``turnover`` is
    the notional traded. All as shares of the capital.
    """

    gross: float
    fees: float
    slippage: float
    borrow: float
    net: float
    turnover: float

    @classmethod
    def of(cls, result: PortfolioResult, capital: float, rows: slice | None = None) -> Attribution:
        """Attribution of some rows, by default all; the equity before a line's first bar is the capital.

        Look-ahead: none.
        """
        start, stop, _ = (slice(None) if rows is None else rows).indices(len(result.equity))
        if stop <= start:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        equity = result.equity.to_numpy(dtype=np.float64)
        before = equity[start - 1] if start else capital
        charges = result.costs.iloc[start:stop].sum()
        fees, slippage, borrow, turnover = (float(charges[name]) / capital for name in _CHARGES)
        gross = float(result.gross.iloc[start:stop].sum()) / capital
        return cls(gross, fees, slippage, borrow, float(equity[stop - 1] - before) / capital, turnover)

    def figures(self) -> dict[str, float]:
        """All amounts by name."""
        return asdict(self)


def returns_in_windows(equity: pd.Series, folds: Sequence[Fold], capital: float) -> pd.Series:
    """Daily returns of the days that trading windows cover, from the capital before the first bar on.

    A day that a window begins or ends in counts. Look-ahead: none.
    """
    if len(equity) < 2:
        return metrics.daily_returns(equity.iloc[:0])
    before = pd.Series([capital], index=equity.index[:1] - (equity.index[1] - equity.index[0]))
    returns = metrics.daily_returns(pd.concat([before, equity]))
    inside = np.zeros(len(returns), dtype=bool)
    for fold in folds:
        if fold.trading_end is not None:
            inside |= (returns.index >= fold.formation_end.floor("D")) & (returns.index < fold.trading_end)
    chosen: pd.Series = returns.loc[inside]
    return chosen


FOLD_COLUMNS: Final = (
    "fold", "n_days", "return", "sharpe", "max_drawdown", "gross", "fees", "slippage", "borrow", "net", "turnover",
)  # fmt: skip


def fold_table(result: PortfolioResult, folds: Sequence[Fold], capital: float) -> pd.DataFrame:
    """One row per trading window: days, return, Sharpe ratio, drawdown, and the attribution over the capital.

    The return is on the equity the window began with, from the close before it. Look-ahead: none.

    Returns
    -------
    DataFrame with ``FOLD_COLUMNS``; NaN for figures of a window the line has no bars in.
    """
    lines = []
    index = result.equity.index
    for fold in folds:
        if fold.trading_end is None:
            continue
        rows = slice(int(index.searchsorted(fold.formation_end)), int(index.searchsorted(fold.trading_end)))
        own = result.equity.iloc[rows]
        before = float(result.equity.iloc[rows.start - 1]) if rows.start and len(own) else capital
        returns = returns_in_windows(own, [fold], before)
        lines.append(
            {
                "fold": fold.name,
                "n_days": len(returns),
                "return": float(own.iloc[-1] / before - 1.0) if len(own) else np.nan,
                "sharpe": metrics.sharpe(returns),
                "max_drawdown": metrics.max_drawdown(np.concatenate(([before], own))) if len(own) else np.nan,
                **Attribution.of(result, capital, rows).figures(),
            }
        )
    return pd.DataFrame(lines, columns=list(FOLD_COLUMNS))


def line_performance(
    result: PortfolioResult,
    folds: Sequence[Fold],
    params: StatisticsParams,
    *,
    capital: float,
    trials: Trials | None = None,
) -> Performance:
    """Figures of a line over its trading windows. Look-ahead: none."""
    charges = result.costs[["fees", "slippage", "borrow"]].to_numpy().sum()
    equity = result.equity
    return performance(
        returns_in_windows(equity, folds, capital),
        result.trades.loc[result.trades["side"] != 0],  # what was not sent is held by no pair
        params,
        costs=float(charges),
        turnover=float(result.costs["turnover"].sum()),
        exposure=float((result.exposure["gross"] / equity).mean()) if len(equity) else 0.0,
        capital=capital,
        equity=pd.concat([pd.Series([capital]), equity], ignore_index=True),
        trials=trials,
    )


def on_grid(equity: pd.Series, index: pd.DatetimeIndex, capital: float) -> pd.Series:
    """Equity of a line with longer bars at the closes of a finer grid: each bar's value from its own close on.

    Look-ahead: a value is shown at the finer bar that closes with it and at later ones only; the capital before any.
    """
    if len(index) < 2 or len(equity) < 2:
        return pd.Series(capital, index=index, name=equity.name, dtype="float64")
    lag = (equity.index[1] - equity.index[0]) - (index[1] - index[0])
    known = pd.Series(equity.to_numpy(), index=equity.index + lag, name=equity.name)
    shown: pd.Series = known.reindex(index, method="ffill").fillna(capital)
    return shown
