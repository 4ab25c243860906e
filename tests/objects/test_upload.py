"""Uploads to a store in memory: what is sent, what is skipped, what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kept_store import KeptStore

from mntrading.core.errors import ArtifactError, LockedError, ParameterError
from mntrading.objects import bucket
from mntrading.objects.bucket import BucketDataset
from mntrading.objects.lease import Lease
from mntrading.objects.store import StoreError
from mntrading.objects.upload import upload


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets"
    (folder / "pairs").mkdir(parents=True)
    (folder / "pairs" / "A__B.parquet").write_bytes(b"ab" * 500)
    (folder / "pairs" / "C__D.parquet").write_bytes(b"cd")
    (folder / "_manifest.json").write_text("{}")
    (folder / "pairs" / ".tmp-x").write_text("of a writer at work")
    return folder


def objects(store: KeptStore) -> dict[str, bytes]:
    return {name: data for name, (data, _, _) in store.objects.items()}


def run(source: Path, store: KeptStore, prefix: str = "datasets/", **more: Any) -> Any:
    return upload(source, store, prefix, **more)  # type: ignore[arg-type]


def test_whole_folder_is_sent_with_its_manifest_last_and_nothing_local_is_touched(source: Path) -> None:
    store, before = KeptStore(), sorted((path, path.stat().st_mtime_ns) for path in source.rglob("*"))
    done = run(source, store)
    assert set(objects(store)) == {
        "datasets/pairs/A__B.parquet",
        "datasets/pairs/C__D.parquet",
        "datasets/_manifest.json",
    }
    assert (done.files, done.sent, done.bytes, done.sent_bytes) == (3, 3, 1004, 1004)
    assert [call for call in store.calls if call.startswith("put ")][-1] == "put datasets/_manifest.json"
    assert sorted((path, path.stat().st_mtime_ns) for path in source.rglob("*")) == before


def test_second_upload_sends_what_changed_and_nothing_else(source: Path) -> None:
    store = KeptStore()
    run(source, store)
    (source / "pairs" / "C__D.parquet").write_bytes(b"CD")
    store.objects["datasets/kept.txt"] = (b"of somebody else", 0.0, {})
    done = run(source, store)
    assert (done.sent, done.sent_bytes) == (1, 2)
    assert objects(store)["datasets/kept.txt"] == b"of somebody else"


@pytest.mark.parametrize("damage", ["bytes", "size", "no hash"])
def test_object_that_is_not_the_file_is_sent_again(source: Path, damage: str) -> None:
    store, name = KeptStore(), "datasets/pairs/C__D.parquet"
    run(source, store)
    data, since, known = store.objects[name]
    store.objects[name] = {
        "bytes": (b"xx", since, {"sha256": "0" * 64}),
        "size": (b"cdx", since, known),
        "no hash": (data, since, {}),
    }[damage]
    assert run(source, store).sent == 1
    assert objects(store)[name] == b"cd"


def test_upload_that_failed_goes_on_where_it_stopped(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeptStore()
    put = KeptStore.put

    def fails(name: str, body: bytes, **more: Any) -> None:
        if name.endswith("C__D.parquet"):
            raise StoreError("is full", where=name, fix="make room")
        put(store, name, body, **more)

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", fails)
        with pytest.raises(StoreError, match="is full") as raised:
            run(source, store, workers=1)
        assert "make room; then run the upload again" in str(raised.value.fix)
    assert "datasets/_manifest.json" not in objects(store), "a manifest came before what it lists"
    assert run(source, store).sent == 2


@pytest.mark.parametrize("read_back", [False, True])
def test_store_that_keeps_something_else_is_found_out(
    source: Path, monkeypatch: pytest.MonkeyPatch, read_back: bool
) -> None:
    store, put = KeptStore(), KeptStore.put
    cut = {True: lambda body: b"x" * len(body), False: lambda body: body[:-1]}[read_back]
    monkeypatch.setattr(store, "put", lambda name, body, **more: put(store, name, cut(body), **more))
    with pytest.raises(ArtifactError, match="as it was sent"):
        run(source, store, read_back=read_back)


def test_links_inside_are_sent_as_files_and_links_out_are_refused_before_anything_is_sent(
    source: Path, tmp_path: Path
) -> None:
    store, secret = KeptStore(), tmp_path / "secret"
    secret.write_text("not yours")
    (source / "pairs" / "again.parquet").symlink_to(source / "pairs" / "C__D.parquet")
    run(source, store)
    assert objects(store)["datasets/pairs/again.parquet"] == b"cd"
    for target in (secret, tmp_path, Path("/etc/hostname"), Path("../../secret")):
        link, empty = source / "pairs" / "out", KeptStore()
        link.symlink_to(target)
        with pytest.raises(ArtifactError, match="link that leads out"):
            run(source, empty)
        assert not empty.objects
        link.unlink()


def test_what_is_no_file_is_refused(source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(ArtifactError, match="is no file"):
        run(source, KeptStore())


@pytest.mark.parametrize("prefix", ["../x", "/x", "x/../../y", "a//b", ".lease/", "a\\b", "a\n", "x/.hidden"])
def test_prefix_that_leads_elsewhere_is_refused(source: Path, prefix: str) -> None:
    store = KeptStore()
    with pytest.raises(ParameterError, match="no place inside a bucket"):
        run(source, store, prefix)
    assert not store.calls


def test_source_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="is no folder"):
        run(tmp_path / "none", KeptStore())


def test_folders_that_are_not_made_yet_are_left_out_unless_all_of_them_are(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reached(KeptStore):
        def reach(self) -> None: ...

        def close(self) -> None: ...

    store = Reached()
    monkeypatch.setattr(bucket, "Store", lambda *_: store)
    uploader = bucket.Uploader(str(source.parent), "s3://mntrading", None)

    def sent(*folders: str) -> list[str]:
        return [Path(one.source).name for one in uploader.send(folders, "", workers=1, read_back=False)]

    assert sent("models", "datasets") == ["datasets"]
    assert set(objects(store)) == {
        f"datasets/{name}" for name in ("pairs/A__B.parquet", "pairs/C__D.parquet", "_manifest.json")
    }
    with pytest.raises(ParameterError, match="has none of the folders models, features"):
        sent("models", "features")
    with pytest.raises(ParameterError, match="no place inside a bucket"):
        sent("../datasets")


def test_bucket_on_which_a_run_is_at_work_is_left_alone(source: Path) -> None:
    store = KeptStore()
    lease = Lease(store)  # type: ignore[arg-type]
    lease.acquire({"run_id": "A"})
    with pytest.raises(LockedError, match="run A is at work"):
        run(source, store)
    lease.release()
    assert run(source, store).sent == 3


def test_a_bucket_is_not_written_as_a_whole_and_says_how_it_is() -> None:
    dataset = BucketDataset(source="data", bucket="s3://mntrading", made_by="kedro run --pipelines upload")
    with pytest.raises(Exception, match="is written folder by folder") as raised:
        dataset.save({"a": 1})  # type: ignore[arg-type]
    assert "kedro run --pipelines upload" in str(raised.value)
