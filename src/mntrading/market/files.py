"""Bars from parquet or CSV files in a folder, local or on object storage."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mntrading.core import bars
from mntrading.core.errors import SourceError
from mntrading.core.types import FloatArray, IntArray
from mntrading.market.base import MarketInfo, MarketSource

_NAME: Final = re.compile(r"^ohlcv_(?P<timeframe>\d+[mhd])(?P<suffix>\.parquet|\.csv)?$")
_SUFFIXES: Final = (".parquet", ".csv")
_EPOCH_UNITS: Final = ((1e11, 1_000, 1), (1e14, 1, 1), (1e17, 1, 1_000), (np.inf, 1, 1_000_000))
_LAYOUT: Final = "name the files ohlcv_<timeframe>.parquet or ohlcv_<timeframe>.csv, such as ohlcv_1h.parquet"


class FilesSource(MarketSource):
    """Long-format OHLCV files as a market source.

    The timeframe is in the name: one file ``ohlcv_1h.parquet`` or ``ohlcv_1h.csv``, or a folder
    ``ohlcv_1h.parquet/`` or ``ohlcv_1h/`` of many. Columns are timestamp (bar open), symbol, open, high,
    low, close, volume. Stamps may be datetimes with or without time zone (UTC then), ISO strings, or
    whole numbers since the epoch in s, ms, µs or ns. A timeframe is read once, when first asked for.

    Parameters
    ----------
    path
        Folder or prefix: ``data/bars``, ``s3://bucket/bars``.
    as_of
        The source's clock. By default the earliest, over the timeframes there are, of the last bar's close.
    quote
        Quote currency of symbols that don't name one: with ``USDT``, ``BTC`` is served as ``BTC/USDT``.
    storage_options
        Passed to fsspec (endpoint, credentials).

    Raises
    ------
    SourceError
        No such folder, no file of bars in it, or two of the same timeframe.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        as_of: pd.Timestamp | None = None,
        quote: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = str(path)
        self._as_of_ms = None if as_of is None else bars.to_ms(as_of)
        self._quote = quote
        try:
            self._fs, self._root = fsspec.url_to_fs(self.path, **dict(storage_options or {}))
            self._files = self._discover()
        except _storage_errors() as error:
            raise self._unreadable(error) from error
        self._rows: dict[str, dict[str, FloatArray]] = {}
        self._symbols: dict[str, frozenset[str]] = {}
        self._last_opens: dict[str, int] = {}

    @property
    def identity(self) -> str:
        """``files:<name of the folder>``."""
        return f"files:{posixpath.basename(self._root.rstrip('/')) or self._root}"

    @property
    def timeframes(self) -> tuple[str, ...]:
        """Timeframes there are files of, shortest first."""
        return tuple(sorted(self._files, key=bars.timeframe_ms))

    def load_markets(self) -> dict[str, MarketInfo]:
        """Symbols of all timeframes together; files say nothing of ticks, lots and listings."""
        known = frozenset().union(*(self._symbols_in(timeframe) for timeframe in self.timeframes))
        infos = {}
        for symbol in sorted(known):
            base, slash, quote = symbol.partition("/")
            infos[symbol] = MarketInfo(
                symbol=symbol,
                base=base,
                quote=quote.partition(":")[0] if slash else None,
                active=True,
                tick=None,
                lot=None,
                min_notional=None,
                listed_ms=None,
                delisted_ms=None,
                shortable=True,
            )
        return infos

    def timeframes_of(self, symbol: str) -> frozenset[str]:
        """Timeframes whose files have this symbol."""
        return frozenset(timeframe for timeframe in self._files if symbol in self._symbols_in(timeframe))

    def server_time(self) -> int:
        """``as_of``, or the latest moment at which every timeframe still has its last closed bar."""
        if self._as_of_ms is None:
            self._as_of_ms = min(
                self._last_open(timeframe) + bars.timeframe_ms(timeframe) for timeframe in self.timeframes
            )
        return self._as_of_ms

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """One page of bars closed at the source's clock, sorted by time; duplicates are served as stored.

        Raises
        ------
        SourceError
            No file of the timeframe, no such symbol in it, or a file that can't be read as bars.
        """
        rows = self._load(timeframe).get(symbol)
        if rows is None:
            raise SourceError(
                f"no {timeframe} bars of {symbol!r}",
                where=self.path,
                fix=f"use a symbol that is in ohlcv_{timeframe}, or add its bars there"
                + ("" if "/" in symbol or self._quote else "; set quote if the files name base coins only"),
            )
        begin = 0 if since is None else int(np.searchsorted(rows[:, 0], since))
        last_open = self.server_time() - bars.timeframe_ms(timeframe)
        stop = int(np.searchsorted(rows[:, 0], last_open, side="right"))
        return rows[begin : stop if limit is None else min(stop, begin + limit)].copy()

    def _discover(self) -> dict[str, list[str]]:
        if not self._fs.isdir(self._root):
            raise SourceError(
                "no such folder",
                where=self.path,
                fix="check the path, and the endpoint and bucket if it is on S3",
            )
        found: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for entry in sorted(self._fs.ls(self._root, detail=True), key=lambda item: str(item["name"])):
            name = posixpath.basename(str(entry["name"]).rstrip("/"))
            match = _NAME.match(name)
            is_folder = entry["type"] == "directory"
            if not match or (match["suffix"] is None and not is_folder):
                continue
            timeframe = match["timeframe"]
            if timeframe in found:
                raise SourceError(
                    f"both {names[timeframe]} and {name} hold {timeframe} bars",
                    where=self.path,
                    fix="keep one of them",
                )
            paths = self._fs.find(str(entry["name"])) if is_folder else [str(entry["name"])]
            visible = [p for p in paths if p.endswith(_SUFFIXES) and posixpath.basename(p)[0] not in "._"]
            if not visible:
                raise SourceError(
                    "the folder holds no parquet or CSV file",
                    where=str(entry["name"]),
                    fix="remove it or fill it",
                )
            found[timeframe], names[timeframe] = sorted(visible), name
        if not found:
            raise SourceError("the folder holds no file of bars", where=self.path, fix=_LAYOUT)
        return found

    def _paths(self, timeframe: str) -> list[str]:
        if timeframe not in self._files:
            raise SourceError(
                f"no file of {timeframe} bars, there is {', '.join(self.timeframes)}",
                where=self.path,
                fix=f"add ohlcv_{timeframe}.parquet or ask for another timeframe",
            )
        return self._files[timeframe]

    def _symbols_in(self, timeframe: str) -> frozenset[str]:
        if timeframe not in self._symbols:
            if timeframe in self._rows:
                self._symbols[timeframe] = frozenset(self._rows[timeframe])
            else:
                names: set[str] = set()
                for path in self._paths(timeframe):
                    column = self._read(path, ["symbol"]).column("symbol")
                    names.update(str(name) for name in pc.unique(column).to_pylist() if name is not None)
                self._symbols[timeframe] = frozenset(self._full_name(name) for name in names)
        return self._symbols[timeframe]

    def _last_open(self, timeframe: str) -> int:
        if timeframe not in self._last_opens:
            if timeframe in self._rows:
                newest = max(int(rows[-1, 0]) for rows in self._rows[timeframe].values())
            else:
                newest = max(
                    int(_stamps_ms(self._read(path, ["timestamp"]).column("timestamp"), path).max())
                    for path in self._paths(timeframe)
                )
            self._last_opens[timeframe] = newest
        return self._last_opens[timeframe]

    def _load(self, timeframe: str) -> dict[str, FloatArray]:
        if timeframe in self._rows:
            return self._rows[timeframe]
        codes: list[IntArray] = []
        tables: list[FloatArray] = []
        index: dict[str, int] = {}
        for path in self._paths(timeframe):
            table = self._read(path, list(bars.COLUMNS))
            names, file_codes = _factorize(table.column("symbol"), path)
            places = np.array([index.setdefault(self._full_name(name), len(index)) for name in names], dtype=np.int64)
            codes.append(places[file_codes])
            rows = np.empty((table.num_rows, 6))
            rows[:, 0] = _stamps_ms(table.column("timestamp"), path)
            for k, name in enumerate(bars.COLUMNS[2:], start=1):
                rows[:, k] = _numbers(table.column(name), path, name)
            tables.append(rows)
        code = np.concatenate(codes)
        rows = tables[0] if len(tables) == 1 else np.vstack(tables)
        in_order = (np.diff(code) > 0) | ((np.diff(code) == 0) & (np.diff(rows[:, 0]) >= 0))
        if not in_order.all():
            order = np.lexsort((rows[:, 0], code))
            code, rows = code[order], rows[order]
        cuts = np.flatnonzero(np.diff(code)) + 1
        parts = np.split(rows, cuts)
        by_code = dict(zip(code[np.concatenate([[0], cuts])].tolist(), parts, strict=True))
        self._rows[timeframe] = {symbol: by_code[place] for symbol, place in index.items()}
        return self._rows[timeframe]

    def _read(self, path: str, columns: list[str]) -> pa.Table:
        """Columns of one file; raises SourceError when one is missing or there is no row."""
        try:
            with self._fs.open(path, "rb") as file:
                if path.endswith(".csv"):
                    text = pacsv.ConvertOptions(column_types={"symbol": pa.string()})
                    table = pacsv.read_csv(file, convert_options=text)
                    present = table.column_names
                else:
                    parquet = pq.ParquetFile(file, read_dictionary=["symbol"])
                    present = parquet.schema_arrow.names
                    wanted = [name for name in columns if name in present]
                    table = parquet.read(columns=wanted)
        except pa.ArrowInvalid as error:
            raise SourceError(f"not a readable file: {error}", where=path, fix="write the file again") from error
        except _storage_errors() as error:
            raise self._unreadable(error) from error
        missing = [name for name in columns if name not in present]
        if missing:
            raise SourceError(
                f"columns {missing} are missing, there are {present}",
                where=path,
                fix=f"write the columns {', '.join(bars.COLUMNS)}",
            )
        if not table.num_rows:
            raise SourceError("the file has no rows", where=path, fix="write its bars again, or remove it")
        return table.select(columns)

    def _full_name(self, symbol: str) -> str:
        return symbol if self._quote is None or "/" in symbol else f"{symbol}/{self._quote}"

    def _unreadable(self, error: Exception) -> SourceError:
        return SourceError(
            f"can't be read: {error}", where=self.path, fix="check the path, the endpoint and the credentials"
        )


def _storage_errors() -> tuple[type[Exception], ...]:
    """Errors a file system raises; S3's own, if its client is in use, are no OSErrors."""
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError, ValueError, *((botocore.BotoCoreError, botocore.ClientError) if botocore else ()))


def _factorize(column: pa.ChunkedArray, path: str) -> tuple[list[str], IntArray]:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    merged = encoded.unify_dictionaries().combine_chunks()
    if isinstance(merged, pa.ChunkedArray):
        merged = merged.chunk(0)
    if merged.null_count:
        raise SourceError(f"{merged.null_count} rows have no symbol", where=path, fix="write the symbol of every row")
    return [str(name) for name in merged.dictionary.to_pylist()], merged.indices.to_numpy().astype(np.int64)


def _numbers(column: pa.ChunkedArray, path: str, name: str) -> FloatArray:
    try:
        values = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise SourceError(f"{name} isn't a number: {error}", where=path, fix=f"write {name} as numbers") from error
    return np.asarray(values, dtype=np.float64)


def _stamps_ms(column: pa.ChunkedArray, path: str) -> FloatArray:
    """Open times in ms: from datetimes, ISO text or whole numbers since the epoch."""
    kind = column.type
    if column.null_count:
        raise SourceError(f"{column.null_count} rows have no timestamp", where=path, fix="write the time of every row")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        whole = column.cast(pa.timestamp("ms", tz=getattr(kind, "tz", None)), safe=False)
        return np.asarray(whole.cast(pa.int64()).to_numpy(), dtype=np.float64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = np.asarray(column.to_numpy(), dtype=np.float64)
        biggest = float(np.abs(numbers).max())
        times, over = next((up, down) for limit, up, down in _EPOCH_UNITS if biggest < limit)
        return numbers * times / over
    try:
        text = pd.Series(column.to_pylist(), dtype="str")
        parsed = pd.DatetimeIndex(pd.to_datetime(text, utc=True, format="ISO8601"))
    except ValueError as error:
        raise SourceError(
            f"timestamp isn't a time: {error}",
            where=path,
            fix="write UTC datetimes, ISO text or epoch milliseconds",
        ) from error
    return bars.times_ms(parsed).astype(np.float64)
