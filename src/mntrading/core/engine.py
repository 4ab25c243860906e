"""The compiled engine of the pair backtest: one pass over the bars, one rule, one book.

``trade`` is the only place where decisions become fills. It skips the bars on which the decision step does nothing:
flat to the next bar that may be entered on, and held, with no more than carry and marks, to the next that may be left.
With ``keep`` it writes the book of every bar; without, as a sweep over many rules asks for it, each day's equity.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from mntrading.core.break_monitor import Monitor
from mntrading.core.compiled import compiled
from mntrading.core.strategy import (
    OFF,
    Position,
    Rule,
    asks_monitor,
    decide,
    entry_units,
    has_lost,
    is_broken,
    next_entry,
    next_exit,
)
from mntrading.core.types import BoolArray, ByteArray, FloatArray, IntArray

BOOK_COLUMNS: Final = (
    "equity", "cash", "units_a", "units_b", "side", "fees", "slippage", "borrow", "turnover",
)  # fmt: skip
"""What ``trade`` writes of each bar."""

_ENTRY: Final = 1
_EXIT: Final = 2
_SECOND_IN: Final = 3
_SECOND_OUT: Final = 4
_LARGEST_PARTICIPATION: Final = 100.0


class Prices(NamedTuple):
    """Both legs on one grid; NaN where a bar is missing.

    ``liquidity`` is the usual quote volume of a bar as known before it, ``funding`` the share of the marked notional
    that longs pay on the bar, ``late`` the bars on which the second leg's fill slips to the next one, ``day`` the
    number of each bar's UTC day counted from the first. ``mark`` is the last known close, which a position is worth.
    """

    fill_a: FloatArray
    fill_b: FloatArray
    close_a: FloatArray
    close_b: FloatArray
    mark_a: FloatArray
    mark_b: FloatArray
    liquidity_a: FloatArray
    liquidity_b: FloatArray
    funding_a: FloatArray
    funding_b: FloatArray
    late: BoolArray
    day: IntArray


class Told(NamedTuple):
    """What the decision step is told of each bar."""

    z: FloatArray
    hedge_ratio: FloatArray
    beta: FloatArray
    probability: FloatArray
    barred: BoolArray


class Charges(NamedTuple):
    """Costs per unit traded or held, and the quote notional that one unit of equity stands for.

    ``impact_rate`` is paid on an order as large as a bar's usual volume, and by the square root below and above.
    """

    fee_rate: float
    slippage_rate: float
    impact_rate: float
    borrow_rate: float
    by_funding: bool
    notional: float


class Lots(NamedTuple):
    """The exchange's rules of both legs, in units and in quote currency; 0 where there is none."""

    lot_a: float
    lot_b: float
    min_notional_a: float
    min_notional_b: float


@compiled
def last_known(values: FloatArray) -> FloatArray:
    """Each row's value, or the one last known before it; NaN before the first."""
    out = np.empty_like(values)
    last = np.nan
    for t in range(values.shape[0]):
        if not np.isnan(values[t]):
            last = values[t]
        out[t] = last
    return out


@compiled
def day_ends(day: IntArray, days: int) -> IntArray:
    """Row of the last bar of each of ``days`` days, that of the day before where a day has none."""
    return np.searchsorted(day, np.arange(days), side="right") - 1


@compiled
def slippage_rate(notional: float, liquidity: float, charges: Charges) -> float:
    """Slippage of an order per unit of its notional: the flat rate, and impact by the square root of its share."""
    if charges.impact_rate == 0.0:
        return charges.slippage_rate
    share = notional * charges.notional / liquidity if liquidity > 0.0 else _LARGEST_PARTICIPATION
    return float(charges.slippage_rate + charges.impact_rate * np.sqrt(min(share, _LARGEST_PARTICIPATION)))


@compiled
def _lots_of(units: float, price: float, lot: float, min_notional: float, notional: float) -> float:
    """Units rounded towards zero to whole lots; 0 where they fall below the smallest order."""
    if lot > 0.0:
        units = np.sign(units) * np.floor(abs(units) * notional / lot + 1e-9) * lot / notional
    return 0.0 if abs(units) * price * notional < min_notional else units


@compiled
def _carry(worth_a: float, worth_b: float, funding_a: float, funding_b: float, charges: Charges) -> float:
    """What holding over a bar costs, by what the legs were worth before it."""
    if charges.by_funding:
        return float(worth_a * funding_a + worth_b * funding_b)
    return float((max(-worth_a, 0.0) + max(-worth_b, 0.0)) * charges.borrow_rate)


@compiled
def trade(
    prices: Prices, told: Told, rule: Rule, charges: Charges, lots: Lots, monitor: Monitor, keep: bool,
    book: FloatArray, value: FloatArray, where: IntArray, ends: IntArray, daily: FloatArray, tested: ByteArray,
) -> int:  # fmt: skip
    """Trade one rule over a window; flat before the first bar and after the last.

    Returns the number of trades; with ``keep`` the entries that were not filled count, each with a row among the
    trades.

    Look-ahead: a decision on row t uses row t and is filled on row t + 1.

    Parameters
    ----------
    prices, told, rule, charges, lots, monitor
        The market, the signals, the rule, and what trading costs and allows.
    keep
        Whether to write ``book``, ``value`` and ``where``; else these may be empty.
    book
        ``BOOK_COLUMNS`` of each bar, shape (9, n), zeros before.
    value
        Per trade: gross P&L, costs, units a, units b, four fill prices, z and probability at entry, z at exit, hedge
        ratio at entry.
    where
        Per trade: rows of entry decision, entry fill, exit decision and exit fill, side, reason, bars held, and
        whether it touched a missing bar. Of an entry that was not filled the exit is at row -1, the reason ``OFF``.
    ends
        ``day_ends``.
    daily
        Equity at the end of each day, shape (days,); filled in any case.
    tested
        What the break monitor said before an entry on each row, 0 where it was not asked, 1 for no break, 2 for one:
        read, and added to for the rules to come. Empty for one rule alone.
    """
    # taken apart once: an array of a tuple costs its reference count wherever it is used
    fill_a, fill_b, close_a, close_b, mark_a, mark_b, liquidity_a, liquidity_b, funding_a, funding_b, late, _ = prices
    z, hedge_ratio, beta, probability, barred = told
    n = z.shape[0]
    free = not charges.by_funding and charges.borrow_rate == 0.0
    trades = 0
    cash = 1.0
    units_a = units_b = 0.0
    side = held = cooldown = 0
    held_beta = 0.0
    filled_side = 0
    pending = 0  # what was decided and is not filled yet
    next_a = next_b = 0.0
    trade_costs = entry_cash = 0.0
    entry_a = entry_b = 0.0
    price_a = price_b = 0.0
    daily[:] = np.nan
    today = 0
    t = 0
    while t < n:
        if pending == 0 and side == 0:
            # flat: to the next bar on which an entry may be decided
            following = min(t + cooldown, n)
            cooldown -= following - t
            following = next_entry(z, following, rule)
            if keep:
                book[0, t:following] = cash
                book[1, t:following] = cash
            if following >= n:
                break
            t = following
        elif pending == 0 and t < n - 2:
            # held: to the next bar on which an exit may be decided, with carry and marks bar by bar
            position = Position(units_a, units_b, entry_a, entry_b)
            following = next_exit(z, close_a, close_b, t, n - 2, side, held, position, rule, monitor.every)
            held += following - t
            while t < following:
                while ends[today] < t:
                    today += 1
                stop = min(following, ends[today] + 1)
                for row in range(t, stop if keep or not free else t):
                    carry = 0.0
                    if not free:
                        worth_a, worth_b = units_a * mark_a[row - 1], units_b * mark_b[row - 1]
                        carry = _carry(worth_a, worth_b, funding_a[row], funding_b[row], charges)
                        cash -= carry
                    if keep:
                        trade_costs += carry
                        book[0, row], book[1, row] = cash + (units_a * mark_a[row] + units_b * mark_b[row]), cash
                        book[2, row], book[3, row], book[4, row], book[7, row] = units_a, units_b, side, carry
                        if np.isnan(fill_a[row]) or np.isnan(fill_b[row]):
                            where[trades, 7] = 1
                t = stop
                if t == ends[today] + 1:
                    daily[today] = cash + (units_a * mark_a[t - 1] + units_b * mark_b[t - 1])
        last = t == n - 1
        fees = slippage = carry = turnover = 0.0
        # what holding cost over the bar that has just passed
        if filled_side != 0 and not free:
            carry = _carry(units_a * mark_a[t - 1], units_b * mark_b[t - 1], funding_a[t], funding_b[t], charges)
            cash -= carry
            trade_costs += carry
        here = not (np.isnan(fill_a[t]) or np.isnan(fill_b[t])) if keep or pending != 0 else True
        if pending == _ENTRY and not here:  # the bar to fill on is missing: the entry is off
            side = held = 0
            pending = 0
            if keep:
                where[trades, 1], where[trades, 2], where[trades, 3] = t, -1, -1
                where[trades, 5], where[trades, 7] = OFF, 1
                value[trades, 2:8] = np.nan
                value[trades, 10] = np.nan
                trades += 1
        elif pending != 0 and (here or (last and pending != _ENTRY)):
            # a window's last bar may be missing: what is held is then closed at the last known prices, and says so
            at_a, at_b = (fill_a[t], fill_b[t]) if here else (mark_a[t - 1], mark_b[t - 1])
            slips = late[t] and t < n - 2
            trade_a = trade_b = 0.0
            if pending == _ENTRY:
                trade_a, trade_b = next_a, 0.0 if slips else next_b
                entry_cash, trade_costs = cash, 0.0
                entry_a, entry_b = at_a, at_b
                filled_side = side
                if keep:
                    where[trades, 1] = t
                    value[trades, 2], value[trades, 3] = next_a, next_b
                    value[trades, 4], value[trades, 5] = at_a, np.nan if slips else at_b
            elif pending == _SECOND_IN:
                trade_b = next_b
                entry_b = at_b
                if keep:
                    value[trades, 5] = at_b
            else:
                trade_a, trade_b = -units_a, 0.0 if slips and pending == _EXIT else -units_b
                if pending == _EXIT:
                    price_a = at_a
                price_b = at_b
            worth_a, worth_b = abs(trade_a) * at_a, abs(trade_b) * at_b
            turnover = worth_a + worth_b
            fees = turnover * charges.fee_rate
            rate_a = rate_b = charges.slippage_rate
            if charges.impact_rate != 0.0:
                rate_a = slippage_rate(worth_a, liquidity_a[t], charges)
                rate_b = slippage_rate(worth_b, liquidity_b[t], charges)
            slippage = worth_a * rate_a + worth_b * rate_b
            cash -= trade_a * at_a + trade_b * at_b + fees + slippage
            trade_costs += fees + slippage
            units_a += trade_a
            units_b += trade_b
            if pending == _ENTRY:
                pending = _SECOND_IN if slips else 0
            elif pending == _SECOND_IN:
                pending = 0
            elif pending == _EXIT and slips:
                units_a = 0.0
                pending = _SECOND_OUT
            else:
                if keep:
                    value[trades, 0], value[trades, 1] = cash - entry_cash + trade_costs, trade_costs
                    value[trades, 6], value[trades, 7] = price_a, price_b
                    where[trades, 3] = t
                    if not here or (pending == _EXIT and t - where[trades, 2] > 1):
                        where[trades, 7] = 1
                units_a = units_b = 0.0
                filled_side = 0
                trades += 1
                pending = 0
        if keep and filled_side != 0 and not here:
            where[trades, 7] = 1
        while ends[today] < t:
            today += 1
        if keep or filled_side == 0 or t == ends[today]:
            equity = cash
            if filled_side != 0:
                equity += units_a * mark_a[t] + units_b * mark_b[t]
            daily[today] = equity
            if keep:
                book[0, t], book[1, t] = equity, cash
                if filled_side != 0 or turnover != 0.0:
                    book[2, t], book[3, t], book[4, t] = units_a, units_b, filled_side
                    book[5, t], book[6, t], book[7, t], book[8, t] = fees, slippage, carry, turnover
        if pending == _SECOND_IN and t == n - 2:
            # no bar is left to complete the entry and leave again: what is held is closed on the last one
            side = 0
            pending = _EXIT
            if keep:
                where[trades, 2], where[trades, 5], where[trades, 6] = t, 5, t - where[trades, 0]
                value[trades, 3], value[trades, 10] = 0.0, z[t]
        elif pending == 0 and not last:
            # the decision at this bar's close, to be filled on the next bar; a held position needs no more than z
            before = side
            hedge, chance, unlike, priced = np.nan, np.nan, False, True
            if side == 0:
                hedge = hedge_ratio[t]
                priced = not (np.isnan(close_a[t]) or np.isnan(close_b[t]))
                if rule.needs_probability:
                    chance, unlike = probability[t], barred[t]
            broken = False
            if monitor.every != 0:
                # before an entry the test is the same for every rule
                ask = side == 0 and asks_monitor(side, held, cooldown, z[t], rule.entry_z, monitor.every)
                if ask and len(tested) and tested[t] != 0:
                    broken = tested[t] == 2
                else:
                    broken = is_broken(side, held, cooldown, held_beta, z[t], beta[t], rule.entry_z, monitor, t)
                    if ask and len(tested):
                        tested[t] = 2 if broken else 1
            lost = side != 0 and has_lost(Position(units_a, units_b, entry_a, entry_b), close_a[t], close_b[t], rule)
            side, held, cooldown, action, reason = decide(
                side, held, cooldown, z[t], hedge, chance, unlike, broken, lost, priced, t >= n - 2, rule
            )
            if action == 1:
                held_beta = beta[t]
                next_a, next_b = entry_units(side, hedge, close_a[t], close_b[t])
                next_a = _lots_of(next_a, close_a[t], lots.lot_a, lots.min_notional_a, charges.notional)
                next_b = _lots_of(next_b, close_b[t], lots.lot_b, lots.min_notional_b, charges.notional)
                if next_a == 0.0 or next_b == 0.0:  # below the exchange's smallest order: neither leg
                    side = 0
                else:
                    pending = _ENTRY
                    if keep:
                        where[trades, 0], where[trades, 4], where[trades, 7] = t, side, 0
                        value[trades, 8], value[trades, 9], value[trades, 11] = z[t], probability[t], hedge
            elif action == 2:
                pending = _EXIT
                if keep:
                    where[trades, 2], where[trades, 4], where[trades, 5] = t, before, reason
                    where[trades, 6] = t - where[trades, 0]
                    value[trades, 10] = z[t]
        elif pending in (_EXIT, _SECOND_OUT):
            # the strategy is flat and its cool-down runs, whether or not the exit could be filled yet
            cooldown = max(cooldown - 1, 0)
        t += 1
    equity = 1.0
    for d in range(daily.shape[0]):
        equity = equity if np.isnan(daily[d]) else daily[d]
        daily[d] = equity
    return trades


@compiled
def sweep(
    prices: Prices, told: Told, rules: FloatArray, charges: Charges, lots: Lots, monitor: Monitor,
    daily: FloatArray, trades: IntArray,
) -> None:  # fmt: skip
    """``trade`` many rules on the same signals: equity by day in ``daily`` (rules, days), and each rule's trades.

    ``rules`` has one ``Rule`` a row.
    """
    ends = day_ends(prices.day, daily.shape[1])
    tested = np.zeros(told.z.shape[0], dtype=np.uint8)
    book, value, where = np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 0), dtype=np.int64)
    for k in range(rules.shape[0]):
        levels = rules[k]
        rule = Rule(
            levels[0] != 0.0, levels[1], levels[2], levels[3], levels[4], levels[5], levels[6], int(levels[7]),
            int(levels[8]), levels[9],
        )  # fmt: skip
        trades[k] = trade(prices, told, rule, charges, lots, monitor, False, book, value, where, ends, daily[k], tested)
