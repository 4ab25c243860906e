"""The decision step: what one pair does on one bar. Backtest and live inference both call ``decide``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from mntrading.core import break_monitor
from mntrading.core.break_monitor import Monitor
from mntrading.core.compiled import compiled
from mntrading.core.types import FloatArray
from mntrading.params import StrategyParams

HOLD: Final = 0
ENTER: Final = 1
EXIT: Final = 2

REASONS: Final = (
    "",
    "entry: z beyond the entry level",
    "reverted: z back at the exit level",
    "stop: z beyond the stop level",
    "time: held longer than the time stop",
    "closing: pair leaves the roster or its window ends",
    "no entry: z or hedge ratio is not known",
    "no entry: z within the entry level",
    "no entry: probability below the threshold",
    "no entry: cooling down after a stop or a break",
    "no entry: entries are not allowed now",
    "no entry: hedge ratio outside its band",
    "no entry: z beyond the stop level",
    "no entry: unlike the training window",
    "break: nothing draws the held spread back any more",
    "no entry: nothing draws the spread back any more",
    "loss: more than a trade may lose",
    "off: a leg had no bar to be filled on",
)
"""Texts of the reason codes that ``decide`` returns, and of an entry that was not filled."""

OFF: Final = 17
"""Reason of an entry that was decided and not filled."""

NEVER: Final = 2**62
"""Time stop of a pair that has none."""


class Rule(NamedTuple):
    """The levels of ``decide`` as the kernels take them, for one pair in one window."""

    needs_probability: bool
    entry_z: float
    exit_z: float
    stop_z: float
    probability_threshold: float
    min_hedge_ratio: float
    max_hedge_ratio: float
    max_holding_bars: int
    cooldown_bars: int
    max_loss: float


class Position(NamedTuple):
    """What a pair holds per unit of notional: units frozen at the entry decision, and the prices of their fills."""

    units_a: float
    units_b: float
    price_a: float
    price_b: float


@dataclass(frozen=True)
class StrategyState:
    """What a pair remembers from bar to bar.

    Parameters
    ----------
    side
        1 long the spread (long the dependent leg), -1 short, 0 flat.
    bars_held
        Bars since the entry decision.
    cooldown
        Bars left before a new entry is allowed.
    beta
        Slope of the spread at the entry decision, which the break monitor holds on to; 0 while flat.
    units_a, units_b
        Of each leg per unit of notional, frozen at the entry decision; 0 while flat.
    price_a, price_b
        They were filled at; 0 while flat and before the fill.
    """

    side: int = 0
    bars_held: int = 0
    cooldown: int = 0
    beta: float = 0.0
    units_a: float = 0.0
    units_b: float = 0.0
    price_a: float = 0.0
    price_b: float = 0.0

    @property
    def position(self) -> Position:
        """What is held."""
        return Position(self.units_a, self.units_b, self.price_a, self.price_b)


@compiled
def asks_monitor(side: int, bars_held: int, cooldown: int, z: float, entry_z: float, every: int) -> bool:
    """Whether the break monitor is asked on a bar, as ``is_broken`` says."""
    if every == 0:
        return False
    return (bars_held + 1) % every == 0 if side != 0 else cooldown == 0 and abs(z) >= entry_z


@compiled
def is_broken(
    side: int, bars_held: int, cooldown: int, beta: float, z: float, beta_now: float, entry_z: float,
    monitor: Monitor, row: int,
) -> bool:  # fmt: skip
    """The break monitor's word on a bar, where the decision needs it; False where it does not.

    It is asked before an entry, with the slope the entry would be made with, and every ``monitor.every`` bars of a
    position, with the slope it was entered with.

    Look-ahead: uses bars up to and including ``row``.
    """
    if not asks_monitor(side, bars_held, cooldown, z, entry_z, monitor.every):
        return False
    return break_monitor.broken(monitor, beta if side != 0 else beta_now, row)


@compiled
def entry_units(side: int, hedge_ratio: float, close_a: float, close_b: float) -> tuple[float, float]:
    """Units of both legs for one unit of notional, split by the hedge ratio at the closes of the decision's bar."""
    share_a = 1.0 / (1.0 + hedge_ratio)
    return side * share_a / close_a, -side * share_a * hedge_ratio / close_b


@compiled
def has_lost(position: Position, close_a: float, close_b: float, rule: Rule) -> bool:
    """Whether a position is worth so much less than at its fills that it has to go; False where a close is missing."""
    earned = position.units_a * (close_a - position.price_a) + position.units_b * (close_b - position.price_b)
    return bool(earned <= -rule.max_loss)


@compiled
def decide(
    side: int,
    bars_held: int,
    cooldown: int,
    z: float,
    hedge_ratio: float,
    probability: float,
    barred: bool,
    broken: bool,
    lost: bool,
    entries_allowed: bool,
    closing: bool,
    rule: Rule,
) -> tuple[int, int, int, int, int]:
    """One bar of one pair: state and what is known at the bar's close → state, action and reason.

    Look-ahead: none; the action is filled on the next bar.

    Returns
    -------
    side, bars_held, cooldown
        The state after the decision.
    action
        ``HOLD``, ``ENTER`` (the new side is in ``side``) or ``EXIT``.
    reason
        Index into ``REASONS``.
    """
    if side != 0:
        bars_held += 1
        reason = 0
        if closing:
            reason = 5
        elif bars_held >= rule.max_holding_bars:
            reason = 4
        elif not np.isnan(z):
            if side * z >= -rule.exit_z:
                reason = 2
            elif side * z <= -rule.stop_z:
                reason = 3
        if reason == 0 and lost:
            reason = 16
        if reason == 0 and broken:
            reason = 14
        if reason == 0:
            return side, bars_held, 0, 0, 0
        return 0, 0, rule.cooldown_bars if reason in (3, 14, 16) else 0, 2, reason
    if cooldown > 0:
        return 0, 0, cooldown - 1, 0, 9
    if closing or not entries_allowed:
        return 0, 0, 0, 0, 10
    if np.isnan(z) or np.isnan(hedge_ratio):
        return 0, 0, 0, 0, 6
    if abs(z) < rule.entry_z:
        return 0, 0, 0, 0, 7
    if abs(z) >= rule.stop_z:
        return 0, 0, 0, 0, 12
    if hedge_ratio < rule.min_hedge_ratio or hedge_ratio > rule.max_hedge_ratio:
        return 0, 0, 0, 0, 11
    if rule.needs_probability and barred:
        return 0, 0, 0, 0, 13
    if rule.needs_probability and not probability >= rule.probability_threshold:
        return 0, 0, 0, 0, 8
    if broken:
        return 0, 0, 0, 0, 15
    return (-1 if z > 0 else 1), 0, 0, 1, 1


@compiled
def next_entry(z: FloatArray, first: int, rule: Rule) -> int:
    """First row from ``first`` on which a pair that is flat and not cooling down may enter, else the number of rows.

    ``decide`` does nothing on the rows before it, whatever else is known of them, so a caller may skip them.
    """
    # unsigned, so never a row from the end: that halves the time of the loop
    row, rows = np.uint64(first), np.uint64(z.shape[0])
    while row < rows and not (abs(z[row]) >= rule.entry_z and abs(z[row]) < rule.stop_z):
        row += np.uint64(1)
    return int(np.int64(row))


@compiled
def next_exit(
    z: FloatArray, close_a: FloatArray, close_b: FloatArray, first: int, end: int, side: int, bars_held: int,
    position: Position, rule: Rule, every: int,
) -> int:  # fmt: skip
    """First row from ``first`` up to ``end`` on which a held position may be left, ``end`` where there is none.

    ``decide`` holds on the rows before it, provided that none is ``closing`` and that the break monitor is asked every
    ``every`` bars of a position (0 for never), so a caller may skip them.

    Parameters
    ----------
    bars_held
        Before the decision on ``first``.
    """
    end = min(end, first + max(rule.max_holding_bars - bars_held - 1, 0))
    if every > 0:
        end = min(end, first + every - 1 - bars_held % every)
    low, high = (-rule.stop_z, -rule.exit_z) if side > 0 else (rule.exit_z, rule.stop_z)
    row, rows = np.uint64(first), np.uint64(max(end, first))
    if rule.max_loss == np.inf:
        while row < rows and not (z[row] >= high or z[row] <= low):
            row += np.uint64(1)
    else:
        while row < rows and not (
            z[row] >= high or z[row] <= low or has_lost(position, close_a[row], close_b[row], rule)
        ):
            row += np.uint64(1)
    return int(np.int64(row))


def rule_of(
    params: StrategyParams, *, half_life_bars: float | None, needs_probability: bool, threshold: float | None = None
) -> Rule:
    """The levels one pair is traded by in one window.

    Parameters
    ----------
    params
        The strategy.
    half_life_bars
        Of the pair's formation window, for the time stop; None for none.
    needs_probability
        Whether an entry needs a model's word, as ``asks_model`` says.
    threshold
        Probability the model itself asks for; None or NaN for the strategy's.
    """
    return Rule(
        needs_probability, params.entry_z, params.exit_z, params.stop_z, entry_threshold(params, threshold),
        params.min_hedge_ratio, params.max_hedge_ratio, max_holding_bars(params, half_life_bars), params.cooldown_bars,
        np.inf if params.max_loss is None else params.max_loss,
    )  # fmt: skip


def max_holding_bars(params: StrategyParams, half_life_bars: float | None) -> int:
    """Time stop in bars: a multiple of the pair's half-life, ``NEVER`` where that is not known or infinite."""
    if half_life_bars is None or not np.isfinite(half_life_bars):
        return NEVER
    return max(1, int(np.ceil(params.max_holding_half_lives * half_life_bars)))


def asks_model(params: StrategyParams, has_model: bool) -> bool:
    """Whether entries need a model's probability: by ``model`` always, by ``auto`` where there is one."""
    return params.signals_from == "model" or (params.signals_from == "auto" and has_model)


def entry_threshold(params: StrategyParams, own: float | None) -> float:
    """Probability an entry needs: the model's own threshold where it has one, else the fixed one.

    Backtest and live inference both ask here, so a model is held to the same number in both.
    """
    return params.probability_threshold if own is None or np.isnan(own) else float(own)


def confidence(params: StrategyParams, *, z: float, probability: float | None, threshold: float | None = None) -> float:
    """Rank of an entry, 0 to 1: the probability, or for an entry on z alone its place between 0 and the threshold.

    An entry that a model has confirmed always outranks one that none was asked about: a probability that was held to a
    threshold of the model's own is stretched so that the two thresholds meet.
    """
    fixed, needed = params.probability_threshold, entry_threshold(params, threshold)
    if probability is None or not np.isfinite(probability):
        return fixed * min(abs(z) / params.stop_z, 1.0) if np.isfinite(z) else 0.0
    if needed == fixed:
        return float(probability)
    if probability < needed:
        return float(fixed * probability / needed)
    return float(fixed + (1 - fixed) * (probability - needed) / (1 - needed)) if needed < 1 else 1.0


def step(
    state: StrategyState,
    rule: Rule,
    *,
    z: float,
    hedge_ratio: float,
    probability: float | None,
    fill: tuple[float, float],
    close: tuple[float, float],
    barred: bool = False,
    entries_allowed: bool = True,
    closing: bool = False,
    beta: float = 0.0,
    monitor: Monitor | None = None,
    row: int = 0,
) -> tuple[StrategyState, int, str]:
    """``decide`` for one live bar: state → (state, action, reason in words).

    A probability that is None or NaN allows no entry where the model is asked for, nor does one below the rule's
    threshold, nor a row that is barred as unlike the training window; exits never need a model. An entry decided on the
    bar before is filled first, at ``fill``; it is off where that is not known, as in the engine. With a ``monitor`` the
    slope ``beta`` of the bar is remembered from an entry on, and ``row`` is the bar's in the monitor's prices.

    Look-ahead: uses the bar that has just closed and the state.

    Parameters
    ----------
    fill, close
        Prices of both legs on the bar: those that orders of the bar before were filled at, and the closes. NaN where a
        bar is missing.
    """
    if state.side and not state.bars_held:
        known = not (np.isnan(fill[0]) or np.isnan(fill[1]))
        state = replace(state, price_a=float(fill[0]), price_b=float(fill[1])) if known else StrategyState()
    watch = break_monitor.off() if monitor is None else monitor
    broken = is_broken(state.side, state.bars_held, state.cooldown, state.beta, z, beta, rule.entry_z, watch, row)
    lost = state.side != 0 and has_lost(state.position, close[0], close[1], rule)
    side, held, cooldown, action, reason = decide(
        state.side, state.bars_held, state.cooldown, z, hedge_ratio,
        np.nan if probability is None else probability, barred, broken, lost, entries_allowed, closing, rule,
    )  # fmt: skip
    after = StrategyState(cooldown=int(cooldown))
    if action == ENTER:
        units = entry_units(side, hedge_ratio, close[0], close[1])
        after = StrategyState(int(side), beta=float(beta) if watch.every else 0.0, units_a=units[0], units_b=units[1])
    elif side:
        after = replace(state, bars_held=int(held), cooldown=int(cooldown))
    return after, int(action), REASONS[reason]
