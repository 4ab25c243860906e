"""Figures hold few points and lose no peak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mntrading.reporting.figures import decimate, draw, equity_figure, last_windows


@given(st.integers(1, 3000), st.integers(4, 300), st.integers(0, 2**32 - 1))
def test_decimation_keeps_extremes_ends_and_order_within_the_limit(n, max_points, seed):
    series = pd.Series(np.random.default_rng(seed).normal(size=n))
    thinned = decimate(series, max_points)
    assert len(thinned) <= max_points
    assert thinned.index.is_monotonic_increasing
    assert thinned.index[0] == 0
    assert thinned.index[-1] == n - 1
    assert (thinned.min(), thinned.max()) == (series.min(), series.max())
    pd.testing.assert_series_equal(thinned, series[thinned.index])


def test_decimation_leaves_a_short_series_as_it_is():
    series = pd.Series([1.0, np.nan, 3.0])
    assert decimate(series, 4) is series


def test_decimation_keeps_a_gap_a_gap():
    series = pd.Series(np.arange(1000.0))
    series.loc[300:599] = np.nan
    inside = decimate(series, 50).loc[300:599]
    assert len(inside) > 0
    assert inside.isna().all()


def test_decimation_to_fewer_than_four_points_is_refused():
    with pytest.raises(ValueError, match="at least 4"):
        decimate(pd.Series([1.0] * 9), 3)


def test_every_trace_holds_at_most_the_points_asked_for(research):
    limited = replace(research, reporting=research.reporting.model_copy(update={"max_points": 100}))
    for name, figure in draw(limited).items():
        for trace in figure.data:
            assert len(trace.x) <= 100, name


def test_every_figure_of_a_full_run_is_drawn(research):
    assert set(draw(research)) == {
        "equity",
        "folds",
        "pair",
        "menu",
        "screening_heat_map",
        "pair_network",
        "calibration",
    }


def test_importance_is_that_of_the_live_model_where_there_is_one(research):
    fits = research.scores["cross_validated"]
    scores = {**research.scores, "cross_validated": {**fits, "live/pooled": fits["fold_00/pooled"]}}
    figures = draw(replace(research, scores=scores))
    assert list(figures["importance"].data[0].y) == ["beta_drift", "z"]
    assert {trace.name for trace in figures["calibration"].data} >= {"trading windows", "live model, out of fold"}


def test_each_trading_window_is_marked_on_the_equity_curve(research):
    starts = [entry.fold.formation_end for entry in research.roster.completed]
    figure = equity_figure(research.equity, starts, max_points=500)
    marked = {shape.x0 for shape in figure.layout.shapes}
    assert marked == {f"{start:%Y-%m-%dT%H:%M}" for start in starts}


def test_deepest_drawdown_is_on_the_curve(research):
    figure = equity_figure(research.equity, [], max_points=100)
    lowest = min(min(trace.y) for trace in figure.data if trace.yaxis == "y2")
    peak = research.equity.cummax()
    assert lowest == pytest.approx(float((research.equity / peak - 1).min().min()))


def test_trades_and_levels_are_marked_on_z(research):
    figure = draw(research)["pair"]
    assert {trace.name for trace in figure.data} >= {"Long the spread", "Short the spread", "Exit"}
    # what was chosen for the windows shown, not what is configured
    levels = {shape.y0 for shape in figure.layout.shapes}
    assert levels == {2.0, -2.0, 0.0, 0.5, -0.5, 4.0, -4.0}


def test_only_the_newest_windows_traded_are_shown(research):
    features, trades = last_windows(research.best.curve, research.best.trades, research.summary["folds"], n=1)
    assert set(trades["fold"]) == {"fold_01"}
    assert features.index[0] == pd.Timestamp(research.summary["folds"][1]["trading_start"])


def test_no_figure_is_drawn_of_nothing(nothing):
    summary = nothing.summary | {"rules": nothing.summary["rules"] | {"candidates": []}}
    assert draw(replace(nothing, tests=nothing.tests.iloc[:0], summary=summary)) == {}
