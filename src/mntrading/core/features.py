"""Features of a pair, each a documented function of the bars up to and including its row.

``build_features`` is the only way features are made: research, backtest and live inference all call it. To
add one, write a function ``(PairFrame) -> {name: values}`` below and decorate it with ``@feature``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mntrading.core import spread as spreads
from mntrading.core.bars import on_grid, times_ms
from mntrading.core.errors import BarDataError
from mntrading.core.types import FloatArray, IntArray
from mntrading.params import FeatureParams

STATE_COLUMNS = ("alpha", "beta", "hedge_ratio", "spread", "spread_std", "z")
"""Columns the strategy trades on; ``z`` is a model feature as well."""

_BARS_PER_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class PairFrame:
    """Aligned arrays of one pair on the complete time grid, shape (n,) each; NaN where a bar is missing."""

    params: FeatureParams
    first_bar: int
    open_ms: IntArray
    log_a: FloatArray
    log_b: FloatArray
    volume_a: FloatArray
    volume_b: FloatArray
    alpha: FloatArray
    beta: FloatArray
    spread: FloatArray
    spread_std: FloatArray
    z: FloatArray

    def mean_std(self, values: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
        """Rolling mean and deviation over rows t - window + 1 … t."""
        return spreads.rolling_mean_std(
            values, window=window, first_bar=self.first_bar, min_fill=self.params.min_window_fill
        )

    def moments(self, x: FloatArray, y: FloatArray, window: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Rolling variance of x, covariance and variance of y over rows t - window + 1 … t."""
        return spreads.rolling_moments(
            x, y, window=window, first_bar=self.first_bar, min_fill=self.params.min_window_fill
        )


FeatureFunction = Callable[[PairFrame], dict[str, FloatArray]]
_FEATURES: list[FeatureFunction] = []


def feature(function: FeatureFunction) -> FeatureFunction:
    """Register a feature function; the columns it returns become model inputs in this order."""
    _FEATURES.append(function)
    return function


def _difference(values: FloatArray, rows: int) -> FloatArray:
    return values - spreads.lagged(values, rows)


@feature
def z_dynamics(pair: PairFrame) -> dict[str, FloatArray]:
    """z, its size, its change over 1 and 12 bars and the change of that. Row t uses bars ≤ t."""
    velocity = _difference(pair.z, 1)
    return {
        "z": pair.z,
        "z_abs": np.abs(pair.z),
        "z_velocity": velocity,
        "z_acceleration": _difference(velocity, 1),
        "z_velocity_12": _difference(pair.z, 12),
    }


@feature
def spread_volatility(pair: PairFrame) -> dict[str, FloatArray]:
    """Deviation of the spread's level, of its one-bar changes, and their ratio. Row t uses bars ≤ t."""
    _, of_changes = pair.mean_std(_difference(pair.spread, 1), pair.params.volatility_window)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(of_changes > 0, pair.spread_std / of_changes, np.nan)
    return {"spread_std": pair.spread_std, "spread_change_std": of_changes, "spread_range_ratio": ratio}


@feature
def reversion_speed(pair: PairFrame) -> dict[str, FloatArray]:
    """AR(1) coefficient of the spread's changes on its level over the z window. Row t uses bars ≤ t.

    More negative is faster; the half-life in bars is ``-ln 2 / ln(1 + speed)``.
    """
    before = spreads.lagged(pair.spread, 1)
    variance, covariance, _ = pair.moments(before, pair.spread - before, pair.params.z_window)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"reversion_speed": np.where(variance > 0, covariance / variance, np.nan)}


@feature
def return_correlation(pair: PairFrame) -> dict[str, FloatArray]:
    """Correlation of the legs' one-bar log returns over the volatility window. Row t uses bars ≤ t."""
    var_a, covariance, var_b = pair.moments(
        _difference(pair.log_a, 1), _difference(pair.log_b, 1), pair.params.volatility_window
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where((var_a > 0) & (var_b > 0), covariance / np.sqrt(var_a * var_b), np.nan)
    return {"return_correlation": value}


@feature
def beta_drift(pair: PairFrame) -> dict[str, FloatArray]:
    """Hedge ratio, and its change over the z window. Row t uses bars ≤ t - hedge_lag_bars."""
    return {"beta": pair.beta, "beta_drift": _difference(pair.beta, pair.params.z_window)}


@feature
def liquidity(pair: PairFrame) -> dict[str, FloatArray]:
    """Each leg's log volume against its mean and deviation over the volatility window. Row t uses bars ≤ t."""
    out = {}
    for name, volume in (("volume_z_dependent", pair.volume_a), ("volume_z_independent", pair.volume_b)):
        logged = np.log1p(volume)
        mean, deviation = pair.mean_std(logged, pair.params.volatility_window)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[name] = np.where(deviation > 0, (logged - mean) / deviation, 0.0 * mean)
    return out


@feature
def regime(pair: PairFrame) -> dict[str, FloatArray]:
    """Realised volatility of the legs, recent against slow, and the spread's trendiness. Row t uses bars ≤ t.

    ``trend`` is the net move of the spread over the volatility window in deviations of its one-bar changes
    over the square root of the window: about standard normal on a random walk.
    """
    window = pair.params.volatility_window
    both = _difference(pair.log_a, 1) + _difference(pair.log_b, 1)
    _, fast = pair.mean_std(both, window)
    _, slow = pair.mean_std(both, pair.params.z_window)
    _, change = pair.mean_std(_difference(pair.spread, 1), window)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(slow > 0, fast / slow, np.nan)
        trend = np.where(change > 0, _difference(pair.spread, window) / (change * np.sqrt(window)), np.nan)
    return {"volatility": fast, "volatility_ratio": ratio, "trend": trend}


@feature
def time_of_day(pair: PairFrame) -> dict[str, FloatArray]:
    """Hour of the bar's open on the unit circle (UTC). Row t uses its own time stamp only."""
    angle = (pair.open_ms % (24 * _BARS_PER_HOUR_MS)) * (2 * np.pi / (24 * _BARS_PER_HOUR_MS))
    return {"hour_sin": np.sin(angle), "hour_cos": np.cos(angle)}


@feature
def z_lags(pair: PairFrame) -> dict[str, FloatArray]:
    """z of each of the last ``lag_features`` bars. Row t uses bars ≤ t - 1."""
    return {f"z_lag_{k}": spreads.lagged(pair.z, k) for k in range(1, pair.params.lag_features + 1)}


def warm_up_bars(params: FeatureParams) -> int:
    """Bars of history a row needs before it for every feature to have its final bits.

    Twice each window: where bars are missing at a block's edge the anchor of its sums may lie one window further
    back (see ``core.spread``).
    """
    widest = max(params.z_window, params.volatility_window)
    hedge = params.beta_window + params.hedge_lag_bars
    return 2 * (hedge + widest + params.z_window + params.lag_features + 12)


def _grid_step_ms(bars: pd.DataFrame) -> int:
    opens = times_ms(bars["timestamp"])
    return int(np.diff(opens).min()) if len(opens) > 1 else 0


def _pair_frame(bars_a: pd.DataFrame, bars_b: pd.DataFrame, params: FeatureParams) -> PairFrame | None:
    for name, bars in (("dependent", bars_a), ("independent", bars_b)):
        if len(set(bars["symbol"])) > 1:
            raise BarDataError(f"the {name} leg's bars hold {len(set(bars['symbol']))} symbols, expected one")
    step = min(filter(None, (_grid_step_ms(bars_a), _grid_step_ms(bars_b))), default=0)
    if step == 0:
        return None
    timeframe = f"{step // 60_000}m"
    a, b = (on_grid(bars, timeframe, ("close", "volume")) for bars in (bars_a, bars_b))
    both = a.add_suffix("_a").join(b.add_suffix("_b"), how="inner")
    if both.empty:
        return None
    open_ms = times_ms(pd.DatetimeIndex(both.index))
    first_bar = int(open_ms[0] // step)
    close_a, close_b = both["close_a"].to_numpy(), both["close_b"].to_numpy()
    x, y = (np.log(close_b), np.log(close_a)) if params.price == "log" else (close_b, close_a)
    alpha, beta = spreads.rolling_hedge(
        y, x, window=params.beta_window, lag=params.hedge_lag_bars, first_bar=first_bar,
        min_fill=params.min_window_fill,
    )  # fmt: skip
    value = spreads.spread(y, x, alpha, beta)
    mean, deviation = spreads.rolling_mean_std(
        value, window=params.z_window, lag=params.hedge_lag_bars, first_bar=first_bar,
        min_fill=params.min_window_fill,
    )  # fmt: skip
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(deviation > 0, (value - mean) / deviation, np.nan)
    return PairFrame(
        params=params, first_bar=first_bar, open_ms=open_ms, log_a=np.log(close_a), log_b=np.log(close_b),
        volume_a=both["volume_a"].to_numpy(), volume_b=both["volume_b"].to_numpy(),
        alpha=alpha, beta=beta, spread=value, spread_std=deviation, z=z,
    )  # fmt: skip


def build_features(bars_a: pd.DataFrame, bars_b: pd.DataFrame, params: FeatureParams) -> pd.DataFrame:
    """Spread, z-score and model features of a pair, one row per bar of the grid both legs span.

    Look-ahead: row t uses bars ≤ t; alpha, beta and the mean and deviation behind z use bars
    ≤ t - ``hedge_lag_bars``. The same rows come out bit for bit from any history that starts at least
    ``warm_up_bars(params)`` before them.

    Parameters
    ----------
    bars_a, bars_b
        Long bars of the dependent and of the independent leg, one symbol each, sorted by time.
    params
        Windows in bars.

    Returns
    -------
    DataFrame indexed by bar open (``timestamp``, UTC), regular grid; ``STATE_COLUMNS`` and the model
    features, NaN in warm-up and around missing bars. ``hedge_ratio`` is the notional of the independent leg
    per unit notional of the dependent one. Empty when the legs share no time.

    Raises
    ------
    BarDataError
        When a leg's bars hold more than one symbol.
    """
    pair = _pair_frame(bars_a, bars_b, params)
    if pair is None:
        columns = dict.fromkeys((*STATE_COLUMNS, *feature_names(params)))
        index = pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp")
        return pd.DataFrame(index=index, columns=list(columns), dtype="float64")
    price_ratio = 1.0 if params.price == "log" else np.exp(pair.log_b - pair.log_a)
    columns = {
        "alpha": pair.alpha, "beta": pair.beta, "hedge_ratio": pair.beta * price_ratio,
        "spread": pair.spread, "spread_std": pair.spread_std, "z": pair.z,
    }  # fmt: skip
    for function in _FEATURES:
        columns |= function(pair)
    index = pd.DatetimeIndex(pair.open_ms.astype("datetime64[ms]"), name="timestamp").tz_localize("UTC")
    return pd.DataFrame(columns, index=index)


def feature_names(params: FeatureParams) -> tuple[str, ...]:
    """Names of the model's inputs, in order."""
    blank = np.zeros(0)
    pair = PairFrame(
        params=params, first_bar=0, open_ms=np.zeros(0, dtype=np.int64), log_a=blank, log_b=blank,
        volume_a=blank, volume_b=blank, alpha=blank, beta=blank, spread=blank, spread_std=blank, z=blank,
    )  # fmt: skip
    return tuple(name for function in _FEATURES for name in function(pair))
