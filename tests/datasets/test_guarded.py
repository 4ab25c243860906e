"""Guarded datasets: trouble is a value that is handed on and never stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from mntrading.datasets import (
    KEPT,
    GuardedArtifactDataset,
    GuardedBarsDataset,
    GuardedDatedDataset,
    GuardedPartitionsDataset,
    Unavailable,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_what_is_there_is_loaded_and_saved_as_ever(file: Path) -> None:
    GuardedArtifactDataset(filepath=str(file), format="json").save({"a": 1})
    assert GuardedArtifactDataset(filepath=str(file), format="json").load() == {"a": 1}


def test_a_damaged_file_is_told_and_left(file: Path) -> None:
    file.write_text("{")
    dataset = GuardedArtifactDataset(filepath=str(file), format="json", made_by="kedro run")
    found = dataset.load()
    assert isinstance(found, Unavailable)
    assert str(file) in found.why
    assert found.trouble
    dataset.save(KEPT)
    assert file.read_text() == "{"


def test_trouble_takes_the_place_of_what_was_stored_for_this_run_alone(file: Path) -> None:
    dataset = GuardedArtifactDataset(filepath=str(file), format="json")
    dataset.save({"a": 1})
    dataset.save(Unavailable("no model"))
    assert dataset.load() == Unavailable("no model")
    assert GuardedArtifactDataset(filepath=str(file), format="json").load() == {"a": 1}
    dataset.save({"a": 2})
    assert dataset.load() == {"a": 2}


def test_what_breaks_its_schema_is_not_stored_and_told(file: Path) -> None:
    dataset = GuardedArtifactDataset(filepath=str(file), format="json", schema="shadow_record")
    dataset.save({"a": 1})
    assert not file.exists()
    assert isinstance(dataset.load(), Unavailable)


def test_folders_and_bars_are_guarded_too(tmp_path: Path) -> None:
    folder = GuardedPartitionsDataset(path=str(tmp_path / "signals"), format="json", append=True)
    assert isinstance(folder.load(), Unavailable)
    folder.save({"a": 1})
    assert dict(folder.load()) == {"a": 1}
    folder.save(Unavailable("no bars"))
    assert folder.load() == Unavailable("no bars")
    signals = GuardedDatedDataset(path=str(tmp_path / "dated"), format="json")
    signals.save({"20250224T000000Z": 1})
    assert dict(signals.load()) == {"20250224T000000Z": 1}
    signals.save({"no day": 1})
    assert isinstance(signals.load(), Unavailable)
    assert isinstance(GuardedBarsDataset(path=str(tmp_path / "x.parquet"), timeframe="5m").load(), Unavailable)
