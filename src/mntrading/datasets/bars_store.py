"""The store of bars: a folder of parquet files that any reader takes for one table, and a ledger per symbol."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core.bars import COLUMNS, check_bars, timeframe_ms, times_ms
from mntrading.core.coverage import Ledger
from mntrading.core.errors import ArtifactError, BarDataError, ParameterError
from mntrading.core.types import FloatArray, slug
from mntrading.datasets.artifact import located
from mntrading.datasets.bars_layout import FOLDER_SUFFIX, STORE_FILE, THREADS, Layout, bars_file, rows_of
from mntrading.datasets.bars_view import BarStore, Damage
from mntrading.datasets.codecs import read_table
from mntrading.datasets.errors import PlainErrorsDataset
from mntrading.datasets.manifest import Entry, Manifest, PartitionFolder
from mntrading.datasets.storage import (
    FileState,
    canonical_json,
    folder_state,
    is_local,
    move,
    read_bytes,
    remove_orphans,
    reporting,
    sha256,
    sizes,
    write_atomic,
)

UNNAMED_SOURCE: Final = "unnamed"


@dataclass(frozen=True)
class BarsUpdate:
    """What to add to a store, and where it comes from. Applied in the order told here.

    Parameters
    ----------
    source
        Identity of the source, such as ``"ccxt:binance"`` or ``"simulator:demo:0"``; a store holds one.
    damage
        Files to put in quarantine; their bars count as never asked for.
    archive
        By symbol, the name under which its bars that open before a time are kept from now on, and that time.
    frames
        By symbol, bars to add. A bar that is stored already stays as it is.
    ledgers
        By symbol, what is known of it from now on.
    """

    source: str
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)
    archive: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    damage: Damage = field(default_factory=Damage)


class BarsDataset(PlainErrorsDataset):
    """``BarsDataset`` keeps the bars of one source at one timeframe, and a ledger of what was asked for.

    The folder holds nothing but parquet files, so ``pandas.read_parquet(folder)``, Polars and DuckDB
    (``folder/*.parquet``) read it as one table. A file holds one symbol's bars of a month (of a year from 30m
    on): adding bars writes the newest file of each symbol anew and no other. A manifest per symbol lies
    beside, ``ohlcv_1h.meta/APT-USDT.json``, with rows, range and hash of each file and the symbol's ledger.
    Stored bars are never changed, bars that break the data contract and those of another source refused.

    Killed at any moment, a writer leaves each symbol as it was before or after one of its updates.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        ohlcv_1h:
          type: mntrading.datasets.BarsDataset
          path: ${globals:storage.root}/raw/ohlcv_1h.parquet
          timeframe: 1h
          made_by: kedro run --pipelines ingestion
          credentials: storage

    Using the Python API:

    >>> from mntrading.core.bars import bars_from_rows
    >>> bars = bars_from_rows(np.array([[0, 1, 2, 1, 2, 9], [3_600_000, 2, 2, 1, 1, 9]]), "APT/USDT")
    >>> dataset = BarsDataset(path="memory://doc/ohlcv_1h.parquet", timeframe="1h")
    >>> dataset.save(BarsUpdate(source="example", frames={"APT/USDT": bars}))
    >>> dataset.load().wide("close")["APT/USDT"].tolist()
    [2.0, 1.0]
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        timeframe: str,
        missing_ok: bool = False,
        made_by: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create a store in a folder.

        Parameters
        ----------
        path
            The folder, with its protocol unless it is local; its name ends in ``.parquet``.
        timeframe
            Timeframe of the bars, such as ``1h``.
        missing_ok
            Whether a store that is not there loads as an empty one.
        made_by
            Command that fetches the bars, named in errors.
        credentials, fs_args
            Arguments of the file system.
        metadata
            Anything; ignored.
        """
        timeframe_ms(timeframe)
        if not os.fspath(path).rstrip("/").endswith(FOLDER_SUFFIX):
            raise ParameterError(f"path {os.fspath(path)!r} of a bar store does not end in {FOLDER_SUFFIX}")
        fs, root = located(path, credentials, fs_args)
        self._layout = Layout(fs, root.rstrip("/"), timeframe, made_by)
        self._missing_ok = missing_ok
        self.metadata = metadata

    def resolve_path(self) -> str:
        """The folder's path, with its protocol unless it is local."""
        return self._layout.shown

    def state(self) -> FileState | None:
        """What is known of the manifests without reading them; None where there are none, or on an object store.

        Each save of bars replaces a manifest, which the folder's own time of change tells.
        """
        return folder_state(self._layout.meta) if is_local(self._layout.fs) else None

    def digest(self) -> str | None:
        """Content hash over all bars, None where there is no store."""
        return self.load().digest if self._exists() else None

    def load(self) -> BarStore:
        """The stored bars, not read yet. A symbol whose manifest can't be read is left out: see `BarStore.damage`."""
        source = self._source()
        if source is None and not self._missing_ok:
            raise ArtifactError("does not exist", where=self._layout.shown, fix=self._layout.make)
        manifests, broken = self._manifests()
        return BarStore(self._layout, source, manifests, broken, self.load)

    def save(self, data: Any) -> None:
        """Store a ``BarsUpdate``, or a bare mapping of symbol to bars as one of the source ``"unnamed"``."""
        update = BarsUpdate(source=UNNAMED_SOURCE, frames=data) if isinstance(data, Mapping) else data
        if not isinstance(update, BarsUpdate):
            raise ArtifactError(f"can't hold a {type(data).__name__}, expected a BarsUpdate or a mapping of bars")
        frames = {symbol: self._checked(symbol, frame) for symbol, frame in sorted(update.frames.items())}
        with reporting(self._layout.shown):
            self._claim(update.source)
            self._put_in_quarantine(update.damage)
            for symbol, (name, at) in sorted(update.archive.items()):
                self._archive(symbol, name, at)
            symbols = sorted({*frames, *update.ledgers})
            with ThreadPoolExecutor(THREADS) as pool:  # most of it is waiting for the disk, or for the network
                list(pool.map(lambda name: self._add(name, frames.get(name), update.ledgers.get(name)), symbols))
        self._invalidate_cache()

    def _describe(self) -> dict[str, Any]:
        return {"path": self.resolve_path(), "timeframe": self._layout.timeframe}

    def _exists(self) -> bool:
        return self._source() is not None

    def _release(self) -> None:
        self._invalidate_cache()

    def _invalidate_cache(self) -> None:
        """Forget what the file system remembers of listings."""
        self._layout.fs.invalidate_cache(self._layout.root)
        self._layout.fs.invalidate_cache(self._layout.meta)

    # -- reading

    def _source(self) -> str | None:
        """Identity of the stored bars' source, None where there is no store."""
        with reporting(self._layout.shown, fix=self._layout.start_over):
            try:
                document = json.loads(read_bytes(self._layout.fs, self._layout.store_file))
                source, timeframe = str(document["source"]), str(document["timeframe"])
            except FileNotFoundError:
                return None
            except (ValueError, TypeError, KeyError) as error:
                raise ArtifactError(f"its {STORE_FILE} can't be read: {error}") from error
        if timeframe != self._layout.timeframe:
            raise ArtifactError(
                f"holds bars of {timeframe}, expected {self._layout.timeframe}", where=self._layout.shown
            )
        return source

    def _manifests(self) -> tuple[dict[str, Manifest], list[str]]:
        """The readable manifests by symbol, each as its files show it, and the names of the others."""
        manifests, broken = {}, []
        for name in sorted(sizes(self._layout.fs, self._layout.meta)):
            if name == STORE_FILE or not name.endswith(".json"):
                continue
            folder = self._layout.folder(name.removesuffix(".json"))
            try:
                manifest = folder.read_manifest()
                symbol = str(manifest.meta["symbol"]) if manifest else ""
                Ledger.parse(manifest.meta["ledger"] if manifest else {})
            except (ArtifactError, KeyError, ValueError, TypeError):
                broken.append(name)
                continue
            if manifest is not None:
                manifests[symbol] = folder.settled(manifest)
        return manifests, broken

    # -- writing

    def _claim(self, source: str) -> None:
        """Make the store this source's, unless it is another's."""
        owner = self._source()
        if owner not in (None, source):
            raise ArtifactError(
                f"holds bars of {owner}, these come from {source}",
                where=self._layout.shown,
                fix=f"use another storage root (MNTRADING_STORAGE_ROOT), or {self._layout.start_over}",
            )
        if owner is None:
            document = {"schema_version": 1, "source": source, "timeframe": self._layout.timeframe}
            write_atomic(self._layout.fs, self._layout.store_file, canonical_json(document))

    def _add(self, symbol: str, fresh: FloatArray | None, ledger: Ledger | None) -> None:
        folder = self._layout.folder(symbol)
        stored = folder.read_manifest()
        current = self._recovered(symbol, folder, stored)
        entries = dict(current.partitions)
        blobs = {}
        for id_, part in self._by_file(symbol, np.empty((0, 6)) if fresh is None else fresh).items():
            rows = part
            if id_ in entries:
                known = self._rows(folder, id_, entries[id_])
                rows = np.vstack([known, part[~np.isin(part[:, 0], known[:, 0])]])
                if len(rows) == len(known):
                    continue
            blobs[id_], entries[id_] = bars_file(symbol, rows[np.argsort(rows[:, 0])])
        told = current.meta["ledger"] if ledger is None else ledger.document()
        target = current.evolve(partitions=entries, meta={"symbol": symbol, "ledger": told})
        folder.publish(stored, current, target, blobs)

    def _archive(self, symbol: str, name: str, at: int) -> None:
        """Keep a symbol's bars that open before a time under another name: first there, then no longer here."""
        folder = self._layout.folder(symbol)
        stored = folder.read_manifest()
        current = self._recovered(symbol, folder, stored)
        before, after = Ledger.parse(current.meta["ledger"]).split(at)
        parts = {id_: self._rows(folder, id_, entry) for id_, entry in sorted(current.partitions.items())}
        old = np.vstack([np.empty((0, 6)), *(rows[rows[:, 0] < at] for rows in parts.values())])
        if len(old):
            self._add(name, old, before)
        entries, blobs = {}, {}
        for id_, rows in parts.items():
            kept = rows[rows[:, 0] >= at]
            if len(kept) == len(rows):
                entries[id_] = current.partitions[id_]
            elif len(kept):
                blobs[id_], entries[id_] = bars_file(symbol, kept)
        dropped = set(current.partitions) - set(entries)
        target = current.evolve(partitions=entries, meta={"symbol": symbol, "ledger": after.document()})
        emptied = target.evolve(removing=tuple(sorted(dropped)))
        folder.publish(stored, current, emptied, blobs)
        folder.seal(emptied, target, dropped)

    def _put_in_quarantine(self, damage: Damage) -> None:
        """Move files aside that can't be trusted, and make their bars ones that were never asked for."""
        for name in damage.manifests:
            self._set_aside(f"{self._layout.meta}/{name}")
        for name in damage.strangers:
            self._set_aside(f"{self._layout.root}/{name}")
        step = timeframe_ms(self._layout.timeframe)
        for symbol, files in sorted(damage.partitions.items()):
            folder = self._layout.folder(symbol)
            stored = folder.read_manifest()
            current = self._recovered(symbol, folder, stored)
            ledger = Ledger.parse(current.meta["ledger"])
            for first, last in files.values():
                ledger = ledger.without((first, last + step))
            kept = {id_: entry for id_, entry in current.partitions.items() if id_ not in files}
            for id_ in files:
                self._set_aside(folder.file(id_))
            target = current.evolve(partitions=kept, meta={**current.meta, "ledger": ledger.document()})
            folder.seal(stored, target, ())

    def _set_aside(self, path: str) -> None:
        try:
            found = sha256(read_bytes(self._layout.fs, path))
        except FileNotFoundError:
            return
        move(self._layout.fs, path, f"{self._layout.quarantine}/{posixpath.basename(path)}.{found[:8]}")

    def _recovered(self, symbol: str, folder: PartitionFolder, stored: Manifest | None) -> Manifest:
        """A symbol's manifest to build on, with a killed writer's leavings cleared away."""
        if stored is None:
            remove_orphans(self._layout.fs, self._layout.meta)
            return Manifest(complete=True, meta={"symbol": symbol, "ledger": Ledger().document()})
        if stored.meta["symbol"] != symbol:
            raise ArtifactError(f"keeps {stored.meta['symbol']} under the name {slug(symbol)}, where {symbol} would go")
        return folder.recover(stored)

    def _rows(self, folder: PartitionFolder, id_: str, entry: Entry) -> FloatArray:
        """Rows of a file as ``(n, 6)``."""
        data = folder.read(id_, entry)
        with reporting(folder.shown(folder.file(id_)), fix=folder.repair):
            return rows_of(read_table(data, COLUMNS), COLUMNS[2:])

    def _by_file(self, symbol: str, rows: FloatArray) -> dict[str, FloatArray]:
        periods = self._layout.period(rows[:, 0].astype(np.int64))
        return {f"{slug(symbol)}.{period}": rows[periods == period] for period in np.unique(periods)}

    def _checked(self, symbol: str, frame: pd.DataFrame) -> FloatArray:
        """The bars as rows; raises ``BarDataError`` if they are not good."""
        where = f"{self.resolve_path()}: {symbol}"
        check_bars(frame, self._layout.timeframe, where=where)
        others = sorted(set(frame["symbol"].unique()) - {symbol})
        if others:
            raise BarDataError(f"has bars of {others[0]}, expected {symbol} only", where=where)
        unknown = [name for name in frame.columns if name not in COLUMNS]
        if unknown:
            raise BarDataError(f"has the columns {unknown}, expected {list(COLUMNS)}", where=where)
        return np.column_stack([times_ms(frame["timestamp"]), frame[list(COLUMNS[2:])].to_numpy(dtype=np.float64)])
