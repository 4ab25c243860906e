from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mntrading.core import quality, simulation
from mntrading.core.errors import ParameterError
from mntrading.core.quality import judge
from mntrading.core.types import FloatArray
from mntrading.market import MarketInfo, MarketSource
from mntrading.market.paging import fetch_range
from mntrading.market.simulator import SimulatorSource
from mntrading.params import QualityParams

STEP = 300_000
T0 = 1_735_689_600_000
RULES = QualityParams(max_jump=20.0, confirm_bars=12, reuse_gap_hours=24.0, reuse_jump=3.0)


def row(k: float, price: float = 100.0) -> list[float]:
    return [T0 + k * STEP, price, price * 1.01, price * 0.99, price, 5.0]


class ScriptedExchange(MarketSource):
    """Serves given rows by time; ``windowed`` answers only for the asked-for stretch of time."""

    identity = "scripted"

    def __init__(self, rows: list[list[float]], *, windowed: bool = False, cap: int = 10**9) -> None:
        self.rows = np.array(rows, dtype=np.float64).reshape(-1, 6)
        self.windowed, self.cap, self.requests = windowed, cap, 0

    def load_markets(self) -> dict[str, MarketInfo]:
        return {}

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


def fetch(source: ScriptedExchange, *, limit: int, until: float, since: float = 0) -> FloatArray:
    """Rows between two bars of the grid."""
    since_ms, until_ms = int(T0 + since * STEP), int(T0 + until * STEP)
    return fetch_range(source, "A/B", "5m", since_ms=since_ms, until_ms=until_ms, page_limit=limit)


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
    source = ScriptedExchange([row(k, 100 + k) for k in stamps], windowed=windowed)
    got = fetch(source, limit=limit, since=since, until=until)
    wanted = [k for k in sorted(bars_there) if since <= k and k + 1 <= until]
    on_grid = got[got[:, 0] % STEP == 0]
    assert ((on_grid[:, 0] - T0) / STEP).tolist() == wanted
    assert (np.diff(got[:, 0]) > 0).all()


def test_a_duplicate_that_fills_the_page_pushes_no_bar_out() -> None:
    source = ScriptedExchange([row(k) for k in (1, 2, 2, 2, 2, 3, 4)])
    got = fetch(source, limit=3, until=10)
    assert ((got[:, 0] - T0) / STEP).tolist() == [1, 2, 3, 4]


def test_a_hole_longer_than_a_page_hides_nothing_behind_it() -> None:
    source = ScriptedExchange([row(k) for k in (0, 1, 500, 501)], windowed=True)
    assert len(fetch(source, limit=10, until=510)) == 4
    assert source.requests < 60


def test_a_source_that_serves_less_than_asked_for_loses_no_bar_after_a_hole() -> None:
    there = [*range(30), *range(53, 60)]
    source = ScriptedExchange([row(k) for k in there], windowed=True, cap=10)
    got = fetch(source, limit=50, until=60)
    assert ((got[:, 0] - T0) / STEP).tolist() == there


@pytest.mark.parametrize(("until", "n_bars"), [(5, 5), (5 - 1 / STEP, 4), (4.5, 4), (0.5, 0)])
def test_a_bar_still_open_at_the_end_of_the_range_is_not_taken(until: float, n_bars: int) -> None:
    source = ScriptedExchange([row(k) for k in range(9)])
    assert len(fetch(source, limit=3, until=until)) == n_bars


def test_a_symbol_without_bars_gives_no_rows() -> None:
    assert fetch(ScriptedExchange([]), limit=10, until=99).shape == (0, 6)


def test_no_more_is_asked_for_than_the_range_has_room_for() -> None:
    asked: list[int | None] = []

    class Noted(ScriptedExchange):
        def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
            asked.append(limit)
            return super().fetch_ohlcv(symbol, timeframe, since, limit)

    assert len(fetch(Noted([row(k) for k in range(9)]), limit=5000, since=2, until=5)) == 3
    assert max(limit or 5000 for limit in asked) <= 4


def test_a_page_of_no_rows_is_refused() -> None:
    with pytest.raises(ParameterError, match="page_limit is 0"):
        fetch(ScriptedExchange([]), limit=0, until=9)


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
        judged = judge(raw, timeframe, rules=RULES, final=True)
        lost = removed.loc[removed["symbol"] == symbol, "timestamp"].dt.as_unit("ms").astype("int64")
        expected = clean[symbol][~np.isin(clean[symbol][:, 0], lost)]
        assert np.array_equal(judged.rows, expected)
        assert judged.splits == ()
        assert not judged.rejected["reason"].isin(["", quality.UNCONFIRMED]).any()
