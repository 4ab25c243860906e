"""Everything stored through the API: as it is stored, by catalog names alone, and sane where there is nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from api_harness import PROJECT, TestClient
from traversal import paths

from mntrading.apps.api.routes.results import DOCUMENTS, series
from mntrading.apps.catalog import MissingEntryError, ReadCatalog, UnknownEntryError
from mntrading.core.errors import MNTradingError
from mntrading.datasets import ArtifactDataset, DatedArtifactDataset, PartitionedArtifactDataset

CANARY = "a secret from outside"
ROSTER = {
    "schema_version": 1, "as_of": "2025-02-24T00:00:00Z", "inputs": {}, "parameters": {}, "live_before": None,
    "symbols": [],
    "folds": [
        {"name": "live", "formation_start": "2025-01-25T00:00:00Z", "formation_end": "2025-02-24T00:00:00Z",
         "trading_end": None, "pairs": [], "entered": [], "left": []},
    ],
}  # fmt: skip


@pytest.fixture
def client(shared: TestClient) -> TestClient:
    """A client of an API on an empty storage root."""
    place = shared.app.state.parts.settings.state.parent
    shutil.rmtree(place / "data", ignore_errors=True)
    (place / "canary.txt").write_text(CANARY)
    return shared


@pytest.fixture
def root(client: TestClient) -> Path:
    """Its storage root, in which some things are stored now."""
    root: Path = client.app.state.parts.settings.state.parent / "data"
    ArtifactDataset(filepath=str(root / "pairs/roster.json"), format="json", schema="roster").save(ROSTER)
    ArtifactDataset(filepath=str(root / "portfolio/_latest_report.md"), format="text").save("# Report\n")
    html = "<script>alert(1)</script>"
    ArtifactDataset(filepath=str(root / "portfolio/_latest_report.html"), format="text").save(html)
    signals = DatedArtifactDataset(path=str(root / "signals"), format="jsonl")
    signals.save({"20250101T000000Z": [{"z": 1.0}], "20250101T000500Z": [{"z": 2.0}, {"z": 3.0}]})
    index = pd.date_range("2025-01-01", periods=100, freq="5min", tz="UTC", name="timestamp").as_unit("ms")
    frame = pd.DataFrame({"equity": np.arange(100.0)}, index=index)
    PartitionedArtifactDataset(path=str(root / "portfolio/paper_equity"), format="parquet", append=True).save(
        {"2025-01-01": frame}
    )
    sheets = PartitionedArtifactDataset(
        path=str(root / "backtest_results/tear_sheets"), format="text", suffix=".html", append=True
    )
    sheets.save({"A__B": html})
    return root


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(file): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_project_in_which_nothing_was_run_answers_every_get_with_what_to_run(client: TestClient) -> None:
    for path, methods in client.app.openapi()["paths"].items():
        if "get" not in methods or path == "/run/short_cycle_now":
            continue
        answer = client.get(path.format(name="latest_orders", partition="a", run_id="a", pipeline="short_cycle"))
        if answer.status_code == 404:
            assert answer.headers["content-type"] == "application/problem+json"
            told = answer.json()
            if path not in ("/artifacts/{name}/{partition}",):
                assert told["next"], path
        else:
            assert answer.status_code == 200, (path, answer.text)
    told = client.get("/orders/latest").json()
    assert told["type"] == "urn:mntrading:problem:not-made-yet"
    assert told["next"] == "kedro run --pipelines full_cycle"
    entries = client.get("/artifacts").json()["artifacts"]
    assert len(entries) > 30
    assert not any(entry["exists"] for entry in entries)
    ready = client.get("/ready").json()
    assert ready["ready"]
    assert "full_cycle" in ready["checks"]["data"]["detail"]


def test_files_come_as_they_are_stored_and_only_once_to_who_has_them(client: TestClient, root: Path) -> None:
    answer = client.get("/artifacts/roster")
    stored = (root / "pairs/roster.json").read_bytes()
    assert answer.content == stored
    assert answer.headers["etag"] == f'"{hashlib.sha256(stored).hexdigest()}"'
    assert answer.headers["content-type"] == "application/json"
    again = client.get("/artifacts/roster", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]


def test_what_is_stored_anew_is_told_at_once(client: TestClient, root: Path) -> None:
    assert client.get("/pairs").json()["as_of"] == "2025-02-24T00:00:00Z"
    later = ROSTER | {"as_of": "2025-02-25T00:00:00Z"}
    ArtifactDataset(filepath=str(root / "pairs/roster.json"), format="json", schema="roster").save(later)
    assert client.get("/pairs").json()["as_of"] == "2025-02-25T00:00:00Z"
    assert client.get("/artifacts/roster").json()["as_of"] == "2025-02-25T00:00:00Z"
    signals = DatedArtifactDataset(path=str(root / "signals"), format="jsonl")
    assert client.get("/signals/latest").json() == {
        "bar_close": "20250101T000500Z",
        "signals": [{"z": 2.0}, {"z": 3.0}],
    }
    signals.save({"20250101T001000Z": [{"z": 4.0}]})
    assert client.get("/signals/latest").json() == {"bar_close": "20250101T001000Z", "signals": [{"z": 4.0}]}


def test_partitions_are_listed_and_come_by_the_ids_of_their_manifest(client: TestClient, root: Path) -> None:
    told = client.get("/artifacts/signals").json()
    assert [one["id"] for one in told["partitions"]] == ["20250101T000000Z", "20250101T000500Z"]
    answer = client.get("/artifacts/signals/20250101T000500Z")
    assert hashlib.sha256(answer.content).hexdigest() == told["partitions"][1]["sha256"]
    assert answer.headers["content-type"] == "application/x-ndjson"
    (root / "signals/20250101T001000Z.jsonl").write_text("{}\n")  # on the disk, in no manifest
    assert client.get("/artifacts/signals/20250101T001000Z").status_code == 404
    assert client.get("/artifacts/signals/_position_state").status_code == 404
    assert client.get("/artifacts/roster/a").status_code == 404
    (last,) = client.get("/artifacts/signals?limit=1").json()["partitions"]
    assert last["id"] == "20250101T000500Z"
    entries = {entry["name"]: entry for entry in client.get("/artifacts").json()["artifacts"]}
    assert (entries["signals"]["partitions"], entries["signals"]["exists"]) == (2, True)


def test_pages_that_were_made_run_nothing_in_a_browser(client: TestClient, root: Path) -> None:
    for path in ("/artifacts/latest_report_html", "/report/latest?format=html", "/artifacts/tear_sheets/A__B"):
        headers = client.get(path).headers
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert headers["content-disposition"].startswith("attachment")
    assert client.get("/report/latest").headers["content-type"] == "text/markdown; charset=utf-8"
    assert client.get("/report/latest?format=pdf").status_code == 422


def test_a_damaged_file_is_a_problem_that_says_what_to_run_and_no_crash(client: TestClient, root: Path) -> None:
    (root / "pairs/roster.json").write_text('{"as_of": 1}')
    for path in ("/pairs", "/artifacts/roster"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:mntrading:problem:unreadable")
        assert answer.json()["next"] == "kedro run --pipelines screening"
    for name in ("20250101T000000Z", "20250101T000500Z"):
        (root / f"signals/{name}.jsonl").write_text("{}\n")
    assert client.get("/artifacts/signals/20250101T000000Z").status_code == 503
    assert client.get("/signals/latest").status_code == 503
    (root / "portfolio/paper_equity/_manifest.json").write_text("{")
    told = {entry["name"]: entry for entry in client.get("/artifacts").json()["artifacts"]}
    assert "no readable manifest" in told["paper_equity"]["problem"]
    assert told["signals"]["problem"] is None
    assert client.get("/equity").status_code == 503


def test_an_unfinished_folder_says_so(client: TestClient, root: Path) -> None:
    folder = PartitionedArtifactDataset(path=str(root / "features/pairs"), format="parquet", suffix="/features.parquet")
    folder.save({"A__B": pd.DataFrame({"x": [1.0]})})
    answer = client.get("/artifacts/pair_features")
    assert answer.status_code == 503
    assert "not finished" in answer.json()["detail"]
    (entry,) = [one for one in client.get("/artifacts").json()["artifacts"] if one["name"] == "pair_features"]
    assert not entry["exists"]


def test_no_path_leads_out_of_the_catalog(client: TestClient, root: Path) -> None:
    inside = {file.read_bytes() for file in root.rglob("*") if file.is_file()}
    for path in paths(250):
        answer = client.get(path)
        assert answer.status_code < 500, path
        assert CANARY not in answer.text, path
        assert "root:" not in answer.text, path
        if answer.status_code == 200:
            assert answer.content in inside or path.startswith("/artifacts/signals") or path == "/", path


def test_series_are_thinned_evenly_and_end_with_the_last_bar(client: TestClient, root: Path) -> None:
    told = client.get("/equity?max_points=10").json()
    assert told["columns"]["equity"] == [float(k) for k in range(9, 100, 10)]
    assert told["index"][-1] == "2025-01-01T08:15:00Z"
    assert len(client.get("/equity").json()["index"]) == 100
    assert client.get("/equity?max_points=1").status_code == 422
    frame = pd.DataFrame({"a": [1.0, np.nan, np.inf]}, index=pd.date_range("2025-01-01", periods=3, tz="UTC"))
    assert series(frame, 10)["columns"] == {"a": [1.0, None, None]}
    assert series(frame.iloc[:0], 10) == {"index": [], "columns": {"a": []}}


def test_ready_says_what_is_missing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert not answer.json()["checks"]["mlflow"]["ok"]
    assert "does not answer" in answer.json()["checks"]["mlflow"]["detail"]


def test_prometheus_gets_figures_by_route_and_not_by_path(client: TestClient) -> None:
    client.get("/runs/some-id")
    client.get("/no/such/thing")
    text = client.get("/metrics").text
    assert 'route="/runs/{run_id}",status="404"' in text
    assert 'route="unmatched"' in text
    assert "some-id" not in text
    assert 'mntrading_api_runs{state="queued"} 0.0' in text


def test_the_description_is_whole(client: TestClient) -> None:
    made = client.get("/openapi.json").json()
    text = json.dumps(made)
    for name, _ in DOCUMENTS.values():
        assert name in made["components"]["schemas"]
    references = {one.split('"')[0] for one in text.split('"#/components/schemas/')[1:]}
    assert references <= set(made["components"]["schemas"])
    for path, methods in made["paths"].items():
        for one in methods.values():
            assert one["security"] == ([] if path == "/health" else [{"token": []}])
            assert one["summary"]
            for status, answer in one["responses"].items():
                if status[0] in "45" and path != "/ready":
                    assert list(answer["content"]) == ["application/problem+json"]


# --- the catalog by itself ------------------------------------------------------------------------------------


def test_reading_everything_writes_nothing(root: Path) -> None:
    before = tree(root)
    catalog = ReadCatalog.open(PROJECT, "test")
    for entry in catalog.entries():
        assert catalog.entry(entry.name) == entry
        if entry.exists:
            catalog.load(entry.name)
            if entry.kind == "file":
                catalog.read(entry.name)
            else:
                for id_ in catalog.partitions(entry.name):
                    catalog.partition(entry.name, id_)
        else:
            with pytest.raises(MissingEntryError):
                catalog.load(entry.name)
    assert tree(root) == before
    assert not {name for name in dir(catalog) if name in ("save", "release", "add")}


def test_names_are_entries_and_nothing_else(root: Path) -> None:
    catalog = ReadCatalog.open(PROJECT, "test")
    for name in ("", "roster_stored", "../roster", "pairs/roster.json", "params:portfolio", "parameters", "_bars", "x"):
        for read in (catalog.entry, catalog.load, catalog.read, catalog.partitions, catalog.version):
            with pytest.raises(UnknownEntryError):
                read(name)
    with pytest.raises(UnknownEntryError):
        catalog.read("signals")
    with pytest.raises(MNTradingError, match="no environment 'none'"):
        ReadCatalog.open(PROJECT, "none")


def test_bytes_are_read_once_as_long_as_the_file_is_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = ReadCatalog.open(PROJECT, "test")
    first = catalog.read("roster")
    assert catalog.cached("roster") is first
    assert catalog.read("roster") is first
    data = (root / "pairs/roster.json").read_bytes()
    (root / "pairs/again.json").write_bytes(data)
    (root / "pairs/again.json").replace(root / "pairs/roster.json")
    assert catalog.cached("roster") is None
    assert catalog.read("roster").data == data
    (root / "pairs/roster.json").unlink()
    assert catalog.cached("roster") is None
    with pytest.raises(MissingEntryError):
        catalog.read("roster")
