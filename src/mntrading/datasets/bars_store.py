"""The store of bars: a folder of parquet files, one per symbol, that any reader takes for one table."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from mntrading.core.bars import COLUMNS, check_bars, empty_bars, from_ms, timeframe_ms, times_ms, to_ms
from mntrading.core.errors import ArtifactError, BarDataError, ParameterError
from mntrading.core.types import FloatArray, IntArray, slug
from mntrading.datasets.artifact import PartitionedArtifactDataset, Partitions, entry_of
from mntrading.datasets.codecs import encode_parquet, read_table
from mntrading.datasets.manifest import Entry, Manifest
from mntrading.datasets.storage import plain, reporting

UNNAMED_SOURCE: Final = "unnamed"
_FOLDER_SUFFIX: Final = ".parquet"
_RESERVED: Final = frozenset({"sha256", "bytes", "rows", "key", "symbol", "first", "last", "missing_bars"})


@dataclass(frozen=True)
class BarsUpdate:
    """Bars to store, with where they come from.

    Parameters
    ----------
    source
        Identity of the source, such as ``"binance"`` or ``"simulated:calm:0"``; a store holds one.
    frames
        By symbol, all its bars: what was stored before is replaced.
    meta
        By symbol, what to note in its manifest entry (``requested_since``, rejected rows, …). What was noted
        before under other names stays. A symbol without a frame must be stored already.
    """

    source: str
    frames: Mapping[str, pd.DataFrame]
    meta: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class BarStore(Partitions):
    """Read-only mapping of symbol to its bars, with matrices over many symbols."""

    @property
    def source(self) -> str | None:
        """Identity of where the bars come from, None of an empty store."""
        return self._manifest.source

    @property
    def timeframe(self) -> str:
        """Timeframe of the bars."""
        return str(self._manifest.timeframe)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The stored symbols, sorted."""
        return tuple(self)

    def frame(self, symbols: Sequence[str] | None = None) -> pd.DataFrame:
        """Bars of some or all symbols as one long frame, sorted by symbol and time."""
        chosen = sorted(self if symbols is None else symbols)
        tables = [self._table(symbol, COLUMNS).replace_schema_metadata(None) for symbol in chosen]
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
            Open times, ``start`` inclusive and ``end`` exclusive, with a time zone.

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
        parts = [self._part(symbol, column, low, high) for symbol in chosen]
        step = timeframe_ms(self.timeframe)
        filled = [opens for opens, _ in parts if opens.size]
        first = min((int(opens[0]) for opens in filled), default=0)
        last = max((int(opens[-1]) for opens in filled), default=first - step)
        values = np.full(((last - first) // step + 1, len(chosen)), np.nan)
        for place, (opens, numbers) in enumerate(parts):
            values[(opens - first) // step, place] = numbers
        grid = pd.DatetimeIndex(np.arange(first, last + 1, step).astype("datetime64[ms]"), name="timestamp")
        return pd.DataFrame(values, index=grid.tz_localize("UTC"), columns=chosen)

    def _key(self, id_: str, entry: Entry) -> str:
        return str(entry.record().get("symbol", id_))

    def _table(self, symbol: str, columns: Sequence[str]) -> Any:
        data = self._read(symbol)
        with reporting(self._folder.shown(self._folder.file(self._ids[symbol])), fix=self._folder.repair):
            return read_table(data, columns)

    def _part(self, symbol: str, column: str, low: int | None, high: int | None) -> tuple[IntArray, FloatArray]:
        table = self._table(symbol, ("timestamp", column))
        opens = table.column("timestamp").to_numpy().astype("datetime64[ms]").astype(np.int64)
        begin = 0 if low is None else int(np.searchsorted(opens, low, side="left"))
        stop = len(opens) if high is None else int(np.searchsorted(opens, high, side="left"))
        return opens[begin:stop], table.column(column).to_numpy()[begin:stop]


class BarsDataset(PartitionedArtifactDataset):
    """``BarsDataset`` keeps the bars of one source at one timeframe, a parquet file per symbol.

    The folder holds nothing but these files, so ``pandas.read_parquet(folder)``, DuckDB and Polars read it as
    one table; the manifest lies beside it, ``ohlcv_1h.meta.json`` for ``ohlcv_1h.parquet``. A symbol is
    replaced whole, and refused if its bars break the data contract. Bars of another source are refused.

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
        name = posixpath.basename(os.fspath(path).rstrip("/"))
        if not name.endswith(_FOLDER_SUFFIX):
            raise ParameterError(f"path {os.fspath(path)!r} of a bar store does not end in {_FOLDER_SUFFIX}")
        super().__init__(
            path=path,
            format="parquet",
            manifest=f"../{name.removesuffix(_FOLDER_SUFFIX)}.meta.json",
            append=True,
            missing_ok=missing_ok,
            made_by=made_by,
            credentials=credentials,
            fs_args=fs_args,
            metadata=metadata,
        )
        self._timeframe = timeframe

    def _describe(self) -> dict[str, Any]:
        return {"path": self.resolve_path(), "timeframe": self._timeframe}

    def _staging(self, root: str) -> str:
        return posixpath.dirname(root)

    def _view(self, manifest: Manifest) -> BarStore:
        self._check_timeframe(manifest)
        settled = self._folder.settled(manifest).evolve(timeframe=self._timeframe)
        return BarStore(self._folder, settled, self._codec.name, None)

    def _store(self, data: Any) -> None:
        """Store a ``BarsUpdate``, or a bare mapping of symbol to bars as one of the source ``"unnamed"``."""
        update = BarsUpdate(source=UNNAMED_SOURCE, frames=data) if isinstance(data, Mapping) else data
        if not isinstance(update, BarsUpdate):
            raise ArtifactError(f"can't hold a {type(data).__name__}, expected a BarsUpdate or a mapping of bars")
        frames = {symbol: self._checked(symbol, frame) for symbol, frame in sorted(update.frames.items())}
        stored = self._folder.read_manifest()
        self._check_timeframe(stored)
        self._check_source(stored, update.source)
        current = self._folder.recover(stored)
        entries = dict(current.partitions)
        blobs = {}
        for symbol, frame in frames.items():
            id_ = slug(symbol)
            blobs[id_] = encode_parquet(frame)
            said = {**self._noted(current, symbol), **self._measured(symbol, frame), **_meta(update, symbol)}
            entries[id_] = entry_of(blobs[id_], rows=len(frame), **said)
        for symbol in sorted(set(update.meta) - set(frames)):
            self._noted(current, symbol)
            if slug(symbol) not in entries:
                raise ArtifactError(f"has no bars of {symbol} to note anything of")
            known = entries[slug(symbol)].record()
            entries[slug(symbol)] = Entry(**{**known, **_meta(update, symbol)})
        target = current.evolve(source=update.source, timeframe=self._timeframe, partitions=entries)
        self._folder.publish(stored, current, target, blobs)

    def _check_timeframe(self, manifest: Manifest | None) -> None:
        if manifest is not None and manifest.timeframe not in (None, self._timeframe):
            raise ArtifactError(
                f"holds bars of {manifest.timeframe}, expected {self._timeframe}", where=self.resolve_path()
            )

    def _check_source(self, manifest: Manifest | None, source: str) -> None:
        if manifest is not None and manifest.source not in (None, source):
            raise ArtifactError(
                f"holds bars of {manifest.source}, these come from {source}",
                where=self.resolve_path(),
                fix=f"use another storage root (MNTRADING_STORAGE_ROOT), or {self._folder.start_over}",
            )

    def _checked(self, symbol: str, frame: pd.DataFrame) -> pd.DataFrame:
        """The bars in the one form they are stored in; raises ``BarDataError`` if they are not good."""
        where = f"{self.resolve_path()}: {symbol}"
        check_bars(frame, self._timeframe, where=where)
        others = sorted(set(frame["symbol"]) - {symbol})
        if others:
            raise BarDataError(f"has bars of {others[0]}, expected {symbol} only", where=where)
        unknown = [name for name in frame.columns if name not in COLUMNS]
        if unknown:
            raise BarDataError(f"has the columns {unknown}, expected {list(COLUMNS)}", where=where)
        dtypes = {"symbol": "str"} | dict.fromkeys(COLUMNS[2:], "float64")
        return frame[list(COLUMNS)].astype(dtypes).reset_index(drop=True)

    def _measured(self, symbol: str, frame: pd.DataFrame) -> dict[str, Any]:
        """Symbol, first and last open time, and the bars missing between them."""
        if frame.empty:
            return {"symbol": symbol, "missing_bars": 0}
        opens = times_ms(frame["timestamp"])
        first, last = int(opens[0]), int(opens[-1])
        grid = (last - first) // timeframe_ms(self._timeframe) + 1
        return {
            "symbol": symbol,
            "first": from_ms(first),
            "last": from_ms(last),
            "missing_bars": grid - len(frame),
        }

    def _noted(self, manifest: Manifest, symbol: str) -> dict[str, Any]:
        """What was noted of a symbol in earlier updates."""
        entry = manifest.partitions.get(slug(symbol))
        known = entry.record() if entry else {}
        if known and known["symbol"] != symbol:
            raise ArtifactError(f"keeps {known['symbol']} under the name {slug(symbol)}, where {symbol} would go")
        return {name: value for name, value in known.items() if name not in _RESERVED}


def _meta(update: BarsUpdate, symbol: str) -> dict[str, Any]:
    said = plain(update.meta.get(symbol, {}), f"$.meta.{symbol}")
    taken = sorted(_RESERVED & set(said))
    if taken:
        raise ArtifactError(f"meta of {symbol} has the names {taken}, which the store sets itself")
    return cast(dict[str, Any], said)
