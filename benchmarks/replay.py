"""A trading window lived through bar by bar, held against the backtest of the same window, to the bit.

    make replay
    MNTRADING_SAMPLE_BARS=/path/to/bars make replay

Research is run first, on the demo market, on real bars where ``MNTRADING_SAMPLE_BARS`` names a folder of them, and on
a small market of which one leg of every trade lacks the bar of its entry or its exit, in turn. Then
the roster of one of its folds is promoted as it was at the end of the fold's formation window, on an empty storage
root, and at the close of every bar of the window the nodes of ``short_cycle`` are run: bars that have closed are
fetched from the market, signals inferred, the account settled, orders made. Left out are the report, and monitoring,
which a backtest has not: it says that all is well. On the last bars an empty map is promoted, as pairs leave the roster
at a window's end.

Compared are z and hedge ratio of every pair and bar, every entry and exit with its probability, every fill with its
quantity, price and costs, and the account's equity at every bar. The last line has the figures; the exit code is 1
when a single bit differs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

with warnings.catch_warnings():  # the frameworks warn about themselves when they are imported
    warnings.simplefilter("ignore")
    from kedro.framework.project import pipelines
    from kedro.framework.startup import bootstrap_project
    from kedro.io import MemoryDataset
    from kedro.runner import SequentialRunner

    from mntrading import runs

from mntrading.core.bars import timeframe_ms, to_ms
from mntrading.core.lines import signals_of
from mntrading.core.menu import chosen_item
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.types import FloatArray
from mntrading.market import MarketInfo, MarketSource
from mntrading.params import BLOCKS
from mntrading.pipelines.backtesting.desk import Exchange, Funding
from mntrading.pipelines.common import stamp_of
from mntrading.pipelines.deployment.champions import frozen_rule
from mntrading.pipelines.modelling.nodes import POOLED, model_id

PROJECT = Path(__file__).parents[1]
SAMPLE = "MNTRADING_SAMPLE_BARS"
HOLES = "holes"
ROOT = "MNTRADING_STORAGE_ROOT"
ZERO = {"z": 0, "decisions": 0, "fills": 0, "off": 0, "equity": 0}


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ------------------------------------------------------------------------------- a market with a clock


class Feed:
    """Rows by timeframe and symbol, rules by symbol, and the time it is."""

    identity = ""
    rows: dict[str, dict[str, FloatArray]] = {}  # noqa: RUF012
    rules: dict[str, Any] = {}  # noqa: RUF012
    now = 0


class Replayed(MarketSource):
    """The market of research up to the time it is."""

    @property
    def identity(self) -> str:
        """That of the market research was done on."""
        return Feed.identity

    def server_time(self) -> int:
        """The time it is."""
        return Feed.now

    def load_markets(self) -> dict[str, MarketInfo]:
        """The symbols research knew, and their rules."""
        return {
            symbol: MarketInfo(
                symbol, rule["base"], rule["quote"], rule["active"], rule["tick"], rule["lot"], rule["min_notional"],
                shortable=rule["shortable"], perpetual=rule["perpetual"],
            )
            for symbol, rule in Feed.rules.items()
        }  # fmt: skip

    def timeframes_of(self, symbol: str) -> frozenset[str]:
        """Those research has bars of."""
        return frozenset(timeframe for timeframe, rows in Feed.rows.items() if symbol in rows)

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """Bars that have closed."""
        rows = Feed.rows[timeframe][symbol]
        begin = 0 if since is None else int(np.searchsorted(rows[:, 0], since))
        stop = int(np.searchsorted(rows[:, 0], Feed.now - timeframe_ms(timeframe), side="right"))
        return rows[begin : stop if limit is None else min(stop, begin + limit)]


# ------------------------------------------------------------------------------------------ research


def catalog_of(root: Path, env: str | None, params: dict[str, Any]) -> tuple[Any, Any]:
    """The project's catalog on a storage root, and its parameters."""
    os.environ[ROOT] = str(root)
    context = runs.open_session(PROJECT, env, params).load_context()
    catalog = context.catalog
    for name in list(catalog):  # entries are made when they are asked for, by the environment of then
        catalog[name]
    return catalog, context.params


def with_holes(research: Any, folder: Path) -> Path:
    """Files of research's bars, without those of one leg that every trade was entered or left on, in turn."""
    pairs, trades = Roster.parse(research.load("roster")).pairs, research.load("trades")
    filled = sorted(
        (entered, left, pair.independent)
        for name, pair in pairs.items()
        for entered, left in zip(trades[name]["entry_fill"], trades[name]["exit_fill"], strict=True)
    )
    gone = [(left if number % 2 else entered, symbol) for number, (entered, left, symbol) in enumerate(filled)]
    folder.mkdir(exist_ok=True)
    for timeframe in ("1h", "5m"):
        store = research.load(f"ohlcv_{timeframe}")
        bars = pd.concat([store[symbol] for symbol in store], ignore_index=True)
        if timeframe == "5m":
            keys = pd.MultiIndex.from_frame(bars[["timestamp", "symbol"]])
            bars = bars.loc[~keys.isin(gone)]
        bars.to_parquet(folder / f"ohlcv_{timeframe}.parquet")
    return folder


def researched(root: Path, env: str | None, params: dict[str, Any]) -> tuple[Any, Any]:
    """``catalog_of`` a storage root on which research has been done, by now or here."""
    if not root.exists():
        os.environ[ROOT] = str(root)
        runs.run("__default__", env=env, params=params)
    return catalog_of(root, env, params)


def last_traded(roster: Roster, windows: Any, fold: str | None) -> RosterFold:
    """The fold to live through: the one named, else the latest in which something was traded."""
    if fold is not None:
        return next(entry for entry in roster.completed if entry.fold.name == fold)
    for entry in reversed(roster.completed):
        tables = [windows[row.pair.id] for row in entry.pairs]
        if sum(int(table.loc[table["fold"] == entry.fold.name, "n_trades"].sum()) for table in tables):
            return entry
    raise SystemExit("no fold in which anything was traded")


def registry_of(entry: RosterFold, catalog: Any) -> dict[str, Any]:
    """What the registry would have held at the end of a fold's formation window, with every pair a champion."""
    made = catalog.load("champion_registry")
    models, menus = catalog.load("pair_models"), catalog.load("pair_menus")
    champions = []
    for number, row in enumerate(entry.pairs, 1):
        ids = [model_id(entry.fold.name, group) for group in (row.pair.id, POOLED)]
        model = next((id_ for id_ in ids if id_ in models), None)
        table = menus[row.pair.id]
        champions.append(
            {
                "pair_id": row.pair.id,
                "dependent": row.pair.dependent,
                "independent": row.pair.independent,
                "champion": True,
                "challenger": False,
                "cluster": number,
                "reasons": [],
                "failures": [],
                "figures": {},
                "half_life_hours": row.half_life_hours,
                "rule": frozen_rule(chosen_item(table.loc[table["fold"] == entry.fold.name])),
                "model": None if model is None else {"id": model, "sha256": models.digests[model]},
            }
        )
    return made | {
        "as_of": f"{entry.fold.formation_end:%Y-%m-%dT%H:%M:%SZ}",
        "formation_start": f"{entry.fold.formation_start:%Y-%m-%dT%H:%M:%SZ}",
        "formation_end": f"{entry.fold.formation_end:%Y-%m-%dT%H:%M:%SZ}",
        "champions": champions,
        "rejected": [],
    }


# -------------------------------------------------------------------------------------------- replay


@dataclass
class Lived:
    """What was seen bar by bar: signal lines, fills, entries that were off on it and refused before it, and equity."""

    lines: list[dict[str, Any]]
    fills: list[tuple[Any, ...]]
    off: list[tuple[str, pd.Timestamp]]
    refused: set[tuple[str, pd.Timestamp]]
    equity: dict[pd.Timestamp, float]
    seconds: list[float]


def live_through(
    entry: RosterFold, research: Any, root: Path, env: str | None, given: dict[str, Any], rows: range
) -> Lived:
    """Run the nodes of a short cycle at the close of some bars of a fold's trading window."""
    stores = {timeframe: research.load(f"ohlcv_{timeframe}") for timeframe in ("1h", "5m")}
    Feed.identity = stores["5m"].source
    Feed.rules = research.load("markets")["symbols"]
    Feed.rows = {
        timeframe: {symbol: store.rows(symbol, 0, 2**62) for symbol in store} for timeframe, store in stores.items()
    }
    source = {"market": {"source": "custom", "custom": {"loader": f"{__name__}.Replayed"}}}
    live, _ = catalog_of(root, env, given | source)
    for name in ("pair_models", "run_record"):
        live[name] = research[name]
    promote = pipelines["promote"].only_nodes("promote")
    cycle = pipelines["short_cycle"] - pipelines["short_cycle"].only_nodes("render_report", "watch_production")
    cycle -= cycle.only_nodes_with_tags("shadow")
    live["monitoring"] = MemoryDataset()
    registry = registry_of(entry, research)
    live["champion_registry"].save(registry)
    SequentialRunner().run(promote, live)
    step = pd.Timedelta(timeframe_ms("5m"), unit="ms")
    window = entry.fold.trading_grid(step)
    lived = Lived([], [], [], set(), {}, [])
    told = time.monotonic()
    for row in rows:
        opened = window[row]
        if row == len(window) - 2:
            live["champion_registry"].save(registry | {"champions": []})
            SequentialRunner().run(promote, live)
        Feed.now = to_ms(opened + step)
        live["monitoring"].save({"as_of": opened + step, "level": "ok", "reason": ""})
        start = time.perf_counter()
        SequentialRunner().run(cycle, live)
        lived.seconds.append(time.perf_counter() - start)
        stamp = stamp_of(opened + step)
        lived.lines += live.load("signals")[stamp]
        account = live.load("paper_account")
        lived.equity[opened] = account["equity"]
        lived.fills += [
            (f["symbol"], pd.Timestamp(f["time"]), f["quantity"], f["price"], f["fee"], f["slippage"])
            for f in account["fills"]
        ]
        lived.off += [(pair_id, opened) for pair_id in account["off"]]
        lived.refused |= {(pair_id, opened + step) for pair_id in live.load("latest_orders")["refused"]}
        if time.monotonic() - told > 20:
            told = time.monotonic()
            say(f"  bar {row - rows.start:,} of {len(rows):,}, {np.mean(lived.seconds):.2f} s a bar")
    return lived


# -------------------------------------------------------------------------------------------- compare


def entered_in(entry: RosterFold, research: Any) -> dict[str, pd.DataFrame]:
    """What was entered in a fold, filled or not, by pair id."""
    trades, unfilled = research.load("trades"), research.load("unfilled_entries")
    tables = {row.pair.id: pd.concat([trades[row.pair.id], unfilled[row.pair.id]]) for row in entry.pairs}
    return {pair_id: table.loc[table["fold"] == entry.fold.name] for pair_id, table in tables.items()}


def backtested(entry: RosterFold, research: Any, params: Any) -> Any:
    """The netted book of the fold's roster alone, over its trading window, as the backtest trades it."""
    roster = Roster.parse(research.load("roster"))
    alone = replace(roster, folds=(entry, roster.live))
    sizes, backtest = params["portfolio"], params["backtest"]
    funding = Funding(research.load("markets"), research.load("funding_rates"), backtest.costs)
    exchange = Exchange.of(research.load("ohlcv_5m"), alone, research.load("markets"), funding)
    members = {entry.fold.name: [row.pair for row in entry.pairs]}
    index = pd.DatetimeIndex(exchange.close.index)
    signals = signals_of(entered_in(entry, research), members, index, backtest.strategy)
    return exchange.trade(signals, sizes, backtest)


def differences(entry: RosterFold, lived: Lived, research: Any, params: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Values compared and values that differ, by kind."""
    result = backtested(entry, research, params)
    curves = research.load("pair_curves")
    step = pd.Timedelta(timeframe_ms("5m"), unit="ms")
    seen = pd.DatetimeIndex(list(lived.equity))
    compared, different = dict(ZERO), dict(ZERO)

    def note(kind: str, mine: Any, theirs: Any) -> None:
        compared[kind] += 1
        if mine != theirs:
            different[kind] += 1
            if different[kind] <= 5:
                say(f"  {kind}: live {mine}, backtest {theirs}")

    known = {
        row.pair.id: curves[row.pair.id].loc[curves[row.pair.id]["fold"] == entry.fold.name] for row in entry.pairs
    }
    actions: dict[tuple[str, pd.Timestamp], tuple[Any, ...]] = {}
    for line in lived.lines:
        pair_id, opened = line["pair_id"], pd.Timestamp(line["bar_close"]) - step
        if line["hedge_ratio"] is not None or line["z"] is not None:
            row = known[pair_id].loc[opened]
            for name in ("z", "hedge_ratio"):
                note("z", line[name], None if np.isnan(row[name]) else float(row[name]))
        if line["action"] == "exit":
            actions[pair_id, opened] = ("exit",)
        elif line["action"] == "enter":
            actions[pair_id, opened] = ("enter", line["side"], line["probability"])
    expected: dict[tuple[str, pd.Timestamp], tuple[Any, ...]] = {}
    unfilled: set[tuple[str, pd.Timestamp]] = set()
    for pair_id, table in entered_in(entry, research).items():
        missing = table.loc[table["exit_fill"].isna(), "entry_fill"]
        unfilled |= {(pair_id, time) for time in missing if time in seen}
        for trade in table.to_dict("records"):
            chance = None if np.isnan(trade["probability"]) else trade["probability"]
            if trade["exit_decision"] in seen:
                expected[pair_id, trade["exit_decision"]] = ("exit",)
            if trade["entry_decision"] in seen:
                expected[pair_id, trade["entry_decision"]] = ("enter", trade["side"], chance)
    for key in sorted({*actions, *expected}):
        note("decisions", (*key, actions.get(key)), (*key, expected.get(key)))
    for one in sorted({*lived.off, *(unfilled - lived.refused)}):
        note("off", one if one in lived.off else None, one if one in unfilled else None)
    table = result.fills.loc[result.fills["time"].isin(seen)]
    theirs = [(str(r.symbol), r.time, r.quantity, r.price, r.fee, r.slippage) for r in table.itertuples()]
    for one, other in zip_longest(lived.fills, theirs):
        note("fills", one, other)
    for opened in seen:
        note("equity", lived.equity[opened], float(result.equity.loc[opened]))
    return compared, different


# ----------------------------------------------------------------------------------------------- main


def first_entry(entry: RosterFold, research: Any) -> int:
    """Row of the first entry of a fold's trading window: before it every pair is flat, and nothing is decided."""
    decided = [table["entry_decision"] for table in entered_in(entry, research).values()]
    step = pd.Timedelta(timeframe_ms("5m"), unit="ms")
    return int(entry.fold.trading_grid(step).searchsorted(pd.concat(decided).min()))


def replay(
    name: str, env: str | None, given: dict[str, Any], folder: Path, fold: str | None, n_bars: int | None
) -> tuple[dict[str, int], dict[str, int]]:
    """Research and live on one market: values compared and values that differ, by kind."""
    bootstrap_project(PROJECT)
    if name == HOLES:
        whole, _ = researched(folder / "whole", env, given)
        given = {"market": {"source": "files", "files": {"path": str(with_holes(whole, folder / "files"))}}}
    made, given_params = researched(folder / "research", env, given)
    params = {block: BLOCKS[block].model_validate(given_params[block]) for block in ("portfolio", "backtest")}
    entry = last_traded(Roster.parse(made.load("roster")), made.load("pair_windows"), fold)
    say(f"{name}: {entry.fold.name}, {len(entry.pairs)} pairs, from {entry.fold.formation_end:%Y-%m-%d %H:%M}")
    n = len(entry.fold.trading_grid(pd.Timedelta(timeframe_ms("5m"), unit="ms")))
    start = 0 if n_bars is None else max(first_entry(entry, made) - 3, 0)
    rows = range(start, n if n_bars is None else min(start + n_bars, n))
    lived = live_through(entry, made, folder / "live", env, given, rows)
    compared, different = differences(entry, lived, made, params)
    told = ", ".join(f"{compared[kind]:,} {kind} {different[kind]} differ" for kind in ZERO)
    seconds = np.sort(lived.seconds)
    say(
        f"replay, {name}: {len(lived.equity):,} bars, {len(entry.pairs)} pairs, {told}; "
        f"{np.median(seconds):.3f} s a bar, at most {seconds[-1]:.2f} s"
    )
    return compared, different


def main() -> int:
    """Replay every market there is; 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, help="live through this many bars only, from the first entry on")
    parser.add_argument("--fold", help="fold to live through, such as fold_02; the latest that traded by default")
    parser.add_argument("--market", choices=["demo", "real", "test", HOLES], action="append")
    parser.add_argument("--keep", type=Path, help="folder to keep research in, for another run")
    args = parser.parse_args()
    logging.getLogger("mntrading").setLevel(logging.WARNING)
    sample = os.environ.get(SAMPLE)
    wanted = args.market or ["demo", *(["real"] if sample else []), HOLES]
    ways: dict[str, tuple[str | None, dict[str, Any]]] = {
        "demo": (None, {}),
        "real": ("files", {"market": {"files": {"path": sample}}}),
        "test": ("test", {}),
        HOLES: ("test", {}),
    }
    if not sample:
        say(f"{SAMPLE} names no folder: real bars are left out")
    compared, different, silent = dict(ZERO), dict(ZERO), []
    for name in wanted:
        folder = (args.keep or Path(tempfile.mkdtemp())) / name
        shutil.rmtree(folder / "live", ignore_errors=True)
        found = replay(name, *ways[name], folder, args.fold, args.bars)
        for total, counts in zip((compared, different), found, strict=True):
            for kind, n in counts.items():
                total[kind] += n
        if not (found[0]["decisions"] and found[0]["fills"]):
            silent.append(name)
        if args.keep is None:
            shutil.rmtree(folder)
    ok = not any(different.values()) and not silent
    figures = {"markets": wanted, "compared": compared, "different": different, "nothing_traded": silent}
    say(f"replay: {json.dumps(figures)} {'ok' if ok else 'NOT OK'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
