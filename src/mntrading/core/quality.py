"""Which raw rows to believe: the bar contract, wrong units, and where another coin begins under the same symbol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mntrading.core import bars
from mntrading.core.types import BoolArray, FloatArray, IntArray
from mntrading.params import QualityParams

CONFLICTING: Final = "conflicting duplicate"
OUTSIDE: Final = "outside the range judged"
UNCONFIRMED: Final = "jump not yet confirmed"
WRONG_UNIT: Final = "wrong unit"
BAD_TICK: Final = "bad tick"

_HOUR_MS: Final = 3_600_000
_LAST_MS: Final = float(pd.Timestamp.max.value // 1_000_000)  # what a timestamp in nanoseconds can still say


@dataclass(frozen=True)
class Judged:
    """What `judge` makes of raw rows.

    Attributes
    ----------
    rows
        ``(m, 6)`` accepted rows as they were given, strictly increasing in time.
    rejected
        timestamp and reason of each rejected row, sorted by time; NaT, at the end, where the time itself is wrong.
    splits
        Open times in ms with which another coin begins: of accepted rows, or of the first row of ``after``.
    pending_from
        Open time in ms from which on nothing is decided, None when all is: these rows jump, and what comes
        next decides. No row from this time on is in ``rows`` or in ``rejected``.
    """

    rows: FloatArray
    rejected: pd.DataFrame
    splits: tuple[int, ...]
    pending_from: int | None


def judge(
    rows: FloatArray,
    timeframe: str,
    *,
    before: FloatArray | None = None,
    after: FloatArray | None = None,
    rules: QualityParams,
    final: bool,
) -> Judged:
    """Split raw rows of one symbol into bars to keep, rows to reject, and rows to ask about again.

    No value is repaired or filled. Exact duplicates are dropped. Rejected are rows that break the bar contract
    (`bars.invalid_rows`) and all but the first valid one of rows with the same stamp. What is left is held
    against the last accepted close, the level:

    - After ``reuse_gap_hours`` or more without an accepted bar, a close more than ``reuse_jump`` times the level
      (or less than its inverse) is the first of another coin.
    - A close more than ``max_jump`` times the level is in a wrong unit if the price is back within ``max_jump``
      by the time ``confirm_bars`` more rows have come, and so are the rows until then. If it isn't, the row is
      the first of another coin, and the new level.
    - Where the close is near the level and the high or low isn't, the row is a bad tick.

    A first row without any row before it has no level: its price is believed.

    Look-ahead: a row that jumps is judged by the ``confirm_bars`` rows after it, any other row by rows before it.
    A bar whose jump is still open is not stored, so nothing downstream sees it before it is settled.

    Rows may be judged in chunks, cut anywhere in time, with the same result as at once: pass each chunk the last
    accepted row in ``before`` as soon as there is one, and again the raw rows from ``pending_from`` on;
    ``final=True`` and ``after`` with the last chunk only. Without ``before``, a chunk's first row is believed.

    Parameters
    ----------
    rows
        ``(n, 6)`` raw rows [open time in ms, open, high, low, close, volume], in any order.
    timeframe
        Grid the open times must lie on.
    before
        Rows stored already that come before these: the last one at least. Believed.
    after
        Rows stored already that come right after these. Believed: they confirm a jump or end it, and a jump
        from the last accepted row to the first of them is a split there.
    rules
        Thresholds.
    final
        Whether nothing more will come: a jump still open is rejected rather than pending.

    Returns
    -------
    Accepted and rejected rows, splits, and from when on rows are pending.
    """
    step = bars.timeframe_ms(timeframe)
    earlier, later = _stored(before), _stored(after)
    table = _in_order(np.asarray(rows, dtype=np.float64).reshape(-1, 6))
    table = _without_stored(table, earlier, later)
    reason = bars.invalid_rows(table, timeframe)
    _reject_outside(table, reason, earlier, later)
    kept = np.flatnonzero(reason == "")
    again = np.flatnonzero(np.diff(table[kept, 0]) == 0) + 1
    reason[kept[again]] = CONFLICTING

    kept = np.delete(kept, again)
    chosen = table if len(kept) == len(table) else table[kept]
    bad, splits, undecided = _judge_prices(chosen, earlier, later, step, rules, final=final)
    for why, rows_of in bad.items():
        reason[kept[rows_of]] = why
    pending_from = None
    known = np.ones(len(table), dtype=np.bool_)
    if undecided is not None and final:
        reason[kept[undecided:]] = UNCONFIRMED
    elif undecided is not None:
        pending_from = int(chosen[undecided, 0])
        known = ~(table[:, 0] >= pending_from)  # a row without a time never waits

    accepted = known & (reason == "")
    return Judged(
        rows=table if accepted.all() else table[accepted],
        rejected=_rejected(table, reason, known & (reason != "")),
        splits=splits,
        pending_from=pending_from,
    )


def maybe_renamed(
    ended: Mapping[str, tuple[int, float]],
    began: Mapping[str, tuple[int, float]],
    *,
    within_ms: int,
    max_log_difference: float,
) -> dict[str, str]:
    """Symbols that ended, with the one that may be the same coin under a new name.

    A hint for the reader: two coins of about the same price look the same, so nothing is ever joined by it.

    Parameters
    ----------
    ended
        Open time in ms and close of the last bar, by symbol.
    began
        Open time in ms and open of the first bar, by symbol.
    within_ms
        The new symbol begins after the old one's last bar, and at most this much later.
    max_log_difference
        Largest distance of the two prices' logarithms.

    Returns
    -------
    Ended symbol to begun symbol, nearest prices first (ties by symbol); no symbol is in it twice.
    """
    near: list[tuple[float, str, str]] = []
    for old, (last_ms, last_price) in ended.items():
        for new, (first_ms, first_price) in began.items():
            if old != new and 0 < first_ms - last_ms <= within_ms:
                distance = abs(float(np.log(first_price) - np.log(last_price)))
                if distance <= max_log_difference:
                    near.append((distance, old, new))
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    for _, old, new in sorted(near):
        if old not in renamed and new not in taken:
            renamed[old] = new
            taken.add(new)
    return renamed


def _stored(rows: FloatArray | None) -> FloatArray:
    return np.empty((0, 6)) if rows is None else np.asarray(rows, dtype=np.float64).reshape(-1, 6)


def _in_order(table: FloatArray) -> FloatArray:
    """Rows sorted by time, those without one at the end, exact duplicates dropped."""
    if (np.diff(table[:, 0]) > 0).all():
        return table
    table = table[np.argsort(table[:, 0], kind="stable")]
    again: BoolArray = pd.DataFrame(table).duplicated().to_numpy(dtype=np.bool_)
    return table[~again]


def _outside(table: FloatArray, earlier: FloatArray, later: FloatArray) -> BoolArray:
    first = earlier[-1, 0] if len(earlier) else -np.inf
    last = later[0, 0] if len(later) else np.inf
    return (np.isfinite(table[:, 0])) & ((table[:, 0] <= first) | (table[:, 0] >= last))


def _without_stored(table: FloatArray, earlier: FloatArray, later: FloatArray) -> FloatArray:
    """Drop what is a stored row once more: a page may overlap what is stored."""
    outside = _outside(table, earlier, later)
    if not outside.any():
        return table
    stored = {tuple(row) for row in np.vstack([earlier, later]).tolist()}
    outside[outside] = [tuple(row) in stored for row in table[outside].tolist()]
    return table[~outside]


def _reject_outside(table: FloatArray, reason: npt.NDArray[np.object_], earlier: FloatArray, later: FloatArray) -> None:
    outside = _outside(table, earlier, later) & (reason == "")
    stamps = table[outside, 0]
    taken = np.isin(stamps, np.concatenate([earlier[:, 0], later[:, 0]]))
    reason[outside] = np.where(taken, CONFLICTING, OUTSIDE).astype(object)


def _judge_prices(
    table: FloatArray, earlier: FloatArray, later: FloatArray, step: int, rules: QualityParams, *, final: bool
) -> tuple[dict[str, IntArray], tuple[int, ...], int | None]:
    """Rows to reject by reason, open times of splits, and the first undecided row: places in ``table``.

    ``table`` holds valid rows, strictly increasing in time.
    """
    known = min(len(earlier), 1)
    own = np.vstack([earlier[-1:], table]) if known else table
    n = len(own)
    evidence = np.concatenate([own[:, 4], later[:, 4]])
    with np.errstate(over="ignore"):
        odd = _odd_places(own, step, rules)
        wrong: list[int] = []
        ticks: list[int] = []
        splits: list[int] = []
        undecided: int | None = None
        last, i = known - 1, known  # the last accepted row, and the one to judge
        while i < n:
            if last < 0:
                last, i = i, i + 1
                continue
            if last == i - 1:  # the row before was accepted, as `odd` supposes: all is well up to the next odd place
                place = int(np.searchsorted(odd, i))
                stop = int(odd[place]) if place < len(odd) else n
                last, i = stop - 1, stop
                if i == n:
                    break
            level = float(own[last, 4])
            if _reused(own[last], own[i], step, rules):
                splits.append(int(own[i, 0]))
                last, i = i, i + 1
            elif _apart(own[i, 4], level, rules.max_jump):
                run = evidence[i : i + rules.confirm_bars + 1]
                back = np.flatnonzero(~_apart(run, level, rules.max_jump))
                if back.size:
                    stop = i + int(back[0])
                    wrong.extend(range(i, min(stop, n)))
                    i = stop
                elif len(run) > rules.confirm_bars:
                    splits.append(int(own[i, 0]))
                    last, i = i, i + 1
                else:
                    undecided = i - known
                    break
            else:
                if _apart(own[i, 2], level, rules.max_jump) or _apart(own[i, 3], level, rules.max_jump):
                    ticks.append(i)
                else:
                    last = i
                i += 1
        settled = undecided is None or final
        if settled and last >= 0 and len(later):
            jumps = bool(_apart(later[0, 4], float(own[last, 4]), rules.max_jump))
            if jumps or _reused(own[last], later[0], step, rules):
                splits.append(int(later[0, 0]))
    bad = {WRONG_UNIT: wrong, BAD_TICK: ticks}
    return {why: np.array(rows, dtype=np.int64) - known for why, rows in bad.items()}, tuple(splits), undecided


def _odd_places(own: FloatArray, step: int, rules: QualityParams) -> IntArray:
    """Rows that are not simply accepted if the row before them is."""
    level, high, low, close = own[:-1, 4], own[1:, 2], own[1:, 3], own[1:, 4]
    odd = (high > rules.max_jump * level) | (level > rules.max_jump * low)  # the close lies between the two
    silent = np.flatnonzero(np.diff(own[:, 0]) - step >= rules.reuse_gap_hours * _HOUR_MS)
    odd[silent] |= _apart(close[silent], level[silent], rules.reuse_jump)
    places: IntArray = np.flatnonzero(odd) + 1
    return places


def _reused(last: FloatArray, row: FloatArray, step: int, rules: QualityParams) -> bool:
    silence = row[0] - last[0] - step
    return bool(silence >= rules.reuse_gap_hours * _HOUR_MS and _apart(row[4], last[4], rules.reuse_jump))


def _apart(price: Any, level: Any, factor: float) -> Any:
    """Whether one is more than ``factor`` times the other."""
    return (price > factor * level) | (level > factor * price)


def _rejected(table: FloatArray, reason: npt.NDArray[np.object_], which: BoolArray) -> pd.DataFrame:
    times = table[which, 0]
    sayable = np.isfinite(times) & (times >= 0) & (times <= _LAST_MS)
    whole = np.where(sayable, times, 0).astype("datetime64[ms]")
    whole[~sayable] = np.datetime64("NaT")
    order = np.argsort(whole, kind="stable")  # NaT goes last
    stamps = pd.Series(pd.DatetimeIndex(whole[order]).tz_localize("UTC").astype(bars.TIMESTAMP_DTYPE))
    return pd.DataFrame({"timestamp": stamps, "reason": pd.Series(reason[which][order], dtype="str")})
