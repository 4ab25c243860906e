"""Challengers in shadow beside a live cycle: what production would have done, whatever is wrong with them.

    make shadow-cycle

The scene's third pair is made a challenger. A short cycle (a real session in a process of its own) enters one pair in
production and two in shadow. Then, on copies of it:

- **the same bits**: the shadow's map is put into production at the bar before, and signals, state, monitoring,
  account, equity and orders come out as the shadow's were;
- **out of the way**: the shadow is off, or any of its files cut, altered or gone: the cycle ends with 0, and every file
  of production has the bytes of a cycle that nothing disturbed;
- **killed** anywhere in the next bar, and run again: production's files and the shadow's are as if nothing had been;
- **taken in on their record**: a record that lacks something is refused, a good one is promoted, traded by, and rolled
  back, byte by byte.

The last line has the figures; the exit code is 1 when anything is broken.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cycles
import pandas as pd
from kill_cycle import Cycle, readable
from refusals import live
from scene import CLOSED, RESEARCH, STEP, Scene, holdings, iso, prepared

from mntrading.datasets import ArtifactDataset, PartitionedArtifactDataset
from mntrading.datasets.storage import canonical_json, content_hash
from mntrading.pipelines.common import stamp_of
from mntrading.pipelines.deployment import production_log as log
from mntrading.pipelines.deployment.changes import diff

_RECORD: Final = "portfolio/shadow/_record.json"
_MAP: Final = "models/production_map.json"
_SHADOW: Final = ("signals/shadow/", "portfolio/shadow/")
_LENIENT: Final = {"min_days": 0, "min_trades": 0, "min_gap_errors": None, "max_drawdown": 1.0}


@dataclass
class Bench:
    """The scene with a challenger in it, ahead of the bar, after it, and one bar on."""

    folder: Path
    scene: Scene
    wrong: list[str] = field(default_factory=list)
    runs: int = 0

    def __post_init__(self) -> None:
        self.ahead = cycles.copy(self.scene.root, self.folder / "shadow-ahead")
        _with_challenger(self.ahead, self.scene)
        self.at = cycles.copy(self.ahead, self.folder / "shadow-at")
        self.expect("the bar", self.at, self.scene.bar)
        self.on = cycles.copy(self.at, self.folder / "shadow-on")
        self.expect("the next bar", self.on, self.scene.bar + STEP)

    def check(self, *, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)

    def expect(
        self, what: str, root: Path, bar: pd.Timestamp | None, *pipelines: str, code: int = 0, **shadow: Any
    ) -> str:
        """Run pipelines on a root, by default a short cycle, note another exit code than expected; what it said."""
        self.runs += 1
        params = cycles.served(iso(bar or self.scene.bar)) | {"production": {"shadow": shadow}}
        ended = cycles.forked(root, params, pipelines or ("short_cycle",))
        self.check(holds=ended.code == code, what=f"{what}: exit code {ended.code}: {ended.said[-500:]}")
        return ended.said

    def as_production(self, what: str, root: Path, undisturbed: Path, bar: pd.Timestamp) -> None:
        """Note production's files that differ from those of a cycle that nothing disturbed."""
        scene = replace(self.scene, bar=bar)
        found, expected = live(root, scene), live(undisturbed, scene)
        differ = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        self.check(holds=not differ and bool(found), what=f"{what}: {', '.join(differ)} differ")


def _with_challenger(root: Path, scene: Scene) -> None:
    """The pair that is spared is no champion any more, for want of evidence; the others are promoted without it."""
    registry = ArtifactDataset(filepath=str(root / "models/registry.json"), format="json", schema="champion_registry")
    known = registry.load()
    (spared,) = (entry for entry in known["champions"] if entry["pair_id"] == scene.spared)
    failure = {"rule": "min_trades", "kind": "evidence", "value": 1.0, "limit": 4.0, "taken_by": []}
    rejected = spared | {"champion": False, "challenger": True, "reasons": ["fewer"], "failures": [failure]}
    others = [entry for entry in known["champions"] if entry["pair_id"] != scene.spared]
    registry.save(known | {"champions": others, "rejected": [rejected]})
    ended = cycles.forked(root, cycles.served(iso(CLOSED + STEP)) | RESEARCH, ("promote",))
    if ended.code:
        raise RuntimeError(f"promotion ended with {ended.code}: {ended.said}")


# --- the cycle ------------------------------------------------------------------------------------------------


def traded(bench: Bench) -> None:
    """Whether the challenger is entered on paper and nowhere else."""
    scene, root = bench.scene, bench.at
    paper = json.loads((root / "portfolio/shadow/paper_orders.json").read_text())
    record = json.loads((root / _RECORD).read_text())
    bench.check(holds=holdings(root, "wanted") == {scene.hit}, what="production does not enter its own pair alone")
    entered = {row["pair_id"] for row in paper["wanted"]["holdings"]}
    bench.check(holds=entered == {scene.hit, scene.spared}, what=f"the shadow enters {sorted(entered)}")
    bench.check(holds=record["challengers"] == [scene.spared], what=f"on trial are {record['challengers']}")
    bench.check(holds=record["since"] == iso(scene.stored_until), what=f"the record begins at {record['since']}")
    after = json.loads((bench.on / _RECORD).read_text())["figures"]
    bench.check(holds=after["gap"] != 0.0, what="two accounts that differ have no gap")
    report = (bench.on / "portfolio/_latest_report.md").read_text()
    bench.check(holds="Challengers in shadow" in report and "Side by side" in report, what="the report says nothing")


def same_bits(bench: Bench) -> None:
    """The shadow's files against those of production by the same map."""
    scene, root = bench.scene, cycles.copy(bench.ahead, bench.folder / "shadow-live")
    cycles.apart(lambda: _put_into_production(root))
    for bar in (scene.bar, scene.bar + STEP):
        bench.expect("the shadow's map in production", root, bar, enabled=False)
        there = bench.at if bar == scene.bar else bench.on
        stamp = stamp_of(bar)
        pairs = {
            f"signals/shadow/{stamp}.jsonl": f"signals/{stamp}.jsonl",
            "signals/shadow/_position_state.json": "signals/_position_state.json",
            "signals/shadow/_monitoring.json": "signals/_monitoring.json",
            "portfolio/shadow/paper_account.json": "portfolio/paper_account.json",
            "portfolio/shadow/paper_orders.json": "portfolio/latest_orders.json",
            f"portfolio/shadow/history/{stamp}.json": f"portfolio/history/{stamp}.json",
        }
        for mine, theirs in pairs.items():
            same = (there / mine).read_bytes() == (root / theirs).read_bytes()
            bench.check(holds=same, what=f"{mine} is not what production by that map has")
        equity = cycles.apart(lambda there=there: [_equity(there, "portfolio/shadow"), _equity(root, "portfolio")])
        own, whole = equity
        bench.check(
            holds=len(own) > 0 and whole.loc[own.index[0] :].equals(own), what="equity is not that of production"
        )


def _put_into_production(root: Path) -> None:
    document = json.loads((root / "models/shadow_map.json").read_text())
    live_map = ArtifactDataset(filepath=str(root / _MAP), format="json")
    lines = ArtifactDataset(filepath=str(root / "models/production_log.jsonl"), format="jsonl")
    known = {"run_id": "by hand", "revision": ""}
    lines.save(log.appended(lines.load(), "promote", document, diff(live_map.load(), document), known))
    live_map.save(document)


def _equity(root: Path, folder: str) -> pd.DataFrame:
    path = str(root / folder / "paper_equity")
    days = PartitionedArtifactDataset(path=path, format="parquet", append=True).load()
    return pd.concat([frame for _, frame in sorted(days.items())])


# --- out of the way -------------------------------------------------------------------------------------------


def damages(bench: Bench) -> Iterator[tuple[str, Callable[[Path], None], str]]:
    """What is done to the shadow, and what the report then says."""
    scene, none = bench.scene, "No challenger is followed"
    entries = json.loads((bench.at / "models/shadow_map.json").read_text())["pairs"]
    (model,) = (entry["model"]["uri"] for entry in entries if entry["pair_id"] == scene.spared)
    day = f"portfolio/shadow/paper_equity/{scene.bar:%Y-%m-%d}.parquet"

    def cut(name: str) -> Callable[[Path], None]:
        return lambda root: cycles.replace(root / name, (root / name).read_bytes()[:-9])

    def altered(name: str, **by: Any) -> Callable[[Path], None]:
        return lambda root: cycles.replace(root / name, canonical_json(json.loads((root / name).read_text()) | by))

    yield "map altered", altered("models/shadow_map.json", expires="2099-01-01T00:00:00Z"), none
    yield "model cut", cut(model), "in doubt"
    yield "state cut", cut("signals/shadow/_position_state.json"), none
    yield "map cut", cut("models/shadow_map.json"), none
    yield "log cut", cut("models/shadow_log.jsonl"), none
    yield "model gone", lambda root: (root / model).unlink(), "in doubt"
    yield "state altered", altered("signals/shadow/_position_state.json", before={}), none
    yield "state gone", lambda root: (root / "signals/shadow/_position_state.json").unlink(), "Side by side"
    yield "signals' manifest cut", cut(f"signals/shadow/_days/{scene.bar:%Y%m%d}.json"), none
    yield "account cut", cut("portfolio/shadow/paper_account.json"), none
    yield "orders cut", cut("portfolio/shadow/paper_orders.json"), none
    yield "equity cut", cut(day), none
    yield "history cut", cut(f"portfolio/shadow/history/{stamp_of(scene.bar)}.json"), none
    yield "record cut", cut(_RECORD), none
    yield "record altered", altered(_RECORD, since="2025-01-01T00:00:00Z"), none
    yield "record gone", lambda root: (root / _RECORD).unlink(), "Side by side"
    yield "record ahead", lambda root: _ahead(root), none


def _ahead(root: Path) -> None:
    record = json.loads((root / _RECORD).read_text()) | {"as_of": "2099-01-01T00:00:00Z"}
    record["id"] = content_hash({key: value for key, value in record.items() if key != "id"})
    cycles.replace(root / _RECORD, canonical_json(record))


def out_of_the_way(bench: Bench, cases: Sequence[tuple[str, Callable[[Path], None], str]], *, off: bool) -> None:
    """Every way the shadow can be wrong, in the next bar."""
    bar = bench.scene.bar + STEP
    for name, spoil, says in cases:
        root = cycles.copy(bench.at, bench.folder / "shadow-case")
        spoil(root)
        bench.expect(name, root, bar)
        bench.as_production(name, root, bench.on, bar)
        told = (root / "portfolio/_latest_report.md").read_text()
        bench.check(holds=says in told, what=f"{name}: the report does not say {says!r}")
    if off:
        root = cycles.copy(bench.at, bench.folder / "shadow-case")
        bench.expect("off", root, bar, enabled=False)
        bench.as_production("off", root, bench.on, bar)


# --- killed ---------------------------------------------------------------------------------------------------


def killed(bench: Bench, kills: int) -> int:
    """So many kills of the next bar; it is run again after each."""
    bar = bench.scene.bar + STEP
    scene = replace(bench.scene, root=bench.at, bar=bar)
    cycle, rng, done = Cycle(bench.folder, scene), random.Random(0), 0  # noqa: S311
    expected = _shadow_files(bench.on)
    for _ in range(10 * kills):
        if done == kills:
            break
        root = cycles.copy(bench.at, bench.folder / "shadow-case")
        if not cycle.killed(root, rng):
            continue
        done += 1
        for one in cycles.apart(lambda root=root: readable(root)):
            bench.check(holds=False, what=f"after a kill: {one}")
        bench.expect("after a kill", root, bar)
        bench.as_production("after a kill", root, bench.on, bar)
        found = _shadow_files(root)
        differ = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        bench.check(holds=not differ, what=f"after a kill: {', '.join(differ)} differ")
    return done


def _shadow_files(root: Path) -> dict[str, str]:
    return {name: digest for name, digest in cycles.tree(root).items() if name.startswith(_SHADOW)}


# --- taken in -------------------------------------------------------------------------------------------------


def taken_in(bench: Bench, *, traded_by: bool) -> None:
    """Refused on the record there is, promoted on a good one, and rolled back."""
    root, bar = cycles.copy(bench.on, bench.folder / "shadow-case"), bench.scene.bar + STEP
    before, shadow = (root / _MAP).read_bytes(), (root / "models/shadow_map.json").read_bytes()
    said = bench.expect("a poor record", root, bar, "promote_challenger", code=1)
    bench.check(holds="of 14 days (min_days)" in said and "\nNext: kedro run" in said, what=f"it is refused by {said}")
    bench.check(holds=(root / _MAP).read_bytes() == before, what="a refused promotion has changed the map")
    record = json.loads((root / _RECORD).read_text())
    record["figures"] |= {"gap": 0.01, "challenger": record["figures"]["champion"] + 0.01}
    record["id"] = content_hash({key: value for key, value in record.items() if key != "id"})
    cycles.replace(root / _RECORD, canonical_json(record))
    if traded_by:
        bench.expect("a preview", root, bar, "promote_challenger_preview", **_LENIENT)
        seen = json.loads((root / "models/_challenger_preview.json").read_text())
        bench.check(holds=seen["ready"] and seen["entered"] == [bench.scene.spared], what=f"a preview says {seen}")
        bench.check(holds=(root / _MAP).read_bytes() == before, what="a preview has changed the map")
    bench.expect("a good record", root, bar, "promote_challenger", **_LENIENT)
    bench.check(holds=(root / _MAP).read_bytes() == shadow, what="the map in shadow is not in production")
    line = json.loads((root / "models/production_log.jsonl").read_text().splitlines()[-1])
    told = (line["action"], line["challengers"], line["record"])
    bench.check(
        holds=told == ("promote_challenger", [bench.scene.spared], record["figures"]), what=f"the log says {told}"
    )
    if traded_by:
        bench.expect("a cycle with the challenger", root, bar + STEP)
        state = json.loads((root / "signals/_position_state.json").read_text())
        bench.check(holds=bench.scene.spared in state["pairs"], what="the challenger is not traded")
    bench.expect("a rollback", root, bar, "rollback")
    bench.check(holds=(root / _MAP).read_bytes() == before, what="a rollback does not bring the map back")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; 1 if anything is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--few", action="store_true", help="three damages, no kill")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--place", help="folder to work in; a temporary folder by default")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shadow-cycle-") as folder:
        place = Path(options.place or folder)
        cycles.tracked_in(place)
        scene = prepared(place)
        cycles.warm(cycles.copy(scene.root, place / "warm"), cycles.served(iso(scene.bar)))
        bench = Bench(place, scene)
        traded(bench)
        same_bits(bench)
        cases = list(damages(bench))[: 3 if options.few else None]
        out_of_the_way(bench, cases, off=not options.few)
        kills = 0 if options.few else killed(bench, options.kills)
        taken_in(bench, traded_by=not options.few)
    say = sys.stdout.write
    for one in bench.wrong:
        say(f"NOT AS EXPECTED: {one}\n")
    say(
        f"shadow-cycle: {bench.runs} runs, {len(cases)} damages, {kills} kills; {len(bench.wrong)} not as expected "
        f"({time.monotonic() - began:.0f} s)\n"
    )
    return int(bool(bench.wrong))


if __name__ == "__main__":
    sys.exit(main())
