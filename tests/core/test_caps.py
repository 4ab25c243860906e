"""How much of an entry a cap lets through, and legs on whole lots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mntrading.core.caps import Cap, legs_on_lots, lots_down

weights = st.floats(-2, 2)


@pytest.mark.parametrize(
    ("now", "change", "limit", "share"),
    [
        ([0.1], [0.1], 0.3, 1.0),
        ([0.1], [0.4], 0.3, 0.5),
        ([0.1], [-0.4], 0.1, 0.5),  # through zero to the other side
        ([0.4], [0.1], 0.3, 0.0),
        ([0.4], [-0.05], 0.3, 1.0),  # eases a sum that is beyond its limit
        ([0.4], [-1.0], 0.3, 0.7),  # and not beyond it on the other side
        ([0.2, -0.2], [0.2, -0.2], 0.6, 0.5),
        ([0.2, -0.2], [-0.2, 0.2], 0.1, 1.0),
        ([0.2, 0.0], [-0.4, 0.4], 0.3, 0.625),  # flat, then rising
    ],
)
def test_the_share_that_fits_by_hand(now, change, limit, share):
    cap = Cap("", now, change, limit)
    assert cap.share() == pytest.approx(share)
    assert cap.broken() == (share < 1.0)


def test_a_cap_that_may_not_be_eased_lets_nothing_through_once_it_is_broken():
    assert Cap("", [0.4], [-0.2], 0.3, may_ease=False).share() == 0.0
    assert Cap("", [0.4], [-0.2], 0.3, may_ease=False).broken() is False
    assert Cap("", [0.4], [-0.05], 0.3, may_ease=False).broken() is True


@given(
    legs=st.lists(st.tuples(weights, weights), min_size=1, max_size=3), limit=st.floats(0, 3), may_ease=st.booleans()
)
def test_up_to_the_share_nothing_is_broken_and_a_little_more_would_be(legs, limit, may_ease):
    now, change = zip(*legs, strict=True)
    cap = Cap("", now, change, limit, may_ease)
    share = cap.share()
    assert 0.0 <= share <= 1.0
    allowed = max(limit, cap.total(0.0)) if may_ease else limit
    if share > 0.0:
        assert cap.total(share) <= allowed + 1e-9
    if share < 1.0:
        assert cap.total(min(share + 1e-6, 1.0)) >= min(cap.total(share), limit)
        assert cap.total(1.0) > limit or not may_ease


@given(units=st.floats(-1e6, 1e6), lot=st.sampled_from([0.0, 1e-5, 0.1, 1.0, 300.0]))
def test_lots_round_towards_zero_and_keep_whole_numbers(units, lot):
    down = lots_down(units, lot)
    assert abs(down) <= abs(units) * (1 + 1e-9)
    assert abs(units) - abs(down) < (lot or 1e-300) * (1 + 1e-9)
    assert lots_down(down, lot) == down


@given(
    a=st.floats(0.01, 1e5), b=st.floats(0.01, 1e5), first=st.sampled_from([0.0, 0.01, 1.0, 50.0]),
    second=st.sampled_from([0.0, 0.01, 1.0, 50.0]),
)  # fmt: skip
def test_legs_on_lots_are_never_larger_and_the_first_is_the_truest(a, b, first, second):
    ways = legs_on_lots(a, b, (first, second))
    assert bool(ways) == (lots_down(a, first) > 0 and lots_down(b, second) > 0)
    errors = [abs(y / x / (b / a) - 1) for x, y in ways]
    assert errors == sorted(errors)
    for x, y in ways:
        assert 0 < x <= a * (1 + 1e-9)
        assert 0 < y <= b * (1 + 1e-9)
    if ways:
        plain = lots_down(b, second) / lots_down(a, first) / (b / a) - 1
        assert errors[0] <= abs(plain) + 1e-12
