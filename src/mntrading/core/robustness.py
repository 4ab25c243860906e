"""The same trades under other costs, timing and levels: does a result hang on one number?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mntrading.core.backtest import run_pair
from mntrading.params import BacktestParams, CostParams, RobustnessParams


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
    """One point of the parameter neighbourhood; ``backtest`` is None where the levels are in no order to trade."""

    entry_z: float
    exit_z: float
    backtest: BacktestParams | None

    @property
    def name(self) -> str:
        """Key of the cell."""
        return f"entry {self.entry_z:g}, exit {self.exit_z:g}"


def scenarios(backtest: BacktestParams, params: RobustnessParams) -> tuple[Scenario, ...]:
    """As it is, at multiplied costs, later, and earlier.

    The earlier one decides on bar t and is filled at the close of that very bar: features are moved one bar back and
    fills are at the next bar's close, which then is the close they were computed from. It is an upper bound of what
    faster execution could bring, and no result.
    """
    times = {name: getattr(backtest.costs, name) * params.cost_multiple for name in CostParams.model_fields}
    costly = backtest.model_copy(update={"costs": CostParams(**times)})
    return (
        Scenario("as_traded", backtest),
        Scenario("costs", costly),
        Scenario("later", backtest, params.shift_bars),
        Scenario("earlier", backtest.model_copy(update={"fill_at": "close"}), -1),
    )


def neighbourhood(backtest: BacktestParams, params: RobustnessParams) -> tuple[Cell, ...]:
    """Entry and exit levels around the strategy's own, its stop kept; every entry level with every exit level."""
    own = backtest.strategy
    cells = []
    for entry_step in params.entry_z_steps:
        for exit_step in params.exit_z_steps:
            entry_z, exit_z = round(own.entry_z + entry_step, 9), round(own.exit_z + exit_step, 9)
            ordered = 0.0 <= exit_z < entry_z < own.stop_z
            rule = own.model_copy(update={"entry_z": entry_z, "exit_z": exit_z})
            cells.append(Cell(entry_z, exit_z, backtest.model_copy(update={"strategy": rule}) if ordered else None))
    return tuple(cells)


def trade_again(
    bars_a: pd.DataFrame,
    bars_b: pd.DataFrame,
    features: pd.DataFrame,
    variants: Sequence[tuple[str, BacktestParams, int]],
    *,
    probability: pd.Series | None,
    threshold: float | None,
    barred: pd.Series,
    half_life_bars: float | None,
) -> dict[str, pd.DataFrame]:
    """Trades of one pair in one window under every variant: its name, parameters, and bars of delay.

    Look-ahead: that of ``run_pair`` for a delay of 0 or more; a negative one looks ahead, which is its purpose.

    Parameters
    ----------
    bars_a, bars_b, features, probability, threshold, barred, half_life_bars
        As of ``run_pair``; ``features`` on the complete grid of the window.
    variants
        What to trade.

    Returns
    -------
    Trades by the variant's name.
    """
    window = features[["z", "hedge_ratio"]]
    told = None if probability is None else probability.reindex(window.index)
    novel = barred.reindex(window.index, fill_value=False).astype("bool")
    # a decision uses nothing of the legs but their prices on the window's bars
    own_a, own_b = (bars.loc[bars["timestamp"].isin(window.index)] for bars in (bars_a, bars_b))
    out = {}
    for name, backtest, shift in variants:
        out[name] = run_pair(
            own_a,
            own_b,
            window.shift(shift),
            backtest,
            None if told is None else told.shift(shift),
            threshold=threshold,
            barred=novel.shift(shift, fill_value=False),
            half_life_bars=half_life_bars,
        ).trades
    return out
