"""The loops that ``make bench-backtest`` holds the engine against, on few bars: equal equity, equal trades."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BARS = 3000


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("backtest")


@pytest.fixture(scope="module")
def pair(bench):
    return bench.pair_of(BARS, seed=3)


@pytest.mark.parametrize("cooldown_bars", [0, 20])
def test_engine_and_loops_earn_the_same_bar_by_bar(bench, pair, cooldown_bars):
    params = bench.common(bench.configured(), cooldown_bars=cooldown_bars)
    rule = bench.rule_of(params.strategy, half_life_bars=None, needs_probability=False)
    rule = rule._replace(stop_z=2.5)
    params = params.model_copy(update={"strategy": params.strategy.model_copy(update={"stop_z": 2.5})})
    equity, trades = bench.engine_call(pair, params, keep=True)()
    assert trades > 5
    days, _ = bench.engine_call(pair, params, keep=False)()
    assert days[-1] == equity[-1]
    arrays = pair.arrays()
    market, frame = {name: values.tolist() for name, values in arrays.items()}, bench.pd.DataFrame(arrays)
    for found, count in (
        bench.by_lists(market, rule, bench.FEE_RATE),
        bench.by_itertuples(frame, rule, bench.FEE_RATE),
        bench.by_iloc(frame, rule, bench.FEE_RATE),
    ):
        np.testing.assert_allclose(found, equity, rtol=0, atol=bench.MAX_ERROR)
        assert count == trades


def test_every_point_of_the_sweep_ends_like_its_loop(bench, pair):
    params = bench.common(bench.configured(), cooldown_bars=0)
    rules = bench.points(params)
    equity, trades = bench.sweep_call(pair, params, rules)()
    whole, counted = bench.swept(pair, params, rules)
    np.testing.assert_allclose(whole, equity, rtol=0, atol=bench.MAX_ERROR)
    assert counted.tolist() == trades.tolist()
    assert len(set(trades.tolist())) > 10
    market = {name: values.tolist() for name, values in pair.arrays().items()}
    ends = [bench.by_lists(market, rule, bench.FEE_RATE, keep=False) for rule in rules]
    np.testing.assert_allclose([end[-1] for end, _ in ends], equity, rtol=0, atol=bench.MAX_ERROR)
    assert [count for _, count in ends] == trades.tolist()


def test_the_comparison_can_fail(bench):
    table = bench.Table(BARS, [])
    table.agrees("one", [1.0, 1.1], [1.0, 1.1 + 1e-12], 3, 3)
    assert table.broken == []
    table.agrees("equity", [1.0, 1.1], [1.0, 1.1 + 1e-8], 3, 3)
    table.agrees("trades", [1.0, 1.1], [1.0, 1.1], 3, 4)
    table.agrees("unknown", [1.0, np.nan], [1.0, 1.1], 3, 3)
    assert len(table.broken) == 3
