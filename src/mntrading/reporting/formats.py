"""Numbers and times as a reader wants them: few digits, one dash for what is not known."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Final

import pandas as pd

MISSING: Final = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage, ``0.123`` as ``12.3%``."""
    if value is None or not isfinite(value):
        return MISSING
    text = f"{value * 100:,.{digits}f}%"
    return text.removeprefix("-") if float(f"{value * 100:.{digits}f}") == 0 else text


def decimal(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals and thousands separated."""
    if value is None or not isfinite(value):
        return MISSING
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(f"{value:.{digits}f}") == 0 else text


def count(value: float | None) -> str:
    """A whole number."""
    return decimal(value, 0)


def chance(value: float | None) -> str:
    """A probability in per cent; next to certainty it is a bound, never 100%."""
    if value is None or not isfinite(value):
        return MISSING
    if value > 0.999:
        return ">99.9%"
    return "<0.1%" if value < 0.001 else percent(value)


def p_value(value: float | None) -> str:
    """A p-value with two significant digits, with an exponent when it is tiny."""
    if value is None or not isfinite(value):
        return MISSING
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}" if value >= 1e-3 else f"{value:.0e}"


def quantity(value: float | None) -> str:
    """An amount of an asset with the digits it has, without binary noise."""
    return MISSING if value is None or not isfinite(value) else f"{value:,.10g}"


def moment(value: str | datetime | None) -> str:
    """A time to the minute, UTC."""
    return MISSING if value is None else f"{_utc(value):%Y-%m-%d %H:%M}"


def day(value: str | datetime | None) -> str:
    """A day, UTC."""
    return MISSING if value is None else f"{_utc(value):%Y-%m-%d}"


def plural(number: int, noun: str, nouns: str = "") -> str:
    """A count with its noun, ``1 pair`` and ``2 pairs``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def listed(items: Iterable[str], limit: int = 8) -> str:
    """Items joined by commas; beyond the limit only how many more there are."""
    every = list(items)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def _utc(value: str | datetime) -> pd.Timestamp:
    stamp = pd.Timestamp(value)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
