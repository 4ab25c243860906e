"""Hostile batches of raw rows through the judge and the store, held against the contract in plain words.

python tests/faults/fuzz_bars.py --batches 10000
"""

from __future__ import annotations

import math
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import fsspec
import fuzzing
import numpy as np
from hypothesis import strategies as st

from mntrading.core.bars import bars_from_rows, timeframe_ms, times_ms
from mntrading.core.quality import Judged, judge
from mntrading.core.types import FloatArray
from mntrading.datasets import BarsDataset, BarsUpdate
from mntrading.params import QualityParams

Judge = Callable[..., Judged]
Row = tuple[float, ...]

SYMBOL = "FUZZ/USDT"
T0 = 1_735_689_600_000
STORED_EVERY = 10  # one batch in so many goes through the store: that is the slow part
FAULTS = (
    "nan", "no time", "inf", "-inf", "negative", "zero", "low above close", "high below open", "negative volume",
    "off grid", "duplicate", "masked", "conflict", "unit", "tick", "microseconds", "1970",
)  # fmt: skip


# ------------------------------------------------------------------------------------ making batches


@dataclass(frozen=True)
class Stretch:
    """Bars of one level, in one unit, after a silence."""

    length: int
    unit: float
    silence: int


@dataclass(frozen=True)
class Batch:
    """Raw rows as a source might answer them, and how they are to be judged."""

    timeframe: str
    rows: FloatArray
    rules: QualityParams
    final: bool
    n_before: int
    n_after: int
    spotless: bool
    goes_to_store: bool


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """A clean random path in stretches, and then whatever can be wrong with it."""
    timeframe = draw(st.sampled_from(["1m", "5m", "1h", "1d"]))
    step = timeframe_ms(timeframe)
    units = st.sampled_from([1.0] * 6 + [3.5, 0.25, 19.0, 21.0, 100.0, 1000.0, 0.001, 1e-9])
    silences = st.sampled_from([0, 0, 0, 0, 1, 5, 23, 24, 25, 1500])
    stretches = draw(st.lists(st.builds(Stretch, st.integers(1, 12), units, silences), max_size=6))
    magnitude = 10.0 ** draw(st.integers(-12, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    clean: list[list[float]] = []
    place, level = 0, magnitude
    for stretch in stretches:
        place += stretch.silence
        for _ in range(stretch.length):
            opened, level = level, level * math.exp(rng.normal(0, 0.02))
            low, high = min(opened, level) * (1 - 0.01 * rng.random()), max(opened, level) * (1 + 0.01 * rng.random())
            prices = [price * stretch.unit for price in (opened, high, low, level)]
            clean.append([T0 + place * step, *prices, float(rng.integers(0, 1000))])
            place += 1
    rows = list(clean)
    faults = draw(st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 10**6)), max_size=8)) if clean else []
    for fault, where in faults:
        rows = _spoil(rows, fault, where % len(rows), where % 5 + 1, step)
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    order = draw(st.sampled_from(["sorted", "reversed", "shuffled", "late"]))
    if order == "reversed":
        table = table[::-1]
    elif order == "shuffled":
        table = table[rng.permutation(len(table))]
    elif order == "late" and len(table):
        table = np.roll(table, int(rng.integers(len(table))), axis=0)
    rules = QualityParams(
        max_jump=20.0,
        confirm_bars=draw(st.integers(1, 12)),
        reuse_gap_hours=draw(st.sampled_from([0.5, 24.0])),
        reuse_jump=3.0,
    )
    spotless = not faults and all(s.unit == 1.0 for s in stretches)
    return Batch(
        timeframe=timeframe,
        rows=table,
        rules=rules,
        final=draw(st.booleans()),
        n_before=draw(st.integers(0, 3)),
        n_after=draw(st.integers(0, 4)),
        spotless=spotless,
        goes_to_store=draw(st.integers(1, STORED_EVERY)) == STORED_EVERY,
    )


def _spoil(rows: list[list[float]], fault: str, where: int, column: int, step: int) -> list[list[float]]:
    """The rows with one of them, or another one beside it, not as it should be."""
    row = list(rows[where])
    spoilt = list(row)
    extra: list[list[float]] = []
    if fault == "nan":
        spoilt[column] = math.nan
    elif fault == "no time":
        spoilt[0] = math.nan
    elif fault == "inf":
        spoilt[column] = math.inf
    elif fault == "-inf":
        spoilt[column] = -math.inf
    elif fault == "negative":
        spoilt[1 + column % 4] *= -1
    elif fault == "zero":
        spoilt[1 + column % 4] = 0.0
    elif fault == "low above close":
        spoilt[3] = row[4] * 1.5
    elif fault == "high below open":
        spoilt[2] = row[1] * 0.5
    elif fault == "negative volume":
        spoilt[5] = -1.0
    elif fault == "off grid":
        extra = [[row[0] + 1000.0 * column, *row[1:]]]
    elif fault == "duplicate":
        extra = [row] * column
    elif fault == "masked":
        extra = [[row[0], *[math.nan] * 5]]
    elif fault == "conflict":
        extra = [[row[0], *(price * 1.01 for price in row[1:5]), row[5]]]
    elif fault == "unit":
        spoilt[1:5] = [price * (1000.0, 0.001, 100.0, 1e6, 30.0)[column - 1] for price in row[1:5]]
    elif fault == "tick":
        spoilt[2 if column % 2 else 3] = row[4] * (1000.0 if column % 2 else 0.001)
    elif fault == "microseconds":
        spoilt[0] = row[0] * 1000.0
    elif fault == "1970":
        spoilt[0] = -step * float(column)
    return [*rows[:where], *extra, spoilt, *rows[where + 1 :]]


# ------------------------------------------------------------------------------------ what must hold


@dataclass
class Figures:
    """What came of all batches."""

    counts: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """One line for people and logs."""
        c = self.counts
        return (
            f"fuzz-bars: {c['batches']} batches, {c['rows in']} rows in, {c['stored']} stored, "
            f"{c['rejected']} rejected, {c['pending']} pending, {c['splits']} splits; invalid stored {c['invalid']}; "
            f"{c['reloaded']} batches through the store"
        )


def violations(stored: list[Row], timeframe: str) -> list[str]:
    """What is wrong with stored rows, by the data contract as it is written down."""
    step = {"1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": 86_400_000}[timeframe]
    wrong = []
    for k, (when, open_, high, low, close, volume) in enumerate(stored):
        if any(math.isnan(x) or math.isinf(x) for x in stored[k]):
            wrong.append(f"row {k} has a number that is not finite")
            continue
        if int(when) != when or int(when) % step:
            wrong.append(f"row {k} is off the grid")
        if not 0 <= when < 9.2e12:
            wrong.append(f"row {k} is of no time a timestamp can say")
        if min(open_, high, low, close) <= 0:
            wrong.append(f"row {k} has a price that is not positive")
        if low > open_ or low > close or high < open_ or high < close:
            wrong.append(f"row {k} has its open or close outside low..high")
        if volume < 0:
            wrong.append(f"row {k} has a negative volume")
        if k and when <= stored[k - 1][0]:
            wrong.append(f"row {k} is not later than the one before")
    return wrong


def examine(batch: Batch, figures: Figures, judge_rows: Judge = judge) -> list[str]:
    """Judge one batch and say what does not hold of the answer."""
    before, rows, after = _known_ends(batch)
    judged = judge_rows(
        rows, batch.timeframe, before=before, after=after, rules=batch.rules, final=batch.final
    )  # fmt: skip
    stored = _as_tuples(judged.rows)
    given = list(dict.fromkeys(_as_tuples(rows)))
    wrong = violations(stored, batch.timeframe)
    figures.counts["invalid"] += len(wrong)
    wrong += [f"{row} was never given" for row in stored if row not in set(given)]
    wrong += _not_exactly_once(batch, judged, given, stored, _as_tuples(before) + _as_tuples(after))
    wrong += _jumps(batch, judged, _as_tuples(before[-1:]) + stored, _as_tuples(after[:1]))
    if batch.spotless and (len(judged.rejected) or judged.pending_from is not None or judged.splits):
        wrong.append("something was found in a batch that is spotless")
    if batch.final and judged.pending_from is not None:
        wrong.append("rows are pending though nothing more comes")

    counts = figures.counts
    counts.update({"batches": 1, "rows in": len(rows), "stored": len(stored), "splits": len(judged.splits)})
    counts["rejected"] += len(judged.rejected)
    counts["pending"] += sum(judged.pending_from is not None and row[0] >= judged.pending_from for row in given)
    if batch.goes_to_store and stored:
        counts["reloaded"] += 1
        again = through_the_store(judged.rows, batch.timeframe)
        if again != stored:
            wrong.append("the store gives back other rows than were put in")
        wrong += [f"from the store: {what}" for what in violations(again, batch.timeframe)]
    return wrong


def through_the_store(rows: FloatArray, timeframe: str) -> list[Row]:
    """Rows saved in a store of their own and loaded again."""
    folder = f"memory://fuzz/{uuid.uuid4().hex}"
    dataset = BarsDataset(path=f"{folder}/bars.parquet", timeframe=timeframe)
    dataset.save(BarsUpdate("fuzz", {SYMBOL: bars_from_rows(rows, SYMBOL)}))
    frame = dataset.load()[SYMBOL]
    fsspec.filesystem("memory").rm(folder, recursive=True)
    values = frame[["open", "high", "low", "close", "volume"]].to_numpy(dtype=np.float64)
    return _as_tuples(np.column_stack([times_ms(frame["timestamp"]), values]))


def _known_ends(batch: Batch) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows stored before, rows to judge, rows stored after: the ends of the batch, where they are good."""
    good = sorted(
        (row for row in dict.fromkeys(_as_tuples(batch.rows)) if not violations([row], batch.timeframe)),
        key=lambda row: row[0],
    )
    before, after = good[: batch.n_before], good[len(good) - batch.n_after :] if batch.n_after else []
    if len(good) < batch.n_before + batch.n_after or len({row[0] for row in good}) < len(good):
        before, after = [], []
    return np.array(before).reshape(-1, 6), batch.rows, np.array(after).reshape(-1, 6)


def _as_tuples(rows: FloatArray) -> list[Row]:
    """Rows that compare and hash: NaN is one object, minus zero is zero."""
    return [tuple(math.nan if math.isnan(x) else x + 0.0 for x in row) for row in rows.tolist()]


def _not_exactly_once(batch: Batch, judged: Judged, given: list[Row], stored: list[Row], known: list[Row]) -> list[str]:
    """Rows with a time that are not stored, rejected or pending, or more than one of these."""
    wrong = []
    since = math.inf if judged.pending_from is None else judged.pending_from
    said = judged.rejected["timestamp"]
    n_rejected = Counter(times_ms(said[said.notna()]).tolist())
    n_stored = Counter(int(row[0]) for row in stored)
    timed = [row for row in given if math.isfinite(row[0]) and 0 <= row[0] < 9.2e12]
    n_given = Counter(int(row[0]) for row in timed if row not in set(known))
    for when in n_given.keys() | n_rejected.keys() | n_stored.keys():
        waits = when >= since
        if waits and (n_stored[when] or n_rejected[when]):
            wrong.append(f"{when} is pending, and stored or rejected")
        if not waits and n_stored[when] + n_rejected[when] != n_given[when]:
            wrong.append(f"{when}: {n_given[when]} given, {n_stored[when]} stored, {n_rejected[when]} rejected")
    n_timeless = sum(row not in timed and not row[0] >= since for row in given)
    if int(said.isna().sum()) != n_timeless:
        wrong.append(f"{n_timeless} rows without a time, {int(said.isna().sum())} rejected without one")
    if (judged.rejected["reason"] == "").any():
        wrong.append("a row is rejected without a reason")
    if times_ms(said[said.notna()]).tolist() != sorted(times_ms(said[said.notna()]).tolist()):
        wrong.append("rejected rows are not sorted")
    return wrong


def _jumps(batch: Batch, judged: Judged, listing: list[Row], following: list[Row]) -> list[str]:
    """Jumps inside what is taken for one coin, and splits where nothing begins."""
    wrong = []
    if judged.pending_from is None:
        listing = listing + following
    splits = set(judged.splits)
    if list(judged.splits) != sorted(splits):
        wrong.append("splits are not sorted, or said twice")
    if not splits <= {row[0] for row in listing[1:]}:
        wrong.append("a split is at no row, or at the first one")
    step = timeframe_ms(batch.timeframe)
    for k in range(1, len(listing)):
        old, new = listing[k - 1], listing[k]
        ratio = max(new[4], old[4]) / min(new[4], old[4])
        silent_hours = (new[0] - old[0] - step) / 3.6e6
        if new[0] not in splits:
            own = new not in following
            if ratio > batch.rules.max_jump:
                wrong.append(f"close jumps by {ratio:.3g} at {new[0]}")
            if own and max(new[2] / old[4], old[4] / new[3]) > batch.rules.max_jump * (1 + 1e-12):
                wrong.append(f"high or low is out of bounds at {new[0]}")
            if silent_hours >= batch.rules.reuse_gap_hours and ratio > batch.rules.reuse_jump:
                wrong.append(f"price changes by {ratio:.3g} in a silence of {silent_hours} hours at {new[0]}")
        elif ratio <= batch.rules.max_jump and (
            silent_hours < batch.rules.reuse_gap_hours or ratio <= batch.rules.reuse_jump
        ):
            wrong.append(f"a split at {new[0]}, where the price goes on")
    return wrong


# ------------------------------------------------------------------------------------------- running


def fuzz(
    n_batches: int,
    *,
    seed_: int = 0,
    judge_rows: Judge = judge,
    figures: Figures | None = None,
    shrink: bool = True,
) -> Figures:
    """Run batches until all are through or one breaks something, which ``shrink`` makes as small as can be."""
    known = Figures() if figures is None else figures

    fuzzing.draw(batches(), lambda drawn: examine(drawn, known, judge_rows), n_batches, seed_=seed_, shrink=shrink)
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a batch that breaks something is shown, and the exit code is 1."""
    return fuzzing.command_line(__doc__, "batches", 10_000, fuzz, Figures(), arguments)


if __name__ == "__main__":
    sys.exit(main())
