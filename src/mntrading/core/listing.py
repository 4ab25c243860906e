"""Which of a market's symbols are ingested when none are listed by name, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pandas as pd

from mntrading.core.bars import to_ms
from mntrading.core.errors import ParameterError, SourceError
from mntrading.core.types import FloatArray
from mntrading.params import ListingParams

REASONS: Final = (
    "other quote currency", "excluded base", "leveraged token", "not yet listed", "too young", "not traded yet",
    "below the top n",
)  # fmt: skip

_DAY_MS: Final = 86_400_000


class Listed(Protocol):
    """What the rule has to know of a symbol; a market's own record of it has more."""

    @property
    def base(self) -> str:
        """Base coin."""
        ...

    @property
    def quote(self) -> str | None:
        """Quote currency, None where the symbol doesn't name it."""
        ...

    @property
    def listed_ms(self) -> int | None:
        """First moment of trading, None where the market doesn't say."""
        ...


@dataclass(frozen=True)
class Listing:
    """Symbols that passed the rule, and the funnel that says where the others stopped.

    Attributes
    ----------
    symbols
        Sorted symbols to ingest.
    rejected
        Reason by symbol.
    funnel
        Count of symbols by the reason they stopped at, in the order of the filters; ``passed`` last.
    """

    symbols: tuple[str, ...]
    rejected: dict[str, str]
    funnel: dict[str, int]


def choose(
    markets: Mapping[str, Listed], volumes: Mapping[str, float] | None, rule: ListingParams, ranked_at: pd.Timestamp
) -> Listing:
    """Apply the listing rule to all symbols of a market.

    Symbols that are not traded any more stay eligible: a past window's universe is what was listed then. Whether
    one was listed at ``ranked_at`` only matters where the rule ranks symbols or asks for their age then; without
    either, coins listed later are taken too.

    Look-ahead: none, if ``volumes`` are of bars before ``ranked_at``, and that is not after the first window.

    Parameters
    ----------
    markets
        By symbol, what the market says of it.
    volumes
        Quote volume by symbol (`quote_volume`) of the days before ``ranked_at``; a symbol without any was not
        traded yet. None where nothing is ranked.
    rule
        Filters.
    ranked_at
        When the age and the volume count.

    Raises
    ------
    SourceError
        The market has no symbol.
    ParameterError
        None passes, or the rule ranks and there are no volumes.
    """
    if not markets:
        raise SourceError("the market has no symbols", where="market.source", fix="check the source's own settings")
    if rule.top_n is not None and volumes is None:
        raise ParameterError(
            f"the {rule.top_n} most traded symbols are asked for and no volumes are known",
            where="ingestion.listing.top_n",
            fix="set it to null, or name the symbols in ingestion.symbols",
        )
    bases = {info.base.upper() for info in markets.values() if info.base}
    dated = rule.top_n is not None or rule.min_age_days > 0
    then = to_ms(ranked_at)
    rejected: dict[str, str] = {}
    for symbol, info in markets.items():
        why = _why_not(info, bases, rule, then if dated else None)
        if not why and dated and volumes is not None and not volumes.get(symbol, 0.0) > 0:
            why = "not traded yet"
        if why:
            rejected[symbol] = why
    kept = sorted(set(markets) - set(rejected))
    if rule.top_n is not None and volumes is not None:
        ranked = sorted(kept, key=lambda symbol: (-volumes[symbol], symbol))
        rejected |= dict.fromkeys(ranked[rule.top_n :], "below the top n")
        kept = sorted(ranked[: rule.top_n])
    funnel = {reason: sum(why == reason for why in rejected.values()) for reason in REASONS} | {"passed": len(kept)}
    if not kept:
        stopped = ", ".join(f"{count} {reason}" for reason, count in funnel.items() if count)
        raise ParameterError(
            f"none of {len(markets)} symbols passes: {stopped}",
            where="ingestion.listing",
            fix=_FIXES[max(REASONS, key=funnel.__getitem__)],
        )
    return Listing(tuple(kept), {symbol: rejected[symbol] for symbol in sorted(rejected)}, funnel)


def quote_volume(rows: FloatArray) -> float:
    """Traded value in quote units: close times volume, summed over the finite ones of ``(n, 6)`` rows."""
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    with np.errstate(invalid="ignore", over="ignore"):
        traded = table[:, 4] * table[:, 5]
    return float(traded[np.isfinite(traded)].sum())


_FIXES: Final = {
    "other quote currency": "set ingestion.listing.quote to a currency the market quotes in (or, for files whose "
    "symbols name none, market.files.quote)",
    "excluded base": "take the coins you want out of ingestion.listing.excluded_bases",
    "leveraged token": "take the endings you want out of ingestion.listing.leveraged_suffixes",
    "not yet listed": "set ingestion.listing.ranked_at later, or top_n to null and min_age_days to 0",
    "too young": "set ingestion.listing.min_age_days lower, or ranked_at later",
    "not traded yet": "set ingestion.listing.ranked_at later, or top_n to null",
    "below the top n": "set ingestion.listing.top_n higher",
}


def _why_not(info: Listed, bases: set[str], rule: ListingParams, then: int | None) -> str:
    """What rules a symbol out by itself, empty if nothing does; its age counts at ``then``."""
    base = info.base.upper()
    if (info.quote or "").upper() != rule.quote.upper():
        return "other quote currency"
    if base in {excluded.upper() for excluded in rule.excluded_bases}:
        return "excluded base"
    suffixes = (suffix.upper() for suffix in rule.leveraged_suffixes)
    if any(suffix and base.endswith(suffix) and base.removesuffix(suffix) in bases for suffix in suffixes):
        return "leveraged token"
    if info.listed_ms is not None and then is not None:
        if info.listed_ms > then:
            return "not yet listed"
        if then - info.listed_ms < rule.min_age_days * _DAY_MS:
            return "too young"
    return ""
