"""Features row by row against plain numpy, and the proof that no row sees a later bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest
from made_bars import START, A, B, bars_of, changed, same_bits, two_legs, until

from mntrading.core import simulation
from mntrading.core.bars import BarDataError
from mntrading.core.feature_set import REGISTRY
from mntrading.core.features import STATE_COLUMNS, build_features, feature_names, warm_up_bars
from mntrading.params import FeatureParams

Build = Callable[[pd.DataFrame, pd.DataFrame, FeatureParams], pd.DataFrame]

SMALL = FeatureParams(
    price="log", beta_window=30, z_window=20, hedge_lag_bars=1, min_window_fill=0.8, volatility_window=12,
    lag_features=3,
    hedge="ols", kalman={"delta": 1e-5}, market_window_hours=6,
    include=tuple(name for name in REGISTRY if name != "market_volatility"),
)  # fmt: skip
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
def test_a_shorter_history_gives_the_bits_of_a_longer_one_past_warm_up(start, missing):
    bars = two_legs(N, seed=3, missing=missing)
    full = build_features(*bars, SMALL)
    first = full.index[start]
    part = build_features(*(leg.loc[leg["timestamp"] >= first] for leg in bars), SMALL)
    warm = warm_up_bars(SMALL)
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
    for name, bars in zip(("volume_z_dependent", "volume_z_independent"), legs, strict=True):
        volume = np.log1p(bars["volume"].to_numpy()[last])
        assert row[name] == pytest.approx((volume[-1] - volume.mean()) / volume.std(ddof=1), rel=1e-9)


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
