"""The whole job on the small simulated market, in real sessions."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from project import Project

from mntrading import runs
from mntrading.core.errors import ArtifactError, LockedError, MNTradingError

pytestmark = pytest.mark.xdist_group("e2e")

MAP, LOG = "models/production_map.json", "models/production_log.jsonl"
SHADOW_LOG = "models/shadow_log.jsonl"
REPORTS = re.compile(r"_report\.(md|html)$")


def test_the_full_cycle_ends_with_signals_orders_and_report(finished: Path) -> None:
    orders = json.loads((finished / "portfolio/latest_orders.json").read_text())
    (signals,) = (finished / "signals").glob("*.jsonl")
    pairs = json.loads((finished / "models/production_map.json").read_text())["pairs"]
    assert len(signals.read_text().splitlines()) == len(pairs)
    assert orders["bar_close"] == "2025-02-24T00:00:00Z"
    assert (finished / "portfolio/_latest_report.md").stat().st_size > 1000
    assert (finished / "portfolio/_latest_report.html").stat().st_size > 10_000


def test_bars_are_one_parquet_data_set_at_the_path_of_their_timeframe(finished: Path) -> None:
    for timeframe in ("1h", "5m"):
        frame = pd.read_parquet(finished / f"raw/ohlcv_{timeframe}.parquet")
        assert {"timestamp", "symbol", "open", "high", "low", "close", "volume"} == set(frame.columns)
        assert not frame.duplicated(["symbol", "timestamp"]).any()


def test_5m_bars_are_fetched_for_the_roster_alone(finished: Path) -> None:
    roster = json.loads((finished / "pairs/roster.json").read_text())
    stored = pd.read_parquet(finished / "raw/ohlcv_5m.parquet", columns=["symbol"])
    assert sorted(stored["symbol"].unique()) == roster["symbols"]


def reports(project: Project) -> dict[str, str]:
    """Text of every report without what it says of the run that made it."""
    record = project.json("runs/current.json")
    texts = {name: (project.root / name).read_text() for name in project.files() if REPORTS.search(name)}
    for told in ("run_id", "started_at"):
        texts = {name: text.replace(record[told], "") for name, text in texts.items()}
    return texts


def test_a_second_run_of_the_same_inputs_gives_the_same_bytes(project: Project) -> None:
    before, told = project.files(), reports(project)
    project.run("full_cycle")
    after = project.files()
    assert set(after) == set(before)
    assert [name for name in before if after[name] != before[name] and not REPORTS.search(name)] == []
    again = reports(project)
    assert [name for name in told if again[name] != told[name]] == []


def test_a_full_cycle_and_its_stages_one_by_one_give_the_same_bytes(project: Project, fresh: Project) -> None:
    stages = ("ingestion", "screening", "feature_engineering", "modelling", "backtesting", "deployment", "reporting")
    for stage in stages:
        fresh.run(stage)
    assert (fresh.root / "backtest_results/_research_report.html").stat().st_size > 10_000
    mine, theirs = fresh.files(), project.files()
    assert set(mine) == set(theirs)
    assert [name for name in mine if mine[name] != theirs[name] and not REPORTS.search(name)] == [LOG, SHADOW_LOG]
    for log in (LOG, SHADOW_LOG):
        (here,), (there,) = fresh.lines(log), project.lines(log)
        assert here | {"run_id": ""} == there | {"run_id": ""}


def test_a_promotion_is_seen_ahead_logged_once_and_rolled_back_byte_by_byte(project: Project, client: Any) -> None:
    shorter = {"production": {"valid_days": 7}}
    before = project.files()
    assert project.run("full_cycle", tags=("promote",)).status == "finished"
    assert project.files() == before

    project.run("promote_preview", shorter)
    told = project.json("models/_promotion_preview.json")
    (project.root / "models/_promotion_preview.json").unlink()
    assert project.files() == before
    assert (told["entered"], told["left"], list(told["settings"])) == ([], [], ["expires"])

    record = project.run("promote", shorter)
    first, second = project.lines(LOG)
    assert (second["map_id"], second["previous_map_id"]) == (told["after"], first["map_id"])
    assert (second["run_id"], second["revision"]) == (record.run_id, record.revision)
    promoted = project.files()[MAP]
    assert promoted != before[MAP]

    client.delete_registered_model_alias("mntrading-pooled", "production")
    project.run("rollback")
    assert project.files()[MAP] == before[MAP]
    live = client.get_model_version_by_alias("mntrading-pooled", "production")
    models = [pair["model"] for pair in project.json(MAP)["pairs"] if pair["model"]]
    assert {model["sha256"] for model in models} == {live.tags["sha256"]}
    for model in models:
        assert hashlib.sha256((project.root / model["uri"]).read_bytes()).hexdigest() == model["sha256"]
    with pytest.raises(ArtifactError, match="no map before the current one"):
        project.run("rollback")
    project.run("rollback", {"production": {"rollback_to": told["after"][:10]}})
    assert project.files()[MAP] == promoted
    assert [line["action"] for line in project.lines(LOG)] == ["promote", "promote", "rollback", "rollback"]
    project.run("short_cycle")


def test_the_short_cycle_follows_the_market_and_repeats_itself(project: Project) -> None:
    later = {"market": {"simulator": {"end": "2025-02-24T01:00:00Z"}}}
    before = project.files()
    project.run("short_cycle", later)
    once = project.files()
    assert "signals/20250224T010000Z.jsonl" in once
    assert "portfolio/history/20250224T010000Z.json" in once
    assert once["models/production_map.json"] == before["models/production_map.json"]
    project.run("short_cycle", later)
    assert {n: h for n, h in project.files().items() if not REPORTS.search(n)} == {
        n: h for n, h in once.items() if not REPORTS.search(n)
    }


def test_the_short_cycle_without_a_production_map_says_what_to_run(fresh: Project) -> None:
    with pytest.raises(ArtifactError, match=r"production_map\.json[\s\S]*full_cycle"):
        fresh.run("short_cycle")


def test_a_second_run_on_the_same_storage_is_refused_by_the_first_ones_id(project: Project) -> None:
    holder = project.json("runs/current.json")["run_id"]
    before = project.files()
    with FileLock(project.root / ".lock"), pytest.raises(LockedError, match=re.escape(holder)):
        project.run("ingestion")
    assert project.files() == before


def test_every_run_leaves_its_record(project: Project) -> None:
    record = project.run("ingestion")
    document = project.json(f"runs/history/{record.run_id}.json")
    assert document["status"] == "finished"
    assert document["pipelines"] == ["ingestion"]
    assert document["mlflow_run_id"]
    assert document["packages"]["kedro"]


def test_a_run_that_was_killed_is_in_the_history_and_in_nobodys_way(project: Project) -> None:
    current = project.root / "runs/current.json"
    killed = project.json("runs/current.json") | {"status": "running", "run_id": "2025-01-01T00.00.00.000Z"}
    current.write_text(json.dumps(killed))
    assert project.run("ingestion").status == "finished"
    assert project.json("runs/history/2025-01-01T00.00.00.000Z.json")["status"] == "killed"
    current.write_text("no JSON")
    assert project.run("ingestion").status == "finished"


@pytest.fixture
def client(tracking: str) -> Iterator[Any]:
    import mlflow

    with warnings.catch_warnings():  # mlflow's models of its tables are ahead of what sqlalchemy likes
        warnings.simplefilter("ignore")
        yield mlflow.MlflowClient(tracking)


def test_parameters_revision_and_hashes_are_tracked(project: Project, client: Any) -> None:
    record = project.run("screening", {"screening": {"level": 0.04}})
    tracked = client.get_run(record.mlflow_run_id)
    assert tracked.data.params["screening.level"] == "0.04"
    assert tracked.data.params["schedule.formation_days"] == "30"
    assert tracked.data.tags["revision"] == record.revision
    assert len(tracked.data.tags["sha256.roster"]) == 64


def test_metrics_and_artefacts_of_the_backtest_are_tracked(project: Project, client: Any) -> None:
    record = project.run("backtesting")
    tracked = client.get_run(record.mlflow_run_id)
    assert "roster.n_fills" in tracked.data.metrics
    assert "fold.fold_00.roster_return" in tracked.data.metrics
    assert "_summary.json" in {artefact.path for artefact in client.list_artifacts(record.mlflow_run_id)}


def test_models_have_runs_files_and_versions_of_their_own(project: Project, client: Any) -> None:
    record = project.run("modelling")
    experiment = client.get_run(record.mlflow_run_id).info.experiment_id

    def below(run_id: str) -> dict[str, Any]:
        found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
        return {run.info.run_name: run for run in found}

    folds, fits = below(record.mlflow_run_id), project.json("models/_scores.json")["cross_validated"]
    assert set(folds) == {id_.split("/")[0] for id_ in fits}
    models = {name: run for fold in folds.values() for name, run in below(fold.info.run_id).items()}
    assert {name: run.data.params["chosen"] for name, run in models.items()} == {
        id_: str(fit["chosen"]) for id_, fit in fits.items()
    }
    trained = {id_: hashlib.sha256((project.root / f"models/pairs/{id_}.model").read_bytes()).hexdigest()
               for id_, fit in fits.items() if fit["chosen"]}  # fmt: skip
    assert trained
    for id_ in trained:
        run_id = models[id_].info.run_id
        files = {entry.path for folder in ("model", "figures") for entry in client.list_artifacts(run_id, folder)}
        assert {"model/MLmodel", "model/input_example.json", "figures/calibration.html"} <= files
        assert f"cross_validated.{fits[id_]['chosen']}.roc_auc" in models[id_].data.metrics
    if "live/pooled" in trained:
        newest = client.get_model_version_by_alias("mntrading-pooled", "candidate")
        assert newest.tags["sha256"] == trained["live/pooled"]
        assert newest.run_id == models["live/pooled"].info.run_id


@pytest.mark.parametrize("option", [("--pipelines", "ingestion"), ("--pipeline", "ingestion"), ("--tags", "ingest")])
def test_the_command_line_runs_pipelines_and_tags(project: Project, option: tuple[str, str]) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "kedro"), "run", "--env", "test", *option], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "simulator:dirty:3:12: 11 symbols" in done.stderr


def test_the_package_itself_is_a_command(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mntrading", "--env", "test", "--pipelines", "ingestion"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_summary_names_what_was_made(project: Project) -> None:
    done = subprocess.run([sys.executable, "-m", "mntrading.summary", "test"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(project.root / "portfolio/latest_orders.json") in done.stdout
    assert re.search(r"\d+ folds, \d+ pairs .* champions, \d+ orders", done.stdout.splitlines()[-1])


def test_records_of_runs_are_returned_to_whoever_started_them(project: Project) -> None:
    record = runs.run("promote", env="test")
    assert (record.status, record.pipelines, record.env) == ("finished", ("promote",), "test")


def test_a_run_without_tracking_asks_no_server_and_is_recorded_all_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(MNTradingError, match="MLflow does not answer"):
        project.run("promote_preview")
    record = project.run("promote_preview", params={"tracking": "off"})
    assert (record.status, record.mlflow_run_id) == ("finished", "")
