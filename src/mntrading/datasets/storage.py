"""Bytes on a file system, published whole or not at all, and hashes of what they mean.

Local files are written beside their target and moved over it once they are on the disk; object stores publish
an object when its put is complete. A reader never sees half a file, whenever the writer is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import hashlib
import itertools
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel

from mntrading.core.errors import ArtifactError

TEMPORARY_PREFIX: Final = ".tmp-"
_CLOCK_STEP_SECONDS: Final = 0.1


class WriteGuard:
    """Asked before every write to an object store: raises where this process may no longer write there."""

    check: Callable[[str], None] | None = None

    def __call__(self, path: str) -> None:
        """Ask whether this path may be written."""
        if self.check is not None:
            self.check(path)


GUARD: Final = WriteGuard()


# --- bytes ------------------------------------------------------------------------------------------------


def is_local(fs: AbstractFileSystem) -> bool:
    """Whether a file system is this machine's own."""
    return isinstance(fs, LocalFileSystem)


def read_bytes(fs: AbstractFileSystem, path: str) -> bytes:
    """Content of a file, past any cached listing.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    # from an object store in one request: in several ranges s3fs asks for the size first, a request more for each file
    return bytes(fs.cat_file(path) if is_local(fs) else fs.cat_file(path, max_concurrency=1))


@dataclasses.dataclass(frozen=True)
class FileState:
    """What is known of a file without reading it.

    Parameters
    ----------
    bytes
        Its size.
    timestamp
        When it was written, in seconds since 1970.
    version
        Changes whenever the file is replaced.
    """

    bytes: int
    timestamp: float
    version: tuple[object, ...]

    @property
    def modified(self) -> dt.datetime:
        """When it was written, UTC."""
        return dt.datetime.fromtimestamp(self.timestamp, dt.UTC)


def file_state(fs: AbstractFileSystem, path: str) -> FileState | None:
    """The state of a file past any cached listing, None where there is none."""
    if is_local(fs):
        try:
            found = os.stat(path)  # noqa: PTH116 - on every read of the apps, and a Path costs more than the call
        except FileNotFoundError:
            return None
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        return FileState(found.st_size, found.st_mtime, version)
    fs.invalidate_cache(path)
    try:
        info = fs.info(path)
    except FileNotFoundError:
        return None
    modified = info.get("LastModified") or fs.modified(path)
    return FileState(int(info["size"]), modified.timestamp(), (info.get("ETag"), str(modified), info["size"]))


def folder_state(folder: str) -> FileState | None:
    """The state of a local folder whose files are replaced by renaming, None where there is none.

    A folder's time of change has the clock's steps. One that has changed within the last of them is of a version of
    its own each time it is looked at: more may come without showing.
    """
    try:
        found = os.stat(folder)  # noqa: PTH116
    except FileNotFoundError:
        return None
    fresh = time.time() - found.st_mtime < _CLOCK_STEP_SECONDS
    return FileState(0, found.st_mtime, (found.st_ino, found.st_mtime_ns, object() if fresh else None))


def write_atomic(fs: AbstractFileSystem, path: str, data: bytes, *, staging: str | None = None) -> None:
    """Replace a file by ``data``, or leave it as it was.

    Parameters
    ----------
    fs
        File system of ``path``.
    path
        The file; folders that are missing are made.
    data
        Its whole new content.
    staging
        Local folder of the temporary file, on the disk of ``path``; the folder of ``path`` by default.
    """
    if not is_local(fs):
        GUARD(path)
        fs.pipe_file(path, data)
        return
    target = Path(path)
    _make_folder(target.parent)
    folder = Path(staging) if staging else target.parent
    temporary = folder / f"{TEMPORARY_PREFIX}{target.name}-{secrets.token_hex(4)}"
    try:
        _write_synced(temporary, data)
        _publish(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            _unlink(temporary)
        raise
    _sync_folder(target.parent)


def sizes(fs: AbstractFileSystem, folder: str) -> dict[str, int]:
    """Bytes of each file right inside a folder, by its name; none where there is no folder."""
    fs.invalidate_cache(folder)
    try:
        found = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return {}
    return {str(one["name"]).rsplit("/", 1)[-1]: int(one["size"]) for one in found if one["type"] == "file"}


def move(fs: AbstractFileSystem, path: str, target: str) -> None:
    """Move a file; where an object store has to copy, the original goes last."""
    if is_local(fs):
        _make_folder(Path(target).parent)
        _publish(Path(path), Path(target))
        _sync_folder(Path(path).parent)
        _sync_folder(Path(target).parent)
    else:
        GUARD(target)
        fs.copy(path, target)
        GUARD(path)
        fs.rm_file(path)


def remove(fs: AbstractFileSystem, path: str, *, within: str | None = None) -> None:
    """Remove a file; one that is gone already is no error.

    Parameters
    ----------
    fs
        File system of ``path``.
    path
        The file.
    within
        Folder above it: local folders between the two that this leaves empty are removed too.
    """
    with contextlib.suppress(FileNotFoundError):
        if is_local(fs):
            _unlink(Path(path))
        else:
            GUARD(path)
            fs.rm_file(path)
    if within is not None and is_local(fs):
        with contextlib.suppress(OSError):
            for folder in itertools.takewhile(lambda above: above != Path(within), Path(path).parents):
                folder.rmdir()


def remove_orphans(fs: AbstractFileSystem, folder: str, *, older_than_seconds: float = 3600.0) -> list[str]:
    """Remove the temporary files that killed writers left in a local folder.

    Younger ones are kept, for they may belong to a writer at work. Object stores have none.

    Returns
    -------
    list of str
        The files removed, sorted.
    """
    if not is_local(fs) or not Path(folder).is_dir():
        return []
    oldest = time.time() - older_than_seconds
    removed = []
    for file in sorted(Path(folder).glob(f"{TEMPORARY_PREFIX}*")):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file() and file.stat().st_mtime < oldest:
                _unlink(file)
                removed.append(file.as_posix())
    return removed


def _write_synced(file: Path, data: bytes) -> None:
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _publish(temporary: Path, target: Path) -> None:
    temporary.replace(target)


def _unlink(file: Path) -> None:
    file.unlink()


def _sync_folder(folder: Path) -> None:
    """Put the folder's own entries on the disk: without it a power cut may undo the rename."""
    if os.name == "nt":
        return  # folders can't be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    above = next(parent for parent in folder.parents if parent.is_dir())
    folder.mkdir(parents=True, exist_ok=True)
    for parent in folder.parents:
        _sync_folder(parent)
        if parent == above:
            break


# --- canonical JSON ---------------------------------------------------------------------------------------


def sha256(data: bytes) -> str:
    """SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    r"""JSON text whose bytes depend on the value alone: sorted keys, UTF-8, indent 2, a newline at the end.

    NumPy scalars and arrays, time-zone-aware timestamps (ISO 8601, UTC, ``Z``), dates, enums, dataclasses and
    pydantic models are converted. Floats are written by ``repr``, negative zero as zero.

    Raises
    ------
    ArtifactError
        A value that JSON has no exact form for: NaN, an infinity, a time without zone, another type. The
        message names its key path, ``$.orders[3].weight``.

    Examples
    --------
    >>> canonical_json({"b": 1.0, "a": pd.Timestamp("2024-01-01", tz="UTC")})
    b'{\n  "a": "2024-01-01T00:00:00Z",\n  "b": 1.0\n}\n'
    """
    return _encode(plain(value), indent=2)


def compact_json(value: object) -> bytes:
    """Canonical JSON on one line, with a newline at the end; the rules of ``canonical_json``."""
    return _encode(plain(value), indent=None)


def content_hash(value: object) -> str:
    """SHA-256 of a value's compact canonical JSON: the same value has the same hash everywhere."""
    return sha256(compact_json(value).rstrip(b"\n"))


def plain(value: object, path: str = "$") -> Any:
    """The value in JSON's own types: dict, list, str, int, float, bool, None.

    Parameters
    ----------
    value
        What to convert, see ``canonical_json``.
    path
        Key path of ``value``, for the message.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, path)
    if isinstance(value, np.datetime64):
        raise ArtifactError(f"{path} is the time {value} without a time zone, expected UTC")
    if value is pd.NaT or value is pd.NA:
        raise ArtifactError(f"{path} is {value!r}, expected a value or None")
    if isinstance(value, np.generic):
        return plain(value.item(), path)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ArtifactError(f"{path} is {value}, expected a finite number")
        return float(value) + 0.0  # turns -0.0 into 0.0
    if isinstance(value, dt.datetime):
        return _iso(pd.Timestamp(value), path)
    if isinstance(value, dt.date):
        return value.isoformat()
    return _plain_container(value, path)


def _plain_container(value: object, path: str) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ArtifactError(f"{path} has the key {key!r}, expected keys that are strings")
        return {str(key): plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, BaseModel):
        return {name: plain(item, f"{path}.{name}") for name, item in value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name), f"{path}.{field.name}") for field in fields}
    if isinstance(value, np.ndarray):
        value = list(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain(item, f"{path}[{place}]") for place, item in enumerate(value)]
    raise ArtifactError(f"{path} is a {type(value).__name__}, which has no JSON form")


def _iso(moment: pd.Timestamp, path: str) -> str:
    if moment.tzinfo is None:
        raise ArtifactError(f"{path} is the time {moment} without a time zone, expected UTC")
    return moment.tz_convert("UTC").isoformat().replace("+00:00", "Z")


def _encode(value: object, *, indent: int | None) -> bytes:
    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise ArtifactError(f"a text is not Unicode: {error}") from error


# --- frames -----------------------------------------------------------------------------------------------


def frame_hash(frame: pd.DataFrame) -> str:
    """Content hash of a frame: names, dtypes, index and values in their order; not of any file format.

    NaN hashes alike whatever its bits; the two signs of zero differ, as they do in arithmetic.

    Raises
    ------
    ArtifactError
        A column that holds objects other than text.
    """
    digest = hashlib.sha256()
    levels = [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
    head = {
        "rows": len(frame),
        "index": [[_label(level.name), _dtype_name(level)] for level in levels],
        "columns": [[_label(name), _dtype_name(frame.iloc[:, place])] for place, name in enumerate(frame.columns)],
    }
    digest.update(compact_json(head))
    for level in levels:
        digest.update(_values(level, f"index {level.name!r}"))
    for place, name in enumerate(frame.columns):
        digest.update(_values(frame.iloc[:, place], f"column {name!r}"))
    return digest.hexdigest()


def _label(name: object) -> Any:
    return list(name) if isinstance(name, tuple) else name


def _is_text(values: pd.Series | pd.Index) -> bool:
    return str(values.dtype) in ("str", "string", "object")


def _dtype_name(values: pd.Series | pd.Index) -> str:
    return "str" if _is_text(values) else str(values.dtype)


def _values(values: pd.Series | pd.Index, what: str) -> bytes:
    """Bytes that say the values of one column, whatever library holds them."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.dtype.categories.dtype)
    if isinstance(values.dtype, pd.DatetimeTZDtype) or values.dtype.kind in "mM":
        return _little_endian(cast(Any, pd.Index(values)).asi8)
    if values.dtype.kind in "biu" and isinstance(values.dtype, np.dtype):
        return _little_endian(values.to_numpy())
    if values.dtype.kind == "f" and isinstance(values.dtype, np.dtype):
        numbers = values.to_numpy().copy()
        numbers[np.isnan(numbers)] = np.nan
        return _little_endian(numbers)
    if _is_text(values):
        if pd.api.types.infer_dtype(values, skipna=True) not in ("string", "empty"):
            raise ArtifactError(f"{what} holds objects that are no text, which have no content hash")
        codes, texts = pd.factorize(values)
        return compact_json(list(texts)) + codes.astype("<i8").tobytes()
    raise ArtifactError(f"{what} is of {values.dtype}, which has no content hash")


def _little_endian(values: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()


# --- errors -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reporting(where: str, *, fix: str | None = None) -> Iterator[None]:
    """Turn an artefact's own complaint, or the disk's, into one that names the file.

    Parameters
    ----------
    where
        The file, as the user knows it.
    fix
        The command to run next when the content is at fault.
    """
    try:
        yield
    except ArtifactError as error:
        if error.where is not None:
            raise
        raise ArtifactError(error.what, where=where, fix=error.fix or fix) from error
    except _unreachable() as error:
        said = getattr(error, "strerror", None) or error
        raise ArtifactError(f"can't be reached: {said}", where=where) from error


def _unreachable() -> tuple[type[Exception], ...]:
    """What disks raise, and the clients of object stores beside it, of those that are in use."""
    clients = (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"))
    used = [getattr(sys.modules[module], name) for module, name in clients if module in sys.modules]
    return (OSError, *used)
