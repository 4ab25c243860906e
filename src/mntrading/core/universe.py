"""Which symbols of a formation window may form pairs, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

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
    began needs ``min_history_fraction`` of its bars. The bars before its listing count as gaps all the same, because
    the tests take no ragged starts; where they do, only gaps since the listing should count.

    Parameters
    ----------
    close, volume
        Matrices (time on the complete grid × symbol); NaN where there is no bar. Volume in base units.
    params
        Filters.
    """
    rejected: dict[str, str] = {}
    kept: list[str] = []
    liquidity: dict[str, float] = {}
    excluded = {base.upper() for base in params.excluded_bases}
    bars_per_day = _bars_per_day(close)
    one_day = max(1, round(bars_per_day))
    for symbol in sorted(close.columns):
        prices = close[symbol].to_numpy(dtype=np.float64)
        known = np.isfinite(prices)
        quote_volume = prices * volume[symbol].to_numpy(dtype=np.float64)
        median = float(np.median(quote_volume[known])) if known.any() else 0.0
        moves = np.diff(np.log(prices[known])) if known.sum() > 2 else np.zeros(1)
        daily_volatility = float(moves.std() * np.sqrt(bars_per_day))
        if symbol.split("/")[0].upper() in excluded:
            why = "excluded base"
        elif not known[-one_day:].any():
            why = "not listed throughout"
        elif not known[:one_day].any() and known.mean() < params.min_history_fraction:
            why = "too little history"
        elif 1 - known.mean() > params.max_gap_fraction:
            why = "too many gaps"
        elif median < params.min_median_quote_volume:
            why = "too little volume"
        elif daily_volatility < params.min_daily_volatility:
            why = "hardly moves"
        else:
            kept.append(symbol)
            liquidity[symbol] = median
            continue
        rejected[symbol] = why
    funnel = {reason: sum(why == reason for why in rejected.values()) for reason in REASONS}
    funnel["passed"] = len(kept)
    return Universe(tuple(kept), funnel, rejected, pd.Series(liquidity, dtype="float64"))


def _bars_per_day(frame: pd.DataFrame) -> float:
    return pd.Timedelta(1, unit="D") / (frame.index[1] - frame.index[0]) if len(frame) > 1 else 1.0
