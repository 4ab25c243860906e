"""A tear sheet as one picture, drawn without a browser. The same sheet gives the same bytes."""

from __future__ import annotations

import io
import textwrap
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.reporting import style
from mntrading.reporting.context import Fact, Table
from mntrading.reporting.panels import (
    BarPanel,
    HeatPanel,
    HistogramPanel,
    Marks,
    Panel,
    ScatterPanel,
    Stack,
    TimePanel,
    WaterfallPanel,
    spaced,
)
from mntrading.reporting.tear_sheets import TearSheet

WIDTH: Final = 1600
"""Of the picture, in pixels."""

_DPI: Final = 100
_SIDE: Final = 78
_RIGHT: Final = 40
_BETWEEN: Final = 84
_PANEL: Final = 138
_GAP: Final = 44
_HALF: Final = 290.0
_ROW: Final = 27
_FACTS_A_ROW: Final = 8
_MARKERS: Final = {"up": "^", "down": "v", "exit": "o"}
_STYLES: Final[dict[str, Any]] = {"solid": "-", "dash": (0, (5, 3)), "dot": (0, (1.2, 2.2))}
_ONE_AT_A_TIME: Final = threading.Lock()
"""Matplotlib keeps its settings and fonts for the whole process."""

_SETTINGS: Final[dict[str, Any]] = {
    "timezone": "UTC",  # no default resets it
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": style.INK,
    "axes.edgecolor": style.GRID,
    "axes.labelcolor": style.MUTED,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.titlecolor": style.INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": style.GRID,
    "grid.linewidth": 0.8,
    "xtick.color": style.MUTED,
    "ytick.color": style.MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.6,
    "text.parse_math": False,  # a dollar sign is a dollar sign
}


def sheet_png(sheet: TearSheet) -> bytes:
    """One page of ``WIDTH`` pixels: title, figures, every panel, and the table of windows.

    Matplotlib's Agg draws it, whatever backend and settings the process has; nothing in the bytes tells when.
    """
    import matplotlib as mpl

    with _ONE_AT_A_TIME, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        return _drawn(sheet)


class _Page:
    """A figure that is filled from the top, in pixels."""

    def __init__(self, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height, self.at = height, 0.0
        self.figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor=style.PAPER)
        self.canvas = FigureCanvasAgg(self.figure)

    def text(self, x: float, down: float, text: str, **options: Any) -> None:
        """Text on a line whose top is so far below the place reached."""
        y = 1 - (self.at + down + options["fontsize"] * _DPI / 72) / self.height
        self.figure.text(x / WIDTH, y, text, va="baseline", **options)

    def line(self, down: float) -> None:
        """A fine line across the page."""
        from matplotlib.lines import Line2D

        y = 1 - (self.at + down) / self.height
        ends = [_SIDE / WIDTH, 1 - _RIGHT / WIDTH]
        self.figure.add_artist(Line2D(ends, [y, y], color=style.GRID, linewidth=1))

    def axes(self, left: float, down: float, width: float, height: float, **options: Any) -> Any:
        """Axes whose top is so far below the place reached."""
        bottom = 1 - (self.at + down + height) / self.height
        return self.figure.add_axes((left / WIDTH, bottom, width / WIDTH, height / self.height), **options)


def _drawn(sheet: TearSheet) -> bytes:
    blocks = [_head(sheet), *_panel_blocks(sheet), *_table_blocks(sheet.table), _foot(sheet)]
    page = _Page(sum(height for height, _ in blocks))
    for height, draw in blocks:
        draw(page)
        page.at += height
    sink = io.BytesIO()
    page.canvas.print_png(sink, metadata={"Software": None}, pil_kwargs={"compress_level": 6})
    return sink.getvalue()


Block = tuple[float, Callable[[_Page], None]]


# ------------------------------------------------------------------------------------------ words


def _head(sheet: TearSheet) -> Block:
    """Title, what it is of, notices, and the figures."""
    context = sheet.context
    subtitle = textwrap.wrap(context.subtitle, 175)
    said = [line for notice in context.notices for line in textwrap.wrap(notice, 175)]
    if not sheet.panels or not context.facts:
        said += [line for section in context.sections[:1] for text in section.text for line in textwrap.wrap(text, 175)]
    rows = [context.facts[i : i + _FACTS_A_ROW] for i in range(0, len(context.facts), _FACTS_A_ROW)]
    height = 112 + 21 * len(subtitle) + 21 * len(said) + 96 * len(rows)

    def draw(page: _Page) -> None:
        page.text(_SIDE, 36, context.title, fontsize=22, fontweight="bold")
        down = 82.0
        for line in subtitle:
            page.text(_SIDE, down, line, fontsize=11, color=style.MUTED)
            down += 21
        for line in said:
            page.text(
                _SIDE,
                down + 4,
                line,
                fontsize=10.5,
                color="#8a5a12" if line in _noticed(context.notices) else style.INK,
            )
            down += 21
        for row in rows:
            _facts(page, row, down + 18)
            down += 96

    return height, draw


def _noticed(notices: Iterable[str]) -> set[str]:
    return {line for notice in notices for line in textwrap.wrap(notice, 175)}


def _facts(page: _Page, facts: Sequence[Fact], down: float) -> None:
    width = (WIDTH - _SIDE - _RIGHT) / _FACTS_A_ROW
    page.line(down)
    for i, fact in enumerate(facts):
        left = _SIDE + i * width
        page.text(left, down + 10, fact.label, fontsize=9.2, color=style.MUTED)
        page.text(left, down + 28, fact.value, fontsize=16, fontweight="bold")
        for n, line in enumerate(textwrap.wrap(textwrap.shorten(fact.note, 52, placeholder=" …"), 28)[:2]):
            page.text(left, down + 54 + 15 * n, line, fontsize=8.6, color=style.MUTED)


def _foot(sheet: TearSheet) -> Block:
    lines = textwrap.wrap(sheet.context.footer, 190)

    def draw(page: _Page) -> None:
        for n, line in enumerate(lines):
            page.text(_SIDE, 20 + 18 * n, line, fontsize=9, color=style.MUTED)

    return 42 + 18 * len(lines), draw


def _table_blocks(tables: Sequence[Table]) -> list[Block]:
    return [_table(one) for one in tables]


def _table(table: Table) -> Block:
    """A table as wide as the page; as many rows as a page can bear."""
    most = 24
    rows = table.rows if len(table.rows) <= most else (*table.rows[: most - 1], table.rows[-1])
    left_out = len(table.rows) - len(rows)
    notes = textwrap.wrap(" ".join([table.note, f"{left_out} rows not shown." if left_out else ""]).strip(), 200)
    widths = np.array(
        [max(len(column.title), *(len(row[i]) for row in rows)) + 2.5 for i, column in enumerate(table.columns)]
    )
    inside = WIDTH - _SIDE - _RIGHT
    edges = _SIDE + np.concatenate([[0.0], np.cumsum(widths / widths.sum() * inside)])

    def draw(page: _Page) -> None:
        page.text(_SIDE, 6, table.caption, fontsize=11, fontweight="bold")
        down = 34.0
        for cells, colour in [
            (tuple(column.title for column in table.columns), style.MUTED),
            *((row, style.INK) for row in rows),
        ]:
            for (low, high), column, cell, before in zip(
                pairwise(edges), table.columns, cells, [False, *(one.number for one in table.columns[:-1])], strict=True
            ):
                x, align = (high - 6, "right") if column.number else (low + 16 * before, "left")
                page.text(float(x), down, cell, fontsize=9.5, color=colour, ha=align)
            page.line(down + 20)
            down += _ROW
        for n, line in enumerate(notes):
            page.text(_SIDE, down + 2 + 17 * n, line, fontsize=9, color=style.MUTED)

    return 34 + _ROW * (len(rows) + 1) + 17 * len(notes) + 12, draw


# ----------------------------------------------------------------------------------------- panels


def _panel_blocks(sheet: TearSheet) -> list[Block]:
    """The sheet's rows from the top, panels that it has not left out."""
    out: list[Block] = []
    named = any(panel.levels for one in sheet.panels.values() if isinstance(one, Stack) for panel in one.panels)
    for row in sheet.rows:
        panels = [sheet.panels[name] for name in row if name in sheet.panels]
        if panels and isinstance(panels[0], Stack):
            out.append(_stack(panels[0], 52 if named else 0))
        elif panels:
            out.append(_side_by_side(panels))
    return out


def _stack(stack: Stack, beside: float) -> Block:
    """Panels one above the other, with some room beside them for the names of levels."""
    heights = [_PANEL * panel.weight for panel in stack.panels]
    legend = any(panel.marks for panel in stack.panels)
    height = sum(heights) + _GAP * len(heights) + 26

    def draw(page: _Page) -> None:
        down = 30.0
        width = WIDTH - _SIDE - _RIGHT - beside
        for number, (panel, tall) in enumerate(zip(stack.panels, heights, strict=True)):
            axes = page.axes(_SIDE, down, width, tall)
            _time_panel(axes, panel, stack, last=number == len(heights) - 1)
            if legend and panel.marks:
                _mark_legend(axes, panel)
            down += tall + _GAP

    return height, draw


def _time_panel(axes: Any, panel: TimePanel, stack: Stack, *, last: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_title(panel.title, y=1.0)
    axes.set_xlim(_naive(stack.span[0]), _naive(stack.span[1]))
    if panel.band:
        axes.axhspan(*panel.band, color=style.NOT_SIGNIFICANT, alpha=0.35, linewidth=0, zorder=0)
    for start in stack.starts:
        axes.axvline(_naive(start), color=style.MUTED, linewidth=0.8, linestyle=_STYLES["dot"], alpha=0.5, zorder=1)
    for level in panel.levels:
        for start, end, height in level.stretches:
            axes.plot([_naive(start), _naive(end)], [height, height], color=level.colour, linewidth=0.9, alpha=0.75,
                      linestyle=_STYLES[level.dash], zorder=3)  # fmt: skip
        if level.stretches:
            axes.annotate(level.name, (1, level.stretches[-1][2]), xycoords=("axes fraction", "data"), xytext=(5, 0),
                          textcoords="offset points", va="center", fontsize=8.6, color=level.colour)  # fmt: skip
    drawn = [line for line in panel.lines if len(line.values)]
    for line in drawn:
        times = _naive_index(pd.DatetimeIndex(line.values.index))
        values = line.values.to_numpy(dtype=np.float64)
        if line.filled:
            axes.fill_between(times, values, 0.0, color=line.colour, alpha=0.13, linewidth=0)
        axes.plot(times, values, color=line.colour, linewidth=line.width, linestyle=_STYLES[line.dash],
                  label=line.name, zorder=2)  # fmt: skip
    for marks in panel.marks:
        axes.scatter(_naive_index(marks.times), marks.values, zorder=4, **_marker(marks))
    if panel.bounds:
        axes.set_ylim(*panel.bounds)
    elif drawn and min(float(one.values.min()) for one in drawn) <= 0 <= max(float(one.values.max()) for one in drawn):
        axes.axhline(0, color=style.MUTED, linewidth=0.8, zorder=1)
    if panel.form == "percent":
        axes.yaxis.set_major_formatter(_percent)
    if not drawn:
        _say(axes, panel.empty)
    if len(drawn) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(drawn), borderaxespad=0.1)
    locator = AutoDateLocator(minticks=5, maxticks=12)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if not last:
        axes.tick_params(labelbottom=False)
        axes.xaxis.get_offset_text().set_visible(False)


def _marker(marks: Marks) -> dict[str, Any]:
    return {
        "marker": _MARKERS[marks.symbol],
        "s": 16 if marks.symbol == "exit" else 34,
        "facecolors": marks.colour if marks.filled else "#ffffff",
        "edgecolors": marks.colour,
        "linewidths": 1.0,
    }


def _mark_legend(axes: Any, panel: TimePanel) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=_MARKERS[marks.symbol], markersize=4.5 if marks.symbol == "exit" else 6,
               markerfacecolor=marks.colour if marks.filled else "#ffffff", markeredgecolor=marks.colour,
               label=marks.name)
        for marks in panel.marks
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(handles), borderaxespad=0.1,
                handletextpad=0.1, columnspacing=1.2)  # fmt: skip


def _side_by_side(panels: Sequence[Panel]) -> Block:
    """Panels of one row, as high as the highest of them, each with room for the names at its left."""
    n = len(panels)
    width = (WIDTH - _SIDE - _RIGHT - _BETWEEN * (n - 1)) / n
    tall = [_tall(panel) for panel in panels]
    over = 62 if isinstance(panels[0], HeatPanel) else 40
    under = 22 if isinstance(panels[0], HeatPanel) else 70

    def draw(page: _Page) -> None:
        for i, panel in enumerate(panels):
            names = _names_of(panel)
            wide = max(7.2 * max(len(name) for name in names) - 60, 0.0) if names else 0.0
            _one(page.axes(_SIDE + i * (width + _BETWEEN) + wide, over, width - wide, tall[i]), panel)

    return over + max(tall) + under, draw


def _tall(panel: Panel) -> float:
    if isinstance(panel, HeatPanel):
        return 40.0 * len(panel.rows)
    if isinstance(panel, BarPanel) and panel.horizontal:
        return max(24.0 * len(panel.labels), 60.0)
    return _HALF


def _names_of(panel: Panel) -> tuple[str, ...]:
    """What stands at the left of a panel in words."""
    if isinstance(panel, HeatPanel):
        return panel.rows
    return panel.labels if isinstance(panel, BarPanel) and panel.horizontal else ()


def _one(axes: Any, panel: Panel) -> None:
    if isinstance(panel, HeatPanel):
        _heat(axes, panel)
    elif isinstance(panel, WaterfallPanel):
        _waterfall(axes, panel)
    elif isinstance(panel, BarPanel):
        _bars(axes, panel)
    elif isinstance(panel, HistogramPanel):
        _histogram(axes, panel)
    elif isinstance(panel, ScatterPanel):
        _scatter(axes, panel)


def _heat(axes: Any, panel: HeatPanel) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("house", list(style.DIVERGING))
    n = len(panel.columns)
    place = np.array([*range(n - 1), n - 0.75])
    axes.grid(False)
    axes.set_frame_on(False)
    for part in (range(n - 1), range(n - 1, n)):
        reach = panel.reach(slice(part.start, part.stop))
        for column in part:
            for row, value in enumerate(panel.values[:, column]):
                if np.isnan(value):
                    continue
                shade = colours(float(np.clip(0.5 + value / reach / 2, 0, 1)))
                axes.add_patch(_box(place[column] - 0.48, row - 0.46, 0.96, 0.92, shade))
                axes.text(place[column], row, _signed(f"{value:+.2%}"), ha="center", va="center", fontsize=10)
    axes.set_xlim(-0.5, n - 0.25)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.set_xticks(place, panel.columns)
    axes.set_yticks(range(len(panel.rows)), list(panel.rows))
    axes.xaxis.tick_top()
    axes.set_title(panel.title, y=1.0, pad=24)


def _box(x: float, y: float, width: float, height: float, colour: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=colour, linewidth=0)


def _waterfall(axes: Any, panel: WaterfallPanel) -> None:
    last = len(panel.steps) - 1
    level = 0.0
    reach = max(abs(step) for step in panel.steps) or 1.0
    for i, step in enumerate(panel.steps):
        whole = i in (0, last)
        low = 0.0 if whole else level
        colour = style.CHAMPIONS if whole else style.LONG if step > 0 else "#c9776c"
        axes.bar(i, step, bottom=low, width=0.62, color=colour)
        end = low + step
        text = _signed(f"{step:.{panel.digits}%}" if whole else f"{step:+.{panel.digits}%}")
        down = step < 0
        axes.annotate(text, (i, end), xytext=(0, -4 if down else 4), textcoords="offset points", ha="center",
                      va="top" if down else "bottom", fontsize=10)  # fmt: skip
        if i < last:
            axes.plot([i + 0.31, i + 1 - 0.31], [end, end], color=style.MUTED, linewidth=0.8)
        level = end
    axes.axhline(0, color=style.MUTED, linewidth=0.8)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom - (0.1 * reach if bottom < 0 else 0), top + 0.1 * reach)
    axes.set_xticks(range(last + 1), panel.labels)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(_percent)
    axes.set_title(panel.title, y=1.0)


def _bars(axes: Any, panel: BarPanel) -> None:
    n = len(panel.labels)
    above, below = np.zeros(n), np.zeros(n)
    place = np.arange(n)
    for one in panel.bars:
        base = np.where(one.values >= 0, above, below)
        if panel.horizontal:
            axes.barh(place, one.values, left=base, height=0.66, color=one.colour, label=one.name)
        else:
            axes.bar(place, one.values, bottom=base, width=0.66, color=one.colour, label=one.name)
        above, below = above + np.maximum(one.values, 0), below + np.minimum(one.values, 0)
    if panel.total is not None:
        axes.scatter(
            place, panel.total.values, marker="D", s=34, color=panel.total.colour, label=panel.total.name, zorder=4
        )
    names = list(panel.labels)
    if panel.horizontal:
        axes.set_yticks(place, names, fontsize=9)
        axes.set_ylim(n - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.axvline(0, color=style.MUTED, linewidth=0.8)
        axes.xaxis.set_major_formatter(_percent)
    else:
        shown = spaced(n)
        axes.set_xticks(place[shown], [names[i] for i in shown])
        axes.grid(False, axis="x")
        axes.axhline(0, color=style.MUTED, linewidth=0.8)
        axes.yaxis.set_major_formatter(_percent)
    axes.set_title(panel.title, y=1.0)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.01, -26 / _tall(panel)), ncols=6, borderaxespad=0.1)


def _histogram(axes: Any, panel: HistogramPanel) -> None:
    middles = (panel.edges[:-1] + panel.edges[1:]) / 2
    width = float(panel.edges[1] - panel.edges[0])
    colours = [style.LONG if middle > 0 else style.SHORT for middle in middles]
    axes.bar(middles, panel.counts, width=width * 0.94, color=colours, alpha=0.75)
    if panel.curve is not None:
        axes.plot(
            middles, panel.curve, color=style.INK, linewidth=1.2, linestyle=_STYLES["dash"], label="normal distribution"
        )
        axes.legend(loc="upper left")
    axes.axvline(0, color=style.MUTED, linewidth=0.9)
    if panel.middle is not None:
        name, at = panel.middle
        axes.axvline(at, color=style.INK, linewidth=1, linestyle=_STYLES["dot"])
        axes.set_ylim(0, float(panel.counts.max()) * 1.14)
        axes.annotate(_signed(f"{name} {at:+.{panel.digits + 1}%}"), (at, 1), xycoords=("data", "axes fraction"),
                      xytext=(4, -3), textcoords="offset points", va="top", fontsize=9.5)  # fmt: skip
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel(panel.unit)
    axes.set_ylabel(f"{panel.noun.capitalize()}s")
    axes.grid(False, axis="x")
    axes.set_title(panel.title, y=1.0)


def _scatter(axes: Any, panel: ScatterPanel) -> None:
    for cloud in panel.clouds:
        axes.scatter(cloud.x, cloud.y, s=26, color=cloud.colour, alpha=0.75, linewidths=0, label=cloud.name)
    axes.axhline(0, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(_percent)
    axes.set_xlabel(panel.x_title)
    axes.set_ylabel(panel.y_title)
    axes.set_title(panel.title, y=1.0)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -46 / _HALF), ncols=5, borderaxespad=0.1, handletextpad=0.1,
        columnspacing=1.2,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------- shared


def _say(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=style.MUTED)
    axes.set_yticks([])


def _percent(value: float, _: object = None) -> str:
    """A tick in per cent with the decimals it has."""
    return _signed(f"{value * 100:.6g}%")


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _naive(moment: pd.Timestamp) -> Any:
    return moment.tz_convert("UTC").tz_localize(None).to_datetime64()


def _naive_index(index: pd.DatetimeIndex) -> Any:
    return index.tz_convert("UTC").tz_localize(None).to_numpy()
