"""Features row by row against plain numpy, and the proof that no row sees a later bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_bars import START, A, B, bars_of, changed, same_bits, two_legs, until

from mntrading.core import feature_set, simulation
from mntrading.core.bars import BarDataError
from mntrading.core.code import code_of
from mntrading.core.errors import ParameterError
from mntrading.core.feature_set import REGISTRY, PairFrame, feature
from mntrading.core.features import STATE_COLUMNS, build_features, feature_names, spec_hash, warm_up_bars
from mntrading.core.market_volatility import market_volatility
from mntrading.params import FeatureParams

Build = Callable[[pd.DataFrame, pd.DataFrame, FeatureParams], pd.DataFrame]

SMALL = FeatureParams(
    price="log", beta_window=30, z_window=20, hedge_lag_bars=1, min_window_fill=0.8, volatility_window=12,
    lag_features=3,
    hedge="ols", kalman={"delta": 1e-5}, market_window_hours=6,
    include=tuple(name for name in REGISTRY if name != "market_volatility"),
)  # fmt: skip
KALMAN = changed(SMALL, hedge="kalman")
N = 600


@pytest.fixture(scope="module")
def legs() -> tuple[pd.DataFrame, pd.DataFrame]:
    return two_legs(N, seed=1)


@pytest.fixture(scope="module")
def gappy() -> tuple[pd.DataFrame, pd.DataFrame]:
    return two_legs(N, seed=2, missing=0.02)


@pytest.fixture(scope="module")
def whole(legs) -> pd.DataFrame:
    return build_features(*legs, SMALL)


def rows_that_see_later_bars(
    build: Build, legs: tuple[pd.DataFrame, pd.DataFrame], params: FeatureParams, rows: Iterable[int]
) -> list[int]:
    """Rows t after which removing every bar changes some bit at or before t.

    The rows then end at t, or before it where a leg's own bars do.
    """
    full = build(*legs, params)
    out = []
    for t in rows:
        cut = [until(bars, full.index[t]) for bars in legs]
        early = build(*cut, params)
        before = full.loc[: min(bars["timestamp"].iloc[-1] for bars in cut)]
        same = early.index.equals(before.index) and list(early.columns) == list(before.columns)
        if not (same and same_bits(before, early)):
            out.append(t)
    return out


def rows_moved_by_later_prices(
    build: Build, legs: tuple[pd.DataFrame, pd.DataFrame], params: FeatureParams, rows: Iterable[int]
) -> list[int]:
    """Rows t for which later prices and volumes ten times as high change some bit at or before t."""
    full = build(*legs, params)
    out = []
    for t in rows:
        moved = []
        for bars in legs:
            other = bars.copy()
            later = other["timestamp"] > full.index[t]
            other.loc[later, ["open", "high", "low", "close", "volume"]] *= 10.0
            moved.append(other)
        if not same_bits(full.iloc[: t + 1], build(*moved, params).iloc[: t + 1]):
            out.append(t)
    return out


def test_removing_all_later_bars_changes_no_bit_at_any_row(legs):
    assert rows_that_see_later_bars(build_features, legs, SMALL, range(1, N)) == []


def test_removing_all_later_bars_changes_no_bit_where_bars_are_missing(gappy):
    assert rows_that_see_later_bars(build_features, gappy, SMALL, range(2, N - 1, 3)) == []


def test_removing_all_later_bars_changes_no_bit_of_the_filter(legs, gappy):
    assert rows_that_see_later_bars(build_features, legs, KALMAN, range(1, N, 3)) == []
    assert rows_that_see_later_bars(build_features, gappy, changed(KALMAN, price="level"), range(2, N - 1, 11)) == []


def test_removing_all_later_bars_changes_no_bit_of_level_prices(legs):
    level = changed(SMALL, price="level", hedge_lag_bars=0)
    assert rows_that_see_later_bars(build_features, legs, level, range(1, N, 5)) == []


def test_later_prices_ten_times_as_high_change_no_bit_before_them(legs, gappy):
    assert rows_moved_by_later_prices(build_features, legs, SMALL, range(1, N, 7)) == []
    assert rows_moved_by_later_prices(build_features, gappy, SMALL, range(2, N - 1, 11)) == []


# --- the checks above do catch a look-ahead: features that see the future, three ways


def features_of_the_next_row(bars_a, bars_b, params):
    return build_features(bars_a, bars_b, params).shift(-1)


def z_about_a_centred_window(bars_a, bars_b, params):
    frame = build_features(bars_a, bars_b, params)
    window = frame["spread"].rolling(params.z_window, center=True)
    return frame.assign(z=(frame["spread"] - window.mean()) / window.std())


def spread_of_one_beta_for_all_time(bars_a, bars_b, params):
    frame = build_features(bars_a, bars_b, params)
    log_a, log_b = (np.log(bars["close"].to_numpy()) for bars in (bars_a, bars_b))
    both = min(len(log_a), len(log_b))
    beta, alpha = np.polyfit(log_b[:both], log_a[:both], 1) if both > 2 else (1.0, 0.0)
    return frame.assign(spread=(log_a[:both] - beta * log_b[:both] - alpha)[: len(frame)])


def z_with_the_deviation_of_all_time(bars_a, bars_b, params):
    frame = build_features(bars_a, bars_b, params)
    return frame.assign(z=frame["z"] / frame["z"].std())


@pytest.mark.parametrize(
    "mutant",
    [
        features_of_the_next_row,
        z_about_a_centred_window,
        spread_of_one_beta_for_all_time,
        z_with_the_deviation_of_all_time,
    ],
)
def test_a_build_that_sees_the_future_is_caught_by_both_checks(mutant, legs):
    rows = range(100, N - 1, 50)
    assert rows_that_see_later_bars(mutant, legs, SMALL, rows) == list(rows)
    assert rows_moved_by_later_prices(mutant, legs, SMALL, rows) == list(rows)


# --- the same bits from any history that is long enough


@pytest.mark.parametrize("start", [1, 17, 100, 251, 300])
@pytest.mark.parametrize("missing", [0.0, 0.02])
@pytest.mark.parametrize("params", [SMALL, KALMAN], ids=["ols", "kalman"])
def test_a_shorter_history_gives_the_bits_of_a_longer_one_past_warm_up(params, start, missing):
    bars = two_legs(N, seed=3, missing=missing)
    full = build_features(*bars, params)
    first = full.index[start]
    part = build_features(*(leg.loc[leg["timestamp"] >= first] for leg in bars), params)
    warm = warm_up_bars(params)
    settled = part.loc[part.index >= first + pd.Timedelta(minutes=5 * warm)]
    assert len(settled) > 50
    assert same_bits(full.loc[settled.index], settled)


def test_every_feature_is_known_once_warm(legs, whole):
    assert np.isfinite(whole.iloc[warm_up_bars(SMALL) :].to_numpy()).all()


# --- values, against plain numpy


def closes(legs) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.log(bars["close"].to_numpy()) for bars in legs)


def test_state_is_the_lagged_regression_and_its_z(legs, whole):
    log_a, log_b = closes(legs)
    n = len(log_a)
    spread = np.full(n, np.nan)
    for t in range(30, n):
        beta, alpha = np.polyfit(log_b[t - 30 : t], log_a[t - 30 : t], 1)
        spread[t] = log_a[t] - beta * log_b[t] - alpha
        assert whole["beta"].iloc[t] == pytest.approx(beta, rel=1e-7)
        assert whole["alpha"].iloc[t] == pytest.approx(alpha, rel=1e-7, abs=1e-7)
    assert whole["spread"].to_numpy()[30:] == pytest.approx(spread[30:], abs=1e-9)
    for t in range(50, n):
        past = spread[t - 20 : t]
        assert whole["spread_std"].iloc[t] == pytest.approx(past.std(ddof=1), rel=1e-6)
        assert whole["z"].iloc[t] == pytest.approx((spread[t] - past.mean()) / past.std(ddof=1), abs=1e-6)
    first = 30 + 16  # min_window_fill of the z window
    assert whole["z"].iloc[:first].isna().all()
    assert np.isfinite(whole["z"].iloc[first:]).all()
    pd.testing.assert_series_equal(whole["hedge_ratio"], whole["beta"], check_names=False, check_exact=True)


def test_hedge_ratio_of_level_prices_is_a_ratio_of_notionals(legs):
    frame = build_features(*legs, changed(SMALL, price="level"))
    price_a, price_b = (bars["close"].to_numpy() for bars in legs)
    assert frame["hedge_ratio"].to_numpy()[30:] == pytest.approx((frame["beta"] * price_b / price_a)[30:], rel=1e-12)
    t = 400
    beta, alpha = np.polyfit(price_b[t - 30 : t], price_a[t - 30 : t], 1)
    assert frame["spread"].iloc[t] == pytest.approx(price_a[t] - beta * price_b[t] - alpha, abs=1e-8)


def test_changes_and_lags_of_z_are_those_of_its_column(whole):
    z = whole["z"]
    exact = {"check_names": False, "check_exact": True}
    pd.testing.assert_series_equal(whole["z_abs"], z.abs(), **exact)
    pd.testing.assert_series_equal(whole["z_velocity"], z.diff(), **exact)
    pd.testing.assert_series_equal(whole["z_acceleration"], z.diff().diff(), **exact)
    pd.testing.assert_series_equal(whole["z_velocity_12"], z.diff(12), **exact)
    for k in (1, 2, 3):
        pd.testing.assert_series_equal(whole[f"z_lag_{k}"], z.shift(k), **exact)
    pd.testing.assert_series_equal(whole["beta_drift"], whole["beta"].diff(20), **exact)


@pytest.mark.parametrize("t", [120, 333, N - 1])
def test_windowed_features_are_those_of_numpy(t, legs, whole):
    row, spread = whole.iloc[t], whole["spread"].to_numpy()
    returns_a, returns_b = (np.diff(values, prepend=np.nan) for values in closes(legs))
    last = slice(t - 11, t + 1)
    of_changes = np.diff(spread, prepend=np.nan)[last].std(ddof=1)
    assert row["spread_change_std"] == pytest.approx(of_changes, rel=1e-9)
    assert row["spread_range_ratio"] == pytest.approx(row["spread_std"] / of_changes, rel=1e-9)
    assert row["return_correlation"] == pytest.approx(np.corrcoef(returns_a[last], returns_b[last])[0, 1], rel=1e-9)
    before, change = spread[t - 20 : t], np.diff(spread)[t - 20 : t]
    assert row["reversion_speed"] == pytest.approx(np.polyfit(before, change, 1)[0], rel=1e-8)
    both = returns_a + returns_b
    assert row["volatility"] == pytest.approx(both[last].std(ddof=1), rel=1e-9)
    assert row["volatility_ratio"] == pytest.approx(row["volatility"] / both[t - 19 : t + 1].std(ddof=1), rel=1e-9)
    assert row["trend"] == pytest.approx((spread[t] - spread[t - 12]) / (of_changes * np.sqrt(12)), rel=1e-9)
    half_life = -np.log(2) / np.log1p(row["reversion_speed"])
    assert row["half_life_share"] == pytest.approx(20 / (20 + half_life), rel=1e-12)
    way = np.abs(np.diff(spread, prepend=np.nan))[last].sum()
    assert row["efficiency_ratio"] == pytest.approx(abs(spread[t] - spread[t - 12]) / way, rel=1e-9)
    for name, bars in zip(("volume_z_dependent", "volume_z_independent"), legs, strict=True):
        volume = np.log1p(bars["volume"].to_numpy()[last])
        assert row[name] == pytest.approx((volume[-1] - volume.mean()) / volume.std(ddof=1), rel=1e-9)


@pytest.mark.parametrize(("speed", "share"), [(0.3, 0.0), (0.0, 0.0), (-0.5, 20 / 21), (-1.0, 1.0), (-1.7, 1.0)])
def test_half_life_is_bounded_whatever_the_speed(speed, share):
    pair = SimpleNamespace(params=SMALL, reversion_speed=np.array([speed, np.nan]))
    found = feature_set.half_life(pair)["half_life_share"]
    assert found[0] == pytest.approx(share)
    assert np.isnan(found[1])


def test_a_spread_that_goes_straight_has_an_efficiency_of_one_and_one_that_stands_still_none():
    def ratio(spread: np.ndarray) -> np.ndarray:
        n = len(spread)
        pair = PairFrame(SMALL, 0, np.zeros(n, dtype=np.int64), *(spread for _ in range(10)))
        return feature_set.efficiency_ratio(pair)["efficiency_ratio"]

    assert ratio(np.arange(40.0))[12:] == pytest.approx(1.0)
    assert ratio(np.tile([0.0, 1.0], 20))[12:] == pytest.approx(0.0)
    assert np.isnan(ratio(np.ones(40))).all()
    assert ratio(np.where(np.arange(60) == 30, np.nan, np.arange(60.0)))[43:] == pytest.approx(1.0)


def test_time_of_day_is_the_bars_open_on_the_unit_circle(whole):
    at = whole.loc[START + pd.Timedelta(hours=6)]
    assert (at["hour_sin"], at["hour_cos"]) == pytest.approx((1.0, 0.0), abs=1e-12)
    at = whole.loc[START + pd.Timedelta(days=1, hours=12)]
    assert (at["hour_sin"], at["hour_cos"]) == pytest.approx((0.0, -1.0), abs=1e-12)


def test_volume_that_never_changes_is_no_news(legs):
    flat = [bars.assign(volume=7.0) for bars in legs]
    frame = build_features(*flat, SMALL)
    assert (frame["volume_z_dependent"].iloc[12:] == 0.0).all()


def test_names_are_the_columns_after_the_state(whole):
    names = feature_names(SMALL)
    assert set(whole.columns) == set(STATE_COLUMNS) | set(names)
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith("z_lag")] == ["z_lag_1", "z_lag_2", "z_lag_3"]
    assert not any(name.startswith("z_lag") for name in feature_names(changed(SMALL, lag_features=0)))


def test_rows_are_the_grid_both_legs_span_and_a_missing_bar_is_a_row_without_values(legs):
    late = until(legs[0], START + pd.Timedelta(minutes=5 * 499))
    early = legs[1].loc[legs[1]["timestamp"] >= START + pd.Timedelta(minutes=50)]
    holed = early.loc[early["timestamp"] != START + pd.Timedelta(minutes=5 * 300)]
    frame = build_features(late, holed, SMALL)
    assert frame.index[0] == START + pd.Timedelta(minutes=50)
    assert frame.index[-1] == START + pd.Timedelta(minutes=5 * 499)
    assert (np.diff(frame.index.asi8) == 300_000).all()
    assert str(frame.index.dtype) == "datetime64[ms, UTC]"
    hole = frame.loc[START + pd.Timedelta(minutes=5 * 300)]
    assert np.isnan(hole[["z", "spread", "z_velocity", "volume_z_independent"]].to_numpy(dtype=float)).all()
    assert np.isfinite(hole["beta"])


# --- the set of features


def test_inputs_come_in_the_order_of_the_registry_whatever_that_of_the_list(legs):
    some = changed(SMALL, include=("time_of_day", "z_lags", "z_dynamics"))
    names = feature_names(some)
    assert names[:2] == ("z", "z_abs")
    assert names[-3:] == ("z_lag_1", "z_lag_2", "z_lag_3")
    assert names[-5:-3] == ("hour_sin", "hour_cos")
    assert feature_names(changed(some, include=("z_dynamics", "time_of_day", "z_lags"))) == names
    frame = build_features(*legs, some)
    assert list(frame.columns) == [*STATE_COLUMNS, *(name for name in names if name not in STATE_COLUMNS)]


def test_a_name_that_is_no_feature_is_refused_with_those_there_are(legs):
    wrong = changed(SMALL, include=("z_dynamics", "momentum"))
    with pytest.raises(ParameterError, match="there is no feature 'momentum'") as caught:
        build_features(*legs, wrong)
    assert "z_dynamics, spread_volatility" in caught.value.fix
    with pytest.raises(ValueError, match="stands twice"):
        changed(SMALL, include=("z_lags", "z_lags"))
    with pytest.raises(ValueError, match="include"):
        changed(SMALL, include=())


@pytest.fixture
def own() -> Iterator[None]:
    """A feature as a user would write it, until the test is over."""
    before = dict(REGISTRY)

    @feature(bars=lambda params: params.z_window)
    def spread_skew(pair: PairFrame) -> dict[str, np.ndarray]:
        mean, _ = pair.mean_std(pair.z**3, pair.params.z_window)
        return {"spread_skew": mean}

    yield
    for name in set(REGISTRY) - set(before):
        del REGISTRY[name]


@pytest.mark.usefixtures("own")
def test_a_feature_of_ones_own_comes_after_the_others_and_holds_what_they_hold():
    params = changed(SMALL, include=("spread_skew", "z_lags", "z_dynamics"))
    assert feature_names(params)[-1] == "spread_skew"
    bars = two_legs(N, seed=9)
    frame = build_features(*bars, params)
    cubes = frame["z"].to_numpy()[280:300] ** 3
    assert frame["spread_skew"].iloc[299] == pytest.approx(cubes.mean(), rel=1e-9)
    assert rows_that_see_later_bars(build_features, bars, params, range(100, N, 50)) == []
    short = [leg.loc[leg["timestamp"] >= frame.index[N - 1 - warm_up_bars(params)]] for leg in bars]
    assert same_bits(build_features(*short, params).iloc[-1], frame.iloc[-1])


@pytest.mark.usefixtures("own")
def test_names_and_columns_of_features_are_unique(legs):
    with pytest.raises(ParameterError, match="two features named time_of_day"):

        @feature(bars=lambda _: 0)
        def time_of_day(pair: PairFrame) -> dict[str, np.ndarray]:
            return {}

    @feature(bars=lambda _: 0)
    def copy_of_z(pair: PairFrame) -> dict[str, np.ndarray]:
        return {"z_abs": pair.z}

    with pytest.raises(ParameterError, match="gives a column 'z_abs'"):
        build_features(*legs, changed(SMALL, include=("z_dynamics", "copy_of_z")))


def test_warm_up_is_that_of_the_features_there_are():
    least = changed(SMALL, include=("time_of_day",))
    assert warm_up_bars(least) == 2 * (30 + 1 + 20)
    assert warm_up_bars(changed(least, include=("time_of_day", "z_lags"))) == 2 * (30 + 1 + 20 + 3)


def test_the_spec_is_that_of_parameters_and_functions(monkeypatch):
    spec = spec_hash(SMALL)
    assert spec == spec_hash(changed(SMALL, include=tuple(reversed(SMALL.include))))
    others = [
        changed(SMALL, z_window=21),
        changed(SMALL, hedge="kalman"),
        changed(SMALL, include=SMALL.include[:-1]),
        changed(SMALL, kalman={"delta": 1e-6}),
    ]
    assert len({spec, *map(spec_hash, others)}) == 5

    def other(pair: PairFrame) -> dict[str, np.ndarray]:
        return {"hour_sin": np.cos(pair.z)}

    monkeypatch.setitem(REGISTRY, "time_of_day", feature_set.Feature(other, lambda _: 0))
    spec_hash.cache_clear()
    assert spec_hash(SMALL) != spec
    monkeypatch.undo()
    spec_hash.cache_clear()
    assert spec_hash(SMALL) == spec


def test_code_is_compared_without_comments_docstrings_and_layout():
    def one(x: int) -> int:
        """Says one thing."""
        return x + 1  # and why

    def two(x: int) -> int:
        return (
            x
            + 1
        )  # fmt: skip

    assert code_of(one).replace("one", "two") == code_of(two)


# --- the whole market


def test_market_volatility_is_the_median_move_of_the_hour_averaged_over_some():
    hours = pd.date_range("2025-03-01", periods=8, freq="h", tz="UTC", unit="ms")
    closes = pd.DataFrame(
        {
            "A": np.exp([0.0, 0.1, 0.1, 0.4, 0.4, 0.4, 0.4, 0.4]),
            "B": np.exp([0.0, -0.3, -0.3, -0.3, np.nan, 0.0, 0.2, 0.2]),
            "C": [np.nan, np.nan, 1.0, np.e, np.e, np.e, np.e, 1.0],
        },
        index=hours,
    )
    medians = [np.nan, 0.2, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0]
    found = market_volatility(closes, window=2, min_fill=1.0)
    assert found.index.equals(hours + pd.Timedelta(hours=1))
    assert np.isnan(found.iloc[:2]).all()
    assert found.to_numpy()[2:] == pytest.approx([(a + b) / 2 for a, b in pairwise(medians[1:])], abs=1e-12)
    assert market_volatility(closes.iloc[:0], window=2, min_fill=1.0).empty


def test_a_row_knows_the_hour_that_closed_by_its_own_close_and_nothing_older(legs):
    params = changed(SMALL, include=("market_volatility",))
    hours = pd.date_range(START, periods=5, freq="h", unit="ms")
    market = pd.Series([1.0, 2.0, 3.0, np.nan, 5.0], index=hours)
    known = build_features(*legs, params, market=market)["market_volatility"]
    # the bar that opens at 0:55 closes at 1:00, when the hour's bar has closed
    assert known.loc[START + pd.Timedelta(minutes=50)] == 1.0
    assert known.loc[START + pd.Timedelta(minutes=55)] == 2.0
    assert known.loc[START + pd.Timedelta(minutes=60 * 2 - 10)] == 2.0
    assert known.loc[START + pd.Timedelta(minutes=60 * 2 - 5)] == 3.0
    assert known.loc[START + pd.Timedelta(minutes=60 * 3 - 5) : START + pd.Timedelta(minutes=60 * 4 - 10)].isna().all()
    assert known.loc[START + pd.Timedelta(minutes=60 * 4 - 5)] == 5.0
    assert known.loc[START + pd.Timedelta(minutes=60 * 5 - 5) :].isna().all()
    assert build_features(*legs, params)["market_volatility"].isna().all()


def test_market_volatility_of_a_short_history_has_the_bits_of_a_long_one_and_sees_no_later_hour():
    rng = np.random.default_rng(1)
    index = pd.date_range("2025-03-01", periods=300, freq="h", tz="UTC", unit="ms")
    closes = pd.DataFrame(np.exp(np.cumsum(rng.normal(0, 0.01, (300, 7)), axis=0)), index=index)
    closes = closes.where(rng.random(closes.shape) > 0.03)
    full = market_volatility(closes, window=12, min_fill=0.9)
    for start in range(0, 250, 9):
        part = market_volatility(closes.iloc[start:], window=12, min_fill=0.9)
        assert same_bits(part.iloc[25:], full.iloc[start + 25 :])
        early = market_volatility(closes.iloc[: start + 20], window=12, min_fill=0.9)
        assert same_bits(early, full.iloc[: start + 20])


def test_bars_given_are_left_as_they_were(legs):
    before = [bars.copy() for bars in legs]
    build_features(*legs, SMALL)
    for bars, copy in zip(legs, before, strict=True):
        pd.testing.assert_frame_equal(bars, copy, check_exact=True)


def test_legs_that_share_no_time_have_no_rows():
    early = bars_of(A, np.full(30, 2.0))
    late = bars_of(B, np.full(30, 2.0), start=START + pd.Timedelta(days=9))
    frame = build_features(early, late, SMALL)
    assert frame.empty
    assert set(frame.columns) == set(STATE_COLUMNS) | set(feature_names(SMALL))
    assert str(frame.index.dtype) == "datetime64[ms, UTC]"
    nothing = build_features(early.iloc[:0], late, SMALL)
    pd.testing.assert_frame_equal(nothing, frame)


def test_a_leg_of_two_symbols_is_refused(legs):
    both = pd.concat(legs)
    with pytest.raises(BarDataError, match="the independent leg's bars hold 2 symbols"):
        build_features(legs[0], both, SMALL)


# --- a market whose truth is known


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_perfect_pair_gives_back_its_hedge_ratio_and_half_life(seed):
    market = simulation.market("ou", seed=seed, end=simulation.START + pd.Timedelta(days=60))
    truth = market.truth.iloc[0]
    bars = market.bars("5m")
    legs = [bars.loc[bars["symbol"] == truth[leg]] for leg in ("dependent", "independent")]
    window = 288 * 28
    params = changed(SMALL, beta_window=window, z_window=window, volatility_window=288, lag_features=0)
    frame = build_features(*legs, params).dropna()
    assert frame["beta"].median() == pytest.approx(truth["beta"], rel=0.02)
    half_life_hours = -np.log(2) / np.log1p(frame["reversion_speed"].iloc[-1]) / 12
    assert half_life_hours == pytest.approx(truth["half_life_hours"], rel=0.3)
    assert frame["spread_std"].iloc[-1] == pytest.approx(truth["spread_std"], rel=0.2)
