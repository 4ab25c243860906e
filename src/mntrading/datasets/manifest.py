"""The manifest of a folder of partitions, and the order of writes that keeps the two in step.

The manifest alone says which partitions are current and what their bytes hash to. A file is replaced only
after the manifest has announced its new hash (``writing``), and removed only after the manifest has ceased to
list it (``removing``), so a writer may be killed between any two writes:

==============================  =========================================================
killed                          found by the next reader or writer
==============================  =========================================================
before the announcement         everything as it was
after it, before the file       the old bytes, which the manifest still lists
after the file                  the new bytes, which the announcement lists
before a dropped file is gone   a file nothing lists; the next save removes it
==============================  =========================================================
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fsspec import AbstractFileSystem
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mntrading.core.errors import ArtifactError
from mntrading.datasets.storage import (
    canonical_json,
    is_local,
    read_bytes,
    remove,
    remove_orphans,
    reporting,
    sha256,
    write_atomic,
)

_ID: Final = re.compile(r"[A-Za-z0-9._=@~/-]+")


class Entry(BaseModel):
    """What the manifest says of one partition; a dataset may record more beside it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    rows: int | None = Field(default=None, ge=0)
    key: str | None = None

    def record(self) -> dict[str, Any]:
        """What is known of the partition, by name."""
        return {name: value for name, value in self if value is not None}


class Manifest(BaseModel):
    """Which partitions are current, and what is under way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    complete: bool
    partitions: dict[str, Entry] = {}
    writing: dict[str, Entry] = {}
    removing: tuple[str, ...] = ()
    meta: dict[str, Any] = {}

    def evolve(self, **changes: Any) -> Manifest:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)

    def document(self) -> dict[str, Any]:
        """What is written: fields that have a value."""
        entries = {
            name: {id_: entry.record() for id_, entry in table.items()}
            for name, table in (("partitions", self.partitions), ("writing", self.writing))
        }
        whole = {**dict(self), **entries}
        kept = ("partitions", "meta")
        return {name: value for name, value in whole.items() if name in kept or value not in (None, {}, ())}


def check_id(id_: str) -> str:
    """The partition id itself, if it is fit for a path.

    Raises
    ------
    ArtifactError
        It has characters outside ``A-Z a-z 0-9 . _ = @ ~ / -``, is absolute, or has a part that is empty or
        starts with a dot.
    """
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise ArtifactError(f"partition id {id_!r} is not made of the characters A-Z a-z 0-9 . _ = @ ~ / -")
    if any(not part or part.startswith(".") for part in id_.split("/")):
        raise ArtifactError(f"partition id {id_!r} has a part that is empty or starts with a dot")
    return id_


@dataclass(frozen=True)
class PartitionFolder:
    """A folder of partitions with its manifest, on any file system.

    Parameters
    ----------
    fs
        File system of the paths.
    root
        The folder.
    suffix
        What follows the partition id in a file's path; may have a folder in it, ``/features.parquet``.
    manifest_path
        The manifest file.
    staging
        Local folder of temporary partition files; their own by default.
    make
        Command that makes the content.
    grows
        Whether the content grows from run to run, so that ``make`` alone can't restore it.
    """

    fs: AbstractFileSystem
    root: str
    suffix: str
    manifest_path: str
    staging: str | None = None
    make: str | None = None
    grows: bool = False

    @property
    def start_over(self) -> str:
        """What to do when nothing that is there can be used."""
        # a manifest among others, in a folder of theirs, lists some of the content only
        alone = posixpath.dirname(self.manifest_path) in (self.root, posixpath.dirname(self.root))
        own = [self.root, self.manifest_path] if alone else [self.manifest_path]
        what = f"remove {' and '.join(map(self.shown, own))}"
        return f"{what}, then: {self.make}" if self.make else what

    @property
    def repair(self) -> str | None:
        """What to do about a partition that was altered."""
        return self.start_over if self.grows else self.make

    def file(self, id_: str) -> str:
        """Path of a partition.

        Raises
        ------
        ArtifactError
            The id is not fit for a path, or would be the manifest's.
        """
        path = f"{self.root}/{check_id(id_)}{self.suffix}"
        if path == self.manifest_path:
            raise ArtifactError(f"partition id {id_!r} is the manifest's own name")
        return path

    def shown(self, path: str) -> str:
        """A path as the user wrote it."""
        return path if is_local(self.fs) else str(self.fs.unstrip_protocol(path))

    # -- reading

    def read_manifest(self) -> Manifest | None:
        """The manifest, None where there is none.

        Raises
        ------
        ArtifactError
            It can't be read.
        """
        where = self.shown(self.manifest_path)
        with reporting(where, fix=self.start_over):
            try:
                data = read_bytes(self.fs, self.manifest_path)
            except FileNotFoundError:
                return None
            try:
                manifest = Manifest.model_validate(json.loads(data))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join(str(part) for part in first["loc"])
                raise ArtifactError(f"is no readable manifest: {place}: {first['msg']}") from error
            except ValueError as error:
                raise ArtifactError(f"is no readable manifest: {error}") from error
            for id_ in (*manifest.partitions, *manifest.writing, *manifest.removing):
                self.file(id_)
        return manifest

    def settled(self, manifest: Manifest) -> Manifest:
        """The manifest with each announced partition taken as the file shows it. Nothing is written."""
        if not manifest.writing:
            return manifest
        arrived = {id_: entry for id_, entry in manifest.writing.items() if self._hash(id_) == entry.sha256}
        return manifest.evolve(partitions={**manifest.partitions, **arrived}, writing={})

    def read(self, id_: str, entry: Entry) -> bytes:
        """Bytes of a partition, checked against its entry.

        Raises
        ------
        ArtifactError
            The file is missing or has other bytes; the message says whether a writer or damage changed it.
        """
        path = self.file(id_)
        with reporting(self.shown(path)):
            try:
                data = read_bytes(self.fs, path)
            except FileNotFoundError:
                raise self._changed(id_, "is listed in its manifest and missing", found=None) from None
        if sha256(data) != entry.sha256:
            raise self._changed(id_, "does not match its manifest: it was altered or damaged", found=sha256(data))
        return data

    def _changed(self, id_: str, what: str, *, found: str | None) -> ArtifactError:
        """The complaint about a file that is not as it was when the manifest was read."""
        now = self.read_manifest() or Manifest(complete=True)
        listed = [table[id_].sha256 for table in (now.partitions, now.writing) if id_ in table]
        where = self.shown(self.file(id_))
        if found in listed or not (listed or found):
            return ArtifactError("was replaced by another run since it was opened", where=where, fix="load it again")
        return ArtifactError(what, where=where, fix=self.repair)

    def _hash(self, id_: str) -> str | None:
        path = self.file(id_)
        with reporting(self.shown(path)):
            try:
                return sha256(read_bytes(self.fs, path))
            except FileNotFoundError:
                return None

    # -- writing

    def recover(self, stored: Manifest | None) -> Manifest:
        """What to build on: the stored manifest, settled and with a killed writer's leavings cleared away."""
        if stored is None:
            return Manifest(complete=True)
        current = self.settled(stored).evolve(removing=())
        leavings = (set(stored.writing) | set(stored.removing)) - set(current.partitions)
        self._remove(leavings)
        if stored.complete or stored.writing:
            folders = {posixpath.dirname(self.file(id_)) for id_ in stored.writing}
            for folder in folders | {posixpath.dirname(self.manifest_path), self.staging or self.root}:
                remove_orphans(self.fs, folder)
        return current

    def publish(self, stored: Manifest | None, current: Manifest, target: Manifest, blobs: Mapping[str, bytes]) -> None:
        """Write partitions and bring the manifest from ``stored`` to ``target``.

        Parameters
        ----------
        stored
            The manifest as it is on the file system.
        current
            The same, recovered.
        target
            The same with the entries of the new partitions.
        blobs
            Bytes of the new partitions by id.
        """
        known = current.partitions
        fresh = {
            id_: target.partitions[id_]
            for id_ in blobs
            if id_ not in known or known[id_].sha256 != target.partitions[id_].sha256
        }
        # what is said of the whole holds once the files are there, and not before
        now = self._write_manifest(stored, target.evolve(partitions=known, writing=fresh, meta=current.meta))
        for id_, data in blobs.items():
            path = self.file(id_)
            with reporting(self.shown(path)):
                write_atomic(self.fs, path, data, staging=self.staging)
        self._write_manifest(now, target)

    def seal(self, stored: Manifest | None, target: Manifest, dropped: Collection[str]) -> None:
        """Bring the manifest from ``stored`` to ``target``, then remove the files of ``dropped``."""
        now = self._write_manifest(stored, target.evolve(removing=tuple(sorted(dropped))))
        self._remove(dropped)
        self._write_manifest(now, target)

    def _remove(self, ids: Collection[str]) -> None:
        for id_ in sorted(ids):
            path = self.file(id_)
            with reporting(self.shown(path)):
                remove(self.fs, path, within=self.root)

    def _write_manifest(self, stored: Manifest | None, manifest: Manifest) -> Manifest:
        if manifest != stored:
            with reporting(self.shown(self.manifest_path)):
                write_atomic(self.fs, self.manifest_path, canonical_json(manifest.document()))
        return manifest
