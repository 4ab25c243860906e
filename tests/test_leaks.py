"""Planted leaks: the project's own code passes each check, and the same code with a leak in it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, TimeSeriesSplit

from leak_detectors import (
    Bars,
    labels_beside_their_test_rows,
    moments_changed_by_the_future,
    skill_on_noise,
    touched_by,
)
from mntrading.core import calibration, estimators, fitting, training
from mntrading.core.backtest import run_pair
from mntrading.core.errors import ParameterError
from mntrading.core.features import build_features
from mntrading.core.screening import screen
from mntrading.core.splits import CombinatorialPurgedSplit, PurgedTimeSeriesSplit
from mntrading.core.thresholds import choose_threshold
from mntrading.core.universe import select_universe

sys.path.insert(0, str(Path(__file__).parent / "core"))
from made_bars import A, B, bars_of, grid, two_legs

BAR = pd.Timedelta(minutes=5)
N = 420
MOMENTS = grid(N)[200:N:23]


# --- what stands at a bar's close


@pytest.fixture(scope="module")
def legs() -> Bars:
    a, b = two_legs(N, seed=11)
    return {A: a, B: b}


@pytest.fixture(scope="module")
def spec(params: Any) -> Any:
    small = {"beta_window": 30, "z_window": 20, "volatility_window": 12, "lag_features": 2, "min_window_fill": 0.8}
    return params.feature_engineering.features.model_copy(update=small)


Build = Callable[[Bars, Any], pd.DataFrame]
Fit = Callable[[pd.DataFrame], training.GroupFit]


def built(bars: Bars, spec: Any) -> pd.DataFrame:
    return build_features(bars[A], bars[B], spec)


def next_bars_z(bars: Bars, spec: Any) -> pd.DataFrame:
    return (frame := built(bars, spec)).assign(z_velocity=frame["z"].shift(-1) - frame["z"])


def centred_window(bars: Bars, spec: Any) -> pd.DataFrame:
    return (frame := built(bars, spec)).assign(spread_std=frame["spread"].rolling(11, center=True).std())


def scaled_on_everything(bars: Bars, spec: Any) -> pd.DataFrame:
    return (frame := built(bars, spec)).assign(z=(frame["z"] - frame["z"].mean()) / frame["z"].std())


def one_hedge_ratio_for_all_time(bars: Bars, spec: Any) -> pd.DataFrame:
    y, x = (np.log(bars[leg].set_index("timestamp")["close"]) for leg in (A, B))
    slope, level = np.polyfit(x, y.reindex(x.index).ffill(), 1)
    return built(bars, spec).assign(spread=y - slope * x - level)


def filled_from_later_bars(bars: Bars, spec: Any) -> pd.DataFrame:
    return built(bars, spec).bfill().interpolate()


@pytest.mark.parametrize(
    "leak", [next_bars_z, centred_window, scaled_on_everything, one_hedge_ratio_for_all_time, filled_from_later_bars]
)
def test_features_that_see_the_future(legs: Bars, spec: Any, leak: Build) -> None:
    holes = {symbol: bars.drop(index=[205, 206, 290]) for symbol, bars in legs.items()}

    def known(build: Build) -> Callable[[Bars, pd.Timestamp], pd.DataFrame]:
        return lambda bars, moment: build(bars, spec).loc[:moment]

    assert moments_changed_by_the_future(known(built), holes, MOMENTS) == []
    assert moments_changed_by_the_future(known(leak), holes, MOMENTS)


@pytest.mark.parametrize("lag", [0, -1])
def test_a_hedge_ratio_that_knows_its_own_bar(legs: Bars, spec: Any, lag: int) -> None:
    def known(lag: int) -> Callable[[Bars, pd.Timestamp], pd.Series]:
        # below 0 the parameters refuse it: there the same is had by moving what is fitted up to the bar itself
        fitted = spec.model_copy(update={"hedge_lag_bars": max(lag, 0)})
        moved = min(lag, 0)
        return lambda bars, moment: built(bars, fitted)[["alpha", "beta"]].shift(moved).loc[moment]

    assert moments_changed_by_the_future(known(1), legs, MOMENTS, own_bar=True) == []
    assert moments_changed_by_the_future(known(lag), legs, MOMENTS, own_bar=True)
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        type(spec).model_validate(spec.model_dump() | {"hedge_lag_bars": -1})


def closed(bars: pd.DataFrame, clock: pd.Timestamp) -> pd.DataFrame:
    return bars.loc[bars["timestamp"] + BAR <= clock]


@pytest.mark.parametrize("ahead", [BAR, 12 * BAR])
def test_a_market_clock_that_is_ahead(legs: Bars, spec: Any, ahead: pd.Timedelta) -> None:
    def known(ahead: pd.Timedelta) -> Callable[[Bars, pd.Timestamp], pd.Series]:
        def newest(bars: Bars, moment: pd.Timestamp) -> pd.Series:
            return built({s: closed(b, moment + BAR + ahead) for s, b in bars.items()}, spec).iloc[-1]

        return newest

    assert moments_changed_by_the_future(known(pd.Timedelta(0)), legs, MOMENTS) == []
    assert moments_changed_by_the_future(known(ahead), legs, MOMENTS)


def test_a_decision_filled_on_the_bar_whose_close_it_was_made_on(legs: Bars, spec: Any, params: Any) -> None:
    rule = params.backtest.strategy.model_copy(update={"entry_z": 1.2, "stop_z": 9.0, "cooldown_bars": 0})
    eager = params.backtest.model_copy(update={"strategy": rule})

    def known(shift: int) -> Callable[[Bars, pd.Timestamp], pd.DataFrame]:
        # what is held at a bar's open is held at its close; one bar earlier is on the bar the decision was made on
        def held(bars: Bars, moment: pd.Timestamp) -> pd.DataFrame:
            window = built(bars, spec).shift(shift).reindex(grid(N))
            result = run_pair(bars[A], bars[B], window, eager, half_life_bars=6.0)
            return result.positions.loc[:moment, ["side", "units_a", "units_b"]]

        return held

    assert len(run_pair(legs[A], legs[B], built(legs, spec), eager).trades) > 5
    moments = grid(N)[200:N:5]
    assert moments_changed_by_the_future(known(0), legs, moments, own_bar=True) == []
    assert moments_changed_by_the_future(known(-1), legs, moments, own_bar=True)


@pytest.fixture(scope="module")
def listed() -> Bars:
    """Four walks by the hour, of which three are traded enough."""
    moves = 0.01 * np.random.default_rng(2).normal(size=(600, 4))
    close = np.exp(3 + np.cumsum(moves, axis=0))
    return {f"S{k}/USDT": bars_of(f"S{k}/USDT", close[:, k], volume=1e8 if k else 1e6, minutes=60) for k in range(4)}


def wide(bars: Bars, column: str) -> pd.DataFrame:
    return pd.DataFrame({symbol: frame.set_index("timestamp")[column] for symbol, frame in bars.items()})


@pytest.mark.parametrize("stage", ["universe", "roster"])
def test_a_universe_or_roster_of_the_window_after(listed: Bars, params: Any, stage: str) -> None:
    rules = params.screening.universe.model_copy(update={"min_median_quote_volume": 2e8})
    screening = params.screening.model_copy(update={"universe": rules, "level": 0.99, "keep_level": 1.0})

    def known(ahead: int) -> Callable[[Bars, pd.Timestamp], object]:
        def selected(bars: Bars, moment: pd.Timestamp) -> object:
            end = moment + ahead * pd.Timedelta(hours=1)
            close, volume = (wide(bars, column).loc[:end] for column in ("close", "volume"))
            if stage == "universe":
                return select_universe(close, volume, rules).symbols
            found = screen(close, volume, screening)
            return found.tests[["pair_id", "p_value"]].sort_values("pair_id").reset_index(drop=True)

        return selected

    moments = grid(600, minutes=60)[[200, 230]]
    assert moments_changed_by_the_future(known(0), listed, moments) == []
    assert moments_changed_by_the_future(known(360), listed, moments)


# --- what a model is made of


@dataclass(frozen=True)
class Table:
    """Rows of one pair, where the formation window ends, and how it is trained."""

    rows: pd.DataFrame
    end: pd.Timestamp
    recipe: Any

    def fit(self, rows: pd.DataFrame) -> training.GroupFit:
        window = training.formation_rows({"A__B": rows.drop(columns="pair_id")}, rows.index[0], self.end)
        return training.fit_group(window, ("x", "y"), self.recipe)


@pytest.fixture(scope="module")
def table(params: Any) -> Table:
    rng = np.random.default_rng(0)
    n = 900
    x, y = rng.normal(size=(2, n))
    index = grid(n)
    label = (1.5 * x + rng.normal(size=n) > 0.3).astype("int8")
    rows = pd.DataFrame(
        {
            "x": x,
            "y": y,
            "label": label,
            "label_end": index + 12 * BAR,
            "size": label + rng.normal(0, 0.3, n),
            "pair_id": "A__B",
        },
        index=index,
    )
    update = {
        "models": ("lightgbm",),
        "n_splits": 3,
        "gap": 12,
        "min_events": 100,
        "calibration": "sigmoid",
        "early_stopping": SimpleNamespace(patience=5, validation_share=0.2),
        "threshold": params.modelling.threshold.model_copy(update={"choose": "expected_value"}),
        "evaluation": params.modelling.evaluation.model_copy(update={"permutation_rows": 0}),
    }
    return Table(rows, index[700], params.modelling.model_copy(update=update))


def in_formation(table: Table) -> np.ndarray:
    return (table.rows["label_end"] < table.end).to_numpy()


def everything_about_the_model(table: Table, fit: Fit) -> Callable[..., object]:
    probe = table.rows[["x", "y"]].iloc[:50]

    def compute(rows: pd.DataFrame) -> object:
        fitted = fit(rows)
        return (
            fitted.reason if fitted.model is None else [training.predict(fitted.model, probe), fitted.model.document()]
        )

    return compute


def cut_by_row(table: Table, patch: pytest.MonkeyPatch) -> Fit:
    """Rows before the end, whatever their labels know of what comes after it."""

    def leaky(datasets: Any, _: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        (rows,) = datasets.values()
        return rows.loc[: end - BAR].assign(pair_id="A__B")

    patch.setattr(training, "formation_rows", leaky)
    return table.fit


def scaled_with_the_trading_window(
    table: Table, patch: pytest.MonkeyPatch
) -> Callable[[pd.DataFrame], training.GroupFit]:
    def fit(rows: pd.DataFrame) -> training.GroupFit:
        return table.fit(rows.assign(x=(rows["x"] - rows["x"].mean()) / rows["x"].std()))

    return fit


def stopped_by_the_trading_window(
    table: Table, patch: pytest.MonkeyPatch
) -> Callable[[pd.DataFrame], training.GroupFit]:
    def fit(rows: pd.DataFrame) -> training.GroupFit:
        after = rows.loc[rows.index >= table.end]
        held_out = after[["x", "y"]].to_numpy(), after["label"].to_numpy(dtype=np.int64), None
        real = estimators.best_rounds

        def leaky(name: Any, train: Any, _: Any, **more: Any) -> int:
            return real(name, train, held_out, **more)

        patch.setattr(estimators, "best_rounds", leaky)
        fitted = table.fit(rows)
        patch.setattr(estimators, "best_rounds", real)
        return fitted

    return fit


def calibrated_on_the_trading_window(
    table: Table, patch: pytest.MonkeyPatch
) -> Callable[[pd.DataFrame], training.GroupFit]:
    def fit(rows: pd.DataFrame) -> training.GroupFit:
        after = rows.loc[rows.index >= table.end]

        def leaky(kind: Any, probability: Any, y: Any, *, n_independent: float) -> calibration.Calibration:
            told = 1 / (1 + np.exp(-after["x"].to_numpy()))
            return calibration.fit_calibration(
                kind, told, after["label"].to_numpy(dtype=np.int64), n_independent=n_independent
            )

        patch.setattr(training, "fit_calibration", leaky)
        return table.fit(rows)

    return fit


def thresholded_on_the_trading_window(
    table: Table, patch: pytest.MonkeyPatch
) -> Callable[[pd.DataFrame], training.GroupFit]:
    def fit(rows: pd.DataFrame) -> training.GroupFit:
        after = rows.loc[rows.index >= table.end]
        told = 1 / (1 + np.exp(-after["x"].to_numpy()))
        chosen = choose_threshold(told, after["label"].to_numpy(), after["size"].to_numpy(), table.recipe.threshold)
        patch.setattr(training, "choose_threshold", lambda *_: chosen)
        return table.fit(rows)

    return fit


@pytest.mark.parametrize(
    ("leak", "told_by"),
    [
        (cut_by_row, "labels"),
        (scaled_with_the_trading_window, "features"),
        (stopped_by_the_trading_window, "labels"),
        (calibrated_on_the_trading_window, "labels"),
        (thresholded_on_the_trading_window, "sizes"),
    ],
)
def test_a_model_that_knows_its_trading_window(
    table: Table, monkeypatch: pytest.MonkeyPatch, leak: Callable[..., Any], told_by: str
) -> None:
    after = ~in_formation(table)
    assert touched_by(everything_about_the_model(table, table.fit), table.rows, after) == []
    assert told_by in touched_by(everything_about_the_model(table, leak(table, monkeypatch)), table.rows, after)


def own_rows_calibrate(kind: Any, raw: list[Any], y: Any, splits: list[Any], *, uniqueness: Any) -> list[Any]:
    return [
        calibration.fit_calibration(kind, p, y[test], n_independent=float(uniqueness[test].sum()))(p)
        for p, (_, test) in zip(raw, splits, strict=True)
    ]


def unpurged(sample: fitting.Sample, params: Any) -> list[Any]:
    return list(TimeSeriesSplit(params.n_splits).split(sample.X))


def shuffled_folds(sample: fitting.Sample, params: Any) -> list[Any]:
    return list(KFold(params.n_splits, shuffle=True, random_state=0).split(sample.X))


@pytest.mark.parametrize(
    ("where", "leak"),
    [("calibrate_splits", own_rows_calibrate), ("_usable_splits", unpurged), ("_usable_splits", shuffled_folds)],
)
def test_out_of_fold_probabilities_that_know_their_own_labels(
    table: Table, monkeypatch: pytest.MonkeyPatch, where: str, leak: Callable[..., Any]
) -> None:
    window = table.rows.loc[in_formation(table)]
    last = window.index >= window.index[round(len(window) * 3 / 4)]
    # a label is known when it ends: those that end in the last test block, or within the gap before it, are not yet
    first = window.index[last][0]
    unknown = (window["label_end"] >= first - 12 * BAR).to_numpy()

    def compute(rows: pd.DataFrame) -> object:
        out = training.fit_group(rows, ("x", "y"), table.recipe).out_of_fold
        return out.loc[out["timestamp"] >= first, "probability_lightgbm"]

    assert "labels" not in touched_by(compute, window, unknown)
    monkeypatch.setattr(training, where, leak)
    assert "labels" in touched_by(compute, window, unknown)


# --- splits, and what they cost where they leak


class NoPurge(PurgedTimeSeriesSplit):
    """Cuts by the rows' own times."""

    def split(self, X: Any, y: Any = None, groups: Any = None, **_: Any) -> Any:
        return super().split(X, y, groups)


class NoEmbargoAfter(CombinatorialPurgedSplit):
    """Purges before a test block only."""

    def split(self, X: Any, y: Any = None, groups: Any = None, *, label_end: Any = None) -> Any:
        for _, test in super().split(X, y, groups, label_end=label_end):
            other = np.setdiff1d(np.arange(len(X)), test)
            starts = test[np.flatnonzero(np.diff(test, prepend=-2) > 1)]
            near = np.any([(X.index[other] < X.index[s]) & (label_end[other] >= X.index[s]) for s in starts], axis=0)
            yield other[~near], test


@pytest.mark.parametrize(
    ("splitter", "leak", "embargo"),
    [
        (PurgedTimeSeriesSplit(4, gap=12), NoPurge(4, gap=0), 0),
        (PurgedTimeSeriesSplit(4, gap=12), PurgedTimeSeriesSplit(4, gap=0), 12),
        (CombinatorialPurgedSplit(6, 2, gap=12), CombinatorialPurgedSplit(6, 2, gap=0), 12),
        (CombinatorialPurgedSplit(6, 2, gap=0), NoEmbargoAfter(6, 2, gap=0), 0),
    ],
)
def test_training_labels_that_reach_into_their_test_block(splitter: Any, leak: Any, embargo: int) -> None:
    index = grid(800)[np.sort(np.random.default_rng(3).choice(800, 500, replace=True))]
    X, end = pd.DataFrame(index=index), index + 24 * BAR
    for candidate, found in ((splitter, False), (leak, True)):
        splits = candidate.split(X, label_end=end)
        assert bool(labels_beside_their_test_rows(splits, index, end, embargo * BAR)) is found


def test_a_gap_below_the_horizon_is_refused(params: Any) -> None:
    with pytest.raises(ParameterError, match="gap is 0 bars, expected at least the label horizon"):
        training.check_gap(params.modelling.model_copy(update={"gap": 0}), params.feature_engineering.labels)


def overlapping_noise(seed: int) -> pd.DataFrame:
    """Features and labels that are both averages over time, and have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    n, horizon = 1500, 48
    slow = pd.Series(rng.normal(size=n)).rolling(96, min_periods=1).mean()
    ahead = pd.Series(rng.normal(size=n + horizon)).rolling(horizon).mean().to_numpy()[horizon:]
    index = grid(n)
    return pd.DataFrame(
        {"x": slow.to_numpy(), "y": np.arange(n) / n, "label": (ahead > 0).astype("int8"), "size": ahead,
         "label_end": index + horizon * BAR, "pair_id": "A__B"},
        index=index,
    )  # fmt: skip


def test_overlapping_labels_without_purge_show_skill_where_there_is_none(
    params: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forest = params.modelling.estimators.random_forest.model_copy(update={"n_estimators": 20, "min_samples_leaf": 5})
    hyper = params.modelling.estimators.model_copy(update={"random_forest": forest})
    update = {"models": ("random_forest",), "n_splits": 4, "gap": 48, "estimators": hyper, "sample_weights": "none"}
    recipe = params.modelling.model_copy(update=update)

    def out_of_fold(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        out = training.fit_group(rows, ("x", "y"), recipe).out_of_fold
        return out["label"].to_numpy(dtype=np.int64), out["probability_random_forest"].to_numpy()

    tables = [overlapping_noise(seed) for seed in range(6)]
    assert abs(skill_on_noise(out_of_fold, tables) - 0.5) < 0.06
    monkeypatch.setattr(training, "_usable_splits", shuffled_folds)
    assert skill_on_noise(out_of_fold, tables) > 0.8
