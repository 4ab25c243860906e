"""What the reports are made of, read from the catalog instead of in a run, so that pages and reports say the same."""

from __future__ import annotations

from typing import Any, Final, cast

import pandas as pd

from mntrading.apps.dashboard.store import Store
from mntrading.core import menu
from mntrading.core.bars import timeframe_ms
from mntrading.core.roster import Roster
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Unavailable
from mntrading.datasets.storage import content_hash
from mntrading.params import (
    BacktestParams,
    FeatureParams,
    PortfolioParams,
    ReportingParams,
    ScreeningParams,
    StatisticsParams,
)
from mntrading.reporting.evidence import BarRange, Live, Research, Shadow, doubts_of
from mntrading.reporting.pair_sheets import PairEvidence, pair_sheet
from mntrading.reporting.portfolio_sheets import PortfolioEvidence, portfolio_sheet
from mntrading.reporting.recent import recent_start, recent_z
from mntrading.reporting.shadow import beside
from mntrading.reporting.tear_sheets import Provenance, TearSheet, span_of

RESEARCH: Final = (
    "ohlcv_1h", "ohlcv_5m", "markets", "roster", "screened_pairs", "cointegration_tests", "trades", "equity_curves",
    "backtest_summary", "robustness", "model_scores", "champion_registry", "run_record",
)  # fmt: skip
LIVE: Final = (
    "production_map", "signals", "position_state", "latest_orders", "monitoring", "paper_account", "paper_equity",
)  # fmt: skip
SHADOW: Final = ("shadow_record", "shadow_paper_equity")
SHEET: Final = (
    "pair_menus", "pair_curves", "pair_windows", "trades", "equity_curves", "portfolio_fills", "ohlcv_5m", "roster",
    "markets", "backtest_summary", "champion_registry",
)  # fmt: skip
MAX_POINTS: Final = 4_000
"""Of a trace; extremes are kept."""


def blocks(store: Store) -> dict[str, Any]:
    """Parameter blocks by name, under the names pages use."""
    return dict(store.parameters())


def features_of(parameters: dict[str, Any]) -> FeatureParams:
    """The features' block."""
    return cast(FeatureParams, parameters["feature_engineering"].features)


def research(store: Store) -> Research:
    """Everything up to champions, without the heavy parts."""
    names = ("markets", "roster", "backtest_summary", "robustness", "champion_registry", "model_scores", "run_record")
    markets, roster, summary, robustness, registry, scores, run = map(store.document, names)
    parsed = Roster.parse(roster)
    screening, backtest, statistics, reporting = _of_reports(store)
    own = {"screening": screening, "backtest": backtest, "statistics": statistics}
    return Research(
        as_of=pd.Timestamp(markets["as_of"]),
        source=markets["source"],
        bars=tuple(bar_range(store, name) for name in ("ohlcv_1h", "ohlcv_5m")),
        roster=parsed,
        screens={entry.fold.name: screen_of(store, entry.fold.stamp) for entry in parsed.folds},
        tests=store.part("cointegration_tests", parsed.live.fold.stamp),
        summary=summary,
        equity=store.document("equity_curves"),
        best=None,
        robustness=robustness,
        scores=scores,
        registry=registry,
        run=run,
        hashes={name: store.sha(name) for name in names},
        doubts=doubts_of(
            content_hash(roster), roster, summary, robustness, registry,
            {name: content_hash(block.model_dump(mode="json")) for name, block in own.items()},
        ),
        screening=screening,
        strategy=backtest.strategy,
        costs=backtest.costs,
        level=statistics.level,
        reporting=reporting,
    )  # fmt: skip


def _of_reports(store: Store) -> tuple[ScreeningParams, BacktestParams, StatisticsParams, ReportingParams]:
    given = blocks(store)
    return given["screening"], given["backtest"], given["statistics"], given["reporting"]


def screen_of(store: Store, stamp: str) -> dict[str, Any]:
    """The screen of a formation window."""
    return dict(store.part("screened_pairs", f"screened_pairs_{stamp}"))


def bar_range(store: Store, name: str) -> BarRange:
    """From when to when there are bars."""
    bars = store.bars(name)
    return BarRange.of(bars.timeframe, bars.source or "", [bars.entry(symbol) for symbol in bars])


def live(store: Store) -> Live:
    """What trades now."""
    names = ("production_map", "latest_orders", "monitoring", "paper_account", "position_state")
    production, orders, monitoring, account, state = map(store.document, names)
    registry = store.document("champion_registry") if store.has("champion_registry") else None
    current = registry is not None and production["inputs"]["champion_registry"] == content_hash(registry)
    stamp = f"{pd.Timestamp(state['as_of']):%Y%m%dT%H%M%SZ}"
    log = store.document("production_log") if store.has("production_log") else []
    equity = store.paper_equity()
    return Live(
        production, current, store.part("signals", stamp), orders, monitoring, account, equity, state["pairs"], log,
        _shadow(store, equity),
    )  # fmt: skip


def _shadow(store: Store, production: pd.DataFrame) -> Shadow:
    """Challengers beside production, or why there is nothing of them to be shown."""
    if not store.has(*SHADOW):
        return Shadow(None, pd.DataFrame(), "none has run yet", trouble=False)
    record, equity = store.document(SHADOW[0]), store.folder(SHADOW[1])
    for found in (record, equity):
        if isinstance(found, Unavailable):
            return Shadow(None, pd.DataFrame(), found.why, found.trouble)
    return beside(record, equity, production)


def z_of_production(store: Store, found: Live, days: int) -> dict[str, pd.Series]:
    """z of every pair in production over the last days, on the windows it is traded by."""
    bars, end = store.bars("ohlcv_5m"), pd.Timestamp(found.orders["bar_close"])
    features = FeatureParams.model_validate(found.production_map["features"])
    out = {}
    for entry in found.production_map["pairs"]:
        pair = Pair(entry["dependent"], entry["independent"])
        z = _recent(store, bars, pair, menu.Item.of_rule(entry["rule"]), features, end, days)
        if z is not None:
            out[pair.id] = z
    return out


def z_of_roster(store: Store, roster: Roster, days: int) -> dict[str, tuple[menu.Item, pd.Series | None]]:
    """Rule and z of every pair on the live roster over the last days, as the menu chose it for what comes."""
    bars, features = store.bars("ohlcv_5m"), features_of(blocks(store))
    out = {}
    for row in roster.live.pairs:
        table = store.part("pair_menus", row.pair.id)
        item = menu.chosen_item(table)
        end = _end_of(bars, row.pair)
        out[row.pair.id] = (item, None if end is None else _recent(store, bars, row.pair, item, features, end, days))
    return out


def _end_of(bars: BarStore, pair: Pair) -> pd.Timestamp | None:
    """Close of the newest bar that both legs have."""
    entries = [bars.entry(symbol) for symbol in pair.symbols if symbol in bars]
    lasts = [pd.Timestamp(entry["last"]) for entry in entries if "last" in entry]
    return min(lasts) + pd.Timedelta(timeframe_ms(bars.timeframe), unit="ms") if len(lasts) == 2 else None


def _recent(
    store: Store, bars: BarStore, pair: Pair, item: menu.Item, features: FeatureParams, end: pd.Timestamp, days: int
) -> pd.Series | None:
    if not all(symbol in bars for symbol in pair.symbols):
        return None
    hashes = tuple(bars.digest_of(symbol) for symbol in pair.symbols)
    windows = f"{item.beta_window}/{item.z_window}"
    key = (pair.id, windows, content_hash(features.model_dump(mode="json")), str(end), str(days), *hashes)

    def make() -> pd.Series:
        step = pd.Timedelta(timeframe_ms(bars.timeframe), unit="ms")
        start = recent_start(end, item, features, step, days)
        legs = (bars.between(pair.dependent, start, end), bars.between(pair.independent, start, end))
        return recent_z(legs, item, features, end, days)

    found = store.kept("recent z", key, make)
    return found if len(found) and bool(found.notna().any()) else None


def _about(store: Store) -> Provenance:
    markets = store.document("markets")
    names = ("roster", "trades", "backtest_summary")
    return Provenance(
        pd.Timestamp(markets["as_of"]), markets["source"], {name: store.sha(name) for name in names}
    )  # fmt: skip


def sheet_of_pair(store: Store, pair: Pair, fold: str | None) -> TearSheet:
    """A pair's sheet over all its trading windows, or over one of them.

    Parameters
    ----------
    store
        What is stored.
    pair
        A pair of the roster.
    fold
        Name of a fold whose trading window is shown alone; None for all.
    """
    parts = {name: store.folder(name).digests.get(pair.id, "") for name in ("pair_curves", "pair_windows", "trades")}
    bars = store.bars("ohlcv_5m")
    hashes = (*parts.values(), *(bars.digest_of(symbol) for symbol in pair.symbols if symbol in bars))
    documents = tuple(store.sha(name) for name in ("roster", "backtest_summary", "champion_registry"))
    given = content_hash({name: block.model_dump(mode="json") for name, block in blocks(store).items()})

    def make() -> TearSheet:
        return _pair_sheet(store, pair, fold)

    return store.kept("pair sheet", (pair.id, fold or "", given, *hashes, *documents), make)


def _pair_sheet(store: Store, pair: Pair, fold: str | None) -> TearSheet:
    given = blocks(store)
    roster = Roster.parse(store.document("roster"))
    summary, registry = store.document("backtest_summary"), store.document("champion_registry")
    curve, windows, trades = (store.part(name, pair.id) for name in ("pair_curves", "pair_windows", "trades"))
    bars = store.bars("ohlcv_5m")
    if fold is not None:
        roster = Roster((*(entry for entry in roster.completed if entry.fold.name == fold), roster.live))
        curve, trades = curve.loc[curve["fold"] == fold], trades.loc[trades["fold"] == fold]
    rule, formation = given["backtest"].strategy, curve
    if curve.empty:
        item = menu.chosen_item(store.part("pair_menus", pair.id))
        rule = item.applied(rule)
        market = menu.Market(bars[pair.dependent], bars[pair.independent])
        formation = market.spread((item.beta_window, item.z_window), features_of(given))
    lines = {line["pair_id"]: line for line in summary["pairs"]}
    verdicts = {entry["pair_id"]: entry for entry in (*registry["champions"], *registry["rejected"])}
    evidence = PairEvidence(
        pair=pair,
        roster=roster,
        formation=formation,
        closes=bars.wide("close", pair.symbols, *span_of(pair, roster)),
        curve=curve,
        windows=windows,
        trades=trades,
        line=lines.get(pair.id),
        verdict=verdicts.get(pair.id),
    )
    return pair_sheet(evidence, rule, _about(store), level=given["statistics"].level, max_points=MAX_POINTS)


def sheet_of_portfolio(store: Store) -> TearSheet:
    """The walk-forward portfolio's sheet."""
    given = blocks(store)
    sizes: PortfolioParams = given["portfolio"]
    hashed = content_hash({"capital": sizes.capital, "level": given["statistics"].level})

    def make() -> TearSheet:
        roster = Roster.parse(store.document("roster"))
        fills = store.document("portfolio_fills")
        trades = store.folder("trades")
        closes = pd.DataFrame()
        if not fills.empty and roster.completed:
            start, end = roster.completed[0].fold.formation_end, roster.completed[-1].fold.trading_end
            closes = store.bars("ohlcv_5m").wide("close", sorted(fills["symbol"].unique()), start, end)
        evidence = PortfolioEvidence(
            roster=roster,
            equity=store.document("equity_curves"),
            fills=fills,
            closes=closes,
            trades={pair_id: trades[pair_id] for pair_id in roster.pairs if pair_id in trades},
            summary=store.document("backtest_summary"),
            capital=sizes.capital,
            level=given["statistics"].level,
        )
        return portfolio_sheet(evidence, _about(store), max_points=MAX_POINTS)

    return store.made("portfolio sheet", SHEET, make, hashed)
