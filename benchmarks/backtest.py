"""What a backtest of one pair and a sweep of its levels cost, beside peers that trade the same signals to equal P&L.

    make bench-backtest
    python benchmarks/backtest.py --bars 50000

One pair of 150,000 five-minute bars, its z and hedge ratio by the project's own functions. All trade the same rule:
units set from the closes of the deciding bar and frozen, both legs filled at the next bar's open, a fee on each leg and
side, a stop, and on the last bar everything is left. Three parts, all in processor time, with freed memory kept:

* ``pair``: one rule. The engine's pass over arrays, with each day's equity and with the book of every bar; the whole of
  ``run_pair``, from frames to trades and statistics. Beside it plain Python over lists, and a pandas loop by
  ``itertuples`` and by ``iloc``, written here straight from the rule with its cool-down; and ``from_signals`` of
  vectorbt, which knows no cool-down, with the rule that has none.
* ``sweep``: 100 points of entry and exit, without cool-down. The engine's pass over arrays and the whole of
  ``run_rules`` beside Python over lists and vectorbt, of which both engines and two ways to ask are tried; the time to
  make its signals is not charged. Also what memory a sweep adds.
* ``configured``: the pair and the sweep with the project's own costs, cool-down and break monitor; no peer does that.

Every peer has to make as many trades as the engine, point by point, and its equity may differ by 1e-9 of the notional
at most: what is summed is the same, the order of some sums is not. vectorbt has an environment of its own, from
``requirements-peers.lock``.

The last line has the figures; the exit code is 1 when a trade or the equity differs, or a goal is missed. Goals are
ratios between runs on one machine, never seconds.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from mntrading.core import engine
from mntrading.core.backtest import run_pair, run_rules
from mntrading.core.engine_inputs import Book, charges_of, lots_of, monitor_of, prices_of, told_of
from mntrading.core.spread import rolling_hedge, spread, zscore
from mntrading.core.strategy import Rule, rule_of
from mntrading.params import BacktestParams

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf/base/parameters_backtesting.yml"
PEER = ROOT / ".services/vectorbt/bin/python"
HEDGE, Z = 1000, 300
ENTRIES, EXITS = np.linspace(1.2, 3.0, 10), np.linspace(0.0, 0.9, 10)
ONE = 45  # the point of the sweep that ``pair`` is about
FEE_RATE = 0.0006
MAX_ERROR = 1e-9
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
FASTER_THAN_LISTS = 50.0
ONE_CALL = "numba, all points in a call"  # as its documentation has it
FASTER_THAN_VECTORBT = {ONE_CALL: 100.0, "numba, a call a point": 50.0}


def say(text: str = "") -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(call: Callable[[], Any], repeats: int = 7) -> float:
    """Least processor time of a call: what others do on the machine has the least part in it."""
    call()
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of one call, and what it returned."""
    began = time.process_time()
    found = call()
    return time.process_time() - began, found


def keep_freed_memory() -> None:
    """Have the allocator keep what is freed: a page given back and taken anew costs more than what is done with it."""
    libc = ctypes.CDLL(None)
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        libc.mallopt(option, 1 << 30)


def kib(of: str) -> int:
    """A figure of this process's memory."""
    return int(Path("/proc/self/status").read_text().split(of + ":")[1].split()[0])


# --- the market and the rule ---


@dataclass(frozen=True)
class Pair:
    """Bars of two cointegrated legs, and the signals on them."""

    bars_a: pd.DataFrame
    bars_b: pd.DataFrame
    features: pd.DataFrame

    def arrays(self) -> dict[str, np.ndarray]:
        """What every peer is given."""
        legs = {"a": self.bars_a, "b": self.bars_b}
        out = {f"{name}_{leg}": bars[name].to_numpy() for leg, bars in legs.items() for name in ("open", "close")}
        return out | {name: self.features[name].to_numpy() for name in ("z", "hedge_ratio")}


def pair_of(n: int, seed: int = 0) -> Pair:
    """A made-up pair without missing bars."""
    rng = np.random.default_rng(seed)
    b = 4.0 + np.cumsum(rng.normal(0, 0.002, n))
    noise, shock = np.zeros(n), rng.normal(0, 0.002, n)
    for t in range(1, n):
        noise[t] = 0.99 * noise[t - 1] + shock[t]
    a = 1.5 + 0.7 * b + noise
    stamps = pd.date_range("2024-01-01", periods=n, freq="5min", tz="UTC", unit="ms", name="timestamp")
    legs = []
    for symbol, log_close in (("A", a), ("B", b)):
        close = np.exp(log_close)
        open_ = np.concatenate((close[:1], close[:-1])) * np.exp(rng.normal(0, 0.0005, n))
        legs.append(
            pd.DataFrame(
                {"timestamp": stamps, "symbol": symbol, "open": open_, "close": close, "volume": rng.lognormal(5, 1, n)}
            )
        )
    alpha, beta = rolling_hedge(a, b, window=min(HEDGE, n // 4), first_bar=0, min_fill=1.0)
    z = zscore(spread(a, b, alpha, beta), window=min(Z, n // 8), lag=1, first_bar=0, min_fill=1.0)
    # the ratio that is known at a bar's close, as the features have it
    known = np.concatenate(([np.nan], beta[:-1]))
    features = pd.DataFrame({"z": z, "hedge_ratio": known, "beta": known}, index=stamps)
    return Pair(legs[0], legs[1], features)


def configured() -> BacktestParams:
    """The project's own parameters."""
    return BacktestParams.model_validate(yaml.safe_load(CONF.read_text())["backtest"])


def common(params: BacktestParams, *, cooldown_bars: int) -> BacktestParams:
    """What every peer can do: one fee, the next bar's open, levels of z."""
    own = params.model_dump()
    own["strategy"] |= {
        "signals_from": "z", "entry_z": float(ENTRIES[ONE // len(EXITS)]), "exit_z": float(EXITS[ONE % len(EXITS)]),
        "stop_z": 4.0, "max_loss": None, "cooldown_bars": cooldown_bars,
        "break_monitor": own["strategy"]["break_monitor"] | {"max_p_value": None},
    }  # fmt: skip
    own["costs"] = {
        "fee_rate": FEE_RATE, "slippage_bps": 0.0, "impact_bps": 0.0, "carry": "borrow", "borrow_bps_per_day": 0.0,
    }  # fmt: skip
    return BacktestParams.model_validate(own)


def points(params: BacktestParams) -> list[Rule]:
    """The sweep: every entry with every exit."""
    rule = rule_of(params.strategy, half_life_bars=None, needs_probability=False)
    return [rule._replace(entry_z=float(entry), exit_z=float(leave)) for entry in ENTRIES for leave in EXITS]


# --- peers, straight from the rule ---


def by_lists(market: dict[str, list[float]], rule: Rule, fee: float, *, keep: bool = True) -> tuple[list[float], int]:
    """Equity of every bar, or with ``keep`` off at the end alone, and closed trades, by plain Python over lists."""
    open_a, open_b, close_a, close_b = (market[name] for name in ("open_a", "open_b", "close_a", "close_b"))
    zs, hedges = market["z"], market["hedge_ratio"]
    entry, leave, stop, rest = rule.entry_z, rule.exit_z, rule.stop_z, rule.cooldown_bars
    least, most = rule.min_hedge_ratio, rule.max_hedge_ratio
    last = len(zs) - 1
    cash, a, b, side, wait, trades, order = 1.0, 0.0, 0.0, 0, 0, 0, None
    equity = []
    for t, z in enumerate(zs):
        if order is not None:
            to_a, to_b = order
            at_a, at_b = open_a[t], open_b[t]
            cash -= (to_a - a) * at_a + (to_b - b) * at_b + fee * (abs(to_a - a) * at_a + abs(to_b - b) * at_b)
            a, b, order = to_a, to_b, None
            if side == 0:
                trades += 1
        if keep:
            equity.append(cash + a * close_a[t] + b * close_b[t])
        if side != 0:
            away = -side * z
            if away <= leave or away >= stop or t == last - 1:
                wait = rest if away >= stop and t != last - 1 else 0
                side, order = 0, (0.0, 0.0)
        elif wait > 0:
            wait -= 1
        elif entry <= abs(z) < stop and least <= hedges[t] <= most and t < last - 1:
            side = -1 if z > 0 else 1
            share = side / (1.0 + hedges[t])
            order = share / close_a[t], -share * hedges[t] / close_b[t]
    return equity if keep else [cash], trades


def by_itertuples(frame: pd.DataFrame, rule: Rule, fee: float) -> tuple[list[float], int]:
    """The same, a pandas loop over named rows."""
    return _by_rows(frame.itertuples(index=False), len(frame), rule, fee)


def by_iloc(frame: pd.DataFrame, rule: Rule, fee: float) -> tuple[list[float], int]:
    """The same, a pandas loop over positions."""
    return _by_rows((frame.iloc[t] for t in range(len(frame))), len(frame), rule, fee)


def _by_rows(rows: Any, n: int, rule: Rule, fee: float) -> tuple[list[float], int]:
    cash, held_a, held_b, want_a, want_b = 1.0, 0.0, 0.0, 0.0, 0.0
    side = wait = trades = 0
    equity = []
    for t, row in enumerate(rows):
        traded_a, traded_b = want_a - held_a, want_b - held_b
        if traded_a:
            cash -= traded_a * row.open_a + traded_b * row.open_b
            cash -= fee * (abs(traded_a) * row.open_a + abs(traded_b) * row.open_b)
            held_a, held_b = want_a, want_b
            trades += not held_a
        equity.append(cash + held_a * row.close_a + held_b * row.close_b)
        closing = t >= n - 2
        if side:
            stopped = -side * row.z >= rule.stop_z
            if closing or stopped or -side * row.z <= rule.exit_z:
                side, want_a, want_b = 0, 0.0, 0.0
                wait = rule.cooldown_bars if stopped and not closing else 0
        elif wait:
            wait -= 1
        elif (
            not closing
            and rule.entry_z <= abs(row.z) < rule.stop_z
            and rule.min_hedge_ratio <= row.hedge_ratio <= rule.max_hedge_ratio
        ):
            side = 1 if row.z < 0 else -1
            want_a = side / (1.0 + row.hedge_ratio) / row.close_a
            want_b = -side * row.hedge_ratio / (1.0 + row.hedge_ratio) / row.close_b
    return equity, trades


def by_vectorbt(pair: Pair, rules: list[Rule]) -> dict[str, Any]:
    """What the peer in its own environment says of the same arrays."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key, values in pair.arrays().items():
            np.save(folder / f"{key}.npy", values, allow_pickle=False)
        asked = {"rules": [rule._asdict() for rule in rules], "one": ONE, "fee_rate": FEE_RATE}
        (folder / "rules.json").write_text(json.dumps(asked))
        done = subprocess.run(  # noqa: S603
            [str(PEER), str(ROOT / "benchmarks/backtest_vectorbt.py"), name], capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        for engine_, pair_ in found["pair"].items():
            pair_["equity"] = np.load(folder / f"equity_{engine_}.out.npy")
    return found


# --- ours ---


def inputs(pair: Pair, params: BacktestParams) -> tuple[Any, ...]:
    """What the engine takes before and after the rule."""
    index = pd.DatetimeIndex(pair.features.index)
    monitor = monitor_of(pair.bars_a, pair.bars_b, pair.features, params.strategy.break_monitor)
    charges = charges_of(params.costs, Book(), index)
    return prices_of(pair.bars_a, pair.bars_b, index, params), told_of(pair.features), charges, lots_of(Book()), monitor


def engine_call(pair: Pair, params: BacktestParams, *, keep: bool) -> Callable[[], tuple[np.ndarray, int]]:
    """The engine's pass of one rule over arrays: equity of every bar, or of every day, and closed trades."""
    prices, told, *rest = inputs(pair, params)
    rule = rule_of(params.strategy, half_life_bars=None, needs_probability=False)
    n = len(told.z) if keep else 0

    def call() -> tuple[np.ndarray, int]:
        book, value = np.zeros((len(engine.BOOK_COLUMNS), n)), np.zeros((n // 2 + 1, 12))
        where, daily = np.zeros((n // 2 + 1, 8), dtype=np.int64), np.empty(int(prices.day[-1]) + 1)
        ends, tested = engine.day_ends(prices.day, len(daily)), np.zeros(0, dtype=np.uint8)
        trades = engine.trade(prices, told, rule, *rest, keep, book, value, where, ends, daily, tested)
        return book[0] if keep else daily, trades

    return call


def sweep_call(pair: Pair, params: BacktestParams, rules: list[Rule]) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """The engine's pass of every rule over arrays: final equity and closed trades."""
    prices, told, *rest = inputs(pair, params)
    table = np.array(rules, dtype=np.float64)

    def call() -> tuple[np.ndarray, np.ndarray]:
        daily, trades = np.empty((len(rules), int(prices.day[-1]) + 1)), np.zeros(len(rules), dtype=np.int64)
        engine.sweep(prices, told, table, *rest, daily, trades)
        return daily[:, -1], trades

    return call


def swept(pair: Pair, params: BacktestParams, rules: list[Rule]) -> tuple[np.ndarray, np.ndarray]:
    """Final equity and trades of every point."""
    found = run_rules(pair.bars_a, pair.bars_b, pair.features, params, rules)
    return 1.0 + found.returns.to_numpy().sum(axis=0), found.n_trades


def memory(answer: Any, n: int) -> None:
    """Put the most memory a sweep adds to what the frames and the compiled code hold."""
    params = common(configured(), cooldown_bars=0)
    pair = pair_of(n)
    swept(pair_of(2000), params, points(params)[:2])
    before = kib("VmRSS")
    swept(pair, params, points(params))
    answer.put((kib("VmHWM") - before) / 2**20)


def memory_alone(n: int) -> float:
    """The same in a process of its own, GiB."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=memory, args=(answer, n))
    process.start()
    found = float(answer.get())
    process.join()
    return found


# --- the three parts ---


@dataclass
class Table:
    """Lines of times, each compared with ours; and what is broken."""

    bars: int
    broken: list[str]
    points: int = 1
    worst: float = 0.0

    def line(self, name: str, spent: float, ours: float, agrees: str = "") -> None:
        """One time, per bar and, in a sweep, point."""
        ratio = f"{spent / ours:10,.1f}×" if ours else " " * 11
        say(f"  {name:46} {1e9 * spent / self.bars / self.points:12,.2f} ns {ratio}  {agrees}")

    def agrees(self, name: str, equity: Any, own: Any, trades: Any, own_trades: Any) -> str:
        """Largest difference of equity and of a number of trades; broken where it is one."""
        apart = float(np.abs(np.asarray(equity) - np.asarray(own)).max())
        missing = int(np.abs(np.asarray(trades) - np.asarray(own_trades)).max())
        self.worst = max(self.worst, apart)
        if not apart <= MAX_ERROR or missing:
            self.broken.append(f"{name}: equity differs by {apart:.1e}, trades by {missing}")
        return f"|Δ equity| {apart:.0e}, Δ trades {missing}"


def one_pair(pair: Pair, peer: dict[str, Any], table: Table) -> dict[str, float]:
    """The part ``pair``."""
    params, plain = common(configured(), cooldown_bars=144), common(configured(), cooldown_bars=0)
    rule = rule_of(params.strategy, half_life_bars=None, needs_probability=False)
    arrays = pair.arrays()
    market, frame = {name: values.tolist() for name, values in arrays.items()}, pd.DataFrame(arrays)
    by_day, by_bar = engine_call(pair, params, keep=False), engine_call(pair, params, keep=True)
    equity, trades = by_bar()
    days, _ = by_day()
    if days[-1] != equity[-1]:
        table.broken.append("the engine's days and bars differ")
    pass_, kept = seconds(by_day, 21), seconds(by_bar, 21)
    whole = seconds(lambda: run_pair(pair.bars_a, pair.bars_b, pair.features, params))
    end, last = by_lists(market, rule, FEE_RATE, keep=False)
    lists = seconds(lambda: by_lists(market, rule, FEE_RATE, keep=False), 5)
    in_lists = seconds(lambda: by_lists(market, rule, FEE_RATE), 5)
    say(f"one pair, time a bar; {trades:,} trades, in the market {100 * in_market(pair, params):.0f} % of the time")
    table.line("engine, equity of each day", pass_, pass_)
    agrees = table.agrees("lists", end, equity[-1:], last, trades)
    table.line("Python over lists, equity at the end", lists, pass_, agrees)
    table.line("engine, book of every bar", kept, kept)
    agrees = table.agrees("lists", *_paired(by_lists(market, rule, FEE_RATE), (equity, trades)))
    table.line("Python over lists, equity of every bar", in_lists, kept, agrees)
    loops = {"itertuples": by_itertuples, "iloc": by_iloc}
    spent = {}
    for name, loop in loops.items():
        spent[name], found = timed(lambda loop=loop: loop(frame, rule, FEE_RATE))
        agrees = table.agrees(name, *_paired(found, (equity, trades)))
        table.line(f"pandas loop, {name}", spent[name], kept, agrees)
    equity, trades = engine_call(pair, plain, keep=True)()
    for name, theirs in peer["pair"].items():
        agrees = table.agrees(f"vectorbt {name}", theirs["equity"], equity, theirs["trades"], trades)
        table.line(f"vectorbt from_signals, {name}, no cool-down", theirs["seconds"], kept, agrees)
    table.line("run_pair, from frames to statistics", whole, 0.0)
    if lists < FASTER_THAN_LISTS * pass_:
        table.broken.append(f"{lists / pass_:.0f} times Python over lists, goal {FASTER_THAN_LISTS:.0f}")
    return {
        "pass_ns": round(1e9 * pass_ / table.bars, 2), "book_ns": round(1e9 * kept / table.bars, 1),
        "run_pair_ns": round(1e9 * whole / table.bars, 1), "lists": round(lists / pass_, 1),
        "lists_book": round(in_lists / kept, 1), "iloc": round(spent["iloc"] / kept),
    }  # fmt: skip


def _paired(theirs: tuple[Any, Any], ours: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
    return theirs[0], ours[0], theirs[1], ours[1]


def in_market(pair: Pair, params: BacktestParams) -> float:
    """Share of bars a position is held."""
    return run_pair(pair.bars_a, pair.bars_b, pair.features, params).metrics["exposure"]


def sweep(pair: Pair, peer: dict[str, Any], table: Table) -> dict[str, float]:
    """The part ``sweep``."""
    params = common(configured(), cooldown_bars=0)
    rules = points(params)
    call = sweep_call(pair, params, rules)
    equity, trades = call()
    ours, whole = seconds(call, 21), seconds(lambda: swept(pair, params, rules))
    table.points = len(rules)
    fewest, most = int(trades.min()), int(trades.max())
    say(f"\n{len(rules)} points of entry and exit, time a bar and point; {fewest:,} to {most:,} trades a point")
    table.line("engine", ours, ours)
    agrees = table.agrees("run_rules", *_paired(swept(pair, params, rules), (equity, trades)))
    table.line("run_rules, from frames to daily returns", whole, ours, agrees)
    market = {name: values.tolist() for name, values in pair.arrays().items()}
    lists, found = timed(lambda: [by_lists(market, rule, FEE_RATE, keep=False) for rule in rules])
    ends, counts = [end[-1] for end, _ in found], [count for _, count in found]
    agrees = table.agrees("lists", ends, equity, counts, trades)
    table.line("Python over lists", lists, ours, agrees)
    for name, theirs in peer["sweep"].items():
        agrees = table.agrees(f"vectorbt {name}", 1.0 + np.array(theirs["profit"]), equity, theirs["trades"], trades)
        table.line(f"vectorbt, {name}", theirs["seconds"], ours, agrees)
    fastest = min(peer["sweep"], key=lambda name: peer["sweep"][name]["seconds"])
    fast, columns = (peer["sweep"][name] for name in (fastest, ONE_CALL))
    added = memory_alone(table.bars)
    say(
        f"  engine {1e3 * ours:.1f} ms, run_rules {1e3 * whole:.1f} ms; vectorbt {fast['seconds']:.2f} s ({fastest}), "
        f"{columns['seconds']:.2f} s with all points in a call, and {peer['signals_s']:.2f} s for its signals"
    )
    say(
        f"  memory a sweep adds: run_rules {1024 * added:.0f} MiB; vectorbt {1024 * fast['gib']:.0f} MiB ({fastest}), "
        f"{1024 * columns['gib']:,.0f} MiB with all points in a call"
    )
    for name, goal in FASTER_THAN_VECTORBT.items():
        ratio = peer["sweep"][name]["seconds"] / ours
        if ratio < goal:
            table.broken.append(f"{ratio:.0f} times vectorbt ({name}), goal {goal:.0f}")
    return {
        "sweep_ms": round(1e3 * ours, 1), "run_rules_ms": round(1e3 * whole, 1), "sweep_lists": round(lists / ours, 1),
        "vectorbt": round(fast["seconds"] / ours, 1), "vectorbt_one_call": round(columns["seconds"] / ours, 1),
        "run_rules_to_vectorbt": round((fast["seconds"] + peer["signals_s"]) / whole, 1),
        "sweep_mib": round(1024 * added), "vectorbt_mib": round(1024 * fast["gib"]),
        "vectorbt_one_call_mib": round(1024 * columns["gib"]),
    }  # fmt: skip


def as_configured(pair: Pair) -> dict[str, float]:
    """The part ``configured``."""
    params = configured()
    rules = points(params)
    one = seconds(lambda: run_pair(pair.bars_a, pair.bars_b, pair.features, params), 3)
    many = seconds(lambda: swept(pair, params, rules), 3)
    say("\nwith the project's costs, cool-down and break monitor, from frames")
    say(f"  run_pair {1e3 * one:.0f} ms, run_rules of {len(rules)} points {1e3 * many:.0f} ms: {many / one:.1f} passes")
    return {"configured_ms": round(1e3 * one, 1), "configured_sweep_ms": round(1e3 * many, 1)}


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=150_000)
    asked = parser.parse_args()
    pair = pair_of(asked.bars)
    rules = points(common(configured(), cooldown_bars=0))
    peer = by_vectorbt(pair, rules)
    keep_freed_memory()
    say(f"{asked.bars:,} bars, processor time; vectorbt {peer['version']} on numba {peer['numba']}\n")
    table = Table(asked.bars, [])
    figures = one_pair(pair, peer, table)
    figures |= sweep(pair, peer, table)
    figures |= as_configured(pair)
    figures["worst_equity"] = float(f"{table.worst:.1e}")
    broken = table.broken
    say(f"\nbench-backtest: {json.dumps(figures)} {'BROKEN: ' + ', '.join(broken) if broken else 'ok'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
