"""Kill -9 at random moments of a live cycle, and see that nothing is lost, cut, done twice or in the way.

    make kill-cycle

A short cycle (a real session: ingestion, signals, account, orders, report, tracking) is run on a copy of one finished
project, in a process forked from this one, which has imported everything. It is killed at a moment drawn from
the time a cycle takes, or within a save drawn from those it makes. Then, in turn,

- **the same bar is run again**: production map, signals, position state, paper account and its equity, latest orders
  and their history must have the bytes of a run that nothing disturbed;
- **the next bar is run**, the killed one never again: an entry whose orders were never written is not held by the
  account, nothing is filled twice, equity is cash and marks at every bar, and the book orders start from is the
  account's.

Right after every kill all that is stored must be readable, and have the bytes it had or those that were to come. Killed
runs stand as ``killed`` in ``runs/history`` after the next one. The last line has the figures; the exit code is 1 when
anything is broken. Covered are the death of the process and what it leaves on a disk that lives; not a power cut,
nor object stores (``make test-s3``).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import cycles
import pandas as pd
from filelock import FileLock
from kill_loop import Board
from refusals import bars_lost, live
from scene import STEP, Scene, iso, prepared

from mntrading.core.errors import MNTradingError
from mntrading.datasets import ArtifactDataset, BarsDataset, DatedArtifactDataset, PartitionedArtifactDataset
from mntrading.datasets.storage import canonical_json
from mntrading.hooks import RunHooks
from mntrading.pipelines.common import stamp_of
from mntrading.pipelines.deployment import inference

_AIMED: Final = 0.6
"""Share of the kills that are made in a save, whichever; the others at any moment."""

_LONGEST: Final = 0.02
"""Seconds into a save; most take less, and are over then."""

_RELATIVE: Final = 1e-9
_NOTES: Final = 8


@dataclass
class Figures:
    """What came of the kills."""

    kills: int = 0
    late: int = 0
    saving: int = 0
    phases: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    lost: int = 0
    different: int = 0
    inconsistent: int = 0
    in_the_way: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """Invariants that did not hold."""
        return self.unreadable + self.lost + self.different + self.inconsistent + self.in_the_way

    def note(self, kind: str, what: str) -> None:
        """Count a broken invariant."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(f"{kind}: {what}")


class Cycle:
    """The scene, undisturbed runs of its bar and the next one, and how long a run takes."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        self.folder, self.scene, self.board = folder, scene, Board()
        undisturbed = cycles.copy(scene.root, folder / "undisturbed")
        self.board.reset()
        began = time.perf_counter()
        _checked(cycles.forked(undisturbed, self.params(scene.bar), first=self.board.watch))
        self.seconds, self.saves = time.perf_counter() - began, self.board.saved
        self.expected, self.map = live(undisturbed, scene), _map(scene.root)
        self.before = cycles.tree(scene.root)
        self.after = cycles.tree(undisturbed)

    def params(self, bar: pd.Timestamp) -> dict[str, Any]:
        """Parameters of a run at a bar."""
        return cycles.served(iso(bar))

    def killed(self, root: Path, rng: random.Random) -> bool:
        """Whether a cycle was still at it when it was killed: in one of its saves, or at any moment of its time."""
        self.board.reset()
        aimed = rng.random() < _AIMED
        save, inside, after = rng.randrange(self.saves), rng.uniform(0.0, _LONGEST), rng.uniform(0.0, self.seconds)

        def act() -> None:
            with Path(os.devnull).open("w") as nowhere:
                for stream in (1, 2):
                    os.dup2(nowhere.fileno(), stream)
            self.board.watch()
            self.board.start()
            os._exit(cycles.in_process(root, ("short_cycle",), self.params(self.scene.bar)))

        pid = cycles.fork(act)
        until = time.perf_counter() + 10.0 * self.seconds
        while not self.board.started:
            time.sleep(0.0002)
        if aimed:
            while (self.board.saved < save or not self.board.saving) and time.perf_counter() < until:
                time.sleep(0.0001)
            time.sleep(inside)
        else:
            time.sleep(after)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError(f"a cycle ended with {os.WEXITSTATUS(status)} before it was killed")
        return os.WIFSIGNALED(status)


def _checked(ended: cycles.Ended) -> None:
    if ended.code:
        raise RuntimeError(f"a run ended with {ended.code}: {ended.said}")


def _map(root: Path) -> bytes:
    return (root / "models/production_map.json").read_bytes()


# --- right after a kill ---------------------------------------------------------------------------------------


def phase(root: Path, scene: Scene) -> str:
    """The last thing of the bar that a killed run has written."""
    stamp, held = stamp_of(scene.bar), "nothing of the bar"
    steps = (
        ("bars", lambda: _as_of(root / "raw/markets.json") == scene.bar),
        ("signals", lambda: (root / f"signals/{stamp}.jsonl").exists()),
        ("state", lambda: _as_of(root / "signals/_position_state.json") == scene.bar),
        ("account", lambda: _as_of(root / "portfolio/paper_account.json") == scene.bar),
        ("orders", lambda: _as_of(root / "portfolio/latest_orders.json") == scene.bar),
        ("history", lambda: (root / f"portfolio/history/{stamp}.json").exists()),
    )
    for name, done in steps:
        if not done():
            return held
        held = name
    return held


def _as_of(file: Path) -> pd.Timestamp:
    return pd.Timestamp(json.loads(file.read_text())["as_of"])


def readable(root: Path) -> list[str]:
    """What of everything live can't be read."""
    wrong = []

    def read(name: str, load: Any) -> None:
        try:
            load()
        except MNTradingError as error:
            wrong.append(f"{name}: {error}")

    for name in ("models/production_map", "signals/_position_state", "portfolio/paper_account",
                 "portfolio/latest_orders", "raw/markets", "runs/current", "signals/_monitoring"):  # fmt: skip
        schema = {"current": "run_record"}.get(name.rpartition("/")[2], name.rpartition("/")[2].lstrip("_"))
        dataset = ArtifactDataset(filepath=str(root / f"{name}.json"), format="json", schema=schema)
        read(name, dataset.load)

    def folder(kind: Any, name: str, format: str, **options: Any) -> None:
        read(name, lambda: [*kind(path=str(root / name), format=format, **options).load().values()])

    for name, format in (("portfolio/paper_equity", "parquet"), ("models/production", "model")):
        folder(PartitionedArtifactDataset, name, format, append=True)
    for name, format in (("signals", "jsonl"), ("portfolio/history", "json"), ("runs/history", "json")):
        folder(DatedArtifactDataset, name, format)
    for timeframe in ("5m", "1h"):
        bars = BarsDataset(path=str(root / f"raw/ohlcv_{timeframe}.parquet"), timeframe=timeframe)
        read(timeframe, lambda bars=bars: bars.load().frame())
    return wrong


def torn(cycle: Cycle, root: Path) -> list[str]:
    """Files that are neither what they were nor what an undisturbed run makes of them; logs and manifests apart."""
    loose = ("raw/", "signals/_days", "portfolio/_latest_report", "portfolio/history/_days",
             "portfolio/paper_equity/_manifest")  # fmt: skip
    found = cycles.tree(root)
    return [
        name
        for name, digest in found.items()
        if not name.startswith(loose) and digest not in (cycle.before.get(name), cycle.after.get(name))
    ] + [name for name in cycle.before if name not in found]


def examined(cycle: Cycle, root: Path, figures: Figures) -> None:
    """What a killed process left."""
    found = cycles.apart(lambda: (readable(root), bars_lost(cycle.scene.root, root)))
    for one in found[0]:
        figures.note("unreadable", one)
    if found[1]:
        figures.note("lost", f"{found[1]} bars")
    for name in torn(cycle, root):
        figures.note("lost", f"{name} is neither as it was nor as it was to be")
    lock = FileLock(root / ".lock")
    with lock.acquire(timeout=0):
        pass


# --- the run after it -----------------------------------------------------------------------------------------


def same_bar(cycle: Cycle, root: Path, figures: Figures, first: Callable[[], None] | None = None) -> None:
    """The bar again, to its end."""
    ended = cycles.forked(root, cycle.params(cycle.scene.bar), first=first)
    if ended.code:
        figures.note("in_the_way", f"exit code {ended.code}: {ended.said[-400:]}")
        return
    found = live(root, cycle.scene)
    for name in sorted(found.keys() | cycle.expected.keys()):
        if found.get(name) != cycle.expected.get(name):
            figures.note("different", name)
    if _map(root) != cycle.map:
        figures.note("different", "production map")


def next_bar(cycle: Cycle, root: Path, figures: Figures) -> None:
    """The bar after the killed one, which is not run again."""
    scene = cycle.scene
    ordered = _as_of(root / "portfolio/latest_orders.json") == scene.bar
    due = json.loads((root / "portfolio/latest_orders.json").read_text())
    ended = cycles.forked(root, cycle.params(scene.bar + STEP))
    if ended.code:
        figures.note("in_the_way", f"exit code {ended.code}: {ended.said[-400:]}")
        return
    for one in cycles.apart(lambda: _inconsistent(root, scene, due, ordered=ordered)):
        figures.note("inconsistent", one)
    for name in cycles.apart(lambda: readable(root)):
        figures.note("unreadable", name)


def _inconsistent(root: Path, scene: Scene, due: dict[str, Any], *, ordered: bool) -> list[str]:
    """What does not fit together after the next bar; ``due`` are the orders there were ahead of it."""
    account, orders, state = (
        json.loads((root / name).read_text())
        for name in ("portfolio/paper_account.json", "portfolio/latest_orders.json", "signals/_position_state.json")
    )
    wrong = []
    at = {iso(scene.bar + STEP)}
    if {account["as_of"], orders["as_of"], state["as_of"]} != at:
        wrong.append("account, orders and state are not all of the new bar")
    if orders["book"] != account["book"]:
        wrong.append("the book of the orders is not the account's")
    if account["before"]["bar_close"] != due["bar_close"]:
        wrong.append("the account was not settled from the orders there were")
    # fills: each order that was due once, on the bar after its own, and none that was never written
    fills = sorted((fill["symbol"], fill["quantity"]) for fill in account["fills"])
    wanted = sorted((o["symbol"], o["quantity"] * (1 if o["side"] == "buy" else -1)) for o in due["orders"])
    if fills != wanted:
        wrong.append(f"fills {fills}, orders due {wanted}")
    held = {row["pair_id"] for row in account["book"]["holdings"]}
    if held != {row["pair_id"] for row in due["wanted"]["holdings"]}:
        wrong.append(f"the account holds {sorted(held)}")
    entered = {scene.hit, scene.spared}
    if not ordered and held & entered:
        wrong.append("an entry is held whose orders were never written")
    # the pair whose exit was due is closed by these orders at the latest
    if scene.held in {row["pair_id"] for row in orders["wanted"]["holdings"]}:
        wrong.append("a pair whose exit was missed is held on")
    return [*wrong, *_unequal(root, account)]


def _unequal(root: Path, account: dict[str, Any]) -> list[str]:
    """Where the account's equity is not its cash and marks, or its bars are not each there once."""
    folder = PartitionedArtifactDataset(path=str(root / "portfolio/paper_equity"), format="parquet", append=True).load()
    table = pd.concat([frame for _, frame in sorted(folder.items())])
    wrong = []
    if not table.index.is_unique or not (table.index.to_series().diff().dropna() == STEP).all():
        wrong.append("bars of the account's equity are missing or twice")
    gap = (table["equity"] - table["cash"] - table["net"]).abs().max()
    if gap > _RELATIVE * table["equity"].abs().max():
        wrong.append(f"equity differs from cash and marks by {gap}")
    if table["equity"].iloc[-1] != account["equity"] or table["cash"].iloc[-1] != account["book"]["cash"]:
        wrong.append("the last bar of the equity is not the account's")
    closes = BarsDataset(path=str(root / "raw/ohlcv_5m.parquet"), timeframe="5m").load()
    marks = 0.0
    for row in account["book"]["holdings"]:
        for leg, units in (("dependent", "units_dependent"), ("independent", "units_independent")):
            marks += row[units] * float(closes[row[leg]]["close"].iloc[-1])
    if abs(account["book"]["cash"] + marks - account["equity"]) > _RELATIVE * abs(account["equity"]):
        wrong.append("the account's equity is not its cash and its units at the newest closes")
    for total in ("fees", "slippage", "borrow", "turnover"):
        if abs(table[total].sum() - account["totals"][total]) > _RELATIVE * max(1.0, abs(account["totals"][total])):
            wrong.append(f"{total} of the bars do not add up to the account's")
    return wrong


def recorded(root: Path, run_id: str, figures: Figures) -> None:
    """Whether the killed run stands in the history as one."""
    file = root / f"runs/history/{run_id.replace(':', '')}.json"
    status = json.loads(file.read_text())["status"] if file.exists() else "missing"
    if status != "killed":
        figures.note("in_the_way", f"the killed run is {status} in the history")


# --- the loop -------------------------------------------------------------------------------------------------


def kill(cycle: Cycle, kills: int, rng: random.Random) -> Figures:
    """So many kills; those that came after the end are made again."""
    figures = Figures()
    while figures.kills < kills:
        root = cycles.copy(cycle.scene.root, cycle.folder / "killed")
        last = json.loads((root / "runs/current.json").read_text())["run_id"]
        if not cycle.killed(root, rng):
            figures.late += 1
            if figures.late > 10 * kills:
                raise RuntimeError(f"the kills come too late, after {cycle.seconds:.1f} s of work")
            continue
        turn = figures.kills
        figures.kills += 1
        figures.saving += cycle.board.saving or cycle.board.writing
        told = phase(root, cycle.scene)
        figures.phases[told] = figures.phases.get(told, 0) + 1
        examined(cycle, root, figures)
        record = json.loads((root / "runs/current.json").read_text())
        (same_bar if turn % 2 == 0 else next_bar)(cycle, root, figures)
        if record["run_id"] != last and record["status"] == "running":
            recorded(root, record["run_id"], figures)
    return figures


def blind_spots(cycle: Cycle) -> list[str]:
    """Mutants of the live path that are not found out."""

    def on() -> None:
        mock.patch.object(inference, "_state_before", lambda state, _: dict(state["pairs"])).start()

    def unburied() -> None:
        mock.patch.object(RunHooks, "_bury").start()

    missed = []
    root, figures = cycles.copy(cycle.scene.root, cycle.folder / "mutant"), Figures()
    _checked(cycles.forked(root, cycle.params(cycle.scene.bar), first=on))
    same_bar(cycle, root, figures, on)
    missed += [] if figures.broken else ["a bar asked for again is stepped once more"]
    root, figures = cycles.copy(cycle.scene.root, cycle.folder / "mutant"), Figures()
    cycles.replace(root / "runs/current.json", canonical_json(
        json.loads((root / "runs/current.json").read_text()) | {"status": "running", "run_id": "dead"}))  # fmt: skip
    same_bar(cycle, root, figures, unburied)
    recorded(root, "dead", figures)
    missed += [] if figures.in_the_way else ["killed runs are forgotten"]
    root, figures = cycles.copy(cycle.scene.root, cycle.folder / "mutant"), Figures()
    cycles.replace(root / "portfolio/latest_orders.json", (root / "portfolio/latest_orders.json").read_bytes()[:-9])
    examined(cycle, root, figures)
    return missed + ([] if figures.unreadable and figures.lost else ["a file is written half"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loop; 1 if anything is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", help="folder to work in; a temporary folder by default")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kill-cycle-") as folder:
        place = Path(options.place or folder)
        cycles.tracked_in(place)
        scene = prepared(place)
        cycles.warm(cycles.copy(scene.root, place / "warm"), cycles.served(iso(scene.bar)))
        cycle = Cycle(place, scene)
        missed = blind_spots(cycle)
        return report(kill(cycle, options.kills, random.Random(options.seed)), missed)  # noqa: S311


def report(figures: Figures, missed: Sequence[str]) -> int:
    """Print the figures; 1 if anything is broken."""
    say = sys.stdout.write
    for name, count in figures.phases.items():
        say(f"{count:>5} killed with {name} stored last\n")
    for one in figures.notes[:_NOTES]:
        say(f"{one}\n")
    for one in missed:
        say(f"NOT FOUND OUT: {one}\n")
    say(
        f"kill-cycle: {figures.kills} kills, {figures.saving} of them in a save, {figures.unreadable} unreadable, "
        f"{figures.lost} lost, {figures.different} differences, {figures.inconsistent} inconsistent, "
        f"{figures.in_the_way} in the way of the next run; {3 - len(missed)} of 3 mutants found out\n"
    )
    return int(bool(figures.broken or missed))


if __name__ == "__main__":
    sys.exit(main())
