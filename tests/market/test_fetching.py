"""Fetching into a real store: what is asked for, what is kept, and that stopping and going on changes nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mntrading.core.bars import bars_from_rows, times_ms
from mntrading.core.errors import SourceError
from mntrading.core.types import FloatArray
from mntrading.datasets import BarsDataset, BarStore, BarsUpdate
from mntrading.market import (
    MarketInfo,
    MarketSource,
    SourceBlockedError,
    SourceUnreachableError,
    SymbolGoneError,
)
from mntrading.market.fetching import GONE, Ended, Job, Piece, fetch_all, n_missing
from mntrading.params import IngestionParams

STEP = 300_000
T0 = 1_735_689_600_000
PLACES = itertools.count()


def row(k: float, price: float = 100.0) -> list[float]:
    return [T0 + k * STEP, price, price * 1.01, price * 0.99, price, 5.0]


class Exchange(MarketSource):
    """Serves given rows by symbol and remembers what it was asked for."""

    identity = "made"

    def __init__(self, rows: dict[str, list[list[float]]], *, width: int = 1) -> None:
        self.rows = {symbol: np.array(given, dtype=float).reshape(-1, 6) for symbol, given in rows.items()}
        self.width, self.asked, self.fails = width, [], {}

    @property
    def concurrency(self) -> int:
        return self.width

    def load_markets(self) -> dict[str, MarketInfo]:
        return {}

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:  # noqa: ARG002
        self.asked.append((symbol, ((since or 0) - T0) // STEP))
        if symbol in self.fails:
            raise self.fails[symbol]
        rows = self.rows[symbol]
        return rows[rows[:, 0] >= (since or 0)][:limit]


@pytest.fixture
def dataset() -> BarsDataset:
    return made_dataset()


def made_dataset() -> BarsDataset:
    return BarsDataset(path=f"memory://fetching/{next(PLACES)}/ohlcv_5m.parquet", timeframe="5m", missing_ok=True)


@pytest.fixture
def ingestion(params: Any) -> IngestionParams:
    return params.ingestion.model_copy(update={"page_limit": 5})  # a piece is 50 bars


def jobs(until: int, *symbols: str, since: int = 0) -> list[Job]:
    return [Job(symbol, symbol, (T0 + since * STEP, T0 + until * STEP)) for symbol in symbols]


def fetch(
    source: Exchange,
    dataset: BarsDataset,
    ingestion: IngestionParams,
    wanted: list[Job],
    *,
    until: int,
    pieces: int | None = None,
) -> list[Ended]:
    """Fetch and store; stop dead after some pieces."""
    ended, n = [], 0
    if n != pieces:
        for item in fetch_all(source, wanted, dataset.load(), "5m", T0 + until * STEP, ingestion):
            if isinstance(item, Ended):
                ended.append(item)
                continue
            store(dataset, item)
            n += 1
            if n == pieces:
                break
    return ended


def store(dataset: BarsDataset, piece: Piece) -> None:
    frames = {piece.symbol: bars_from_rows(piece.rows, piece.symbol)} if len(piece.rows) else {}
    archive = {piece.symbol: piece.archive} if piece.archive else {}
    dataset.save(BarsUpdate("made", frames, {piece.symbol: piece.ledger}, archive))


def numbers(stored: BarStore, symbol: str) -> list[int]:
    return ((times_ms(stored[symbol]["timestamp"]) - T0) // STEP).tolist() if symbol in stored else []


def contents(dataset: BarsDataset) -> dict[str, bytes]:
    layout = dataset._layout
    return {path.removeprefix(layout.root[:-8]): layout.fs.cat_file(path) for path in layout.fs.find(layout.meta)} | {
        path.removeprefix(layout.root): layout.fs.cat_file(path) for path in layout.fs.find(layout.root)
    }


def test_a_second_run_asks_for_nothing_and_a_later_one_for_the_end_alone(dataset, ingestion):
    source = Exchange({"A/B": [row(k) for k in range(300)]})
    fetch(source, dataset, ingestion, jobs(200, "A/B"), until=200)
    assert numbers(dataset.load(), "A/B") == list(range(200))
    before = contents(dataset)
    source.asked.clear()
    fetch(source, dataset, ingestion, jobs(200, "A/B"), until=200)
    assert source.asked == []
    assert contents(dataset) == before
    fetch(source, dataset, ingestion, jobs(203, "A/B"), until=203)
    assert source.asked == [("A/B", 199)]  # from the last stored bar on, in one page
    assert numbers(dataset.load(), "A/B") == list(range(203))


def test_an_earlier_start_is_filled_in_at_the_front(dataset, ingestion):
    source = Exchange({"A/B": [row(k) for k in range(30, 120)]})
    fetch(source, dataset, ingestion, jobs(100, "A/B", since=80), until=100)
    source.asked.clear()
    fetch(source, dataset, ingestion, jobs(100, "A/B"), until=100)
    assert {asked for _, asked in source.asked} <= set(range(-1, 80))
    stored = dataset.load()
    assert numbers(stored, "A/B") == list(range(30, 100))
    assert stored.ledger("A/B").gaps == ()  # nothing is missing before the listing


def test_a_hole_is_asked_for_again_until_it_is_old(dataset, ingestion):
    day = 288
    source = Exchange({"A/B": [row(k) for k in range(2000) if k not in (60, 61)]})
    fetch(source, dataset, ingestion, jobs(100, "A/B"), until=100)
    assert [(gap.first - T0) // STEP for gap in dataset.load().ledger("A/B").gaps] == [60]
    source.asked.clear()
    fetch(source, dataset, ingestion, jobs(101, "A/B"), until=101)
    assert [asked for _, asked in source.asked] == [59, 99]  # the hole from the bar before it, then the end
    source.rows["A/B"] = np.array([row(k) for k in range(2000) if k != 60])
    fetch(source, dataset, ingestion, jobs(102, "A/B"), until=102)
    assert numbers(dataset.load(), "A/B") == [k for k in range(102) if k != 60]
    fetch(source, dataset, ingestion, jobs(5 * day, "A/B"), until=5 * day)
    source.asked.clear()
    fetch(source, dataset, ingestion, jobs(5 * day + 1, "A/B"), until=5 * day + 1)
    assert [asked for _, asked in source.asked] == [5 * day - 1]


def test_a_symbol_that_fell_silent_is_waited_for(dataset, ingestion):
    source = Exchange({"A/B": [row(k) for k in range(40)]})
    fetch(source, dataset, ingestion, jobs(60, "A/B"), until=60)
    source.rows["A/B"] = np.array([row(k) for k in range(70)])  # it was the exchange that was late
    fetch(source, dataset, ingestion, jobs(70, "A/B"), until=70)
    assert numbers(dataset.load(), "A/B") == list(range(70))
    assert dataset.load().ledger("A/B").gaps == ()


def test_a_stored_bar_the_source_has_changed_stays_and_is_noted(dataset, ingestion):
    source = Exchange({"A/B": [row(k) for k in range(20)]})
    fetch(source, dataset, ingestion, jobs(10, "A/B"), until=10)
    source.rows["A/B"] = np.array([row(k, 100.0 if k != 9 else 101.0) for k in range(20)])
    fetch(source, dataset, ingestion, jobs(20, "A/B"), until=20)
    stored = dataset.load()
    assert stored["A/B"]["close"].tolist() == [100.0] * 20
    assert list(stored.ledger("A/B").revised) == [T0 + 9 * STEP]


def test_one_symbol_that_fails_never_loses_the_others(dataset, ingestion):
    names = ["A/B", "C/D", "E/F", "G/H"]
    source = Exchange({name: [row(k) for k in range(100)] for name in names}, width=2)
    source.fails = {"C/D": SourceError("nonsense"), "E/F": SymbolGoneError("no such symbol")}
    ended = fetch(source, dataset, ingestion, jobs(100, *names), until=100)
    assert {end.symbol: type(end.error) for end in ended} == {
        "A/B": type(None), "C/D": SourceError, "E/F": SymbolGoneError, "G/H": type(None),
    }  # fmt: skip
    stored = dataset.load()
    assert list(stored) == ["A/B", "G/H"]
    assert stored.ledger("E/F").notes == {GONE: T0 + 100 * STEP}
    source.fails = {}
    fetch(source, dataset, ingestion, jobs(100, *names), until=100)
    assert [len(dataset.load()[name]) for name in names] == [100] * 4
    assert dataset.load().ledger("E/F").notes == {}


@pytest.mark.parametrize(
    ("error", "asked_at_most"), [(SourceBlockedError("blocked here"), 2), (SourceUnreachableError("no answer"), 6)]
)
def test_a_source_that_can_not_be_used_is_left_alone(dataset, ingestion, error, asked_at_most):
    names = [f"{letter}/X" for letter in "ABCDEFGHIJKLMNOP"]
    source = Exchange({name: [row(0)] for name in names}, width=2)
    source.fails = dict.fromkeys(names, error)
    with pytest.raises(type(error)):
        fetch(source, dataset, ingestion, jobs(10, *names), until=10)
    assert len(source.asked) <= asked_at_most


def test_a_bug_in_a_source_is_not_taken_for_a_failure_of_a_symbol(dataset, ingestion):
    source = Exchange({"A/B": [row(0)]})
    source.fails = {"A/B": ZeroDivisionError()}
    with pytest.raises(ZeroDivisionError):
        fetch(source, dataset, ingestion, jobs(10, "A/B"), until=10)


def test_whoever_stops_listening_stops_the_threads(dataset, ingestion):
    source = Exchange({name: [row(k) for k in range(1000)] for name in ("A/B", "C/D", "E/F")}, width=3)
    fetch(source, dataset, ingestion, jobs(1000, *source.rows), until=1000, pieces=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch-")]


def test_what_is_missing_is_known_before_it_is_asked_for(dataset, ingestion):
    source = Exchange({"A/B": [row(k) for k in range(100)]})
    wanted = jobs(100, "A/B", "C/D")
    assert n_missing(wanted, dataset.load(), "5m", T0 + 100 * STEP, ingestion) == 200
    fetch(source, dataset, ingestion, wanted[:1], until=100)
    assert n_missing(wanted, dataset.load(), "5m", T0 + 100 * STEP, ingestion) == 100


def test_another_coin_under_the_same_symbol_never_joins_the_first(dataset, ingestion):
    day = 288
    old, new = [row(k, 80.0) for k in range(150)], [row(k, 2.0) for k in range(150 + 2 * day, 1000)]
    source = Exchange({"LUNA/B": [*old, *new]})
    fetch(source, dataset, ingestion, jobs(1000, "LUNA/B"), until=1000)
    stored = dataset.load()
    assert list(stored) == ["LUNA/B", "LUNA/B@20250103T1230"]
    assert numbers(stored, "LUNA/B") == list(range(150 + 2 * day, 1000))
    assert numbers(stored, "LUNA/B@20250103T1230") == list(range(150))
    assert stored.ledger("LUNA/B").gaps == ()
    source.asked.clear()
    fetch(source, dataset, ingestion, jobs(1000, "LUNA/B"), until=1000)
    assert source.asked == []


def test_a_run_stopped_where_a_coin_ends_says_nothing_wrong_of_the_next_one(ingestion):
    rows = [row(0), row(301, 500.0)]
    reference, other = made_dataset(), made_dataset()
    fetch(Exchange({"A/B": rows}), reference, ingestion, jobs(302, "A/B"), until=302)
    for _ in range(9):  # one piece at a time
        fetch(Exchange({"A/B": rows}), other, ingestion, jobs(302, "A/B"), until=302, pieces=1)
    fetch(Exchange({"A/B": rows}), other, ingestion, jobs(302, "A/B"), until=302)
    assert contents(other) == contents(reference)
    assert set(reference.load().ledger("A/B").notes) == {"listed_from"}


def test_pieces_of_any_size_leave_the_same_bytes(ingestion):
    rows = [made for k in range(400) for made in (row(k), row(k, 99.0), row(k + 0.25))]
    left = []
    for page_limit in (7, 31, 1000):
        dataset = made_dataset()
        sized = ingestion.model_copy(update={"page_limit": page_limit})
        fetch(Exchange({"A/B": rows}), dataset, sized, jobs(400, "A/B"), until=400)
        left.append(contents(dataset))
    assert left[0] == left[1] == left[2]
    ledger = dataset.load().ledger("A/B")
    assert len(ledger.rejected) == 399  # what may follow the last bar is not asked for
    assert ledger.revised == {}


prices = st.sampled_from([100.0, 100.0, 101.0, 99.5, 1e5, 0.1, float("nan"), -1.0])
extra = st.sampled_from(["", "", "", "again", "conflicting", "off the grid"])
market = st.lists(st.tuples(st.integers(0, 1), prices, extra), min_size=1, max_size=220)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    market=market,
    silence=st.sampled_from([0, 0, 300]),
    change=st.sampled_from([1.0, 1.0, 5.0, 1000.0]),
    stops=st.lists(st.integers(0, 4), max_size=4),
    width=st.integers(1, 2),
)
def test_stopped_anywhere_and_taken_up_again_the_store_ends_with_the_same_bytes(
    ingestion: IngestionParams, market: Any, silence: int, change: float, stops: list[int], width: int
) -> None:
    half = len(market) // 2
    rows = []
    for k, (there, price, more) in enumerate(market):
        at, price = (k + silence, price * change) if k >= half else (k, price)
        if there:
            rows.append(row(at, price))
            if more:
                rows.append({"again": row(at, price), "conflicting": row(at, 99.0)}.get(more, row(at + 0.25, price)))
    until = len(market) + silence
    wanted = jobs(until, "A/B", "C/D")
    exchange: Callable[[], Exchange] = lambda: Exchange({"A/B": rows, "C/D": rows[::-1][: len(rows) // 2]}, width=width)  # noqa: E731
    reference, other = made_dataset(), made_dataset()
    fetch(exchange(), reference, ingestion, wanted, until=until)
    for pieces in stops:
        fetch(exchange(), other, ingestion, wanted, until=until, pieces=pieces)
    fetch(exchange(), other, ingestion, wanted, until=until)
    assert contents(other) == contents(reference)
