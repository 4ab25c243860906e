"""What a report says, before it is known in which form: facts, sections, paragraphs and tables of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A column's heading, and whether its cells are numbers (set to the right)."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text under a caption. A table without rows is not made: the section says why in words."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Fact:
    """One of the few figures at the head of a report."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, points, figures by name and tables, in this order."""

    key: str
    title: str
    text: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class ReportContext:
    """A whole report.

    Parameters
    ----------
    title, subtitle
        Head of the report.
    notices
        What a reader must know before any figure.
    facts
        Key figures.
    sections
        The report's body, the most urgent first.
    captions
        Caption of each figure by name.
    html_name
        File name of the form with figures, named in the form without.
    footer
        Which run wrote it.
    pages
        Text and address of pages that belong with this one.
    links
        Address by the text of a table's cell that leads there.
    """

    title: str
    subtitle: str
    notices: tuple[str, ...]
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    captions: dict[str, str]
    html_name: str
    footer: str
    pages: tuple[tuple[str, str], ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    limit: int | None = None,
    note: str = "",
) -> tuple[Table, ...]:
    """A table, or nothing at all where there are no rows; ``#`` ahead of a title makes a column of numbers.

    Parameters
    ----------
    caption
        What the rows are.
    columns
        Titles.
    rows
        Cells as text.
    limit
        Rows shown; the note says how many are left out.
    note
        Said below the table.
    """
    every = [tuple(row) for row in rows]
    if not every:
        return ()
    left_out = len(every) - limit if limit is not None and len(every) > limit else 0
    notes = [note, f"{left_out} more not shown." if left_out else ""]
    heads = tuple(Column(title.removeprefix("#"), title.startswith("#")) for title in columns)
    return (Table(caption, heads, tuple(every[:limit]), " ".join(text for text in notes if text)),)
