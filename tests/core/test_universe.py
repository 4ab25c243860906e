"""The universe's funnel: every reason hit once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_bars import changed, grid

from mntrading.core.universe import REASONS, select_universe
from mntrading.params import UniverseParams

N = 1000
RULES = UniverseParams(
    excluded_bases=("USDC", "wbtc"), min_history_fraction=0.98, max_gap_fraction=0.01,
    min_median_quote_volume=1_000.0, min_daily_volatility=0.01,
)  # fmt: skip


@pytest.fixture
def matrices() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    symbols = ["USDC/USDT", "WBTC/USDT", "NEW/USDT", "GONE/USDT", "GAPS/USDT", "THIN/USDT", "PEG/USDT", "GOOD/USDT"]
    close = pd.DataFrame(
        100 * np.exp(np.cumsum(rng.normal(0, 0.005, (N, 8)), axis=0)), index=grid(N, minutes=60), columns=symbols
    )
    close.loc[close.index[:24], "NEW/USDT"] = np.nan  # 97.6 % of the bars
    close.loc[close.index[-24:], "GONE/USDT"] = np.nan
    close.loc[close.index[100:111], "GAPS/USDT"] = np.nan
    close.loc[close.index[:5], "GOOD/USDT"] = np.nan  # a day's first hours missing is no late listing
    close.loc[close.index[-4:], "GOOD/USDT"] = np.nan
    close["PEG/USDT"] = 1.0 + 1e-5 * rng.normal(size=N)
    volume = pd.DataFrame(50.0, index=close.index, columns=symbols)
    volume["PEG/USDT"] = 2_000.0
    volume["THIN/USDT"] = 1.0
    return close, volume


def test_each_reason_stops_the_symbol_it_is_made_for(matrices):
    universe = select_universe(*matrices, RULES)
    assert universe.rejected == {
        "USDC/USDT": "excluded base",
        "WBTC/USDT": "excluded base",
        "NEW/USDT": "too little history",
        "GONE/USDT": "not listed throughout",
        "GAPS/USDT": "too many gaps",
        "THIN/USDT": "too little volume",
        "PEG/USDT": "hardly moves",
    }
    assert universe.symbols == ("GOOD/USDT",)
    assert universe.funnel == dict(zip((*REASONS, "passed"), (2, 1, 1, 1, 1, 1, 1), strict=True))
    assert sum(universe.funnel.values()) == 8


def test_liquidity_is_the_median_quote_volume_of_the_bars_there_are(matrices):
    close, volume = matrices
    universe = select_universe(close, volume, RULES)
    expected = float((close["GOOD/USDT"].dropna() * 50.0).median())
    assert universe.liquidity.to_dict() == pytest.approx({"GOOD/USDT": expected})


LOOSE = changed(RULES, excluded_bases=(), max_gap_fraction=0.5, min_median_quote_volume=0.0, min_daily_volatility=0.0)


def test_loose_rules_let_everything_through_but_what_was_not_listed(matrices):
    assert set(select_universe(*matrices, LOOSE).rejected) == {"NEW/USDT", "GONE/USDT"}


def test_a_late_listing_needs_its_share_of_the_windows_bars_to_the_bar(matrices):
    for history, stopped in ((0.976, False), (0.977, True)):
        rejected = select_universe(*matrices, changed(LOOSE, min_history_fraction=history)).rejected
        assert rejected.get("NEW/USDT") == ("too little history" if stopped else None)
        assert rejected["GONE/USDT"] == "not listed throughout"


def test_gaps_count_from_a_late_listing_on(matrices):
    close, volume = matrices
    young = changed(LOOSE, min_history_fraction=0.5, max_gap_fraction=0.0)
    assert "NEW/USDT" in select_universe(close, volume, young).symbols
    holes = close.copy()
    holes.iloc[600:610, holes.columns.get_loc("NEW/USDT")] = np.nan
    for allowed, stopped in ((10 / 976, False), (9.9 / 976, True)):
        rejected = select_universe(holes, volume, changed(young, max_gap_fraction=allowed)).rejected
        assert rejected.get("NEW/USDT") == ("too many gaps" if stopped else None)


def test_a_symbol_listed_throughout_needs_no_share_of_bars(matrices):
    close, volume = matrices
    holes = close.copy()
    holes.iloc[100:500, holes.columns.get_loc("GOOD/USDT")] = np.nan
    assert "GOOD/USDT" in select_universe(holes, volume, LOOSE).symbols


def test_a_window_without_bars_has_no_universe(matrices):
    close, volume = matrices
    universe = select_universe(close.iloc[:0], volume.iloc[:0], RULES)
    assert universe.symbols == ()
    assert universe.funnel["not listed throughout"] == 6
    none = select_universe(close[[]], volume[[]], RULES)
    assert none.symbols == ()
    assert sum(none.funnel.values()) == 0
