"""The features there are, each a documented function of a pair's bars up to and including its row.

A feature of your own goes into ``mntrading/core/own_features.py``, in the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mntrading.core import spread as spreads
from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray, IntArray
from mntrading.params import FeatureParams

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class PairFrame:
    """Aligned arrays of one pair on the complete time grid, shape (n,) each; NaN where a bar is missing.

    ``market`` is the market's volatility as known at each row's close, NaN where it is not.
    """

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
    market: FloatArray

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

    @cached_property
    def change_std(self) -> FloatArray:
        """Deviation of the spread's one-bar changes over the volatility window."""
        return self.mean_std(difference(self.spread, 1), self.params.volatility_window)[1]

    @cached_property
    def reversion_speed(self) -> FloatArray:
        """Slope of the spread's change on its level of the bar before, over the z window."""
        before = spreads.lagged(self.spread, 1)
        variance, covariance, _ = self.moments(before, self.spread - before, self.params.z_window)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(variance > 0, covariance / variance, np.nan)


FeatureFunction = Callable[[PairFrame], dict[str, FloatArray]]
Bars = Callable[[FeatureParams], int]


@dataclass(frozen=True)
class Feature:
    """A function that gives model inputs, and the bars of the pair's arrays that it looks back on."""

    function: FeatureFunction
    bars: Bars


REGISTRY: dict[str, Feature] = {}
"""Features by name. Its order is that of a model's inputs, whatever the order of ``features.include``."""


def feature(*, bars: Bars) -> Callable[[FeatureFunction], FeatureFunction]:
    """Register a feature under its function's name.

    Parameters
    ----------
    bars
        From the parameters, the number of rows before t that the function reads of the pair's arrays for row t. Live
        inference loads as much history; too few give no value, hence no entry.
    """

    def register(function: FeatureFunction) -> FeatureFunction:
        name = function.__name__
        if name in REGISTRY:
            raise ParameterError(f"there are two features named {name}", where=function.__module__)
        REGISTRY[name] = Feature(function, bars)
        return function

    return register


def difference(values: FloatArray, rows: int) -> FloatArray:
    """Change over a number of rows; the first ones are NaN."""
    return values - spreads.lagged(values, rows)


@feature(bars=lambda _: 12)
def z_dynamics(pair: PairFrame) -> dict[str, FloatArray]:
    """z, its size, its change over 1 and 12 bars and the change of that. Row t uses bars ≤ t."""
    velocity = difference(pair.z, 1)
    return {
        "z": pair.z,
        "z_abs": np.abs(pair.z),
        "z_velocity": velocity,
        "z_acceleration": difference(velocity, 1),
        "z_velocity_12": difference(pair.z, 12),
    }


@feature(bars=lambda params: params.volatility_window + 1)
def spread_volatility(pair: PairFrame) -> dict[str, FloatArray]:
    """Deviation of the spread's level, of its one-bar changes, and their ratio. Row t uses bars ≤ t."""
    of_changes = pair.change_std
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(of_changes > 0, pair.spread_std / of_changes, np.nan)
    return {"spread_std": pair.spread_std, "spread_change_std": of_changes, "spread_range_ratio": ratio}


@feature(bars=lambda params: params.z_window + 1)
def reversion_speed(pair: PairFrame) -> dict[str, FloatArray]:
    """AR(1) coefficient of the spread's changes on its level over the z window. Row t uses bars ≤ t.

    More negative is faster; the half-life in bars is ``-ln 2 / ln(1 + speed)``.
    """
    return {"reversion_speed": pair.reversion_speed}


@feature(bars=lambda params: params.z_window + 1)
def half_life(pair: PairFrame) -> dict[str, FloatArray]:
    """The spread's half-life h over the z window W as ``W / (W + h)``: 0 never, 1 at once. Row t uses bars ≤ t.

    ``h = -ln 2 / ln(1 + speed)`` in bars, with no reversion an infinite one.
    """
    speed = np.clip(pair.reversion_speed, -1.0, 0.0)
    with np.errstate(divide="ignore"):
        bars = -np.log(2.0) / np.log1p(speed)
    return {"half_life_share": pair.params.z_window / (pair.params.z_window + np.abs(bars))}


@feature(bars=lambda params: params.volatility_window + 1)
def return_correlation(pair: PairFrame) -> dict[str, FloatArray]:
    """Correlation of the legs' one-bar log returns over the volatility window. Row t uses bars ≤ t."""
    var_a, covariance, var_b = pair.moments(
        difference(pair.log_a, 1), difference(pair.log_b, 1), pair.params.volatility_window
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where((var_a > 0) & (var_b > 0), covariance / np.sqrt(var_a * var_b), np.nan)
    return {"return_correlation": value}


@feature(bars=lambda params: params.z_window)
def beta_drift(pair: PairFrame) -> dict[str, FloatArray]:
    """Hedge ratio, and its change over the z window. Row t uses bars ≤ t - hedge_lag_bars."""
    return {"beta": pair.beta, "beta_drift": difference(pair.beta, pair.params.z_window)}


@feature(bars=lambda params: params.volatility_window)
def liquidity(pair: PairFrame) -> dict[str, FloatArray]:
    """Each leg's log volume against its mean and deviation over the volatility window. Row t uses bars ≤ t."""
    out = {}
    for name, volume in (("volume_z_dependent", pair.volume_a), ("volume_z_independent", pair.volume_b)):
        logged = np.log1p(volume)
        mean, deviation = pair.mean_std(logged, pair.params.volatility_window)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[name] = np.where(deviation > 0, (logged - mean) / deviation, 0.0 * mean)
    return out


@feature(bars=lambda params: max(params.volatility_window, params.z_window) + 1)
def regime(pair: PairFrame) -> dict[str, FloatArray]:
    """Realised volatility of the legs, recent against slow, and the spread's trendiness. Row t uses bars ≤ t.

    ``trend`` is the net move of the spread over the volatility window in deviations of its one-bar changes
    over the square root of the window: about standard normal on a random walk.
    """
    window = pair.params.volatility_window
    both = difference(pair.log_a, 1) + difference(pair.log_b, 1)
    _, fast = pair.mean_std(both, window)
    _, slow = pair.mean_std(both, pair.params.z_window)
    change = pair.change_std
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(slow > 0, fast / slow, np.nan)
        trend = np.where(change > 0, difference(pair.spread, window) / (change * np.sqrt(window)), np.nan)
    return {"volatility": fast, "volatility_ratio": ratio, "trend": trend}


@feature(bars=lambda params: params.volatility_window + 1)
def efficiency_ratio(pair: PairFrame) -> dict[str, FloatArray]:
    """Net move of the spread over the volatility window by the way it went, 0 to 1. Row t uses bars ≤ t.

    Kaufman's ratio: 1 for a straight line, near 0 where it went to and fro. The way over missing bars is taken to be
    that over the others.
    """
    window = pair.params.volatility_window
    way, _ = pair.mean_std(np.abs(difference(pair.spread, 1)), window)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(way > 0, np.abs(difference(pair.spread, window)) / (way * window), np.nan)
    return {"efficiency_ratio": np.minimum(ratio, 1.0)}


@feature(bars=lambda _: 0)
def market_volatility(pair: PairFrame) -> dict[str, FloatArray]:
    """How much the whole market moves (``core.market_volatility``). Row t uses hours that closed by its own close."""
    return {"market_volatility": pair.market}


@feature(bars=lambda _: 0)
def time_of_day(pair: PairFrame) -> dict[str, FloatArray]:
    """Hour of the bar's open on the unit circle (UTC). Row t uses its own time stamp only."""
    angle = (pair.open_ms % _DAY_MS) * (2 * np.pi / _DAY_MS)
    return {"hour_sin": np.sin(angle), "hour_cos": np.cos(angle)}


@feature(bars=lambda params: params.lag_features)
def z_lags(pair: PairFrame) -> dict[str, FloatArray]:
    """z of each of the last ``lag_features`` bars. Row t uses bars ≤ t - 1."""
    return {f"z_lag_{k}": spreads.lagged(pair.z, k) for k in range(1, pair.params.lag_features + 1)}
