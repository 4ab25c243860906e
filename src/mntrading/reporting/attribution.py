"""The way of profit and loss: windows summed, costs added back, months, rolling ratios, what a book of fills held."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from mntrading.core import metrics

CHARGES: Final = ("fees", "slippage", "borrow")
"""What is paid, by what for: columns of a curve, and keys of the summary's attribution."""


def gross_of(curve: pd.DataFrame) -> pd.Series:
    """P&L since the start before costs: net with everything paid so far added back."""
    paid: pd.Series = curve[list(CHARGES)].sum(axis=1).cumsum()
    return cumulated(curve) + paid


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


def book_of(fills: pd.DataFrame, close: pd.DataFrame) -> pd.DataFrame:
    """What a book of fills held at each bar's close.

    Parameters
    ----------
    fills
        ``time``, ``symbol`` and signed ``quantity``.
    close
        Closes (bar × symbol) on the complete grid; the last known one holds where one is missing.

    Returns
    -------
    DataFrame
        ``gross`` and ``net`` notional, in quote currency.
    """
    units = np.zeros(close.shape)
    column = {symbol: i for i, symbol in enumerate(close.columns)}
    rows = pd.DatetimeIndex(close.index).searchsorted(pd.DatetimeIndex(fills["time"]))
    for row, symbol, quantity in zip(rows, fills["symbol"], fills["quantity"], strict=True):
        if row < len(close):
            units[row, column[symbol]] += quantity
    units = np.cumsum(units, axis=0)
    units[np.abs(units) < 1e-9 * np.abs(units).max(axis=0, initial=0.0)] = 0.0  # dust of sums
    value = units * np.nan_to_num(close.ffill().to_numpy(dtype=np.float64))
    return pd.DataFrame({"gross": np.abs(value).sum(axis=1), "net": value.sum(axis=1)}, index=close.index)
