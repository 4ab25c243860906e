"""The relation of one pair over one window."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.stattools import coint

from mntrading.core.mean_reversion import half_life
from mntrading.core.relation import break_p_value, relation
from mntrading.core.types import Pair

PAIR = Pair("A/X", "B/X")


def closes(n: int = 600, *, tied: bool = True, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2025-01-01", periods=n, freq="1h", tz="UTC", unit="ms")
    walk = np.cumsum(rng.normal(size=n)) / 100
    spread = np.zeros(n)
    for t in range(1, n):
        spread[t] = (0.9 if tied else 1.0) * spread[t - 1] + rng.normal() / 100
    return pd.DataFrame({"B/X": walk, "A/X": 1.5 * walk + spread}, index=index)


def test_it_is_the_screens_test_in_the_direction_that_is_traded(params):
    given = closes()
    found = relation(given, PAIR, params.screening)
    statistic, p_value, _ = coint(given["A/X"], given["B/X"], autolag="aic")
    assert found.p_value == pytest.approx(p_value, rel=1e-6)
    assert statistic < -3
    slope, level = np.polyfit(given["B/X"], given["A/X"], 1)
    assert found.hedge_ratio == pytest.approx(slope, rel=1e-9)
    residual = given["A/X"] - slope * given["B/X"] - level
    assert found.half_life_bars == pytest.approx(half_life(residual), rel=1e-6)
    assert found.n_bars == 600


def test_walks_have_no_relation(params):
    found = [relation(closes(tied=False, seed=seed), PAIR, params.screening).p_value for seed in range(40)]
    assert np.mean(np.array(found) > 0.2) > 0.6


def test_hours_that_a_leg_lacks_are_left_out_and_too_few_are_no_test(params):
    given = closes()
    gappy = given.copy()
    gappy.iloc[100:130, 0] = np.nan
    found = relation(gappy, PAIR, params.screening)
    assert found.n_bars == 570
    assert found == relation(gappy.dropna(), PAIR, params.screening)
    for none in (given.iloc[:2], given.iloc[:0], given.assign(**{"A/X": np.nan}), given.assign(**{"B/X": 1.0})):
        assert np.isnan(relation(none, PAIR, params.screening).p_value)


def test_the_break_monitor_holds_the_hedge_ratio_it_is_given(params):
    rule = params.backtest.strategy.break_monitor.model_copy(update={"window_bars": 600, "stride_bars": 1})
    given = closes()
    y, x = given["A/X"].to_numpy(), given["B/X"].to_numpy()
    assert break_p_value(y, x, 1.5, rule) < 0.01
    assert break_p_value(y, x, 0.0, rule) > 0.1
    assert np.isnan(break_p_value(y, x, float("nan"), rule))
    assert np.isnan(break_p_value(y[:100], x[:100], 1.5, rule))
    assert np.isnan(break_p_value(y[:0], x[:0], 1.5, rule))
