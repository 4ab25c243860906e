"""What is stored, read once for as long as it is the same: everything kept is kept by content hash, nothing by time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar, cast

import pandas as pd
import streamlit as st

from mntrading.apps.catalog import MEDIA_TYPES, Entry, ReadCatalog, Stored
from mntrading.datasets import BarStore, Partitions
from mntrading.params import Block

T = TypeVar("T")
Key = tuple[str, ...]


@st.cache_data(max_entries=256, show_spinner=False)
def _kept(key: Key, _make: Callable[[], Any]) -> Any:  # noqa: ARG001 - Streamlit keeps by it
    """What ``_make`` makes, by a key with the hash of everything it is made of."""
    return _make()


class Store:
    """The catalog, with everything that is made of it kept by the hashes of what it was made from.

    Parameters
    ----------
    catalog
        The catalog.
    """

    def __init__(self, catalog: ReadCatalog) -> None:
        self.catalog = catalog
        self._entries: dict[str, Entry] = {}

    def entry(self, name: str) -> Entry:
        """What is known of an entry; asked for once for each drawing of a page."""
        if name not in self._entries:
            self._entries[name] = self.catalog.entry(name)
        return self._entries[name]

    def has(self, *names: str) -> bool:
        """Whether all of them are stored."""
        return all(self.entry(name).exists for name in names)

    def missing(self, *names: str) -> tuple[Entry, ...]:
        """Those that are not stored."""
        return tuple(entry for entry in map(self.entry, names) if not entry.exists)

    def sha(self, name: str) -> str:
        """Content hash; empty where nothing is stored."""
        return self.entry(name).sha256 or ""

    def document(self, name: str) -> Any:
        """A file's content: a document, a frame or a text."""
        return self.made("document", (name,), lambda: self.catalog.load(name))

    def folder(self, name: str) -> Partitions:
        """A folder's partitions, read when asked for."""
        return cast(Partitions, self.catalog.load(name))

    def part(self, name: str, id_: str) -> Any:
        """A partition's content."""
        folder = self.folder(name)
        return _kept((self.catalog.root, "part", name, id_, folder.entry(id_)["sha256"]), lambda: folder[id_])

    def newest(self, name: str, n: int) -> list[Any]:
        """The last partitions by id, the newest first."""
        folder = self.folder(name)
        # a folder with a manifest a day reads as few of them as it needs
        ids: Iterable[str] = reversed(cast(Any, folder)) if hasattr(folder, "days") else sorted(folder, reverse=True)
        return [self.part(name, id_) for id_ in islice(ids, n)]

    def bars(self, name: str) -> BarStore:
        """A store of bars."""
        return cast(BarStore, self.catalog.load(name))

    def bytes(self, name: str, id_: str | None = None) -> Stored:
        """Bytes as they are stored."""
        return self.catalog.read(name) if id_ is None else self.catalog.partition(name, id_)

    def media_type(self, entry: Entry) -> str:
        """What an entry's bytes are."""
        ending = f".{entry.path.rsplit('.', 1)[-1]}"
        return MEDIA_TYPES.get(ending, MEDIA_TYPES.get(entry.format, "application/octet-stream"))

    def parameters(self) -> Mapping[str, Block]:
        """Parameter blocks of the environment."""
        return self.catalog.parameters()

    def made(self, what: str, names: tuple[str, ...], make: Callable[[], T], *more: str) -> T:
        """What is made of entries, kept for as long as they are the same.

        Parameters
        ----------
        what
            What it is, apart from everything else that is made.
        names
            Entries it is made of.
        make
            Makes it.
        more
            What else it depends on, as text.
        """
        key = (self.catalog.root, what, *more, *(f"{name}={self.sha(name)}" for name in names))
        return cast(T, _kept(key, make))

    def kept(self, what: str, key: Key, make: Callable[[], T]) -> T:
        """What is made of parts of entries, by their hashes."""
        return cast(T, _kept((self.catalog.root, what, *key), make))

    def paper_equity(self) -> pd.DataFrame:
        """Equity, cash, exposure and costs of the paper account by bar."""

        def read() -> pd.DataFrame:
            folder = self.folder("paper_equity")
            return cast(pd.DataFrame, pd.concat([folder[day] for day in sorted(folder)]))

        return self.made("paper equity", ("paper_equity",), read)
