"""Small made-up inputs and bit-by-bit comparison, shared by the tests of the core."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel

from mntrading.params import BreakMonitorParams, LeggingParams, MenuParams

START = pd.Timestamp("2025-03-01", tz="UTC")
A, B = "AAA/USDT", "BBB/USDT"

Block = TypeVar("Block", bound=BaseModel)


def changed(block: Block, **values: object) -> Block:
    """The block with other values, validated again."""
    return type(block).model_validate(block.model_dump() | values)


def grid(n: int, *, start: pd.Timestamp = START, minutes: int = 5) -> pd.DatetimeIndex:
    return pd.date_range(start, periods=n, freq=f"{minutes}min", unit="ms", name="timestamp")


def bars_of(
    symbol: str,
    close: npt.ArrayLike,
    *,
    open_: npt.ArrayLike | None = None,
    volume: npt.ArrayLike = 100.0,
    start: pd.Timestamp = START,
    minutes: int = 5,
) -> pd.DataFrame:
    """Bars of one symbol; a NaN close is a missing bar. Opens are the close before where not given."""
    closes = np.asarray(close, dtype=np.float64)
    opens = np.concatenate((closes[:1], closes[:-1])) if open_ is None else np.asarray(open_, dtype=np.float64)
    opens = np.where(np.isnan(opens), closes, opens)
    frame = pd.DataFrame(
        {
            "timestamp": grid(len(closes), start=start, minutes=minutes),
            "symbol": pd.Series([symbol] * len(closes), dtype="str"),
            "open": opens,
            "high": np.maximum(opens, closes),
            "low": np.minimum(opens, closes),
            "close": closes,
            "volume": np.broadcast_to(np.asarray(volume, dtype=np.float64), closes.shape),
        }
    )
    return frame.loc[np.isfinite(closes)].reset_index(drop=True)


def two_legs(n: int, *, seed: int = 0, missing: float = 0.0, std: float = 0.01) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars of a cointegrated pair, ``log A = 0.5 + 0.8 log B + AR(1)``, a share of each leg's bars missing."""
    rng = np.random.default_rng(seed)
    log_b = 4.0 + np.cumsum(rng.normal(0, 0.003, n))
    noise = np.zeros(n)
    for t in range(1, n):
        noise[t] = 0.9 * noise[t - 1] + std * np.sqrt(1 - 0.81) * rng.normal()
    legs = []
    for symbol, log_close in ((A, 0.5 + 0.8 * log_b + noise), (B, log_b)):
        close = np.exp(log_close)
        open_ = close * np.exp(rng.normal(0, 0.001, n))
        close[1:-1] = np.where(rng.uniform(size=n - 2) < missing, np.nan, close[1:-1])
        legs.append(bars_of(symbol, close, open_=open_, volume=rng.lognormal(5, 1, n)))
    return legs[0], legs[1]


def until(bars: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    """Bars that open at or before the moment."""
    return bars.loc[bars["timestamp"] <= moment].reset_index(drop=True)


def same_bits(left: npt.ArrayLike, right: npt.ArrayLike) -> bool:
    """Whether two float arrays hold the same bits, any NaN being one value."""
    a, b = (np.array(values, dtype=np.float64) for values in (left, right))
    if a.shape != b.shape:
        return False
    a[np.isnan(a)] = np.nan
    b[np.isnan(b)] = np.nan
    return bool((a.view(np.int64) == b.view(np.int64)).all())


UNWATCHED = BreakMonitorParams(max_p_value=None, window_bars=40, stride_bars=1, lags=1, every_bars=5)
ON_TIME = LeggingParams(probability=0.0, seed=0)
AS_CONFIGURED = MenuParams(
    enabled=False, windows=(), half_life_multiples=(), entry_z=(), exit_z=(), stop_z=(), optimal=False,
    min_profit_bps=0.0, cost_multiple=1.0, n_blocks=4, max_overfitting=0.5,
)  # fmt: skip
