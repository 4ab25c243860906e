"""Where bars come from: exchanges, files, the built-in simulator or your own class, all behind one protocol."""

from mntrading.market.base import (
    MarketInfo,
    MarketSource,
    SourceBlockedError,
    SourceUnreachableError,
    SymbolGoneError,
)
from mntrading.market.open import market_time, open_source

__all__ = [
    "MarketInfo",
    "MarketSource",
    "SourceBlockedError",
    "SourceUnreachableError",
    "SymbolGoneError",
    "market_time",
    "open_source",
]
