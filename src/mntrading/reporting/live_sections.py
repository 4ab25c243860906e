"""What is in production: orders, signals and the open book."""

from __future__ import annotations

from mntrading.reporting.account_sections import PAIRS, SIDES
from mntrading.reporting.context import Section, table
from mntrading.reporting.evidence import Live, Research
from mntrading.reporting.formats import (
    MISSING,
    chance,
    count,
    decimal,
    listed,
    moment,
    percent,
    plural,
    quantity,
)
from mntrading.reporting.research_sections import why_no_champion


def orders_section(live: Live) -> Section:
    """The orders to send now, or why there are none."""
    document = live.orders
    given = document["orders"]
    expires = moment(live.production_map["expires"])
    switch = document["kill_switch"]
    text = [
        f"{plural(len(given), 'order')} to fill on the bar after {moment(document['bar_close'])} UTC. "
        f"Afterwards gross {percent(document['gross'])} and net {percent(document['net'])} of an equity of "
        f"{decimal(document['equity'])}."
        if given
        else f"Nothing to do: {document['reason'] or 'the positions held are the positions wanted'}."
    ]
    if switch != "active":
        meaning = "exits only" if switch == "reducing" else "no orders at all"
        text.append(f"The kill switch is on {switch}: {meaning} ({document['kill_switch_reason']}).")
    if document["refused"]:
        text.append(
            "Entries refused: "
            + "; ".join(f"{pair} ({why})" for pair, why in sorted(document["refused"].items()))
            + "."
        )
    text.append(
        f"Production map {live.production_map['id'][:12]} with {plural(len(live.production_map['pairs']), 'pair')}, "
        f"valid to {expires} UTC."
        + ("" if live.current else " It was promoted from earlier champions than the ones in this report.")
    )
    if document["hedge_errors"]:
        off = "; ".join(f"{pair} {percent(error, 3)}" for pair, error in sorted(document["hedge_errors"].items()))
        text.append(f"Lots leave the hedge ratios of the entries off by: {off}.")
    rows = [
        (
            order["side"],
            order["symbol"],
            quantity(order["quantity"]),
            quantity(order["reference_price"]),
            decimal(order["notional"]),
            percent(document["weights"].get(order["symbol"], 0.0)),
            "yes" if order["reduce_only"] else "no",
            order["id"],
        )
        for order in given
    ]
    columns = ("Side", "Symbol", "#Quantity", "#Reference price", "#Notional", "#Target weight", "Reduce only", "Order")
    note = "Notional in quote currency; target weight is the symbol's share of equity after the order."
    return Section("now", "What to do now", tuple(text), tables=table("Orders", columns, rows, note=note))


def signals_section(live: Live, research: Research) -> Section:
    """What every production pair does, and on what."""
    rule = live.production_map["strategy"]
    rows = [
        (
            line["pair_id"],
            line["action"],
            SIDES[line["side"]],
            decimal(line["z"]),
            chance(line["probability"]),
            decimal(line["hedge_ratio"]),
            MISSING if line["staleness_bars"] is None else count(line["staleness_bars"]),
            line["reason"] or "holding",
        )
        for line in live.signals
    ]
    if not rows:
        why = "No pair is in production, so there is no signal."
        return Section("signals", "Signals of the newest bar", (why, why_no_champion(research)))
    entries = [line["pair_id"] for line in live.signals if line["action"] == "enter"]
    exits = [line["pair_id"] for line in live.signals if line["action"] == "exit"]
    own = [
        f"{pair['pair_id']} at |z| from {pair['rule']['entry_z']:g} to {pair['rule']['stop_z']:g}, left within "
        f"{pair['rule']['exit_z']:g}"
        for pair in live.production_map["pairs"]
    ]
    text = (
        f"Enter: {listed(entries) or 'none'}. Exit: {listed(exits) or 'none'}. Each pair has a rule of its own: "
        f"{'; '.join(own)}. A model, where there is one, is asked for a probability of "
        f"{percent(rule['probability_threshold'], 0)} or more, or for its own.",
    )
    columns = ("Pair", "Action", "Position", "#z", "#Probability", "#Hedge ratio", "#Bars old", "Reason")
    found = table(f"Signals at {moment(live.orders['bar_close'])} UTC", columns, rows)
    return Section("signals", "Signals of the newest bar", text, figures=(PAIRS,), tables=found)
