"""Bad input: one clear message, an exit code, and stored data as it was. Empty outcomes are no errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.validation import ParameterValidationError
from project import Project

from mntrading.core.errors import DoubtError, MNTradingError
from mntrading.core.types import slug

pytestmark = pytest.mark.xdist_group("e2e_input")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"screening": {"levle": 0.1}}, "levle"),
        ({"schedul": {"step_days": 7}}, "unknown parameter block 'schedul'"),
        ({"modelling": {"gap": 3}}, r"gap is 3 bars, expected at least the label horizon of 72"),
        ({"schedule": {"formation_days": 500}}, "do not hold one formation window of 500 days"),
        ({"feature_engineering": {"features": {"beta_window": 90_000}}}, "beta_window 90000"),
        ({"ingestion": {"symbols": ["NOSUCH/USDT"]}}, r"has no symbol NOSUCH/USDT"),
        ({"ingestion": {"listing": {"quote": "XYZ"}}}, "none of 12 symbols passes: 12 other quote currency"),
        ({"market": {"source": "files", "files": {"path": None}}}, "no folder is named"),
        ({"market": {"source": "files", "files": {"path": "nowhere/at/all"}}}, "nowhere/at/all"),
        ({"market": {"simulator": {"name": "null"}}}, "holds bars of|hold bars of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_parameter_stops_the_run_and_changes_nothing(
    project: Project, params: dict[str, Any], message: str
) -> None:
    before = project.files()
    stages = ["ingestion", "screening", "feature_engineering", "modelling"]
    with pytest.raises((MNTradingError, ParameterValidationError), match=message):
        project.run(stages, params)
    after = project.files()
    research = [name for name in before if name.startswith(("features", "datasets", "models", "backtest", "signals"))]
    assert [name for name in research if after.get(name) != before[name]] == []
    assert [name for name in before if name.startswith("raw/ohlcv") and after.get(name) != before[name]] == []


def test_an_unknown_environment_is_named_with_those_there_are(project: Project) -> None:
    with pytest.raises(MNTradingError, match=r"no environment 'prod'[\s\S]*live"):
        project.run("ingestion", env="prod")


@pytest.mark.parametrize(
    ("path", "stage", "remedy"),
    [
        ("pairs/roster.json", "feature_engineering", "kedro run --pipelines screening"),
        ("raw/ohlcv_5m.meta/{leg}.json", "feature_engineering", "kedro run --pipelines screening"),
        ("features/pairs/_manifest.json", "modelling", "kedro run --tags features"),
        ("models/registry.json", "promote", "kedro run --tags select"),
    ],
)
def test_a_corrupted_artefact_is_named_with_the_command_that_makes_it(
    project: Project, path: str, stage: str, remedy: str
) -> None:
    leg = project.json("pairs/roster.json")["folds"][-1]["pairs"][0]["dependent"]
    file = project.root / path.format(leg=slug(leg))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    tags = ("dataset",) if "features" in path else ()
    before = project.files()
    with pytest.raises(MNTradingError) as raised:
        project.run("feature_engineering" if tags else stage, tags=tags)
    assert file.name in str(raised.value)
    assert remedy in str(raised.value)
    assert project.files() == before


def test_damaged_bars_are_put_aside_and_fetched_again(project: Project) -> None:
    whole = {name: data for name, data in project.files().items() if name.startswith("raw/ohlcv_5m")}
    bars, manifest = (
        max(name for name in whole if name.endswith(".parquet")),
        min(name for name in whole if ".meta/" in name),
    )
    (project.root / bars).write_bytes(b"no parquet")
    (project.root / manifest).write_bytes(b"no JSON")
    project.run("screening")
    after = project.files()
    assert {name: data for name, data in after.items() if name.startswith("raw/ohlcv_5m")} == whole
    assert [name for name in after if name.startswith("raw/quarantine/")]


def test_an_altered_production_map_is_refused(project: Project) -> None:
    file = project.root / "models/production_map.json"
    file.write_text(file.read_text().replace('"exit_z": 0.5', '"exit_z": 0.4'))
    with pytest.raises(MNTradingError, match="altered after promotion"):
        project.run("deployment", tags=("inference",))


def test_an_altered_model_gives_no_entry_and_says_so(project: Project) -> None:
    models = list((project.root / "models/production").glob("*.model"))
    assert models, "the market of the tests puts a model into production"
    for file in models:
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(DoubtError, match="can't be used"):
        project.run("deployment", tags=("inference",))
    assert project.json("runs/current.json")["status"] == "refused"
    (stored,) = (project.root / "signals").glob("*.jsonl")
    told = [json.loads(line) for line in stored.read_text().splitlines()]
    assert all("can't be used" in line["reason"] and line["action"] != "enter" for line in told)


def test_training_anew_changes_nothing_that_is_live(project: Project) -> None:
    before = project.json("models/production_map.json")
    labels = {"feature_engineering": {"labels": {"horizon": 60}}}
    project.run("full_cycle", labels, tags=("dataset", "train"))
    project.run("short_cycle")
    (stored,) = (project.root / "signals").glob("*.jsonl")
    told = [json.loads(line) for line in stored.read_text().splitlines()]
    assert project.json("models/production_map.json") == before
    assert not [line for line in told if "model" in line["reason"]]


def test_promotion_of_other_parameters_than_were_judged_is_refused(project: Project) -> None:
    before = project.files()
    with pytest.raises(MNTradingError, match="features parameters are not those"):
        project.run("promote", {"feature_engineering": {"features": {"z_window": 300}}})
    assert project.files() == before


@pytest.mark.slow
def test_stages_run_alone_on_another_roster_are_refused(project: Project) -> None:
    project.run("screening", {"schedule": {"trading_days": 5, "step_days": 5}})
    for tag, made in (("dataset", "pair_features"), ("train", "pair_datasets"), ("backtest", "pair_features")):
        with pytest.raises(MNTradingError, match=rf"{made}: was made from another roster"):
            project.run("full_cycle", tags=(tag,))


@pytest.mark.slow
def test_a_later_delisting_changes_no_earlier_screen(fresh: Project) -> None:
    """The universe of a window is what was listed then, whatever became of it."""
    simulator = {"name": "demo", "n_symbols": 12}
    screens = []
    for end in ("2025-04-25T00:00:00Z", "2025-05-10T00:00:00Z"):
        until = {"market": {"simulator": simulator | {"end": end}}}
        fresh.run(["ingestion", "screening"], until, tags=("ingest", "screen"))
        markets = fresh.json("raw/markets.json")["symbols"]
        screens.append(fresh.json("pairs/screened_pairs_20250131T000000Z.json"))
    assert [symbol for symbol, rules in markets.items() if not rules["active"]]
    assert {k: v for k, v in screens[0].items() if k != "inputs"} == {
        k: v for k, v in screens[1].items() if k != "inputs"
    }


def test_the_command_line_ends_with_one_message_and_exit_code_1(project: Project) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "kedro"), "run", "--env", "test", "--params", "screening.level=7"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Error:" in done.stderr
    assert "level" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_pair_selected_is_a_result_and_the_report_says_so(fresh: Project) -> None:
    record = fresh.run("full_cycle", {"screening": {"level": 0.0, "keep_level": 0.0}})
    assert record.status == "finished"
    assert fresh.json("pairs/roster.json")["symbols"] == []
    assert fresh.json("portfolio/latest_orders.json")["orders"] == []
    assert "0 of" in (fresh.root / "portfolio/_latest_report.md").read_text()


def test_one_symbol_alone_is_a_result_without_pairs(fresh: Project) -> None:
    first = "BROBIX/USDT"
    record = fresh.run("full_cycle", {"ingestion": {"symbols": [first]}})
    assert record.status == "finished"
    screens = list((fresh.root / "pairs").glob("screened_pairs_*.json"))
    assert screens
    assert fresh.json("portfolio/latest_orders.json")["reason"].startswith("no pair is in production")


def write_bars(folder: Path, frame: pd.DataFrame) -> None:
    """The frame as a folder of bars at both timeframes."""
    folder.mkdir()
    frame.to_csv(folder / "ohlcv_5m.csv", index=False)
    hours = frame.assign(timestamp=frame["timestamp"].dt.floor("1h")).groupby(["symbol", "timestamp"], as_index=False)
    hours.agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}).to_csv(
        folder / "ohlcv_1h.csv", index=False
    )


def made_bars(days: int, symbols: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    stamps = pd.date_range("2025-01-01", periods=days * 288, freq="5min", tz="UTC")
    frames = []
    for number in range(symbols):
        close = 10 * np.exp(np.cumsum(rng.normal(0, 0.002, len(stamps))))
        open_ = np.concatenate([close[:1], close[:-1]])
        frames.append(
            pd.DataFrame(
                {
                    "timestamp": stamps,
                    "symbol": f"S{number}/USDT",
                    "open": open_,
                    "high": np.maximum(open_, close),
                    "low": np.minimum(open_, close),
                    "close": close,
                    "volume": 1e5,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def test_bars_with_gaps_and_nan_are_stored_without_the_bad_rows(fresh: Project, tmp_path: Path) -> None:
    frame = made_bars(days=45, symbols=3)
    spoiled = frame.copy()
    spoiled.loc[100, "close"] = np.nan
    spoiled.loc[200, "low"] = -1.0
    spoiled = spoiled.drop(index=range(300, 320))
    write_bars(tmp_path / "bars", spoiled)
    params = {"market": {"source": "files", "files": {"path": str(tmp_path / "bars")}}}
    fresh.run(["ingestion", "screening"], params | {"screening": {"level": 1.0, "keep_level": 1.0, "max_hurst": 1.0}})
    stored = pd.read_parquet(fresh.root / "raw/ohlcv_1h.parquet")
    assert np.isfinite(stored[["open", "high", "low", "close", "volume"]].to_numpy()).all()
    assert (stored["low"] > 0).all()
    ledger = fresh.json("raw/ohlcv_1h.meta/S0-USDT.json")["meta"]["ledger"]["rejected"]
    assert "price not positive" in ledger.values()


def test_an_empty_file_of_bars_is_named(fresh: Project, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars", made_bars(days=2, symbols=1).iloc[:0])
    with pytest.raises(MNTradingError, match=r"ohlcv_"):
        fresh.run("ingestion", {"market": {"source": "files", "files": {"path": str(tmp_path / "bars")}}})
