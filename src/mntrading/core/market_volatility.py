"""How much a whole market moves, hour by hour."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mntrading.core.bars import times_ms
from mntrading.core.compiled import compiled
from mntrading.core.spread import rolling_mean_std
from mntrading.core.types import FloatArray

_HOUR_MS = 3_600_000


@compiled
def _row_medians(values: FloatArray) -> FloatArray:
    """Median of the known values of each row, NaN where none is."""
    out = np.full(values.shape[0], np.nan)
    for t in range(values.shape[0]):
        known = np.sort(values[t][~np.isnan(values[t])])
        m = known.shape[0]
        if m:
            out[t] = 0.5 * (known[(m - 1) // 2] + known[m // 2])
    return out


def market_volatility(closes: pd.DataFrame, *, window: int, min_fill: float) -> pd.Series:
    """Median absolute hourly log return over all symbols, as a mean over the last hours.

    Look-ahead: the value at a moment uses hours that have closed by then.

    Parameters
    ----------
    closes
        Closes of hourly bars, hours (bar open, complete grid, UTC) × symbols; NaN where a bar is missing. A symbol
        counts in an hour if it has this hour's bar and that of the hour before.
    window
        Hours in the mean.
    min_fill
        Share of them in which at least one symbol must count.

    Returns
    -------
    Series indexed by the hours' **close**, the moment from which the value is known. Its bits depend on the symbols and
    on the hours of two windows before, not on where the history starts.
    """
    opens = times_ms(pd.DatetimeIndex(closes.index))
    logs = np.log(closes.to_numpy(dtype=np.float64))
    moves = np.full(logs.shape, np.nan)
    moves[1:] = np.abs(logs[1:] - logs[:-1])
    first_bar = int(opens[0] // _HOUR_MS) if len(opens) else 0
    mean, _ = rolling_mean_std(_row_medians(moves), window=window, first_bar=first_bar, min_fill=min_fill)
    index = pd.DatetimeIndex((opens + _HOUR_MS).astype("datetime64[ms]"), name="known_from").tz_localize("UTC")
    return pd.Series(mean, index=index, name="market_volatility")
