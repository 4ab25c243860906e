"""The account that follows the orders: what changed, what it holds, how it fares beside the backtest, what it risks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mntrading.core import metrics
from mntrading.core.lines import returns_in_windows
from mntrading.reporting import style
from mntrading.reporting.context import Section, Table, table
from mntrading.reporting.evidence import Live, Research
from mntrading.reporting.figures import decimate, equity_figure
from mntrading.reporting.formats import MISSING, count, decimal, listed, moment, percent, plural, quantity

PAPER: Final = "paper"
PAIRS: Final = "pairs_now"
CAPTIONS: Final = {
    PAIRS: "z of every pair in production over the last days, on the windows it is traded on: entry dashed, exit "
    "dotted, stop solid.",
    PAPER: "Net return of the paper account, its orders filled as the backtest fills them, and its drawdown, at every "
    "bar's close since it began.",
}
SIDES: Final = {1: "long the spread", -1: "short the spread", 0: "flat"}
_DAYS_TO_COMPARE: Final = 10
_SOON: Final = pd.Timedelta(3, unit="D")
_FEW: Final = 3.0
"""Symbols of equal weight that a book's exposure is worth, below which it counts as concentrated."""


def paper_figures(live: Live, *, max_points: int) -> dict[str, go.Figure]:
    """The account's equity and drawdown, once it has traded."""
    if not _has_traded(live):
        return {}
    curve = live.equity[["equity"]].set_axis(["Paper account"], axis=1)
    return {PAPER: equity_figure(curve, [], max_points=max_points).update_yaxes(tickformat=".2~%")}


def pairs_figure(
    spreads: Mapping[str, pd.Series], levels: Mapping[str, Mapping[str, float]], *, max_points: int
) -> go.Figure:
    """z of every pair in production over the last days, one below the other, with the levels it is traded by.

    Parameters
    ----------
    spreads
        z by bar open, by pair id; at least one.
    levels
        ``entry_z``, ``exit_z`` and ``stop_z`` by pair id.
    max_points
        Points of a trace.
    """
    names = [escape(pair_id.replace("__", " / ")) for pair_id in spreads]
    figure = make_subplots(
        rows=len(spreads), cols=1, shared_xaxes=True, subplot_titles=names, vertical_spacing=0.3 / len(spreads)
    )
    for row, (pair_id, z) in enumerate(spreads.items(), start=1):
        thinned = decimate(z, max_points)
        times = [f"{time:%Y-%m-%dT%H:%M}" for time in thinned.index]
        hover = "%{x|%d %b %H:%M}<br>z %{y:.2f}<extra></extra>"
        line = {"color": style.SPREAD, "width": 1.2}
        trace = go.Scatter(x=times, y=thinned.to_numpy(), mode="lines", line=line, hovertemplate=hover)
        figure.add_trace(trace, row=row, col=1)
        own = levels[pair_id]
        for name, dash in (("entry_z", "dash"), ("exit_z", "dot"), ("stop_z", "solid")):
            colour = style.SHORT if name == "stop_z" else style.MUTED
            for level in {own[name], -own[name]}:
                figure.add_hline(level, line={"color": colour, "width": 1, "dash": dash}, opacity=0.6, row=row, col=1)
        edge = 1.1 * max(own["entry_z"] * 1.5, float(np.nanmax(np.abs(z.to_numpy()), initial=0.0)))
        figure.update_yaxes(title_text="z", range=[-edge, edge], row=row, col=1)
    height = 90 + 150 * len(spreads)
    return figure.update_layout(template=style.template(), showlegend=False, height=height, hovermode="closest")


def changes_section(live: Live) -> Section:
    """What has happened since the cycle before."""
    account, before = live.account, live.account["before"]
    if before is None:
        first = f"This is the account's first bar, {moment(account['bar_close'])} UTC."
        return Section("changes", "What changed", (first,), tables=_promotions(live))
    begin = pd.Timestamp(before["bar_close"])
    known = live.equity.loc[live.equity.index < begin, "equity"]
    points = []
    if len(known):
        change = account["equity"] / float(known.iloc[-1]) - 1.0
        points.append(f"Equity {decimal(account['equity'])}, {percent(change, 2)} since {moment(begin)} UTC.")
    held = {row["pair_id"]: row["side"] for row in before["book"]["holdings"]}
    now = {row["pair_id"]: row["side"] for row in account["book"]["holdings"]}
    opened = [f"{pair_id} ({SIDES[side]})" for pair_id, side in now.items() if held.get(pair_id) != side]
    closed = [pair_id for pair_id in held if pair_id not in now]
    points += [f"Opened: {listed(opened)}."] if opened else []
    points += [f"Closed: {listed(closed)}."] if closed else []
    points += [f"Not filled, a leg had no bar: {listed(account['off'])}."] if account["off"] else []
    rows = [
        (
            moment(fill["time"]),
            "buy" if fill["quantity"] > 0 else "sell",
            fill["symbol"],
            quantity(abs(fill["quantity"])),
            quantity(fill["price"]),
            decimal(fill["fee"]),
            decimal(fill["slippage"]),
        )
        for fill in account["fills"]
    ]
    quiet = f"Nothing was filled since {moment(begin)} UTC."
    text: tuple[str, ...] = () if opened or closed or rows else (quiet,)
    columns = ("Bar", "Side", "Symbol", "#Quantity", "#Price", "#Fee", "#Slippage")
    fills = table("Fills of the paper account", columns, rows, note="Fees and slippage in quote currency.")
    return Section("changes", "What changed", text, tuple(points), tables=(*fills, *_promotions(live)))


def _promotions(live: Live, n: int = 3) -> tuple[Table, ...]:
    """The latest changes of the production map."""
    rows = [
        (
            moment(line["as_of"]),
            line["action"],
            line["map_id"][:12],
            listed(line["pairs_added"], 4) or MISSING,
            listed(line["pairs_removed"], 4) or MISSING,
            listed(line["pairs_changed"], 4) or MISSING,
            listed(line["settings_changed"], 4) or MISSING,
        )
        for line in reversed(live.production_log[-n:])
    ]
    columns = (
        "Market time",
        "Change",
        "Map",
        "Pairs that entered",
        "Pairs that left",
        "Changed",
        "Settings changed",
    )
    return table("Latest changes of production", columns, rows)


def book_section(live: Live) -> Section:
    """What the account holds by pair, and what it has earned on it."""
    book, prices = live.account["book"], live.orders["prices"]
    rows = []
    for row in book["holdings"]:
        known = live.positions.get(row["pair_id"])
        rows.append(
            (
                row["pair_id"],
                SIDES[row["side"]],
                quantity(row["units_dependent"]),
                quantity(row["units_independent"]),
                decimal(sum(abs(units) * prices[symbol] for symbol, units in _legs(row))),
                decimal(_unrealised(row, prices, known)),
                MISSING if known is None else count(known["strategy"]["bars_held"]),
            )
        )
    state = (
        f"Cash {decimal(book['cash'])} and equity {decimal(live.account['equity'])} in quote currency at the bar's "
        "close. The orders above are filled on the next bar."
    )
    text = (state,) if rows else ("No position is open.", state)
    columns = ("Pair", "Position", "#Units, dependent", "#Units, independent", "#Notional", "#P&L", "#Bars held")
    note = "P&L since the entry's fills, before costs; notional of both legs. Both in quote currency."
    return Section("book", "Open positions", text, tables=table("Positions by pair", columns, rows, note=note))


def _legs(row: Mapping[str, Any]) -> tuple[tuple[str, float], tuple[str, float]]:
    return (row["dependent"], row["units_dependent"]), (row["independent"], row["units_independent"])


def _unrealised(row: Mapping[str, Any], prices: Mapping[str, float], known: Mapping[str, Any] | None) -> float | None:
    """Change of a holding's value since its fills; None where the strategy holds another trade by now."""
    if known is None or known["strategy"]["side"] != row["side"] or not known["strategy"]["price_a"]:
        return None
    filled = (known["strategy"]["price_a"], known["strategy"]["price_b"])
    return float(sum(u * (prices[symbol] - at) for (symbol, u), at in zip(_legs(row), filled, strict=True)))


def account_section(live: Live, research: Research) -> Section:
    """How the paper account fares, beside what the backtest of the champions led to expect."""
    equity, totals = live.equity["equity"], live.account["totals"]
    start = float(equity.iloc[0])
    below = metrics.drawdown(equity)
    text = (
        f"The account began with {decimal(start)} at {moment(equity.index[0])} UTC and stands at "
        f"{decimal(live.account['equity'])}, {percent(live.account['equity'] / start - 1.0, 2)}. It is "
        f"{percent(float(below.iloc[-1]), 2)} below its peak, at most {percent(float(below.max()), 2)}. Fees so far "
        f"{decimal(totals['fees'])}, slippage {decimal(totals['slippage'])}, carry {decimal(totals['borrow'])}, on a "
        f"turnover of {decimal(totals['turnover'])}.",
        _gap(equity, research),
    )
    return Section("account", "Paper account", text, figures=(PAPER,) if _has_traded(live) else ())


def _has_traded(live: Live) -> bool:
    return len(live.equity) > 1 and live.account["totals"]["turnover"] > 0.0


def _gap(equity: pd.Series, research: Research) -> str:
    """Daily returns of the account against those of the champions' walk-forward, with a standard error."""
    mine = metrics.daily_returns(equity)
    if len(mine) < _DAYS_TO_COMPARE:
        return (
            f"{plural(len(mine), 'day')} of it, too few to compare with the backtest: {_DAYS_TO_COMPARE} are needed. "
            "What live does bar by bar is the backtest's decision and fill, to the bit."
        )
    folds = [entry.fold for entry in research.roster.completed]
    theirs = returns_in_windows(research.equity["champions"], folds, float(research.equity["champions"].iloc[0]))
    if len(theirs) < _DAYS_TO_COMPARE or not float(theirs.std()) > 0.0:
        return "The champions' walk-forward has traded too little to be compared with."
    gap = float(mine.mean() - theirs.mean())
    error = float(np.hypot(mine.std() / np.sqrt(len(mine)), theirs.std() / np.sqrt(len(theirs))))
    return (
        f"Live against backtest: {percent(float(mine.mean()), 3)} a day over {plural(len(mine), 'day')} against "
        f"{percent(float(theirs.mean()), 3)} over {plural(len(theirs), 'day')}, a gap of {percent(gap, 3)} or "
        f"{decimal(gap / error, 1)} standard errors."
    )


def risk_section(live: Live) -> Section:
    """What the book is exposed to once the orders are filled."""
    weights = {symbol: weight for symbol, weight in live.orders["weights"].items() if weight}
    if not weights:
        return Section("risk", "Risk", ("The book is flat once the orders are filled: nothing is at risk.",))
    sizes = np.abs(list(weights.values()))
    volatility = live.orders["volatility"]
    text = (
        f"Gross {percent(live.orders['gross'])} and net {percent(live.orders['net'])} of equity in "
        f"{plural(len(weights), 'symbol')}; the exposure is worth {decimal(effective(sizes), 1)} symbols of equal "
        f"weight. Expected volatility {percent(volatility)} a year.",
    )
    rows = [
        (symbol, "long" if weight > 0 else "short", percent(weight), quantity(live.orders["targets"].get(symbol)))
        for symbol, weight in sorted(weights.items(), key=lambda item: -abs(item[1]))
    ]
    return Section("risk", "Risk", text, tables=table("Exposure", ("Symbol", "Side", "#Weight", "#Units"), rows))


def effective(weights: np.ndarray) -> float:
    """Number of equal weights that are as concentrated: the inverse of the sum of squared shares."""
    shares = weights / weights.sum()
    return float(1.0 / np.square(shares).sum())


def advice_section(live: Live) -> Section:
    """What to look at, the most urgent first, each with the command to run."""
    points = []
    for line in live.signals:
        if line["doubts"]:
            points.append(f"{line['pair_id']} may not be entered: {'; '.join(line['doubts'])}.")
    now = pd.Timestamp(live.orders["bar_close"])
    left = pd.Timestamp(live.production_map["expires"]) - now
    pairs = live.production_map["pairs"]
    if pairs and left <= _SOON:
        hours = max(left, pd.Timedelta(0)) / pd.Timedelta(1, unit="h")
        points.append(f"Production expires in {count(hours)} hours: kedro run --pipelines full_cycle.")
    if not live.current:
        points.append("Champions have changed since promotion: kedro run --pipelines promote_preview shows how.")
    if live.monitoring["level"] != "ok":
        points.append(f"Monitoring: {live.monitoring['reason']}; see the health of the pairs below.")
    if live.orders["kill_switch"] != "active":
        points.append(f"No entry is made while the kill switch is on {live.orders['kill_switch']}.")
    if live.shadow.trouble:
        points.append("The challengers in shadow have not been followed; see below. Production is not touched by it.")
    if live.shadow.record is not None and live.shadow.record["ready"]:
        points.append(
            "Challengers keep every rule: kedro run --pipelines promote_challenger_preview shows what changes."
        )
    sizes = np.abs([weight for weight in live.orders["weights"].values() if weight])
    if len(sizes) and effective(sizes) < _FEW:
        points.append("The book is concentrated: most of the exposure is in the legs of one pair.")
    unsent = live.orders["wanted"]["unsent"]
    if unsent:
        points.append(f"Too small to be sent, carried with the book: {listed(sorted(unsent))}.")
    text = () if points else ("Nothing needs attention.",)
    return Section("advice", "What to look at", text, tuple(points))
