"""The fields of a form as Streamlit draws them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import streamlit as st

from mntrading.apps.dashboard.forms import Entry, Path, shown


def form(pipeline: str, entries: Sequence[Entry]) -> dict[Path, Any]:
    """Draw the fields, a tab a block, and give what was entered by path."""
    if not entries:
        st.caption("This pipeline takes no parameters.")
        return {}
    blocks: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        blocks[entry.path[0]].append(entry)
    entered: dict[Path, Any] = {}
    for tab, (_, found) in zip(st.tabs([_title(name) for name in blocks]), blocks.items(), strict=True):
        with tab:
            entered |= _block(pipeline, found)
    return entered


def _block(pipeline: str, entries: Sequence[Entry]) -> dict[Path, Any]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.group].append(entry)
    entered = {}
    for group, found in groups.items():
        if group:
            st.markdown(f"**{_title(group)}**")
        for start in range(0, len(found), 3):
            for column, entry in zip(st.columns(3), found[start : start + 3], strict=False):
                with column:
                    entered[entry.path] = field(pipeline, entry)
    return entered


def field(pipeline: str, entry: Entry) -> Any:
    """One field; what stands in it."""
    key = f"{pipeline}/{'/'.join(entry.path)}"
    if entry.kind == "boolean" and not entry.nullable:
        return st.toggle(entry.label, bool(entry.value), key=key, help=entry.help)
    if entry.kind in ("choice", "boolean"):
        options = list(entry.choices) if entry.kind == "choice" else [True, False]
        options += [None] if entry.nullable and None not in options else []
        at = options.index(entry.value) if entry.value in options else 0
        return st.selectbox(entry.label, options, at, key=key, help=entry.help, format_func=_word)
    if entry.kind == "choices":
        return st.multiselect(entry.label, list(entry.choices), list(entry.value or ()), key=key, help=entry.help)
    if entry.kind in ("integer", "number"):
        return _number(entry, key)
    return st.text_input(entry.label, shown(entry) or "", key=key, help=entry.help)


def _number(entry: Entry, key: str) -> Any:
    told = "none" if entry.nullable else None
    if entry.kind == "integer":
        low, high, value = (None if one is None else int(one) for one in (entry.low, entry.high, entry.value))
        return st.number_input(
            entry.label, low, high, value, 1, key=key, help=entry.help, placeholder=told
        )  # fmt: skip
    least, most, now = (None if one is None else float(one) for one in (entry.low, entry.high, entry.value))
    return st.number_input(
        entry.label, least, most, now, _step(now), "%g", key=key, help=entry.help, placeholder=told
    )  # fmt: skip


def _step(value: float | None) -> float:
    """A step of about a tenth of the value."""
    size = abs(value or 1.0)
    return 10.0 ** len(f"{int(size)}") / 100.0 if size >= 1 else float(f"{size / 10:.0e}") or 0.01


def _word(value: Any) -> str:
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
