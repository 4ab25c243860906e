"""What the reports say: each section from the artefacts, in plain words where there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mntrading.core import metrics
from mntrading.core.roster import RosterFold
from mntrading.reporting.context import Fact, ReportContext, Section, Table, table
from mntrading.reporting.evidence import Live, Research
from mntrading.reporting.formats import (
    MISSING,
    chance,
    count,
    day,
    decimal,
    listed,
    moment,
    p_value,
    percent,
    plural,
    quantity,
)
from mntrading.reporting.rules import rules_section
from mntrading.reporting.screen_figures import Network, heat_map_caption, network_caption

OUT_OF_SAMPLE = "out of sample, after costs"
_FULL_CYCLE = "kedro run --pipelines full_cycle"
_SELECTED = "selected"
_TESTED = "tested"
_NOT_SIGNIFICANT = "not significant"
_ADJUSTMENTS = {
    "bh": "the Benjamini–Hochberg adjustment",
    "by": "the Benjamini–Yekutieli adjustment",
    "bonferroni": "the Bonferroni adjustment",
    "none": "the test without adjustment for multiple testing",
}
_SIDES = {1: "long the spread", -1: "short the spread", 0: "flat"}
_BASE_RATE = "base_rate"
_SUSPECT_SHARPE = 3.0


def research_context(research: Research, html_name: str) -> ReportContext:
    """The report of a research run: what was found and how it would have traded."""
    return _context(research, "Research", _next_step(research), _research_facts(research), (), html_name)


def latest_context(research: Research, live: Live, html_name: str) -> ReportContext:
    """The report of a cycle: orders first, then what they rest on."""
    orders = live.orders["orders"]
    facts = (
        Fact("Orders now", count(len(orders)), f"bar closed {moment(live.orders['bar_close'])} UTC"),
        *_research_facts(research),
    )
    now = _orders_section(live)
    return _context(research, "Latest", now, facts, (_signals_section(live, research), _book_section(live)), html_name)


def _context(
    research: Research,
    kind: str,
    first: Section,
    facts: tuple[Fact, ...],
    live: tuple[Section, ...],
    html_name: str,
) -> ReportContext:
    run = research.run
    return ReportContext(
        title=research.reporting.title,
        subtitle=f"{kind} report, market time {moment(research.as_of)} UTC, source {research.source}",
        notices=_notices(research),
        facts=facts,
        sections=(
            first,
            *live,
            _performance_section(research),
            _lines_section(research),
            rules_section(research.summary["rules"], research.reporting.n_table_rows),
            _robustness_section(research),
            _folds_section(research),
            _pairs_section(research),
            _screening_section(research),
            _models_section(research),
            _lineage_section(research),
            _limits_section(research),
        ),
        captions=_captions(research),
        html_name=html_name,
        footer=f"Run {run['run_id']}, started {run['started_at']}, code {run['revision'] or 'outside a checkout'}.",
    )


# ------------------------------------------------------------------------------------------- head


def _notices(research: Research) -> tuple[str, ...]:
    out = []
    if research.simulated:
        out.append(
            "Simulated market. The built-in simulator made these bars to a plan: which pairs are cointegrated, if any, "
            "was decided beforehand. The figures show whether the machinery works. They say nothing about what real "
            "markets would pay."
        )
    sharpe = research.summary["portfolio"]["champions"]["sharpe"]
    if not research.simulated and sharpe is not None and sharpe > _SUSPECT_SHARPE:
        out.append(
            f"A Sharpe ratio of {decimal(sharpe)} on real bars is a reason to look for a mistake before it is a "
            "reason to trade."
        )
    out.extend(research.doubts)
    return tuple(out)


def _research_facts(research: Research) -> tuple[Fact, ...]:
    live, total = research.roster.live, research.summary["portfolio"]["champions"]
    tests = research.live_screen["n_tests"]
    chosen = (
        Fact("Pairs on the roster", count(len(live.pairs)), f"of {plural(tests, 'pair')} tested"),
        Fact("Champions", count(len(research.champions)), f"of {plural(len(live.pairs), 'pair')} on the roster"),
    )
    if not research.roster.completed or not total["n_fills"]:
        return chosen
    return (
        *chosen,
        Fact("Net return, champions", percent(total["total_return"]), f"{count(total['n_days'])} days, out of sample"),
        Fact("Sharpe, champions", decimal(total["sharpe"]), _interval(total, research.level)),
        Fact("Max drawdown, champions", percent(total["max_drawdown"]), "of portfolio equity"),
    )


def _interval(total: Mapping[str, Any], level: float) -> str:
    if total["sharpe_low"] is None:
        return "no interval: too few or idle days"
    return f"{percent(level, 0)} interval {decimal(total['sharpe_low'])} to {decimal(total['sharpe_high'])}"


def _captions(research: Research) -> dict[str, str]:
    best = "" if research.best is None else research.best.pair_id
    return {
        "equity": "Walk-forward portfolios, out of sample, after costs: net return since the start, and drawdown. "
        "Dotted lines mark the begin of each trading window.",
        "folds": "Pairs traded and net return of each trading window, by the day it begins.",
        "pair": f"{best}, the pair with the highest net out-of-sample P&L, in the newest windows it traded in. It was "
        "picked after the fact, to show the rule at work; it is not what to expect of a pair.",
        "menu": "What each candidate was worth before trading, over all pairs and windows; ★ how often it was chosen.",
        "screening_heat_map": heat_map_caption(research.tests),
        "pair_network": network_caption(Network.of(research.live_screen["pairs"])),
        "calibration": "How often spreads reverted by the probability told, against the diagonal; points are as large "
        "as their bins. Rows overlap in time, so single bins are worth less than their size.",
        "importance": "The live model's features whose shuffling costs most log loss out of fold, with the spread over "
        "splits. Features that say the same share what they are worth.",
    }


# -------------------------------------------------------------------------------------------- now


def _next_step(research: Research) -> Section:
    n = len(research.champions)
    if n:
        text = (
            "A research run places no orders and changes nothing in production.",
            f"{plural(n, 'pair')} may be promoted: {listed(research.champions)}. To promote, compute signals and get "
            f"orders: {_FULL_CYCLE}",
        )
    else:
        text = ("There is nothing to trade and nothing to promote.", _why_no_champion(research))
    return Section("now", "What to do now", text)


def _why_no_champion(research: Research) -> str:
    live = research.roster.live
    if not live.pairs:
        return _why_no_pair(research, live)
    return f"No pair on the live roster is a champion. {research.registry['explanation']}."


def _why_no_pair(research: Research, entry: RosterFold) -> str:
    screen = research.screens[entry.fold.name]
    n = screen["n_tests"]
    if n == 0:
        stopped = [f"{why} ({k})" for why, k in screen["universe_funnel"].items() if k and why != "passed"]
        return (
            f"No pair was tested: {plural(screen['n_symbols'], 'symbol')} passed the universe rules, two are needed. "
            f"Stopped: {listed(stopped) or 'none, there are no more symbols'}."
        )
    stops = listed([f"{why} ({k})" for why, k in _gates(screen["funnel"]).items()])
    if research.screening.select == "top_k":
        return f"None of the {research.screening.top_k} best of {plural(n, 'pair')} passes every gate: {stops}."
    significant = n - screen["funnel"].get(_NOT_SIGNIFICANT, 0)
    how = f"{_ADJUSTMENTS[research.screening.adjustment]} at {percent(research.screening.level, 0)}"
    if significant:
        return f"{significant} of {plural(n, 'pair')} pass {how}, and all stop at a later gate: {stops}."
    return f"0 of {plural(n, 'pair')} pass {how}; nearest: {_nearest(screen)}."


def _nearest(screen: Mapping[str, Any], n: int = 3) -> str:
    misses = sorted(
        (row for row in screen["pairs"] if row["verdict"] != _SELECTED),
        key=lambda row: (row["p_adjusted"], row["pair_id"]),
    )
    if not misses:
        return "not recorded (screening.n_reported is 0)"
    return "; ".join(_miss(row) for row in misses[:n])


def _miss(row: Mapping[str, Any]) -> str:
    why = "" if row["reason"] == _NOT_SIGNIFICANT else f", {row['reason']}"
    return f"{row['pair_id']} (adjusted p {p_value(row['p_adjusted'])}{why})"


def _gates(funnel: Mapping[str, int]) -> dict[str, int]:
    return {why: n for why, n in funnel.items() if why not in (_TESTED, _NOT_SIGNIFICANT, _SELECTED)}


def _orders_section(live: Live) -> Section:
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
        text.append(f"The kill switch is on {switch}: {meaning}.")
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


def _signals_section(live: Live, research: Research) -> Section:
    rule = live.production_map["strategy"]
    rows = [
        (
            line["pair_id"],
            line["action"],
            _SIDES[line["side"]],
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
        return Section("signals", "Signals of the newest bar", (why, _why_no_champion(research)))
    entries = [line["pair_id"] for line in live.signals if line["action"] == "enter"]
    exits = [line["pair_id"] for line in live.signals if line["action"] == "exit"]
    text = (
        f"Enter: {listed(entries) or 'none'}. Exit: {listed(exits) or 'none'}. The rule enters where |z| is between "
        f"{rule['entry_z']:g} and {rule['stop_z']:g}, leaves within {rule['exit_z']:g}, and asks a model, where there "
        f"is one, for a probability of {percent(rule['probability_threshold'], 0)} or more, or the model's own.",
    )
    columns = ("Pair", "Action", "Position", "#z", "#Probability", "#Hedge ratio", "#Bars old", "Reason")
    found = table(f"Signals at {moment(live.orders['bar_close'])} UTC", columns, rows)
    return Section("signals", "Signals of the newest bar", text, tables=found)


def _book_section(live: Live) -> Section:
    book = live.orders["book"]
    rows = [
        (
            row["pair_id"],
            _SIDES[row["side"]],
            row["dependent"],
            quantity(row["units_dependent"]),
            row["independent"],
            quantity(row["units_independent"]),
        )
        for row in book["holdings"]
    ]
    state = f"Cash {decimal(book['cash'])} in quote currency, after the orders above at their reference prices."
    text = (state,) if rows else ("No position is open.", state)
    columns = ("Pair", "Position", "Dependent leg", "#Units", "Independent leg", "#Units")
    return Section("book", "Open book", text, tables=table("Positions by pair", columns, rows))


# ----------------------------------------------------------------------------------- what it rests on


def _performance_section(research: Research) -> Section:
    title = "Walk-forward portfolios"
    if not research.roster.completed:
        return Section("performance", title, (_no_window(research),))
    totals = research.summary["portfolio"]
    champions, roster = totals["champions"], totals["roster"]
    if not research.traded:
        n = sum(len(entry.pairs) > 0 for entry in research.roster.completed)
        had = f"{plural(n, 'trading window')} of {len(research.roster.completed)} had a pair on its roster"
        return Section("performance", title, (f"Nothing was traded in any trading window: {had}.",))
    text = [
        "Champions are chosen before each trading window from the windows before it, so this curve contains the "
        "choice. The whole roster trades every pair that passed the screen, without that choice, for comparison."
    ]
    if not champions["n_fills"]:
        chosen = sum(line["n_champions"] for line in research.summary["folds"])
        why = "No champion entered a trade" if chosen else "No pair was a champion before any trading window"
        text.append(f"{why}: the champions portfolio stayed in cash.")
    first, last = (
        research.roster.completed[0].fold.formation_end,
        research.roster.completed[-1].fold.trading_end,
    )
    lines = (
        ("Net return", "total_return", percent),
        ("Net return per year", "annual_return", percent),
        ("Volatility per year", "annual_volatility", percent),
        ("Sharpe ratio", "sharpe", decimal),
        ("Sortino ratio", "sortino", decimal),
        ("Calmar ratio", "calmar", decimal),
        ("Max drawdown", "max_drawdown", percent),
        ("Longest drawdown, days", "drawdown_days", count),
        ("Mean gross exposure", "exposure", percent),
        ("Turnover, times starting capital", "turnover", decimal),
        ("Costs, share of starting capital", "costs", percent),
        ("Costs, share of P&L before costs", "cost_share", percent),
        ("Trades", "n_trades", count),
        ("Trades with a net profit", "hit_rate", percent),
        ("Net profits over net losses", "profit_factor", decimal),
        ("Mean holding time, hours", "mean_holding_hours", decimal),
        ("Fills", "n_fills", count),
        ("Days", "n_days", count),
    )
    rows = [(name, form(champions[key]), form(roster[key])) for name, key, form in lines]
    spread = f"Sharpe ratio, {percent(research.level, 0)} interval"
    rows.insert(4, (spread, _low_high(champions), _low_high(roster)))
    caption = f"Portfolio statistics, {OUT_OF_SAMPLE}, {day(first)} to {day(last)}"
    return Section(
        "performance",
        title,
        tuple(text),
        figures=("equity",),
        tables=(
            *table(caption, ("", "#Champions", "#Whole roster"), rows),
            *_monthly(research),
        ),
    )


def _low_high(total: Mapping[str, Any]) -> str:
    return (
        MISSING if total["sharpe_low"] is None else f"{decimal(total['sharpe_low'])} to {decimal(total['sharpe_high'])}"
    )


def _lines_section(research: Research) -> Section:
    """Both portfolios beside what they have to beat, and where their P&L went."""
    title = "Against doing less"
    if not research.traded:
        return Section("lines", title, ("There is no portfolio to hold against anything: nothing was traded.",))
    summary = research.summary
    every = {**summary["portfolio"], **summary["benchmarks"]}
    text = (
        "Cash does nothing. Buy and hold is the whole universe of each window in equal parts, as the screen knew it "
        "when the formation window ended. The z rule trades the whole roster without a model. The placebo trades as "
        "many random pairs by the same rule: what it earns is no evidence of anything, and a roster that is no better "
        "was not worth screening for.",
        _beats_cash(summary["candidates"]),
    )
    rows = [
        (
            _LINES[name],
            percent(line["total_return"]),
            decimal(line["sharpe"]),
            _low_high(line),
            chance(line["probabilistic_sharpe"]),
            chance(line["deflated_sharpe"]),
            count(line["n_trials"]),
            _record_needed(line),
            percent(line["max_drawdown"]),
            count(line["drawdown_days"]),
            count(line["n_trades"]),
        )
        for name in _LINES
        for line in (every[name],)
    ]
    columns = (
        "Line", "#Net return", "#Sharpe", f"#{percent(research.level, 0)} interval", "#True Sharpe above 0",
        "#Above luck", "#Trials", "#Days needed", "#Max drawdown", "#Longest, days", "#Trades",
    )  # fmt: skip
    days = count(summary["portfolio"]["roster"]["n_days"])
    note = (
        "True Sharpe above 0: probabilistic Sharpe ratio. Above luck: deflated Sharpe ratio, against the best that as "
        "many trials without skill would show. Lines made of pairs that were picked pay for everything tried; the "
        f"others were picked from nothing. Days needed: the record that would show a true Sharpe above 0 at "
        f"{percent(research.level, 0)}; there are {days} days."
    )
    return Section(
        "lines",
        title,
        text,
        tables=(
            *table(f"Lines over the same windows and capital, {OUT_OF_SAMPLE}", columns, rows, note=note),
            *_attribution_tables(research),
        ),
    )


_LINES = {
    "champions": "Champions",
    "roster": "Whole roster",
    "cash": "Cash",
    "buy_and_hold": "Buy and hold, equal weights",
    "z_rule": "z rule without a model",
    "placebo": "Placebo: random pairs",
}


def _record_needed(line: Mapping[str, Any]) -> str:
    if line["sharpe"] is None:
        return MISSING
    return "never" if line["sharpe"] <= 0 else count(line["min_track_record_days"])


def _beats_cash(found: Mapping[str, Any]) -> str:
    n = plural(found["n_candidates"], "pair")
    if found["spa_consistent"] is None:
        return f"{n} over {plural(found['n_days'], 'day')} are too little to test whether the best one beats cash."
    overfit = (
        ""
        if found["pbo"] is None
        else f" Picking the best of them on one half of the days gives a pair below the median of the other half in "
        f"{percent(found['pbo'], 0)} of the ways to halve them: about 50% where the record says nothing of which pair "
        "is better."
    )
    return (
        f"Does the best of the {n} traded beat cash by more than the best of as many without skill would? "
        f"p {p_value(found['spa_consistent'])} (between {p_value(found['spa_lower'])} and "
        f"{p_value(found['spa_upper'])}) by Hansen's test of superior predictive ability.{overfit}"
    )


def _attribution_tables(research: Research) -> tuple[Table, ...]:
    documents = research.summary["attribution"]
    amounts = ("gross", "fees", "slippage", "borrow", "net")
    heads = ("#Before costs", "#Fees", "#Slippage", "#Borrow", "#Net", "#Turnover")

    def cells(line: Mapping[str, Any]) -> tuple[str, ...]:
        return (*(percent(line[name], 2) for name in amounts), decimal(line["turnover"]))

    totals = [(name, *cells(documents[key]["total"])) for key, name in _LINES.items() if key != "cash"]
    by_fold = [
        (f"{line['fold']}, {name}", *cells(line))
        for key, name in (("champions", "champions"), ("roster", "whole roster"))
        for line in documents[key]["folds"]
    ]
    note = "Shares of the starting capital; turnover in multiples of it. Before costs less the three costs is net."
    return (
        *table(
            f"Where the P&L went, {OUT_OF_SAMPLE.removesuffix(', after costs')}", ("Line", *heads), totals, note=note
        ),
        *table("Where the P&L went, by trading window", ("Window", *heads), by_fold),
    )


def _robustness_section(research: Research) -> Section:
    """The whole roster under other assumptions than the ones chosen."""
    title = "If it had been a little different"
    found = research.robustness
    if not research.traded:
        return Section("robustness", title, ("Nothing was traded, so there is nothing to vary.",))
    bars = plural(found["shift_bars"], "bar")
    names = {
        "as_traded": "As traded",
        "costs": f"{found['cost_multiple']:g} times the costs",
        "later": f"Decisions {bars} later",
        "earlier": "Filled at the close it decided on (nobody can trade this)",
    }
    rows = [
        (
            names[line["name"]],
            percent(line["total_return"], 2),
            decimal(line["sharpe"]),
            _low_high(line),
            percent(line["max_drawdown"]),
            percent(line["gross_pnl"], 2),
            percent(line["costs"], 2),
            count(line["n_trades"]),
        )
        for line in found["scenarios"]
    ]
    late = found["late_legs"]
    by_pair = (percent(late["net"], 2), percent(late["as_traded"], 2))
    text_late = (
        f"With every second leg filled a bar late in {percent(late['share'], 0)} of fills, the pairs one by one earn "
        f"{by_pair[0]} of the capital instead of {by_pair[1]}; the netted book knows no legs."
    )
    columns = (
        "Whole roster", "#Net return", "#Sharpe", f"#{percent(research.level, 0)} interval", "#Max drawdown",
        "#Before costs", "#Costs", "#Trades",
    )  # fmt: skip
    text = (
        "The whole roster traded again, nothing fitted anew. A result that one more bar of delay or a quarter of a "
        "deviation turns round was luck. Nothing was chosen by these figures.",
        text_late,
    )
    return Section(
        "robustness",
        title,
        text,
        tables=(
            *table(f"Other costs and timing, {OUT_OF_SAMPLE}", columns, rows),
            *_neighbourhood_table(found),
        ),
    )


def _neighbourhood_table(found: Mapping[str, Any]) -> tuple[Table, ...]:
    """Sharpe ratio and net return by entry level (rows) and exit level (columns), as distances from each pair's own."""
    exits = sorted({cell["exit_step"] for cell in found["neighbourhood"]})
    cells = {(cell["entry_step"], cell["exit_step"]): cell for cell in found["neighbourhood"]}
    rows = [
        (
            _step(entry),
            *(
                MISSING
                if cells[entry, leave]["total_return"] is None
                else f"{decimal(cells[entry, leave]['sharpe'])} ({percent(cells[entry, leave]['total_return'])})"
                for leave in exits
            ),
        )
        for entry in sorted({entry for entry, _ in cells})
    ]
    columns = ("Entry at |z|", *(f"#Exit at |z| {_step(leave)}" for leave in exits))
    note = "Sharpe ratio, and net return in brackets. The stop stays as it is."
    return table(f"Other levels of z, {OUT_OF_SAMPLE}", columns, rows, note=note)


def _step(change: float) -> str:
    return "own" if change == 0 else f"{change:+g}"


def _monthly(research: Research) -> tuple[Table, ...]:
    """Net returns by month, one line per year and portfolio; nothing where equity is empty."""
    if research.equity.empty:
        return ()
    parts = {
        name: metrics.monthly_table(metrics.daily_returns(research.equity[key]))
        for name, key in (("champions", "champions"), ("whole roster", "roster"))
    }
    shown = [month for month in metrics.MONTHS if any(part[month].notna().any() for part in parts.values())]
    rows = [
        (f"{year}, {name}", *(percent(part.loc[year, month]) for month in [*shown, "Year"]))
        for name, part in parts.items()
        for year in part.index
    ]
    columns = ("Year", *(f"#{month}" for month in shown), "#Year total")
    return table(f"Net return by month, {OUT_OF_SAMPLE}", columns, rows)


def _no_window(research: Research) -> str:
    fold = research.roster.live.fold
    return (
        f"No trading window is complete yet: the history holds the formation window of {day(fold.formation_start)} to "
        f"{day(fold.formation_end)} and nothing after it. There is no out-of-sample result, and without one "
        "no champion. Ingest an earlier start, or shorten schedule.formation_days."
    )


def _folds_section(research: Research) -> Section:
    folds = research.summary["folds"]
    if not folds:
        return Section("folds", "Trading windows", (_no_window(research),))
    rows = [
        (
            line["fold"],
            day(line["trading_start"]),
            day(line["trading_end"]),
            count(line["n_pairs"]),
            count(line["n_champions"]),
            count(line["n_trades"]),
            percent(line["champions_return"], 2),
            percent(line["roster_return"], 2),
        )
        for line in folds
    ]
    idle = [line["fold"] for line in folds if not line["n_champions"]]
    text: tuple[str, ...] = ()
    if idle:
        which = "any window" if len(idle) == len(folds) else listed(idle)
        text = (f"No champion in {which}: the champions portfolio was in cash, and the return of 0 is counted.",)
    columns = ("Fold", "From", "To", "#Pairs", "#Champions", "#Trades", "#Net, champions", "#Net, whole roster")
    note = (
        "Trades are those of all roster pairs, each alone. Both returns are of portfolio equity. The first window has "
        "no champions by design: there is no earlier window to choose from."
    )
    caption = f"Trading windows, {OUT_OF_SAMPLE}"
    return Section(
        "folds", "Trading windows", text, figures=("folds",), tables=table(caption, columns, rows, note=note)
    )


def _pairs_section(research: Research) -> Section:
    judged = [*research.registry["champions"], *research.registry["rejected"]]
    rows = [_judged_row(entry) for entry in judged]
    names = {entry["pair_id"] for entry in judged}
    rows += [_left_row(line) for line in research.summary["pairs"] if line["pair_id"] not in names]
    n = len(research.champions)
    if not rows:
        text: tuple[str, ...] = (_why_no_pair(research, research.roster.live),)
    elif n:
        text = (f"{plural(n, 'champion')} of {plural(len(judged), 'pair')} on the live roster.",)
    else:
        text = (_why_no_champion(research),)
    columns = (
        "Pair", "Verdict", "#Windows", "#Trades", "#Net P&L", "#Costs", "#Sharpe", "#Deflated", "#Drawdown", "Reasons",
    )  # fmt: skip
    note = (
        "P&L, costs and drawdown as fractions of the pair's notional, summed over its trading windows. Deflated: "
        "probability that the Sharpe ratio is more than the luck of the best of "
        f"{plural(research.registry['n_trials'], 'strategy', 'strategies')} tried. A challenger lacks nothing but "
        "evidence or a place."
    )
    found = table(f"Pairs, {OUT_OF_SAMPLE}", columns, rows, limit=research.reporting.n_table_rows, note=note)
    return Section("pairs", "Pairs and champions", text, figures=("pair",), tables=found)


def _judged_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    figures = entry["figures"]
    return (
        entry["pair_id"],
        "champion" if entry["champion"] else "challenger" if entry["challenger"] else "rejected",
        count(figures.get("n_windows", 0.0)),
        count(figures.get("n_trades", 0.0)),
        percent(figures.get("net_pnl")),
        percent(figures.get("costs")),
        decimal(figures.get("sharpe")),
        chance(figures.get("deflated_sharpe")),
        percent(figures.get("max_drawdown")),
        "; ".join(entry["reasons"]) or "passes every rule",
    )


def _left_row(line: Mapping[str, Any]) -> tuple[str, ...]:
    known = (count(line["n_windows"]), count(line["n_trades"]), percent(line["net_pnl"]), percent(line["costs"]))
    return (line["pair_id"], "left", *known, MISSING, MISSING, MISSING, "not on the live roster")


def _screening_section(research: Research) -> Section:
    live = research.roster.live
    screen = research.live_screen
    n = screen["n_tests"]
    how = f"{_ADJUSTMENTS[research.screening.adjustment]} at {percent(research.screening.level, 0)}"
    text = [
        f"Live formation window {day(live.fold.formation_start)} to {day(live.fold.formation_end)}: "
        f"{plural(n, 'pair')} of {plural(screen['n_symbols'], 'symbol')} tested with {how}, "
        f"{plural(len(live.pairs), 'pair')} on the roster."
    ]
    if not live.pairs:
        text.append(_why_no_pair(research, live))
    else:
        text.append(f"Nearest misses: {_nearest(screen)}.")
        if live.entered or live.left:
            before = research.roster.live_before
            since = "the fold before" if before is None else f"the run of {moment(before.as_of)}"
            text.append(f"Came since {since}: {listed(live.entered) or 'none'}. Left: {listed(live.left) or 'none'}.")
    roster = [
        (
            row.pair.id,
            p_value(row.p_adjusted),
            decimal(row.beta),
            decimal(row.half_life_hours, 1),
            "champion" if row.pair.id in research.champions else "rejected",
        )
        for row in live.pairs
    ]
    columns = ("Pair", "#Adjusted p", "#Hedge ratio", "#Half-life, hours", "Verdict")
    return Section(
        "screening",
        "Screening and roster",
        tuple(text),
        figures=("screening_heat_map", "pair_network"),
        tables=(
            *table("Live roster", columns, roster, limit=research.reporting.n_table_rows),
            *_funnels(research),
        ),
    )


def _funnels(research: Research) -> tuple[Table, ...]:
    rows = []
    for entry in research.roster.folds:
        screen = research.screens[entry.fold.name]
        funnel = screen["funnel"]
        rows.append(
            (
                entry.fold.name,
                day(entry.fold.formation_start),
                day(entry.fold.formation_end),
                count(screen["n_symbols"]),
                count(funnel[_TESTED]),
                count(funnel.get(_NOT_SIGNIFICANT, 0)),
                "; ".join(f"{why} ({n})" for why, n in _gates(funnel).items()) or "none",
                count(funnel[_SELECTED]),
                count(len(entry.entered)),
                count(len(entry.left)),
            )
        )
    columns = (
        "Fold", "Formation from", "To", "#Symbols", "#Tested", "#Not significant", "Stopped later", "#Roster",
        "#Came", "#Left",
    )  # fmt: skip
    return table("Screening funnel of each fold", columns, rows)


def _models_section(research: Research) -> Section:
    scores = research.scores
    groups = scores["cross_validated"]
    title = "Models"
    if not groups:
        return Section("models", title, ("No model was trained: no fold has a pair to learn from.",))
    rows = []
    for entry in research.roster.folds:
        mine = {id_: fit for id_, fit in groups.items() if id_.split("/", 1)[0] == entry.fold.name}
        rows.append(_model_row(entry, mine, scores["out_of_sample"].get(entry.fold.name)))
    without = sorted(id_ for id_, fit in groups.items() if fit["reason"])
    total = scores["total"]
    text = [
        f"{plural(len(groups) - len(without), 'model')} of {len(groups)} were good enough to be used. Where there is "
        "none, the z rule decides alone. A model is kept only if it beats the base rate's log loss inside the "
        "formation window; the columns beside show what it was worth in the trading window after it."
    ]
    if len(without) == len(groups):
        text.append("No fold has a model: none beat the base rate.")
    if total["roc_auc"] is not None:
        text.append(
            f"Over all trading windows with a model: AUC {decimal(total['roc_auc'], 3)}, lift {decimal(total['lift'])} "
            f"over a base rate of {percent(total['base_rate'])}, {plural(int(total['n_rows']), 'row')}. How far z is "
            "out tells part of how it comes back on random walks too: an AUC above 0.5 alone earns nothing."
        )
    columns = (
        "Fold", "Model", "#AUC cross-validated", "#AUC out of sample", "#Lift cross-validated", "#Lift out of sample",
        "#Base rate", "#Rows out of sample",
    )  # fmt: skip
    note = (
        "Lift is average precision over the base rate; 1 is no skill. The base rate is that of the trading window, or "
        "of the formation window where there is none yet. Rows overlap in time: they are worth less than their count."
    )
    return Section(
        "models",
        title,
        tuple(text),
        figures=("calibration", "importance"),
        tables=table("Model scores", columns, rows, note=note),
    )


def _model_row(
    entry: RosterFold, groups: Mapping[str, Mapping[str, Any]], outside: Mapping[str, Any] | None
) -> tuple[str, ...]:
    kept = [best for fit in groups.values() if (best := _chosen(fit)) is not None]
    reasons = sorted({str(fit["reason"]) for fit in groups.values() if fit["reason"]})
    if not groups:
        said = "none: no pair on the roster"
    elif not kept:
        said = f"none: {'; '.join(reasons)}"
    elif len(groups) == 1:
        said = str(kept[0]["model"]).replace("_", " ")
    else:
        said = f"{len(kept)} of {len(groups)} groups"
    rest = outside or {}
    return (
        entry.fold.name,
        said,
        decimal(_mean(kept, "roc_auc"), 3),
        "not yet" if entry.fold.is_live and kept else decimal(rest.get("roc_auc"), 3),
        decimal(_mean(kept, "lift")),
        "not yet" if entry.fold.is_live and kept else decimal(rest.get("lift")),
        percent(rest.get("base_rate") if rest.get("base_rate") is not None else _mean(kept, "base_rate")),
        count(rest.get("n_rows")),
    )


def _chosen(fit: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Scores of the candidate that was refitted and used."""
    return next((row for row in fit["candidates"] if row["model"] == fit["chosen"]), None)


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean over groups, weighted by rows."""
    known = [(row[key], row["n_rows"]) for row in rows if row[key] is not None]
    weight = sum(n for _, n in known)
    return sum(value * n for value, n in known) / weight if weight else None


def _lineage_section(research: Research) -> Section:
    run = research.run
    ranges = [
        (
            bars.timeframe,
            bars.source,
            count(bars.n_symbols),
            moment(bars.first),
            moment(bars.end),
            count(bars.n_bars),
            count(bars.missing_bars),
        )
        for bars in research.bars
        if bars.n_symbols
    ]
    absent = [bars.timeframe for bars in research.bars if not bars.n_symbols]
    text = []
    if absent:
        text.append(f"No bars of {listed(absent)} are stored: no pair needed them.")
    columns = ("Bars", "Source", "#Symbols", "First opens", "Last closes", "#Bars", "#Missing bars")
    facts = [
        ("Run", run["run_id"]),
        ("Pipelines", listed(run["pipelines"])),
        ("Started", f"{run['started_at']}"),
        ("Code", run["revision"] or "outside a checkout"),
        ("Environment", run["env"] or "base and local"),
        ("Overrides", ", ".join(f"{k}={v}" for k, v in _flat(run["parameters"]).items()) or "none"),
        ("Python", f"{run['python']}; " + ", ".join(f"{k} {v}" for k, v in sorted(run["packages"].items()))),
    ]
    return Section(
        "lineage",
        "Where the numbers come from",
        tuple(text),
        tables=(
            *table("Bars, times in UTC", columns, ranges, note="Missing bars lie between a symbol's first and last."),
            *table("This run", ("", "Value"), facts),
            *table("Content hashes (SHA-256)", ("Artefact", "Hash"), sorted(research.hashes.items())),
        ),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def _limits_section(research: Research) -> Section:
    costs = research.costs
    total = research.summary["portfolio"]["champions"]
    days = total["n_days"] or 0
    points = [
        f"Only what happened in trading windows is shown as performance. {count(days)} days are "
        f"{'few' if days < 365 else 'not many'}: read the interval, not the single figure.",
        f"Costs assumed: {percent(costs.fee_rate, 3)} fee and {costs.slippage_bps:g} bps slippage per leg and side, "
        f"{costs.borrow_bps_per_day:g} bps a day on what is held short. Larger size would move prices; that is not "
        "modelled.",
        "Orders are taken as filled in full on the next bar. Partial fills, rejections, outages and the difference "
        "between legs filling are not modelled, and the open book assumes the reference price until told otherwise.",
        "The champions' Sharpe ratio covers the choice of pairs. It does not cover choices made by whoever set the "
        "parameters after looking at earlier reports.",
        "Cointegration found in the past can end at any time. The stop, the time stop and the roster's renewal bound "
        "that loss; they do not prevent it.",
        "Daily returns, 365 days a year, no risk-free rate; the Sharpe interval is a stationary block bootstrap.",
        "This is a measurement and no advice.",
    ]
    return Section("limits", "What these numbers can not tell", points=tuple(points))
