"""How fast bars come in, what an update costs, and what a whole store takes, against one big parquet file.

    make bench-ingest
    python benchmarks/ingest.py --symbols 20 --bars 40000

Four parts, each in a process of its own, so that its peak of memory is its own:

* ``write``: a whole store of random walks, symbol by symbol, and the same table into one parquet file.
* ``read``: all of it back, the closes as a matrix (time × symbol), and the one file as a frame.
* ``update``: the last 12 bars of every symbol added, to a store and to one a fourth as long, and to the one big
  file, which has to be written anew. What the store does should depend on the new bars alone.
* ``fetch``: from the loopback exchange through ccxt into the store, with ccxt's rate limit and without.

The last line has the figures; the exit code is 1 when the store does not hold what was put into it, or an update
of the long store takes more than twice one of the short.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

STEP = 300_000
START = 1_704_067_200_000  # 2024-01-01
NEW_BARS = 12
REPEATS = 5


def walk(symbol: int, first: int, n: int) -> np.ndarray:
    """``(n, 6)`` rows of a random walk with prices on a tick, as an exchange has them."""
    rng = np.random.default_rng((symbol, first))
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 1e-3, n))), 2)
    open_ = np.r_[close[0], close[:-1]]
    high = np.round(np.maximum(open_, close) * (1 + rng.uniform(0, 1e-3, n)) + 0.01, 2)
    low = np.round(np.minimum(open_, close) * (1 - rng.uniform(0, 1e-3, n)) - 0.01, 2)
    opens = START + np.arange(first, first + n) * STEP
    return np.column_stack([opens, open_, high, low, close, np.round(rng.gamma(2.0, 50.0, n), 1)])


def frames(n_symbols: int, first: int, n: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Bars by symbol."""
    from mntrading.core.bars import bars_from_rows

    for symbol in range(n_symbols):
        name = f"S{symbol:03d}/USDT"
        yield name, bars_from_rows(walk(symbol, first, n), name)


def dataset(folder: Path, name: str) -> Any:
    """The store of that name."""
    from mntrading.datasets import BarsDataset

    return BarsDataset(path=folder / name / "ohlcv_5m.parquet", timeframe="5m", missing_ok=True)


def write_store(folder: Path, name: str, n_symbols: int, n: int) -> float:
    """Seconds to write a store, symbol by symbol."""
    from mntrading.datasets import BarsUpdate

    store, spent = dataset(folder, name), 0.0
    for symbol, frame in frames(n_symbols, 0, n):
        began = time.perf_counter()
        store.save(BarsUpdate("bench", {symbol: frame}))
        spent += time.perf_counter() - began
    return spent


def write_one_file(folder: Path, n_symbols: int, n: int) -> float:
    """Seconds to write the same bars into one file, row group by row group; nothing is checked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    spent, writer = 0.0, None
    for _, frame in frames(n_symbols, 0, n):
        began = time.perf_counter()
        table = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or pq.ParquetWriter(folder / "one.parquet", table.schema, compression="zstd")
        writer.write_table(table)
        spent += time.perf_counter() - began
    began = time.perf_counter()
    writer.close()
    return spent + time.perf_counter() - began


def read_store(folder: Path, n_symbols: int, n: int) -> dict[str, float]:
    """Seconds to read all of a store, as a matrix of closes and as the rows of every symbol."""
    began = time.perf_counter()
    store = dataset(folder, "long").load()
    closes = store.wide("close")
    matrix = time.perf_counter() - began
    rows = {symbol: store.rows(symbol, 0, 2**62) for symbol in store}
    spent = time.perf_counter() - began - matrix
    assert closes.shape == (n, n_symbols)
    np.testing.assert_array_equal(rows["S007/USDT"], walk(7, 0, n))
    np.testing.assert_array_equal(closes["S007/USDT"], walk(7, 0, n)[:, 4])
    return {"all": spent, "closes": matrix}


def read_one_file(folder: Path) -> float:
    """Seconds to read the one file as a frame."""
    began = time.perf_counter()
    frame = pd.read_parquet(folder / "one.parquet")
    spent = time.perf_counter() - began
    assert len(frame)
    return spent


def update_store(folder: Path, name: str, n_symbols: int, n: int) -> dict[str, float]:
    """Seconds to add the newest bars of every symbol, opening and checking included; median of several times."""
    from mntrading.datasets import BarsUpdate

    spent, verified = [], []
    for turn in range(REPEATS):
        fresh = dict(frames(n_symbols, n + turn * NEW_BARS, NEW_BARS))
        store = dataset(folder, name)
        began = time.perf_counter()
        stored = store.load()
        assert not stored.damage(hashes=False)
        for begin in range(0, n_symbols, 8):  # as ingestion hands them over
            store.save(BarsUpdate("bench", dict(list(fresh.items())[begin : begin + 8])))
        spent.append(time.perf_counter() - began)
    began = time.perf_counter()
    assert not store.load().damage(hashes=True)
    verified.append(time.perf_counter() - began)
    rows = sum(store.load().entry(symbol)["rows"] for symbol in store.load())
    return {
        "seconds": statistics.median(spent),
        "verify": verified[0],
        "lost": n_symbols * (n + REPEATS * NEW_BARS) - rows,
    }


def update_one_file(folder: Path, n_symbols: int, n: int) -> float:
    """Seconds to add the newest bars to the one file: read it, join, write it anew."""
    fresh = pd.concat([frame for _, frame in frames(n_symbols, n, NEW_BARS)])
    began = time.perf_counter()
    whole = pd.concat([pd.read_parquet(folder / "one.parquet"), fresh])
    whole = whole.drop_duplicates(["symbol", "timestamp"]).sort_values(["symbol", "timestamp"])
    whole.to_parquet(folder / "one.new.parquet", compression="zstd", index=False)
    (folder / "one.new.parquet").replace(folder / "one.parquet")
    return time.perf_counter() - began


def serve(ready: Any, n_symbols: int, days: int) -> None:
    """The loopback exchange, in a process of its own."""
    from mntrading.market.loopback import Loopback
    from mntrading.market.simulator import SimulatorSource

    end = pd.Timestamp("2025-01-01", tz="UTC") + pd.Timedelta(days, unit="D")
    with Loopback(SimulatorSource("demo", n_symbols=n_symbols, end=end)) as exchange:
        ready.put(exchange.url)
        time.sleep(3600)


def fetch(url: str, folder: Path, days: int, *, limited: bool) -> dict[str, float]:
    """Bars a second through ccxt into a store, and seconds of a run that finds nothing new."""
    from mntrading.core.bars import bars_from_rows
    from mntrading.datasets import BarsUpdate
    from mntrading.market.budget import PROCESS, Budgets
    from mntrading.market.ccxt_source import CcxtSource
    from mntrading.market.fetching import Job, Piece, fetch_all
    from mntrading.market.loopback import ManualClock

    # a clock that only moves when it is slept on: waits for the rate limit take no time
    budgets = PROCESS if limited else Budgets(ManualClock())
    source = CcxtSource("binance", max_attempts=3, max_concurrency=4, base_url=url, budgets=budgets)
    as_of = source.server_time()
    symbols = [name for name, info in source.load_markets().items() if info.quote == "USDT"]
    first = 1_735_689_600_000
    jobs = [Job(symbol, symbol, (first, as_of // STEP * STEP)) for symbol in symbols]
    store = dataset(folder, f"fetched-{limited}")
    out = []
    for _ in range(2):
        n, began = 0, time.perf_counter()
        for item in fetch_all(source, jobs, store.load(), "5m", as_of, ingestion()):
            if isinstance(item, Piece):
                n += len(item.rows)
                made = {item.symbol: bars_from_rows(item.rows, item.symbol)} if len(item.rows) else {}
                store.save(BarsUpdate(source.identity, made, {item.symbol: item.ledger}))
        out.append((n, time.perf_counter() - began))
    return {"bars": out[0][0], "seconds": out[0][1], "again": out[1][1], "again_bars": out[1][0], "days": days}


def ingestion() -> Any:
    """The parameters of ``conf/live``."""
    from kedro.config import OmegaConfigLoader

    from mntrading import settings
    from mntrading.params import IngestionParams

    conf = Path(__file__).parents[1] / "conf"
    loader = OmegaConfigLoader(str(conf), env="live", **settings.CONFIG_LOADER_ARGS)
    return IngestionParams.model_validate(loader["parameters"]["ingestion"])


def alone(act: Callable[..., Any], *given: Any, **named: Any) -> tuple[Any, float]:
    """Result of a call in a fresh process, and that process's peak of memory in GiB."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_report, args=(theirs, act, given, named))
    process.start()
    theirs.close()
    try:
        result, peak = ours.recv()
    except EOFError:
        raise SystemExit(f"{act.__name__} failed") from None
    process.join()
    return result, peak


def _report(pipe: Any, act: Callable[..., Any], given: Any, named: Any) -> None:
    logging.disable(logging.WARNING)
    result = act(*given, **named)
    pipe.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def main() -> int:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--bars", type=int, default=160_000)
    parser.add_argument("--days", type=int, default=60, help="of 30 symbols, fetched from the loopback exchange")
    asked = parser.parse_args()
    n_symbols, n = asked.symbols, asked.bars
    folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    say = sys.stdout.write
    try:
        say(f"{n_symbols} symbols x {n:,} bars of 5m = {n_symbols * n / 1e6:.1f} M bars\n")
        say(f"{'':34}{'store':>12}{'one file':>12}{'ratio':>10}\n")

        def line(what: str, ours: float, theirs: float, unit: str = "s") -> None:
            say(f"{what:34}{ours:>10.2f} {unit}{theirs:>10.2f} {unit}{theirs / ours:>9.1f}x\n")

        wrote, write_peak = alone(write_store, folder, "long", n_symbols, n)
        wrote_one, _ = alone(write_one_file, folder, n_symbols, n)
        line("write all", wrote, wrote_one)
        read, read_peak = alone(read_store, folder, n_symbols, n)
        read_one, read_one_peak = alone(read_one_file, folder)
        line("read all", read["all"], read_one)
        line("read the closes as a matrix", read["closes"], read_one)
        line("peak memory, reading", read_peak, read_one_peak, "G")
        alone(write_store, folder, "short", n_symbols, n // 4)
        long, update_peak = alone(update_store, folder, "long", n_symbols, n)
        short, _ = alone(update_store, folder, "short", n_symbols, n // 4)
        one, one_peak = alone(update_one_file, folder, n_symbols, n)
        line(f"add {NEW_BARS} bars to each symbol", long["seconds"], one)
        line("peak memory, adding", update_peak, one_peak, "G")
        line("the same, history a fourth as long", short["seconds"], one)
        say(f"{'verify every hash':34}{long['verify']:>10.2f} s\n")

        context = multiprocessing.get_context("spawn")
        ready = context.Queue()
        server = context.Process(target=serve, args=(ready, 30, asked.days), daemon=True)
        server.start()
        url = ready.get(timeout=120)
        free, _ = alone(fetch, url, folder, asked.days, limited=False)
        limited, _ = alone(fetch, url, folder, asked.days, limited=True)
        server.terminate()
        server.join()
        for what, result in (("no rate limit", free), ("ccxt's rate limit", limited)):
            rate = result["bars"] / result["seconds"]
            say(
                f"fetch, {what}: {result['bars']:,} bars in {result['seconds']:.1f} s, {rate:,.0f} bars/s; "
                f"again: {result['again_bars']} bars in {result['again']:.2f} s\n"
            )
        broken = []
        if long["lost"] or short["lost"]:
            broken.append(f"{long['lost'] + short['lost']} bars lost")
        if free["bars"] != limited["bars"] or free["again_bars"] or limited["again_bars"]:
            broken.append("two fetches differ")
        if long["seconds"] > 2 * short["seconds"]:
            broken.append("an update depends on the history")
        if max(write_peak, read_peak, update_peak) > 2.0:
            broken.append("more than 2 GiB")
        figures = {
            "update_s": round(long["seconds"], 3),
            "update_vs_one_file": round(one / long["seconds"], 1),
            "update_long_vs_short": round(long["seconds"] / short["seconds"], 2),
            "write_bars_per_s": round(n_symbols * n / wrote),
            "read_bars_per_s": round(n_symbols * n / read["all"]),
            "close_matrix_s": round(read["closes"], 2),
            "peak_gib": round(max(write_peak, read_peak, update_peak), 2),
            "fetch_bars_per_s": round(free["bars"] / free["seconds"]),
            "fetch_limited_bars_per_s": round(limited["bars"] / limited["seconds"]),
        }
        say(f"bench-ingest: {json.dumps(figures)} {'BROKEN: ' + ', '.join(broken) if broken else 'ok'}\n")
        return 1 if broken else 0
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
