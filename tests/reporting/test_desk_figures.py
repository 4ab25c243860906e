"""Figures of the desk and of research: what is shown, thinned without losing extremes, and legible in the dark."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mntrading.reporting import style
from mntrading.reporting.desk_figures import (
    PairNow,
    expectation_figure,
    pair_name,
    pairs_now_figure,
    weights_figure,
)
from mntrading.reporting.figures import equity_figure
from mntrading.reporting.research_figures import (
    features_figure,
    funnel_figure,
    neighbourhood_figure,
    roster_figure,
    scenarios_figure,
    skill_figure,
)

START = pd.Timestamp("2025-01-01", tz="UTC")


def bars(values) -> pd.Series:
    return pd.Series(values, index=pd.date_range(START, periods=len(values), freq="5min"), dtype="float64")


def test_pairs_stand_by_their_own_levels_the_furthest_on_top() -> None:
    pairs = [
        PairNow("AAA-USDT__BBB-USDT", 1.0, 2.0, 0.5, 4.0),
        PairNow("CCC-USDT__DDD-USDT", -2.5, 2.0, 0.5, 4.0, side=1, in_production=True, doubts=("its <model> is gone",)),
        PairNow("EEE-USDT__FFF-USDT", None, 1.5, 0.0, 3.0),
    ]
    figure = pairs_now_figure(pairs)
    assert list(figure.layout.yaxis.categoryarray) == ["EEE / FFF", "AAA / BBB", "CCC / DDD"]
    drawn = {trace.name: trace for trace in figure.data}
    assert set(drawn) == {"no entry", "stop", "long the spread", "on the roster only"}
    assert list(drawn["long the spread"].x) == [-2.5]
    assert "its &lt;model&gt; is gone" in drawn["long the spread"].text[0]
    assert list(drawn["no entry"].base) == [-1.5, -2.0, -2.0]
    assert figure.layout.xaxis.range[1] > 4.0


@pytest.mark.parametrize(
    ("pair_id", "name"),
    [("APT-USDT__FIL-USDT", "APT / FIL"), ("APT-USDT__FIL-BTC", "APT-USDT / FIL-BTC"), ("odd", "odd")],
)
def test_a_pair_is_called_by_its_legs(pair_id: str, name: str) -> None:
    assert pair_name(pair_id) == name


def test_a_funnel_tells_every_rule_that_stopped_something_and_what_passed() -> None:
    figure = funnel_figure({"passed": 26, "too little volume": 2, "hardly moves": 0}, {"tested": 325, "selected": 0,
                           "not significant": 325})  # fmt: skip
    assert [list(trace.y) for trace in figure.data] == [
        ["too little volume", "passed"],
        ["not significant", "on the roster"],
    ]
    assert [text.strip() for text in figure.data[1].text] == ["325", "0"]
    assert [note.text for note in figure.layout.annotations] == ["Symbols: 28", "Pairs: 325"]


def test_the_roster_over_time_has_a_cell_for_every_pair_of_every_window() -> None:
    figure = roster_figure(["1 Jan", "8 Jan"], {"A-U__B-U": ["roster", "champion"], "C-U__D-U": [None, "roster"]})
    cells = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert cells == {
        "on the roster": [("1 Jan", "A / B"), ("8 Jan", "C / D")],
        "champion": [("8 Jan", "A / B")],
    }


def test_scenarios_without_an_interval_or_a_trade_are_drawn_as_far_as_they_go() -> None:
    lines = [
        {"total_return": 0.1, "sharpe": 2.0, "sharpe_low": 1.0, "sharpe_high": 4.0},
        {"total_return": -0.1, "sharpe": -1.0, "sharpe_low": None, "sharpe_high": None},
        {"total_return": None, "sharpe": None, "sharpe_low": None, "sharpe_high": None},
    ]
    figure = scenarios_figure(["As traded", "Twice the costs", "Later <b>"], lines, level=0.95)
    bar, dots = figure.data
    assert list(bar.marker.color)[:2] == [style.LONG, style.SHORT]
    assert list(dots.x) == [2.0, -1.0]
    assert (list(dots.error_x.arrayminus), list(dots.error_x.array)) == ([1.0, 0.0], [2.0, 0.0])
    assert bar.y[2] == "Later &lt;b&gt;"


def test_the_neighbourhood_leaves_out_what_could_not_be_traded() -> None:
    cells = [
        {"entry_step": step, "exit_step": 0.0, "total_return": value, "sharpe": 1.0}
        for step, value in ((-0.5, 0.2), (0.0, 0.1), (0.5, None))
    ]
    (heat,) = neighbourhood_figure(cells).data
    assert list(heat.y) == ["−0.5", "own", "+0.5"]
    np.testing.assert_array_equal(heat.z, [[0.2], [0.1], [np.nan]])
    assert (heat.zmin, heat.zmax) == (-0.2, 0.2)


def test_skill_below_chance_is_red() -> None:
    scores = [{"roc_auc": 0.6, "lift": 1.1, "n_rows": 9.0}, {"roc_auc": None, "lift": 0.9, "n_rows": 0.0}]
    auc, lift = skill_figure(["1 Jan", "8 Jan"], scores).data
    assert auc.y[0] == pytest.approx(0.1)
    assert list(lift.marker.color) == [style.CHAMPIONS, style.SHORT]


def test_weights_now_and_after_stand_side_by_side() -> None:
    after, now = weights_figure({"AAA/USDT": 0.1}, {"AAA/USDT": 0.2, "BBB/USDT": -0.3}).data
    assert (list(now.y), list(now.x)) == (["AAA", "BBB"], [0.1, 0.0])
    assert list(after.x) == [0.2, -0.3]


def test_the_account_is_held_against_the_band_the_backtest_led_to_expect() -> None:
    equity = bars(np.linspace(100.0, 101.0, 289))
    low, high, mean, account = (
        expectation_figure(equity, 0.01, 0.005, max_points=1000).data[i] for i in (1, 0, 2, 3)
    )  # fmt: skip
    assert account.y[-1] == pytest.approx(0.01)
    assert mean.y[-1] == pytest.approx(0.01)
    assert (low.y[-1], high.y[-1]) == (
        pytest.approx(0.01 - 1.96 * 0.005, abs=1e-6),
        pytest.approx(0.01 + 1.96 * 0.005, abs=1e-6),
    )


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 4000),
    most=st.integers(4, 300),
    spike=st.sampled_from([1e3, -1e3]),
    hole=st.booleans(),
)
def test_a_thinned_line_keeps_its_ends_and_extremes(seed: int, n: int, most: int, spike: float, hole: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n).cumsum()
    at = int(rng.integers(0, n))
    values[at] += spike
    if hole and n > 20:
        holes = np.arange(n // 3, n // 2)
        values[holes[holes != at]] = np.nan
    frame = pd.DataFrame({"z": bars(values)})
    (line,) = features_figure(frame, ["z"], max_points=most).data
    drawn = np.asarray(line.y, dtype=float)
    assert len(drawn) <= max(most, 4)
    assert (drawn[0], drawn[-1]) == pytest.approx((values[0], values[-1]), nan_ok=True)
    assert np.nanmax(drawn) == np.nanmax(values)
    assert np.nanmin(drawn) == np.nanmin(values)
    times = pd.to_datetime(pd.Series(line.x))
    assert times.is_monotonic_increasing
    assert set(drawn[~np.isnan(drawn)]) <= set(values[~np.isnan(values)])


def test_a_dark_figure_has_no_colour_of_the_light_one_and_nothing_else_changed() -> None:
    frame = pd.DataFrame({"champions": bars(np.linspace(100, 110, 50)), "roster": bars(np.linspace(100, 90, 50))})
    light = equity_figure(frame, [START], max_points=100)
    light.add_trace(go.Scatter(x=[1], y=[2], fill="tozeroy", fillcolor="rgba(27,106,143,0.13)", name="champions"))
    dark = style.dark(light)
    text = dark.to_json()
    house = [style.INK, style.PAPER, style.CHAMPIONS, style.ROSTER, style.MUTED]
    assert not [colour for colour in house if colour in text]
    assert "rgba(88,169,208,0.13)" in text
    assert light.layout.template.layout.paper_bgcolor == style.PAPER, "the light one is left as it is"

    def without_colours(figure: go.Figure) -> object:
        return json.loads(re.sub(r"#[0-9a-f]{6}|rgba\([^)]*\)", "c", figure.to_json()))

    assert without_colours(dark) == without_colours(light)


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_words_and_lines_are_legible_on_the_page(ground: str) -> None:
    figure = go.Figure(layout={"template": style.template()})
    shown = figure if ground == "light" else style.dark(figure)
    layout = shown.layout.template.layout
    for colour in (layout.font.color, layout.xaxis.tickfont.color):
        assert _contrast(colour, layout.paper_bgcolor) >= 4.5, f"{colour} on {layout.paper_bgcolor}"


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, as WCAG 2 has it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
