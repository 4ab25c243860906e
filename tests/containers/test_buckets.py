"""Buckets are made once, by an endpoint that may take its time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mntrading.containers import buckets
from mntrading.containers.buckets import Buckets, make_all, named
from mntrading.core.errors import ParameterError


def refusal(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "HeadBucket")


@dataclass
class Endpoint:
    """A stub of an S3 client, and what its first calls raise."""

    first: list[Exception] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    racing: bool = False
    calls: int = 0

    def head_bucket(self, *, Bucket: str) -> None:
        self.calls += 1
        if self.first:
            raise self.first.pop(0)
        if Bucket not in self.there:
            raise refusal(404, "404")

    def create_bucket(self, *, Bucket: str) -> None:
        if self.racing:
            raise refusal(409, "BucketAlreadyOwnedByYou")
        self.there.add(Bucket)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MINIO_BUCKET", "mntrading")
    monkeypatch.setenv("MLFLOW_BUCKET", "mlflow")
    monkeypatch.setattr(buckets.time, "sleep", lambda _: None)

    def put(client: Endpoint) -> Endpoint:
        monkeypatch.setattr(Buckets, "of_environment", classmethod(lambda cls: cls("http://s3", client)))
        return client

    return put


def test_what_is_missing_is_made_and_what_is_there_stays(use):
    endpoint = use(Endpoint(there={"mlflow"}))
    assert make_all() == ["mntrading: created", "mlflow: there"]
    assert make_all() == ["mntrading: there", "mlflow: there"]
    assert endpoint.there == {"mntrading", "mlflow"}


def test_one_bucket_named_twice_is_made_once(use, monkeypatch):
    monkeypatch.setenv("MLFLOW_BUCKET", "mntrading")
    assert named() == ("mntrading",)


def test_an_endpoint_that_starts_late_is_waited_for(use):
    endpoint = use(Endpoint(first=[EndpointConnectionError(endpoint_url="http://s3"), refusal(503, "SlowDown")]))
    assert make_all() == ["mntrading: created", "mlflow: created"]
    assert endpoint.calls == 4


def test_an_endpoint_that_never_answers_is_given_up_with_the_command_that_starts_one(use):
    use(Endpoint(first=[EndpointConnectionError(endpoint_url="http://s3")] * 3))
    with pytest.raises(ParameterError, match="docker compose up"):
        make_all(within=-1.0)


def test_wrong_keys_are_told_at_once(use):
    endpoint = use(Endpoint(first=[refusal(403, "InvalidAccessKeyId")]))
    with pytest.raises(ParameterError, match="AWS_ACCESS_KEY_ID"):
        make_all()
    assert endpoint.calls == 1


def test_a_bucket_that_another_makes_meanwhile_is_there(use):
    use(Endpoint(racing=True))
    assert make_all() == ["mntrading: there", "mlflow: there"]
