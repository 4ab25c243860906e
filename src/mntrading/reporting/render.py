"""A report's context as Markdown, and as one HTML file with its figures that needs nothing else."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Final

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from mntrading.reporting.context import ReportContext
from mntrading.reporting.style import CONFIG

_TONES: Final = {
    "buy": "up",
    "sell": "down",
    "enter": "strong",
    "exit": "strong",
    "champion": "good",
    "rejected": "quiet",
    "left": "quiet",
}
_MARKDOWN_SPECIAL: Final = re.compile(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))")


def render_markdown(context: ReportContext, figures: Collection[str]) -> str:
    """The report as Markdown, with the captions of its figures in their place. The same context gives the same text.

    Parameters
    ----------
    context
        What the report says.
    figures
        Names of the figures that are drawn in the other form.
    """
    return _environment().get_template("report.md.j2").render(report=context, figures=figures).rstrip() + "\n"


def render_html(context: ReportContext, figures: Mapping[str, go.Figure]) -> str:
    """The report as one HTML page: styles, figures and the plotting library, packed, inside; no address outside.

    Parameters
    ----------
    context
        What the report says. Every text is escaped.
    figures
        By the names that sections use; a name without figure is passed over.
    """
    return _page("report.html.j2", context, dict(sorted(figures.items())))


def render_sheet(
    context: ReportContext,
    figures: Mapping[str, go.Figure],
    *,
    halves: Collection[str] = (),
    ways: Sequence[tuple[str, str]] = (),
) -> str:
    """A tear sheet as one HTML page that needs nothing else, with the plotting library packed so that it stays small.

    Parameters
    ----------
    context, figures
        As for ``render_html``.
    halves
        Names of figures that stand side by side where there is room.
    ways
        Text and address of what belongs with the page.
    """
    shown = [name for name in halves if name in figures]
    return _page("tear_sheet.html.j2", context, figures, halves=shown, ways=ways)


def _page(template: str, context: ReportContext, figures: Mapping[str, go.Figure], **more: object) -> str:
    drawn = {name: Markup(figure.to_json()) for name, figure in figures.items()}  # noqa: S704 - plotly escapes <, > and /
    library = _packed_library() if drawn else ""
    page = _environment().get_template(template)
    return page.render(report=context, figures=drawn, config=CONFIG, library=library, **more).rstrip() + "\n"


@cache
def _packed_library() -> str:
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode()


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table: no markup, no HTML, one line."""
    plain = re.sub(r"\s+", " ", text).strip()
    escaped = _MARKDOWN_SPECIAL.sub(r"\\\1", plain)
    return re.sub(r"&(?=#?\w+;)", "&amp;", escaped).replace("<", "&lt;")


def linked(text: str, links: Mapping[str, str]) -> Markup:
    """Text as ``breakable`` has it, leading to its address where it has one."""
    shown = breakable(text)
    return Markup('<a href="{}">{}</a>').format(links[text], shown) if text in links else shown


def breakable(text: str) -> Markup:
    """Text escaped, with leave to break a line between the legs of a pair."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=__)", text))


def tone(cell: str) -> str:
    """Style class of a cell that is one of a few telling words; empty for any other."""
    return _TONES.get(cell, "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mntrading.reporting"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markdown": markdown_text, "tone": tone, "linked": linked}
    return environment
