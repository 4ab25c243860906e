"""The walk-forward portfolio's tear sheet: what is stored of it in, words and panels out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.lines import returns_in_windows
from mntrading.core.roster import Roster
from mntrading.core.types import FloatArray, Pair
from mntrading.reporting import style
from mntrading.reporting.attribution import (
    CHARGES,
    book_of,
)
from mntrading.reporting.context import Fact, ReportContext, Section, Table, table
from mntrading.reporting.formats import MISSING, chance, count, day, decimal, listed, moment, percent, plural
from mntrading.reporting.panels import (
    BarPanel,
    BarSeries,
    Dash,
    HistogramPanel,
    Line,
    Panel,
    Stack,
    TimePanel,
    bin_edges,
    thinned,
)
from mntrading.reporting.tear_sheets import (
    CHARGE_NAMES,
    OTHER_COLOURS,
    OUT_OF_SAMPLE,
    PORTFOLIO,
    ROLLING_DAYS,
    Z_ALONE,
    Provenance,
    TearSheet,
    counts_of,
    end_of,
    interval_words,
    month_panel,
    rolling_panel,
    sheet_pairs,
    windows_of,
)

N_CONTRIBUTIONS: Final = 24

_ROWS: Final = (
    ("performance",), ("monthly",), ("champion_costs", "roster_costs"), ("returns", "contribution"), ("exposure",),
)  # fmt: skip
_NAMES: Final = {"champions": "Champions", "roster": "Whole roster"}
_BESIDE_NAMES: Final = {
    "buy_and_hold": "Buy and hold, equal weights",
    "z_rule": "z rule without a model",
    "placebo": "Placebo: random pairs",
}  # fmt: skip
_COLOURS: Final = {"champions": style.CHAMPIONS, "roster": style.ROSTER}
_MOST_POINTS: Final = 40_000
"""Of all portfolios' lines together, so that the page stays small however many stand beside each other."""

_LEAST_POINTS: Final = 100
_OWN: Final[tuple[float, Dash]] = (1.8, "solid")
_BESIDE: Final[tuple[float, Dash]] = (1.2, "dash")
_CHARGE_COLOURS: Final = {"fees": "#b3403a", "slippage": "#d98c5f", "borrow": "#8a6fa8"}
_OWN_SCALE: Final = 2.0
"""A line that reaches this many times as far as the portfolios has a panel of its own, or it would flatten them."""


@dataclass(frozen=True)
class PortfolioEvidence:
    """What is stored of the walk-forward portfolio.

    Parameters
    ----------
    roster
        Pairs of every fold.
    equity
        Account value (bar × portfolio); ``champions``, ``roster`` and whatever else is held beside them.
    fills
        Fills of the champions portfolio.
    closes
        Closes (bar × symbol) over the trading windows.
    trades
        Closed trades by pair id, each pair alone on one notional.
    summary
        The backtest's summary.
    capital
        Every line's value before its first bar.
    level
        Level of the intervals.
    """

    roster: Roster
    equity: pd.DataFrame
    fills: pd.DataFrame
    closes: pd.DataFrame
    trades: Mapping[str, pd.DataFrame]
    summary: Mapping[str, Any]
    capital: float
    level: float


def portfolio_sheet(evidence: PortfolioEvidence, about: Provenance, *, max_points: int) -> TearSheet:
    """The sheet of the walk-forward portfolio, and the way to those of the pairs.

    Parameters
    ----------
    evidence
        What is stored of it.
    about
        What the sheet says of itself.
    max_points
        Points of a line.
    """
    folds = evidence.roster.completed
    traded = any(len(trades) for trades in evidence.trades.values()) and len(evidence.equity) > 0
    panels = _panels(evidence, max_points) if traded else {}
    fold_table = _folds(evidence) if folds else ()
    first = Section(
        "performance", "Walk-forward portfolios", _text(evidence, traded),
        figures=("performance", "monthly"),
    )  # fmt: skip
    sections = [first]
    if traded:
        sections += [
            Section(
                "costs",
                "Where it came from and what it cost",
                figures=("champion_costs", "roster_costs", "returns", "contribution"),
            ),
            Section("exposure", "Exposure", _exposure_text(evidence), figures=("exposure",)),
        ]
    if folds:
        sections.append(Section("windows", "Trading windows", tables=fold_table))
    sections.append(Section("pairs", "Pairs", _pairs_text(evidence), tables=_pair_rows(evidence)))
    context = ReportContext(
        title="Walk-forward portfolio",
        subtitle=_subtitle(evidence, about),
        notices=about.notices,
        facts=_facts(evidence),
        sections=tuple(sections),
        captions=_captions(),
        html_name=f"{PORTFOLIO}.html",
        footer=about.footer,
        links={pair.id: f"{quote(pair.id)}.html" for pair in _pairs_of(evidence)},
    )
    return TearSheet(PORTFOLIO, context, panels, _ROWS, fold_table)


def _subtitle(evidence: PortfolioEvidence, about: Provenance) -> str:
    at = f"market time {moment(about.as_of)} UTC, source {about.source}"
    folds = evidence.roster.completed
    if not folds:
        return f"Portfolio tear sheet, no trading window is complete; {at}"
    when = f"{plural(len(folds), 'trading window')}, {day(folds[0].fold.formation_end)} to {day(end_of(folds[-1]))}"
    return f"Portfolio tear sheet, {OUT_OF_SAMPLE}; {when}; {at}"


def _text(evidence: PortfolioEvidence, traded: bool) -> tuple[str, ...]:
    live, folds = evidence.roster.live, evidence.roster.completed
    if not folds:
        return (
            "No trading window is complete: the history holds the formation window of "
            f"{day(live.fold.formation_start)} to {day(live.fold.formation_end)} and nothing after it, so there is no "
            "out-of-sample result. Set an earlier ingestion.since_utc or a shorter schedule.formation_days, then: "
            "kedro run",
        )
    if not any(entry.pairs for entry in folds):
        return (
            f"No pair passed the screen of any of {plural(len(folds), 'trading window')}, so nothing was traded. The "
            "research report says which gate stopped them. To screen by other rules (screening.level, "
            "screening.select, ingestion's symbols): kedro run",
        )
    if not traded:
        n = sum(bool(entry.pairs) for entry in folds)
        return (
            f"{plural(n, 'trading window')} of {len(folds)} had a pair on its roster, and no pair entered a trade. To "
            f"see the rule on z alone, without a model's consent: {Z_ALONE}",
        )
    text = [
        "Champions of a window are chosen from the windows before it, so their curve contains the choice; the whole "
        "roster trades every pair that passed the screen. Both are netted books with the caps that live trading has."
    ]
    others = [_name(name) for name in evidence.equity.columns if name not in _NAMES]
    if others:
        text.append(f"Beside them, to hold them against: {listed(others)}.")
    if evidence.fills.empty:
        text.append("The champions portfolio stayed in cash: no champion entered a trade.")
    return tuple(text)


def _facts(evidence: PortfolioEvidence) -> tuple[Fact, ...]:
    champions, roster = (evidence.summary["portfolio"][name] for name in _NAMES)
    if not any(total["n_fills"] for total in (champions, roster)):
        return (Fact("Fills", "0", "nothing was traded"),)
    return (
        Fact("Net return, champions", percent(champions["total_return"], 2), f"{count(champions['n_days'])} days"),
        Fact("Sharpe, champions", decimal(champions["sharpe"]), interval_words(champions, evidence.level)),
        Fact("Drawdown, champions", percent(champions["max_drawdown"], 2), "the deepest, of equity"),
        Fact("Costs, champions", percent(champions["costs"], 2), "of starting capital"),
        Fact("Above luck, champions", chance(champions["deflated_sharpe"]), f"of {count(champions['n_trials'])} tried"),
        Fact("Mean gross exposure", percent(champions["exposure"], 0), "of equity, champions"),
        Fact("Net return, whole roster", percent(roster["total_return"], 2), f"Sharpe {decimal(roster['sharpe'])}"),
        Fact("Fills, champions", count(champions["n_fills"]), f"whole roster {count(roster['n_fills'])}"),
    )


def _captions() -> dict[str, str]:
    return {
        "performance": "Net return since the start, and how far below its highest value each of them lies; yearly "
        f"Sharpe ratio of the last {ROLLING_DAYS} days, in grey where luck alone would be 95% of the time. Dotted "
        "lines begin a trading window.",
        "monthly": "Net return of each month, compounded from daily returns.",
        "returns": "Days by the champions' net return (the whole roster's where there was no champion), and what a "
        "normal distribution of the same mean and deviation would count.",
        "champion_costs": "Champions portfolio: P&L of each window before costs and what it paid, % of starting "
        "capital. The diamond is what was left.",
        "roster_costs": "The same of the whole roster's portfolio.",
        "contribution": "Net P&L of each pair alone over all its windows, % of its notional; dark in the windows it "
        "was a champion for.",
        "exposure": "Champions portfolio: gross and net notional held at each bar's close, % of equity.",
    }


def _name(column: object) -> str:
    name = str(column)
    return {**_NAMES, **_BESIDE_NAMES}.get(name, name.replace("_", " ").capitalize())


def _styled(columns: Iterable[object]) -> list[tuple[str, str, str]]:
    """Name, label and colour of each line, the two portfolios first."""
    names = [str(column) for column in columns]
    first = [name for name in _COLOURS if name in names]
    rest = [name for name in names if name not in _COLOURS]
    out = [(name, _name(name), _COLOURS[name]) for name in first]
    return out + [(name, _name(name), OTHER_COLOURS[i % len(OTHER_COLOURS)]) for i, name in enumerate(rest)]


def _panels(evidence: PortfolioEvidence, max_points: int) -> dict[str, Panel]:
    folds = evidence.roster.completed
    lines = _moving(evidence)
    max_points = max(min(max_points, _MOST_POINTS // len(lines)), _LEAST_POINTS)
    starts = tuple(entry.fold.formation_end for entry in folds[1:])
    span = (folds[0].fold.formation_end, end_of(folds[-1]))
    chosen = "champions" if len(evidence.fills) else "roster"
    by_name = {line.name: line for line in lines}
    months = [(line.label, metrics.monthly_table(line.returns)) for line in lines]
    panels: dict[str, Panel] = {
        "performance": Stack(_over_time(lines, max_points), starts, span),
        "monthly": month_panel("Net return by month", months, scaled_by=sum(line.name in _COLOURS for line in lines)),
        "contribution": _contribution(evidence),
        "roster_costs": _costs_by_window(evidence, "roster"),
    }
    if chosen in by_name and len(by_name[chosen].returns):
        panels["returns"] = _day_histogram(_name(chosen), by_name[chosen].returns.to_numpy(dtype=np.float64))
    if len(evidence.fills) and len(evidence.closes):
        panels["champion_costs"] = _costs_by_window(evidence, "champions")
        panels["exposure"] = _exposure(evidence, book_of(evidence.fills, evidence.closes), starts, span, max_points)
    return panels


@dataclass(frozen=True)
class _Curve:
    """One line of the portfolios and of what stands beside them: growth since the start, drawdown, daily returns."""

    name: str
    label: str
    colour: str
    growth: pd.Series
    below: pd.Series
    returns: pd.Series

    @property
    def reach(self) -> float:
        """How far from its start it went."""
        return float(self.growth.abs().max())


def _moving(evidence: PortfolioEvidence) -> list[_Curve]:
    """The lines that hold something at some time; a portfolio that stays in cash is shown all the same."""
    out = []
    folds = [entry.fold for entry in evidence.roster.completed]
    for name, label, colour in _styled(evidence.equity.columns):
        curve = evidence.equity[name].dropna()
        if curve.empty or (name not in _COLOURS and curve.min() == curve.max()):
            continue
        returns = returns_in_windows(curve, folds, evidence.capital)
        out.append(_Curve(name, label, colour, curve / evidence.capital - 1, -metrics.drawdown(curve), returns))
    return out


def _over_time(lines: Sequence[_Curve], max_points: int) -> tuple[TimePanel, ...]:
    """Growth, drawdown and rolling Sharpe ratio; what reaches much further than the portfolios, on its own scale."""
    own = max((line.reach for line in lines if line.name in _COLOURS), default=0.0)
    far = [line for line in lines if line.name not in _COLOURS and own > 0 and line.reach > _OWN_SCALE * own]
    near = [line for line in lines if line not in far]

    def drawn(line: _Curve) -> Line:
        width, dash = _OWN if line.name in _COLOURS else _BESIDE
        return Line(line.label, thinned(line.growth, max_points), line.colour, width, dash)

    first = TimePanel(
        "Net return since the start", tuple(drawn(line) for line in reversed(near)), form="percent", weight=1.8
    )
    below = tuple(
        Line(line.label, thinned(line.below, max_points), line.colour, 1.1 if line.name in _COLOURS else 0.8,
             filled=line.name == "champions")
        for line in reversed(near)
    )  # fmt: skip
    rest = (
        TimePanel("Drawdown", below, form="percent"),
        rolling_panel(((line.label, line.colour, line.returns) for line in reversed(lines)), max_points),
    )
    if not far:
        return (first, *rest)
    others = tuple(drawn(line) for line in reversed([*(line for line in near if line.name in _COLOURS), *far]))
    return (first, TimePanel("Net return, on a wider scale", others, form="percent"), *rest)


def _day_histogram(label: str, every: FloatArray) -> HistogramPanel:
    values = every[every != 0.0]
    idle = len(every) - len(values)
    values = values if len(values) else every
    edges = bin_edges(values)
    counts = counts_of(values, edges)
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    curve = None
    if deviation > 0:
        middles = (edges[:-1] + edges[1:]) / 2
        width = float(edges[1] - edges[0])
        density = np.exp(-0.5 * ((middles - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
        curve = density * width * len(values)
    unit = "Net return of a day" + (f"; {plural(idle, 'day')} without P&L left out" if idle else "")
    return HistogramPanel(f"Days by net return, {label.lower()}", unit, edges, counts, "day", curve, ("mean", mean))


def _costs_by_window(evidence: PortfolioEvidence, line: str) -> BarPanel:
    """P&L before costs, what was paid and what was left, by trading window."""
    told = {row["fold"]: row for row in evidence.summary["attribution"][line]["folds"]}
    rows = [told[entry.fold.name] for entry in evidence.roster.completed]

    def values(key: str) -> FloatArray:
        return np.array([row[key] for row in rows], dtype=np.float64)

    charges = (BarSeries(CHARGE_NAMES[name], -values(name), _CHARGE_COLOURS[name]) for name in CHARGES)
    return BarPanel(
        f"{_name(line)} by window, % of capital",
        tuple(f"{entry.fold.formation_end:%d %b %y}" for entry in evidence.roster.completed),
        (BarSeries("Before costs", values("gross"), "#9db8c7"), *charges),
        BarSeries("Net", values("net"), style.INK),
        digits=2,
    )


def _contribution(evidence: PortfolioEvidence) -> BarPanel:
    chosen = {line["fold"]: set(line["champions"]) for line in evidence.summary["folds"]}
    rows = []
    for pair_id, trades in evidence.trades.items():
        if trades.empty:
            continue
        was = trades["fold"].map(lambda fold, pair_id=pair_id: pair_id in chosen.get(fold, ()))
        rows.append((pair_id, float(trades.loc[was, "net_pnl"].sum()), float(trades.loc[~was, "net_pnl"].sum())))
    rows.sort(key=lambda row: (-(row[1] + row[2]), row[0]))
    if len(rows) > N_CONTRIBUTIONS:  # the best and the worst; those between them as one
        n = N_CONTRIBUTIONS // 2
        between = rows[n:-n]
        rest = (f"{len(between)} pairs between", sum(row[1] for row in between), sum(row[2] for row in between))
        rows = [*rows[:n], rest, *rows[-n:]]
    return BarPanel(
        "Net P&L by pair alone, % of notional",
        tuple(row[0] for row in rows),
        (
            BarSeries("As a champion", np.array([row[1] for row in rows]), style.CHAMPIONS),
            BarSeries("On the roster only", np.array([row[2] for row in rows]), "#b9cdd8"),
        ),
        horizontal=True,
    )


def _exposure_text(evidence: PortfolioEvidence) -> tuple[str, ...]:
    if evidence.fills.empty:
        return ("The champions portfolio held nothing in any window.",)
    return ()


def _exposure(
    evidence: PortfolioEvidence,
    book: pd.DataFrame,
    starts: tuple[pd.Timestamp, ...],
    span: tuple[pd.Timestamp, pd.Timestamp],
    max_points: int,
) -> Stack:
    equity = evidence.equity["champions"].reindex(book.index).ffill()
    lines = tuple(
        Line(name.capitalize(), thinned(book[name] / equity, max_points), colour, 1.0, filled=name == "gross")
        for name, colour in (("gross", style.CHAMPIONS), ("net", style.ROSTER))
    )
    panel = TimePanel("Exposure of the champions, % of equity", lines, form="percent", digits=0)
    return Stack((panel,), starts, span)


def _folds(evidence: PortfolioEvidence) -> tuple[Table, ...]:
    rows = [
        (
            line["fold"], day(line["trading_start"]), day(line["trading_end"]), count(line["n_pairs"]),
            count(line["n_champions"]), count(line["n_trades"]), percent(line["champions_return"], 2),
            percent(line["roster_return"], 2),
        )
        for line in evidence.summary["folds"]
    ]  # fmt: skip
    columns = ("Fold", "From", "To", "#Pairs", "#Champions", "#Trades", "#Net, champions", "#Net, whole roster")
    note = "Trades are those of all roster pairs, each alone. Both returns are of portfolio equity."
    return table(f"Each trading window, {OUT_OF_SAMPLE}", columns, rows, note=note)


def _pairs_text(evidence: PortfolioEvidence) -> tuple[str, ...]:
    if evidence.roster.pairs:
        return ()
    return ("No pair is on any roster. Pairs come from the screen: kedro run --pipelines screening",)


def _pairs_of(evidence: PortfolioEvidence) -> tuple[Pair, ...]:
    """The pairs that have a sheet of their own."""
    return sheet_pairs(evidence.roster, {pair_id: len(trades) for pair_id, trades in evidence.trades.items()})


def _pair_rows(evidence: PortfolioEvidence) -> tuple[Table, ...]:
    live = {entry.pair.id for entry in evidence.roster.live.pairs}
    rows = []
    for pair in _pairs_of(evidence):
        trades = evidence.trades.get(pair.id)
        n = 0 if trades is None else len(trades)
        net, paid = (
            (0.0, 0.0) if trades is None or not n else (float(trades["net_pnl"].sum()), float(trades["costs"].sum()))
        )
        hit = MISSING if trades is None or not n else percent(float((trades["net_pnl"] > 0).mean()), 0)
        windows = len(windows_of(pair, evidence.roster))
        rows.append((net, (pair.id, "yes" if pair.id in live else "no", count(windows), count(n), hit,
                           percent(net + paid, 2), percent(paid, 2), percent(net, 2))))  # fmt: skip
    rows.sort(key=lambda row: (-row[0], row[1][0]))
    columns = ("Pair", "On the live roster", "#Windows", "#Trades", "#Hit rate", "#Before costs", "#Costs", "#Net")
    note = "Each pair alone on one notional, % of it. Each name leads to the pair's own sheet."
    return table(f"Pairs, {OUT_OF_SAMPLE}", columns, [row for _, row in rows], note=note)
