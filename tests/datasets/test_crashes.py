"""A writer killed at any of its steps: what is stored stays readable or says what to run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mntrading.core.bars import bars_from_rows, times_ms
from mntrading.core.coverage import Ledger
from mntrading.core.errors import ArtifactError
from mntrading.datasets import (
    ArtifactDataset,
    BarsDataset,
    BarsUpdate,
    Commit,
    PartitionedArtifactDataset,
    storage,
)

MADE_BY = "kedro run --pipelines modelling"


class PowerCut(BaseException):
    """The machine is gone: nothing of the program runs after it."""


class Machine:
    """Counts the steps of a writer and dies at one of them; of a write half may have reached the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, dies_at: int, halfway: bool) -> None:
        self.steps, self._dies_at, self._halfway = 0, dies_at, halfway
        write, publish, unlink, sync = (
            getattr(storage, name) for name in ("_write_synced", "_publish", "_unlink", "_sync_folder")
        )
        monkeypatch.setattr(storage, "_write_synced", lambda file, data: self._write(write, file, data))
        monkeypatch.setattr(storage, "_publish", lambda a, b: self._step() or publish(a, b))
        monkeypatch.setattr(storage, "_unlink", lambda file: self._step() or unlink(file))
        monkeypatch.setattr(storage, "_sync_folder", lambda folder: self._step() or sync(folder))
        put, delete = MemoryFileSystem.pipe_file, MemoryFileSystem.rm_file
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *given: self._step() or put(*given))
        monkeypatch.setattr(MemoryFileSystem, "rm_file", lambda *given: self._step() or delete(*given))

    def _step(self) -> None:
        self.steps += 1
        if self.steps >= self._dies_at:
            raise PowerCut

    def _write(self, write: Callable[[Path, bytes], None], file: Path, data: bytes) -> None:
        try:
            self._step()
        except PowerCut:
            if self._halfway and self.steps == self._dies_at:
                file.write_bytes(data[: len(data) // 2])
            raise
        write(file, data)


def _killed_everywhere(act: Callable[[str], None], check: Callable[[str], None], base: str) -> int:
    """Run ``act`` in a fresh place for every step it can be killed at, then ``check`` the place."""
    for halfway in (False, True):
        for dies_at in range(1, 200):
            place = f"{base}/{halfway}-{dies_at}"
            with pytest.MonkeyPatch.context() as patch:
                prepared = _PREPARED[act]
                prepared(place)
                Machine(patch, dies_at=dies_at, halfway=halfway)
                try:
                    act(place)
                except PowerCut:
                    died = True
                else:
                    died = False
            check(place)
            if not died:
                break
        else:
            pytest.fail("the writer never came to its end")
    return dies_at


def _contents(place: str) -> dict[str, bytes]:
    """Every file of a place but killed writers' temporaries."""
    fs, root = fsspec.url_to_fs(place)
    files = {path.removeprefix(root): fs.cat_file(path) for path in fs.find(root)}
    return {name: data for name, data in files.items() if storage.TEMPORARY_PREFIX not in name}


@pytest.fixture(params=["local", "memory"])
def base(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path}"


# --- one file -----------------------------------------------------------------------------------------------


def _file(place: str) -> ArtifactDataset:
    return ArtifactDataset(filepath=f"{place}/x.json", format="json")


def _save_file(place: str) -> None:
    _file(place).save({"version": "new"})


def test_file_is_the_old_or_the_new_one(base):
    seen = set()

    def check(place: str) -> None:
        seen.add(_file(place).load()["version"])

    _killed_everywhere(_save_file, check, base)
    assert seen == {"old", "new"}


# --- a batch ------------------------------------------------------------------------------------------------


def _batch(place: str) -> PartitionedArtifactDataset:
    return PartitionedArtifactDataset(path=f"{place}/p", format="json", suffix="/x.json", made_by=MADE_BY)


OLD = {"a": "old", "b": "old", "c": "old"}
NEW = {"a": "new", "b": "old", "d": "new"}


def _save_old(place: str) -> None:
    _batch(place).save(OLD)
    _batch(place).save(Commit(ids=("a", "b", "c"), meta={"version": "old"}))


def _save_new(place: str) -> None:
    _batch(place).save({"a": "new"})
    _batch(place).save({"b": "old", "d": "new"})
    _batch(place).save(Commit(ids=("a", "b", "d"), meta={"version": "new"}))


def test_batch_is_whole_or_says_to_run_again_and_the_next_run_heals_it(base):
    _save_old(f"{base}/reference")
    _save_new(f"{base}/reference")
    outcomes = set()

    def check(place: str) -> None:
        try:
            parts = _batch(place).load()
            version = parts.meta["version"]
            assert dict(parts) == {"old": OLD, "new": NEW}[version]
            outcomes.add(version)
        except ArtifactError as error:
            outcomes.add("unfinished" if (error.what, error.fix) == ("was not finished", MADE_BY) else str(error))
        _save_new(place)
        assert dict(_batch(place).load()) == NEW
        assert _contents(place) == _contents(f"{base}/reference")

    _killed_everywhere(_save_new, check, base)
    assert outcomes == {"old", "unfinished", "new"}


def _save_rest(place: str) -> None:
    _batch(place).save({"d": "new"})
    _batch(place).save(Commit(ids=("a", "b", "d"), meta={"version": "new"}))


def test_batch_that_keeps_old_partitions_never_seals_one_that_does_not_match(base):
    """The run after the crash remakes other partitions and keeps the one the crash may have replaced."""

    def check(place: str) -> None:
        _save_rest(place)
        parts = _batch(place).load()
        assert parts["a"] in ("old", "new")
        assert (parts["b"], parts["d"]) == ("old", "new")

    _killed_everywhere(_save_new, check, base)


# --- a growing folder ---------------------------------------------------------------------------------------


def _growing(place: str) -> PartitionedArtifactDataset:
    return PartitionedArtifactDataset(path=f"{place}/p", format="json", append=True, made_by=MADE_BY)


def _grow_old(place: str) -> None:
    _growing(place).save({"a": "old", "b": "old"})


def _grow_new(place: str) -> None:
    _growing(place).save({"a": "new", "c": "new"})


def test_growing_folder_is_readable_after_any_kill_and_the_next_run_heals_it(base):
    _grow_old(f"{base}/reference")
    _grow_new(f"{base}/reference")
    seen = set()

    def check(place: str) -> None:
        found = dict(_growing(place).load())
        assert found["b"] == "old"
        seen.add((found["a"], found.get("c")))
        _growing(place).save({"b": "old"})
        assert dict(_growing(place).load()) == found
        _grow_new(place)
        assert _contents(place) == _contents(f"{base}/reference")

    _killed_everywhere(_grow_new, check, base)
    assert seen == {("old", None), ("new", None), ("new", "new")}


def _prune(place: str) -> None:
    _growing(place).save(Commit(ids=("a",), meta={"kept": 1}))


def test_growing_folder_that_is_pruned_never_lists_what_is_gone(base):
    _grow_old(f"{base}/reference")
    _prune(f"{base}/reference")
    seen = set()

    def check(place: str) -> None:
        found = dict(_growing(place).load())
        assert found in ({"a": "old", "b": "old"}, {"a": "old"})
        seen.add(len(found))
        _prune(place)
        assert _contents(place) == _contents(f"{base}/reference")

    _killed_everywhere(_prune, check, base)
    assert seen == {1, 2}


# --- bars ---------------------------------------------------------------------------------------------------


def _bars(symbol: str, n: int) -> pd.DataFrame:
    rows = np.array([[k * 3_600_000, 2.0, 3.0, 1.0, 2.0 + n / 100, 5.0] for k in range(n)])
    return bars_from_rows(rows, symbol)


def _store(place: str) -> BarsDataset:
    return BarsDataset(path=f"{place}/raw/ohlcv_1h.parquet", timeframe="1h", made_by=MADE_BY)


def _store_old(place: str) -> None:
    _store(place).save(BarsUpdate("sim", {"A/USDT": _bars("A/USDT", 3), "B/USDT": _bars("B/USDT", 3)}))


def _store_new(place: str) -> None:
    frames = {"A/USDT": _bars("A/USDT", 5), "C/USDT": _bars("C/USDT", 5)}
    _store(place).save(BarsUpdate("sim", frames, {"A/USDT": Ledger(fetched=((0, 5 * 3_600_000),))}))


def test_bar_folder_is_one_readable_table_after_any_kill(tmp_path):
    _store_old(f"{tmp_path}/reference")
    _store_new(f"{tmp_path}/reference")

    def check(place: str) -> None:
        folder = Path(place) / "raw" / "ohlcv_1h.parquet"
        assert {file.suffix for file in folder.iterdir()} == {".parquet"}
        assert not list(folder.glob(".*"))
        counts = pd.read_parquet(folder).groupby("symbol").size().to_dict()
        store = _store(place).load()
        assert {symbol: len(store[symbol]) for symbol in store} == counts
        assert {symbol: store.entry(symbol)["rows"] for symbol in store} == counts
        assert counts["A/USDT"] in (3, 5)
        # what is said to have been asked for is there
        assert len(store["A/USDT"]) == 5 or not store.ledger("A/USDT").fetched
        assert counts["B/USDT"] == 3
        _store_new(place)
        assert _contents(place) == _contents(f"{tmp_path}/reference")

    _killed_everywhere(_store_new, check, str(tmp_path))


def _store_two_coins(place: str) -> None:
    bars = bars_from_rows(np.array([[k * 3_600_000, 2.0, 3.0, 1.0, 2.0, 5.0] for k in (0, 1, 9000, 9001)]), "A/USDT")
    _store(place).save(BarsUpdate("sim", {"A/USDT": bars}, {"A/USDT": Ledger(fetched=((0, 9002 * 3_600_000),))}))


def _split(place: str) -> None:
    _store(place).save(BarsUpdate("sim", archive={"A/USDT": ("A/USDT@old", 9001 * 3_600_000)}))


def test_a_coin_put_under_another_name_is_never_lost_on_the_way(tmp_path):
    _store_two_coins(f"{tmp_path}/reference")
    _split(f"{tmp_path}/reference")
    seen = set()

    def check(place: str) -> None:
        store = _store(place).load()
        counts = {symbol: len(store[symbol]) for symbol in store}
        seen.add(tuple(sorted(counts.items())))
        assert {9001 * 3_600_000, 0} <= set(times_ms(store.frame()["timestamp"]).tolist())
        _split(place)
        assert _contents(place) == _contents(f"{tmp_path}/reference")

    _killed_everywhere(_split, check, str(tmp_path))
    assert (("A/USDT", 4),) in seen
    assert (("A/USDT", 1), ("A/USDT@old", 3)) in seen


_PREPARED: dict[Callable[[str], None], Callable[[str], None]] = {
    _save_file: lambda place: _file(place).save({"version": "old"}),
    _save_new: _save_old,
    _grow_new: _grow_old,
    _prune: _grow_old,
    _store_new: _store_old,
    _split: _store_two_coins,
}


# --- the real thing -----------------------------------------------------------------------------------------

_LOOP = """
import sys
from mntrading.datasets import PartitionedArtifactDataset
dataset = PartitionedArtifactDataset(path=sys.argv[1], format="text", append=True)
for turn in range(10**9):
    dataset.save({name: f"{name}{turn}" * 20_000 for name in "abcd"})
    print("saved", flush=True)
"""


def test_process_killed_in_a_save_loop_leaves_every_partition_readable(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", _LOOP, f"{tmp_path}/p"], stdout=subprocess.PIPE)
    writer.stdout.readline()
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    parts = PartitionedArtifactDataset(path=tmp_path / "p", format="text", append=True).load()
    assert {name: text[0] for name, text in parts.items()} == {name: name for name in "abcd"}
    for name, text in parts.items():
        turn = text[1 : len(text) // 20_000]
        assert text == f"{name}{turn}" * 20_000
