"""The real ccxt.binance against the loopback exchange: no network, and no waiting but where it is said."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ccxt
import numpy as np
import pandas as pd
import pytest
import requests

from mntrading.core.errors import ParameterError, SourceError
from mntrading.market.base import SourceBlockedError, SourceUnreachableError, SymbolGoneError
from mntrading.market.budget import Budgets, Clock
from mntrading.market.ccxt_source import CcxtSource
from mntrading.market.loopback import Fault, Loopback, ManualClock
from mntrading.market.paging import fetch_range
from mntrading.market.simulator import SimulatorSource

HOUR = 3_600_000
KEY, SECRET = "key-of-nobody-1234", "secret-of-nobody-5678"

Connect = Callable[..., CcxtSource]


@pytest.fixture(scope="module")
def market() -> SimulatorSource:
    return SimulatorSource("demo", n_symbols=6, end=pd.Timestamp("2025-01-11T00:30Z"))


@pytest.fixture(scope="module")
def symbol(market: SimulatorSource) -> str:
    return market.market.symbols[0]


@pytest.fixture
def exchange(market: SimulatorSource) -> Iterator[Loopback]:
    with Loopback(market) as loopback:
        yield loopback


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def connect(exchange: Loopback, clock: ManualClock) -> Connect:
    budgets = Budgets(clock)

    def connected(**settings: Any) -> CcxtSource:
        known: dict[str, Any] = {"max_attempts": 3, "base_url": exchange.url, "budgets": budgets}
        return CcxtSource("binance", **known | settings)

    return connected


def klines(exchange: Loopback) -> int:
    return exchange.requests["/api/v3/klines"]


# ------------------------------------------------------------------------------------ good answers


def test_a_page_has_the_source_s_rows_and_the_candle_still_open(
    connect: Connect, exchange: Loopback, market: SimulatorSource, symbol: str
) -> None:
    since = exchange.now() // HOUR * HOUR - 5 * HOUR
    rows = connect().fetch_ohlcv(symbol, "1h", since, 1000)
    np.testing.assert_array_equal(rows[:-1], market.fetch_ohlcv(symbol, "1h", since, None))
    assert rows[-1, 0] == exchange.now() // HOUR * HOUR
    assert len(connect().fetch_ohlcv(symbol, "1h", since, 2)) == 2
    assert len(connect().fetch_ohlcv(symbol, "1h", exchange.now() + HOUR, 2)) == 0


def test_a_range_is_fetched_whole_without_the_open_bar(
    connect: Connect, exchange: Loopback, market: SimulatorSource, symbol: str
) -> None:
    bounds = {"since_ms": exchange.now() - 200 * HOUR, "until_ms": exchange.now()}
    rows = fetch_range(connect(), symbol, "5m", **bounds, page_limit=1000)
    np.testing.assert_array_equal(rows, fetch_range(market, symbol, "5m", **bounds, page_limit=5000))
    assert klines(exchange) == 3


def test_markets_are_of_the_asked_type_with_steps_perpetuals_and_shortability(
    connect: Connect, market: SimulatorSource
) -> None:
    infos = connect().load_markets()
    assert list(infos) == sorted(market.load_markets())
    for symbol, theirs in market.load_markets().items():
        info = infos[symbol]
        assert (info.base, info.quote, info.active, info.shortable) == (theirs.base, theirs.quote, True, True)
        assert (info.tick, info.lot, info.min_notional) == (theirs.tick, theirs.lot, theirs.min_notional)
        assert info.perpetual == f"{symbol}:USDT"
    perpetuals = connect(market_type="swap").load_markets()
    assert set(perpetuals) == {info.perpetual for info in infos.values()}
    assert all(info.shortable and info.listed_ms for info in perpetuals.values())


def test_a_symbol_without_perpetual_names_none(market: SimulatorSource, symbol: str) -> None:
    with Loopback(market, perpetuals=[symbol]) as exchange:
        infos = CcxtSource("binance", base_url=exchange.url, budgets=Budgets(ManualClock())).load_markets()
    assert {name for name, info in infos.items() if info.perpetual} == {symbol}


@pytest.mark.parametrize("change", [{"linear": False}, {"active": False}, {"swap": False}])
def test_a_perpetual_is_an_active_linear_swap(
    connect: Connect, symbol: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, bool]
) -> None:
    source = connect()
    source.load_markets()
    market = source._line().exchange.markets[f"{symbol}:USDT"]
    for name, value in change.items():
        monkeypatch.setitem(market, name, value)
    assert source.load_markets()[symbol].perpetual is None


def test_identity_tells_the_loopback_from_the_exchange(connect: Connect, exchange: Loopback) -> None:
    assert CcxtSource("binance").identity == "ccxt:binance"
    assert CcxtSource("binance", market_type="swap").identity == "ccxt:binance:swap"
    assert connect().identity == f"ccxt:binance@{exchange.url.removeprefix('http://')}"


def test_funding_rates_come_by_8_hours(connect: Connect, exchange: Loopback, symbol: str) -> None:
    source = connect()
    perpetual = source.load_markets()[symbol].perpetual
    assert perpetual
    rates = source.fetch_funding_rates(perpetual, exchange.now() - 49 * HOUR, 4)
    assert rates.shape == (4, 2)
    assert (np.diff(rates[:, 0]) == 8 * HOUR).all()
    assert (np.abs(rates[:, 1]) < 1e-3).all()
    assert (rates[:, 0] >= exchange.now() - 49 * HOUR).all()


@pytest.mark.parametrize(
    "said", ['"fundingRate":"1.5"', '"fundingRate":"NaN"', '"fundingRate":null', '"fundingTime":17']
)
def test_funding_rates_that_can_be_none_are_refused(
    connect: Connect, exchange: Loopback, symbol: str, said: str
) -> None:
    body = f'[{{"symbol":"{symbol.replace("/", "")}","fundingTime":{exchange.now()},"fundingRate":"0.1",{said}}}]'
    exchange.faults = [Fault("body", permanent=True, paths=("fundingRate",), body=body)]
    with pytest.raises(SourceError, match="isn't market data"):
        connect().fetch_funding_rates(f"{symbol}:USDT", exchange.now() - HOUR, 10)


def test_timeframes_are_the_exchange_s(connect: Connect, symbol: str) -> None:
    assert {"5m", "1h", "1d"} <= (connect().timeframes_of(symbol) or frozenset())
    with pytest.raises(SourceError, match=r"no 7m bars, there are 12h, 15m"):
        connect().fetch_ohlcv(symbol, "7m", None, None)


# ------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize(("skew_minutes", "earlier"), [(5, 0), (-5, -5), (0, 0)])
def test_server_time_is_the_earlier_clock(
    exchange: Loopback, skew_minutes: int, earlier: int, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.skew_ms = skew_minutes * 60_000
    clock = ManualClock(exchange.now() / 1000)
    source = CcxtSource("binance", base_url=exchange.url, budgets=Budgets(clock))
    assert source.server_time() - exchange.now() == pytest.approx(earlier * 60_000, abs=1000)
    assert not caplog.records


@pytest.mark.parametrize(("skew_minutes", "warned"), [(5, True), (-5, True), (0, False)])
def test_clocks_that_differ_are_warned_about_once(
    exchange: Loopback, monkeypatch: pytest.MonkeyPatch, skew_minutes: int, warned: bool
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        logging.getLogger("mntrading.market.ccxt_source"), "warning", lambda text, *args: told.append(text % args)
    )
    source = CcxtSource("binance", budgets=Budgets(ManualClock(exchange.now() / 1000)))
    monkeypatch.setattr(ccxt.binance, "fetch_time", lambda _: exchange.now() + skew_minutes * 60_000)
    for _ in range(2):
        source.server_time()
    behind = "this machine" if skew_minutes > 0 else "ccxt:binance"
    assert [behind in line for line in told] == ([True] if warned else [])


def test_an_exchange_without_a_clock_is_on_this_machine_s(
    connect: Connect, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = connect()
    monkeypatch.setitem(source._line().exchange.has, "fetchTime", False)
    assert source.server_time() == int(clock.time() * 1000)


def test_a_clock_that_tells_no_time_is_no_market_data(connect: Connect, exchange: Loopback) -> None:
    exchange.faults = [Fault("body", permanent=True, paths=("time",), body='{"serverTime":17}')]
    with pytest.raises(SourceError, match=r"server time: the answer isn't market data: 17"):
        connect().server_time()


# ------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize("kind", ["429", "418", "500", "503", "reset", "html", "truncated"])
def test_a_failure_that_passes_is_not_noticed(connect: Connect, exchange: Loopback, symbol: str, kind: str) -> None:
    exchange.faults = [Fault(kind, first=2)]
    assert len(connect().fetch_ohlcv(symbol, "1h", None, 50)) == 50
    assert klines(exchange) == 3


@pytest.mark.parametrize("kind", ["429", "418", "500", "503", "reset"])
def test_a_network_that_stays_down_is_given_up_on(
    connect: Connect, exchange: Loopback, symbol: str, kind: str, clock: ManualClock
) -> None:
    exchange.faults = [Fault(kind, permanent=True, retry_after=None)]
    source = connect()
    source.load_markets()
    clock.slept.clear()
    with pytest.raises(SourceUnreachableError, match=r"(?s)1h bars of .* no answer in 3 attempts.*Next: check the net"):
        source.fetch_ohlcv(symbol, "1h", None, None)
    assert klines(exchange) == 3
    assert 1 + 2 <= sum(clock.slept) <= 2 + 3 + 0.1


def test_a_slow_answer_is_not_waited_for(connect: Connect, exchange: Loopback, symbol: str) -> None:
    exchange.faults = [Fault("timeout")]
    assert len(connect(timeout_seconds=0.2).fetch_ohlcv(symbol, "1h", None, 5)) == 5
    assert klines(exchange) == 2


@pytest.mark.parametrize("kind", ["403", "404", "451"])
def test_a_blocked_address_is_told_at_once(connect: Connect, exchange: Loopback, symbol: str, kind: str) -> None:
    exchange.faults = [Fault(kind, permanent=True)]
    with pytest.raises(SourceBlockedError, match=rf"(?s)answers {kind}.*blocked here.*Next: choose another exchange"):
        connect().fetch_ohlcv(symbol, "1h", None, None)
    assert klines(exchange) == 1


def test_a_failure_is_judged_by_its_own_answer_not_by_the_last_one(
    connect: Connect, exchange: Loopback, symbol: str
) -> None:
    source = connect()
    exchange.faults = [Fault("451"), Fault("reset", permanent=True, after=1)]
    with pytest.raises(SourceBlockedError):
        source.fetch_ohlcv(symbol, "1h", None, 5)
    with pytest.raises(SourceUnreachableError):
        source.fetch_ohlcv(symbol, "1h", None, 5)


@pytest.mark.parametrize("path", ["exchangeInfo", "klines", "time", "fundingRate"])
@pytest.mark.parametrize("kind", ["html", "truncated", "body"])
def test_what_is_no_market_data_never_passes(
    connect: Connect, exchange: Loopback, symbol: str, path: str, kind: str
) -> None:
    source = connect()
    ask: dict[str, Callable[[], object]] = {
        "exchangeInfo": source.load_markets,
        "klines": lambda: source.fetch_ohlcv(symbol, "1h", exchange.now() - 50 * HOUR, 50),
        "time": source.server_time,
        "fundingRate": lambda: source.fetch_funding_rates(f"{symbol}:USDT", exchange.now() - 50 * HOUR, 50),
    }
    exchange.faults = [Fault(kind, permanent=True, paths=(path,))]
    with pytest.raises(SourceError, match=r"(?s)isn't market data.*Next: a proxy, a login page") as caught:
        ask[path]()
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)  # noqa: S301 (made here)


@pytest.mark.parametrize(
    "body",
    [
        '{"msg":"maintenance"}',
        "[[17,1,1,1,1,1]]",
        '["<html>"]',
        "null",
        '[[1735800000000,"x","x","x","x","x"]]',
        "[[1735800000000,null,null,null,null,null]]",
        "[[99735800000000,1,1,1,1,1]]",
        "[17]",
    ],
)
@pytest.mark.parametrize("since", [None, 1_735_000_000_000])
def test_rows_that_are_none_never_pass(
    connect: Connect, exchange: Loopback, symbol: str, body: str, since: int | None
) -> None:
    exchange.faults = [Fault("body", permanent=True, body=body)]
    with pytest.raises(SourceError, match="isn't market data"):
        connect().fetch_ohlcv(symbol, "1h", since, 50)
    assert klines(exchange) == 3


def test_a_truncated_page_never_passes_wherever_it_is_cut(connect: Connect, exchange: Loopback, symbol: str) -> None:
    since = exchange.now() - 3 * HOUR
    source = connect(max_attempts=1)
    source.load_markets()
    rows = json.loads(json.dumps([[int(since), "1.5", "1.6", "1.4", "1.5", "10.0", int(since), "1", 1, "1", "1", "0"]]))
    whole = json.dumps(rows * 2)
    for cut in range(1, len(whole)):
        exchange.faults = [Fault("body", permanent=True, body=whole[:cut])]
        with pytest.raises(SourceError, match="isn't market data"):
            source.fetch_ohlcv(symbol, "1h", since, 50)


def test_no_market_at_all_is_no_market_data(connect: Connect, exchange: Loopback) -> None:
    exchange.faults = [Fault("body", permanent=True, paths=("exchangeInfo",), body='{"symbols":[]}')]
    with pytest.raises(SourceError, match="markets: the answer isn't market data: no markets"):
        connect().load_markets()


def test_a_symbol_that_is_gone_is_told_at_once(connect: Connect, exchange: Loopback, symbol: str) -> None:
    exchange.faults = [Fault("unknown_symbol", permanent=True, symbols=(symbol,), after=1)]
    source = connect()
    source.fetch_ohlcv(symbol, "1h", None, 5)
    with pytest.raises(SymbolGoneError, match="no such symbol"):
        source.fetch_ohlcv(symbol, "1h", None, 5)
    with pytest.raises(SymbolGoneError, match="no such symbol"):
        source.fetch_ohlcv("NOBODY/USDT", "1h", None, 5)
    assert klines(exchange) == 2


def test_any_other_refusal_is_told_at_once(connect: Connect, exchange: Loopback, symbol: str) -> None:
    exchange.faults = [Fault("body", permanent=True, body='{"code":-1100,"msg":"Illegal characters found."}')]
    with pytest.raises(SourceError, match=r"(?s)Illegal characters.*Next: see the exchange's message"):
        connect().fetch_ohlcv(symbol, "1h", None, 5)
    assert klines(exchange) == 1


@pytest.mark.parametrize(
    "kind",
    ["duplicates", "conflicting", "out_of_order", "gap", "nan", "negative", "off_grid", "wrong_unit", "wrong_unit_run"],
)
def test_spoilt_bars_arrive_as_they_are_sent_and_well_when_asked_again(
    connect: Connect, exchange: Loopback, market: SimulatorSource, symbol: str, kind: str
) -> None:
    fault = Fault(kind, row_every=10)
    exchange.faults = [fault]
    since = exchange.now() // HOUR * HOUR - 98 * HOUR
    clean = market.fetch_ohlcv(symbol, "1h", since, None)
    source = connect()
    rows = source.fetch_ohlcv(symbol, "1h", since, 1000)[:-1]
    hit = fault.hits(clean[:, 0], HOUR)
    assert hit.sum() >= 9
    match kind:
        case "duplicates" | "conflicting":
            twice = np.repeat(clean[:, 0], 1 + hit)
            np.testing.assert_array_equal(rows[:, 0], twice)
            _, first = np.unique(rows[:, 0], return_index=True)
            np.testing.assert_array_equal(rows[first], clean)
            assert len(np.unique(rows, axis=0)) == len(clean) + (hit.sum() if kind == "conflicting" else 0)
        case "out_of_order":
            np.testing.assert_array_equal(rows, clean)  # ccxt sorts them
        case "gap":
            np.testing.assert_array_equal(rows, clean[~hit])
        case "nan":
            np.testing.assert_array_equal(np.isnan(rows).any(axis=1), hit)
        case "negative":
            np.testing.assert_array_equal((rows < 0).any(axis=1), hit)
        case "off_grid":
            assert (rows[:, 0] % HOUR != 0).sum() == hit.sum()
        case _:
            np.testing.assert_allclose(rows[hit, 1:5], clean[hit, 1:5] * 1000)
            np.testing.assert_array_equal(rows[~hit], clean[~hit])
    np.testing.assert_array_equal(source.fetch_ohlcv(symbol, "1h", since, 1000)[:-1], clean)


def test_a_faked_open_candle_is_never_in_a_range(
    connect: Connect, exchange: Loopback, market: SimulatorSource, symbol: str
) -> None:
    exchange.faults = [Fault("partial_last", permanent=True)]
    since = exchange.now() // HOUR * HOUR - 20 * HOUR
    source = connect()
    page = source.fetch_ohlcv(symbol, "1h", since, 100)
    assert page[-1, 1] > 2 * page[-2, 4]
    rows = fetch_range(source, symbol, "1h", since_ms=since, until_ms=source.server_time(), page_limit=1000)
    np.testing.assert_array_equal(rows, market.fetch_ohlcv(symbol, "1h", since, None))


# ------------------------------------------------------------------------- politeness and threads


def test_requests_are_spaced_by_ccxt_s_costs(connect: Connect, clock: ManualClock, symbol: str) -> None:
    source = connect()
    source.load_markets()
    clock.slept.clear()
    for limit in (1000, 5, 1000):
        source.fetch_ohlcv(symbol, "1h", None, limit)
    source.fetch_ohlcv(f"{symbol}:USDT", "1h", None, 1000)
    source.fetch_ohlcv(symbol, "1h", None, 5)
    # ccxt's rateLimit of 50 ms times 1 for the markets before, 0.4 for spot bars, 5 for 1000 bars of a perpetual
    assert clock.slept == pytest.approx([0.05, 0.02, 0.02, 0.02, 0.25], abs=1e-6)


def test_a_host_s_budget_is_shared_by_two_sources(connect: Connect, clock: ManualClock, exchange: Loopback) -> None:
    one, other = connect(), connect()
    exchange.faults = [Fault("429", paths=("time",), retry_after="100")]
    one.server_time()
    assert sum(clock.slept) == pytest.approx(100, abs=0.1)
    exchange.faults = [Fault("429", permanent=True, paths=("time",), retry_after="50")]
    with pytest.raises(SourceUnreachableError):
        connect(max_attempts=1).server_time()
    clock.slept.clear()
    exchange.faults = []
    other.server_time()
    assert clock.slept == pytest.approx([50], abs=0.1)


def test_a_good_answer_makes_the_next_silence_short_again(
    connect: Connect, exchange: Loopback, clock: ManualClock
) -> None:
    source = connect(max_attempts=2)
    for _ in range(6):
        exchange.faults = [Fault("429", paths=("time",), retry_after=None)]
        source.server_time()
    assert sum(clock.slept) < 6 * 2.2  # 1 + 2 + 4 + ... without


@pytest.mark.parametrize("kind", ["429", "418"])
def test_retry_after_is_honoured_in_full(connect: Connect, exchange: Loopback, clock: ManualClock, kind: str) -> None:
    exchange.faults = [Fault(kind, paths=("time",), retry_after="600")]
    connect().server_time()
    assert sum(clock.slept) == pytest.approx(600, abs=0.1)


def test_a_retry_after_beyond_reason_stops_with_how_long(connect: Connect, exchange: Loopback) -> None:
    exchange.faults = [Fault("418", paths=("time",), retry_after="7200")]
    for _ in range(2):  # and is not asked again
        with pytest.raises(SourceBlockedError, match="no request for 120 minutes"):
            connect().server_time()
    assert exchange.requests["/api/v3/time"] == 1


class TellingClock(Clock):
    """Real time; tells when somebody begins to wait."""

    def __init__(self) -> None:
        self.waiting = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.waiting.set()
        super().sleep(seconds)


def test_no_thread_asks_during_another_s_retry_after(exchange: Loopback, market: SimulatorSource) -> None:
    clock = TellingClock()
    source = CcxtSource("binance", max_concurrency=4, base_url=exchange.url, budgets=Budgets(clock))
    source.load_markets()
    clock.sleep(0.1)  # what the markets cost
    clock.waiting.clear()
    first, *others = market.market.symbols[:4]
    exchange.faults = [Fault("429", symbols=(first,), retry_after="1")]

    def walk(symbol: str) -> int:
        assert symbol == first or clock.waiting.wait(5)  # until the first one has been refused
        return len(source.fetch_ohlcv(symbol, "1h", None, 100))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(walk, (first, *others))) == [100] * 4
    refused, *later = [request for request in exchange.log if request.path == "/api/v3/klines"]
    assert (refused.status, len(later)) == (429, 4)
    assert min(request.at for request in later) - refused.at >= 1.0


def test_threads_load_the_markets_once_and_have_connections_of_their_own(
    connect: Connect, exchange: Loopback, market: SimulatorSource
) -> None:
    source = connect(max_concurrency=4)
    assert source.concurrency == 4
    symbols = market.market.symbols * 4
    with ThreadPoolExecutor(4) as pool:
        lines = list(pool.map(lambda name: (source.fetch_ohlcv(name, "1h", None, 5), source._line()), symbols))
    assert all(len(rows) == 5 for rows, _ in lines)
    assert len({id(line.exchange.markets) for _, line in lines}) == 1
    assert exchange.requests["/api/v3/exchangeInfo"] == 1
    assert klines(exchange) == len(symbols)


# --------------------------------------------------------------------------------------- settings


def test_keys_go_to_the_exchange_only_and_are_shown_nowhere(
    connect: Connect,
    exchange: Loopback,
    symbol: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MNTRADING_EXCHANGE_KEY", KEY)
    monkeypatch.setenv("MNTRADING_EXCHANGE_SECRET", SECRET)
    caplog.set_level(logging.DEBUG)
    source = connect()
    source.load_markets()
    source.fetch_ohlcv(symbol, "1h", None, 5)
    assert not any("X-MBX-APIKEY" in request.headers for request in exchange.log)
    assert not any(word in f"{request}" for request in exchange.log for word in (KEY, SECRET, "signature"))

    real = CcxtSource("binance", max_attempts=1, budgets=Budgets(ManualClock()))
    assert (real._line().exchange.apiKey, real._line().exchange.secret) == (KEY, SECRET)

    def send(*_: Any, **__: Any) -> None:
        raise requests.ConnectionError

    monkeypatch.setattr(real._line().exchange.session, "request", send)
    with pytest.raises(SourceUnreachableError):
        real.load_markets()  # which is a signed request too, with keys

    def quotes_the_key(*_: Any, **__: Any) -> None:
        raise ccxt.ExchangeError(
            f"GET https://api.example.com?key={KEY}&secret={SECRET} with {{'X-MBX-APIKEY': {KEY}}}"
        )

    monkeypatch.setattr(real._line().exchange, "fetch_time", quotes_the_key)
    with pytest.raises(SourceError, match=r"\*\*\*") as caught:
        real.server_time()
    assert caught.value.__cause__ is None
    shown = f"{caught.value} {caught.value!r} {source!r} {real!r} {vars(real)} {caplog.text}"
    assert KEY not in shown
    assert SECRET not in shown


def test_proxies_do_not_reroute_the_loopback(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, exchange: Loopback
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert connect().server_time() == exchange.now()
    assert CcxtSource("binance")._line().exchange.session.trust_env


def test_a_base_url_may_have_a_path_of_its_own(connect: Connect, exchange: Loopback) -> None:
    with pytest.raises(SourceError, match="Path /mirror/api/v3/time"):
        connect(base_url=f"{exchange.url}/mirror/").server_time()
    assert list(exchange.requests) == ["/mirror/api/v3/time"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"base_url": "127.0.0.1:8787"}, "'127.0.0.1:8787' is no address"),
    ],
)
def test_settings_out_of_bounds_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        CcxtSource("binance", **settings)


def test_an_exchange_ccxt_does_not_know_is_named() -> None:
    with pytest.raises(SourceError, match="no exchange 'nowhere'"):
        CcxtSource("nowhere")


def test_decimal_places_are_turned_into_steps(connect: Connect, monkeypatch: pytest.MonkeyPatch, symbol: str) -> None:
    source = connect()
    source.load_markets()
    exchange = source._line().exchange
    monkeypatch.setattr(exchange, "precisionMode", ccxt.DECIMAL_PLACES)
    monkeypatch.setitem(exchange.markets[symbol], "precision", {"price": 2, "amount": 0})
    info = source.load_markets()[symbol]
    assert (info.tick, info.lot) == (0.01, 1.0)
    monkeypatch.setattr(exchange, "precisionMode", ccxt.SIGNIFICANT_DIGITS)
    assert source.load_markets()[symbol].tick is None
