"""Uploads to a real S3 server, and every fault of it in the middle of saves and uploads."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys

import pytest
import saves
from faulty import Fault, FaultyWay

from mntrading.core.errors import ArtifactError, MNTradingError
from mntrading.datasets import ArtifactDataset
from mntrading.objects.store import Store
from mntrading.objects.upload import PART_BYTES, upload

pytestmark = pytest.mark.xdist_group("s3")


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "datasets"
    (source / "pairs").mkdir(parents=True)
    draws = random.Random(0)  # noqa: S311 -- content
    for number in range(12):
        (source / "pairs" / f"P{number:02d}.parquet").write_bytes(draws.randbytes(2000 + number))
    (source / "pairs" / "large é.bin").write_bytes(draws.randbytes(PART_BYTES + 1234))
    (source / "_manifest.json").write_text("{}")
    return source


def hashes(source):
    files = [path for path in source.rglob("*") if path.is_file()]
    return {path.relative_to(source).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("read_back", [False, True])
def test_folder_is_sent_once_and_has_its_bytes_there(s3, credentials, folder, read_back, figures):
    store = Store(s3, credentials)
    first = upload(folder, store, "datasets/", read_back=read_back)
    assert (first.files, first.sent) == (14, 14)
    assert saves.tree(f"{s3}/datasets") == hashes(folder)
    (folder / "pairs" / "P03.parquet").write_bytes(b"new")
    assert upload(folder, store, "datasets/", read_back=read_back).sent == 1
    assert upload(folder, store, "datasets/").sent == 0
    assert saves.tree(f"{s3}/datasets") == hashes(folder)
    figures["files uploaded"] = int(figures.get("files uploaded", 0)) + 15


def test_upload_cut_in_its_middle_goes_on_when_it_is_run_again(s3, credentials, folder, server):
    with FaultyWay(int(server.endpoint.rpartition(":")[2])) as way:
        way.fail(Fault("reset", after=6, methods=("PUT",)))
        store = Store(s3, credentials | {"endpoint_url": way.address}, attempts=2)
        with pytest.raises(MNTradingError, match="can't be reached") as raised:
            upload(folder, store, "datasets/", workers=2)
    assert "run the upload again" in str(raised.value.fix)
    there = saves.tree(f"{s3}/datasets")
    assert there.items() <= hashes(folder).items(), "something partial was published"
    assert "_manifest.json" not in there
    done = upload(folder, Store(s3, credentials), "datasets/")
    assert done.sent == done.files - len(there)
    assert saves.tree(f"{s3}/datasets") == hashes(folder)


def test_command_uploads_and_sums_up(s3, folder, monkeypatch):
    monkeypatch.setenv("S3_BUCKET", s3.removeprefix("s3://"))
    command = [sys.executable, "-m", "mntrading.upload", "--src", str(folder), "--prefix", "x/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("14 files (")
    assert "14 sent and verified" in done.stdout
    refused = subprocess.run([*command[:-1], "../x"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "no place inside a bucket" in refused.stderr


@pytest.mark.parametrize(
    ("fault", "saved"),
    [
        (Fault("slow", seconds=0.3), True),
        (Fault("503", times=1), True),
        (Fault("down", times=1), True),
        (Fault("reset", times=1, methods=("PUT",)), True),
        (Fault("403"), False),
        (Fault("503"), False),
        (Fault("down"), False),
        (Fault("reset", methods=("PUT",)), False),
    ],
    ids=lambda value: f"{value.kind}-{value.times}" if isinstance(value, Fault) else "",
)
def test_save_through_a_fault_is_whole_or_told(s3, credentials, server, fault, saved, figures):
    ArtifactDataset(filepath=f"{s3}/x.json", format="json", credentials=credentials).save({"v": 1})
    with FaultyWay(int(server.endpoint.rpartition(":")[2])) as way:
        given = credentials | {"endpoint_url": way.address}
        dataset = ArtifactDataset(filepath=f"{s3}/x.json", format="json", credentials=given)
        way.fail(fault)
        if saved:
            dataset.save({"v": 2})
        else:
            with pytest.raises(ArtifactError, match=r"x\.json: can't be reached: "):
                dataset.save({"v": 2})
        assert way.failed
    stored = ArtifactDataset(filepath=f"{s3}/x.json", format="json", credentials=credentials).load()
    assert stored == {"v": 2 if saved else 1}
    figures["faults of the way"] = int(figures.get("faults of the way", 0)) + 1
