"""What the live report says of the paper account: changes, positions, record, risk and advice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mntrading.core.types import Pair
from mntrading.reporting.account_sections import (
    PAPER,
    account_section,
    advice_section,
    book_section,
    changes_section,
    effective,
    pairs_figure,
    paper_figures,
    risk_section,
)

GOOD, BAD = Pair("AAA/USDT", "BBB/USDT"), Pair("CCC/USDT", "DDD/USDT")


def test_changes_are_told_since_the_cycle_before(live):
    section = changes_section(live)
    # 100,200 at the bar before, 100,100 now
    assert section.points[:2] == (
        "Equity 100,100.00, -0.10% since 2024-01-19 23:55 UTC.",
        f"Opened: {GOOD.id} (short the spread).",
    )
    fills, promotions = section.tables
    assert fills.rows == (("2024-01-19 23:55", "sell", GOOD.dependent, "31,917.3", "0.33", "5.00", "1.00"),)
    assert promotions.rows[0][1:] == ("promote", "f" * 12, GOOD.id, "–", "–", "costs.fee_rate")


def test_a_pair_that_left_and_one_that_could_not_be_filled_are_told(live):
    held = {**live.account["book"]["holdings"][0], "pair_id": BAD.id}
    before = {**live.account["before"], "book": {"cash": 1.0, "holdings": [held]}}
    account = {**live.account, "before": before, "off": ["X__Y"], "book": {"cash": 1.0, "holdings": []}, "fills": []}
    points = changes_section(replace(live, account=account)).points
    assert points[1:] == (f"Closed: {BAD.id}.", "Not filled, a leg had no bar: X__Y.")


def test_the_first_bar_has_nothing_before_it(idle):
    assert changes_section(idle).text == ("This is the account's first bar, 2024-01-20 00:00 UTC.",)


def test_positions_have_what_they_earned_since_their_fills(live):
    (row,) = book_section(live).tables[0].rows
    # short 31,917.3 from 0.33 to 0.320224, long 5 from 1990 to 2000
    earned = 31917.3 * (0.33 - 0.320224) + 5 * 10
    assert row[5:] == (f"{earned:,.2f}", "7")
    # the strategy has left and entered again while the account could not follow
    other = {GOOD.id: {"strategy": live.positions[GOOD.id]["strategy"] | {"side": 1}}}
    assert book_section(replace(live, positions=other)).tables[0].rows[0][5] == "–"
    assert book_section(replace(live, positions={})).tables[0].rows[0][5:] == ("–", "–")


def test_the_account_is_told_by_its_return_and_drawdown(live, research):
    text = account_section(live, research).text[0]
    assert "began with 100,000.00" in text
    assert "0.10% below its peak" in text  # 100,200 to 100,100
    assert "too few to compare" in account_section(live, research).text[1]


def test_after_enough_days_live_is_held_against_the_backtest(live, research, monkeypatch):
    monkeypatch.setattr("mntrading.reporting.account_sections._DAYS_TO_COMPARE", 8)  # the two windows have eight days
    rng = np.random.default_rng(1)
    days = pd.date_range("2024-01-01T23:55Z", periods=30, freq="D")
    growth = pd.DataFrame({"equity": 1e5 * np.cumprod(1 + rng.normal(-0.01, 0.002, 30))}, index=days)
    first = research.roster.completed[0].fold.formation_end
    windows = pd.date_range(first, periods=8 * 24, freq="h", name="timestamp")
    backtest = pd.DataFrame({"champions": 1e5 * np.cumprod(1 + rng.normal(0, 0.001, len(windows)))}, index=windows)
    text = account_section(replace(live, equity=growth), replace(research, equity=backtest)).text[1]
    assert "standard errors" in text
    assert "-1.0" in text or "-0.9" in text  # per cent a day


def test_risk_tells_weights_and_concentration(live, idle):
    section = risk_section(live)
    assert section.tables[0].rows == (("AAA/USDT", "short", "-10.0%", "-31,917.3"),)
    assert "worth 1.0 symbols" in section.text[0]
    assert "nothing is at risk" in risk_section(idle).text[0]
    assert effective(np.array([0.1, 0.1, 0.2])) == pytest.approx(1 / (0.25**2 + 0.25**2 + 0.5**2))


def test_advice_names_doubts_expiry_and_drift_with_what_to_run(live, idle, health_of):
    assert advice_section(idle).text == ("Nothing needs attention.",)
    doubted = {**live.signals[0], "doubts": ["bars are 3 bars old"]}
    soon = {**live.production_map, "expires": "2024-01-21T06:00:00Z"}
    advice = advice_section(
        replace(live, signals=(doubted,), production_map=soon, current=False, monitoring=health_of(GOOD, drifted=True))
    ).points
    assert advice[0] == f"{GOOD.id} may not be entered: bars are 3 bars old."
    assert advice[1] == "Production expires in 30 hours: kedro run --pipelines full_cycle."
    assert "promote_preview" in advice[2]
    assert advice[3].startswith("Monitoring: ")


def test_the_curve_is_drawn_once_the_account_has_traded(live, idle):
    assert set(paper_figures(live, max_points=100)) == {PAPER}
    assert paper_figures(idle, max_points=100) == {}
    quiet = {**live.account, "totals": dict.fromkeys(live.account["totals"], 0.0)}
    assert paper_figures(replace(live, account=quiet), max_points=100) == {}


def test_every_pair_has_its_z_and_levels_below_the_others():
    index = pd.date_range("2024-01-01", periods=500, freq="5min", tz="UTC")
    z = {GOOD.id: pd.Series(np.sin(np.arange(500.0)), index), BAD.id: pd.Series(np.full(500, np.nan), index)}
    z[BAD.id].iloc[7] = -3.0
    levels = {name: {"entry_z": 2.0, "exit_z": 0.0, "stop_z": 4.0} for name in z}
    figure = pairs_figure(z, levels, max_points=50)
    assert [title.text for title in figure.layout.annotations] == [name.replace("__", " / ") for name in z]
    assert all(len(trace.x) <= 50 for trace in figure.data)
    # entry and stop on both sides of zero, an exit at zero once, for each of the two pairs
    assert sorted(shape.y0 for shape in figure.layout.shapes) == sorted([-4.0, -2.0, 0.0, 2.0, 4.0] * 2)
    assert figure.layout.yaxis2.range[1] == pytest.approx(1.1 * 3.0)
