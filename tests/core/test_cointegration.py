"""The Engle-Granger screen against statsmodels, and the cases statsmodels has no good answer for."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from arch.tests.unitroot import test_engle_granger as arch_published
from statsmodels.regression.linear_model import OLS
from statsmodels.tools.sm_exceptions import CollinearityWarning
from statsmodels.tsa.stattools import adfuller, coint
from statsmodels.tsa.tsatools import add_trend

from mntrading.core import all_pairs
from mntrading.core.cointegration import (
    PAIR_COLUMNS,
    default_max_lag,
    engle_granger_pairs,
    engle_granger_residuals,
    engle_granger_tiles,
)
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.types import Pair


class Oracle(NamedTuple):
    alpha: float
    beta: float
    t_stat: float
    p_value: float
    lag: int


def oracle(y: pd.Series, x: pd.Series, *, max_lag=None, autolag="aic", trend="c") -> Oracle:
    """What statsmodels says; coint keeps the lag to itself, so its second step is repeated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollinearityWarning)
        found = coint(y, x, trend=trend, maxlag=max_lag, autolag=autolag)
    design = x.to_numpy()[:, None] if trend == "n" else add_trend(x.to_numpy()[:, None], trend=trend)
    fit = OLS(y.to_numpy(), design).fit()
    lag = 0
    if math.isfinite(found.coint_t):
        lag = adfuller(fit.resid, max_lag, "n", autolag, result_object=True).lags
    alpha = 0.0 if trend == "n" else fit.params[1]
    return Oracle(alpha, fit.params[0], found.coint_t, found.pvalue, lag)


def check(frame: pd.DataFrame, rows: list[int] | None = None, **options) -> pd.DataFrame:
    """Compare every row of the screen, or those given, with statsmodels; return the screen."""
    found = engle_granger_pairs(frame, **options)
    for row in found.iloc[rows].itertuples() if rows is not None else found.itertuples():
        common = frame[[row.dependent, row.independent]].dropna()
        expected = oracle(common[row.dependent], common[row.independent], **options)
        name = f"{row.dependent} on {row.independent}"
        assert row.lag == expected.lag, name
        if math.isinf(expected.t_stat):
            assert (row.t_stat, row.p_value) == (-math.inf, 0.0), name
        else:
            # with hardly more rows than regressors t runs into hundreds, of which statsmodels has nine digits
            assert row.t_stat == pytest.approx(expected.t_stat, abs=1e-7, rel=1e-8), name
            assert row.p_value == pytest.approx(expected.p_value, abs=1e-8), name
        assert row.beta == pytest.approx(expected.beta, rel=1e-7, abs=1e-9), name
        assert row.alpha == pytest.approx(expected.alpha, rel=1e-6, abs=1e-7), name
        assert row.n_obs == len(common), name
    return found


def walks(n_bars: int, n_symbols: int, seed: int) -> np.ndarray:
    """Log prices that share a factor."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(0, 0.01, n_bars).cumsum()
    own = rng.normal(0, 0.008, (n_bars, n_symbols)).cumsum(axis=0)
    return rng.uniform(-4, 11, n_symbols) + factor[:, None] * rng.uniform(0.5, 1.5, n_symbols) + own


def as_frame(values: np.ndarray) -> pd.DataFrame:
    index = pd.date_range("2025-01-01", periods=len(values), freq="h", tz="UTC", name="timestamp")
    return pd.DataFrame(values, index=index, columns=[f"S{k}/USDT" for k in range(values.shape[1])])


def cointegrated(n_bars: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = walks(n_bars, 3, seed)
    spread = np.zeros(n_bars)
    for t in range(1, n_bars):
        spread[t] = 0.8 * spread[t - 1] + rng.normal(0, 0.005)
    values[:, 1] = 0.7 * values[:, 0] + 2.0 + spread
    return values


def ticks(n_bars: int, seed: int) -> np.ndarray:
    return np.log(np.round(np.exp(walks(n_bars, 3, seed) * 0.2 + 1.0), 2))


def stale(n_bars: int, seed: int) -> np.ndarray:
    values = walks(n_bars, 3, seed)
    kept = np.random.default_rng(seed + 1).random((n_bars, 3)) < 0.25
    kept[0] = True
    last = np.maximum.accumulate(np.where(kept, np.arange(n_bars)[:, None], 0), axis=0)
    return np.take_along_axis(values, last, axis=0)


def jumps(n_bars: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hit = rng.random((n_bars, 3)) < 0.01
    hit[[1, 2, -2, -1], :] = True
    return walks(n_bars, 3, seed) + np.where(hit, rng.normal(0, 0.5, (n_bars, 3)), 0.0).cumsum(axis=0)


def spikes(n_bars: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hit = rng.random((n_bars, 3)) < 0.01
    hit[[0, 3, -4, -1], :] = True
    return walks(n_bars, 3, seed) + np.where(hit, rng.normal(0, 1.0, (n_bars, 3)), 0.0)


def near_collinear(n_bars: int, seed: int) -> np.ndarray:
    """Residual shares of variance from 1e-2 down to just above the collinear bound."""
    rng = np.random.default_rng(seed)
    base = walks(n_bars, 1, seed)[:, 0]
    scale = base.std() * np.sqrt([0.0, 1e-2, 4e-6])
    noise = np.empty((n_bars, 3))
    noise[0] = 0
    shock = rng.normal(size=(n_bars, 3))
    for t in range(1, n_bars):
        noise[t] = 0.5 * noise[t - 1] + shock[t]
    return base[:, None] * [1.0, 0.8, 1.1] + noise / noise.std(axis=0) * scale


def white(n_bars: int, seed: int) -> np.ndarray:
    return 5.0 + np.random.default_rng(seed).normal(0, 0.01, (n_bars, 3))


KINDS = {
    "walks": lambda n, seed: walks(n, 3, seed),
    "cointegrated": cointegrated,
    "ticks": ticks,
    "stale": stale,
    "jumps": jumps,
    "spikes": spikes,
    "near_collinear": near_collinear,
    "white": white,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bars", [60, 501])
def test_screen_equals_statsmodels_on_hostile_prices(kind, n_bars):
    check(as_frame(KINDS[kind](n_bars, seed=n_bars)))


@pytest.mark.parametrize("kind", ["walks", "near_collinear", "ticks"])
def test_screen_equals_statsmodels_on_long_windows(kind):
    check(as_frame(KINDS[kind](2000, seed=1)), rows=[0, 3])


@pytest.mark.parametrize("trend", ["n", "c", "ct"])
@pytest.mark.parametrize("autolag", ["aic", "bic", None])
@pytest.mark.parametrize("kind", ["walks", "stale", "jumps"])
def test_screen_equals_statsmodels_for_every_option(trend, autolag, kind):
    check(as_frame(KINDS[kind](180, seed=7)), trend=trend, autolag=autolag)


@pytest.mark.parametrize("max_lag", [0, 1, 2, 7, 8, 9, 29])
@pytest.mark.parametrize("autolag", ["aic", None])
def test_screen_equals_statsmodels_for_every_number_of_lags(max_lag, autolag):
    check(as_frame(cointegrated(75, seed=3)), max_lag=max_lag, autolag=autolag)


@pytest.mark.parametrize("n_bars", [21, 22, 23, 28, 33])
def test_screen_equals_statsmodels_on_the_shortest_windows(n_bars):
    check(as_frame(walks(n_bars, 3, seed=n_bars)))


@pytest.mark.parametrize("trend", ["c", "ct"])
def test_collinear_legs_are_cointegrated_without_a_test(trend):
    values = walks(300, 3, seed=4)
    values[:, 1] = 0.5 * values[:, 0] + 3.0
    noise = np.random.default_rng(0).normal(0, 1e-4, 300)
    values[:, 2] = values[:, 0] + noise * values[:, 0].std()
    found = check(as_frame(values), trend=trend)
    assert np.isneginf(found["t_stat"]).all()
    assert (found["p_value"] == 0).all()


def test_collinear_bound_is_that_of_statsmodels():
    """1 - R² on either side of 100·√eps, by one part in a thousand."""
    base = walks(400, 1, seed=5)[:, 0]
    centred = base - base.mean()
    noise = np.random.default_rng(5).normal(size=400)
    noise -= noise.mean()
    noise -= centred * (noise @ centred) / (centred @ centred)
    bound = 100 * math.sqrt(np.finfo(float).eps)
    for factor, collinear in ((0.999, True), (1.001, False)):
        share = bound * factor
        scale = math.sqrt(share / (1 - share) * (centred @ centred) / (noise @ noise))
        found = check(as_frame(np.column_stack((base + scale * noise, base))), rows=[0])
        assert np.isneginf(found["t_stat"].iloc[0]) == collinear


def test_rows_are_every_ordered_pair_in_column_order():
    found = engle_granger_pairs(as_frame(walks(100, 3, seed=0)))
    assert tuple(found.columns) == PAIR_COLUMNS
    names = (
        [name.split("/")[0] for name in found["dependent"]],
        [n.split("/")[0] for n in found["independent"]],
    )
    assert list(zip(*names, strict=True)) == [
        ("S0", "S1"), ("S0", "S2"), ("S1", "S0"), ("S1", "S2"), ("S2", "S0"), ("S2", "S1"),
    ]  # fmt: skip
    assert found["lag"].dtype == found["n_obs"].dtype == np.int64


@pytest.mark.parametrize("trend", ["n", "c"])
def test_constant_price_is_no_evidence_and_still_a_test(trend):
    values = walks(200, 3, seed=8)
    values[:, 1] = 1.25
    found = engle_granger_pairs(as_frame(values), trend=trend)
    touched = (found["dependent"] == "S1/USDT") | (found["independent"] == "S1/USDT")
    assert touched.sum() == 4
    assert found.loc[touched, ["t_stat", "alpha", "beta"]].isna().all(axis=None)
    assert (found.loc[touched, "p_value"] == 1.0).all()
    assert found.loc[~touched].notna().all(axis=None)


def test_straight_line_is_no_evidence_where_the_trend_is_taken_out():
    values = walks(200, 3, seed=8)
    values[:, 1] = 9.0 + 0.003 * np.arange(200)
    found = engle_granger_pairs(as_frame(values), trend="ct")
    touched = (found["dependent"] == "S1/USDT") | (found["independent"] == "S1/USDT")
    assert (found.loc[touched, "p_value"] == 1.0).all()
    assert found.loc[touched, "t_stat"].isna().all()
    assert (found.loc[~touched, "p_value"] < 1.0).any()


def late(values: np.ndarray, starts: list[int]) -> np.ndarray:
    """The same prices, each series listed at its bar."""
    return np.where(np.arange(len(values))[:, None] < starts, np.nan, values)


@pytest.mark.parametrize("options", [{}, {"trend": "ct"}, {"autolag": "bic"}, {"max_lag": 3, "autolag": None}])
def test_late_listing_is_tested_on_the_bars_both_legs_have(options):
    frame = as_frame(late(walks(300, 5, seed=21), [0, 0, 120, 7, 120]))
    found = check(frame, **options)
    assert sorted(set(found["n_obs"])) == [180, 293, 300]


def test_late_listing_of_every_kind_of_price():
    for kind, make in KINDS.items():
        values = late(make(160, seed=22), [0, 41, 100])
        assert len(check(as_frame(values), rows=[0, 3, 5])), kind


def test_every_series_listed_at_another_time():
    starts = [0, 1, 2, 9, 30, 31, 77, 150, 151, 199, 240, 247]
    frame = as_frame(late(walks(260, 12, seed=23), starts))
    whole = engle_granger_pairs(frame)
    same_as(whole, frame)
    check(frame, rows=[row for row in range(0, len(whole), 5) if whole["n_obs"].iloc[row] >= 21])


def test_pair_with_too_few_common_bars_is_no_evidence_and_still_a_test():
    frame = as_frame(late(walks(100, 3, seed=24), [0, 0, 98]))
    found = engle_granger_pairs(frame)
    short = found["n_obs"] == 2
    assert short.sum() == 4
    assert found.loc[short, ["t_stat", "alpha", "beta"]].isna().all(axis=None)
    assert (found.loc[short, "p_value"] == 1.0).all()
    assert (found.loc[short, "lag"] == 0).all()
    assert found.loc[~short].notna().all(axis=None)
    with pytest.raises(ParameterError, match="2 rows are too few"):
        engle_granger_pairs(frame.iloc[:, [0, 2]])
    assert engle_granger_pairs(frame, max_lag=40)["n_obs"].tolist() == [100, 2, 100, 2, 2, 2]


def test_series_that_stood_still_since_the_other_was_listed_is_no_evidence():
    values = walks(200, 3, seed=25)
    values[100:, 0] = values[100, 0]
    found = engle_granger_pairs(as_frame(late(values, [0, 0, 100])))
    dead = found["t_stat"].isna()
    assert found.loc[dead, ["dependent", "independent"]].to_numpy().tolist() == [
        ["S0/USDT", "S2/USDT"],
        ["S2/USDT", "S0/USDT"],
    ]


def test_prices_may_lack_at_the_beginning_only():
    frame = as_frame(late(walks(100, 3, seed=26), [0, 10, 0]))
    for row in (50, 99):
        broken = frame.copy()
        broken.iloc[row, 1] = np.nan
        with pytest.raises(BarDataError, match=r"S1/USDT: log price is nan at .*NaN only before the first bar"):
            engle_granger_pairs(broken)
    broken = frame.copy()
    broken.iloc[3, 1] = -np.inf
    with pytest.raises(BarDataError, match="S1/USDT: log price is -inf"):
        engle_granger_pairs(broken)
    with pytest.raises(BarDataError, match="S1/USDT: log price is nan"):
        engle_granger_pairs(frame.assign(**{"S1/USDT": np.nan}))


def same_as(found: pd.DataFrame, frame: pd.DataFrame, *, t: float = 1e-8, **options) -> None:
    """Compare the screen with the tests from the residuals."""
    pairs = [Pair(d, i) for d, i in zip(found["dependent"], found["independent"], strict=True)]
    exact = engle_granger_residuals(frame, pairs, **options)
    for name in ("dependent", "independent", "lag", "n_obs"):
        assert found[name].tolist() == exact[name].tolist()
    for name, bound in (("t_stat", t), ("p_value", 1e-9)):
        np.testing.assert_allclose(found[name], exact[name], rtol=0, atol=bound)
    for name in ("alpha", "beta"):
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-9, atol=1e-9)


MANY = [(60, 1), (250, 2), (1440, 3), (6000, 4)]


@pytest.mark.parametrize(("n_bars", "seed"), MANY)
@pytest.mark.parametrize("autolag", ["aic", "bic"])
def test_thousands_of_tests_agree_with_those_from_the_residuals(n_bars, seed, autolag):
    """All kinds of prices meet: 552 tests a universe, as many again with late listings."""
    values = np.hstack([make(n_bars, seed) for make in KINDS.values()])
    frame = as_frame(values)
    same_as(engle_granger_pairs(frame, autolag=autolag), frame, autolag=autolag)
    starts = np.random.default_rng(seed).choice([0, 0, 5, n_bars // 2], values.shape[1])
    frame = as_frame(late(values, list(starts)))
    same_as(engle_granger_pairs(frame, autolag=autolag), frame, autolag=autolag)


@pytest.mark.parametrize("trend", ["n", "ct"])
def test_other_trends_agree_with_the_tests_from_the_residuals(trend):
    values = np.hstack([make(400, 5) for make in KINDS.values()])
    values[:, 1] += 0.01 * np.arange(400)
    values[:, :9] -= values[0, :9]
    frame = as_frame(values)
    same_as(engle_granger_pairs(frame, trend=trend), frame, trend=trend)


def test_prices_that_are_well_behaved_do_without_their_residuals(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pair was tested again")

    frame = as_frame(walks(500, 12, seed=27))
    monkeypatch.setattr(all_pairs, "residual_tests", refuse)
    engle_granger_pairs(frame)
    frame["S1/USDT"] = frame["S0/USDT"] + 0.01 * frame["S1/USDT"]
    with pytest.raises(AssertionError, match="tested again"):
        engle_granger_pairs(frame)


def test_near_collinear_pair_gets_the_bits_of_its_residuals():
    frame = as_frame(np.hstack([near_collinear(900, 6), walks(900, 20, seed=28)]))
    found = engle_granger_pairs(frame).set_index(["dependent", "independent"])
    pairs = [Pair("S0/USDT", "S2/USDT"), Pair("S2/USDT", "S0/USDT")]
    exact = engle_granger_residuals(frame, pairs).set_index(["dependent", "independent"])
    pd.testing.assert_frame_equal(found.loc[exact.index], exact, check_exact=True)


def test_lags_that_are_all_but_equally_good_are_told_apart_from_the_residuals(monkeypatch):
    """Along a line between two series the chosen lag jumps; on both sides of a jump the criteria are nearly equal."""
    base = walks(300, 1, seed=29)[:, 0]
    shock = np.random.default_rng(29).normal(0, 0.01, (300, 2))
    spread = np.zeros((300, 2))
    for t in range(6, 300):
        spread[t] = 0.9 * spread[[t - 1, t - 6], [0, 1]] + shock[t]
    pair = [Pair("S0/USDT", "S1/USDT")]

    def blend(share: float) -> pd.DataFrame:
        return as_frame(np.column_stack((base + spread @ [share, 1 - share], base)))

    def lag(share: float) -> int:
        return int(engle_granger_residuals(blend(share), pair)["lag"].iloc[0])

    grid = np.linspace(0, 1, 200)
    lags = [lag(share) for share in grid]
    jumps_at = [k for k in range(199) if lags[k] != lags[k + 1]]
    assert len(jumps_at) >= 3
    asked = []
    original = all_pairs.residual_tests
    monkeypatch.setattr(all_pairs, "residual_tests", lambda *a, **k: (asked.append(1), original(*a, **k))[1])
    for k in jumps_at:
        low, high, below = grid[k], grid[k + 1], lags[k]
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if lag(middle) == below else (low, middle)
        for share in (low, high):
            asked.clear()
            check(blend(share), rows=[0])
            assert asked


def in_extended_precision(y: pd.Series, x: pd.Series, lag: int) -> float:
    """The statistic with that lag, by orthogonalisation in long double."""

    def centred(v: pd.Series) -> np.ndarray:
        wide = v.to_numpy().astype(np.longdouble)
        wide = wide - wide.sum() / len(wide)
        return wide - wide.sum() / len(wide)

    def freed(v: np.ndarray, basis: list[np.ndarray]) -> np.ndarray:
        for q in basis + basis:
            v = v - (q * v).sum() * q
        return v

    y, x = centred(y), centred(x)
    e = y - (x * y).sum() / (x * x).sum() * x
    d = np.diff(e)
    basis: list[np.ndarray] = []
    for column in [*(d[lag - k : len(d) - k] for k in range(1, lag + 1)), e[lag:-1]]:
        column = freed(column, basis)
        basis.append(column / np.sqrt((column * column).sum()))
    rest = freed(d[lag:], basis)
    return float((basis[-1] * d[lag:]).sum() / np.sqrt((rest * rest).sum() / (len(rest) - lag - 1)))


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double is no wider than double here")
@pytest.mark.parametrize("n_bars", [21, 22, 27, 60, 700])
@pytest.mark.parametrize("kind", KINDS)
def test_statistic_is_exact_where_statsmodels_is_not(kind, n_bars):
    """All but collinear legs, and nearly as many regressors as rows: statsmodels itself is off by up to 1e-7 there."""
    frame = as_frame(KINDS[kind](n_bars, seed=n_bars + 1))
    bound = 1e-9 if n_bars >= 60 or kind != "near_collinear" else 5e-8
    for row in engle_granger_pairs(frame).itertuples():
        exact = in_extended_precision(frame[row.dependent], frame[row.independent], row.lag)
        assert row.t_stat == pytest.approx(exact, rel=bound, abs=bound)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"near_collinear"}))
@pytest.mark.parametrize("n_bars", [21, 24])
def test_screen_equals_statsmodels_on_twenty_hostile_prices(kind, n_bars):
    check(as_frame(KINDS[kind](n_bars, seed=n_bars)))


def test_single_pairs_are_tested_in_the_order_asked():
    frame = as_frame(late(walks(120, 3, seed=30), [0, 0, 30]))
    pairs = [Pair("S2/USDT", "S0/USDT"), Pair("S0/USDT", "S1/USDT")]
    found = engle_granger_residuals(frame, pairs)
    assert found["n_obs"].tolist() == [90, 120]
    assert tuple(found.columns) == PAIR_COLUMNS
    for row in found.itertuples():
        common = frame[[row.dependent, row.independent]].dropna()
        expected = oracle(common[row.dependent], common[row.independent])
        assert row.lag == expected.lag
        assert row.t_stat == pytest.approx(expected.t_stat, abs=1e-9)
        assert row.p_value == pytest.approx(expected.p_value, abs=1e-10)
    assert engle_granger_residuals(frame, []).empty
    with pytest.raises(ParameterError, match="BTC/USDT: no such column"):
        engle_granger_residuals(frame, [Pair("S0/USDT", "BTC/USDT")])
    with pytest.raises(ParameterError, match="has one leg"):
        engle_granger_residuals(frame, [Pair("S0/USDT", "S0/USDT")])


def test_tiles_hold_every_row_once_and_both_directions_together():
    frame = as_frame(late(walks(150, 40, seed=31), [0] * 30 + [20] * 10))
    tiles = list(engle_granger_tiles(frame, n_threads=2))
    assert len(tiles) > 3
    for tile in tiles:
        met = set(zip(tile["dependent"], tile["independent"], strict=True))
        assert met == {(x, y) for y, x in met}
    whole = engle_granger_pairs(frame)
    order = {symbol: k for k, symbol in enumerate(frame.columns)}
    rows = pd.concat(tiles).sort_values(["dependent", "independent"], key=lambda names: names.map(order))
    pd.testing.assert_frame_equal(rows.reset_index(drop=True), whole, check_exact=True)


def test_result_does_not_depend_on_threads_company_tiles_or_memory_layout(monkeypatch):
    frame = as_frame(late(walks(150, 40, seed=9), [0] * 30 + [20] * 10))
    whole = engle_granger_pairs(frame)
    pd.testing.assert_frame_equal(engle_granger_pairs(frame, n_threads=2), whole, check_exact=True)
    fortran = pd.DataFrame(np.asfortranarray(frame), index=frame.index, columns=frame.columns)
    pd.testing.assert_frame_equal(engle_granger_pairs(fortran), whole, check_exact=True)
    some = frame[["S7/USDT", "S29/USDT", "S31/USDT"]]
    same = whole["dependent"].isin(some.columns) & whole["independent"].isin(some.columns)
    pd.testing.assert_frame_equal(engle_granger_pairs(some), whole[same].reset_index(drop=True), check_exact=True)
    monkeypatch.setattr(all_pairs, "_BAND", 16)
    pd.testing.assert_frame_equal(engle_granger_pairs(frame, n_threads=2), whole, check_exact=True)
    monkeypatch.setattr(all_pairs, "_LEAST_PANEL", 48)
    monkeypatch.setattr(all_pairs, "_BAND", 96)
    pd.testing.assert_frame_equal(engle_granger_pairs(frame), whole, check_exact=True)


def test_statistic_is_that_of_arch():
    """arch takes the number of lags it is given; its p-values come from tables of its own."""
    from arch.unitroot.cointegration import engle_granger

    frame = as_frame(np.hstack([cointegrated(400, 32), ticks(400, 33)]))
    for row in engle_granger_pairs(frame).itertuples():
        stat = engle_granger(frame[row.dependent], frame[row.independent], trend="c", lags=row.lag).stat
        assert row.t_stat == pytest.approx(stat, abs=1e-7)


arch_series = arch_published.data
"""The fixture of arch's own tests: three walks x, y and z, and w, which follows y; as a frame and as an array."""


@pytest.mark.parametrize("autolag", ["aic", "bic"])
@pytest.mark.parametrize("trend", ["n", "c", "ct"])
def test_values_that_arch_publishes_for_its_fixture(arch_series, trend, autolag):
    """Statistics and lags; p-values to the second digit, as arch has tables of its own."""
    prices = as_frame(np.asarray(arch_series)).set_axis(["x", "y", "z", "w"], axis=1)
    for row in engle_granger_pairs(prices[["x", "y"]], trend=trend, autolag=autolag).itertuples():
        t_stat, p_value, _ = arch_published.NULL_TEST_VALUES[trend, row.dependent]
        assert row.t_stat == pytest.approx(t_stat, rel=1e-4)
        assert row.p_value == pytest.approx(p_value, abs=5e-3)
    for row in engle_granger_pairs(prices[["w", "y"]], max_lag=17, trend=trend, autolag=autolag).itertuples():
        t_stat, p_value, _, lag = arch_published.ALT_TEST_VALUES[autolag, trend, row.dependent]
        assert row.t_stat == pytest.approx(t_stat, rel=1e-4)
        assert row.lag == lag
        assert row.p_value == pytest.approx(p_value, abs=1e-4)


def test_scaling_a_leg_scales_the_hedge_ratio_and_leaves_the_test():
    frame = as_frame(cointegrated(400, seed=10))
    first = engle_granger_pairs(frame).iloc[0]
    scaled = engle_granger_pairs(frame * [3.0, 1.0, 1.0]).iloc[0]
    assert scaled["beta"] == pytest.approx(3 * first["beta"], rel=1e-10)
    assert scaled["t_stat"] == pytest.approx(first["t_stat"], rel=1e-9)


def test_input_is_not_changed():
    frame = as_frame(walks(100, 3, seed=11))
    before = frame.copy(deep=True)
    for trend in ("n", "c", "ct"):
        engle_granger_pairs(frame, trend=trend)
    pd.testing.assert_frame_equal(frame, before, check_exact=True)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_progress_counts_up_to_all_pairs(n_threads):
    seen: list[tuple[int, int]] = []
    frame = as_frame(walks(60, 50, seed=12))
    engle_granger_pairs(frame, progress=lambda done, total: seen.append((done, total)), n_threads=n_threads)
    counts = [done for done, _ in seen]
    assert len(counts) > 1
    assert counts == sorted(counts)
    assert seen[-1] == (2450, 2450)


def test_interruption_in_progress_is_passed_on():
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engle_granger_pairs(as_frame(walks(60, 50, seed=12)), progress=stop, n_threads=2)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_price_that_is_not_finite_is_refused_by_symbol_and_time(wrong):
    frame = as_frame(walks(100, 3, seed=13))
    frame.iloc[42, 1] = wrong
    with pytest.raises(BarDataError, match=r"S1/USDT: log price is .* at 2025-01-02 18:00"):
        engle_granger_pairs(frame)


def test_frames_that_are_no_universe_are_refused():
    frame = as_frame(walks(100, 3, seed=14))
    with pytest.raises(ParameterError, match="S0/USDT stands twice"):
        engle_granger_pairs(frame.iloc[:, [0, 1, 0]])
    with pytest.raises(ParameterError, match="1 symbols given"):
        engle_granger_pairs(frame.iloc[:, :1])
    with pytest.raises(ParameterError, match="no rows"):
        engle_granger_pairs(frame.iloc[:0])
    with pytest.raises(BarDataError, match="does not increase"):
        engle_granger_pairs(frame.iloc[::-1])
    with pytest.raises(BarDataError, match="S0/USDT: values are"):
        engle_granger_pairs(frame.astype({"S0/USDT": str}))


def test_options_out_of_range_are_refused():
    frame = as_frame(walks(100, 2, seed=15))
    for wrong in ({"trend": "ctt"}, {"autolag": "t-stat"}, {"n_threads": 0}, {"max_lag": -1}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            engle_granger_pairs(frame, **wrong)


def test_too_many_lags_for_the_rows_are_refused_as_statsmodels_does():
    frame = as_frame(walks(60, 2, seed=16))
    with pytest.raises(ValueError, match="maxlag must be less"):
        coint(frame.iloc[:, 0], frame.iloc[:, 1], maxlag=30)
    with pytest.raises(ParameterError, match="60 rows are too few for 30 lags, expected at least 63"):
        engle_granger_pairs(frame, max_lag=30)
    with pytest.raises(ParameterError, match="2 rows are too few"):
        engle_granger_pairs(frame.iloc[:2])


@pytest.mark.parametrize(("n_bars", "lags"), [(21, 9), (100, 12), (1440, 24), (8760, 37)])
def test_default_number_of_lags(n_bars, lags):
    assert default_max_lag(n_bars) == lags


def test_published_etf_pair():
    """EWA and EWC, 2006 to 2012, from Chan, Algorithmic Trading (2013), examples 2.6 and 2.7."""
    bars = os.environ.get("MNTRADING_SAMPLE_BARS")
    path = Path(bars).parent / "reference_chan_etf" / "EWA_EWC_IGE.csv" if bars else None
    if path is None or not path.exists():
        pytest.skip("reference_chan_etf is not beside MNTRADING_SAMPLE_BARS")
    prices = pd.read_csv(path, index_col="Date")[["EWC", "EWA"]]
    one_lag = engle_granger_pairs(prices, max_lag=1, autolag=None).iloc[0]
    assert (one_lag["dependent"], one_lag["independent"]) == ("EWC", "EWA")
    assert one_lag["beta"] == pytest.approx(0.962429, abs=5e-7)
    assert one_lag["alpha"] == pytest.approx(6.4113, abs=5e-5)
    assert one_lag["t_stat"] == pytest.approx(-3.643515, abs=5e-7)
    assert one_lag["p_value"] == pytest.approx(0.0216, abs=5e-5)
    swapped = engle_granger_pairs(prices).iloc[1]
    assert swapped["t_stat"] == pytest.approx(-3.063528, abs=5e-7)
    assert swapped["p_value"] == pytest.approx(0.0959, abs=5e-5)
