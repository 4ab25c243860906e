"""What is thinned and what never is; bins and labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mntrading.reporting.panels import bin_edges, on_grid, spaced, thinned

STEP = pd.Timedelta(5, unit="min")


def series(n, seed, holes=0):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=n, freq=STEP, tz="UTC", unit="ms", name="timestamp")
    values = rng.normal(size=n).cumsum()
    values[rng.integers(0, n, holes)] = np.nan
    return pd.Series(values, index=index)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(4, 300), st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_a_thinned_line_keeps_its_extremes_and_true_values(n, max_points, seed, holes):
    given_ = series(n, seed, holes)
    line = thinned(given_, max_points)
    assert len(line) <= max_points
    assert line.index.is_monotonic_increasing
    known = given_.dropna()
    pd.testing.assert_series_equal(line.dropna(), given_[line.dropna().index])
    if len(known):
        assert (line.min(), line.max()) == (known.min(), known.max())
        assert (line.index[0], line.index[-1]) == (known.index[0], known.index[-1])
    else:
        assert line.empty


def test_a_missing_week_breaks_the_line():
    whole = series(12 * 24 * 30, 1)
    cut = whole.drop(whole.index[2000:4016])
    line = thinned(on_grid(cut, STEP), 200)
    inside = line.loc[whole.index[2000] : whole.index[4015]]
    assert len(inside) > 0
    assert inside.isna().all()


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=400))
def test_bins_have_an_edge_at_zero_and_hold_every_value(values):
    values = np.array(values)
    edges = bin_edges(values)
    assert np.isclose(edges, 0.0, atol=1e-15).any()
    assert np.histogram(values, bins=edges)[0].sum() == len(values)
    assert len(edges) <= 45
    assert np.allclose(np.diff(edges), edges[1] - edges[0])


@pytest.mark.parametrize(("n", "places"), [(0, []), (3, [0, 1, 2]), (8, list(range(8))), (9, [0, 2, 4, 6, 8])])
def test_labels_are_left_out_where_there_is_no_room(n, places):
    assert spaced(n) == places
