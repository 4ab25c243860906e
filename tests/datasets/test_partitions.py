"""Folders of partitions: batches, growing folders, laziness, and what damage is told."""

from __future__ import annotations

import json
import pickle

import pandas as pd
import pytest

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.datasets import Commit, Keyed, PartitionedArtifactDataset
from mntrading.datasets.errors import MissingPartitionError
from mntrading.datasets.manifest import check_id
from mntrading.datasets.storage import content_hash, sha256

MADE_BY = "kedro run --pipelines feature_engineering"


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    """A place for partitions on each kind of file system."""
    return f"{tmp_path}/p" if request.param == "local" else f"memory://{tmp_path}/p"


def _dataset(folder: object, **options: object) -> PartitionedArtifactDataset:
    return PartitionedArtifactDataset(**{"path": folder, "format": "json", "made_by": MADE_BY} | options)


def _manifest(tmp_path) -> dict:
    return json.loads((tmp_path / "p" / "_manifest.json").read_bytes())


def _files(tmp_path) -> list[str]:
    return sorted(str(f.relative_to(tmp_path / "p")) for f in (tmp_path / "p").rglob("*") if f.is_file())


class TestBatch:
    def test_partitions_and_commit_come_back(self, folder):
        dataset = _dataset(folder)
        dataset.save({"b": [1, 2]})
        dataset.save({"a": {"x": 1.5}})
        dataset.save(Commit(ids=("a", "b"), meta={"as_of": pd.Timestamp("2024-01-01", tz="UTC")}))
        parts = _dataset(folder).load()
        assert list(parts) == ["a", "b"]
        assert dict(parts) == {"a": {"x": 1.5}, "b": [1, 2]}
        assert parts.meta == {"as_of": "2024-01-01T00:00:00Z"}
        assert parts.digests["b"] == sha256(b"[\n  1,\n  2\n]\n")
        assert parts.digest == content_hash(parts.digests) == dataset.digest()
        assert parts.entry("b") == {"sha256": parts.digests["b"], "bytes": 13, "rows": 2}
        assert dataset.exists()

    def test_folder_is_unfinished_from_the_first_chunk_to_the_commit(self, folder):
        dataset = _dataset(folder)
        dataset.save({"a": 1})
        dataset.save(Commit(ids=("a",)))
        dataset.save({"a": 2})
        assert not dataset.exists()
        assert dataset.digest() is None
        with pytest.raises(ArtifactError, match=f"was not finished\nNext: {MADE_BY}"):
            dataset.load()
        dataset.save(Commit(ids=("a",)))
        assert dict(dataset.load()) == {"a": 2}

    def test_commit_drops_what_it_does_not_name_and_keeps_what_was_not_remade(self, tmp_path):
        dataset = _dataset(tmp_path / "p", suffix="/score.json")
        dataset.save({"kept": 1, "gone": 2})
        dataset.save(Commit(ids=("gone", "kept"), meta={"run": 1}))
        dataset.save({"new": 3})
        dataset.save(Commit(ids=("new", "kept"), meta={"run": 2}))
        parts = dataset.load()
        assert dict(parts) == {"kept": 1, "new": 3}
        assert parts.meta == {"run": 2}
        assert _files(tmp_path) == ["_manifest.json", "kept/score.json", "new/score.json"]
        assert not (tmp_path / "p" / "gone").exists()
        assert set(_manifest(tmp_path)) == {"schema_version", "complete", "partitions", "meta"}

    def test_commit_of_what_was_never_saved_is_refused(self, folder):
        dataset = _dataset(folder)
        dataset.save({"a": 1})
        with pytest.raises(ArtifactError, match="2 of 3 partitions not saved, first b"):
            dataset.save(Commit(ids=("a", "c", "b")))
        assert not dataset.exists()

    def test_batch_without_partitions_is_an_empty_folder(self, folder):
        dataset = _dataset(folder)
        dataset.save(Commit(ids=(), meta={"note": "none"}))
        parts = dataset.load()
        assert len(parts) == 0
        assert parts.meta == {"note": "none"}

    def test_same_content_in_any_order_and_chunks_leaves_the_same_bytes(self, tmp_path):
        trees = []
        for name, chunks in {
            "one": [{"a": 1, "b": 2}],
            "two": [{"x": 0}, {"b": 2}, {"a": 9}, {"a": 1}],
        }.items():
            dataset = _dataset(tmp_path / name)
            for chunk in chunks:
                dataset.save(chunk)
            dataset.save(Commit(ids=("a", "b")))
            trees.append({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()})
        assert trees[0] == trees[1]

    def test_object_that_cannot_be_encoded_leaves_all_of_its_chunk_unwritten(self, tmp_path):
        dataset = _dataset(tmp_path / "p")
        dataset.save({"a": 1})
        dataset.save(Commit(ids=("a",)))
        with pytest.raises(ArtifactError, match=r"p/b\.json: \$ is nan"):
            dataset.save({"a": 2, "b": float("nan")})
        assert dict(dataset.load()) == {"a": 1}

    def test_key_of_a_partition_is_kept_in_the_manifest(self, folder):
        dataset = _dataset(folder, format="parquet")
        dataset.save({"a": Keyed(pd.DataFrame({"x": [1.0]}), key="abc")})
        dataset.save(Commit(ids=("a",)))
        assert dataset.load().entry("a")["key"] == "abc"
        assert dataset.load().entry("a")["rows"] == 1
        dataset.save({"a": Keyed(pd.DataFrame({"x": [1.0]}), key="abd")})
        dataset.save(Commit(ids=("a",)))
        assert dataset.load().entry("a")["key"] == "abd"

    def test_save_repairs_a_partition_that_vanished(self, tmp_path):
        dataset = _dataset(tmp_path / "p")
        for _ in range(2):
            dataset.save({"a": 1})
            dataset.save(Commit(ids=("a",)))
            assert dict(dataset.load()) == {"a": 1}
            (tmp_path / "p" / "a.json").unlink()

    def test_anything_but_a_mapping_or_commit_is_refused(self, folder):
        with pytest.raises(ArtifactError, match="can't hold a list"):
            _dataset(folder).save([1])


class TestGrowing:
    def test_every_save_counts_at_once_and_earlier_ones_stay(self, folder):
        dataset = _dataset(folder, append=True, format="jsonl")
        dataset.save({"2024-01-01T00": [{"a": 1}]})
        dataset.save({"2024-01-01T01": []})
        assert dict(dataset.load()) == {"2024-01-01T00": [{"a": 1}], "2024-01-01T01": []}
        dataset.save({"2024-01-01T01": [{"a": 2}]})
        assert dataset.load()["2024-01-01T01"] == [{"a": 2}]

    def test_missing_folder_is_an_error_unless_it_may_be_missing(self, folder):
        with pytest.raises(ArtifactError, match=f"does not exist\nNext: {MADE_BY}"):
            _dataset(folder, append=True).load()
        parts = _dataset(folder, missing_ok=True).load()
        assert len(parts) == 0
        assert parts.meta == {}
        assert not _dataset(folder, missing_ok=True).exists()

    def test_id_with_a_time_and_colons_is_refused(self, folder):
        with pytest.raises(ArtifactError, match="is not made of the characters"):
            _dataset(folder, append=True).save({"2024-01-01T00:00": 1})


class TestMapping:
    def test_nothing_is_read_until_asked_for(self, tmp_path):
        dataset = _dataset(tmp_path / "p")
        dataset.save({"a": 1, "b": 2})
        dataset.save(Commit(ids=("a", "b")))
        parts = dataset.load()
        for name in ("a", "b"):
            (tmp_path / "p" / f"{name}.json").unlink()
        assert (len(parts), list(parts), "a" in parts, "c" in parts) == (2, ["a", "b"], True, False)
        assert parts.get("c") is None
        assert repr(parts) == f"Partitions({tmp_path}/p, 2 partitions)"

    def test_unknown_id_is_a_key_error_that_names_the_folder(self, folder):
        dataset = _dataset(folder, append=True)
        dataset.save({"a": 1})
        with pytest.raises(MissingPartitionError, match=r"/p: has no 'z', only 1 others$") as caught:
            dataset.load()["z"]
        assert isinstance(caught.value, KeyError)

    def test_mapping_travels_to_another_process(self, tmp_path):
        dataset = _dataset(tmp_path / "p", append=True)
        dataset.save({"a": 1})
        assert dict(pickle.loads(pickle.dumps(dataset.load()))) == {"a": 1}  # noqa: S301 -- our own bytes

    def test_meta_and_entries_handed_out_are_copies(self, folder):
        dataset = _dataset(folder, append=True)
        dataset.save({"a": 1})
        parts = dataset.load()
        parts.entry("a")["sha256"] = ""
        parts.meta["x"] = 1
        assert parts.entry("a")["sha256"]
        assert parts.meta == {}

    def test_partition_in_folders_and_manifest_elsewhere(self, tmp_path):
        dataset = _dataset(tmp_path / "p" / "pairs", manifest="../_manifest.json", format="text", suffix=".md")
        dataset.save({"x/y=1": "hello"})
        dataset.save(Commit(ids=("x/y=1",)))
        assert _files(tmp_path) == ["_manifest.json", "pairs/x/y=1.md"]
        assert dataset.load()["x/y=1"] == "hello"


class TestDamage:
    def _saved(self, tmp_path, **options: object) -> PartitionedArtifactDataset:
        dataset = _dataset(tmp_path / "p", **options)
        dataset.save({"a": 1})
        dataset.save(Commit(ids=("a",)))
        return dataset

    def test_altered_partition_names_the_file_and_the_command(self, tmp_path):
        dataset = self._saved(tmp_path)
        (tmp_path / "p" / "a.json").write_text("2\n")
        with pytest.raises(ArtifactError, match="does not match its manifest: it was altered") as caught:
            dataset.load()["a"]
        assert (caught.value.where, caught.value.fix) == (f"{tmp_path}/p/a.json", MADE_BY)

    def test_missing_partition_of_a_growing_folder_says_to_start_over(self, tmp_path):
        dataset = self._saved(tmp_path, append=True)
        (tmp_path / "p" / "a.json").unlink()
        with pytest.raises(ArtifactError, match="is listed in its manifest and missing") as caught:
            dataset.load()["a"]
        assert caught.value.fix == f"remove {tmp_path}/p and {tmp_path}/p/_manifest.json, then: {MADE_BY}"

    def test_partition_replaced_since_the_folder_was_opened_is_not_mixed_in(self, tmp_path):
        dataset = self._saved(tmp_path, append=True)
        opened = dataset.load()
        dataset.save({"a": 2})
        with pytest.raises(ArtifactError, match="was replaced by another run since it was opened"):
            opened["a"]
        dataset.save({"b": 1})
        dataset.save(Commit(ids=("b",)))
        with pytest.raises(ArtifactError, match="was replaced by another run since it was opened"):
            opened["a"]
        assert dataset.load()["b"] == 1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"complete": tr', "is no readable manifest"),
            ("[]", "is no readable manifest"),
            (
                '{"complete": true, "partitions": {"a": {"sha256": "x", "bytes": 1}}}',
                r"partitions\.a\.sha256",
            ),
            ('{"complete": true, "schema_version": 2}', "schema_version: Input should be 1"),
            (
                '{"complete": true, "partitions": {"../a": {"sha256": "%s", "bytes": 1}}}' % ("0" * 64),
                "starts with a dot",
            ),
        ],
    )
    def test_manifest_that_cannot_be_trusted_is_refused_both_ways(self, tmp_path, text, message):
        dataset = self._saved(tmp_path)
        (tmp_path / "p" / "_manifest.json").write_text(text)
        for act in (dataset.load, lambda: dataset.save({"a": 3})):
            with pytest.raises(ArtifactError, match=message) as caught:
                act()
            assert caught.value.fix.startswith(f"remove {tmp_path}/p and ")

    def test_altered_bytes_never_reach_the_decoder(self, tmp_path):
        dataset = self._saved(tmp_path)
        (tmp_path / "p" / "a.json").write_text("not JSON")
        with pytest.raises(ArtifactError, match="does not match its manifest"):
            dataset.load()["a"]


@pytest.mark.parametrize("id_", ["APT-USDT__FIL-USDT", "a", "2024-01-01T00.00.00Z", "x=1/y=2", "1.5"])
def test_fit_ids_pass(id_):
    assert check_id(id_) == id_


@pytest.mark.parametrize(
    "id_",
    ["", "/a", "a/", "a//b", "..", "a/../b", "../a", ".hidden", "a/.b", "a b", "a\\b", "a\n", "ä", "a:b", 3],
)
def test_unfit_ids_are_refused(id_):
    with pytest.raises(ArtifactError, match="partition id"):
        check_id(id_)


def test_id_of_the_manifest_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="is the manifest's own name"):
        _dataset(tmp_path / "p").save({"_manifest": 1})


def test_schema_needs_a_format_that_has_one(tmp_path):
    with pytest.raises(ParameterError, match="'parquet' has no schema"):
        _dataset(tmp_path / "p", format="parquet", schema="x")
