"""The bar store: one readable folder, one source, matrices on the complete grid."""

from __future__ import annotations

import duckdb
import fsspec
import numpy as np
import pandas as pd
import polars
import pytest

from mntrading.core import bars as core_bars
from mntrading.core.coverage import Gap, Ledger
from mntrading.core.errors import ArtifactError, BarDataError, ParameterError
from mntrading.datasets import BarsDataset, BarsUpdate, Commit
from mntrading.datasets.errors import MissingPartitionError

HOUR = 3_600_000
MADE_BY = "kedro run --pipelines ingestion"


def _bars(symbol: str, hours: list[int], price: float = 10.0) -> pd.DataFrame:
    rows = np.array([[h * HOUR, price, price + 1, price - 1, price + h / 10**5, h] for h in hours], dtype=float)
    return core_bars.bars_from_rows(rows.reshape(-1, 6), symbol)


def _at(hour: int) -> pd.Timestamp:
    return pd.Timestamp(hour * HOUR, unit="ms", tz="UTC")


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path}"


def _dataset(root: object, **options: object) -> BarsDataset:
    given = {"path": f"{root}/raw/ohlcv_1h.parquet", "timeframe": "1h", "made_by": MADE_BY} | options
    return BarsDataset(**given)


BTC, APT, FIL = (
    _bars("BTC/USDT", [0, 1, 2, 5], 100.0),
    _bars("APT/USDT", [1, 2, 3]),
    _bars("FIL/USDT", [6, 7], 5.0),
)
FRAMES = {"BTC/USDT": BTC, "APT/USDT": APT, "FIL/USDT": FIL}


def test_bars_come_back_by_symbol_with_what_is_known_of_them(root):
    dataset = _dataset(root)
    known = Ledger(fetched=((0, 6 * HOUR),), gaps=(Gap(3 * HOUR, 5 * HOUR, "exchange", 9 * HOUR),))
    dataset.save(BarsUpdate("sim:calm:0", FRAMES, {"BTC/USDT": known}))
    store = dataset.load()
    assert list(store) == list(store.symbols) == ["APT/USDT", "BTC/USDT", "FIL/USDT"]
    assert (store.source, store.timeframe) == ("sim:calm:0", "1h")
    pd.testing.assert_frame_equal(store["BTC/USDT"], BTC)
    entry = store.entry("BTC/USDT")
    del entry["bytes"]
    assert entry == {"rows": 4, "first": _at(0), "last": _at(5), "missing_bars": 2}
    assert store.ledger("BTC/USDT") == known
    assert store.ledger("APT/USDT") == store.ledger("never/HEARD") == Ledger()
    pd.testing.assert_frame_equal(store.frame(), pd.concat([APT, BTC, FIL], ignore_index=True))
    pd.testing.assert_frame_equal(store.frame(["FIL/USDT", "APT/USDT"]), pd.concat([APT, FIL], ignore_index=True))


def test_any_reader_takes_the_folder_for_one_table(tmp_path):
    odd = _bars("币/USDT", [0, 9000])
    _dataset(tmp_path).save(BarsUpdate("sim", FRAMES | {"币/USDT": odd, "NEW/USDT": _bars("NEW/USDT", [])}))
    folder = tmp_path / "raw" / "ohlcv_1h.parquet"
    assert sorted(file.name for file in folder.iterdir()) == [
        "APT-USDT.1970.parquet", "BTC-USDT.1970.parquet", "FIL-USDT.1970.parquet",
        "~e5~b8~81-USDT.1970.parquet", "~e5~b8~81-USDT.1971.parquet",
    ]  # fmt: skip
    assert sorted(file.name for file in folder.parent.iterdir()) == ["ohlcv_1h.meta", "ohlcv_1h.parquet"]
    stored = _dataset(tmp_path).load().frame().sort_values(["symbol", "timestamp"], ignore_index=True)
    readers = (
        pd.read_parquet(folder),
        polars.read_parquet(folder).to_pandas(),
        duckdb.sql(f"select * from '{folder}/*.parquet'").pl().to_pandas(),  # noqa: S608
    )
    for read in readers:
        table = read.sort_values(["symbol", "timestamp"], ignore_index=True)
        assert table["symbol"].tolist() == stored["symbol"].tolist()
        assert core_bars.times_ms(table["timestamp"]).tolist() == core_bars.times_ms(stored["timestamp"]).tolist()
        np.testing.assert_array_equal(table[list(core_bars.COLUMNS[2:])], stored[list(core_bars.COLUMNS[2:])])


def test_adding_bars_writes_the_newest_file_anew_and_no_other(tmp_path):
    dataset = _dataset(tmp_path, path=f"{tmp_path}/raw/ohlcv_5m.parquet", timeframe="5m")
    month = 8928  # bars of January
    dataset.save(BarsUpdate("sim", {"APT/USDT": _minutes(range(0, 300_000, 5))}))
    files = {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in (tmp_path / "raw").rglob("*.parquet/*")}
    assert len(files) == 7
    dataset.save(BarsUpdate("sim", {"APT/USDT": _minutes([300_000, 300_005])}))
    now = {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in (tmp_path / "raw").rglob("*.parquet/*")}
    assert [file.name for file in files if files[file] != now[file]] == ["APT-USDT.1970-07.parquet"]
    store = dataset.load()
    assert store.entry("APT/USDT")["rows"] == 60_002
    assert len(pd.read_parquet(tmp_path / "raw" / "ohlcv_5m.parquet" / "APT-USDT.1970-01.parquet")) == month


def _minutes(minutes):
    rows = np.array([[k * 60_000.0, 1.0, 1.0, 1.0, 1.0, 1.0] for k in minutes])
    return core_bars.bars_from_rows(rows, "APT/USDT")


def test_a_stored_bar_is_never_changed_and_new_ones_fit_in_around_it(root):
    dataset = _dataset(root)
    dataset.save(BarsUpdate("sim", {"APT/USDT": APT}))
    dataset.save(BarsUpdate("sim", {"APT/USDT": _bars("APT/USDT", [0, 2, 5], price=99.0)}))
    stored = dataset.load()["APT/USDT"]
    assert stored["timestamp"].tolist() == [_at(0), _at(1), _at(2), _at(3), _at(5)]
    assert stored["open"].tolist() == [99.0, 10.0, 10.0, 10.0, 99.0]


def test_what_is_known_of_a_symbol_can_change_without_bars(root):
    dataset = _dataset(root)
    dataset.save(BarsUpdate("sim", {"APT/USDT": APT}))
    asked = Ledger(fetched=((0, 9 * HOUR),))
    dataset.save(BarsUpdate("sim", ledgers={"APT/USDT": asked, "FIL/USDT": asked}))
    store = dataset.load()
    assert store.ledger("APT/USDT") == store.ledger("FIL/USDT") == asked
    assert list(store) == ["APT/USDT"]
    dataset.save(BarsUpdate("sim", {"APT/USDT": _bars("APT/USDT", [7])}))
    assert dataset.load().ledger("APT/USDT") == asked


def test_same_bars_in_any_pieces_leave_the_same_bytes(tmp_path):
    for _ in range(2):
        _dataset(tmp_path).save(BarsUpdate("sim", FRAMES))
        tree = {file: file.read_bytes() for file in (tmp_path / "raw").rglob("*") if file.is_file()}
    _dataset(tmp_path / "other").save(BarsUpdate("sim", {"FIL/USDT": FIL[1:]}))
    _dataset(tmp_path / "other").save(BarsUpdate("sim", {"APT/USDT": APT, "BTC/USDT": BTC[2:]}))
    _dataset(tmp_path / "other").save(BarsUpdate("sim", {"FIL/USDT": FIL[:1], "BTC/USDT": BTC[:3]}))
    other = [file for file in (tmp_path / "other" / "raw").rglob("*") if file.is_file()]
    assert {file.name: file.read_bytes() for file in other} == {f.name: data for f, data in tree.items()}


def test_the_coin_that_bore_a_symbol_before_keeps_its_bars_under_a_name_of_its_own(root):
    dataset = _dataset(root)
    known = Ledger(
        fetched=((0, 20_000 * HOUR),),
        gaps=(Gap(3 * HOUR, 5 * HOUR, "exchange", 1), Gap(9990 * HOUR, 9991 * HOUR, "exchange", 1)),
        rejected={4 * HOUR: "not finite"},
    )
    hours = [0, 1, 2, 5, 9000, 9500, 9501, 9989, 9991]  # of two years
    dataset.save(BarsUpdate("sim", {"LUNA/USDT": _bars("LUNA/USDT", hours)}, {"LUNA/USDT": known}))
    for _ in range(2):  # a second time, as after a crash, changes nothing
        dataset.save(BarsUpdate("sim", archive={"LUNA/USDT": ("LUNA/USDT@old", 9500 * HOUR)}))
        store = dataset.load()
        opens = {symbol: (core_bars.times_ms(store[symbol]["timestamp"]) // HOUR).tolist() for symbol in store}
        assert opens == {"LUNA/USDT": [9500, 9501, 9989, 9991], "LUNA/USDT@old": [0, 1, 2, 5, 9000]}
        assert set(store["LUNA/USDT@old"]["symbol"]) == {"LUNA/USDT@old"}
        now, before = store.ledger("LUNA/USDT"), store.ledger("LUNA/USDT@old")
        assert (now.gaps, before.gaps) == (known.gaps[1:], known.gaps[:1])
        assert (now.rejected, before.rejected) == ({}, known.rejected)
        assert now.notes["listed_from"] == before.notes["listed_until"]
        assert not store.damage(hashes=True)


class TestDamage:
    @pytest.fixture
    def dataset(self, root):
        asked = Ledger(fetched=((0, 10 * HOUR),))
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", FRAMES, dict.fromkeys(FRAMES, asked)))
        return dataset

    def _heal(self, dataset, **how):
        damage = dataset.load().damage(**how)
        dataset.save(BarsUpdate("sim", damage=damage))
        assert not dataset.load().damage(hashes=True)
        return damage

    def test_none_is_found_where_there_is_none(self, dataset):
        assert not dataset.load().damage(hashes=True)

    @pytest.mark.parametrize(("content", "hashes"), [(b"PAR1", False), (None, False), (b"same size", True)])
    def test_a_file_goes_to_quarantine_and_its_bars_count_as_never_asked_for(self, root, dataset, content, hashes):
        fs, folder = fsspec.url_to_fs(f"{root}/raw/ohlcv_1h.parquet")
        path = f"{folder}/FIL-USDT.1970.parquet"
        if content == b"same size":
            content = fs.cat_file(path)[:-9] + b"same size"
            assert not dataset.load().damage(hashes=False)
        fs.rm_file(path) if content is None else fs.pipe_file(path, content)
        damage = self._heal(dataset, hashes=hashes)
        assert str(damage) == "1 damaged or unlisted files: FIL-USDT.1970"
        store = dataset.load()
        assert list(store) == ["APT/USDT", "BTC/USDT"]
        assert store.ledger("FIL/USDT").fetched == ((0, 6 * HOUR), (8 * HOUR, 10 * HOUR))
        aside = fs.find(f"{root}/raw/quarantine")
        assert len(aside) == (content is not None)
        if aside:
            assert fs.cat_file(aside[0]) == content

    def test_a_manifest_takes_its_files_with_it_and_no_other(self, root, dataset):
        fs, folder = fsspec.url_to_fs(f"{root}/raw")
        fs.pipe_file(f"{folder}/ohlcv_1h.meta/BTC-USDT.json", b"{")
        damage = self._heal(dataset, hashes=False)
        assert (damage.manifests, damage.strangers) == (("BTC-USDT.json",), ("BTC-USDT.1970.parquet",))
        store = dataset.load()
        assert list(store) == ["APT/USDT", "FIL/USDT"]
        assert store.ledger("BTC/USDT") == Ledger()
        dataset.save(BarsUpdate("sim", {"BTC/USDT": BTC}))
        assert len(dataset.load()["BTC/USDT"]) == 4

    def test_a_file_nobody_knows_is_moved_out_of_the_table(self, root, dataset):
        fs, folder = fsspec.url_to_fs(f"{root}/raw/ohlcv_1h.parquet")
        fs.pipe_file(f"{folder}/copy of FIL.parquet", fs.cat_file(f"{folder}/FIL-USDT.1970.parquet"))
        assert self._heal(dataset, hashes=False).strangers == ("copy of FIL.parquet",)
        assert len(fs.find(folder)) == 3


class TestNeighbours:
    def test_the_row_before_and_enough_rows_after(self, root):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", {"A/B": _bars("A/B", [0, 1, 2, 8000, 9000, 9001, 18_000])}))
        store = dataset.load()

        def around(first, until, count):
            before, after = store.neighbours("A/B", first * HOUR, until * HOUR, count)
            return (before[:, 0] // HOUR).tolist(), (after[:, 0] // HOUR).tolist()

        assert around(3, 9000, 1) == ([2], [9000, 9001])
        assert around(3, 9000, 3) == ([2], [9000, 9001, 18_000])
        assert around(8500, 8700, 1) == ([8000], [9000, 9001])
        assert around(9000, 9001, 1) == ([8000], [9001])
        assert around(0, 1, 1) == ([], [1, 2, 8000])
        assert around(19_000, 20_000, 5) == ([18_000], [])
        assert store.span("A/B") == (0, 18_001 * HOUR)
        assert store.span("X/Y") is None
        assert [part.shape for part in store.neighbours("X/Y", 0, 1, 5)] == [(0, 6), (0, 6)]


class TestRefusals:
    def test_bars_of_another_source(self, root):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("binance", {"APT/USDT": APT}))
        for other in (BarsUpdate("sim", {"FIL/USDT": FIL}), {"FIL/USDT": FIL}):
            with pytest.raises(ArtifactError, match="holds bars of binance, these come from") as caught:
                dataset.save(other)
            assert "use another storage root (MNTRADING_STORAGE_ROOT), or remove" in caught.value.fix
        assert list(dataset.load()) == ["APT/USDT"]

    def test_bars_of_another_timeframe(self, root):
        _dataset(root).save(BarsUpdate("sim", {"APT/USDT": APT}))
        other = _dataset(root, timeframe="5m")
        for act in (other.load, lambda: other.save(BarsUpdate("sim", {"APT/USDT": APT}))):
            with pytest.raises(ArtifactError, match="holds bars of 1h, expected 5m"):
                act()

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            (_bars("APT/USDT", [1, 3, 2]), "APT/USDT at .*03|time does not increase"),
            (
                pd.concat([_bars("APT/USDT", [1]), _bars("FIL/USDT", [2])]),
                "has bars of FIL/USDT, expected APT",
            ),
            (APT.assign(close=np.nan), "not finite"),
            (APT.assign(note="x"), r"has the columns \['note'\]"),
            (APT.drop(columns="volume"), r"columns \['volume'\] are missing"),
        ],
    )
    def test_bars_that_break_the_contract_keep_what_is_stored(self, root, frame, message):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", {"APT/USDT": APT}))
        with pytest.raises(BarDataError, match=message) as caught:
            dataset.save(BarsUpdate("sim", {"FIL/USDT": FIL, "APT/USDT": frame}))
        assert "Failed while" not in str(caught.value)
        assert list(dataset.load()) == ["APT/USDT"]
        pd.testing.assert_frame_equal(dataset.load()["APT/USDT"], APT)

    def test_two_symbols_of_one_file_name(self, root):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", {"APT/USDT": APT}))
        with pytest.raises(ArtifactError, match="keeps APT/USDT under the name APT-USDT"):
            dataset.save(BarsUpdate("sim", {"APT-USDT": _bars("APT-USDT", [1])}))

    def test_what_is_no_update(self, root):
        for data in (Commit(ids=()), [APT]):
            with pytest.raises(ArtifactError, match="expected a BarsUpdate or a mapping"):
                _dataset(root).save(data)

    def test_missing_store_unless_it_may_be_missing(self, root):
        with pytest.raises(ArtifactError, match=f"does not exist\nNext: {MADE_BY}"):
            _dataset(root).load()
        store = _dataset(root, missing_ok=True).load()
        assert (len(store), store.source, store.timeframe) == (0, None, "1h")
        pd.testing.assert_frame_equal(store.frame(), core_bars.empty_bars())
        assert store.wide("close").shape == (0, 0)
        assert str(store.wide("close").index.dtype) == core_bars.TIMESTAMP_DTYPE

    def test_path_and_timeframe_that_make_no_sense(self, tmp_path):
        with pytest.raises(ParameterError, match=r"does not end in \.parquet"):
            BarsDataset(path=tmp_path / "bars", timeframe="1h")
        with pytest.raises(ParameterError, match="unknown timeframe"):
            BarsDataset(path=tmp_path / "bars.parquet", timeframe="hour")

    def test_damaged_file_is_named(self, tmp_path):
        dataset = _dataset(tmp_path)
        dataset.save(BarsUpdate("sim", FRAMES))
        (tmp_path / "raw" / "ohlcv_1h.parquet" / "FIL-USDT.1970.parquet").write_bytes(b"PAR1")
        store = dataset.load()
        assert len(store["APT/USDT"]) == 3
        for read in (store.frame, lambda: store.wide("close"), lambda: store["FIL/USDT"]):
            with pytest.raises(ArtifactError, match=r"FIL-USDT.1970.parquet: does not match its manifest"):
                read()


class TestWide:
    def test_grid_is_complete_and_holes_are_nan(self, root):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", FRAMES))
        wide = dataset.load().wide("close")
        pd.testing.assert_frame_equal(wide, core_bars.wide(dataset.load().frame(), "close", "1h"))
        assert wide.shape == (8, 3)
        assert np.isnan(wide.loc[_at(3), "BTC/USDT"])
        assert wide.loc[_at(5), "BTC/USDT"] == 100.00005

    def test_range_takes_its_start_and_leaves_its_end(self, root):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", FRAMES))
        store = dataset.load()
        wide = store.wide("volume", ["FIL/USDT", "BTC/USDT"], start=_at(2), end=_at(6))
        assert list(wide.columns) == ["FIL/USDT", "BTC/USDT"]
        assert list(wide.index) == [_at(2), _at(3), _at(4), _at(5)]
        np.testing.assert_array_equal(wide["BTC/USDT"], [2, np.nan, np.nan, 5])
        assert wide["FIL/USDT"].isna().all()
        assert store.wide("close", start=_at(8)).shape == (0, 3)

    def test_what_cannot_be_asked_for(self, root):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", FRAMES))
        store = dataset.load()
        with pytest.raises(ParameterError, match="unknown column 'symbol'"):
            store.wide("symbol")
        with pytest.raises(ParameterError, match="no time zone"):
            store.wide("close", start=pd.Timestamp("1970-01-01"))
        with pytest.raises(MissingPartitionError, match="has no 'ETH/USDT'"):
            store.wide("close", ["ETH/USDT"])
