"""Atomic writes, canonical JSON, content hashes."""

from __future__ import annotations

import datetime as dt
import enum
import os
import time
from dataclasses import dataclass

import fsspec
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from mntrading.core.errors import ArtifactError
from mntrading.datasets import storage
from mntrading.datasets.codecs import decode_parquet, encode_parquet
from mntrading.datasets.storage import (
    canonical_json,
    compact_json,
    content_hash,
    frame_hash,
    read_bytes,
    remove,
    remove_orphans,
    sha256,
    write_atomic,
)


@pytest.fixture
def disk():
    return fsspec.filesystem("file")


class TestFiles:
    def test_write_makes_folders_and_leaves_only_the_file(self, disk, tmp_path):
        write_atomic(disk, f"{tmp_path}/a/b/x.bin", b"one")
        write_atomic(disk, f"{tmp_path}/a/b/x.bin", b"two")
        assert read_bytes(disk, f"{tmp_path}/a/b/x.bin") == b"two"
        assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == ["x.bin"]

    def test_file_is_readable_for_others_as_the_umask_says(self, disk, tmp_path):
        (tmp_path / "plain").touch()
        write_atomic(disk, f"{tmp_path}/x", b"1")
        assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_temporary_file_can_lie_outside_the_folder(self, disk, tmp_path, monkeypatch):
        seen = []
        publish = storage._publish
        monkeypatch.setattr(storage, "_publish", lambda a, b: (seen.append(a.parent), publish(a, b)))
        write_atomic(disk, f"{tmp_path}/in/x", b"1", staging=str(tmp_path))
        assert seen == [tmp_path]
        assert (tmp_path / "in" / "x").read_bytes() == b"1"

    def test_failed_write_keeps_the_old_file_and_cleans_up(self, disk, tmp_path, monkeypatch):
        write_atomic(disk, f"{tmp_path}/x", b"old")

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomic(disk, f"{tmp_path}/x", b"new")
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("x", b"old")]

    def test_only_old_temporaries_are_orphans(self, disk, tmp_path):
        for name in ("x", ".tmp-x-1", ".tmp-x-2"):
            (tmp_path / name).touch()
        long_ago = time.time() - 7200
        os.utime(tmp_path / ".tmp-x-1", (long_ago, long_ago))
        assert remove_orphans(disk, str(tmp_path)) == [f"{tmp_path}/.tmp-x-1"]
        assert sorted(file.name for file in tmp_path.iterdir()) == [".tmp-x-2", "x"]
        assert remove_orphans(disk, f"{tmp_path}/absent") == []

    def test_remove_takes_the_folders_it_empties_and_no_more(self, disk, tmp_path):
        for name in ("a/b/x", "a/y"):
            write_atomic(disk, f"{tmp_path}/{name}", b"1")
        remove(disk, f"{tmp_path}/a/b/x", within=str(tmp_path))
        remove(disk, f"{tmp_path}/a/b/x", within=str(tmp_path))
        assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["y"]
        remove(disk, f"{tmp_path}/a/y", within=str(tmp_path))
        assert tmp_path.is_dir()
        assert not list(tmp_path.iterdir())

    def test_memory_filesystem_reads_what_was_written(self):
        memory = fsspec.filesystem("memory")
        write_atomic(memory, "/storage/x", b"1")
        assert read_bytes(memory, "/storage/x") == b"1"
        remove(memory, "/storage/x")
        remove(memory, "/storage/x")
        with pytest.raises(FileNotFoundError):
            read_bytes(memory, "/storage/x")


class Side(enum.Enum):
    BUY = "buy"


@dataclass(frozen=True)
class Order:
    side: Side
    weight: float


class Limits(BaseModel):
    cap: float
    since: dt.datetime


class TestCanonicalJson:
    def test_keys_are_sorted_and_text_is_utf8_with_a_final_newline(self):
        assert canonical_json({"b": "β", "a": [1]}) == '{\n  "a": [\n    1\n  ],\n  "b": "β"\n}\n'.encode()

    def test_every_kind_of_value_is_converted(self):
        noon = pd.Timestamp("2024-01-01 12:00", tz="Europe/Paris")
        value = {
            "order": Order(Side.BUY, np.float64(0.1)),
            "limits": Limits(cap=1, since=dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
            "numpy": [np.int64(3), np.bool_(True), np.str_("x"), np.float32(0.5)],
            "array": np.array([[1.0, 2.0]]),
            "noon": noon,
            "noon_ms": noon.as_unit("ms"),
            "fraction": pd.Timestamp("2024-01-01T00:00:00.250Z"),
            "day": dt.date(2024, 1, 2),
            "tuple": (None, True, 1, -0.0),
        }
        assert compact_json(value).decode() == (
            '{"array":[[1.0,2.0]],"day":"2024-01-02","fraction":"2024-01-01T00:00:00.250000Z",'
            '"limits":{"cap":1.0,"since":"2024-01-01T00:00:00Z"},"noon":"2024-01-01T11:00:00Z",'
            '"noon_ms":"2024-01-01T11:00:00Z","numpy":[3,true,"x",0.5],"order":{"side":"buy","weight":0.1},'
            '"tuple":[null,true,1,0.0]}\n'
        )

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"orders": [{"weight": float("nan")}]}, r"\$\.orders\[0\]\.weight is nan, expected a finite"),
            ({"a": np.inf}, r"\$\.a is inf"),
            ({"a": np.float32("-inf")}, r"\$\.a is -inf"),
            ({"a": pd.NaT}, r"\$\.a is NaT"),
            ({"a": pd.NA}, r"\$\.a is <NA>"),
            ({"a": pd.Timestamp("2024-01-01")}, r"\$\.a is the time .* without a time zone"),
            ({"a": np.datetime64("2024-01-01")}, r"\$\.a is the time 2024-01-01 without a time zone"),
            ({"a": {1: "x"}}, r"\$\.a has the key 1"),
            ({"a": {"x"}}, r"\$\.a is a set, which has no JSON form"),
            ({"a": b"x"}, r"\$\.a is a bytes"),
            ({"a": pd.DataFrame()}, r"\$\.a is a DataFrame"),
            ({"a": Order}, r"\$\.a is a type"),
            ({"a": "\ud800"}, "not Unicode"),
        ],
    )
    def test_what_json_cannot_say_is_refused_with_its_key_path(self, value, message):
        with pytest.raises(ArtifactError, match=message):
            canonical_json(value)

    def test_content_hash_knows_values_not_forms(self):
        same = {"x": 0.1, "n": 1, "t": ["a"]}
        assert content_hash(same) == content_hash({"t": ("a",), "n": np.int32(1), "x": np.float64(0.1)})
        assert content_hash(same) == sha256(b'{"n":1,"t":["a"],"x":0.1}')
        assert content_hash(same) != content_hash(same | {"x": 0.1 + 2**-56})


def _frame() -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC", name="timestamp").as_unit("ms")
    data = {
        "x": [1.0, np.nan, -0.0, 3.0],
        "n": np.arange(4),
        "flag": [True, False, True, True],
        "name": ["a", "ab", None, "b"],
        "at": index + pd.Timedelta("1min"),
        "small": np.arange(4, dtype="int8"),
    }
    return pd.DataFrame(data, index=index)


class TestFrameHash:
    def test_equal_frames_hash_alike_and_parquet_changes_nothing(self):
        frame = _frame()
        assert frame_hash(frame) == frame_hash(_frame())
        assert frame_hash(frame) == frame_hash(decode_parquet(encode_parquet(frame)))
        assert frame_hash(frame.head(0)) == frame_hash(decode_parquet(encode_parquet(frame.head(0))))

    def test_nan_of_other_bits_and_other_layout_hash_alike(self):
        odd = np.array([0x7FF8000000000001], dtype="<u8").view("<f8")
        assert frame_hash(pd.DataFrame({"x": odd})) == frame_hash(pd.DataFrame({"x": [np.nan]}))
        wide = np.arange(12.0).reshape(3, 4)
        strided = pd.DataFrame(wide[:, ::2], columns=["a", "b"])
        assert frame_hash(strided) == frame_hash(strided.copy())

    @pytest.mark.parametrize(
        "change",
        [
            lambda f: f.assign(x=f["x"].fillna(0.0)),
            lambda f: f.assign(x=[1.0, np.nan, 0.0, 3.0]),
            lambda f: f.assign(n=f["n"].astype("int32")),
            lambda f: f.assign(name=["a", "a", "b", "b"]),
            lambda f: f.assign(name=["aa", "b", None, "b"]),
            lambda f: f.rename(columns={"x": "y"}),
            lambda f: f[["n", "x", "flag", "name", "at", "small"]],
            lambda f: f.iloc[::-1],
            lambda f: f.iloc[:-1],
            lambda f: f.rename_axis("time"),
            lambda f: f.set_axis(f.index + pd.Timedelta("1ms")),
            lambda f: f.assign(at=f["at"].dt.tz_convert("Europe/Paris")),
        ],
    )
    def test_any_difference_shows(self, change):
        assert frame_hash(change(_frame())) != frame_hash(_frame())

    def test_objects_have_no_hash(self):
        with pytest.raises(ArtifactError, match="column 'x' holds objects that are no text"):
            frame_hash(pd.DataFrame({"x": [{}, []]}, dtype=object))
