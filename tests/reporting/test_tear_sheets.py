"""Tear sheets: what they show, what they say when there is nothing, how large they are, and that bytes repeat."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mntrading.core.roster import Roster, RosterPair
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets.codecs import codec
from mntrading.reporting.pair_sheets import PairEvidence, pair_sheet
from mntrading.reporting.panels import Stack
from mntrading.reporting.performance_figures import panel_figure
from mntrading.reporting.png import WIDTH, sheet_png
from mntrading.reporting.portfolio_sheets import PortfolioEvidence, portfolio_sheet
from mntrading.reporting.render import render_sheet
from mntrading.reporting.tear_sheets import PORTFOLIO, Provenance, sheet_pairs, span_of

DAY = pd.Timedelta(1, unit="D")
START = pd.Timestamp("2024-01-01", tz="UTC")
PAIR, NEW, GONE = Pair("AAA/USDT", "BBB/USDT"), Pair("CCC/USDT", "DDD/USDT"), Pair("EEE/USDT", "FFF/USDT")
FOLDS = (
    Fold("fold_00", START, START + 20 * DAY, START + 41 * DAY),
    Fold("fold_01", START + 21 * DAY, START + 41 * DAY, START + 62 * DAY),
    Fold("fold_02", START + 42 * DAY, START + 62 * DAY, START + 83 * DAY),
    Fold("live", START + 65 * DAY, START + 85 * DAY, None),
)
ABOUT = Provenance(START + 85 * DAY, "files:/bars", {"trades": "ab" * 32, "roster": "cd" * 32})
REASONS = (
    "reverted: z back at the exit level",
    "stop: z beyond the stop level",
    "time: held longer than the time stop",
)
TOTAL = {
    "total_return": 0.05,
    "sharpe": 1.2,
    "sharpe_low": -0.5,
    "sharpe_high": 2.9,
    "deflated_sharpe": 0.4,
    "n_trials": 8.0,
    "max_drawdown": 0.02,
    "costs": 0.01,
    "exposure": 0.2,
    "n_days": 63.0,
    "n_fills": 8.0,
}
LINE = {
    "net_pnl": 0.05,
    "gross_pnl": 0.09,
    "costs": 0.04,
    "cost_share": 0.44,
    "sharpe": 1.2,
    "sharpe_low": -0.5,
    "sharpe_high": 2.9,
    "deflated_sharpe": 0.4,
    "n_trials": 8.0,
    "hit_rate": 0.6,
    "mean_holding_hours": 3.0,
}
LEVELS = pd.DataFrame(
    {
        "fold": ["fold_00", "fold_02"],
        "rule": ["configured", "4032 · 2016"],
        "entry_z": [2.0, 1.5],
        "exit_z": [0.5, 0.0],
        "stop_z": [4.0, 5.0],
    }
)


def grid(start, end):
    return pd.date_range(start, end, freq="5min", inclusive="left", unit="ms", name="timestamp")


def roster_of(*pairs_by_fold):
    row = {pair: RosterPair(pair, 6.0, 0.001, 1.1) for pair in (PAIR, NEW, GONE)}
    return Roster.build((fold, [row[pair] for pair in pairs]) for fold, pairs in zip(FOLDS, pairs_by_fold, strict=True))


def trades_in(index, fold, n, seed=0):
    """``n`` trades spread over a window."""
    rng = np.random.default_rng(seed)
    entry = np.linspace(10, len(index) - 80, n).astype(int)
    leave = entry + rng.integers(5, 60, n)
    side = rng.choice([-1, 1], n)
    gross = rng.normal(0.002, 0.004, n)
    return pd.DataFrame(
        {
            "fold": fold,
            "entry_decision": index[entry - 1],
            "entry_fill": index[entry],
            "exit_decision": index[leave - 1],
            "exit_fill": index[leave],
            "side": side,
            "entry_z": -side * rng.uniform(2, 3.9, n),
            "exit_z": -side * rng.uniform(0, 0.5, n),
            "probability": np.nan,
            "threshold": np.nan,
            "hedge_ratio": 1.0,
            "units_a": 0.5 * side,
            "units_b": -0.5 * side,
            "entry_price_a": 1.0,
            "entry_price_b": 1.0,
            "exit_price_a": 1.0,
            "exit_price_b": 1.0,
            "gross_pnl": gross,
            "costs": 0.00125,
            "net_pnl": gross - 0.00125,
            "bars_held": leave - entry,
            "reason": rng.choice(REASONS, n),
            "across_gap": False,
        }
    )


def curve_of(index, fold, trades, seed=0):
    """What the engine would keep of a window: costs at both fills, P&L at the exit."""
    rng = np.random.default_rng(seed)
    entry, leave = (index.searchsorted(pd.DatetimeIndex(trades[f"{end}_fill"])) for end in ("entry", "exit"))
    gross, paid = np.zeros(len(index)), np.zeros(len(index))
    np.add.at(gross, leave, trades["gross_pnl"])
    for at in (entry, leave):
        np.add.at(paid, at, trades["costs"] / 2)
    side = np.zeros(len(index))
    for first, last, way in zip(entry, leave, trades["side"], strict=True):
        side[first:last] = way
    return pd.DataFrame(
        {
            "fold": fold,
            "equity": 1 + np.cumsum(gross - paid),
            "side": side,
            "fees": paid * 0.8,
            "slippage": paid * 0.2,
            "borrow": 0.0,
            "spread": rng.normal(0, 0.01, len(index)),
            "z": rng.normal(0, 1, len(index)),
            "hedge_ratio": 1.0,
        },
        index=index,
    )


def market(pair, start, end, seed=0):
    index = grid(start, end)
    rng = np.random.default_rng(seed)
    signals = pd.DataFrame({"spread": rng.normal(0, 0.01, len(index)), "z": 0.5, "hedge_ratio": 1.0}, index=index)
    closes = {one: 10 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(index)))) for one in pair.symbols}
    return signals, pd.DataFrame(closes, index=index)


@pytest.fixture
def traded():
    """Two windows, the one between them without the pair."""
    roster = roster_of([PAIR], [GONE], [PAIR], [PAIR])
    signals, closes = market(PAIR, START, START + 85 * DAY)
    parts = []
    for fold, n in ((FOLDS[0], 12), (FOLDS[2], 20)):
        index = grid(fold.formation_end, fold.trading_end)
        trades = trades_in(index, fold.name, n, n)
        parts.append((trades, curve_of(index, fold.name, trades)))
    return PairEvidence(
        PAIR,
        roster,
        signals,
        closes,
        pd.concat([curve for _, curve in parts]),
        LEVELS,
        pd.concat([trades for trades, _ in parts], ignore_index=True),
        LINE,
        {"pair_id": PAIR.id, "champion": False, "challenger": True, "reasons": ["does not survive 2× costs"]},
    )


@pytest.fixture
def idle(traded):
    """On the roster and never entered."""
    return replace(
        traded, trades=traded.trades.iloc[:0], curve=traded.curve.assign(equity=1.0, side=0.0, fees=0.0, slippage=0.0)
    )


@pytest.fixture
def new():
    """On the live roster for the first time."""
    signals, closes = market(NEW, START, START + 85 * DAY)
    nothing = curve_of(grid(START, START), "fold_00", trades_in(grid(START, START + DAY), "x", 2).iloc[:0])
    trades = trades_in(grid(START, START + DAY), "x", 2).iloc[:0]
    roster = roster_of([PAIR], [PAIR], [], [NEW])
    return PairEvidence(NEW, roster, signals, closes, nothing, LEVELS.iloc[:0], trades, None, None)


@pytest.fixture
def book(traded):
    index = grid(FOLDS[0].formation_end, FOLDS[2].trading_end)
    rng = np.random.default_rng(1)
    curves = {
        name: 1e5 * (1 + np.cumsum(rng.normal(0, 2e-5, len(index)))) for name in ("champions", "roster", "buy_and_hold")
    }
    at = index[[100, 100, 900, 900]]
    fills = pd.DataFrame(
        {
            "time": at,
            "symbol": [*PAIR.symbols, *PAIR.symbols],
            "quantity": [100.0, -100.0, -100.0, 100.0],
            "price": 10.0,
            "fee": 0.5,
            "slippage": 0.1,
        }
    )
    folds = [
        {
            "fold": fold.name,
            "trading_start": f"{fold.formation_end}",
            "trading_end": f"{fold.trading_end}",
            "n_pairs": 1,
            "n_champions": n,
            "champions": [PAIR.id] * n,
            "n_trades": 12,
            "champions_return": 0.01,
            "roster_return": 0.02,
        }
        for n, fold in enumerate(FOLDS[:2])
    ]
    amounts = {"gross": 0.02, "fees": 0.004, "slippage": 0.002, "borrow": 0.001, "net": 0.013}
    paid = {"folds": [{"fold": fold.name, **amounts} for fold in FOLDS[:3]]}
    return PortfolioEvidence(
        traded.roster,
        pd.DataFrame(curves, index=index),
        fills,
        traded.closes,
        {PAIR.id: traded.trades},
        {
            "portfolio": {"champions": TOTAL, "roster": TOTAL},
            "folds": folds,
            "attribution": {"champions": paid, "roster": paid},
        },
        1e5,
        0.95,
    )


@pytest.fixture
def rules(params):
    return params.backtest.strategy


def of_pair(evidence, rules, n=500, about=ABOUT):
    return pair_sheet(evidence, rules, about, level=0.95, max_points=n)


def of_book(evidence, n=500):
    return portfolio_sheet(evidence, ABOUT, max_points=n)


def page_of(sheet):
    figures = {name: panel_figure(panel) for name, panel in sheet.panels.items()}
    return render_sheet(sheet.context, figures, halves=sheet.halves, ways=(("Portfolio", "portfolio.html"),))


def said(sheet):
    return " ".join(text for section in sheet.context.sections for text in section.text)


def test_a_pair_has_a_sheet_if_it_traded_or_is_on_the_live_roster():
    roster = roster_of([PAIR], [GONE], [PAIR], [NEW])
    assert sheet_pairs(roster, {PAIR.id: 3, GONE.id: 0}) == (PAIR, NEW)
    assert span_of(NEW, roster) == (FOLDS[-1].formation_start, FOLDS[-1].formation_end)
    assert span_of(PAIR, roster) == (FOLDS[0].formation_end, FOLDS[2].trading_end)


def test_every_figure_a_section_names_is_drawn_and_every_panel_is_named(traded, book, rules):
    for sheet in (of_pair(traded, rules), of_book(book)):
        named = {name for section in sheet.context.sections for name in section.figures}
        assert named == set(sheet.panels) == {name for row in sheet.rows for name in row}
        assert set(sheet.context.captions) >= named


def test_lines_are_thinned_and_trades_stand_where_they_were_made(traded, rules):
    stack = of_pair(traded, rules, n=100).panels["signal"]
    for panel in stack.panels:
        assert all(0 < len(line.values) <= 100 for line in panel.lines)
    trades = traded.trades
    figure = panel_figure(stack)
    drawn = [trace for trace in figure.data if trace.mode == "markers"]
    entries = [trace for trace in drawn if "entry" in trace.name]
    exits = [trace for trace in drawn if trace.name.startswith("Exit")]
    for traces, end in ((entries, "entry"), (exits, "exit")):
        shown = {(x, float(y)) for trace in traces for x, y in zip(trace.x, trace.y, strict=True)}
        times = trades[f"{end}_decision"].dt.strftime("%Y-%m-%dT%H:%M")
        assert shown == set(zip(times, trades[f"{end}_z"].astype(float), strict=True))
    lost = {trace.name for trace in drawn if "loss" in trace.name}
    assert lost
    assert all(trace.marker.symbol.endswith("-open") == (trace.name in lost) for trace in drawn)
    assert any(REASONS[0] in text for trace in exits for text in trace.text)


def test_no_mark_lies_outside_what_is_shown_of_z(traded, rules):
    far = replace(traded, trades=traded.trades.assign(exit_z=9.0))
    low, high = of_pair(far, rules).panels["signal"].panels[0].bounds
    assert low < -9.0
    assert high > 9.0


def test_a_window_without_the_pair_breaks_the_lines(traded, rules):
    for panel in of_pair(traded, rules).panels["signal"].panels[:3]:
        between = panel.lines[0].values.loc[FOLDS[1].formation_end : FOLDS[1].trading_end - pd.Timedelta(5, unit="min")]
        assert between.isna().all()
        assert len(between) > 0


def test_levels_are_those_of_each_window(traded, rules):
    panel = of_pair(traded, rules).panels["signal"].panels[0]
    entry = next(level for level in panel.levels if level.name == "entry +1.5")
    assert entry.stretches == (
        (FOLDS[0].formation_end, FOLDS[0].trading_end, 2.0),
        (FOLDS[2].formation_end, FOLDS[2].trading_end, 1.5),
    )
    low, high = panel.bounds
    assert low < -5.0
    assert high > 5.0


def test_the_waterfall_falls_from_before_costs_to_net(traded, rules):
    steps = of_pair(traded, rules).panels["costs"].steps
    assert sum(steps[:-1]) == pytest.approx(steps[-1])
    assert steps[0] == pytest.approx(traded.trades["gross_pnl"].sum())
    assert steps[-1] == pytest.approx(traded.trades["net_pnl"].sum())


def test_the_curve_ends_where_the_trades_sum_up(traded, rules):
    gross, net = (line.values for line in of_pair(traded, rules).panels["performance"].panels[0].lines)
    assert net.iloc[-1] == pytest.approx(traded.trades["net_pnl"].sum())
    assert gross.iloc[-1] == pytest.approx(traded.trades["gross_pnl"].sum())


def test_costs_of_each_window_leave_what_is_left(book):
    for name in ("champion_costs", "roster_costs"):
        bars = of_book(book).panels[name]
        assert sum(one.values for one in bars.bars) == pytest.approx(bars.total.values)


def test_a_line_that_goes_much_further_has_a_panel_of_its_own(book):
    rising = np.linspace(1e5, 2e5, len(book.equity))
    stack = of_book(replace(book, equity=book.equity.assign(buy_and_hold=rising, cash=1e5))).panels["performance"]
    first, second = ({line.name for line in panel.lines} for panel in stack.panels[:2])
    assert first == {"Champions", "Whole roster"}
    assert second == {"Champions", "Whole roster", "Buy and hold, equal weights"}


def test_whatever_stands_beside_the_portfolios_is_drawn(book):
    stack = of_book(book).panels["performance"]
    assert {line.name for line in stack.panels[0].lines} == {"Champions", "Whole roster", "Buy and hold, equal weights"}
    assert "Buy and hold" in said(of_book(book))


def test_every_page_is_below_five_megabytes_at_the_most_points_allowed(traded, book, rules):
    index = grid(FOLDS[0].formation_end, FOLDS[0].trading_end)
    many = trades_in(index, "fold_00", 3000)
    crowded = replace(traded, trades=many, curve=curve_of(index, "fold_00", many))
    for sheet in (of_pair(crowded, rules, n=5000), of_book(book, n=5000)):
        assert len(page_of(sheet).encode()) < 5_000_000
    lines = {f"line_{n}": book.equity["roster"] for n in range(8)}
    crowded = replace(book, equity=book.equity.assign(**lines))
    assert len(page_of(of_book(crowded, n=5000)).encode()) < 5_000_000


def test_a_page_asks_for_nothing_outside(traded, rules):
    page = page_of(of_pair(traded, rules))
    ours = re.sub(r'(?s)id="library">.*?</script>', "", page, count=1)
    assert len(page) - len(ours) > 1_000_000
    assert "://" not in ours
    assert "@import" not in ours
    assert "default-src 'none'" in ours


def test_the_same_evidence_gives_the_same_bytes(traded, book, rules):
    for sheet in (of_pair(traded, rules), of_book(book)):
        assert page_of(sheet) == page_of(sheet)
    assert sheet_png(of_pair(traded, rules)) == sheet_png(of_pair(traded, rules))


def test_settings_of_the_process_do_not_reach_the_picture(idle, rules):
    import matplotlib as mpl

    sheet = of_pair(idle, rules)
    before = sheet_png(sheet)
    with mpl.rc_context({"font.size": 30, "figure.facecolor": "red", "savefig.dpi": 300, "timezone": "Asia/Tokyo"}):
        assert sheet_png(sheet) == before
        assert mpl.rcParams["font.size"] == 30


def test_a_picture_says_nothing_of_when_it_was_drawn(book):
    data = sheet_png(of_book(book))
    assert codec("png").decode(data) == data
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width == WIDTH
        assert set(picture.info) <= {"dpi"}
        assert len(picture.convert("RGB").resize((40, 40)).getcolors(1600)) > 20  # not a blank page


def test_a_pair_that_never_entered_says_how_far_z_went(idle, rules):
    sheet = of_pair(idle, rules)
    assert "entered no trade: |z| reached" in said(sheet)
    assert "kedro run" in said(sheet)
    assert set(sheet.panels) == {"signal"}
    assert "Each trading window" in page_of(sheet)
    assert sheet_png(sheet)


def test_a_pair_without_a_known_z_says_what_makes_it(idle, rules):
    blind = replace(idle, curve=idle.curve.assign(z=np.nan, spread=np.nan))
    sheet = of_pair(blind, rules)
    assert "kedro run --tags features" in said(sheet)
    assert "z is not known on any bar shown" in page_of(sheet)
    assert sheet_png(sheet)


def test_a_pair_without_a_window_is_shown_in_sample_and_says_so(new, rules):
    sheet = of_pair(new, rules)
    assert "not traded yet" in sheet.context.subtitle
    assert "no trade and no result" in said(sheet)
    assert sheet.context.captions["signal"].startswith("In sample")
    assert "out of sample" not in sheet.context.subtitle
    assert sheet.panels["signal"].span == (FOLDS[-1].formation_start, FOLDS[-1].formation_end)
    assert page_of(sheet)
    assert sheet_png(sheet)


def test_one_trade_is_enough_for_a_sheet(traded, rules):
    one = traded.trades.iloc[:1]
    index = grid(FOLDS[0].formation_end, FOLDS[0].trading_end)
    sheet = of_pair(replace(traded, trades=one, curve=curve_of(index, "fold_00", one)), rules)
    assert page_of(sheet)
    assert sheet_png(sheet)


def nothing_of(book, roster):
    empty = pd.DataFrame(index=book.equity.index[:0])
    summary = {"portfolio": dict.fromkeys(("champions", "roster"), TOTAL | {"n_fills": 0.0}), "folds": []}
    return replace(
        book, roster=roster, equity=empty, fills=book.fills.iloc[:0], closes=empty, trades={}, summary=summary
    )


@pytest.mark.parametrize(
    ("roster", "words"),
    [
        (roster_of([], [], [], []), "No pair passed the screen of any of 3 trading windows"),
        (roster_of([PAIR], [], [PAIR], []), "2 trading windows of 3 had a pair on its roster, and no pair entered"),
        (Roster.build([(FOLDS[-1], [])]), "No trading window is complete"),
    ],
)
def test_a_portfolio_of_nothing_says_what_is_missing_and_what_to_run(book, roster, words):
    sheet = of_book(nothing_of(book, roster))
    assert words in said(sheet)
    assert "kedro run" in said(sheet)
    assert not sheet.panels
    page = page_of(sheet)
    assert words in page
    assert "<script" not in page
    assert sheet_png(sheet)


def test_champions_in_cash_are_shown_beside_the_roster(book):
    cash = replace(book, fills=book.fills.iloc[:0], equity=book.equity.assign(champions=1e5))
    sheet = of_book(cash)
    assert "stayed in cash" in said(sheet)
    assert "whole roster" in sheet.panels["returns"].title
    assert "exposure" not in sheet.panels
    assert sheet_png(sheet)


def test_hostile_text_is_shown_and_not_obeyed(traded, rules):
    hostile = "<script>alert(1)</script> $x$ %{y}"
    evil = replace(
        traded,
        trades=traded.trades.assign(reason=hostile),
        verdict={"champion": True, "challenger": False, "reasons": [hostile]},
    )
    about = replace(ABOUT, source=hostile)
    sheet = of_pair(evil, rules, about=about)
    assert "<script>alert" not in page_of(sheet)
    assert sheet_png(sheet)


def test_simulated_bars_are_named(traded, rules):
    about = replace(ABOUT, source="simulator demo seed 0")
    sheet = of_pair(traded, rules, about=about)
    assert "Simulated market" in sheet.context.notices[0]
    assert PORTFOLIO not in sheet.context.title


def test_a_stack_marks_where_each_window_begins(book):
    stack = of_book(book).panels["performance"]
    assert isinstance(stack, Stack)
    assert stack.starts == (FOLDS[1].formation_end, FOLDS[2].formation_end)
