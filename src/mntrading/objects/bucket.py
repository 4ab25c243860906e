"""The bucket that uploads go to, as a catalog entry."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from kedro.io.core import AbstractDataset

from mntrading.configuration import is_remote, local_root
from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.objects.store import Store
from mntrading.objects.upload import Progress, Uploaded, check_prefix, upload

LOGGER = logging.getLogger(__name__)


class Uploader:
    """Copies folders below one root into one bucket.

    Parameters
    ----------
    source
        Storage root of this machine.
    bucket
        ``s3://bucket`` or ``s3://bucket/prefix``.
    credentials
        Arguments of the client.
    """

    def __init__(self, source: str, bucket: str, credentials: dict[str, Any] | None) -> None:
        self._source, self._bucket, self._credentials = source, bucket, credentials

    def send(
        self,
        folders: Sequence[str],
        prefix: str,
        *,
        workers: int,
        read_back: bool,
        progress: Progress | None = None,
    ) -> list[Uploaded]:
        """Upload folders of the root, each below the prefix under its own name; one that is not there yet is left out.

        Raises
        ------
        ParameterError
            The root is no folder of this machine, none of the folders is there, or a name leads out of it.
        """
        if is_remote(self._source):
            raise ParameterError(
                f"{self._source} is in an object store already", where="storage.root", fix="use a local environment"
            )
        root = local_root(self._source)
        there = [folder for folder in folders if (root / check_prefix(folder)).is_dir()]
        missing = [folder for folder in folders if folder not in there]
        if not there:
            raise ParameterError(
                f"has none of the folders {', '.join(missing)}", where=str(root), fix="kedro run, which makes them; or "
                "correct upload.folders",
            )  # fmt: skip
        if missing:
            LOGGER.warning("upload: %s not there yet, left out", ", ".join(missing))
        store = Store(self._bucket, self._credentials)
        try:
            store.reach()
            return [
                upload(
                    root / check_prefix(folder),
                    store,
                    f"{prefix.rstrip('/')}/{folder}".lstrip("/"),
                    workers=workers,
                    read_back=read_back,
                    progress=progress,
                )
                for folder in there
            ]
        finally:
            store.close()


class BucketDataset(AbstractDataset[None, Uploader]):
    """``BucketDataset`` loads what copies folders of a storage root into a bucket; nothing is read or sent by it.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        upload_target:
          type: mntrading.objects.bucket.BucketDataset
          source: ${globals:storage.root}
          bucket: s3://${bucket:}
          made_by: kedro run --pipelines upload
          credentials: s3
    """

    def __init__(
        self,
        *,
        source: str,
        bucket: str,
        made_by: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create a dataset on a bucket.

        Parameters
        ----------
        source
            Storage root of this machine.
        bucket
            ``s3://bucket``, with a prefix or without.
        made_by
            Command that uses it.
        credentials
            Arguments of the client.
        metadata
            Anything; ignored.
        """
        self._source, self._bucket, self._made_by = source, bucket, made_by
        self._given = credentials
        self.metadata = metadata

    def load(self) -> Uploader:
        """What uploads."""
        return Uploader(self._source, self._bucket, self._given)

    def save(self, data: None) -> None:  # noqa: ARG002 -- as every dataset
        """Nothing is saved as a whole.

        Raises
        ------
        ArtifactError
            Always.
        """
        raise ArtifactError("is written folder by folder, not as a whole", where=self._bucket, fix=self._made_by)

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source, "bucket": self._bucket}
