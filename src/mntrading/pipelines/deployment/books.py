"""A book as stored artefacts have it, and the bars it is priced by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from mntrading.core.portfolio import Book, Holding, Unsent
from mntrading.core.types import Pair
from mntrading.datasets import BarStore

_HISTORY = pd.Timedelta(3, unit="D")
"""The usual volume is of a day, and nearly all that is held has a price in the days before."""

_EVER = pd.Timestamp(0, tz="UTC")


def book_document(book: Book) -> dict[str, Any]:
    """Plain values of a book, holdings by name."""
    holdings = []
    for pair_id, holding in sorted(book.holdings.items()):
        plain = asdict(holding)
        legs = plain.pop("pair")
        holdings.append({"pair_id": pair_id, **legs, **plain})
    return {
        "cash": book.cash,
        "holdings": holdings,
        "unsent": {symbol: unsent.held for symbol, unsent in sorted(book.unsent.items())},
        "day": book.day,
        "traded": book.traded,
    }


def book_of(document: Mapping[str, Any]) -> Book:
    """A stored book."""
    return Book(
        document["cash"],
        {row["pair_id"]: _holding(row) for row in document["holdings"]},
        {symbol: Unsent(symbol, units) for symbol, units in document["unsent"].items()},
        document["day"],
        document["traded"],
    )


def wanted_of(document: Mapping[str, Any], book: Book) -> Book:
    """The stored book that orders lead to; a holding that stays is the one of the book they start from."""
    wanted = book_of(document)
    kept = {
        name: book.holdings[name] if book.holdings.get(name) == held else held for name, held in wanted.holdings.items()
    }
    return replace(wanted, holdings=kept)


def _holding(row: Mapping[str, Any]) -> Holding:
    known = {name: value for name, value in row.items() if name not in ("pair_id", "dependent", "independent")}
    return Holding(Pair(row["dependent"], row["independent"]), **known)


def bars_with_price(store: BarStore, symbol: str, moment: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """A symbol's bars that open before ``until``, from far enough back that one opens before ``moment`` if any does."""
    recent = store.between(symbol, moment - _HISTORY, until)
    if len(recent) and recent["timestamp"].iloc[0] < moment:
        return recent
    return store.between(symbol, _EVER, until)
