"""What one fetch did, symbol by symbol: progress while it lasts, a table at its end."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mntrading.core import bars
from mntrading.core.coverage import EXCHANGE, Ledger
from mntrading.core.errors import MNTradingError
from mntrading.core.quality import maybe_renamed
from mntrading.datasets import BarStore
from mntrading.market import SymbolGoneError
from mntrading.market.fetching import Ended, Job, Piece

LOGGER = logging.getLogger(__name__)

_QUIET = bool(os.environ.get("CI"))
_EVERY_SECONDS = 30.0 if _QUIET else 2.0
_RENAMED_WITHIN_MS = 7 * 86_400_000
_RENAMED_PRICE = 0.1  # in logs
_FOREVER = (2**62, 2**62)


@dataclass
class _Row:
    stored_before: int
    new: int = 0
    first: tuple[int, float] | None = None
    ledger: Ledger | None = None
    archived: list[str] = field(default_factory=list)
    ended: Ended | None = None


class Account:
    """Counts what comes in.

    Parameters
    ----------
    timeframe
        Of the bars.
    jobs
        What is to be fetched.
    stored
        What was there before.
    n_missing
        Bars there is room for in the ranges that will be asked for.
    gone
        Stored symbols that the source does not name any more.
    """

    def __init__(
        self, timeframe: str, jobs: Sequence[Job], stored: BarStore, n_missing: int, gone: Sequence[str]
    ) -> None:
        self._timeframe, self._stored, self._n_missing, self._gone = timeframe, stored, n_missing, gone
        self._rows = {job.symbol: _Row(stored.entry(job.symbol)["rows"] if job.symbol in stored else 0) for job in jobs}
        self._began = self._said = time.monotonic()
        self._asked = 0
        resumed = [stored.entry(job.symbol)["last"] for job in jobs if job.symbol in stored]
        start = f"{len(resumed)} resuming from {min(resumed)} or later, " if resumed else ""
        LOGGER.info(
            "bars %s: %d symbols, %s%d new; %s bars to ask for",
            timeframe, len(jobs), start, len(jobs) - len(resumed), f"{n_missing:,}",
        )  # fmt: skip

    @property
    def n_with_bars(self) -> int:
        """Symbols that have bars now."""
        return sum(row.stored_before + row.new > 0 for row in self._rows.values())

    @property
    def first_error(self) -> MNTradingError | None:
        """The first failure of a symbol, None where there was none."""
        return next((row.ended.error for row in self._rows.values() if row.ended and row.ended.error), None)

    def note(self, item: Piece | Ended) -> None:
        """Take one more into account; says how far things are at most every few seconds."""
        row = self._rows[item.symbol]
        if isinstance(item, Ended):
            row.ended = item
        else:
            row.new += len(item.rows)
            if row.first is None and len(item.rows):
                row.first = (int(item.rows[0, 0]), float(item.rows[0, 1]))
            row.ledger = item.ledger
            self._asked += item.n_asked
            if item.archive:
                row.archived.append(item.archive[0])
        now = time.monotonic()
        if now - self._said >= _EVERY_SECONDS:
            self._said = now
            done = sum(row.ended is not None for row in self._rows.values())
            left = (now - self._began) / max(self._asked, 1) * max(self._n_missing - self._asked, 0)
            LOGGER.info(
                "bars %s: %d of %d symbols, %s bars, %s bars/s, about %.0f s left",
                self._timeframe, done, len(self._rows), f"{self._new:,}", f"{self._rate(now):,.0f}", left,
            )  # fmt: skip

    def close(self) -> None:
        """Log the table: every symbol with something to say, and the rest in one line."""
        now = time.monotonic()
        reached = {symbol: row for symbol, row in self._rows.items() if row.ended or row.ledger}
        told = {symbol: text for symbol, row in reached.items() if (text := _remarks(row))}
        unfinished = [symbol for symbol, row in self._rows.items() if not _is_done(row)]
        n_new = sum(row.new > 0 for row in self._rows.values())
        lines = [
            f"bars {self._timeframe}: {self._new:,} new bars of {n_new} symbols, {len(self._rows) - n_new} without "
            f"new ones, {len(unfinished)} unfinished, {now - self._began:.1f} s, {self._rate(now):,.0f} bars/s"
        ]
        width = max((len(symbol) for symbol in told), default=0)
        lines += [f"  {symbol:<{width}}  {text}" for symbol, text in told.items()]
        lines += [
            f"  {old} ended where {new} begins, at about its price: maybe it was renamed; the two are not joined"
            for old, new in self.renamed.items()
        ]
        if len(reached) < len(self._rows):
            lines.append(f"  {len(self._rows) - len(reached)} symbols were not reached")
        if unfinished:
            lines.append("  What is stored is kept. To resume, run the same command again.")
        LOGGER.log(logging.WARNING if unfinished else logging.INFO, "\n".join(lines))

    @property
    def renamed(self) -> dict[str, str]:
        """Symbols that nobody serves any more, and the ones first seen now that may be the same coin."""
        began = {symbol: row.first for symbol, row in self._rows.items() if row.first and not row.stored_before}
        ended = {}
        for symbol in self._gone if began else ():
            last = self._stored.neighbours(symbol, *_FOREVER, 0)[0][0]
            ended[symbol] = (int(last[0]), float(last[4]))
        return maybe_renamed(ended, began, within_ms=_RENAMED_WITHIN_MS, max_log_difference=_RENAMED_PRICE)

    @property
    def _new(self) -> int:
        return sum(row.new for row in self._rows.values())

    def _rate(self, now: float) -> float:
        return self._new / max(now - self._began, 1e-9)


def _is_done(row: _Row) -> bool:
    """Whether all there is to have was answered for."""
    return row.ended is not None and (row.ended.error is None or isinstance(row.ended.error, SymbolGoneError))


def _remarks(row: _Row) -> str:
    """What there is to say of a symbol beyond the number of its bars."""
    said = []
    if row.ended is None:
        said.append("stopped on the way")
    elif row.ended.error:
        said.append(row.ended.error.what if _is_done(row) else f"failed: {row.ended.error.what}")
    elif not row.stored_before + row.new:
        said.append("no bars in the range asked for")
    if row.ledger is not None:
        gaps, end = row.ledger.gaps, max((until for _, until in row.ledger.fetched), default=0)
        if gaps and gaps[-1].until == end and gaps[-1].reason == EXCHANGE:
            said.append(f"silent since {bars.from_ms(gaps[-1].first):%Y-%m-%d %H:%M}")
            gaps = gaps[:-1]
        n_missing = sum(gap.reason == EXCHANGE for gap in gaps)
        if n_missing:
            said.append(_count(n_missing, "gap"))
        if row.ledger.rejected:
            reasons = Counter(row.ledger.rejected.values())
            refused = ", ".join(f"{n} {why}" for why, n in sorted(reasons.items()))
            said.append(f"{_count(len(row.ledger.rejected), 'row')} refused ({refused})")
        if row.ledger.revised:
            said.append(f"the source gives {_count(len(row.ledger.revised), 'stored bar')} other values now")
    said += [f"another coin bears the symbol now, the one before is {name}" for name in row.archived]
    return "; ".join(said)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
