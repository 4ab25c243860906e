"""The menu of windows and levels: what is on it, what it is judged by, and that only the formation window judges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import AS_CONFIGURED, ON_TIME, UNWATCHED, changed, two_legs, until
from scipy.integrate import quad
from scipy.special import ndtr

from mntrading.core import menu
from mntrading.core.backtest import run_pair
from mntrading.core.engine_inputs import Book, multiplied
from mntrading.core.features import build_spread
from mntrading.core.menu import CONFIGURED, Item, Levels
from mntrading.params import BacktestParams, CostParams, FeatureParams, StrategyParams

N = 4000
RULE = StrategyParams(
    signals_from="z", probability_threshold=0.5, entry_z=2.0, exit_z=0.5, stop_z=4.0, max_holding_half_lives=4.0,
    cooldown_bars=6, max_loss=None, min_hedge_ratio=0.05, max_hedge_ratio=20.0, break_monitor=UNWATCHED,
)  # fmt: skip
COSTS = CostParams(fee_rate=0.0005, slippage_bps=1.0, borrow_bps_per_day=2.0, impact_bps=0.0, carry="borrow")
MENU = changed(
    AS_CONFIGURED, enabled=True, windows=((100, 40), (200, 80)), half_life_multiples=(4.0,), entry_z=(1.5, 2.5),
    exit_z=(0.0,), stop_z=(4.0,), optimal=True, min_profit_bps=10.0, n_blocks=4, max_overfitting=1.0,
)  # fmt: skip
PARAMS = BacktestParams(strategy=RULE, costs=COSTS, fill_at="open", legging=ON_TIME, menu=MENU)
FEATURES = FeatureParams(
    price="log", hedge="ols", kalman={"delta": 1e-5}, beta_window=200, z_window=100, hedge_lag_bars=1,
    min_window_fill=0.8, volatility_window=12, market_window_hours=6, lag_features=0, include=("z_dynamics",),
)  # fmt: skip
HALF_LIFE = 7.0


@pytest.fixture(scope="module")
def legs() -> tuple[pd.DataFrame, pd.DataFrame]:
    return two_legs(N, seed=4, missing=0.01)


def formation(legs: Any, rows: slice) -> pd.DatetimeIndex:
    first, last = legs[0]["timestamp"].iloc[0], legs[0]["timestamp"].iloc[-1]
    grid = pd.date_range(first, last, freq="5min", unit="ms", name="timestamp")
    return grid[rows]


def chosen(legs: Any, rows: slice, params: BacktestParams = PARAMS) -> menu.Choice:
    return menu.choose(menu.Market(*legs), formation(legs, rows), params, FEATURES, half_life_bars=HALF_LIFE)


# ----------------------------------------------------------------------------------- what is on it


def test_the_configured_rule_comes_first_and_alone_when_the_menu_is_off():
    off = changed(PARAMS, menu=AS_CONFIGURED.model_dump())
    assert menu.windows(off, FEATURES, HALF_LIFE) == {CONFIGURED: (200, 100)}
    assert menu.levels(off, 0.3) == {CONFIGURED: Levels(2.0, 0.5, 4.0)}
    assert next(iter(menu.windows(PARAMS, FEATURES, HALF_LIFE).items())) == (CONFIGURED, (200, 100))
    assert next(iter(menu.levels(PARAMS, 0.3).items())) == (CONFIGURED, Levels(2.0, 0.5, 4.0))


def test_windows_are_those_named_and_multiples_of_the_half_life_within_the_configured_one():
    assert menu.windows(PARAMS, FEATURES, 15.0) == {
        CONFIGURED: (200, 100), "100/40 bars": (100, 40), "200/80 bars": (200, 80), "4 half-lives": (120, 60),
    }  # fmt: skip
    assert menu.windows(PARAMS, FEATURES, 1.0)["4 half-lives"] == (72, 36)
    assert menu.windows(PARAMS, FEATURES, 1000.0)["4 half-lives"] == (200, 200)
    assert "4 half-lives" not in menu.windows(PARAMS, FEATURES, math.inf)


def test_levels_out_of_order_and_twice_the_same_are_left_out():
    many = changed(MENU, entry_z=(2.0, 1.5), exit_z=(0.5, 1.5), stop_z=(4.0,), optimal=False)
    found = menu.levels(changed(PARAMS, menu=many.model_dump()), 0.3)
    assert list(found.values()) == [Levels(2.0, 0.5, 4.0), Levels(2.0, 1.5, 4.0), Levels(1.5, 0.5, 4.0)]


def test_a_cost_in_deviations_is_that_of_two_fills_of_both_legs():
    frame = pd.DataFrame({
        "spread_std": [0.02, 0.02, np.nan], "hedge_ratio": [1.0, 1.0, 1.0], "beta": [1.0, 1.0, 1.0]
    })  # fmt: skip
    # entry and exit turn over one notional each, and a deviation of the spread earns 1 % of it
    assert menu.cost_in_deviations(frame, pd.DataFrame(), COSTS) == pytest.approx(2 * 0.0006 / 0.01)
    assert math.isnan(menu.cost_in_deviations(frame.assign(spread_std=np.nan), pd.DataFrame(), COSTS))


def cycle(x: float) -> float:
    """Mean time from x to 0 and from there to ±x of an Ornstein-Uhlenbeck process, by its two boundary problems."""
    back, _ = quad(lambda z: math.exp(z * z / 2) * math.sqrt(2 * math.pi) * (1 - ndtr(z)), 0, x)
    out, _ = quad(lambda z: math.exp(z * z / 2) * math.sqrt(2 * math.pi) * (ndtr(z) - 0.5), 0, x)
    return back + out


@pytest.mark.parametrize("cost", [0.05, 0.3, 0.8, 1.5])
def test_the_optimal_entry_earns_most_by_first_passage_times(cost):
    grid = np.arange(0.5, 4.0, 0.01)
    rates = [(x - cost) / cycle(x) for x in grid]
    assert menu.optimal_entry(cost, stop_z=4.0) == pytest.approx(grid[int(np.argmax(rates))], abs=0.011)


@settings(max_examples=50, deadline=None)
@given(low=st.floats(0.0, 1.5), more=st.floats(0.1, 1.0))
def test_dearer_trading_asks_for_a_wider_entry(low, more):
    assert menu.optimal_entry(low + more, stop_z=4.0) >= menu.optimal_entry(low, stop_z=4.0)
    assert 0.5 <= menu.optimal_entry(low, stop_z=4.0) < 4.0


def test_the_minimum_profit_entry_leaves_its_profit():
    assert menu.minimum_profit_entry(0.4, 0.7, exit_z=0.0) == pytest.approx(1.1)
    assert menu.minimum_profit_entry(0.1, 0.1, exit_z=0.0) == 0.5


# ------------------------------------------------------------------------------- what it is judged by


def test_a_candidates_worth_is_that_of_its_own_backtest_block_by_block(legs):
    rows = slice(400, 400 + 288 * 8)
    found = chosen(legs, rows).table.iloc[5]
    index = formation(legs, rows)
    own = FEATURES.model_copy(update={"beta_window": found["beta_window"], "z_window": found["z_window"]})
    frame = build_spread(*legs, own).reindex(index)
    rule = RULE.model_copy(update={name: found[name] for name in ("entry_z", "exit_z", "stop_z")})
    params = PARAMS.model_copy(update={"strategy": rule})
    days = index.floor("D").unique()
    blocks = []
    for some in np.array_split(days, 4):
        inside = frame.loc[frame.index.floor("D").isin(some)]
        blocks.append(run_pair(*legs, inside, params, half_life_bars=HALF_LIFE))
    net = [block.metrics["net_pnl"] for block in blocks]
    assert found["net_pnl"] == pytest.approx(sum(net), abs=1e-12)
    assert found["worth"] == pytest.approx(np.mean(net) - np.std(net, ddof=1) / 2, abs=1e-12)
    assert found["n_trades"] == sum(len(block.trades) for block in blocks)
    assert found["n_trades"] > 3


def test_what_a_candidate_earns_afterwards_is_its_backtest(legs):
    choice = chosen(legs, slice(0, 2000)).table
    window = formation(legs, slice(2000, 3500))
    market = menu.Market(*legs, Book(5000.0))
    earned = menu.follow(market, window, choice, PARAMS, FEATURES, half_life_bars=HALF_LIFE)
    assert list(earned) == list(choice["label"])
    row = choice.iloc[3]
    rule = RULE.model_copy(update={name: row[name] for name in ("entry_z", "exit_z", "stop_z")})
    other = menu.Item(row["label"], int(row["beta_window"]), int(row["z_window"]), Levels(row["entry_z"], 0.0, 4.0))
    frame = build_spread(*legs, other.spread_params(FEATURES)).reindex(window)
    result = run_pair(*legs, frame, PARAMS.model_copy(update={"strategy": rule}), half_life_bars=HALF_LIFE)
    assert earned[row["label"]].sum() == pytest.approx(result.equity.iloc[-1] - 1, abs=1e-12)
    assert earned[row["label"]].ne(0).sum() > 1


def test_a_multiple_of_the_costs_takes_its_part(legs):
    dear = changed(PARAMS, menu=changed(MENU, cost_multiple=3.0).model_dump())
    cheap, taken = chosen(legs, slice(0, 3000)).table, chosen(legs, slice(0, 3000), dear).table
    same = cheap["label"].isin(["configured", "100/40 bars · configured"]).to_numpy()
    assert (taken.loc[same, "net_pnl"] < cheap.loc[same, "net_pnl"]).all()
    assert multiplied(COSTS, 3.0).fee_rate == pytest.approx(0.0015)
    assert multiplied(COSTS, 3.0).carry == "borrow"


# -------------------------------------------------------------------------------------- the choice


def best_of(worth: list[float], overfitting: float, most: float) -> tuple[int, str]:
    return menu._best(
        np.array(worth), overfitting, changed(PARAMS, menu=changed(MENU, max_overfitting=most).model_dump())
    )


def test_another_rule_is_taken_only_where_it_is_worth_more_and_choosing_holds_up():
    assert best_of([0.01, 0.03, 0.02], 0.2, 0.5) == (1, "worth most in the formation window")
    assert best_of([0.03, 0.01], 0.2, 0.5)[0] == 0
    assert best_of([-0.03, -0.01], 0.2, 0.5) == (0, "no candidate is worth anything after costs")
    assert best_of([0.01, 0.03], 0.6, 0.5) == (0, "choosing does not hold up: probability of overfitting 0.60")
    assert best_of([0.01, 0.03], math.nan, 0.5)[0] == 0
    assert best_of([0.01], math.nan, 0.5) == (0, "the menu is off")


def test_what_choosing_is_worth_leaves_the_block_out_that_it_is_judged_on():
    by_block = np.array([[1.0, 0.0], [1.0, 0.0], [-5.0, 1.0]])
    # for the third block the first candidate is best of the others; for the first two the second one is
    assert menu._out_of_block(by_block) == pytest.approx(0.0 + 0.0 - 5.0)


def test_later_bars_change_no_choice(legs):
    rows = slice(300, 300 + 288 * 7)
    end = formation(legs, rows)[-1]
    whole, cut = chosen(legs, rows), chosen([until(leg, end) for leg in legs], rows)
    pd.testing.assert_frame_equal(whole.table, cut.table, check_exact=True)
    assert (whole.item, whole.reason) == (cut.item, cut.reason)
    assert len(whole.table) > 10


def test_a_choice_that_sees_the_trading_window_is_caught(legs):
    rows, more = slice(300, 300 + 288 * 7), slice(300, 300 + 288 * 9)
    end = formation(legs, rows)[-1]
    seeing = chosen(legs, more).table
    blind = chosen([until(leg, end) for leg in legs], more).table
    assert not seeing.equals(blind)


def test_a_window_without_bars_is_a_choice_of_the_configured_rule(legs):
    nothing = [leg.iloc[:0] for leg in legs]
    window = formation(legs, slice(0, 600))
    found = menu.choose(menu.Market(*nothing), window, PARAMS, FEATURES, half_life_bars=HALF_LIFE)
    assert found.item == Item(CONFIGURED, 200, 100, Levels(2.0, 0.5, 4.0))
    assert (found.table["n_trades"] == 0).all()
