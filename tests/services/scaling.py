"""What grows how with the number of symbols: research on files, and with a Dask cluster on an object store.

    make scaling

The demo market with more and more symbols is taken through research twice: by two threads with files, and by two
workers of a Dask cluster that read a real S3 server, all on this machine. Told are a stage's seconds and the run's
peak memory at each size, and what the seconds grow by with what drives them, a straight line: seconds whatever the
size, start of the process included, and seconds more for each symbol or pair. The stores must hold the same
bytes in the end; the exit code is 1 where they do not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import numpy as np
import saves
from running import PROJECT, data, difference, say
from serving import environment
from swift import Swift

from dask_cluster import workers_at

BUCKET: Final = "mntrading"
STAGES: Final = ("ingestion", "screening", "feature_engineering", "modelling", "backtesting")
# a screen's tests take microseconds each; fetching the bars of what it selected is what takes seconds
DRIVERS: Final = dict.fromkeys(STAGES[:2], "symbols") | dict.fromkeys(STAGES[2:], "pairs")


@dataclass
class Size:
    """One market: what drives the stages, and what they took, by way."""

    symbols: int
    tests: int = 0
    pairs: int = 0
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    peak_gib: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """Where data lies and who works."""

    name: str
    env: str
    environment: dict[str, str]
    params: str
    place: str


def stage(way: Way, conf: Path, name: str, n_symbols: int) -> float:
    """Seconds of one stage, start of its process included.

    Raises
    ------
    RuntimeError
        It failed.
    """
    params = f"tracking=off,market.simulator.name=demo,market.simulator.n_symbols={n_symbols}{way.params}"
    command = [sys.executable, "-m", "mntrading", "--conf-source", str(conf), "--env", way.env]
    command += ["--pipelines", name, "--params", params]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=PROJECT, env=way.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} of {n_symbols} symbols, {way.name}: {done.stderr[-3000:]}")
    return time.monotonic() - begun


def peak() -> float:
    """GiB the largest process that has ended held."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def measured(way: Way, conf: Path, size: Size) -> None:
    """All stages of one size."""
    took = {}
    for name in STAGES:
        took[name] = stage(way, conf, name, size.symbols)
        say(f"{size.symbols} symbols, {way.name}: {name} {took[name]:.1f} s")
    size.seconds[way.name], size.peak_gib[way.name] = took, peak()
    files = saves.files(way.place)
    folds = json.loads(files["pairs/roster.json"])["folds"]
    size.pairs = sum(len(fold["pairs"]) for fold in folds)
    screens = [text for name, text in files.items() if name.startswith("pairs/screened_pairs") and b"n_tests" in text]
    size.tests = sum(int(json.loads(text)["n_tests"]) for text in screens)


def lines(sizes: list[Size], way: str) -> dict[str, str]:
    """Seconds a stage takes whatever the size, and for each of what drives it, by least squares."""
    out = {}
    for name, driver in DRIVERS.items():
        driven = [getattr(size, driver) for size in sizes]
        each, fixed = np.polyfit(driven, [size.seconds[way][name] for size in sizes], 1)
        out[name] = f"{fixed:.1f} + {each:.3f} a {driver[:-1]}"
    return out


def main() -> int:
    """Measure; 1 where the two ways differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, nargs="+", default=[30, 90, 180])
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    server = Swift(work / "swift")
    sizes, differ = [Size(n) for n in args.symbols], []
    try:
        server.root.mkdir(exist_ok=True)
        server.start()
        server.create_bucket(BUCKET)
        os.environ.update(server.environment | {"NO_PROXY": "127.0.0.1"})
        conf = work / "conf"
        shutil.copytree(PROJECT / "conf", conf)
        for file in (conf / "test").glob("parameters*.yml"):
            shutil.copy(file, conf / "minio")
        with workers_at(work / "dask", 2) as address:
            for size in sizes:
                places = {"files": str(work / f"files-{size.symbols}"), "dask": f"s3://{BUCKET}/{size.symbols}"}
                here = environment(MNTRADING_STORAGE_ROOT=places["files"], DO_NOT_TRACK="1")
                there = environment(
                    **server.environment, MNTRADING_S3_ROOT=places["dask"], MNTRADING_LEASE="settled",
                    NO_PROXY="127.0.0.1", DO_NOT_TRACK="1",
                )  # fmt: skip
                cluster = f",compute.backend=dask,compute.scheduler={address}"
                for way in (
                    Way("files", "test", here, "", places["files"]),
                    Way("dask", "minio", there, cluster, places["dask"]),
                ):
                    measured(way, conf, size)
                found = difference(data(places["dask"]), data(places["files"]))
                if found:
                    differ.append(f"{size.symbols} symbols: {found}")
    finally:
        server.kill()
        shutil.rmtree(work, ignore_errors=True)
    for size in sizes:
        for way, took in size.seconds.items():
            told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
            say(f"{size.symbols} symbols, {size.tests} tests, {size.pairs} pairs in folds, {way}: {told}; "
                f"{size.peak_gib[way]:.2f} GiB")  # fmt: skip
    figures = {way: lines(sizes, way) for way in ("files", "dask")}
    sys.stdout.write(f"scaling: {json.dumps({'seconds': figures, 'differ': differ})}\n")
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
