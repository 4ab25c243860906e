"""Tear sheets of the pairs and of the portfolio, a page and a picture each. One whose inputs are unchanged is left."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from types import ModuleType
from typing import Any
from urllib.parse import quote

import pandas as pd

from mntrading.core import menu
from mntrading.core.code import code_of
from mntrading.core.roster import Roster
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Commit, Keyed, Partitions
from mntrading.datasets.storage import content_hash
from mntrading.params import (
    BacktestParams,
    ComputeParams,
    FeatureParams,
    PortfolioParams,
    ReportingParams,
    StatisticsParams,
)
from mntrading.pipelines.common import digest, fan_out, header
from mntrading.reporting import (
    attribution,
    pair_sheets,
    panels,
    performance_figures,
    png,
    portfolio_sheets,
    render,
    style,
    tear_sheets,
)
from mntrading.reporting.pair_sheets import PairEvidence, pair_sheet
from mntrading.reporting.performance_figures import panel_figure
from mntrading.reporting.png import sheet_png
from mntrading.reporting.portfolio_sheets import PortfolioEvidence, portfolio_sheet
from mntrading.reporting.render import render_sheet
from mntrading.reporting.tear_sheets import PORTFOLIO, Provenance, TearSheet, sheet_pairs, span_of

LOGGER = logging.getLogger(__name__)

_DRAWN_BY: tuple[ModuleType, ...] = (
    attribution, pair_sheets, panels, performance_figures, png, portfolio_sheets, render, style, tear_sheets,
)  # fmt: skip
Chunk = tuple[dict[str, Keyed] | Commit, dict[str, Keyed] | Commit]


def draw_tear_sheets(
    pair_menus: Partitions,
    pair_curves: Partitions,
    pair_windows: Partitions,
    trades: Partitions,
    equity_curves: pd.DataFrame,
    portfolio_fills: pd.DataFrame,
    ohlcv_5m: BarStore,
    roster: dict[str, Any],
    markets: dict[str, Any],
    backtest_summary: dict[str, Any],
    champion_registry: dict[str, Any],
    backtest: BacktestParams,
    features: FeatureParams,
    sizes: PortfolioParams,
    statistics: StatisticsParams,
    reporting: ReportingParams,
    compute: ComputeParams,
    tear_sheets_stored: Partitions,
    tear_sheet_images_stored: Partitions,
) -> Iterator[Chunk]:
    """The sheet of every pair that was traded or is on the live roster, and of the portfolio: pages and pictures."""
    stored = (tear_sheets_stored, tear_sheet_images_stored)
    made = digest(roster)
    if {made} != {backtest_summary["inputs"]["roster"], trades.meta["inputs"]["roster"]}:
        LOGGER.warning("tear sheets: the backtest is of another roster, sheets are left as they are. Run: kedro run")
        yield _as_stored(tear_sheets_stored), _as_stored(tear_sheet_images_stored)
        return
    parsed, verdicts = Roster.parse(roster), _verdicts(champion_registry, made)
    as_of, source = pd.Timestamp(markets["as_of"]), markets["source"]
    lines = {line["pair_id"]: line for line in backtest_summary["pairs"]}
    pairs = sheet_pairs(parsed, _trade_counts(backtest_summary))
    said = [_code(), as_of, source, made, backtest.model_dump(mode="json"), statistics.level, reporting.max_points]
    of_pair = {"pair_curves": pair_curves, "pair_windows": pair_windows, "trades": trades}
    digests = {name: part.digests for name, part in {**of_pair, "pair_menus": pair_menus}.items()}
    keys = {}
    for pair in pairs:
        parts = [one[pair.id] for one in digests.values()] + [ohlcv_5m.digest_of(one) for one in pair.symbols]
        keys[pair] = content_hash([said, parts, verdicts.get(pair.id), lines.get(pair.id)])

    def draw(pair: Pair) -> Chunk:
        curve = pair_curves[pair.id]
        rule, formation = backtest.strategy, curve
        if curve.empty:  # on the live roster for the first time: as the menu chose it for what comes
            item = menu.chosen_item(pair_menus[pair.id])
            rule = item.applied(rule)
            market = menu.Market(ohlcv_5m[pair.dependent], ohlcv_5m[pair.independent])
            formation = market.spread((item.beta_window, item.z_window), features)
        evidence = PairEvidence(
            pair=pair,
            roster=parsed,
            formation=formation,
            closes=ohlcv_5m.wide("close", pair.symbols, *span_of(pair, parsed)),
            curve=curve,
            windows=pair_windows[pair.id],
            trades=trades[pair.id],
            line=lines.get(pair.id),
            verdict=verdicts.get(pair.id),
        )
        about = Provenance(as_of, source, {name: digests[name][pair.id] for name in of_pair} | {"roster": made})
        sheet = pair_sheet(evidence, rule, about, level=statistics.level, max_points=reporting.max_points)
        return _chunk(sheet, keys[pair])

    todo = [pair for pair in pairs if not all(one.is_current(pair.id, keys[pair]) for one in stored)]
    LOGGER.info("tear sheets: %d of %d pairs to be drawn, the others are as stored", len(todo), len(pairs))
    yield from fan_out(draw, todo, compute, "tear sheets")
    inputs = {
        "trades": trades,
        "equity_curves": equity_curves,
        "portfolio_fills": portfolio_fills,
        "backtest_summary": backtest_summary,
        "roster": roster,
    }
    hashes = {name: digest(one) for name, one in inputs.items()}
    whole = content_hash([said, sizes.capital, ohlcv_5m.digest, hashes])
    if not all(one.is_current(PORTFOLIO, whole) for one in stored):
        book = PortfolioEvidence(
            roster=parsed,
            equity=equity_curves,
            fills=portfolio_fills,
            closes=_closes(ohlcv_5m, parsed, portfolio_fills),
            trades={pair.id: trades[pair.id] for pair in pairs},
            summary=backtest_summary,
            capital=sizes.capital,
            level=statistics.level,
        )
        about = Provenance(as_of, source, hashes)
        yield _chunk(portfolio_sheet(book, about, max_points=reporting.max_points), whole)
    head = header(roster["as_of"], inputs, {"backtest": backtest, "reporting": reporting})
    commit = Commit((*(pair.id for pair in pairs), PORTFOLIO), head)
    yield commit, commit


def _as_stored(sheets: Partitions) -> Commit:
    return Commit(tuple(sheets), sheets.meta)


def _trade_counts(summary: Mapping[str, Any]) -> dict[str, float]:
    return {line["pair_id"]: line["n_trades"] for line in summary["pairs"]}


def sheet_addresses(roster: Roster, summary: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Relative address of every sheet by its name, the portfolio's first."""
    names = [PORTFOLIO, *(pair.id for pair in sheet_pairs(roster, _trade_counts(summary)))]
    return {name: f"{folder}/{quote(name)}.html" for name in names}


def _chunk(sheet: TearSheet, key: str) -> Chunk:
    figures = {name: panel_figure(panel) for name, panel in sheet.panels.items()}
    ways = [("Research report", "../_research_report.html"), ("Portfolio", f"{PORTFOLIO}.html")]
    picture = ("This sheet as a picture", f"images/{quote(sheet.name)}.png")
    shown = [way for way in ways if sheet.name != PORTFOLIO or way[0] != "Portfolio"]
    page = render_sheet(sheet.context, figures, halves=sheet.halves, ways=(*shown, picture))
    return {sheet.name: Keyed(page, key)}, {sheet.name: Keyed(sheet_png(sheet), key)}


def _verdicts(registry: Mapping[str, Any], made: str) -> dict[str, Mapping[str, Any]]:
    """The registry's entries by pair; none where it is of another roster."""
    if registry["inputs"]["roster"] != made:
        return {}
    return {entry["pair_id"]: entry for entry in (*registry["champions"], *registry["rejected"])}


def _closes(ohlcv_5m: BarStore, roster: Roster, fills: pd.DataFrame) -> pd.DataFrame:
    """Closes over all trading windows of the symbols that the champions portfolio held."""
    if fills.empty or not roster.completed:
        return pd.DataFrame()
    start, end = roster.completed[0].fold.formation_end, roster.completed[-1].fold.trading_end
    return ohlcv_5m.wide("close", sorted(fills["symbol"].unique()), start, end)


@cache
def _code() -> str:
    """Hash of everything that draws: another hand draws another sheet of the same inputs."""
    templates = files("mntrading.reporting") / "templates"
    pages = [(templates / name).read_text() for name in ("report.html.j2", "tear_sheet.html.j2")]
    return content_hash([[code_of(one) for one in _DRAWN_BY], pages, version("matplotlib"), version("plotly")])
