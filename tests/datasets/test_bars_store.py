"""The bar store: one readable folder, one source, matrices on the complete grid."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mntrading.core import bars as core_bars
from mntrading.core.errors import ArtifactError, BarDataError, ParameterError
from mntrading.datasets import BarsDataset, BarsUpdate, Commit
from mntrading.datasets.errors import MissingPartitionError

HOUR = 3_600_000
MADE_BY = "kedro run --pipelines ingestion"


def _bars(symbol: str, hours: list[int], price: float = 10.0) -> pd.DataFrame:
    rows = np.array([[h * HOUR, price, price + 1, price - 1, price + h / 100, h] for h in hours], dtype=float)
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
    dataset.save(BarsUpdate("sim:calm:0", FRAMES, {"BTC/USDT": {"requested_since": _at(0), "rejected": 2}}))
    store = dataset.load()
    assert list(store) == list(store.symbols) == ["APT/USDT", "BTC/USDT", "FIL/USDT"]
    assert (store.source, store.timeframe) == ("sim:calm:0", "1h")
    pd.testing.assert_frame_equal(store["BTC/USDT"], BTC)
    entry = store.entry("BTC/USDT")
    assert {name: entry[name] for name in entry if name not in ("sha256", "bytes")} == {
        "symbol": "BTC/USDT",
        "rows": 4,
        "first": "1970-01-01T00:00:00Z",
        "last": "1970-01-01T05:00:00Z",
        "missing_bars": 2,
        "requested_since": "1970-01-01T00:00:00Z",
        "rejected": 2,
    }
    pd.testing.assert_frame_equal(store.frame(), pd.concat([APT, BTC, FIL], ignore_index=True))
    pd.testing.assert_frame_equal(store.frame(["FIL/USDT", "APT/USDT"]), pd.concat([APT, FIL], ignore_index=True))


def test_folder_holds_parquet_only_and_pandas_reads_it_whole(tmp_path):
    _dataset(tmp_path).save(BarsUpdate("sim", FRAMES | {"NEW/USDT": _bars("NEW/USDT", [])}))
    folder = tmp_path / "raw" / "ohlcv_1h.parquet"
    names = ["APT-USDT.parquet", "BTC-USDT.parquet", "FIL-USDT.parquet", "NEW-USDT.parquet"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert sorted(file.name for file in folder.parent.iterdir()) == ["ohlcv_1h.meta.json", "ohlcv_1h.parquet"]
    whole = pd.read_parquet(folder)
    pd.testing.assert_frame_equal(whole, _dataset(tmp_path).load().frame())
    document = json.loads((folder.parent / "ohlcv_1h.meta.json").read_bytes())
    assert (document["source"], document["timeframe"]) == ("sim", "1h")


def test_symbol_is_replaced_whole_and_earlier_notes_stay(root):
    dataset = _dataset(root)
    dataset.save(BarsUpdate("sim", {"APT/USDT": APT}, {"APT/USDT": {"since": 1, "until": 4}}))
    dataset.save(BarsUpdate("sim", {"APT/USDT": _bars("APT/USDT", [2, 3, 4])}, {"APT/USDT": {"until": 5}}))
    entry = dataset.load().entry("APT/USDT")
    assert (entry["rows"], entry["since"], entry["until"]) == (3, 1, 5)
    assert entry["first"] == "1970-01-01T02:00:00Z"


def test_notes_can_be_updated_without_bars(root):
    dataset = _dataset(root)
    dataset.save(BarsUpdate("sim", {"APT/USDT": APT}))
    before = dataset.load().entry("APT/USDT")
    dataset.save(BarsUpdate("sim", {}, {"APT/USDT": {"requested_until": _at(9)}}))
    assert dataset.load().entry("APT/USDT") == before | {"requested_until": "1970-01-01T09:00:00Z"}
    with pytest.raises(ArtifactError, match="has no bars of FIL/USDT to note anything of"):
        dataset.save(BarsUpdate("sim", {}, {"FIL/USDT": {"requested_until": _at(9)}}))


def test_same_bars_saved_again_leave_the_same_bytes(tmp_path):
    for _ in range(2):
        _dataset(tmp_path).save(BarsUpdate("sim", FRAMES))
        tree = {file: file.read_bytes() for file in (tmp_path / "raw").rglob("*") if file.is_file()}
    _dataset(tmp_path / "other").save(BarsUpdate("sim", {"FIL/USDT": FIL}))
    _dataset(tmp_path / "other").save(BarsUpdate("sim", {"APT/USDT": APT, "BTC/USDT": BTC}))
    other = [file for file in (tmp_path / "other" / "raw").rglob("*") if file.is_file()]
    assert {file.name: file.read_bytes() for file in other} == {f.name: data for f, data in tree.items()}


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
        with pytest.raises(ArtifactError, match=r"names \['rows'\], which the store sets itself"):
            _dataset(root).save(BarsUpdate("sim", {"APT/USDT": APT}, {"APT/USDT": {"rows": 1}}))

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
        (tmp_path / "raw" / "ohlcv_1h.parquet" / "FIL-USDT.parquet").write_bytes(b"PAR1")
        store = dataset.load()
        assert len(store["APT/USDT"]) == 3
        for read in (store.frame, lambda: store.wide("close"), lambda: store["FIL/USDT"]):
            with pytest.raises(ArtifactError, match=r"FIL-USDT\.parquet: does not match its manifest"):
                read()


class TestWide:
    def test_grid_is_complete_and_holes_are_nan(self, root):
        dataset = _dataset(root)
        dataset.save(BarsUpdate("sim", FRAMES))
        wide = dataset.load().wide("close")
        pd.testing.assert_frame_equal(wide, core_bars.wide(dataset.load().frame(), "close", "1h"))
        assert wide.shape == (8, 3)
        assert np.isnan(wide.loc[_at(3), "BTC/USDT"])
        assert wide.loc[_at(5), "BTC/USDT"] == 100.05

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
