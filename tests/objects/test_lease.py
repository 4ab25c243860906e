"""The lease against a store in memory: who gets it, who is refused, when it is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kept_store import KeptStore

from mntrading.core.errors import LockedError, ParameterError
from mntrading.objects import lease as lease_module
from mntrading.objects.conditional import Verdict, probe
from mntrading.objects.lease import Lease, LeaseLostError, lease_of
from mntrading.objects.store import StoreError

A, B = {"run_id": "A", "pipelines": ["full_cycle"], "started_at": "T", "host": "h"}, {"run_id": "B"}
TTL = 120.0


class Clock:
    """This machine's clock, moved by the test."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(lease_module, "clock", moved)
    return moved


@pytest.fixture
def store() -> KeptStore:
    return KeptStore()


@pytest.fixture
def taken() -> Iterator[list[Lease]]:
    """Leases whose beat is stopped after the test."""
    leases: list[Lease] = []
    yield leases
    for one in leases:
        one._ended.set()


def take(store: KeptStore, about: dict[str, Any], taken: list[Lease], **more: Any) -> Lease:
    one = Lease(store, **more)  # type: ignore[arg-type]
    one.acquire(about)
    taken.append(one)
    return one


def test_second_starter_is_refused_with_the_run_id_of_the_first(
    store: KeptStore, clock: Clock, taken: list[Lease]
) -> None:
    take(store, A, taken)
    before = dict(store.objects)
    with pytest.raises(LockedError, match=r"run A \(full_cycle, since T, on h\) holds the storage root") as raised:
        Lease(store).acquire(B)  # type: ignore[arg-type]
    assert "120 s" in str(raised.value.fix)
    assert store.objects == before


def test_released_lease_is_followed_at_once_by_the_next_number(
    store: KeptStore, clock: Clock, taken: list[Lease]
) -> None:
    first = take(store, A, taken)
    first.release()
    second = Lease(store)  # type: ignore[arg-type]
    assert second.acquire(B) is None
    taken.append(second)
    assert (first.epoch, second.epoch) == (1, 2)
    assert json.loads(store.objects[".lease/000002.json"][0])["run_id"] == "B"


@pytest.mark.parametrize(("silent", "followed"), [(TTL - 1, False), (TTL, True)])
def test_silent_holder_is_followed_at_its_time_to_live_on_the_servers_clock(
    store: KeptStore, clock: Clock, taken: list[Lease], silent: float, followed: bool
) -> None:
    take(store, A, taken)
    clock.now += 10_000  # this machine's clock says nothing of another run
    store.now += silent
    if not followed:
        with pytest.raises(LockedError, match="run A"):
            Lease(store).acquire(B)  # type: ignore[arg-type]
        return
    second = Lease(store)  # type: ignore[arg-type]
    before = second.acquire(B)
    taken.append(second)
    assert before is not None
    assert (before.about["run_id"], second.epoch) == ("A", 2)


def test_beat_keeps_the_lease_for_as_long_as_it_is_answered(store: KeptStore, clock: Clock, taken: list[Lease]) -> None:
    first = take(store, A, taken)
    for _ in range(10):
        clock.now += TTL / 3
        store.now += TTL / 3
        first.beat()
        first.check()
        with pytest.raises(LockedError):
            Lease(store).acquire(B)  # type: ignore[arg-type]


def test_holder_gives_up_at_half_its_time_and_takes_nothing_up_again(
    store: KeptStore, clock: Clock, taken: list[Lease]
) -> None:
    first = take(store, A, taken)
    clock.now += TTL / 2
    first.check()
    clock.now += 1
    with pytest.raises(LeaseLostError, match="not acknowledged for 61 s"):
        first.check("s3://b/x.json")
    clock.now = 50.0
    with pytest.raises(LeaseLostError):
        first.beat()
    assert not [call for call in store.calls if call.startswith("put .lease/000001.beat")][1:]


def test_store_that_is_down_ends_the_lease_only_when_time_is_up(
    store: KeptStore, clock: Clock, taken: list[Lease]
) -> None:
    first = take(store, A, taken)
    store.down = True
    clock.now += 20
    with pytest.raises(StoreError):
        first.beat()
    first.check()
    store.down = False
    clock.now += 20
    first.beat()
    clock.now += TTL / 2
    first.check()


def test_followed_holder_finds_out_at_its_next_beat_and_leaves_the_other_alone(
    store: KeptStore, clock: Clock, taken: list[Lease]
) -> None:
    first = take(store, A, taken)
    store.now += TTL
    second = take(store, B, taken)
    with pytest.raises(LeaseLostError, match="B has followed it"):
        first.beat()
    first.release()
    assert ".lease/000001.released" not in store.objects
    second.beat()
    second.check()


def test_claim_that_was_written_over_is_lost_at_the_next_beat(
    store: KeptStore, clock: Clock, taken: list[Lease]
) -> None:
    first = take(store, A, taken)
    store.objects[".lease/000001.json"] = (json.dumps({"run_id": "B", "token": "other"}).encode(), store.now, {})
    with pytest.raises(LeaseLostError, match="another run's claim"):
        first.beat()


def test_many_starters_have_one_winner(store: KeptStore, clock: Clock, taken: list[Lease]) -> None:
    def start(number: int) -> Lease | None:
        one = Lease(store)  # type: ignore[arg-type]
        try:
            one.acquire({"run_id": f"r{number}"})
        except LockedError:
            return None
        return one

    with ThreadPoolExecutor(16) as pool:
        won = [one for one in pool.map(start, range(16)) if one is not None]
    taken += won
    assert len(won) == 1


def test_probe_finds_a_store_that_lets_every_writer_win() -> None:
    assert probe(KeptStore()) == Verdict(known=True, winners=1)  # type: ignore[arg-type]
    loose = KeptStore(atomic=False)
    verdict = probe(loose)  # type: ignore[arg-type]
    assert (verdict.known, verdict.winners, verdict.atomic) == (False, 5, False)
    assert not loose.objects


def test_strict_lease_refuses_a_store_without_conditional_writes_and_names_the_ways_out(clock: Clock) -> None:
    loose = KeptStore(atomic=False)
    with pytest.raises(StoreError, match="no lease can rest on this store") as raised:
        Lease(loose).acquire(A)  # type: ignore[arg-type]
    assert "MNTRADING_LEASE=settled" in str(raised.value.fix)
    assert not loose.objects


def test_settled_lease_reads_its_claim_back_and_yields_to_who_wrote_over_it(
    clock: Clock, taken: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = KeptStore(atomic=False)
    first, second = (Lease(loose, "settled", settle_seconds=0.0) for _ in "ab")  # type: ignore[arg-type]
    taken += [first, second]

    def meanwhile(_: float) -> bool:
        """The second one's claim lands while the first one waits."""
        monkeypatch.setattr(first._ended, "wait", lambda _: True)
        loose.create(".lease/000001.json", json.dumps({**B, "token": "second"}).encode())
        return False

    monkeypatch.setattr(first._ended, "wait", meanwhile)
    with pytest.raises(LockedError, match="run B"):
        first.acquire(A)
    assert first.epoch == 0
    del second


def test_starter_that_looked_long_ago_does_not_win_a_number_that_is_past(
    store: KeptStore, clock: Clock, taken: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Lease(store)  # type: ignore[arg-type]
    old = late.holder()
    assert old is None
    for _ in range(3):
        take(store, A, taken).release()
    holder = take(store, A, taken)
    del store.objects[".lease/000001.json"]  # cleared away since
    with monkeypatch.context() as patch:
        patch.setattr(late, "holder", lambda: old)
        with pytest.raises(LockedError, match="run A"):
            late.acquire(B)
    holder.beat()


def test_old_claims_are_cleared_away_and_the_newest_stay(store: KeptStore, clock: Clock, taken: list[Lease]) -> None:
    for _ in range(14):
        take(store, A, taken).release()
    claims = [name for name in store.names(".lease") if name.endswith(".json")]
    assert claims == [f"{number:06d}.json" for number in range(5, 15)]


def test_own_claim_answered_too_late_and_sent_again_is_still_won(
    store: KeptStore, clock: Clock, taken: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(name: str, body: bytes) -> bool:
        KeptStore.create(store, name, body)
        return KeptStore.create(store, name, body)

    one = Lease(store, "settled", settle_seconds=0.0)  # type: ignore[arg-type]
    monkeypatch.setattr(store, "create", twice)
    one.acquire(A)
    taken.append(one)
    assert one.epoch == 1


def test_off_is_no_lease_and_an_unknown_mode_is_refused(store: KeptStore) -> None:
    assert lease_of(store, "off") is None  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="'loose' is no lease"):
        lease_of(store, "loose")  # type: ignore[arg-type]
