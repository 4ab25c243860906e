"""Every kind of save on a real S3 server: credentials, and errors, kills and cut connections in the middle."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import s3fs
import saves
from kedro.io import DataCatalog
from saves import LARGE, kinds

from mntrading.core.bars import COLUMNS, bars_from_rows
from mntrading.core.errors import ArtifactError
from mntrading.datasets import ArtifactDataset, BarsDataset, BarsUpdate, Commit, PartitionedArtifactDataset

pytestmark = pytest.mark.xdist_group("s3")

KINDS = {kind.name: kind for kind in kinds(versions=2)}


# --- saves and loads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_saved_loaded_and_replaced(s3, name, figures):
    kind = KINDS[name]
    for version in (0, 1):
        kind.save(s3, version)
        assert not kind.check(s3, [version])
    assert kind.check(s3, [0]), "a check that sees no difference is none"
    figures["kinds of save and load"] = int(figures.get("kinds of save and load", 0)) + 1


def test_catalog_entry_gets_its_credentials_from_the_configuration(s3, credentials):
    entry = {
        "type": "mntrading.datasets.ArtifactDataset",
        "filepath": f"{s3}/pairs/x.json",
        "format": "json",
        "credentials": "s3",
    }
    catalog = DataCatalog.from_config({"x": entry}, {"s3": credentials})
    assert not catalog.exists("x")
    catalog.save("x", {"pairs": ["APT-USDT__FIL-USDT"]})
    assert catalog.exists("x")
    assert catalog.load("x") == {"pairs": ["APT-USDT__FIL-USDT"]}


def test_pandas_reads_the_bar_folder_as_one_table(s3, credentials):
    rows = np.array([[k * 3_600_000, 2.0, 3.0, 1.0, 2.5, 5.0] for k in range(50)])
    frames = {symbol: bars_from_rows(rows, symbol) for symbol in ("APT/USDT", "FIL/USDT")}
    path = f"{s3}/raw/ohlcv_1h.parquet"
    dataset = BarsDataset(path=path, timeframe="1h", credentials=credentials)
    dataset.save(BarsUpdate("sim", frames))
    store = BarsDataset(path=path, timeframe="1h", credentials=credentials).load()
    assert {symbol: len(store[symbol]) for symbol in store} == {"APT/USDT": 50, "FIL/USDT": 50}
    table = pd.read_parquet(path, storage_options=credentials)
    assert sorted(table.columns) == sorted(COLUMNS)
    expected = pd.concat(frames.values()).sort_values(["symbol", "timestamp"], ignore_index=True)
    found = table[list(COLUMNS)].sort_values(["symbol", "timestamp"], ignore_index=True)
    np.testing.assert_array_equal(found[list(COLUMNS[2:])], expected[list(COLUMNS[2:])])
    assert found["symbol"].tolist() == expected["symbol"].tolist()


# --- refusals -----------------------------------------------------------------------------------------------


def _use(place: str, how: str, given: dict) -> object:
    file = ArtifactDataset(filepath=f"{place}/x.json", format="json", credentials=given)
    folder = PartitionedArtifactDataset(path=f"{place}/p", format="json", append=True, credentials=given)
    bars = BarsDataset(path=f"{place}/ohlcv_1h.parquet", timeframe="1h", credentials=given)
    frame = bars_from_rows(np.array([[0, 2.0, 3.0, 1.0, 2.5, 5.0]]), "APT/USDT")
    return {
        "file load": lambda: file.load(),
        "file save": lambda: file.save({"a": 1}),
        "file exists": lambda: file.exists(),
        "file digest": lambda: file.digest(),
        "folder load": lambda: folder.load(),
        "folder save": lambda: folder.save({"a": 1}),
        "folder commit": lambda: folder.save(Commit(ids=())),
        "folder exists": lambda: folder.exists(),
        "bars load": lambda: bars.load(),
        "bars save": lambda: bars.save(BarsUpdate("sim", {"APT/USDT": frame})),
    }[how]()


USES = [
    f"{what} {how}"
    for what, ways in {
        "file": ("load", "save", "exists", "digest"),
        "folder": ("load", "save", "commit", "exists"),
        "bars": ("load", "save"),
    }.items()
    for how in ways
]


@pytest.mark.parametrize(("how", "key"), [(how, "right") for how in USES] + [("file load", "unknown")])
def test_wrong_key_is_refused_in_words(s3, credentials, server, how, key):
    known = server.environment["AWS_ACCESS_KEY_ID"] if key == "right" else "nobody:here"
    wrong = credentials | {"key": known, "secret": "not-the-secret"}
    with pytest.raises(ArtifactError, match="can't be reached: ") as raised:
        _use(s3, how, wrong)
    assert raised.value.where.startswith(s3)
    assert "not-the-secret" not in str(raised.value)


@pytest.fixture
def no_keys(monkeypatch, tmp_path):
    """An environment without keys, for clients made in it alone."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("how", ["file load", "file save", "file exists", "folder save"])
def test_missing_key_is_told(s3, credentials, no_keys, how):
    with pytest.raises(ArtifactError, match=r"can't be reached: .*credentials"):
        _use(s3, how, credentials)


@pytest.mark.parametrize("how", ["file load", "file save", "file exists", "folder load"])
def test_server_that_is_not_there_is_told(s3, how):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ArtifactError, match=r"can't be reached: .*connect"):
        _use(s3, how, {"endpoint_url": f"http://127.0.0.1:{port}"})


def test_bucket_that_is_not_there_is_told(credentials):
    with pytest.raises(ArtifactError, match="bucket does not exist"):
        _use("s3://no-such-bucket", "file save", credentials)


# --- kills --------------------------------------------------------------------------------------------------


def test_writer_killed_at_random_moments_leaves_whole_versions(s3, figures):
    script, kills = Path(saves.__file__).with_name("kill_loop.py"), 20
    options = ["--kills", str(kills), "--versions", "2", "--only", "text,append,batch", "--place", f"{s3}/kills"]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"kill-loop: {kills} kills, 0 unreadable, 0 lost, 0 duplicated")
    figures["writer kills"] = kills


@pytest.mark.parametrize("name", ["text", "batch", "append"])
def test_server_killed_in_the_middle_of_a_save_keeps_a_whole_version(s3, server, name, figures):
    kind, rng = KINDS[name], random.Random(len(name))  # noqa: S311 -- moments
    kind.save(s3, 0)
    raised = []

    def save_on() -> None:
        try:
            while True:
                kind.save(s3, 1)
                kind.save(s3, 0)
        except Exception as error:  # noqa: BLE001 -- looked at below
            raised.append(error)

    writer = threading.Thread(target=save_on)
    writer.start()
    time.sleep(rng.uniform(0.05, 0.5))
    server.kill()
    writer.join()
    server.start()
    assert [type(error) for error in raised] == [ArtifactError], raised
    assert raised[0].where.startswith(s3)
    assert "can't be reached: " in raised[0].what
    assert not kind.check(s3, [0, 1])
    kind.save(s3, 0)
    kind.save(s3, 1)
    assert not kind.check(s3, [1])
    figures["server kills"] = int(figures.get("server kills", 0)) + 1


# --- errors in the middle of a save -------------------------------------------------------------------------


class Interruption:
    """Raises once at a call that a save makes to the server: before it, or when it was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int, *, done: bool) -> None:
        self.raised, self._calls = False, 0
        call = s3fs.S3FileSystem._call_s3

        async def interrupted(fs, method, *given, **named):
            self._calls += method == name
            hit = method == name and self._calls == number
            if hit and not done:
                self.raised = True
                raise OSError(5, "Input/output error")
            answer = await call(fs, method, *given, **named)
            if hit:
                self.raised = True
                raise OSError(5, "Input/output error")
            return answer

        monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", interrupted)


IN_PARTS = [
    ("create_multipart_upload", 1, True),
    ("upload_part", 1, True),
    ("upload_part", 2, False),
    ("complete_multipart_upload", 1, False),
    ("complete_multipart_upload", 1, True),
]


@pytest.fixture(scope="module")
def large():
    """A text that goes up in parts."""
    return random.Random(1).randbytes(LARGE // 2).hex()  # noqa: S311 -- content


@pytest.mark.parametrize(("call", "number", "done"), [("put_object", 1, False), ("put_object", 1, True), *IN_PARTS])
def test_error_in_the_middle_of_a_save_publishes_nothing_partial(
    s3, credentials, large, call, number, done, monkeypatch, figures
):
    old, new = "old", "new" if call == "put_object" else large
    dataset = ArtifactDataset(filepath=f"{s3}/x.txt", format="text", credentials=credentials)
    dataset.save(old)
    with monkeypatch.context() as patch:
        interruption = Interruption(patch, call, number, done=done)
        with pytest.raises(ArtifactError, match=r"x\.txt: can't be reached: "):
            dataset.save(new)
    assert interruption.raised
    published = done and call in ("put_object", "complete_multipart_upload")
    assert dataset.load() == (new if published else old)
    assert list(s3fs.S3FileSystem(**credentials).find(s3)) == [f"{s3.removeprefix('s3://')}/x.txt"]
    figures["errors in the middle"] = int(figures.get("errors in the middle", 0)) + 1


def test_upload_in_parts_that_is_never_ended_stays_out_of_sight(s3, credentials, large, monkeypatch):
    """What a writer killed between two parts leaves: nobody completes the upload and nobody aborts it."""
    dataset = ArtifactDataset(filepath=f"{s3}/x.txt", format="text", credentials=credentials)
    dataset.save("old")

    async def not_aborted(*_):
        return None

    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_abort_mpu", not_aborted)
        Interruption(patch, "upload_part", 2, done=True)
        with pytest.raises(ArtifactError, match=r"x\.txt: can't be reached: Input/output error"):
            dataset.save(large)
    assert dataset.load() == "old"
    assert list(s3fs.S3FileSystem(**credentials).find(s3)) == [f"{s3.removeprefix('s3://')}/x.txt"]
    dataset.save(large)
    assert dataset.load() == large


@contextlib.contextmanager
def _cut_after(endpoint: str, room: int) -> Iterator[str]:
    """Address that passes everything on to a server and cuts a connection after so many bytes."""
    target = ("127.0.0.1", int(endpoint.rpartition(":")[2]))

    def back(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)

    def forth(client: socket.socket) -> None:
        left = room
        with client, socket.create_connection(target) as server, contextlib.suppress(OSError):
            threading.Thread(target=back, args=(client, server), daemon=True).start()
            while left and (data := client.recv(min(left, 65_536))):
                server.sendall(data)
                left -= len(data)
            for end in (server, client):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=forth, args=(client,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize(("length", "room"), [(4 * 2**20, 2000), (4 * 2**20, 3 * 2**20), (LARGE, 30 * 2**20)])
def test_connection_cut_in_the_middle_of_a_save_publishes_nothing(s3, credentials, server, length, room, large):
    dataset = ArtifactDataset(filepath=f"{s3}/x.txt", format="text", credentials=credentials)
    dataset.save("old")
    with _cut_after(server.endpoint, room) as endpoint:
        cut = ArtifactDataset(filepath=f"{s3}/x.txt", format="text", credentials={"endpoint_url": endpoint})
        with pytest.raises(ArtifactError, match=r"x\.txt: can't be reached: "):
            cut.save(large[:length])
    assert dataset.load() == "old"
