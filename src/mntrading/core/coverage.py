"""Which bars were asked for, which came, and which of those that did not are worth asking for again.

All times are milliseconds since the epoch; an interval is ``(first, until)`` with ``until`` exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import numpy as np
import pandas as pd

from mntrading.core.bars import from_ms, to_ms
from mntrading.core.types import IntArray

Interval = tuple[int, int]
Reason = Literal["exchange", "rejected"]

EXCHANGE: Final = "exchange"
REJECTED: Final = "rejected"


@dataclass(frozen=True, order=True)
class Gap:
    """Bars that were asked for and are not there.

    Attributes
    ----------
    first, until
        Open time of the first missing bar, and of the first one after them.
    reason
        ``exchange``: nothing came; ``rejected``: what came broke the contract.
    asked_at
        The market's clock when they were asked for last.
    """

    first: int
    until: int
    reason: Reason
    asked_at: int

    def is_final(self, final_ms: int) -> bool:
        """Whether the gap was so old when it was asked for that nobody will fill it."""
        return self.asked_at - self.until >= final_ms


@dataclass(frozen=True)
class Ledger:
    """What is known of one symbol's bars besides the bars.

    Attributes
    ----------
    fetched
        Ranges the source has answered for, disjoint and in order. A bar missing outside of them was never
        asked for; one missing inside is in ``gaps``, unless it is from before the listing.
    gaps
        In order.
    rejected
        Reason of each row refused, by its time, unless a valid row has come since.
    revised
        Stored bars the source has told otherwise since, by open time. The stored ones stay.
    notes
        Anything else that is to be said, each with a JSON form.
    """

    fetched: tuple[Interval, ...] = ()
    gaps: tuple[Gap, ...] = ()
    rejected: Mapping[int, str] = field(default_factory=dict)
    revised: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_fetch(self, wanted: Interval, *, as_of: int, final_ms: int) -> tuple[Interval, ...]:
        """Ranges to ask for: what of ``wanted`` was never asked for, and its gaps that are not final yet."""
        again = [(gap.first, gap.until) for gap in self.gaps if not gap.is_final(final_ms) and gap.asked_at < as_of]
        inside = [(max(first, wanted[0]), min(until, wanted[1])) for first, until in again]
        return merged([*subtracted(wanted, self.fetched), *inside])

    def answered(
        self,
        span: Interval,
        opens: IntArray,
        *,
        step: int,
        asked_at: int,
        rejected: Mapping[int, str],
        revised: Mapping[int, str],
        listed_from: int | None,
    ) -> Ledger:
        """The ledger after the source has answered for a range.

        Parameters
        ----------
        span
            The range, on the grid.
        opens
            Open times of the bars that are stored inside it now.
        step
            Length of a bar.
        asked_at
            The market's clock.
        rejected, revised
            What of the answer was refused, and what of it differs from a stored bar.
        listed_from
            Open time of the symbol's first bar; None while there is none. No bar is missing before it.
        """
        there = set(opens.tolist())
        refused = {time: why for time, why in {**self.rejected, **rejected}.items() if time not in there}
        found: list[Gap] = []
        if listed_from is not None:
            refused_opens = np.array(sorted(refused), dtype=np.int64)
            found = _gaps((max(span[0], listed_from), span[1]), opens, refused_opens, step, asked_at)
        kept = [rest for gap in self.gaps for rest in _cut(gap, span)]
        return Ledger(
            fetched=merged([*self.fetched, span]),
            gaps=_joined([*kept, *found]),
            rejected=dict(sorted(refused.items())),
            revised=dict(sorted({**self.revised, **revised}.items())),
            notes=self.notes,
        )

    def without(self, lost: Interval) -> Ledger:
        """The ledger when the bars of a range are lost: they were never asked for."""
        outside = [part for interval in self.fetched for part in subtracted(interval, [lost])]
        gaps = tuple(rest for gap in self.gaps for rest in _cut(gap, lost))
        return self.replace(fetched=merged(outside), gaps=gaps)

    def split(self, at: int) -> tuple[Ledger, Ledger]:
        """The ledgers of the coin before a time and of the one that bears its symbol from then on.

        Both were answered for whole: the first has no bars from ``at`` on and the second none before. Their
        notes say so, ``listed_until`` and ``listed_from``.
        """
        before = self.replace(
            notes={**self.notes, "listed_until": _text(at)},
            gaps=tuple(gap for gap in self.gaps if gap.until <= at),
            rejected={time: why for time, why in self.rejected.items() if time < at},
            revised={time: why for time, why in self.revised.items() if time < at},
        )
        after = self.replace(
            notes={**self.notes, "listed_from": _text(at)},
            gaps=tuple(gap for gap in self.gaps if gap.first >= at),
            rejected={time: why for time, why in self.rejected.items() if time >= at},
            revised={time: why for time, why in self.revised.items() if time >= at},
        )
        return before, after

    def replace(self, **changes: Any) -> Ledger:
        """A copy with some fields changed."""
        return Ledger(**{**{name: getattr(self, name) for name in self.__dataclass_fields__}, **changes})

    def document(self) -> dict[str, Any]:
        """The ledger as JSON has it."""
        return {
            "fetched": [[_text(first), _text(until)] for first, until in self.fetched],
            "gaps": [
                {
                    "first": _text(gap.first),
                    "until": _text(gap.until),
                    "reason": gap.reason,
                    "asked_at": _text(gap.asked_at),
                }
                for gap in self.gaps
            ],
            "rejected": {_text(time): why for time, why in self.rejected.items()},
            "revised": {_text(time): why for time, why in self.revised.items()},
            "notes": dict(self.notes),
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Ledger:
        """The ledger of what `document` gave, an empty one of nothing."""
        if not document:
            return cls()
        return cls(
            fetched=tuple((_ms(first), _ms(until)) for first, until in document["fetched"]),
            gaps=tuple(
                Gap(_ms(gap["first"]), _ms(gap["until"]), cast(Reason, gap["reason"]), _ms(gap["asked_at"]))
                for gap in document["gaps"]
            ),
            rejected={_ms(time): why for time, why in document["rejected"].items()},
            revised={_ms(time): why for time, why in document["revised"].items()},
            notes=dict(document["notes"]),
        )


def merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """The same times as disjoint intervals in order; empty ones fall away.

    Examples
    --------
    >>> merged([(5, 9), (0, 3), (3, 4), (8, 12), (7, 7)])
    ((0, 4), (5, 12))
    """
    out: list[Interval] = []
    for first, until in sorted(intervals):
        if until <= first:
            continue
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], until))
        else:
            out.append((first, until))
    return tuple(out)


def subtracted(wanted: Interval, covered: Iterable[Interval]) -> tuple[Interval, ...]:
    """What of an interval the others leave over.

    Examples
    --------
    >>> subtracted((0, 10), [(2, 4), (6, 20)])
    ((0, 2), (4, 6))
    """
    out: list[Interval] = []
    at, end = wanted
    for first, until in merged(covered):
        if first > at:
            out.append((at, min(first, end)))
        at = max(at, until)
    return merged([*out, (at, end)])


def _gaps(span: Interval, opens: IntArray, refused: IntArray, step: int, asked_at: int) -> list[Gap]:
    """Runs of missing bars inside a range, cut where the reason changes."""
    first, until = span
    count = max(0, (until - first) // step)
    missing = np.ones(count, dtype=np.bool_)
    inside = opens[(opens >= first) & (opens < first + count * step)]
    missing[(inside - first) // step] = False
    kind = np.zeros(count, dtype=np.int8)
    kind[missing] = 1
    bad = refused[(refused >= first) & (refused < first + count * step)]
    kind[(bad - first) // step] *= 2
    edges = np.flatnonzero(np.diff(kind)) + 1
    out = []
    for begin, stop in zip([0, *edges], [*edges, count], strict=True):
        if begin < stop and kind[begin]:
            reason: Reason = REJECTED if kind[begin] == 2 else EXCHANGE
            out.append(Gap(first + int(begin) * step, first + int(stop) * step, reason, asked_at))
    return out


def _cut(gap: Gap, span: Interval) -> list[Gap]:
    """What of a gap lies outside a range."""
    return [Gap(first, until, gap.reason, gap.asked_at) for first, until in subtracted((gap.first, gap.until), [span])]


def _joined(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Gaps in order, those that touch and agree taken together."""
    out: list[Gap] = []
    for gap in sorted(gaps):
        last = out[-1] if out else None
        if last and last.until == gap.first and (last.reason, last.asked_at) == (gap.reason, gap.asked_at):
            out[-1] = Gap(last.first, gap.until, gap.reason, gap.asked_at)
        else:
            out.append(gap)
    return tuple(out)


def _text(milliseconds: int) -> str:
    moment = from_ms(milliseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z" if milliseconds % 1000 == 0 else f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def _ms(text: str) -> int:
    return to_ms(pd.Timestamp(text))
