"""An S3 bucket as the project talks to it beside ``fsspec``: single objects, conditions, and the server's own clock."""

from __future__ import annotations

import contextlib
import email.utils
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from mntrading.core.errors import MNTradingError, ParameterError

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 15.0
ATTEMPTS: Final = 3

_TAKEN: Final = (409, 412)  # 409: S3's own word for a write that another one has overtaken


class StoreError(MNTradingError):
    """An object store that does not answer, or answers that it will not."""


@dataclass(frozen=True)
class Found:
    """What a store says of an object.

    Parameters
    ----------
    age_seconds
        Seconds since it was written, both ends on the server's clock, which counts in whole seconds.
    size
        Bytes.
    metadata
        The user's own.
    etag
        The server's name of this content, as it came.
    """

    age_seconds: float
    size: int
    metadata: Mapping[str, str]
    etag: str


class Store:
    """One bucket, below a prefix.

    Parameters
    ----------
    root
        ``s3://bucket`` or ``s3://bucket/prefix``.
    credentials
        What ``conf`` gives the datasets: ``endpoint_url``, ``key``, ``secret``, ``token``, ``client_kwargs``.
    attempts
        Calls made before a failure is given up on.
    read_seconds
        The longest a server may say nothing.
    """

    def __init__(
        self,
        root: str,
        credentials: Mapping[str, Any] | None,
        *,
        attempts: int = ATTEMPTS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        parts = urlsplit(root)
        if parts.scheme not in ("s3", "s3a") or not parts.netloc:
            raise ParameterError(f"{root!r} is no address such as s3://bucket/prefix", where="storage.root")
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        given = dict(credentials or {})
        self.endpoint = str(given.get("endpoint_url") or "https://s3.amazonaws.com")
        self._client = _client(given, attempts, read_seconds)

    @property
    def shown(self) -> str:
        """The bucket and where it is, for people."""
        return f"s3://{'/'.join(part for part in (self.bucket, self.prefix) if part)} at {self.endpoint}"

    def key(self, name: str) -> str:
        """Key of an object of this store."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def create(self, name: str, body: bytes | BinaryIO) -> bool:
        """Write an object unless there is one; whether it was written."""
        with self._told(name):
            try:
                self._client.put_object(Bucket=self.bucket, Key=self.key(name), Body=body, IfNoneMatch="*")
            except self._client.exceptions.ClientError as error:
                if _status(error) in _TAKEN:
                    return False
                raise
            return True

    def put(self, name: str, body: bytes, *, metadata: Mapping[str, str] | None = None, md5: str | None = None) -> None:
        """Write an object, in place of the one before; with an MD5 (base64) only if that is what arrives."""
        checked = {"ContentMD5": md5} if md5 else {}
        with self._told(name):
            self._client.put_object(
                Bucket=self.bucket, Key=self.key(name), Body=body, Metadata=dict(metadata or {}), **checked
            )

    @contextlib.contextmanager
    def parts(self, name: str, *, metadata: Mapping[str, str] | None = None) -> Iterator[Callable[[bytes, str], None]]:
        """Write an object in parts, each handed over with its MD5 (base64); published at the end, or not at all."""
        of = {"Bucket": self.bucket, "Key": self.key(name)}
        with self._told(name):
            id_ = self._client.create_multipart_upload(**of, Metadata=dict(metadata or {}))["UploadId"]
            done: list[dict[str, Any]] = []

            def put_part(data: bytes, md5: str) -> None:
                number = len(done) + 1
                answer = self._client.upload_part(**of, UploadId=id_, PartNumber=number, Body=data, ContentMD5=md5)
                done.append({"PartNumber": number, "ETag": answer["ETag"]})

            try:
                yield put_part
                self._client.complete_multipart_upload(**of, UploadId=id_, MultipartUpload={"Parts": done})
            except BaseException:
                with contextlib.suppress(Exception):  # what has failed is told; the store forgets the parts in time
                    self._client.abort_multipart_upload(**of, UploadId=id_)
                raise

    def get(self, name: str) -> bytes | None:
        """Content of an object; None where there is none."""
        with self._told(name):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self.key(name))
            except self._client.exceptions.ClientError as error:
                if _status(error) == 404:
                    return None
                raise
            return bytes(answer["Body"].read())

    def chunks(self, name: str, size: int = 2**20) -> Iterator[bytes]:
        """Content of an object, piece by piece."""
        with self._told(name):
            answer = self._client.get_object(Bucket=self.bucket, Key=self.key(name))
            yield from answer["Body"].iter_chunks(size)

    def head(self, name: str) -> Found | None:
        """What is known of an object; None where there is none."""
        with self._told(name):
            try:
                answer = self._client.head_object(Bucket=self.bucket, Key=self.key(name))
            except self._client.exceptions.ClientError as error:
                if _status(error) == 404:
                    return None
                raise
        age = (_server_time(answer) - answer["LastModified"]).total_seconds()
        return Found(max(age, 0.0), int(answer["ContentLength"]), dict(answer["Metadata"]), str(answer["ETag"]))

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is no error."""
        with self._told(name):
            self._client.delete_object(Bucket=self.bucket, Key=self.key(name))

    def names(self, folder: str) -> list[str]:
        """Names of the objects right below a folder, sorted. A store may be late to list what is new."""
        with self._told(folder):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=f"{self.key(folder)}/", Delimiter="/"
            )
            first = len(self.key(folder)) + 1
            return sorted(one["Key"][first:] for page in pages for one in page.get("Contents", ()))

    def reach(self) -> None:
        """Ask for the bucket itself.

        Raises
        ------
        StoreError
            In one line what is wrong: address, keys or bucket.
        """
        with self._told(""):
            self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    @property
    def client(self) -> Any:
        """The client itself, for what is asked of it once."""
        return self._client

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self.bucket}/{self.key(name)} at {self.endpoint}" if name else self.shown
        try:
            yield
        except ClientError as error:
            what, fix = _words(error, self.bucket)
            raise StoreError(what, where=where, fix=fix) from error
        except (BotoCoreError, OSError) as error:
            raise StoreError(
                f"the object store can't be reached: {error}",
                where=where,
                fix="check S3_ENDPOINT_URL and the server, then: kedro preflight --env minio",
            ) from error


def _client(given: Mapping[str, Any], attempts: int, read_seconds: float) -> Any:
    import botocore.config
    import botocore.session

    endpoint = given.get("endpoint_url")
    if endpoint and "://" not in str(endpoint):
        raise ParameterError(
            f"the endpoint {endpoint!r} does not begin with http:// or https://", where="S3_ENDPOINT_URL"
        )
    settings = botocore.config.Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        max_pool_connections=32,
        # servers other than Amazon's may know no checksum trailers
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint else {},
    )
    more = {
        name: given[key]
        for name, key in (
            ("aws_access_key_id", "key"),
            ("aws_secret_access_key", "secret"),
            ("aws_session_token", "token"),
        )
        if given.get(key)
    }
    more |= dict(given.get("client_kwargs") or {})
    if endpoint:
        more["endpoint_url"] = str(endpoint)
    return botocore.session.Session().create_client("s3", config=settings, **more)


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _words(error: Any, bucket: str) -> tuple[str, str]:
    """What an answer means, and what to do."""
    code, status = str(error.response.get("Error", {}).get("Code", "")), _status(error)
    if code == "NoSuchBucket" or (status == 404 and code in ("404", "NotFound")):
        return f"there is no bucket {bucket!r}", "create it, or name another one in S3_BUCKET (or MINIO_BUCKET)"
    if status in (401, 403):
        return (
            f"the object store refuses the keys ({status} {code})",
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or MINIO_ROOT_USER and MINIO_ROOT_PASSWORD), and what "
            f"they may do in {bucket!r}",
        )
    if status >= 500:
        return f"the object store fails ({status} {code})", "look at its log, then: kedro preflight --env minio"
    return f"the object store refuses ({status} {code})", "kedro preflight --env minio"


def _server_time(answer: Mapping[str, Any]) -> datetime:
    """The moment of an answer, by the server's clock."""
    said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if said is None:
        raise StoreError("an answer of the object store has no Date, so the age of a lease can't be told")
    return email.utils.parsedate_to_datetime(said)
