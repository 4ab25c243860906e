"""Cash, buy and hold by hand, and the draw of random pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_bars import START, grid

from mntrading.core.account import PortfolioResult
from mntrading.core.benchmarks import cash, hold_equally, placebo_pairs
from mntrading.core.errors import ParameterError
from mntrading.core.lines import Attribution
from mntrading.core.schedule import LIVE, Fold
from mntrading.core.types import Pair
from mntrading.params import CostParams

HOUR = pd.Timedelta(1, unit="h")
FREE = CostParams(fee_rate=0.0, slippage_bps=0.0, impact_bps=0.0, carry="borrow", borrow_bps_per_day=5.0)
COSTS = CostParams(fee_rate=0.001, slippage_bps=10.0, impact_bps=0.0, carry="borrow", borrow_bps_per_day=5.0)
ONE = Fold("fold_00", START - 100 * HOUR, START + 2 * HOUR, START + 5 * HOUR)
TWO = Fold("fold_01", START - 97 * HOUR, START + 5 * HOUR, START + 8 * HOUR)
LATER = Fold("fold_01", START - 97 * HOUR, START + 6 * HOUR, START + 8 * HOUR)


def closes(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=grid(8, minutes=60), dtype="float64")


A8 = [10.0, 10.0, 10.0, 11.0, 12.0, 12.0, 12.0, 15.0]
B8 = [20.0, 20.0, 20.0, 20.0, 10.0, 10.0, 20.0, 20.0]


def assert_adds_up(result: PortfolioResult, capital: float) -> None:
    paid = result.costs[["fees", "slippage", "borrow"]].sum(axis=1)
    change = np.diff(np.concatenate(([capital], result.equity)))
    np.testing.assert_allclose(change, result.gross - paid, atol=1e-9 * capital)
    assert result.trades["gross_pnl"].sum() == pytest.approx(result.gross.sum(), abs=1e-9 * capital)
    assert result.trades["costs"].sum() == pytest.approx(paid.sum(), abs=1e-9 * capital)
    total = Attribution.of(result, capital)
    assert total.gross - total.fees - total.slippage - total.borrow == pytest.approx(total.net, abs=1e-9)


def test_cash_does_nothing():
    result = cash(grid(5), 100.0)
    assert result.equity.tolist() == [100.0] * 5
    assert result.fills.empty
    assert result.trades.empty
    assert_adds_up(result, 100.0)
    assert cash(grid(0), 100.0).equity.empty


def test_one_window_is_bought_equally_at_its_first_bar_and_sold_at_its_last_close():
    close = closes(A=A8, B=B8)
    result = hold_equally(close, close, [(ONE, ("A", "B"))], FREE, 1_000.0)
    # 500 each at 10 and 20, sold at 12 and 10
    assert result.equity.tolist()[:3] == pytest.approx([1_000.0, 1_050.0, 850.0])
    assert result.equity.iloc[-1] == pytest.approx(850.0)
    assert result.exposure["gross"].tolist() == pytest.approx([1_000.0, 1_050.0, 0.0, 0.0, 0.0, 0.0])
    assert result.trades["name"].tolist() == ["A", "B"]
    assert result.trades["gross_pnl"].tolist() == pytest.approx([100.0, -250.0])
    assert_adds_up(result, 1_000.0)


def test_the_next_window_is_rebalanced_and_only_the_difference_is_traded():
    close = closes(A=A8, B=B8)
    result = hold_equally(close, close, [(ONE, ("A", "B")), (TWO, ("A", "B"))], FREE, 1_000.0)
    # 850 before the second window: 425 each, A 50 units to 425/12, B 25 units to 42.5
    sold, bought = (result.fills.loc[result.fills["time"] == START + 5 * HOUR, "quantity"]).tolist()
    assert (sold, bought) == pytest.approx((425 / 12 - 50, 42.5 - 25))
    assert result.equity.iloc[-1] == pytest.approx(425 / 12 * 15 + 42.5 * 20)
    assert len(result.trades) == 2
    assert_adds_up(result, 1_000.0)


def test_costs_are_paid_on_what_is_traded_and_out_of_the_capital():
    close = closes(A=[10.0] * 8)
    result = hold_equally(close, close, [(ONE, ("A",))], COSTS, 1_000.0)
    invested = 1_000.0 / 1.002
    assert result.costs["fees"].tolist()[0] == pytest.approx(invested * 0.001)
    assert result.costs["slippage"].tolist()[0] == pytest.approx(invested * 0.001)
    assert result.equity.iloc[0] == pytest.approx(invested)
    assert result.equity.iloc[-1] == pytest.approx(invested * 0.998)
    assert result.costs["borrow"].sum() == 0.0
    assert_adds_up(result, 1_000.0)


def test_fills_are_at_the_fill_price_and_sizes_from_the_close_before():
    close = closes(A=A8)
    result = hold_equally(close, close + 1.0, [(ONE, ("A",))], FREE, 1_000.0)
    assert result.fills["quantity"].iloc[0] == pytest.approx(100.0)
    assert result.fills["price"].iloc[0] == 11.0
    assert result.equity.iloc[0] == pytest.approx(900.0)
    assert_adds_up(result, 1_000.0)


def test_a_symbol_delisted_in_the_window_stays_at_its_last_price_until_it_is_dropped():
    close = closes(A=A8, B=[20.0, 20.0, 20.0, 30.0, *[np.nan] * 4])
    result = hold_equally(close, close, [(ONE, ("A", "B")), (TWO, ("A",))], COSTS, 1_000.0)
    gone = result.fills.loc[(result.fills["symbol"] == "B") & (result.fills["quantity"] < 0)]
    assert gone["price"].tolist() == [30.0]
    assert gone["time"].tolist() == [START + 5 * HOUR]
    assert_adds_up(result, 1_000.0)


def test_a_symbol_that_leaves_the_universe_is_sold_and_one_that_enters_is_bought():
    close = closes(A=A8, B=B8)
    result = hold_equally(close, close, [(ONE, ("A",)), (TWO, ("B",))], FREE, 1_000.0)
    assert result.trades["name"].tolist() == ["A", "B"]
    assert result.equity.iloc[-1] == pytest.approx(1_200.0 * 2)
    assert_adds_up(result, 1_000.0)


def test_between_windows_that_do_not_touch_there_is_cash():
    close = closes(A=A8)
    result = hold_equally(close, close, [(ONE, ("A",)), (LATER, ("A",))], COSTS, 1_000.0)
    assert result.exposure["gross"].iloc[3] == 0.0
    assert len(result.trades) == 2
    assert_adds_up(result, 1_000.0)


def test_later_prices_change_no_earlier_equity():
    close = closes(A=A8, B=B8)
    folds = [(ONE, ("A", "B")), (TWO, ("A",))]
    whole = hold_equally(close, close, folds, COSTS, 1_000.0)
    other = close.copy()
    other.iloc[6:] *= 3.0
    np.testing.assert_array_equal(hold_equally(other, other, folds, COSTS, 1_000.0).equity[:4], whole.equity[:4])


def test_nothing_to_hold_is_cash_and_no_window_is_no_row():
    close = closes(A=A8)
    assert (hold_equally(close, close, [(ONE, ())], COSTS, 50.0).equity == 50.0).all()
    assert hold_equally(close, close, [], COSTS, 50.0).equity.empty
    live = Fold(LIVE, START, START + HOUR, None)
    assert hold_equally(close, close, [(live, ("A",))], COSTS, 50.0).equity.empty


def test_a_symbol_without_a_column_is_refused():
    close = closes(A=A8)
    with pytest.raises(ParameterError, match="B has no column"):
        hold_equally(close, close, [(ONE, ("A", "B"))], COSTS, 50.0)


# random pairs


SYMBOLS = [f"S{i}" for i in range(7)]
TAKEN = (Pair("S1", "S0"), Pair("S2", "S3"))


def test_random_pairs_are_new_distinct_and_repeatable():
    drawn = placebo_pairs(SYMBOLS, TAKEN, 12, seed=3, fold=1)
    assert drawn == placebo_pairs(SYMBOLS[::-1], TAKEN, 12, seed=3, fold=1)
    assert drawn != placebo_pairs(SYMBOLS, TAKEN, 12, seed=4, fold=1)
    assert drawn != placebo_pairs(SYMBOLS, TAKEN, 12, seed=3, fold=2)
    assert len({pair.unordered for pair in drawn}) == 12
    assert not {pair.unordered for pair in drawn} & {pair.unordered for pair in TAKEN}


def test_random_pairs_come_in_both_directions_and_are_as_many_as_there_are():
    drawn = placebo_pairs(SYMBOLS, TAKEN, 1_000, seed=0, fold=0)
    assert len(drawn) == 21 - 2
    assert {pair.dependent < pair.independent for pair in drawn} == {True, False}
    assert placebo_pairs([], (), 5, seed=0, fold=0) == ()
    assert placebo_pairs(SYMBOLS, TAKEN, 0, seed=0, fold=0) == ()
