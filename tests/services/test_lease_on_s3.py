"""The lease, the preflight and the guard of writes on a real S3 server."""

from __future__ import annotations

import time

import pytest
from starts import race

from mntrading import preflight, runs
from mntrading.core.errors import LockedError
from mntrading.datasets import ArtifactDataset, Commit, PartitionedArtifactDataset
from mntrading.datasets.storage import GUARD
from mntrading.objects import lease as lease_module
from mntrading.objects.conditional import probe
from mntrading.objects.lease import Lease, LeaseLostError
from mntrading.objects.store import Store, StoreError

pytestmark = pytest.mark.xdist_group("s3")

TTL, SETTLE = 16.0, 1.0


def test_probe_finds_out_that_swift_lets_several_writers_create_one_object(s3, credentials):
    store = Store(s3, credentials)
    verdict = probe(store)
    assert (verdict.known, verdict.winners > 1, verdict.atomic) == (True, True, False)
    assert not store.names(".lease/probe")
    with pytest.raises(StoreError, match="no lease can rest on this store"):
        Lease(store, "strict").acquire({"run_id": "A"})
    assert store.head(".lease/000001.json") is None


def test_of_simultaneous_starters_one_wins_and_a_killed_winner_is_followed_after_its_time(s3, credentials, figures):
    n = 8
    for kill in (False, True):
        assert race(n, s3, credentials, "settled", ttl=TTL, settle=SETTLE, kill=kill, tag=f"{kill}-").broken == []
    early = race(1, s3, credentials, "settled", ttl=TTL, settle=SETTLE)
    assert (early.winners, early.refused) == ([], 1)
    time.sleep(TTL)
    assert race(n, s3, credentials, "settled", ttl=TTL, settle=SETTLE, tag="late-").broken == []
    figures["starts, one winner each time"] = f"3 × {n}"


def test_writes_stop_when_the_lease_is_lost(s3, credentials, monkeypatch):
    file = ArtifactDataset(filepath=f"{s3}/x.json", format="json", credentials=credentials)
    folder = PartitionedArtifactDataset(path=f"{s3}/p", format="json", credentials=credentials)
    file.save({"a": 1})
    folder.save({"a": 1})
    lease = Lease(Store(s3, credentials), "settled", ttl_seconds=TTL, settle_seconds=0.1)
    lease.acquire({"run_id": "A"})
    monkeypatch.setattr(GUARD, "check", lease.check)
    file.save({"a": 2})
    late = lease_module.clock() + TTL
    monkeypatch.setattr(lease_module, "clock", lambda: late)
    for save in (
        lambda: file.save({"a": 3}),
        lambda: folder.save({"a": 2}),
        lambda: folder.save({"b": 2}),
        lambda: folder.save(Commit(ids=())),
    ):
        with pytest.raises(LeaseLostError, match="was not acknowledged"):
            save()
    lease.release()
    monkeypatch.setattr(GUARD, "check", None)
    assert file.load() == {"a": 2}
    folder.save(Commit(ids=("a",)))
    assert dict(folder.load()) == {"a": 1}


def test_run_beside_another_one_is_refused_with_its_id_and_writes_nothing(s3, credentials, monkeypatch, tmp_path):
    monkeypatch.setenv("MNTRADING_S3_ROOT", s3)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    store = Store(s3, credentials)
    lease = Lease(store, "settled", settle_seconds=0.1)
    lease.acquire({"run_id": "the-first", "pipelines": ["full_cycle"], "started_at": "T", "host": "h"})
    with pytest.raises(LockedError, match=r"run the-first \(full_cycle, since T, on h\) holds the storage root"):
        runs.run("ingestion", env="minio", params={"tracking": "off"})
    assert store.names("runs") == []
    lease.release()


@pytest.mark.parametrize(
    ("changes", "bucket", "said"),
    [
        ({"secret": "wrong-secret"}, None, "refuses the keys (403 SignatureDoesNotMatch)"),
        ({"endpoint_url": "http://127.0.0.1:9"}, None, "can't be reached"),
        ({}, "s3://no-such-bucket", "there is no bucket 'no-such-bucket'"),
    ],
)
def test_preflight_says_in_time_what_is_wrong(s3, server, credentials, changes, bucket, said):
    keys = {"key": server.environment["AWS_ACCESS_KEY_ID"], "secret": server.environment["AWS_SECRET_ACCESS_KEY"]}
    storage = {"root": bucket or s3, "lease": "settled"}
    begun = time.monotonic()
    with pytest.raises(preflight.PreflightError) as raised:
        preflight.fly(preflight.checks(storage, credentials | keys | changes, None))
    assert time.monotonic() - begun < 6
    told = str(raised.value)
    assert said in told
    assert ". Next: " in told
    assert not [secret for secret in (keys["secret"], "wrong-secret") if secret in told]


def test_preflight_passes_and_tells_what_the_store_is_worth(s3, credentials):
    storage = {"root": s3, "lease": "settled"}
    preflight.fly(preflight.checks(storage, credentials, None))
    told = preflight.told(storage, credentials, None)
    assert [line.partition(":")[0] for line in told] == ["storage", "lease", "MLflow"]
    with pytest.raises(StoreError, match="no lease can rest"):
        preflight.told(storage | {"lease": "strict"}, credentials, None)
