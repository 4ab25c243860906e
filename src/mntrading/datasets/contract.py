"""What a frame of bars has to be, as a schema the catalog checks before anything is saved."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pandera.pandas as pa

from mntrading.core.bars import COLUMNS, PRICES, TIMESTAMP_DTYPE, timeframe_ms, times_ms
from mntrading.datasets.bars_store import BarsUpdate


class BarContract:
    """Validator of a catalog entry that holds bars: one symbol a frame, on the grid, in order, and possible.

    The store checks the same rules again with code of its own, whichever way bars reach it.

    Parameters
    ----------
    timeframe
        Grid the open times lie on.

    Examples
    --------
    .. code-block:: yaml

        ohlcv_1h:
          type: mntrading.datasets.BarsDataset
          validator: {class: mntrading.datasets.BarContract, "on": save, options: {timeframe: 1h}}
    """

    def __init__(self, timeframe: str) -> None:
        step = timeframe_ms(timeframe)
        prices = {name: pa.Column("float64", pa.Check.in_range(0, float("inf"), include_min=False, include_max=False))
                  for name in PRICES}  # fmt: skip

        def on_grid(opens: pd.Series) -> pd.Series:
            return pd.Series(times_ms(opens) % step == 0, index=opens.index)

        volume = pa.Column("float64", pa.Check.in_range(0, float("inf"), include_max=False))
        self.schema = pa.DataFrameSchema(
            {
                "timestamp": pa.Column(TIMESTAMP_DTYPE, pa.Check(on_grid, error="off the grid")),
                "symbol": pa.Column("str", pa.Check(lambda names: len(names.unique()) <= 1, error="several symbols")),
                **prices,
                "volume": volume,
            },
            checks=[
                pa.Check(lambda f: f["low"] <= f[["open", "close"]].min(axis=1), error="open or close below low"),
                pa.Check(lambda f: f["high"] >= f[["open", "close"]].max(axis=1), error="open or close above high"),
                pa.Check(
                    lambda f: bool(f["timestamp"].is_monotonic_increasing and f["timestamp"].is_unique),
                    error="time does not increase",
                ),
            ],
            strict=True,
            ordered=True,
        )

    def validate(self, data: Any) -> Any:
        """Check every frame of an update, or of a mapping of symbol to bars.

        Raises
        ------
        pandera.errors.SchemaError
            Naming the column, the check and the first rows that fail.
        """
        for frame in (data.frames if isinstance(data, BarsUpdate) else data).values():
            self.schema.validate(frame[list(COLUMNS)] if set(frame.columns) == set(COLUMNS) else frame)
        return data
