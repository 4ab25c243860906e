"""Clusters of pairs: spreads by hand, which correlation is asked, and where the tree is cut."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_bars import grid

from mntrading.core.clusters import correlations, group, spread_changes
from mntrading.core.roster import RosterPair
from mntrading.core.types import Pair

DAYS = pd.date_range("2025-03-01", periods=6, tz="UTC", unit="ms")
UP, DOWN = [1.0, -1.0, 2.0, -2.0, 1.0, -1.0], [-1.0, 1.0, -2.0, 2.0, -1.0, 1.0]
EVEN = [1.0, 1.0, -1.0, -1.0, 0.5, 0.5]  # its correlation with UP is 0: (1-1) + (-2+2) + (0.5-0.5)
NOTHING = pd.DataFrame()


def days(values, at=DAYS):
    return pd.Series(values, index=at)


def row(a="A", b="B", beta=2.0):
    return RosterPair(Pair(a, b), 6.0, 0.01, beta)


def test_the_spread_of_a_day_is_that_of_its_last_whole_bar():
    close = pd.DataFrame({"A": np.nan, "B": np.nan}, index=grid(4 * 288))
    for day, (a, b) in enumerate(((1.0, 1.0), (3.0, 1.0), (3.0, 2.0), (5.0, 2.0))):
        close.iloc[day * 288 + 100] = np.exp([a, b])
    close.iloc[288 + 200, 0] = np.exp(99.0)  # B has no bar then
    out = spread_changes(close, [row()])
    # log A − 2 log B: −1, 1, −1, 1
    assert out["A__B"].tolist() == pytest.approx([np.nan, 2.0, -2.0, 2.0], nan_ok=True)


def test_a_change_over_a_missing_day_is_not_known():
    close = pd.DataFrame({"A": 1.0, "B": 1.0}, index=grid(3 * 288))
    close.iloc[288 : 2 * 288, 1] = np.nan
    assert spread_changes(close, [row()])["A__B"].isna().all()


def test_a_pair_whose_symbol_has_no_bars_has_no_spread():
    assert spread_changes(pd.DataFrame({"A": 1.0}, index=grid(300)), [row()]).empty


def test_returns_keep_their_sign_and_spreads_lose_it():
    told = correlations({"x": days(UP), "y": days(DOWN)}, NOTHING, min_days=6)
    assert told.loc["x", "y"] == pytest.approx(-1.0)
    spreads = pd.DataFrame({"x": UP, "y": DOWN}, index=DAYS)
    nothing = days([], DAYS[:0])
    assert correlations({"x": nothing, "y": nothing}, spreads, min_days=6).loc["x", "y"] == pytest.approx(1.0)


def test_spreads_are_asked_only_where_returns_say_nothing():
    spreads = pd.DataFrame(dict.fromkeys("xyz", UP), index=DAYS)
    returns = {"x": days(UP), "y": days(EVEN), "z": days(UP[:5], DAYS[:5]), "idle": days([0.0] * 6)}
    told = correlations(returns, spreads, min_days=6)
    assert told.loc["x", "y"] == pytest.approx(0.0)
    assert told.loc["x", "z"] == pytest.approx(1.0)  # five common days: by the spreads
    assert np.isnan(told.loc["x", "idle"])  # never traded, and no spread is known
    assert np.diag(told).tolist() == [1.0] * 4


def matrix(values):
    names = [f"p{i}" for i in range(len(values))]
    return pd.DataFrame(values, index=names, columns=names)


def test_a_chain_is_one_cluster_by_single_linkage_and_two_by_average():
    chain = matrix([[1.0, 0.8, 0.1], [0.8, 1.0, 0.7], [0.1, 0.7, 1.0]])
    assert group(chain, method="single", min_correlation=0.5) == {"p0": 1, "p1": 1, "p2": 1}
    # p2 is at (0.1 + 0.7) / 2 = 0.4 from the pair of the others
    assert group(chain, method="average", min_correlation=0.5) == {"p0": 1, "p1": 1, "p2": 2}
    assert group(chain, method="average", min_correlation=0.4) == {"p0": 1, "p1": 1, "p2": 1}


def test_pairs_that_can_not_be_compared_are_apart():
    unknown = matrix([[1.0, np.nan], [np.nan, 1.0]])
    assert group(unknown, method="average", min_correlation=0.2) == {"p0": 1, "p1": 2}


@pytest.mark.parametrize("names", [[], ["p0"]])
def test_fewer_than_two_pairs_need_no_tree(names):
    one = pd.DataFrame(1.0, index=names, columns=names)
    assert group(one, method="average", min_correlation=0.5) == dict.fromkeys(names, 1)


def test_the_order_of_the_pairs_changes_nothing():
    rng = np.random.default_rng(0)
    whole = pd.DataFrame(
        rng.normal(size=(40, 8)) + rng.normal(size=(40, 1)), columns=[f"p{i}" for i in range(8)]
    ).corr()
    mixed = whole.iloc[::-1, ::-1]
    for method in ("single", "average"):
        assert group(whole, method=method, min_correlation=0.5) == group(mixed, method=method, min_correlation=0.5)
