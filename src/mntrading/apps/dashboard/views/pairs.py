"""One pair: spread and z with what was traded, hedge ratio, prices, trades, features, and where it stands now."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mntrading.apps.dashboard import evidence, services, show
from mntrading.apps.dashboard.shaping import pairs
from mntrading.apps.dashboard.store import Store
from mntrading.core.menu import Item
from mntrading.core.roster import Roster
from mntrading.core.types import Pair
from mntrading.reporting.account_sections import pairs_figure
from mntrading.reporting.context import Fact
from mntrading.reporting.desk_figures import PairNow
from mntrading.reporting.evidence import Live
from mntrading.reporting.formats import chance, decimal, moment
from mntrading.reporting.research_figures import features_figure
from mntrading.reporting.tear_sheets import TearSheet, sheet_pairs, windows_of

_DAYS = 7
_FIRST_FEATURES = ("spread", "z", "hedge_ratio")


def main() -> None:
    """Draw the page."""
    store = services.store()
    if show.nothing(store, *evidence.SHEET):
        return
    show.simulated(store.document("markets")["source"])
    roster = Roster.parse(store.document("roster"))
    traded = {line["pair_id"]: line["n_trades"] for line in store.document("backtest_summary")["pairs"]}
    known = {pair.id: pair for pair in sheet_pairs(roster, traded) if pair.id in store.folder("pair_curves")}
    if not known:
        st.info("No pair has been on a roster yet: the screen found none.", icon=":material/search_off:")
        return
    live = evidence.live(store) if store.has(*evidence.LIVE) else None
    now = _now(store, roster, live)
    pair, fold = _chosen(known, roster, now)
    sheet = evidence.sheet_of_pair(store, pair, fold)
    _standing(pair, now, live)
    show.facts(sheet.context.facts)
    tabs = st.tabs(["Spread & trades", "Last days", "Profit & loss", "Trades", "Features"])
    with tabs[0]:
        _section(sheet, "signal")
        _section(sheet, "windows")
    with tabs[1]:
        _recent(store, roster, pair, live)
    with tabs[2]:
        _profit(sheet)
    with tabs[3]:
        _section(sheet, "list")
    with tabs[4]:
        _features(store, pair)


def _now(store: Store, roster: Roster, live: Live | None) -> list[PairNow]:
    menus = store.folder("pair_menus")
    known = evidence.z_of_roster(store, roster, _DAYS) if all(row.pair.id in menus for row in roster.live.pairs) else {}
    rules = {} if live is None else {entry["pair_id"]: entry["rule"] for entry in live.production_map["pairs"]}
    return pairs.pairs_now(known, [] if live is None else live.signals, {} if live is None else live.positions, rules)


def _chosen(known: dict[str, Pair], roster: Roster, now: list[PairNow]) -> tuple[Pair, str | None]:
    standing = {one.pair_id: one for one in now}
    ordered = pairs.order_of(list(known), now)

    def words(pair_id: str) -> str:
        one = standing.get(pair_id)
        text = f"{known[pair_id].dependent} against {known[pair_id].independent}"
        if one is None:
            return f"{text} · not on the live roster"
        where = "in production" if one.in_production else "on the roster"
        return f"{text} · {where}" + ("" if one.z is None else f" · z {one.z:+.2f}")

    left, right = st.columns([3, 2])
    with left:
        pair = known[st.selectbox("Pair", ordered, format_func=words)]
    windows = {entry.fold.name: entry.fold for entry in reversed(windows_of(pair, roster))}
    with right:
        fold = st.selectbox(
            "Trading window", [None, *windows],
            format_func=lambda name: "all of them"
            if name is None
            else f"{windows[name].formation_end:%d %b} to {windows[name].trading_end:%d %b %Y}",
        )  # fmt: skip
    return pair, fold


def _standing(pair: Pair, now: list[PairNow], live: Live | None) -> None:
    """What the pair does on the newest bar, and why."""
    line = None if live is None else next((one for one in live.signals if one["pair_id"] == pair.id), None)
    if live is not None and line is not None:
        show.facts(
            [
                Fact("Signal now", line["action"], line["reason"] or "holding"),
                Fact("z now, σ", decimal(line["z"]), f"bar closed {moment(live.orders['bar_close'])} UTC"),
                Fact("Probability to revert", chance(line["probability"]), f"entry needs {chance(line['threshold'])}"),
                Fact(
                    "Hedge ratio β",
                    decimal(line["hedge_ratio"], 3),
                    f"half-life {decimal(line['half_life_hours'], 1)} h",
                ),
            ]
        )
        return
    found = next((one for one in now if one.pair_id == pair.id), None)
    if found is not None and found.z is not None:
        st.caption(f"Not in production. z {found.z:+.2f} at its newest stored bar, entry at ±{found.entry_z:g}.")


def _section(sheet: TearSheet, key: str) -> None:
    section = next((one for one in sheet.context.sections if one.key == key), None)
    if section is None:
        st.caption("Nothing was traded here, so there is nothing to show.")
        return
    for name in section.figures:
        if name in sheet.panels:
            show.panel(sheet.panels[name], f"{sheet.name}-{name}", sheet.context.captions.get(name, ""))
    show.section(section, title=False)


def _profit(sheet: TearSheet) -> None:
    captions = sheet.context.captions
    if "performance" not in sheet.panels:
        st.caption("No trade, so there is no profit or loss.")
        return
    for name in ("performance", "monthly"):
        show.panel(sheet.panels[name], f"{sheet.name}-{name}", captions.get(name, ""))
    for column, name in zip(st.columns(2), ("costs", "pnl"), strict=True):
        with column:
            show.panel(sheet.panels[name], f"{sheet.name}-{name}", captions.get(name, ""))
    show.panel(sheet.panels["holding"], f"{sheet.name}-holding", captions.get("holding", ""))


def _recent(store: Store, roster: Roster, pair: Pair, live: Live | None) -> None:
    production = {} if live is None else {entry["pair_id"]: entry for entry in live.production_map["pairs"]}
    if live is not None and pair.id in production:
        z = evidence.z_of_production(store, live, _DAYS).get(pair.id)
        item = Item.of_rule(production[pair.id]["rule"])
    elif any(row.pair == pair for row in roster.live.pairs):
        item, z = evidence.z_of_roster(store, roster, _DAYS)[pair.id]
    else:
        st.caption("The pair has left the roster: its bars are no longer kept up to date.")
        return
    if z is None:
        st.caption("z is not known over the last days.")
        return
    levels = {"entry_z": item.levels.entry_z, "exit_z": item.levels.exit_z, "stop_z": item.levels.stop_z}
    show.figure(
        pairs_figure({pair.id: z}, {pair.id: levels}, max_points=evidence.MAX_POINTS).update_layout(height=340),
        f"recent-{pair.id}",
        f"z of the last {_DAYS} stored days on the windows it is traded on ({item.beta_window} bars for β, "
        f"{item.z_window} for z): entry dashed, exit dotted, stop solid.",
    )  # fmt: skip


def _features(store: Store, pair: Pair) -> None:
    if not store.has("pair_features") or pair.id not in store.folder("pair_features"):
        st.caption("No features of this pair are stored. They come from: kedro run --tags features")
        return
    frame: pd.DataFrame = store.part("pair_features", pair.id)
    columns = [str(column) for column in frame.columns]
    first = [name for name in _FIRST_FEATURES if name in columns]
    chosen = st.multiselect(
        "Features", columns, first, max_selections=6, format_func=lambda name: name.replace("_", " ")
    )
    if chosen:
        show.figure(
            features_figure(frame, chosen, max_points=evidence.MAX_POINTS), f"features-{pair.id}",
            "On the configured windows, over the whole history. Each row uses bars up to its own; peaks are kept.",
        )  # fmt: skip


main()
