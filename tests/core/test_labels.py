"""Labels by hand, by brute force, and cut off at every bar."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import AS_CONFIGURED, ON_TIME, UNWATCHED, A, B, bars_of, changed, grid, two_legs, until

from mntrading.core.backtest import run_pair
from mntrading.core.features import build_features
from mntrading.core.labels import label, spec_hash
from mntrading.params import BacktestParams, FeatureParams, LabelParams, StrategyParams

FREE = {"fee_rate": 0.0, "slippage_bps": 0.0, "borrow_bps_per_day": 0.0, "impact_bps": 0.0, "carry": "borrow"}
TRADE = {"barriers_in": "notional", "take_profit": 0.02, "stop_loss": 0.02, "fill_at": "open", "costs": FREE}
TOUCH = LabelParams(label_type="z_threshold", zscore_threshold=2.0, revert_z=0.5, horizon=3, net_pnl=TRADE)
DIRECTION = changed(TOUCH, label_type="revert_direction")
NAN = np.nan


def features(z: list[float], spread: list[float] | None = None, std: float = 1.0) -> pd.DataFrame:
    columns = {"z": z, "spread": z if spread is None else spread, "spread_std": std}
    return pd.DataFrame(columns, index=grid(len(z)), dtype="float64")


def labelled(frame: pd.DataFrame, params: LabelParams) -> pd.DataFrame:
    nothing = bars_of(A, []), bars_of(B, [])
    return label(frame, *nothing, params)


def rows(frame: pd.DataFrame, params: LabelParams) -> list[tuple[int, int, int]]:
    """(row, label, row of the label's end) of each label."""
    out = labelled(frame, params)
    at = frame.index.get_indexer(out.index)
    end = frame.index.get_indexer(pd.DatetimeIndex(out["label_end"]))
    return list(zip(at.tolist(), out["label"].tolist(), end.tolist(), strict=True))


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        pytest.param([2.5, 1.0, 0.5, 0.0], [(0, 1, 3)], id="touches the level after two bars"),
        pytest.param([2.5, 1.0, 0.6, 0.5], [(0, 1, 3)], id="touches on the horizon's last bar"),
        pytest.param([2.5, 1.9, 1.0, 0.6], [(0, 0, 3)], id="does not touch"),
        pytest.param([2.5, 1.9, 1.0, 0.6, 0.1], [(0, 0, 3)], id="touches one bar too late"),
        pytest.param([2.5, -1.0, 1.0, 1.0], [(0, 1, 3)], id="crosses its mean"),
        pytest.param([-2.5, -1.0, -0.5, -2.0], [(0, 1, 3)], id="short side touches"),
        pytest.param([-2.5, -1.0, -0.6, -0.6], [(0, 0, 3)], id="short side does not touch"),
        pytest.param([-2.5, 3.0, 1.0, 1.0], [(0, 1, 3)], id="short side crosses"),
        pytest.param([2.0, 1.0, 1.0, 1.0], [(0, 0, 3)], id="on the threshold is an event"),
        pytest.param([1.99, 0.0, 0.0, 0.0], [], id="within the threshold is none"),
        pytest.param([2.5, 0.0, 0.0], [], id="horizon not complete, though it touched"),
        pytest.param([2.5, NAN, 0.0, 0.0], [], id="bar missing before the touch"),
        pytest.param([2.5, 0.0, NAN, 0.0], [], id="bar missing after the touch"),
        pytest.param([2.5, 1.0, 1.0, NAN], [], id="horizon's last bar missing"),
        pytest.param([2.5, 1.0, 1.0, 1.0, NAN], [(0, 0, 3)], id="bar missing after the horizon"),
        pytest.param([NAN, 2.5, 2.2, 1.0, 0.4], [(1, 1, 4)], id="second event of a run has no whole horizon"),
        pytest.param(
            [3.0, 2.2, 1.0, 0.4, 0.0], [(0, 1, 3), (1, 1, 4)], id="every event of a run ends with its own horizon"
        ),
        pytest.param([], [], id="no rows"),
    ],
)  # fmt: skip
def test_reversion_within_the_horizon(z, expected):
    assert rows(features(z), TOUCH) == expected


def test_size_of_a_reversion_is_how_much_nearer_its_mean_z_came():
    out = labelled(features([2.5, 1.9, 1.0, 0.6, 0.0, 0.0]), TOUCH)
    assert out["size"].tolist() == pytest.approx([1.9])


@pytest.mark.parametrize(
    ("z", "spread", "expected"),
    [
        pytest.param([2.5, 0, 0, 0], [10.0, 99.0, 99.0, 9.0], [(0, 1, 0.5)], id="above its mean and fell"),
        pytest.param([2.5, 0, 0, 0], [10.0, 0.0, 0.0, 10.5], [(0, 0, -0.25)], id="above its mean and rose"),
        pytest.param([-2.5, 0, 0, 0], [-10.0, 0.0, 0.0, -9.0], [(0, 1, 0.5)], id="below its mean and rose"),
        pytest.param([-2.5, 0, 0, 0], [-10.0, 0.0, 0.0, -11.0], [(0, 0, -0.5)], id="below its mean and fell"),
        pytest.param([2.5, 0, 0, 0], [10.0, 0.0, 0.0, 10.0], [(0, 0, 0.0)], id="did not move"),
        pytest.param([1.0, 0, 0, 0], [10.0, 0.0, 0.0, 0.0], [], id="no event"),
        pytest.param([2.5, 0, 0], [10.0, 0.0, 0.0], [], id="horizon not complete"),
        pytest.param([2.5, 0, NAN, 0], [10.0, 0.0, NAN, 0.0], [], id="bar missing"),
    ],
)
def test_direction_after_the_horizon(z, spread, expected):
    out = labelled(features(z, spread, std=2.0), DIRECTION)
    assert list(zip(range(len(out)), out["label"].tolist(), out["size"].tolist(), strict=True)) == expected
    assert (out["label_end"] == grid(4)[3]).all()


def test_columns_and_dtypes_are_the_same_with_and_without_events():
    some, none = (labelled(features([z, 1.0, 1.0, 1.0]), TOUCH) for z in (3.0, 0.0))
    assert len(some) == 1
    assert none.empty
    assert list(some.columns) == ["label", "label_end", "size"]
    assert some.dtypes.to_dict() == none.dtypes.to_dict()
    assert str(some["label"].dtype) == "int8"
    assert str(some["label_end"].dtype) == "datetime64[ms, UTC]"


def walk(seed: int, n: int, missing: float = 0.03) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z = np.zeros(n)
    for t in range(1, n):
        z[t] = 0.8 * z[t - 1] + rng.normal()
    z[rng.uniform(size=n) < missing] = np.nan
    return features(list(z))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    horizon=st.integers(1, 12),
    threshold=st.floats(0.6, 3.0),
    revert=st.floats(0.0, 0.5),
)
def test_labels_are_those_of_looking_forward_bar_by_bar(seed, horizon, threshold, revert):
    frame = walk(seed, 120)
    params = changed(TOUCH, horizon=horizon, zscore_threshold=threshold, revert_z=revert)
    z = frame["z"].to_list()
    expected = []
    for t in range(len(z) - horizon):
        ahead = z[t : t + horizon + 1]
        if any(np.isnan(value) for value in ahead) or abs(z[t]) < threshold:
            continue
        back = any(ahead[k] * np.sign(z[t]) <= revert for k in range(1, horizon + 1))
        expected.append((t, int(back), t + horizon))
    assert rows(frame, params) == expected


# --- net P&L of the trade


COSTS = {"fee_rate": 0.0005, "slippage_bps": 1.0, "borrow_bps_per_day": 50.0, "impact_bps": 0.0, "carry": "borrow"}
NET = changed(
    TOUCH, label_type="net_pnl", zscore_threshold=1.0, horizon=12,
    net_pnl={"barriers_in": "deviations", "take_profit": 1.0, "stop_loss": 1.5, "fill_at": "open", "costs": COSTS},
)  # fmt: skip
SMALL = FeatureParams(
    price="log", hedge="ols", kalman={"delta": 1e-5}, beta_window=30, z_window=20, hedge_lag_bars=1,
    min_window_fill=0.8, volatility_window=12, market_window_hours=6, lag_features=0, include=("z_dynamics",),
)  # fmt: skip
Legs = tuple[pd.DataFrame, pd.DataFrame]


def net(**values: object) -> LabelParams:
    return changed(NET, net_pnl=NET.net_pnl.model_dump() | values)


def by_hand(frame: pd.DataFrame, legs: Legs, params: LabelParams, log: bool) -> list[tuple[int, float]]:
    """(row, net P&L) of every event, bar by bar in plain Python."""
    rule, costs = params.net_pnl, params.net_pnl.costs
    prices = [bars.set_index("timestamp").reindex(frame.index) for bars in legs]
    fills, closes = ([leg[column].to_list() for leg in prices] for column in (rule.fill_at, "close"))
    z, hedge, deviation = (frame[name].to_list() for name in ("z", "hedge_ratio", "spread_std"))
    rate, out = costs.fee_rate + costs.slippage_bps * 1e-4, []
    for t in range(len(z) - params.horizon):
        if any(np.isnan(value) for value in z[t : t + params.horizon + 1]) or not hedge[t] > 0:
            continue
        if abs(z[t]) < params.zscore_threshold:
            continue
        share = 1 / (1 + hedge[t])
        side = -1 if z[t] > 0 else 1
        units = side * share / closes[0][t], -side * share * hedge[t] / closes[1][t]
        unit = 1.0
        if rule.barriers_in == "deviations":
            unit = share * deviation[t] / (1.0 if log else closes[0][t])
        cash = 0.0
        for held, fill in zip(units, fills, strict=True):
            cash -= held * fill[t + 1] + abs(held * fill[t + 1]) * rate
        bought = sum(held * fill[t + 1] for held, fill in zip(units, fills, strict=True))
        for u in range(t + 1, t + params.horizon):
            gross = sum(held * close[u] for held, close in zip(units, closes, strict=True)) - bought
            short = sum(max(-held * close[u], 0.0) for held, close in zip(units, closes, strict=True))
            cash -= short * costs.borrow_bps_per_day * 1e-4 / 288
            if gross >= rule.take_profit * unit or gross <= -rule.stop_loss * unit or u == t + params.horizon - 1:
                for held, fill in zip(units, fills, strict=True):
                    cash += held * fill[u + 1] - abs(held * fill[u + 1]) * rate
                break
        out.append((t, cash))
    return out


@pytest.mark.parametrize("missing", [0.0, 0.02])
@pytest.mark.parametrize("price", ["log", "level"])
@pytest.mark.parametrize(
    "params",
    [
        NET,
        net(barriers_in="notional", take_profit=0.01, stop_loss=0.005),
        net(fill_at="close"),
        changed(NET, horizon=2),
    ],
    ids=["deviations", "notional", "filled at closes", "shortest horizon"],
)
def test_the_trades_of_the_labels_are_those_of_plain_python(params, price, missing):
    legs = two_legs(500, seed=11, missing=missing)
    frame = build_features(*legs, changed(SMALL, price=price))
    out = label(frame, *legs, params)
    expected = by_hand(frame, legs, params, log=price == "log")
    assert len(expected) > 50
    assert frame.index.get_indexer(out.index).tolist() == [row for row, _ in expected]
    assert out["size"].tolist() == pytest.approx([pnl for _, pnl in expected], rel=1e-12, abs=1e-12)
    assert out["label"].tolist() == [int(pnl > 0) for _, pnl in expected]
    assert (out["label_end"] - out.index == params.horizon * pd.Timedelta(minutes=5)).all()


@pytest.mark.parametrize("at", ["open", "close"])
def test_a_labelled_trade_that_runs_to_its_horizon_earns_what_the_backtest_books(at):
    legs = two_legs(600, seed=5)
    frame = build_features(*legs, SMALL)
    params = net(take_profit=1e9, stop_loss=1e9, fill_at=at)
    out = label(frame, *legs, params)
    strategy = StrategyParams(
        signals_from="z", probability_threshold=0.5, entry_z=1.0, exit_z=0.0, stop_z=1e9, max_holding_half_lives=1.0,
        cooldown_bars=0, max_loss=None, min_hedge_ratio=1e-9, max_hedge_ratio=1e9, break_monitor=UNWATCHED,
    )  # fmt: skip
    rule = BacktestParams(
        strategy=strategy, costs=params.net_pnl.costs, fill_at=at, legging=ON_TIME, menu=AS_CONFIGURED
    )
    compared = 0
    for moment in out.index[::7]:
        # z is told to be beyond the level until the time stop, one bar before the fill at the horizon
        window = frame.loc[moment:].iloc[: params.horizon + 4].copy()
        window["z"] = np.sign(window["z"].iloc[0]) * 2.0
        trades = run_pair(*legs, window, rule, half_life_bars=float(params.horizon - 1)).trades
        assert trades["exit_fill"].iloc[0] == out.loc[moment, "label_end"]
        assert out.loc[moment, "size"] == pytest.approx(trades["net_pnl"].iloc[0], abs=1e-12)
        compared += 1
    assert compared > 20


def test_each_cost_lowers_the_net_pnl_and_may_turn_the_label():
    legs = two_legs(800, seed=6)
    frame = build_features(*legs, SMALL)
    free = label(frame, *legs, net(costs=FREE))
    for name, value in (("fee_rate", 0.001), ("slippage_bps", 10.0), ("borrow_bps_per_day", 10.0)):
        paid = label(frame, *legs, net(costs=FREE | {name: value}))
        assert paid.index.equals(free.index)
        assert (paid["size"] < free["size"]).all()
    assert label(frame, *legs, net(costs=FREE | {"fee_rate": 0.01}))["label"].sum() < free["label"].sum()


def test_a_trade_without_two_fills_and_a_hedge_that_is_no_hedge_are_refused():
    with pytest.raises(ValueError, match="horizon is 1"):
        changed(NET, horizon=1)
    legs = two_legs(300, seed=2)
    frame = build_features(*legs, SMALL)
    rows = label(frame, *legs, NET).index[:3]
    frame.loc[rows, "hedge_ratio"] = [0.0, -1.0, -0.5]
    assert not label(frame, *legs, NET).index.isin(rows).any()


def test_cutting_the_future_off_trades_leaves_ended_labels_as_they_are():
    legs = two_legs(300, seed=8, missing=0.01)

    def traded(frame: pd.DataFrame, params: LabelParams) -> pd.DataFrame:
        return label(frame, *(until(bars, frame.index[-1]) for bars in legs), params)

    frame = build_features(*legs, SMALL)
    assert len(traded(frame, NET)) > 30
    assert cuts_that_change_a_label(traded, frame, NET) == []


def test_prices_after_a_labels_end_do_not_move_it():
    legs = two_legs(300, seed=8)
    frame = build_features(*legs, SMALL)
    full = label(frame, *legs, NET)
    for t in range(60, 290, 10):
        moved = []
        for bars in legs:
            later = bars["timestamp"] > frame.index[t]
            moved.append(bars.assign(**{name: bars[name].where(~later, 3 * bars[name]) for name in ("open", "close")}))
        ended = full.loc[(full["label_end"] <= frame.index[t]).to_numpy()]
        again = label(frame, *moved, NET)
        assert again.loc[again.index.isin(ended.index)].equals(ended)


# --- what is said of a pair's labels


def test_the_spec_of_labels_changes_with_what_they_are_made_by_alone():
    assert spec_hash(TOUCH) == spec_hash(changed(TOUCH, net_pnl=NET.net_pnl.model_dump()))
    assert len({spec_hash(p) for p in (TOUCH, DIRECTION, NET, net(fill_at="close"), changed(TOUCH, horizon=4))}) == 5


# --- cutting the future off


Labelling = Callable[[pd.DataFrame, LabelParams], pd.DataFrame]


def cuts_that_change_a_label(function: Labelling, frame: pd.DataFrame, params: LabelParams) -> list[int]:
    """Rows t after which dropping every row changes a label, or leaves one whose horizon runs past t."""
    full = function(frame, params)
    at = frame.index.get_indexer(full.index)
    return [
        t
        for t in range(len(frame))
        if not function(frame.iloc[: t + 1], params).equals(full.loc[at + params.horizon <= t])
    ]


def labels_moved_by_later_rows(function: Labelling, frame: pd.DataFrame, params: LabelParams) -> list[int]:
    """Rows t after which ten times the spread and z changes a label that had ended by t."""
    full = function(frame, params)
    out = []
    for t in range(0, len(frame), 5):
        other = frame.copy()
        other.iloc[t + 1 :, :2] *= 10.0
        ended = full.loc[(full["label_end"] <= frame.index[t]).to_numpy()]
        again = function(other, params)
        if not again.loc[again.index.isin(ended.index)].equals(ended):
            out.append(t)
    return out


@pytest.mark.parametrize("params", [TOUCH, DIRECTION], ids=lambda params: params.label_type)
def test_cutting_the_future_leaves_ended_labels_as_they_are_and_drops_the_open_ones(params):
    frame = walk(7, 400)
    assert len(labelled(frame, params)) > 40
    assert cuts_that_change_a_label(labelled, frame, params) == []
    assert labels_moved_by_later_rows(labelled, frame, params) == []


def open_horizons_are_labelled_zero(frame, params):
    padding = features([5.0] * params.horizon)
    padding.index = frame.index[-1] + (padding.index - padding.index[0]) + pd.Timedelta(minutes=5)
    return labelled(pd.concat([frame, padding]), params).loc[: frame.index[-1]]


def z_in_units_of_all_time(frame, params):
    return labelled(frame.assign(z=2.5 * frame["z"] / frame["z"].abs().max()), changed(params, zscore_threshold=1.0))


def end_told_too_early(frame, params):
    out = labelled(frame, params)
    return out.assign(label_end=out.index)


@pytest.mark.parametrize("mutant", [open_horizons_are_labelled_zero, z_in_units_of_all_time])
def test_a_label_that_depends_on_where_the_data_ends_is_caught(mutant):
    assert cuts_that_change_a_label(mutant, walk(7, 400), TOUCH)


@pytest.mark.parametrize("mutant", [z_in_units_of_all_time, end_told_too_early])
def test_a_label_that_uses_rows_after_its_end_is_caught(mutant):
    assert labels_moved_by_later_rows(mutant, walk(7, 400), TOUCH)
