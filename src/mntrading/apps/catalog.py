"""The catalog as the apps see it: everything can be read, nothing written, and only what an entry names.

A reader is built from the configuration files alone: no session, no hooks, no tracking. A file is named by a catalog
entry, a partition by an id in the entry's manifest, so no caller's text ever becomes a path.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from kedro.io import DataCatalog

from mntrading import datasets
from mntrading.configuration import configured, is_remote, local_root, parameters
from mntrading.core.errors import ArtifactError, MNTradingError
from mntrading.datasets import (
    ArtifactDataset,
    BarsDataset,
    BarStore,
    DatedArtifactDataset,
    PartitionedArtifactDataset,
    Partitions,
)
from mntrading.datasets.dated import DatedPartitions
from mntrading.datasets.storage import FileState, content_hash, plain, sha256
from mntrading.params import Block

MEDIA_TYPES: Final = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "model": "application/zip",
    "text": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}
"""Media type by format; of text by the file's ending, where it is known."""

_KINDS: Final = {
    ArtifactDataset: "file",
    PartitionedArtifactDataset: "partitions",
    DatedArtifactDataset: "partitions",
    BarsDataset: "bars",
}
_TWIN: Final = "_stored"  # second name of an entry that a run reads and writes
_PATHS: Final = ("filepath", "path")
_CACHED_BYTES: Final = 64_000_000
_LARGEST_CACHED: Final = 8_000_000


Known = tuple[bool, int | None, str | None, datetime | None, int | None]
"""Whether an entry exists, its size, hash, time and number of partitions."""


_NOTHING: Final[Known] = (False, None, None, None, None)


class UnknownEntryError(MNTradingError, KeyError):
    """There is no such catalog entry, or no such partition in its manifest."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError's own form would quote the message


class MissingEntryError(ArtifactError):
    """The entry is known and nothing is stored under it yet."""


@dataclass(frozen=True)
class Entry:
    """What is known of a catalog entry.

    Parameters
    ----------
    name
        Its name.
    layer
        Its layer.
    kind
        ``file``, ``partitions`` or ``bars``.
    format
        Format of the file, or of each of them.
    path
        Where it lies below the storage root.
    exists
        Whether there is something to read.
    bytes
        Size of the file, or of all partitions.
    sha256
        Hash of the file's bytes, or content hash over all partitions.
    modified_at
        When it was written, ISO 8601, UTC.
    partitions
        Number of partitions; None of a file.
    made_by
        Command that makes it.
    problem
        Why nothing more is known of what is stored; None where all is well.
    """

    name: str
    layer: str
    kind: str
    format: str
    path: str
    exists: bool
    bytes: int | None
    sha256: str | None
    modified_at: str | None
    partitions: int | None
    made_by: str | None
    problem: str | None = None


@dataclass(frozen=True)
class Stored:
    """Bytes as they are stored, checked.

    Parameters
    ----------
    data
        The bytes.
    sha256
        Their hash.
    modified_at
        When they were written.
    media_type
        What they are.
    """

    data: bytes
    sha256: str
    modified_at: datetime
    media_type: str

    @cached_property
    def headers(self) -> dict[str, str]:
        """Entity tag and time of change as HTTP has them."""
        moment = format_datetime(self.modified_at.astimezone(UTC), usegmt=True)
        return {"ETag": f'"{self.sha256}"', "Last-Modified": moment, "Cache-Control": "private, no-cache"}


class ReadCatalog:
    """Reads the catalog of one environment.

    Bytes are kept, with their hash, for as long as the file is the one they were read from.

    Parameters
    ----------
    project
        The project's folder.
    env
        Configuration environment; None for ``local``.
    """

    def __init__(self, project: Path, env: str | None) -> None:
        self.project, self.env = project, env
        conf = project / "conf"
        self.root = str(configured(conf, "globals", env)["storage"]["root"])
        self.local = not is_remote(self.root)
        self._above = str(local_root(self.root)) if self.local else self.root.rstrip("/")
        config = {name: _absolute(entry, project) for name, entry in configured(conf, "catalog", env).items()}
        credentials = configured(conf, "credentials", env)
        shown = (name for name in sorted(config) if not _is_twin(name, config) and _is_stored(config[name]))
        self._config = {name: config[name] for name in shown}
        self._catalog = DataCatalog.from_config(self._config, credentials)
        self._datasets: dict[str, Any] = {}
        self._cache: OrderedDict[tuple[str, str | None], tuple[object, Stored]] = OrderedDict()
        self._cached_bytes = 0
        self._digests: dict[str, tuple[object, Known]] = {}
        self._derived: dict[object, tuple[object, Any]] = {}
        self._parameters: tuple[object, dict[str, Block]] | None = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, project: Path, env: str | None = None) -> Self:
        """The catalog of a project's environment.

        Raises
        ------
        MNTradingError
            There is no such environment.
        """
        conf = project / "conf"
        if env and not (conf / env).is_dir():
            known = sorted(path.name for path in conf.iterdir() if path.is_dir() and path.name != "base")
            raise MNTradingError(f"there is no environment {env!r}", where="--env", fix=f"use one of {known}")
        return cls(project, env)

    @property
    def tracking_uri(self) -> str:
        """The MLflow store of the environment."""
        server = configured(self.project / "conf", "mlflow", self.env)["server"]
        return str(server["mlflow_tracking_uri"])

    def parameters(self) -> dict[str, Block]:
        """Every parameter block of the environment as its model, read anew when a file has changed."""
        conf = self.project / "conf"
        folders = [conf / "base", conf / (self.env or "local")]
        files = [file for folder in folders for file in sorted(folder.rglob("*.yml"))]
        version = tuple((str(file), file.stat().st_mtime_ns) for file in files)
        if self._parameters is None or self._parameters[0] != version:
            self._parameters = version, parameters(conf, self.env)
        return self._parameters[1]

    # -- what there is

    def names(self) -> tuple[str, ...]:
        """Every entry by name, sorted."""
        return tuple(self._config)

    def entries(self) -> tuple[Entry, ...]:
        """What is known of every entry."""
        return tuple(self.entry(name) for name in self._config)

    def entry(self, name: str) -> Entry:
        """What is known of an entry.

        Raises
        ------
        UnknownEntryError
            There is no such entry.
        """
        dataset, config = self._dataset(name), self._config[name]
        problem = None
        try:
            exists, size, digest, modified, count = self._known(name, dataset)
        except ArtifactError as error:
            exists, size, digest, modified, count, problem = True, None, None, None, None, error.what
        return Entry(
            name=name,
            layer=str(config.get("metadata", {}).get("kedro-viz", {}).get("layer", "")),
            kind=self.kind(name),
            format="parquet" if isinstance(dataset, BarsDataset) else dataset.format,
            path=self._below_root(dataset.resolve_path()),
            exists=exists,
            bytes=size,
            sha256=digest,
            modified_at=None if modified is None else iso(modified),
            partitions=count,
            made_by=config.get("made_by"),
            problem=problem,
        )

    def kind(self, name: str) -> str:
        """Whether an entry is a ``file``, a folder of ``partitions``, or ``bars``.

        Raises
        ------
        UnknownEntryError
            There is no such entry.
        """
        dataset = self._dataset(name)
        return next(kind for of, kind in _KINDS.items() if isinstance(dataset, of))

    def suffix(self, name: str) -> str:
        """Ending of the name of an entry's file, or of its partitions' files."""
        dataset = self._dataset(name)
        if isinstance(dataset, ArtifactDataset):
            return Path(dataset.resolve_path()).suffix
        return (
            Path("x" + str(self._config[name].get("suffix", ""))).suffix or f".{getattr(dataset, 'format', 'parquet')}"
        )

    def partitions(self, name: str, limit: int | None = None) -> dict[str, dict[str, Any]]:
        """What the manifest says of every partition, by id; of bars, by symbol.

        Parameters
        ----------
        name
            The entry.
        limit
            The last ones in order of ids alone, so many of them; None for all.

        Raises
        ------
        UnknownEntryError
            There is no such entry, or it is a file.
        MissingEntryError
            Nothing is stored.
        """
        folder = self.load(name)
        if not isinstance(folder, Partitions | DatedPartitions | BarStore):
            raise UnknownEntryError(f"{name} is one file, it has no partitions", where="catalog")
        last = reversed(folder) if isinstance(folder, DatedPartitions) else reversed(list(folder))
        ids = list(islice(last, limit))
        return {id_: plain(folder.entry(id_)) for id_ in reversed(ids)}

    # -- content

    def cached(self, name: str) -> Stored | None:
        """Bytes of a file if they are known already and still those that are stored; costs no more than a stat."""
        held = self._cache.get((name, None))
        if held is None or not self.local:
            return None
        state = self._dataset(name).state()
        return held[1] if state is not None and held[0] == state.version else None

    def read(self, name: str) -> Stored:
        """Bytes of an entry that is a file.

        Raises
        ------
        UnknownEntryError
            There is no such entry, or it is a folder.
        MissingEntryError
            Nothing is stored.
        ArtifactError
            What is stored can't be read.
        """
        dataset = self._dataset(name)
        if not isinstance(dataset, ArtifactDataset):
            raise UnknownEntryError(f"{name} is a folder, read a partition of it", where="catalog")
        state = dataset.state()
        if state is None:
            raise self._missing(name)
        return self._remembered((name, None), state.version, lambda: self._file(dataset, state))

    def partition(self, name: str, id_: str) -> Stored:
        """Bytes of a partition, checked against the manifest.

        Raises
        ------
        UnknownEntryError
            There is no such entry, or the manifest has no such partition.
        MissingEntryError
            Nothing is stored.
        ArtifactError
            What is stored can't be read.
        """
        dataset = self._dataset(name)
        if not isinstance(dataset, PartitionedArtifactDataset | DatedArtifactDataset):
            raise UnknownEntryError(f"{name} has no partitions that can be read alone", where="catalog")
        state = dataset.state()
        if state is None:
            raise self._missing(name)
        folder = dataset.load()
        if id_ not in folder:
            raise UnknownEntryError(f"{name} has no such partition", where="catalog")
        digest, media = str(folder.entry(id_)["sha256"]), MEDIA_TYPES[dataset.format]
        if dataset.format == "text":
            media = MEDIA_TYPES.get(str(self._config[name].get("suffix")), media)
        return self._remembered(
            (name, id_), digest, lambda: Stored(folder.stored(id_), digest, state.modified, media)
        )  # fmt: skip

    def load(self, name: str) -> Any:
        """An entry's object: a document, a frame, a text, or a mapping whose values are read when asked for.

        Raises
        ------
        UnknownEntryError
            There is no such entry.
        MissingEntryError
            Nothing is stored.
        ArtifactError
            What is stored can't be read.
        """
        dataset = self._dataset(name)
        if not dataset.exists() and not self._unfinished(dataset):
            raise self._missing(name)
        return dataset.load()

    def newest(self, name: str) -> str:
        """Id of the last partition in order of ids, which for live outputs is the newest.

        Raises
        ------
        MissingEntryError
            Nothing is stored.
        """
        ids = list(self.partitions(name, limit=1))
        if not ids:
            raise self._missing(name)
        return ids[0]

    def version(self, name: str) -> object:
        """Changes whenever what is stored does; None where there is nothing."""
        state = self._dataset(name).state()
        return None if state is None else state.version

    def held(self, name: str, key: tuple[object, ...]) -> Any:
        """What was made of an entry under a key and still holds; None where there is nothing."""
        held = self._derived.get((name, *key))
        if held is None or not self.local:
            return None
        return held[1] if held[0] is not None and held[0] == self.version(name) else None

    def derived(self, name: str, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """What ``make`` makes of an entry, kept under a key for as long as the entry is the same."""
        version = self.version(name)
        held = self._derived.get((name, *key))
        if held is not None and version is not None and held[0] == version:
            return held[1]
        value = make()
        with self._lock:
            if len(self._derived) > 256:
                self._derived.clear()
            self._derived[(name, *key)] = (version, value)
        return value

    # -- inside

    def _dataset(self, name: str) -> Any:
        found = self._datasets.get(name)
        if found is None:
            if name not in self._config:
                raise UnknownEntryError("there is no such catalog entry", where="catalog")
            with self._lock:  # Kedro's catalog makes a dataset on its first use, and minds no threads
                found = self._datasets[name] = self._catalog[name]
        return found

    def _missing(self, name: str) -> MissingEntryError:
        return MissingEntryError(
            f"{name} has not been made yet", where="catalog", fix=self._config[name].get("made_by")
        )

    def _unfinished(self, dataset: Any) -> bool:
        return isinstance(dataset, PartitionedArtifactDataset) and dataset.state() is not None

    def _below_root(self, path: str) -> str:
        return path.removeprefix(self._above).lstrip("/") if path.startswith(self._above) else Path(path).name

    def _file(self, dataset: ArtifactDataset, state: FileState) -> Stored:
        data = dataset.stored()
        media = MEDIA_TYPES[dataset.format]
        if dataset.format == "text":
            media = MEDIA_TYPES.get(Path(dataset.resolve_path()).suffix, media)
        return Stored(data, sha256(data), state.modified, media)

    def _remembered(self, key: tuple[str, str | None], version: object, make: Callable[[], Stored]) -> Stored:
        held = self._cache.get(key)
        if held is not None and held[0] == version:
            return held[1]
        stored = make()
        if len(stored.data) <= _LARGEST_CACHED:
            with self._lock:
                _, replaced = self._cache.pop(key, (None, None))
                self._cached_bytes += len(stored.data) - (len(replaced.data) if replaced else 0)
                self._cache[key] = (version, stored)
                while self._cached_bytes > _CACHED_BYTES:
                    _, (_, oldest) = self._cache.popitem(last=False)
                    self._cached_bytes -= len(oldest.data)
        return stored

    def _known(self, name: str, dataset: Any) -> Known:
        """Whether it exists, size, hash, time and number of partitions; hashes anew only what was replaced."""
        state = dataset.state()
        if state is None and not isinstance(dataset, BarsDataset):
            return _NOTHING
        held = self._digests.get(name)
        if held is None or state is None or held[0] != state.version:
            held = (None if state is None else state.version, self._measured(dataset, state))
            self._digests[name] = held
        return held[1]

    def _measured(self, dataset: Any, state: FileState | None) -> Known:
        modified = None if state is None else state.modified
        if isinstance(dataset, ArtifactDataset):
            return True, None if state is None else state.bytes, dataset.digest(), modified, None
        if isinstance(dataset, DatedArtifactDataset):
            return self._measured_days(dataset, modified)
        if not dataset.exists():  # or a batch that was not finished
            return False, None, None, modified, None
        folder = dataset.load()
        size = sum(int(folder.entry(id_)["bytes"]) for id_ in folder)
        return True, size, folder.digest, modified, len(folder)

    def _measured_days(self, dataset: DatedArtifactDataset, modified: datetime | None) -> Known:
        """Of a folder with a manifest a day; of days whose manifest is the same, what was known of them."""
        size, digests, count = 0, {}, 0
        for day in dataset.load().days if dataset.exists() else ():
            part = dataset.part(day)
            known = self._known(f"{dataset.resolve_path()} {day}", part)
            size, count = size + (known[1] or 0), count + (known[4] or 0)
            digests[day] = known[2]
        return bool(digests), size, content_hash(digests), modified, count


def iso(moment: datetime) -> str:
    """A moment as ISO 8601, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_stored(entry: Mapping[str, Any]) -> bool:
    """Whether an entry stands for something that is stored, and not for a place to send it."""
    found = getattr(datasets, str(entry["type"]).rpartition(".")[2], None)
    return isinstance(found, type) and issubclass(found, tuple(_KINDS))


def _is_twin(name: str, config: Mapping[str, Any]) -> bool:
    return name.endswith(_TWIN) and name.removesuffix(_TWIN) in config


def _absolute(entry: Mapping[str, Any], project: Path) -> dict[str, Any]:
    """An entry whose relative local paths are below the project, as in a session."""
    found = dict(entry)
    for key in _PATHS:
        path = found.get(key)
        if isinstance(path, str) and not re.match(r"[a-z0-9+]+://", path):
            found[key] = str(project / path)
    return found
