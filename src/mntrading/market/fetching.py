"""Bars of many symbols from a source: only what is missing, judged, in pieces that can be stored at once."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from mntrading.core.bars import from_ms, invalid_rows, timeframe_ms, times_ms
from mntrading.core.coverage import Interval, Ledger
from mntrading.core.errors import SourceError
from mntrading.core.quality import Judged, judge
from mntrading.core.types import FloatArray
from mntrading.market.base import MarketSource, SourceBlockedError, SourceUnreachableError, SymbolGoneError
from mntrading.market.paging import fetch_range
from mntrading.params import IngestionParams

LOGGER = logging.getLogger(__name__)

GONE: Final = "gone"
_PAGES_PER_PIECE: Final = 10
_DAY_MS: Final = 86_400_000


class StoredBars(Protocol):
    """What is stored already, as far as fetching has to know."""

    def ledger(self, symbol: str) -> Ledger:
        """What was asked for so far."""
        ...

    def span(self, symbol: str) -> Interval | None:
        """Open time of the first bar and the end of the last one; None where there is none."""
        ...

    def rows(self, symbol: str, first: int, until: int) -> FloatArray:
        """Rows ``(n, 6)`` that open in a range."""
        ...

    def neighbours(self, symbol: str, first: int, until: int, count: int) -> tuple[FloatArray, FloatArray]:
        """The last row that opens before a range, and at least ``count`` of those after it, where there are."""
        ...


@dataclass(frozen=True)
class Job:
    """One symbol's bars that should be stored in the end.

    Attributes
    ----------
    symbol
        Its name in the store.
    served_as
        Its name at the source, which differs for a coin whose symbol another one has taken over.
    wanted
        Open times, on the grid, none later than the last bar that is closed.
    """

    symbol: str
    served_as: str
    wanted: Interval


@dataclass(frozen=True)
class Piece:
    """A range the source has answered for.

    Attributes
    ----------
    symbol
        Name in the store.
    rows
        ``(n, 6)`` bars that are good.
    ledger
        What is known of the symbol once the rows are stored.
    archive
        Where another coin begins under the symbol: the name under which the bars before it are kept from now
        on, and the open time of its own first bar.
    n_asked
        Bars the range has room for.
    """

    symbol: str
    rows: FloatArray
    ledger: Ledger
    archive: tuple[str, int] | None
    n_asked: int


@dataclass(frozen=True)
class Ended:
    """The end of one symbol's fetching; ``error`` is None when all that was wanted was answered for."""

    symbol: str
    error: SourceError | None


def n_missing(jobs: Sequence[Job], stored: StoredBars, timeframe: str, as_of: int, ingestion: IngestionParams) -> int:
    """Bars the ranges have room for that will be asked for."""
    step = timeframe_ms(timeframe)
    return sum((until - first) // step for job in jobs for first, until in _to_fetch(job, stored, as_of, ingestion))


def fetch_all(
    source: MarketSource,
    jobs: Sequence[Job],
    stored: StoredBars,
    timeframe: str,
    as_of: int,
    ingestion: IngestionParams,
) -> Iterator[Piece | Ended]:
    """Fetch what is missing of each symbol, several at once as the source allows.

    A symbol's pieces come in order of time, then its `Ended`; those of several symbols are mixed. A symbol's
    failure is its own, but a source that is blocked, or does not answer for one symbol after the other, ends
    the whole.

    Parameters
    ----------
    as_of
        The source's clock, ms.

    Raises
    ------
    SourceBlockedError, SourceUnreachableError
        The source can't be used. Pieces that came before are good.
    """
    width = max(1, min(source.concurrency, len(jobs)))
    patience = width + 2
    walks = [(job, _walk(source, job, stored, timeframe, as_of, ingestion)) for job in jobs]
    streak = 0
    for item in _in_parallel(walks, width):
        if isinstance(item, Ended) and isinstance(item.error, SourceUnreachableError):
            streak += 1
        elif isinstance(item, Piece):
            streak = 0
        yield item
        if isinstance(item, Ended):
            if isinstance(item.error, SourceBlockedError):
                raise item.error
            if streak >= min(patience, len(jobs)) and isinstance(item.error, SourceUnreachableError):
                raise item.error


def _in_parallel(walks: Sequence[tuple[Job, Iterator[Piece]]], width: int) -> Iterator[Piece | Ended]:
    """Run the walks on threads, each from its beginning to its end; whoever stops listening stops them all."""
    waiting: queue.SimpleQueue[tuple[Job, Iterator[Piece]]] = queue.SimpleQueue()
    for walk in walks:
        waiting.put(walk)
    ready: queue.Queue[Piece | Ended | BaseException] = queue.Queue(maxsize=2 * width)
    stopped, refused = threading.Event(), threading.Event()

    def hand_over(item: Piece | Ended | BaseException) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        while not (stopped.is_set() or refused.is_set()):
            try:
                job, walk = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                for piece in walk:
                    hand_over(piece)
                    if stopped.is_set():
                        return
                hand_over(Ended(job.symbol, None))
            except SourceError as error:
                if isinstance(error, SourceBlockedError):
                    refused.set()
                hand_over(Ended(job.symbol, error))
            except BaseException as error:  # noqa: BLE001 -- raised again where the pieces are awaited
                hand_over(error)

    threads = [threading.Thread(target=work, name=f"fetch-{n}", daemon=True) for n in range(width)]
    for thread in threads:
        thread.start()
    try:
        left = len(walks)
        while left:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            left -= isinstance(item, Ended)
            yield item
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _to_fetch(job: Job, stored: StoredBars, as_of: int, ingestion: IngestionParams) -> tuple[Interval, ...]:
    final_ms = int(ingestion.gap_final_days * _DAY_MS)
    return stored.ledger(job.symbol).to_fetch(job.wanted, as_of=as_of, final_ms=final_ms)


def _walk(
    source: MarketSource,
    job: Job,
    stored: StoredBars,
    timeframe: str,
    as_of: int,
    ingestion: IngestionParams,
) -> Iterator[Piece]:
    """The pieces of one symbol, in order of time."""
    step = timeframe_ms(timeframe)
    ledger = stored.ledger(job.symbol)
    ledger = ledger.replace(notes={name: note for name, note in ledger.notes.items() if name != GONE})
    known = stored.span(job.symbol)
    listed_from = known[0] if known else None
    length = _PAGES_PER_PIECE * ingestion.page_limit * step
    last = np.empty((0, 6))
    # read now what is stored around and inside the ranges: it changes with the first piece that is stored
    ranges = [
        (span, stored.neighbours(job.symbol, *span, ingestion.quality.confirm_bars), stored.rows(job.symbol, *span))
        for span in _to_fetch(job, stored, as_of, ingestion)
    ]
    for (first, until), (before, after), inside in ranges:
        if len(last) and (not len(before) or before[-1, 0] < last[-1, 0]):
            before = last
        carried = np.empty((0, 6))
        told_until = first
        for begin in range(first, until, length):
            end = min(begin + length, until)
            # from the bar before on: a source that has changed it is found out, and no row between two pieces is missed
            since = begin - step
            try:
                raw = fetch_range(
                    source, job.served_as, timeframe, since_ms=since, until_ms=end, page_limit=ingestion.page_limit
                )
            except SymbolGoneError:
                yield Piece(job.symbol, np.empty((0, 6)), ledger.replace(notes={**ledger.notes, GONE: as_of}), None, 0)
                raise
            there = np.vstack([before[-1:], inside[(inside[:, 0] >= begin) & (inside[:, 0] < end)]])
            judged = judge(
                np.vstack([carried, raw[raw[:, 0] > since]]),
                timeframe,
                before=before if len(before) else None,
                after=after if end == until and len(after) else None,
                rules=ingestion.quality,
                final=end == until,
            )
            span = (told_until, end if judged.pending_from is None else judged.pending_from)
            carried = np.vstack([carried, raw])
            carried = carried[carried[:, 0] >= span[1]]
            if len(judged.rows):
                opened = int(judged.rows[0, 0])
                listed_from = opened if listed_from is None else min(listed_from, opened)
                before = last = judged.rows[-1:]
            refused = judged.rejected.dropna(subset="timestamp")
            opens = np.union1d(judged.rows[:, 0], there[:, 0]).astype(np.int64)
            ledger = ledger.answered(
                span,
                opens[(opens >= span[0]) & (opens < span[1])],
                step=step,
                asked_at=as_of,
                rejected=dict(zip(times_ms(refused["timestamp"]).tolist(), refused["reason"], strict=True)),
                revised=_revised(there, raw, timeframe),
                listed_from=listed_from,
            )
            told_until = span[1]
            if judged.splits:
                listed_from = judged.splits[-1]
            ledger = yield from _cut(job.symbol, judged, ledger, end, (end - begin) // step)


def _cut(symbol: str, judged: Judged, ledger: Ledger, end: int, n_asked: int) -> Generator[Piece, None, Ledger]:
    """A piece for each coin among the rows; returns the ledger of the last one."""
    rows, archive = judged.rows, None
    for at in judged.splits:
        before, after = ledger.split(at)
        # not said to have ended yet: until it is archived, it bears the symbol
        before = before.without((at, end)).replace(notes=ledger.notes)
        yield Piece(symbol, rows[rows[:, 0] < at], before, archive, n_asked)
        rows, ledger, archive, n_asked = rows[rows[:, 0] >= at], after, (archived_name(symbol, at), at), 0
    yield Piece(symbol, rows, ledger, archive, n_asked)
    return ledger


def archived_name(symbol: str, at: int) -> str:
    """Name of a coin whose symbol another one has borne since a time: ``LUNA/USDT@20220531T0600``."""
    return f"{symbol}@{from_ms(at):%Y%m%dT%H%M}"


def _revised(stored: FloatArray, raw: FloatArray, timeframe: str) -> dict[int, str]:
    """Stored bars that the source gives other values now, and nowhere the same ones."""
    again = raw[np.isin(raw[:, 0], stored[:, 0])]
    again = again[invalid_rows(again, timeframe) == ""]
    out = {}
    for old in stored[np.isin(stored[:, 0], again[:, 0])]:
        now = again[again[:, 0] == old[0]]
        if not (now == old).all(axis=1).any():
            out[int(old[0])] = f"stored {old[1:].tolist()}, now {now[0, 1:].tolist()}"
    return out
