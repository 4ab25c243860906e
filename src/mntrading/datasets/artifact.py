"""Kedro datasets whose saves survive a crash: one file, and a folder of partitions with a manifest."""

from __future__ import annotations

import os
import posixpath
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NewType

import fsspec
import pandas as pd

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.datasets.codecs import codec
from mntrading.datasets.errors import MissingPartitionError, PlainErrorsDataset
from mntrading.datasets.manifest import Entry, Manifest, PartitionFolder, check_id
from mntrading.datasets.storage import (
    FileState,
    content_hash,
    file_state,
    is_local,
    plain,
    read_bytes,
    reporting,
    sha256,
    write_atomic,
)
from mntrading.datasets.validation import check_document, validator

_WITH_SCHEMA: Final = ("json", "jsonl")

PlotlyPreview = NewType("PlotlyPreview", dict[str, Any])
"""What kedro-viz draws as a plot: it goes by this name, as ``kedro_datasets`` has it."""


class ArtifactDataset(PlainErrorsDataset):
    """``ArtifactDataset`` loads and saves one file on any ``fsspec`` file system, crash-safely.

    A save replaces the file whole or leaves the one before. JSON is written canonically, so the same value
    gives the same bytes, and can be held to a JSON Schema of the package on save and on load. Errors are
    ``ArtifactError`` and name the file and the command that makes it.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        roster:
          type: mntrading.datasets.ArtifactDataset
          filepath: ${globals:storage.root}/pairs/roster.json
          format: json
          schema: roster
          made_by: kedro run --pipelines screening
          credentials: storage

    Using the Python API:

    >>> dataset = ArtifactDataset(filepath="memory://doc/roster.json", format="json")
    >>> dataset.save({"pairs": ["APT-USDT__FIL-USDT"]})
    >>> dataset.load()
    {'pairs': ['APT-USDT__FIL-USDT']}
    """

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str],
        format: str,
        schema: str | None = None,
        missing_ok: bool = False,
        made_by: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create a dataset on a file.

        Parameters
        ----------
        filepath
            The file, with its protocol (``s3://…``) unless it is local.
        format
            ``parquet``, ``json``, ``jsonl``, ``text``, ``png`` or ``model``.
        schema
            Bare name of a JSON Schema of the package; for ``jsonl`` that of each line.
        missing_ok
            Whether a file that is not there loads as None.
        made_by
            Command that makes the file, named in errors.
        credentials, fs_args
            Arguments of the file system.
        metadata
            Anything; ignored.
        """
        self._fs, self._filepath = located(filepath, credentials, fs_args)
        self._codec = codec(format)
        self._schema = _known_schema(schema, format)
        self._missing_ok, self._made_by = missing_ok, made_by
        self.metadata = metadata

    def resolve_path(self) -> str:
        """The file's path, with its protocol unless it is local."""
        return self._filepath if is_local(self._fs) else str(self._fs.unstrip_protocol(self._filepath))

    def digest(self) -> str | None:
        """SHA-256 of the stored bytes, None where there is no file."""
        with reporting(self.resolve_path()):
            try:
                return sha256(read_bytes(self._fs, self._filepath))
            except FileNotFoundError:
                return None

    def state(self) -> FileState | None:
        """What is known of the file without reading it, None where there is none."""
        with reporting(self.resolve_path()):
            return file_state(self._fs, self._filepath)

    @property
    def format(self) -> str:
        """Name of the file's format."""
        return self._codec.name

    def stored(self) -> bytes:
        """The stored bytes, checked against the schema.

        Raises
        ------
        ArtifactError
            There is no file, or it is not of its format or its schema.
        """
        with reporting(self.resolve_path(), fix=self._made_by):
            try:
                data = read_bytes(self._fs, self._filepath)
            except FileNotFoundError:
                raise ArtifactError("does not exist") from None
            if self._schema is not None:
                _check(data, self._codec.decode(data), self._schema, self._codec.name)
        return data

    def load(self) -> Any:
        """The stored object; None where there is none and ``missing_ok``."""
        fix = self._made_by
        if fix and self._missing_ok:
            # what makes it reads it first
            fix = f"remove {self.resolve_path()}, then: {fix}"
        with reporting(self.resolve_path(), fix=fix):
            try:
                data = read_bytes(self._fs, self._filepath)
            except FileNotFoundError:
                if self._missing_ok:
                    return None
                raise ArtifactError("does not exist") from None
            value = self._codec.decode(data)
            _check(data, value, self._schema, self._codec.name)
        return value

    def save(self, data: Any) -> None:
        """Store an object in place of the one before."""
        with reporting(self.resolve_path()):
            encoded = self._codec.encode(data)
            if self._schema is not None:
                _check(encoded, self._codec.decode(encoded), self._schema, self._codec.name)
            write_atomic(self._fs, self._filepath, encoded)
        self._invalidate_cache()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self.resolve_path(), "format": self._codec.name, "schema": self._schema}

    def _exists(self) -> bool:
        self._invalidate_cache()
        with reporting(self.resolve_path()):
            try:
                return str(self._fs.info(self._filepath)["type"]) == "file"
            except FileNotFoundError:
                return False

    def _release(self) -> None:
        self._invalidate_cache()

    def _invalidate_cache(self) -> None:
        """Forget what the file system remembers of listings."""
        self._fs.invalidate_cache(self._filepath)


class FigureDataset(ArtifactDataset):
    """``FigureDataset`` is an ``ArtifactDataset`` of a plotly figure, as JSON, that kedro-viz shows as a plot.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        pair_network:
          type: mntrading.datasets.FigureDataset
          filepath: ${globals:storage.root}/pairs/figures/pair_network.json
          format: json
          schema: figure
          made_by: kedro run --pipelines screening
    """

    def preview(self) -> PlotlyPreview:
        """The figure, for kedro-viz."""
        return PlotlyPreview(self.load())


@dataclass(frozen=True)
class Commit:
    """The end of a batch of partitions: which of the saved ones make up the whole, and what is said of it.

    Parameters
    ----------
    ids
        Every partition that is current from now on; any other is removed.
    meta
        What the manifest says of the whole; anything with a JSON form.
    """

    ids: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Keyed:
    """A partition with the hash of what it was made from, so that a later run can tell it need not be remade.

    Parameters
    ----------
    value
        The partition.
    key
        Kept in the manifest as ``key``.
    notes
        What else the manifest says of the partition; anything with a JSON form.
    """

    value: Any
    key: str
    notes: Mapping[str, Any] = field(default_factory=dict)


class Partitions(Mapping[str, Any]):
    """Read-only mapping of partition id to content, read when asked for and checked against the manifest.

    Length, order (sorted ids) and digests come from the manifest alone. Content that another run has replaced
    since this was loaded is refused, never mixed in.
    """

    def __init__(self, folder: PartitionFolder, manifest: Manifest, format: str, schema: str | None) -> None:
        self._folder, self._manifest = folder, manifest
        self._format, self._schema = format, schema
        self._entries = dict(sorted(manifest.partitions.items()))

    @property
    def meta(self) -> dict[str, Any]:
        """What the last ``Commit`` said of the whole."""
        return deepcopy(self._manifest.meta)

    @property
    def is_remote(self) -> bool:
        """Whether other machines read the same files."""
        return not is_local(self._folder.fs)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each partition's stored bytes."""
        return {id_: entry.sha256 for id_, entry in self._entries.items()}

    @property
    def digest(self) -> str:
        """One content hash over the ids and bytes of all partitions; ``meta`` has no part in it."""
        return content_hash(self.digests)

    def entry(self, id_: str) -> dict[str, Any]:
        """What the manifest says of a partition: sha256, bytes, rows, key, notes."""
        return self._entry(id_).record()

    def is_current(self, id_: str, key: str) -> bool:
        """Whether a partition was made from what the key stands for, and its stored bytes are still those."""
        if id_ not in self or self._entry(id_).key != key:
            return False
        try:
            self._folder.read(id_, self._entry(id_))
        except ArtifactError:
            return False
        return True

    def stored(self, id_: str) -> bytes:
        """A partition's bytes as they are stored, checked against the manifest."""
        return self._folder.read(id_, self._entry(id_))

    def __getitem__(self, id_: str) -> Any:
        data = self._folder.read(id_, self._entry(id_))
        with reporting(self._folder.shown(self._folder.file(id_)), fix=self._folder.repair):
            value = codec(self._format).decode(data)
            _check(data, value, self._schema, self._format)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._entries

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._folder.shown(self._folder.root)}, {len(self)} partitions)"

    def _entry(self, id_: str) -> Entry:
        if id_ not in self._entries:
            raise MissingPartitionError(
                f"has no {id_!r}, only {len(self)} others", where=self._folder.shown(self._folder.root)
            )
        return self._entries[id_]


class PartitionedArtifactDataset(PlainErrorsDataset):
    """``PartitionedArtifactDataset`` loads and saves a folder of files, one per partition, with a manifest.

    A node saves any number of mappings ``{id: object}``, as a generator node does, and a ``Commit`` at the
    end. From the first mapping to the ``Commit`` the folder is unfinished and can't be loaded; partitions
    that were there before stay until the ``Commit`` leaves them out. With ``append: true`` every mapping is
    an end in itself: the folder stays loadable and grows.

    Killed at any moment, a writer leaves partitions that match the manifest, or a manifest that says the
    folder was not finished. One writer at a time; readers may come and go.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        pair_features:
          type: mntrading.datasets.PartitionedArtifactDataset
          path: ${globals:storage.root}/features/pairs
          format: parquet
          suffix: /features.parquet
          made_by: kedro run --pipelines feature_engineering

        pair_datasets:
          type: mntrading.datasets.PartitionedArtifactDataset
          path: ${globals:storage.root}/datasets/pairs
          manifest: ../_manifest.json
          format: parquet

        signals:
          type: mntrading.datasets.PartitionedArtifactDataset
          path: ${globals:storage.root}/signals
          format: jsonl
          append: true
          missing_ok: true

    Using the Python API:

    >>> dataset = PartitionedArtifactDataset(path="memory://doc/scores", format="json")
    >>> dataset.save({"a": 1, "b": 2})
    >>> dataset.save(Commit(ids=("a", "b"), meta={"as_of": "2024-01-01T00:00:00Z"}))
    >>> dict(dataset.load())
    {'a': 1, 'b': 2}
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        format: str,
        suffix: str | None = None,
        manifest: str = "_manifest.json",
        schema: str | None = None,
        append: bool = False,
        missing_ok: bool = False,
        unfinished_ok: bool = False,
        made_by: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create a dataset on a folder.

        Parameters
        ----------
        path
            The folder, with its protocol unless it is local.
        format
            Format of a partition: ``parquet``, ``json``, ``jsonl``, ``text``, ``png`` or ``model``.
        suffix
            What follows the id in a file's path; by default the ending of the format. With
            ``/features.parquet`` each partition is a folder.
        manifest
            Path of the manifest from ``path``; may climb, ``../_manifest.json``.
        schema
            Bare name of a JSON Schema of the package, for each partition.
        append
            Whether saved partitions count at once, without a ``Commit``.
        missing_ok
            Whether a folder that is not there loads as an empty one.
        unfinished_ok
            Whether a folder that was not finished loads with what was saved of it, for a run that goes on from there.
        made_by
            Command that makes the folder, named in errors.
        credentials, fs_args
            Arguments of the file system.
        metadata
            Anything; ignored.
        """
        fs, root = located(path, credentials, fs_args)
        self._codec = codec(format)
        self._schema = _known_schema(schema, format)
        self._append, self._missing_ok, self._unfinished_ok = append, missing_ok, unfinished_ok
        manifest_path = posixpath.normpath(posixpath.join(root, manifest))
        self._folder = PartitionFolder(
            fs=fs,
            root=root,
            suffix=self._codec.suffix if suffix is None else suffix,
            manifest_path=manifest_path,
            make=made_by,
            grows=append,
        )
        self.metadata = metadata

    def resolve_path(self) -> str:
        """The folder's path, with its protocol unless it is local."""
        return self._folder.shown(self._folder.root)

    def digest(self) -> str | None:
        """Content hash over all partitions, None where the folder is missing or not finished."""
        manifest = self._folder.read_manifest()
        return self._view(manifest).digest if manifest is not None and manifest.complete else None

    def state(self) -> FileState | None:
        """What is known of the manifest without reading it, None where there is none."""
        with reporting(self.resolve_path()):
            return file_state(self._folder.fs, self._folder.manifest_path)

    @property
    def format(self) -> str:
        """Name of a partition's format."""
        return self._codec.name

    def load(self) -> Partitions:
        """The partitions of a finished folder, not read yet."""
        manifest = self._folder.read_manifest()
        if manifest is None and not self._missing_ok:
            raise ArtifactError("does not exist", where=self.resolve_path(), fix=self._folder.make)
        if manifest is not None and not manifest.complete and not self._unfinished_ok:
            raise ArtifactError("was not finished", where=self.resolve_path(), fix=self._folder.make)
        return self._view(manifest or Manifest(complete=True))

    def save(self, data: Any) -> None:
        """Store partitions, each an object or a ``Keyed`` one, or finish the batch."""
        with reporting(self.resolve_path()):
            self._store(data)
        self._invalidate_cache()

    def _describe(self) -> dict[str, Any]:
        return {
            "path": self.resolve_path(),
            "format": self._codec.name,
            "suffix": self._folder.suffix,
            "manifest": self._folder.shown(self._folder.manifest_path),
            "schema": self._schema,
            "append": self._append,
        }

    def _exists(self) -> bool:
        """Whether the folder is there and finished: an unfinished one has to be made again."""
        manifest = self._folder.read_manifest()
        return manifest is not None and manifest.complete

    def _release(self) -> None:
        self._invalidate_cache()

    def _invalidate_cache(self) -> None:
        """Forget what the file system remembers of listings."""
        self._folder.fs.invalidate_cache(self._folder.root)
        self._folder.fs.invalidate_cache(self._folder.manifest_path)

    def _view(self, manifest: Manifest) -> Partitions:
        return Partitions(self._folder, self._folder.settled(manifest), self._codec.name, self._schema)

    def _store(self, data: Any) -> None:
        if isinstance(data, Commit):
            self._seal(data)
        elif isinstance(data, Mapping):
            self._upsert(data)
        else:
            raise ArtifactError(f"can't hold a {type(data).__name__}, expected a mapping of partitions or a Commit")

    def _upsert(self, data: Mapping[str, Any]) -> None:
        blobs, entries = {}, {}
        for id_, item in data.items():
            value, known = (item.value, {"key": item.key, **item.notes}) if isinstance(item, Keyed) else (item, {})
            with reporting(self._folder.shown(self._folder.file(id_))):
                blobs[id_] = self._codec.encode(value)
                if self._schema is not None:
                    _check(blobs[id_], self._codec.decode(blobs[id_]), self._schema, self._codec.name)
            entries[id_] = entry_of(blobs[id_], rows=_rows(value), **known)
        stored = self._folder.read_manifest()
        current = self._folder.recover(stored)
        target = current.evolve(complete=self._append, partitions={**current.partitions, **entries})
        self._folder.publish(stored, current, target, blobs)

    def _seal(self, commit: Commit) -> None:
        ids, meta = {check_id(id_) for id_ in commit.ids}, plain(commit.meta, "$.meta")
        stored = self._folder.read_manifest()
        current = self._folder.recover(stored)
        missing = sorted(ids - set(current.partitions))
        if missing:
            raise ArtifactError(
                f"can't be finished: {len(missing)} of {len(ids)} partitions not saved, first {missing[0]}"
            )
        kept = {id_: entry for id_, entry in current.partitions.items() if id_ in ids}
        target = current.evolve(complete=True, partitions=kept, meta=meta)
        self._folder.seal(stored, target, set(current.partitions) - ids)


def located(
    path: str | os.PathLike[str], credentials: dict[str, Any] | None, fs_args: dict[str, Any] | None
) -> tuple[Any, str]:
    """File system and path on it; Kedro's own parser drops the first part of ``memory://a/b``."""
    endpoint = (credentials or {}).get("endpoint_url")
    if endpoint and "://" not in endpoint:
        raise ParameterError(
            f"the endpoint {endpoint!r} does not begin with http:// or https://", where="S3_ENDPOINT_URL"
        )
    fs, inside = fsspec.url_to_fs(os.fspath(path), **deepcopy(credentials or {}), **deepcopy(fs_args or {}))
    if fs.protocol == ("s3", "s3a"):
        _try_to_connect_again()
    return fs, str(inside)


@cache
def _try_to_connect_again() -> None:
    """Have s3fs count a connection that was not made among what it tries again, five times in some two seconds."""
    import botocore.exceptions
    import s3fs.core

    s3fs.core.add_retryable_error(botocore.exceptions.EndpointConnectionError)


def _known_schema(schema: str | None, format: str) -> str | None:
    if schema is None:
        return None
    if format not in _WITH_SCHEMA:
        raise ParameterError(f"format {format!r} has no schema, only {' and '.join(_WITH_SCHEMA)} have")
    validator(schema)
    return schema


_MOST_CHECKED: Final = 256
_CHECKED: OrderedDict[tuple[str, str], None] = OrderedDict()
"""Bytes that fit their schema, by its name and their hash, newest last: what one step saves the next one loads."""


def _check(data: bytes, value: Any, schema: str | None, format: str) -> None:
    if schema is None:
        return
    known = (schema, sha256(data))
    if known in _CHECKED:
        return
    if format == "jsonl":
        for number, row in enumerate(value, start=1):
            check_document(row, schema, place=f"line {number}: ")
    else:
        check_document(value, schema)
    _CHECKED[known] = None
    if len(_CHECKED) > _MOST_CHECKED:
        _CHECKED.popitem(last=False)


def _rows(value: Any) -> int | None:
    return len(value) if isinstance(value, pd.DataFrame | list) else None


def entry_of(data: bytes, **known: Any) -> Entry:
    """Manifest entry of a partition's bytes and what else is known of it."""
    return Entry(sha256=sha256(data), bytes=len(data), **plain(known))
