"""The screen of one window on made-up markets: what it finds, what it pays for, and what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_bars import changed, grid

from mntrading.core import mean_reversion
from mntrading.core.cointegration import engle_granger_pairs
from mntrading.core.multiple_testing import adjust
from mntrading.core.screening import NOT_SIGNIFICANT, PAIR_COLUMNS, SELECTED, screen
from mntrading.core.types import Pair
from mntrading.params import ScreeningParams

N = 1000


@pytest.fixture(scope="module")
def rules(params) -> ScreeningParams:
    universe = params.screening.universe.model_dump() | {"min_median_quote_volume": 0.0}
    return changed(params.screening, universe=universe, max_half_life_hours=48.0)


def market(
    n_walks: int, planted: list[tuple[int, int]], *, seed: int = 0, phi: float = 0.9, std: float = 0.01
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hourly walks with a common factor; each planted pair makes walk i follow walk j."""
    rng = np.random.default_rng(seed)
    walks = np.cumsum(rng.normal(0, 0.006, (N, n_walks)) + rng.normal(0, 0.004, (N, 1)), axis=0)
    for i, j in planted:
        noise = np.zeros(N)
        for t in range(1, N):
            noise[t] = phi * noise[t - 1] + std * np.sqrt(1 - phi**2) * rng.normal()
        walks[:, i] = 0.9 * walks[:, j] + noise
    close = pd.DataFrame(
        100 * np.exp(walks), index=grid(N, minutes=60), columns=[f"S{i:02d}/USDT" for i in range(n_walks)]
    )
    return close, pd.DataFrame(1_000.0, index=close.index, columns=close.columns)


def symbols(pair: Pair) -> frozenset[str]:
    return pair.unordered


def test_a_planted_pair_is_found_among_independent_walks(rules):
    close, volume = market(8, [(0, 1)])
    found = screen(close, volume, rules)
    assert {pair.unordered for pair in found.selected} == {frozenset({"S00/USDT", "S01/USDT"})}
    row = found.pairs.iloc[0]
    assert tuple(found.pairs.columns) == PAIR_COLUMNS
    assert (row["verdict"], row["reason"]) == (SELECTED, "")
    assert found.n_tests == len(found.tests) == 28
    assert found.rows_dropped == 0


def test_choosing_the_better_direction_and_testing_every_pair_are_paid_for(rules):
    close, volume = market(5, [(0, 1)])
    found = screen(close, volume, rules)
    ordered = engle_granger_pairs(np.log(close), max_lag=rules.max_lag, autolag=rules.autolag, trend=rules.trend)
    p = ordered.set_index(["dependent", "independent"])["p_value"]
    for row in found.tests.itertuples():
        there, back = p[(row.dependent, row.independent)], p[(row.independent, row.dependent)]
        assert row.p_value == min(there, back)
        assert row.p_both_directions == min(1.0, 2 * min(there, back))
    expected = adjust(found.tests["p_both_directions"].to_numpy(), method=rules.adjustment)
    np.testing.assert_array_equal(found.tests["p_adjusted"], expected)
    assert found.tests["p_adjusted"].is_monotonic_increasing


def test_diagnostics_are_those_of_the_formation_windows_residual(rules):
    close, volume = market(4, [(0, 1)])
    row = screen(close, volume, rules).pairs.iloc[0]
    logs = np.log(close)
    residual = logs[row["dependent"]] - row["alpha"] - row["beta"] * logs[row["independent"]]
    assert row["half_life_hours"] == pytest.approx(mean_reversion.half_life(residual))
    assert row["hurst"] == pytest.approx(mean_reversion.hurst(residual))
    assert row["mean_crossings"] == mean_reversion.mean_crossings(residual)
    moves = logs[[row["dependent"], row["independent"]]].diff().dropna()
    assert row["return_correlation"] == pytest.approx(moves.corr().iloc[0, 1])
    # the truth: a half-life of ln 2 / -ln 0.9 hours
    assert row["half_life_hours"] == pytest.approx(6.58, rel=0.25)


def test_bars_a_symbol_lacks_are_dropped_for_all_and_hours_stay_hours(rules):
    close, volume = market(4, [(0, 1)])
    whole = screen(close, volume, rules).pairs.iloc[0]
    close.iloc[[1, 500], 3] = np.nan
    found = screen(close, volume, rules)
    assert found.rows_dropped == 2
    assert found.pairs.iloc[0]["n_obs"] == N - 2
    assert found.pairs.iloc[0]["half_life_hours"] == pytest.approx(whole["half_life_hours"], rel=0.05)


def test_a_symbol_is_in_no_more_pairs_than_its_cap(rules):
    close, volume = market(7, [(1, 0), (2, 0), (3, 0), (4, 0)], std=0.004)
    found = screen(close, volume, changed(rules, max_pairs_per_symbol=2))
    counts = pd.Series([s for pair in found.selected for s in pair.symbols]).value_counts()
    assert counts.max() == 2
    assert found.funnel["symbol has its cap of pairs"] > 0
    assert len(screen(close, volume, changed(rules, max_pairs_per_symbol=20)).selected) > len(found.selected)


def test_a_full_roster_keeps_the_best(rules):
    close, volume = market(8, [(1, 0), (3, 2), (5, 4)])
    every = screen(close, volume, rules)
    one = screen(close, volume, changed(rules, max_pairs=1))
    assert len(every.selected) == 3
    assert one.selected == every.selected[:1]
    assert one.funnel["roster is full"] == 2


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"min_half_life_hours": 40.0}, "half-life too short"),
        ({"max_half_life_hours": 2.0}, "half-life too long"),
        ({"max_hurst": 0.01}, "Hurst exponent too high"),
        ({"min_mean_crossings": 900}, "too few mean crossings"),
        ({"min_return_correlation": 0.99}, "returns hardly correlated"),
        ({"max_return_correlation": 0.3}, "near-identical symbols"),
    ],
)
def test_each_gate_stops_a_significant_pair_and_says_so(rules, rule, reason):
    close, volume = market(4, [(0, 1)])
    found = screen(close, volume, changed(rules, **rule))
    assert found.selected == ()
    row = found.pairs.iloc[0]
    assert (row["verdict"], row["reason"]) == ("rejected", reason)
    assert found.funnel == {"tested": 6, NOT_SIGNIFICANT: 5, reason: 1, SELECTED: 0}


def test_the_nearest_misses_are_reported_and_no_more(rules):
    close, volume = market(6, [])
    found = screen(close, volume, changed(rules, n_reported=4))
    assert found.selected == ()
    assert found.pairs["reason"].tolist() == [NOT_SIGNIFICANT] * 4
    assert found.pairs["p_adjusted"].tolist() == found.tests["p_adjusted"].tolist()[:4]
    assert found.funnel == {"tested": 15, NOT_SIGNIFICANT: 15, SELECTED: 0}
    assert screen(close, volume, changed(rules, n_reported=0)).pairs.empty


# --- hysteresis


def between(rules: ScreeningParams, close: pd.DataFrame, volume: pd.DataFrame, **values: object) -> ScreeningParams:
    """Rules under which the market's best pair is too weak to enter and strong enough to stay."""
    best = float(screen(close, volume, rules).tests["p_adjusted"].iloc[0])
    return changed(rules, level=best / 2, keep_level=best * values.pop("times", 2.0), **values)


def test_a_pair_of_the_roster_stays_up_to_keep_level_and_leaves_after_it(rules):
    close, volume = market(5, [(0, 1)], phi=0.96, seed=3)
    pair = Pair(*screen(close, volume, rules).tests[["dependent", "independent"]].iloc[0])
    kept = between(rules, close, volume)
    assert screen(close, volume, kept).selected == ()
    assert screen(close, volume, kept, previous=[pair]).selected == (pair,)
    left = between(rules, close, volume, times=0.75)
    assert screen(close, volume, left, previous=[pair]).selected == ()
    other = Pair("S03/USDT", "S04/USDT")
    assert screen(close, volume, kept, previous=[other]).selected == ()


def test_a_pair_of_the_roster_keeps_its_direction_and_pays_for_both(rules):
    close, volume = market(5, [(0, 1)])
    (pair,) = screen(close, volume, rules).selected
    turned = Pair(*pair.symbols[::-1])
    fresh, held = screen(close, volume, rules), screen(close, volume, rules, previous=[turned])
    assert held.selected == (turned,)
    assert held.tests["p_both_directions"].iloc[0] == fresh.tests["p_both_directions"].iloc[0]
    expected = engle_granger_pairs(np.log(close), max_lag=rules.max_lag, autolag=rules.autolag, trend=rules.trend)
    row = expected.set_index(["dependent", "independent"]).loc[turned.symbols]
    assert held.pairs.iloc[0]["beta"] == row["beta"]
    assert held.pairs.iloc[0]["p_value"] == row["p_value"]


def test_a_kept_pair_beyond_the_reported_misses_is_still_kept(rules):
    close, volume = market(6, [(0, 1)], phi=0.96, seed=3)
    pair = Pair(*screen(close, volume, rules).tests[["dependent", "independent"]].iloc[0])
    kept = between(rules, close, volume, n_reported=0)
    found = screen(close, volume, kept, previous=[pair])
    assert found.selected == (pair,)
    assert found.pairs["reason"].tolist() == [""]


# --- nothing to test


def test_fewer_than_two_symbols_are_a_valid_empty_screen(rules):
    close, volume = market(3, [])
    for width in (0, 1):
        found = screen(close.iloc[:, :width], volume.iloc[:, :width], rules)
        assert found.selected == ()
        assert found.n_tests == 0
        assert found.funnel == {"tested": 0, SELECTED: 0}
        assert tuple(found.pairs.columns) == PAIR_COLUMNS
    strict = changed(rules, universe=rules.universe.model_dump() | {"min_median_quote_volume": 1e12})
    nothing = screen(close, volume, strict)
    assert nothing.universe.funnel["too little volume"] == 3
    assert nothing.selected == ()


def test_a_symbol_that_never_moves_is_a_test_without_a_result(rules):
    close, volume = market(3, [])
    close["S02/USDT"] = 1.0
    still = changed(rules, universe=rules.universe.model_dump() | {"min_daily_volatility": 0.0})
    found = screen(close, volume, still)
    assert found.n_tests == 3
    assert found.selected == ()
    assert found.pairs["reason"].tolist() == [NOT_SIGNIFICANT] * 3
    assert found.pairs["half_life_hours"].isna().sum() == 2


def test_the_number_of_threads_changes_nothing(rules):
    close, volume = market(6, [(0, 1)])
    one, two = (screen(close, volume, rules, n_threads=n) for n in (1, 2))
    pd.testing.assert_frame_equal(one.pairs, two.pairs, check_exact=True)
    pd.testing.assert_frame_equal(one.tests, two.tests, check_exact=True)


def test_matrices_given_are_left_as_they_were(rules):
    close, volume = market(4, [(0, 1)])
    before = close.copy(), volume.copy()
    screen(close, volume, rules)
    pd.testing.assert_frame_equal(close, before[0], check_exact=True)
    pd.testing.assert_frame_equal(volume, before[1], check_exact=True)
