"""A live account settled bar by bar: what the simulated one does, to the bit, and both legs or neither."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_portfolio import AB, BC, COSTS, PAIRS, SYMBOLS, P, changed, enter, leave, matrices

from mntrading.core.account import Due, Settled, Stretch, carry, settle, simulate
from mntrading.core.book import Book, Limits, Signal
from mntrading.core.engine_inputs import charges_a_bar
from mntrading.core.portfolio import build_orders
from mntrading.core.strategy import OFF, REASONS
from mntrading.core.types import Pair
from mntrading.params import CostParams

NAN = math.nan
STEP = pd.Timedelta(minutes=5)
FUNDED = changed(COSTS, carry="funding", impact_bps=20.0)


def lived(
    signals: dict[int, list[Signal]],
    close: pd.DataFrame,
    fill: pd.DataFrame,
    costs: CostParams,
    limits: dict[str, Limits],
    volume: pd.DataFrame,
    funding: pd.DataFrame | None,
    every: int,
) -> tuple[list[float], Book, int]:
    """Equity of every bar and the book at the end, with orders at each signal and a settlement every few bars."""
    charges = charges_a_bar(costs, 288.0)
    marks = close.ffill()
    book, wanted, orders, prices = Book(P.capital), Book(P.capital), (), {}
    equity, n_fills, settled = [P.capital], 0, 0
    for row in range(len(close)):
        if row and (row in signals or row % every == 0 or row == len(close) - 1):
            rows = slice(settled + 1, row + 1)
            bars = Stretch(fill[rows], marks[rows], volume[rows], None if funding is None else funding[rows])
            done: Settled = settle(Due(book, wanted, orders, prices), bars, limits, charges)
            equity += done.bars["equity"].tolist()
            n_fills += len(done.fills)
            book, wanted, orders, settled = done.book, done.book, (), row
        if row in signals:
            prices = marks.iloc[row].to_dict()
            built = build_orders(signals[row], prices, book, limits, P, bar_close=close.index[row] + STEP)
            wanted, orders = built.book, built.orders
    return equity, book, n_fills


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), every=st.integers(1, 9), funded=st.booleans(), lots=st.booleans())
def test_an_account_settled_bar_by_bar_or_after_several_is_the_simulated_one_to_the_bit(seed, every, funded, lots):
    rng = np.random.default_rng(seed)
    close, fill = matrices(80, seed, SYMBOLS)
    volume = pd.DataFrame(rng.lognormal(12, 1, close.shape), index=close.index, columns=SYMBOLS)
    rates = pd.DataFrame(rng.normal(0, 1e-4, close.shape), index=close.index, columns=SYMBOLS) if funded else None
    costs = FUNDED if funded else changed(COSTS, impact_bps=20.0)
    limits = {s: Limits(0.25, 5.0) for s in SYMBOLS} if lots else {}
    signals, inside = {}, set()
    for row in sorted(rng.choice(np.arange(79), 14, replace=False).tolist()):
        pair = PAIRS[int(rng.integers(len(PAIRS)))]
        signals[row] = [leave(pair) if pair in inside else enter(pair, int(rng.choice([-1, 1])))]
        inside ^= {pair}
    whole = simulate(signals, close, fill, limits, P, costs, liquidity=volume, funding=rates)
    equity, book, n_fills = lived(signals, close, fill, costs, limits, volume, rates, every)
    assert equity == whole.equity.tolist()
    assert n_fills == len(whole.fills) > 0
    assert book.cash == pytest.approx(whole.equity.iloc[-1] - sum(
        units * close.iloc[-1][symbol] for symbol, units in book.units().items()
    ))  # fmt: skip


def lived_with_holes(
    signals: dict[int, list[Signal]], close: pd.DataFrame, fill: pd.DataFrame, limits: dict[str, Limits]
) -> tuple[list[float], int, list[str], int]:
    """Equity of every bar, fills, entries that were off and pairs closed for want of a cover, as a live cycle goes.

    Orders are made at every bar, and whoever is held and flat is asked to leave at each of them.
    """
    charges, marks = charges_a_bar(COSTS, 288.0), close.ffill()
    volume = pd.DataFrame(1e9, index=close.index, columns=close.columns)
    book = Book(P.capital)
    due = Due(book, book, (), {})
    equity, n_fills, off, closed = [], 0, [], 0
    inside: set[str] = set()
    for row in range(len(close)):
        rows = slice(row, row + 1)
        done = settle(due, Stretch(fill[rows], marks[rows], volume[rows], None), limits, charges)
        equity += done.bars["equity"].tolist()
        n_fills, off = n_fills + len(done.fills), [*off, *done.off]
        inside -= set(done.off)
        prices = marks.iloc[row].to_dict()
        given = list(signals.get(row, ()))
        inside |= {signal.pair.id for signal in given if signal.action == "enter"}
        inside -= {signal.pair.id for signal in given if signal.action == "exit"}
        said = inside | {signal.pair.id for signal in given}
        given += [leave(held.pair) for name, held in done.book.holdings.items() if name not in said]
        built = build_orders(given, prices, done.book, limits, P, bar_close=close.index[row] + STEP)
        closed += len(built.closed)
        due = Due(done.book, built.book, built.orders, prices)
    return equity, n_fills, off, closed


def with_holes(seed: int) -> tuple[dict[int, list[Signal]], pd.DataFrame, pd.DataFrame, dict[str, Limits]]:
    """Many entries and exits on a market with holes; who waits to be out does not enter."""
    rng = np.random.default_rng(seed)
    close, fill = matrices(80, seed, SYMBOLS)
    gone = rng.uniform(size=close.shape) < 0.15
    gone[0] = False
    close, fill = close.mask(gone), fill.mask(gone)
    whole = {pair: fill[list(pair.symbols)].notna().all(axis=1).to_numpy() for pair in PAIRS}
    signals, inside, out_at = {}, set(), dict.fromkeys(PAIRS, 0)
    for row in sorted(rng.choice(np.arange(79), 40, replace=False).tolist()):
        pair = PAIRS[int(rng.integers(6))]
        if pair in inside:
            signals[row] = [leave(pair)]
            inside.remove(pair)
            out_at[pair] = row + 1 + int(np.argmax([*whole[pair][row + 1 :], True]))
        elif row >= out_at[pair]:
            signals[row] = [enter(pair, int(rng.choice([-1, 1])))]
            inside |= {pair} if whole[pair][row + 1] else set()
    return signals, close, fill, {SYMBOLS[1]: Limits(shortable=False)}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_holes_cost_the_simulated_account_what_they_cost_the_live_one_to_the_bit(seed):
    signals, close, fill, limits = with_holes(seed)
    whole = simulate(signals, close, fill, limits, P, COSTS)
    equity, n_fills, off, _ = lived_with_holes(signals, close, fill, limits)
    assert equity == whole.equity.tolist()
    assert n_fills == len(whole.fills)
    assert whole.refused.get(REASONS[OFF], 0) == len(off)
    assert not [one for one in whole.fills.itertuples() if np.isnan(fill.loc[one.time, one.symbol])]


def test_holes_take_entries_off_and_leave_shorts_without_their_cover():
    lives = [lived_with_holes(*with_holes(seed)) for seed in range(30)]
    assert sum(len(off) for _, _, off, _ in lives) > 50
    assert sum(closed for *_, closed in lives) > 0


@pytest.mark.parametrize(
    ("gone", "closed_at"), [({"A": 3}, 4), ({"C": 6}, 7)], ids=["a cover is off", "who lacks one has to wait"]
)
def test_a_pair_without_cover_is_closed_on_the_first_bar_that_can(gone, closed_at):
    close, fill = matrices(12, 5, SYMBOLS)
    for symbol, row in gone.items():
        fill.loc[fill.index[row], symbol] = NAN
    covers, covered = Pair("A", "B"), Pair("C", "B")
    signals = {2: [enter(covers, -1, confidence=2.0), enter(covered)], 5: [leave(covers)]}
    limits = {"B": Limits(shortable=False)}
    whole = simulate(signals, close, fill, limits, P, COSTS)
    last = whole.trades.loc[whole.trades["name"] == covered.id].iloc[-1]
    assert (last["entry_fill"], last["exit_fill"]) == (close.index[3], close.index[closed_at])
    assert whole.equity.tolist() == lived_with_holes(signals, close, fill, limits)[0]


def due_to_enter(close: pd.DataFrame, *signals: Signal, book: Book | None = None) -> Due:
    book = book or Book(P.capital)
    prices = close.iloc[0].to_dict()
    built = build_orders(list(signals), prices, book, {}, P, bar_close=close.index[0] + STEP)
    return Due(book, built.book, built.orders, prices)


def bars_of(close: pd.DataFrame, fill: pd.DataFrame) -> Stretch:
    return Stretch(fill[1:], close.ffill()[1:], pd.DataFrame(1e9, index=close.index, columns=close.columns)[1:], None)


def test_an_entry_of_which_one_leg_has_no_bar_is_off_and_the_others_are_filled():
    close, fill = matrices(6, 1, SYMBOLS)
    fill.loc[fill.index[1], "B"] = NAN
    cd = PAIRS[SYMBOLS.index("C") * 4 + 2]
    assert cd.symbols == ("C", "D")
    done = settle(due_to_enter(close, enter(AB), enter(cd)), bars_of(close, fill), {}, charges_a_bar(COSTS, 288.0))
    assert done.off == (AB.id,)
    assert set(done.book.holdings) == {cd.id}
    assert [trade.symbol for _, trade in done.fills] == ["C", "D"]
    # netted with another pair the symbol both have is filled with the other's units alone
    done = settle(due_to_enter(close, enter(AB), enter(BC)), bars_of(close, fill), {}, charges_a_bar(COSTS, 288.0))
    assert done.off == tuple(sorted((AB.id, BC.id)))
    assert done.fills == ()
    assert done.bars["equity"].tolist() == [P.capital] * 5


def test_an_exit_of_which_one_leg_has_no_bar_waits_for_the_first_that_has_both():
    close, fill = matrices(8, 2, SYMBOLS)
    opened = settle(due_to_enter(close, enter(AB)), bars_of(close[:2], fill[:2]), {}, charges_a_bar(COSTS, 288.0)).book
    fill.loc[fill.index[1:4], "A"] = NAN
    done = settle(due_to_enter(close, leave(AB), book=opened), bars_of(close, fill), {}, charges_a_bar(COSTS, 288.0))
    assert done.off == ()
    assert done.book.holdings == {}
    assert {time for time, _ in done.fills} == {close.index[4]}
    assert done.book.units() == {}
    waiting = settle(
        due_to_enter(close, leave(AB), book=opened), bars_of(close[:3], fill[:3]), {}, charges_a_bar(COSTS, 288.0)
    )
    assert waiting.book.holdings == opened.holdings
    assert waiting.fills == ()


def test_carry_of_a_stretch_is_that_of_its_bars_one_by_one():
    close, _ = matrices(40, 3, ["A", "B"])
    units, charges = {"A": 3.7, "B": -1.9}, charges_a_bar(COSTS, 288.0)
    whole = carry(100.0, units, close.to_numpy(), charges, None)
    cash, equity = 100.0, []
    for row in range(40):
        one = carry(cash, units, close.to_numpy()[[row]], charges, None)
        cash = one.cash
        equity += one.equity.tolist()
    assert cash == whole.cash
    assert equity == whole.equity.tolist()
    assert whole.paid.sum() == pytest.approx(sum(1.9 * close["B"]) * COSTS.borrow_bps_per_day * 1e-4 / 288)
    assert whole.by_symbol["A"] == 0.0
