"""Features and labels, pair by pair. What a pair's were made from is kept as its key: made once, made for good."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mntrading.core import features as core_features
from mntrading.core import labels as core_labels
from mntrading.core.errors import ParameterError
from mntrading.core.market_volatility import market_volatility
from mntrading.core.roster import Roster
from mntrading.core.uniqueness import label_uniqueness
from mntrading.datasets import BarStore, Commit, Keyed, Partitions
from mntrading.datasets.storage import content_hash, frame_hash
from mntrading.params import ComputeParams, FeatureParams, LabelParams
from mntrading.pipelines.common import fan_out, header, must_follow, number

LOGGER = logging.getLogger(__name__)


def build_features(
    ohlcv_5m: BarStore,
    ohlcv_1h: BarStore,
    roster: dict[str, Any],
    features: FeatureParams,
    compute: ComputeParams,
    pair_features_stored: Partitions,
) -> Iterator[dict[str, Keyed] | Commit]:
    """Features of every pair of any fold over the whole history; they do not depend on the fold.

    A pair whose bars and feature spec are those its stored features were made from is left as it is.
    """
    pairs = Roster.parse(roster).pairs
    _check_windows(ohlcv_5m, features)
    spec = core_features.spec_hash(features)
    market = market_of(ohlcv_1h, tuple(ohlcv_1h), features)
    keys = {
        pair_id: content_hash([spec, [ohlcv_5m.digest_of(symbol) for symbol in pair.symbols], _digest(market)])
        for pair_id, pair in pairs.items()
    }

    def build(pair_id: str) -> tuple[str, pd.DataFrame]:
        bars_a, bars_b = (ohlcv_5m[symbol] for symbol in pairs[pair_id].symbols)
        return pair_id, core_features.build_features(bars_a, bars_b, features, market=market)

    for pair_id, frame in fan_out(
        build, _to_make(pair_features_stored, keys, "features"), compute, "features", reads=ohlcv_5m
    ):
        yield {pair_id: Keyed(frame, keys[pair_id])}
    made_from = {"ohlcv_5m": ohlcv_5m, "roster": roster}
    head = header(roster["as_of"], made_from, {"features": features})
    about = {
        "feature_spec": spec,
        "feature_names": list(core_features.feature_names(features)),
        "market_symbols": [] if market is None else list(ohlcv_1h),
    }
    yield Commit(tuple(pairs), head | about)


def market_of(
    ohlcv_1h: BarStore,
    symbols: tuple[str, ...],
    features: FeatureParams,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
) -> pd.Series | None:
    """The market's volatility over some symbols' hourly bars; None where no feature uses it."""
    if "market_volatility" not in features.include:
        return None
    closes = ohlcv_1h.wide("close", symbols, start, end)
    return market_volatility(closes, window=features.market_window_hours, min_fill=features.min_window_fill)


def _digest(market: pd.Series | None) -> str | None:
    return None if market is None else frame_hash(market.to_frame())


def _to_make(stored: Partitions, keys: Mapping[str, str], what: str) -> list[str]:
    """The pairs that are not stored as made from what their keys stand for."""
    todo = [pair_id for pair_id, key in sorted(keys.items()) if not stored.is_current(pair_id, key)]
    LOGGER.info("%s: %d of %d pairs to be made, the others are as stored", what, len(todo), len(keys))
    return todo


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
    pair_datasets_stored: Partitions,
) -> Iterator[dict[str, Keyed] | Commit]:
    """Labelled rows of every pair: the features of event rows, the label, and when it was known.

    The manifest says of each pair its base rate and the mean uniqueness of its labels.
    """
    must_follow(roster, pair_features=pair_features)
    names = pair_features.meta["feature_names"]
    pairs = Roster.parse(roster).pairs
    spec = core_labels.spec_hash(labels)
    keys = {
        pair_id: content_hash([spec, digest, [ohlcv_5m.digest_of(symbol) for symbol in pairs[pair_id].symbols]])
        for pair_id, digest in pair_features.digests.items()
    }

    def build(pair_id: str) -> tuple[str, pd.DataFrame]:
        frame, (bars_a, bars_b) = pair_features[pair_id], (ohlcv_5m[symbol] for symbol in pairs[pair_id].symbols)
        labelled = core_labels.label(frame, bars_a, bars_b, labels)
        return pair_id, frame.loc[labelled.index, names].join(labelled)

    notes = {pair_id: pair_datasets_stored.entry(pair_id) for pair_id in pair_datasets_stored}
    for pair_id, frame in fan_out(
        build, _to_make(pair_datasets_stored, keys, "labels"), compute, "labels", reads=ohlcv_5m
    ):
        said = {
            "n_positive": int(frame["label"].sum()),
            "base_rate": number(float(frame["label"].mean())),
            "mean_uniqueness": number(label_uniqueness(frame.assign(pair_id=pair_id)).mean()) if len(frame) else None,
        }
        notes[pair_id] = {"rows": len(frame), **said}
        yield {pair_id: Keyed(frame, keys[pair_id], said)}
    n_rows, n_positive = (sum(notes[pair_id][name] for pair_id in keys) for name in ("rows", "n_positive"))
    base_rate = n_positive / n_rows if n_rows else None
    LOGGER.info("labels: %d rows, base rate %s", n_rows, "unknown" if base_rate is None else f"{base_rate:.3f}")
    head = header(roster["as_of"], {"pair_features": pair_features, "roster": roster}, {"labels": labels})
    of_features = {name: pair_features.meta[name] for name in ("feature_spec", "feature_names", "market_symbols")}
    yield Commit(tuple(keys), {**head, **of_features, "n_rows": n_rows, "base_rate": base_rate})
