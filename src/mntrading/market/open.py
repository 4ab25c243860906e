"""The market source that the parameters name."""

from __future__ import annotations

import logging
import time

import pandas as pd

from mntrading.core.errors import ParameterError
from mntrading.market.base import MarketSource
from mntrading.params import MarketParams

logger = logging.getLogger(__name__)


def market_time(source: MarketSource, market: MarketParams) -> int:
    """The time a market's bars have closed by, ms since the epoch.

    A source of one's own, like an exchange, is not believed to be ahead of this machine's clock: what is live would be
    of a time that is still to come, and no run before then could go on from it. Simulated time and that of files is
    what the parameters say.
    """
    theirs, ours = source.server_time(), int(time.time() * 1000)
    if market.source != "custom" or theirs <= ours:
        return theirs
    logger.warning(
        "The clock of %s is %.0f s ahead of this machine's, which is used", source.identity, (theirs - ours) / 1e3
    )
    return ours


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
