"""The store of bars: a folder of parquet files that any reader takes for one table, and a ledger per symbol."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from fsspec import AbstractFileSystem

from mntrading.core.bars import COLUMNS, PRICES, check_bars, empty_bars, from_ms, timeframe_ms, times_ms, to_ms
from mntrading.core.coverage import Ledger
from mntrading.core.errors import ArtifactError, BarDataError, ParameterError
from mntrading.core.types import FloatArray, IntArray, slug
from mntrading.datasets.artifact import entry_of, located
from mntrading.datasets.codecs import encode_table, read_table
from mntrading.datasets.errors import MissingPartitionError, PlainErrorsDataset
from mntrading.datasets.manifest import Entry, Manifest, PartitionFolder
from mntrading.datasets.storage import (
    canonical_json,
    content_hash,
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
_FOLDER_SUFFIX: Final = ".parquet"
_THREADS: Final = 8
# prices repeat, being multiples of a tick, and volumes do not: a quarter less than the defaults, and faster
_ENCODING: Final[dict[str, Any]] = {
    "use_dictionary": ["symbol", *PRICES],
    "column_encoding": {"timestamp": "DELTA_BINARY_PACKED"},
}
_STORE_FILE: Final = "_store.json"
_MONTHLY_BELOW_MS: Final = 1_800_000  # a file of 5m bars holds a month, one of 1h bars a year: some 9,000 bars each


@dataclass(frozen=True)
class Damage:
    """What the start-up check found wrong, by what is to be done about it.

    Attributes
    ----------
    partitions
        By symbol, its files that are missing or have other bytes than its manifest says, each with the open
        times ``(first, last)`` of its bars.
    manifests
        Manifest files that can't be read.
    strangers
        Files in the folder that no readable manifest lists.
    """

    partitions: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    manifests: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.partitions or self.manifests or self.strangers)

    def __str__(self) -> str:
        files = [*self.manifests, *self.strangers, *(id_ for ids in self.partitions.values() for id_ in ids)]
        return f"{len(files)} damaged or unlisted files: {', '.join(sorted(files))}"


@dataclass(frozen=True)
class BarsUpdate:
    """What to add to a store, and where it comes from. Applied in the order of the fields.

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


class BarStore(Mapping[str, pd.DataFrame]):
    """Read-only mapping of symbol to its bars, read when asked for, with matrices over many symbols.

    Content that another run has replaced since this was loaded is refused, never mixed in: ``reload()`` gives
    the store as it is now.
    """

    def __init__(
        self,
        layout: _Layout,
        source: str | None,
        manifests: Mapping[str, Manifest],
        broken: Sequence[str],
        reload: Callable[[], BarStore],
    ) -> None:
        self._layout, self._source, self._broken = layout, source, tuple(sorted(broken))
        self.reload = reload
        self._all = dict(sorted(manifests.items()))
        self._filled = {symbol: manifest for symbol, manifest in self._all.items() if manifest.partitions}

    @property
    def source(self) -> str | None:
        """Identity of where the bars come from, None of an empty store."""
        return self._source

    @property
    def timeframe(self) -> str:
        """Timeframe of the bars."""
        return self._layout.timeframe

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that have bars, sorted."""
        return tuple(self)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file's stored bytes."""
        return {id_: entry.sha256 for one in self._filled.values() for id_, entry in sorted(one.partitions.items())}

    @property
    def digest(self) -> str:
        """One content hash over all bars; the ledgers have no part in it."""
        return content_hash(self.digests)

    def entry(self, symbol: str) -> dict[str, Any]:
        """What is stored of a symbol: rows, bytes, first and last open time, and the bars missing between them."""
        entries = list(self._manifest(symbol).partitions.values())
        first = min(_range(entry)[0] for entry in entries)
        last = max(_range(entry)[1] for entry in entries)
        count = sum(entry.rows or 0 for entry in entries)
        return {
            "rows": count,
            "bytes": sum(entry.bytes for entry in entries),
            "first": from_ms(first),
            "last": from_ms(last),
            "missing_bars": (last - first) // timeframe_ms(self.timeframe) + 1 - count,
        }

    def ledger(self, symbol: str) -> Ledger:
        """What is known of a symbol besides its bars; an empty ledger of one never asked for."""
        return Ledger.parse(self._all[symbol].meta.get("ledger", {})) if symbol in self._all else Ledger()

    def rows(self, symbol: str, first: int, until: int) -> FloatArray:
        """Stored rows ``(n, 6)`` [open ms, open, high, low, close, volume] that open in ``[first, until)``."""
        if symbol not in self:
            return np.empty((0, 6))
        return self._part(symbol, COLUMNS[2:], first, until)

    def span(self, symbol: str) -> tuple[int, int] | None:
        """Open time of a symbol's first bar and the end of its last one, ms; None where it has none."""
        if symbol not in self._filled:
            return None
        entry = self.entry(symbol)
        return to_ms(entry["first"]), to_ms(entry["last"]) + timeframe_ms(self.timeframe)

    def neighbours(self, symbol: str, first: int, until: int, count: int) -> tuple[FloatArray, FloatArray]:
        """The last row that opens before a range, and at least ``count`` of those after it, where there are."""
        ranges = [] if symbol not in self else [_range(entry) for entry in self._manifest(symbol).partitions.values()]
        start = max((low for low, _ in ranges if low < first), default=first)
        before = self.rows(symbol, start, first)[-1:]
        after = np.empty((0, 6))
        for low, high in sorted(ranges):
            if high >= until and len(after) < count:
                after = np.vstack([after, self.rows(symbol, max(low, until), high + 1)])
        return before, after

    def frame(self, symbols: Sequence[str] | None = None) -> pd.DataFrame:
        """Bars of some or all symbols as one long frame, sorted by symbol and time."""
        chosen = sorted(self if symbols is None else symbols)
        tables = [table for symbol in chosen for table in self._tables(symbol, COLUMNS)]
        return cast(pd.DataFrame, pa.concat_tables(tables).to_pandas()) if tables else empty_bars()

    def wide(
        self,
        column: str,
        symbols: Sequence[str] | None = None,
        start: pd.Timestamp | None = None,
        end: pd.Timestamp | None = None,
    ) -> pd.DataFrame:
        """Matrix (time on the complete grid × symbol) of one column; holes are NaN, nothing is filled.

        Parameters
        ----------
        column
            ``open``, ``high``, ``low``, ``close`` or ``volume``.
        symbols
            Columns of the matrix in their order; all symbols by default.
        start, end
            Open times, ``start`` inclusive and ``end`` exclusive, with a time zone. Files outside of them are
            not read.

        Returns
        -------
        DataFrame
            From the first to the last bar that any of the symbols has in the range. A symbol without one is a
            column of NaN.
        """
        if column not in COLUMNS[2:]:
            raise ParameterError(f"unknown column {column!r}, expected one of {list(COLUMNS[2:])}")
        chosen = list(self if symbols is None else symbols)
        low = None if start is None else to_ms(start)
        high = None if end is None else to_ms(end)
        with ThreadPoolExecutor(_THREADS) as pool:
            parts = list(pool.map(lambda symbol: self._part(symbol, (column,), low, high), chosen))
        step = timeframe_ms(self.timeframe)
        filled = [rows for rows in parts if len(rows)]
        first = min((int(rows[0, 0]) for rows in filled), default=0)
        last = max((int(rows[-1, 0]) for rows in filled), default=first - step)
        values = np.full(((last - first) // step + 1, len(chosen)), np.nan)
        for place, rows in enumerate(parts):
            values[(rows[:, 0].astype(np.int64) - first) // step, place] = rows[:, 1]
        grid = pd.DatetimeIndex(np.arange(first, last + 1, step).astype("datetime64[ms]"), name="timestamp")
        return pd.DataFrame(values, index=grid.tz_localize("UTC"), columns=chosen)

    def damage(self, *, hashes: bool) -> Damage:
        """What a crash, a disk or a hand has done to the stored files.

        Parameters
        ----------
        hashes
            Whether each file is read and its hash compared, which takes time in proportion to all that is
            stored, or its presence and size only.
        """
        found = sizes(self._layout.fs, self._layout.root)
        partitions: dict[str, dict[str, tuple[int, int]]] = {}
        listed = set()
        for symbol, manifest in self._all.items():
            folder = self._layout.folder(symbol)
            listed |= {posixpath.basename(folder.file(id_)) for id_ in (*manifest.partitions, *manifest.removing)}
            for id_, entry in manifest.partitions.items():
                path = folder.file(id_)
                same = found.get(posixpath.basename(path)) == entry.bytes
                if not same or (hashes and sha256(read_bytes(self._layout.fs, path)) != entry.sha256):
                    partitions.setdefault(symbol, {})[id_] = _range(entry)
        strangers = tuple(sorted(set(found) - listed))
        return Damage(partitions, self._broken, strangers)

    def __getitem__(self, symbol: str) -> pd.DataFrame:
        self._manifest(symbol)
        return self.frame([symbol])

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled)

    def __len__(self) -> int:
        return len(self._filled)

    def __contains__(self, symbol: object) -> bool:
        # one whose manifest can't be read is not taken for one that was never stored: asking for it says what is wrong
        return symbol in self._filled or f"{slug(str(symbol))}.json" in self._broken

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._layout.shown}, {len(self)} symbols)"

    def _manifest(self, symbol: str) -> Manifest:
        if f"{slug(symbol)}.json" in self._broken:
            where = f"{self._layout.shown.removesuffix(_FOLDER_SUFFIX)}.meta/{slug(symbol)}.json"
            raise ArtifactError("can't be read", where=where, fix=self._layout.make)
        if symbol not in self._filled:
            raise MissingPartitionError(f"has no {symbol!r}, only {len(self)} others", where=self._layout.shown)
        return self._filled[symbol]

    def _tables(
        self, symbol: str, columns: Sequence[str], low: int | None = None, high: int | None = None
    ) -> Iterator[pa.Table]:
        """Tables of a symbol's files in order of time, of those only that have bars in the range."""
        folder = self._layout.folder(symbol)
        for id_, entry in sorted(self._manifest(symbol).partitions.items()):
            first, last = _range(entry)
            if (low is not None and last < low) or (high is not None and first >= high):
                continue
            data = folder.read(id_, entry)
            with reporting(folder.shown(folder.file(id_)), fix=folder.repair):
                yield read_table(data, columns).replace_schema_metadata(None)

    def _part(self, symbol: str, columns: Sequence[str], low: int | None, high: int | None) -> FloatArray:
        """Open times and some columns of a symbol in a range, as ``(n, 1 + columns)``."""
        tables = list(self._tables(symbol, ("timestamp", *columns), low, high))
        if not tables:
            return np.empty((0, 1 + len(columns)))
        rows = _numbers(pa.concat_tables(tables), columns)
        begin = 0 if low is None else int(np.searchsorted(rows[:, 0], low, side="left"))
        stop = len(rows) if high is None else int(np.searchsorted(rows[:, 0], high, side="left"))
        return rows[begin:stop]


@dataclass(frozen=True)
class _Layout:
    """Where a store keeps what: files ``<symbol>.<period>.parquet``, and a manifest per symbol beside them."""

    fs: AbstractFileSystem
    root: str
    timeframe: str
    make: str | None

    @property
    def meta(self) -> str:
        return self.root.removesuffix(_FOLDER_SUFFIX) + ".meta"

    @property
    def store_file(self) -> str:
        return f"{self.meta}/{_STORE_FILE}"

    @property
    def quarantine(self) -> str:
        return f"{posixpath.dirname(self.root)}/quarantine/{posixpath.basename(self.root)}"

    @property
    def shown(self) -> str:
        return self.root if is_local(self.fs) else str(self.fs.unstrip_protocol(self.root))

    @property
    def start_over(self) -> str:
        what = f"remove {self.shown} and {self.shown.removesuffix(_FOLDER_SUFFIX)}.meta"
        return f"{what}, then: {self.make}" if self.make else what

    def folder(self, symbol: str) -> PartitionFolder:
        """The files of one symbol."""
        return PartitionFolder(
            fs=self.fs,
            root=self.root,
            suffix=_FOLDER_SUFFIX,
            manifest_path=f"{self.meta}/{slug(symbol)}.json",
            staging=posixpath.dirname(self.root),
            make=self.make,
        )

    def period(self, opens: IntArray) -> np.ndarray[Any, np.dtype[np.str_]]:
        """The period, hence the file, each open time belongs to: ``2025-01`` or ``2025``."""
        unit: Literal["M", "Y"] = "M" if timeframe_ms(self.timeframe) < _MONTHLY_BELOW_MS else "Y"
        return np.datetime_as_string(opens.astype("datetime64[ms]").astype(f"datetime64[{unit}]"))


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
        if not os.fspath(path).rstrip("/").endswith(_FOLDER_SUFFIX):
            raise ParameterError(f"path {os.fspath(path)!r} of a bar store does not end in {_FOLDER_SUFFIX}")
        fs, root = located(path, credentials, fs_args)
        self._layout = _Layout(fs, root.rstrip("/"), timeframe, made_by)
        self._missing_ok = missing_ok
        self.metadata = metadata

    def resolve_path(self) -> str:
        """The folder's path, with its protocol unless it is local."""
        return self._layout.shown

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
            with ThreadPoolExecutor(_THREADS) as pool:  # most of it is waiting for the disk, or for the network
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
                raise ArtifactError(f"its {_STORE_FILE} can't be read: {error}") from error
        if timeframe != self._layout.timeframe:
            raise ArtifactError(
                f"holds bars of {timeframe}, expected {self._layout.timeframe}", where=self._layout.shown
            )
        return source

    def _manifests(self) -> tuple[dict[str, Manifest], list[str]]:
        """The readable manifests by symbol, each as its files show it, and the names of the others."""
        manifests, broken = {}, []
        for name in sorted(sizes(self._layout.fs, self._layout.meta)):
            if name == _STORE_FILE or not name.endswith(".json"):
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
            blobs[id_], entries[id_] = _file(symbol, rows[np.argsort(rows[:, 0])])
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
                blobs[id_], entries[id_] = _file(symbol, kept)
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
            return _numbers(read_table(data, COLUMNS), COLUMNS[2:])

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


def _file(symbol: str, rows: FloatArray) -> tuple[bytes, Entry]:
    """The bytes of a file of bars and what its manifest says of it."""
    opens = rows[:, 0].astype(np.int64)
    columns = {
        "timestamp": pa.array(opens, pa.timestamp("ms", tz="UTC")),
        "symbol": pa.repeat(symbol, len(rows)),
        **{name: pa.array(rows[:, place + 1]) for place, name in enumerate(COLUMNS[2:])},
    }
    data = encode_table(pa.table(columns), **_ENCODING)
    return data, entry_of(data, rows=len(rows), first=from_ms(int(opens[0])), last=from_ms(int(opens[-1])))


def _numbers(table: pa.Table, columns: Sequence[str]) -> FloatArray:
    """Open times in ms and some columns of a table, as ``(n, 1 + columns)``."""
    opens = table.column("timestamp").to_numpy().astype("datetime64[ms]").astype(np.float64)
    return np.column_stack([opens, *(table.column(name).to_numpy() for name in columns)])


def _range(entry: Entry) -> tuple[int, int]:
    """Open times of the first and the last bar of a file, ms."""
    record = entry.record()
    return to_ms(pd.Timestamp(record["first"])), to_ms(pd.Timestamp(record["last"]))
