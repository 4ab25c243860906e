"""The same pair traded under other costs, timing and levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_bars import changed, two_legs

from mntrading.core.backtest import run_pair
from mntrading.core.engine_inputs import Book
from mntrading.core.features import build_features
from mntrading.core.robustness import neighbourhood, scenarios, trade_again
from mntrading.params import BacktestParams, RobustnessParams

PROBE = RobustnessParams(cost_multiple=2.0, shift_bars=1, entry_z_steps=(-0.5, 0.0, 0.5), exit_z_steps=(-0.5, 0.0, 1.5))


@pytest.fixture(scope="module")
def rule(params) -> BacktestParams:
    given = params.backtest.model_dump()
    given["strategy"] |= {
        "signals_from": "z", "entry_z": 1.5, "exit_z": 0.5, "stop_z": 6.0, "cooldown_bars": 0, "min_hedge_ratio": 0.05,
        "max_hedge_ratio": 20.0,
    }  # fmt: skip
    given["strategy"]["break_monitor"] |= {"max_p_value": None}
    return BacktestParams.model_validate(given)


@pytest.fixture(scope="module")
def pair(params):
    legs = two_legs(600, seed=2)
    spec = changed(
        params.feature_engineering.features, beta_window=60, z_window=40, volatility_window=12, lag_features=0,
        include=("z_dynamics",),
    )  # fmt: skip
    return *legs, build_features(*legs, spec)


def again(pair, variants, **changed):
    given = {
        "probability": None, "threshold": None, "half_life_bars": 8.0, "book": Book(), "funding": None,
        "barred": pd.Series(False, index=pair[2].index),
    } | changed  # fmt: skip
    return trade_again(*pair, variants, **given)


def test_scenarios_are_as_traded_dearer_later_and_the_bound_that_looks_ahead(rule):
    ways = {way.name: way for way in scenarios(rule, PROBE)}
    assert list(ways) == ["as_traded", "costs", "later", "earlier"]
    assert ways["as_traded"].backtest == rule
    dear = ways["costs"].backtest.costs
    for name in ("fee_rate", "slippage_bps", "impact_bps", "borrow_bps_per_day"):
        assert getattr(dear, name) == 2 * getattr(rule.costs, name)
    assert [ways[name].shift_bars for name in ways] == [0, 0, 1, -1]
    assert [name for name, way in ways.items() if way.looks_ahead] == ["earlier"]
    assert ways["earlier"].backtest.fill_at == "close"


def test_the_neighbourhood_is_every_entry_with_every_exit_and_the_stop_stays(rule):
    cells = neighbourhood(rule, PROBE)
    assert [(cell.entry_z, cell.exit_z) for cell in cells] == [
        (entry, leave) for entry in (1.0, 1.5, 2.0) for leave in (0.0, 0.5, 2.0)
    ]
    assert {cell.backtest.strategy.stop_z for cell in cells if cell.backtest} == {6.0}
    # an exit at or beyond the entry can't be traded
    assert [cell.name for cell in cells if cell.backtest is None] == [
        "entry 1, exit 2", "entry 1.5, exit 2", "entry 2, exit 2",
    ]  # fmt: skip
    assert next(cell for cell in cells if (cell.entry_z, cell.exit_z) == (1.5, 0.5)).backtest == rule


def test_without_a_delay_it_is_the_backtest_itself(rule, pair):
    found = again(pair, [("same", rule, 0)])["same"]
    expected = run_pair(*pair, rule, half_life_bars=8.0, book=Book()).trades
    assert len(expected) > 5
    pd.testing.assert_frame_equal(found, expected)


def test_a_delay_moves_every_decision_by_its_bars(rule, pair):
    early, late = again(pair, [("early", rule, 0), ("late", rule, 2)]).values()
    step = pair[2].index[1] - pair[2].index[0]
    assert late["entry_z"].iloc[0] == early["entry_z"].iloc[0]
    assert late["entry_decision"].iloc[0] == early["entry_decision"].iloc[0] + 2 * step


def test_the_bound_is_filled_at_the_close_of_the_bar_it_decided_on(rule, pair):
    earlier = next(way for way in scenarios(rule, PROBE) if way.name == "earlier")
    found = again(pair, [("earlier", earlier.backtest, earlier.shift_bars)])["earlier"]
    close = pair[0].set_index("timestamp")["close"]
    z = pair[2]["z"]
    inner = found.iloc[:-1]
    np.testing.assert_array_equal(inner["entry_price_a"], close.loc[inner["entry_fill"]])
    np.testing.assert_array_equal(inner["entry_z"], z.loc[inner["entry_fill"]])


def test_probabilities_and_bars_without_entry_are_moved_too(rule, pair):
    asked = changed(rule, strategy=rule.strategy.model_dump() | {"signals_from": "model", "probability_threshold": 0.5})
    index = pair[2].index
    first = again(pair, [("z", rule, 0)])["z"]["entry_decision"].iloc[0]
    chance = pd.Series(0.0, index=index)
    chance.loc[first] = 0.9
    step = index[1] - index[0]
    told = again(pair, [("now", asked, 0), ("late", asked, 1)], probability=chance)
    assert told["now"]["entry_decision"].tolist() == [first]
    assert told["late"]["entry_decision"].tolist() == [first + step]
    barred = pd.Series(index == first, index=index)
    assert not len(again(pair, [("late", asked, 1)], probability=chance, barred=barred)["late"])
