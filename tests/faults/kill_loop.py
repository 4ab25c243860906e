"""Kill -9 at random moments of every kind of save, and see that nothing is ever lost, cut or mixed up.

``python tests/faults/kill_loop.py --kills 240`` runs each scenario in a process of its own, kills it at a
moment drawn from the time it takes, and looks at what it left. Every process is forked from this one, which has
imported everything, runs one thread and touches no data.
"""

from __future__ import annotations

import os

# libraries that start their threads on import would make the forks below unsafe
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"

import argparse
import gc
import itertools
import mmap
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from saves import Findings, Kind, different, files, is_temporary, kinds, large, total, tree, unreadable

from mntrading.core.errors import MNTradingError
from mntrading.datasets.errors import PlainErrorsDataset

_AGAIN: Final = 0.5  # how often a place that was killed is killed once more before it is mended
_NOTES: Final = 5


class Scenario(Protocol):
    """Work that is killed. A place is a folder or ``s3://`` address of its own."""

    name: str

    def prepare(self, place: str) -> None:
        """Make what is there before the work."""

    def work(self, place: str) -> None:
        """The work; it runs in the process that is killed, and may find what a killed one left."""

    def check(self, place: str, saves: int | None) -> Findings:
        """Hold what a killed process left against what it may leave.

        ``saves`` is how many saves of datasets it had finished, None if the place was killed in before.
        """

    def finish(self, place: str) -> None:
        """The run after the kill, to its end: it has to leave what it leaves where nothing was killed."""

    def close(self) -> None:
        """Let go of what the scenario holds."""


class Saves:
    """All versions of one kind of save."""

    def __init__(self, kind: Kind) -> None:
        self.name, self._kind = kind.name, kind

    def prepare(self, place: str) -> None:
        self._kind.save(place, 0)

    def work(self, place: str) -> None:
        for version in range(1, self._kind.versions):
            self._kind.save(place, version)

    def check(self, place: str, saves: int | None) -> Findings:
        if saves is None:
            return self._kind.check(place, range(self._kind.versions))
        done = saves // self._kind.saves_per_version
        return self._kind.check(place, range(done, min(done + 2, self._kind.versions)))

    def finish(self, place: str) -> None:
        self.work(place)

    def close(self) -> None:
        pass


def scenarios(versions: int, names: Collection[str] = ()) -> list[Scenario]:
    """What is killed: the named ones, or all but the large file, which is meant for object stores."""
    chosen: list[Scenario] = [Saves(kind) for kind in kinds(versions) if not names or kind.name in names]
    if not names or "ingestion" in names:
        from ingestion import Ingestion

        chosen.append(Ingestion())
    return [*chosen, Saves(large(versions))] if "large" in names else chosen


# --- processes ----------------------------------------------------------------------------------------------


class Board:
    """Numbers a process leaves behind when it is killed."""

    _STARTED, _SAVING, _WRITING, _SAVED = range(4)

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    def reset(self) -> None:
        self._numbers[:4] = memoryview(bytearray(32)).cast("q")

    @property
    def started(self) -> bool:
        return bool(self._numbers[self._STARTED])

    @property
    def saving(self) -> bool:
        return bool(self._numbers[self._SAVING])

    @property
    def writing(self) -> bool:
        return bool(self._numbers[self._WRITING])

    @property
    def saved(self) -> int:
        return self._numbers[self._SAVED]

    def watch(self) -> None:
        """Have every save of a dataset, and every write and removal in it, note that it is under way."""
        for dataset in _subclasses(PlainErrorsDataset):
            if "save" in vars(dataset):
                dataset.save = self._noting(dataset.save, self._SAVING, self._SAVED)
        for module in [found for name, found in sys.modules.items() if name.startswith("mntrading.") and found]:
            for name in {"write_atomic", "move", "remove"} & set(vars(module)):
                setattr(module, name, self._noting(getattr(module, name), self._WRITING))

    def start(self) -> None:
        self._numbers[self._STARTED] = 1

    def _noting(self, call: Callable[..., Any], depth: int, done: int | None = None) -> Callable[..., Any]:
        numbers = self._numbers

        def noted(*given: Any, **named: Any) -> Any:
            numbers[depth] += 1
            try:
                result = call(*given, **named)
                if done is not None and numbers[depth] == 1:
                    numbers[done] += 1
            finally:
                numbers[depth] -= 1
            return result

        return noted


def _subclasses(kind: type) -> list[type]:
    return [below for direct in kind.__subclasses__() for below in (direct, *_subclasses(direct))]


def _fork(act: Callable[[], None]) -> int:
    """Process that does one thing and ends without this one's own ending."""
    threads = Path("/proc/self/task")
    if threads.is_dir() and len(list(threads.iterdir())) > 1:
        raise RuntimeError("this process has more than one thread, a fork of it would not be safe")
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        act()
        code = 0
    except BaseException:  # noqa: BLE001 -- the process ends here, whatever it was
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def apart(act: Callable[[], Any]) -> Any:
    """Result of a call that is made in a process of its own."""
    reading, writing = os.pipe()

    def answer() -> None:
        with open(writing, "wb") as stream:  # noqa: PTH123 -- a pipe
            pickle.dump(act(), stream)

    pid = _fork(answer)
    os.close(writing)
    with open(reading, "rb") as stream:  # noqa: PTH123
        data = stream.read()
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("a process that was not to be killed has failed, see above")
    return pickle.loads(data)  # noqa: S301 -- from this very program


def killed(act: Callable[[], None], board: Board, after: float) -> bool:
    """Whether a process was still at it when it was killed, so many seconds after it had begun."""
    board.reset()

    def run() -> None:
        board.watch()
        board.start()
        act()

    pid = _fork(run)
    while not board.started and not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        time.sleep(0.0001)
    if board.started:
        time.sleep(after)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        ended = os.waitpid(pid, 0)
    if os.WIFEXITED(ended[1]) and os.WEXITSTATUS(ended[1]):
        raise RuntimeError("a process failed before it was killed, see above")
    return os.WIFSIGNALED(ended[1])


# --- the loop -----------------------------------------------------------------------------------------------


@dataclass
class Result:
    """Figures of one scenario."""

    name: str
    kills: int = 0
    saving: int = 0
    writing: int = 0
    late: int = 0
    temporaries: int = 0
    findings: Findings = field(default_factory=Findings)


def kill_loop(scenario: Scenario, base: str, kills: int, rng: random.Random) -> Result:
    """Kill a scenario so many times while it works; kills that came after its end are made again."""
    places = (f"{base}/{scenario.name}/{turn}" for turn in itertools.count())
    expected, seconds = _reference(scenario, next(places))
    board, result = Board(), Result(scenario.name)
    place, before = next(places), False
    apart(partial(scenario.prepare, place))
    while result.kills < kills:
        hit = killed(partial(scenario.work, place), board, rng.uniform(0, seconds))
        result.kills += hit
        result.late += not hit
        result.saving += hit and board.saving
        result.writing += hit and board.writing
        if result.late > 10 * kills:
            raise RuntimeError(f"{scenario.name}: the kills come too late, after {seconds:.3f} s of work")
        mend = not hit or rng.random() > _AGAIN or result.kills == kills
        after = _Aftermath(scenario, place, expected, saves=None if before else board.saved)
        place, before = (next(places), False) if mend else (place, True)
        findings, temporaries = apart(partial(after.look, place if mend else None))
        result.findings += findings
        result.temporaries += temporaries
        if before and findings:  # nothing can be learned from a broken place
            place, before = next(places), False
            apart(partial(scenario.prepare, place))
    return result


@dataclass(frozen=True)
class _Aftermath:
    """What follows a kill."""

    scenario: Scenario
    place: str
    expected: dict[str, str]
    saves: int | None

    def look(self, following: str | None) -> tuple[Findings, int]:
        """Findings and number of temporary files; then the place is mended and the following one prepared."""
        findings = self.scenario.check(self.place, self.saves)
        temporaries = 0 if "://" in self.place else sum(map(is_temporary, files(self.place)))
        if following is not None:
            findings += self._mended()
            shutil.rmtree(self.place, ignore_errors=True)  # in a bucket it stays
            self.scenario.prepare(following)
        return findings, temporaries

    def _mended(self) -> Findings:
        """Findings after a run that nothing disturbs."""
        try:
            self.scenario.finish(self.place)
        except MNTradingError as error:
            return unreadable(f"to the next run: {error}")
        found = tree(self.place)
        names = sorted(found.keys() | self.expected.keys())
        wrong = [name for name in names if found.get(name) != self.expected.get(name)]
        return total(different(f"{self.place}/{name} after the next run") for name in wrong)


def _reference(scenario: Scenario, place: str) -> tuple[dict[str, str], float]:
    """What the work leaves where nothing is killed, and how long it takes in a process just started."""

    def work() -> float:
        Board().watch()
        begun = time.perf_counter()
        scenario.work(place)
        return time.perf_counter() - begun

    apart(partial(scenario.prepare, place))
    seconds = apart(work)
    apart(partial(scenario.finish, place))
    return apart(partial(tree, place)), seconds


def shares(kills: int, names: list[str]) -> dict[str, int]:
    """Kills dealt out evenly."""
    return {name: kills // len(names) + (place < kills % len(names)) for place, name in enumerate(names)}


def main(arguments: list[str] | None = None) -> int:
    """Run the loop and print its table; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--versions", type=int, default=8, help="saves of each entry in one working process")
    parser.add_argument("--only", help="names of scenarios, comma-separated")
    parser.add_argument("--place", help="folder or s3:// address to work in; a temporary folder by default")
    options = parser.parse_args(arguments)
    chosen = scenarios(options.versions, options.only.split(",") if options.only else ())
    share = shares(options.kills, [scenario.name for scenario in chosen])
    gc.freeze()  # a collection in a child would copy all it was forked with
    rng = random.Random(options.seed)  # noqa: S311 -- not cryptography
    with tempfile.TemporaryDirectory(prefix="kill-loop-") as folder:
        base = options.place or folder
        try:
            results = [kill_loop(scenario, base, share[scenario.name], rng) for scenario in chosen]
        finally:
            for scenario in chosen:
                scenario.close()
    return report(results)


def report(results: list[Result]) -> int:
    """Print the figures; 1 if anything was found."""
    line = "{:<12}{:>7}{:>9}{:>10}{:>12}{:>12}{:>6}{:>12}{:>13}\n"
    head = ("kind", "kills", "in save", "in write", "temporaries", "unreadable", "lost", "duplicated", "differences")
    sys.stdout.write(line.format(*head))
    for result in results:
        found = result.findings
        row = (result.name, result.kills, result.saving, result.writing, result.temporaries)
        sys.stdout.write(line.format(*row, found.unreadable, found.lost, found.duplicated, found.different))
    whole = total(result.findings for result in results)
    for note in whole.notes[:_NOTES]:
        sys.stdout.write(f"{note}\n")
    kills = sum(result.kills for result in results)
    sys.stdout.write(
        f"kill-loop: {kills} kills, {whole.unreadable} unreadable, {whole.lost} lost, "
        f"{whole.duplicated} duplicated, {whole.different} differences\n"
    )
    return int(bool(whole))


if __name__ == "__main__":
    sys.exit(main())
