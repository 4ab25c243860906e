"""The peer's side of ``benchmarks/backtest.py``: vectorbt in an environment of its own, on the arrays of a folder.

    .services/vectorbt/bin/python benchmarks/backtest_vectorbt.py FOLDER

The folder has ``open_a``, ``open_b``, ``close_a``, ``close_b``, ``z`` and ``hedge_ratio`` as .npy, and ``rules.json``.
A pair is two columns of orders: units are set on the bar of the decision from its closes and given as sizes, signals
and sizes come one bar later, and fills are at that bar's open. Times are processor time; the last line is JSON.

Each way to ask is measured, with each of vectorbt's engines: all points of the sweep as columns of one call for each
leg, or one call of two columns for each point. Columns are laid out the way its simulation walks them.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

warnings.simplefilter("ignore")
import vectorbt as vbt  # noqa: E402

CASH = 100.0  # enough that no order is cut
ENGINES = ("numba", "rust")


class Signals(NamedTuple):
    """Of one leg or of both, one bar after the decision."""

    entries: np.ndarray
    exits: np.ndarray
    short_entries: np.ndarray
    short_exits: np.ndarray


def peak_gib() -> float:
    """Most memory this process has held."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**20


def held_gib() -> float:
    """Memory this process holds."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 2**20


def later(values: np.ndarray, first: Any) -> np.ndarray:
    """Each row one bar later."""
    out = np.empty_like(values)
    out[0], out[1:] = first, values[:-1]
    return out


def signals(data: dict[str, np.ndarray], rules: list[dict[str, float]]) -> Signals:
    """Signals on the spread, one column a rule."""
    z, hedge = data["z"], data["hedge_ratio"]
    out = [np.empty((len(z), len(rules)), dtype=bool, order="F") for _ in range(4)]
    for k, rule in enumerate(rules):
        fits = (hedge >= rule["min_hedge_ratio"]) & (hedge <= rule["max_hedge_ratio"])
        low, high = z <= -rule["entry_z"], z >= rule["entry_z"]
        columns = (
            low & (z > -rule["stop_z"]) & fits,
            (z >= -rule["exit_z"]) | (z <= -rule["stop_z"]),
            high & (z < rule["stop_z"]) & fits,
            (z <= rule["exit_z"]) | (z >= rule["stop_z"]),
        )
        for i, column in enumerate(columns):
            out[i][:, k] = later(column, False)
            out[i][-1, k] = i % 2 == 1  # on the last bar what is held is left, and nothing is entered
    return Signals(*out)


def sizes(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Units of both legs, one bar after the closes they are set from."""
    hedge = np.abs(data["hedge_ratio"])  # below 0 nothing is entered, and a size has to be positive
    share = 1.0 / (1.0 + hedge)
    a, b = share / data["close_a"], share * hedge / data["close_b"]
    return later(a, np.nan), later(b, np.nan)


def simulate(close: np.ndarray, open_: np.ndarray, size: np.ndarray, of: Signals, fee: float, engine: str) -> Any:
    """One portfolio a column."""
    return vbt.Portfolio.from_signals(
        close, of.entries, of.exits, of.short_entries, of.short_exits, size=size, price=open_, fees=fee,
        init_cash=CASH, upon_opposite_entry="ignore", engine=engine, freq="5min",
    )  # fmt: skip


def swapped(of: Signals) -> Signals:
    """Of the leg that is short when the spread is long."""
    return Signals(of.short_entries, of.short_exits, of.entries, of.exits)


def of_both(of: Signals, k: int) -> Signals:
    """The two columns of one rule."""
    return Signals(
        *(np.asfortranarray(np.column_stack([x[:, k], y[:, k]])) for x, y in zip(of, swapped(of), strict=True))
    )


def earned(portfolio: Any) -> np.ndarray:
    """Profit of each column, from its records."""
    return np.atleast_1d(np.asarray(portfolio.total_profit()))


def trades(portfolio: Any) -> np.ndarray:
    """Closed trades of each column."""
    return np.atleast_1d(np.asarray(portfolio.trades.closed.count()))


def main() -> int:
    """Measure and print."""
    folder = Path(sys.argv[1])
    data = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    asked = json.loads((folder / "rules.json").read_text())
    rules, fee = asked["rules"], asked["fee_rate"]
    size_a, size_b = sizes(data)
    close, open_, size = (
        np.asfortranarray(np.column_stack(columns))
        for columns in ((data["close_a"], data["close_b"]), (data["open_a"], data["open_b"]), (size_a, size_b))
    )
    found: dict[str, Any] = {"version": vbt.__version__, "numba": importlib.metadata.version("numba"), "sweep": {}}
    few = {name: values[:500] for name, values in data.items()}
    short = signals(few, rules[:2])
    for engine in ENGINES:  # compiled before the clock runs
        for of, column in ((short, 0), (swapped(short), 1)):
            once = simulate(close[:500, [column]], open_[:500, [column]], size[:500, [column]], of, fee, engine)
            earned(once), trades(once)
        once = simulate(close[:500], open_[:500], size[:500], of_both(short, 0), fee, engine)
        earned(once), trades(once), once.value()

    before, began = held_gib(), time.process_time()
    of = signals(data, rules)
    found["signals_s"] = time.process_time() - began
    one = of_both(of, asked["one"])
    found["pair"] = {}
    for engine in ENGINES:
        spent = []
        for _ in range(5):
            began = time.process_time()
            pair = simulate(close, open_, size, one, fee, engine)
            spent.append(time.process_time() - began)
        value = np.asarray(pair.value()).sum(axis=1) - 2 * CASH + 1.0
        np.save(folder / f"equity_{engine}.out.npy", value, allow_pickle=False)
        found["pair"][engine] = {"seconds": min(spent), "trades": int(trades(pair)[0])}

    def by_calls(engine: str) -> tuple[np.ndarray, np.ndarray]:
        profit, count = np.empty(len(rules)), np.empty(len(rules), dtype=np.int64)
        for k in range(len(rules)):
            pair = simulate(close, open_, size, of_both(of, k), fee, engine)
            profit[k], count[k] = earned(pair).sum(), trades(pair)[0]
        return profit, count

    def by_columns(engine: str) -> tuple[np.ndarray, np.ndarray]:
        profit = np.zeros(len(rules))
        for signal, column in ((of, [0]), (swapped(of), [1])):
            legs = simulate(close[:, column], open_[:, column], size[:, column], signal, fee, engine)
            profit += earned(legs)
            count = trades(legs)
        return profit, count

    ways = {"a call a point": by_calls, "all points in a call": by_columns}
    for way, call in ways.items():
        for engine in ENGINES:
            began = time.process_time()
            profit, count = call(engine)
            found["sweep"][f"{engine}, {way}"] = {
                "seconds": time.process_time() - began, "profit": profit.tolist(), "trades": count.tolist(),
                "gib": peak_gib() - before,
            }  # fmt: skip
    sweep = found["sweep"]
    for name in (min(sweep, key=lambda name: sweep[name]["seconds"]), "numba, all points in a call"):
        engine, way = name.split(", ")
        for _ in range(2):  # the least of three, as for the others
            began = time.process_time()
            ways[way](engine)
            sweep[name]["seconds"] = min(sweep[name]["seconds"], time.process_time() - began)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
