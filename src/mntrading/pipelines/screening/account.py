"""What the screens of a run found, as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import pandas as pd

from mntrading.core.screening import NOT_SIGNIFICANT, SELECTED
from mntrading.reporting.formats import plural

MAX_WIDTH = 120
_TESTED = "tested"
_PASSED = "passed"
_HEADS = ("fold", "formation end", "symbols", "pairs tested", "significant")
_OTHERS = "other gates"
_INDENT = "  "
_HEAD_WIDTH = 11  # a longer heading is broken into lines


def funnel_table(screens: Mapping[str, Mapping[str, Any]], roster: Mapping[str, Any]) -> list[str]:
    """One line per fold: from symbols to pairs tested, significant, stopped at each gate, and selected.

    Gates that stopped no pair in any fold have no column. Where lines would get longer than ``MAX_WIDTH``, the gates
    that stopped the fewest share a column, and a line below the table says which they are. Another one says where
    symbols of the newest fold stopped.

    Parameters
    ----------
    screens
        Documents of the folds' screens, in any order.
    roster
        Document of the roster: which pairs entered and left with each fold.
    """
    documents = sorted(screens.values(), key=lambda screen: pd.Timestamp(screen["formation_end"]))
    moves = {entry["name"]: (len(entry["entered"]), len(entry["left"])) for entry in roster["folds"]}
    stops = [_stopped(screen["funnel"]) for screen in documents]
    total = sum(stops, Counter[str]())
    gates = sorted(total, key=lambda why: (-total[why], why))
    lines, others = _fitting(documents, stops, gates, moves)
    notes = []
    if others:
        notes.append(f"{_OTHERS}, all folds: {_counts({why: total[why] for why in others})}")
    for screen in documents[-1:]:
        left_out = {why: n for why, n in screen["universe_funnel"].items() if n and why != _PASSED}
        if left_out:
            notes.append(f"symbols left out of {screen['fold']}: {_counts(left_out)}")
    below = [wrap(note, MAX_WIDTH, initial_indent=_INDENT, subsequent_indent=2 * _INDENT) for note in notes]
    return [f"screening: {plural(len(documents), 'fold')}", *lines, *(line for note in below for line in note)]


def _fitting(
    documents: Sequence[Mapping[str, Any]],
    stops: Sequence[Counter[str]],
    gates: Sequence[str],
    moves: Mapping[str, tuple[int, int]],
) -> tuple[list[str], Sequence[str]]:
    """The table with as many gates in columns of their own as there is room for, and the gates without one."""
    for n_own in range(len(gates), -1, -1):
        own, others = gates[:n_own], gates[n_own:]
        heads = [*_HEADS, *own, *([_OTHERS] if others else []), "selected", "entered", "left"]
        rows = []
        for screen, stopped in zip(documents, stops, strict=True):
            significant = sum(bool(row["significant"]) for row in screen["pairs"])
            at_others = [sum(stopped[why] for why in others)] if others else []
            counts = (
                screen["n_symbols"], screen["n_tests"], significant, *(stopped[why] for why in own), *at_others,
                screen["funnel"][SELECTED], *moves[screen["fold"]],
            )  # fmt: skip
            end = pd.Timestamp(screen["formation_end"])
            rows.append([screen["fold"], f"{end:%Y-%m-%d}", *(f"{n:,}" for n in counts)])
        lines = _table(heads, rows)
        if max(map(len, lines)) <= MAX_WIDTH:
            break
    return lines, others


def _stopped(funnel: Mapping[str, int]) -> Counter[str]:
    """Pairs by the gate they stopped at."""
    return Counter({why: n for why, n in funnel.items() if n and why not in (_TESTED, NOT_SIGNIFICANT, SELECTED)})


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{why} {n:,}" for why, n in sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns aligned, the first to the left and numbers to the right, headings on as many lines as they need."""
    broken = [wrap(head, _HEAD_WIDTH) for head in heads]
    depth = max(map(len, broken))
    above = zip(*([""] * (depth - len(lines)) + lines for lines in broken), strict=True)
    cells = [*above, *rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    return [
        _INDENT
        + _INDENT.join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
