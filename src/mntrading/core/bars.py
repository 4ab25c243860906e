"""OHLCV bars: the schema, the time grid, and the few operations every stage needs.

A bar is stamped with its **open** time in UTC and is *closed* once ``open + timeframe <= as_of``.
Frames are long: one row per (symbol, timestamp), columns ``COLUMNS``, sorted by symbol and time.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.types import FloatArray, IntArray

COLUMNS: Final = ("timestamp", "symbol", "open", "high", "low", "close", "volume")
PRICES: Final = ("open", "high", "low", "close")
TIMESTAMP_DTYPE: Final = "datetime64[ms, UTC]"
TIME_RANGE: Final = "time before 1970 or after 2262"

_LAST_MS: Final = float(pd.Timestamp.max.value // 1_000_000)  # what a timestamp in nanoseconds can still say
_UNIT_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def timeframe_ms(timeframe: str) -> int:
    """Length of a timeframe such as ``5m``, ``1h`` or ``1d`` in milliseconds."""
    count, unit = timeframe[:-1], timeframe[-1:]
    if not count.isdigit() or int(count) < 1 or unit not in _UNIT_MS:
        raise ParameterError(f"unknown timeframe {timeframe!r}, expected a number and one of m, h, d, such as 5m")
    return int(count) * _UNIT_MS[unit]


def to_ms(moment: pd.Timestamp) -> int:
    """Milliseconds since the epoch of a time-zone-aware timestamp."""
    if moment.tzinfo is None:
        raise ParameterError(f"time {moment} has no time zone, expected UTC")
    return int(moment.as_unit("ns").value // 1_000_000)


def from_ms(milliseconds: int) -> pd.Timestamp:
    """UTC timestamp of a number of milliseconds since the epoch."""
    return pd.Timestamp(milliseconds, unit="ms", tz="UTC")


def times_ms(timestamps: pd.Series | pd.DatetimeIndex) -> IntArray:
    """Open times as int64 milliseconds since the epoch, whatever the resolution they are kept in."""
    index = pd.DatetimeIndex(timestamps)
    return index.as_unit("ms").asi8.astype(np.int64, copy=False)


def empty_bars() -> pd.DataFrame:
    """A bars frame without rows, with the dtypes of one that has some."""
    return bars_from_rows(np.empty((0, 6)), "").astype({"symbol": "str"})


def bars_from_rows(rows: FloatArray, symbol: str) -> pd.DataFrame:
    """Long frame of one symbol from ``(n, 6)`` rows of [open time in ms, o, h, l, c, volume]."""
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    stamps = pd.DatetimeIndex(table[:, 0].astype("datetime64[ms]")).tz_localize("UTC")
    frame = pd.DataFrame(table[:, 1:], columns=list(COLUMNS[2:]))
    frame.insert(0, "timestamp", stamps)
    frame.insert(1, "symbol", pd.Series([symbol] * len(frame), dtype="str"))
    return frame


def invalid_rows(rows: FloatArray, timeframe: str) -> npt.NDArray[np.object_]:
    """Reason each raw row breaks the contract, empty string where it does not.

    Parameters
    ----------
    rows
        ``(n, 6)`` raw rows [open time in ms, open, high, low, close, volume].
    timeframe
        Grid the open times must lie on.

    Returns
    -------
    Texts, length n, aligned with ``rows``.
    """
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    step = timeframe_ms(timeframe)
    time, volume = table[:, 0], table[:, 5]
    open_, high, low, close = table[:, 1:5].T
    with np.errstate(invalid="ignore"):
        sound = (low > 0) & (low <= open_) & (low <= close) & (high >= open_) & (high >= close) & (high < np.inf)
        sound &= (volume >= 0) & (volume < np.inf) & (time >= 0) & (time <= _LAST_MS) & (time % step == 0)
    reason = np.full(len(table), "", dtype=object)
    doubtful = np.flatnonzero(~sound)
    if doubtful.size:  # a text is looked for only where there is one
        reason[doubtful] = _reasons(table[doubtful], step, timeframe)
    return reason


def _reasons(table: FloatArray, step: int, timeframe: str) -> npt.NDArray[np.object_]:
    reason = np.full(len(table), "", dtype=object)
    time, prices, volume = table[:, 0], table[:, 1:5], table[:, 5]
    open_, high, low, close = prices.T
    with np.errstate(invalid="ignore"):
        checks = (
            (~np.isfinite(table).all(axis=1), "not finite"),
            (time % step != 0, f"off the {timeframe} grid"),
            ((time < 0) | (time > _LAST_MS), TIME_RANGE),
            ((prices <= 0).any(axis=1), "price not positive"),
            (volume < 0, "negative volume"),
            (
                (low > np.minimum(open_, close)) | (high < np.maximum(open_, close)),
                "open or close outside low..high",
            ),
        )
    for failed, why in checks:
        reason[failed & (reason == "")] = why
    return reason


def check_bars(frame: pd.DataFrame, timeframe: str, *, where: str = "bars") -> None:
    """Raise ``BarDataError`` naming symbol, time and reason of the first row that breaks the contract."""
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise BarDataError(f"columns {missing} are missing, expected {list(COLUMNS)}", where=where)
    if str(frame["timestamp"].dtype) != TIMESTAMP_DTYPE:
        raise BarDataError(f"timestamp is {frame['timestamp'].dtype}, expected {TIMESTAMP_DTYPE}", where=where)
    rows = np.column_stack([times_ms(frame["timestamp"]), frame[list(COLUMNS[2:])].to_numpy(dtype=np.float64)])
    reasons = invalid_rows(rows, timeframe)
    bad = np.flatnonzero(reasons != "")
    if bad.size:
        row = frame.iloc[bad[0]]
        raise BarDataError(f"{row['symbol']} at {row['timestamp']}: {reasons[bad[0]]}", where=where)
    symbols = frame["symbol"].to_numpy(dtype=object)
    mixed = np.flatnonzero(symbols[1:] < symbols[:-1])
    if mixed.size:
        row = frame.iloc[mixed[0] + 1]
        raise BarDataError(f"{row['symbol']} at {row['timestamp']}: bars are not sorted by symbol", where=where)
    same = symbols[1:] == symbols[:-1]
    backwards = np.flatnonzero(same & (np.diff(rows[:, 0]) <= 0))
    if backwards.size:
        row = frame.iloc[backwards[0] + 1]
        raise BarDataError(f"{row['symbol']} at {row['timestamp']}: time does not increase", where=where)


def closed_bars(frame: pd.DataFrame, timeframe: str, as_of: pd.Timestamp) -> pd.DataFrame:
    """Only the bars that are closed at ``as_of``."""
    last_open = as_of - pd.Timedelta(timeframe_ms(timeframe), unit="ms")
    return frame.loc[frame["timestamp"] <= last_open]


def aggregate(frame: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Bars of a coarser timeframe: first open, highest high, lowest low, last close, summed volume."""
    step = timeframe_ms(timeframe)
    opens = times_ms(frame["timestamp"])
    bucket = pd.to_datetime(opens // step * step, unit="ms", utc=True).as_unit("ms")
    grouped = frame.assign(timestamp=bucket).groupby(["symbol", "timestamp"], sort=True)
    out = grouped.agg(
        open=("open", "first"), high=("high", "max"), low=("low", "min"),
        close=("close", "last"), volume=("volume", "sum"),
    )  # fmt: skip
    return out.reset_index()[list(COLUMNS)]


def on_grid(frame: pd.DataFrame, timeframe: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """One symbol's columns on the complete time grid between its first and last bar; holes are NaN.

    Nothing is filled. The index is the bar open (``timestamp``), regular in ``timeframe``.
    """
    indexed = frame.set_index("timestamp")[list(columns)]
    if indexed.empty:
        return indexed
    step = pd.Timedelta(timeframe_ms(timeframe), unit="ms")
    grid = pd.date_range(indexed.index[0], indexed.index[-1], freq=step, unit="ms", name="timestamp")
    return indexed.reindex(grid)


def wide(frame: pd.DataFrame, column: str, timeframe: str) -> pd.DataFrame:
    """Matrix (time on the complete grid × symbol) of one column; holes are NaN."""
    if frame.empty:
        return pd.DataFrame(index=pd.DatetimeIndex([], dtype=TIMESTAMP_DTYPE, name="timestamp"))
    step = timeframe_ms(timeframe)
    opens = times_ms(frame["timestamp"])
    symbols, codes = np.unique(frame["symbol"].to_numpy(dtype=object), return_inverse=True)
    start, stop = int(opens.min()), int(opens.max())
    values = np.full(((stop - start) // step + 1, len(symbols)), np.nan)
    values[(opens - start) // step, codes] = frame[column].to_numpy(dtype=np.float64)
    grid = pd.DatetimeIndex(np.arange(start, stop + 1, step).astype("datetime64[ms]"), name="timestamp")
    return pd.DataFrame(values, index=grid.tz_localize("UTC"), columns=list(symbols))
