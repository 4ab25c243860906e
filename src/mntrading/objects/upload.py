"""A folder of this machine copied into an object store: only what is not there yet, each file verified."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from mntrading.core.errors import ArtifactError, LockedError, MNTradingError, ParameterError
from mntrading.objects.lease import TTL_SECONDS, Lease
from mntrading.objects.store import Store

PART_BYTES: Final = 32 * 2**20
"""Size of the parts a larger file goes up in."""
_TEMPORARY: Final = (".tmp-", ".lock")
_SHA: Final = "sha256"


@dataclass(frozen=True)
class Uploaded:
    """What an upload has done.

    Parameters
    ----------
    source, target
        Where from and where to.
    files, bytes
        All of the source.
    sent, sent_bytes
        What was not there yet, or not the same.
    seconds
        How long it took.
    """

    source: str
    target: str
    files: int
    bytes: int
    sent: int
    sent_bytes: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return asdict(self)

    def __str__(self) -> str:
        whole, sent = f"{self.bytes / 1e6:.1f} MB", f"{self.sent_bytes / 1e6:.1f} MB"
        return (
            f"{self.files} files ({whole}) of {self.source} are at {self.target}: {self.sent} sent and verified "
            f"({sent}), {self.files - self.sent} were there, in {self.seconds:.1f} s"
        )


Progress = Callable[[int, int], None]
"""Told of files done, and of files there are."""


def upload(
    source: Path,
    store: Store,
    prefix: str = "",
    *,
    workers: int = 4,
    read_back: bool = False,
    progress: Progress | None = None,
) -> Uploaded:
    """Copy a folder below a prefix; nothing is removed on either side.

    A file is skipped where the object has its size and SHA-256, so an upload that ended early goes on by being run
    again. Each object sent is looked at afterwards. Manifests and other files whose name begins with ``_`` go last:
    who reads the target meanwhile finds what they list.

    Parameters
    ----------
    source
        The folder.
    store
        The bucket.
    prefix
        Where in it, ``datasets/``.
    workers
        Files on their way at once.
    read_back
        Whether each object sent is read again whole and hashed, instead of comparing what the store says of it.
    progress
        Called after each file.

    Raises
    ------
    ParameterError
        The source is no folder, or the prefix leads out of the bucket.
    ArtifactError
        A link leads out of the source, a file is none, or changed on the way; nothing was sent in the first two cases.
    LockedError
        A run is at work on the bucket.
    StoreError
        The store can't be reached, refuses, or holds something else than was sent.
    """
    begun, folder = time.monotonic(), check_prefix(prefix)
    files = list(_files(source))
    _refuse_a_root_at_work(store)
    sent: list[int] = []
    done = 0
    for group in ([one for one in files if not _is_last(one[0])], [one for one in files if _is_last(one[0])]):
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            futures = {pool.submit(_send, store, folder / name, path, read_back) for name, path in group}
            waiting = set(futures)
            while waiting:
                finished, waiting = wait(waiting, timeout=1.0, return_when=FIRST_EXCEPTION)
                _raise_first(finished, waiting, done + len(futures) - len(waiting), len(files))
                if progress is not None:
                    progress(done + len(futures) - len(waiting), len(files))
            sent += [size for size in (future.result() for future in futures) if size is not None]
            done += len(futures)
    return Uploaded(
        source=str(source),
        target=f"s3://{store.bucket}/{store.key(str(folder)).removesuffix('.').strip('/')}",
        files=len(files),
        bytes=sum(path.stat().st_size for _, path in files),
        sent=len(sent),
        sent_bytes=sum(sent),
        seconds=time.monotonic() - begun,
    )


def check_prefix(prefix: str) -> PurePosixPath:
    """The prefix as a path inside a bucket.

    Raises
    ------
    ParameterError
        It is absolute, climbs, has an empty part, a part that begins with a dot, or a character no key should have.
    """
    parts = prefix.removesuffix("/").split("/") if prefix else []
    bad = [part for part in parts if not part or part.startswith(".") or not part.isprintable() or "\\" in part]
    if bad:
        raise ParameterError(
            f"{prefix!r} is no place inside a bucket: {bad[0]!r}", where="--prefix", fix="use one such as datasets/"
        )
    return PurePosixPath(*parts)


def _files(source: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    """Regular files of a folder by their path in it, sorted; those that a writer has not published are left out."""
    if not source.is_dir():
        raise ParameterError(f"{source} is no folder", where="--src", fix="name a folder such as data/datasets")
    root = source.resolve()

    def unreadable(error: OSError) -> None:
        raise ArtifactError(f"can't be read: {error.strerror}", where=error.filename) from error

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        for name in sorted([*names, *(one for one in folders if (Path(folder) / one).is_symlink())]):
            path = Path(folder) / name
            if name.startswith(_TEMPORARY):
                continue
            real = path.resolve()
            if not real.is_relative_to(root):
                raise ArtifactError(f"is a link that leads out of {source}", where=str(path), fix="remove the link")
            if not real.exists() or not stat.S_ISREG(real.stat().st_mode):
                raise ArtifactError("is no file: a link to a folder or to nothing, or a device", where=str(path))
            yield PurePosixPath(path.relative_to(root).as_posix()), real


def _is_last(name: PurePosixPath) -> bool:
    return name.name.startswith("_")


def _refuse_a_root_at_work(store: Store) -> None:
    holder = Lease(store).holder()
    if holder is not None and not holder.released and holder.quiet_seconds < TTL_SECONDS:
        raise LockedError(
            f"run {holder.about.get('run_id', 'unknown')} is at work there", where=store.shown, fix="wait for it"
        )


def _raise_first(finished: set[Future[Any]], waiting: set[Future[Any]], done: int, total: int) -> None:
    for future in finished:
        error = future.exception()
        if error is None:
            continue
        for other in waiting:
            other.cancel()
        if isinstance(error, MNTradingError):
            fix = (
                f"{error.fix}; then run the upload again: it goes on where it stopped, after some {done - 1} of {total}"
            )
            raise type(error)(error.what, where=error.where, fix=f"{fix} files") from error
        raise error


def _send(store: Store, key: PurePosixPath, path: Path, read_back: bool) -> int | None:
    """Bytes sent; None where the object was there."""
    name = str(key)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        before = os.fstat(file.fileno())
        sha = hashlib.file_digest(file, "sha256").hexdigest()
        if _is_there(store, name, before.st_size, sha):
            return None
        file.seek(0)
        if before.st_size <= PART_BYTES:
            data = file.read()
            store.put(name, data, metadata={_SHA: sha}, md5=_md5(data))
        else:
            _send_parts(store, name, file, sha)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ArtifactError("changed while it was sent", where=str(path), fix="let the run that writes it end")
    if not (_reads_back(store, name, sha) if read_back else _is_there(store, name, before.st_size, sha)):
        raise ArtifactError(f"is not in {store.shown} as it was sent", where=name, fix="look at the store")
    return before.st_size


def _send_parts(store: Store, name: str, file: BinaryIO, sha: str) -> None:
    with store.parts(name, metadata={_SHA: sha}) as put_part:
        while data := file.read(PART_BYTES):
            put_part(data, _md5(data))


def _md5(data: bytes) -> str:
    """What the store compares with what arrives."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _is_there(store: Store, name: str, size: int, sha: str) -> bool:
    found = store.head(name)
    return found is not None and found.size == size and found.metadata.get(_SHA) == sha


def _reads_back(store: Store, name: str, sha: str) -> bool:
    digest = hashlib.sha256()
    for chunk in store.chunks(name):
        digest.update(chunk)
    return digest.hexdigest() == sha
