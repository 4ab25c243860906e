from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mntrading.market.base import SourceBlockedError
from mntrading.market.budget import Budgets, RateBudget, retry_after
from mntrading.market.loopback import ManualClock

NOW = 1_750_000_000.0
LATER = "Sun, 15 Jun 2025 15:07:40 GMT"  # a minute after NOW


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def budget(clock: ManualClock) -> RateBudget:
    return Budgets(clock).of("api.example.com")


def test_requests_are_spaced_by_what_the_one_before_costs(budget: RateBudget, clock: ManualClock) -> None:
    for cost in (0.5, 2.0, 0.1):
        budget.spend(cost)
    assert clock.slept == pytest.approx([0.5, 2.0])


def test_a_host_that_was_idle_is_asked_at_once(budget: RateBudget, clock: ManualClock) -> None:
    budget.spend(1.0)
    clock.sleep(5.0)
    budget.spend(1.0)
    assert clock.slept == [5.0]


def test_a_host_has_one_budget_and_hosts_do_not_share(clock: ManualClock) -> None:
    budgets = Budgets(clock)
    assert budgets.of("a") is budgets.of("a")
    budgets.of("a").refuse(60.0)
    budgets.of("b").spend(1.0)
    assert clock.slept == []


def test_a_refusal_holds_everybody_for_as_long_as_it_says(budget: RateBudget, clock: ManualClock) -> None:
    budget.refuse(7.0)
    budget.refuse(3.0)
    budget.spend(0.0)
    assert clock.slept == [7.0]


def test_refusals_that_say_no_time_double_the_silence_up_to_half_a_minute(
    budget: RateBudget, clock: ManualClock
) -> None:
    for _ in range(7):
        budget.refuse(None)
        budget.refuse(None)  # another thread's request was under way: not one more failure
        budget.spend(0.0)
    assert clock.slept == [1, 2, 4, 8, 16, 30, 30]
    budget.accept()
    budget.refuse(None)
    budget.spend(0.0)
    assert clock.slept[-1] == 1


def test_a_good_answer_during_a_silence_does_not_end_it(budget: RateBudget, clock: ManualClock) -> None:
    for _ in range(2):
        budget.refuse(None)
        budget.accept()  # of a request that was under way
        budget.spend(0.0)
    assert clock.slept == [1, 2]


def test_a_silence_beyond_reason_stops_everybody_and_says_how_long(budget: RateBudget, clock: ManualClock) -> None:
    with pytest.raises(SourceBlockedError, match=r"api\.example\.com: wants no request for 150 minutes"):
        budget.refuse(9000.0)
    with pytest.raises(SourceBlockedError, match="150 minutes"):
        budget.spend(0.0)
    assert clock.slept == []


def test_threads_take_turns() -> None:
    budget = Budgets().of("api.example.com")
    begin = threading.Barrier(4)
    taken: list[float] = []

    def work() -> None:
        begin.wait()
        for _ in range(3):
            budget.spend(0.01)
            taken.append(Budgets().clock.monotonic())

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert max(taken) - min(taken) >= 0.1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": LATER}, 60.0),
        ({"Retry-After": LATER, "Date": "Sun, 15 Jun 2025 15:07:10 GMT"}, 30.0),
        ({"Retry-After": "Sun, 15 Jun 2025 15:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_on_the_server_s_clock(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds
