"""What an account did over its windows: attribution that adds up, days, tables, and finer grids."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made_bars import START, grid
from test_portfolio import AB, BC, COSTS, SYMBOLS, P, enter, leave, matrices

from mntrading.core import metrics
from mntrading.core.account import PortfolioResult, simulate
from mntrading.core.benchmarks import cash
from mntrading.core.lines import (
    FOLD_COLUMNS,
    Attribution,
    fold_table,
    line_performance,
    on_grid,
    returns_in_windows,
    signals_of,
)
from mntrading.core.performance import Trials
from mntrading.core.schedule import LIVE, Fold
from mntrading.params import StatisticsParams, StrategyParams

DAY = pd.Timedelta(1, unit="D")
FOLDS = (
    Fold("fold_00", START - 30 * DAY, START, START + 2 * DAY),
    Fold("fold_01", START - 28 * DAY, START + 2 * DAY, START + 4 * DAY),
    Fold(LIVE, START - 26 * DAY, START + 4 * DAY, None),
)
RULES = StatisticsParams(level=0.95, n_boot=100, seed=0, pbo_splits=4)


@pytest.fixture(scope="module")
def book() -> PortfolioResult:
    close, fill = matrices(4 * 288, 1, SYMBOLS)
    signals = {
        3: [enter(AB)],
        200: [leave(AB), enter(BC, -1)],
        500: [leave(BC)],
        700: [enter(AB, -1)],
        1_000: [leave(AB)],
    }
    return simulate(signals, close, fill, {}, P, COSTS)


def test_profit_before_costs_less_each_cost_is_net_in_total_and_in_every_window(book):
    total = Attribution.of(book, P.capital)
    table = fold_table(book, FOLDS, P.capital)
    for line in (total.figures(), *table.to_dict("records")):
        assert line["gross"] - line["fees"] - line["slippage"] - line["borrow"] == pytest.approx(line["net"], abs=1e-9)
    for name, amount in total.figures().items():
        assert table[name].sum() == pytest.approx(amount, abs=1e-9), name
    assert total.net == pytest.approx(book.equity.iloc[-1] / P.capital - 1, abs=1e-12)
    assert total.fees == pytest.approx(book.costs["fees"].sum() / P.capital, rel=1e-12)
    assert min(total.fees, total.slippage, total.borrow) > 0.0


def test_a_line_that_earns_on_its_first_bar_is_measured_from_its_capital():
    equity = pd.Series([110.0, 121.0], index=grid(2))
    line = cash(grid(2), 100.0)
    line = PortfolioResult(
        equity, line.costs, line.exposure, line.fills, {}, pd.Series([10.0, 11.0], index=grid(2)), line.trades
    )
    assert Attribution.of(line, 100.0).net == pytest.approx(0.21)
    assert fold_table(line, FOLDS, 100.0)["return"].iloc[0] == pytest.approx(0.21)
    assert returns_in_windows(equity, FOLDS, 100.0).tolist() == pytest.approx([0.21])


def test_the_table_has_a_row_for_each_completed_window(book):
    table = fold_table(book, FOLDS, P.capital)
    assert tuple(table.columns) == FOLD_COLUMNS
    assert table["fold"].tolist() == ["fold_00", "fold_01"]
    assert table["n_days"].tolist() == [2, 2]
    middle = book.equity.iloc[2 * 288 - 1]
    assert table["return"].tolist() == pytest.approx([middle / P.capital - 1, book.equity.iloc[-1] / middle - 1])
    inside = np.concatenate(([middle], book.equity.iloc[2 * 288 :]))
    assert table["max_drawdown"].iloc[1] == metrics.max_drawdown(inside)
    days = np.array([middle, book.equity.iloc[3 * 288 - 1], book.equity.iloc[-1]])
    assert table["sharpe"].iloc[1] == pytest.approx(metrics.sharpe(days[1:] / days[:-1] - 1))


def test_no_window_and_a_window_without_bars_are_valid(book):
    assert fold_table(book, FOLDS[2:], P.capital).empty
    nothing = cash(grid(0), P.capital)
    table = fold_table(nothing, FOLDS, P.capital)
    assert table["n_days"].tolist() == [0, 0]
    assert table["net"].tolist() == [0.0, 0.0]
    assert table["return"].isna().all()
    assert Attribution.of(nothing, P.capital) == Attribution(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert line_performance(nothing, FOLDS, RULES, capital=P.capital).n_days == 0


def test_only_days_of_windows_count(book):
    assert len(returns_in_windows(book.equity, FOLDS, P.capital)) == 4
    second = returns_in_windows(book.equity, FOLDS[1:2], P.capital)
    assert second.index.tolist() == [START + 2 * DAY, START + 3 * DAY]


def test_a_window_that_begins_within_a_day_counts_that_day(book):
    late = Fold("fold_00", START - DAY, START + 1.5 * DAY, START + 2.5 * DAY)
    assert returns_in_windows(book.equity, [late], P.capital).index.tolist() == [START + DAY, START + 2 * DAY]


def test_figures_of_a_line_are_those_of_its_days_trades_and_bars(book):
    found = line_performance(book, FOLDS, RULES, capital=P.capital, trials=Trials(5, 0.01))
    assert found.n_days == 4
    assert found.total_return == pytest.approx(book.equity.iloc[-1] / P.capital - 1, rel=1e-12)
    assert found.max_drawdown == metrics.max_drawdown(np.concatenate(([P.capital], book.equity)))
    assert found.n_trades == 3
    assert found.costs == pytest.approx(book.costs[["fees", "slippage", "borrow"]].to_numpy().sum() / P.capital)
    assert found.gross_pnl - found.costs == pytest.approx(found.total_return, abs=1e-9)
    assert found.mean_holding_hours == pytest.approx((197 + 300 + 300) / 3 / 12)
    assert found.n_trials == 5


def test_cash_has_no_ratio():
    found = line_performance(cash(grid(4 * 288), P.capital), FOLDS, RULES, capital=P.capital)
    assert (found.total_return, found.max_drawdown, found.turnover) == (0.0, 0.0, 0.0)
    assert math.isnan(found.sharpe)


def test_longer_bars_are_shown_from_their_own_close_on():
    hourly = pd.Series([110.0, 120.0], index=grid(2, minutes=60))
    fine = on_grid(hourly, grid(24), 100.0)
    assert fine.tolist() == [100.0] * 11 + [110.0] * 12 + [120.0]
    assert on_grid(fine, grid(24), 100.0).tolist() == fine.tolist()
    assert on_grid(hourly, grid(0), 100.0).empty
    assert on_grid(hourly.iloc[:0], grid(3), 100.0).tolist() == [100.0] * 3


TRADE = {
    "fold": "fold_00", "side": -1, "hedge_ratio": 0.8, "entry_z": 2.5, "probability": 0.7, "threshold": np.nan,
    "reason": "reverted", "spread_std": 0.02, "half_life_hours": 8.0, "z_window_hours": 25.0,
}  # fmt: skip


def test_signals_are_at_the_bar_of_each_decision_and_of_the_members_alone(params):
    index = grid(20)
    rule = StrategyParams.model_validate(params.backtest.strategy.model_dump())
    trade = TRADE | {"entry_decision": index[3], "exit_decision": index[8]}
    table = pd.DataFrame([trade, trade | {"fold": "fold_01", "entry_decision": index[11], "exit_decision": index[14]}])
    signals = signals_of({AB.id: table, BC.id: table}, {"fold_00": (AB,)}, index, rule)
    assert sorted(signals) == [3, 8]
    (entry,), (out,) = signals[3], signals[8]
    assert (entry.pair, entry.action, entry.side, entry.hedge_ratio, entry.confidence) == (AB, "enter", -1, 0.8, 0.7)
    assert (entry.spread_std, entry.half_life_hours, entry.z_window_hours, entry.cluster) == (0.02, 8.0, 25.0, None)
    assert (out.action, out.reason) == ("exit", "reverted")
    given = signals_of({AB.id: table}, {"fold_00": (AB,)}, index, rule, clusters={"fold_00": {AB.id: 3}})
    assert given[3][0].cluster == 3
    assert signals_of({}, {}, index, rule) == {}


def test_an_entry_that_was_not_filled_is_a_signal_without_an_exit(params):
    index = grid(20)
    rule = StrategyParams.model_validate(params.backtest.strategy.model_dump())
    off = pd.DataFrame([TRADE | {"entry_decision": index[3], "exit_decision": pd.NaT}])
    signals = signals_of({AB.id: off}, {"fold_00": (AB,)}, index, rule)
    assert {row: [signal.action for signal in found] for row, found in signals.items()} == {3: ["enter"]}
