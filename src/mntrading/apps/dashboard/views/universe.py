"""Which symbols and pairs there are, and what stopped the others."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from mntrading.apps.dashboard import evidence, services, show
from mntrading.apps.dashboard.shaping import screening
from mntrading.apps.dashboard.store import Store
from mntrading.core.roster import Roster, RosterFold
from mntrading.reporting.research_figures import funnel_figure, roster_figure
from mntrading.reporting.screen_figures import (
    Network,
    heat_map_caption,
    heat_map_figure,
    network_caption,
    network_figure,
)

_NEEDS = ("markets", "roster", "screened_pairs", "cointegration_tests")


def main() -> None:
    """Draw the page."""
    store = services.store()
    if show.nothing(store, *_NEEDS):
        return
    roster, markets = Roster.parse(store.document("roster")), store.document("markets")
    show.simulated(markets["source"])
    entry = _chosen(roster)
    screen = evidence.screen_of(store, entry.fold.stamp)
    show.facts(screening.screen_facts(screen, markets["listing"] if entry.fold.is_live else None))
    left, right = st.columns([2, 3])
    with left:
        st.subheader("Funnel", anchor=False)
        show.figure(
            funnel_figure(screen["universe_funnel"], screen["funnel"]),
            "funnel",
            "What each rule stopped, and what passed. Lengths go by the square root, so that few are seen beside many.",
        )
    with right:
        st.subheader("Roster over time", anchor=False)
        _roster(store, roster)
    st.subheader("Pairs as a network", anchor=False)
    _network(screen)
    st.subheader("p-values", anchor=False)
    _heat_map(store, entry, screen)
    st.subheader("Pairs of this window", anchor=False)
    show.rows(screening.pair_rows(screen), "pairs", numbers=screening.FORMATS)
    with st.expander("Who came and who left, window by window", icon=":material/swap_horiz:"):
        show.rows(screening.changes(roster), "changes")


def _chosen(roster: Roster) -> RosterFold:
    names = {entry.fold.name: entry for entry in reversed(roster.folds)}

    def words(name: str) -> str:
        fold = names[name].fold
        kind = "live, trades from" if fold.is_live else "traded from"
        return (
            f"{kind} {fold.formation_end:%d %b %Y} · formed {fold.formation_start:%d %b} to {fold.formation_end:%d %b}"
        )

    chosen = st.selectbox("Window", list(names), format_func=words)
    return names[chosen]


def _network(screen: dict[str, Any]) -> None:
    network = Network.of(screen["pairs"])
    if not network.symbols:
        st.info("No pair is significant in this window, so there is no network.", icon=":material/hub:")
        return
    show.figure(
        network_figure(network), "network", network_caption(network).replace("the live formation", "this formation")
    )


def _heat_map(store: Store, entry: RosterFold, screen: dict[str, Any]) -> None:
    tests: pd.DataFrame = store.part("cointegration_tests", entry.fold.stamp)
    if tests.empty:
        st.info("No pair was tested in this window.", icon=":material/grid_off:")
        return
    level = evidence.blocks(store)["screening"].level
    key = (entry.fold.stamp, str(level), store.folder("cointegration_tests").digests[entry.fold.stamp])
    drawn = store.kept("heat map", key, lambda: heat_map_figure(tests, screen["pairs"], level=level))
    show.figure(drawn, "heat-map", heat_map_caption(tests).replace("the live formation", "this formation"))


def _roster(store: Store, roster: Roster) -> None:
    if not roster.pairs:
        st.info("No window has had a pair on its roster.", icon=":material/event_busy:")
        return
    champions = {}
    if store.has("backtest_summary"):
        champions = {line["fold"]: frozenset(line["champions"]) for line in store.document("backtest_summary")["folds"]}
    if store.has("champion_registry"):
        registry = store.document("champion_registry")
        champions["live"] = frozenset(line["pair_id"] for line in registry["champions"])
    days, states = screening.roster_states(roster, champions)
    show.figure(roster_figure(days, states), "roster", "Each pair in each window: on the roster, or a champion too.")


main()
