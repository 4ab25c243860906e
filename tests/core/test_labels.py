"""Labels by hand, by brute force, and cut off at every bar."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import A, B, bars_of, changed, grid

from mntrading.core.labels import label
from mntrading.params import LabelParams

FREE = {"fee_rate": 0.0, "slippage_bps": 0.0, "borrow_bps_per_day": 0.0}
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
