"""What goes wrong, and when: a function of the seed and of how often a symbol was asked for, never of the time."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from mntrading.core.errors import ParameterError
from mntrading.core.types import BoolArray, FloatArray

STATUSES: Final = ("403", "404", "418", "429", "451", "500", "503")
ANSWERS: Final = (*STATUSES, "timeout", "reset", "html", "truncated", "body", "unknown_symbol")
"""Kinds that spoil an answer as a whole."""
DATA: Final = (
    "duplicates", "conflicting", "out_of_order", "partial_last", "gap", "nan", "negative", "off_grid",
    "wrong_unit", "wrong_unit_run",
)  # fmt: skip
"""Kinds that spoil bars in an answer."""

_UNIT: Final = 1000.0
_CONFLICT: Final = 1.003
_RUN: Final = 3


@dataclass(frozen=True)
class Fault:
    """One kind of trouble and the requests it strikes.

    Requests are counted per path, symbol and timeframe, from 1. Without more, a fault is transient: it
    strikes the first of them, and asking again helps.

    Attributes
    ----------
    kind
        One of ``ANSWERS`` or ``DATA``.
    first
        Strikes the first so many requests.
    every
        Strikes every k-th request instead.
    share
        Strikes this share of the requests instead, drawn from the seed.
    permanent
        Strikes every request instead.
    after
        So many requests are answered well before any of this begins.
    symbols
        Only these; None for all.
    paths
        How the paths end that it is about; empty for all.
    row_every, run
        For ``DATA``: every so-manieth bar of the time grid is struck, and how many in a row from there on.
    retry_after
        For ``429`` and ``418``: the header's text; None for no header.
    seconds
        For ``timeout``: until the connection is closed without an answer.
    body
        For ``body``: what is answered with status 200.
    """

    kind: str
    first: int = 1
    every: int | None = None
    share: float | None = None
    permanent: bool = False
    after: int = 0
    symbols: tuple[str, ...] | None = None
    paths: tuple[str, ...] = ("klines",)
    row_every: int = 50
    run: int = 1
    retry_after: str | None = "1"
    seconds: float = 60.0
    body: str = "{}"

    def __post_init__(self) -> None:
        if self.kind not in ANSWERS + DATA:
            raise ParameterError(f"unknown fault {self.kind!r}, expected one of {', '.join(ANSWERS + DATA)}")
        if self.row_every < 1 or (self.every is not None and self.every < 1):
            raise ParameterError(f"fault {self.kind} has a period below 1")

    def strikes(self, path: str, symbol: str | None, key: str, count: int, seed: int) -> bool:
        """Whether the ``count``-th request of ``key`` is struck."""
        if self.paths and not path.endswith(self.paths):
            return False
        if self.symbols is not None and symbol not in self.symbols:
            return False
        count -= self.after
        if count < 1:
            return False
        if self.permanent:
            return True
        if self.every is not None:
            return count % self.every == 0
        if self.share is not None:
            return zlib.crc32(f"{seed} {self.kind} {key} {count}".encode()) < self.share * 2**32
        return count <= self.first

    def hits(self, opens: FloatArray, step_ms: int, seed: int = 0) -> BoolArray:
        """Which bars are struck, by their open times alone: the same ones in every page."""
        run = max(self.run, _RUN) if self.kind == "wrong_unit_run" else self.run
        slots = np.floor(np.asarray(opens) / step_ms).astype(np.int64)
        struck: BoolArray = (slots + seed) % self.row_every < run
        return struck

    def damage(self, rows: FloatArray, step_ms: int, *, seed: int = 0, now_ms: int | None = None) -> FloatArray:
        """Rows as a broken exchange sends them.

        Parameters
        ----------
        rows
            ``(n, 6)`` rows [open time in ms, o, h, l, c, volume] sorted by time.
        step_ms
            Length of a bar.
        seed
            Moves the struck bars along the grid.
        now_ms
            The exchange's clock: ``partial_last`` spoils bars that are open at it.
        """
        hit = self.hits(rows[:, 0], step_ms, seed)
        out = rows.copy()
        match self.kind:
            case "duplicates":
                out = np.repeat(rows, 1 + hit, axis=0)
            case "conflicting":
                twins = np.flatnonzero(hit)
                changed = rows[twins]
                changed[:, 1:5] *= _CONFLICT
                out = np.insert(rows, twins + 1, changed, axis=0)
            case "out_of_order":
                order = np.arange(len(rows)) + np.where(hit, 1.5, 0.0)
                out = rows[np.argsort(order, kind="stable")]
            case "gap":
                out = rows[~hit]
            case "nan":
                out[hit, 4] = np.nan
            case "negative":
                out[hit, 3] *= -1
            case "off_grid":
                out[hit, 0] += step_ms // 3
            case "wrong_unit" | "wrong_unit_run":
                out[hit, 1:5] *= _UNIT
            case "partial_last":
                if now_ms is not None:
                    out[rows[:, 0] + step_ms > now_ms, 1:] *= 3.0
        return out
