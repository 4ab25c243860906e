"""What the models learn to predict, with the time each label becomes known."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pandas as pd

from mntrading.core.code import code_of
from mntrading.core.compiled import compiled
from mntrading.core.features import in_logs
from mntrading.core.types import BoolArray, FloatArray, IntArray
from mntrading.params import LabelParams


@compiled
def _first_touch(z: FloatArray, events: BoolArray, revert_z: float, horizon: int) -> IntArray:
    """Rows until z is back within ``revert_z`` of its mean (or through it); 0 when not within the horizon."""
    n = z.shape[0]
    out = np.zeros(n, dtype=np.int64)
    for t in range(n):
        if not events[t]:
            continue
        side = 1.0 if z[t] > 0 else -1.0
        for k in range(1, horizon + 1):
            if t + k >= n:
                break
            if side * z[t + k] <= revert_z:
                out[t] = k
                break
    return out


@compiled
def _net_pnl(
    rows: IntArray, side: FloatArray, hedge: FloatArray, unit: FloatArray,
    fill_a: FloatArray, fill_b: FloatArray, close_a: FloatArray, close_b: FloatArray,
    horizon: int, take_profit: float, stop_loss: float, cost_rate: float, borrow_rate: float,
) -> FloatArray:  # fmt: skip
    """Net P&L per unit of notional of the trade decided at each row, NaN where a price is missing.

    The trade is that of ``core.backtest``: units from the closes of row t, filled at row t + 1; borrow on what was
    short over each bar; an exit decided at a close is filled on the next row, the last one on row t + horizon.
    """
    out = np.full(rows.shape[0], np.nan)
    for k in range(rows.shape[0]):
        t = rows[k]
        gross_a = 1.0 / (1.0 + hedge[k])
        units_a = side[k] * gross_a / close_a[t]
        units_b = -side[k] * gross_a * hedge[k] / close_b[t]
        paid = units_a * fill_a[t + 1] + units_b * fill_b[t + 1]
        costs = (abs(units_a) * fill_a[t + 1] + abs(units_b) * fill_b[t + 1]) * cost_rate
        for s in range(t + 1, t + horizon):
            gross = units_a * close_a[s] + units_b * close_b[s] - paid
            costs += (max(-units_a * close_a[s], 0.0) + max(-units_b * close_b[s], 0.0)) * borrow_rate
            if gross >= take_profit * unit[k] or gross <= -stop_loss * unit[k] or s == t + horizon - 1:
                proceeds = units_a * fill_a[s + 1] + units_b * fill_b[s + 1]
                costs += (abs(units_a) * fill_a[s + 1] + abs(units_b) * fill_b[s + 1]) * cost_rate
                out[k] = proceeds - paid - costs
                break
    return out


def label(features: pd.DataFrame, bars_a: pd.DataFrame, bars_b: pd.DataFrame, params: LabelParams) -> pd.DataFrame:
    """Labels of the rows at which a prediction would be asked for.

    ``z_threshold``
        Rows with ``|z| >= zscore_threshold``; 1 when z comes back to within ``revert_z`` (or crosses its
        mean) inside ``horizon`` bars, else 0.
    ``revert_direction``
        The same rows; 1 when, ``horizon`` bars later, the spread has moved towards its mean of row t.
        ``size`` is that move in deviations of row t, positive towards the mean.
    ``net_pnl``
        The same rows, where the hedge ratio is positive; 1 when the trade towards the mean earns money after costs.
        Decided at the close of row t, it is filled on row t + 1 with units frozen, as the backtest does, and ends on
        the row after its gross P&L at a close has reached ``take_profit`` or ``-stop_loss``, or at the horizon.
        ``size`` is the net P&L per unit of notional.

    Look-ahead: a label at row t uses rows t … ``label_end``, and is to be used by nothing that is fitted on
    less. Rows whose horizon runs past the end, or over a missing bar, are dropped, never labelled 0.

    Parameters
    ----------
    features
        Output of ``build_features`` (columns ``z``, ``spread``, ``spread_std``; for ``net_pnl`` also ``beta`` and
        ``hedge_ratio``) on a regular grid.
    bars_a, bars_b
        Bars of the legs; only ``net_pnl`` uses them.
    params
        Kind, levels and horizon in bars.

    Returns
    -------
    DataFrame indexed like the labelled rows: ``label`` (int8), ``label_end`` (UTC open time of the last bar used)
    and ``size`` (float64).
    """
    z = features["z"].to_numpy(dtype=np.float64)
    n, horizon = len(z), params.horizon
    known = np.isfinite(z)
    whole = np.zeros(n, dtype=bool)
    if n > horizon:
        missing = np.concatenate([[0], np.cumsum(~known)])
        whole[: n - horizon] = missing[horizon + 1 :] - missing[: n - horizon] == 0
    with np.errstate(invalid="ignore"):
        events = whole & (np.abs(z) >= params.zscore_threshold)
    rows = np.flatnonzero(events)
    # every label ends with its horizon: were a quick reversion known sooner, a cut in time would keep the 1s of its
    # last stretch and drop the 0s
    end = rows + horizon
    if params.label_type == "z_threshold":
        touch = _first_touch(z, events, params.revert_z, horizon)[rows]
        value = touch > 0
        size = np.abs(z[rows]) - np.abs(z[rows + np.where(value, touch, horizon)])
    elif params.label_type == "revert_direction":
        spread = features["spread"].to_numpy(dtype=np.float64)
        deviation = features["spread_std"].to_numpy(dtype=np.float64)
        size = -np.sign(z[rows]) * (spread[end] - spread[rows]) / deviation[rows]
        value = size > 0
    else:
        size = _sizes_net(features, bars_a, bars_b, rows, params)
        priced = np.isfinite(size)
        rows, end, size = rows[priced], end[priced], size[priced]
        value = size > 0
    return pd.DataFrame(
        {"label": value.astype(np.int8), "label_end": features.index[end], "size": size},
        index=features.index[rows],
    )


def _sizes_net(
    features: pd.DataFrame, bars_a: pd.DataFrame, bars_b: pd.DataFrame, rows: IntArray, params: LabelParams
) -> FloatArray:
    """Net P&L of each row's trade; NaN where its hedge ratio is not positive or a price is missing."""
    rule = params.net_pnl
    index = features.index
    legs = [bars.set_index("timestamp")[[rule.fill_at, "close"]].reindex(index) for bars in (bars_a, bars_b)]
    (fill_a, close_a), (fill_b, close_b) = (
        (leg.iloc[:, 0].to_numpy(dtype=np.float64), leg.iloc[:, 1].to_numpy(dtype=np.float64)) for leg in legs
    )
    z, hedge = features["z"].to_numpy()[rows], features["hedge_ratio"].to_numpy()[rows]
    hedge = np.where(hedge > 0, hedge, np.nan)
    unit = np.ones(len(rows))
    if rule.barriers_in == "deviations":
        # one deviation of the spread as P&L per unit of notional; hedge_ratio is beta where prices are logs, and
        # otherwise the spread is in the dependent leg's price
        unit = features["spread_std"].to_numpy()[rows] / (1.0 + hedge) / (1.0 if in_logs(features) else close_a[rows])
    per_day = pd.Timedelta(1, unit="D") / (index[1] - index[0]) if len(index) > 1 else 1.0
    size: FloatArray = _net_pnl(
        rows, -np.sign(z), hedge, unit, fill_a, fill_b, close_a, close_b, params.horizon,
        rule.take_profit, rule.stop_loss, rule.costs.fee_rate + rule.costs.slippage_bps * 1e-4,
        rule.costs.borrow_bps_per_day * 1e-4 / per_day,
    )  # fmt: skip
    return size


def spec_hash(params: LabelParams) -> str:
    """Hash of what makes the labels what they are: the parameters, and this module's code."""
    unused = set() if params.label_type == "net_pnl" else {"net_pnl"}
    content = {"parameters": params.model_dump(mode="json", exclude=unused), "code": code_of(sys.modules[__name__])}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
