"""How it would have traded: portfolios, what they cost, and how much of it hangs on one assumption."""

from __future__ import annotations

import streamlit as st

from mntrading.apps.dashboard import evidence, services, show
from mntrading.reporting.evidence import Research
from mntrading.reporting.performance_sections import (
    folds_section,
    lines_section,
    performance_section,
    robustness_section,
    scenario_names,
)
from mntrading.reporting.research_figures import neighbourhood_figure, scenarios_figure
from mntrading.reporting.rules import menu_figure, rules_section
from mntrading.reporting.tear_sheets import TearSheet


def main() -> None:
    """Draw the page."""
    store = services.store()
    if show.nothing(store, *evidence.SHEET, *evidence.RESEARCH):
        return
    research = evidence.research(store)
    show.simulated(research.source)
    for doubt in research.doubts:
        st.warning(show.plain(doubt), icon=":material/warning:")
    sheet = evidence.sheet_of_portfolio(store)
    show.facts(sheet.context.facts)
    tabs = st.tabs(["Equity", "Costs & P&L", "Windows", "Against doing less", "Robustness", "Rules"])
    with tabs[0]:
        _equity(sheet, research)
    with tabs[1]:
        _costs(sheet)
    with tabs[2]:
        show.section(folds_section(research), title=False)
    with tabs[3]:
        show.section(lines_section(research), title=False)
    with tabs[4]:
        _robustness(research)
    with tabs[5]:
        _rules(research)


def _equity(sheet: TearSheet, research: Research) -> None:
    first = next(section for section in sheet.context.sections if section.key == "performance")
    if "performance" not in sheet.panels:
        show.section(first, title=False)
        return
    captions = sheet.context.captions
    show.panel(sheet.panels["performance"], "performance", captions["performance"])
    show.panel(sheet.panels["monthly"], "monthly", captions["monthly"])
    with st.expander("What the lines are", icon=":material/info:"):
        show.section(first, title=False)
    with st.expander("All statistics", icon=":material/table:"):
        show.section(performance_section(research), title=False)


def _costs(sheet: TearSheet) -> None:
    captions = sheet.context.captions
    wide = [name for name in ("champion_costs", "roster_costs") if name in sheet.panels]
    if not wide:
        st.caption("Nothing was traded, so nothing was paid.")
        return
    for name in wide:
        show.panel(sheet.panels[name], name, captions[name])
    halves = [name for name in ("returns", "contribution") if name in sheet.panels]
    for column, name in zip(st.columns(2), halves, strict=False):
        with column:
            show.panel(sheet.panels[name], name, captions[name])
    if "exposure" in sheet.panels:
        show.panel(sheet.panels["exposure"], "exposure", captions["exposure"])


def _robustness(research: Research) -> None:
    section = robustness_section(research)
    if not research.traded:
        show.section(section, title=False)
        return
    for text in section.text:
        st.markdown(show.plain(text))
    found = research.robustness
    names = scenario_names(found)
    drawn = scenarios_figure(
        [names[line["name"]] for line in found["scenarios"]], found["scenarios"], level=research.level
    )
    show.figure(
        drawn, "scenarios", "The whole roster, traded again under other costs and timing; out of sample, after costs."
    )
    cells = [cell for cell in found["neighbourhood"] if cell["total_return"] is not None]
    if cells:
        show.figure(
            neighbourhood_figure(found["neighbourhood"]), "neighbourhood",
            "Net return when every pair enters and leaves at other levels of z. A lone peak is luck.",
        )  # fmt: skip
    with st.expander("As tables", icon=":material/table:"):
        show.tables(section.tables)


def _rules(research: Research) -> None:
    section = rules_section(research.summary["rules"], research.reporting.n_table_rows)
    drawn = menu_figure(research.summary["rules"])
    if drawn is not None:
        show.figure(
            drawn, "menu", "Worth of each rule before trading, inside formation windows; ★ how often it was chosen."
        )
    show.section(section, title=False)


main()
