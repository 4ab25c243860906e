from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mntrading.core import bars, simulation
from mntrading.core.errors import ParameterError

START = simulation.START


def until(days: float) -> pd.Timestamp:
    return START + pd.Timedelta(days=days)


@pytest.fixture(scope="module")
def demo() -> simulation.Market:
    return simulation.market("demo", seed=1, end=until(125))


@pytest.mark.parametrize("name", simulation.MARKETS)
def test_same_name_and_seed_give_the_same_bars_and_another_seed_others(name: str) -> None:
    first, again, other = (simulation.market(name, seed=seed, end=until(3)) for seed in (4, 4, 5))
    pd.testing.assert_frame_equal(first.bars("5m"), again.bars("5m"), check_exact=True)
    pd.testing.assert_frame_equal(first.truth, again.truth)
    assert not np.array_equal(first.bars("5m")["close"], other.bars("5m")["close"])


@pytest.mark.parametrize("timeframe", ["5m", "1h", "1d"])
@pytest.mark.parametrize("name", simulation.MARKETS)
def test_a_later_end_changes_no_earlier_bar(name: str, timeframe: str) -> None:
    early = until(41.37)
    short = simulation.market(name, seed=2, end=early).bars(timeframe)
    long = simulation.market(name, seed=2, end=until(46)).bars(timeframe)
    closed = bars.closed_bars(long, timeframe, early).reset_index(drop=True)
    pd.testing.assert_frame_equal(short, closed, check_exact=True)


def test_a_break_of_cointegration_changes_no_bar_before_it() -> None:
    before, after = (simulation.market("break", end=until(days)) for days in (90, 95))
    closed = bars.closed_bars(after.bars("5m"), "5m", before.end).reset_index(drop=True)
    pd.testing.assert_frame_equal(before.bars("5m"), closed, check_exact=True)
    assert before.truth["break_time"].isna().all()
    assert after.truth["break_time"].tolist() == [until(90)]


@pytest.mark.parametrize("timeframe", ["15m", "1h", "4h", "1d"])
def test_coarse_bars_are_the_exact_aggregate_of_5m_bars(demo: simulation.Market, timeframe: str) -> None:
    coarse = demo.bars(timeframe)
    expected = bars.aggregate(demo.bars("5m"), timeframe)
    pd.testing.assert_frame_equal(coarse, expected, check_exact=True)
    bars.check_bars(coarse, timeframe)


def test_buckets_cut_by_start_or_end_are_left_out() -> None:
    market = simulation.market("ou", start=START + pd.Timedelta(minutes=35), end=until(1) - pd.Timedelta(minutes=5))
    opens = market.bars("1h")["timestamp"]
    assert opens.min() == START + pd.Timedelta(hours=1)
    assert opens.max() == START + pd.Timedelta(hours=22)


@pytest.mark.parametrize("name", simulation.MARKETS)
def test_bars_keep_the_contract_and_open_near_the_close_before(name: str) -> None:
    market = simulation.market(name, end=until(20))
    frame = market.bars("5m")
    bars.check_bars(frame, "5m")
    assert frame["timestamp"].min() == market.start
    assert frame["timestamp"].max() + pd.Timedelta(minutes=5) == market.end
    assert frame["symbol"].is_monotonic_increasing
    one = frame[frame["symbol"] == market.symbols[0]]
    gap = np.abs(np.log(one["open"].to_numpy()[1:] / one["close"].to_numpy()[:-1]))
    move = np.abs(np.diff(np.log(one["close"])))
    assert np.median(gap) < 0.2 * np.median(move)


def test_prices_and_volumes_lie_on_the_listed_grids(demo: simulation.Market) -> None:
    for row in demo.listings.itertuples():
        rows = demo.rows(row.symbol, "1d")
        ticks, lots = rows[:, 1:5] / row.tick, rows[:, 5] / row.lot
        assert np.abs(ticks - np.rint(ticks)).max() < 1e-4
        assert (np.abs(lots - np.rint(lots)) / lots).max() < 1e-9
        assert ticks.min() > 10_000


def test_volume_grows_with_volatility_and_symbols_differ_by_orders_of_magnitude(
    demo: simulation.Market,
) -> None:
    hourly = demo.bars("1h")
    ranges = np.log(hourly["high"] / hourly["low"])
    walks = hourly["symbol"] != "USDC/USDT"
    rank = pd.DataFrame({"range": ranges, "volume": hourly["volume"]})[walks].groupby(hourly["symbol"]).corr("spearman")
    assert (rank["volume"].xs("range", level=1) > 0.2).all()
    quote = (hourly["close"] * hourly["volume"]).groupby(hourly["symbol"]).median()
    assert quote.max() / quote.min() > 100


def test_demo_has_a_late_listing_a_delisting_a_stablecoin_and_changing_volatility(
    demo: simulation.Market,
) -> None:
    listings = demo.listings.set_index("symbol")
    assert listings["listed"].value_counts().to_dict() == {START: 29, until(40): 1}
    assert listings["delisted"].dropna().tolist() == [until(120)]
    gone = listings["delisted"].dropna().index[0]
    last = demo.bars("5m").loc[lambda frame: frame["symbol"] == gone, "timestamp"].max()
    assert last == until(120) - pd.Timedelta(minutes=5)
    stable = demo.rows("USDC/USDT", "1h")[:, 4]
    assert np.abs(stable - 1).max() < 0.005
    daily = np.log(bars.wide(demo.bars("1h"), "close", "1h")).diff().drop(columns="USDC/USDT")
    factor = daily.mean(axis=1).rolling(240).std().dropna()
    assert factor.max() / factor.min() > 1.4


def test_a_symbol_not_yet_listed_is_absent() -> None:
    assert len(simulation.market("demo", end=until(40)).symbols) == 29
    assert len(simulation.market("demo", end=until(40.1)).symbols) == 30


def test_planted_pairs_have_the_spread_the_truth_states(demo: simulation.Market) -> None:
    close = np.log(bars.wide(demo.bars("5m"), "close", "5m"))
    assert len(demo.truth) == 8
    legs = [*demo.truth["dependent"], *demo.truth["independent"]]
    assert len(set(legs)) == 16
    for row in demo.truth.itertuples():
        alive = close.loc[row.start : row.end - pd.Timedelta(minutes=5)]
        spread = (alive[row.dependent] - row.alpha - row.beta * alive[row.independent]).to_numpy()
        phi = (spread[1:] @ spread[:-1]) / (spread[:-1] @ spread[:-1])
        assert -np.log(2) / np.log(phi) / 12 == pytest.approx(row.half_life_hours, rel=0.5)
        assert spread.std() == pytest.approx(row.spread_std, rel=0.25)
        assert abs(spread.mean()) < row.spread_std
        assert 6 <= row.half_life_hours <= 14
        assert 0.6 <= row.beta <= 1.4
        assert 0.0035 <= row.spread_std <= 0.006


def test_the_broken_pair_leaves_its_spread_band_for_good() -> None:
    market = simulation.market("break", end=until(150))
    (row,) = market.truth.itertuples()
    close = np.log(bars.wide(market.bars("1h"), "close", "1h"))
    spread = close[row.dependent] - row.alpha - row.beta * close[row.independent]
    assert row.end == row.break_time == until(90)
    assert spread.loc[: row.end].abs().max() < 6 * row.spread_std
    assert spread.loc[until(130) :].abs().min() > 6 * row.spread_std


def test_ou_is_one_pair_whose_hedge_ratio_can_be_read_from_the_closes() -> None:
    market = simulation.market("ou", end=until(90))
    (row,) = market.truth.itertuples()
    close = np.log(bars.wide(market.bars("1h"), "close", "1h"))
    beta = np.polyfit(close[row.independent], close[row.dependent], 1)[0]
    assert len(market.symbols) == 2
    assert beta == pytest.approx(row.beta, abs=0.05)


def test_null_has_no_truth_but_a_common_factor() -> None:
    market = simulation.market("null", end=until(10))
    assert market.truth.empty
    assert list(market.truth.columns) == list(simulation.TRUTH_COLUMNS)
    returns = np.log(bars.wide(market.bars("1h"), "close", "1h")).diff().corr().to_numpy()
    assert 0.1 < returns[np.triu_indices(30, 1)].mean() < 0.8


def test_dirty_rows_do_not_depend_on_the_rows_after_them() -> None:
    clean = simulation.market("null", n_symbols=2, end=until(20))
    symbol = clean.symbols[0]
    rows = clean.rows(symbol, "5m")
    whole, part = (
        simulation.dirty_rows(some, symbol=symbol, timeframe="5m", seed=3, rate=0.003) for some in (rows, rows[:4000])
    )
    edge = rows[3900, 0]
    assert np.array_equal(whole.rows[whole.rows[:, 0] < edge], part.rows[part.rows[:, 0] < edge], equal_nan=True)
    assert len(whole.removed) > len(part.removed) > 0


def test_dirty_rows_hold_every_kind_of_mischief() -> None:
    market = simulation.market("dirty", end=until(60))
    served = market.served("5m")
    rows = np.vstack([part.rows for part in served.values()])
    assert np.isnan(rows[:, 1:]).any()
    assert (rows[:, 1:5] <= 0).any()
    assert (rows[:, 0] % 300_000 != 0).any()
    assert any((np.diff(part.rows[:, 0]) < 0).any() for part in served.values())
    assert any((np.diff(np.sort(part.rows[:, 0])) == 0).any() for part in served.values())
    assert (rows[:, 0] + 300_000 > bars.to_ms(market.end)).any()
    assert set(market.removed("5m")["reason"]) == {
        "gap", "not finite", "price not positive", "wrong unit", "late",
    }  # fmt: skip


def test_a_clean_market_removes_nothing() -> None:
    assert simulation.market("ou", end=until(1)).removed("5m").empty


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "bull"}, "demo, null, ou, break, dirty"),
        ({"n_symbols": 3}, "at least 6"),
        ({"seed": -1}, "seed is -1"),
        ({"end": START}, "hold no bar"),
        ({"start": START + pd.Timedelta(minutes=1)}, "5m grid"),
        ({"start": pd.Timestamp("2025-01-01")}, "time zone"),
    ],
)
def test_a_market_that_can_not_be_made_says_why(change: dict[str, object], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        simulation.market(**({"name": "demo"} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("timeframe", ["1m", "7m", "2d"])
def test_a_timeframe_that_is_no_multiple_of_5m_within_a_day_is_refused(timeframe: str) -> None:
    with pytest.raises(ParameterError, match="multiple of 5m"):
        simulation.market("ou", end=until(1)).bars(timeframe)
