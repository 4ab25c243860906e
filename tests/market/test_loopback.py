from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests

from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray
from mntrading.market.base import MarketInfo, MarketSource
from mntrading.market.loopback import ANSWERS, DATA, Fault, Loopback, ManualClock
from mntrading.market.loopback.__main__ import main

HOUR = 3_600_000
NOW = 1_750_003_200_000 // HOUR * HOUR
N = 1_200

Get = Callable[..., requests.Response]


class Replay(MarketSource):
    """Rows anybody can work out: bar k opens at k, in units of the price."""

    def __init__(self, scale: float = 1.0, **infos: dict[str, Any]) -> None:
        self.scale = scale
        self.infos = infos or {"AAA": {"shortable": True}, "BBB": {}}

    @property
    def identity(self) -> str:
        return "replay"

    def load_markets(self) -> dict[str, MarketInfo]:
        return {
            f"{base}/USDT": MarketInfo(**{"symbol": f"{base}/USDT", "base": base, "quote": "USDT"} | said)
            for base, said in self.infos.items()
        }

    def fetch_ohlcv(self, symbol: str, *_asked: Any) -> FloatArray:
        gone = self.infos[symbol.partition("/")[0]].get("delisted_ms", NOW)
        k = np.arange(1, N + 1, dtype=float)
        rows = np.column_stack([NOW - HOUR * (N - k + 1), k, k + 4, k - 0.5, k + 2, 10 * k])
        rows[:, 1:5] *= self.scale
        return rows[rows[:, 0] < gone]

    def timeframes_of(self, _symbol: str) -> frozenset[str]:
        return frozenset({"1h"})

    def server_time(self) -> int:
        return NOW


@pytest.fixture
def exchange() -> Iterator[Loopback]:
    with Loopback(Replay()) as loopback:
        yield loopback


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def get(session: requests.Session) -> Get:
    def got(exchange: Loopback, path: str, **query: Any) -> requests.Response:
        return session.get(exchange.url + path, params=query, timeout=5)

    return got


@pytest.fixture
def klines(get: Get) -> Callable[..., list[Any]]:
    def asked(exchange: Loopback, **query: Any) -> list[Any]:
        known = {"symbol": "AAAUSDT", "interval": "1h"}
        return list(get(exchange, "/api/v3/klines", **known | query).json())

    return asked


# ------------------------------------------------------------------------------------------- bars


def test_a_row_has_binance_s_twelve_columns(exchange: Loopback, klines: Callable[..., list[Any]]) -> None:
    row = klines(exchange, startTime=NOW - HOUR, limit=1)[0]
    assert (
        row == [NOW - HOUR, "1200.0", "1204.0", "1199.5", "1202.0", "12000.0", NOW - 1, "14424000.00", 100] + ["0"] * 3
    )


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [
        ({}, NOW - 499 * HOUR, 500),
        ({"limit": 5}, NOW - 4 * HOUR, 5),
        ({"limit": 5000}, NOW - 999 * HOUR, 1000),
        ({"startTime": NOW - 10 * HOUR}, NOW - 10 * HOUR, 11),
        ({"startTime": NOW - 10 * HOUR + 1}, NOW - 9 * HOUR, 10),
        ({"startTime": NOW - 10 * HOUR, "endTime": NOW - 8 * HOUR}, NOW - 10 * HOUR, 3),
        ({"startTime": NOW - 10 * HOUR, "endTime": NOW - 8 * HOUR - 1}, NOW - 10 * HOUR, 2),
        ({"endTime": NOW - 8 * HOUR, "limit": 2}, NOW - 9 * HOUR, 2),
        ({"startTime": 0, "limit": 3}, NOW - N * HOUR, 3),
        ({"startTime": NOW}, NOW, 1),
    ],
)
def test_ranges_are_cut_as_binance_cuts_them(
    exchange: Loopback, klines: Callable[..., list[Any]], query: dict[str, int], first: int, count: int
) -> None:
    rows = klines(exchange, **query)
    assert [row[0] for row in rows] == [first + k * HOUR for k in range(count)]
    spoilt = Fault("nan", permanent=True, row_every=10**9)  # which strikes no bar, but takes the other way through
    exchange.faults = [spoilt]
    assert klines(exchange, **query) == rows


def test_nothing_is_served_from_the_future(exchange: Loopback, klines: Callable[..., list[Any]]) -> None:
    assert klines(exchange, startTime=NOW + HOUR) == []


def test_a_perpetual_has_the_bars_of_its_pair_and_longer_pages(exchange: Loopback, get: Get) -> None:
    query = {"symbol": "AAAUSDT", "interval": "1h", "limit": 1500, "startTime": 0}
    assert len(get(exchange, "/fapi/v1/klines", **query).json()) == N + 1
    assert get(exchange, "/fapi/v1/klines", **query | {"symbol": "BBBUSDT"}).json()["code"] == -1121


@pytest.mark.parametrize("scale", [1e-7, 1 / 3, 1e17])
def test_no_digit_of_a_price_is_lost(klines: Callable[..., list[Any]], scale: float) -> None:
    source = Replay(scale)
    with Loopback(source) as exchange:
        rows = klines(exchange, startTime=0, limit=50)
    assert not any("e" in cell for row in rows for cell in row[1:6])
    sent = np.array([[float(cell) for cell in row[:6]] for row in rows])
    np.testing.assert_array_equal(sent, source.fetch_ohlcv("AAA/USDT", "1h", None, None)[:50])


def test_a_bar_that_is_open_at_the_exchange_s_clock_shows_what_has_happened_of_it(
    klines: Callable[..., list[Any]],
) -> None:
    with Loopback(Replay(), now_ms=NOW - 5 * HOUR - HOUR // 2) as exchange:
        *_, last = klines(exchange, limit=3)
    k = N - 5
    assert last[0] == NOW - 6 * HOUR
    assert [float(cell) for cell in last[1:6]] == [k, k + 2, k - 0.25, k + 1, 5 * k]


def test_a_bar_beyond_the_source_begins_at_the_last_close(exchange: Loopback, klines: Callable[..., list[Any]]) -> None:
    before, last = klines(exchange, limit=2)
    low, first, high = float(last[3]), float(last[1]), float(last[2])
    assert (last[0], first) == (NOW, float(before[4]))
    assert low < first < high


def test_the_clock_stands_still_or_runs(klines: Callable[..., list[Any]], get: Get) -> None:
    clock = ManualClock()
    with Loopback(Replay(), now_ms=NOW - 10 * HOUR, speed=3600, clock=clock) as exchange:
        assert klines(exchange, limit=1)[0][0] == NOW - 10 * HOUR
        clock.sleep(3.0)
        assert klines(exchange, limit=1)[0][0] == NOW - 7 * HOUR
        exchange.skew_ms = 5_000
        assert get(exchange, "/api/v3/time").json() == {"serverTime": NOW - 7 * HOUR + 5_000}
    with Loopback(Replay(), clock=clock) as exchange:
        clock.sleep(3.0)
        assert get(exchange, "/api/v3/time").json() == {"serverTime": NOW}


# ---------------------------------------------------------------------------------------- symbols


def test_symbols_are_listed_and_delisted_by_the_exchange_s_clock(get: Get, klines: Callable[..., list[Any]]) -> None:
    source = Replay(
        AAA={"tick": 0.01, "lot": 1e-5, "min_notional": 5.0, "shortable": True},
        NEW={"listed_ms": NOW - 10 * HOUR},
        OLD={"delisted_ms": NOW - 20 * HOUR, "active": False},
        OUT={"active": False},
    )
    shown = {}
    for hours in (30, 0):
        with Loopback(source, now_ms=NOW - hours * HOUR) as exchange:
            symbols = get(exchange, "/api/v3/exchangeInfo").json()["symbols"]
            shown[hours] = {entry["symbol"]: entry["status"] for entry in symbols}
            if not hours:
                assert klines(exchange, symbol="OLDUSDT")[-1][0] == NOW - 21 * HOUR
    assert shown[30] == {"AAAUSDT": "TRADING", "OLDUSDT": "TRADING", "OUTUSDT": "BREAK"}
    assert shown[0] == {"AAAUSDT": "TRADING", "NEWUSDT": "TRADING", "OLDUSDT": "BREAK", "OUTUSDT": "BREAK"}
    first = symbols[0]
    assert (first["isMarginTradingAllowed"], symbols[1]["isMarginTradingAllowed"]) == (True, False)
    steps = {kind: value for entry in first["filters"] for kind, value in entry.items()}
    assert (steps["tickSize"], steps["stepSize"], steps["minNotional"]) == ("0.01", "0.00001", "5")
    assert symbols[1]["filters"] == []


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/api/v3/klines", {"symbol": "ZZZUSDT", "interval": "1h"}, 400, -1121),
        ("/api/v3/klines", {"interval": "1h"}, 400, -1121),
        ("/api/v3/klines", {"symbol": "AAAUSDT", "interval": "5m"}, 400, -1120),
        ("/api/v3/klines", {"symbol": "AAAUSDT", "interval": "1w"}, 400, -1120),
        ("/api/v3/klines", {"symbol": "AAAUSDT", "interval": "1h", "limit": 0}, 400, -1102),
        ("/api/v3/klines", {"symbol": "AAAUSDT", "interval": "1h", "startTime": "x"}, 400, -1100),
        ("/fapi/v1/fundingRate", {"symbol": "BBBUSDT"}, 400, -1121),
        ("/sapi/v1/capital", {}, 404, -5000),
    ],
)
def test_what_can_not_be_answered_is_refused_as_binance_does(
    exchange: Loopback, get: Get, path: str, query: dict[str, Any], status: int, code: int
) -> None:
    answer = get(exchange, path, **query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_symbols_that_name_no_quote_can_not_be_served() -> None:
    with pytest.raises(ParameterError, match=r"(?s)1 symbols name no quote.*--quote USDT"):
        Loopback(Replay(AAA={"quote": None}))


def test_tickers_sum_up_the_last_day(exchange: Loopback, get: Get) -> None:
    ticker = get(exchange, "/api/v3/ticker/24hr", symbol="AAAUSDT").json()
    k = np.arange(N - 23, N + 1)
    assert (float(ticker["openPrice"]), float(ticker["lastPrice"])) == (k[0], k[-1] + 2)
    assert (float(ticker["highPrice"]), float(ticker["lowPrice"])) == (k[-1] + 4, k[0] - 0.5)
    assert float(ticker["quoteVolume"]) == pytest.approx(float((10 * k * (k + 2)).sum()))
    assert len(get(exchange, "/api/v3/ticker/24hr").json()) == 2
    assert len(get(exchange, "/api/v3/ticker/24hr", symbols='["BBBUSDT"]').json()) == 1


def test_funding_rates_are_the_same_whenever_they_are_asked_for(exchange: Loopback, get: Get) -> None:
    def rates(**query: Any) -> dict[int, str]:
        found = get(exchange, "/fapi/v1/fundingRate", symbol="AAAUSDT", **query).json()
        return {row["fundingTime"]: row["fundingRate"] for row in found}

    day = rates(startTime=NOW - 24 * HOUR + 1)
    week = rates(startTime=NOW - 168 * HOUR + 1, limit=1000)
    assert len(day) == 3
    assert len(week) == 21
    assert day.items() <= week.items()
    assert rates(limit=3) == day
    assert len(rates()) == 100
    assert all(time % (8 * HOUR) == 0 for time in week)


# -------------------------------------------------------------------------------------- trouble


def statuses(get: Get, exchange: Loopback, count: int, symbol: str = "AAAUSDT") -> list[int]:
    query = {"symbol": symbol, "interval": "1h", "limit": 1}
    return [get(exchange, "/api/v3/klines", **query).status_code for _ in range(count)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [500, 200, 200, 200, 200, 200]),
        ({"first": 2}, [500, 500, 200, 200, 200, 200]),
        ({"every": 3}, [200, 200, 500, 200, 200, 500]),
        ({"permanent": True}, [500] * 6),
        ({"permanent": True, "after": 4}, [200] * 4 + [500] * 2),
        ({"after": 2}, [200, 200, 500, 200, 200, 200]),
        ({"symbols": ("BBB/USDT",)}, [200] * 6),
        ({"paths": ("time",)}, [200] * 6),
        ({"paths": ()}, [500, 200, 200, 200, 200, 200]),
    ],
)
def test_faults_strike_on_schedule(exchange: Loopback, get: Get, schedule: dict[str, Any], expected: list[int]) -> None:
    exchange.faults = [Fault("500", **schedule)]
    assert statuses(get, exchange, 6) == expected


def test_each_symbol_is_counted_for_itself_and_from_anew_with_new_faults(exchange: Loopback, get: Get) -> None:
    exchange.faults = [Fault("503")]
    assert statuses(get, exchange, 2) == [503, 200]
    assert statuses(get, exchange, 2, "BBBUSDT") == [503, 200]
    exchange.faults = exchange.faults
    assert statuses(get, exchange, 2) == [503, 200]


def test_a_share_of_the_requests_is_the_seed_s_choice(get: Get) -> None:
    seen = {}
    for seed in (1, 1, 2):
        with Loopback(Replay(), [Fault("500", share=0.3)], seed=seed) as exchange:
            found = statuses(get, exchange, 60)
        assert seen.setdefault(seed, found) == found
    assert seen[1] != seen[2]
    assert 6 <= seen[1].count(500) <= 30


@pytest.mark.parametrize("kind", ["429", "418"])
@pytest.mark.parametrize("asked", ["7", None, "Sun, 15 Jun 2025 15:07:40 GMT"])
def test_a_refusal_says_when_to_come_back(exchange: Loopback, get: Get, kind: str, asked: str | None) -> None:
    exchange.faults = [Fault(kind, retry_after=asked)]
    answer = get(exchange, "/api/v3/klines", symbol="AAAUSDT", interval="1h")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (int(kind), asked)


def test_a_reset_is_one(exchange: Loopback, get: Get) -> None:
    exchange.faults = [Fault("reset")]
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        get(exchange, "/api/v3/klines", symbol="AAAUSDT", interval="1h")


def test_a_truncated_answer_has_status_200_and_the_length_it_says(exchange: Loopback, get: Get) -> None:
    exchange.faults = [Fault("truncated")]
    answer = get(exchange, "/api/v3/klines", symbol="AAAUSDT", interval="1h")
    assert (answer.status_code, int(answer.headers["Content-Length"])) == (200, len(answer.content))
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_missing_numbers_are_null_or_text_by_turns(exchange: Loopback, klines: Callable[..., list[Any]]) -> None:
    exchange.faults = [Fault("nan", row_every=1)]
    assert {row[4] for row in klines(exchange, limit=6)} == {None, "NaN"}


def test_a_gap_makes_no_page_shorter(exchange: Loopback, klines: Callable[..., list[Any]]) -> None:
    exchange.faults = [Fault("gap", permanent=True, row_every=10, run=3)]
    since = NOW - 200 * HOUR
    rows = klines(exchange, startTime=since, limit=50)
    assert len(rows) == 50
    whole = [row[0] for row in klines(exchange, startTime=since)]
    assert whole[:50] == [row[0] for row in rows]
    assert len(whole) == pytest.approx(141, abs=2)


def test_the_same_bars_are_struck_in_every_page(exchange: Loopback, klines: Callable[..., list[Any]]) -> None:
    exchange.faults = [Fault("negative", permanent=True, row_every=7)]
    for hours in (60, 41, 23):
        opens = [row[0] for row in klines(exchange, startTime=NOW - hours * HOUR) if float(row[3]) < 0]
        assert opens == [t for t in range(NOW - hours * HOUR, NOW + 1, HOUR) if t // HOUR % 7 == 0]


def test_faults_of_the_data_add_up(exchange: Loopback, klines: Callable[..., list[Any]]) -> None:
    exchange.faults = [Fault("duplicates", row_every=5), Fault("wrong_unit", row_every=5)]
    rows = klines(exchange, startTime=NOW - 20 * HOUR)
    assert len(rows) == 21 + 4 + (NOW // HOUR % 5 == 0)
    assert sum(float(row[1]) > 1e5 for row in rows) == 2 * (len(rows) - 21)


def test_more_weight_than_allowed_is_refused_and_insisting_is_banned(get: Get) -> None:
    clock = ManualClock()
    with Loopback(Replay(), weight_per_minute=10, clock=clock) as exchange:
        assert statuses(get, exchange, 16) == [200] * 5 + [429] * 10 + [418]
        assert get(exchange, "/api/v3/time").headers["Retry-After"] == "120"
        clock.sleep(119)
        assert statuses(get, exchange, 1) == [418]
        clock.sleep(1)
        assert statuses(get, exchange, 6) == [200] * 5 + [429]
        refused = get(exchange, "/api/v3/klines", symbol="AAAUSDT", interval="1h")
        assert refused.headers["Retry-After"] == "60"
        clock.sleep(60)
        assert get(exchange, "/api/v3/ticker/24hr").status_code == 429  # 80 at once


def test_requests_are_counted_and_logged(exchange: Loopback, get: Get) -> None:
    exchange.faults = [Fault("500")]
    statuses(get, exchange, 2)
    get(exchange, "/api/v3/ping")
    assert exchange.requests == {"/api/v3/klines": 2, "/api/v3/ping": 1}
    first, second, _ = exchange.log
    assert (first.symbol, first.status, first.fault) == ("AAA/USDT", 500, "500")
    assert (second.query["limit"], second.status, second.fault) == ("1", 200, None)


@pytest.mark.parametrize(
    "fault", [{"kind": "flood"}, {"kind": "gap", "row_every": 0}, {"kind": "500", "every": 0}], ids=str
)
def test_a_fault_that_can_not_be_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="fault"):
        Fault(**fault)


def test_every_kind_is_named_once() -> None:
    assert len(set(ANSWERS + DATA)) == len(ANSWERS) + len(DATA) == 23


def test_it_closes_at_once_with_a_slow_answer_under_way_and_leaves_no_thread(session: requests.Session) -> None:
    before = set(threading.enumerate())
    exchange = Loopback(Replay(), [Fault("timeout", paths=())])
    failed: list[Exception] = []

    def ask() -> None:
        try:
            requests.get(f"{exchange.url}/api/v3/ping", timeout=30)
        except requests.ConnectionError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not exchange.log:
        threading.Event().wait(0.005)
    exchange.close()
    asking.join(5)
    assert len(failed) == 1
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
    assert set(threading.enumerate()) <= before


# ---------------------------------------------------------------------------------- command line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_a_shell_it_says_how_to_try_it_and_ends_quietly(session: requests.Session, number: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "mntrading.market.loopback",
        "--market",
        "ou",
        "--now",
        "2025-01-03",
        "--port",
        "0",
    ]
    with subprocess.Popen(
        [*command, "--fault", "500:2"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert process.stdout
        line = process.stderr.readline()
        found = re.search(r"MNTRADING_EXCHANGE_URL=(http://127\.0\.0\.1:\d+) kedro run --env live", line)
        assert found, line
        url = f"{found[1]}/api/v3/klines?symbol=BROBIXUSDT&interval=1d&limit=1"
        answers = [session.get(url, timeout=5) for _ in range(2)]
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout.read() + process.stderr.read() == ""
    assert [answer.status_code for answer in answers] == [200, 500]
    assert pd.Timestamp(answers[0].json()[0][0], unit="ms") == pd.Timestamp("2025-01-03")


@pytest.mark.parametrize("arguments", [["--fault", "flood"], ["--fault", "500:x"], ["--market", "moon"]])
def test_from_a_shell_a_wrong_word_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[1].partition(":")[0] in capsys.readouterr().err


def test_from_a_shell_a_folder_that_is_not_there_is_named(tmp_path: Any) -> None:
    with pytest.raises(SystemExit, match="no such folder"):
        main(["--files", f"{tmp_path}/nowhere", "--port", "0"])
