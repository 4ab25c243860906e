"""Both forms of a report: complete, self-contained, escaped, deterministic."""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from mntrading.reporting.context import Fact, ReportContext, Section, table
from mntrading.reporting.figures import draw
from mntrading.reporting.formats import chance, decimal, moment, p_value, percent, quantity
from mntrading.reporting.render import markdown_text, render_html, render_markdown
from mntrading.reporting.sections import latest_context, research_context

HOSTILE = "<script>alert(1)</script>|`[x](javascript:1)"


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def without_library(page):
    packed = re.findall(r'(?s)<script type="text/plain" id="library">(.*?)</script>', page)
    assert [gzip.decompress(base64.b64decode(one)).decode() for one in packed] == [get_plotlyjs()]
    return page.replace(packed[0], "")


@pytest.fixture
def page(research, live):
    return render_html(latest_context(research, live, "report.html"), draw(research))


def test_html_asks_for_nothing_outside(page):
    for tag, attributes in Page(page).tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base", "form"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    ours = without_library(page)
    assert "://" not in ours
    assert "url(" not in ours
    assert "@import" not in ours
    assert "default-src 'none'" in ours


def test_html_is_below_five_megabytes(page):
    assert len(page.encode()) < 5_000_000


def test_html_has_each_figure_in_its_place(page):
    places = {attributes.get("id") for _, attributes in Page(page).tags}
    assert {f"figure-{name}" for name in ("equity", "folds", "pair", "screening_heat_map", "pair_network")} <= places


def test_every_content_link_leads_somewhere(page):
    tags = Page(page).tags
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    links = {attributes["href"].removeprefix("#") for tag, attributes in tags if tag == "a"}
    assert links
    assert links <= ids


def test_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in Page(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_without_figures_has_no_library(nothing):
    page = render_html(research_context(nothing, "report.html"), {})
    assert len(page) < 60_000
    assert "<script" not in page


def test_same_inputs_give_the_same_bytes(research, live):
    context, drawn = latest_context(research, live, "report.html"), draw(research)
    assert render_html(context, drawn) == render_html(context, draw(research))
    assert render_markdown(context, drawn) == render_markdown(context, drawn)


def test_hostile_text_is_shown_and_not_obeyed(research, live):
    signal = {**live.signals[0], "pair_id": HOSTILE, "reason": HOSTILE}
    orders = {**live.orders, "refused": {HOSTILE: HOSTILE}}
    entry = {**research.registry["rejected"][0], "pair_id": HOSTILE, "reasons": [HOSTILE]}
    tests = research.tests.replace("AAA/USDT", f"{HOSTILE}/USDT")
    row = {**research.live_screen["pairs"][0], "dependent": f"{HOSTILE}/USDT", "reason": HOSTILE}
    screens = {name: {**document, "pairs": [row]} for name, document in research.screens.items()}
    hostile = replace(
        research,
        source=HOSTILE,
        tests=tests,
        screens=screens,
        registry={**research.registry, "rejected": [entry]},
        run={**research.run, "parameters": {HOSTILE: HOSTILE}, "revision": HOSTILE},
        best=replace(research.best, pair_id=HOSTILE, trades=research.best.trades.assign(reason=HOSTILE)),
        reporting=research.reporting.model_copy(update={"title": HOSTILE}),
    )
    context = latest_context(hostile, replace(live, signals=(signal,), orders=orders), "report.html")
    page = render_html(context, draw(hostile))
    assert "<script>alert" not in page
    assert HOSTILE in Page(page).text
    assert [tag for tag, _ in Page(page).tags].count("script") == 2
    text = render_markdown(context, draw(hostile))
    assert "<" not in text
    assert not re.search(r"(?<!\\)\[x", text)


def test_hostile_text_does_not_change_a_markdown_table(research, live):
    signal = {**live.signals[0], "reason": "a | b\n| c | d"}
    text = render_markdown(latest_context(research, replace(live, signals=(signal,)), "report.html"), ())
    rows = [line for line in text.splitlines() if line.startswith("| AAA-USDT__BBB-USDT | enter")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 9


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("AAA-USDT__BBB-USDT", "AAA-USDT__BBB-USDT"),
        ("fold_00", "fold_00"),
        ("_loud_ *voice*", r"\_loud\_ \*voice\*"),
        ("P&L", "P&L"),
        ("&lt;", "&amp;lt;"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_shows_text_as_it_is(given, shown):
    assert markdown_text(given) == shown


def test_both_forms_say_the_same(research, live):
    context, drawn = latest_context(research, live, "report.html"), draw(research)
    page, text = Page(render_html(context, drawn)).text, render_markdown(context, drawn)
    for name in drawn:
        assert context.captions[name] in page
        assert markdown_text(context.captions[name]) in text
    for section in context.sections:
        for said in (section.title, *section.text, *section.points):
            assert " ".join(said.split()) in page
            assert markdown_text(said) in text
        for shown in section.tables:
            for cell in (shown.caption, *(cell for row in shown.rows for cell in row)):
                assert " ".join(cell.split()) in page
                assert markdown_text(cell) in text


def test_markdown_names_the_file_with_the_figures(research):
    assert "`somewhere.html`" in render_markdown(research_context(research, "somewhere.html"), ["equity"])


def test_markdown_says_nothing_of_figures_that_are_not_drawn(research):
    text = render_markdown(research_context(research, "somewhere.html"), ())
    assert "Figure" not in text
    assert "somewhere.html" not in text


def test_smallest_possible_report_renders():
    context = ReportContext("T", "S", (), (Fact("A", "1"),), (Section("x", "X"),), {}, "x.html", "run 1")
    assert render_markdown(context, ()).startswith("# T\n")
    assert "<h2>X</h2>" in render_html(context, {})


def test_a_table_says_how_many_rows_it_leaves_out():
    (shown,) = table("C", ("A", "#B"), [(str(i), "1") for i in range(5)], limit=3, note="Note.")
    assert len(shown.rows) == 3
    assert shown.note == "Note. 2 more not shown."
    assert [(column.title, column.number) for column in shown.columns] == [("A", False), ("B", True)]


def test_a_table_without_rows_is_no_table():
    assert table("C", ("A",), []) == ()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.12345), "12.3%"),
        (percent(-0.00001), "0.0%"),
        (percent(None), "–"),
        (percent(float("nan")), "–"),
        (decimal(1234.5), "1,234.50"),
        (decimal(-0.001), "0.00"),
        (decimal(float("inf")), "–"),
        (chance(1.0), ">99.9%"),
        (chance(0.0), "<0.1%"),
        (chance(0.5), "50.0%"),
        (p_value(1.04e-12), "1e-12"),
        (p_value(0.0594), "0.0594"),
        (p_value(0.2), "0.20"),
        (quantity(31917.300000000003), "31,917.3"),
        (quantity(0.320224), "0.320224"),
        (moment("2024-01-01T00:00:00+02:00"), "2023-12-31 22:00"),
        (moment(None), "–"),
    ],
)
def test_figures_are_shown_with_few_digits(shown, expected):
    assert shown == expected
