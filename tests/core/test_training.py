"""Training inside one window: what gets a model, what out of fold means, and that it repeats itself."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_bars import changed, grid

from leak_detectors import touched_by
from mntrading.core import estimators
from mntrading.core.errors import ParameterError
from mntrading.core.evaluation import SCORE_COLUMNS, score
from mntrading.core.training import (
    PREDICTION_COLUMNS,
    TrainedModel,
    check_gap,
    check_threshold,
    fit_group,
    formation_rows,
    predict,
)
from mntrading.core.uniqueness import label_uniqueness
from mntrading.datasets.storage import compact_json
from mntrading.params import LabelParams, ModellingParams

FILE = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters_modelling.yml").read_text())["modelling"]
FAST = ModellingParams.model_validate(
    FILE | {"models": ["logistic_regression"], "n_splits": 3, "gap": 12, "min_events": 100, "sample_weights": "none"}
)
HYPER = FAST.estimators
NAMES = ("x", "y")
BAR = pd.Timedelta(minutes=5)


def dataset(n: int, *, skill: float, seed: int = 0, horizon: int = 12) -> pd.DataFrame:
    """Labelled rows whose label follows x with the strength ``skill``."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    index = grid(n)
    label = (skill * x + rng.normal(size=n) > 0.3).astype("int8")
    end = index + BAR * rng.integers(1, horizon + 1, n)
    return pd.DataFrame({"x": x, "y": y, "label": label, "label_end": end}, index=index)


def pooled(n: int = 900, *, skill: float, seed: int = 0) -> pd.DataFrame:
    both = {"A__B": dataset(n, skill=skill, seed=seed), "C__D": dataset(n, skill=skill, seed=seed + 1)}
    return formation_rows(both, grid(1)[0], grid(n)[-1])


# --- rows


def test_a_margin_in_deviations_is_refused_for_sizes_in_money(params):
    labels = changed(params.feature_engineering.labels, label_type="net_pnl")
    worth = changed(params.modelling.threshold, choose="expected_value", margin=0.25)
    check_threshold(changed(params.modelling, threshold=changed(worth, margin=0.0)), labels)
    check_threshold(changed(params.modelling, threshold=worth), params.feature_engineering.labels)
    with pytest.raises(ParameterError, match=r"margin is 0\.25 deviations"):
        check_threshold(changed(params.modelling, threshold=worth), labels)


def test_rows_are_those_whose_whole_label_lies_in_the_window_by_time_then_pair():
    both = {"C__D": dataset(200, skill=0.0, seed=1), "A__B": dataset(200, skill=0.0)}
    start, end = grid(200)[50], grid(200)[150]
    rows = formation_rows(both, start, end)
    assert rows.index.min() == start
    assert rows["label_end"].max() < end
    assert rows.index.is_monotonic_increasing
    expected = sum(((d.index >= start) & (d["label_end"] < end)).sum() for d in both.values())
    assert len(rows) == expected
    assert rows["pair_id"].tolist()[:4] == ["A__B", "C__D", "A__B", "C__D"]


def test_no_datasets_are_no_rows_and_no_model():
    rows = formation_rows({}, *grid(2))
    assert rows.empty
    fitted = fit_group(rows, NAMES, FAST)
    assert fitted.model is None
    assert fitted.reason == "0 labelled rows, 100 needed"


def test_a_gap_below_the_horizon_is_refused():
    free = {"fee_rate": 0.0, "slippage_bps": 0.0, "borrow_bps_per_day": 0.0, "impact_bps": 0.0, "carry": "borrow"}
    trade = {"barriers_in": "notional", "take_profit": 1.0, "stop_loss": 1.0, "fill_at": "open", "costs": free}
    labels = LabelParams(label_type="z_threshold", zscore_threshold=1.5, revert_z=0.5, horizon=12, net_pnl=trade)
    check_gap(FAST, labels)
    with pytest.raises(ParameterError, match="gap is 11 bars, expected at least the label horizon of 12") as caught:
        check_gap(changed(FAST, gap=11), labels)
    assert caught.value.fix == "--params modelling.gap=12"


def test_the_projects_own_gap_covers_its_horizon(params):
    check_gap(params.modelling, params.feature_engineering.labels)


# --- what gets a model


def test_a_planted_signal_is_found():
    rows = pooled(skill=1.5)
    fitted = fit_group(rows, NAMES, FAST)
    assert fitted.reason == ""
    assert fitted.model.name == "logistic_regression"
    scores = fitted.scores.set_index("model")
    assert tuple(fitted.scores.columns) == SCORE_COLUMNS
    assert scores.loc["logistic_regression", "roc_auc"] > 0.8
    assert scores.loc["logistic_regression", "log_loss"] < 0.95 * scores.loc["base_rate", "log_loss"]
    assert scores.loc["logistic_regression", "lift"] > 1.3
    assert estimators.importances(fitted.model.model)[0] > 0.8


def test_without_skill_out_of_fold_there_is_no_model():
    fitted = fit_group(pooled(skill=0.0), NAMES, FAST)
    assert fitted.model is None
    assert fitted.reason == "no candidate beats the base rate out of fold"
    scores = fitted.scores.set_index("model")
    assert scores.loc["logistic_regression", "roc_auc"] == pytest.approx(0.5, abs=0.06)
    assert len(fitted.out_of_fold) > 0


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (lambda rows: rows.head(99), "99 labelled rows, 100 needed"),
        (lambda rows: rows.assign(x=np.nan), "0 rows with all features, 100 needed"),
        (
            lambda rows: rows.assign(x=rows["x"].where(rows.index < rows.index[80])),
            "80 rows with all features, 100 needed",
        ),
        (lambda rows: rows.head(1500).assign(label=1), "all 1500 labels are 1"),
        (lambda rows: rows.head(1500).assign(label=0), "all 1500 labels are 0"),
        (
            lambda rows: rows.assign(label_end=rows.index[-1]),
            "no split leaves both classes to train on after purging",
        ),
    ],
)  # fmt: skip
def test_a_group_that_cannot_be_trained_says_why(rows, reason):
    fitted = fit_group(rows(pooled(skill=1.5)), NAMES, FAST)
    assert fitted.model is None
    assert fitted.reason == reason
    assert fitted.out_of_fold.empty
    assert tuple(fitted.scores.columns) == SCORE_COLUMNS


def test_events_at_too_few_times_are_no_model():
    rows = pooled(skill=1.5)
    same_time = rows.set_index(rows.index[np.arange(len(rows)) % 2 * 2])
    fitted = fit_group(same_time, NAMES, FAST)
    assert fitted.reason == "no split leaves both classes to train on after purging"


# --- out of fold


def test_out_of_fold_rows_are_each_test_row_once_with_its_label():
    rows = pooled(skill=1.5)
    out = fit_group(rows, NAMES, FAST).out_of_fold
    assert list(out.columns) == ["pair_id", "timestamp", "label", "probability_logistic_regression"]
    assert not out.duplicated(["pair_id", "timestamp"]).any()
    labels = rows.set_index("pair_id", append=True)["label"]
    assert out["label"].tolist() == labels.loc[list(zip(out["timestamp"], out["pair_id"], strict=True))].tolist()
    # the first block is never tested, the rest all are
    assert out["timestamp"].min() == rows.index.unique()[round(rows.index.nunique() / 4)]
    assert out["timestamp"].max() == rows.index.max()


def test_out_of_fold_probabilities_are_those_of_models_that_never_saw_the_row_or_a_label_near_it():
    rows = pooled(skill=1.5)
    out = fit_group(rows, NAMES, FAST).out_of_fold
    X, y = rows[list(NAMES)].to_numpy(), rows["label"].to_numpy(dtype=np.int64)
    expected = []
    times = rows.index.unique()
    edges = np.linspace(0, len(times), 5).round().astype(int)
    for first, last in pairwise(edges[1:]):
        block = times[first:last]
        test = np.flatnonzero(rows.index.isin(block))
        known = ((rows.index < block[0]) & (rows["label_end"] < block[0] - 12 * BAR)).to_numpy()
        model = estimators.fit("logistic_regression", X[known], y[known], feature_names=NAMES, seed=0, params=HYPER)
        expected.append(model.predict(X[test]))
    np.testing.assert_allclose(out["probability_logistic_regression"], np.concatenate(expected), rtol=1e-12)


@pytest.mark.parametrize("name", ["logistic_regression", "lightgbm"])
def test_what_is_not_known_at_the_formation_end_changes_nothing(name):
    rows = dataset(1500, skill=1.5).assign(size=0.5, pair_id="A__B")
    end = rows.index[1200]
    params = changed(FAST, models=(name,), calibration="sigmoid", sample_weights="uniqueness")

    def everything(rows: pd.DataFrame) -> object:
        fitted = fit_group(formation_rows({"A__B": rows}, rows.index[0], end), NAMES, params)
        return [predict(fitted.model, rows.iloc[:100]), fitted.model.document(), fitted.scores, fitted.out_of_fold]

    assert touched_by(everything, rows, (rows["label_end"] >= end).to_numpy()) == []


def test_a_feature_that_only_tells_the_time_earns_nothing_out_of_fold():
    # labels come in runs: a model that trains on rows beside its test rows reads the run off the time
    n = 6000
    label = np.arange(n) // 750 % 2
    frame = dataset(n, skill=0.0).assign(label=label, x=np.arange(n) // 50, label_end=grid(n) + 12 * BAR)
    rows = formation_rows({"A__B": frame}, grid(1)[0], grid(n)[-1])
    fitted = fit_group(rows, NAMES, changed(FAST, models=("random_forest",)))
    assert fitted.model is None
    X, y = rows[list(NAMES)].to_numpy(dtype=np.float64), rows["label"].to_numpy(dtype=np.int64)
    beside = np.arange(len(y)) % 2 == 0
    leaked = estimators.fit("random_forest", X[beside], y[beside], feature_names=NAMES, seed=0, params=HYPER).predict(
        X[~beside]
    )
    assert score("leaked", y[~beside], leaked)["roc_auc"] > 0.75


# --- repeatability and prediction


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "lightgbm"])
def test_the_same_rows_and_seed_give_the_same_model(name):
    rows = pooled(2500, skill=1.5)
    params = changed(FAST, models=(name,), n_splits=2)
    one, two = fit_group(rows, NAMES, params), fit_group(rows, NAMES, params)
    pd.testing.assert_frame_equal(one.out_of_fold, two.out_of_fold, check_exact=True)
    pd.testing.assert_frame_equal(one.scores, two.scores, check_exact=True)
    pd.testing.assert_frame_equal(predict(one.model, rows), predict(two.model, rows), check_exact=True)


def test_the_best_candidate_by_out_of_fold_log_loss_is_refitted_on_every_row():
    rows = pooled(500, skill=1.5)
    fitted = fit_group(rows, NAMES, changed(FAST, models=("random_forest", "logistic_regression")))
    loss = fitted.scores.set_index("model")["log_loss"]
    assert fitted.model.name == loss.idxmin()
    again = estimators.fit(
        fitted.model.name,
        rows[list(NAMES)].to_numpy(),
        rows["label"].to_numpy(),
        feature_names=NAMES,
        seed=0,
        params=HYPER,
    )
    np.testing.assert_array_equal(
        predict(fitted.model, rows)["probability"], again.predict(rows[list(NAMES)].to_numpy())
    )


def test_rows_with_an_unknown_feature_have_no_probability():
    rows = pooled(300, skill=1.5)
    model = fit_group(rows, NAMES, FAST).model
    features = rows[["y", "x"]].astype("float64")  # the columns' order does not matter
    features.iloc[3, 0] = np.nan
    features.iloc[5, 1] = np.inf
    out = predict(model, features)
    assert tuple(out.columns) == PREDICTION_COLUMNS
    for column in ("probability", "novelty"):
        assert np.flatnonzero(out[column].isna()).tolist() == [3, 5]
    assert out["probability"].dropna().between(0, 1).all()
    assert not out["novel"].iloc[[3, 5]].any()
    known = out["probability"].notna().to_numpy()
    pd.testing.assert_frame_equal(out[known], predict(model, rows)[known], check_exact=True)
    assert predict(model, features.iloc[:0]).empty
    assert predict(model, features.iloc[[3]])["probability"].isna().all()


# --- scores


def test_scores_by_hand():
    out = score("m", np.array([1, 0, 1, 0]), np.array([0.8, 0.2, 0.6, 0.4]))
    assert out["log_loss"] == pytest.approx(-np.mean(np.log([0.8, 0.8, 0.6, 0.6])))
    assert out["brier"] == pytest.approx(np.mean([0.04, 0.04, 0.16, 0.16]))
    assert (out["roc_auc"], out["pr_auc"], out["base_rate"], out["lift"], out["n_rows"]) == (1, 1, 0.5, 2, 4)


def test_ranking_is_not_defined_on_one_class():
    out = score("m", np.array([1, 1]), np.array([0.8, 0.6]))
    assert np.isnan([out["roc_auc"], out["pr_auc"], out["lift"]]).all()
    assert out["log_loss"] == pytest.approx(-np.mean(np.log([0.8, 0.6])))
    assert score("m", np.zeros(0, dtype=np.int64), np.zeros(0))["n_rows"] == 0.0


# --- the recipe


def test_rows_weigh_what_their_labels_do_not_share_with_others_of_their_pair():
    rows = pooled(skill=1.5)
    model = fit_group(rows, NAMES, changed(FAST, sample_weights="uniqueness")).model
    again = estimators.fit(
        "logistic_regression", rows[list(NAMES)].to_numpy(), rows["label"].to_numpy(), feature_names=NAMES, seed=0,
        params=HYPER, weight=label_uniqueness(rows),
    )  # fmt: skip
    np.testing.assert_array_equal(predict(model, rows)["probability"], again.predict(rows[list(NAMES)].to_numpy()))
    plain = fit_group(rows, NAMES, FAST).model
    assert not np.array_equal(predict(plain, rows)["probability"], predict(model, rows)["probability"])


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("choose", ["expected_value", "precision", "f_beta"])
def test_a_trained_model_comes_back_whole_from_its_json_form(kind, choose):
    rows = pooled(skill=1.5).assign(size=lambda rows: rows["label"] - 0.4)
    params = changed(FAST, calibration=kind, threshold=FAST.threshold.model_dump() | {"choose": choose})
    model = fit_group(rows, NAMES, params).model
    assert model.threshold is not None
    parsed = TrainedModel.parse(model.model, json.loads(compact_json(model.document())))
    pd.testing.assert_frame_equal(predict(parsed, rows), predict(model, rows), check_exact=True)
    assert parsed.document() == model.document()


def test_a_row_is_told_the_same_alone_and_among_others():
    rows = pooled(skill=1.5)
    params = changed(FAST, calibration="isotonic", models=("lightgbm",))
    model = fit_group(rows, NAMES, params).model
    whole = predict(model, rows)
    alone = pd.concat([predict(model, rows.iloc[[i]]) for i in range(0, len(rows), 37)])
    pd.testing.assert_frame_equal(alone, whole.iloc[::37], check_exact=True)


def test_early_stopping_looks_at_the_latest_of_the_rows_it_is_given_and_no_further():
    rows = pooled(2000, skill=1.5)
    stopping = {"patience": 5, "validation_share": 0.25}
    booster = FILE["estimators"] | {"lightgbm": FILE["estimators"]["lightgbm"] | {"learning_rate": 0.5}}
    params = changed(FAST, models=("lightgbm",), early_stopping=stopping, estimators=booster)
    fitted = fit_group(rows, NAMES, params)
    times = rows.index.unique()
    first = times[round(0.75 * len(times))]
    X, y = rows[list(NAMES)].to_numpy(), rows["label"].to_numpy(dtype=np.int64)
    known = ((rows.index < first) & (rows["label_end"] < first - 12 * BAR)).to_numpy()
    after = np.asarray(rows.index >= first)
    rounds = estimators.best_rounds(
        "lightgbm", (X[known], y[known], None), (X[after], y[after], None), seed=0, params=params.estimators,
        patience=5,
    )  # fmt: skip
    assert rounds < params.estimators.lightgbm.rounds
    assert fitted.model.model.estimator.num_trees() == rounds


def test_details_are_plain_numbers_about_every_split_and_the_chosen_model():
    fitted = fit_group(pooled(skill=1.5), NAMES, FAST)
    details = json.loads(compact_json(fitted.details))
    assert len(details["splits"]) == 3
    assert [line["model"] for line in details["splits"][0]["candidates"]] == ["base_rate", "logistic_regression"]
    assert details["n_trials"] == 1
    assert 0 < details["n_independent"] < 1800
    assert [line["feature"] for line in details["importance"]] == ["x", "y"]
    x, y = details["importance"]
    assert x["permutation"] > 10 * abs(y["permutation"])
    assert x["gain"] + y["gain"] == pytest.approx(1.0)
    assert details["stability"]["roc_auc_min"] > 0.7
    assert details["threshold"] is None
    assert sum(row["n_rows"] for row in details["calibration"]["bins"]) == len(fitted.out_of_fold)
    assert details["curves"]["roc"][0] == [0, 0]
    assert details["curves"]["roc"][-1] == [1, 1]
    assert len(details["curves"]["roc"]) <= FAST.evaluation.curve_points


def test_a_group_without_skill_has_the_scores_of_its_splits_and_no_more():
    details = fit_group(pooled(skill=0.0), NAMES, FAST).details
    assert set(details) == {"n_trials", "n_independent", "splits"}


def test_rows_far_from_the_training_rows_are_novel_and_barred_only_by_parameter():
    rows = pooled(skill=1.5)
    far = rows[list(NAMES)].assign(x=9.0)
    for blocks in (False, True):
        novelty = {"quantile": 0.99, "blocks_entry": blocks}
        model = fit_group(rows, NAMES, changed(FAST, novelty=novelty)).model
        assert predict(model, rows)["novel"].mean() == pytest.approx(0.01, abs=0.01)
        out = predict(model, far)
        assert out["novel"].all()
        assert (out["barred"] == blocks).all()
