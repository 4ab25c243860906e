"""Stored bars as they are read: a mapping of symbols, matrices over many of them, and what is wrong with the files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from mntrading.core.bars import COLUMNS, empty_bars, from_ms, timeframe_ms, times_ms, to_ms
from mntrading.core.coverage import Ledger
from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.core.types import FloatArray, slug
from mntrading.datasets.bars_layout import FOLDER_SUFFIX, THREADS, Layout, range_of, rows_of
from mntrading.datasets.codecs import read_table
from mntrading.datasets.errors import MissingPartitionError
from mntrading.datasets.manifest import Manifest
from mntrading.datasets.storage import content_hash, is_local, read_bytes, reporting, sha256, sizes


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


class BarStore(Mapping[str, pd.DataFrame]):
    """Read-only mapping of symbol to its bars, read when asked for, with matrices over many symbols.

    Content that another run has replaced since this was loaded is refused, never mixed in: ``reload()`` gives
    the store as it is now.
    """

    def __init__(
        self,
        layout: Layout,
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
    def is_remote(self) -> bool:
        """Whether other machines read the same files."""
        return not is_local(self._layout.fs)

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

    def digest_of(self, symbol: str) -> str:
        """One content hash over a symbol's bars."""
        entries = self._manifest(symbol).partitions
        return content_hash({id_: entry.sha256 for id_, entry in sorted(entries.items())})

    def entry(self, symbol: str) -> dict[str, Any]:
        """What is stored of a symbol: rows, bytes, first and last open time, and the bars missing between them."""
        entries = list(self._manifest(symbol).partitions.values())
        first = min(range_of(entry)[0] for entry in entries)
        last = max(range_of(entry)[1] for entry in entries)
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
        ranges = [] if symbol not in self else [range_of(entry) for entry in self._manifest(symbol).partitions.values()]
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

    def between(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """A symbol's bars that open from ``start`` to before ``end``, none where it has none.

        Files outside of the range are not read.
        """
        if symbol not in self:
            return empty_bars()
        low, high = to_ms(start), to_ms(end)
        tables = list(self._tables(symbol, COLUMNS, low, high))
        if not tables:
            return empty_bars()
        bars = cast(pd.DataFrame, pa.concat_tables(tables).to_pandas())
        opens = times_ms(bars["timestamp"])
        begin, stop = np.searchsorted(opens, (low, high))
        return bars.iloc[begin:stop].reset_index(drop=True)

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
        with ThreadPoolExecutor(THREADS) as pool:
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

    def damage(self, *, hashes: bool, of: Collection[str] | None = None) -> Damage:
        """What a crash, a disk or a hand has done to the stored files.

        Parameters
        ----------
        hashes
            Whether each file is read and its hash compared, which takes time in proportion to all that is
            stored, or its presence and size only.
        of
            The symbols whose hashes are compared; all of them by default.
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
                asked = hashes and (of is None or symbol in of)
                if not same or (asked and sha256(read_bytes(self._layout.fs, path)) != entry.sha256):
                    partitions.setdefault(symbol, {})[id_] = range_of(entry)
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
            where = f"{self._layout.shown.removesuffix(FOLDER_SUFFIX)}.meta/{slug(symbol)}.json"
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
            first, last = range_of(entry)
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
        rows = rows_of(pa.concat_tables(tables), columns)
        begin = 0 if low is None else int(np.searchsorted(rows[:, 0], low, side="left"))
        stop = len(rows) if high is None else int(np.searchsorted(rows[:, 0], high, side="left"))
        return rows[begin:stop]
