"""The screens of a schedule: each on what was listed and known at the end of its window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.compute import WorkersError
from mntrading.core.bars import from_ms
from mntrading.core.schedule import LIVE
from mntrading.datasets import BarsDataset, BarStore, BarsUpdate
from mntrading.params import ComputeParams, ScheduleParams, ScreeningParams
from mntrading.pipelines.screening.nodes import screen_pairs

START = pd.Timestamp("2025-01-01", tz="UTC")
DAYS = 50
SCHEDULE = ScheduleParams(formation_days=20, trading_days=10, step_days=10)
GONE, NEW = "S02/USDT", "S03/USDT"


def prices(seed: int = 0) -> pd.DataFrame:
    """Hourly closes: S01 follows S00; S02 ends on day 33, S03 begins on day 21, both following S00 too."""
    rng = np.random.default_rng(seed)
    n = 24 * DAYS
    walks = np.cumsum(rng.normal(0, 0.01, (n, 6)), axis=0)
    for column in (1, 2, 3):
        noise = np.zeros(n)
        for t in range(1, n):
            noise[t] = 0.85 * noise[t - 1] + 0.004 * rng.normal()
        walks[:, column] = 0.9 * walks[:, 0] + noise
    index = pd.date_range(START, periods=n, freq="h", unit="ms", name="timestamp")
    closes = pd.DataFrame(100 * np.exp(walks), index=index, columns=[f"S{i:02d}/USDT" for i in range(6)])
    closes.loc[closes.index >= START + pd.Timedelta(33, unit="D"), GONE] = np.nan
    closes.loc[closes.index < START + pd.Timedelta(21, unit="D"), NEW] = np.nan
    return closes


def store(folder: Path, closes: pd.DataFrame) -> BarStore:
    frames = {}
    for symbol in closes:
        close = closes[symbol].dropna()
        frames[symbol] = pd.DataFrame(
            {"timestamp": close.index, "symbol": symbol, "open": close, "high": close, "low": close, "close": close}
        ).assign(volume=1e6)
    dataset = BarsDataset(path=str(folder / "ohlcv_1h.parquet"), timeframe="1h")
    dataset.save(BarsUpdate("made:market", frames))
    return dataset.load()


@pytest.fixture
def rules(params: Any) -> ScreeningParams:
    given = params.screening.model_dump()
    given["confirmation"] |= {"max_hedge_ratio_drift": None}
    return ScreeningParams.model_validate(given)


def run(
    folder: Path,
    closes: pd.DataFrame,
    rules: ScreeningParams,
    params: Any,
    stored: dict[str, Any] | None = None,
    compute: ComputeParams | None = None,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame], dict[str, Any]]:
    markets = {
        "as_of": (closes.index[-1] + pd.Timedelta(1, unit="h")).isoformat(),
        "since": START.isoformat(),
        "symbols": {symbol: {} for symbol in closes},
    }
    return screen_pairs(store(folder, closes), markets, stored, rules, SCHEDULE, compute or params.compute)


def symbols_of(tests: pd.DataFrame) -> set[str]:
    return {*tests["dependent"], *tests["independent"]}


def test_a_fold_has_the_symbols_listed_at_its_end_also_those_that_are_gone_since(tmp_path, rules, params):
    screens, tests, roster = run(tmp_path, prices(), rules, params)
    by_fold = {screen["fold"]: screen for screen in screens.values()}
    assert list(by_fold) == ["fold_00", "fold_01", "fold_02", LIVE]
    listed = {fold: symbols_of(table) for fold, table in zip(by_fold, tests.values(), strict=True)}
    assert GONE in listed["fold_00"]
    assert GONE in listed["fold_01"]
    assert GONE not in listed["fold_02"] | listed[LIVE]
    assert NEW not in listed["fold_00"] | listed["fold_01"]
    assert NEW in listed["fold_02"]  # a day late
    assert NEW in listed[LIVE]
    assert by_fold["fold_01"]["universe_rejected"] == {NEW: "too little history"}
    assert by_fold["fold_02"]["universe_rejected"] == {GONE: "not listed throughout"}
    first = {symbol for pair in roster["folds"][0]["pairs"] for symbol in (pair["dependent"], pair["independent"])}
    assert GONE in first
    assert GONE in roster["symbols"]


def test_what_comes_after_a_window_changes_nothing_of_its_screen(tmp_path, rules, params):
    closes = prices()
    end = START + pd.Timedelta(40, unit="D")
    other = closes.copy()
    other.loc[other.index >= end] *= 1.0 + np.random.default_rng(1).normal(0, 0.05, (10 * 24, 6))
    other.loc[other.index >= end, "S05/USDT"] = np.nan
    screens, tests, _ = run(tmp_path / "one", closes, rules, params)
    changed, changed_tests, _ = run(tmp_path / "other", other, rules, params)
    compared = 0
    for name, document in screens.items():
        if pd.Timestamp(document["formation_end"]) > end:
            continue
        compared += 1
        bare, other_bare = ({k: v for k, v in d.items() if k != "inputs"} for d in (document, changed[name]))
        assert bare == other_bare
        stamp = name.removeprefix("screened_pairs_")
        pd.testing.assert_frame_equal(tests[stamp], changed_tests[stamp], check_exact=True)
    assert compared == 3


def test_the_live_screen_holds_on_to_the_live_pairs_of_the_run_before(tmp_path, rules, params):
    """Yesterday's pair is too weak to enter today and strong enough to stay; the past folds are as they were."""
    closes = prices()
    yesterday = closes.iloc[:-24]
    _, _, first = run(tmp_path / "first", yesterday, rules, params)
    (live,) = (entry for entry in first["folds"] if entry["name"] == LIVE)
    assert live["pairs"]
    strict = ScreeningParams.model_validate(rules.model_dump() | {"level": 1e-300, "keep_level": 0.2})
    _, _, alone = run(tmp_path / "alone", closes, strict, params)
    _, _, other = run(tmp_path / "other", closes, strict, params, first)
    assert other == alone  # made with other parameters
    _, _, after = run(tmp_path / "after", closes, strict, params, first | {"parameters": alone["parameters"]})
    assert alone["live_before"] is None
    assert [entry["pairs"] for entry in alone["folds"]] == [[]] * 4
    assert [entry["pairs"] for entry in after["folds"][:-1]] == [[]] * 3
    held = {pair["pair_id"] for pair in live["pairs"]}
    now = {pair["pair_id"] for pair in after["folds"][-1]["pairs"]}
    assert now
    assert now <= held
    assert after["folds"][-1]["entered"] == []
    assert set(after["folds"][-1]["left"]) == held - now
    assert pd.Timestamp(after["live_before"]["as_of"]) == from_ms(int(closes.index[-24].timestamp() * 1000))
    # made again of the same bars it stays the same
    _, _, again = run(tmp_path / "again", closes, strict, params, after)
    assert again == after


def test_the_tests_go_to_the_workers_that_are_asked_for_and_to_no_others(tmp_path, rules, params):
    absent = ComputeParams(backend="dask", n_workers=1, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(WorkersError, match="no Dask scheduler can be reached"):
        run(tmp_path / "cluster", prices(), rules, params, compute=absent)
    by_threads = run(tmp_path / "threads", prices(), rules, params)
    processes = ComputeParams(backend="loky", n_workers=2, scheduler=None)
    by_processes = run(tmp_path / "processes", prices(), rules, params, compute=processes)
    assert by_processes[0] == by_threads[0]
    assert by_processes[2] == by_threads[2]
    for stamp, table in by_threads[1].items():
        pd.testing.assert_frame_equal(by_processes[1][stamp], table, check_exact=True)
