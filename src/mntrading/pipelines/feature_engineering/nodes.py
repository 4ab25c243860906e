"""Features and labels, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from mntrading.core import features as core_features
from mntrading.core import labels as core_labels
from mntrading.core.errors import ParameterError
from mntrading.core.roster import Roster
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Commit, Partitions
from mntrading.params import ComputeParams, FeatureParams, LabelParams
from mntrading.pipelines.common import fan_out, header, must_follow


def build_features(
    ohlcv_5m: BarStore, roster: dict[str, Any], features: FeatureParams, compute: ComputeParams
) -> Iterator[dict[str, pd.DataFrame] | Commit]:
    """Features of every pair of any fold over the whole history; they do not depend on the fold."""
    pairs = Roster.parse(roster).pairs
    _check_windows(ohlcv_5m, features)

    def build(item: tuple[str, Pair]) -> tuple[str, pd.DataFrame]:
        pair_id, pair = item
        bars_a, bars_b = ohlcv_5m[pair.dependent], ohlcv_5m[pair.independent]
        return pair_id, core_features.build_features(bars_a, bars_b, features)

    for pair_id, frame in fan_out(build, list(pairs.items()), compute, "features"):
        yield {pair_id: frame}
    made_from = {"ohlcv_5m": ohlcv_5m, "roster": roster}
    head = header(roster["as_of"], made_from, {"features": features})
    yield Commit(tuple(pairs), {**head, "feature_names": list(core_features.feature_names(features))})


def _check_windows(ohlcv_5m: BarStore, features: FeatureParams) -> None:
    """Refuse windows that no symbol's history can fill."""
    longest = max((ohlcv_5m.entry(symbol)["rows"] for symbol in ohlcv_5m), default=0)
    needed = features.beta_window + features.z_window + features.hedge_lag_bars
    if len(ohlcv_5m) and longest < needed:
        raise ParameterError(
            f"beta_window {features.beta_window} and z_window {features.z_window} need {needed} bars and the longest "
            f"history has {longest}",
            where="feature_engineering.features",
            fix="shorten the windows, or ingest an earlier ingestion.since_utc",
        )


def label_pairs(
    pair_features: Partitions,
    ohlcv_5m: BarStore,
    roster: dict[str, Any],
    labels: LabelParams,
    compute: ComputeParams,
) -> Iterator[dict[str, pd.DataFrame] | Commit]:
    """Labelled rows of every pair: the features of event rows, the label, and when it was known."""
    must_follow(roster, pair_features=pair_features)
    names = pair_features.meta["feature_names"]
    pairs = Roster.parse(roster).pairs

    def build(pair_id: str) -> tuple[str, pd.DataFrame]:
        pair, frame = pairs[pair_id], pair_features[pair_id]
        labelled = core_labels.label(frame, ohlcv_5m[pair.dependent], ohlcv_5m[pair.independent], labels)
        return pair_id, frame.loc[labelled.index, names].join(labelled)

    n_rows = n_positive = 0
    for pair_id, frame in fan_out(build, sorted(pair_features), compute, "labels"):
        n_rows, n_positive = n_rows + len(frame), n_positive + int(frame["label"].sum())
        yield {pair_id: frame}
    head = header(roster["as_of"], {"pair_features": pair_features, "roster": roster}, {"labels": labels})
    base_rate = n_positive / n_rows if n_rows else None
    yield Commit(tuple(pair_features), {**head, "feature_names": names, "n_rows": n_rows, "base_rate": base_rate})
