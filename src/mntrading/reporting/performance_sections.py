"""How it would have traded: the portfolios, the lines to beat, robustness, months and windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mntrading.core import metrics
from mntrading.reporting.context import Section, Table, table
from mntrading.reporting.evidence import Research
from mntrading.reporting.formats import (
    MISSING,
    chance,
    count,
    day,
    decimal,
    listed,
    p_value,
    percent,
    plural,
)
from mntrading.reporting.style import LINE_NAMES

OUT_OF_SAMPLE = "out of sample, after costs"


def performance_section(research: Research) -> Section:
    """Figures of both portfolios over the stitched trading windows."""
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


def lines_section(research: Research) -> Section:
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
            LINE_NAMES[name],
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
        for name in LINE_NAMES
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

    totals = [(name, *cells(documents[key]["total"])) for key, name in LINE_NAMES.items() if key != "cash"]
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


def robustness_section(research: Research) -> Section:
    """The whole roster under other assumptions than the ones chosen."""
    title = "If it had been a little different"
    found = research.robustness
    if not research.traded:
        return Section("robustness", title, ("Nothing was traded, so there is nothing to vary.",))
    names = scenario_names(found)
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


def scenario_names(found: Mapping[str, Any]) -> dict[str, str]:
    """What each scenario of a robustness artefact is called."""
    return {
        "as_traded": "As traded",
        "costs": f"{found['cost_multiple']:g} times the costs",
        "later": f"Decisions {plural(found['shift_bars'], 'bar')} later",
        "earlier": "Filled at the close it decided on (nobody can trade this)",
    }


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


def folds_section(research: Research) -> Section:
    """Each trading window by itself."""
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
