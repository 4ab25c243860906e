"""One run at a time on a storage root: a file lock on this machine, a lease in an object store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from filelock import FileLock, Timeout

from mntrading.configuration import is_remote, local_root
from mntrading.core.errors import LockedError, ParameterError
from mntrading.datasets.storage import GUARD
from mntrading.objects.lease import Lease, lease_of
from mntrading.objects.store import Store, StoreError

LOGGER = logging.getLogger(__name__)

_BEAT_SECONDS = 10.0


class RootLock:
    """The right to write below a storage root.

    Parameters
    ----------
    storage
        ``storage`` of the globals: ``root``, ``lease``, ``lease_ttl_seconds``.
    credentials
        Those of the root.
    """

    def __init__(self, storage: Mapping[str, Any], credentials: Mapping[str, Any] | None) -> None:
        self._storage, self._credentials = storage, credentials
        self._file: FileLock | None = None
        self._lease: Lease | None = None

    @property
    def alone(self) -> bool:
        """Whether no other run can be at work, so that a record of one that still runs is a dead run's."""
        return self._file is not None or self._lease is not None

    def acquire(self, about: Mapping[str, Any], holder: Callable[[], Mapping[str, Any]]) -> None:
        """Take the lock.

        Parameters
        ----------
        about
            What a second starter is told of this run.
        holder
            Reads the record of the run that holds a lock on this machine.

        Raises
        ------
        LockedError
            Another run has it.
        StoreError
            The store of the root can't be reached, or no lease can rest on it.
        """
        root = str(self._storage["root"])
        if is_remote(root):
            self._acquire_lease(root, about)
        else:
            self._acquire_file(root, holder)

    def release(self) -> None:
        """Let the next run in."""
        if self._file is not None:
            self._file.release()
        if self._lease is not None:
            GUARD.check = None
            try:
                self._lease.release()
            except StoreError as error:
                LOGGER.warning("the lease was not released and ends by itself: %s", error)
        self._file = self._lease = None

    def _acquire_file(self, root: str, holder: Callable[[], Mapping[str, Any]]) -> None:
        folder = local_root(root)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            other = holder()
            raise LockedError(
                f"run {other.get('run_id', 'unknown')} ({', '.join(other.get('pipelines', []))}, since "
                f"{other.get('started_at', 'unknown')}) holds the storage root",
                where=str(folder),
                fix="wait for it, or use another MNTRADING_STORAGE_ROOT",
            ) from None
        self._file = lock

    def _acquire_lease(self, root: str, about: Mapping[str, Any]) -> None:
        mode = str(self._storage["lease"])
        if mode == "off":
            LOGGER.warning("storage.lease is off: nothing keeps a second run from %s", root)
            return
        if not root.startswith("s3://"):
            raise ParameterError(
                f"there is no lease on {root}",
                where="storage.root",
                fix="use s3://, or MNTRADING_LEASE=off where nothing else can start a run",
            )
        store = Store(root, self._credentials, read_seconds=_BEAT_SECONDS)
        lease = lease_of(store, mode, ttl_seconds=float(self._storage["lease_ttl_seconds"]))
        if lease is None:
            return
        followed = lease.acquire(about)
        if followed is not None:
            LOGGER.warning(
                "run %s had fallen silent for %.0f s: its lease is followed",
                followed.about.get("run_id", "unknown"),
                followed.quiet_seconds,
            )
        self._lease = lease
        GUARD.check = lease.check
