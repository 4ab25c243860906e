"""Which symbols of a formation window may form pairs, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core.types import FloatArray
from mntrading.params import UniverseParams


@dataclass(frozen=True)
class Universe:
    """Symbols that passed every filter, and the funnel that says where the others stopped.

    Parameters
    ----------
    symbols
        Sorted symbols that may form pairs.
    funnel
        Count of symbols by the reason they stopped at, in the order of the filters; ``passed`` last.
    rejected
        Reason by symbol.
    liquidity
        Median quote volume per bar by passed symbol.
    """

    symbols: tuple[str, ...]
    funnel: dict[str, int]
    rejected: dict[str, str]
    liquidity: pd.Series


REASONS = (
    "excluded base", "not listed throughout", "too little history", "too many gaps", "too little volume",
    "hardly moves",
)  # fmt: skip


def select_universe(close: pd.DataFrame, volume: pd.DataFrame, params: UniverseParams) -> Universe:
    """Apply the universe rules to one formation window.

    Look-ahead: uses the rows given, which the caller has cut at the formation end. A symbol that is delisted
    later is part of the universe as long as it was listed to the end of this window. One listed after the window
    began needs bars over ``min_history_fraction`` of it; gaps count from its listing on.

    Parameters
    ----------
    close, volume
        Matrices (time on the complete grid × symbol); NaN where there is no bar. Volume in base units.
    params
        Filters.
    """
    prices, traded = (frame.to_numpy(dtype=np.float64) for frame in (close, volume))
    n_bars, bars_per_day = len(prices), _bars_per_day(close)
    one_day = max(1, round(bars_per_day))
    excluded = {base.upper() for base in params.excluded_bases}
    rejected: dict[str, str] = {}
    liquidity: dict[str, float] = {}
    for place in np.argsort(close.columns):
        symbol, price = str(close.columns[place]), prices[:, place]
        known = np.isfinite(price)
        first = int(known.argmax()) if known.any() else n_bars
        # a first day without a bar is a late listing, hours at its start are a gap like any other
        listed = first if first >= one_day else 0
        median = float(np.median((price * traded[:, place])[known])) if known.any() else 0.0
        if symbol.split("/")[0].upper() in excluded:
            why = "excluded base"
        elif not known[-one_day:].any():
            why = "not listed throughout"
        elif n_bars - listed < params.min_history_fraction * n_bars:
            why = "too little history"
        elif 1 - known[listed:].mean() > params.max_gap_fraction:
            why = "too many gaps"
        elif median < params.min_median_quote_volume:
            why = "too little volume"
        elif _daily_volatility(price[known], bars_per_day) < params.min_daily_volatility:
            why = "hardly moves"
        else:
            liquidity[symbol] = median
            continue
        rejected[symbol] = why
    funnel = {reason: sum(why == reason for why in rejected.values()) for reason in REASONS}
    funnel["passed"] = len(liquidity)
    return Universe(tuple(liquidity), funnel, rejected, pd.Series(liquidity, dtype="float64"))


def _daily_volatility(prices: FloatArray, bars_per_day: float) -> float:
    moves = np.diff(np.log(prices))
    return float(moves.std() * np.sqrt(bars_per_day)) if len(moves) > 1 else 0.0


def _bars_per_day(frame: pd.DataFrame) -> float:
    return pd.Timedelta(1, unit="D") / (frame.index[1] - frame.index[0]) if len(frame) > 1 else 1.0
