"""Where a store of bars keeps what, and the form of one of its files."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from fsspec import AbstractFileSystem

from mntrading.core.bars import COLUMNS, PRICES, from_ms, timeframe_ms, to_ms
from mntrading.core.types import FloatArray, IntArray, slug
from mntrading.datasets.artifact import entry_of
from mntrading.datasets.codecs import encode_table
from mntrading.datasets.manifest import Entry, PartitionFolder
from mntrading.datasets.storage import is_local

FOLDER_SUFFIX: Final = ".parquet"
STORE_FILE: Final = "_store.json"
THREADS: Final = 8

# prices repeat, being multiples of a tick, and volumes do not: a quarter less than the defaults, and faster
_ENCODING: Final[dict[str, Any]] = {
    "use_dictionary": ["symbol", *PRICES],
    "column_encoding": {"timestamp": "DELTA_BINARY_PACKED"},
}
_MONTHLY_BELOW_MS: Final = 1_800_000  # a file of 5m bars holds a month, one of 1h bars a year: some 9,000 bars each


@dataclass(frozen=True)
class Layout:
    """Where a store keeps what: files ``<symbol>.<period>.parquet``, and a manifest per symbol beside them."""

    fs: AbstractFileSystem
    root: str
    timeframe: str
    make: str | None

    @property
    def meta(self) -> str:
        """Folder of the manifests."""
        return self.root.removesuffix(FOLDER_SUFFIX) + ".meta"

    @property
    def store_file(self) -> str:
        """What the whole store is: its source and timeframe."""
        return f"{self.meta}/{STORE_FILE}"

    @property
    def quarantine(self) -> str:
        """Where damaged files are moved to."""
        return f"{posixpath.dirname(self.root)}/quarantine/{posixpath.basename(self.root)}"

    @property
    def shown(self) -> str:
        """The folder, as messages name it."""
        return self.root if is_local(self.fs) else str(self.fs.unstrip_protocol(self.root))

    @property
    def start_over(self) -> str:
        """What a reader may do when nothing here can be saved."""
        what = f"remove {self.shown} and {self.shown.removesuffix(FOLDER_SUFFIX)}.meta"
        return f"{what}, then: {self.make}" if self.make else what

    def folder(self, symbol: str) -> PartitionFolder:
        """The files of one symbol."""
        return PartitionFolder(
            fs=self.fs,
            root=self.root,
            suffix=FOLDER_SUFFIX,
            manifest_path=f"{self.meta}/{slug(symbol)}.json",
            staging=posixpath.dirname(self.root),
            make=self.make,
        )

    def period(self, opens: IntArray) -> np.ndarray[Any, np.dtype[np.str_]]:
        """The period, hence the file, each open time belongs to: ``2025-01`` or ``2025``."""
        unit: Literal["M", "Y"] = "M" if timeframe_ms(self.timeframe) < _MONTHLY_BELOW_MS else "Y"
        return np.datetime_as_string(opens.astype("datetime64[ms]").astype(f"datetime64[{unit}]"))


def bars_file(symbol: str, rows: FloatArray) -> tuple[bytes, Entry]:
    """The bytes of a file of bars and what its manifest says of it."""
    opens = rows[:, 0].astype(np.int64)
    columns = {
        "timestamp": pa.array(opens, pa.timestamp("ms", tz="UTC")),
        "symbol": pa.repeat(symbol, len(rows)),
        **{name: pa.array(rows[:, place + 1]) for place, name in enumerate(COLUMNS[2:])},
    }
    data = encode_table(pa.table(columns), **_ENCODING)
    return data, entry_of(data, rows=len(rows), first=from_ms(int(opens[0])), last=from_ms(int(opens[-1])))


def rows_of(table: pa.Table, columns: Sequence[str]) -> FloatArray:
    """Open times in ms and some columns of a table, as ``(n, 1 + columns)``."""
    opens = table.column("timestamp").to_numpy().astype("datetime64[ms]").astype(np.float64)
    return np.column_stack([opens, *(table.column(name).to_numpy() for name in columns)])


def range_of(entry: Entry) -> tuple[int, int]:
    """Open times of the first and the last bar of a file, ms."""
    record = entry.record()
    return to_ms(pd.Timestamp(record["first"])), to_ms(pd.Timestamp(record["last"]))
