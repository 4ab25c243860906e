"""The environment's names for an object store, whichever of them are set."""

from __future__ import annotations

import pytest

from mntrading.configuration import bucket, s3_settings

NAMES = (
    *(
        "S3_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "MLFLOW_S3_ENDPOINT_URL",
        "MINIO_PORT",
        "S3_BUCKET",
    ),
    *("MINIO_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
    *("AWS_DEFAULT_REGION", "AWS_REGION"),
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ({}, None),
        ({"MINIO_PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"MLFLOW_S3_ENDPOINT_URL": "http://m", "MINIO_PORT": "9000"}, "http://m"),
        ({"AWS_ENDPOINT_URL": "http://a", "MLFLOW_S3_ENDPOINT_URL": "http://m"}, "http://a"),
        (
            {"S3_ENDPOINT_URL": "http://s", "AWS_ENDPOINT_URL_S3": "http://b", "AWS_ENDPOINT_URL": "http://a"},
            "http://s",
        ),
        ({"S3_ENDPOINT_URL": "", "MLFLOW_S3_ENDPOINT_URL": "http://m"}, "http://m"),
    ],
)
def test_first_endpoint_that_is_set_is_taken(
    given: dict[str, str], endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert s3_settings()["endpoint_url"] == endpoint


def test_minios_keys_are_taken_where_amazons_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "key" not in s3_settings()
    monkeypatch.setenv("MINIO_ROOT_USER", "user")
    assert "key" not in s3_settings()
    monkeypatch.setenv("MINIO_ROOT_PASSWORD", "password")
    assert (s3_settings()["key"], s3_settings()["secret"]) == ("user", "password")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")  # which every client finds by itself
    assert "key" not in s3_settings()


def test_bucket_and_region_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (bucket(), s3_settings()["client_kwargs"]) == ("mntrading", {"region_name": "us-east-1"})
    monkeypatch.setenv("MINIO_BUCKET", "mlflow")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert (bucket(), s3_settings()["client_kwargs"]) == ("mlflow", {"region_name": "eu-west-1"})
    monkeypatch.setenv("S3_BUCKET", "mine")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert (bucket(), s3_settings()["client_kwargs"]) == ("mine", {"region_name": "eu-central-1"})
