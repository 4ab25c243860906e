"""The nodes that bring bars into the store, on a source of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.bars import bars_from_rows, times_ms
from mntrading.core.errors import SourceError
from mntrading.core.types import FloatArray
from mntrading.datasets import BarContract, BarsDataset, BarsUpdate, PartitionedArtifactDataset
from mntrading.datasets.storage import canonical_json
from mntrading.market import MarketInfo, MarketSource, SourceUnreachableError, SymbolGoneError
from mntrading.market.fetching import Ended, Job, Piece
from mntrading.pipelines.ingestion.account import Account
from mntrading.pipelines.ingestion.nodes import (
    fetch_bars_1h,
    fetch_bars_5m,
    fetch_funding_rates,
    fetch_markets,
    refresh_bars_1h,
    refresh_bars_5m,
    refresh_funding_rates,
)

HOUR = 3_600_000
T0 = 1_735_689_600_000
STATE = SimpleNamespace(now=0, volumes={}, fails={}, infos={}, asked=[], first={}, ended={})


def info(symbol: str, **what: Any) -> MarketInfo:
    base, quote = symbol.split("/")
    return MarketInfo(symbol, base, quote, **what)


class Market(MarketSource):
    """As many bars as its clock has seen, of every symbol; what is special stands in STATE."""

    identity = "made:market"

    def load_markets(self) -> dict[str, MarketInfo]:
        return STATE.infos

    def server_time(self) -> int:
        return STATE.now

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        STATE.asked.append((symbol, timeframe))
        if symbol in STATE.fails:
            raise STATE.fails[symbol]
        step = {"5m": HOUR // 12, "1h": HOUR, "1d": 24 * HOUR}[timeframe]
        opens = np.arange(-(-(since or 0) // step) * step, STATE.now, step)[: limit or None]
        opens = opens[(opens >= STATE.first.get(symbol, 0)) & (opens < STATE.ended.get(symbol, 2**62))]
        price = np.full((len(opens), 4), 10.0)
        return np.column_stack([opens, price, np.full(len(opens), STATE.volumes.get(symbol, 1.0))])

    def fetch_funding_rates(self, symbol: str, since: int, limit: int) -> FloatArray:
        STATE.asked.append((symbol, "funding"))
        if symbol in STATE.fails:
            raise STATE.fails[symbol]
        times = np.arange(-(-since // (8 * HOUR)) * 8 * HOUR, STATE.now, 8 * HOUR)[: min(limit, 4)]
        return np.column_stack([times, np.full(len(times), 1e-4)])


@pytest.fixture(autouse=True)
def made(params: Any) -> Any:
    STATE.__dict__.update(
        now=T0 + 100 * HOUR,
        volumes={"BIG/USDT": 9.0, "MID/USDT": 5.0, "LOW/USDT": 1.0},
        fails={},
        infos={name: info(name) for name in ("BIG/USDT", "MID/USDT", "LOW/USDT", "USDC/USDT", "BIG/EUR", "BIGUP/USDT")},
        asked=[],
        first={},
        ended={},
    )
    custom = params.market.custom.model_copy(update={"loader": f"{__name__}.Market"})
    return SimpleNamespace(
        market=params.market.model_copy(update={"source": "custom", "custom": custom}), ingestion=params.ingestion
    )


def chosen(ingestion: Any, **listing: Any) -> Any:
    return ingestion.model_copy(update={"listing": ingestion.listing.model_copy(update=listing)})


def bars_dataset(folder: Path, timeframe: str = "1h") -> BarsDataset:
    return BarsDataset(path=folder / f"ohlcv_{timeframe}.parquet", timeframe=timeframe, missing_ok=True)


def markets_of(made: Any, dataset: BarsDataset, before: Any = None, ingestion: Any = None) -> dict[str, Any]:
    markets, snapshots = fetch_markets(made.market, ingestion or made.ingestion, dataset.load(), before)
    assert list(snapshots.values()) == [markets]
    stored: dict[str, Any] = json.loads(canonical_json(markets))
    return stored


def ingest(made: Any, dataset: BarsDataset, **given: Any) -> dict[str, Any]:
    markets = markets_of(made, dataset, **given)
    for update in fetch_bars_1h(made.market, given.get("ingestion") or made.ingestion, markets, dataset.load()):
        BarContract("1h").validate(update)
        dataset.save(update)
    return markets


def tree(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file() and "quarantine" not in file.parts]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


class TestMarkets:
    def test_pegged_foreign_and_leveraged_symbols_are_left_out_and_counted(self, made, tmp_path):
        markets = markets_of(made, bars_dataset(tmp_path))
        assert markets["listing"]["symbols"] == ["BIG/USDT", "LOW/USDT", "MID/USDT"]
        left_out = {why: n for why, n in markets["listing"]["funnel"].items() if n and why != "passed"}
        assert sum(left_out.values()) == 3
        assert markets["as_of"] == "2025-01-05T04:00:00Z"
        assert STATE.asked == []

    def test_the_most_traded_at_a_stated_time_are_ranked_once(self, made, tmp_path):
        rule = chosen(made.ingestion, top_n=2, ranked_at="2025-01-03T00:00:00Z")
        rule = made.ingestion.model_validate(rule.model_dump(warnings=False))
        first = markets_of(made, bars_dataset(tmp_path), ingestion=rule)
        assert first["listing"]["symbols"] == ["BIG/USDT", "MID/USDT"]
        assert {symbol for symbol, _ in STATE.asked} == {"BIG/USDT", "MID/USDT", "LOW/USDT"}
        assert {timeframe for _, timeframe in STATE.asked} == {"1d"}
        STATE.asked.clear()
        STATE.volumes["LOW/USDT"] = 1e9  # later volume has no part in it
        assert markets_of(made, bars_dataset(tmp_path), before=first, ingestion=rule)["listing"] == first["listing"]
        assert STATE.asked == []
        other = chosen(rule, top_n=1)
        assert markets_of(made, bars_dataset(tmp_path), before=first, ingestion=other)["listing"]["symbols"] == [
            "LOW/USDT"
        ]

    def test_a_symbol_nobody_names_any_more_stays_with_its_bars(self, made, tmp_path):
        dataset = bars_dataset(tmp_path)
        ingest(made, dataset)
        del STATE.infos["LOW/USDT"]
        STATE.now += HOUR
        STATE.asked.clear()
        markets = ingest(made, dataset)
        assert markets["symbols"]["LOW/USDT"]["listed"] is False
        assert "LOW/USDT" not in {symbol for symbol, _ in STATE.asked}
        assert {symbol: len(dataset.load()[symbol]) for symbol in dataset.load()} == {
            "BIG/USDT": 101, "LOW/USDT": 100, "MID/USDT": 101,
        }  # fmt: skip

    def test_dates_of_trading_are_the_sources_or_what_the_bars_show(self, made, tmp_path):
        dataset = bars_dataset(tmp_path)
        STATE.infos["MID/USDT"] = info("MID/USDT", listed_ms=T0 - 9 * HOUR)
        STATE.first["BIG/USDT"] = T0 + 7 * HOUR
        ingest(made, dataset)
        STATE.infos["LOW/USDT"] = info("LOW/USDT", active=False)
        symbols = markets_of(made, dataset)["symbols"]
        assert {name: (rules["listed_from"], rules["listed_until"]) for name, rules in symbols.items()} == {
            "BIG/USDT": ("2025-01-01T07:00:00Z", None),
            "LOW/USDT": (None, "2025-01-05T04:00:00Z"),
            "MID/USDT": ("2024-12-31T15:00:00Z", None),
        }

    def test_a_list_with_a_symbol_the_source_does_not_have_is_refused(self, made, tmp_path):
        named = made.ingestion.model_copy(update={"symbols": ("BIG/USDT", "NONE/USDT")})
        with pytest.raises(SourceError, match="no symbol NONE/USDT"):
            markets_of(made, bars_dataset(tmp_path), ingestion=named)


class TestBars:
    def test_a_damaged_file_is_put_aside_and_fetched_again(self, made, tmp_path):
        dataset = bars_dataset(tmp_path)
        ingest(made, dataset)
        whole = tree(tmp_path)
        file = tmp_path / "ohlcv_1h.parquet" / "MID-USDT.2025.parquet"
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        (tmp_path / "ohlcv_1h.meta" / "LOW-USDT.json").write_text("{}")
        STATE.asked.clear()
        ingest(made, dataset)
        assert {symbol for symbol, _ in STATE.asked} == {"LOW/USDT", "MID/USDT"}
        assert tree(tmp_path) == whole
        aside = sorted(file.name.rsplit(".", 1)[0] for file in tmp_path.rglob("quarantine/*/*"))
        assert aside == ["LOW-USDT.2025.parquet", "LOW-USDT.json", "MID-USDT.2025.parquet"]

    def test_a_failure_of_one_symbol_does_not_end_the_run_and_one_of_all_does(self, made, tmp_path):
        dataset = bars_dataset(tmp_path)
        STATE.fails = {"MID/USDT": SourceError("nonsense"), "LOW/USDT": SymbolGoneError("no such symbol")}
        ingest(made, dataset)
        assert list(dataset.load()) == ["BIG/USDT"]
        STATE.fails = dict.fromkeys(STATE.infos, SourceError("nonsense"))
        STATE.now += HOUR
        ingest(made, dataset)  # what is stored can still be used
        assert len(dataset.load()["BIG/USDT"]) == 100
        with pytest.raises(SourceError, match="nonsense"):
            ingest(made, bars_dataset(tmp_path / "new"))

    def test_a_source_that_does_not_answer_ends_the_run_and_what_came_is_kept(self, made, tmp_path):
        dataset = bars_dataset(tmp_path)
        STATE.fails = dict.fromkeys(["MID/USDT", "LOW/USDT"], SourceUnreachableError("no answer"))
        ingest(made, dataset)
        STATE.fails["BIG/USDT"] = SourceUnreachableError("no answer")
        STATE.now += HOUR
        with pytest.raises(SourceUnreachableError):
            ingest(made, dataset)
        assert len(dataset.load()["BIG/USDT"]) == 100

    def test_no_bars_in_the_range_is_said_with_what_to_change(self, made, tmp_path):
        STATE.first = dict.fromkeys(STATE.infos, STATE.now)
        with pytest.raises(SourceError, match="gave no 1h bars") as caught:
            ingest(made, bars_dataset(tmp_path))
        assert "ingestion.since_utc" in str(caught.value.fix)

    def test_each_of_two_coins_of_one_symbol_gets_its_own_trading_bars(self, made, tmp_path):
        coarse, fine = bars_dataset(tmp_path), bars_dataset(tmp_path, "5m")
        markets = ingest(made, coarse)
        coarse.save(BarsUpdate("made:market", archive={"BIG/USDT": ("BIG/USDT@20250102T0000", T0 + 24 * HOUR)}))
        pairs = [("BIG/USDT@20250102T0000", "MID/USDT"), ("BIG/USDT", "LOW/USDT")]
        for update in fetch_bars_5m(made.market, made.ingestion, markets, roster(pairs), coarse.load(), fine.load()):
            fine.save(update)
        spans = {symbol: [(at - T0) / HOUR for at in fine.load().span(symbol)] for symbol in fine.load()}
        assert spans == {
            "BIG/USDT@20250102T0000": [0, 24], "BIG/USDT": [24, 100], "MID/USDT": [0, 100], "LOW/USDT": [0, 100],
        }  # fmt: skip

    def test_a_symbol_that_is_new_on_the_roster_gets_its_whole_history_and_the_others_what_is_new(self, made, tmp_path):
        coarse, fine = bars_dataset(tmp_path), bars_dataset(tmp_path, "5m")
        whole, newest, asked = T0, T0 + 100 * HOUR, []
        for pairs in ([("BIG/USDT", "MID/USDT")], [("BIG/USDT", "LOW/USDT")], []):
            markets = ingest(made, coarse)
            STATE.asked.clear()
            for update in fetch_bars_5m(
                made.market, made.ingestion, markets, roster(pairs), coarse.load(), fine.load()
            ):
                fine.save(update)
            asked.append({symbol for symbol, _ in STATE.asked})
            STATE.now += HOUR
        assert asked == [{"BIG/USDT", "MID/USDT"}, {"BIG/USDT", "LOW/USDT"}, set()]
        spans = {symbol: fine.load().span(symbol) for symbol in fine.load()}
        assert spans == {
            "BIG/USDT": (whole, newest + HOUR), "LOW/USDT": (whole, newest + HOUR), "MID/USDT": (whole, newest),
        }  # fmt: skip

    def test_a_live_cycle_fetches_the_newest_bars_of_what_is_traded_and_held(self, made, tmp_path):
        fine = bars_dataset(tmp_path, "5m")
        markets = markets_of(made, bars_dataset(tmp_path))
        production = {"pairs": [{"dependent": "BIG/USDT", "independent": "MID/USDT"}]}
        low = {"holdings": [{"dependent": "LOW/USDT", "independent": "MID/USDT"}]}
        for held in (None, {"book": low, "wanted": {"holdings": []}}):
            STATE.asked.clear()
            for update in refresh_bars_5m(made.market, made.ingestion, markets, production, fine.load(), held):
                fine.save(update)
            assert {symbol for symbol, _ in STATE.asked} == ({"LOW/USDT"} if held else {"BIG/USDT", "MID/USDT"})

    def test_a_live_cycle_fetches_the_hours_that_production_models_look_at_and_no_others(self, made, tmp_path):
        coarse = bars_dataset(tmp_path)
        markets = markets_of(made, bars_dataset(tmp_path))
        for symbols in ([], ["BIG/USDT", "GONE/USDT", "LOW/USDT"]):
            STATE.asked.clear()
            for update in refresh_bars_1h(
                made.market, made.ingestion, markets, {"market_symbols": symbols}, coarse.load()
            ):
                coarse.save(update)
            assert {symbol for symbol, _ in STATE.asked} == set(symbols) - {"GONE/USDT"}
        assert sorted(coarse.load()) == ["BIG/USDT", "LOW/USDT"]


def roster(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    from mntrading.core.roster import Roster, RosterPair
    from mntrading.core.schedule import Fold
    from mntrading.core.types import Pair

    start = pd.Timestamp(T0, unit="ms", tz="UTC")
    fold = Fold("live", start, start + pd.Timedelta(2, unit="D"), None)
    rows = [RosterPair(Pair(*pair), 6.0, 0.001, 1.1) for pair in pairs]
    document: dict[str, Any] = json.loads(canonical_json(Roster.build([(fold, rows)]).document()))
    return document


def test_funding_rates_go_on_from_where_they_stopped(made, tmp_path):
    STATE.infos["BIG/USDT"] = info("BIG/USDT", perpetual="BIG/USDT:USDT")
    dataset = PartitionedArtifactDataset(
        path=tmp_path / "funding", format="parquet", append=True, missing_ok=True, manifest="../funding.json"
    )
    with_funding = made.ingestion.model_copy(update={"funding": True})
    for hours, rules in ((60, made.ingestion), (60, with_funding), (100, with_funding)):
        STATE.now = T0 + hours * HOUR
        markets = markets_of(made, bars_dataset(tmp_path))
        STATE.asked.clear()
        for update in fetch_funding_rates(
            made.market, rules, markets, roster([("BIG/USDT", "MID/USDT")]), dataset.load()
        ):
            dataset.save(update)
        stored = dataset.load()
        if rules is made.ingestion:
            assert (len(stored), STATE.asked) == (0, [])
            continue
        assert list(stored) == ["BIG-USDT_USDT"]
        rates = stored["BIG-USDT_USDT"]
        assert ((times_ms(rates["timestamp"]) - T0) / HOUR).tolist() == list(range(0, hours, 8))
        assert set(rates["symbol"]) == {"BIG/USDT:USDT"}


def test_a_live_cycle_asks_for_the_rates_of_what_is_traded_and_held_and_goes_on_without_those_it_can_not_have(
    made, tmp_path
):
    for symbol in ("BIG/USDT", "MID/USDT", "LOW/USDT"):
        STATE.infos[symbol] = info(symbol, perpetual=f"{symbol}:USDT")
    STATE.infos["BIGUP/USDT"] = info("BIGUP/USDT", perpetual="BIGUP/USDT:USDT")
    STATE.fails["LOW/USDT:USDT"] = SourceError("no answer")
    dataset = PartitionedArtifactDataset(
        path=tmp_path / "funding", format="parquet", append=True, missing_ok=True, manifest="../funding.json"
    )
    markets = markets_of(made, bars_dataset(tmp_path))
    production = {"pairs": [{"dependent": "BIG/USDT", "independent": "LOW/USDT"}]}
    held = {"holdings": [{"dependent": "MID/USDT", "independent": "BIG/USDT"}]}
    orders = {"book": held, "wanted": {"holdings": []}}
    for funding, expected in ((False, []), (True, ["BIG-USDT_USDT", "MID-USDT_USDT"])):
        STATE.asked.clear()
        rules = made.ingestion.model_copy(update={"funding": funding})
        for update in refresh_funding_rates(made.market, rules, markets, production, dataset.load(), orders):
            dataset.save(update)
        assert sorted(dataset.load()) == expected
        assert {symbol for symbol, _ in STATE.asked} == {
            f"{s}/USDT:USDT" for s in (("BIG", "LOW", "MID") if funding else ())
        }


def test_a_symbol_that_began_where_another_ended_is_pointed_out(tmp_path):
    dataset = bars_dataset(tmp_path)
    rows = np.array([[T0 + k * HOUR, 5.0, 5.0, 5.0, 5.0, 1.0] for k in range(10)])
    dataset.save(BarsUpdate("made:market", {"MATIC/USDT": bars_from_rows(rows, "MATIC/USDT")}))
    stored = dataset.load()
    account = Account("1h", [Job("POL/USDT", "POL/USDT", (T0, T0 + 90 * HOUR))], stored, 90, ["MATIC/USDT"])
    account.note(Piece("POL/USDT", np.add(rows, [50 * HOUR, 0, 0, 0, 0, 0]), stored.ledger("POL/USDT"), None, 90))
    account.note(Ended("POL/USDT", None))
    assert account.renamed == {"MATIC/USDT": "POL/USDT"}
    account.close()


@pytest.mark.parametrize(
    "change",
    [
        {"close": -1.0}, {"close": np.nan}, {"high": np.inf}, {"volume": -1.0}, {"low": 11.0}, {"symbol": "B/C"},
        {"timestamp": pd.Timestamp(T0 + 1, unit="ms", tz="UTC")}, {"timestamp": pd.Timestamp(T0, unit="ms", tz="UTC")},
    ],
)  # fmt: skip
def test_the_catalog_refuses_what_is_no_bar_before_the_store_sees_it(change):
    frame = bars_from_rows(np.array([[T0 + k * HOUR, 10.0, 10.0, 10.0, 10.0, 1.0] for k in range(3)]), "A/B")
    BarContract("1h").validate(BarsUpdate("made", {"A/B": frame}))
    for column, value in change.items():
        frame.loc[1, column] = value
    with pytest.raises(Exception, match=r"(?i)check|expected|column|series"):
        BarContract("1h").validate(BarsUpdate("made", {"A/B": frame}))
