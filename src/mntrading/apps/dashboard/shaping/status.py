"""The state of everything in a few figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

from mntrading.apps.dashboard.shaping.runs import duration, state_words, when
from mntrading.core import metrics
from mntrading.core.lines import returns_in_windows
from mntrading.core.roster import Roster
from mntrading.reporting.account_sections import SIDES, advice_section
from mntrading.reporting.context import Fact
from mntrading.reporting.desk_figures import pair_name
from mntrading.reporting.evidence import Live
from mntrading.reporting.formats import MISSING, chance, count, decimal, moment, percent, plural, quantity

Level = Literal["error", "warning", "ok"]
STALE: Final = pd.Timedelta(30, unit="min")
_FAILED: Final = ("failed", "killed")


@dataclass(frozen=True)
class Doubt:
    """Something to look at, with what to run where that is known."""

    level: Level
    text: str


def data_fact(end: pd.Timestamp | None, source: str | None, now: pd.Timestamp) -> Fact:
    """How old the newest bar is; a simulated market has its own clock.

    Parameters
    ----------
    end
        Close of the newest trading bar.
    source
        Identity of the market.
    now
        The wall clock.
    """
    if end is None:
        return Fact("Data", "none", "no bar is stored")
    if source is not None and source.startswith("simulator"):
        return Fact("Newest bar", f"{end:%d %b %Y}", f"closed {end:%H:%M} UTC; simulated market with its own clock")
    age = max((now - end).total_seconds(), 0.0)
    return Fact("Age of the data", duration(age), f"newest bar closed {moment(end)} UTC")


def equity_fact(live: Live) -> Fact:
    """The paper account's equity, and what it has earned."""
    equity = live.equity["equity"]
    start, now = float(equity.iloc[0]), float(live.account["equity"])
    below = float(metrics.drawdown(equity).iloc[-1])
    lost = f", {percent(below, 2)} below its peak" if below > 0 else ""
    change = "" if now < start else "+"
    return Fact(
        "Equity, paper account", decimal(now, 0),
        f"{change}{percent(now / start - 1.0, 2)} since {equity.index[0]:%d %b %Y}{lost}",
    )  # fmt: skip


def orders_fact(live: Live) -> Fact:
    """The orders of the newest bar."""
    orders = live.orders
    n = len(orders["orders"])
    after = f"gross {percent(orders['gross'], 0)}, net {percent(orders['net'], 0)} of equity afterwards"
    return Fact("Orders now", count(n), after if n else orders["reason"].partition(":")[0] or "held is what is wanted")


def switch_fact(live: Live) -> Fact:
    """Kill switch and monitoring."""
    meaning = {"active": "entries and exits", "reducing": "exits only", "halted": "no orders at all"}
    switch = live.orders["kill_switch"]
    return Fact("Kill switch", switch, f"{meaning.get(switch, '')}; monitoring: {live.monitoring['level']}")


def positions_fact(live: Live) -> Fact:
    """What is held and what is about to be."""
    held, wanted = len(live.account["book"]["holdings"]), len(live.orders["wanted"]["holdings"])
    return Fact("Pairs held", count(held), f"{plural(wanted, 'pair')} once the orders are filled")


def map_fact(live: Live) -> Fact:
    """The production map and how long it holds."""
    left = pd.Timestamp(live.production_map["expires"]) - pd.Timestamp(live.orders["bar_close"])
    pairs = live.production_map["pairs"]
    holds = duration(max(left.total_seconds(), 0.0))
    note = f"map {live.production_map['id'][:8]}, valid for {holds}" + (
        "" if live.current else ", champions changed since"
    )
    return Fact("Pairs in production", count(len(pairs)), note)


def backtest_fact(summary: Mapping[str, Any], level: float) -> Fact:
    """What the champions' walk-forward earned."""
    line = summary["portfolio"]["champions"]
    if not line["n_fills"]:
        return Fact("Backtest, champions", "no trade", "the champions portfolio stayed in cash")
    interval = (
        ""
        if line["sharpe_low"] is None
        else f" ({percent(level, 0)}: {decimal(line['sharpe_low'], 1)} to {decimal(line['sharpe_high'], 1)})"
    )
    return Fact(
        "Backtest, champions", percent(line["total_return"], 2),
        f"{count(line['n_days'])} days, Sharpe {decimal(line['sharpe'], 1)}{interval}",
    )  # fmt: skip


def run_fact(runs: Sequence[Mapping[str, Any]]) -> Fact:
    """The newest run, of the API's list or of the records."""
    if not runs:
        return Fact("Last run", MISSING, "nothing has been run")
    run = runs[0]
    state = run.get("state") or run.get("status") or ""
    name = run.get("pipeline") or ", ".join(run.get("pipelines") or ()) or "research"
    at = run.get("finished_at") or run.get("started_at") or run.get("created_at")
    return Fact("Last run", state_words(state), f"{str(name).replace('_', ' ')}, {when(at)} UTC")


def doubts(
    live: Live | None, told: Sequence[str], runs: Sequence[Mapping[str, Any]], end: pd.Timestamp | None,
    source: str | None, now: pd.Timestamp,
) -> list[Doubt]:  # fmt: skip
    """What is in doubt, the most urgent first.

    Parameters
    ----------
    live
        What trades now, None where nothing does.
    told
        Sentences of the research that does not belong together.
    runs
        Newest first.
    end, source, now
        As for ``data_fact``.
    """
    out = []
    newest = next(iter(runs), None)
    if newest is not None and (newest.get("state") or newest.get("status")) in _FAILED:
        out.append(
            Doubt(
                "error",
                f"The last run {state_words(newest.get('state') or newest['status'])}. Its log is on the Run page.",
            )
        )
    if end is not None and source is not None and not source.startswith("simulator") and now - end > STALE:
        age = duration((now - end).total_seconds())
        out.append(Doubt("warning", f"The newest bar is {age} old. Next: kedro run --pipelines short_cycle"))
    if live is not None:
        section = advice_section(live)
        out += [Doubt("warning", point) for point in section.points]
        out += [
            Doubt("warning", f"{pair['pair_id']}: {words}")
            for pair in live.monitoring["pairs"]
            for words in pair["warnings"]
        ]
    return out + [Doubt("warning", text) for text in told]


def order_rows(orders: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The orders to send now."""
    return [
        {
            "Side": order["side"],
            "Symbol": order["symbol"],
            "Quantity": quantity(order["quantity"]),
            "Price": quantity(order["reference_price"]),
            "Notional": round(order["notional"]),
            "Weight after": orders["weights"].get(order["symbol"], 0.0),
            "Reduce only": "yes" if order["reduce_only"] else "no",
        }
        for order in orders["orders"]
    ]


def holding_rows(live: Live) -> list[dict[str, Any]]:
    """What is held, what comes, and why."""
    told = {line["pair_id"]: line for line in live.signals}
    held = {row["pair_id"]: row for row in live.account["book"]["holdings"]}
    wanted = {row["pair_id"]: row for row in live.orders["wanted"]["holdings"]}
    prices = live.orders["prices"]
    out = []
    for pair_id in sorted({*held, *wanted}):
        row, line = wanted.get(pair_id) or held[pair_id], told.get(pair_id)
        notional = sum(
            abs(row[units]) * prices[row[leg]]
            for leg, units in (("dependent", "units_dependent"), ("independent", "units_independent"))
            if row[leg] in prices
        )
        state = "held" if pair_id in held and pair_id in wanted else "entering" if pair_id in wanted else "leaving"
        out.append(
            {
                "Pair": pair_name(pair_id),
                "Position": f"{SIDES[row['side']]}, {state}",
                "Why": MISSING if line is None else line["reason"] or "holding",
                "z": None if line is None else line["z"],
                "Probability": MISSING if line is None else chance(line["probability"]),
                "Notional": round(notional),
            }
        )
    return out


def expected_days(equity: pd.DataFrame, roster: Roster) -> tuple[float, float] | None:
    """Mean and deviation of the champions' daily returns in the walk-forward; None where they hardly traded."""
    if equity.empty or "champions" not in equity or not roster.completed:
        return None
    folds = [entry.fold for entry in roster.completed]
    days = returns_in_windows(equity["champions"], folds, float(equity["champions"].iloc[0]))
    return (float(days.mean()), float(days.std())) if len(days) > 1 and float(days.std()) > 0 else None
