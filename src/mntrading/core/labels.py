"""What the models learn to predict, with the time each label becomes known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mntrading.core.compiled import compiled
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


def label(features: pd.DataFrame, bars_a: pd.DataFrame, bars_b: pd.DataFrame, params: LabelParams) -> pd.DataFrame:
    """Labels of the rows at which a prediction would be asked for.

    ``z_threshold``
        Rows with ``|z| >= zscore_threshold``; 1 when z comes back to within ``revert_z`` (or crosses its
        mean) inside ``horizon`` bars, else 0.
    ``revert_direction``
        The same rows; 1 when, ``horizon`` bars later, the spread has moved towards its mean of row t.
        ``size`` is that move in deviations of row t, positive towards the mean.

    Look-ahead: a label at row t uses rows t … ``label_end``, and is to be used by nothing that is fitted on
    less. Rows whose horizon runs past the end, or over a missing bar, are dropped, never labelled 0.

    Parameters
    ----------
    features
        Output of ``build_features`` (columns ``z``, ``spread``, ``spread_std``) on a regular grid.
    bars_a, bars_b
        Bars of the legs; labels on prices use them, these two do not.
    params
        Kind, levels and horizon in bars.

    Returns
    -------
    DataFrame indexed like the labelled rows: ``label`` (int8), ``label_end`` (UTC open time of the last bar used)
    and ``size`` (float64).
    """
    del bars_a, bars_b
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
    else:
        spread = features["spread"].to_numpy(dtype=np.float64)
        deviation = features["spread_std"].to_numpy(dtype=np.float64)
        size = -np.sign(z[rows]) * (spread[end] - spread[rows]) / deviation[rows]
        value = size > 0
    return pd.DataFrame(
        {"label": value.astype(np.int8), "label_end": features.index[end], "size": size},
        index=features.index[rows],
    )
