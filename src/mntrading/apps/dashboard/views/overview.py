"""The state of everything: is the data fresh, what is held and why, what are the orders, what is in doubt."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from mntrading.apps.dashboard import evidence, services, show
from mntrading.apps.dashboard.client import ApiError
from mntrading.apps.dashboard.shaping import pairs, runs, status
from mntrading.apps.dashboard.store import Store
from mntrading.core.roster import Roster
from mntrading.reporting.context import Fact
from mntrading.reporting.desk_figures import expectation_figure, pairs_now_figure, weights_figure
from mntrading.reporting.evidence import Live
from mntrading.reporting.figures import equity_figure

_DAYS = 7


def main() -> None:
    """Draw the page."""
    store = services.store()
    started, error = _runs(store)
    if error is not None:
        show.api_problem(error)
    if not store.has("markets"):
        _empty(store)
        return
    live = evidence.live(store) if store.has(*evidence.LIVE) else None
    source = str(store.document("markets")["source"])
    bars = evidence.bar_range(store, "ohlcv_5m") if store.has("ohlcv_5m") else None
    end = pd.Timestamp(live.orders["bar_close"]) if live is not None else None if bars is None else bars.end
    show.simulated(source)
    now = pd.Timestamp.now(tz="UTC")
    show.facts(_facts(store, live, started, end, source, now))
    _doubts(store, live, started, end, source, now)
    if live is not None:
        _trade(live)
    _pairs(store, live)
    _earned(store, live)
    _last_runs(store, started)


def _runs(store: Store) -> tuple[list[dict[str, Any]], ApiError | None]:
    """Runs as the API tells them; as the records do where it does not answer."""
    try:
        found, error = services.client().runs(20), None
    except ApiError as problem:
        found, error = [], problem
    return found or _records(store), error


def _records(store: Store) -> list[dict[str, Any]]:
    return store.newest("run_history", 20) if store.has("run_history") else []


def _empty(store: Store) -> None:
    with st.container(border=True):
        st.subheader("An empty project", anchor=False)
        st.markdown(
            "Nothing is stored yet. Start with **Full cycle** on the Run page, or `kedro run --pipelines full_cycle`: "
            "it fetches bars, finds pairs, trains, backtests, and writes the first orders. Every page fills as it goes."
        )
        st.caption(f"Storage: {store.catalog.root}")
        show.to_run_page()


def _facts(
    store: Store, live: Live | None, started: list[dict[str, Any]], end: pd.Timestamp | None, source: str,
    now: pd.Timestamp,
) -> list[Fact]:  # fmt: skip
    facts = [status.data_fact(end, source, now)]
    if live is not None:
        facts += [status.equity_fact(live), status.orders_fact(live), status.switch_fact(live)]
        facts += [status.positions_fact(live), status.map_fact(live)]
    if store.has("backtest_summary"):
        facts.append(
            status.backtest_fact(store.document("backtest_summary"), evidence.blocks(store)["statistics"].level)
        )
    return [*facts, status.run_fact(started)]


def _doubts(
    store: Store, live: Live | None, started: list[dict[str, Any]], end: pd.Timestamp | None, source: str,
    now: pd.Timestamp,
) -> None:  # fmt: skip
    told = evidence.research(store).doubts if store.has(*evidence.RESEARCH) else ()
    found = status.doubts(live, told, started, end, source, now)
    st.subheader("In doubt", anchor=False)
    if not found:
        st.success("Nothing needs attention.", icon=":material/check_circle:")
    for doubt in found[:8]:
        (st.error if doubt.level == "error" else st.warning)(show.plain(doubt.text), icon=":material/warning:")
    if len(found) > 8:
        st.caption(f"{len(found) - 8} more on Production & live.")


def _trade(live: Live) -> None:
    st.subheader("Orders now, and what is held", anchor=False)
    held = {
        symbol: units * live.orders["prices"][symbol] / live.account["equity"]
        for row in live.account["book"]["holdings"]
        for symbol, units in (
            (row["dependent"], row["units_dependent"]),
            (row["independent"], row["units_independent"]),
        )
        if symbol in live.orders["prices"]
    }
    wanted = {symbol: weight for symbol, weight in live.orders["weights"].items() if weight}
    left, right = st.columns([2, 3])
    with left:
        if held or wanted:
            show.figure(weights_figure(held, wanted), "weights")
        else:
            st.info("The book is flat, and stays so.", icon=":material/remove:")
    with right:
        orders = [
            {name: value for name, value in row.items() if name != "Reduce only"}
            for row in status.order_rows(live.orders)
        ]
        st.markdown("**Orders**, to fill on the next bar. Notional in quote currency, weight as a share of equity.")
        if orders:
            show.rows(orders, "orders", numbers={"Notional": "localized", "Weight after": "percent"})
        else:
            st.caption(show.plain(live.orders["reason"] or "None: what is held is what is wanted."))
    holdings = status.holding_rows(live)
    if holdings:
        st.markdown("**Pairs held or entering**, and why")
        show.rows(holdings, "holdings", numbers={"z": "%.2f", "Notional": "localized"})


def _pairs(store: Store, live: Live | None) -> None:
    if not store.has("roster", "pair_menus", "ohlcv_5m"):
        return
    roster = Roster.parse(store.document("roster"))
    menus = store.folder("pair_menus")
    known = evidence.z_of_roster(store, roster, _DAYS) if all(row.pair.id in menus for row in roster.live.pairs) else {}
    rules = {} if live is None else {entry["pair_id"]: entry["rule"] for entry in live.production_map["pairs"]}
    now = pairs.pairs_now(known, [] if live is None else live.signals, {} if live is None else live.positions, rules)
    if not now:
        return
    st.subheader("Which pair to look at", anchor=False)
    show.figure(
        pairs_now_figure(now), "pairs-now",
        "z of each pair at its newest stored bar, the furthest from its mean on top. Inside the grey bar no rule "
        "enters; red ticks are stops. Levels are each pair's own.",
    )  # fmt: skip


def _earned(store: Store, live: Live | None) -> None:
    if not store.has("equity_curves", "roster"):
        return
    curves, roster = store.document("equity_curves"), Roster.parse(store.document("roster"))
    if curves.empty:
        return
    st.subheader("What it earned", anchor=False)
    expected = status.expected_days(curves, roster)
    if live is not None and len(live.equity) > 1 and expected is not None:
        show.figure(
            expectation_figure(live.equity["equity"], *expected, max_points=evidence.MAX_POINTS), "expectation",
            "Paper account against what the champions' walk-forward led to expect, after costs.",
        )  # fmt: skip
    drawn = store.made(
        "overview equity", ("equity_curves", "roster"),
        lambda: equity_figure(
            curves, [entry.fold.formation_end for entry in roster.completed], max_points=evidence.MAX_POINTS
        ),
    )  # fmt: skip
    show.figure(
        drawn, "equity",
        "Walk-forward backtest, out of sample and after costs. Dotted lines begin a trading window; click a name to "
        "hide or show a line.",
    )  # fmt: skip


def _last_runs(store: Store, started: list[dict[str, Any]]) -> None:
    st.subheader("Last runs", anchor=False)
    if not started:
        st.caption("None yet.")
        return
    found = runs.rows(started[:5]) if "state" in started[0] else runs.recorded(started[:5])
    shown = ("State", "Pipeline", "Started, UTC", "Took", "What it said")
    show.rows([{name: row[name] for name in shown} for row in found], "runs")
    if store.has("run_history"):
        st.caption(f"Storage {store.catalog.root}, environment {store.catalog.env or 'local'}.")


main()
