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
    excluded_bases=("USDC", "wbtc"), max_gap_fraction=0.01, min_median_quote_volume=1_000.0, min_daily_volatility=0.01
)  # fmt: skip


@pytest.fixture
def matrices() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    symbols = ["USDC/USDT", "WBTC/USDT", "NEW/USDT", "GONE/USDT", "GAPS/USDT", "THIN/USDT", "PEG/USDT", "GOOD/USDT"]
    close = pd.DataFrame(
        100 * np.exp(np.cumsum(rng.normal(0, 0.005, (N, 8)), axis=0)), index=grid(N, minutes=60), columns=symbols
    )
    close.loc[close.index[:24], "NEW/USDT"] = np.nan
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
        "NEW/USDT": "not listed throughout",
        "GONE/USDT": "not listed throughout",
        "GAPS/USDT": "too many gaps",
        "THIN/USDT": "too little volume",
        "PEG/USDT": "hardly moves",
    }
    assert universe.symbols == ("GOOD/USDT",)
    assert universe.funnel == dict(zip((*REASONS, "passed"), (2, 2, 1, 1, 1, 1), strict=True))
    assert sum(universe.funnel.values()) == 8


def test_liquidity_is_the_median_quote_volume_of_the_bars_there_are(matrices):
    close, volume = matrices
    universe = select_universe(close, volume, RULES)
    expected = float((close["GOOD/USDT"].dropna() * 50.0).median())
    assert universe.liquidity.to_dict() == pytest.approx({"GOOD/USDT": expected})


def test_loose_rules_let_everything_through_but_what_was_not_listed(matrices):
    loose = changed(
        RULES, excluded_bases=(), max_gap_fraction=0.5, min_median_quote_volume=0.0, min_daily_volatility=0.0
    )
    assert set(select_universe(*matrices, loose).rejected) == {"NEW/USDT", "GONE/USDT"}


def test_a_window_without_bars_has_no_universe(matrices):
    close, volume = matrices
    universe = select_universe(close.iloc[:0], volume.iloc[:0], RULES)
    assert universe.symbols == ()
    assert universe.funnel["not listed throughout"] == 6
    none = select_universe(close[[]], volume[[]], RULES)
    assert none.symbols == ()
    assert sum(none.funnel.values()) == 0
