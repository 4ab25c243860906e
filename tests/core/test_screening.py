"""The screen of one window on made-up markets: what it finds, what it pays for, and what it says."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from made_bars import changed, grid

from mntrading.core import confirmation, mean_reversion
from mntrading.core.cointegration import engle_granger_pairs, engle_granger_residuals, white_t_stats
from mntrading.core.mackinnon import mackinnon_p_value
from mntrading.core.multiple_testing import adjust
from mntrading.core.screening import (
    CONFIRMATION_COLUMNS,
    NOT_AMONG_BEST,
    NOT_SIGNIFICANT,
    PAIR_COLUMNS,
    SELECTED,
    screen,
)
from mntrading.core.types import Pair
from mntrading.params import ScreeningParams
from mntrading.pipelines.common import rows as plain_rows

N = 1000
OFF = {
    "johansen_level": None, "johansen_lags": 1, "kpss_level": None, "kpss_lags": None, "n_windows": 5,
    "min_stable_share": None, "max_hedge_ratio_drift": None, "break_level": None, "break_trim": 0.15,
}  # fmt: skip
LENIENT = OFF | {
    "johansen_level": 0.10, "kpss_level": 0.01, "min_stable_share": 0.0, "max_hedge_ratio_drift": 100.0,
    "break_level": 0.001,
}  # fmt: skip


@pytest.fixture(scope="module")
def rules(params) -> ScreeningParams:
    universe = params.screening.universe.model_dump() | {"min_median_quote_volume": 0.0}
    return changed(params.screening, universe=universe, max_half_life_hours=48.0, confirmation=OFF)


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


def exact(close: pd.DataFrame, pairs: list[Pair], rules: ScreeningParams) -> pd.DataFrame:
    """The tests of these pairs from their residuals."""
    return engle_granger_residuals(
        np.log(close), pairs, max_lag=rules.max_lag, autolag=rules.autolag, trend=rules.trend
    )


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
        assert row.p_value == pytest.approx(min(there, back), rel=1e-9, abs=1e-15)
        assert row.p_robust == row.p_value
        assert row.p_both_directions == min(1.0, 2 * row.p_robust)
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


def test_a_symbol_listed_inside_the_window_is_tested_on_its_own_bars(rules):
    close, volume = market(5, [(0, 1)])
    late = close.copy()
    late.iloc[:80, 0] = np.nan
    found = screen(late, volume, rules)
    assert found.rows_dropped == 0
    assert [symbols(pair) for pair in found.selected] == [{"S00/USDT", "S01/USDT"}]
    row = found.pairs.iloc[0]
    assert row["n_obs"] == N - 80
    of_its_bars = screen(close.iloc[80:], volume.iloc[80:], rules).pairs.iloc[0]
    figures = ["alpha", "beta", "t_stat", "p_value", "lag", "half_life_hours", "hurst", "return_correlation"]
    assert row[figures].tolist() == of_its_bars[figures].tolist()
    others = found.tests.loc[~found.tests["pair_id"].str.contains("S00")]
    assert (others["n_obs"] == N).all()


def test_a_gap_after_a_late_listing_is_dropped_and_the_bars_before_it_are_not(rules):
    close, volume = market(4, [(0, 1)])
    close.iloc[:80, 2] = np.nan
    close.iloc[500, 2] = np.nan
    found = screen(close, volume, rules)
    assert found.rows_dropped == 1
    assert found.pairs.iloc[0]["n_obs"] == N - 1


def test_the_figures_of_a_significant_pair_owe_nothing_to_its_company(rules):
    close, volume = market(9, [(0, 1)])
    alone = screen(close.iloc[:, :2], volume.iloc[:, :2], rules).pairs.iloc[0]
    among = screen(close, volume, rules).pairs.iloc[0]
    own = ["dependent", "alpha", "beta", "t_stat", "p_value", "lag", "n_obs", "half_life_hours", "hurst"]
    assert alone[own].tolist() == among[own].tolist()
    (row,) = exact(close, [Pair(among["dependent"], among["independent"])], rules).to_dict("records")
    assert {name: among[name] for name in row} == row


def test_a_robust_screen_believes_the_weaker_of_two_standard_errors(rules):
    close, volume = market(8, [(0, 1), (2, 3)], phi=0.95)
    plain, robust = screen(close, volume, rules), screen(close, volume, changed(rules, robust=True))
    in_reach = robust.tests["p_adjusted"] <= rules.keep_level
    assert 2 <= in_reach.sum() < len(in_reach)
    near = robust.tests.loc[in_reach]
    t_white = white_t_stats(np.log(close), near)
    assert near["t_white"].tolist() == t_white.tolist()
    weaker = np.maximum(near["p_value"], mackinnon_p_value(t_white))
    assert near["p_robust"].tolist() == weaker.tolist()
    assert (near["p_both_directions"] >= np.minimum(1.0, 2 * near["p_value"])).all()
    assert robust.tests.loc[~in_reach, "p_robust"].ge(robust.tests.loc[~in_reach, "p_value"]).all()
    assert set(robust.selected) <= set(plain.selected)
    assert plain.tests["t_white"].isna().all()


def test_testing_only_those_in_reach_robustly_finds_what_testing_all_would(rules):
    close, volume = market(10, [(0, 1), (2, 3), (4, 5)], phi=0.97, seed=5)
    found = screen(close, volume, changed(rules, robust=True)).tests
    logs = np.log(close)
    every = engle_granger_pairs(logs, max_lag=rules.max_lag, autolag=rules.autolag, trend=rules.trend)
    robust = np.maximum(every["p_value"], mackinnon_p_value(white_t_stats(logs, every)))
    p = dict(zip(zip(every["dependent"], every["independent"], strict=True), robust, strict=True))
    pairs = [(a, b) for a in logs for b in logs if a < b]
    both = np.array([min(1.0, 2 * min(p[a, b], p[b, a])) for a, b in pairs])
    for level in (rules.level, rules.keep_level):
        expected = {frozenset(pair) for pair, q in zip(pairs, adjust(both, method="bh"), strict=True) if q <= level}
        rows = found.loc[found["p_adjusted"] <= level]
        assert {frozenset(legs) for legs in zip(rows["dependent"], rows["independent"], strict=True)} == expected
        assert expected


@pytest.mark.parametrize("trend", ["n", "ct"])
def test_residuals_are_those_of_the_trend_that_was_tested(rules, trend):
    close, volume = market(4, [(0, 1)])
    row = screen(close, volume, changed(rules, trend=trend)).pairs.iloc[0]
    a, b = (np.log(close[row[leg]]).to_numpy() for leg in ("dependent", "independent"))
    terms = {"n": [b], "ct": [b, np.ones(N), np.arange(N)]}[trend]
    design = np.column_stack(terms)
    residual = a - design @ np.linalg.lstsq(design, a, rcond=None)[0]
    assert row["half_life_hours"] == pytest.approx(mean_reversion.half_life(residual), rel=1e-6)


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
    (row,) = exact(close, [turned], rules).to_dict("records")
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


def test_progress_counts_the_tests_of_both_directions(rules):
    seen: list[tuple[int, int]] = []
    found = screen(*market(6, [(0, 1)]), rules, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 * found.n_tests, 2 * found.n_tests) == (30, 30)


def test_matrices_given_are_left_as_they_were(rules):
    close, volume = market(4, [(0, 1)])
    before = close.copy(), volume.copy()
    screen(close, volume, rules)
    pd.testing.assert_frame_equal(close, before[0], check_exact=True)
    pd.testing.assert_frame_equal(volume, before[1], check_exact=True)


# --- confirmation


def test_figures_of_the_confirmations_that_are_on_stand_in_the_row(rules):
    close, volume = market(4, [(0, 1)])
    found = screen(close, volume, changed(rules, confirmation=LENIENT))
    row = found.pairs.iloc[0]
    assert row["verdict"] == SELECTED
    a, b = (np.log(close[row[leg]]) for leg in ("dependent", "independent"))
    assert row["johansen_trace"] == confirmation.johansen_trace(a, b, n_lags=1).rank_0
    residual = a - row["alpha"] - row["beta"] * b
    assert row["kpss_statistic"] == pytest.approx(confirmation.kpss(residual).statistic)
    assert row["stable_share"] == confirmation.subwindow_stability(a, b, n_windows=5)
    assert row["hedge_ratio_drift"] == confirmation.hedge_ratio_drift(a, b, n_windows=5)
    assert row["break_p"] == confirmation.structural_break(a, b, trim=0.15).p_value
    others = found.pairs.iloc[1:]
    assert (others["reason"] == NOT_SIGNIFICANT).all()
    assert others[list(CONFIRMATION_COLUMNS)].isna().all(axis=None)


def test_lags_windows_and_trim_reach_the_tests(rules):
    close, volume = market(4, [(0, 1)])
    other = LENIENT | {"johansen_lags": 4, "kpss_lags": 3, "n_windows": 8, "break_trim": 0.25}
    first, second = (screen(close, volume, changed(rules, confirmation=c)).pairs.iloc[0] for c in (LENIENT, other))
    a, b = (np.log(close[second[leg]]) for leg in ("dependent", "independent"))
    assert second["johansen_trace"] == confirmation.johansen_trace(a, b, n_lags=4).rank_0
    residual = a - second["beta"] * b
    assert second["kpss_statistic"] == pytest.approx(confirmation.kpss(residual, n_lags=3).statistic)
    assert second["stable_share"] == confirmation.subwindow_stability(a, b, n_windows=8)
    assert second["hedge_ratio_drift"] == confirmation.hedge_ratio_drift(a, b, n_windows=8)
    assert second["break_p"] == confirmation.structural_break(a, b, trim=0.25).p_value
    changed_columns = [name for name in CONFIRMATION_COLUMNS if name != "stable_share"]
    assert (first[changed_columns] != second[changed_columns]).all()


def test_with_every_confirmation_off_nothing_is_computed(rules):
    close, volume = market(4, [(0, 1)])
    found = screen(close, volume, rules)
    assert len(found.selected) == 1
    assert found.pairs[list(CONFIRMATION_COLUMNS)].isna().all(axis=None)


CONTRADICTIONS = {
    "johansen_trace": ({"johansen_level": 0.01}, "no relation by Johansen's trace"),
    "kpss_statistic": ({"kpss_level": 0.10}, "residual not stationary by KPSS"),
    "stable_share": ({"min_stable_share": 1.0}, "reverts in too few sub-windows"),
    "hedge_ratio_drift": ({"max_hedge_ratio_drift": 1e-6}, "hedge ratio drifts"),
    "break_p": ({"break_level": 0.499}, "relation broke inside the window"),
}


@pytest.fixture
def figures(monkeypatch):
    """Makes the confirmations answer what is given."""

    def answer(johansen: float, kpss: float, share: float, drift: float, break_p: float) -> None:
        values = {
            "johansen_trace": confirmation.JohansenTrace(johansen, 99.0),
            "kpss": confirmation.Kpss(kpss, 0.05, 0.05, 0),
            "subwindow_stability": share,
            "hedge_ratio_drift": drift,
            "structural_break": confirmation.StructuralBreak(9.0, break_p, 1),
        }
        for name, value in values.items():
            monkeypatch.setattr(confirmation, name, lambda *_legs, value=value, **_options: value)

    return answer


@pytest.mark.parametrize("column", list(CONTRADICTIONS))
def test_each_confirmation_stops_a_pair_and_says_so(rules, figures, column):
    figures(johansen=19.9349, kpss=0.2311, share=0.99, drift=0.5, break_p=0.499)
    rule, reason = CONTRADICTIONS[column]
    close, volume = market(4, [(0, 1)])
    found = screen(close, volume, changed(rules, confirmation=OFF | rule))
    assert found.selected == ()
    row = found.pairs.iloc[0]
    assert (row["verdict"], row["reason"], row["significant"]) == ("rejected", reason, True)
    assert found.funnel == {"tested": 6, NOT_SIGNIFICANT: 5, reason: 1, SELECTED: 0}
    assert row[list(CONFIRMATION_COLUMNS)].notna().to_dict() == {name: name == column for name in CONFIRMATION_COLUMNS}


def test_the_first_confirmation_that_fails_gives_the_reason(rules, figures):
    figures(johansen=19.9349, kpss=0.2311, share=0.99, drift=0.5, break_p=0.499)
    close, volume = market(4, [(0, 1)])
    left = dict(CONTRADICTIONS)
    while left:
        strict = OFF | {name: value for rule, _ in left.values() for name, value in rule.items()}
        row = screen(close, volume, changed(rules, confirmation=strict)).pairs.iloc[0]
        assert row["reason"] == next(iter(left.values()))[1]
        assert row[list(left)].notna().all()
        del left[next(iter(left))]


def test_a_pair_at_the_limit_of_a_confirmation_passes(rules, figures):
    close, volume = market(4, [(0, 1)])
    figures(johansen=19.935, kpss=0.533, share=0.8, drift=0.75, break_p=0.0501)
    limits = {
        "johansen_level": 0.01, "kpss_level": 0.01, "min_stable_share": 0.8, "max_hedge_ratio_drift": 0.75,
        "break_level": 0.05,
    }  # fmt: skip
    assert len(screen(close, volume, changed(rules, confirmation=OFF | limits)).selected) == 1


def test_a_figure_that_cannot_be_had_confirms_nothing(rules, figures):
    close, volume = market(4, [(0, 1)])
    figures(*[float("nan")] * 5)
    for name in ("johansen_level", "kpss_level", "min_stable_share", "max_hedge_ratio_drift", "break_level"):
        found = screen(close, volume, changed(rules, confirmation=OFF | {name: LENIENT[name]}))
        assert found.selected == (), name


def test_a_pair_with_too_few_bars_for_its_parts_is_not_confirmed(rules):
    close, volume = market(4, [(0, 1)])
    parts = OFF | {"n_windows": 101, "max_hedge_ratio_drift": 100.0}
    row = screen(close, volume, changed(rules, confirmation=parts)).pairs.iloc[0]
    assert (row["reason"], row["verdict"]) == ("hedge ratio drifts", "rejected")
    assert np.isnan(row["hedge_ratio_drift"])


def test_a_pair_an_earlier_gate_stopped_is_not_confirmed(rules):
    close, volume = market(4, [(0, 1)])
    row = screen(close, volume, changed(rules, confirmation=LENIENT, max_half_life_hours=2.0)).pairs.iloc[0]
    assert row["reason"] == "half-life too long"
    assert row[list(CONFIRMATION_COLUMNS)].isna().all()


def test_a_pair_a_confirmation_stopped_takes_no_place(rules, monkeypatch):
    close, volume = market(6, [(1, 0), (3, 2)])
    best = screen(close, volume, rules).selected
    assert len(best) == 2
    drift = {np.log(close[pair.dependent].iloc[0]): far for pair, far in zip(best, (9.0, 0.1), strict=True)}
    monkeypatch.setattr(confirmation, "hedge_ratio_drift", lambda a, *_other, **_options: drift[a[0]])
    strict = changed(rules, confirmation=OFF | {"max_hedge_ratio_drift": 1.0}, max_pairs=1)
    found = screen(close, volume, strict)
    assert found.selected == best[1:]
    assert found.funnel["hedge ratio drifts"] == 1


def test_the_configured_confirmations_keep_planted_pairs_and_stop_lucky_ones(params):
    """The drift of the hedge ratio: walks that passed the test by chance are far apart in sub-windows."""
    free = params.screening.model_dump() | {"adjustment": "none", "level": 0.01, "max_pairs": 100}
    free["universe"] |= {"min_median_quote_volume": 0.0}
    confirmed = ScreeningParams.model_validate(free)
    planted, lucky, kept = 0, 0, 0
    for seed in range(6):
        close, volume = market(40, [(1, 0), (3, 2)], seed=seed)
        without = screen(close, volume, changed(confirmed, confirmation=OFF)).selected
        with_ = set(screen(close, volume, confirmed).selected)
        true = {frozenset({"S00/USDT", "S01/USDT"}), frozenset({"S02/USDT", "S03/USDT"})}
        planted += sum(pair.unordered in true for pair in with_)
        lucky += sum(pair.unordered not in true for pair in without)
        kept += sum(pair.unordered not in true for pair in with_)
    assert planted >= 11
    assert lucky >= 10
    assert kept <= 0.4 * lucky


# --- the best k


def test_the_best_k_go_through_the_gates_significant_or_not_and_are_marked(rules):
    close, volume = market(6, [(0, 1)])
    usual = screen(close, volume, rules)
    assert len(usual.selected) == 1
    found = screen(
        close, volume, changed(rules, select="top_k", top_k=4, max_half_life_hours=1000.0, min_mean_crossings=0)
    )
    best = found.pairs.iloc[:4]
    assert best["pair_id"].tolist() == found.tests["pair_id"].tolist()[:4]
    assert best["significant"].tolist() == [True, False, False, False]
    assert NOT_SIGNIFICANT not in set(best["reason"])
    assert 1 < len(found.selected) <= 4
    assert (found.pairs["reason"].iloc[4:] == NOT_SIGNIFICANT).all()
    assert not found.pairs["significant"].iloc[4:].any()
    assert found.funnel["tested"] == sum(n for why, n in found.funnel.items() if why != "tested") == 15
    assert found.funnel[NOT_SIGNIFICANT] == 11


def test_a_significant_pair_beyond_the_best_k_says_so(rules):
    close, volume = market(8, [(1, 0), (3, 2), (5, 4)])
    every = screen(close, volume, rules)
    found = screen(close, volume, changed(rules, select="top_k", top_k=2, n_reported=0))
    assert found.selected == every.selected[:2]
    last = found.pairs.iloc[2]
    assert (last["verdict"], last["reason"], last["significant"]) == ("rejected", NOT_AMONG_BEST, True)
    assert found.funnel == {"tested": 28, NOT_SIGNIFICANT: 25, NOT_AMONG_BEST: 1, SELECTED: 2}


def test_more_than_there_are_takes_all(rules):
    close, volume = market(4, [])
    found = screen(close, volume, changed(rules, select="top_k", top_k=100))
    assert len(found.pairs) == 6
    assert found.funnel[NOT_SIGNIFICANT] == 0


def test_significant_says_who_passed_also_among_the_misses(rules):
    close, volume = market(6, [(0, 1)])
    found = screen(close, volume, rules)
    assert found.pairs["significant"].tolist() == (found.pairs["p_adjusted"] <= rules.level).tolist()


# --- parameters and artefact


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"select": "top_k"}, "top_k is for"),
        ({"top_k": 5}, "top_k is for"),
        ({"select": "top_k", "top_k": 0}, "greater than or equal to 1"),
        ({"select": "top_k", "top_k": 5, "robust": True}, "robust is for select: significant"),
        ({"trend": "ct", "confirmation": OFF | {"min_stable_share": 0.5}}, "min_stable_share assumes trend: c"),
        ({"confirmation": OFF | {"johansen_level": 0.2}}, "tabulated for levels 0.10, 0.05 and 0.01, not 0.2"),
        ({"confirmation": OFF | {"kpss_level": 0.025}}, "tabulated"),
        ({"confirmation": OFF | {"break_level": 0.5}}, "less than 0.5"),
        ({"confirmation": OFF | {"break_trim": 0.3}}, "less than or equal to 0.25"),
        ({"confirmation": OFF | {"n_windows": 1}}, "greater than or equal to 2"),
        ({"confirmation": OFF | {"max_hedge_ratio_drift": 0.0}}, "greater than 0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(rules, values, message):
    with pytest.raises(ValueError, match=message):
        changed(rules, **values)


def test_rows_are_what_the_schema_says(rules):
    schema = json.loads((files("mntrading") / "schemas" / "screened_pairs.json").read_text(encoding="utf-8"))
    row_schema = Draft202012Validator(schema["properties"]["pairs"]["items"])
    close, volume = market(4, [(0, 1)])
    close["S03/USDT"] = 1.0
    still = rules.universe.model_dump() | {"min_daily_volatility": 0.0}
    for values in ({}, {"confirmation": LENIENT}, {"select": "top_k", "top_k": 6}):
        found = plain_rows(screen(close, volume, changed(rules, universe=still, **values)).pairs)
        assert any(row["half_life_hours"] is None for row in found)
        for row in found:
            row_schema.validate(json.loads(json.dumps(row)))
