"""Every kind of catalog save in numbered versions, and what a place may hold while they are being made."""

from __future__ import annotations

import json
import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import fsspec
import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow.dataset  # noqa: F401 -- pandas would import it after a fork, once for every check
import s3fs  # noqa: F401 -- the same
import skops.io  # noqa: F401 -- the same
from sklearn.linear_model import LogisticRegression

from mntrading.core.errors import ArtifactError
from mntrading.datasets import ArtifactDataset, Commit, PartitionedArtifactDataset, StoredModel
from mntrading.datasets.codecs import codec
from mntrading.datasets.storage import TEMPORARY_PREFIX, sha256

MADE_BY: Final = "kedro run --pipelines modelling"
IDS: Final = tuple("abcdef")
LARGE: Final = 101 * 2**20  # s3fs uploads in parts from 100 MiB on


@dataclass(frozen=True)
class Findings:
    """What is wrong with a place, in counts, and in words."""

    unreadable: int = 0
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    notes: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            self.unreadable + other.unreadable,
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.different + other.different,
            self.notes + other.notes,
        )

    def __bool__(self) -> bool:
        return any((self.unreadable, self.lost, self.duplicated, self.different))


def unreadable(note: str) -> Findings:
    """Something current can't be loaded."""
    return Findings(unreadable=1, notes=(f"unreadable: {note}",))


def lost(note: str) -> Findings:
    """Something that had been saved is gone."""
    return Findings(lost=1, notes=(f"lost: {note}",))


def duplicated(note: str) -> Findings:
    """Something lies there that nothing lists and a reader would take for data."""
    return Findings(duplicated=1, notes=(f"duplicated: {note}",))


def different(note: str) -> Findings:
    """Something loads and is none of what was saved."""
    return Findings(different=1, notes=(f"different: {note}",))


def total(findings: Iterable[Findings]) -> Findings:
    """Findings added up."""
    return sum(findings, Findings())


# --- places -------------------------------------------------------------------------------------------------


def credentials(place: str) -> dict[str, Any] | None:
    """What ``conf/minio/credentials.yml`` hands a dataset; the keys stay in the environment."""
    if not place.startswith("s3://"):
        return None
    quick = {"connect_timeout": 5, "read_timeout": 30, "retries": {"total_max_attempts": 1}}
    return {"endpoint_url": os.environ["S3_ENDPOINT_URL"], "config_kwargs": quick}


def files(place: str) -> dict[str, bytes]:
    """Every file of a place by its path from there, temporaries included."""
    fs, root = fsspec.url_to_fs(place, **(credentials(place) or {}))
    fs.invalidate_cache()
    paths = fs.find(root)
    found = fs.cat(paths) if paths else {}
    return {path.removeprefix(root).lstrip("/"): data for path, data in found.items()}


def tree(place: str) -> dict[str, str]:
    """Hash of every file of a place but what killed writers were writing."""
    return {name: sha256(data) for name, data in files(place).items() if not is_temporary(name)}


def is_temporary(name: str) -> bool:
    """Whether a path is that of a file not published yet."""
    return posixpath.basename(name).startswith(TEMPORARY_PREFIX)


# --- kinds --------------------------------------------------------------------------------------------------


class Kind(ABC):
    """A catalog entry that is saved in versions 0, 1, 2, …"""

    def __init__(self, name: str, *, versions: int, saves_per_version: int = 1) -> None:
        self.name, self.versions, self.saves_per_version = name, versions, saves_per_version

    @abstractmethod
    def save(self, place: str, version: int) -> None:
        """Make a version whole, in ``saves_per_version`` saves of the dataset."""

    @abstractmethod
    def check(self, place: str, allowed: Collection[int]) -> Findings:
        """Hold a place against the versions it may show, each of its files whole."""


class File(Kind):
    """One file."""

    def __init__(self, format: str, values: list[Any], *, name: str = "", schema: str | None = None) -> None:
        super().__init__(name or format, versions=len(values))
        self._format, self._schema, self._values = format, schema, values
        self._name = f"x{codec(format).suffix}"

    def save(self, place: str, version: int) -> None:
        self._dataset(place).save(self._values[version])

    def check(self, place: str, allowed: Collection[int]) -> Findings:
        found = {name: sha256(data) for name, data in files(place).items() if not is_temporary(name)}
        strays = total(duplicated(f"{place}/{name}") for name in found.keys() - {self._name})
        if self._name not in found:
            return strays + lost(f"{place}/{self._name} is gone")
        try:
            self._dataset(place).load()
        except ArtifactError as error:
            return strays + unreadable(str(error))
        if any(found[self._name] == self._hash(version) for version in allowed):
            return strays
        for version in range(self.versions):
            if found[self._name] == self._hash(version):
                return strays + lost(f"{place}/{self._name} is version {version}, expected one of {list(allowed)}")
        return strays + different(f"{place}/{self._name} is no version")

    def _hash(self, version: int) -> str:
        return sha256(codec(self._format).encode(self._values[version]))

    def _dataset(self, place: str) -> ArtifactDataset:
        return ArtifactDataset(
            filepath=f"{place}/{self._name}",
            format=self._format,
            schema=self._schema,
            made_by=MADE_BY,
            credentials=credentials(place),
        )


class Folder(Kind):
    """A folder of partitions with its manifest."""

    manifest: str

    @abstractmethod
    def _dataset(self, place: str) -> PartitionedArtifactDataset: ...

    @abstractmethod
    def _file(self, id_: str) -> str:
        """Path of a partition from the place."""

    @abstractmethod
    def _content(self, id_: str, version: int) -> pd.DataFrame:
        """What a partition is made to hold in a version."""

    def check(self, place: str, allowed: Collection[int]) -> Findings:
        found = {name: data for name, data in files(place).items() if not is_temporary(name)}
        try:
            manifest = json.loads(found.pop(self.manifest))
        except KeyError:
            return lost(f"{place}/{self.manifest} is gone")
        except ValueError as error:
            return unreadable(f"{place}/{self.manifest}: {error}")
        hashes = {name: sha256(data) for name, data in found.items()}
        listed, announced = manifest["partitions"], manifest.get("writing", {})
        known = {self._file(id_) for id_ in (*listed, *announced, *manifest.get("removing", ()))}
        strays = total(duplicated(f"{place}/{name}") for name in hashes.keys() - known)
        parts = total(
            self._check_part(
                place, id_, hashes, [table[id_]["sha256"] for table in (listed, announced) if id_ in table]
            )
            for id_ in listed
        )
        return strays + parts + self._check_loaded(place, allowed)

    def _check_part(self, place: str, id_: str, hashes: dict[str, str], current: set[str]) -> Findings:
        """A partition the manifest lists, without the help of the code that wrote it."""
        name = self._file(id_)
        if name not in hashes:
            return lost(f"{place}/{name} is listed and gone")
        return Findings() if hashes[name] in current else unreadable(f"{place}/{name} is not as its manifest says")

    @abstractmethod
    def _check_loaded(self, place: str, allowed: Collection[int]) -> Findings: ...

    def _compared(self, id_: str, frame: pd.DataFrame, allowed: Iterable[int]) -> Findings:
        if any(frame.equals(self._content(id_, version)) for version in allowed):
            return Findings()
        return different(f"{self.name} partition {id_} is of no version that it may be of")


class Batch(Folder):
    """A batch that every version makes again: partitions added, dropped, remade and made alike."""

    manifest = "p/_manifest.json"

    def __init__(self, versions: int) -> None:
        super().__init__("batch", versions=versions, saves_per_version=3)

    def save(self, place: str, version: int) -> None:
        ids, dataset = self._ids(version), self._dataset(place)
        for part in (ids[:2], ids[2:]):
            dataset.save({id_: self._content(id_, version) for id_ in part})
        dataset.save(Commit(ids=tuple(ids), meta={"version": version}))

    def _check_loaded(self, place: str, allowed: Collection[int]) -> Findings:
        dataset = self._dataset(place)
        try:
            parts = dataset.load()
            frames = dict(parts)
        except ArtifactError as error:
            unfinished = (error.what, error.fix) == ("was not finished", MADE_BY)
            return Findings() if unfinished else unreadable(str(error))
        version = parts.meta["version"]
        if version not in allowed:
            return lost(f"{place} is version {version}, expected one of {list(allowed)}")
        if list(frames) != self._ids(version):
            return different(f"{place} version {version} has the partitions {list(frames)}")
        return total(self._compared(id_, frame, [version]) for id_, frame in frames.items())

    def _ids(self, version: int) -> list[str]:
        return [id_ for place, id_ in enumerate(IDS) if (place + version) % 3]

    def _dataset(self, place: str) -> PartitionedArtifactDataset:
        return PartitionedArtifactDataset(
            path=f"{place}/p", format="parquet", suffix="/x.parquet", made_by=MADE_BY, credentials=credentials(place)
        )

    def _file(self, id_: str) -> str:
        return f"p/{id_}/x.parquet"

    def _content(self, id_: str, version: int) -> pd.DataFrame:
        place = IDS.index(id_)
        return _frame(place, version - (version + place) % 2)


class Append(Folder):
    """A folder that grows: every version replaces some partitions and may add one."""

    manifest = "p.meta.json"

    def __init__(self, versions: int) -> None:
        super().__init__("append", versions=versions)

    def save(self, place: str, version: int) -> None:
        self._dataset(place).save({id_: self._content(id_, version) for id_ in self._ids(version)})

    def _check_loaded(self, place: str, allowed: Collection[int]) -> Findings:
        try:
            frames = dict(self._dataset(place).load())
        except ArtifactError as error:
            return unreadable(str(error))
        due = {id_ for version in range(min(allowed) + 1) for id_ in self._ids(version)}
        gone = total(lost(f"{place} has no partition {id_}") for id_ in due - frames.keys())
        content = total(
            self._compared(id_, frame, {self._last(id_, version) for version in allowed} - {None})
            for id_, frame in frames.items()
        )
        return gone + content + self._check_as_table(place, sum(map(len, frames.values())))

    def _check_as_table(self, place: str, rows: int) -> Findings:
        """What a reader that knows no manifest sees: neither a temporary file nor half a one."""
        if place.startswith("s3://"):
            return Findings()
        try:
            found = len(pd.read_parquet(f"{place}/p"))
        except (OSError, ValueError) as error:
            return unreadable(f"{place}/p as one table: {error}")
        return Findings() if found == rows else duplicated(f"{place}/p has {found} rows as one table, listed: {rows}")

    def _ids(self, version: int) -> list[str]:
        return [id_ for place, id_ in enumerate(IDS[: version + 3]) if (place + version) % 2]

    def _last(self, id_: str, version: int) -> int | None:
        """The last version up to this one that saved the partition."""
        return max((earlier for earlier in range(version + 1) if id_ in self._ids(earlier)), default=None)

    def _dataset(self, place: str) -> PartitionedArtifactDataset:
        return PartitionedArtifactDataset(
            path=f"{place}/p",
            format="parquet",
            manifest="../p.meta.json",
            append=True,
            made_by=MADE_BY,
            credentials=credentials(place),
        )

    def _file(self, id_: str) -> str:
        return f"p/{id_}.parquet"

    def _content(self, id_: str, version: int) -> pd.DataFrame:
        return _frame(IDS.index(id_), version)


# --- content ------------------------------------------------------------------------------------------------


def kinds(versions: int) -> list[Kind]:
    """Every kind of save, each in so many versions."""
    for place in range(len(IDS)):  # made once, before any process is forked
        for version in range(-1, versions):
            _frame(place, version)
    rngs = [np.random.default_rng([7, version]) for version in range(versions)]
    figures = [
        {name: {"data": [{"y": rng.normal(size=250)}], "layout": {"title": str(version)}} for name in "abc"}
        for version, rng in enumerate(rngs)
    ]
    rows = [[{"bar": bar, "z": float(rng.normal()), "version": version} for bar in range(400)]
            for version, rng in enumerate(rngs)]  # fmt: skip
    texts = [rng.integers(2**63, size=15_000).tobytes().hex() for rng in rngs]
    return [
        File("json", figures, schema="figures"),
        File("jsonl", rows),
        File("parquet", [_frame(0, version) for version in range(versions)]),
        File("text", texts),
        File("model", [_model(version) for version in range(versions)]),
        Batch(versions),
        Append(versions),
    ]


def large(versions: int) -> Kind:
    """One file so large that it goes to an object store in parts."""
    texts = [np.random.default_rng(version).bytes(LARGE // 2).hex() for version in range(versions)]
    return File("text", texts, name="large")


@cache
def _frame(place: int, version: int) -> pd.DataFrame:
    rng = np.random.default_rng([place, version + 1])
    return pd.DataFrame({name: rng.normal(size=1500 + 10 * version) for name in ("x", "y", "z")})


def _model(version: int) -> StoredModel:
    """Models of both kinds in turn."""
    rng = np.random.default_rng(version)
    X = rng.normal(size=(200, 5))
    y = (X[:, 0] + rng.normal(size=200) > 0).astype(int)
    if version % 2:
        return StoredModel("sklearn", LogisticRegression(random_state=3).fit(X, y), {"version": version})
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 1}
    return StoredModel(
        "lightgbm", lgb.train(settings, lgb.Dataset(X, label=y), num_boost_round=40), {"version": version}
    )
