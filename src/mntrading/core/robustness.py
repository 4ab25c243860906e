"""The same trades under other costs, timing and levels: does a result hang on one number?"""

from __future__ import annotations

from dataclasses import dataclass

from mntrading.core.engine_inputs import multiplied
from mntrading.params import BacktestParams, RobustnessParams


@dataclass(frozen=True)
class Scenario:
    """One way to trade the same pairs again.

    Parameters
    ----------
    name
        Key of the scenario.
    backtest
        Strategy, costs and fill rule.
    shift_bars
        Bars the features and probabilities come later than they were known; negative ones look ahead.
    """

    name: str
    backtest: BacktestParams
    shift_bars: int = 0

    @property
    def looks_ahead(self) -> bool:
        """Whether nobody could trade it."""
        return self.shift_bars < 0


@dataclass(frozen=True)
class Cell:
    """One point of the parameter neighbourhood, by its distance from the levels a pair is traded at.

    ``backtest`` is None where the levels are in no order to trade.
    """

    entry_step: float
    exit_step: float
    backtest: BacktestParams | None

    @property
    def name(self) -> str:
        """Key of the cell."""
        return f"entry {self.entry_step:+g}, exit {self.exit_step:+g}"


def scenarios(backtest: BacktestParams, params: RobustnessParams) -> tuple[Scenario, ...]:
    """As it is, at multiplied costs, later, and earlier.

    The earlier one decides on bar t and is filled at the close of that very bar: features are moved one bar back and
    fills are at the next bar's close, which then is the close they were computed from. It is an upper bound of what
    faster execution could bring, and no result.
    """
    costly = backtest.model_copy(update={"costs": multiplied(backtest.costs, params.cost_multiple)})
    return (
        Scenario("as_traded", backtest),
        Scenario("costs", costly),
        Scenario("later", backtest, params.shift_bars),
        Scenario("earlier", backtest.model_copy(update={"fill_at": "close"}), -1),
    )


def late_legs(backtest: BacktestParams, params: RobustnessParams) -> Scenario:
    """Second legs that come a bar late. It is about pairs alone: a netted book fills symbols, and knows no legs."""
    return Scenario("late_legs", backtest.model_copy(update={"legging": params.legging}))


def neighbourhood(backtest: BacktestParams, params: RobustnessParams) -> tuple[Cell, ...]:
    """Entry and exit levels around the strategy's own, its stop kept; every entry level with every exit level.

    An exit below 0 is one at 0: the mean is as far as a spread is waited for.
    """
    own = backtest.strategy
    cells = []
    for entry_step in params.entry_z_steps:
        for exit_step in params.exit_z_steps:
            entry_z, exit_z = round(own.entry_z + entry_step, 9), max(round(own.exit_z + exit_step, 9), 0.0)
            ordered = exit_z < entry_z < own.stop_z
            rule = own.model_copy(update={"entry_z": entry_z, "exit_z": exit_z})
            cells.append(
                Cell(entry_step, exit_step, backtest.model_copy(update={"strategy": rule}) if ordered else None)
            )
    return tuple(cells)
