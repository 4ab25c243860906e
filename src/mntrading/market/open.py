"""The market source that the parameters name."""

from __future__ import annotations

import pandas as pd

from mntrading.core.errors import ParameterError
from mntrading.market.base import MarketSource
from mntrading.params import MarketParams


def open_source(market: MarketParams) -> MarketSource:
    """The market source the parameters name.

    Raises
    ------
    ParameterError
        When the source's own settings are not complete.
    """
    if market.source == "simulator":
        from mntrading.market.simulator import SimulatorSource

        simulator = market.simulator
        return SimulatorSource(simulator.name, simulator.seed, simulator.n_symbols, end=pd.Timestamp(simulator.end))
    if market.source == "files":
        from mntrading.market.files import FilesSource

        if market.files.path is None:
            raise ParameterError(
                "no folder is named",
                where="market.files.path",
                fix="kedro run --env files --params market.files.path=/path/to/folder (or set MNTRADING_BARS)",
            )
        as_of = None if market.files.as_of is None else pd.Timestamp(market.files.as_of)
        return FilesSource(market.files.path, as_of=as_of, quote=market.files.quote)
    if market.source == "custom":
        from mntrading.market.custom import load_custom

        return load_custom(market.custom)
    from mntrading.market.ccxt_source import CcxtSource

    ccxt = market.ccxt
    return CcxtSource(
        ccxt.exchange, max_attempts=ccxt.max_attempts, max_concurrency=ccxt.max_concurrency, base_url=ccxt.base_url
    )
