"""Round trips, byte determinism and the refusals of the file formats."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.datasets.codecs import codec


def _index(n: int) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC", name="timestamp").as_unit("ms")


FRAMES = {
    "time index": pd.DataFrame({"x": [1.0, np.nan], "s": ["a", "b"]}, index=_index(2)),
    "row numbers": pd.DataFrame({"x": np.arange(3), "b": [True, False, True]}),
    "text index": pd.DataFrame({"x": [1.0]}, index=pd.Index(["APT"], name="symbol")),
    "no rows": pd.DataFrame({"x": pd.Series(dtype="float64"), "s": pd.Series(dtype="str")}),
    "no rows, time index": pd.DataFrame({"x": np.empty(0)}, index=_index(0)),
    "no columns": pd.DataFrame(index=_index(2)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frame_comes_back_with_index_zone_and_dtypes(name):
    parquet = codec("parquet")
    data = parquet.encode(FRAMES[name])
    pd.testing.assert_frame_equal(parquet.decode(data), FRAMES[name], check_freq=False)
    assert parquet.encode(parquet.decode(data)) == data


def test_row_numbers_and_attributes_do_not_reach_the_bytes():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    other = frame.set_axis([7, 8, 9])
    other.attrs["path"] = "x.csv"
    assert codec("parquet").encode(other) == codec("parquet").encode(frame)
    assert other.attrs == {"path": "x.csv"}


@pytest.mark.parametrize(
    ("name", "value", "data"),
    [
        ("json", {"b": 1, "a": [None]}, b'{\n  "a": [\n    null\n  ],\n  "b": 1\n}\n'),
        ("jsonl", [{"b": 1, "a": 2}, {"x": "line\nbreak"}], b'{"a":2,"b":1}\n{"x":"line\\nbreak"}\n'),
        ("jsonl", [], b""),
        ("text", "Bericht\r\nüber", "Bericht\r\nüber".encode()),
    ],
)
def test_text_formats_come_back(name, value, data):
    assert codec(name).encode(value) == data
    assert codec(name).decode(data) == value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("parquet", {"a": 1}, "a dict can't be stored as parquet"),
        ("parquet", pd.DataFrame({"x": [1]}, index=pd.Index(["a"])), "has no name and would be lost"),
        ("parquet", pd.DataFrame([[1, 2]], columns=["x", "x"]), "can't be stored as parquet: Duplicate"),
        ("json", {"a": float("nan")}, r"\$\.a is nan"),
        ("jsonl", [{"a": 1}, 2], "expected a list of dicts"),
        ("jsonl", [{"a": 1}, {"a": float("inf")}], r"\$\[1\]\.a is inf"),
        ("text", 1, "a int can't be stored as text"),
        ("png", "text", "a str can't be stored as PNG"),
        ("png", b"GIF89a", "not a whole PNG"),
        ("text", "\ud800", "not Unicode"),
        ("model", "x", "expected a StoredModel"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(name, value, message):
    with pytest.raises(ArtifactError, match=message):
        codec(name).encode(value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("parquet", b"", "not a readable parquet"),
        ("png", b"\x89PNG\r\n\x1a\n cut in its middle", "not a whole PNG"),
        ("parquet", codec("parquet").encode(FRAMES["time index"])[:-9], "not a readable parquet"),
        ("parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", "not a readable parquet"),
        ("json", b'{"a": 1', "not valid JSON"),
        ("json", b'{"a": NaN}', "NaN is no JSON number"),
        ("json", b'{"a": "\xff"}', "not valid JSON"),
        ("jsonl", b'{"a": 1}\n{"a"', "its last line has no end"),
        ("jsonl", b'{"a": 1}\n{"a"\n', "line 2 is not valid JSON"),
        ("jsonl", b"3\n", "line 1 is a int, expected an object"),
        ("text", b"\xff", "not UTF-8"),
    ],
)
def test_cut_or_altered_bytes_are_refused(name, data, message):
    with pytest.raises(ArtifactError, match=message):
        codec(name).decode(data)


def test_parquet_with_any_one_byte_changed_is_read_or_refused():
    data = codec("parquet").encode(FRAMES["time index"])
    for place in range(0, len(data), 7):
        broken = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        try:
            codec("parquet").decode(broken)
        except ArtifactError:
            continue


def test_unknown_format_names_the_known_ones():
    with pytest.raises(ParameterError, match=r"unknown format 'csv', expected one of \['json'"):
        codec("csv")
