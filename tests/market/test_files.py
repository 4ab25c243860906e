from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mntrading.core import bars, simulation
from mntrading.core.errors import SourceError
from mntrading.market.files import FilesSource
from mntrading.market.paging import fetch_range

END = simulation.START + pd.Timedelta(days=2)


@pytest.fixture(scope="module")
def market() -> simulation.Market:
    return simulation.market("null", n_symbols=3, end=END)


def write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)


def assert_serves(source: FilesSource, market: simulation.Market, timeframe: str = "1h") -> None:
    assert set(source.load_markets()) == set(market.symbols)
    for symbol in market.symbols:
        got = source.fetch_ohlcv(symbol, timeframe, None, None)
        assert np.array_equal(got, market.rows(symbol, timeframe))


@pytest.mark.parametrize("name", ["ohlcv_1h.parquet", "ohlcv_1h.csv"])
def test_one_file_per_timeframe_is_served(tmp_path: Path, market: simulation.Market, name: str) -> None:
    write(market.bars("1h"), tmp_path / name)
    source = FilesSource(tmp_path)
    assert_serves(source, market)
    assert source.identity == f"files:{tmp_path.name}"
    assert source.server_time() == bars.to_ms(END)


@pytest.mark.parametrize("folder", ["ohlcv_1h", "ohlcv_1h.parquet"])
def test_a_folder_of_files_is_served_as_one(tmp_path: Path, market: simulation.Market, folder: str) -> None:
    frame = market.bars("1h")
    for k, (_, part) in enumerate(frame.groupby(["symbol", frame["timestamp"].dt.day])):
        write(
            part.sample(frac=1, random_state=k),
            tmp_path / folder / f"part{99 - k}.{'csv' if k % 2 else 'parquet'}",
        )
    (tmp_path / folder / "_SUCCESS").touch()
    assert_serves(FilesSource(tmp_path), market)


STAMPS: dict[str, Callable[[pd.Series], pd.Series]] = {
    "naive": lambda s: s.dt.tz_localize(None),
    "naive_ns": lambda s: s.dt.tz_localize(None).dt.as_unit("ns"),
    "other_zone": lambda s: s.dt.tz_convert("Asia/Tokyo"),
    "iso_text": lambda s: s.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "iso_text_naive": lambda s: s.dt.strftime("%Y-%m-%d %H:%M:%S"),
    "iso_text_offset": lambda s: s.dt.tz_convert("Asia/Tokyo").map(lambda t: t.isoformat()),
    "epoch_ms": lambda s: s.astype("int64"),
    "epoch_s": lambda s: s.astype("int64") // 1000,
    "epoch_us": lambda s: s.astype("int64") * 1000,
    "epoch_s_float": lambda s: s.astype("int64") / 1000.0,
}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("form", STAMPS)
def test_stamps_in_any_form_are_read_as_utc(tmp_path: Path, market: simulation.Market, form: str, suffix: str) -> None:
    frame = market.bars("1h")
    write(frame.assign(timestamp=STAMPS[form](frame["timestamp"])), tmp_path / f"ohlcv_1h.{suffix}")
    assert_serves(FilesSource(tmp_path), market)


def test_columns_in_another_order_and_more_of_them_are_fine(tmp_path: Path, market: simulation.Market) -> None:
    frame = market.bars("1h").assign(trades=1, symbol=lambda f: f["symbol"].astype("category"))
    write(frame[frame.columns[::-1]], tmp_path / "ohlcv_1h.parquet")
    assert_serves(FilesSource(tmp_path), market)


def test_symbols_without_a_quote_get_the_one_given(tmp_path: Path, market: simulation.Market) -> None:
    frame = market.bars("1h")
    write(frame.assign(symbol=frame["symbol"].str.removesuffix("/USDT")), tmp_path / "ohlcv_1h.parquet")
    assert_serves(FilesSource(tmp_path, quote="USDT"), market)
    bare = FilesSource(tmp_path)
    assert {info.quote for info in bare.load_markets().values()} == {None}
    with pytest.raises(SourceError, match="no 1h bars"):
        bare.fetch_ohlcv(f"{market.symbols[0].split('/')[0]}-USDT", "1h", None, None)


def test_symbols_that_look_like_numbers_stay_names(tmp_path: Path, market: simulation.Market) -> None:
    frame = market.bars("1h")
    write(frame[frame["symbol"] == market.symbols[0]].assign(symbol="0042"), tmp_path / "ohlcv_1h.csv")
    assert set(FilesSource(tmp_path).load_markets()) == {"0042"}


def test_the_clock_is_the_last_moment_all_timeframes_reach(tmp_path: Path, market: simulation.Market) -> None:
    write(market.bars("1h"), tmp_path / "ohlcv_1h.parquet")
    five = market.bars("5m")
    cut = END - pd.Timedelta(hours=1, minutes=30)
    first = market.symbols[0]
    write(five[(five["symbol"] == first) & (five["timestamp"] < cut)], tmp_path / "ohlcv_5m.csv")
    source = FilesSource(tmp_path)
    assert source.timeframes == ("5m", "1h")
    assert source.server_time() == bars.to_ms(cut)
    last = source.fetch_ohlcv(first, "1h", None, None)[-1, 0]
    assert last == bars.to_ms(END - pd.Timedelta(hours=3))
    assert source.timeframes_of(first) == {"5m", "1h"}
    assert source.timeframes_of(market.symbols[1]) == {"1h"}
    with pytest.raises(SourceError, match="no 5m bars of"):
        source.fetch_ohlcv(market.symbols[1], "5m", None, None)


def test_no_bar_after_as_of_is_served(tmp_path: Path, market: simulation.Market) -> None:
    write(market.bars("5m"), tmp_path / "ohlcv_5m.parquet")
    as_of = simulation.START + pd.Timedelta(hours=5, minutes=4)
    source = FilesSource(tmp_path, as_of=as_of)
    rows = fetch_range(
        source,
        market.symbols[1],
        "5m",
        since_ms=bars.to_ms(simulation.START),
        until_ms=bars.to_ms(END),
        page_limit=7,
    )
    assert source.server_time() == bars.to_ms(as_of)
    assert np.array_equal(rows, market.rows(market.symbols[1], "5m")[:60])
    assert len(source.fetch_ohlcv(market.symbols[1], "5m", None, None)) == 60


def test_duplicates_in_a_file_are_served_as_stored(tmp_path: Path, market: simulation.Market) -> None:
    frame = market.bars("1h")
    write(pd.concat([frame, frame.head(1)]), tmp_path / "ohlcv_1h.parquet")
    rows = FilesSource(tmp_path).fetch_ohlcv(market.symbols[0], "1h", None, None)
    assert len(rows) == 49


def test_a_prefix_on_object_storage_is_read_through_fsspec(market: simulation.Market) -> None:
    market.bars("1h").to_parquet("memory://bucket/bars/ohlcv_1h.parquet", index=False)
    source = FilesSource("memory://bucket/bars")
    assert_serves(source, market)
    assert source.identity == "files:bars"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere: no such folder\nNext: check the path"):
        FilesSource(tmp_path / "nowhere")


def test_a_folder_without_bars_says_how_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "SOURCE.md").touch()
    (tmp_path / "ohlcv_1h.txt").touch()
    with pytest.raises(SourceError, match=r"no file of bars\nNext: name the files ohlcv_<timeframe>"):
        FilesSource(tmp_path)


def test_an_empty_folder_of_a_timeframe_is_named(tmp_path: Path) -> None:
    (tmp_path / "ohlcv_1h").mkdir()
    with pytest.raises(SourceError, match="ohlcv_1h: the folder holds no parquet or CSV file"):
        FilesSource(tmp_path)


def test_two_files_of_one_timeframe_are_refused(tmp_path: Path, market: simulation.Market) -> None:
    for suffix in ("csv", "parquet"):
        write(market.bars("1d"), tmp_path / f"ohlcv_1d.{suffix}")
    with pytest.raises(SourceError, match=r"both ohlcv_1d.csv and ohlcv_1d.parquet"):
        FilesSource(tmp_path)


def test_a_timeframe_without_a_file_lists_the_others(tmp_path: Path, market: simulation.Market) -> None:
    write(market.bars("1h"), tmp_path / "ohlcv_1h.parquet")
    with pytest.raises(SourceError, match="no file of 5m bars, there is 1h"):
        FilesSource(tmp_path).fetch_ohlcv(market.symbols[0], "5m", None, None)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns=["volume", "low"]), r"columns \['low', 'volume'\] are missing"),
        (lambda f: f.head(0), "the file has no rows"),
        (lambda f: f.assign(close="much"), "close isn't a number"),
        (lambda f: f.assign(timestamp="soon"), "timestamp isn't a time"),
        (lambda f: f.assign(timestamp=f["timestamp"].where(f.index != 3)), "1 rows have no timestamp"),
    ],
)
def test_a_file_that_holds_no_bars_says_what_and_where(
    tmp_path: Path,
    market: simulation.Market,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    said: str,
    suffix: str,
) -> None:
    write(change(market.bars("1h")), tmp_path / f"ohlcv_1h.{suffix}")
    with pytest.raises(SourceError, match=rf"ohlcv_1h\.{suffix}: {said}"):
        FilesSource(tmp_path).fetch_ohlcv(market.symbols[0], "1h", None, None)


def test_a_torn_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ohlcv_1h.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(SourceError, match=r"ohlcv_1h\.parquet: not a readable file"):
        FilesSource(tmp_path).load_markets()
