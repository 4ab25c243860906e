"""How every page shows things: figures in the theme, facts, tables, what is missing and what went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from mntrading.apps.catalog import Entry
from mntrading.apps.dashboard.client import ApiError
from mntrading.apps.dashboard.store import Store
from mntrading.core.errors import MNTradingError
from mntrading.reporting import style
from mntrading.reporting.context import Fact, Section, Table
from mntrading.reporting.panels import Panel
from mntrading.reporting.performance_figures import panel_figure

RUN_PAGE = "views/run.py"
_CONFIG = {**style.CONFIG, "scrollZoom": False}
_LEVELS = {"error": ("red", "error"), "warning": ("orange", "warning"), "ok": ("green", "check_circle")}


def is_dark() -> bool:
    """Whether the page is dark now."""
    return st.context.theme.type == "dark"


def figure(drawn: go.Figure, key: str, caption: str = "") -> None:
    """A figure in the page's theme, with what a reader must know of it below.

    Parameters
    ----------
    drawn
        The figure; ``layout.meta.min_width`` makes a narrower page scroll it sideways.
    key
        Name of its place on the page.
    caption
        A sentence or two.
    """
    narrowest = (drawn.layout.meta or {}).get("min_width")
    themed = style.dark(drawn) if is_dark() else drawn
    with st.container(key=f"wide-{key}" if narrowest else f"plot-{key}"):
        st.plotly_chart(themed, theme=None, key=key, config=_CONFIG)
    if caption:
        st.caption(plain(caption))


def panel(shown: Panel, key: str, caption: str = "") -> None:
    """A panel of the tear sheets as a figure."""
    figure(panel_figure(shown), key, caption)


def facts(found: Sequence[Fact]) -> None:
    """Key figures as cards: four in a row where there is room, two on a phone."""
    cards = "".join(
        f'<div class="mnt-fact"><div class="mnt-label">{escape(fact.label)}</div>'
        f'<div class="mnt-value">{escape(fact.value)}</div><div class="mnt-note">{escape(fact.note)}</div></div>'
        for fact in found
    )
    st.html(f'<div class="mnt-facts">{cards}</div>')


def section(found: Section, *, title: bool = True) -> None:
    """A report's section without its figures: words, points and tables."""
    if title:
        st.subheader(found.title, anchor=False)
    for text in found.text:
        st.markdown(plain(text))
    if found.points:
        st.markdown("\n".join(f"- {plain(point)}" for point in found.points))
    tables(found.tables)


def tables(found: Iterable[Table]) -> None:
    """Tables of text as a report has them."""
    for one in found:
        st.markdown(f"**{plain(one.caption)}**")
        st.dataframe(
            pd.DataFrame([list(row) for row in one.rows], columns=_unique([column.title for column in one.columns])),
            hide_index=True,
            column_config={
                name: st.column_config.TextColumn(alignment="right" if column.number else "left")
                for name, column in zip(_unique([c.title for c in one.columns]), one.columns, strict=True)
            },
        )
        if one.note:
            st.caption(plain(one.note))


def rows(found: Sequence[Mapping[str, Any]], key: str, *, numbers: Mapping[str, str] | None = None) -> None:
    """Rows as a table.

    Parameters
    ----------
    found
        One mapping a row.
    key
        Name of its place on the page.
    numbers
        printf format by column.
    """
    config = {name: st.column_config.NumberColumn(format=text) for name, text in (numbers or {}).items()}
    st.dataframe(pd.DataFrame(list(found)), hide_index=True, key=key, column_config=config, placeholder="–")


def nothing(store: Store, *names: str) -> bool:
    """Whether something a page needs is not stored yet; it says then what makes it."""
    found = store.missing(*names)
    if not found:
        return False
    with st.container(border=True):
        st.markdown(f":material/hourglass_empty: **Nothing to show yet.** {_needed(found)}")
        to_run_page()
    return True


def to_run_page() -> None:
    """A link to the page with the buttons."""
    st.page_link(RUN_PAGE, label="Go to Run", icon=":material/play_circle:")


def _needed(found: Sequence[Entry]) -> str:
    names = ", ".join(entry.name.replace("_", " ") for entry in found[:4])
    commands = list(dict.fromkeys(entry.made_by for entry in found if entry.made_by))
    last = commands[-1].split(";")[0] if commands else "kedro run"
    return f"{plain(names[:1].upper() + names[1:])} will be here after **Full cycle** on the Run page, or `{last}`."


def problem(error: Exception) -> None:
    """What went wrong, for the person who has to solve it: no traceback, nothing secret."""
    if isinstance(error, ApiError):
        api_problem(error)
    elif isinstance(error, MNTradingError):
        st.error(plain(f"{error.where}: {error.what}" if error.where else error.what), icon=":material/error:")
        if error.fix:
            st.markdown(f"Next: `{error.fix}`")
        st.caption("While a run writes, parts of the storage can't be read; they can again once it has ended.")
    else:
        st.error(f"The storage can't be read ({type(error).__name__}).", icon=":material/error:")
        st.caption("The log of the dashboard says more. While a run replaces files this may happen once: load again.")


def api_problem(error: ApiError) -> None:
    """The API is down, does not know the token, or says no."""
    if error.kind == "down":
        st.warning(
            f"{plain(error.what)} Runs can't be started or watched; what is stored is shown all the same.",
            icon=":material/cloud_off:",
        )
    elif error.kind == "denied":
        st.warning(
            f"{plain(error.what)} Start both with the same one. What is stored is shown all the same.",
            icon=":material/key_off:",
        )
    else:
        st.error(plain(error.what), icon=":material/block:")
        for pointer, message in error.errors:
            st.markdown(f"- `{pointer.removeprefix('/parameters/').replace('/', '.')}`: {plain(message)}")
    if error.fix:
        st.markdown(f"Next: `{error.fix}`")


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it is."""
    for mark in ("\\", "*", "`", "[", "]", "$", "|", "~", "<", ">", "#", ":"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("_", "\\_")


def badge(text: str, colour: str) -> str:
    """A word in a coloured box, as Markdown."""
    return f":{colour}-badge[{plain(text)}]"


def simulated(source: str | None) -> None:
    """Say so where the bars are the simulator's."""
    if source is not None and source.startswith("simulator"):
        st.caption(
            ":material/science: Simulated market: its pairs were planted. The figures show that the machinery works "
            "and say nothing about real markets."
        )


def _unique(titles: Sequence[str]) -> list[str]:
    """Column titles, those that come twice told apart by spaces a reader does not see."""
    seen: dict[str, int] = {}
    out = []
    for title in titles:
        out.append(title + "\u200b" * seen.get(title, 0))
        seen[title] = seen.get(title, 0) + 1
    return out
