"""An object store in memory, with a clock that the test moves, and with what real ones do wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from mntrading.objects.store import Found, StoreError


def _ignore(*_: Any, **__: Any) -> None:
    """No request is sent that an event could be about."""


class KeptStore:
    """Stands in for a ``Store``; ``now`` is the server's clock in seconds.

    Parameters
    ----------
    atomic
        Whether of many writers that create an object one succeeds; otherwise the last of them is kept.
    """

    def __init__(self, *, atomic: bool = True) -> None:
        self.now, self.down, self.atomic = 1000.0, False, atomic
        self.objects: dict[str, tuple[bytes, float, Mapping[str, str]]] = {}
        self.calls: list[str] = []
        self.lock = threading.Lock()
        self.bucket, self.prefix, self.shown = "b", "", "s3://b in memory"
        events = SimpleNamespace(register=_ignore, unregister=_ignore)
        self.client = SimpleNamespace(meta=SimpleNamespace(events=events))

    def key(self, name: str) -> str:
        return name

    def create(self, name: str, body: Any) -> bool:
        self._call(f"create {name}")
        data = body if isinstance(body, bytes) else body.read()
        with self.lock:
            if name in self.objects and self.atomic:
                return False
            self.objects[name] = (data, self.now, {})
            return True

    def put(self, name: str, body: bytes, *, metadata: Mapping[str, str] | None = None, md5: str | None = None) -> None:  # noqa: ARG002
        self._call(f"put {name}")
        self.objects[name] = (body, self.now, metadata or {})

    def get(self, name: str) -> bytes | None:
        self._call(f"get {name}")
        return self.objects[name][0] if name in self.objects else None

    def head(self, name: str) -> Found | None:
        self._call(f"head {name}")
        if name not in self.objects:
            return None
        data, since, metadata = self.objects[name]
        return Found(self.now - since, len(data), metadata, hashlib.md5(data, usedforsecurity=False).hexdigest())

    def delete(self, name: str) -> None:
        self._call(f"delete {name}")
        self.objects.pop(name, None)

    def names(self, folder: str) -> list[str]:
        self._call(f"names {folder}")
        inside = (name.removeprefix(f"{folder}/") for name in self.objects if name.startswith(f"{folder}/"))
        return sorted(name for name in inside if "/" not in name)

    def chunks(self, name: str) -> list[bytes]:
        return [self.objects[name][0]]

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.down:
            raise StoreError("is down", where=self.shown)
