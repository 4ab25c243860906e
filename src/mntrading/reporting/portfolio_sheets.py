"""The walk-forward portfolio's tear sheet: what is stored of it in, words and panels out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core import metrics
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.types import FloatArray
from mntrading.params import CostParams
from mntrading.reporting import style
from mntrading.reporting.attribution import (
    book_of,
    trade_charges,
)
from mntrading.reporting.context import Fact, ReportContext, Section, Table, table
from mntrading.reporting.formats import MISSING, count, day, decimal, listed, moment, percent, plural
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
    is_inside,
    month_panel,
    rolling_panel,
    sheet_pairs,
    windows_of,
)

N_CONTRIBUTIONS: Final = 24

_ROWS: Final = (
    ("performance",), ("monthly",), ("champion_costs", "pair_costs"), ("returns", "contribution"), ("exposure",),
)  # fmt: skip
_NAMES: Final = {"champions": "Champions", "roster": "Whole roster"}
_COLOURS: Final = {"champions": style.CHAMPIONS, "roster": style.ROSTER}
_MOST_POINTS: Final = 40_000
"""Of all portfolios' lines together, so that the page stays small however many stand beside each other."""

_LEAST_POINTS: Final = 100
_OWN: Final[tuple[float, Dash]] = (1.8, "solid")
_BESIDE: Final[tuple[float, Dash]] = (1.2, "dash")
_CHARGE_COLOURS: Final = {
    "fees": "#b3403a", "slippage": "#d98c5f", "borrow": "#8a6fa8", "funding": "#6b8e9e", "other": "#a3abb3",
}  # fmt: skip


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
    level
        Level of the intervals.
    """

    roster: Roster
    equity: pd.DataFrame
    fills: pd.DataFrame
    closes: pd.DataFrame
    trades: Mapping[str, pd.DataFrame]
    summary: Mapping[str, Any]
    level: float


def portfolio_sheet(evidence: PortfolioEvidence, costs: CostParams, about: Provenance, *, max_points: int) -> TearSheet:
    """The sheet of the walk-forward portfolio, and the way to those of the pairs.

    Parameters
    ----------
    evidence
        What is stored of it.
    costs
        Rates that trades were charged at.
    about
        What the sheet says of itself.
    max_points
        Points of a line.
    """
    folds = evidence.roster.completed
    traded = any(len(trades) for trades in evidence.trades.values()) and len(evidence.equity) > 0
    panels = _panels(evidence, costs, max_points) if traded else {}
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
                figures=("champion_costs", "pair_costs", "returns", "contribution"),
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
    low, high = champions["sharpe_low"], champions["sharpe_high"]
    interval = (
        "no interval: too few or idle days"
        if low is None
        else f"{percent(evidence.level, 0)} interval {decimal(low)} to {decimal(high)}"
    )
    return (
        Fact("Net return, champions", percent(champions["total_return"], 2), f"{count(champions['n_days'])} days"),
        Fact("Sharpe, champions", decimal(champions["sharpe"]), interval),
        Fact("Drawdown, champions", percent(champions["max_drawdown"], 2), "the deepest, of equity"),
        Fact("Costs, champions", percent(champions["costs"], 2), "of starting capital"),
        Fact("Turnover, champions", f"{decimal(champions['turnover'], 1)}×", "starting capital"),
        Fact("Mean gross exposure", percent(champions["mean_gross"], 0), "of equity, champions"),
        Fact("Net return, whole roster", percent(roster["total_return"], 2), f"Sharpe {decimal(roster['sharpe'])}"),
        Fact("Fills, champions", count(champions["n_fills"]), f"whole roster {count(roster['n_fills'])}"),
    )


def _captions() -> dict[str, str]:
    return {
        "performance": "Net return since the start and how far below its highest value each portfolio lies; yearly "
        f"Sharpe ratio of the last {ROLLING_DAYS} days, in grey where luck alone would be 95% of the time. Dotted "
        "lines begin a trading window.",
        "monthly": "Net return of each month, compounded from daily returns.",
        "returns": "Days by the champions' net return (the whole roster's where there was no champion), and what a "
        "normal distribution of the same mean and deviation would count.",
        "champion_costs": "Champions portfolio: gross return of each window and what it paid, % of equity as the "
        "window begins. The diamond is what was left.",
        "pair_costs": "Every roster pair alone, mean of the pairs of each window, % of a pair's notional.",
        "contribution": "Net P&L of each pair alone over all its windows, % of its notional; dark in the windows it "
        "was a champion for.",
        "exposure": "Champions portfolio: gross and net notional held at each bar's close, % of equity.",
    }


def _name(column: object) -> str:
    return _NAMES.get(str(column), str(column).replace("_", " ").capitalize())


def _styled(columns: Iterable[object]) -> list[tuple[str, str, str]]:
    """Name, label and colour of each portfolio, the two main ones first."""
    names = [str(column) for column in columns]
    first = [name for name in _COLOURS if name in names]
    rest = [name for name in names if name not in _COLOURS]
    out = [(name, _name(name), _COLOURS[name]) for name in first]
    return out + [(name, _name(name), OTHER_COLOURS[i % len(OTHER_COLOURS)]) for i, name in enumerate(rest)]


def _panels(evidence: PortfolioEvidence, costs: CostParams, max_points: int) -> dict[str, Panel]:
    equity, folds = evidence.equity, evidence.roster.completed
    styled = _styled(equity.columns)
    max_points = max(min(max_points, _MOST_POINTS // len(styled)), _LEAST_POINTS)
    growth, below, ratios, months = [], [], [], []
    returns: dict[str, pd.Series] = {}
    for name, label, colour in styled:
        curve = equity[name].dropna()
        if curve.empty:
            continue
        width, dash = _OWN if name in _COLOURS else _BESIDE
        growth.append(Line(label, thinned(curve / curve.iloc[0] - 1, max_points), colour, width, dash))
        below.append(
            Line(label, thinned(-metrics.drawdown(curve), max_points), colour, 1.1, filled=name == "champions")
        )
        daily = metrics.daily_returns(curve)
        returns[name] = daily.loc[is_inside(pd.DatetimeIndex(daily.index), folds, by_day=True)]
        ratios.append((label, colour, returns[name]))
        months.append((label, metrics.monthly_table(returns[name])))
    stack = Stack(
        (
            TimePanel("Net return since the start", tuple(reversed(growth)), form="percent", digits=2, weight=1.8),
            TimePanel("Drawdown", tuple(reversed(below)), form="percent", digits=2),
            rolling_panel(reversed(ratios), max_points),
        ),
        tuple(entry.fold.formation_end for entry in folds[1:]),
        (folds[0].fold.formation_end, end_of(folds[-1])),
    )
    chosen = "champions" if len(evidence.fills) or "roster" not in returns else "roster"
    panels: dict[str, Panel] = {
        "performance": stack,
        "monthly": month_panel("Net return by month", months),
        "pair_costs": _pair_costs(evidence, costs),
        "contribution": _contribution(evidence),
    }
    if len(returns[chosen]):
        panels["returns"] = _day_histogram(_name(chosen), returns[chosen].to_numpy(dtype=np.float64))
    if len(evidence.fills) and len(evidence.closes):
        book = book_of(evidence.fills, evidence.closes, costs)
        panels["champion_costs"] = _champion_costs(evidence, book)
        panels["exposure"] = _exposure(evidence, book, stack, max_points)
    return panels


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


def _pair_costs(evidence: PortfolioEvidence, costs: CostParams) -> BarPanel:
    folds = evidence.roster.completed
    gross, net = np.zeros(len(folds)), np.zeros(len(folds))
    paid: dict[str, FloatArray] = {}
    size = np.array([max(len(entry.pairs), 1) for entry in folds], dtype=np.float64)
    number = {entry.fold.name: i for i, entry in enumerate(folds)}
    for trades in evidence.trades.values():
        if trades.empty:
            continue
        at = trades["fold"].map(number).to_numpy(dtype=np.int64)
        np.add.at(gross, at, trades["gross_pnl"].to_numpy(dtype=np.float64))
        np.add.at(net, at, trades["net_pnl"].to_numpy(dtype=np.float64))
        for name, values in trade_charges(trades, costs).items():
            np.add.at(paid.setdefault(str(name), np.zeros(len(folds))), at, values.to_numpy(dtype=np.float64))
    return _stacked(
        "All roster pairs, each alone: mean P&L, % of notional",
        folds, gross / size, {name: values / size for name, values in paid.items()}, net / size,
    )  # fmt: skip


def _champion_costs(evidence: PortfolioEvidence, book: pd.DataFrame) -> BarPanel:
    folds = evidence.roster.completed
    equity = evidence.equity["champions"]
    index = pd.DatetimeIndex(equity.index)
    times = pd.DatetimeIndex(evidence.fills["time"])
    paid = {name: np.zeros(len(folds)) for name in ("fees", "slippage", "borrow")}
    net = np.zeros(len(folds))
    for i, entry in enumerate(folds):
        start, end = entry.fold.formation_end, end_of(entry)
        first, last = (int(index.searchsorted(at)) for at in (start, end))
        if last <= first:
            continue
        capital = float(equity.iloc[max(first - 1, 0)])
        net[i] = float(equity.iloc[last - 1]) / capital - 1
        inside = (times >= start) & (times < end)
        paid["fees"][i] = float(evidence.fills.loc[inside, "fee"].sum()) / capital
        paid["slippage"][i] = float(evidence.fills.loc[inside, "slippage"].sum()) / capital
        held = book["borrow"].loc[(book.index >= start) & (book.index < end)]
        paid["borrow"][i] = float(held.sum()) / capital
    gross = net + sum(paid.values())
    return _stacked("Champions portfolio by window, % of equity", folds, gross, paid, net)


def _stacked(
    title: str, folds: Sequence[RosterFold], gross: FloatArray, paid: Mapping[str, FloatArray], net: FloatArray
) -> BarPanel:
    labels = tuple(f"{entry.fold.formation_end:%d %b %y}" for entry in folds)
    charges = tuple(
        BarSeries(CHARGE_NAMES[name], -paid[name], _CHARGE_COLOURS[name]) for name in CHARGE_NAMES if name in paid
    )
    return BarPanel(
        title, labels, (BarSeries("Gross", gross, "#9db8c7"), *charges), BarSeries("Net", net, style.INK), digits=2
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


def _exposure(evidence: PortfolioEvidence, book: pd.DataFrame, stack: Stack, max_points: int) -> Stack:
    equity = evidence.equity["champions"].reindex(book.index).ffill()
    lines = tuple(
        Line(name.capitalize(), thinned(book[name] / equity, max_points), colour, 1.0, filled=name == "gross")
        for name, colour in (("gross", style.CHAMPIONS), ("net", style.ROSTER))
    )
    panel = TimePanel("Exposure of the champions portfolio, % of equity", lines, form="percent", digits=0)
    return Stack((panel,), stack.starts, stack.span)


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


def _pair_rows(evidence: PortfolioEvidence) -> tuple[Table, ...]:
    live = {entry.pair.id for entry in evidence.roster.live.pairs}
    counts = {pair_id: len(trades) for pair_id, trades in evidence.trades.items()}
    rows = []
    for pair in sheet_pairs(evidence.roster, counts):
        trades = evidence.trades.get(pair.id)
        n = counts.get(pair.id, 0)
        net, paid = (
            (0.0, 0.0) if trades is None or not n else (float(trades["net_pnl"].sum()), float(trades["costs"].sum()))
        )
        hit = MISSING if trades is None or not n else percent(float((trades["net_pnl"] > 0).mean()), 0)
        windows = len(windows_of(pair, evidence.roster))
        rows.append((net, (pair.id, "yes" if pair.id in live else "no", count(windows), count(n), hit,
                           percent(net + paid, 2), percent(paid, 2), percent(net, 2))))  # fmt: skip
    rows.sort(key=lambda row: (-row[0], row[1][0]))
    columns = ("Pair", "On the live roster", "#Windows", "#Trades", "#Hit rate", "#Gross", "#Costs", "#Net")
    note = "Each pair alone on one notional, % of it. Each name leads to the pair's own sheet."
    return table(f"Pairs, {OUT_OF_SAMPLE}", columns, [row for _, row in rows], note=note)
