"""Whether live features are those of research, bit for bit, and whether any row sees a later bar.

    make parity
    MNTRADING_SAMPLE_BARS=/path/to/bars make parity

Three parts, each with least squares and with the Kalman filter, with every bar there and with some missing:

* ``live``: with the project's parameters and every feature there is, 1,000 bars of 5 pairs of the demo market, and of
  real bars where ``MNTRADING_SAMPLE_BARS`` names a folder with ``ohlcv_5m.parquet`` and ``ohlcv_1h.parquet``. Each row
  is made anew from the ``warm_up_bars + 1`` bars that end with it, as live inference makes it, and compared with that
  of the whole history.
* ``cut``: a history of 2,000 bars cut off at each of its bars; log and level prices.
* ``start``: the same history begun at 50 of its rows, compared past warm-up.

The last line has the figures; the exit code is 1 when a single bit differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml

from mntrading.core import simulation
from mntrading.core.bars import times_ms, to_ms, wide
from mntrading.core.feature_set import REGISTRY
from mntrading.core.features import build_features, warm_up_bars
from mntrading.core.market_volatility import market_volatility
from mntrading.params import FeatureParams

CONF = Path(__file__).parents[1] / "conf/base/parameters_feature_engineering.yml"
SAMPLE = "MNTRADING_SAMPLE_BARS"
MAJORS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "AVAX", "LTC", "DOT")
HOUR = pd.Timedelta(1, unit="h")
MISSING = 0.01
SEED = 0

Legs = tuple[pd.DataFrame, pd.DataFrame]


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def project_params(**changes: Any) -> FeatureParams:
    """The project's own feature parameters, with every feature there is."""
    given = yaml.safe_load(CONF.read_text())["feature_engineering"]["features"]
    return FeatureParams.model_validate(given | {"include": list(REGISTRY)} | changes)


@dataclass(frozen=True)
class Count:
    """Values compared, those of them that are known, and those that differ in some bit."""

    values: int = 0
    known: int = 0
    different: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.values + other.values, self.known + other.known, self.different + other.different)


def compared(left: pd.DataFrame, right: pd.DataFrame) -> Count:
    """Compare two frames of floats bit by bit; any NaN is one value."""
    assert list(left.columns) == list(right.columns)
    assert left.index.equals(right.index)
    a, b = (np.where(np.isnan(frame), np.nan, frame).view(np.int64) for frame in (left.to_numpy(), right.to_numpy()))
    return Count(a.size, int(np.isfinite(left.to_numpy()).sum()), int((a != b).sum()))


# --- live


@dataclass(frozen=True)
class World:
    """Bars by symbol, hourly closes of all symbols, and the pairs to look at."""

    name: str
    bars: dict[str, pd.DataFrame]
    hourly: pd.DataFrame
    pairs: tuple[tuple[str, str], ...]


def demo(n_pairs: int) -> World:
    """The demo market: its planted pairs."""
    made = simulation.market("demo", seed=SEED)
    planted = made.truth[["dependent", "independent"]].itertuples(index=False, name=None)
    pairs = tuple(planted)[:n_pairs]
    hourly = wide(made.bars("1h"), "close", "1h")
    frame = made.bars("5m")
    wanted = sorted({symbol for pair in pairs for symbol in pair})
    return World("demo", {s: frame.loc[frame["symbol"] == s].reset_index(drop=True) for s in wanted}, hourly, pairs)


def real(folder: Path, n_pairs: int) -> World:
    """Exchange bars of the major coins, each with the next."""
    listed = pd.read_csv(folder / "quality_5m.csv")["symbol"].tolist()
    names = [name for base in MAJORS for name in listed if name.split("/")[0] == base]
    pairs = tuple(zip(names[1:], names, strict=False))[:n_pairs]
    wanted = sorted({symbol for pair in pairs for symbol in pair})
    frame = pd.read_parquet(folder / "ohlcv_5m.parquet", filters=[("symbol", "in", wanted)])
    hours = pd.read_parquet(folder / "ohlcv_1h.parquet", columns=["timestamp", "symbol", "close"])
    bars = {s: frame.loc[frame["symbol"] == s].sort_values("timestamp").reset_index(drop=True) for s in wanted}
    return World("real", bars, wide(hours, "close", "1h"), pairs)


def holed(bars: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Bars without a share of them, the first and the last kept."""
    kept = np.random.default_rng(seed).random(len(bars)) >= share
    kept[[0, -1]] = True
    return bars.loc[kept].reset_index(drop=True)


def live_rows(legs: Legs, hourly: pd.DataFrame, params: FeatureParams, n_bars: int) -> Count:
    """Rows of the last bars, each from a history of its own, against those of the whole."""
    span = params.market_window_hours
    fill = params.min_window_fill
    whole = build_features(*legs, params, market=market_volatility(hourly, window=span, min_fill=fill))
    opens = [times_ms(bars["timestamp"]) for bars in legs]
    step = int((whole.index[1] - whole.index[0]) / pd.Timedelta(1, unit="ms"))
    found, hour, market = Count(), None, None
    for moment in whole.index[-n_bars:]:
        at = to_ms(moment)
        # what live inference does: the bars it needs, and the hours of two windows and one
        begin = [int(np.searchsorted(o, at - warm_up_bars(params) * step)) for o in opens]
        end = [int(np.searchsorted(o, at, side="right")) for o in opens]
        closed = (moment + pd.Timedelta(step, unit="ms")).floor("h")
        if closed != hour:
            hour = closed
            known = hourly.loc[closed - (2 * span + 1) * HOUR : closed - HOUR]
            market = market_volatility(known, window=span, min_fill=fill)
        short = [bars.iloc[i:j] for bars, i, j in zip(legs, begin, end, strict=True)]
        row = build_features(*short, params, market=market).reindex([moment])
        expected = whole.loc[[moment]]
        if not len(short[0]) or min(o[j - 1] for o, j in zip(opens, end, strict=True)) < at:
            continue  # a leg has no bar here: live has no row, and waits
        found += compared(row, expected)
    return found


# --- the fixture of 2,000 bars


def fixture(seed: int, missing: float, n_bars: int) -> Legs:
    """Bars of a cointegrated pair."""
    rng = np.random.default_rng(seed)
    log_b = 4.0 + np.cumsum(rng.normal(0, 0.003, n_bars))
    noise = np.zeros(n_bars)
    for t in range(1, n_bars):
        noise[t] = 0.9 * noise[t - 1] + rng.normal(0, 0.004)
    stamps = pd.date_range("2025-03-01", periods=n_bars, freq="5min", tz="UTC", unit="ms")
    legs = []
    for k, log_close in enumerate((0.5 + 0.8 * log_b + noise, log_b)):
        volume = rng.lognormal(5, 1, n_bars)
        bars = pd.DataFrame({"timestamp": stamps, "symbol": "AB"[k], "close": np.exp(log_close), "volume": volume})
        legs.append(holed(bars, missing, seed + k))
    return legs[0], legs[1]


def small(**changes: Any) -> FeatureParams:
    """Windows that the fixture fills some times over."""
    windows = {"beta_window": 150, "z_window": 60, "volatility_window": 24, "lag_features": 3, "market_window_hours": 3}
    return project_params(**windows, **changes)


def cuts(legs: Legs, params: FeatureParams, n_bars: int) -> Count:
    """Every row and all before it, with nothing after it, against those of the whole."""
    whole, found = build_features(*legs, params), Count()
    for t in range(1, n_bars - 1):
        moment = whole.index[t]
        early = build_features(*(bars.loc[bars["timestamp"] <= moment] for bars in legs), params)
        found += compared(early, whole.loc[early.index])
    return found


def starts(legs: Legs, params: FeatureParams, n_starts: int) -> Count:
    """Rows past warm-up of histories that begin later, against those of the whole."""
    whole, found = build_features(*legs, params), Count()
    warm = warm_up_bars(params)
    for first in np.linspace(1, len(whole) - warm - 100, n_starts).astype(int):
        late = build_features(*(bars.loc[bars["timestamp"] >= whole.index[first]] for bars in legs), params)
        settled = late.loc[late.index >= whole.index[first + warm]]
        found += compared(settled, whole.loc[settled.index])
    return found


def main() -> int:
    """Compare, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=1000, help="live bars of each pair")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cut-bars", type=int, default=2000, help="length of the history that is cut, 1,000 or more")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    figures: dict[str, Any] = {}
    total, idle = Count(), list[str]()

    def told(name: str, tasks: Iterator[Any]) -> None:
        nonlocal total
        found = sum(joblib.Parallel(n_jobs=asked.jobs)(tasks), Count())
        total += found
        idle.extend([name] if 2 * found.known < found.values or not found.values else [])
        figures[name] = found.different
        say(f"{name:34} {found.values:>12,} values, {found.known:>12,} known, {found.different} differ")

    hedges, shares = ("ols", "kalman"), (0.0, MISSING)
    worlds = [demo(asked.pairs)]
    if os.environ.get(SAMPLE):
        worlds.append(real(Path(os.environ[SAMPLE]), asked.pairs))
    else:
        say(f"{SAMPLE} names no folder: no real bars")
    for world in worlds:
        for hedge in hedges:
            for share in shares:
                params = project_params(hedge=hedge)
                legs = [tuple(holed(world.bars[s], share, k) for k, s in enumerate(pair)) for pair in world.pairs]
                told(
                    f"live, {world.name}, {hedge}{', missing bars' if share else ''}",
                    (joblib.delayed(live_rows)(pair, world.hourly, params, asked.bars) for pair in legs),
                )
    combinations = [(hedge, share, price) for hedge in hedges for share in shares for price in ("log", "level")]
    given = [
        (fixture(SEED, share, asked.cut_bars), small(hedge=hedge, price=price)) for hedge, share, price in combinations
    ]
    told("cut at every bar", (joblib.delayed(cuts)(legs, params, asked.cut_bars) for legs, params in given))
    told("begun at 50 rows", (joblib.delayed(starts)(legs, params, 50) for legs, params in given))
    figures |= {"values": total.values, "known": total.known, "different": total.different}
    broken = [f"nothing to compare: {name}" for name in idle]
    broken += [f"{total.different} values differ"] if total.different else []
    say(f"\nparity: {json.dumps(figures)} {'BROKEN: ' + ', '.join(broken) if broken else 'ok'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
