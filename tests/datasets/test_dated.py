"""Folders that grow by time: a manifest for every day, and what a day costs and can break."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mntrading.core.errors import ArtifactError
from mntrading.datasets import DatedArtifactDataset
from mntrading.datasets.errors import MissingPartitionError

MADE_BY = "kedro run --tags inference"
BARS = {"20250223T235500Z": [{"a": 1}], "20250224T000000Z": [{"a": 2}, {"a": 3}], "20250224T000500Z": []}


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for partitions on each kind of file system."""
    return f"{tmp_path}/p" if request.param == "local" else f"memory://{tmp_path}/p"


def dataset(folder: object, **options: object) -> DatedArtifactDataset:
    return DatedArtifactDataset(**{"path": folder, "format": "jsonl", "made_by": MADE_BY} | options)


def test_partitions_come_back_by_time_and_from_the_newest_on(folder: str) -> None:
    assert not dataset(folder).exists()
    dataset(folder).save(dict(reversed(BARS.items())))
    parts = dataset(folder).load()
    assert dataset(folder).exists()
    assert dict(parts) == BARS
    assert (list(parts), list(reversed(parts))) == (sorted(BARS), sorted(BARS, reverse=True))
    assert (parts.days, len(parts)) == (("20250223", "20250224"), 3)
    assert parts.entry("20250224T000000Z")["rows"] == 2
    assert parts.stored("20250223T235500Z") == b'{"a":1}\n'


def test_ids_that_begin_with_a_date_in_words_have_days_as_well(folder: str) -> None:
    dataset(folder, format="json").save({"2025-02-24T00.00.00.000Z": {"status": "finished"}})
    assert dataset(folder).load().days == ("2025-02-24",)


def test_a_folder_that_is_not_there_is_told_or_empty(folder: str) -> None:
    with pytest.raises(ArtifactError, match=f"does not exist\nNext: {MADE_BY}"):
        dataset(folder).load()
    assert dict(dataset(folder, missing_ok=True).load()) == {}


@pytest.mark.parametrize("id_", ["20250225T000000Z", "20250224T001000Z", "latest", 7])
def test_what_was_never_saved_is_missing(folder: str, id_: object) -> None:
    dataset(folder).save(BARS)
    parts = dataset(folder).load()
    assert id_ not in parts
    with pytest.raises(MissingPartitionError):
        parts[id_]  # type: ignore[index]


def test_an_id_without_a_day_is_refused_and_nothing_of_the_mapping_is_stored(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'latest' does not begin with a day"):
        dataset(tmp_path / "p").save(BARS | {"latest": []})
    assert not (tmp_path / "p").exists()


def test_a_save_writes_the_manifest_of_its_day_alone(tmp_path: Path) -> None:
    place = dataset(tmp_path / "p")
    place.save(BARS)
    days = tmp_path / "p/_days"
    before = {day: (days / f"{day}.json").stat().st_ino for day in ("20250223", "20250224")}
    place.save({"20250224T001000Z": []})
    after = {day: (days / f"{day}.json").stat().st_ino for day in before}
    assert (after["20250223"] == before["20250223"], after["20250224"] == before["20250224"]) == (True, False)
    assert sorted(json.loads((days / "20250224.json").read_bytes())["partitions"]) == [
        "20250224T000000Z", "20250224T000500Z", "20250224T001000Z",
    ]  # fmt: skip


def test_a_damaged_day_is_the_matter_of_that_day(tmp_path: Path) -> None:
    place = dataset(tmp_path / "p")
    place.save(BARS)
    (tmp_path / "p/_days/20250223.json").write_text("no JSON")
    parts = place.load()
    assert parts["20250224T000000Z"] == BARS["20250224T000000Z"]
    place.save({"20250224T001000Z": []})
    with pytest.raises(ArtifactError, match="no readable manifest"):
        parts["20250223T235500Z"]


def test_days_are_all_saved_or_none_where_one_can_not_be(tmp_path: Path) -> None:
    place = dataset(tmp_path / "p")
    place.save({"20250224T000000Z": []})
    (tmp_path / "p/_days/20250224.json").write_text("no JSON")
    with pytest.raises(ArtifactError, match="no readable manifest") as caught:
        place.save({"20250223T235500Z": [], "20250224T000500Z": []})
    assert not (tmp_path / "p/_days/20250223.json").exists()
    # what other manifests list is not to be removed
    assert str(caught.value.fix).startswith(f"remove {tmp_path / 'p/_days/20250224.json'}")


def test_an_altered_partition_is_refused(tmp_path: Path) -> None:
    place = dataset(tmp_path / "p")
    place.save(BARS)
    (tmp_path / "p/20250224T000000Z.jsonl").write_text('{"a":9}\n')
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        place.load()["20250224T000000Z"]
