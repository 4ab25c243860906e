"""Every row of a range, page by page, with none lost at a page's edge."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mntrading.core import bars
from mntrading.core.errors import ParameterError
from mntrading.core.types import BoolArray, FloatArray
from mntrading.market.base import MarketSource


def fetch_range(
    source: MarketSource,
    symbol: str,
    timeframe: str,
    *,
    since_ms: int,
    until_ms: int,
    page_limit: int,
) -> FloatArray:
    """All raw rows of a symbol that open at or after ``since_ms`` and are closed by ``until_ms``.

    Pages overlap by one bar, so duplicates inside a page push no bar out. An empty page is stepped over by
    one page's time, so a hole longer than a page hides nothing behind it. The start of every request is
    later than the one before: the walk always ends.

    Parameters
    ----------
    since_ms, until_ms
        Bounds in ms; a bar is taken only if ``open + timeframe <= until_ms``. With ``until_ms`` no later than
        the source's own clock, every bar is closed.
    page_limit
        Rows asked for at a time: no more than the source serves at once.

    Returns
    -------
    ``(n, 6)`` raw rows sorted by time, exact duplicates dropped, nothing else judged: that is for
    `mntrading.core.quality.judge`.

    Raises
    ------
    ParameterError
        ``page_limit`` below 1.
    SourceError
        What the source raises.
    """
    if page_limit < 1:
        raise ParameterError(f"page_limit is {page_limit}, expected 1 or more")
    step = bars.timeframe_ms(timeframe)
    last_open = until_ms - step
    pages: list[FloatArray] = []
    since, window = since_ms, page_limit
    short_page: tuple[float, int] | None = None  # newest stamp and length of a page that wasn't full
    while since <= last_open:
        limit = min(page_limit, (last_open - since) // step + 2)
        page = np.asarray(source.fetch_ohlcv(symbol, timeframe, since, limit), dtype=np.float64).reshape(-1, 6)
        page = page[page[:, 0] >= since]  # a row without a stamp belongs to no bar
        if not len(page):
            since = _bars_later(since, window, step)
            continue
        pages.append(page)
        newest = float(page[:, 0].max())
        if short_page and step in page[:, 0] - short_page[0]:
            # the page before ended without a hole: that is all this source serves at once
            window = min(window, short_page[1])
        short_page = (newest, len(page)) if len(page) < limit else None
        since = math.ceil(newest) if newest > since else _bars_later(since, 1, step)
    if not pages:
        return np.empty((0, 6))
    rows = np.vstack(pages)
    rows = rows[rows[:, 0] <= last_open]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return _without_exact_duplicates(rows)


def _bars_later(since: int, count: int, step: int) -> int:
    """Grid time ``count`` bars after the bar ``since`` falls into."""
    return (since // step + count) * step


def _without_exact_duplicates(rows: FloatArray) -> FloatArray:
    again: BoolArray = pd.DataFrame(rows).duplicated().to_numpy(dtype=np.bool_)
    return rows[~again]
