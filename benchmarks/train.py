"""What training costs beside its peers, whether it gives what they give, and that it finds nothing in nothing.

    make bench-train
    python benchmarks/train.py --rows 1000000

Four parts:

* ``peers``: one fit on the same rows by the library's own way and by ours: LightGBM and scikit-learn. The boosters have
  to agree to the last digit, logistic regression to the peer's tolerance, the forest to rank as well.
* ``parts``: what surrounds a fit: weights of overlapping labels against plain Python, distances to the training
  window against NumPy and against the nearest training row.
* ``null``: pairs of the null market through the project's own features, labels and models; mean out-of-sample
  ROC-AUC over seeds. Two kinds of labels have nothing in them to learn, and there it has to be 0.50 ± 0.01: whether a
  trade at no cost, its units frozen, makes or loses money (``fair``), and the project's labels turned round in time
  within each pair (``turned``). The project's own labels (``z_threshold``) have: a walk that is near its mean, or moves
  fast, comes back to it sooner than one that is far and slow. That is shown beside what the formula for a walk without
  drift gives, which knows no data but z and two deviations, and without a bound.
* ``whole``: features, labels and the models of every fold for 20 pairs of 150,000 bars, on two threads, as the
  pipelines do it.

The last line has the figures; the exit code is 1 when a result is not that of its peer, never because of a time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mntrading.configuration import parameters
from mntrading.core import estimators, simulation, training
from mntrading.core.driftless import reversion_chance
from mntrading.core.engine_inputs import multiplied
from mntrading.core.features import build_features, feature_names
from mntrading.core.labels import label
from mntrading.core.novelty import fit_novelty
from mntrading.core.schedule import Fold, walk_forward
from mntrading.core.uniqueness import average_uniqueness
from mntrading.params import (
    ComputeParams,
    FeatureEngineeringParams,
    LabelParams,
    ModellingParams,
    ModelName,
    ScheduleParams,
)
from mntrading.pipelines.common import fan_out

CONF = Path(__file__).parents[1] / "conf"
N_FEATURES = 30
NULL_MODELS: tuple[ModelName, ...] = ("logistic_regression", "lightgbm")
NULL_BOUND = 0.01
STEP = pd.Timedelta(5, unit="min")


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def block(name: str) -> dict[str, Any]:
    """Plain values of one of the project's parameter blocks."""
    return parameters(CONF)[name].model_dump()


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median seconds of processor time, and the last result."""
    seconds, result = [], None
    for _ in range(repeats):
        began = time.process_time()
        result = work()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds), result


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that move slowly, as those of neighbouring bars do, and labels that depend on a few of them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, N_FEATURES))
    for k in range(N_FEATURES // 2):
        X[:, k] = pd.Series(X[:, k]).ewm(span=50).mean().to_numpy() * 5
    chance = 1 / (1 + np.exp(-(0.6 * X[:, 0] - 0.4 * X[:, 20] + 0.3 * X[:, 1] * X[:, 21])))
    return X, (rng.random(n) < chance).astype(np.int64)


def peers(n: int, repeats: int, broken: list[str]) -> dict[str, float]:
    """Seconds of the peer over ours, by model."""
    params = ModellingParams.model_validate(block("modelling"))
    hyper = params.estimators
    (X, y), (X_new, y_new) = rows(n), rows(n // 4, seed=1)
    names = tuple(f"f{k}" for k in range(N_FEATURES))
    chosen = hyper.lightgbm
    leaf = min(chosen.max_leaf_rows, max(chosen.min_leaf_rows, int(n * chosen.min_leaf_share)))

    def their_booster() -> Any:
        return lightgbm.LGBMClassifier(
            n_estimators=chosen.rounds, learning_rate=chosen.learning_rate, num_leaves=chosen.num_leaves,
            min_child_samples=leaf, colsample_bytree=chosen.feature_fraction, subsample=chosen.bagging_fraction,
            subsample_freq=1, reg_lambda=chosen.lambda_l2, deterministic=True, force_row_wise=True, n_jobs=1,
            random_state=params.seed, verbosity=-1,
        ).fit(X, y)  # fmt: skip

    def their_logistic() -> Any:
        # to a tolerance at which its coefficients are right to some six digits
        model = LogisticRegression(C=hyper.logistic_regression.C, tol=1e-6, max_iter=2000)
        return make_pipeline(StandardScaler(), model).fit(X, y)

    def their_forest() -> Any:
        return RandomForestClassifier(hyper.random_forest.n_estimators, random_state=params.seed, n_jobs=1).fit(X, y)

    theirs = {"lightgbm": their_booster, "logistic_regression": their_logistic, "random_forest": their_forest}
    ratios = {}
    for name, peer in theirs.items():
        once = 1 if name == "random_forest" else repeats  # a forest of whole trees takes minutes
        theirs_took, fitted = timed(peer, once)
        ours_took, mine = timed(
            lambda name=name: estimators.fit(name, X, y, feature_names=names, seed=params.seed, params=hyper), once
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # LightGBM's wrapper misses the names it made up itself
            told, ours = fitted.predict_proba(X_new)[:, 1], mine.predict(X_new)
        apart = float(np.abs(told - ours).max())
        areas = roc_auc_score(y_new, told), roc_auc_score(y_new, ours)
        ratios[name] = theirs_took / ours_took
        say(
            f"  {name:20s} peer {theirs_took:7.2f} s, ours {ours_took:6.2f} s: {ratios[name]:5.1f} x; "
            f"AUC {areas[0]:.4f} and {areas[1]:.4f}, probabilities at most {apart:.1e} apart"
        )
        allowed = {"lightgbm": 0.0, "logistic_regression": 1e-4}.get(name)
        if allowed is not None and apart > allowed:
            broken.append(f"{name} is {apart:.1e} from its peer")
        if areas[1] < areas[0] - 0.005:
            broken.append(f"{name} ranks worse than its peer")
    return ratios


def parts(n: int, repeats: int, broken: list[str]) -> dict[str, float]:
    """Seconds of the peer over ours, by part."""
    rng = np.random.default_rng(3)
    first = np.sort(rng.choice(4 * n, n, replace=False))
    last = first + 144
    some = slice(0, 2000)

    def plainly() -> list[float]:
        covering = np.zeros(int(last[some].max()) + 1)
        for a, b in zip(first[some], last[some], strict=True):
            covering[a : b + 1] += 1
        return [float((1 / covering[a : b + 1]).mean()) for a, b in zip(first[some], last[some], strict=True)]

    average_uniqueness(first[some], last[some])
    theirs_took, expected = timed(plainly, repeats)
    ours_took, told = timed(lambda: average_uniqueness(first, last), repeats)
    apart = float(np.abs(average_uniqueness(first[some], last[some]) - expected).max())
    ratios = {"uniqueness": theirs_took / 2000 * n / ours_took}
    say(
        f"  weights of {n:,} labels: {ours_took:.3f} s, {ratios['uniqueness']:.0f} x a loop over labels; "
        f"at most {apart:.0e} apart, worth {told.sum():,.0f} independent ones"
    )
    if apart > 1e-12:
        broken.append(f"uniqueness is {apart:.0e} from its twin")
    X, _ = rows(n)
    new = rows(max(n // 10, 1000), seed=4)[0]
    gate = fit_novelty(X, n_independent=n / 50)
    ours_took, told = timed(lambda: gate.distance(new), repeats)
    centred = (new - gate.mean) / gate.scale
    apart = float(np.abs(told - np.sqrt(((centred @ gate.whitener.T) ** 2).mean(axis=1))).max())
    sample = min(len(new), 200)
    index = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit((X - gate.mean) / gate.scale)
    theirs_took, _ = timed(lambda: index.kneighbors(centred[:sample]), 1)
    ratios["novelty"] = theirs_took / sample * len(new) / ours_took
    say(
        f"  distance of a row to the training window: {ours_took / len(new) * 1e6:.2f} µs, "
        f"{ratios['novelty']:,.0f} x the nearest of its rows; at most {apart:.0e} from NumPy"
    )
    if apart > 1e-9:
        broken.append(f"novelty is {apart:.0e} from its twin")
    return ratios


def walk(symbol: str, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Bars of a random walk."""
    close = np.exp(3 + np.cumsum(0.002 * rng.normal(size=n)))
    index = pd.date_range("2025-01-01", periods=n, freq=STEP, tz="UTC", unit="ms")
    columns = {"timestamp": index, "symbol": symbol, "open": close, "high": close, "low": close, "close": close}
    return pd.DataFrame({**columns, "volume": rng.lognormal(5, 1, n)})


def null(seeds: int, broken: list[str]) -> dict[str, float]:
    """Mean out-of-sample ROC-AUC on the null market by label and model, each model fitted whether skilled or not."""
    engineering = block("feature_engineering")
    engineering["features"] |= {"beta_window": 1000, "z_window": 300, "volatility_window": 144, "lag_features": 2}
    engineering["labels"] |= {"horizon": 72}
    spec = FeatureEngineeringParams.model_validate(engineering)
    names, labels = feature_names(spec.features), {"z_threshold": spec.labels, "fair": fair(spec.labels)}
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in ("fair", "turned", "z_threshold")}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        made = simulation.market("null", seed=seed, n_symbols=8, end=simulation.START + 16_000 * STEP)
        cut, sets = made.start + 11_000 * STEP, {kind: dict[str, pd.DataFrame]() for kind in found}
        bars = [frame for _, frame in made.bars("5m").groupby("symbol")]
        for pair, legs in enumerate(zip(bars[::2], bars[1::2], strict=True)):
            features = build_features(*legs, spec.features)
            for kind, asked in labels.items():
                labelled = label(features, *legs, asked)
                rows = features.loc[labelled.index, list(names)].join(labelled).dropna(subset=list(names))
                sets[kind][str(pair)] = rows
            sets["turned"][str(pair)] = turned(sets["z_threshold"][str(pair)], rng)
        for kind, frames in sets.items():
            for name, area in out_of_sample(frames, names, made.start, cut, spec.labels).items():
                found[kind].setdefault(name, []).append(area)
    mean = {}
    for kind, areas in found.items():
        for name, values in areas.items():
            mean[f"{kind}.{name}"] = float(np.mean(values))
            error = float(np.std(values, ddof=1) / np.sqrt(seeds))
            say(f"  {kind:12s} {name:20s} mean AUC {np.mean(values):.4f} ± {error:.4f} over {seeds} seeds")
            if kind != "z_threshold" and name in NULL_MODELS and not abs(np.mean(values) - 0.5) <= NULL_BOUND:
                broken.append(f"{name} predicts {kind} labels of walks with an AUC of {np.mean(values):.3f}")
    return mean


def fair(labels: LabelParams) -> LabelParams:
    """Whether the trade towards the mean ends above zero: no costs, barriers equally far, units frozen at its start.

    On walks without drift, whose moves are as likely up as down, that is one half given anything known before.
    """
    costs = multiplied(labels.net_pnl.costs, 0.0).model_dump()
    trade = labels.net_pnl.model_dump() | {"take_profit": 1.5, "stop_loss": 1.5, "costs": costs}
    return LabelParams.model_validate(labels.model_dump() | {"label_type": "net_pnl", "net_pnl": trade})


def out_of_sample(
    sets: Mapping[str, pd.DataFrame],
    names: tuple[str, ...],
    start: pd.Timestamp,
    cut: pd.Timestamp,
    labels: LabelParams,
) -> dict[str, float]:
    """ROC-AUC after ``cut`` of models fitted before it, and of the rank that a driftless walk gives."""
    window = training.formation_rows(sets, start, cut)
    after = pd.concat([frame.loc[frame.index >= cut] for frame in sets.values()])
    X, y, weight = window[list(names)].to_numpy(), window["label"].to_numpy(), training.label_uniqueness(window)
    told = {
        name: estimators.fit(
            name, X, y.astype(np.int64), feature_names=names, seed=0, weight=weight,
            params=ModellingParams.model_validate(block("modelling")).estimators,
        ).predict(after[list(names)].to_numpy())
        for name in NULL_MODELS
    }  # fmt: skip
    told["driftless walk"] = reversion_chance(
        after["z"].to_numpy(), after["spread_std"].to_numpy(), after["spread_change_std"].to_numpy(),
        revert_z=labels.revert_z, horizon=labels.horizon,
    )  # fmt: skip
    return {name: float(roc_auc_score(after["label"], chance)) for name, chance in told.items()}


def turned(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The same rows with their labels moved round in time, as a block: what they share with neighbours stays."""
    by = int(rng.integers(len(frame) // 4, 3 * len(frame) // 4))
    return frame.assign(label=np.roll(frame["label"].to_numpy(), by))


def whole(n_pairs: int, n_bars: int, n_workers: int) -> float:
    """Seconds for features, labels and one pooled model a fold, over the project's own schedule."""
    spec = FeatureEngineeringParams.model_validate(block("feature_engineering"))
    recipe, schedule = (
        ModellingParams.model_validate(block("modelling")),
        ScheduleParams.model_validate(block("schedule")),
    )
    compute = ComputeParams(backend="threading", n_workers=n_workers, scheduler=None)
    rng = np.random.default_rng(0)
    legs = {f"A{k}__B{k}": [walk(f"{leg}{k}", n_bars, rng) for leg in "AB"] for k in range(n_pairs)}
    names = feature_names(spec.features)

    def dataset(pair_id: str) -> pd.DataFrame:
        features = build_features(*legs[pair_id], spec.features)
        labelled = label(features, *legs[pair_id], spec.labels)
        return features.loc[labelled.index, list(names)].join(labelled)

    began = time.perf_counter()
    sets = dict(zip(legs, fan_out(dataset, list(legs), compute, "datasets"), strict=True))
    datasets_s = time.perf_counter() - began
    opens = next(iter(legs.values()))[0]["timestamp"]
    folds = walk_forward(opens.iloc[0], opens.iloc[-1] + STEP, schedule)

    def fit(fold: Fold) -> tuple[int, str]:
        window = training.formation_rows(sets, fold.formation_start, fold.formation_end)
        done = training.fit_group(window, names, recipe)
        return len(window), done.model.model.name if done.model else done.reason

    began = time.perf_counter()
    fits = list(fan_out(fit, list(folds), compute, "training"))
    train_s = time.perf_counter() - began
    n_models = sum(done in recipe.models for _, done in fits)
    say(
        f"  {n_pairs} pairs x {n_bars:,} bars, {n_workers} threads: features and labels {datasets_s:.1f} s, "
        f"{len(folds)} folds of {np.mean([n for n, _ in fits]):,.0f} rows in {train_s:.1f} s, {n_models} with a model"
    )
    return datasets_s + train_s


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of a fit")
    parser.add_argument("--repeats", type=int, default=3, help="times each is run; the median counts")
    parser.add_argument("--pairs", type=int, default=20, help="of the whole part")
    parser.add_argument("--bars", type=int, default=150_000, help="of each pair of the whole part")
    parser.add_argument("--seeds", type=int, default=60, help="seeds of the null part")
    given = parser.parse_args()
    broken: list[str] = []
    with threadpool_limits(1):
        small = rows(2000)
        estimators.fit(
            "logistic_regression",
            *small,
            feature_names=tuple(map(str, range(N_FEATURES))),
            seed=0,
            params=ModellingParams.model_validate(block("modelling")).estimators,
        )  # fmt: skip - compiled before anything is timed
        say(f"peers, {given.rows:,} rows x {N_FEATURES} features, one thread, processor time")
        faster = peers(given.rows, given.repeats, broken)
        say("parts")
        faster |= parts(given.rows, given.repeats, broken)
        say("null")
        area = null(given.seeds, broken)
    say("whole")
    seconds = whole(given.pairs, given.bars, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = ", ".join(f"{name} {ratio:,.1f} x" for name, ratio in faster.items())
    nothing = ", ".join(f"{area[f'{kind}.{name}']:.4f}" for kind in ("fair", "turned") for name in NULL_MODELS)
    say(
        f"\ntrain: {figures}; null AUC {nothing}; z_threshold labels of walks {area['z_threshold.lightgbm']:.3f}, "
        f"by formula {area['z_threshold.driftless walk']:.3f}; whole {seconds:.0f} s; "
        f"peak {peak:.2f} GiB{'; BROKEN: ' + ', '.join(broken) if broken else ''}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
