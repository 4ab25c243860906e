"""White's standard errors in the Dickey-Fuller regression, against statsmodels, and what they are for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from mntrading.core.cointegration import engle_granger_residuals, white_t_stats
from mntrading.core.mackinnon import mackinnon_p_value
from mntrading.core.types import Pair
from mntrading.core.white_tests import white_t_stat


def residual(n: int, seed: int, phi: float = 0.95) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.zeros(n)
    for t in range(1, n):
        out[t] = phi * out[t - 1] + rng.standard_t(4)
    return out - out.mean()


def by_statsmodels(e: np.ndarray, lag: int) -> float:
    d = np.diff(e)
    regressors = [e[lag:-1], *(d[lag - j : len(d) - j] for j in range(1, lag + 1))]
    return float(sm.OLS(d[lag:], np.column_stack(regressors)).fit(cov_type="HC0").tvalues[0])


@pytest.mark.parametrize(("n", "lag"), [(1440, 0), (1440, 1), (1440, 24), (300, 7), (60, 5), (21, 8)])
def test_the_statistic_is_that_of_statsmodels(n, lag):
    for seed in range(5):
        e = residual(n, seed)
        assert white_t_stat(e, lag) == pytest.approx(by_statsmodels(e, lag), rel=1e-9)


def test_a_difference_that_repeats_another_gets_no_coefficient():
    """An alternating residual: d_{t-2} is d_{t-1} turned around."""
    e = np.tile([1.0, -1.0], 50) * 0.5 + np.where(np.arange(100) == 60, 0.1, 0.0)
    assert np.isfinite(white_t_stat(e, 3))


def test_too_few_rows_and_nothing_left_are_no_statistic():
    assert np.isnan(white_t_stat(residual(9, 0), 4))
    assert np.isfinite(white_t_stat(residual(12, 0), 4))
    assert np.isnan(white_t_stat(np.zeros(50), 0))


def test_rows_of_a_table_of_tests_late_listings_and_all():
    rng = np.random.default_rng(0)
    prices = pd.DataFrame(rng.normal(0, 0.01, (500, 3)).cumsum(axis=0), columns=["A", "B", "C"])
    prices.loc[:99, "C"] = np.nan
    pairs = [Pair("A", "B"), Pair("C", "A"), Pair("A", "C")]
    tests = engle_granger_residuals(prices, pairs)
    found = white_t_stats(prices, tests)
    for row, t_white in zip(tests.to_dict("records"), found, strict=True):
        legs = prices[[row["dependent"], row["independent"]]].dropna().to_numpy()
        e = legs[:, 0] - row["alpha"] - row["beta"] * legs[:, 1]
        assert t_white == pytest.approx(by_statsmodels(e, row["lag"]), rel=1e-8)
    tests.loc[1, "beta"] = np.nan
    assert np.isnan(white_t_stats(prices, tests)[1])


def test_under_volatility_in_clusters_the_ordinary_statistic_rejects_too_often_and_this_one_does_not():
    rng = np.random.default_rng(1)
    n, bars, lag, level = 2000, 700, 1, 0.005
    variance, walks = np.ones(2 * n), np.zeros((bars, 2 * n))
    for t in range(1, bars):
        shock = rng.standard_normal(2 * n) * np.sqrt(variance)
        variance = 0.03 + 0.25 * shock**2 + 0.72 * variance
        walks[t] = walks[t - 1] + shock
    walks = walks[200:] - walks[200:].mean(axis=0)
    ordinary, white = np.empty(n), np.empty(n)
    for k in range(n):
        y, x = walks[:, 2 * k], walks[:, 2 * k + 1]
        e = y - (x @ y) / (x @ x) * x
        d = np.diff(e)
        fit = sm.OLS(d[lag:], np.column_stack([e[lag:-1], d[:-lag]])).fit()
        ordinary[k], white[k] = fit.tvalues[0], white_t_stat(e, lag)
    assert (mackinnon_p_value(ordinary) <= level).mean() > 3 * level
    assert (mackinnon_p_value(white) <= level).mean() < 1.5 * level
