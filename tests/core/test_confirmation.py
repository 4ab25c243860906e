"""Second opinions on a pair: against statsmodels, published figures, brute force and planted truth."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from statsmodels.tools.sm_exceptions import InterpolationWarning
from statsmodels.tsa.stattools import kpss as kpss_oracle
from statsmodels.tsa.vector_ar.vecm import coint_johansen

from mntrading.core.cointegration import engle_granger_pairs
from mntrading.core.confirmation import (
    JOHANSEN_CRITICAL,
    SHIN_CRITICAL,
    hedge_ratio_drift,
    johansen_trace,
    kpss,
    simulate_sup_f,
    structural_break,
    subwindow_stability,
)
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.types import FloatArray

N = 1440
Legs = tuple[FloatArray, FloatArray]


def ar1(half_life: float, std: float, shocks: FloatArray) -> FloatArray:
    phi = 0.5 ** (1 / half_life)
    return np.asarray(lfilter([std * math.sqrt(1 - phi * phi)], [1, -phi], shocks), dtype=np.float64)


def planted(
    rng: np.random.Generator, *, half_life: float = 10, std: float = 0.01, reacts: float = 0.0, n: int = N
) -> Legs:
    """A pair that holds: ``a = 2 + 0.9 b + spread``; ``reacts`` is the correlation of b's moves with the spread's."""
    shocks = rng.standard_normal(n + 500)
    moves = 0.006 * (reacts * shocks[500:] + math.sqrt(1 - reacts**2) * rng.standard_normal(n))
    b = 4.0 + np.cumsum(moves)
    return 2.0 + 0.9 * b + ar1(half_life, std, shocks)[500:], b


def many(make: Callable[[np.random.Generator], Legs], n: int, seed: int = 1) -> list[Legs]:
    rng = np.random.default_rng(seed)
    return [make(rng) for _ in range(n)]


def lucky_walks(n: int, seed: int = 5) -> list[Legs]:
    """Walks with a common factor and nothing else between them, that passed the test at 1 % all the same."""
    rng = np.random.default_rng(seed)
    found: list[Legs] = []
    while len(found) < n:
        moves = rng.normal(0, 0.006, (N, 40)) + rng.normal(0, 0.004, (N, 1))
        walks = pd.DataFrame(4.0 + np.cumsum(moves, axis=0)).add_prefix("S")
        tests = engle_granger_pairs(walks)
        best = tests[tests["p_value"] < 0.01].sort_values("p_value").drop_duplicates("dependent")
        found += [(walks[pair.dependent].to_numpy(), walks[pair.independent].to_numpy()) for pair in best.itertuples()]
    return found[:n]


@pytest.fixture(scope="module")
def lucky() -> list[Legs]:
    return lucky_walks(60)


# --- Johansen


@pytest.mark.parametrize("n_lags", [0, 1, 2, 7])
@pytest.mark.parametrize("seed", range(4))
def test_trace_equals_statsmodels(n_lags, seed):
    rng = np.random.default_rng(seed)
    a, b = planted(rng, n=200 + 400 * seed, half_life=5)
    if seed == 3:
        a = np.cumsum(rng.normal(size=len(b)))
    expected = coint_johansen(np.column_stack((a, b)), 0, n_lags)
    found = johansen_trace(a, b, n_lags=n_lags)
    assert (found.rank_0, found.rank_1) == pytest.approx(tuple(expected.lr1), abs=1e-8)
    table = np.array([JOHANSEN_CRITICAL[level] for level in (0.10, 0.05, 0.01)])
    np.testing.assert_array_equal(table.T, expected.cvt)


def test_trace_of_the_published_etf_pair():
    """EWA and EWC, 2006 to 2012, from Chan, Algorithmic Trading (2013), example 2.7."""
    bars = os.environ.get("MNTRADING_SAMPLE_BARS")
    path = Path(bars).parent / "reference_chan_etf" / "EWA_EWC_IGE.csv" if bars else None
    if path is None or not path.exists():
        pytest.skip("reference_chan_etf is not beside MNTRADING_SAMPLE_BARS")
    prices = pd.read_csv(path)
    found = johansen_trace(prices["EWA"], prices["EWC"], n_lags=1)
    assert (found.rank_0, found.rank_1) == pytest.approx((19.98322, 3.98276), abs=5e-6)


def test_trace_finds_the_relation_and_does_not_ask_for_a_dependent_leg():
    critical = JOHANSEN_CRITICAL[0.05][0]
    found = [johansen_trace(*legs, n_lags=1).rank_0 for legs in many(planted, 50)]
    assert min(found) > critical
    walks = many(lambda rng: tuple(np.cumsum(rng.normal(size=(2, N)), axis=1)), 300)
    assert np.mean([johansen_trace(*legs, n_lags=1).rank_0 > critical for legs in walks]) < 0.15
    a, b = planted(np.random.default_rng(3))
    assert johansen_trace(b, a, n_lags=1).rank_0 == pytest.approx(johansen_trace(a, b, n_lags=1).rank_0, rel=1e-9)


def test_trace_of_a_constant_or_collinear_leg_is_unknown():
    b = np.cumsum(np.random.default_rng(0).normal(size=100))
    for a in (np.full(100, 1.5), 2.0 * b + 1.0):
        found = johansen_trace(a, b, n_lags=1)
        assert math.isnan(found.rank_0)
        assert math.isnan(found.rank_1)


# --- KPSS


@pytest.mark.parametrize("n_lags", [None, 0, 9])
@pytest.mark.parametrize("half_life", [0.2, 5.0, 60.0])
def test_kpss_equals_statsmodels(n_lags, half_life):
    residual = ar1(half_life, 1.0, np.random.default_rng(4).standard_normal(700))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolationWarning)
        expected = kpss_oracle(residual, "c", "auto" if n_lags is None else n_lags, result_object=True)
    found = kpss(residual, n_lags=n_lags)
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-10)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-10)
    assert found.n_lags == expected.lags


def test_critical_values_for_residuals_are_those_of_a_fitted_regression():
    rng = np.random.default_rng(7)
    n, found = 500, []
    for _ in range(8000):
        walk, noise = np.cumsum(rng.standard_normal(n)), rng.standard_normal(n)
        walk -= walk.mean()
        found.append(kpss(noise - (walk @ noise) / (walk @ walk) * walk, n_lags=0).statistic)
    for level, critical in SHIN_CRITICAL.items():
        assert np.mean(np.array(found) > critical) == pytest.approx(level, abs=4 * math.sqrt(level / 8000))


def test_p_value_of_a_residual_is_stricter_and_between_one_and_ten_percent():
    rng = np.random.default_rng(8)
    wandering = kpss(np.cumsum(rng.normal(size=N)))
    assert wandering.p_value == wandering.p_residual == 0.01
    still = kpss(rng.normal(size=N), n_lags=0)
    assert still.p_value == still.p_residual == 0.10
    between = [kpss(rng.normal(size=80), n_lags=0) for _ in range(200)]
    between = [one for one in between if 0.3 < one.statistic < 0.5]
    assert between
    assert all(one.p_residual < one.p_value for one in between)
    for one in between:
        low, high = (0.05, 0.10) if one.statistic < 0.314 else (0.01, 0.05)
        share = (one.statistic - SHIN_CRITICAL[high]) / (SHIN_CRITICAL[low] - SHIN_CRITICAL[high])
        assert one.p_residual == pytest.approx(high + share * (low - high))


def test_kpss_of_a_constant_is_unknown():
    found = kpss(np.full(50, 0.2))
    assert math.isnan(found.statistic)
    assert math.isnan(found.p_value)
    assert math.isnan(found.p_residual)


# --- sub-windows


def dickey_fuller(part: FloatArray) -> float:
    design = part[:-1, None]
    fit, rss, *_ = np.linalg.lstsq(design, np.diff(part), rcond=None)
    return float(fit[0] / math.sqrt(rss[0] / (len(part) - 2) / (part[:-1] @ part[:-1])))


def test_stability_counts_the_parts_whose_dickey_fuller_t_is_low():
    for a, b in [*many(planted, 5), *many(lambda rng: planted(rng, half_life=60, n=1000), 10)]:
        slope, level = np.polyfit(b, a, 1)
        residual = a - slope * b - level
        rest = len(a) % 7
        first = residual[: rest + len(a) // 7]
        parts = [first, *np.split(residual[len(first) :], 6)]
        expected = np.mean([dickey_fuller(part) < -1.62 for part in parts])
        assert subwindow_stability(a, b, n_windows=7) == pytest.approx(expected)


def test_stability_tells_planted_pairs_from_walks_that_were_lucky_once(lucky):
    held = [subwindow_stability(*legs, n_windows=6) for legs in many(planted, 60)]
    once = [subwindow_stability(*legs, n_windows=6) for legs in lucky]
    assert np.mean(held) > 0.97
    assert np.mean(once) < 0.75
    above = np.mean(np.greater.outer(held, once)) + 0.5 * np.mean(np.equal.outer(held, once))
    assert above > 0.93


def test_stability_of_a_pair_that_held_for_half_the_window_is_about_a_half():
    rng = np.random.default_rng(2)
    shares = []
    for a, b in many(planted, 30):
        assert subwindow_stability(a, b, n_windows=6) >= 0.8
        walked = np.concatenate([np.zeros(N // 2), np.cumsum(rng.normal(0, 0.01, N // 2))])
        shares.append(subwindow_stability(a + walked, b, n_windows=6))
    assert 0.15 < np.mean(shares) < 0.6


# --- drift


def test_drift_is_the_furthest_hedge_ratio_relative_to_the_whole_windows():
    b = np.tile(np.linspace(0.0, 1.0, 40), 3)
    a = np.concatenate([1.0 * b[:40], 1.2 * b[40:80], 0.5 * b[80:]])
    whole = np.polyfit(b, a, 1)[0]
    assert whole == pytest.approx(0.9)
    assert hedge_ratio_drift(a, b, n_windows=3) == pytest.approx(0.4 / 0.9)
    assert hedge_ratio_drift(-a, b, n_windows=3) == pytest.approx(0.4 / 0.9)
    assert hedge_ratio_drift(a, b, n_windows=1) == 0.0


def test_drift_tells_planted_pairs_from_walks_that_were_lucky_once(lucky):
    held = [hedge_ratio_drift(*legs, n_windows=6) for legs in many(planted, 60)]
    once = [hedge_ratio_drift(*legs, n_windows=6) for legs in lucky]
    assert max(held) < 0.5
    assert np.mean(np.array(once) > 0.75) > 0.75


def test_drift_without_a_hedge_ratio():
    b = np.tile([-1.0, 0.0, 1.0, 0.0], 20)
    assert hedge_ratio_drift(b**2, b, n_windows=2) == math.inf
    assert math.isnan(hedge_ratio_drift(b, np.ones(80), n_windows=2))
    still = np.concatenate([np.zeros(40), b[:40]])
    assert math.isnan(hedge_ratio_drift(b, still, n_windows=2))


# --- break


def brute_force_sup_f(a: FloatArray, b: FloatArray, trim: float) -> tuple[float, int]:
    """Hansen's statistic written out: fully modified scores, and matrices inverted at every candidate break."""
    slope, level = np.polyfit(b, a, 1)
    u = (a - slope * b - level)[1:]
    u = u - u.mean()
    v = np.diff(b) - np.diff(b).mean()
    phi = min((u[1:] @ u[:-1]) / (u[:-1] @ u[:-1]), 0.97)
    e = np.column_stack((u[1:] - phi * u[:-1], v[1:]))
    n = len(e)
    rho = [np.clip((x[1:] @ x[:-1]) / (x[:-1] @ x[:-1]), -0.9, 0.9) for x in e.T]
    reach = int(1.1447 * (np.mean([4 * r * r / ((1 - r) ** 2 * (1 + r) ** 2) for r in rho]) * n) ** (1 / 3))
    gamma = [e[: n - k].T @ e[k:] / n * (1 - k / (reach + 1)) for k in range(reach + 1)]  # [i, j]: i at t, j at t + k
    omega = gamma[0] + sum(g + g.T for g in gamma[1:])
    recolour = np.diag([1 / (1 - phi), 1.0])
    omega = recolour @ omega @ recolour
    # Σ over k ≥ 0 of E v_t u_{t+k}: u is the sum of its own past shocks
    towards_u = (v[1:] @ u[1:] / n + sum(g[1, 0] for g in gamma[1:])) / (1 - phi)
    towards_v = sum(g[1, 1] for g in gamma)
    bias = towards_u - towards_v * omega[0, 1] / omega[1, 1]
    y = a[2:] - omega[0, 1] / omega[1, 1] * v[1:]
    x = np.column_stack((np.ones(n), b[2:] - b[2:].mean()))
    m = x.T @ x
    theta = np.linalg.inv(m) @ (x.T @ y - n * np.array([0, bias]))
    s = np.cumsum(x * (y - x @ theta)[:, None] - [0, bias], axis=0)
    variance = omega[0, 0] - omega[0, 1] ** 2 / omega[1, 1]
    skipped = math.ceil(trim * n) - 1
    found = {}
    for t in range(skipped, n - skipped):
        mt = x[: t + 1].T @ x[: t + 1]
        found[t] = s[t] @ np.linalg.inv(mt - mt @ np.linalg.inv(m) @ mt) @ s[t] / variance
    best = max(found, key=lambda t: found[t])
    return found[best], best + 2


@pytest.mark.parametrize("trim", [0.05, 0.15, 0.22])
@pytest.mark.parametrize("reacts", [-0.5, 0.0, 0.8])
def test_sup_f_equals_its_formula_written_out(trim, reacts):
    rng = np.random.default_rng(3)
    for half_life in (0.3, 4, 40):
        a, b = planted(rng, half_life=half_life, reacts=reacts, n=300)
        expected, row = brute_force_sup_f(a, b, trim)
        found = structural_break(a, b, trim=trim)
        assert found.sup_f == pytest.approx(expected, rel=1e-8)
        assert found.row == row


def test_tabulated_p_values_are_those_of_the_simulated_null():
    rng = np.random.default_rng(11)
    a, b = planted(rng)
    for trim in (0.05, 0.15, 0.25):
        draws = simulate_sup_f(trim, n_draws=3000, n_bars=500, rng=rng)
        seen = []
        for shift in np.linspace(0.0, 0.02, 60):
            broken = a.copy()
            broken[N // 2 :] += shift
            found = structural_break(broken, b, trim=trim)
            if 0.002 < found.p_value < 0.49:
                share = float(np.mean(draws > found.sup_f))
                assert found.p_value == pytest.approx(share, abs=0.004 + 3 * math.sqrt(share * (1 - share) / 3000))
                seen.append(found.p_value)
        assert len(seen) >= 3


def test_p_value_between_two_tabulated_trims_lies_between_theirs():
    a, b = planted(np.random.default_rng(12))
    a[N // 2 :] += 0.012
    low, mid, high = (structural_break(a, b, trim=trim) for trim in (0.10, 0.13, 0.15))
    assert low.sup_f == mid.sup_f == high.sup_f
    assert 0.001 < high.p_value < mid.p_value < low.p_value < 0.5
    assert mid.p_value == pytest.approx(0.4 * low.p_value + 0.6 * high.p_value)


@pytest.mark.parametrize("reacts", [-0.6, 0.0, 0.6])
def test_a_relation_that_holds_is_rejected_no_more_often_than_the_level_says(reacts):
    for half_life in (3, 10, 16):
        pairs = many(lambda rng, h=half_life: planted(rng, half_life=h, reacts=reacts), 200)
        rejected = np.mean([structural_break(*legs).p_value <= 0.05 for legs in pairs])
        assert rejected <= 0.085, half_life


def shifted(rng: np.random.Generator) -> Legs:
    a, b = planted(rng)
    return a + np.where(np.arange(N) < 900, 0.0, 0.03), b


def rehedged(rng: np.random.Generator) -> Legs:
    a, b = planted(rng)
    return a + np.where(np.arange(N) < 900, 0.0, 0.4 * (b - b[900])), b


@pytest.mark.parametrize(("broken", "power"), [(shifted, 0.8), (rehedged, 0.8)])
def test_a_relation_that_broke_is_found_and_so_is_the_time(broken, power):
    found = [structural_break(*legs) for legs in many(broken, 60)]
    assert np.mean([one.p_value <= 0.05 for one in found]) > power
    assert abs(np.median([one.row for one in found]) - 899) <= 60


def test_the_break_test_does_not_depend_on_units_or_on_the_hedge_ratio():
    a, b = shifted(np.random.default_rng(4))
    first = structural_break(a, b)
    for other in ((3.0 * a + 7.0, b), (a, 0.2 * b - 5.0), (a - 2.5 * b, b)):
        found = structural_break(*other)
        assert found.sup_f == pytest.approx(first.sup_f, rel=1e-6)
        assert found.row == first.row


def test_the_break_test_has_no_answer_without_a_relation_to_test():
    b = np.cumsum(np.random.default_rng(0).normal(size=100))
    for a, other in ((2.0 * b + 1.0, b), (b, np.ones(100)), (b, np.arange(100.0))):
        found = structural_break(a, other)
        assert math.isnan(found.sup_f)
        assert math.isnan(found.p_value)
        assert found.row == 0


def test_a_leg_that_does_not_move_at_first_breaks_where_it_moves_or_not_at_all():
    rng = np.random.default_rng(1)
    a, b = planted(rng, n=300)
    b[:100] = b[100]
    found = structural_break(a, b)
    assert math.isfinite(found.sup_f)
    assert found.row >= 99


# --- what all have in common


def kpss_of_first(a, b):
    return kpss(a)


EVERY = [
    pytest.param(lambda a, b: johansen_trace(a, b, n_lags=1), id="johansen"),
    pytest.param(lambda a, b: subwindow_stability(a, b, n_windows=3), id="stability"),
    pytest.param(lambda a, b: hedge_ratio_drift(a, b, n_windows=3), id="drift"),
    pytest.param(structural_break, id="break"),
    pytest.param(kpss_of_first, id="kpss"),
]


@pytest.mark.parametrize("figure", EVERY)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_value_that_is_not_finite_is_refused_by_the_name_of_the_leg(figure, wrong):
    a, b = (pd.Series(leg, name=name) for leg, name in zip(planted(np.random.default_rng(0), n=200), "AB", strict=True))
    a.iloc[7] = wrong
    with pytest.raises(BarDataError, match=r"A: value 7 is"):
        figure(a, b)


@pytest.mark.parametrize("figure", EVERY[:-1])
def test_legs_that_do_not_match_are_refused(figure):
    a, b = planted(np.random.default_rng(0), n=200)
    with pytest.raises(ParameterError, match="200 and 199 rows"):
        figure(a, b[1:])
    with pytest.raises(ParameterError, match="one value per bar"):
        figure(a[:, None], b)


@pytest.mark.parametrize("figure", EVERY)
def test_legs_are_left_as_they_were(figure):
    a, b = planted(np.random.default_rng(0), n=200)
    before = a.copy(), b.copy()
    figure(a, b)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_too_few_rows_and_options_out_of_range_are_refused():
    a, b = planted(np.random.default_rng(0), n=49)
    with pytest.raises(ParameterError, match="49 values given, expected at least 50"):
        structural_break(a, b)
    with pytest.raises(ParameterError, match="expected at least 50"):
        hedge_ratio_drift(a, b, n_windows=5)
    with pytest.raises(ParameterError, match="expected at least 50"):
        subwindow_stability(a, b, n_windows=5)
    with pytest.raises(ParameterError, match="expected at least 88"):
        johansen_trace(a, b, n_lags=20)
    for trim in (0.04, 0.3):
        with pytest.raises(ParameterError, match="trim is"):
            structural_break(a, b, trim=trim)
    for call in (lambda: hedge_ratio_drift(a, b, n_windows=0), lambda: subwindow_stability(a, b, n_windows=0)):
        with pytest.raises(ParameterError, match="n_windows is 0"):
            call()
    for wrong in (-1, 49):
        with pytest.raises(ParameterError, match="n_lags is"):
            kpss(a, n_lags=wrong)
    with pytest.raises(ParameterError, match="n_lags is -1"):
        johansen_trace(a, b, n_lags=-1)
