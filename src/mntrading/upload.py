"""``python -m mntrading.upload --src data/datasets --prefix datasets/``: a folder into the environment's bucket."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from mntrading.configuration import bucket as bucket_of_environment
from mntrading.configuration import s3_settings
from mntrading.objects.store import Store
from mntrading.objects.upload import upload
from mntrading.runs import stated

_EVERY_SECONDS = 2.0


class Told:
    """Says how far an upload is, not more than once in some seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """Of so many files."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_SECONDS
            sys.stderr.write(f"{done} of {total} files\n")


@click.command()
@click.option("--src", "source", required=True, type=click.Path(path_type=Path), help="Folder to upload.")
@click.option("--prefix", default="", show_default=True, help="Where in the bucket, such as datasets/.")
@click.option("--bucket", default=None, help="Instead of S3_BUCKET or MINIO_BUCKET.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(1, 32), help="Files at once.")
@click.option("--read-back", is_flag=True, help="Read each object sent again and hash it.")
@stated
def main(source: Path, prefix: str, bucket: str | None, workers: int, read_back: bool) -> None:
    """Copy a folder into a bucket: only what is not there with the same hash; nothing is removed."""
    store = Store(f"s3://{bucket or bucket_of_environment()}", s3_settings())
    try:
        store.reach()
        done = upload(source, store, prefix, workers=workers, read_back=read_back, progress=Told())
    finally:
        store.close()
    sys.stdout.write(f"{done}\n")


if __name__ == "__main__":
    main()
