"""Sums over time from which every pair of a universe is tested, without going through time again.

Written for v, a series freed of its deterministic terms, its differences d_t = v_t - v_{t-1}, times 0..T-1:

- per series: Σv², the lagged sums R_l = Σ_t d_t·d_{t-l} for l = 0..p, and what stands at both ends;
- per two series: Σuv, and C_l(u, v) = Σ_t (du_t·dv_{t-l} + dv_t·du_{t-l}), which serves both directions.

C_l comes from a co-spectrum summed over blocks. A block of H = F - 2p differences of u, with p zeros on either
side, meets the same block of v with its p true neighbours on either side, so that the circular correlation of
length F is the true one for |l| ≤ p. Its real part is all that C_l needs, hence per frequency one real matrix
product whose inner dimension runs over the blocks; a cosine transform gives the lags. As cos(π·l - a) is ±cos(a),
frequencies f and F/2 - f are added for the even lags and subtracted for the odd ones first.

A series stands in one lane from beginning to end, so its sums, and those of two series, do not depend on what other
series there are.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.lanes import WIDTH, fma, fnma, load, splat, store, where_less
from mntrading.core.mackinnon import Trend
from mntrading.core.residual_tests import NO_VARIATION
from mntrading.core.types import BoolArray, FloatArray

# rows of Panel.series before the lagged sums
SQUARES, TOTAL, LAST, LAGGED = 0, 1, 2, 3

COLUMNS: Final = 2 * WIDTH
"""A panel's columns come in so many: a matrix product makes them at a time, from eight rows."""

_DEPTH: Final = 256  # rows of a matrix product's factors that stay in the first cache
_TRENDS: Final = {"n": 0, "c": 1, "ct": 2}


@dataclass(frozen=True)
class Blocks:
    """How the differences of a window are cut for the co-spectrum.

    Parameters
    ----------
    n_bars
        Length of the window, T.
    n_lags
        Lags wanted, p + 1.
    fft
        Length of a transform, F.
    """

    n_bars: int
    n_lags: int
    fft: int

    @classmethod
    def cheapest(cls, n_bars: int, n_lags: int) -> Blocks:
        """The length of transform that costs a pair of series the fewest operations."""
        least = math.ceil(math.log2(4 * n_lags))
        cuts = [cls(n_bars, n_lags, 2**power) for power in range(least, least + 4)]
        return min(cuts, key=lambda cut: cut.frequencies * (4 * cut.count + n_lags))

    @property
    def frequencies(self) -> int:
        """Frequencies of a transform of real numbers."""
        return self.fft // 2 + 1

    @property
    def step(self) -> int:
        """Differences a block advances by, H."""
        return self.fft - 2 * (self.n_lags - 1)

    @property
    def count(self) -> int:
        """Blocks in the window."""
        return max(1, -(-(self.n_bars - 1) // self.step))

    def cosines(self) -> tuple[FloatArray, FloatArray]:
        """What turns a folded co-spectrum into C_l: (F/4 + 1 × even lags) and (F/4 × odd lags), padded to eights."""
        quarter = self.fft // 4
        weight = np.full(quarter + 1, 4.0 / self.fft)
        weight[0] = 2.0 / self.fft
        both = []
        for parity, n in ((0, quarter + 1), (1, quarter)):
            lags = np.arange(parity, self.n_lags, 2)
            angle = 2.0 * np.pi / self.fft * (np.arange(n)[:, None] * lags % self.fft)
            matrix = np.zeros((n, -(-len(lags) // WIDTH) * WIDTH))
            matrix[:, : len(lags)] = np.cos(angle) * weight[:n, None]
            both.append(matrix)
        return both[0], both[1]


@dataclass(frozen=True)
class Panel:
    """Sums of n series over one window; time runs down, series run across, padded with empty ones to w columns.

    Parameters
    ----------
    levels
        v (T × w).
    mean, slope
        What was taken out (n,), the slope per bar; 0 where the trend has none.
    testable
        False for a series without variation (w,).
    series
        By row, then some empty rows: Σv²; total sum of squares; last level; R_l for l = 0..p; levels 0..p;
        differences at times 0..p, the first one 0; differences at times T-1, T-2, …, T-1-p.
    padded, neighboured
        Transforms of the blocks (frequencies × 2·blocks × w), the real parts before the imaginary ones, with zeros
        on either side and with the true neighbours.
    """

    levels: FloatArray
    mean: FloatArray
    slope: FloatArray
    testable: BoolArray
    series: FloatArray
    padded: FloatArray
    neighboured: FloatArray

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def level(self) -> FloatArray:
        """Value at time 0 of the line taken out (n,), where the trend is 1 on the window's first bar."""
        return self.mean - self.slope * (len(self.levels) + 1) / 2.0


def panel_of(values: FloatArray, trend: Trend, blocks: Blocks) -> Panel:
    """Sums of the series (T × n) over their window."""
    n_bars, n_series = values.shape
    width = -(-n_series // COLUMNS) * COLUMNS
    levels = np.zeros((n_bars, width))
    levels[:, :n_series] = values
    n_lags, lags = blocks.n_lags, blocks.n_lags - 1
    series, found = np.zeros((LAGGED + 4 * n_lags + WIDTH, width)), np.empty((3, width))
    # differences with p zeros before the first, and enough after the last for what is read beyond it
    steps = np.zeros((2 * lags + max(blocks.count * blocks.step, n_bars) + WIDTH, width))
    _sum_series(levels, _TRENDS[trend], steps, n_lags, series, found)
    mean, slope, spread = found
    testable = (spread > 0.0) & (series[SQUARES] > (NO_VARIATION * series[TOTAL] if trend == "ct" else -1.0))
    transforms = np.empty((2, blocks.frequencies, 2 * blocks.count, width))
    angle = 2.0 * np.pi / blocks.fft * np.arange(blocks.fft // 2)
    _transform(steps, lags, blocks.step, blocks.count, np.cos(angle), -np.sin(angle), transforms[0], transforms[1])
    return Panel(levels, mean[:n_series], slope[:n_series], testable, series, transforms[0], transforms[1])


def gram(rows: Panel, columns: Panel) -> FloatArray:
    """Σuv of every two series (w × w'); what is below the diagonal of a panel with itself is not to be used."""
    out = np.zeros((rows.levels.shape[1], columns.levels.shape[1]))
    _multiply(rows.levels, columns.levels, rows is columns, out, 0, out.shape[1])
    return out


class CrossSums:
    """C_l of every two series of two panels.

    Parameters
    ----------
    blocks
        How the panels' windows were cut.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._cosines = blocks.cosines()
        self._kept = threading.local()  # memory of the thread's last tile, which is dear to get anew

    def __call__(self, rows: Panel, columns: Panel) -> FloatArray:
        """(p + 1 lags or some more × w × w'), below the diagonal as for ``gram``; good until the thread's next call."""
        m, n = rows.levels.shape[1], columns.levels.shape[1]
        even, odd = self._cosines
        sizes = (2 * len(even) * m * n, 2 * even.shape[1] * m * n, 2 * m * n)
        memory = getattr(self._kept, "memory", None)
        if memory is None or len(memory) < sum(sizes):
            memory = self._kept.memory = np.empty(sum(sizes))
        folded, out, pair = np.split(memory[: sum(sizes)], np.cumsum(sizes[:2]))
        folded, out = folded.reshape(2, len(even), m * n), out.reshape(-1, m * n)
        _co_spectrum(rows.padded, columns.neighboured, rows is columns, folded, pair.reshape(2, m, n))
        out[:] = 0.0
        _multiply(even, folded[0], False, out, 0, 2 * m * n)
        _multiply(odd, folded[1, : len(odd)], False, out, m * n, 2 * m * n)
        return out.reshape(-1, m, n)


# --- kernels ---


@compiled
def _sum_series(
    levels: FloatArray, trend: int, steps: FloatArray, n_lags: int, series: FloatArray, found: FloatArray
) -> None:
    """Take the trend out of ``levels`` in place; write differences, sums, and mean, slope and spread."""
    n_bars, width = levels.shape
    nothing, length = splat(0.0), splat(float(n_bars))
    centre = (n_bars - 1) / 2.0
    time_squares = splat(max((float(n_bars) ** 3 - float(n_bars)) / 12.0, 1.0))
    for c in range(0, width, WIDTH):
        first = load(levels, c)
        low, high, mean, slope = first, first, nothing, nothing
        for t in range(n_bars):
            v = load(levels, t * width + c)
            low, high = where_less(v, low, v, low), where_less(high, v, v, high)
        if trend > 0:
            mean = first
            for _ in range(2):
                total = nothing
                for t in range(n_bars):
                    total = total + (load(levels, t * width + c) - mean)
                mean = mean + total / length
        total = nothing
        for t in range(n_bars):
            v = load(levels, t * width + c) - mean
            store(levels, t * width + c, v)
            total = fma(v, v, total)
        squares = total
        if trend > 1:
            for _ in range(2):
                moment = nothing
                for t in range(n_bars):
                    moment = fma(splat(t - centre), load(levels, t * width + c), moment)
                step = moment / time_squares
                slope = slope + step
                for t in range(n_bars):
                    at = t * width + c
                    store(levels, at, fnma(step, splat(t - centre), load(levels, at)))
            squares = nothing
            for t in range(n_bars):
                v = load(levels, t * width + c)
                squares = fma(v, v, squares)
        store(series, SQUARES * width + c, squares)
        store(series, TOTAL * width + c, total)
        before = load(levels, c)
        for t in range(1, n_bars):
            v = load(levels, t * width + c)
            store(steps, (n_lags + t - 2) * width + c, v - before)
            before = v
        store(series, LAST * width + c, before)
        _own_lags(steps, c, n_lags, n_bars - 1, series)
        for k in range(n_lags):
            to = (LAGGED + n_lags + k) * width + c
            store(series, to, load(levels, k * width + c))
            store(series, to + n_lags * width, nothing if k == 0 else load(steps, (n_lags + k - 2) * width + c))
            store(series, to + 2 * n_lags * width, load(steps, (n_lags + n_bars - 3 - k) * width + c))
        store(found, c, mean)
        store(found, width + c, slope)
        store(found, 2 * width + c, high - low)


@compiled
def _own_lags(steps: FloatArray, c: int, n_lags: int, n_steps: int, series: FloatArray) -> None:
    """R_l of eight series, eight lags at a time."""
    width = steps.shape[1]
    nothing = splat(0.0)
    for lag in range(0, n_lags, 8):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = nothing
        for k in range(n_steps - lag):
            back = (n_lags - 1 + k) * width + c
            at = back + lag * width
            d = load(steps, back)
            s0, s1 = fma(d, load(steps, at), s0), fma(d, load(steps, at + width), s1)
            s2, s3 = fma(d, load(steps, at + 2 * width), s2), fma(d, load(steps, at + 3 * width), s3)
            s4, s5 = fma(d, load(steps, at + 4 * width), s4), fma(d, load(steps, at + 5 * width), s5)
            s6, s7 = fma(d, load(steps, at + 6 * width), s6), fma(d, load(steps, at + 7 * width), s7)
        # lags beyond the last are written over by what follows in the rows
        to = (LAGGED + lag) * width + c
        store(series, to, s0)
        store(series, to + width, s1)
        store(series, to + 2 * width, s2)
        store(series, to + 3 * width, s3)
        store(series, to + 4 * width, s4)
        store(series, to + 5 * width, s5)
        store(series, to + 6 * width, s6)
        store(series, to + 7 * width, s7)


@compiled
def _transform(
    steps: FloatArray,
    lags: int,
    step: int,
    count: int,
    cosine: FloatArray,
    sine: FloatArray,
    padded: FloatArray,
    neighboured: FloatArray,
) -> None:
    """Transform every block of eight series at a time: the padded block as the real part, the other as imaginary."""
    width, half = steps.shape[1], len(cosine)
    fft = 2 * half
    re, im = np.empty(fft * WIDTH), np.empty(fft * WIDTH)
    swapped = np.zeros(fft, dtype=np.int64)  # bits of the position in reverse
    for k in range(fft):
        swapped[k] = swapped[k >> 1] >> 1 | (half if k & 1 else 0)
    nothing, one_half = splat(0.0), splat(0.5)
    for c in range(0, width, WIDTH):
        for block in range(count):
            for k in range(fft):
                v = load(steps, (block * step + k) * width + c)
                store(im, swapped[k] * WIDTH, v)
                store(re, swapped[k] * WIDTH, v if lags <= k < lags + step else nothing)
            size = 1
            while size < fft:
                for k in range(size):
                    w_re, w_im = splat(cosine[k * (half // size)]), splat(sine[k * (half // size)])
                    for first in range(k * WIDTH, fft * WIDTH, 2 * size * WIDTH):
                        second = first + size * WIDTH
                        b_re, b_im = load(re, second), load(im, second)
                        x = fnma(w_im, b_im, w_re * b_re)
                        y = fma(w_im, b_re, w_re * b_im)
                        a_re, a_im = load(re, first), load(im, first)
                        store(re, first, a_re + x)
                        store(im, first, a_im + y)
                        store(re, second, a_re - x)
                        store(im, second, a_im - y)
                size *= 2
            for f in range(half + 1):
                low, high = f % fft * WIDTH, (fft - f) % fft * WIDTH
                at = (f * 2 * count + block) * width + c
                beyond = at + count * width
                store(padded, at, one_half * (load(re, low) + load(re, high)))
                store(padded, beyond, one_half * (load(im, low) - load(im, high)))
                store(neighboured, at, one_half * (load(im, low) + load(im, high)))
                store(neighboured, beyond, one_half * (load(re, high) - load(re, low)))


@compiled
def _co_spectrum(
    padded: FloatArray, neighboured: FloatArray, upper: bool, folded: FloatArray, pair: FloatArray
) -> None:
    """Real part of the co-spectrum of every two series, frequencies f and F/2 - f added and subtracted."""
    half = len(padded) - 1
    n = folded.shape[2]
    for f in range(half // 2 + 1):
        pair[:] = 0.0
        _multiply(padded[f], neighboured[f], upper, pair[0], 0, pair.shape[2])
        if 2 * f < half:
            _multiply(padded[half - f], neighboured[half - f], upper, pair[1], 0, pair.shape[2])
        for at in range(0, n, WIDTH):
            a, b = load(pair, at), load(pair, n + at)
            store(folded, f * n + at, a + b)
            store(folded, (half // 2 + 1 + f) * n + at, a - b)


@compiled
def _multiply(a: FloatArray, b: FloatArray, upper: bool, out: FloatArray, place: int, stride: int) -> None:
    """Add aᵀb to ``out``, which starts at number ``place`` and has rows ``stride`` apart.

    Both factors have the inner dimension first; a has a multiple of 8 columns, b of 16. ``upper``: leave out what is
    wholly below the diagonal. Every element is summed in the same order, wherever it stands.
    """
    depth, m = a.shape
    n = b.shape[1]
    for top in range(0, depth, _DEPTH):
        bottom = min(top + _DEPTH, depth)
        for j in range(0, n, 2 * WIDTH):
            for i in range(0, min(m, j + 2 * WIDTH) if upper else m, 8):
                at, right = place + i * stride + j, place + i * stride + j + WIDTH
                c00, c01 = load(out, at), load(out, right)
                c10, c11 = load(out, at + stride), load(out, right + stride)
                c20, c21 = load(out, at + 2 * stride), load(out, right + 2 * stride)
                c30, c31 = load(out, at + 3 * stride), load(out, right + 3 * stride)
                c40, c41 = load(out, at + 4 * stride), load(out, right + 4 * stride)
                c50, c51 = load(out, at + 5 * stride), load(out, right + 5 * stride)
                c60, c61 = load(out, at + 6 * stride), load(out, right + 6 * stride)
                c70, c71 = load(out, at + 7 * stride), load(out, right + 7 * stride)
                for k in range(top, bottom):
                    x, y = load(b, k * n + j), load(b, k * n + j + WIDTH)
                    s = splat(a[k, i])
                    c00, c01 = fma(s, x, c00), fma(s, y, c01)
                    s = splat(a[k, i + 1])
                    c10, c11 = fma(s, x, c10), fma(s, y, c11)
                    s = splat(a[k, i + 2])
                    c20, c21 = fma(s, x, c20), fma(s, y, c21)
                    s = splat(a[k, i + 3])
                    c30, c31 = fma(s, x, c30), fma(s, y, c31)
                    s = splat(a[k, i + 4])
                    c40, c41 = fma(s, x, c40), fma(s, y, c41)
                    s = splat(a[k, i + 5])
                    c50, c51 = fma(s, x, c50), fma(s, y, c51)
                    s = splat(a[k, i + 6])
                    c60, c61 = fma(s, x, c60), fma(s, y, c61)
                    s = splat(a[k, i + 7])
                    c70, c71 = fma(s, x, c70), fma(s, y, c71)
                store(out, at, c00)
                store(out, right, c01)
                store(out, at + stride, c10)
                store(out, right + stride, c11)
                store(out, at + 2 * stride, c20)
                store(out, right + 2 * stride, c21)
                store(out, at + 3 * stride, c30)
                store(out, right + 3 * stride, c31)
                store(out, at + 4 * stride, c40)
                store(out, right + 4 * stride, c41)
                store(out, at + 5 * stride, c50)
                store(out, right + 5 * stride, c51)
                store(out, at + 6 * stride, c60)
                store(out, right + 6 * stride, c61)
                store(out, at + 7 * stride, c70)
                store(out, right + 7 * stride, c71)
