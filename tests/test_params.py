"""Parameter blocks: what stands in the files is valid, and what makes no sense is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from mntrading.configuration import parameters
from mntrading.params import BLOCKS, Block, SimulatorParams

CONF = Path(__file__).parents[1] / "conf"


def test_every_block_is_in_the_files_and_the_files_have_no_other(params):
    assert set(vars(params)) == set(BLOCKS)


def test_no_field_has_a_default():
    seen: set[type[Block]] = set()

    def walk(model: type[Block]) -> None:
        seen.add(model)
        for field in model.model_fields.values():
            assert field.is_required()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Block):
                walk(field.annotation)

    for model in BLOCKS.values():
        walk(model)
    assert len(seen) > len(BLOCKS)


@pytest.mark.parametrize("key", sorted(BLOCKS))
def test_an_unknown_or_a_missing_name_is_refused(params, key):
    values = getattr(params, key).model_dump()
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        BLOCKS[key].model_validate(values | {"no_such_name": 1})
    name = next(iter(values))
    with pytest.raises(ValidationError, match="Field required"):
        BLOCKS[key].model_validate({k: v for k, v in values.items() if k != name})


def test_a_block_does_not_change(params):
    with pytest.raises(ValidationError, match="frozen"):
        params.schedule.trading_days = 3


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schedule.step_days", 13, "would overlap"),
        ("screening.keep_level", 0.01, "is stricter than level"),
        ("screening.min_half_life_hours", 72.0, "not below max_half_life_hours"),
        ("screening.level", 1.5, "less than or equal to 1"),
        ("screening.level", "high", "valid number"),
        ("ingestion.since_utc", "2025-01-01T00:00:00", "time zone"),
        ("feature_engineering.labels.revert_z", 1.5, "not below zscore_threshold"),
        ("feature_engineering.labels.horizon", 0, "greater than or equal to 1"),
        ("feature_engineering.features.min_window_fill", 0.0, "greater than 0"),
        ("feature_engineering.features.hedge_lag_bars", -1, "greater than or equal to 0"),
        ("feature_engineering.features.price", "sqrt", "'log' or 'level'"),
        ("modelling.models", [], "at least 1 item"),
        ("modelling.models", ["perceptron"], "Input should be"),
        ("modelling.models", ["lightgbm", "lightgbm"], "names one twice"),
        ("modelling.search.space", {"lightgbm.leaves": [1.0, 2.0]}, "is no hyper-parameter"),
        ("modelling.search.space", {"perceptron.C": [1.0, 2.0]}, "is no hyper-parameter"),
        ("modelling.search.space", {"lightgbm.rounds": [9.0, 2.0]}, "expected 0 < low < high"),
        ("modelling.search.n_test_groups", 6, "is not below n_groups"),
        ("modelling.estimators.random_forest.max_features", "auto", "Input should be"),
        ("modelling.max_train_size", 0, "greater than or equal to 1"),
        ("backtest.strategy.exit_z", 2.0, "expected exit_z < entry_z < stop_z"),
        ("backtest.strategy.stop_z", 2.0, "expected exit_z < entry_z < stop_z"),
        ("backtest.strategy.min_hedge_ratio", 5.0, "not below max_hedge_ratio"),
        ("backtest.strategy.entry_z", float("nan"), "finite number"),
        ("backtest.costs.fee_rate", -0.1, "greater than or equal to 0"),
        ("backtest.costs.fee_rate", float("inf"), "finite number"),
        ("backtest.fill_at", "mid", "'open' or 'close'"),
        ("portfolio.capital", 0.0, "greater than 0"),
        ("portfolio.kill_switch", "off", "'active', 'reducing' or 'halted'"),
        ("champions.survives_cost_multiple", 0.5, "greater than or equal to 1"),
        ("market.simulator.end", "2025-06-18T00:00:00", "needs a time zone"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(params, path, value, message):
    key, *inner, name = path.split(".")
    values = getattr(params, key).model_dump()
    block = values
    for part in inner:
        block = block[part]
    block[name] = value
    with pytest.raises(ValidationError, match=message):
        BLOCKS[key].model_validate(values)


def test_a_moment_with_a_zone_is_kept():
    block = SimulatorParams.model_validate(
        {"name": "ou", "seed": 0, "n_symbols": None, "end": "2025-06-18T02:00:00+02:00"}
    )
    assert block.end == datetime(2025, 6, 18, tzinfo=UTC)


def test_who_does_the_work_may_be_said_by_the_environment(monkeypatch):
    for name, value in {"BACKEND": "dask", "N_WORKERS": "8", "SCHEDULER": "tcp://10.0.0.5:8786"}.items():
        monkeypatch.setenv(f"MNTRADING_COMPUTE_{name}", value)
    assert parameters(CONF)["compute"].model_dump() == {
        "backend": "dask",
        "n_workers": 8,
        "scheduler": "tcp://10.0.0.5:8786",
    }
