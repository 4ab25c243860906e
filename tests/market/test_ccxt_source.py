from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ccxt.base import errors

from mntrading.core.errors import ParameterError, SourceError
from mntrading.market.base import fetch_range, select_valid
from mntrading.market.ccxt_source import CcxtSource

NOW = 1_750_000_000_000
STEP = 300_000
T0 = NOW // STEP * STEP - 10 * STEP
MARKETS = {
    "AAA/USDT": {
        "type": "spot", "base": "AAA", "quote": "USDT", "active": True, "margin": True, "created": T0,
        "precision": {"price": 0.01, "amount": 0.001}, "limits": {"cost": {"min": 5.0}},
    },
    "BBB/USDT": {"type": "spot", "base": "BBB", "quote": "USDT", "active": False, "margin": None},
    "AAA/USDT:USDT": {"type": "swap", "base": "AAA", "quote": "USDT", "active": True},
}  # fmt: skip


def bar(k: int, **change: Any) -> list[Any]:
    values = {"time": T0 + k * STEP, "open": 1.0, "high": 1.2, "low": 0.9, "close": 1.1, "volume": 3.0}
    return list((values | change).values())


class FakeExchange:
    """What ccxt's exchange objects look like from here: answers in order, the last one for ever."""

    has: dict[str, bool] = {"fetchTime": True}  # noqa: RUF012 (ccxt's own form)
    timeframes: dict[str, str] = {"5m": "5m", "1h": "1h"}  # noqa: RUF012
    precisionMode = 4  # noqa: N815

    def __init__(self, *answers: Any, headers: dict[str, str] | None = None) -> None:
        self.answers, self.calls = list(answers), 0
        self.last_response_headers = headers

    def _answer(self) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def milliseconds(self) -> int:
        return NOW

    def fetch_time(self) -> Any:
        return self._answer()

    def load_markets(self) -> Any:
        return self._answer()

    def fetch_ohlcv(self, *_asked: Any) -> Any:
        return self._answer()


def source(*answers: Any, pauses: list[float] | None = None, headers: dict[str, str] | None = None) -> CcxtSource:
    sleep: Callable[[float], None] = ([] if pauses is None else pauses).append
    return CcxtSource("fake", max_attempts=3, exchange=FakeExchange(*answers, headers=headers), sleep=sleep)


def test_rows_come_sorted_from_since_on_with_missing_prices_as_nan() -> None:
    made = source([bar(2), bar(1, close=None), bar(0)])
    rows = made.fetch_ohlcv("AAA/USDT", "5m", T0 + STEP, 5)
    assert made.identity == "ccxt:fake"
    assert ((rows[:, 0] - T0) / STEP).tolist() == [1, 2]
    assert np.isnan(rows[0, 4])
    assert len(select_valid(rows, "5m")[0]) == 1


def test_an_empty_page_is_no_error() -> None:
    assert source([]).fetch_ohlcv("AAA/USDT", "5m", None, None).shape == (0, 6)


def test_a_network_failure_is_tried_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    made = source(
        errors.RequestTimeout("slow"),
        errors.DDoSProtection("fake GET https://x 429"),
        [bar(0)],
        pauses=pauses,
    )
    assert len(made.fetch_ohlcv("AAA/USDT", "5m", None, None)) == 1
    assert 0.5 <= pauses[0] <= 1.0 <= pauses[1] <= 2.0


@pytest.mark.parametrize(("asked", "paused"), [("7", 7.0), ("9000", 30.0)])
def test_the_exchange_may_ask_for_a_longer_pause_within_reason(asked: str, paused: float) -> None:
    pauses: list[float] = []
    made = source(errors.DDoSProtection("429"), [bar(0)], pauses=pauses, headers={"Retry-After": asked})
    made.fetch_ohlcv("AAA/USDT", "5m", None, None)
    assert pauses == [paused]


def test_a_network_that_stays_down_is_given_up_on() -> None:
    exchange = FakeExchange(errors.NetworkError("down"))
    made = CcxtSource("fake", max_attempts=3, exchange=exchange, sleep=lambda _: None)
    with pytest.raises(SourceError, match=r"(?s)no answer in 3 attempts.*Next: check the network"):
        made.server_time()
    assert exchange.calls == 3


@pytest.mark.parametrize("status", ["403 Forbidden", "451 "])
def test_a_blocked_address_is_told_at_once(status: str) -> None:
    exchange = FakeExchange(errors.ExchangeNotAvailable(f"fake GET https://api.fake/klines?limit=1000 {status} body"))
    made = CcxtSource("fake", exchange=exchange, sleep=lambda _: None)
    with pytest.raises(SourceError, match=r"(?s)blocked here.*Next: choose another exchange"):
        made.fetch_ohlcv("AAA/USDT", "5m", None, None)
    assert exchange.calls == 1


def test_an_exchange_down_for_maintenance_is_tried_again() -> None:
    made = source(errors.ExchangeNotAvailable("fake GET https://api.fake/klines?limit=403 503 busy"), [bar(0)])
    assert len(made.fetch_ohlcv("AAA/USDT", "5m", None, None)) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (errors.BadSymbol("fake does not have market symbol XXX"), "no such symbol"),
        (errors.AuthenticationError("key needed"), "AuthenticationError: key needed"),
        (TypeError("string indices must be integers"), "isn't market data: TypeError"),
        (errors.BadResponse("<html>"), "isn't market data"),
        ("<html>login</html>", "isn't market data: str"),
        ([bar(0), [17, None, None, None, None, None]], "time 17"),
        ([bar(0, time=NOW + 2 * 86_400_000)], "expected ms between 2009 and tomorrow"),
        ([bar(0)[:5]], r"expected \[time, open"),
        ([bar(0, close="1.1")], "expected numbers"),
        ([bar(0, open=None, high=None, low=None, close=None, volume=None)], "1 rows without a number"),
    ],
)
def test_an_answer_that_can_not_be_used_is_told_at_once(answer: Any, said: str) -> None:
    pauses: list[float] = []
    with pytest.raises(SourceError, match=said) as caught:
        source(answer, pauses=pauses).fetch_ohlcv("AAA/USDT", "5m", None, None)
    assert caught.value.fix
    assert pauses == []


def test_a_timeframe_the_exchange_lacks_lists_those_it_has() -> None:
    with pytest.raises(SourceError, match="no 3m bars, there are 1h, 5m"):
        source([]).fetch_ohlcv("AAA/USDT", "3m", None, None)


def test_markets_are_those_of_the_asked_type_with_steps_and_shortability() -> None:
    infos = source(MARKETS).load_markets()
    first, second = infos["AAA/USDT"], infos["BBB/USDT"]
    assert list(infos) == ["AAA/USDT", "BBB/USDT"]
    assert (first.tick, first.lot, first.min_notional, first.listed_ms) == (0.01, 0.001, 5.0, T0)
    assert (first.shortable, first.active) == (True, True)
    assert (second.tick, second.lot, second.min_notional) == (None, None, None)
    assert (second.shortable, second.active) == (False, False)
    swaps = CcxtSource("fake", market_type="swap", exchange=FakeExchange(MARKETS))
    assert [info.shortable for info in swaps.load_markets().values()] == [True]
    assert swaps.identity == "ccxt:fake:swap"


def test_decimal_places_are_turned_into_steps() -> None:
    exchange = FakeExchange({"AAA/USDT": {"type": "spot", "precision": {"price": 2, "amount": 0}}})
    exchange.precisionMode = 2
    info = CcxtSource("fake", exchange=exchange).load_markets()["AAA/USDT"]
    assert (info.tick, info.lot) == (0.01, 1.0)


def test_the_clock_is_the_exchange_s_or_else_this_machine_s() -> None:
    assert source(NOW - 5).server_time() == NOW - 5
    silent = FakeExchange("never asked")
    silent.has = {"fetchTime": False}
    assert CcxtSource("fake", exchange=silent).server_time() == NOW
    with pytest.raises(SourceError, match="server time"):
        source(None).server_time()


class PagedExchange(FakeExchange):
    """Serves bars with a duplicate in every page, and the bar still open."""

    def fetch_ohlcv(self, *asked: Any) -> Any:
        _symbol, _timeframe, since, limit = asked
        stamps = [k for k in range(11) for _ in range(2 if k % 2 else 1)]
        return [bar(k) for k in stamps if T0 + k * STEP >= (since or 0)][:limit]

    def fetch_time(self) -> Any:
        return NOW


def test_a_range_is_fetched_whole_without_the_open_bar() -> None:
    made = CcxtSource("fake", exchange=PagedExchange())
    rows = fetch_range(made, "AAA/USDT", "5m", since_ms=T0, until_ms=NOW + STEP, page_limit=3)
    assert ((rows[:, 0] - T0) / STEP).tolist() == list(range(10))


def test_an_exchange_ccxt_does_not_know_is_named() -> None:
    with pytest.raises(SourceError, match="no exchange 'nowhere'"):
        CcxtSource("nowhere")
    with pytest.raises(ParameterError, match="max_attempts is 0"):
        CcxtSource("fake", max_attempts=0, exchange=FakeExchange())
