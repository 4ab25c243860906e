"""Objects to bytes and back, by the name of a format. The same object gives the same bytes."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.datasets.models import decode_model, encode_model
from mntrading.datasets.storage import canonical_json, compact_json, plain

_ROW_GROUP: Final = 131_072
_THREADED_BYTES: Final = 4_000_000
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Codec:
    """A file format.

    Parameters
    ----------
    name
        What the catalog calls it.
    suffix
        Ending of its files.
    encode, decode
        Object to bytes and back. Both raise ``ArtifactError`` without a place: the caller knows it.
    """

    name: str
    suffix: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def codec(name: str) -> Codec:
    """Codec of a format name.

    Raises
    ------
    ParameterError
        There is no such format.
    """
    if name not in CODECS:
        raise ParameterError(f"unknown format {name!r}, expected one of {sorted(CODECS)}")
    return CODECS[name]


def encode_parquet(frame: pd.DataFrame) -> bytes:
    """Parquet bytes of a frame.

    A named index is kept with its time zone; an unnamed one of whole numbers only counts rows and is not.
    Parquet has no seconds: such times come back in milliseconds. ``frame.attrs`` are not stored.
    """
    if not isinstance(frame, pd.DataFrame):
        raise ArtifactError(f"a {type(frame).__name__} can't be stored as parquet, expected a DataFrame")
    named = all(name is not None for name in frame.index.names)
    counts = frame.index.nlevels == 1 and frame.index.dtype.kind in "iu"
    if not named and not counts and len(frame):
        raise ArtifactError(f"the index of {frame.index.dtype} has no name and would be lost: name or reset it")
    bare = frame.copy(deep=False)
    bare.attrs = {}
    try:
        with warnings.catch_warnings():
            # pyarrow 25 still asks pandas for .values of times with a zone, which are UTC as it wants them
            warnings.filterwarnings("ignore", message=".*drops timezone information")
            return encode_table(pa.Table.from_pandas(bare, preserve_index=named))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ArtifactError(f"the frame can't be stored as parquet: {error}") from error


def encode_table(table: Any, **options: Any) -> bytes:
    """Parquet bytes of an Arrow table; ``options`` as `pyarrow.parquet.write_table` has them."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP, **options)
    return sink.getvalue()


def decode_parquet(data: bytes, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Frame of parquet bytes; with ``columns`` only these."""
    try:
        frame: pd.DataFrame = read_table(data, columns).to_pandas()
    except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"is not a readable parquet file: {error}") from error
    return frame


def read_table(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """Arrow table of parquet bytes; with ``columns`` only these."""
    try:
        # the dataset reader of pq.read_table takes three times as long over a file of some thousand rows
        file = pq.ParquetFile(pa.BufferReader(data))
        return file.read(columns=None if columns is None else list(columns), use_threads=len(data) > _THREADED_BYTES)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArtifactError(f"is not a readable parquet file: {error}") from error


def decode_json(data: bytes) -> Any:
    """Value of JSON bytes; NaN and the infinities, which JSON does not have, are refused."""
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except ValueError as error:
        raise ArtifactError(f"is not valid JSON: {error}") from error


def encode_jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """JSON Lines bytes: one canonical line per row."""
    values = plain(rows)
    if not isinstance(values, list) or not all(isinstance(row, dict) for row in values):
        raise ArtifactError(f"a {type(rows).__name__} can't be stored as JSON Lines, expected a list of dicts")
    return b"".join(compact_json(row) for row in values)


def decode_jsonl(data: bytes) -> list[dict[str, Any]]:
    """Rows of JSON Lines bytes; a last line without its end was cut."""
    if data and not data.endswith(b"\n"):
        raise ArtifactError("is cut: its last line has no end")
    rows = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            row = decode_json(line)
        except ArtifactError as error:
            raise ArtifactError(f"line {number} {error.what}") from error
        if not isinstance(row, dict):
            raise ArtifactError(f"line {number} is a {type(row).__name__}, expected an object")
        rows.append(row)
    return rows


def encode_text(text: str) -> bytes:
    """UTF-8 bytes of a text, as it is."""
    if not isinstance(text, str):
        raise ArtifactError(f"a {type(text).__name__} can't be stored as text, expected a str")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArtifactError(f"the text is not Unicode: {error}") from error


def decode_text(data: bytes) -> str:
    """Text of UTF-8 bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"is not UTF-8 text: {error}") from error


def encode_png(image: bytes) -> bytes:
    """A picture's bytes as they are, if they are those of a whole PNG."""
    if not isinstance(image, bytes):
        raise ArtifactError(f"a {type(image).__name__} can't be stored as PNG, expected bytes")
    return decode_png(image)


def decode_png(data: bytes) -> bytes:
    """Bytes of a PNG, which begin and end as the format says: a cut one does not."""
    if not (data.startswith(_PNG_HEAD) and data.endswith(_PNG_END)):
        raise ArtifactError("is not a whole PNG picture")
    return data


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


CODECS: Final[Mapping[str, Codec]] = {
    kind.name: kind
    for kind in (
        Codec("parquet", ".parquet", encode_parquet, decode_parquet),
        Codec("json", ".json", canonical_json, decode_json),
        Codec("jsonl", ".jsonl", encode_jsonl, decode_jsonl),
        Codec("text", ".txt", encode_text, decode_text),
        Codec("png", ".png", encode_png, decode_png),
        Codec("model", ".model", encode_model, decode_model),
    )
}
