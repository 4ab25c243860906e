"""The bars contract, the time grid, and aggregation, on bars made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_bars import START, A, B, bars_of, grid

from mntrading.core.bars import (
    COLUMNS,
    TIMESTAMP_DTYPE,
    aggregate,
    bars_from_rows,
    check_bars,
    closed_bars,
    empty_bars,
    from_ms,
    invalid_rows,
    on_grid,
    timeframe_ms,
    times_ms,
    to_ms,
    wide,
)
from mntrading.core.errors import BarDataError, ParameterError

GOOD = [0.0, 10.0, 12.0, 9.0, 11.0, 5.0]


@pytest.mark.parametrize(
    ("timeframe", "expected"), [("1m", 60_000), ("5m", 300_000), ("4h", 14_400_000), ("1d", 86_400_000)]
)
def test_timeframe_in_milliseconds(timeframe, expected):
    assert timeframe_ms(timeframe) == expected


@pytest.mark.parametrize("timeframe", ["", "m", "5", "0m", "-5m", "5s", "1.5h", "5 m"])
def test_an_unknown_timeframe_is_refused(timeframe):
    with pytest.raises(ParameterError, match="unknown timeframe"):
        timeframe_ms(timeframe)


@given(st.integers(0, 4_000_000_000_000), st.sampled_from(["ms", "us", "ns"]))
def test_times_go_to_milliseconds_and_back(milliseconds, unit):
    moment = from_ms(milliseconds).as_unit(unit)
    assert to_ms(moment) == milliseconds
    assert times_ms(pd.DatetimeIndex([moment])).tolist() == [milliseconds]


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ParameterError, match="no time zone"):
        to_ms(pd.Timestamp("2025-01-01"))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (GOOD, ""),
        ([300_000.0, 10, 10, 10, 10, 0], ""),
        ([1.0, *GOOD[1:]], "off the 5m grid"),
        ([0, 10, 12, 9, np.nan, 5], "not finite"),
        ([0, 10, np.inf, 9, 11, 5], "not finite"),
        ([0, 0, 12, 9, 11, 5], "price not positive"),
        ([0, 10, 12, -9, 11, 5], "price not positive"),
        ([0, 10, 12, 9, 11, -5], "negative volume"),
        ([0, 10, 10.5, 9, 11, 5], "open or close outside low..high"),
        ([0, 10, 12, 10.5, 11, 5], "open or close outside low..high"),
        ([0, 10, 9, 12, 11, 5], "open or close outside low..high"),
    ],
)
def test_reason_a_row_breaks_the_contract(row, why):
    assert invalid_rows(np.array([GOOD, row]), "5m").tolist() == ["", why]


def test_a_good_frame_passes_and_a_bad_one_names_symbol_time_and_reason():
    frame = bars_from_rows(np.array([GOOD, [300_000.0, *GOOD[1:]]]), A)
    check_bars(frame, "5m")
    check_bars(empty_bars(), "5m")
    bad = frame.assign(volume=[1.0, -1.0])
    with pytest.raises(BarDataError, match=r"store: AAA/USDT at 1970-01-01 00:05:00\+00:00: negative volume"):
        check_bars(bad, "5m", where="store")
    with pytest.raises(BarDataError, match="time does not increase"):
        check_bars(frame[::-1], "5m")
    with pytest.raises(BarDataError, match="time does not increase"):
        check_bars(pd.concat([frame, frame.tail(1)]), "5m")
    with pytest.raises(BarDataError, match=r"\['volume'\] are missing"):
        check_bars(frame.drop(columns="volume"), "5m")
    with pytest.raises(BarDataError, match="expected datetime64"):
        check_bars(frame.assign(timestamp=frame["timestamp"].dt.as_unit("ns")), "5m")


def test_symbols_must_not_be_mixed_up():
    one, other = bars_of(A, [1.0, 2.0]), bars_of(B, [1.0, 2.0])
    check_bars(pd.concat([one, other]), "5m")
    mixed = pd.concat([one, other]).sort_values("timestamp")
    with pytest.raises(BarDataError, match=r"AAA/USDT at .*: bars are not sorted by symbol"):
        check_bars(mixed, "5m")


def test_rows_become_bars_of_the_house_dtypes():
    frame = bars_from_rows(np.array([GOOD]), A)
    assert tuple(frame.columns) == COLUMNS
    assert str(frame["timestamp"].dtype) == TIMESTAMP_DTYPE
    assert frame.iloc[0].tolist() == [pd.Timestamp(0, tz="UTC"), A, 10.0, 12.0, 9.0, 11.0, 5.0]
    assert empty_bars().dtypes.to_dict() == frame.dtypes.to_dict()


def test_a_bar_is_closed_when_its_timeframe_has_passed():
    frame = bars_of(A, [1.0, 2.0, 3.0])
    minute = pd.Timedelta(minutes=1)
    assert len(closed_bars(frame, "5m", START + 10 * minute)) == 2
    assert len(closed_bars(frame, "5m", START + 10 * minute - pd.Timedelta(milliseconds=1))) == 1
    assert len(closed_bars(frame, "5m", START + 4 * minute)) == 0


def test_coarser_bars_by_hand():
    fine = bars_of(A, [10.0, 12.0, 8.0, 9.0, 20.0], open_=[9.0, 10.0, 12.0, 8.0, 21.0], volume=[1, 2, 3, 4, 5])
    coarse = aggregate(fine, "20m")
    assert coarse.iloc[0, 2:].tolist() == [9.0, 12.0, 8.0, 9.0, 10.0]
    assert coarse.iloc[1, 2:].tolist() == [21.0, 21.0, 20.0, 20.0, 5.0]
    assert coarse["timestamp"].tolist() == [START, START + pd.Timedelta(minutes=20)]
    assert coarse.dtypes.to_dict() == fine.dtypes.to_dict()


def test_the_grid_is_complete_and_holes_stay_holes():
    frame = bars_of(A, [1.0, np.nan, 3.0])
    out = on_grid(frame, "5m", ("close",))
    assert out.index.equals(grid(3))
    assert out["close"].tolist() == pytest.approx([1.0, np.nan, 3.0], nan_ok=True)
    assert on_grid(frame.iloc[:0], "5m", ("close",)).empty


def test_a_wide_matrix_has_every_symbol_on_one_grid():
    both = pd.concat([bars_of(B, [np.nan, 5.0, 6.0]), bars_of(A, [1.0, np.nan, np.nan, 4.0])])
    matrix = wide(both, "close", "5m")
    assert list(matrix.columns) == [A, B]
    assert matrix.index.equals(grid(4))
    expected = [[1.0, np.nan], [np.nan, 5.0], [np.nan, 6.0], [4.0, np.nan]]
    np.testing.assert_array_equal(matrix.to_numpy(), expected)
    nothing = wide(both.iloc[:0], "close", "5m")
    assert nothing.empty
    assert nothing.index.dtype == matrix.index.dtype
