"""From figures to warnings, from warnings to a level, from the level to the kill switch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mntrading.core.drift import Drift, Reliability
from mntrading.core.health import Check, Observed, checks_of, drifted, effective_kill_switch, verdict
from mntrading.core.relation import Relation

NAN = float("nan")
FAR, NEAR = Drift(0.31, 0.6, 1e-6, 400, 20.0), Drift(0.05, 0.1, 0.9, 400, 20.0)
FORMED = Relation(0.001, 10.0, 1.5, 1440)
WELL = Observed(
    age_bars=0, doubts=(), features={"z": NEAR, "z_velocity": NEAR}, scores=NEAR,
    calibration=Reliability(0.6, 0.62, 0.05, 0.2, 0.24, 0.01, 400, 20.0),
    before=FORMED, now=FORMED, known=1.0, half_life_ratio=1.0, break_p=0.01,
)  # fmt: skip


def words(found, params):
    return [check.words for check in checks_of(found, params.monitoring) if check.breached]


def test_a_pair_that_is_well_has_every_figure_and_no_warning(params):
    checks = checks_of(WELL, params.monitoring)
    assert [check.kind for check in checks] == [
        "data", "model", "drift", "scores", "calibration", "calibration", *["relation"] * 4,
    ]  # fmt: skip
    assert not any(check.breached or check.words for check in checks)


def test_a_pair_without_a_model_is_watched_without_one(params):
    bare = replace(WELL, doubts=None, features={}, scores=None, calibration=None)
    assert {check.kind for check in checks_of(bare, params.monitoring)} == {"data", "relation"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"age_bars": 3}, "bars are 3 bars old, limit 0"),
        ({"age_bars": None}, "no bars"),
        ({"doubts": ("model abc is missing",)}, "model abc is missing"),
        ({"features": {"z": NEAR, "z_velocity": FAR}}, "features drifted: z_velocity PSI 0.31, limit 0.25"),
        ({"scores": FAR}, "the model's answers drifted: probability PSI 0.31, limit 0.25"),
        (
            {"calibration": replace(WELL.calibration, observed=0.3)},
            "probabilities are off: mean 0.60, came true 0.30, standard error 0.05, limit 0.1",
        ),
        (
            {"calibration": replace(WELL.calibration, brier=0.28)},
            "probabilities are worse than the base rate: Brier score 0.280 against 0.240, 4.0 standard errors, limit 3",
        ),
        ({"now": replace(FORMED, p_value=0.4)}, "cointegration is not seen any more: p 0.40, limit 0.2"),
        ({"half_life_ratio": 3.5}, "half-life is 3.5 times that at formation, limit 3"),
        ({"half_life_ratio": np.inf}, "the residual of the newest window does not revert, limit 3"),
        (
            {"now": replace(FORMED, hedge_ratio=0.6)},
            "hedge ratio is 0.60, 1.50 at formation: drift 0.60, limit 0.5",
        ),
        (
            {"break_p": 0.7},
            "the spread with the hedge ratio of formation does not revert any more: p 0.70, limit 0.5",
        ),
        ({"break_p": NAN}, "break monitor p is not known"),
        ({"known": 0.5}, "the relation can't be tested: 50% of the newest window's bars are there, 90% needed"),
    ],
)
def test_each_breach_is_told_in_words(params, change, told):
    assert words(replace(WELL, **change), params) == [told]


def test_an_index_alone_or_a_small_distance_is_no_drift(params):
    among = {f"f{k}": NEAR for k in range(9)}
    for almost in (
        replace(FAR, p_value=0.002),  # 10 features share a level of 0.01
        replace(FAR, psi=0.2),
        replace(FAR, n_independent=4.0),
    ):
        assert drifted({**among, "x": almost}, params.monitoring) == {}
    assert list(drifted({**among, "x": replace(FAR, p_value=0.0009)}, params.monitoring)) == ["x"]


def test_the_worst_features_are_named_and_the_rest_counted(params):
    many = {f"f{k}": replace(FAR, psi=0.3 + k) for k in range(5)}
    (told,) = words(replace(WELL, features=many), params)
    assert told == "features drifted: f4 PSI 4.30, f3 PSI 3.30, f2 PSI 2.30 and 2 more, limit 0.25"


def test_too_early_is_said_and_is_no_warning(params):
    few = Drift(3.0, 1.0, 1e-9, 100, 2.0)
    early = replace(
        WELL, features={"z": few, "y": few}, scores=few,
        calibration=replace(WELL.calibration, observed=0.0, n_independent=2.0),
    )  # fmt: skip
    checks = checks_of(early, params.monitoring)
    assert not any(check.breached for check in checks)
    assert sum(check.words.startswith("too early") for check in checks) == 4
    slow = checks_of(replace(WELL, features={"z": NEAR, "y": few}), params.monitoring)
    assert [check.words for check in slow if check.words] == [
        "1 of 2 change too slowly to tell yet: fewer than 5 independent rows since the formation window"
    ]


def changed(params, **reducing):
    rule = params.monitoring.reducing.model_copy(update=reducing)
    return params.monitoring.model_copy(update={"reducing": rule})


def breach(kind):
    return [Check(kind, "x", 1.0, 0.0, True, "why")]


WELL_CHECKS = [Check("data", "x", 0.0, 0.0, False)]


def test_breaches_reduce_where_parameters_allow_and_in_the_share_they_ask_for(params):
    pairs = {"A": breach("relation"), "B": WELL_CHECKS}
    allowed = changed(params, may_reduce=True, kinds=("relation",), min_share=0.5)
    assert verdict(pairs, allowed) == ("reducing", "1 of 2 pairs breach a limit of relation: A")
    for other in (
        changed(params, may_reduce=False, kinds=("relation",), min_share=0.5),
        changed(params, may_reduce=True, kinds=("calibration",), min_share=0.5),
        changed(params, may_reduce=True, kinds=(), min_share=0.5),
        changed(params, may_reduce=True, kinds=("relation",), min_share=0.6),
    ):
        assert verdict(pairs, other) == ("warning", "1 of 2 pairs have warnings: A")
    assert verdict({"B": WELL_CHECKS}, allowed) == ("ok", "")
    assert verdict({}, allowed) == ("ok", "no pair is in production")


@pytest.mark.parametrize(
    ("configured", "level", "effective"),
    [
        ("active", "ok", "active"),
        ("active", "warning", "active"),
        ("active", "reducing", "reducing"),
        ("reducing", "ok", "reducing"),
        ("halted", "ok", "halted"),
        ("halted", "reducing", "halted"),
    ],
)
def test_the_stricter_kill_switch_holds(configured, level, effective):
    switch, why = effective_kill_switch(configured, level, "1 of 1 pairs")
    assert switch == effective
    expected = "" if switch == "active" else f"portfolio.kill_switch is {configured}"
    assert why == ("monitoring: 1 of 1 pairs" if (configured, level) == ("active", "reducing") else expected)
