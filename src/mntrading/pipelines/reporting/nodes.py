"""The two reports, each as Markdown and as one HTML file, and the figures of the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mntrading.core.bars import timeframe_ms
from mntrading.core.menu import Item
from mntrading.core.roster import Roster
from mntrading.datasets import BarStore, Partitions, Unavailable
from mntrading.params import BacktestParams, FeatureParams, ReportingParams, ScreeningParams, StatisticsParams
from mntrading.pipelines.common import digest
from mntrading.pipelines.reporting.sheets import sheet_addresses
from mntrading.reporting.account_sections import PAIRS, pairs_figure, paper_figures
from mntrading.reporting.context import ReportContext
from mntrading.reporting.evidence import BarRange, Live, PairRecord, Research, Shadow, doubts_of
from mntrading.reporting.figures import draw
from mntrading.reporting.health import health_figures
from mntrading.reporting.recent import recent_start, recent_z
from mntrading.reporting.render import render_html, render_markdown
from mntrading.reporting.screen_figures import screen_figures
from mntrading.reporting.sections import latest_context, research_context
from mntrading.reporting.shadow import beside, shadow_figures
from mntrading.reporting.tear_sheets import PORTFOLIO

RESEARCH_HTML = "_research_report.html"
LATEST_HTML = "_latest_report.html"
SHEETS = "tear_sheets"
_DAYS = 7
_MOST_PAIRS = 12


def render_research_report(
    ohlcv_1h: BarStore,
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    roster: dict[str, Any],
    screened_pairs: Partitions,
    cointegration_tests: Partitions,
    pair_curves: Partitions,
    pair_windows: Partitions,
    trades: Partitions,
    equity_curves: pd.DataFrame,
    backtest_summary: dict[str, Any],
    robustness: dict[str, Any],
    model_scores: dict[str, Any],
    champion_registry: dict[str, Any],
    run_record: dict[str, Any],
    screening: ScreeningParams,
    backtest: BacktestParams,
    statistics: StatisticsParams,
    reporting: ReportingParams,
) -> tuple[str, str, dict[str, Any]]:
    """What research found and how it would have traded: Markdown, HTML, and the figures as plotly has them."""
    research = _research(
        ohlcv_1h, ohlcv_5m, markets, roster, screened_pairs, cointegration_tests, pair_curves,
        pair_windows, trades,
        equity_curves, backtest_summary, robustness, model_scores, champion_registry, run_record,
        screening, backtest, statistics, reporting,
    )  # fmt: skip
    context, figures = _with_sheets(research_context(research, RESEARCH_HTML), research, SHEETS), draw(research)
    plain = {name: _plain(figure) for name, figure in figures.items()}
    return render_markdown(context, figures), render_html(context, figures), plain


def render_report(
    production_map: dict[str, Any],
    signals: Mapping[str, Any],
    position_state: dict[str, Any],
    latest_orders: dict[str, Any],
    monitoring: dict[str, Any],
    paper_account: dict[str, Any],
    paper_equity: Partitions,
    production_log: list[dict[str, Any]] | None,
    shadow_record: dict[str, Any] | Unavailable | None,
    shadow_equity: Partitions | Unavailable,
    ohlcv_1h: BarStore,
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    roster: dict[str, Any],
    screened_pairs: Partitions,
    cointegration_tests: Partitions,
    pair_curves: Partitions,
    pair_windows: Partitions,
    trades: Partitions,
    equity_curves: pd.DataFrame,
    backtest_summary: dict[str, Any],
    robustness: dict[str, Any],
    model_scores: dict[str, Any],
    champion_registry: dict[str, Any],
    run_record: dict[str, Any],
    screening: ScreeningParams,
    backtest: BacktestParams,
    statistics: StatisticsParams,
    reporting: ReportingParams,
) -> tuple[str, str]:
    """What to do now, and what it rests on; Markdown and HTML."""
    research = _research(
        ohlcv_1h, ohlcv_5m, markets, roster, screened_pairs, cointegration_tests, pair_curves,
        pair_windows, trades,
        equity_curves, backtest_summary, robustness, model_scores, champion_registry, run_record,
        screening, backtest, statistics, reporting,
    )  # fmt: skip
    stamp = f"{pd.Timestamp(position_state['as_of']):%Y%m%dT%H%M%SZ}"
    current = production_map["inputs"]["champion_registry"] == digest(champion_registry)
    equity = pd.concat([paper_equity[day] for day in sorted(paper_equity)])
    live = Live(
        production_map, current, signals[stamp], latest_orders, monitoring, paper_account, equity,
        position_state["pairs"], production_log or [], _shadow(shadow_record, shadow_equity, equity),
    )  # fmt: skip
    context = _with_sheets(latest_context(research, live, LATEST_HTML), research, f"../backtest_results/{SHEETS}")
    points = reporting.max_points
    figures = draw(research) | health_figures(monitoring) | paper_figures(live, max_points=points)
    figures |= shadow_figures(live.shadow, max_points=points)
    recent = _recent_z(ohlcv_5m, production_map, pd.Timestamp(latest_orders["bar_close"]))
    if recent:
        levels = {entry["pair_id"]: entry["rule"] for entry in production_map["pairs"]}
        figures[PAIRS] = pairs_figure(recent, levels, max_points=points)
    return render_markdown(context, figures), render_html(context, figures)


def _shadow(
    record: dict[str, Any] | Unavailable | None, equity: Partitions | Unavailable, production: pd.DataFrame
) -> Shadow:
    """The challengers' record and both accounts since it began; or why there is none to be shown."""
    nothing = pd.DataFrame()
    if isinstance(record, Unavailable):
        return Shadow(None, nothing, record.why, record.trouble)
    if record is None:
        return Shadow(None, nothing, "none has run yet", trouble=False)
    if isinstance(equity, Unavailable):
        return Shadow(None, nothing, equity.why, equity.trouble)
    return beside(record, equity, production)


def _recent_z(ohlcv_5m: BarStore, production_map: Mapping[str, Any], bar_close: pd.Timestamp) -> dict[str, pd.Series]:
    """z of the first pairs in production over the last days, on the windows each is traded by."""
    features = FeatureParams.model_validate(production_map["features"])
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")
    out = {}
    for entry in production_map["pairs"][:_MOST_PAIRS]:
        item, symbols = Item.of_rule(entry["rule"]), (entry["dependent"], entry["independent"])
        if all(symbol in ohlcv_5m for symbol in symbols):
            start = recent_start(bar_close, item, features, step, _DAYS)
            a, b = (ohlcv_5m.between(symbol, start, bar_close) for symbol in symbols)
            out[entry["pair_id"]] = recent_z((a, b), item, features, bar_close, _DAYS)
    return {pair_id: z for pair_id, z in out.items() if z.notna().any()}


def draw_screen(
    roster: dict[str, Any], screened_pairs: Partitions, cointegration_tests: Partitions, screening: ScreeningParams
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The live fold's p-values as a heat map, and its pairs as a network, as plotly has them."""
    fold = Roster.parse(roster).live.fold
    screen, tests = screened_pairs[f"screened_pairs_{fold.stamp}"], cointegration_tests[fold.stamp]
    heat_map, network = screen_figures(screen, tests, level=screening.level)
    return _plain(heat_map), _plain(network)


def _with_sheets(context: ReportContext, research: Research, folder: str) -> ReportContext:
    """The report with the way to the tear sheets, from the names of pairs too."""
    links = sheet_addresses(research.roster, research.summary, folder)
    return replace(context, pages=(("Tear sheets", links.pop(PORTFOLIO)),), links=links)


def _plain(figure: go.Figure) -> dict[str, Any]:
    return dict(json.loads(figure.to_json()))


def _research(
    ohlcv_1h: BarStore,
    ohlcv_5m: BarStore,
    markets: Mapping[str, Any],
    roster: Mapping[str, Any],
    screened_pairs: Partitions,
    cointegration_tests: Partitions,
    pair_curves: Partitions,
    pair_windows: Partitions,
    trades: Partitions,
    equity_curves: pd.DataFrame,
    backtest_summary: Mapping[str, Any],
    robustness: Mapping[str, Any],
    model_scores: Mapping[str, Any],
    champion_registry: Mapping[str, Any],
    run_record: Mapping[str, Any],
    screening: ScreeningParams,
    backtest: BacktestParams,
    statistics: StatisticsParams,
    reporting: ReportingParams,
) -> Research:
    """The artefacts as plain values; of the heavy ones only the best pair's are read."""
    parsed = Roster.parse(roster)
    documents = {
        "markets": markets,
        "roster": roster,
        "backtest_summary": backtest_summary,
        "robustness": robustness,
        "model_scores": model_scores,
        "champion_registry": champion_registry,
    }
    folders = {"ohlcv_1h": ohlcv_1h, "ohlcv_5m": ohlcv_5m, "pair_curves": pair_curves, "trades": trades}
    hashes = {name: digest(value) for name, value in {**documents, **folders, "equity_curves": equity_curves}.items()}
    blocks = {"screening": screening, "backtest": backtest, "statistics": statistics}
    return Research(
        as_of=pd.Timestamp(markets["as_of"]),
        source=markets["source"],
        bars=tuple(_bar_range(store, markets["source"]) for store in (ohlcv_1h, ohlcv_5m)),
        roster=parsed,
        screens={entry.fold.name: screened_pairs[f"screened_pairs_{entry.fold.stamp}"] for entry in parsed.folds},
        tests=cointegration_tests[parsed.live.fold.stamp],
        summary=backtest_summary,
        equity=equity_curves,
        best=_best(backtest_summary, pair_curves, pair_windows, trades),
        robustness=robustness,
        scores=model_scores,
        registry=champion_registry,
        run=run_record,
        hashes=hashes,
        doubts=doubts_of(
            hashes["roster"],
            roster,
            backtest_summary,
            robustness,
            champion_registry,
            {name: digest(block.model_dump(mode="json")) for name, block in blocks.items()},
        ),
        screening=screening,
        strategy=backtest.strategy,
        costs=backtest.costs,
        level=statistics.level,
        reporting=reporting,
    )


def _best(
    summary: Mapping[str, Any], pair_curves: Partitions, pair_windows: Partitions, trades: Partitions
) -> PairRecord | None:
    """The pair of the highest net P&L, None where none was traded."""
    if not summary["pairs"]:
        return None
    pair_id = summary["pairs"][0]["pair_id"]
    return PairRecord(pair_id, pair_curves[pair_id], trades[pair_id], pair_windows[pair_id])


def _bar_range(store: BarStore, source: str) -> BarRange:
    return BarRange.of(store.timeframe, store.source or source, [store.entry(symbol) for symbol in store])
