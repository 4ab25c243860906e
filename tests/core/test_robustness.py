"""Scenarios and neighbouring levels: what is varied, and what stays."""

from __future__ import annotations

import pytest

from mntrading.core.robustness import late_legs, neighbourhood, scenarios
from mntrading.params import BacktestParams, LeggingParams, RobustnessParams

PROBE = RobustnessParams(
    cost_multiple=2.0, shift_bars=1, entry_z_steps=(-0.5, 0.0, 0.5), exit_z_steps=(-0.5, 0.0, 1.5),
    legging=LeggingParams(probability=0.3, seed=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def rule(params) -> BacktestParams:
    given = params.backtest.model_dump()
    given["strategy"] |= {
        "signals_from": "z", "entry_z": 1.5, "exit_z": 0.5, "stop_z": 6.0, "cooldown_bars": 0, "min_hedge_ratio": 0.05,
        "max_hedge_ratio": 20.0,
    }  # fmt: skip
    given["strategy"]["break_monitor"] |= {"max_p_value": None}
    return BacktestParams.model_validate(given)


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
    assert dear.carry == rule.costs.carry
    assert late_legs(rule, PROBE).backtest.legging == PROBE.legging


def test_the_neighbourhood_is_every_entry_with_every_exit_and_the_stop_stays(rule):
    cells = neighbourhood(rule, PROBE)
    assert [(cell.entry_step, cell.exit_step) for cell in cells] == [
        (entry, leave) for entry in (-0.5, 0.0, 0.5) for leave in (-0.5, 0.0, 1.5)
    ]
    traded = [cell.backtest.strategy for cell in cells if cell.backtest]
    assert [(levels.entry_z, levels.exit_z) for levels in traded] == [
        (entry, leave) for entry in (1.0, 1.5, 2.0) for leave in (0.0, 0.5)
    ]
    assert {levels.stop_z for levels in traded} == {6.0}
    # an exit at or beyond the entry can't be traded
    assert [cell.name for cell in cells if cell.backtest is None] == [
        "entry -0.5, exit +1.5", "entry +0, exit +1.5", "entry +0.5, exit +1.5",
    ]  # fmt: skip
    assert next(cell for cell in cells if (cell.entry_step, cell.exit_step) == (0.0, 0.0)).backtest == rule


def test_an_exit_below_the_mean_is_one_at_the_mean(rule):
    at_mean = rule.model_copy(update={"strategy": rule.strategy.model_copy(update={"exit_z": 0.0})})
    exits = {cell.exit_step: cell.backtest.strategy.exit_z for cell in neighbourhood(at_mean, PROBE) if cell.backtest}
    assert (exits[-0.5], exits[0.0]) == (0.0, 0.0)
