"""One pair's tear sheet: what is stored of it in, words and panels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.roster import Roster, RosterFold, RosterPair
from mntrading.core.types import Pair
from mntrading.params import StrategyParams
from mntrading.reporting import style
from mntrading.reporting.attribution import (
    CHARGES,
    cumulated,
    gross_of,
    monthly_sums,
    window_returns,
)
from mntrading.reporting.context import Fact, ReportContext, Section, Table, table
from mntrading.reporting.formats import MISSING, chance, count, day, decimal, listed, moment, p_value, percent, plural
from mntrading.reporting.panels import (
    Cloud,
    Dash,
    HistogramPanel,
    Level,
    Line,
    Marks,
    Panel,
    ScatterPanel,
    Stack,
    Symbol,
    TimePanel,
    WaterfallPanel,
    bin_edges,
    on_grid,
    thinned,
)
from mntrading.reporting.tear_sheets import (
    CHARGE_NAMES,
    OTHER_COLOURS,
    OUT_OF_SAMPLE,
    ROLLING_DAYS,
    SIDES,
    Z_ALONE,
    Provenance,
    TearSheet,
    counts_of,
    end_of,
    hours_of,
    interval_words,
    month_panel,
    rolling_panel,
    span_of,
    windows_of,
)

N_TRADE_ROWS: Final = 500

_ROWS: Final = (("signal",), ("performance",), ("monthly",), ("costs", "pnl", "holding"))
_ADDITIVE: Final = (
    "P&L in per cent of one notional a trade, summed and not compounded; each window starts flat. Before costs is "
    "net with everything paid added back.",
)
_ENDINGS: Final = {
    "reverted": style.LONG,
    "stop": style.SHORT,
    "time": style.ROSTER,
    "closing": style.MUTED,
    "break": "#7a5c99",
}


@dataclass(frozen=True)
class PairEvidence:
    """What is stored of one pair.

    Parameters
    ----------
    pair
        The pair.
    roster
        Pairs of every fold.
    formation
        ``spread``, ``z`` and ``hedge_ratio`` of the live formation window, for a pair that no window has traded yet.
    closes
        Closes of both legs (bar × symbol), over ``span_of`` or more.
    curve
        By bar of the trading windows: ``fold``, ``equity`` from one notional in each, ``side``, what was paid, and
        ``spread``, ``z`` and ``hedge_ratio`` that were decided on.
    windows
        By window: ``fold``, the ``rule`` chosen for it and its levels ``entry_z``, ``exit_z``, ``stop_z``.
    trades
        Closed trades.
    line
        The summary's figures of the pair, None where it was not traded.
    verdict
        The registry's entry of the pair, None where it has none.
    """

    pair: Pair
    roster: Roster
    formation: pd.DataFrame
    closes: pd.DataFrame
    curve: pd.DataFrame
    windows: pd.DataFrame
    trades: pd.DataFrame
    line: Mapping[str, Any] | None
    verdict: Mapping[str, Any] | None


def pair_sheet(
    evidence: PairEvidence, strategy: StrategyParams, about: Provenance, *, level: float, max_points: int
) -> TearSheet:
    """One pair's sheet.

    Parameters
    ----------
    evidence
        What is stored of the pair.
    strategy
        Rule of a pair that no window has traded yet.
    about
        What the sheet says of itself.
    level
        Level of the interval.
    max_points
        Points of a line.
    """
    pair, windows = evidence.pair, windows_of(evidence.pair, evidence.roster)
    signal = _signal(evidence, windows, strategy, max_points)
    panels: dict[str, Panel] = {"signal": signal}
    facts: tuple[Fact, ...] = ()
    sections = [
        Section("signal", "Spread, z and what was traded", _signal_text(evidence, windows), figures=("signal",))
    ]
    fold_table: tuple[Table, ...] = ()
    if windows:
        if len(evidence.trades):
            panels |= _pair_panels(evidence, windows, max_points)
        facts = _pair_facts(evidence, level)
        fold_table = _fold_table(evidence, windows)
    facts = (*facts, *_verdict_fact(evidence))
    if len(evidence.trades):
        sections += [
            Section("performance", "Profit and loss", _ADDITIVE, figures=("performance", "monthly")),
            Section("trades", "Trades and their costs", figures=("costs", "pnl", "holding")),
            Section("windows", "Trading windows", tables=fold_table),
            Section("list", "Every trade", tables=_trade_table(evidence.trades)),
        ]
    elif windows:
        sections.append(Section("windows", "Trading windows", tables=fold_table))
    context = ReportContext(
        title=f"{pair.dependent} against {pair.independent}",
        subtitle=_pair_subtitle(evidence, windows, about),
        notices=about.notices,
        facts=facts,
        sections=tuple(sections),
        captions=_pair_captions(pair, bool(windows)),
        html_name=f"{pair.id}.html",
        footer=about.footer,
    )
    return TearSheet(pair.id, context, panels, _ROWS, fold_table)


def _row(entry: RosterFold, pair: Pair) -> RosterPair:
    return next(row for row in entry.pairs if row.pair == pair)


def _pair_subtitle(evidence: PairEvidence, windows: Sequence[RosterFold], about: Provenance) -> str:
    at = f"market time {moment(about.as_of)} UTC, source {about.source}"
    if not windows:
        return f"Pair tear sheet, on the live roster and not traded yet; {at}"
    first, last = span_of(evidence.pair, evidence.roster)
    return (
        f"Pair tear sheet, {OUT_OF_SAMPLE}; {plural(len(windows), 'trading window')}, {day(first)} to {day(last)}; {at}"
    )


def _pair_facts(evidence: PairEvidence, level: float) -> tuple[Fact, ...]:
    line = evidence.line
    if line is None or evidence.trades.empty:
        return (Fact("Trades", "0", "no entry in any window"),)
    below = metrics.max_drawdown(1 + cumulated(evidence.curve))
    share = "" if line["cost_share"] is None else f", {percent(line['cost_share'], 0)} of it"
    longest = decimal(float(hours_of(evidence.trades).max()), 1)
    return (
        Fact("Net P&L", percent(line["net_pnl"], 2), "of the pair's notional"),
        Fact("P&L before costs", percent(line["gross_pnl"], 2), f"costs {percent(line['costs'], 2)}{share}"),
        Fact("Sharpe, per year", decimal(line["sharpe"]), interval_words(line, level)),
        Fact("Above luck", chance(line["deflated_sharpe"]), f"deflated Sharpe, {count(line['n_trials'])} tried"),
        Fact("Max drawdown", percent(below, 2), "of the pair's notional"),
        Fact("Trades", count(len(evidence.trades)), f"{percent(line['hit_rate'], 0)} with a net profit"),
        Fact("Mean holding time", f"{decimal(line['mean_holding_hours'], 1)} h", f"longest {longest} h"),
    )


def _verdict_fact(evidence: PairEvidence) -> tuple[Fact, ...]:
    if evidence.verdict is None:
        live = any(row.pair == evidence.pair for row in evidence.roster.live.pairs)
        return () if live else (Fact("Verdict", "left", "not on the live roster"),)
    reasons = listed(evidence.verdict["reasons"], 3) or "passes every rule"
    entry = evidence.verdict
    verdict = "champion" if entry["champion"] else "challenger" if entry["challenger"] else "rejected"
    return (Fact("Verdict", verdict, reasons),)


def _signal_text(evidence: PairEvidence, windows: Sequence[RosterFold]) -> tuple[str, ...]:
    pair = evidence.pair
    if not windows:
        live = evidence.roster.live.fold
        return (
            f"The pair joined the roster at {moment(live.formation_end)} UTC and no trading window of it is complete: "
            "there is no trade and no result. Shown is the formation window it was chosen in, where a good look is no "
            "merit. Its first result comes with its first complete trading window: ingest newer bars with kedro run",
        )
    if evidence.trades.empty:
        return (_why_idle(evidence, windows),)
    return (
        f"Long the spread is long {pair.dependent} and short {pair.independent}, notional split by the hedge ratio, "
        "units frozen from entry to exit. Decisions stand at the bar they were made on; fills follow on the next bar. "
        "Mean, deviation and hedge ratio of a bar are fitted on the bars before it.",
    )


def _why_idle(evidence: PairEvidence, windows: Sequence[RosterFold]) -> str:
    known = evidence.curve["z"].abs().dropna()
    had = f"The pair was on the roster in {plural(len(windows), 'trading window')} and entered no trade: "
    if known.empty:
        return had + "z is not known on any bar of them. Features come from: kedro run --tags features"
    return (
        had
        + f"|z| reached {decimal(float(known.max()))} at most. Entries also need a hedge ratio inside its band and, "
        f"where a model is asked, its consent; to see the rule on z alone: {Z_ALONE}"
    )


def _pair_captions(pair: Pair, traded: bool) -> dict[str, str]:
    where = (
        "Out of sample: the trading windows the pair was on the roster for."
        if traded
        else "In sample: the live formation window."
    )
    return {
        "signal": f"{where} Spread log {pair.dependent} − β·log {pair.independent} − α, its z with the rule's levels "
        "and every decision (triangles enter, circles leave; solid green made money after costs, hollow red lost), the "
        "hedge ratio, and both legs from 100.",
        "performance": "Cumulated P&L, net of all costs and before them; how far net P&L lies below its highest value "
        f"so far; yearly Sharpe ratio of the last {ROLLING_DAYS} days of trading windows, in grey where luck alone "
        "would be 95% of the time.",
        "monthly": "Net P&L of each month, % of notional. Out of sample, net of costs.",
        "costs": "From P&L before costs to net, % of notional, all windows. Slippage with impact; borrow or funding.",
        "pnl": "Trades by net P&L. Out of sample, net of costs.",
        "holding": "Each trade's net P&L against how long it was held.",
    }


def _signal(evidence: PairEvidence, windows: Sequence[RosterFold], strategy: StrategyParams, max_points: int) -> Stack:
    """Spread, z with levels and marks, hedge ratio and both legs."""
    start, end = span_of(evidence.pair, evidence.roster)
    shown = evidence.curve if windows else evidence.formation
    shown = shown.loc[(shown.index >= start) & (shown.index < end)]
    step = _step(shown.index)
    levels = _levels(_heights(evidence, windows, strategy))
    closes = evidence.closes.loc[(evidence.closes.index >= start) & (evidence.closes.index < end)]
    colours = (style.CHAMPIONS, style.ROSTER)
    legs = tuple(
        Line(symbol, thinned(_rebased(closes[symbol]), max_points), colour)
        for symbol, colour in zip(evidence.pair.symbols, colours, strict=True)
    )

    def line(column: str) -> tuple[Line, ...]:
        return (Line(column, thinned(on_grid(shown[column], step), max_points), "#87919a", 0.9),)

    marks = _marks(evidence.trades)
    stops = [height for level in levels for _, _, height in level.stretches]
    reach = max(abs(one) for one in (*stops, *(value for mark in marks for value in mark.values))) * 1.12
    nothing = "not known on any bar shown"
    return Stack(
        (
            TimePanel("z of the spread, standard deviations", line("z"), levels=levels,
                      marks=marks, bounds=(-reach, reach), weight=2.3, empty=f"z is {nothing}"),
            TimePanel("Spread, log", line("spread"), digits=4, weight=1.0, empty=f"the spread is {nothing}"),
            TimePanel("Hedge ratio β", line("hedge_ratio"), digits=3, weight=0.8,
                      empty=f"the hedge ratio is {nothing}"),
            TimePanel("Legs, first close = 100", legs, digits=1, weight=1.1, empty="no bars of the legs are stored"),
        ),
        tuple(entry.fold.formation_end for entry in windows[1:]),
        (start, end),
    )  # fmt: skip


Heights = tuple[tuple[pd.Timestamp, pd.Timestamp, Mapping[Any, Any]], ...]


def _heights(evidence: PairEvidence, windows: Sequence[RosterFold], strategy: StrategyParams) -> Heights:
    """From when to when which levels of z held."""
    if not windows:
        start, end = span_of(evidence.pair, evidence.roster)
        return ((start, end, {name: getattr(strategy, name) for name in ("entry_z", "exit_z", "stop_z")}),)
    held = {str(row["fold"]): row for row in evidence.windows.to_dict("records")}
    return tuple((entry.fold.formation_end, end_of(entry), held[entry.fold.name]) for entry in windows)


def _levels(heights: Heights) -> tuple[Level, ...]:
    kinds: tuple[tuple[str, str, Dash], ...] = (
        ("entry", style.INK, "dash"),
        ("exit", style.MUTED, "dot"),
        ("stop", style.SHORT, "solid"),
    )
    out = []
    for name, colour, dash in kinds:
        for sign in (1, -1):
            stretches = tuple((start, end, sign * float(held[f"{name}_z"])) for start, end, held in heights)
            last = stretches[-1][2]
            shown = f"{name} {last:+g}".replace("-", "−") if last else f"{name} 0" if sign > 0 else ""
            out.append(Level(shown, stretches, colour, dash))
    return tuple(out)


def _marks(trades: pd.DataFrame) -> tuple[Marks, ...]:
    """Entries by direction and exits, each by whether the trade made money."""
    out = []
    hours = hours_of(trades)
    for won, colour, how in ((True, style.LONG, "profit"), (False, style.SHORT, "loss")):
        mine = (trades["net_pnl"] > 0) == won
        kinds: tuple[tuple[str, pd.Series, str, Symbol], ...] = (
            ("Long entry", trades["side"] > 0, "entry", "up"),
            ("Short entry", trades["side"] < 0, "entry", "down"),
            ("Exit", trades["side"] != 0, "exit", "exit"),
        )
        for name, which, end, symbol in kinds:
            rows = trades.loc[mine & which]
            if rows.empty:
                continue
            said = tuple(
                _said(row, held, entry=end == "entry")
                for row, held in zip(rows.to_dict("records"), hours.loc[rows.index], strict=True)
            )
            out.append(
                Marks(
                    f"{name}, {how}", pd.DatetimeIndex(rows[f"{end}_decision"]),
                    rows[f"{end}_z"].to_numpy(dtype=np.float64), said, colour, symbol, won,
                )
            )  # fmt: skip
    return tuple(out)


def _said(row: Mapping[Any, Any], hours: float, *, entry: bool) -> str:
    if entry:
        told = chance(row["probability"])
        asked = "" if told == MISSING else f", probability {told}"
        how = f"{SIDES[int(row['side'])]} the spread at z {decimal(row['entry_z'])}{asked}"
        return f"{how}; net {percent(row['net_pnl'], 2)}"
    return f"{row['reason']}; {decimal(hours, 1)} h, net {percent(row['net_pnl'], 2)}"


def _pair_panels(evidence: PairEvidence, windows: Sequence[RosterFold], max_points: int) -> dict[str, Panel]:
    trades, curve = evidence.trades, evidence.curve
    net, returns = cumulated(curve), window_returns(curve)
    step = _step(net.index)
    before, after = (thinned(on_grid(series, step).ffill(), max_points) for series in (gross_of(curve), net))
    lines = (Line("Before costs", before, style.MUTED, 1.2, "dash"), Line("Net", after, style.CHAMPIONS, 1.8))
    below = on_grid(-metrics.drawdown(1 + net), step).ffill()
    paid = [float(curve[name].sum()) for name in CHARGES]
    performance = Stack(
        (
            TimePanel("Cumulated P&L, % of notional", lines, form="percent", digits=1, weight=1.7),
            TimePanel("Drawdown of net P&L, % of notional",
                      (Line("Drawdown", thinned(below, max_points), style.SHORT, 1.0, filled=True),),
                      form="percent", digits=2),
            rolling_panel((("Net", style.CHAMPIONS, returns),), max_points),
        ),
        tuple(entry.fold.formation_end for entry in windows[1:]),
        span_of(evidence.pair, evidence.roster),
    )  # fmt: skip
    pnl = trades["net_pnl"].to_numpy(dtype=np.float64)
    edges = bin_edges(pnl)
    return {
        "performance": performance,
        "monthly": month_panel("Net P&L by month, % of notional", (("", monthly_sums(net)),)),
        "costs": WaterfallPanel(
            "What costs left, % of notional",
            ("Before costs", *(CHARGE_NAMES[name] for name in CHARGES), "Net"),
            (float(net.iloc[-1]) + sum(paid), *(-value for value in paid), float(net.iloc[-1])),
        ),
        "pnl": HistogramPanel(
            "Trades by net P&L", "Net P&L of a trade, % of notional", edges, counts_of(pnl, edges), "trade",
            middle=("mean", float(pnl.mean())),
        ),
        "holding": ScatterPanel(
            "Net P&L against holding time", "Held, hours", "Net P&L, % of notional", _clouds(trades)
        ),
    }  # fmt: skip


def _clouds(trades: pd.DataFrame) -> tuple[Cloud, ...]:
    """Trades by how they ended."""
    hours = hours_of(trades)
    kinds = trades["reason"].map(lambda reason: str(reason).split(":")[0])
    others = sorted(set(kinds) - set(_ENDINGS))
    colours = _ENDINGS | {kind: OTHER_COLOURS[n % len(OTHER_COLOURS)] for n, kind in enumerate(others)}
    out = []
    for kind, colour in colours.items():
        rows = trades.loc[kinds == kind]
        held = hours.loc[rows.index]
        said = tuple(
            f"{moment(row['entry_fill'])}: {_said(row, h, entry=False)}"
            for row, h in zip(rows.to_dict("records"), held, strict=True)
        )
        if len(rows):
            out.append(Cloud(kind, held.to_numpy(), rows["net_pnl"].to_numpy(dtype=np.float64), said, colour))
    return tuple(out)


def _rebased(close: pd.Series) -> pd.Series:
    known = close.dropna()
    return close if known.empty else close / known.iloc[0] * 100


def _step(index: pd.Index) -> pd.Timedelta:
    return pd.Timedelta(index[1] - index[0]) if len(index) > 1 else pd.Timedelta(5, unit="min")


def _fold_table(evidence: PairEvidence, windows: Sequence[RosterFold]) -> tuple[Table, ...]:
    rows: list[tuple[str, ...]] = []
    rules = {str(row["fold"]): str(row["rule"]) for row in evidence.windows.to_dict("records")}
    for entry in windows:
        curve = evidence.curve.loc[evidence.curve["fold"] == entry.fold.name]
        trades = evidence.trades.loc[evidence.trades["fold"] == entry.fold.name]
        returns = window_returns(curve)
        on_roster = _row(entry, evidence.pair)
        n = len(trades)
        rows.append(
            (
                entry.fold.name,
                day(entry.fold.formation_end),
                day(end_of(entry)),
                p_value(on_roster.p_adjusted),
                decimal(on_roster.half_life_hours, 1),
                rules[entry.fold.name],
                count(n),
                percent(float((trades["net_pnl"] > 0).mean()), 0) if n else MISSING,
                percent(float(trades["gross_pnl"].sum()), 2),
                percent(float(trades["costs"].sum()), 2),
                percent(float(trades["net_pnl"].sum()), 2),
                decimal(metrics.sharpe(returns), 1),
                percent(metrics.max_drawdown(curve["equity"]), 2) if len(curve) else MISSING,
                decimal(float(hours_of(trades).mean()), 1) if n else MISSING,
                percent(float((curve["side"] != 0).mean()), 0) if len(curve) else MISSING,
            )
        )
    if len(rows) > 1 and len(evidence.trades):
        rows.append(_all_windows(evidence))
    columns = (
        "Fold", "From", "To", "#Adjusted p", "#Half-life, h", "Rule", "#Trades", "#Hit rate", "#Before costs", "#Costs",
        "#Net", "#Sharpe", "#Drawdown", "#Held, h", "#In market",
    )  # fmt: skip
    note = (
        "P&L, costs and drawdown as % of the pair's notional. Adjusted p, half-life and the rule are of the formation "
        "window before. A window's Sharpe ratio is of few days and worth little alone."
    )
    return table(f"Each trading window, {OUT_OF_SAMPLE}", columns, rows, note=note)


def _all_windows(evidence: PairEvidence) -> tuple[str, ...]:
    trades, net = evidence.trades, cumulated(evidence.curve)
    return (
        "all", day(net.index[0]), day(net.index[-1]), "", "", "", count(len(trades)),
        percent(float((trades["net_pnl"] > 0).mean()), 0), percent(float(trades["gross_pnl"].sum()), 2),
        percent(float(trades["costs"].sum()), 2), percent(float(trades["net_pnl"].sum()), 2),
        decimal(metrics.sharpe(window_returns(evidence.curve)), 1), percent(metrics.max_drawdown(1 + net), 2),
        decimal(float(hours_of(trades).mean()), 1), percent(float((evidence.curve["side"] != 0).mean()), 0),
    )  # fmt: skip


def _trade_table(trades: pd.DataFrame) -> tuple[Table, ...]:
    newest = trades.sort_values("entry_fill", ascending=False, kind="stable")
    rows = (
        (
            moment(row["entry_fill"]),
            moment(row["exit_fill"]),
            SIDES[int(row["side"])],
            decimal(held, 1),
            decimal(row["entry_z"]),
            decimal(row["exit_z"]),
            chance(row["probability"]),
            decimal(row["hedge_ratio"], 3),
            percent(row["gross_pnl"], 2),
            percent(row["costs"], 2),
            percent(row["net_pnl"], 2),
            str(row["reason"]) + (", across a gap in the bars" if row["across_gap"] else ""),
        )
        for row, held in zip(newest.to_dict("records"), hours_of(newest), strict=True)
    )
    columns = (
        "Entered", "Left", "Spread", "#Held, h", "#z in", "#z out", "#Probability", "#Hedge ratio", "#Before costs",
        "#Costs", "#Net", "Why it left",
    )  # fmt: skip
    note = "Times of the fills, UTC; P&L and costs as % of the pair's notional."
    return table(f"Trades, newest first, {OUT_OF_SAMPLE}", columns, rows, limit=N_TRADE_ROWS, note=note)
