"""How large a pair is traded, and how much risk it adds: from its spread's deviation and half-life.

A spread is taken for an Ornstein–Uhlenbeck process with stationary deviation s and half-life h, whose
autocorrelation after t hours is 2^(-t / h). All figures are per unit of the pair's notional, both legs together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from mntrading.core.book import Signal
from mntrading.core.features import in_logs
from mntrading.params import SizingParams

RISK_COLUMNS = ("spread_std", "half_life_hours", "z_window_hours")
"""What an entry knows of its spread, as columns of trades: fields of ``Signal``."""

_DAYS_PER_YEAR = 365.0
_DAY_HOURS = 24.0


def relative_std(spread_std: float, price: float, *, logs: bool) -> float:
    """A spread's deviation per unit notional of the dependent leg: that of level prices is in its price."""
    return spread_std if logs else spread_std / price


def window_hours(bars: int, step: pd.Timedelta) -> float:
    """Length of a window in hours."""
    return bars * (step / pd.Timedelta(1, unit="h"))


def with_risk(
    trades: pd.DataFrame,
    features: pd.DataFrame,
    bars_a: pd.DataFrame,
    *,
    half_life_hours: float | None,
    z_window_hours: float,
) -> pd.DataFrame:
    """Trades with the ``RISK_COLUMNS`` of their entries.

    Look-ahead: uses the rows of the entry decisions.

    Parameters
    ----------
    trades
        Of ``run_pair``.
    features
        What they were decided on (``STATE_COLUMNS``).
    bars_a
        Bars of the dependent leg.
    half_life_hours
        Of the pair's formation window; None where it has none.
    z_window_hours
        Length of the window behind ``spread_std``.
    """
    decided = pd.DatetimeIndex(trades["entry_decision"])
    deviation = features["spread_std"].reindex(decided).to_numpy(dtype=np.float64)
    if not in_logs(features):
        deviation = deviation / bars_a.set_index("timestamp")["close"].reindex(decided).to_numpy(dtype=np.float64)
    return trades.assign(
        spread_std=deviation,
        half_life_hours=math.nan if half_life_hours is None else half_life_hours,
        z_window_hours=z_window_hours,
    )


def stationary_std(spread_std: float, half_life_hours: float, z_window_hours: float) -> float:
    """The spread's stationary deviation, from that of a window around the window's own mean.

    A window of W hours shows ``s²·(1 - (2 / w)·(1 - (1 - e^(-w)) / w))`` on average, where ``w = W·ln 2 / h`` counts
    the spread's correlation times: the mean moves with the spread. Short windows of slow spreads show little of it.

    Returns
    -------
    float
        ``spread_std`` itself where the window is unknown; NaN where the deviation or the half-life is.

    References
    ----------
    Priestley, "Spectral Analysis and Time Series" (1981), section 5.3, for the variance of the mean.
    """
    if not (_known(spread_std) and _known(half_life_hours)):
        return math.nan
    if not _known(z_window_hours):
        return spread_std
    times = z_window_hours * math.log(2.0) / half_life_hours
    if times < 1e-3:
        return spread_std / math.sqrt(times / 3.0 * (1.0 - times / 4.0))
    return spread_std / math.sqrt(1.0 - 2.0 / times * (1.0 + math.expm1(-times) / times))


def daily_volatility(signal: Signal) -> float:
    """Deviation of a day's P&L per unit of the pair's notional, with its units frozen.

    ``Var(x[t + 24 h] - x[t]) = 2·s²·(1 - 2^(-24 / h))``. Without a known half-life it is no less than any half-life
    makes of the measured deviation: 2 s² for a stationary one, 144 s² / W for that of a walk's window of W hours, and
    (2 + 48 / W)·s² where the window is long and the spread neither.

    Returns
    -------
    float
        NaN where the deviation is unknown.
    """
    s, half_life, window = signal.spread_std, signal.half_life_hours, signal.z_window_hours
    if not _known(s):
        return math.nan
    if not _known(half_life):
        days = _DAY_HOURS / window if _known(window) else 0.0
        variance = s * s * max(2.0 + 2.0 * days, 6.0 * days)
    else:
        s = stationary_std(s, half_life, window)
        variance = -2.0 * s * s * math.expm1(-math.log(2.0) * _DAY_HOURS / half_life)
    return math.sqrt(variance) / (1.0 + signal.hedge_ratio)


def size_multiple(signal: Signal, params: SizingParams) -> float:
    """The entry's notional in multiples of ``pair_gross``, before any cap.

    By ``equal_notional`` 1. By ``inverse_risk`` the reference pair's ``s·√h`` over this pair's, within ``low`` and
    ``high``: a quieter and quicker spread gets more. Over any stretch of T hours much longer than the half-life the
    mean of a spread is known to within ``s·√(2h / (T·ln 2))``. So pairs of equal ``notional·s·√h`` lose the same if
    the mean they are to return to is wrong by one standard error, and contribute equally to the variance of the
    book's time-averaged paper loss: how deep it is, times how long it lasts.

    An unknown deviation or half-life gets ``low``: nothing says that such a pair is quiet or quick.

    References
    ----------
    Priestley (1981), section 5.3: the variance of the mean of T hours is ``2·s²·τ / T`` for a correlation time τ,
    here h / ln 2.
    """
    if params.rule == "equal_notional":
        return 1.0
    deviation = stationary_std(signal.spread_std, signal.half_life_hours, signal.z_window_hours)
    if math.isnan(deviation):
        return params.low
    risk = deviation / (1.0 + signal.hedge_ratio) * math.sqrt(signal.half_life_hours)
    reference = params.reference_std * math.sqrt(params.reference_half_life_hours)
    return min(max(reference / risk, params.low), params.high)


def book_volatility(daily: Iterable[float], correlation: float) -> float:
    """Annual volatility of holdings whose daily P&L have these deviations and one correlation between any two.

    ``365·((1 - ρ)·Σ x² + ρ·(Σ x)²)``, and its root.
    """
    risks = list(daily)
    variance = (1.0 - correlation) * sum(x * x for x in risks) + correlation * sum(risks) ** 2
    return math.sqrt(_DAYS_PER_YEAR * variance)


def share_within_volatility(daily: Iterable[float], entry: float, correlation: float, target: float) -> float:
    """Largest share, 0 to 1, of an entry's daily risk that keeps ``book_volatility`` within the target.

    NaN, for a risk that is unknown, fits nowhere.
    """
    risks = list(daily)
    total = sum(risks)
    room = target * target / _DAYS_PER_YEAR - (book_volatility(risks, correlation) ** 2 / _DAYS_PER_YEAR)
    if not room > 0.0 or math.isnan(entry):
        return 0.0
    # y²·s² + 2·ρ·X·y·s = room, in the form that does not cancel
    half = correlation * total
    return min(room / ((half + math.sqrt(half * half + room)) * entry), 1.0)


def _known(value: float) -> bool:
    return math.isfinite(value) and value > 0.0
