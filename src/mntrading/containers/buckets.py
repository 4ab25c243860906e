"""``python -m mntrading.containers.buckets``: the buckets that the environment names are there when it ends.

Run once before everything that stores something. It creates what is missing and touches nothing that is there.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Final, Self

from mntrading.core.errors import MNTradingError, ParameterError

_ANSWERS_WITHIN: Final = 60.0
_OURS: Final = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


@dataclass(frozen=True)
class Buckets:
    """The buckets of an S3 endpoint.

    Parameters
    ----------
    endpoint
        Its address.
    client
        A botocore client of it.
    """

    endpoint: str
    client: Any

    @classmethod
    def of_environment(cls) -> Self:
        """The endpoint and keys that ``--env minio`` uses.

        Raises
        ------
        ParameterError
            Where a variable is not set.
        """
        import botocore.session
        from botocore.config import Config

        endpoint = _variable("S3_ENDPOINT_URL")
        keys = {
            "aws_access_key_id": _variable("AWS_ACCESS_KEY_ID"),
            "aws_secret_access_key": _variable("AWS_SECRET_ACCESS_KEY"),
        }
        settings = Config(
            connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}, proxies={},
            s3={"addressing_style": "path"},
        )  # fmt: skip
        region = os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        client = botocore.session.get_session().create_client(
            "s3", region_name=region, endpoint_url=endpoint, config=settings, **keys
        )
        return cls(endpoint, client)

    def check(self, name: str) -> None:
        """Raise ``OSError`` where the endpoint does not answer, refuses, or has no such bucket."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.head_bucket(Bucket=name)
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"{self.endpoint}: bucket {name}: {error}") from None

    def make(self, name: str) -> bool:
        """Create a bucket unless it is there; returns whether it was created."""
        from botocore.exceptions import ClientError

        try:
            self.client.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
        else:
            return False
        try:
            self.client.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] in _OURS:  # made by another in between
                return False
            raise
        return True


def named() -> tuple[str, ...]:
    """Buckets the environment names: the project's own, and MLflow's where it has one."""
    names = (os.environ.get(variable) for variable in ("MINIO_BUCKET", "MLFLOW_BUCKET"))
    return tuple(dict.fromkeys(name for name in names if name))


def make_all(within: float = _ANSWERS_WITHIN) -> list[str]:
    """Make every named bucket, once the endpoint answers; returns what was done.

    Parameters
    ----------
    within
        Seconds that the endpoint may take to answer.

    Raises
    ------
    ParameterError
        Where it does not answer in time, or refuses.
    """
    from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

    buckets = Buckets.of_environment()
    until = time.monotonic() + within
    done = []
    for name in named():
        while True:
            try:
                done.append(f"{name}: {'created' if buckets.make(name) else 'there'}")
                break
            except (EndpointConnectionError, HTTPClientError) as error:
                if time.monotonic() > until:
                    what = f"does not answer within {within:.0f} s: {error}"
                    raise ParameterError(what, where=buckets.endpoint, fix="docker compose up -d minio") from None
                time.sleep(0.5)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 and time.monotonic() < until:
                    time.sleep(0.5)  # it answers, and is not ready
                    continue
                fix = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in .env must be keys of this endpoint"
                raise ParameterError(str(error), where=f"{buckets.endpoint}, bucket {name}", fix=fix) from None
    return done


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ParameterError("is not set", where=name, fix="make env")
    return value


def main() -> None:
    """Make the buckets and say so."""
    try:
        sys.stdout.write("\n".join(make_all()) + "\n")
    except MNTradingError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
