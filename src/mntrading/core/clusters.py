"""Clusters of pairs that move together: what one of them loses, the others lose on the same days.

Two pairs are compared by the daily returns they made out of sample, on the days both were traded. Where those are too
few, or one of the two never traded on them, the daily changes of their spreads over the formation window stand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from mntrading.core.roster import RosterPair
from mntrading.core.types import FloatArray, IntArray

_ROUNDING = 1e-12


def spread_changes(close: pd.DataFrame, pairs: Iterable[RosterPair]) -> pd.DataFrame:
    """Daily changes of each pair's log spread, with the hedge ratio its screen found.

    Look-ahead: none beyond the rows of ``close``, which the caller has cut at the formation end.

    Parameters
    ----------
    close
        Closes (time × symbol), UTC, holes NaN; symbols without bars may be missing.
    pairs
        Pairs with their ``beta``.

    Returns
    -------
    Days × pair id. A day's value is that of the last bar both legs have; a change over a missing day is NaN.
    """
    out = {}
    for row in pairs:
        a, b = row.pair.symbols
        if a in close and b in close:
            legs = close[[a, b]].dropna()
            logs = np.log(legs.to_numpy(dtype=np.float64))
            spread = pd.Series(logs[:, 0] - row.beta * logs[:, 1], index=pd.DatetimeIndex(legs.index))
            out[row.pair.id] = spread.resample("D").last().diff()
    return pd.DataFrame(out)


def correlations(returns: Mapping[str, pd.Series], spreads: pd.DataFrame, *, min_days: int) -> pd.DataFrame:
    """How pairs move together: correlation of their returns, or the size of that of their spreads.

    Returns keep their sign: a pair that earns while another loses is no double of it. Spreads lose theirs, because a
    pair is traded towards its mean: two that mirror each other are held on opposite sides and win and lose together.

    Look-ahead: none beyond the days given.

    Parameters
    ----------
    returns
        By pair id: daily out-of-sample returns, indexed by day. Its keys are the pairs compared.
    spreads
        Output of ``spread_changes``; pairs may be missing.
    min_days
        Days two series must share to be compared, at least 3.

    Returns
    -------
    Symmetric matrix by pair id, 1 on the diagonal, NaN where neither says anything.
    """
    names = list(returns)
    table = pd.DataFrame({name: returns[name] for name in names}, columns=names)
    earned = _pairwise(table.to_numpy(dtype=np.float64), min_days)
    moved = np.abs(_pairwise(spreads.reindex(columns=names).to_numpy(dtype=np.float64), min_days))
    out = np.where(np.isnan(earned), moved, earned)
    np.fill_diagonal(out, 1.0)
    return pd.DataFrame(out, index=names, columns=names)


def _pairwise(values: FloatArray, min_days: int) -> FloatArray:
    """Correlations of columns over the rows both have; NaN with fewer than ``min_days`` or without variation."""
    n = values.shape[1]
    out = np.full((n, n), np.nan)
    known = np.isfinite(values)
    for i in range(n):
        for j in range(i):
            both = known[:, i] & known[:, j]
            if both.sum() < max(min_days, 3):
                continue
            x, y = (column - column.mean() for column in (values[both, i], values[both, j]))
            size = float(np.sqrt((x @ x) * (y @ y)))
            flat = _ROUNDING * max(float(np.abs(values[both, i]).max()), float(np.abs(values[both, j]).max())) ** 2
            if size > flat:
                out[i, j] = out[j, i] = float(np.clip((x @ y) / size, -1.0, 1.0))
    return out


def group(correlation: pd.DataFrame, *, method: Literal["single", "average"], min_correlation: float) -> dict[str, int]:
    """Clusters by agglomeration on the distance ``1 − correlation``, cut at ``1 − min_correlation``.

    With ``single`` a pair joins where one member is correlated enough, with ``average`` where the members are on
    average. Pairs that could not be compared count as uncorrelated. The order of the pairs changes nothing.

    Parameters
    ----------
    correlation
        Output of ``correlations``.
    method
        Linkage.
    min_correlation
        Within (0, 1]; clusters merge at or above it.

    Returns
    -------
    Cluster number by pair id, from 1 on in the order of the ids.
    """
    names = sorted(correlation.index)
    if len(names) < 2:
        return dict.fromkeys(names, 1)
    known = correlation.loc[names, names].fillna(0.0).to_numpy(dtype=np.float64)
    distance = 1.0 - known
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method=method)
    labels: IntArray = fcluster(tree, t=1.0 - min_correlation + _ROUNDING, criterion="distance")
    numbers: dict[int, int] = {}
    return {name: numbers.setdefault(int(label), len(numbers) + 1) for name, label in zip(names, labels, strict=True)}
