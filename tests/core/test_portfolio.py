"""Netting, caps, lots and orders by hand and over many books; the simulated portfolio's identities."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import AS_CONFIGURED, ON_TIME, UNWATCHED, A, B, changed, grid, two_legs

from mntrading.core.account import PortfolioResult, simulate
from mntrading.core.backtest import run_pair
from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.features import build_features
from mntrading.core.portfolio import Book, Holding, Limits, Orders, Signal, build_orders
from mntrading.core.types import Pair
from mntrading.params import BacktestParams, CostParams, FeatureParams, PortfolioParams, SizingParams, StrategyParams

EQUAL = SizingParams(
    rule="equal_notional", reference_std=0.005, reference_half_life_hours=12.0, low=0.5, high=1.5
)  # fmt: skip
P = PortfolioParams(
    capital=100_000.0, top_k=10, pair_gross=0.2, sizing=EQUAL, max_symbol_weight=1.0, max_cluster_gross=3.0,
    max_gross=3.0, max_net=1.0, volatility_target=None, pair_correlation=0.0, max_daily_turnover=None,
    max_hedge_error=1.0, allow_short=True, kill_switch="active",
)  # fmt: skip
PRICES = {"A": 10.0, "B": 20.0, "C": 5.0, "D": 1.0}
AB, BC, AC, CD = Pair("A", "B"), Pair("B", "C"), Pair("A", "C"), Pair("C", "D")
EMPTY = Book(100_000.0)


def enter(pair: Pair, side: int = 1, *, hedge: float = 1.0, confidence: float = 1.0) -> Signal:
    return Signal(pair, "enter", side, hedge, confidence)


def leave(pair: Pair, action: Any = "exit") -> Signal:
    return Signal(pair, action, 0, math.nan, 0.0)


def built(*signals: Signal, state: Book = EMPTY, limits: dict[str, Limits] | None = None, **values: object) -> Orders:
    return build_orders(signals, PRICES, state, limits or {}, changed(P, **values))


def orders_of(result: Orders) -> dict[str, float]:
    return {order.symbol: order.quantity * (1 if order.side == "buy" else -1) for order in result.orders}


# ------------------------------------------------------------------------------------- by hand


def test_one_entry_splits_its_notional_by_the_hedge_ratio():
    result = built(enter(AB, hedge=3.0))
    assert result.targets == pytest.approx({"A": 500.0, "B": -750.0})
    assert result.weights == pytest.approx({"A": 0.05, "B": -0.15})
    assert orders_of(result) == pytest.approx({"A": 500.0, "B": -750.0})
    assert [order.notional for order in result.orders] == pytest.approx([5_000.0, 15_000.0])
    assert not any(order.reduce_only for order in result.orders)
    assert (result.equity, result.book.cash, result.refused) == (100_000.0, 100_000.0, {})


def test_the_shared_leg_of_two_pairs_is_netted_and_still_attributed():
    result = built(enter(AB), enter(BC, hedge=3.0))
    # A/B: +10,000 and -10,000; B/C: +5,000 and -15,000
    assert result.targets == pytest.approx({"A": 1000.0, "B": -250.0, "C": -3000.0})
    assert orders_of(result) == pytest.approx({"A": 1000.0, "B": -250.0, "C": -3000.0})
    holdings = result.book.holdings
    assert holdings[AB.id].units() == pytest.approx({"A": 1000.0, "B": -500.0})
    assert holdings[BC.id].units() == pytest.approx({"B": 250.0, "C": -3000.0})


def test_a_shared_leg_that_nets_out_needs_no_order():
    result = built(enter(AB), enter(BC))
    assert orders_of(result) == pytest.approx({"A": 1000.0, "C": -2000.0})
    assert result.targets["B"] == 0.0


def test_the_exit_of_one_pair_leaves_the_units_of_the_other():
    state = built(enter(AB), enter(BC)).book
    result = built(leave(AB), state=state)
    assert orders_of(result) == pytest.approx({"A": -1000.0, "B": 500.0})
    assert {order.symbol: order.reduce_only for order in result.orders} == {"A": True, "B": False}
    assert set(result.book.holdings) == {BC.id}


def test_an_exit_and_an_entry_of_one_bar_are_one_order_per_symbol():
    state = built(enter(AB)).book
    result = built(leave(AB), enter(AC, -1), state=state)
    assert orders_of(result) == pytest.approx({"A": -2000.0, "B": 500.0, "C": 2000.0})
    assert {order.symbol: order.reduce_only for order in result.orders} == {"A": False, "B": True, "C": False}


def test_held_pairs_stay_as_they_are_whatever_prices_do():
    state = built(enter(AB)).book
    moved = {"A": 90.0, "B": 20.0}
    assert build_orders([], moved, state, {}, P).orders == ()
    result = build_orders([Signal(AB, "hold", 1, 2.0, 0.9)], moved, state, {}, P)
    assert result.orders == ()
    assert result.book == state


def test_an_entry_for_a_pair_still_held_closes_the_old_trade_first():
    state = built(enter(AB)).book
    turned = build_orders([enter(AB, -1)], PRICES, state, {}, P)
    assert turned.book.holdings[AB.id].side == -1
    assert turned.targets == build_orders([enter(AB, -1)], PRICES, replace(state, holdings={}), {}, P).targets
    halted = build_orders([enter(AB, -1)], PRICES, state, {}, P.model_copy(update={"kill_switch": "halted"}))
    assert halted.book == state


def test_a_pair_that_is_to_be_flat_is_left_and_one_that_is_flat_stays_so():
    state = built(enter(AB)).book
    assert orders_of(built(leave(AB, "flat"), state=state)) == pytest.approx({"A": -1000.0, "B": 500.0})
    assert built(leave(AB, "flat")).orders == ()
    assert built(leave(AB)).orders == ()


# ----------------------------------------------------------------------------------------- caps


def test_an_entry_is_cut_to_the_room_a_symbol_has():
    result = built(enter(AB, hedge=3.0), max_symbol_weight=0.075)
    assert result.weights == pytest.approx({"A": 0.025, "B": -0.075})


def test_an_entry_is_cut_to_the_gross_room():
    result = built(enter(AB, confidence=2.0), enter(CD), max_gross=0.3)
    assert result.weights == pytest.approx({"A": 0.1, "B": -0.1, "C": 0.05, "D": -0.05})


def test_an_entry_is_cut_to_the_net_room():
    # one dollar of A against a third of a dollar of B: net a half of the gross
    result = built(enter(AB, hedge=1 / 3), max_net=0.05)
    assert result.weights == pytest.approx({"A": 0.075, "B": -0.025})
    short = built(enter(AB, -1, hedge=1 / 3), max_net=0.05)
    assert short.weights == pytest.approx({"A": -0.075, "B": 0.025})


def test_room_on_the_other_side_of_a_symbol_counts():
    state = built(enter(AB)).book  # A +0.1
    result = built(enter(AC, -1), state=state, max_symbol_weight=0.1)
    assert result.weights == pytest.approx({"A": 0.0, "B": -0.1, "C": 0.1})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"max_symbol_weight": 0.0249}, "A symbol cap"),
        ({"max_gross": 0.0499}, "gross cap"),
        ({"max_gross": 0.2, "max_symbol_weight": 0.2}, ""),
    ],
)
def test_an_entry_that_would_keep_less_than_a_quarter_of_its_size_is_refused(values, why):
    result = built(enter(AB), **values)
    assert result.refused == ({AB.id: why} if why else {})
    assert bool(result.orders) == (not why)


def test_an_entry_that_worsens_a_full_net_is_refused_and_one_that_eases_it_is_not():
    state = Book(90_000.0, built(enter(AB, hedge=1 / 3), max_net=0.1).book.holdings)  # net +10,000
    assert built(enter(CD, hedge=1 / 3), state=state, max_net=0.1).refused == {CD.id: "net cap"}
    eased = built(enter(CD, -1, hedge=1 / 3), state=state, max_net=0.1)
    assert sum(eased.weights.values()) == pytest.approx(0.0, abs=1e-12)


def test_the_most_confident_entries_are_taken_and_ties_go_by_name():
    signals = enter(AB, confidence=0.6), enter(BC, confidence=0.9), enter(CD, confidence=0.6)
    result = built(*signals, top_k=2)
    assert set(result.book.holdings) == {BC.id, AB.id}
    assert result.refused == {CD.id: "2 pairs are held already"}
    assert built(*signals[::-1], top_k=2).book == result.book


def test_an_exit_makes_room_for_an_entry_of_the_same_bar():
    state = built(enter(AB)).book
    result = built(leave(AB), enter(CD), state=state, top_k=1)
    assert set(result.book.holdings) == {CD.id}


def test_an_entry_without_a_known_confidence_comes_last():
    signals = enter(AB, confidence=math.nan), enter(CD, confidence=0.1), enter(AC, confidence=0.2)
    for order in (signals, signals[::-1], (signals[1], signals[0], signals[2])):
        assert set(built(*order, top_k=2).book.holdings) == {CD.id, AC.id}


@pytest.mark.parametrize("hedge", [math.nan, math.inf, 0.0, -1.0])
def test_an_entry_without_a_usable_hedge_ratio_is_refused_and_exits_are_made(hedge):
    state = built(enter(CD)).book
    result = built(enter(AB, hedge=hedge), leave(CD), state=state)
    assert result.refused == {AB.id: f"hedge ratio is {hedge}"}
    assert result.book.holdings == {}


def test_an_entry_without_a_side_is_refused():
    assert built(enter(AB, 0)).refused == {AB.id: "side is 0, expected 1 or -1"}


# ---------------------------------------------------------------------------------------- lots


def test_units_are_rounded_down_to_lots_and_the_finer_leg_follows_the_coarser_one():
    result = built(enter(AB, hedge=1.0), limits={"A": Limits(lot=300.0), "B": Limits(lot=0.1)})
    assert result.targets == pytest.approx({"A": 900.0, "B": -450.0})
    assert result.hedge_errors == {AB.id: pytest.approx(0.0, abs=1e-12)}
    result = built(enter(AB, hedge=1.0), limits={"A": Limits(lot=0.1), "B": Limits(lot=300.0)})
    assert result.targets == pytest.approx({"A": 600.0, "B": -300.0})


def test_the_hedge_error_that_lots_leave_is_told_and_refused_beyond_its_limit():
    limits = {"A": Limits(lot=300.0), "B": Limits(lot=40.0)}
    # of 1,000 and 500: 900 with 440 (nearest to 450), or 480 with 900 (nearest to 960)
    result = built(enter(AB), limits=limits, max_hedge_error=0.03)
    assert result.targets == pytest.approx({"A": 900.0, "B": -440.0})
    assert result.hedge_errors == {AB.id: pytest.approx(440 / 450 - 1)}
    refused = built(enter(AB), limits=limits, max_hedge_error=0.02)
    assert refused.refused == {AB.id: "lots leave a hedge error beyond portfolio.max_hedge_error"}
    assert (refused.orders, refused.hedge_errors) == ((), {})


def test_a_whole_number_of_lots_is_not_rounded_down_by_one():
    result = built(enter(CD), limits={"C": Limits(lot=0.1), "D": Limits(lot=0.1)})
    assert result.targets == pytest.approx({"C": 2000.0, "D": -10_000.0})


@pytest.mark.parametrize(
    "limits",
    [
        {"A": Limits(lot=1001.0)},
        {"B": Limits(lot=501.0)},
        {"A": Limits(min_notional=10_001.0)},
        {"B": Limits(min_notional=10_001.0)},
    ],
)
def test_a_leg_below_the_smallest_order_refuses_both(limits):
    (symbol,) = limits
    result = built(enter(AB), limits=limits)
    assert result.refused == {AB.id: f"{symbol} leg is below the exchange's smallest order"}
    assert result.orders == ()
    assert result.book.holdings == {}


def test_a_leg_of_just_the_smallest_notional_is_traded():
    assert built(enter(AB), limits={"A": Limits(min_notional=10_000.0)}).refused == {}


def test_rounding_one_leg_more_than_the_other_does_not_break_the_net_cap():
    limits = {"A": Limits(lot=700.0), "B": Limits(lot=300.0)}
    # A +7,000 of 10,000 and B -6,000: net 0.01
    assert built(enter(AB), limits=limits, max_net=0.009).refused == {AB.id: "net cap"}
    assert built(enter(AB), limits=limits, max_net=0.011).refused == {}


# ---------------------------------------------------------------------- shorts and kill switch


def test_without_shorts_an_entry_that_leaves_a_symbol_short_is_refused():
    refusal = "B can't be sold short here (portfolio.allow_short is off)"
    assert built(enter(AB), allow_short=False).refused == {AB.id: refusal}
    long_b = Book(50_000.0, {"X": Holding(Pair("B", "X"), 1, 500.0, 0.0)})
    prices = PRICES | {"X": 1.0}
    covered = build_orders([enter(AB)], prices, long_b, {}, changed(P, allow_short=False, pair_gross=0.4))
    assert covered.refused == {AB.id: refusal}
    covered = build_orders([enter(AB)], prices, long_b, {}, changed(P, allow_short=False))
    # half of a fifth of 60,000 against 500 B
    assert covered.targets == pytest.approx({"A": 600.0, "B": 200.0, "X": 0.0})


def test_a_symbol_without_margin_or_perpetual_is_not_left_short():
    limits = {"B": Limits(shortable=False)}
    why = "B can't be sold short here (its market has no margin or perpetual)"
    assert built(enter(AB), limits=limits).refused == {AB.id: why}
    assert built(enter(AB, -1), limits=limits).refused == {}
    assert built(enter(CD), limits=limits).refused == {}


def test_pairs_that_an_exit_leaves_short_are_closed_the_least_confident_first():
    # B/C holds 1,500 B; A/B and D/B are short 600 each
    cover, first, second = Pair("B", "C"), AB, Pair("D", "B")
    state = Book(
        100_000.0,
        {
            cover.id: Holding(cover, 1, 1500.0, 5.0, confidence=0.1),
            first.id: Holding(first, 1, 1000.0, -600.0, confidence=0.9),
            second.id: Holding(second, 1, 1000.0, -600.0, confidence=0.5),
        },
    )
    limits = {"B": Limits(shortable=False)}
    assert built(state=state, limits=limits).orders == ()
    both = built(leave(cover), state=state, limits=limits)
    assert both.book.holdings == {}
    assert set(both.closed) == {first.id, second.id}
    assert all("B can't be sold short here" in why for why in both.closed.values())
    # 700 more B from elsewhere cover one of them
    other = Pair("B", "D")
    held = {**state.holdings, other.id: Holding(other, 1, 700.0, 1.0)}
    one = built(leave(cover), state=replace(state, holdings=held), limits=limits)
    assert set(one.closed) == {second.id}
    assert one.targets["B"] == pytest.approx(100.0)
    # allowed to be short, or not allowed to trade, they stay
    assert built(leave(cover), state=state).closed == {}
    halted = built(leave(cover), state=state, limits=limits, kill_switch="halted")
    assert (halted.closed, halted.book) == ({}, state)
    reducing = built(leave(cover), state=state, limits=limits, kill_switch="reducing")
    assert (reducing.closed, reducing.book) == (both.closed, both.book)


def test_of_equally_confident_pairs_the_last_by_name_is_closed_and_a_closed_one_may_uncover_another():
    first, second, chain = AB, Pair("C", "B"), Pair("D", "C")
    held = {
        "cover": Holding(Pair("B", "X"), 1, 500.0, 1.0),
        first.id: Holding(first, 1, 1.0, -400.0, confidence=0.5),
        second.id: Holding(second, 1, 100.0, -400.0, confidence=0.5),
        chain.id: Holding(chain, 1, 1.0, -50.0, confidence=0.9),
    }
    prices = PRICES | {"X": 1.0}
    result = build_orders([], prices, Book(1e5, held), {}, changed(P, allow_short=False))
    # of A/B and C/B the latter goes, and with it the C that D/C was covered by
    assert set(result.closed) == {second.id, chain.id}
    assert set(result.book.holdings) == {"cover", first.id}


def test_reducing_lets_out_and_not_in_and_halted_does_nothing():
    state = built(enter(AB)).book
    reducing = built(leave(AB), enter(CD), state=state, kill_switch="reducing")
    assert orders_of(reducing) == pytest.approx({"A": -1000.0, "B": 500.0})
    assert reducing.refused == {CD.id: "kill switch is reducing"}
    assert all(order.reduce_only for order in reducing.orders)
    halted = built(leave(AB), enter(CD), state=state, kill_switch="halted")
    assert halted.orders == ()
    assert halted.book == state
    assert halted.refused == {CD.id: "kill switch is halted"}


def test_exits_are_made_however_full_the_book_is():
    state = built(enter(AB), enter(CD)).book
    tight = {"max_symbol_weight": 0.01, "max_gross": 0.01, "max_net": 0.01, "top_k": 1, "allow_short": False}
    result = built(leave(AB), leave(CD), state=state, **tight)
    assert result.book.holdings == {}
    assert orders_of(result) == pytest.approx({"A": -1000.0, "B": 500.0, "C": -2000.0, "D": 10_000.0})


def test_what_rounding_leaves_of_netted_legs_is_no_order():
    pairs = [Pair("A", "B"), Pair("A", "C"), Pair("A", "D")]
    units = (0.1, 0.2, -0.3)  # in floats they sum to 5.6e-17
    state = Book(1_000.0, {p.id: Holding(p, 1, u, 1.0) for p, u in zip(pairs, units, strict=True)})
    assert 0.0 < abs(state.units()["A"]) < 1e-16
    result = built(*(leave(pair) for pair in pairs), state=state)
    assert {order.symbol for order in result.orders} == {"B", "C", "D"}


# ----------------------------------------------------------------- sizes, clusters, volatility

INVERSE = EQUAL.model_copy(update={"rule": "inverse_risk"})


def quiet(pair: Pair, std: float = 0.01, half_life: float = 12.0, **values: Any) -> Signal:
    return replace(enter(pair, **values), spread_std=std, half_life_hours=half_life)


@pytest.mark.parametrize(
    ("std", "half_life", "gross"),
    [
        (0.010, 12.0, 0.20),  # 0.01 of the dependent leg is 0.005 of both: the reference
        (0.008, 12.0, 0.25),
        (0.010, 48.0, 0.10),  # four times as slow: half
        (0.020, 3.0, 0.20),
        (0.100, 12.0, 0.10),  # never below low …
        (0.001, 12.0, 0.30),  # … nor above high
        (math.nan, 12.0, 0.10),
        (0.010, math.nan, 0.10),
        (0.010, math.inf, 0.10),
    ],
)
def test_quieter_and_quicker_spreads_are_traded_larger_within_bounds(std, half_life, gross):
    result = built(quiet(AB, std, half_life), sizing=INVERSE)
    assert sum(map(abs, result.weights.values())) == pytest.approx(gross)
    equal = built(quiet(AB, std, half_life))
    assert sum(map(abs, equal.weights.values())) == pytest.approx(0.2)


def test_the_pairs_of_a_cluster_share_a_cap_and_others_do_not_count():
    def of(pair: Pair, cluster: int | None, confidence: float = 1.0) -> Signal:
        return replace(enter(pair, confidence=confidence), cluster=cluster)

    result = built(of(AB, 7), of(CD, 7, 0.5), max_cluster_gross=0.3)
    assert sum(abs(result.weights[s]) for s in "AB") == pytest.approx(0.2)
    assert sum(abs(result.weights[s]) for s in "CD") == pytest.approx(0.1)
    assert built(of(AB, 7), of(CD, 7, 0.5), max_cluster_gross=0.24).refused == {CD.id: "cluster cap"}
    for other in (8, None):
        assert built(of(AB, 7), of(CD, other, 0.5), max_cluster_gross=0.2).refused == {}
    assert built(of(AB, None), of(CD, None, 0.5), max_cluster_gross=0.2).refused == {}
    # legs of a cluster do not net: A/B and its mirror are 0.4 of it
    mirror = of(Pair("B", "A"), 7, 0.5)
    assert built(of(AB, 7), mirror, max_cluster_gross=0.2).refused == {mirror.pair.id: "cluster cap"}


def test_the_cluster_a_held_pair_is_in_now_stands_in_for_that_of_its_entry():
    state = built(replace(enter(AB), cluster=7)).book
    hold, entry = replace(leave(AB, "hold"), cluster=3), replace(enter(CD), cluster=7)
    assert built(entry, state=state, max_cluster_gross=0.2).refused == {CD.id: "cluster cap"}
    moved = built(hold, entry, state=state, max_cluster_gross=0.2)
    assert moved.refused == {}
    assert moved.book.holdings[AB.id] is state.holdings[AB.id]


def test_an_entry_is_cut_to_the_volatility_target_by_hand():
    # 0.01 over 2, a day's variance of 2 s² (1 - 2^-2): 0.0061237 of the notional, 0.0012247 of equity, 2.34 % a year
    alone = built(quiet(AB))
    assert alone.volatility == pytest.approx(0.2 * 0.005 * math.sqrt(1.5 * 365))
    assert alone.book.holdings[AB.id].daily_risk == pytest.approx(100_000 * 0.2 * 0.005 * math.sqrt(1.5))
    half = built(quiet(AB), volatility_target=alone.volatility / 2)
    assert sum(map(abs, half.weights.values())) == pytest.approx(0.1)
    assert half.volatility == pytest.approx(alone.volatility / 2)
    assert built(quiet(AB), volatility_target=alone.volatility / 5).refused == {AB.id: "volatility target"}
    assert built(quiet(AB), volatility_target=alone.volatility * 2).weights == alone.weights


@pytest.mark.parametrize(("correlation", "both"), [(0.0, math.sqrt(2)), (0.5, math.sqrt(3)), (1.0, 2.0)])
def test_two_pairs_add_up_by_their_correlation(correlation, both):
    one = built(quiet(AB)).volatility
    state = built(quiet(AB)).book
    assert built(quiet(CD), state=state, pair_correlation=correlation).volatility == pytest.approx(both * one)
    cut = built(quiet(CD), state=state, pair_correlation=correlation, volatility_target=1.3 * one)
    assert cut.volatility == pytest.approx(1.3 * one)
    assert 0.05 < sum(abs(cut.weights[s]) for s in "CD") < 0.2


def test_what_is_not_known_of_a_spread_refuses_entries_under_a_volatility_target():
    known = quiet(CD, confidence=0.5)
    refused = built(enter(AB), known, volatility_target=0.5)
    assert refused.refused == {AB.id: "its volatility is not known (portfolio.volatility_target is set)"}
    # nor is there room beside a holding whose volatility nobody knows
    state = built(enter(AB)).book
    assert math.isnan(built(state=state).volatility)
    assert built(known, state=state, volatility_target=0.5).refused == {CD.id: "volatility target"}
    assert built(leave(AB), known, state=state, volatility_target=0.5).refused == {}
    # without a half-life it is taken for the largest it can be: 2 s²
    bound = built(quiet(AB, half_life=math.nan), volatility_target=0.5)
    assert bound.volatility == pytest.approx(0.2 * 0.005 * math.sqrt(2 * 365))


# ------------------------------------------------------------------------------------- turnover

NOON = pd.Timestamp("2025-01-01T12:00:00Z")


def on(moment: pd.Timestamp, *signals: Signal, state: Book = EMPTY, **values: object) -> Orders:
    return build_orders(signals, PRICES, state, {}, changed(P, **values), bar_close=moment)


def test_entries_are_cut_to_what_the_day_has_left_and_the_next_day_begins_anew():
    first = on(NOON, enter(AB), max_daily_turnover=0.3)
    assert (first.book.day, first.book.traded) == ("2025-01-01", pytest.approx(20_000.0))
    later = on(NOON + pd.Timedelta(hours=1), enter(CD), state=first.book, max_daily_turnover=0.3)
    assert sum(abs(later.weights[s]) for s in "CD") == pytest.approx(0.1)
    assert later.book.traded == pytest.approx(30_000.0)
    refused = on(NOON + pd.Timedelta(hours=2), enter(AC), state=later.book, max_daily_turnover=0.3)
    assert refused.refused == {AC.id: "turnover budget"}
    assert refused.book == later.book
    # a bar that closes at midnight is filled on the new day
    midnight = on(pd.Timestamp("2025-01-02T00:00:00Z"), enter(AC), state=later.book, max_daily_turnover=0.3)
    assert midnight.refused == {}
    assert (midnight.book.day, midnight.book.traded) == ("2025-01-02", pytest.approx(20_000.0))


def test_exits_are_made_beyond_the_budget_and_count():
    state = on(NOON, enter(AB), max_daily_turnover=0.2).book
    result = on(NOON, leave(AB), enter(CD), state=state, max_daily_turnover=0.2)
    assert result.refused == {CD.id: "turnover budget"}
    assert result.book.holdings == {}
    assert result.book.traded == pytest.approx(40_000.0)


def test_a_leg_that_changes_hands_without_an_order_costs_no_turnover():
    state = replace(on(NOON, enter(AB)).book, day=None, traded=0.0)
    # A stays as it is: B is bought back, C is sold
    result = on(NOON, leave(AB), enter(AC), state=state, max_daily_turnover=0.2)
    assert orders_of(result) == pytest.approx({"B": 500.0, "C": -2000.0})
    assert result.book.traded == pytest.approx(20_000.0)


def test_a_budget_needs_the_time_and_the_time_a_zone():
    with pytest.raises(ParameterError, match="max_daily_turnover"):
        built(enter(AB), max_daily_turnover=1.0)
    with pytest.raises(ParameterError, match="time zone"):
        on(pd.Timestamp("2025-01-01"), enter(AB))
    assert on(pd.Timestamp("2025-01-02T01:00:00+02:00"), enter(AB)).book.day == "2025-01-01"


# -------------------------------------------------------------------------- what can't be sent


def test_a_netted_order_below_the_smallest_is_kept_back_and_goes_with_the_next_one():
    limits = {"B": Limits(lot=0.5, min_notional=3_000.0)}
    state = built(enter(AB), limits=limits).book
    result = built(enter(BC, hedge=1.0, confidence=0.5), state=state, limits=limits, pair_gross=0.08)
    # B/C buys 200 B, which is 4,000: sent. A smaller one against it is not
    assert orders_of(result) == pytest.approx({"B": 200.0, "C": -800.0})
    swap = built(leave(BC), enter(Pair("B", "D")), state=result.book, limits=limits, pair_gross=0.1)
    assert orders_of(swap) == pytest.approx({"C": 800.0, "D": -5_000.0})  # B: +50, 1,000 in notional
    assert {s: u.held for s, u in swap.book.unsent.items()} == {"B": pytest.approx(-50.0)}
    assert swap.targets["B"] == pytest.approx(-250.0)
    assert swap.book.units()["B"] == pytest.approx(-300.0)
    # it counts in the equity
    dearer = PRICES | {"B": 30.0}
    assert swap.book.equity(dearer) - swap.book.equity(PRICES) == pytest.approx(-3_000.0)
    # a bar on which no pair of the symbol changes leaves it
    assert built(leave(CD), state=swap.book, limits=limits).orders == ()
    gone = built(leave(AB), state=swap.book, limits=limits)
    assert orders_of(gone) == pytest.approx({"A": -1000.0, "B": 550.0})
    assert gone.book.unsent == {}


def test_units_that_are_no_whole_lots_are_traded_in_lots_and_the_rest_is_kept():
    state = Book(100_000.0, {AB.id: Holding(AB, 1, 10.35, -5.0)})
    result = built(leave(AB), state=state, limits={"A": Limits(lot=0.5)})
    assert orders_of(result) == pytest.approx({"A": -10.0, "B": 5.0})
    assert result.book.units() == pytest.approx({"A": 0.35})
    assert result.targets == {}


@pytest.mark.parametrize("switch", ["active", "reducing", "halted"])
def test_every_cap_beside_the_kill_switch(switch):
    limits = {"B": Limits(lot=1.0, min_notional=10.0)}
    caps = {
        "max_symbol_weight": 0.07, "max_cluster_gross": 0.12, "max_gross": 0.13, "max_net": 0.01,
        "volatility_target": 0.02, "max_daily_turnover": 0.14, "max_hedge_error": 0.1, "sizing": INVERSE, "top_k": 2,
    }  # fmt: skip
    state = built(quiet(AC), state=EMPTY).book

    def of(*signals: Signal, **values: object) -> Orders:
        return build_orders(
            signals, PRICES, state, limits, changed(P, kill_switch=switch, **values), bar_close=NOON
        )  # fmt: skip

    for name, value in caps.items():
        result = of(quiet(AB), leave(AC), **{name: value})
        if switch == "halted":
            assert (result.book, result.orders) == (state, ())
        else:
            assert AC.id not in result.book.holdings
        assert (AB.id in result.book.holdings) == (switch == "active" and name != "max_daily_turnover")
        if switch != "active":
            assert result.refused == {AB.id: f"kill switch is {switch}"}


# --------------------------------------------------------------------------------------- errors


def test_two_signals_of_one_pair_are_refused():
    with pytest.raises(BarDataError, match="A__B: 2 signals"):
        built(enter(AB), leave(AB))


@pytest.mark.parametrize("price", [None, 0.0, -1.0, math.nan, math.inf])
def test_a_price_that_is_missing_or_not_positive_is_refused(price):
    prices = {k: v for k, v in PRICES.items() if k != "B"} | ({} if price is None else {"B": price})
    with pytest.raises(BarDataError, match="B: reference price"):
        build_orders([enter(AB)], prices, EMPTY, {}, P)
    with pytest.raises(BarDataError, match="B: reference price"):
        build_orders([], prices, built(enter(AB)).book, {}, P)
    assert build_orders([leave(AB)], prices, EMPTY, {}, P).orders == ()


def test_a_book_worth_nothing_is_refused():
    with pytest.raises(BarDataError, match="equity is -5"):
        built(state=Book(-5.0))


# ----------------------------------------------------------------------------------- many books

SYMBOLS = ["A", "B", "C", "D", "E"]
PAIRS = [Pair(a, b) for a in SYMBOLS for b in SYMBOLS if a != b]
weights = st.floats(-0.3, 0.3)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Signal], dict[str, float], Book, dict[str, Limits], PortfolioParams]:
    prices = {symbol: draw(st.floats(1e-4, 1e5)) for symbol in SYMBOLS}
    capital = draw(st.floats(100.0, 1e7))
    held = draw(st.lists(st.sampled_from(PAIRS), max_size=5, unique=True))
    holdings = {}
    for pair in held:
        first, second = draw(weights), draw(weights)
        holdings[pair.id] = Holding(
            pair, 1, first * capital / prices[pair.dependent], second * capital / prices[pair.independent]
        )
    worth = sum(u * prices[s] for h in holdings.values() for s, u in h.units().items())
    book = Book(capital - worth, holdings)
    signals = [
        Signal(
            pair, draw(st.sampled_from(["enter", "enter", "exit", "hold", "flat"])), draw(st.sampled_from([-1, 1])),
            draw(st.floats(0.1, 10)), draw(st.floats(0, 1)),
        )
        for pair in draw(st.lists(st.sampled_from(PAIRS), max_size=8, unique=True))
    ]  # fmt: skip
    limits = {
        symbol: Limits(draw(st.sampled_from([0.0, 0.01, 1.0, 100.0])), draw(st.sampled_from([0.0, 5.0, 1000.0])))
        for symbol in draw(st.lists(st.sampled_from(SYMBOLS), unique=True))
    }
    params = changed(
        P, capital=capital, top_k=draw(st.integers(1, 8)), pair_gross=draw(st.floats(0.01, 1.0)),
        max_symbol_weight=draw(st.floats(0.02, 1.0)), max_gross=draw(st.floats(0.05, 3.0)),
        max_net=draw(st.floats(0.01, 1.0)), allow_short=draw(st.booleans()),
        kill_switch=draw(st.sampled_from(["active", "active", "active", "reducing", "halted"])),
    )  # fmt: skip
    return signals, prices, book, limits, params


@settings(max_examples=600, deadline=None)
@given(situations())
def test_on_any_book_entries_break_no_cap_and_orders_lead_exactly_to_the_targets(situation):
    signals, prices, before, limits, params = situation
    result = build_orders(signals, prices, before, limits, params)
    # attribution: holdings sum to the targets
    summed: dict[str, float] = {}
    for _, holding in sorted(result.book.holdings.items()):
        for symbol, units in holding.units().items():
            summed[symbol] = summed.get(symbol, 0.0) + units
    assert summed == result.targets
    numbers = [*result.targets.values(), *result.weights.values(), result.equity]
    numbers += [value for order in result.orders for value in (order.quantity, order.notional)]
    assert np.isfinite(numbers).all()
    # orders lead from the old units to the targets
    reached = dict(before.units())
    for order in result.orders:
        assert order.quantity > 0
        assert order.notional >= limits.get(order.symbol, Limits()).min_notional
        reached[order.symbol] = reached.get(order.symbol, 0.0) + orders_of(result)[order.symbol]
    for symbol, units in reached.items():
        scale = sum(abs(h.units().get(symbol, 0.0)) for b in (before, result.book) for h in b.holdings.values())
        assert units == pytest.approx(result.book.units().get(symbol, 0.0), abs=1e-9 * scale)
        unsent = result.book.unsent[symbol].held if symbol in result.book.unsent else 0.0
        assert units - unsent == pytest.approx(result.targets.get(symbol, 0.0), abs=1e-9 * scale)
    # every entry is held or refused with a reason, every exit is gone
    left = [replace(s, action="exit") if s.action == "enter" else s for s in signals]
    exits = build_orders(left, prices, before, limits, params)
    for signal in signals:
        pair_id = signal.pair.id
        if signal.action == "enter" and params.kill_switch == "halted":
            assert pair_id in result.refused
        elif signal.action == "enter":
            assert (pair_id in result.book.holdings) != (pair_id in result.refused)
        elif signal.action in ("exit", "flat") and params.kill_switch != "halted":
            assert pair_id not in result.book.holdings
    new = set(result.book.holdings) - set(exits.book.holdings)
    assert not new or params.kill_switch == "active"
    assert not new or len(result.book.holdings) <= params.top_k
    # no cap is broken by an entry that was not over already
    small = 1e-9
    for symbol, weight in result.weights.items():
        assert abs(weight) <= max(params.max_symbol_weight, abs(exits.weights.get(symbol, 0.0))) + small
        if not params.allow_short and params.kill_switch != "halted":
            assert weight >= -small
    gross, gross_before = (sum(map(abs, r.weights.values())) for r in (result, exits))
    assert gross <= max(params.max_gross, gross_before) + small
    net, net_before = (abs(sum(r.weights.values())) for r in (result, exits))
    assert net <= max(params.max_net, net_before) + small
    # both legs or neither, on lots, above the smallest order
    for pair_id in new:
        holding = result.book.holdings[pair_id]
        assert holding.units_dependent * holding.units_independent < 0
        assert np.sign(holding.units_dependent) == holding.side
        for symbol, units in holding.units().items():
            rule = limits.get(symbol, Limits())
            assert abs(units) * prices[symbol] >= rule.min_notional
            if rule.lot:
                assert units / rule.lot == pytest.approx(round(units / rule.lot), rel=1e-9, abs=1e-9)


# ------------------------------------------------------------------------------------- simulate

WIDE = changed(P, max_symbol_weight=50.0, max_cluster_gross=50.0, max_gross=50.0, max_net=50.0)
COSTS = CostParams(fee_rate=0.001, slippage_bps=3.0, borrow_bps_per_day=40.0, impact_bps=0.0, carry="borrow")


def matrices(n: int, seed: int, symbols: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    close = pd.DataFrame(
        50 * np.exp(np.cumsum(rng.normal(0, 0.01, (n, len(symbols))), axis=0)), index=grid(n), columns=symbols
    )
    return close, close * np.exp(rng.normal(0, 0.003, close.shape))


def assert_books_balance(result: PortfolioResult, close: pd.DataFrame, costs: CostParams, capital: float) -> None:
    """Rebuild cash and units from the fills alone."""
    marks = close.ffill()
    signed = result.fills.pivot_table(index="time", columns="symbol", values="quantity", aggfunc="sum")
    units = signed.reindex(index=close.index, columns=close.columns).fillna(0.0).cumsum()
    paid = result.fills.assign(paid=lambda f: f["quantity"] * f["price"] + f["fee"] + f["slippage"])
    spent = paid.groupby("time")["paid"].sum().reindex(close.index).fillna(0.0).cumsum()
    cash = capital - spent - result.costs["borrow"].cumsum()
    held = units * marks.fillna(0.0)
    np.testing.assert_allclose(result.equity, cash + held.sum(axis=1), rtol=1e-12, atol=1e-9 * capital)
    np.testing.assert_allclose(result.exposure["gross"], held.abs().sum(axis=1), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(result.exposure["net"], held.sum(axis=1), rtol=1e-9, atol=1e-6)
    turnover = result.costs["turnover"]
    np.testing.assert_allclose(result.costs["fees"], turnover * costs.fee_rate, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(result.costs["slippage"], turnover * costs.slippage_bps * 1e-4, rtol=1e-12, atol=1e-9)
    per_bar = costs.borrow_bps_per_day * 1e-4 / 288
    np.testing.assert_allclose(result.costs["borrow"], -held.clip(upper=0).sum(axis=1) * per_bar, atol=1e-9)


def assert_trades_add_up(result: PortfolioResult, capital: float) -> None:
    """Price P&L less costs is the change of equity at every bar, and the trades' sums are the book's."""
    paid = result.costs[["fees", "slippage", "borrow"]].sum(axis=1)
    change = np.diff(np.concatenate(([capital], result.equity)))
    np.testing.assert_allclose(change, result.gross - paid, rtol=0, atol=1e-9 * capital)
    assert abs(result.trades["gross_pnl"].sum() - result.gross.sum()) < 1e-9 * capital
    assert abs(result.trades["costs"].sum() - paid.sum()) < 1e-9 * capital
    assert abs(result.trades["net_pnl"].sum() - (result.equity.iloc[-1] - capital)) < 1e-9 * capital


def test_the_costs_of_a_netted_leg_are_shared_by_the_units_that_changed():
    close = pd.DataFrame({"A": [10.0] * 6, "B": [20.0] * 6, "C": [5.0] * 6}, index=grid(6))
    signals = {0: [enter(AB), enter(BC, hedge=3.0)], 3: [leave(AB), leave(BC)]}
    costs = changed(COSTS, borrow_bps_per_day=0.0, slippage_bps=0.0)
    result = simulate(signals, close, close, {}, WIDE, costs)
    # A +1000, B -500 for one pair; B +250, C -3000 for the other: B nets to -250, shared 2 to 1
    ab, bc = (result.trades.loc[result.trades["name"] == pair.id].squeeze() for pair in (AB, BC))
    assert ab["costs"] == pytest.approx(2 * (10_000 + 5_000 * 2 / 3) * 0.001, rel=1e-3)
    assert bc["costs"] == pytest.approx(2 * (15_000 + 5_000 * 1 / 3) * 0.001, rel=1e-3)
    assert ab["closed"]
    assert (ab["entry_fill"], ab["exit_fill"]) == (close.index[1], close.index[4])
    assert_trades_add_up(result, P.capital)


def test_a_trade_still_open_is_valued_at_the_last_close():
    close, fill = matrices(20, 5, SYMBOLS)
    result = simulate({3: [enter(AB)]}, close, fill, {}, P, COSTS)
    assert result.trades["closed"].tolist() == [False]
    assert_trades_add_up(result, P.capital)


def test_what_is_not_sent_is_accounted_for_in_the_simulated_book():
    close, fill = matrices(40, 5, SYMBOLS)
    limits = {symbol: Limits(lot=0.01, min_notional=4_000.0) for symbol in SYMBOLS}
    rng = np.random.default_rng(3)
    pairs = [AB, BC, AC, CD, Pair("E", "A"), Pair("B", "E")]
    signals = {
        row: [
            replace(enter(pairs[i], int(rng.choice([-1, 1]))), hedge_ratio=float(rng.uniform(0.5, 2)))
            if rng.random() < 0.7
            else leave(pairs[i])
            for i in rng.choice(len(pairs), 3, replace=False)
        ]
        for row in range(1, 38, 2)
    }
    result = simulate(signals, close, fill, limits, WIDE, COSTS)
    assert (result.trades["side"] == 0).any()
    assert_books_balance(result, close, COSTS, P.capital)
    assert_trades_add_up(result, P.capital)
    decided = close.shift(1)
    worth = [abs(f.quantity) * decided.loc[f.time, f.symbol] for f in result.fills.itertuples()]
    assert min(worth) >= 4_000.0 * (1 - 1e-9)


def test_the_simulated_book_begins_its_turnover_anew_each_day():
    close, fill = matrices(400, 5, SYMBOLS)
    signals = {row: [enter(pair)] for row, pair in zip((10, 20, 300), (AB, BC, CD), strict=True)}
    result = simulate(signals, close, fill, {}, changed(WIDE, max_daily_turnover=0.2), COSTS)
    assert result.refused == {"turnover budget": 1}
    assert set(result.trades["name"]) == {AB.id, CD.id}


def test_funding_is_charged_to_each_pair_on_its_own_units():
    close, fill = matrices(30, 6, SYMBOLS)
    rates = pd.DataFrame(np.random.default_rng(0).normal(0, 1e-3, close.shape), index=close.index, columns=SYMBOLS)
    signals = {2: [enter(AB), enter(BC, -1)], 9: [enter(CD)], 20: [leave(AB)]}
    result = simulate(signals, close, fill, {}, WIDE, changed(COSTS, carry="funding"), funding=rates)
    assert_trades_add_up(result, P.capital)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([0.0, 0.1]), capped=st.booleans())
def test_the_simulated_books_balance_at_every_bar(seed, missing, capped):
    rng = np.random.default_rng(seed)
    close, fill = matrices(60, seed, SYMBOLS)
    gone = rng.uniform(size=close.shape) < missing
    gone[0] = False
    close, fill = close.mask(gone), fill.mask(gone)
    signals: dict[int, list[Signal]] = {}
    for row in sorted(set(rng.integers(0, 59, 20).tolist())):
        pairs = rng.choice(len(PAIRS), size=3, replace=False)
        signals[row] = [
            Signal(PAIRS[i], rng.choice(["enter", "exit"]), int(rng.choice([-1, 1])), float(rng.uniform(0.3, 3)), 0.5)
            for i in pairs
        ]
    params = P if capped else WIDE
    result = simulate(signals, close, fill, {}, params, COSTS)
    assert_books_balance(result, close, COSTS, params.capital)
    assert_trades_add_up(result, params.capital)
    first = close.index[min(signals)]
    assert (result.equity.loc[:first] == params.capital).all()
    assert (result.fills["time"] > first).all()
    # only who has to wait for a bar of both legs is filled later than on the bar after a decision
    decided = {close.index[row + 1] for row in signals}
    assert missing or set(result.fills["time"]) <= decided
    assert not [one for one in result.fills.itertuples() if np.isnan(fill.loc[one.time, one.symbol])]


@pytest.mark.parametrize("fill_at", ["open", "close"])
def test_one_pair_without_caps_earns_what_the_pair_backtest_says(fill_at):
    legs = two_legs(500, seed=4)
    spec = FeatureParams(
        price="log", beta_window=40, z_window=30, hedge_lag_bars=1, min_window_fill=1.0, volatility_window=12,
        lag_features=0,
        hedge="ols", kalman={"delta": 1e-5}, market_window_hours=6,
        include=("z_dynamics",),
    )  # fmt: skip
    rule = StrategyParams(
        signals_from="z", probability_threshold=0.5, entry_z=1.5, exit_z=0.5, stop_z=6.0, max_holding_half_lives=3.0,
        cooldown_bars=2, max_loss=None, min_hedge_ratio=0.05, max_hedge_ratio=20.0, break_monitor=UNWATCHED,
    )  # fmt: skip
    features = build_features(*legs, spec)
    alone = run_pair(
        *legs,
        features,
        BacktestParams(strategy=rule, costs=COSTS, fill_at=fill_at, legging=ON_TIME, menu=AS_CONFIGURED),
        half_life_bars=6.0,
    )
    close, fill = (
        pd.DataFrame({s: bars[c].to_numpy() for s, bars in zip((A, B), legs, strict=True)}, index=features.index)
        for c in ("close", fill_at)
    )
    pair, signals = Pair(A, B), {}
    for trade in alone.trades.itertuples():
        entry, leave_at = (features.index.get_loc(m) for m in (trade.entry_decision, trade.exit_decision))
        hedge = float(features["hedge_ratio"].iloc[entry])
        signals.setdefault(entry, []).append(Signal(pair, "enter", trade.side, hedge, 1.0))
        signals.setdefault(leave_at, []).append(leave(pair))
    assert len(alone.trades) > 15
    result = simulate(signals, close, fill, {}, changed(WIDE, pair_gross=0.7), COSTS)
    expected = P.capital
    for trade in alone.trades.itertuples():
        expected *= 1 + 0.7 * trade.net_pnl
        after = result.equity.loc[trade.exit_fill]
        assert after == pytest.approx(expected, rel=1e-10)
    assert result.equity.iloc[-1] == pytest.approx(expected, rel=1e-10)
    assert_books_balance(result, close, COSTS, P.capital)


def test_refused_entries_are_counted_by_reason():
    close, fill = matrices(10, 0, SYMBOLS)
    signals = {1: [enter(AB), enter(CD), enter(BC)], 2: [enter(CD)]}
    result = simulate(signals, close, fill, {}, changed(P, top_k=1), COSTS)
    assert result.refused == {"1 pairs are held already": 3}


def test_no_signals_leave_the_capital_as_it_is():
    close, fill = matrices(10, 0, SYMBOLS)
    result = simulate({}, close, fill, {}, P, COSTS)
    assert (result.equity == P.capital).all()
    assert result.fills.empty
    assert result.costs.to_numpy().sum() == 0.0


def test_no_bars_are_a_result_without_rows():
    nothing = pd.DataFrame(index=grid(0))
    result = simulate({}, nothing, nothing, {}, P, COSTS)
    assert result.equity.empty
    assert result.fills.empty


@pytest.mark.parametrize("row", [-1, 9, 12])
def test_a_signal_that_no_later_bar_can_fill_is_refused(row):
    close, fill = matrices(10, 0, SYMBOLS)
    with pytest.raises(ParameterError, match=f"signals at row {row}"):
        simulate({row: [enter(AB)]}, close, fill, {}, P, COSTS)


@pytest.mark.parametrize("cut", [5, 20, 33])
def test_later_prices_change_no_earlier_equity(cut):
    close, fill = matrices(60, 3, SYMBOLS)
    signals = {3: [enter(AB)], 15: [enter(CD)], 30: [leave(AB)], 50: [leave(CD)]}
    whole = simulate(signals, close, fill, {}, P, COSTS)
    later = np.tile(np.arange(60)[:, None] > cut, (1, len(SYMBOLS)))
    moved = simulate(signals, close.mask(later, 10 * close), fill.mask(later, 10 * fill), {}, P, COSTS)
    pd.testing.assert_series_equal(whole.equity.iloc[: cut + 1], moved.equity.iloc[: cut + 1], check_exact=True)
    assert whole.equity.iloc[cut + 1] != moved.equity.iloc[cut + 1]


def test_impact_goes_by_the_root_of_an_orders_share_in_the_usual_volume():
    close = pd.DataFrame({"A": [10.0] * 6, "B": [20.0] * 6}, index=grid(6))
    signals = {1: [enter(AB)], 3: [leave(AB)]}
    costs = changed(COSTS, slippage_bps=2.0, impact_bps=8.0, borrow_bps_per_day=0.0)
    usual = pd.DataFrame({"A": [40_000.0] * 6, "B": [160_000.0] * 6}, index=close.index)
    result = simulate(signals, close, close, {}, WIDE, costs, liquidity=usual)
    leg = result.fills["quantity"].abs().iloc[0] * 10.0
    expected = leg * (2.0 + 8.0 * np.sqrt(leg / 40_000)) + leg * (2.0 + 8.0 * np.sqrt(leg / 160_000))
    assert result.costs["slippage"].iloc[2] == pytest.approx(expected * 1e-4)
    assert_trades_add_up(result, P.capital)
    nothing_traded = simulate(signals, close, close, {}, WIDE, costs, liquidity=usual * 0.0)
    assert nothing_traded.costs["slippage"].iloc[2] == pytest.approx(2 * leg * (2.0 + 8.0 * 10.0) * 1e-4)


@pytest.mark.parametrize("needs", [{"impact_bps": 1.0}, {"carry": "funding"}])
def test_costs_whose_market_data_is_missing_are_refused(needs):
    close, fill = matrices(20, 5, SYMBOLS)
    with pytest.raises(ParameterError, match=r"volume|funding"):
        simulate({3: [enter(AB)]}, close, fill, {}, P, changed(COSTS, **needs))
