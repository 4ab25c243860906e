"""A growing folder of partitions named by time, with a manifest for every day."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from mntrading.core.errors import ArtifactError
from mntrading.datasets.artifact import PartitionedArtifactDataset, Partitions, located
from mntrading.datasets.errors import MissingPartitionError, PlainErrorsDataset
from mntrading.datasets.storage import FileState, folder_state, is_local, reporting

_DAY: Final = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_MANIFESTS: Final = "_days"
"""Folder of the manifests, apart: to list it is to know the days, however many partitions there are."""


class DatedPartitions(Mapping[str, Any]):
    """Read-only mapping of partition id to content; a day's manifest is read when one of its ids is asked for.

    Iteration goes by time, ``reversed`` from the newest on; both read one day after the other.
    """

    def __init__(self, dataset: DatedArtifactDataset, days: tuple[str, ...]) -> None:
        self._dataset, self._days = dataset, days
        self._read: dict[str, Partitions] = {}

    @property
    def days(self) -> tuple[str, ...]:
        """Days that have partitions, as the ids begin, sorted."""
        return self._days

    def of_day(self, day: str) -> Partitions:
        """Partitions of one day; none on a day that has none."""
        if day not in self._read:
            self._read[day] = self._dataset.part(day).load()
        return self._read[day]

    def entry(self, id_: str) -> dict[str, Any]:
        """What the manifest of its day says of a partition: sha256, bytes, rows."""
        return self._holding(id_).entry(id_)

    def stored(self, id_: str) -> bytes:
        """A partition's bytes as they are stored, checked against the manifest of its day."""
        return self._holding(id_).stored(id_)

    def __getitem__(self, id_: str) -> Any:
        return self._holding(id_)[id_]

    def __contains__(self, id_: object) -> bool:
        found = _DAY.match(id_) if isinstance(id_, str) else None
        return found is not None and found[0] in self._days and id_ in self.of_day(found[0])

    def __iter__(self) -> Iterator[str]:
        for day in self._days:
            yield from self.of_day(day)

    def __reversed__(self) -> Iterator[str]:
        for day in reversed(self._days):
            yield from reversed(tuple(self.of_day(day)))

    def __len__(self) -> int:
        return sum(len(self.of_day(day)) for day in self._days)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._dataset.resolve_path()}, {len(self._days)} days)"

    def _holding(self, id_: str) -> Partitions:
        if id_ not in self:
            raise MissingPartitionError(
                f"has no {id_!r}, only those of {len(self._days)} days", where=self._dataset.resolve_path()
            )
        return self.of_day(_day_of(id_))


class DatedArtifactDataset(PlainErrorsDataset):
    """``DatedArtifactDataset`` is a folder of partitions whose ids begin with a day, growing for years.

    Like a ``PartitionedArtifactDataset`` with ``append: true``, but for a manifest per day
    (``_days/20250224.json``): what a save costs does not grow with what is stored, and a damaged manifest is
    the matter of its day. Days are saved one after the other, oldest first.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        signals:
          type: mntrading.datasets.DatedArtifactDataset
          path: ${globals:storage.root}/signals
          format: jsonl
          made_by: kedro run --tags inference

    Using the Python API:

    >>> dataset = DatedArtifactDataset(path="memory://doc/signals", format="json")
    >>> dataset.save({"20250224T000000Z": {"action": "hold"}})
    >>> dataset.load()["20250224T000000Z"]
    {'action': 'hold'}
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        format: str,
        schema: str | None = None,
        missing_ok: bool = False,
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
        schema
            Bare name of a JSON Schema of the package, for each partition.
        missing_ok
            Whether a folder that is not there loads as an empty one.
        made_by
            Command that makes the folder, named in errors.
        credentials, fs_args
            Arguments of the file system.
        metadata
            Anything; ignored.
        """
        self._fs, self._root = located(path, credentials, fs_args)
        self._missing_ok, self._made_by = missing_ok, made_by
        self._options: dict[str, Any] = {
            "path": path, "format": format, "schema": schema, "made_by": made_by, "credentials": credentials,
            "fs_args": fs_args, "append": True, "missing_ok": True,
        }  # fmt: skip
        self._whole = PartitionedArtifactDataset(**self._options)
        self.metadata = metadata

    def resolve_path(self) -> str:
        """The folder's path, with its protocol unless it is local."""
        return self._whole.resolve_path()

    def state(self) -> FileState | None:
        """What is known of the manifests without reading them, None where there are none."""
        if is_local(self._fs):
            return folder_state(f"{self._root}/{_MANIFESTS}")
        days = self._days()
        newest = self.part(days[-1]).state() if days else None
        return newest and FileState(newest.bytes, newest.timestamp, (len(days), days[-1], newest.version))

    @property
    def format(self) -> str:
        """Name of a partition's format."""
        return self._whole.format

    def part(self, day: str) -> PartitionedArtifactDataset:
        """The partitions of one day, as a dataset of their own."""
        return PartitionedArtifactDataset(manifest=f"{_MANIFESTS}/{day}.json", **self._options)

    def load(self) -> DatedPartitions:
        """The partitions, not read yet."""
        days = self._days()
        if not days and not self._missing_ok:
            raise ArtifactError("does not exist", where=self.resolve_path(), fix=self._made_by)
        return DatedPartitions(self, days)

    def save(self, data: Any) -> None:
        """Store partitions.

        Raises
        ------
        ArtifactError
            An id does not begin with a day, or a day's manifest can't be read; nothing is stored then.
        """
        with reporting(self.resolve_path()):
            if not isinstance(data, Mapping):
                raise ArtifactError(f"can't hold a {type(data).__name__}, expected a mapping of partitions")
            by_day = {day: list(ids) for day, ids in groupby(sorted(data, key=_day_of), key=_day_of)}
        parts = {day: self.part(day) for day in by_day}
        for part in parts.values():
            part.load()  # a day that can't be saved is found before another one is
        for day, ids in by_day.items():
            parts[day].save({id_: data[id_] for id_ in ids})

    def _days(self) -> tuple[str, ...]:
        folder = f"{self._root}/{_MANIFESTS}"
        with reporting(self.resolve_path()):
            self._fs.invalidate_cache(folder)
            names = (posixpath.splitext(posixpath.basename(path))[0] for path in self._fs.glob(f"{folder}/*.json"))
            return tuple(sorted(name for name in names if _DAY.fullmatch(name)))

    def _describe(self) -> dict[str, Any]:
        own = ("format", "schema")
        return {"path": self.resolve_path(), **{name: self._options[name] for name in own}}

    def _exists(self) -> bool:
        return bool(self._days())

    def _release(self) -> None:
        self._fs.invalidate_cache(self._root)


def _day_of(id_: str) -> str:
    found = _DAY.match(id_)
    if found is None:
        raise ArtifactError(f"partition id {id_!r} does not begin with a day, such as 20250224 or 2025-02-24")
    return found[0]
