"""What the reports say: each section from the artefacts, in plain words where there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mntrading.reporting import account_sections, health
from mntrading.reporting.context import Fact, ReportContext, Section, table
from mntrading.reporting.evidence import Live, Research
from mntrading.reporting.formats import (
    count,
    decimal,
    listed,
    moment,
    percent,
    plural,
)
from mntrading.reporting.health import health_section
from mntrading.reporting.live_sections import orders_section, signals_section
from mntrading.reporting.performance_sections import (
    folds_section,
    lines_section,
    performance_section,
    robustness_section,
)
from mntrading.reporting.research_sections import models_section, next_step, pairs_section, screening_section
from mntrading.reporting.rules import rules_section
from mntrading.reporting.screen_figures import Network, heat_map_caption, network_caption
from mntrading.reporting.shadow import CAPTIONS as SHADOW_CAPTIONS
from mntrading.reporting.shadow import shadow_section

_SUSPECT_SHARPE = 3.0


def research_context(research: Research, html_name: str) -> ReportContext:
    """The report of a research run: what was found and how it would have traded."""
    return _context(research, "Research", next_step(research), _research_facts(research), (), html_name)


def latest_context(research: Research, live: Live, html_name: str) -> ReportContext:
    """The report of a cycle: orders first, then what they rest on."""
    orders = live.orders["orders"]
    facts = (
        Fact("Orders now", count(len(orders)), f"bar closed {moment(live.orders['bar_close'])} UTC"),
        *_research_facts(research),
    )
    now = orders_section(live)
    sections = (
        account_sections.advice_section(live),
        account_sections.changes_section(live),
        signals_section(live, research),
        account_sections.book_section(live),
        account_sections.account_section(live, research),
        account_sections.risk_section(live),
        shadow_section(live.shadow),
        health_section(live.monitoring),
    )
    return _context(research, "Latest", now, facts, sections, html_name)


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
            performance_section(research),
            lines_section(research),
            rules_section(research.summary["rules"], research.reporting.n_table_rows),
            robustness_section(research),
            folds_section(research),
            pairs_section(research),
            screening_section(research),
            models_section(research),
            _lineage_section(research),
            _limits_section(research),
        ),
        captions=_captions(research),
        html_name=html_name,
        footer=f"Run {run['run_id']}, started {run['started_at']}, code {run['revision'] or 'outside a checkout'}.",
    )


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
        **health.CAPTIONS,
        **account_sections.CAPTIONS,
        **SHADOW_CAPTIONS,
        "importance": "The live model's features whose shuffling costs most log loss out of fold, with the spread over "
        "splits. Features that say the same share what they are worth.",
    }


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
