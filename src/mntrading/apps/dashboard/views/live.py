"""What is in production: signals, positions, orders, its health, and the kill switch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import streamlit as st

from mntrading.apps.dashboard import evidence, services, show
from mntrading.apps.dashboard.client import ApiError
from mntrading.apps.dashboard.shaping import live as shaping
from mntrading.apps.dashboard.shaping import runs, status
from mntrading.apps.dashboard.store import Store
from mntrading.reporting.account_sections import (
    account_section,
    book_section,
    changes_section,
    pairs_figure,
    paper_figures,
    risk_section,
)
from mntrading.reporting.desk_figures import weights_figure
from mntrading.reporting.evidence import Live
from mntrading.reporting.health import CAPTIONS, DRIFT, health_figures, health_section

_DAYS = 7
_PRESS = "press-switch"


def main() -> None:
    """Draw the page."""
    store = services.store()
    if show.nothing(store, *evidence.LIVE):
        return
    live = evidence.live(store)
    if store.has("markets"):
        show.simulated(store.document("markets")["source"])
    show.facts([status.map_fact(live), status.positions_fact(live), status.orders_fact(live), status.switch_fact(live)])
    _switch(live)
    tabs = st.tabs(["Signals", "Orders & book", "Account", "Health & drift", "Production map"])
    with tabs[0]:
        _signals(store, live)
    with tabs[1]:
        _book(live)
    with tabs[2]:
        _account(store, live)
    with tabs[3]:
        _health(live)
    with tabs[4]:
        _map(live)


def _switch(live: Live) -> None:
    now = live.orders["kill_switch"]
    with st.expander(f"Kill switch: {now}", icon=":material/emergency_home:", expanded=now != "active"):
        if live.orders["kill_switch_reason"]:
            st.markdown(show.plain(live.orders["kill_switch_reason"]))
        wanted = st.radio(
            "Set it to", list(shaping.SWITCHES), index=list(shaping.SWITCHES).index(now),
            captions=list(shaping.SWITCHES.values()), horizontal=True,
        )  # fmt: skip
        st.caption(
            "Runs a short cycle with this switch. It holds for that cycle: to keep it, set `portfolio.kill_switch` in "
            "`conf/local/parameters.yml`. Monitoring may be stricter, never looser."
        )
        if st.button(f"Run a short cycle, {wanted}", key="switch", icon=":material/play_arrow:", type="primary"):
            _start(wanted)


def _start(switch: str) -> None:
    body: Mapping[str, Any] = {"portfolio": {"kill_switch": switch}}
    try:
        client = services.client()
        active = runs.active_ids(client.runs(30))
        sent = runs.press(st.session_state.get(_PRESS), "short_cycle", body, time.monotonic(), active)
        run = client.start("short_cycle", body, sent.key)
    except ApiError as error:
        show.api_problem(error)
        return
    st.session_state[_PRESS] = runs.Press(sent.key, sent.what, sent.at, str(run["id"]))
    st.success(f"On its way: run {run['id']}. The Run page shows how far it is.", icon=":material/check:")
    show.to_run_page()


def _signals(store: Store, live: Live) -> None:
    if not live.signals:
        st.info("No pair is in production, so there is no signal.", icon=":material/bedtime:")
        return
    z = evidence.z_of_production(store, live, _DAYS) if store.has("ohlcv_5m") else {}
    if z:
        levels = {entry["pair_id"]: entry["rule"] for entry in live.production_map["pairs"]}
        show.figure(
            pairs_figure(z, levels, max_points=evidence.MAX_POINTS), "production-z",
            f"z of every pair in production over the last {_DAYS} days: entry dashed, exit dotted, stop solid.",
        )  # fmt: skip
    show.rows(
        shaping.signal_rows(live.signals, live.production_map), "signals",
        numbers={"z": "%.2f", "Enters at": "±%.2f", "Bars old": "%d"},
    )  # fmt: skip


def _book(live: Live) -> None:
    held, wanted = shaping.held_weights(live.orders, live.account), shaping.wanted_weights(live.orders)
    if held or wanted:
        show.figure(weights_figure(held, wanted), "weights", "Weights of the book, before and after the orders.")
    orders = status.order_rows(live.orders)
    if orders:
        st.markdown("**Orders**, to fill on the next bar")
        show.rows(orders, "orders", numbers={"Notional": "localized", "Weight after": "percent"})
    else:
        st.caption(show.plain(live.orders["reason"] or "Nothing to do: the positions held are the positions wanted."))
    for pair_id, why in sorted(live.orders["refused"].items()):
        st.warning(show.plain(f"{pair_id} was not entered: {why}"), icon=":material/block:")
    show.section(book_section(live))
    show.section(risk_section(live))
    show.section(changes_section(live))


def _account(store: Store, live: Live) -> None:
    for name, drawn in paper_figures(live, max_points=evidence.MAX_POINTS).items():
        show.figure(drawn, name, "Net return and drawdown of the paper account, at every bar's close since it began.")
    if store.has(*evidence.RESEARCH):
        show.section(account_section(live, evidence.research(store)), title=False)


def _health(live: Live) -> None:
    show.section(health_section(live.monitoring), title=False)
    for name, drawn in health_figures(live.monitoring).items():
        show.figure(drawn, name, CAPTIONS[DRIFT])


def _map(live: Live) -> None:
    st.caption(f"Map {live.production_map['id'][:12]}, formed to {live.production_map['formation_end'][:10]}.")
    show.rows(shaping.map_rows(live.production_map), "map", numbers={"Half-life, h": "%.1f"})
    st.markdown("**Changes of production**, the newest first")
    show.rows(shaping.log_rows(live.production_log), "log")
    st.caption("To promote, to see what promotion would change, or to roll back: Run page, another pipeline.")


main()
