"""Where profit and loss came from: charges of trades, what a book of fills held and paid, the way of a day's P&L."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.params import CostParams

CHARGES: Final = ("fees", "slippage", "borrow", "funding")
"""Columns that say what was paid, where a table has them."""

OTHER: Final = "other"
_ROUNDING: Final = 1e-12


def trade_charges(trades: pd.DataFrame, costs: CostParams) -> pd.DataFrame:
    """What each trade paid, by what for, in the unit of its ``costs``, which the rows sum to.

    A table that has columns of ``CHARGES`` is taken at its word, and what they leave of ``costs`` is ``other``. Else
    fees and slippage are worked out from the notional filled at both ends, and the rest of ``costs`` is borrow.

    Parameters
    ----------
    trades
        Closed trades with ``costs``, units and fill prices of both legs.
    costs
        Rates they were charged at.
    """
    told = [name for name in CHARGES if name in trades.columns]
    if told:
        out = trades[told].astype("float64")
        rest = trades["costs"] - out.sum(axis=1)
        return out if rest.abs().max() <= _ROUNDING or out.empty else out.assign(**{OTHER: rest})
    turnover = filled(trades, "entry") + filled(trades, "exit")
    fees, slippage = turnover * costs.fee_rate, turnover * costs.slippage_bps * 1e-4
    return pd.DataFrame({"fees": fees, "slippage": slippage, "borrow": trades["costs"] - fees - slippage})


def filled(trades: pd.DataFrame, end: str) -> pd.Series:
    """Notional of both legs filled at a trade's ``entry`` or ``exit``."""
    legs = [trades[f"units_{leg}"].abs() * trades[f"{end}_price_{leg}"] for leg in ("a", "b")]
    return (legs[0] + legs[1]).astype("float64")


def charges_paid(trades: pd.DataFrame, costs: CostParams, index: pd.DatetimeIndex) -> pd.Series:
    """What all trades have paid up to each bar.

    Fees and slippage fall on the two fills, in proportion to the notional filled; the rest is spread evenly over
    the bars held.

    Parameters
    ----------
    trades
        Closed trades.
    costs
        Rates they were charged at.
    index
        Bar open times, increasing.
    """
    paid = np.zeros(len(index) + 1)
    charges = trade_charges(trades, costs)
    at_fills = charges[[name for name in ("fees", "slippage") if name in charges]].sum(axis=1).to_numpy()
    held = charges.sum(axis=1).to_numpy() - at_fills
    entry, leave = filled(trades, "entry").to_numpy(), filled(trades, "exit").to_numpy()
    both = entry + leave
    share = np.divide(entry, both, out=np.full(len(entry), 0.5), where=both > 0)
    first = index.searchsorted(pd.DatetimeIndex(trades["entry_fill"]))
    last = index.searchsorted(pd.DatetimeIndex(trades["exit_fill"]))
    for i in range(len(trades)):
        paid[first[i]] += at_fills[i] * share[i]
        paid[last[i]] += at_fills[i] * (1 - share[i])
        bars = max(last[i] - first[i], 1)
        paid[first[i] + 1 : first[i] + 1 + bars] += held[i] / bars
    return pd.Series(np.cumsum(paid[: len(index)]), index=index)


def cumulated(curve: pd.DataFrame) -> pd.Series:
    """Net P&L since the start of a pair whose equity starts each window from one notional.

    Parameters
    ----------
    curve
        ``fold`` and ``equity`` at each bar's close, windows one after the other.
    """
    before = 0.0
    parts = []
    for _, window in curve.groupby("fold", sort=False):
        parts.append(window["equity"] - 1.0 + before)
        before = float(parts[-1].iloc[-1])
    return pd.concat(parts) if parts else pd.Series(dtype="float64", index=curve.index[:0])


def window_returns(curve: pd.DataFrame) -> pd.Series:
    """Daily returns inside each window, one after the other, as champions are judged by them."""
    parts = [metrics.daily_returns(window["equity"]) for _, window in curve.groupby("fold", sort=False)]
    return pd.concat(parts) if parts else pd.Series(dtype="float64", index=curve.index[:0])


def monthly_sums(total: pd.Series) -> pd.DataFrame:
    """What a running total gained in each month of each year, and in the year.

    Parameters
    ----------
    total
        P&L since the start, which was zero, by time in UTC.

    Returns
    -------
    DataFrame indexed by year, columns as ``metrics.monthly_table`` has them; NaN for a month without a bar.
    """
    index = pd.DatetimeIndex(total.index)
    gains = total.diff()
    gains.iloc[:1] = total.iloc[:1]
    years = sorted({int(year) for year in index.year})
    out = pd.DataFrame(np.nan, index=pd.Index(years, name="year"), columns=[*metrics.MONTHS, "Year"])
    for year, month in sorted(set(zip(index.year, index.month, strict=True))):
        inside = (index.year == year) & (index.month == month)
        out.loc[year, metrics.MONTHS[month - 1]] = float(gains.loc[inside].sum())
    out["Year"] = out[list(metrics.MONTHS)].sum(axis=1)
    return out


def rolling_sharpe(returns: pd.Series, n_days: int) -> pd.Series:
    """Annual Sharpe ratio of the last ``n_days`` returns on each day that has as many; NaN where nothing moved."""
    values = returns.to_numpy(dtype=np.float64)
    if len(values) < n_days:
        return pd.Series(dtype="float64", index=returns.index[:0])
    windows = np.lib.stride_tricks.sliding_window_view(values, n_days)
    return pd.Series([metrics.sharpe(window) for window in windows], index=returns.index[n_days - 1 :])


def book_of(fills: pd.DataFrame, close: pd.DataFrame, costs: CostParams) -> pd.DataFrame:
    """What a book of fills held at each bar's close and what it paid to hold it.

    Parameters
    ----------
    fills
        ``time``, ``symbol`` and signed ``quantity``.
    close
        Closes (bar × symbol) on the complete grid; the last known one holds where one is missing.
    costs
        Rate of borrowing.

    Returns
    -------
    DataFrame
        ``gross`` and ``net`` notional, and the ``borrow`` of each bar, in quote currency.
    """
    units = np.zeros(close.shape)
    column = {symbol: i for i, symbol in enumerate(close.columns)}
    rows = pd.DatetimeIndex(close.index).searchsorted(pd.DatetimeIndex(fills["time"]))
    for row, symbol, quantity in zip(rows, fills["symbol"], fills["quantity"], strict=True):
        if row < len(close):
            units[row, column[symbol]] += quantity
    units = np.cumsum(units, axis=0)
    units[np.abs(units) < 1e-9 * np.maximum(np.abs(units).max(axis=0, initial=0.0), 1e-300)] = 0.0  # dust of sums
    value = units * np.nan_to_num(close.ffill().to_numpy(dtype=np.float64))
    step = close.index[1] - close.index[0] if len(close) > 1 else pd.Timedelta(1, unit="D")
    rate = costs.borrow_bps_per_day * 1e-4 * (step / pd.Timedelta(1, unit="D"))
    return pd.DataFrame(
        {
            "gross": np.abs(value).sum(axis=1),
            "net": value.sum(axis=1),
            "borrow": -np.minimum(value, 0.0).sum(axis=1) * rate,
        },
        index=close.index,
    )


def totals(charges: pd.DataFrame) -> Mapping[str, float]:
    """Sum of each kind of charge, in the order of ``CHARGES``."""
    named = [name for name in (*CHARGES, OTHER) if name in charges.columns]
    return {name: float(charges[name].sum()) for name in named}
