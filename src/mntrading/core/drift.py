"""Is what a model sees still what it was fitted on, and do its probabilities still come true?

Neighbouring 5m rows are nearly copies of each other: two weeks of them may be worth a dozen independent rows, and a
test that counts rows calls every quiet week a drift. So a reference keeps, beside the quantiles of a column, its
*memory*: how many rows make an independent one (the integrated autocorrelation time of the ranks). Shares, distances
and p-values are of effective sample sizes.

Measured on stationary AR(1) columns, reference 40 days and new rows one or two weeks of 5m bars, half-lives of half an
hour to three and a half days, 400 draws each: at a level of 1 % the distance is significant in 0 to 0.5 % of draws,
where a test that counts rows says so in 49 to 100 %; the index alone is above 0.25 in 0 to 21 %.

References
----------
Siddiqi, N. (2006). Credit Risk Scorecards. Wiley (population stability index; 0.1 and 0.25 are its usual limits).

Sokal, A. (1997). Monte Carlo methods in statistical mechanics. In: Functional Integration, NATO ASI 361 (the window);
Wolff, U. (2004). Monte Carlo errors with less errors. Computer Physics Communications, 156, 143-153 (its bias).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mntrading.core.types import FloatArray, IntArray

N_BINS: Final = 10
"""Bins of a reference: what the usual limits of the index are meant for."""

_DIGITS: Final = 6  # significant ones of a stored number: keeps a model's file small
_BLOCKS: Final = 6  # whose means show what wanders through all rows
_SOKAL: Final = 5.0  # the sum of autocorrelations stops at this many memories


@dataclass(frozen=True)
class Bins:
    """Quantile bins of one column over the rows a model was fitted on.

    Parameters
    ----------
    edges
        Increasing, shape (k - 1,). Bin j holds values in ``(edges[j - 1], edges[j]]``; the first and the last are open.
    counts
        Rows in each bin, shape (k,).
    memory
        Rows that make one independent row, at least 1.
    """

    edges: FloatArray
    counts: IntArray
    memory: float

    @property
    def n_independent(self) -> float:
        """Independent rows the reference is worth."""
        return float(self.counts.sum() / self.memory)

    def count(self, values: FloatArray) -> IntArray:
        """Rows of other values in each bin, shape (k,)."""
        place = np.searchsorted(self.edges, values, side="left")
        return np.bincount(place, minlength=len(self.counts)).astype(np.int64)

    def document(self) -> dict[str, Any]:
        """JSON form."""
        return {"edges": self.edges.tolist(), "counts": self.counts.tolist(), "memory": self.memory}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Bins:
        """The bins of their JSON form.

        Raises
        ------
        ValueError
            Counts that do not fit the edges, or a memory below one row.
        """
        edges = np.array(document["edges"], dtype=np.float64)
        counts = np.array(document["counts"], dtype=np.int64)
        memory = float(document["memory"])
        if len(counts) != len(edges) + 1 or not memory >= 1.0 or not counts.sum() > 0:
            raise ValueError(f"{len(counts)} counts for {len(edges)} edges, memory {memory}")
        return cls(edges, counts, memory)


@dataclass(frozen=True)
class PairReference:
    """What a model was fitted on, of one pair: bins of every feature, and of its out-of-fold probabilities.

    Parameters
    ----------
    base_rate, n_independent
        Share of ones among the pair's labels, and the independent ones they are worth.
    memory
        Labelled rows that make one independent surprise, a surprise being an out-of-fold label less its probability;
        at least the rows that share a label.
    features
        By name.
    scores
        None where the pair has no out-of-fold row.
    """

    base_rate: float
    n_independent: float
    memory: float
    features: Mapping[str, Bins]
    scores: Bins | None

    def document(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "base_rate": self.base_rate,
            "n_independent": self.n_independent,
            "memory": self.memory,
            "features": {name: bins.document() for name, bins in self.features.items()},
            "scores": None if self.scores is None else self.scores.document(),
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> PairReference:
        """The reference of its JSON form."""
        scores = document["scores"]
        return cls(
            float(document["base_rate"]),
            float(document["n_independent"]),
            float(document["memory"]),
            {name: Bins.parse(bins) for name, bins in document["features"].items()},
            None if scores is None else Bins.parse(scores),
        )


@dataclass(frozen=True)
class Drift:
    """How far new rows of a column are from its reference.

    Parameters
    ----------
    psi
        Population stability index over the reference's bins; NaN without rows.
    ks
        Largest distance between the two distribution functions at the bins' edges, which is at most the
        Kolmogorov-Smirnov distance; NaN without rows.
    p_value
        Of a distance that large or larger, by effective sample sizes; NaN without rows.
    n_rows, n_independent
        New rows, and what they are worth.
    """

    psi: float
    ks: float
    p_value: float
    n_rows: int
    n_independent: float


def bins_of(values: FloatArray, *, n_bins: int = N_BINS) -> Bins:
    """Quantile bins of a column.

    Look-ahead: uses all values given and nothing else.

    Parameters
    ----------
    values
        Finite, in the order of time, shape (n,), n ≥ 1. Equal quantiles are one edge.
    n_bins
        Most bins.
    """
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    edges = np.unique([_rounded(edge) for edge in edges.tolist()])
    blank = Bins(edges, np.zeros(len(edges) + 1, dtype=np.int64), 1.0)
    return Bins(edges, blank.count(values), _rounded(memory_rows(values)))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def memory_rows(values: FloatArray) -> float:
    """Rows that make one independent row: ``1 + 2·Σ ρ_l`` of the values' ranks, at least 1 and at most n.

    The larger one of two estimates. The sum itself runs to the first lag that is five times what it has come to (Sokal)
    and is corrected for the mean that was taken out (Wolff). It is too small for columns that wander over most of the
    rows; what the means of six blocks differ by, as a share of the ranks' variance, shows those. A constant column has
    memory n: it tells what one row does.

    Parameters
    ----------
    values
        Finite, in the order of time, shape (n,).
    """
    from scipy.fft import next_fast_len
    from scipy.stats import rankdata

    n = len(values)
    ranks = rankdata(values) - (n + 1) / 2
    if n < 2 or not np.ptp(ranks) > 0:
        return float(max(n, 1))
    size = next_fast_len(2 * n, real=True)
    spectrum = np.fft.rfft(ranks, size)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), size)[:n]
    total = 2.0 * np.cumsum(covariance / covariance[0]) - 1.0
    stop = np.flatnonzero(np.arange(n) >= _SOKAL * total)
    window = int(stop[0]) if len(stop) else n - 1
    summed = total[window] * (1.0 + (2.0 * window + 1.0) / n)
    blocks = [block.mean() for block in np.array_split(ranks, min(_BLOCKS, n))]
    between = n / len(blocks) * np.var(blocks, ddof=1) / (covariance[0] / n)
    return float(np.clip(max(summed, between), 1.0, n))


def population_stability(expected: FloatArray, found: FloatArray) -> float:
    """Population stability index ``Σ (found - expected)·ln(found / expected)`` of two lists of positive shares."""
    return float(np.sum((found - expected) * np.log(found / expected)))


def smoothed_shares(counts: IntArray, n_independent: float) -> FloatArray:
    """Shares of bins with half an independent row added to each, so that none is empty by chance alone."""
    added = 0.5 / n_independent
    shares = counts / counts.sum()
    return np.asarray((shares + added) / (1.0 + added * len(counts)), dtype=np.float64)


def compare(reference: Bins, values: FloatArray) -> Drift:
    """Distance of new rows from a reference.

    The memory of the new rows is taken to be that of the reference. The p-value is the asymptotic one of two samples,
    at ``n·m / (n + m)`` independent rows.

    Parameters
    ----------
    reference
        Bins of the rows a model was fitted on.
    values
        Finite values of the new rows, shape (m,).
    """
    from scipy.stats import kstwobign

    m = len(values)
    if m == 0:
        return Drift(float("nan"), float("nan"), float("nan"), 0, 0.0)
    counts = reference.count(values)
    known, worth = reference.n_independent, max(m / reference.memory, 1.0)
    psi = population_stability(smoothed_shares(reference.counts, known), smoothed_shares(counts, worth))
    apart = np.cumsum(reference.counts)[:-1] / reference.counts.sum() - np.cumsum(counts)[:-1] / m
    ks = float(np.abs(apart).max()) if len(apart) else 0.0
    p_value = float(kstwobign.sf(ks * np.sqrt(known * worth / (known + worth))))
    return Drift(psi, ks, p_value, m, m / reference.memory)


def references(
    rows: pd.DataFrame, feature_names: tuple[str, ...], uniqueness: FloatArray, scored: pd.DataFrame
) -> dict[str, PairReference]:
    """The reference of every pair a model was fitted on.

    Pairs are kept apart: what is usual for one is far out for another, and a pool of them would hide a drift of any.

    Look-ahead: uses the rows given and nothing else.

    Parameters
    ----------
    rows
        Rows of the fit in the order of time: ``feature_names``, ``label`` and ``pair_id``.
    feature_names
        Columns the model was fitted on.
    uniqueness
        Of the rows' labels, shape (n,).
    scored
        Out-of-fold rows in the order of time: ``pair_id``, ``label`` and ``probability``.
    """
    told = {str(pair_id): part for pair_id, part in scored.groupby("pair_id")}
    out = {}
    for pair_id, members in sorted((str(key), place) for key, place in rows.groupby("pair_id").indices.items()):
        part = rows.iloc[members]
        columns = part[list(feature_names)].to_numpy(dtype=np.float64)
        answers = told[pair_id]["probability"].to_numpy(dtype=np.float64) if pair_id in told else np.zeros(0)
        shared = len(part) / float(uniqueness[members].sum())
        surprise = memory_rows(told[pair_id]["label"].to_numpy() - answers) if len(answers) else float(len(part))
        memory = _rounded(max(shared, surprise))
        out[pair_id] = PairReference(
            _rounded(float(part["label"].mean())),
            _rounded(len(part) / memory),
            memory,
            {name: bins_of(columns[:, k]) for k, name in enumerate(feature_names)},
            bins_of(answers) if len(answers) else None,
        )
    return out


@dataclass(frozen=True)
class Reliability:
    """Probabilities against what came, over rows whose labels are complete.

    Parameters
    ----------
    predicted, observed
        Mean probability and share of ones.
    gap_error
        Standard error of ``observed - predicted`` if nothing has changed since the fit.
    brier, brier_base
        Brier score of the probabilities, and of the base rate of the rows the model was fitted on.
    gain_error
        Standard error of ``brier_base - brier``.
    n_rows, n_independent
        Rows, and the independent labels they are worth.
    """

    predicted: float
    observed: float
    gap_error: float
    brier: float
    brier_base: float
    gain_error: float
    n_rows: int
    n_independent: float

    @property
    def gap(self) -> float:
        """Share of ones less mean probability."""
        return self.observed - self.predicted

    @property
    def gain(self) -> float:
        """What the probabilities are better than the base rate, in Brier score; negative where they are worse."""
        return self.brier_base - self.brier


def reliability(y: IntArray, probability: FloatArray, *, reference: PairReference, unique: float) -> Reliability:
    """Calibration of new probabilities, every row counted once and standard errors by independent labels.

    Labels overlap, so that neighbouring rows share their outcome, and for weeks a spread may revert more or less than
    usual: rows are worth the sum of their labels' uniqueness (``core.uniqueness``), and no more independent ones than
    the surprises of the training had. The level of the probabilities was learnt from such a sample as well, and the
    standard error of the gap has both in it.

    Parameters
    ----------
    y, probability
        Complete labels and what was told ahead of them, shape (n,).
    reference
        Of the pair: its base rate was known beforehand, unlike that of the new rows.
    unique
        Sum of the labels' uniqueness.
    """
    nan = float("nan")
    if len(y) == 0:
        return Reliability(nan, nan, nan, nan, nan, nan, 0, 0.0)
    n_independent = min(unique, len(y) / reference.memory)
    wrong, wrong_base = (probability - y) ** 2, (reference.base_rate - y) ** 2
    variance = float((probability * (1 - probability)).mean())
    return Reliability(
        float(probability.mean()), float(y.mean()),
        float(np.sqrt(variance * (1 / n_independent + 1 / reference.n_independent))),
        float(wrong.mean()), float(wrong_base.mean()), float((wrong_base - wrong).std() / np.sqrt(n_independent)),
        len(y), n_independent,
    )  # fmt: skip
