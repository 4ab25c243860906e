"""Every way the inputs of a live cycle can be wrong: what is said, what is done, and what is left.

    make refusals

One research run of the test environment, then a copy of its storage root for each case: it is spoiled, the short cycle
is run on it (a real session in a process of its own; one case or more of a family by ``kedro run`` as well), and the
bar is run again with everything in order. Held against each case:

- the exit code, and what is said in the end; never a traceback, always a command to run next;
- a pair in doubt is not entered, and its doubts stand in the stored state; the others are entered;
- the pair that is held leaves, whatever is in doubt;
- nothing that was stored before is lost or altered: files of the new bar alone are new, and every bar is still there;
- the same bar with everything in order gives the bytes of a run that nothing ever disturbed.

The last line has the figures, the exit code is 1 when any case is not as expected.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

import cycles
import pandas as pd
from cycles import TRACEBACK, Ended
from live_cases import ORDERS, RECORD, STATE, Case, Place, cases
from scene import Scene, holdings, iso, prepared

from mntrading.datasets import BarsDataset
from mntrading.pipelines.common import stamp_of
from mntrading.pipelines.deployment import inference

_LATER: Final = pd.Timedelta(1, unit="m")
_STATUS: Final = {"done": "finished", "doubts": "refused", "refused": "failed"}
_LIVE: Final = ("signals/_position_state.json", "portfolio/latest_orders.json", "portfolio/paper_account.json")


class Bench:
    """The scene, and what an undisturbed run makes of it."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        self.folder, self.scene = folder, scene
        undisturbed = cycles.copy(scene.root, folder / "undisturbed")
        ended = cycles.forked(undisturbed, cycles.served(iso(scene.bar)))
        if ended.code:
            raise RuntimeError(f"the undisturbed run ended with {ended.code}: {ended.said}")
        self.expected = live(undisturbed, scene)

    def run(self, case: Case, *, shell: bool = False) -> tuple[Ended, list[str]]:
        """How a case ended, and what is wrong with it."""
        scene = self.scene
        place = Place(scene, cycles.copy(scene.root, self.folder / "case"))
        case.spoil(place)
        before = cycles.tree(place.root)
        params = cycles.served(iso(scene.bar), **case.faults(scene)) | dict(case.params)
        if shell:
            ended = cycles.command(place.root, params)
        else:
            ended = cycles.forked(place.root, params, first=case.first and case.first(scene))
        wrong = [*_said(case, ended), *_recorded(place, case, ended), *_kept(place, case, before)]
        if case.outcome != "refused" and ended.code != TRACEBACK:
            wrong += _traded(place, case)
        if case.again and not shell:
            wrong += self._again(place, case)
        return ended, wrong

    def _again(self, place: Place, case: Case) -> list[str]:
        """What is wrong after a run of the same bar with everything in order."""
        scene = self.scene
        if case.outcome != "done":
            place.restore()
        # a minute later: what did not come is not asked for twice at the same time of the market
        ended = cycles.forked(place.root, cycles.served(iso(scene.bar), clock=iso(scene.bar + _LATER)))
        if ended.code:
            return [f"then ends with {ended.code}: {ended.said[-300:]}"]
        found = live(place.root, scene)
        there = sorted(self.expected.keys() | found.keys())
        other = [name for name in there if found.get(name) != self.expected.get(name)]
        return [f"then differs from an undisturbed run: {', '.join(other)}"] if other else []


def live(root: Path, scene: Scene) -> dict[str, str]:
    """Hashes of what a live run leaves for the bar."""
    stamp = stamp_of(scene.bar)
    names = (*_LIVE, f"signals/{stamp}.jsonl", f"portfolio/history/{stamp}.json")
    found = cycles.tree(root).items()
    return {name: digest for name, digest in found if name in names or name.startswith("portfolio/paper_equity/")}


def _said(case: Case, ended: Ended) -> list[str]:
    """What is wrong with the exit code and the message."""
    wrong = []
    expected = 0 if case.outcome == "done" else 1
    if ended.code != expected:
        wrong.append(f"exit code {ended.code}, expected {expected}: {ended.said[-400:]}")
    if case.says not in ended.said:
        wrong.append(f"does not say {case.says!r}: {ended.said[-400:]}")
    if expected and "\nNext: " not in ended.said:
        wrong.append(f"does not say what to do next: {ended.said[-400:]}")
    return wrong


def _recorded(place: Place, case: Case, ended: Ended) -> list[str]:
    """What is wrong with the record of the run."""
    status = place.json(RECORD)["status"]
    wrong = [] if status == _STATUS[case.outcome] else [f"its record says {status}"]
    if case.name == "of a killed run":
        killed = place.root / "runs/history/2025-02-23T00.00.00.000Z.json"
        if not killed.exists() or '"killed"' not in killed.read_text():
            wrong.append("the run that was killed is not in the history")
    return wrong


def _traded(place: Place, case: Case) -> list[str]:
    """What is wrong with signals and orders."""
    scene, wrong = place.scene, []
    names = {role: getattr(scene, role) for role in ("held", "hit", "spared")}
    doubts = place.json(STATE)["doubts"]
    if set(doubts) != {names[role] for role in case.doubted}:
        wrong.append(f"doubts of {sorted(doubts)}")
    wanted = holdings(place.root, "wanted")
    if wanted != {names[role] for role in case.wanted}:
        wrong.append(f"holds {sorted(wanted)} after its orders, expected {case.wanted}")
    orders = {order["symbol"]: order for order in place.json(ORDERS)["orders"]}
    held = {row["pair_id"] for row in place.json(ORDERS)["book"]["holdings"]}
    traded = {role for role in names if set(scene.legs[names[role]]) & set(orders)}
    moved = {role for role in names if (names[role] in held) != (names[role] in wanted)}
    if traded != moved:
        wrong.append(f"orders of {sorted(traded)}, expected of {sorted(moved)}")
    if "held" in traded and not all(orders[s]["reduce_only"] for s in scene.legs[scene.held]):
        wrong.append("the exit does not reduce")
    if (place.root / "loaded").exists():
        wrong.append("a pickle was loaded")
    return wrong


def _kept(place: Place, case: Case, before: Mapping[str, str]) -> list[str]:
    """What is wrong with what was stored before."""
    scene, after = place.scene, cycles.tree(place.root)
    stamp = stamp_of(scene.bar)
    # a pair that is left between the stored bar and the new one has a file of signals at the bar it was left on
    may = re.compile(
        rf"raw/|signals/(_days/\d+|_position_state|_monitoring)\.json|signals/{stamp}\.jsonl"
        rf"|portfolio/(latest_orders|paper_account|_latest_report)|portfolio/history/(_days/\d+|{stamp})\.json"
        r"|portfolio/paper_equity/"
    )
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    fresh = [name for name in after if name not in before]
    if case.outcome == "refused" and not case.after_signals:
        lost = [name for name in (*changed, *fresh) if not name.startswith("raw/")]
    else:
        late = [name for name in fresh if re.fullmatch(r"signals/\w+\.jsonl", name)]
        lost = [name for name in changed if not may.match(name)]
        lost += [name for name in fresh if not may.match(name) and name not in late]
    wrong = [f"changes {', '.join(sorted(lost))}"] if lost else []
    gone = cycles.apart(lambda: bars_lost(scene.root, place.root)) if "none of a leg" not in case.name else 0
    return [*wrong, *([f"{gone} stored bars are gone or changed"] if gone else [])]


def bars_lost(root: Path, other: Path) -> int:
    """Rows of bars of one root that another one does not have."""
    lost = 0
    for timeframe in ("5m", "1h"):
        one, two = (
            BarsDataset(path=str(r / f"raw/ohlcv_{timeframe}.parquet"), timeframe=timeframe).load().frame()
            for r in (root, other)
        )
        lost += len(one) - len(one.merge(two, how="inner"))
    return lost


def few(all_cases: Sequence[Case]) -> list[Case]:
    """Some that are refused, in doubt and let be, for every run of the tests."""
    names = {
        "map: content changed", "map: hedge at odds with its rule", "model: says 7", "bars: 12 old",
        "clock: of the market goes back", "switch: reducing",
    }  # fmt: skip
    return [case for case in all_cases if case.title in names]


def _left_out(module: Any, name: str, value: Any) -> Callable[[Scene], Callable[[], None]]:
    return lambda _: lambda: _start(mock.patch.object(module, name, return_value=value))


def _start(patch: Any) -> None:
    patch.start()


MUTANTS: Final = {
    "the map is not checked": ("map: content changed", _left_out(inference, "check", None)),
    "the log is not asked": ("map: content changed, and its id", _left_out(inference, "doubts_by_log", ())),
    "entries may be at odds": ("map: hedge at odds with its rule", _left_out(inference, "doubts_by_entry", [])),
    "old bars will do": ("bars: 12 old", _left_out(inference._Live, "_doubts", [])),
}
"""Checks of the live path left out, and the case that has to notice."""


def blind_spots(bench: Bench, chosen: Collection[Case]) -> dict[str, bool]:
    """Mutants of the chosen cases, and whether they are not found out."""
    known = {case.title: case for case in chosen}
    return {
        name: not bench.run(replace(known[case], first=first, again=False))[1]
        for name, (case, first) in MUTANTS.items()
        if case in known
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--few", action="store_true", help="some cases of each family, one of them by kedro run")
    parser.add_argument("--only", help="cases whose family and name have this in it")
    parser.add_argument("--place", help="folder to work in; a temporary folder by default")
    options = parser.parse_args(arguments)
    chosen = [case for case in cases() if not options.only or options.only in case.title]
    chosen = few(chosen) if options.few else chosen
    with tempfile.TemporaryDirectory(prefix="refusals-") as folder:
        place = Path(options.place or folder)
        cycles.tracked_in(place)
        scene = prepared(place)
        cycles.warm(cycles.copy(scene.root, place / "warm"), cycles.served(iso(scene.bar)))
        return report(Bench(place, scene), chosen, shells=1 if options.few else len(chosen))


def report(bench: Bench, chosen: Collection[Case], shells: int) -> int:
    """Run the cases and print a line of each; 1 if any is not as expected."""
    say, began = sys.stdout.write, time.monotonic()
    line = "{:<10}{:<48}{:<9}{:>5}  {}\n"
    say(line.format("inputs", "what is wrong", "outcome", "exit", "said"))
    bad = runs = 0
    for case in chosen:
        ways = [False, True] if case.by_command and shells else [False]
        shells -= len(ways) - 1
        for shell in ways:
            ended, wrong = bench.run(case, shell=shell)
            runs += 1
            bad += bool(wrong)
            told = "" if case.outcome == "done" else ended.said.replace("\n", " ")[:160]
            say(line.format(case.family, case.name + (" (kedro run)" if shell else ""), case.outcome, ended.code, told))
            for one in wrong:
                say(f"{'':<10}NOT AS EXPECTED: {one}\n")
            sys.stdout.flush()
    spots = blind_spots(bench, chosen)
    missed = [name for name, blind in spots.items() if blind]
    for one in missed:
        say(f"NOT FOUND OUT: {one}\n")
    outcomes = [case.outcome for case in chosen]
    say(
        f"refusals: {runs} cases, {outcomes.count('refused')} refused, {outcomes.count('doubts')} with doubts, "
        f"{outcomes.count('done')} done as if nothing were; {bad} not as expected; {len(spots) - len(missed)} of "
        f"{len(spots)} mutants found out ({time.monotonic() - began:.0f} s)\n"
    )
    return 1 if bad or missed else 0


if __name__ == "__main__":
    sys.exit(main())
