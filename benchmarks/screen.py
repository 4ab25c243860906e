"""How fast all pairs are tested for cointegration, and whether the results are those of statsmodels.

    make bench-screen
    python benchmarks/screen.py --sizes 50 100 --large 1000

Three parts:

* ``exact``: some thousands of tests over every kind of price against ``statsmodels.tsa.stattools.coint``: lag,
  statistic and p-value. Near-collinear pairs, which are tested from their residuals, also against a regression in
  extended precision, as statsmodels itself is off by some 1e-9 there.
* ``peers``: the whole screen of 8,760 bars by AIC, against statsmodels (one process, and joblib with two), arch and
  a NumPy version with one Gram matrix and one Cholesky factor per pair. The peers are timed on a sample of pairs and
  multiplied up to the whole, and BLAS is held to one thread, which is their fastest setting. Everyone's time is the
  shortest of some, as others may be using the machine.
* ``large``: universes of thousands of symbols, late listings too, each in a process of its own for its peak of memory;
  the largest also with its rows handed out tile by tile, which must take less than the table of all pairs would.

The last line has the figures, the machine's load among them: goals in seconds are for one that is not
busy. The exit code is 1 when a result is not that of statsmodels or a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from mntrading.core.cointegration import default_max_lag, engle_granger_pairs, engle_granger_tiles
from mntrading.core.moments import Blocks

N_BARS = 8760
THREADS = 2
REPEATS = 5
SEVERAL = 1000  # symbols up to which whole screens are timed so often
NEAR_COLLINEAR = 1e-3

# whole screen at N=200: times faster than each; seconds by number of symbols; peak in GiB at the largest
FASTER = {"statsmodels": 20_000.0, "arch": 1_000.0, "numpy": 100.0}
SECONDS = {200: 0.5, 1000: 5.0, 5000: 120.0}
PEAK_GIB = 4.0
TILES_GIB = 1.0  # beyond the prices, whatever the number of pairs


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# --- prices ---


def walks(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Log prices (T × n) that share a factor."""
    factor = rng.normal(0, 0.01, n_bars).cumsum()
    own = rng.normal(0, 0.008, (n_bars, n)).cumsum(axis=0)
    return rng.uniform(-4, 11, n) + factor[:, None] * rng.uniform(0.5, 1.5, n) + own


def cointegrated(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Every series a multiple of the first, but for a stationary spread."""
    base, spread = walks(n_bars, 1, rng), np.zeros((n_bars, n))
    shock = rng.normal(0, 0.005, (n_bars, n))
    for t in range(1, n_bars):
        spread[t] = 0.8 * spread[t - 1] + shock[t]
    return 2.0 + base * rng.uniform(0.5, 1.5, n) + spread


def ticks(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Prices of a few hundred ticks."""
    return np.log(np.round(np.exp(0.2 * walks(n_bars, n, rng) + 1.0), 2))


def stale(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Three bars of four repeat the last price."""
    kept = rng.random((n_bars, n)) < 0.25
    kept[0] = True
    last = np.maximum.accumulate(np.where(kept, np.arange(n_bars)[:, None], 0), axis=0)
    return np.take_along_axis(walks(n_bars, n, rng), last, axis=0)


def jumps(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Lasting jumps, at the ends too."""
    hit = rng.random((n_bars, n)) < 0.01
    hit[[1, 2, -2, -1]] = True
    return walks(n_bars, n, rng) + np.where(hit, rng.normal(0, 0.5, (n_bars, n)), 0.0).cumsum(axis=0)


def spikes(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Bad ticks, at the ends too."""
    hit = rng.random((n_bars, n)) < 0.01
    hit[[0, 3, -4, -1]] = True
    return walks(n_bars, n, rng) + np.where(hit, rng.normal(0, 1.0, (n_bars, n)), 0.0)


def near_collinear(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """One series, with noise whose share of the variance falls from 1e-2 below the bound of collinearity."""
    base, noise = walks(n_bars, 1, rng), rng.normal(size=(n_bars, n))
    for t in range(1, n_bars):
        noise[t] += 0.5 * noise[t - 1]
    return base * rng.uniform(0.5, 1.5, n) + noise / noise.std(axis=0) * base.std() * np.logspace(-1, -4, n)


def white(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """No unit root at all."""
    return 5.0 + rng.normal(0, 0.01, (n_bars, n))


def late(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Walks listed at different bars, so that pairs have windows of their own."""
    starts = rng.integers(0, n_bars // 2, n)
    return np.where(np.arange(n_bars)[:, None] < starts, np.nan, walks(n_bars, n, rng))


def still(n_bars: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """A price that never moves among others, which can't be tested."""
    values = walks(n_bars, n, rng)
    values[:, 0] = values[0, 0]
    return values


KINDS = (walks, cointegrated, ticks, stale, jumps, spikes, near_collinear, white, late, still)


def frame(values: np.ndarray) -> pd.DataFrame:
    """Hourly bars of symbols S0, S1, …"""
    index = pd.date_range("2025-01-01", periods=len(values), freq="h", tz="UTC")
    return pd.DataFrame(values, index=index, columns=[f"S{k}" for k in range(values.shape[1])])


# --- peers ---


def statsmodels_test(y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Statistic and p-value."""
    from statsmodels.tsa.stattools import coint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = coint(y, x, trend="c", autolag="aic")
    return float(found[0]), float(found[1])


def statsmodels_lag(y: np.ndarray, x: np.ndarray) -> int:
    """The lag coint chose, which it keeps to itself."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tsa.stattools import adfuller

    residual = OLS(y, np.column_stack((x, np.ones(len(x))))).fit().resid
    return int(adfuller(residual, regression="n", autolag="aic", result_object=True).lags)


def arch_test(y: np.ndarray, x: np.ndarray) -> float:
    """Statistic."""
    from arch.unitroot.cointegration import engle_granger

    return float(engle_granger(y, x, trend="c", method="aic").stat)


def numpy_test(y: np.ndarray, x: np.ndarray) -> float:
    """Statistic by one Gram matrix and one Cholesky factor for the lag, and small ones for the refit."""
    y, x = y - y.mean(), x - x.mean()
    e = y - (x @ y) / (x @ x) * x
    d = np.diff(e)
    p = default_max_lag(len(e))

    def moments(q: int) -> tuple[np.ndarray, int]:
        """Gram matrix of the level, the q lags and the difference itself."""
        lagged = np.lib.stride_tricks.sliding_window_view(d, q + 1)
        columns = np.empty((q + 2, len(lagged)))
        columns[0], columns[1 : q + 1], columns[-1] = e[q:-1], lagged.T[q - 1 :: -1] if q else lagged.T[:0], d[q:]
        return columns @ columns.T, len(lagged)

    gram, rows = moments(p)
    w = solve_triangular(np.linalg.cholesky(gram[:-1, :-1]), gram[:-1, -1], lower=True, check_finite=False)
    rss = gram[-1, -1] - np.cumsum(w * w)
    lag = int(np.argmin(rows * np.log(rss) + 2.0 * np.arange(p + 1)))
    gram, rows = moments(lag)
    order = [*range(1, lag + 1), 0]
    w = solve_triangular(np.linalg.cholesky(gram[np.ix_(order, order)]), gram[order, -1], lower=True)
    return float(w[-1] / math.sqrt((gram[-1, -1] - w @ w) / (rows - lag - 1)))


def extended_test(y: np.ndarray, x: np.ndarray, lag: int) -> float:
    """Statistic with that lag by orthogonalisation in extended precision."""

    def centred(v: np.ndarray) -> np.ndarray:
        wide = v.astype(np.longdouble)
        wide = wide - wide.sum() / len(v)
        return wide - wide.sum() / len(v)

    y, x = centred(y), centred(x)
    e = y - (x * y).sum() / (x * x).sum() * x
    d = np.diff(e)
    target, basis = d[lag:], []

    def freed(v: np.ndarray) -> np.ndarray:
        for _ in range(2):
            for q in basis:
                v = v - (q * v).sum() * q
        return v

    for column in [*(d[lag - k : len(d) - k] for k in range(1, lag + 1)), e[lag:-1]]:
        column = freed(column)
        basis.append(column / np.sqrt((column * column).sum()))
    rest = freed(target)
    return float((basis[-1] * target).sum() / np.sqrt((rest * rest).sum() / (len(target) - lag - 1)))


# --- exact ---


@dataclass
class Agreement:
    """How far the tests compared are from statsmodels."""

    tests: int = 0
    untestable: int = 0
    collinear: int = 0
    wrong_lags: int = 0
    wrong_infinities: int = 0
    wrong_untestable: int = 0
    worst_t: float = 0.0
    worst_p: float = 0.0
    rechecked: int = 0
    worst_rechecked_t: float = 0.0

    def broken(self) -> list[str]:
        """What the results fail."""
        checks = (
            (self.tests < 2000, f"only {self.tests} tests compared"),
            (self.wrong_lags > 0, f"{self.wrong_lags} lags differ"),
            (self.wrong_infinities > 0, f"{self.wrong_infinities} collinear pairs differ"),
            (self.wrong_untestable > 0, f"{self.wrong_untestable} untestable pairs differ"),
            (not self.worst_t <= 1e-7, f"t is off by {self.worst_t:.1e}"),
            (not self.worst_p <= 1e-8, f"p is off by {self.worst_p:.1e}"),
            (not self.worst_rechecked_t <= 1e-9, f"t of a rechecked pair is off by {self.worst_rechecked_t:.1e}"),
        )
        return [why for wrong, why in checks if wrong]


def expected_of(y: np.ndarray, x: np.ndarray) -> tuple[float, float, int, float | None]:
    """Statistic, p-value and lag by statsmodels, and the statistic in extended precision if all but collinear."""
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return math.nan, 1.0, 0, None
    t, p = statsmodels_test(y, x)
    if not math.isfinite(t):
        return t, p, 0, None
    lag = statsmodels_lag(y, x)
    near = 1.0 - np.corrcoef(y, x)[0, 1] ** 2 < NEAR_COLLINEAR
    return t, p, lag, extended_test(y, x, lag) if near else None


def compare(n_seeds: int) -> Agreement:
    """Every kind of price at lengths from 60 bars to 20,000."""
    jobs: list[tuple[np.ndarray, np.ndarray]] = []
    rows: list[Any] = []
    for n_bars, n_series, seeds in (
        (60, 4, n_seeds), (137, 4, n_seeds), (500, 4, n_seeds), (1440, 3, 3), (8760, 2, 1), (20_000, 2, 1),
    ):  # fmt: skip
        for number, kind in enumerate(KINDS):
            for seed in range(seeds):
                prices = frame(kind(n_bars, n_series, np.random.default_rng((n_bars, number, seed))))
                for row in engle_granger_pairs(prices, n_threads=THREADS).itertuples():
                    common = prices[[row.dependent, row.independent]].dropna().to_numpy()
                    jobs.append((common[:, 0], common[:, 1]))
                    rows.append(row)
    found = Agreement()
    with joblib.Parallel(n_jobs=THREADS, batch_size=16) as pool:
        expected = pool(joblib.delayed(expected_of)(*job) for job in jobs)
    for row, (t, p, lag, extended) in zip(rows, expected, strict=True):
        found.tests += 1
        if math.isnan(t) or math.isnan(row.t_stat):
            found.untestable += 1
            found.wrong_untestable += not (math.isnan(t) and math.isnan(row.t_stat) and row.p_value == 1.0)
            continue
        if math.isinf(t) or math.isinf(row.t_stat):
            found.collinear += 1
            found.wrong_infinities += (row.t_stat, row.p_value, row.lag) != (t, p, lag)
            continue
        found.wrong_lags += row.lag != lag
        found.worst_t = max(found.worst_t, abs(row.t_stat - t))
        found.worst_p = max(found.worst_p, abs(row.p_value - p))
        if extended is not None:
            found.rechecked += 1
            found.worst_rechecked_t = max(found.worst_rechecked_t, abs(row.t_stat - extended))
    return found


# --- peers ---


def seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Shortest time of a call."""
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)


def sample(n: int, size: int) -> Iterator[tuple[int, int]]:
    """Ordered pairs drawn at random."""
    rng = np.random.default_rng(n)
    for _ in range(size):
        yield tuple(int(k) for k in rng.choice(n, 2, replace=False))  # type: ignore[misc]


def per_test(test: Callable[[np.ndarray, np.ndarray], Any], values: np.ndarray, size: int) -> float:
    """Seconds of one test, the shortest of a sample of pairs: all have as many bars and lags to choose from."""
    test(values[:, 0], values[:, 1])
    columns = [np.ascontiguousarray(values[:, k]) for k in range(values.shape[1])]
    return min(seconds(lambda y=y, x=x: test(columns[y], columns[x]), 1) for y, x in sample(values.shape[1], size))


def flops_per_test(n_bars: int) -> float:
    """Operations of the method for one ordered pair, the refit left out."""
    p = default_max_lag(n_bars)
    blocks = Blocks.cheapest(n_bars, p + 1)
    products = 2.0 * n_bars + blocks.frequencies * (4.0 * blocks.count + p + 1)
    return products / 2.0 + p**3 / 3.0 + 6.0 * p**2


def dgemm_rate(threads: int) -> float:
    """Operations a second of a large matrix product."""
    a = np.random.default_rng(0).random((2000, 2000))
    with threadpool_limits(threads):
        return 2.0 * 2000**3 / seconds(lambda: a @ a)


def table_of_peers(sizes: list[int]) -> dict[int, dict[str, float]]:
    """Whole-screen seconds by number of symbols and peer."""
    table: dict[int, dict[str, float]] = {}
    for n in sizes:
        values = walks(N_BARS, n, np.random.default_rng(n))
        prices = frame(values)
        tests = n * (n - 1)
        ours = {
            k: seconds(lambda k=k, prices=prices: engle_granger_pairs(prices, n_threads=k), 4 * REPEATS)
            for k in (1, THREADS)
        }
        pairs = [(values[:, y].copy(), values[:, x].copy()) for y, x in sample(n, 16)]
        with joblib.Parallel(n_jobs=THREADS) as pool:
            pool(joblib.delayed(statsmodels_test)(*pair) for pair in pairs[:2])
            began = time.perf_counter()
            pool(joblib.delayed(statsmodels_test)(*pair) for pair in pairs)
            both = (time.perf_counter() - began) / len(pairs)
        table[n] = {
            "statsmodels": tests * per_test(statsmodels_test, values, 10),
            "statsmodels, joblib × 2": tests * both,
            "arch": tests * per_test(arch_test, values, 30),
            "numpy": tests * per_test(numpy_test, values, 100),
            "ours": ours[1],
            f"ours, {THREADS} threads": ours[THREADS],
        }
    return table


# --- large ---


def peak_gib() -> float:
    """Most memory this process has held; that of ``getrusage`` would count the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def memory_gib() -> float:
    """Memory this process holds; the peak starts anew from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_gib()


def stream_alone(answer: Any, n_bars: int, n: int) -> None:
    """Have the rows of a screen tile by tile; put seconds, tests, peak of memory (GiB) and memory before."""
    engle_granger_pairs(frame(walks(200, 20, np.random.default_rng(0))), n_threads=THREADS)
    prices = frame(walks(n_bars, n, np.random.default_rng(n)))
    before = memory_gib()
    began = time.perf_counter()
    tests = sum(len(tile) for tile in engle_granger_tiles(prices, n_threads=THREADS))
    answer.put((time.perf_counter() - began, tests, peak_gib(), before))


def screen_alone(answer: Any, n_bars: int, n: int, n_starts: int) -> None:
    """Screen in this process; put seconds, peak of memory (GiB) and what the peak was before."""
    engle_granger_pairs(frame(walks(200, 20, np.random.default_rng(0))), n_threads=THREADS)
    rng = np.random.default_rng(n)
    values = walks(n_bars, n, rng)
    if n_starts > 1:
        starts = np.linspace(0, n_bars // 2, n_starts).astype(int)[rng.integers(0, n_starts, n)]
        values = np.where(np.arange(n_bars)[:, None] < starts, np.nan, values)
    prices = frame(values)
    before = peak_gib()
    spent = seconds(lambda: engle_granger_pairs(prices, n_threads=THREADS), REPEATS if n <= SEVERAL else 1)
    answer.put((spent, peak_gib(), before))


def alone(task: Callable[..., None], *given: int) -> Any:
    """What the task answers from a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=task, args=(answer, *given))
    process.start()
    found = answer.get()
    process.join()
    return found


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[50, 100, 200], help="symbols, against the peers")
    parser.add_argument("--large", type=int, nargs="*", default=[1000, 5000], help="symbols, alone")
    parser.add_argument("--seeds", type=int, default=8, help="universes of each kind and length, against statsmodels")
    asked = parser.parse_args()
    load_before = os.getloadavg()[0]
    engle_granger_pairs(frame(walks(200, 20, np.random.default_rng(0))), n_threads=THREADS)  # compile

    agreement = compare(asked.seeds)
    broken = agreement.broken()
    say(f"{agreement.tests:,} tests of {len(KINDS)} kinds of prices, 60 to 20,000 bars, against statsmodels:")
    say(
        f"  lags that differ {agreement.wrong_lags}, |Δt| ≤ {agreement.worst_t:.1e}, |Δp| ≤ {agreement.worst_p:.1e}; "
        f"{agreement.collinear} collinear, {agreement.untestable} untestable, all agree: "
        f"{not (agreement.wrong_infinities or agreement.wrong_untestable)}"
    )
    say(
        f"  {agreement.rechecked} with 1 - R² < {NEAR_COLLINEAR}, against extended precision: "
        f"|Δt| ≤ {agreement.worst_rechecked_t:.1e}\n"
    )
    figures: dict[str, Any] = {
        "tests": agreement.tests,
        "wrong_lags": agreement.wrong_lags,
        "worst_t": float(f"{agreement.worst_t:.1e}"),
        "worst_p": float(f"{agreement.worst_p:.1e}"),
        "worst_rechecked_t": float(f"{agreement.worst_rechecked_t:.1e}"),
    }

    with threadpool_limits(1):
        table = table_of_peers(asked.sizes)
    ours = f"ours, {THREADS} threads"
    if table:
        say(f"whole screen of {N_BARS:,} bars by AIC, seconds (times ours with {THREADS} threads); peers from a sample")
        say(f"{'':26}" + "".join(f"{f'N={n}':>24}" for n in table))
        for peer in next(iter(table.values())):
            cells = (f"{row[peer]:,.3f} ({row[peer] / row[ours]:,.0f}×)" for row in table.values())
            say(f"{peer:26}" + "".join(f"{cell:>24}" for cell in cells))
        say("")
    for n, row in table.items():
        figures[f"n{n}_s"] = round(row[ours], 4)
        figures[f"n{n}_us_per_test"] = round(1e6 * row[ours] / (n * (n - 1)), 3)
        for peer, least in FASTER.items():
            figures[f"n{n}_vs_{peer}"] = round(row[peer] / row[ours])
            if n == 200 and row[peer] < least * row[ours]:
                broken.append(f"{row[peer] / row[ours]:,.0f} times {peer}, goal {least:,.0f}")
        if row[ours] > SECONDS.get(n, math.inf):
            broken.append(f"{row[ours]:.2f} s for {n} symbols, goal {SECONDS[n]}")

    peak = dgemm_rate(THREADS)
    for n, n_bars, n_starts in (
        (404, 1440, 1), (404, 1440, 8), (404, 1440, 404), *((n, N_BARS, 1) for n in asked.large)
    ):  # fmt: skip
        spent, memory, before = alone(screen_alone, n_bars, n, n_starts)
        share = flops_per_test(n_bars) * n * (n - 1) / spent / peak
        listed = f", {n_starts} dates of listing" if n_starts > 1 else ""
        say(
            f"{n:,} symbols, {n_bars:,} bars{listed}: {n * (n - 1):,} tests in {spent:.2f} s, "
            f"{1e6 * spent / (n * (n - 1)):.2f} µs each; peak {memory:.2f} GiB (prices alone {before:.2f})"
            + ("" if n_starts > 1 else f"; {share:.0%} of the dgemm rate, {peak / 1e9:.0f} GF/s")
        )
        name = f"n{n}" + (f"_starts{n_starts}" if n_starts > 1 else "")
        figures[f"{name}_s"], figures[f"{name}_gib"] = round(spent, 3), round(memory, 2)
        if n_starts == 1:
            figures[f"{name}_dgemm_share"] = round(share, 2)
        if n_bars == N_BARS and spent > SECONDS.get(n, math.inf):
            broken.append(f"{spent:.1f} s for {n} symbols, goal {SECONDS[n]}")
        if memory > PEAK_GIB:
            broken.append(f"{memory:.1f} GiB for {n} symbols, goal {PEAK_GIB}")
    for n in sorted(asked.large)[-1:]:
        spent, tests, memory, before = alone(stream_alone, N_BARS, n)
        say(
            f"{n:,} symbols, {N_BARS:,} bars, rows by tile: {tests:,} tests in {spent:.2f} s; "
            f"peak {memory:.2f} GiB, {memory - before:.2f} of it beyond the prices"
        )
        figures[f"n{n}_tiles_gib"] = round(memory, 2)
        if tests != n * (n - 1):
            broken.append(f"{tests:,} rows by tile for {n} symbols, expected {n * (n - 1):,}")
        if memory - before > TILES_GIB:
            broken.append(f"{memory - before:.2f} GiB for rows by tile of {n} symbols, goal {TILES_GIB}")
    figures["load"] = [round(load, 1) for load in (load_before, os.getloadavg()[0])]
    say(f"\nbench-screen: {json.dumps(figures)} {'BROKEN: ' + ', '.join(broken) if broken else 'ok'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
