"""How fast the rolling hedge ratio, spread and z-score are, and how exact; what all features of a pair cost.

    make bench-features
    python benchmarks/features.py --bars 20000 --pairs 2

Three parts:

* ``exact``: z of log prices, level prices, trends, jumps and prices with missing bars against a fit of each window anew
  in extended precision; the same bits from a history of just the windows, as live has it.
* ``peers``: hedge ratio over 1,000 bars, spread, z over 300, of 150,000 bars on one core, against pandas rolling,
  polars rolling and, on a slice and multiplied up, the RollingOLS of statsmodels; all in processor time, with freed
  memory kept. Also one new bar: the last row from the bars its windows need.
* ``whole``: ``build_features`` with the project's parameters for 20 pairs of 150,000 bars on two threads: seconds, and
  the peak of memory with pairs made one by one and dropped.

The last line has the figures; the exit code is 1 when z is not exact, a bit differs, or a goal is missed. Goals are
ratios between runs on one machine, never seconds.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import yaml
from threadpoolctl import threadpool_limits

from mntrading.core.features import build_features, warm_up_bars
from mntrading.core.spread import kalman_hedge, rolling_hedge, spread, zscore
from mntrading.params import FeatureParams

CONF = Path(__file__).parents[1] / "conf/base/parameters_feature_engineering.yml"
HEDGE, Z = 1000, 300
REPEATS = 7
THREADS = 2
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MAX_ERROR = 1e-11
FASTER = {"pandas": 5.0, "statsmodels": 500.0}
FASTER_LIVE = {"pandas": 5.0}


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Least processor time of a call: what others do on the machine has the least part in it."""
    call()
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


def keep_freed_memory() -> None:
    """Have the allocator keep what is freed.

    A page that is given back and taken anew costs what the machine makes it cost, a multiple of the sums themselves on
    a virtual one, and whether it is given back depends on what else the process holds.
    """
    libc = ctypes.CDLL(None)
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        libc.mallopt(option, 1 << 30)


def prices(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log prices of a cointegrated pair."""
    rng = np.random.default_rng(seed)
    b = 4.0 + np.cumsum(rng.normal(0, 0.002, n))
    noise, shock = np.zeros(n), rng.normal(0, 0.002, n)
    for t in range(1, n):
        noise[t] = 0.99 * noise[t - 1] + shock[t]
    return 1.5 + 0.7 * b + noise, b


# --- exact ---


def kinds(n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every kind of price."""
    a, b = prices(n, 1)
    rng = np.random.default_rng(2)
    trend = np.linspace(0, 2, n)
    jump = np.where(rng.random(n) < 0.002, rng.normal(0, 0.3, n), 0.0).cumsum()
    holed = [np.where(rng.random(n) < 0.02, np.nan, values) for values in (a, b)]
    return {
        "log": (a, b),
        "level": (np.exp(a), np.exp(b)),
        "level of 100,000": (np.exp(a + 6), np.exp(b + 7)),
        "trend": (a + trend, b + 1.1 * trend),
        "jumps": (a + 0.7 * jump, b + jump),
        "missing bars": (holed[0], holed[1]),
    }


def ours(a: np.ndarray, b: np.ndarray, first_bar: int = 0, min_fill: float = 1.0) -> np.ndarray:
    """z by the project's functions."""
    alpha, beta = rolling_hedge(a, b, window=HEDGE, first_bar=first_bar, min_fill=min_fill)
    return zscore(spread(a, b, alpha, beta), window=Z, lag=1, first_bar=first_bar, min_fill=min_fill)


def by_filter(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """z by the project's functions, with the Kalman filter."""
    alpha, beta = kalman_hedge(a, b, window=HEDGE, delta=1e-6)
    return zscore(spread(a, b, alpha, beta), window=Z, lag=1)


def extended(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """z with every window fitted anew in extended precision, two passes each."""
    n = len(a)
    y, x = a.astype(np.longdouble), b.astype(np.longdouble)
    value = np.full(n, np.nan, dtype=np.longdouble)
    for t in range(HEDGE, n):
        both = ~np.isnan(y[t - HEDGE : t] + x[t - HEDGE : t])
        dy, dx = y[t - HEDGE : t][both], x[t - HEDGE : t][both]
        my, mx = dy.mean(), dx.mean()
        dy, dx = dy - my, dx - mx
        beta = (dx * dy).sum() / (dx * dx).sum()
        value[t] = y[t] - my - beta * (x[t] - mx)
    z = np.full(n, np.nan, dtype=np.longdouble)
    for t in range(HEDGE + Z, n):
        past = value[t - Z : t]
        past = past[~np.isnan(past)]
        centre = past.mean()
        z[t] = (value[t] - centre) / np.sqrt(((past - centre) ** 2).sum() / (len(past) - 1))
    return z


# --- peers ---


def by_pandas(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """z by pandas' rolling sums."""
    y, x = pd.Series(a), pd.Series(b)
    windows = x.rolling(HEDGE)
    beta = windows.cov(y) / windows.var()
    alpha = y.rolling(HEDGE).mean() - beta * windows.mean()
    value = y - (beta.shift() * x + alpha.shift())
    past = value.rolling(Z)
    return ((value - past.mean().shift()) / past.std().shift()).to_numpy()


def by_polars(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """z by polars' rolling sums."""
    y, x = pl.col("y"), pl.col("x")
    beta = pl.rolling_cov(y, x, window_size=HEDGE) / x.rolling_var(HEDGE)
    frame = pl.DataFrame({"y": a, "x": b}).with_columns(beta=beta)
    frame = frame.with_columns(alpha=y.rolling_mean(HEDGE) - pl.col("beta") * x.rolling_mean(HEDGE))
    # rolling functions of polars take NaN for a number; what is not known has to be null
    frame = frame.with_columns(s=(y - (pl.col("beta").shift() * x + pl.col("alpha").shift())).fill_nan(None))
    s = pl.col("s")
    return frame.select((s - s.rolling_mean(Z).shift()) / s.rolling_std(Z).shift())["s"].to_numpy()


def by_statsmodels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """z by the RollingOLS of statsmodels and pandas' rolling sums."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from statsmodels.regression.rolling import RollingOLS
    fit = RollingOLS(a, np.column_stack([np.ones(len(b)), b]), window=HEDGE).fit(params_only=True).params
    value = pd.Series(a - (np.roll(fit[:, 1], 1) * b + np.roll(fit[:, 0], 1)))
    past = value.rolling(Z)
    return ((value - past.mean().shift()) / past.std().shift()).to_numpy()


# --- whole ---


def project_params() -> FeatureParams:
    """The project's own feature parameters."""
    return FeatureParams.model_validate(yaml.safe_load(CONF.read_text())["feature_engineering"]["features"])


def legs_of(n: int, seed: int) -> list[pd.DataFrame]:
    """Bars of a pair."""
    stamps = pd.date_range("2024-01-01", periods=n, freq="5min", tz="UTC", unit="ms")
    volume = np.random.default_rng(seed).lognormal(3, 1, n)
    return [
        pd.DataFrame({"timestamp": stamps, "symbol": name, "close": np.exp(values), "volume": volume})
        for name, values in zip("AB", prices(n, seed), strict=True)
    ]


def peak_gib() -> float:
    """Most memory this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def all_pairs(answer: Any, n_bars: int, n_pairs: int) -> None:
    """Features of every pair on two threads; put seconds, with one thread too, the peak of memory and that before."""
    params = project_params()
    legs = [legs_of(n_bars, seed) for seed in range(4)]
    build_features(*(bars.iloc[:20_000] for bars in legs[0]), params)

    def make(k: int) -> int:
        return len(build_features(*legs[k % len(legs)], params))

    before, spent = peak_gib(), {}
    for n_threads in (THREADS, 1):
        began = time.perf_counter()
        for _ in joblib.Parallel(n_jobs=n_threads, backend="threading", return_as="generator")(
            joblib.delayed(make)(k) for k in range(n_pairs)
        ):
            pass
        spent[n_threads] = time.perf_counter() - began
    answer.put((spent[THREADS], spent[1], peak_gib(), before))


def alone(n_bars: int, n_pairs: int) -> tuple[float, float, float, float]:
    """The same in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=all_pairs, args=(answer, n_bars, n_pairs))
    process.start()
    found: tuple[float, float, float, float] = answer.get()
    process.join()
    return found


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=150_000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--exact-bars", type=int, default=6000, help="bars fitted in extended precision, of each kind")
    asked = parser.parse_args()
    broken: list[str] = []
    figures: dict[str, Any] = {}

    worst = 0.0
    for kind, (a, b) in kinds(asked.exact_bars).items():
        exact, mine = extended(a, b), ours(a, b, 12_345, 0.9 if kind == "missing bars" else 1.0)
        known = ~np.isnan(exact) & ~np.isnan(mine)
        assert known.sum() > 0.9 * (asked.exact_bars - HEDGE - Z - 1), kind
        error = float(np.abs(mine[known] - exact[known]).max())
        peer = "" if kind == "missing bars" else f" (pandas {np.abs(by_pandas(a, b)[known] - exact[known]).max():.1e})"
        say(f"z of {kind:17} |Δz| ≤ {error:.1e} against extended precision{peer}")
        worst = max(worst, error)
    figures["worst_dz"] = float(f"{worst:.1e}")
    if worst > MAX_ERROR:
        broken.append(f"z is off by {worst:.1e}, bound {MAX_ERROR}")
    a, b = prices(asked.bars)
    whole, need, differ = ours(a, b), HEDGE + Z + 1, 0
    for t in range(asked.bars - 1000, asked.bars):
        last = ours(a[t + 1 - need : t + 1], b[t + 1 - need : t + 1], t + 1 - need)[-1]
        differ += last.tobytes() != whole[t].tobytes()
    figures["live_bits_differ"] = differ
    say(f"1,000 live rows from {need:,} bars each: {differ} differ from the whole history's\n")
    if differ:
        broken.append(f"{differ} live rows differ")

    slice_ = min(asked.bars, 20_000)
    keep_freed_memory()
    with threadpool_limits(1):
        spent = {
            "ours": seconds(lambda: ours(a, b), 3 * REPEATS),
            "pandas": seconds(lambda: by_pandas(a, b)),
            "polars": seconds(lambda: by_polars(a, b)),
            "statsmodels": seconds(lambda: by_statsmodels(a[:slice_], b[:slice_]), 1) * asked.bars / slice_,
            "ours, Kalman filter": seconds(lambda: by_filter(a, b)),
        }
    say(f"hedge ratio, spread and z of {asked.bars:,} bars, one core")
    for name, time_ in spent.items():
        say(f"  {name:20} {1e9 * time_ / asked.bars:10,.1f} ns a bar {time_ / spent['ours']:10,.1f}×")
        figures[f"{name.replace(', ', '_').replace(' ', '_')}_ns"] = round(1e9 * time_ / asked.bars, 1)
    figures |= {f"{peer}_ratio": round(spent[peer] / spent["ours"], 1) for peer in ("pandas", "polars", "statsmodels")}
    for peer, least in FASTER.items():
        if spent[peer] < least * spent["ours"]:
            broken.append(f"{spent[peer] / spent['ours']:.1f} times {peer}, goal {least:.0f}")
    tail_a, tail_b = a[-need:].copy(), b[-need:].copy()
    live = {
        "ours": seconds(lambda: ours(tail_a, tail_b, asked.bars - need), 200),
        "pandas": seconds(lambda: by_pandas(tail_a, tail_b), 50),
    }
    say(f"one new bar: {1e6 * live['ours']:.0f} µs (pandas {1e6 * live['pandas']:.0f} µs)")
    figures |= {f"live_{name}_us": round(1e6 * time_, 1) for name, time_ in live.items()}
    for peer, least in FASTER_LIVE.items():
        if live[peer] < least * live["ours"]:
            broken.append(f"a new bar in {live[peer] / live['ours']:.1f} of the time of {peer}, goal {least:.0f}")

    params = project_params()
    legs = [bars.iloc[-warm_up_bars(params) - 1 :] for bars in legs_of(warm_up_bars(params) + 1, 0)]
    row = seconds(lambda: build_features(legs[0], legs[1], params), 30)
    say(f"all features of one new bar, from {warm_up_bars(params) + 1:,} bars: {1e3 * row:.1f} ms")
    two, one, memory, before = alone(asked.bars, asked.pairs)
    say(
        f"\nall features of {asked.pairs} pairs of {asked.bars:,} bars: {two:.2f} s on {THREADS} threads "
        f"({one:.2f} s on one), {1e9 * two / asked.bars / asked.pairs:.0f} ns a bar and pair; "
        f"peak {memory:.2f} GiB (bars alone {before:.2f})"
    )
    figures |= {
        "live_features_ms": round(1e3 * row, 2), "whole_s": round(two, 2),
        "whole_ns_a_bar_and_pair": round(1e9 * two / asked.bars / asked.pairs), "whole_one_thread_s": round(one, 2),
        "peak_gib": round(memory, 2), "peak_before_gib": round(before, 2),
    }  # fmt: skip
    say(f"\nbench-features: {json.dumps(figures)} {'BROKEN: ' + ', '.join(broken) if broken else 'ok'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
