from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mntrading.core import simulation
from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray
from mntrading.market import base
from mntrading.market.base import MarketInfo, fetch_range, select_valid
from mntrading.market.simulator import SimulatorSource

STEP = 300_000
T0 = 1_735_689_600_000


def row(k: float, price: float = 100.0) -> list[float]:
    return [T0 + k * STEP, price, price * 1.01, price * 0.99, price, 5.0]


class ScriptedExchange:
    """Serves given rows by time; ``windowed`` answers only for the asked-for stretch of time."""

    identity = "scripted"

    def __init__(self, rows: list[list[float]], *, now: int, windowed: bool = False, cap: int = 10**9) -> None:
        self.rows = np.array(rows, dtype=np.float64).reshape(-1, 6)
        self.now, self.windowed, self.cap, self.requests = now, windowed, cap, 0

    def load_markets(self) -> dict[str, MarketInfo]:
        return {}

    def timeframes_of(self, symbol: str) -> frozenset[str]:  # noqa: ARG002 (the protocol's)
        return frozenset({"5m"})

    def server_time(self) -> int:
        return self.now

    def fetch_ohlcv(
        self,
        symbol: str,  # noqa: ARG002 (the protocol's)
        timeframe: str,  # noqa: ARG002
        since: int | None,
        limit: int | None,
    ) -> FloatArray:
        self.requests += 1
        begin, count = since or 0, min(limit or self.cap, self.cap)
        found = self.rows[self.rows[:, 0] >= begin]
        if self.windowed:
            found = found[found[:, 0] < begin + count * STEP]
        return found[:count]


def fetch(source: ScriptedExchange, *, limit: int, since: int = T0, until: int | None = None) -> FloatArray:
    until_ms = source.now if until is None else until
    return fetch_range(source, "A/B", "5m", since_ms=since, until_ms=until_ms, page_limit=limit)


@settings(deadline=None, max_examples=150)
@given(
    bars_there=st.sets(st.integers(0, 60)),
    repeated=st.sets(st.integers(0, 60)),
    off_grid=st.sets(st.integers(0, 60)),
    limit=st.integers(1, 25),
    since=st.integers(-5, 65),
    until=st.integers(-5, 70),
    windowed=st.booleans(),
)
def test_paging_finds_what_one_large_answer_holds(
    bars_there: set[int],
    repeated: set[int],
    off_grid: set[int],
    limit: int,
    since: int,
    until: int,
    windowed: bool,
) -> None:
    stamps = sorted([*bars_there, *(bars_there & repeated), *(k + 0.25 for k in bars_there & off_grid)])
    source = ScriptedExchange([row(k, 100 + k) for k in stamps], now=T0 + 55 * STEP, windowed=windowed)
    got = fetch(source, limit=limit, since=T0 + since * STEP, until=T0 + until * STEP)
    wanted = [k for k in sorted(bars_there) if since <= k and k + 1 <= min(until, 55)]
    on_grid = got[got[:, 0] % STEP == 0]
    assert ((on_grid[:, 0] - T0) / STEP).tolist() == wanted
    assert (np.diff(got[:, 0]) > 0).all()


def test_a_duplicate_that_fills_the_page_pushes_no_bar_out() -> None:
    source = ScriptedExchange([row(k) for k in (1, 2, 2, 2, 2, 3, 4)], now=T0 + 10 * STEP)
    got = fetch(source, limit=3)
    assert ((got[:, 0] - T0) / STEP).tolist() == [1, 2, 3, 4]


def test_a_hole_longer_than_a_page_hides_nothing_behind_it() -> None:
    source = ScriptedExchange([row(k) for k in (0, 1, 500, 501)], now=T0 + 510 * STEP, windowed=True)
    assert len(fetch(source, limit=10)) == 4
    assert source.requests < 60


def test_a_source_that_serves_less_than_asked_for_loses_no_bar_after_a_hole() -> None:
    there = [*range(30), *range(53, 60)]
    source = ScriptedExchange([row(k) for k in there], now=T0 + 60 * STEP, windowed=True, cap=10)
    got = fetch(source, limit=50)
    assert ((got[:, 0] - T0) / STEP).tolist() == there


def test_a_bar_still_open_on_the_exchange_clock_is_not_taken() -> None:
    source = ScriptedExchange([row(k) for k in range(5)], now=T0 + 5 * STEP - 1)
    assert len(fetch(source, limit=10, until=T0 + 99 * STEP)) == 4
    source.now += 1
    assert len(fetch(source, limit=10, until=T0 + 99 * STEP)) == 5


def test_a_symbol_without_bars_gives_no_rows() -> None:
    assert fetch(ScriptedExchange([], now=T0 + 99 * STEP), limit=10).shape == (0, 6)


def test_a_page_of_no_rows_is_refused() -> None:
    with pytest.raises(ParameterError, match="page_limit is 0"):
        fetch(ScriptedExchange([], now=T0), limit=0)


def test_of_conflicting_rows_the_first_valid_one_is_kept() -> None:
    nan = row(1)
    nan[4] = float("nan")
    good, rejected = select_valid(np.array([row(2), nan, row(1, 100), row(1, 101), row(1, 100), row(0)]), "5m")
    assert good[:, 4].tolist() == [100, 100, 100]
    assert rejected["reason"].tolist() == ["not finite", base.CONFLICTING]
    assert str(rejected["timestamp"].dtype) == "datetime64[ms, UTC]"


@pytest.mark.parametrize("factor", [1000, 21, 0.001])
def test_a_row_in_another_unit_is_rejected_and_its_neighbours_kept(factor: float) -> None:
    good, rejected = select_valid(np.array([row(0), row(1), row(2, 100 * factor), row(3), row(4)]), "5m")
    assert ((good[:, 0] - T0) / STEP).tolist() == [0, 1, 3, 4]
    assert rejected["reason"].tolist() == [base.WRONG_UNIT]


def test_a_price_that_stays_at_its_new_level_is_a_price() -> None:
    good, rejected = select_valid(np.array([row(0), row(1), row(2, 3000), row(3, 3100), row(4, 2900)]), "5m")
    assert len(good) == 5
    assert rejected.empty


def test_a_jump_on_the_last_row_waits_for_the_next() -> None:
    rows = [row(0), row(1), row(2, 3000)]
    good, rejected = select_valid(np.array(rows), "5m")
    assert len(good) == 2
    assert rejected["reason"].tolist() == [base.UNCONFIRMED]
    assert len(select_valid(np.array([*rows, row(3, 3000)]), "5m")[0]) == 4


def test_a_crash_of_nine_tenths_is_kept() -> None:
    assert select_valid(np.array([row(0), row(1, 10), row(2, 100)]), "5m")[1].empty


def test_no_rows_give_no_rows() -> None:
    good, rejected = select_valid(np.empty((0, 6)), "5m")
    assert good.shape == (0, 6)
    assert list(rejected.columns) == ["timestamp", "reason"]


@pytest.mark.parametrize(("timeframe", "page_limit"), [("5m", 997), ("1h", 7), ("5m", 50)])
def test_the_dirty_market_yields_its_clean_bars_but_for_the_removed_ones(timeframe: str, page_limit: int) -> None:
    end = simulation.START + np.timedelta64(30 if timeframe == "5m" else 70, "D")
    source = SimulatorSource("dirty", seed=7, end=end)
    market = source.market
    removed = market.removed(timeframe)
    clean = simulation.rows_by_symbol(market.bars(timeframe))
    since, now = int(market.start.timestamp() * 1000), source.server_time()
    for symbol in market.symbols:
        raw = fetch_range(source, symbol, timeframe, since_ms=since, until_ms=now, page_limit=page_limit)
        good, rejected = select_valid(raw, timeframe)
        lost = removed.loc[removed["symbol"] == symbol, "timestamp"].dt.as_unit("ms").astype("int64")
        expected = clean[symbol][~np.isin(clean[symbol][:, 0], lost)]
        assert np.array_equal(good, expected)
        assert not rejected["reason"].isin(["", base.UNCONFIRMED]).any()
