"""The decision step: one row per reason, the order of the reasons, and the live step beside it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import UNWATCHED

from mntrading.core import strategy
from mntrading.core.strategy import (
    ENTER,
    EXIT,
    HOLD,
    NEVER,
    OFF,
    REASONS,
    Position,
    Rule,
    StrategyState,
    asks_monitor,
    decide,
    has_lost,
    max_holding_bars,
    next_entry,
    next_exit,
    rule_of,
    step,
)
from mntrading.params import StrategyParams

NAN = math.nan
RULE = StrategyParams(
    signals_from="auto", probability_threshold=0.6, entry_z=2.0, exit_z=0.5, stop_z=4.0, max_holding_half_lives=2.0,
    cooldown_bars=3, max_loss=None, min_hedge_ratio=0.2, max_hedge_ratio=5.0, break_monitor=UNWATCHED,
)  # fmt: skip
ENTRY = "entry: z beyond the entry level"
FLAT, LONG, SHORT = StrategyState(), StrategyState(1, 2), StrategyState(-1, 2)
PRICES = {"fill": (10.0, 20.0), "close": (10.0, 20.0)}


def on(state: StrategyState, **known: object) -> tuple[StrategyState, int, str]:
    given = {
        "z": 0.0, "hedge_ratio": 1.0, "probability": 0.9, "half_life_bars": 10.0, "needs_probability": True,
        "threshold": None,
    } | PRICES | known  # fmt: skip
    asked = {name: given.pop(name) for name in ("half_life_bars", "needs_probability", "threshold")}
    return step(state, rule_of(RULE, **asked), **given)


@pytest.mark.parametrize(
    ("state", "known", "after", "action", "reason"),
    [
        (FLAT, {"z": 2.0}, StrategyState(-1), ENTER, "entry: z beyond the entry level"),
        (FLAT, {"z": 3.99}, StrategyState(-1), ENTER, "entry: z beyond the entry level"),
        (FLAT, {"z": -2.0}, StrategyState(1), ENTER, "entry: z beyond the entry level"),
        (FLAT, {"z": -3.0, "probability": 0.6}, StrategyState(1), ENTER, "entry: z beyond the entry level"),
        (FLAT, {"z": 1.99}, FLAT, HOLD, "no entry: z within the entry level"),
        (FLAT, {"z": -1.99}, FLAT, HOLD, "no entry: z within the entry level"),
        (FLAT, {"z": 4.0}, FLAT, HOLD, "no entry: z beyond the stop level"),
        (FLAT, {"z": -math.inf}, FLAT, HOLD, "no entry: z beyond the stop level"),
        (FLAT, {"z": NAN}, FLAT, HOLD, "no entry: z or hedge ratio is not known"),
        (FLAT, {"z": 3.0, "hedge_ratio": NAN}, FLAT, HOLD, "no entry: z or hedge ratio is not known"),
        (FLAT, {"z": 3.0, "hedge_ratio": 0.19}, FLAT, HOLD, "no entry: hedge ratio outside its band"),
        (FLAT, {"z": 3.0, "hedge_ratio": 5.01}, FLAT, HOLD, "no entry: hedge ratio outside its band"),
        (FLAT, {"z": 3.0, "hedge_ratio": -1.0}, FLAT, HOLD, "no entry: hedge ratio outside its band"),
        (FLAT, {"z": 3.0, "hedge_ratio": 0.2}, StrategyState(-1), ENTER, "entry: z beyond the entry level"),
        (FLAT, {"z": 3.0, "probability": 0.59}, FLAT, HOLD, "no entry: probability below the threshold"),
        (FLAT, {"z": 3.0, "probability": None}, FLAT, HOLD, "no entry: probability below the threshold"),
        (FLAT, {"z": 3.0, "probability": NAN}, FLAT, HOLD, "no entry: probability below the threshold"),
        (FLAT, {"z": 3.0, "threshold": 0.91}, FLAT, HOLD, "no entry: probability below the threshold"),
        (FLAT, {"z": 3.0, "probability": 0.3, "threshold": 0.3}, StrategyState(-1), ENTER, ENTRY),
        (FLAT, {"z": 3.0, "barred": True}, FLAT, HOLD, "no entry: unlike the training window"),
        (FLAT, {"z": 3.0, "barred": True, "probability": NAN}, FLAT, HOLD, "no entry: unlike the training window"),
        (FLAT, {"z": 3.0, "barred": True, "needs_probability": False}, StrategyState(-1), ENTER, ENTRY),
        (LONG, {"z": -0.5, "barred": True}, FLAT, EXIT, "reverted: z back at the exit level"),
        (LONG, {"z": -2.0, "barred": True}, StrategyState(1, 3), HOLD, ""),
        (FLAT, {"z": 3.0, "entries_allowed": False}, FLAT, HOLD, "no entry: entries are not allowed now"),
        (FLAT, {"z": 3.0, "closing": True}, FLAT, HOLD, "no entry: entries are not allowed now"),
        (
            StrategyState(cooldown=2), {"z": 3.0}, StrategyState(cooldown=1), HOLD,
            "no entry: cooling down after a stop or a break",
        ),
        (LONG, {"z": -2.0}, StrategyState(1, 3), HOLD, ""),
        (LONG, {"z": -0.51}, StrategyState(1, 3), HOLD, ""),
        (LONG, {"z": -3.99}, StrategyState(1, 3), HOLD, ""),
        (LONG, {"z": NAN}, StrategyState(1, 3), HOLD, ""),
        (LONG, {"z": -2.0, "hedge_ratio": NAN, "probability": NAN}, StrategyState(1, 3), HOLD, ""),
        (LONG, {"z": -2.0, "entries_allowed": False}, StrategyState(1, 3), HOLD, ""),
        (LONG, {"z": -0.5}, FLAT, EXIT, "reverted: z back at the exit level"),
        (LONG, {"z": 7.0}, FLAT, EXIT, "reverted: z back at the exit level"),
        (LONG, {"z": -4.0}, StrategyState(cooldown=3), EXIT, "stop: z beyond the stop level"),
        (SHORT, {"z": 0.51}, StrategyState(-1, 3), HOLD, ""),
        (SHORT, {"z": 0.5}, FLAT, EXIT, "reverted: z back at the exit level"),
        (SHORT, {"z": -7.0}, FLAT, EXIT, "reverted: z back at the exit level"),
        (SHORT, {"z": 4.0}, StrategyState(cooldown=3), EXIT, "stop: z beyond the stop level"),
        (
            StrategyState(-1, 18), {"z": 2.0}, StrategyState(-1, 19), HOLD, "",
        ),
        (
            StrategyState(-1, 19), {"z": 2.0}, FLAT, EXIT, "time: held longer than the time stop",
        ),
        (
            StrategyState(-1, 19), {"z": NAN}, FLAT, EXIT, "time: held longer than the time stop",
        ),
        (
            StrategyState(-1, 10**9), {"z": 2.0, "half_life_bars": None}, StrategyState(-1, 10**9 + 1), HOLD, "",
        ),
        (SHORT, {"z": 2.0, "closing": True}, FLAT, EXIT, "closing: pair leaves the roster or its window ends"),
        (SHORT, {"z": NAN, "closing": True}, FLAT, EXIT, "closing: pair leaves the roster or its window ends"),
    ],
)  # fmt: skip
def test_decision(state, known, after, action, reason):
    found, *told = on(state, **known)
    assert (found.side, found.bars_held, found.cooldown, *told) == (
        after.side, after.bars_held, after.cooldown, action, reason,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [
        ({"closing": True}, {"half_life_bars": 0.1}),
        ({"half_life_bars": 0.1}, {"z": 0.0}),
        ({"half_life_bars": 0.1}, {"z": 9.0}),
    ],
)
def test_of_two_reasons_to_leave_the_first_of_closing_time_and_z_is_told(stronger, weaker):
    alone = on(SHORT, z=2.0) if "z" in stronger else on(SHORT, **({"z": 2.0} | stronger))
    assert on(SHORT, **({"z": 2.0} | weaker | stronger))[2] == alone[2]


def test_a_model_that_is_not_asked_for_needs_no_probability():
    assert on(FLAT, z=3.0, probability=None, needs_probability=False)[1] == ENTER


def decided(
    state: StrategyState, *, z: float, broken: bool = False, lost: bool = False
) -> tuple[StrategyState, int, str]:
    rule = rule_of(RULE, half_life_bars=None, needs_probability=False)
    *after, action, reason = decide(
        state.side, state.bars_held, state.cooldown, z, 1.0, NAN, False, broken, lost, True, False, rule
    )
    return StrategyState(*after), action, REASONS[reason]


def test_a_broken_pair_is_left_and_cools_down_and_is_not_entered():
    left = "break: nothing draws the held spread back any more"
    assert decided(LONG, z=-2.5, broken=True) == (StrategyState(cooldown=3), EXIT, left)
    assert decided(LONG, z=NAN, broken=True) == (StrategyState(cooldown=3), EXIT, left)
    assert decided(LONG, z=0.0, broken=True)[2] == "reverted: z back at the exit level"
    assert decided(LONG, z=-4.0, broken=True)[2] == "stop: z beyond the stop level"
    assert decided(FLAT, z=-2.5, broken=True) == (FLAT, HOLD, "no entry: nothing draws the spread back any more")
    assert decided(FLAT, z=-1.5, broken=True)[2] == "no entry: z within the entry level"


def test_a_trade_that_lost_too_much_is_left_and_cools_down_whatever_its_z():
    left = "loss: more than a trade may lose"
    assert decided(LONG, z=-2.5, lost=True) == (StrategyState(cooldown=3), EXIT, left)
    assert decided(LONG, z=NAN, lost=True) == (StrategyState(cooldown=3), EXIT, left)
    assert decided(LONG, z=-2.5, lost=True, broken=True)[2] == left
    assert decided(LONG, z=-4.0, lost=True)[2] == "stop: z beyond the stop level"


def test_a_live_entry_is_filled_on_the_next_bar_and_left_when_it_has_lost_what_it_may():
    rule = rule_of(RULE.model_copy(update={"max_loss": 0.05}), half_life_bars=None, needs_probability=False)
    told = {"hedge_ratio": 1.0, "probability": None}
    state, action, _ = step(FLAT, rule, z=3.0, fill=(9.0, 9.0), close=(10.0, 20.0), **told)
    assert action == ENTER
    assert state.position == (-0.05, 0.025, 0.0, 0.0)
    # short half a unit of notional in A at 10 and long half in B at 20; filled at 10 and 20
    state, _, _ = step(state, rule, z=3.0, fill=(10.0, 20.0), close=(10.9, 20.0), **told)
    assert state == StrategyState(-1, 1, 0, 0.0, -0.05, 0.025, 10.0, 20.0)
    for close, reason in (((10.99, 20.0), ""), ((11.0, 20.0), "loss: more than a trade may lose"), ((NAN, 20.0), "")):
        assert step(state, rule, z=3.0, fill=close, close=close, **told)[2] == reason


def test_a_live_entry_whose_fill_is_missing_is_off():
    rule = rule_of(RULE, half_life_bars=None, needs_probability=False)
    state = StrategyState(-1, units_a=-0.05, units_b=0.025)
    told = {"z": NAN, "hedge_ratio": NAN, "probability": None, "close": (NAN, 20.0)}
    assert step(state, rule, fill=(NAN, 20.0), **told)[0] == FLAT


def test_every_reason_can_be_given():
    given_reasons = {
        on(FLAT, z=2.5)[2], on(LONG, z=0.0)[2], on(LONG, z=-5.0)[2], on(LONG, z=-2.0, half_life_bars=0.5)[2],
        on(LONG, z=-2.0, closing=True)[2], on(LONG, z=-2.0)[2], on(FLAT, z=NAN)[2], on(FLAT, z=1.0)[2],
        on(FLAT, z=3.0, probability=0.1)[2], on(StrategyState(cooldown=1), z=3.0)[2],
        on(FLAT, z=3.0, closing=True)[2], on(FLAT, z=3.0, hedge_ratio=9.0)[2], on(FLAT, z=5.0)[2],
        on(FLAT, z=3.0, barred=True)[2], *(decided(state, z=-2.5, broken=True)[2] for state in (FLAT, LONG)),
        decided(LONG, z=-2.5, lost=True)[2],
    }  # fmt: skip
    assert given_reasons == set(REASONS) - {REASONS[OFF]}  # which is the fill's to give


def test_a_stop_keeps_the_pair_out_for_as_many_bars_as_it_cools_down():
    state, action, _ = on(SHORT, z=4.5)
    assert action == EXIT
    actions = []
    for _ in range(5):
        state, action, _ = on(state, z=3.0)
        actions.append(action)
    assert actions == [HOLD, HOLD, HOLD, ENTER, HOLD]


def test_time_stop_is_a_multiple_of_the_half_life_rounded_up():
    assert max_holding_bars(RULE, 10.0) == 20
    assert max_holding_bars(RULE, 10.1) == 21
    assert max_holding_bars(RULE, 0.0) == 1
    assert max_holding_bars(RULE, None) == NEVER
    assert max_holding_bars(RULE, math.inf) == NEVER
    assert max_holding_bars(RULE, NAN) == NEVER


numbers = st.one_of(st.just(NAN), st.floats(-6, 6))


@settings(max_examples=300, deadline=None)
@given(
    side=st.sampled_from([-1, 0, 1]),
    held=st.integers(0, 30),
    cooldown=st.integers(0, 3),
    z=numbers,
    hedge_ratio=numbers,
    probability=st.one_of(st.none(), st.just(NAN), st.floats(0, 1)),
    half_life=st.one_of(st.none(), st.floats(0, 20)),
    threshold=st.one_of(st.none(), st.just(NAN), st.floats(0, 1)),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_the_live_step_is_the_backtests_decision(
    side, held, cooldown, z, hedge_ratio, probability, half_life, threshold, flags
):
    needs, allowed, closing, barred = flags
    least = 0.6 if threshold is None or math.isnan(threshold) else threshold
    state = StrategyState(side, held, cooldown)
    after, action, reason = step(
        state, rule_of(RULE, half_life_bars=half_life, needs_probability=needs, threshold=threshold), z=z,
        hedge_ratio=hedge_ratio, probability=probability, barred=barred, entries_allowed=allowed, closing=closing,
        **PRICES,
    )  # fmt: skip
    rule = Rule(needs, 2.0, 0.5, 4.0, least, 0.2, 5.0, max_holding_bars(RULE, half_life), 3, math.inf)
    chance = np.nan if probability is None else probability
    expected = decide(side, held, cooldown, z, hedge_ratio, chance, barred, False, False, allowed, closing, rule)
    assert (after.side, after.bars_held, after.cooldown, action) == expected[:4]
    assert reason == REASONS[expected[4]]
    assert (action == ENTER) == (side == 0 and after.side != 0)
    assert (action == EXIT) == (side != 0 and after.side == 0)
    assert expected == decide.py_func(
        side, held, cooldown, z, hedge_ratio, chance, barred, False, False, allowed, closing, rule
    )


@pytest.mark.parametrize(
    ("source", "has_model", "asked"),
    [("model", True, True), ("model", False, True), ("auto", True, True), ("auto", False, False), ("z", True, False)],
)
def test_a_model_is_asked_as_the_parameters_say(params, source, has_model, asked):
    rule = params.backtest.strategy.model_copy(update={"signals_from": source})
    assert strategy.asks_model(rule, has_model) is asked


def test_an_entry_that_a_model_confirmed_outranks_one_on_z_alone(params):
    rule = params.backtest.strategy
    least = strategy.confidence(rule, z=rule.entry_z, probability=rule.probability_threshold)
    on_z = [strategy.confidence(rule, z=z, probability=None) for z in (rule.entry_z, -3.0, 99.0)]
    assert on_z == sorted(on_z)
    assert max(on_z) <= least
    assert strategy.confidence(rule, z=float("nan"), probability=None) == 0.0


@pytest.mark.parametrize("own", [0.05, 0.3, 0.55, 0.9])
def test_an_entry_by_a_models_own_threshold_outranks_one_on_z_alone_too(params, own):
    rule = params.backtest.strategy
    on_z = strategy.confidence(rule, z=99.0, probability=None)
    ranks = [strategy.confidence(rule, z=2.0, probability=p, threshold=own) for p in (own / 2, own, (1 + own) / 2, 1.0)]
    assert ranks == sorted(ranks)
    assert ranks[0] < on_z <= ranks[1]
    assert ranks[-1] == pytest.approx(1.0)


def test_without_a_threshold_of_its_own_a_probability_is_its_rank(params):
    rule = params.backtest.strategy
    for threshold in (None, NAN, rule.probability_threshold):
        assert strategy.confidence(rule, z=2.0, probability=0.7, threshold=threshold) == 0.7
    assert strategy.confidence(rule, z=2.0, probability=1.0, threshold=1.0) == 1.0


# ------------------------------------------------------------------- rows on which nothing is decided

LEVELS = st.sampled_from([-4.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
ROWS = st.lists(
    st.one_of(LEVELS, st.floats(-5, 5), st.sampled_from([NAN, math.inf, -math.inf])), min_size=5, max_size=40
)
PRICE = st.one_of(st.just(NAN), st.floats(5, 30))
RULES = st.builds(
    Rule,
    needs_probability=st.booleans(),
    entry_z=st.sampled_from([1.0, 2.0, 3.0]),
    exit_z=st.sampled_from([0.0, 0.5]),
    stop_z=st.sampled_from([3.0, 4.0, math.inf]),
    probability_threshold=st.just(0.5),
    min_hedge_ratio=st.just(0.2),
    max_hedge_ratio=st.just(5.0),
    max_holding_bars=st.one_of(st.just(NEVER), st.integers(1, 10)),
    cooldown_bars=st.integers(0, 3),
    max_loss=st.sampled_from([0.05, 0.5, math.inf]),
)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, rule=RULES, first=st.integers(0, 5), data=st.data())
def test_on_the_rows_a_flat_pair_skips_it_would_have_done_nothing(rows, rule, first, data):
    z = np.array(rows)
    found = next_entry(z, first, rule)
    assert first <= found <= len(z)
    for value in z[first:found]:
        rest = data.draw(st.tuples(st.sampled_from([1.0, 6.0, NAN]), st.sampled_from([0.9, NAN]), *[st.booleans()] * 5))
        assert decide(0, 0, 0, value, *rest, rule)[:4] == (0, 0, 0, HOLD)
    if found < len(z):  # and no row is skipped for nothing
        assert decide(0, 0, 0, z[found], 1.0, 0.9, False, False, False, True, False, rule)[3] == ENTER


@settings(max_examples=300, deadline=None)
@given(
    rows=ROWS, rule=RULES, first=st.integers(0, 5), side=st.sampled_from([-1, 1]), held=st.integers(0, 8),
    every=st.integers(0, 7), data=st.data(),
)  # fmt: skip
def test_on_the_rows_a_held_position_skips_it_would_have_been_kept(rows, rule, first, side, held, every, data):
    z = np.array(rows)
    close = [np.array(data.draw(st.lists(PRICE, min_size=len(rows), max_size=len(rows)))) for _ in "ab"]
    position = Position(0.05 * side, -0.025 * side, 10.0, 20.0)
    found = next_exit(z, *close, first, len(z), side, held, position, rule, every)
    assert first <= found <= len(z)
    lost = [has_lost(position, a, b, rule) for a, b in zip(*close, strict=True)]
    for value, gone in zip(z[first:found], lost[first:found], strict=True):
        rest = data.draw(st.tuples(st.sampled_from([1.0, 6.0, NAN]), st.sampled_from([0.9, NAN]), st.booleans()))
        entries_allowed = data.draw(st.booleans())
        assert not asks_monitor(side, held, 0, value, rule.entry_z, every)
        decision = decide(side, held, 0, value, *rest, False, gone, entries_allowed, False, rule)
        assert decision == (side, held + 1, 0, HOLD, 0)
        held += 1
    if found < len(z):
        asked = asks_monitor(side, held, 0, z[found], rule.entry_z, every)
        assert decide(side, held, 0, z[found], 1.0, 0.9, False, asked, lost[found], True, False, rule)[3] == EXIT
