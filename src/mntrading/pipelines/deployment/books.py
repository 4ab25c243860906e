"""A book as stored artefacts have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from mntrading.core.portfolio import Book, Holding, Unsent
from mntrading.core.types import Pair


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
