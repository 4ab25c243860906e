"""Saves onto a full disk, and errors in the middle of saves: what was there before stays.

``python tests/faults/disk_full.py --saves 140`` makes every kind of save on a small disk of its own that is
filled up to a random point, then raises errors at every step of every kind of save.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kedro.io.core import DatasetError
from saves import Findings, Kind, different, files, is_temporary, kinds, total, tree

from mntrading.core.errors import ArtifactError
from mntrading.datasets import storage

_DISK_MB: Final = 8
_INSIDE: Final = "MNTRADING_SMALL_DISK"
_STEPS: Final = ("_write_synced", "_publish", "_unlink", "_sync_folder")
_MOMENTS: Final = ("before", "halfway", "after")
_NOTES: Final = 5


@dataclass
class Result:
    """Figures of one kind of save."""

    name: str
    full: int = 0
    injected: int = 0
    findings: Findings = field(default_factory=Findings)
    unclear: list[str] = field(default_factory=list)
    temporaries: int = 0


def attempt(kind: Kind, place: str, result: Result) -> BaseException | None:
    """Save version 1 over version 0, see what is there, and return what the save raised."""
    try:
        kind.save(place, 1)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- whatever leaves a save is looked at
        raised: BaseException | None = error
    else:
        raised = None
    result.findings += kind.check(place, (0, 1) if raised else (1,))
    result.temporaries += sum(map(is_temporary, files(place)))
    return raised


def mend(kind: Kind, place: str, expected: dict[str, str], result: Result) -> None:
    """Save again, nothing in the way, and compare with what an undisturbed save leaves."""
    kind.save(place, 1)
    if tree(place) != expected:
        result.findings += different(f"{place} after the next save")
    shutil.rmtree(place)


def undisturbed(kind: Kind, base: str) -> dict[str, str]:
    """What two saves leave where nothing is in the way."""
    place = f"{base}/{kind.name}-undisturbed"
    for version in (0, 1):
        kind.save(place, version)
    found = tree(place)
    shutil.rmtree(place)
    return found


def clear(error: BaseException, place: str, reason: str) -> bool:
    """Whether an error names the file and the reason."""
    return (
        isinstance(error, ArtifactError)
        and error.where is not None
        and error.where.startswith(f"{place}/")
        and not Path(error.where).is_dir()
        and reason in error.what
    )


# --- a full disk --------------------------------------------------------------------------------------------


@contextmanager
def filled(disk: str, room: int) -> Iterator[None]:
    """A disk with so many bytes left, to a page."""
    ballast = Path(disk) / "ballast"
    state = os.statvfs(disk)
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, state.f_bavail * state.f_frsize - room)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def limited(_disk: str, room: int) -> Iterator[None]:
    """No file of more than so many bytes, where no disk can be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_on_a_full_disk(kind: Kind, disk: str, saves: int, rng: random.Random, *, mounted: bool) -> Result:
    """So many saves that the disk had no room for."""
    result, expected = Result(kind.name), undisturbed(kind, disk)
    reason = os.strerror(errno.ENOSPC if mounted else errno.EFBIG)
    needed = _needed(kind, disk, mounted=mounted)
    for turn in range(20 * saves):
        if result.full == saves:
            return result
        place = f"{disk}/{kind.name}-{turn}"
        kind.save(place, 0)
        with (filled if mounted else limited)(disk, int(needed * rng.random() ** 2)):
            error = attempt(kind, place, result)
        if error is not None:
            result.full += 1
            if not clear(error, place, reason):
                result.unclear.append(f"{kind.name} on a full disk: {error!r}")
        mend(kind, place, expected, result)
    raise RuntimeError(f"{kind.name}: the disk does not fill up, {result.full} of {saves} saves")


def _needed(kind: Kind, disk: str, *, mounted: bool) -> int:
    """Bytes below which a save runs out of room at one of its steps."""
    place = f"{disk}/{kind.name}-needed"
    kind.save(place, 0)
    before = os.statvfs(disk)
    kind.save(place, 1)
    largest = max(map(len, files(place).values()))
    grown = (before.f_bavail - os.statvfs(disk).f_bavail) * before.f_frsize
    shutil.rmtree(place)
    return largest + max(grown, 0) if mounted else largest


# --- errors in the middle -----------------------------------------------------------------------------------


class Fault:
    """Raises once, at one step of a save: before it, in the middle of its bytes, or when it is done."""

    def __init__(self, at: int, moment: str, error: BaseException) -> None:
        self.raised, self.steps = False, 0
        self._at, self._moment, self._error = at, moment, error
        self._real: dict[str, Callable[..., None]] = {name: getattr(storage, name) for name in _STEPS}

    def __enter__(self) -> Fault:
        for name in _STEPS:
            setattr(storage, name, self._faulty(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(storage, name, real)

    def _faulty(self, name: str) -> Callable[..., None]:
        def step(*given: Any) -> None:
            self.steps += 1
            if self.steps != self._at:
                self._real[name](*given)
                return
            if self._moment == "halfway" and name == "_write_synced":
                file, data = given
                self._real[name](file, data[: len(data) // 2])
            elif self._moment == "after":
                self._real[name](*given)
            self.raised = True
            raise self._error

        return step


def errors() -> list[BaseException]:
    """What may happen in the middle of a save."""
    broken = [OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EIO)]
    return [*broken, MemoryError(), KeyboardInterrupt()]


def inject(kind: Kind, base: str, limit: int, rng: random.Random) -> Result:
    """Every error at every moment of every step of a save, or so many of them."""
    result, expected = Result(kind.name), undisturbed(kind, base)
    steps = _count(kind, f"{base}/{kind.name}-steps")
    cases = [(at, moment, place) for at in range(1, steps + 1) for moment in _MOMENTS for place in range(len(errors()))]
    for at, moment, chosen in rng.sample(cases, min(limit, len(cases))):
        place = f"{base}/{kind.name}-{at}-{moment}-{chosen}"
        kind.save(place, 0)
        with Fault(at, moment, errors()[chosen]) as fault:
            raised = attempt(kind, place, result)
        result.injected += 1
        if not fault.raised or not _fits(raised, errors()[chosen], place):
            result.unclear.append(f"{kind.name} at step {at} ({moment}): {raised!r} for {errors()[chosen]!r}")
        mend(kind, place, expected, result)
    return result


def _count(kind: Kind, place: str) -> int:
    fault = Fault(0, "before", RuntimeError())
    kind.save(place, 0)
    with fault:
        kind.save(place, 1)
    shutil.rmtree(place)
    return fault.steps


def _fits(raised: BaseException | None, injected: BaseException, place: str) -> bool:
    """Whether a save raised what its reader can use: the disk's errors in words, any other as it was."""
    if raised is None:
        return False
    if isinstance(injected, OSError):
        return clear(raised, place, str(injected.strerror))
    if isinstance(raised, DatasetError):  # Kedro's own wrapping of what is no error of the project
        raised = raised.__cause__
    return type(raised) is type(injected)


# --- both ---------------------------------------------------------------------------------------------------


def on_a_small_disk(arguments: list[str]) -> int | None:
    """Result of this program on a disk of its own that goes away with it; None where none can be mounted."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return None
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    for command in (own, ["unshare", "--mount"]):
        with tempfile.TemporaryDirectory(prefix="disk-full-") as disk:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", disk]
            if subprocess.run([*command, *mount], capture_output=True, check=False).returncode:
                continue
            program = [sys.executable, __file__, *arguments]
            script = 'disk=$1; shift; mount -t tmpfs -o "size=$0m" tmpfs "$disk" && exec "$@"'
            whole = [*command, "sh", "-c", script, str(_DISK_MB), disk, *program]
            return subprocess.run(whole, env=os.environ | {_INSIDE: disk}, check=False).returncode
    return None


def main(arguments: list[str]) -> int:
    """Run both parts and print their table; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saves", type=int, default=140, help="saves on a full disk")
    parser.add_argument("--injected", type=int, default=10**6, help="errors injected at most, for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-mount", action="store_true", help="limit the size of files instead")
    options = parser.parse_args(arguments)
    disk = os.environ.get(_INSIDE)
    if disk is None and not options.no_mount:
        done = on_a_small_disk(arguments)
        if done is not None:
            return done
    rng = random.Random(options.seed)  # noqa: S311 -- not cryptography
    chosen = kinds(versions=2)
    with tempfile.TemporaryDirectory(prefix="disk-full-") as folder:
        base = disk or folder
        full = [
            save_on_a_full_disk(kind, base, share, rng, mounted=disk is not None)
            for kind, share in zip(chosen, _shares(options.saves, len(chosen)), strict=True)
        ]
        injected = [inject(kind, base, options.injected, rng) for kind in chosen]
    return report(full, injected, f"a tmpfs of {_DISK_MB} MB" if disk else "a limit on the size of files")


def _shares(whole: int, parts: int) -> list[int]:
    return [whole // parts + (place < whole % parts) for place in range(parts)]


def report(full: list[Result], injected: list[Result], way: str) -> int:
    """Print the figures; 1 if anything was found."""
    line = "{:<10}{:>11}{:>10}{:>12}{:>12}{:>6}{:>12}{:>13}{:>15}\n"
    head = ("kind", "disk full", "injected", "temporaries", "unreadable", "lost", "duplicated", "differences")
    sys.stdout.write(line.format(*head, "unclear errors"))
    for one, other in zip(full, injected, strict=True):
        found, left = one.findings + other.findings, one.temporaries + other.temporaries
        unclear = len(one.unclear) + len(other.unclear)
        row = (one.name, one.full, other.injected, left, found.unreadable, found.lost, found.duplicated)
        sys.stdout.write(line.format(*row, found.different, unclear))
    results = [*full, *injected]
    whole = total(result.findings for result in results)
    unclear = [note for result in results for note in result.unclear]
    left = sum(result.temporaries for result in results)
    for note in [*whole.notes, *unclear][:_NOTES]:
        sys.stdout.write(f"{note}\n")
    saves, errors_ = sum(result.full for result in full), sum(result.injected for result in injected)
    broken = whole.unreadable + whole.lost + whole.duplicated + whole.different
    share = 100 * (1 - min(broken, saves + errors_) / (saves + errors_))
    sys.stdout.write(
        f"disk-full: {saves} saves on a full disk ({way}), {errors_} injected exceptions; previous version readable "
        f"in {share:.4g} %, {left} temporary files left, {len(unclear)} unclear errors\n"
    )
    return int(bool(whole) or bool(left) or bool(unclear))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
