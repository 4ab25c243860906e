"""The features of a pair: ``build_features`` is the only way they are made, in research and in live inference alike."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import compiled as compiled_module
from mntrading.core import feature_set, own_features
from mntrading.core import market_volatility as market_module
from mntrading.core import spread as spreads
from mntrading.core.bars import times_ms
from mntrading.core.code import code_of
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.feature_set import REGISTRY, Feature, PairFrame
from mntrading.core.types import FloatArray, IntArray
from mntrading.params import FeatureParams

STATE_COLUMNS = ("alpha", "beta", "hedge_ratio", "spread", "spread_std", "z")
"""Columns the strategy trades on; some are model features as well."""

_HOUR_MS = 3_600_000


def chosen(params: FeatureParams) -> dict[str, Feature]:
    """The features of ``params.include``, in the order of the registry.

    Raises
    ------
    ParameterError
        For a name that is not registered.
    """
    unknown = sorted(set(params.include) - set(REGISTRY))
    if unknown:
        raise ParameterError(
            f"there is no feature {unknown[0]!r}",
            where="feature_engineering.features.include",
            fix=f"use some of {', '.join(REGISTRY)}, or write it into {own_features.__name__}",
        )
    return {name: entry for name, entry in REGISTRY.items() if name in params.include}


def warm_up_bars(params: FeatureParams) -> int:
    """Bars of history a row needs before it for every feature to have its final bits.

    Twice each window: where bars are missing at a block's edge the anchor of its sums may lie one window further
    back, and a filter runs in over the block before (see ``core.spread``).
    """
    hedge = params.beta_window + params.hedge_lag_bars
    return 2 * (hedge + params.z_window + max(entry.bars(params) for entry in chosen(params).values()))


def _opens(bars: pd.DataFrame, leg: str) -> IntArray:
    symbols = bars["symbol"].unique()
    if len(symbols) > 1:
        raise BarDataError(f"the {leg} leg's bars hold {len(symbols)} symbols, expected one")
    opens = times_ms(bars["timestamp"])
    if (np.diff(opens) <= 0).any():
        raise BarDataError(f"the time of the {leg} leg's bars does not increase")
    return opens


def _on_grid(bars: pd.DataFrame, column: str, opens: IntArray, grid: IntArray, step: int) -> FloatArray:
    """A column on the grid, NaN where a bar is missing."""
    inside = (opens >= grid[0]) & (opens <= grid[-1])
    out = np.full(len(grid), np.nan)
    out[(opens[inside] - grid[0]) // step] = bars[column].to_numpy(dtype=np.float64)[inside]
    return out


def _hedge(y: FloatArray, x: FloatArray, first_bar: int, params: FeatureParams) -> tuple[FloatArray, FloatArray]:
    if params.hedge == "kalman":
        return spreads.kalman_hedge(
            y, x, window=params.beta_window, delta=params.kalman.delta, lag=params.hedge_lag_bars,
            first_bar=first_bar, min_fill=params.min_window_fill, relative=params.price == "level",
        )  # fmt: skip
    return spreads.rolling_hedge(
        y, x, window=params.beta_window, lag=params.hedge_lag_bars, first_bar=first_bar,
        min_fill=params.min_window_fill,
    )  # fmt: skip


def _market_at(closes: IntArray, market: pd.Series | None) -> FloatArray:
    """The market's volatility of the last hour that had closed by each row's close; NaN where that hour has none."""
    if market is None:
        return np.full(len(closes), np.nan)
    hours = pd.DatetimeIndex((closes // _HOUR_MS * _HOUR_MS).astype("datetime64[ms]")).tz_localize("UTC")
    return market.reindex(hours).to_numpy(dtype=np.float64)


def _pair_frame(
    bars_a: pd.DataFrame, bars_b: pd.DataFrame, params: FeatureParams, market: pd.Series | None
) -> PairFrame | None:
    opens_a, opens_b = _opens(bars_a, "dependent"), _opens(bars_b, "independent")
    steps = [int(np.diff(opens).min()) for opens in (opens_a, opens_b) if len(opens) > 1]
    if not steps or not len(opens_a) or not len(opens_b):
        return None
    step = min(steps)
    open_ms = np.arange(max(opens_a[0], opens_b[0]), min(opens_a[-1], opens_b[-1]) + 1, step, dtype=np.int64)
    if not len(open_ms):
        return None
    first_bar = int(open_ms[0] // step)
    close_a, volume_a = (_on_grid(bars_a, name, opens_a, open_ms, step) for name in ("close", "volume"))
    close_b, volume_b = (_on_grid(bars_b, name, opens_b, open_ms, step) for name in ("close", "volume"))
    log_a, log_b = np.log(close_a), np.log(close_b)
    y, x = (log_a, log_b) if params.price == "log" else (close_a, close_b)
    alpha, beta = _hedge(y, x, first_bar, params)
    value = spreads.spread(y, x, alpha, beta)
    z, deviation = spreads.zscore_and_std(
        value, window=params.z_window, lag=params.hedge_lag_bars, first_bar=first_bar,
        min_fill=params.min_window_fill,
    )  # fmt: skip
    return PairFrame(
        params=params, first_bar=first_bar, open_ms=open_ms, log_a=log_a, log_b=log_b, volume_a=volume_a,
        volume_b=volume_b, alpha=alpha, beta=beta, spread=value, spread_std=deviation,
        z=z, market=_market_at(open_ms + step, market),
    )  # fmt: skip


def build_features(
    bars_a: pd.DataFrame, bars_b: pd.DataFrame, params: FeatureParams, *, market: pd.Series | None = None
) -> pd.DataFrame:
    """Spread, z-score and model features of a pair, one row per bar of the grid both legs span.

    Look-ahead: row t uses bars ≤ t; alpha, beta and the mean and deviation behind z use bars
    ≤ t - ``hedge_lag_bars``. The same rows come out bit for bit from any history that starts at least
    ``warm_up_bars(params)`` before them.

    Parameters
    ----------
    bars_a, bars_b
        Long bars of the dependent and of the independent leg, one symbol each, sorted by time.
    params
        Which features, and their windows in bars.
    market
        ``core.market_volatility.market_volatility``, indexed by the hours' close. A row takes the value of the last
        hour that had closed by its own close, and none if that very hour has none: nothing older stands in for it.

    Returns
    -------
    DataFrame indexed by bar open (``timestamp``, UTC), regular grid; ``STATE_COLUMNS`` and the model
    features, NaN in warm-up and around missing bars. ``hedge_ratio`` is the notional of the independent leg
    per unit notional of the dependent one. Empty when the legs share no time.

    Raises
    ------
    BarDataError
        When a leg's bars hold more than one symbol, or are not sorted.
    ParameterError
        When ``include`` names a feature there is not, or two features give columns of one name.
    """
    pair = _pair_frame(bars_a, bars_b, params, market)
    if pair is None:
        return _no_rows(dict.fromkeys((*STATE_COLUMNS, *feature_names(params))))
    return pd.DataFrame(_state(pair) | _inputs(pair), index=_index(pair))


def build_spread(bars_a: pd.DataFrame, bars_b: pd.DataFrame, params: FeatureParams) -> pd.DataFrame:
    """``build_features`` without the model features: the ``STATE_COLUMNS``, to the same bits.

    Look-ahead, parameters and errors: those of ``build_features``.
    """
    pair = _pair_frame(bars_a, bars_b, params, None)
    if pair is None:
        return _no_rows(dict.fromkeys(STATE_COLUMNS))
    return pd.DataFrame(_state(pair), index=_index(pair))


def _no_rows(columns: dict[str, Any]) -> pd.DataFrame:
    index = pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp")
    return pd.DataFrame(index=index, columns=list(columns), dtype="float64")


def _index(pair: PairFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pair.open_ms.astype("datetime64[ms]"), name="timestamp").tz_localize("UTC")


def _state(pair: PairFrame) -> dict[str, FloatArray]:
    """The ``STATE_COLUMNS``."""
    price_ratio = 1.0 if pair.params.price == "log" else np.exp(pair.log_b - pair.log_a)
    return {
        "alpha": pair.alpha, "beta": pair.beta, "hedge_ratio": pair.beta * price_ratio,
        "spread": pair.spread, "spread_std": pair.spread_std, "z": pair.z,
    }  # fmt: skip


def in_logs(features: pd.DataFrame) -> bool:
    """Whether features were made of log prices: the hedge ratio is then the slope itself."""
    return np.array_equal(features["beta"].to_numpy(), features["hedge_ratio"].to_numpy(), equal_nan=True)


def _inputs(pair: PairFrame) -> dict[str, FloatArray]:
    """Values of the chosen features by column."""
    out: dict[str, FloatArray] = {}
    for name, entry in chosen(pair.params).items():
        values = entry.function(pair)
        twice = sorted(set(out) & set(values))
        if twice:
            raise ParameterError(f"gives a column {twice[0]!r}, and a feature before it does too", where=name)
        out |= values
    return out


def feature_names(params: FeatureParams) -> tuple[str, ...]:
    """Names of the model's inputs, in order."""
    blank = np.zeros(0)
    pair = PairFrame(
        params=params, first_bar=0, open_ms=np.zeros(0, dtype=np.int64), log_a=blank, log_b=blank,
        volume_a=blank, volume_b=blank, alpha=blank, beta=blank, spread=blank, spread_std=blank, z=blank, market=blank,
    )  # fmt: skip
    return tuple(_inputs(pair))


@lru_cache
def spec_hash(params: FeatureParams) -> str:
    """Hash of what makes the features what they are: models carry it, and inference refuses another one's values.

    It covers the parameters, the code of every included function, and that of what all of them stand on: the spread,
    the market's volatility, the alignment of the legs, the way all are put together. Comments, docstrings and layout
    have no part in it, and no version number has to be remembered: code that changes is another spec, even if
    its values are the same, and models are to be trained anew.
    """
    picked = chosen(params)
    basis: list[Any] = [
        spreads, market_module, feature_set, compiled_module,
        build_features, _state, _inputs, _pair_frame, _hedge, _market_at, _on_grid,
    ]  # fmt: skip
    if any(entry.function.__module__ == own_features.__name__ for entry in picked.values()):
        basis.append(own_features)  # with what its functions call
    content = {
        "parameters": params.model_dump(mode="json") | {"include": list(picked)},
        "functions": {name: code_of(entry.function) for name, entry in picked.items()},
        "basis": [code_of(part) for part in basis],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
