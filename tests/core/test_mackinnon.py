"""MacKinnon's surfaces against statsmodels and the published coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.tsa.adfvalues import mackinnoncrit, mackinnonp

from mntrading.core.errors import ParameterError
from mntrading.core.mackinnon import mackinnon_critical_values, mackinnon_p_value

TRENDS = ("n", "c", "ct")


@pytest.mark.parametrize("trend", TRENDS)
def test_p_value_equals_statsmodels_over_the_whole_range(trend):
    t = np.concatenate((np.linspace(-25.0, 3.0, 5601), [-18.86, -19.62, -21.15, -2.62, -1.53, -3.19, 0.92, 1.51, 0.63]))
    expected = [mackinnonp(value, regression=trend, N=2) for value in t]
    np.testing.assert_allclose(mackinnon_p_value(t, trend), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("trend", TRENDS)
def test_p_value_at_the_infinities_is_a_bound_and_nan_stays_nan(trend):
    np.testing.assert_array_equal(mackinnon_p_value([-np.inf, np.inf, np.nan], trend), [0.0, 1.0, np.nan])


def test_p_value_keeps_the_shape():
    assert mackinnon_p_value(np.zeros((2, 3))).shape == (2, 3)
    assert mackinnon_p_value(-3.0).shape == ()
    assert mackinnon_p_value(np.empty(0)).shape == (0,)


def test_p_value_falls_as_the_statistic_falls():
    p = mackinnon_p_value(np.linspace(-15.0, -0.5, 500))
    assert (np.diff(p) > 0).all()


def test_critical_values_of_the_paper_at_1439_observations():
    n = 1439.0
    expected = [
        -3.89644 - 10.9519 / n - 22.527 / n**2,
        -3.33613 - 6.1101 / n - 6.823 / n**2,
        -3.04445 - 4.2412 / n - 2.720 / n**2,
    ]
    np.testing.assert_allclose(mackinnon_critical_values(n, "c"), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n_obs", [30.0, 500.0, np.inf])
def test_critical_values_equal_statsmodels_but_for_its_misprint(n_obs):
    ours, theirs = mackinnon_critical_values(n_obs, "c"), mackinnoncrit(N=2, regression="c", nobs=n_obs)
    np.testing.assert_allclose(ours[1:], theirs[1:], rtol=0, atol=1e-14)
    assert ours[0] - theirs[0] == pytest.approx((33.527 - 22.527) / n_obs**2, abs=1e-13)
    with_trend = mackinnoncrit(N=2, regression="ct", nobs=n_obs)
    np.testing.assert_allclose(mackinnon_critical_values(n_obs, "ct"), with_trend, rtol=0, atol=1e-14)


def test_critical_values_without_deterministic_terms_are_unknown():
    assert np.isnan(mackinnon_critical_values(100, "n")).all()


def test_unknown_trend_and_no_observations_are_refused():
    with pytest.raises(ParameterError, match="ctt"):
        mackinnon_p_value(-3.0, "ctt")
    with pytest.raises(ParameterError, match="n_obs is 0"):
        mackinnon_critical_values(0, "c")
