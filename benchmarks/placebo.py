"""Whether the screen finds nothing where there is nothing, and what is there where there is something.

    make placebo
    python benchmarks/placebo.py --universes 20 --seed 1

* ``null``: universes of random walks, so that every pair found is a false one. By number of symbols, with and without
  a common factor, and by the kind of increments: Gaussian, fat-tailed, and fat-tailed with a volatility that comes in
  clusters, as that of coins does. Benjamini and Hochberg (BH) at 5 % should find something in 5 % of the universes.
* ``planted``: 20 cointegrated pairs among 435. Which of them are found (power), and which share of what is found is
  false (FDR).

Each by multiple testing alone and by the whole screen with the project's parameters, and again with White's standard
errors (``white``, ``screening.robust``). The last line has the figures; the exit code is 1 when power or FDR miss their
bounds, or the share of null universes with a find is above its own, over all of them or for one kind of increments
by more than chance: of the whole screen, of multiple testing with White's errors, and of multiple testing alone where
volatility is steady. Where it comes in clusters the plain test is known to break it, and the figures say so.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
from scipy.signal import lfilter
from scipy.stats import binomtest

from mntrading.configuration import parameters
from mntrading.core.cointegration import engle_granger_pairs
from mntrading.core.multiple_testing import Method, adjust, direction_adjusted
from mntrading.core.screening import NOT_SIGNIFICANT, SELECTED, Screen, screen
from mntrading.core.types import BoolArray, FloatArray
from mntrading.params import ScreeningParams

Increments = Literal["gaussian", "fat", "clustered"]

N_BARS: Final = 1440  # 60 days
WARM_UP: Final = 500
LEVEL: Final = 0.05
SIZES: Final = (30, 100)
INCREMENTS: Final[tuple[Increments, ...]] = ("gaussian", "fat", "clustered")
METHODS: Final[tuple[Method, ...]] = ("bh", "by", "bonferroni")
WITH_WHITE: Final[tuple[Method, ...]] = ("bh", "by")

PLANTED_TO_NULL: Final = 3  # the FDR is a mean of few large shares
CLUSTERS: Final = (4, 4, 3, 3, 2, 2)  # 6 + 6 + 3 + 3 + 1 + 1 = 20 pairs
HALF_LIFE_HOURS: Final = (4.0, 36.0)
BUCKETS: Final = (4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 30.0, 36.0)
UNCAPPED: Final = {"max_pairs": 10_000, "max_pairs_per_symbol": 10_000}

BOUNDS: Final = {"bh": 0.07, "by": 0.01}  # share of null universes with any pair
MIN_POWER: Final = 0.80
MAX_FDR: Final = 0.10
SURELY: Final = 2.58  # standard errors of a 99 % interval


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def screening_params(**values: object) -> ScreeningParams:
    """The project's parameters of the screen, some of them changed.

    Misses are not described, which takes most of the time and changes nothing that is found.
    """
    block = parameters(Path(__file__).parents[1] / "conf")["screening"]
    return ScreeningParams.model_validate(block.model_dump() | {"n_reported": 0} | values)


# --- universes ---


@dataclass(frozen=True)
class Universe:
    """Log prices (time × symbol), and by unordered pair, in the order of ``np.triu_indices``, its half-life.

    NaN stands for a pair that is not cointegrated.
    """

    log_prices: pd.DataFrame
    half_life_hours: FloatArray

    @property
    def planted(self) -> BoolArray:
        """Which pairs are cointegrated."""
        return np.isfinite(self.half_life_hours)


def shocks(n: int, kind: Increments, rng: np.random.Generator) -> FloatArray:
    """Independent series (T × n) of mean 0 and variance 1.

    ``fat`` draws from Student's t with 4 or 5 degrees of freedom; ``clustered`` lets these pass through a GARCH(1,1).
    GARCH(1,1) with Student's t on 60-day windows of the hourly returns of 100 coins, first half of 2025: weight of the
    last shock 0.13 (10 % to 90 %: 0.08 to 0.21), persistence 0.95 (0.82 to 0.98), 4.9 degrees of freedom (3.7 to 6.0).
    """
    n_drawn = WARM_UP + N_BARS
    if kind == "gaussian":
        return rng.normal(size=(n_drawn, n))
    freedom = rng.choice([4, 5], n)
    drawn: FloatArray = rng.standard_t(freedom, (n_drawn, n)) / np.sqrt(freedom / (freedom - 2))
    if kind == "fat":
        return drawn
    persistence, last = rng.uniform(0.85, 0.98, n), rng.uniform(0.08, 0.20, n)
    variance = np.ones(n)
    for t in range(n_drawn):
        drawn[t] *= np.sqrt(variance)
        variance = 1.0 - persistence + last * drawn[t] ** 2 + (persistence - last) * variance
    return drawn


def walks(n: int, factor: bool, kind: Increments, rng: np.random.Generator) -> FloatArray:
    """Log prices (T × n) that wander alone, but for a market they follow more or less: 0.4 to 1.5 % an hour."""
    steps: FloatArray = shocks(n, kind, rng)[WARM_UP:] * rng.uniform(0.004, 0.015, n)
    if factor:
        steps += shocks(1, kind, rng)[WARM_UP:] * 0.006 * rng.uniform(0.5, 1.5, n)
    return steps.cumsum(axis=0)


def null_universe(n: int, factor: bool, kind: Increments, seed: Iterable[int]) -> Universe:
    """Nothing to find."""
    rng = _generator(n, factor, kind, seed)
    return Universe(_frame(walks(n, factor, kind, rng), rng), np.full(n * (n - 1) // 2, np.nan))


def planted_universe(n: int, factor: bool, kind: Increments, seed: Iterable[int]) -> Universe:
    """Clusters of symbols that follow one walk each, and beside them symbols that wander alone.

    Within a cluster every symbol is the walk times a loading, and a stationary part of its own. All of a cluster's
    parts have one half-life, so a pair's spread, which is made of two of them, has it too. Symbols of two clusters
    have no walk in common. Loadings are such that hedge ratios lie within 1/1.6 and 1.6; a symbol's own part has a
    standard deviation of 0.5 to 1.5 %; half-lives are drawn evenly on a log scale.
    """
    rng = _generator(n, factor, kind, seed)
    alone = n - sum(CLUSTERS)
    bases = walks(len(CLUSTERS) + alone, factor, kind, rng)
    followed = np.repeat(np.arange(len(CLUSTERS)), CLUSTERS)
    shortest, longest = HALF_LIFE_HOURS
    half_lives = (shortest * (longest / shortest) ** rng.random(len(CLUSTERS)))[followed]
    loadings = np.exp(rng.uniform(-0.5, 0.5, len(followed)) * math.log(1.6))
    own = shocks(len(followed), kind, rng) * rng.uniform(0.005, 0.015, len(followed))
    for symbol, half_life in enumerate(half_lives):
        memory = 0.5 ** (1.0 / half_life)
        own[:, symbol] = lfilter([math.sqrt(1.0 - memory**2)], [1.0, -memory], own[:, symbol])
    values = np.column_stack((bases[:, followed] * loadings + own[WARM_UP:], bases[:, len(CLUSTERS) :]))
    owner = np.concatenate((followed, np.arange(len(CLUSTERS), len(CLUSTERS) + alone)))
    first, second = np.triu_indices(n, 1)
    planted = owner[first] == owner[second]
    truth = np.full(len(first), np.nan)
    truth[planted] = half_lives[first[planted]]
    return Universe(_frame(values, rng), truth)


def _generator(n: int, factor: bool, kind: Increments, seed: Iterable[int]) -> np.random.Generator:
    return np.random.default_rng((*seed, n, int(factor), INCREMENTS.index(kind)))


def _frame(values: FloatArray, rng: np.random.Generator) -> pd.DataFrame:
    """Hourly bars of symbols at prices from 1 to 400."""
    n = values.shape[1]
    index = pd.date_range("2025-01-01", periods=len(values), freq="h", unit="ms", tz="UTC", name="timestamp")
    symbols = [f"S{k:03d}/USDT" for k in range(n)]
    return pd.DataFrame(values - values[0] + rng.uniform(0.0, 6.0, n), index=index, columns=symbols)


# --- what is found ---


def p_values(universe: Universe) -> tuple[FloatArray, FloatArray]:
    """p-values of the two directions of every unordered pair, in the order of ``np.triu_indices``."""
    n = universe.log_prices.shape[1]
    table = np.ones((n, n))
    table[~np.eye(n, dtype=bool)] = engle_granger_pairs(universe.log_prices)["p_value"]
    first, second = np.triu_indices(n, 1)
    return table[first, second], table[second, first]


def significant(p: FloatArray, method: Method) -> BoolArray:
    """Pairs found by multiple testing alone."""
    found: BoolArray = adjust(p, method=method) <= LEVEL
    return found


def screened(universe: Universe, params: ScreeningParams) -> Screen:
    """The whole screen, every symbol being traded enough."""
    close = universe.log_prices.transform(np.exp)
    return screen(close, pd.DataFrame(1e7, index=close.index, columns=close.columns), params)


def p_of_screen(universe: Universe, found: Screen) -> FloatArray:
    """p-value of every unordered pair as the screen goes by it, in the order of ``np.triu_indices``.

    Far from significant it is that of the plain test: with White's errors the screen looks again where it matters.
    """
    symbols = universe.log_prices.columns
    table = np.full((len(symbols), len(symbols)), np.nan)
    legs = (symbols.get_indexer(pd.Index(found.tests[leg])) for leg in ("dependent", "independent"))
    first, second = np.sort(np.stack(list(legs)), axis=0)
    table[first, second] = found.tests["p_both_directions"]
    p: FloatArray = table[np.triu_indices(len(symbols), 1)]
    return p


def by_multiple_testing(universe: Universe, white: Screen) -> dict[str, BoolArray]:
    """Pairs found by multiple testing alone, by method, and by the p-values of a screen with White's errors."""
    plain, weaker = direction_adjusted(*p_values(universe)), p_of_screen(universe, white)
    ways = {str(method): significant(plain, method) for method in METHODS}
    return ways | {f"{method} white": significant(weaker, method) for method in WITH_WHITE}


def ends_of(universe: Universe, found: Screen) -> list[str]:
    """By unordered pair, in the order of ``np.triu_indices``, ``selected`` or why not."""
    rows = found.pairs[["dependent", "independent", "verdict", "reason"]].itertuples(index=False)
    ends = {
        frozenset((dependent, independent)): verdict if verdict == SELECTED else reason
        for dependent, independent, verdict, reason in rows
    }
    pairs = itertools.combinations(universe.log_prices.columns, 2)
    return [ends.get(frozenset(pair), NOT_SIGNIFICANT) for pair in pairs]


# --- null ---


@dataclass
class Cell:
    """Null universes of one kind: how many pairs each method found in each of them."""

    n_symbols: int
    factor: bool
    increments: Increments
    finds: dict[str, list[int]] = field(default_factory=dict)

    def add(self, column: str, n_found: int) -> None:
        """Note the find of one universe."""
        self.finds.setdefault(column, []).append(n_found)

    def __str__(self) -> str:
        return f"{self.n_symbols} symbols, {'one factor' if self.factor else 'no factor'}, {self.increments}"


@dataclass
class Calibration:
    """Share of the pairs of null universes with a p-value up to a level: it should be the level.

    ``free`` is the smaller p-value of the two directions, not paid for.
    """

    levels: tuple[float, ...] = (0.05, 0.01, 1e-3, 1e-4, 1e-5)
    pairs: int = 0
    paid: Counter[float] = field(default_factory=Counter)
    free: Counter[float] = field(default_factory=Counter)

    def add(self, forward: FloatArray, backward: FloatArray) -> None:
        """Count the pairs of one universe."""
        smaller, both = np.minimum(forward, backward), direction_adjusted(forward, backward)
        self.pairs += len(both)
        for level in self.levels:
            self.paid[level] += int((both <= level).sum())
            self.free[level] += int((smaller <= level).sum())

    def share(self, level: float, *, paid: bool = True) -> float:
        """Share of the pairs with a p-value up to the level."""
        return (self.paid if paid else self.free)[level] / self.pairs


@dataclass(frozen=True)
class Share:
    """Universes with any find."""

    hits: int
    of: int
    largest: int

    @classmethod
    def over(cls, cells: Iterable[Cell], column: str) -> Share:
        """All universes of the cells together."""
        finds = [n_found for cell in cells for n_found in cell.finds.get(column, ())]
        return cls(sum(n_found > 0 for n_found in finds), len(finds), max(finds, default=0))

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.of if self.of else math.nan

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Where the true share lies, by Clopper and Pearson."""
        found = binomtest(self.hits, self.of).proportion_ci(confidence, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.1%} ({100 * low:.0f}-{100 * high:.0f}) {self.largest:>4}"


def null_cells(
    n_universes: int, seed: int, rules: Mapping[str, ScreeningParams], kinds: Iterable[Increments] = INCREMENTS
) -> tuple[list[Cell], dict[Increments, Calibration]]:
    """Every cell with that many universes; ``rules`` of whole screens by name, ``white`` among them."""
    cells: list[Cell] = []
    calibration: dict[Increments, Calibration] = {}
    for kind, n, factor in itertools.product(kinds, SIZES, (False, True)):
        began = time.perf_counter()
        cell = Cell(n, factor, kind)
        for number in range(n_universes):
            universe = null_universe(n, factor, kind, (seed, number))
            calibration.setdefault(kind, Calibration()).add(*p_values(universe))
            screens = {name: screened(universe, block) for name, block in rules.items()}
            for way, found in by_multiple_testing(universe, screens["white"]).items():
                cell.add(way, int(found.sum()))
            for name, whole in screens.items():
                cell.add(f"screen {name}", len(whole.selected))
        cells.append(cell)
        hits = ", ".join(f"{way} {Share.over([cell], way).hits}" for way in cell.finds)
        say(f"{n_universes} null universes, {cell}: with any pair by {hits}  [{time.perf_counter() - began:.0f} s]")
    return cells, calibration


def null_broken(cells: list[Cell], form: str = "{}") -> list[str]:
    """Promises not kept: the share over all universes, and that of one kind of increments by more than chance.

    ``form`` makes the way of screening of the method's name: ``{} white``, ``screen {}``.
    """
    broken = []
    for method, bound in BOUNDS.items():
        way = form.format(method)
        share = Share.over(cells, way)
        if not share.value <= bound:
            broken.append(f"{way} finds something in {share.value:.1%} of null universes, bound {bound:.0%}")
        for kind in dict.fromkeys(cell.increments for cell in cells):
            share = Share.over([cell for cell in cells if cell.increments == kind], way)
            if share.interval(0.99)[0] > bound:
                broken.append(f"{way} in {share.value:.1%} of those with {kind} increments")
    return broken


# --- planted ---


@dataclass
class Recovery:
    """What one way of screening found of what was planted."""

    found: int = 0
    planted: int = 0
    false_shares: list[float] = field(default_factory=list)
    by_bucket: Counter[int] = field(default_factory=Counter)
    bucket_sizes: Counter[int] = field(default_factory=Counter)

    def add(self, universe: Universe, found: BoolArray) -> None:
        """Count one universe."""
        planted = universe.planted
        self.found += int((found & planted).sum())
        self.planted += int(planted.sum())
        self.false_shares.append(float((found & ~planted).sum() / max(found.sum(), 1)))
        bucket = np.digitize(universe.half_life_hours[planted], BUCKETS[1:-1])
        self.bucket_sizes.update(bucket.tolist())
        self.by_bucket.update(bucket[found[planted]].tolist())

    @property
    def power(self) -> float:
        """Share of the planted pairs that are found."""
        return self.found / self.planted

    @property
    def fdr(self) -> float:
        """Mean over universes of the share of finds that are false."""
        return float(np.mean(self.false_shares))

    @property
    def fdr_error(self) -> float:
        """Standard error of the FDR: where one false pair is found there are often many, as they share legs."""
        return float(np.std(self.false_shares) / math.sqrt(len(self.false_shares)))

    def power_of(self, bucket: int) -> float:
        """Power among the half-lives of one bucket."""
        size = self.bucket_sizes[bucket]
        return self.by_bucket[bucket] / size if size else math.nan


@dataclass
class Planted:
    """Planted universes: what each way of screening found, and where the pairs stopped in the whole screen."""

    universes: int = 0
    ways: dict[str, Recovery] = field(default_factory=dict)
    true_ends: Counter[str] = field(default_factory=Counter)
    false_ends: Counter[str] = field(default_factory=Counter)

    def add(self, way: str, universe: Universe, found: BoolArray) -> None:
        """Count one universe screened that way."""
        self.ways.setdefault(way, Recovery()).add(universe, found)


def planted_universes(
    n_universes: int, seed: int, rules: Mapping[str, ScreeningParams], kinds: Iterable[Increments] = INCREMENTS
) -> Planted:
    """That many universes of 30 symbols of each kind, half of them with a factor; ``rules`` of whole screens by name.

    ``white`` is among them; where the pairs stopped is counted for ``bh``.
    """
    done = Planted()
    for kind in kinds:
        began = time.perf_counter()
        for number in range(n_universes):
            universe = planted_universe(SIZES[0], number % 2 == 1, kind, (seed, number))
            screens = {name: screened(universe, block) for name, block in rules.items()}
            for way, found in by_multiple_testing(universe, screens["white"]).items():
                done.add(way, universe, found)
                done.add(f"{way}, {kind}", universe, found)
            for name, whole in screens.items():
                ends = ends_of(universe, whole)
                done.add(f"screen {name}", universe, np.array([end == SELECTED for end in ends]))
                if name == "bh":
                    for end, true in zip(ends, universe.planted, strict=True):
                        (done.true_ends if true else done.false_ends)[end] += 1
            done.universes += 1
        recovery = done.ways[f"bh, {kind}"]
        say(
            f"{n_universes} planted universes, {kind}: power {recovery.power:.1%}, FDR {recovery.fdr:.1%} by BH"
            f"  [{time.perf_counter() - began:.0f} s]"
        )
    return done


def planted_broken(done: Planted) -> list[str]:
    """Goals missed: over all universes, and the FDR of one kind of increments by more than chance."""
    recovery = done.ways["bh"]
    broken: list[str] = []
    if not recovery.power >= MIN_POWER:
        broken.append(f"power {recovery.power:.1%}, goal {MIN_POWER:.0%}")
    if not recovery.fdr <= MAX_FDR:
        broken.append(f"FDR {recovery.fdr:.1%}, bound {MAX_FDR:.0%}")
    for way, of_kind in done.ways.items():
        if way.startswith("bh, ") and of_kind.fdr - SURELY * of_kind.fdr_error > MAX_FDR:
            broken.append(f"FDR {of_kind.fdr:.1%} for {way.removeprefix('bh, ')} increments")
    return broken


# --- tables ---


def show_null(cells: list[Cell], calibration: dict[Increments, Calibration]) -> None:
    """Shares by kind of increments and over all, and how far the p-values are from what they should be."""
    say("\nnull: share of universes with any pair (95 % interval), largest find")
    columns = list(cells[0].finds)
    say(f"{'':36}" + "".join(f"{column:>20}" for column in columns))
    rows = [(str(cell), [cell]) for cell in cells]
    rows += [(f"all {kind}", [cell for cell in cells if cell.increments == kind]) for kind in calibration]
    for name, group in [*rows, ("all", cells)]:
        say(f"{name:36}" + "".join(f"{Share.over(group, column)!s:>20}" for column in columns))
    levels = next(iter(calibration.values())).levels
    say("\nnull: pairs with a p-value up to the level, as a multiple of it; paid for both directions, and not")
    say(f"{'':22}" + "".join(f"{level:>10g}" for level in levels))
    for kind, found in calibration.items():
        for paid in (True, False):
            multiples = "".join(f"{found.share(level, paid=paid) / level:>10.2f}" for level in levels)
            say(f"{kind + ('' if paid else ', not paid'):22}" + multiples)


def show_planted(done: Planted) -> None:
    """Power and FDR by way of screening, power by half-life, and where pairs stopped."""
    say(f"\nplanted: {done.universes} universes of 20 cointegrated pairs among 435")
    say(f"{'':28}{'power':>8}{'FDR':>8}{'error':>8}")
    for way, recovery in sorted(done.ways.items(), key=lambda item: "," in item[0]):
        say(f"{way:28}{recovery.power:>8.1%}{recovery.fdr:>8.1%}{recovery.fdr_error:>8.1%}")
    ways = ("bh", "by", "bh white", "screen bh")
    say("\npower by half-life, hours")
    say(f"{'':12}{'pairs':>8}" + "".join(f"{way:>10}" for way in ways))
    for bucket, (low, high) in enumerate(itertools.pairwise(BUCKETS)):
        powers = "".join(f"{done.ways[way].power_of(bucket):>10.0%}" for way in ways)
        say(f"{f'{low:.0f} to {high:.0f}':12}{done.ways['bh'].bucket_sizes[bucket]:>8,}" + powers)
    for title, ends in (("planted", done.true_ends), ("other", done.false_ends)):
        if ends:
            say(f"\nwhere {title} pairs end in the whole screen")
            for end, count in ends.most_common():
                say(f"{end:32}{count:>10,}{count / ends.total():>9.2%}")


def main() -> int:
    """Draw, screen, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--universes", type=int, default=200, help="null ones of each of 12 kinds")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.perf_counter()
    by_bh = screening_params(adjustment="bh")
    by_white = screening_params(adjustment="bh", robust=True)
    without_caps = screening_params(adjustment="bh", **UNCAPPED)
    null_rules = {"bh": by_bh, "by": screening_params(adjustment="by"), "white": by_white}
    planted_rules = {"bh": by_bh, "bh without caps": without_caps, "white": by_white}
    cells, calibration = null_cells(asked.universes, asked.seed, null_rules)
    show_null(cells, calibration)
    say("")
    done = planted_universes(PLANTED_TO_NULL * asked.universes, asked.seed, planted_rules)
    show_planted(done)
    bh, by, white, whole = (Share.over(cells, way) for way in ("bh", "by", "bh white", "screen bh"))
    kinds = {kind: [cell for cell in cells if cell.increments == kind] for kind in INCREMENTS}
    by_kind = ", ".join(f"{kind} {Share.over(some, 'bh').value:.1%}" for kind, some in kinds.items())
    plain, robust = done.ways["bh"], done.ways["bh white"]
    steady = [cell for cell in cells if cell.increments != "clustered"]
    broken = [
        *null_broken(cells, "screen {}"),
        *null_broken(cells, "{} white"),
        *null_broken(steady),
        *planted_broken(done),
    ]
    say(
        f"\nplacebo: {whole.of:,} null universes, any pair selected BH {whole.value:.1%} (at most {whole.largest}), "
        f"BY {Share.over(cells, 'screen by').value:.1%}; by multiple testing alone BH {bh.value:.1%} "
        f"({by_kind}; largest find {bh.largest}), BY {by.value:.1%}, BH with White's errors {white.value:.1%}; "
        f"{done.universes:,} planted: power {plain.power:.1%}, FDR {plain.fdr:.1%}, with White's errors "
        f"{robust.power:.1%}, {robust.fdr:.1%}; {time.perf_counter() - began:.0f} s"
        f"{'; BROKEN: ' + ', '.join(broken) if broken else ''}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
