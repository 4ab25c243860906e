"""Run the whole job on the five simulated markets and hold what it finds against their truth.

    make markets                                     ten seeds of each market, twenty of ``null``
    python benchmarks/markets.py --markets ou break  some of them
    python benchmarks/markets.py --quick             one seed each, short history

``null``  nothing to find: a pair selected there is a false one, and a champion would be luck taken for skill
``ou``    one perfect pair, whose hedge ratio and half-life are known
``break`` one pair whose relation dies on day 90: it must go, and not cost much until then
``demo``  planted pairs among walks: they must be found, little else, and pay after costs
``dirty`` an exchange that serves hostile rows: none of them may be stored, and a trade over a hole must say so

One table a market; the last line has the figures, and the exit code is 1 when an invariant is broken. Each run is the
research job with the project's parameters, without its report, in a process of its own with one thread; ``--jobs`` of
them at a time, each with a tracking store that its first run creates.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading import runs
from mntrading.core import metrics
from mntrading.core.simulation import Market, market
from mntrading.datasets import BarsDataset, BarStore, PartitionedArtifactDataset

THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
MARKETS: Final = ("null", "ou", "break", "demo", "dirty")
STEPS: Final = ("ingest", "screen", "features", "dataset", "train", "backtest", "select")
END: Final = "2025-06-18T00:00:00Z"
STEP: Final = pd.Timedelta(5, unit="min")

# the invariants' limits
MAX_NULL_WINDOWS: Final = 0.07  # share of formation windows of null that select anything
MAX_NULL_CHAMPIONS: Final = 0.05  # share of null's seeds with a champion
MIN_OU_SHARPE: Final = 3.0  # of ou's gross daily P&L, annual, each seed
MAX_BETA_ERROR: Final = 0.10
MAX_HALF_LIFE_FACTOR: Final = 2.0
MAX_BARS_TO_LAST_ENTRY: Final = 2 * 14 * 288  # two trading windows: a break falls into one, the next screen sees it
MAX_BREAK_LOSS: Final = 0.10  # of the notional, from the break to the lowest point after it
MIN_POWER, MAX_FDR = 0.80, 0.10

QUICK: Final[dict[str, Any]] = {
    "schedule": {"formation_days": 45, "trading_days": 14, "step_days": 14},
    "modelling": {"models": ["logistic_regression"], "n_splits": 3},
}
QUICK_SPAN: Final = {  # where the history begins and ends; break needs its day 90, 1 April
    "break": ("2025-02-06T00:00:00Z", "2025-05-20T00:00:00Z"),
    "": ("2025-01-01T00:00:00Z", "2025-03-16T00:00:00Z"),
}


@dataclass(frozen=True)
class Job:
    """One run: which market, and how much of it."""

    market: str
    seed: int
    quick: bool = False

    @property
    def span(self) -> tuple[str, str]:
        """Where its history begins and ends."""
        if self.quick:
            return QUICK_SPAN.get(self.market, QUICK_SPAN[""])
        return "2025-01-01T00:00:00Z", END

    @property
    def n_symbols(self) -> int | None:
        """Symbols of the market; None for its own number."""
        return 12 if self.quick and self.market in ("null", "demo") else None

    def params(self) -> dict[str, Any]:
        """What the run changes of the project's parameters."""
        since, end = self.span
        simulator = {"name": self.market, "seed": self.seed, "end": end, "n_symbols": self.n_symbols}
        return {
            "market": {"simulator": simulator},
            "ingestion": {"since_utc": since},
            "compute": {"n_workers": 1},
            **(QUICK if self.quick else {}),
        }

    def truth(self) -> Market:
        """The market behind the bars."""
        return market(self.market, seed=self.seed, n_symbols=self.n_symbols, end=pd.Timestamp(self.span[1]))


@dataclass(frozen=True)
class Found:
    """What a run has stored."""

    root: Path
    job: Job

    def json(self, path: str) -> Any:
        """A JSON artefact."""
        return json.loads((self.root / path).read_text())

    @property
    def folds(self) -> list[dict[str, Any]]:
        """The roster's folds, the live one last."""
        return list(self.json("pairs/roster.json")["folds"])

    @property
    def summary(self) -> dict[str, Any]:
        """Results of the walk-forward."""
        return dict(self.json("backtest_results/_summary.json"))

    @property
    def registry(self) -> dict[str, Any]:
        """Champions and rejected candidates."""
        return dict(self.json("models/registry.json"))

    def frames(self, name: str) -> dict[str, pd.DataFrame]:
        """A backtest artefact by pair id."""
        path = self.root / "backtest_results" / name
        return dict(PartitionedArtifactDataset(path=str(path), format="parquet").load())

    def bars(self, timeframe: str) -> BarStore:
        """Stored bars."""
        return BarsDataset(path=str(self.root / f"raw/ohlcv_{timeframe}.parquet"), timeframe=timeframe).load()

    def trades(self) -> pd.DataFrame:
        """Every trade, with its pair."""
        parts = [frame.assign(pair_id=pair_id) for pair_id, frame in self.frames("trades").items() if len(frame)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"entry_fill": [], "gross_pnl": []})


def research(job: Job, root: Path) -> dict[str, Any]:
    """Run one market and give its line of the table."""
    folder = root / f"{job.market}_{job.seed}"
    os.environ["MNTRADING_STORAGE_ROOT"] = str(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root / f'mlflow_{os.getpid()}.db'}"
    began = time.monotonic()
    runs.run("__default__", params=job.params(), tags=STEPS)
    line = LINES[job.market](Found(folder, job))
    shutil.rmtree(folder)
    return {"seed": job.seed, **line, "seconds": time.monotonic() - began}


# --- one line a run ---


def null_line(found: Found) -> dict[str, Any]:
    """What was found where there is nothing to find."""
    folds = found.folds
    summary = found.summary
    return {
        "windows": len(folds),
        "with_pairs": sum(bool(fold["pairs"]) for fold in folds),
        "selected": sum(len(fold["pairs"]) for fold in folds),
        "trades": sum(line["n_trades"] for line in summary["folds"]),
        "net_pnl": sum(line["net_pnl"] for line in summary["folds"]),
        "champions": len(found.registry["champions"]),
        "fold_champions": sum(line["n_champions"] for line in summary["folds"]),
        "auc": found.json("models/_scores.json")["total"]["roc_auc"],
    }


def ou_line(found: Found) -> dict[str, Any]:
    """The hedge ratio and half-life recovered, beside the truth, and what trading it earned before costs."""
    truth = found.job.truth().truth.iloc[0]
    pairs = [pair for fold in found.folds for pair in fold["pairs"]]
    beta = [pair["beta"] if pair["dependent"] == truth["dependent"] else 1 / pair["beta"] for pair in pairs]
    trades, summary = found.trades(), found.summary
    return {
        "windows": len(found.folds),
        "with_pairs": sum(bool(fold["pairs"]) for fold in found.folds),
        "beta": float(np.median(beta)) if beta else None,
        "true_beta": float(truth["beta"]),
        "half_life": float(np.median([pair["half_life_hours"] for pair in pairs])) if pairs else None,
        "true_half_life": float(truth["half_life_hours"]),
        "trades": len(trades),
        "gross_pnl": float(trades["gross_pnl"].sum()),
        "gross_sharpe": gross_sharpe(trades, found.folds),
        "net_sharpe": summary["portfolio"]["roster"]["sharpe"],
        "champions": len(found.registry["champions"]),
    }


def gross_sharpe(trades: pd.DataFrame, folds: Sequence[dict[str, Any]]) -> float | None:
    """Annual Sharpe ratio of the gross P&L realised on each day of the trading windows."""
    windows = [fold for fold in folds if fold["trading_end"] is not None]
    if not windows or not len(trades):
        return None
    first, last = pd.Timestamp(windows[0]["formation_end"]), pd.Timestamp(windows[-1]["trading_end"])
    days = pd.date_range(first.floor("D"), last, freq="D", inclusive="left")
    realised = trades.groupby(trades["exit_fill"].dt.floor("D"))["gross_pnl"].sum()
    value = metrics.sharpe(realised.reindex(days, fill_value=0.0).to_numpy())
    return value if np.isfinite(value) else None


def break_line(found: Found) -> dict[str, Any]:
    """When the pair that broke was last entered and left, and what it cost after the break."""
    truth = found.job.truth().truth.iloc[0]
    legs, broken = {truth["dependent"], truth["independent"]}, truth["break_time"]
    held = [
        (fold, pair)
        for fold in found.folds
        for pair in fold["pairs"]
        if {pair["dependent"], pair["independent"]} == legs
    ]
    ids = sorted({pair["pair_id"] for _, pair in held})
    trades = found.trades()
    mine = trades.loc[trades["pair_id"].isin(ids)] if ids else trades.iloc[:0]
    curves = found.frames("pairs")
    parts = [curves[pair_id] for pair_id in ids if len(curves[pair_id])]
    after = mine.loc[mine["exit_fill"] >= broken] if len(mine) else mine
    return {
        "folds_before": sum(pd.Timestamp(fold["formation_end"]) <= broken for fold, _ in held),
        "folds_after": sum(pd.Timestamp(fold["formation_end"]) > broken for fold, _ in held),
        "on_live_roster": any(fold["trading_end"] is None for fold, _ in held),
        "trades_before": len(mine) - len(after),
        "net_before": float(mine["net_pnl"].sum() - after["net_pnl"].sum()) if len(mine) else 0.0,
        "trades_after": len(after),
        "net_after": float(after["net_pnl"].sum()) if len(after) else 0.0,
        "worst_after": _worst_since(parts, broken),
        "bars_to_last_entry": _bars_since(broken, mine["entry_fill"]),
        "bars_to_last_exit": _bars_since(broken, mine["exit_fill"]) if len(mine) else 0,
        "champion": bool({entry["pair_id"] for entry in found.registry["champions"]} & set(ids)),
    }


def _bars_since(moment: pd.Timestamp, times: pd.Series) -> int:
    """Bars from a moment to the last of some times; 0 where none comes after it."""
    return 0 if not len(times) or times.max() <= moment else int((times.max() - moment) / STEP)


def _worst_since(curves: Iterable[pd.DataFrame], moment: pd.Timestamp) -> float:
    """Lowest P&L since a moment, marked at every bar, windows joined; in units of the notional, 0 where never below."""
    steps = [
        window["equity"].diff().fillna(window["equity"] - 1.0)
        for curve in curves
        for _, window in curve.groupby("fold")
    ]
    if not steps:
        return 0.0
    total = pd.concat(steps).sort_index()
    return float(min(0.0, total.loc[total.index >= moment].cumsum().min()))


def demo_line(found: Found) -> dict[str, Any]:
    """Planted pairs found and false ones, and what trading earned after costs.

    A planted pair is there to be found in a formation window it lives all through; one that has broken in it is not,
    and selecting it counts as false.
    """
    truth = found.job.truth().truth
    planted = hits = false = selected = 0
    for fold in found.folds:
        alive = truth.loc[truth["end"] >= pd.Timestamp(fold["formation_end"])]
        real = {frozenset(pair) for pair in alive[["dependent", "independent"]].itertuples(index=False, name=None)}
        chosen = {frozenset((pair["dependent"], pair["independent"])) for pair in fold["pairs"]}
        planted, hits = planted + len(real), hits + len(real & chosen)
        false, selected = false + len(chosen - real), selected + len(chosen)
    portfolio = found.summary["portfolio"]
    return {
        "planted": planted,
        "found": hits,
        "power": hits / planted,
        "selected": selected,
        "false": false,
        "trades": sum(line["n_trades"] for line in found.summary["folds"]),
        "net_roster": portfolio["roster"]["total_return"],
        "sharpe_roster": portfolio["roster"]["sharpe"],
        "net_champions": portfolio["champions"]["total_return"],
        "sharpe_champions": portfolio["champions"]["sharpe"],
        "champions": len(found.registry["champions"]),
    }


def dirty_line(found: Found) -> dict[str, Any]:
    """Stored bars against the clean ones behind the hostile rows, and trades against the holes that are left."""
    truth = found.job.truth()
    stored = invalid = lost = 0
    for timeframe in ("1h", "5m"):
        store = found.bars(timeframe)
        clean = dict(iter(truth.bars(timeframe).groupby("symbol")))
        removed = truth.removed(timeframe)
        for symbol in store:
            counts = compare(store[symbol], clean[symbol], removed.loc[removed["symbol"] == symbol, "timestamp"])
            stored, invalid, lost = stored + counts[0], invalid + counts[1], lost + counts[2]
    trades = found.trades()
    gaps = [across_gap(trade, found.bars("5m")) for trade in trades.to_dict("records")]
    said = trades["across_gap"].tolist() if len(trades) else []
    return {
        "bars_stored": stored,
        "invalid": invalid,
        "lost_without_reason": lost,
        "selected": sum(len(fold["pairs"]) for fold in found.folds),
        "trades": len(trades),
        "across_gap": sum(gaps),
        "unsaid": sum(gap and not told for gap, told in zip(gaps, said, strict=True)),
        "said_without_gap": sum(told and not gap for gap, told in zip(gaps, said, strict=True)),
        "net_pnl": sum(line["net_pnl"] for line in found.summary["folds"]),
    }


def compare(stored: pd.DataFrame, clean: pd.DataFrame, removed: pd.Series) -> tuple[int, int, int]:
    """Stored bars, those that are no clean bar, and clean bars neither stored nor withheld by the exchange."""
    columns = ["timestamp", "open", "high", "low", "close", "volume"]
    both = stored[columns].merge(clean[columns], how="outer", on="timestamp", suffixes=("", "_clean"), indicator=True)
    there = both["_merge"] != "right_only"
    same = np.logical_and.reduce([both[name] == both[f"{name}_clean"] for name in columns[1:]])
    missing = (both["_merge"] == "right_only") & ~both["timestamp"].isin(removed)
    return int(there.sum()), int((there & ~same).sum()), int(missing.sum())


def across_gap(trade: dict[str, Any], store: BarStore) -> bool:
    """Whether a bar of either leg is missing between a trade's fills."""
    needed = pd.date_range(trade["entry_fill"], trade["exit_fill"], freq=STEP)
    legs = [symbol for symbol in store if symbol.replace("/", "-") in trade["pair_id"].split("__")]
    return any(not needed.isin(store[symbol]["timestamp"]).all() for symbol in legs)


LINES: Final[dict[str, Callable[[Found], dict[str, Any]]]] = {
    "null": null_line,
    "ou": ou_line,
    "break": break_line,
    "demo": demo_line,
    "dirty": dirty_line,
}


# --- invariants ---


@dataclass
class Verdict:
    """What a market's lines come to in words, and which invariants they break."""

    said: str
    broken: list[str] = field(default_factory=list)

    def must(self, kept: bool, otherwise: str) -> None:
        """Note what is broken unless it is kept."""
        if not kept:
            self.broken.append(otherwise)


Lines = Sequence[dict[str, Any]]


def total(lines: Lines, key: str) -> float:
    """Sum of a column."""
    return float(sum(line[key] for line in lines))


def judge_null(lines: Lines) -> Verdict:
    """At most the promised share of windows selects anything, no champion, and nothing earned."""
    windows, hit = total(lines, "windows"), total(lines, "with_pairs")
    lucky, net = sum(line["champions"] > 0 for line in lines), total(lines, "net_pnl") / len(lines)
    verdict = Verdict(
        f"{hit:.0f} of {windows:.0f} windows select a pair, {lucky} of {len(lines)} seeds have a champion, "
        f"net {net:+.2%} a seed over {total(lines, 'trades'):.0f} trades"
    )
    verdict.must(hit <= MAX_NULL_WINDOWS * windows, f"{hit / windows:.1%} of windows select a pair")
    verdict.must(lucky <= MAX_NULL_CHAMPIONS * len(lines), f"{lucky} of {len(lines)} seeds have a champion")
    verdict.must(net <= 0, f"net P&L is {net:+.3%} a seed")
    return verdict


def judge_ou(lines: Lines) -> Verdict:
    """Hedge ratio and half-life are recovered, and the pair pays well before costs."""
    errors = [abs(line["beta"] / line["true_beta"] - 1) if line["beta"] else np.inf for line in lines]
    factors = [line["half_life"] / line["true_half_life"] if line["half_life"] else np.inf for line in lines]
    sharpes = [line["gross_sharpe"] if line["gross_sharpe"] is not None else -np.inf for line in lines]
    verdict = Verdict(
        f"gross Sharpe {min(sharpes):.1f} to {max(sharpes):.1f}, beta off by {np.median(errors):.1%} (at most "
        f"{max(errors):.1%}), half-life times {min(factors):.2f} to {max(factors):.2f}"
    )
    verdict.must(min(sharpes) >= MIN_OU_SHARPE, f"a gross Sharpe of {min(sharpes):.2f}")
    verdict.must(max(errors) <= MAX_BETA_ERROR, f"a hedge ratio off by {max(errors):.1%}")
    within = all(1 / MAX_HALF_LIFE_FACTOR < factor < MAX_HALF_LIFE_FACTOR for factor in factors)
    verdict.must(within, f"a half-life times {min(factors):.2f} to {max(factors):.2f}")
    return verdict


def judge_break(lines: Lines) -> Verdict:
    """The pair was there, is left in time, costs little after its break, and is neither live nor champion."""
    last_entry, last_exit = (max(line[f"bars_to_last_{what}"] for line in lines) for what in ("entry", "exit"))
    worst = min(line["worst_after"] for line in lines)
    verdict = Verdict(
        f"last entry {last_entry} bars after the break at the latest, last exit {last_exit} (median "
        f"{np.median([line['bars_to_last_exit'] for line in lines]):.0f}), worst loss {worst:.2%} of notional"
    )
    absent = sum(not line["folds_before"] for line in lines)
    verdict.must(not absent, f"{absent} seeds never had the pair")
    verdict.must(last_entry <= MAX_BARS_TO_LAST_ENTRY, f"an entry {last_entry} bars after the break")
    verdict.must(worst >= -MAX_BREAK_LOSS, f"a loss of {worst:.2%} of notional")
    alive = sum(line["on_live_roster"] or line["champion"] for line in lines)
    verdict.must(not alive, f"{alive} seeds still have the pair on the live roster")
    return verdict


def judge_demo(lines: Lines) -> Verdict:
    """Planted pairs are found and little else, and they pay after costs."""
    power = total(lines, "found") / total(lines, "planted")
    fdr = total(lines, "false") / max(total(lines, "selected"), 1.0)
    roster = [line["net_roster"] or 0.0 for line in lines]
    champions = [line["net_champions"] or 0.0 for line in lines]
    chosen = total(lines, "champions")
    verdict = Verdict(
        f"power {power:.1%}, false {fdr:.1%}, net out of sample {np.mean(roster):+.2%} (worst {min(roster):+.2%}), "
        f"of champions {np.mean(champions):+.2%} (worst {min(champions):+.2%}), "
        f"{chosen / len(lines):.1f} champions a seed"
    )
    verdict.must(power >= MIN_POWER, f"power {power:.1%}")
    verdict.must(fdr <= MAX_FDR, f"false discoveries {fdr:.1%}")
    verdict.must(min(roster) > 0, f"a net out-of-sample return of {min(roster):+.2%}")
    verdict.must(np.mean(champions) >= 0, f"champions' mean net return {np.mean(champions):+.2%}")
    return verdict


def judge_dirty(lines: Lines) -> Verdict:
    """Every stored bar is a clean one, none is lost without a reason, and trades tell of the holes they cross."""
    invalid, lost, unsaid = (int(total(lines, key)) for key in ("invalid", "lost_without_reason", "unsaid"))
    verdict = Verdict(
        f"{total(lines, 'bars_stored'):,.0f} bars stored, {invalid} invalid, {lost} lost without a reason; "
        f"{total(lines, 'across_gap'):.0f} of {total(lines, 'trades'):.0f} trades cross a hole, {unsaid} do not say so"
    )
    verdict.must(not invalid, f"{invalid} invalid bars are stored")
    verdict.must(not lost, f"{lost} bars are lost without a reason")
    verdict.must(not unsaid, f"{unsaid} trades cross a hole and do not say so")
    return verdict


VERDICTS: Final[dict[str, Callable[[Lines], Verdict]]] = {
    "null": judge_null,
    "ou": judge_ou,
    "break": judge_break,
    "demo": judge_demo,
    "dirty": judge_dirty,
}


# --- the run ---


def show(title: str, lines: Lines) -> None:
    """A table on the terminal."""
    keys = list(lines[0])
    rows = [keys, *([_cell(line[key]) for key in keys] for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(keys))]
    sys.stdout.write(f"\n{title}\n")
    for row in rows:
        sys.stdout.write("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "\n")
    sys.stdout.flush()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.4f}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of each market; null has twice as many")
    parser.add_argument("--markets", nargs="+", choices=MARKETS, default=list(MARKETS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--quick", action="store_true", help="one seed each, short history")
    asked = parser.parse_args(argv)
    began = time.monotonic()
    os.environ |= dict.fromkeys(THREADS, "1")  # of the processes that are started from here on
    counts = {name: 1 if asked.quick else asked.seeds * (2 if name == "null" else 1) for name in asked.markets}
    jobs = [Job(name, seed, asked.quick) for name, n in counts.items() for seed in range(n)]
    broken, told = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(asked.jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        waiting = {job: pool.submit(research, job, Path(folder)) for job in jobs}
        for name in asked.markets:
            lines = [future.result() for job, future in waiting.items() if job.market == name]
            show(f"{name}: {(LINES[name].__doc__ or '').splitlines()[0]}", lines)
            verdict = VERDICTS[name](lines)
            told.append(f"{name}: {verdict.said}")
            broken += [f"{name}: {what}" for what in verdict.broken]
    took = f"{len(jobs)} runs in {(time.monotonic() - began) / 60:.1f} min"
    verdicts = f"BROKEN: {'; '.join(broken)}" if broken else "every invariant holds"
    sys.stdout.write(f"\nmarkets: {'. '.join(told)}. {took}; {verdicts}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
