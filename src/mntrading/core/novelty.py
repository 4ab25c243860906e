"""How unlike the training window a row is, and from where on a model should not be believed about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.types import FloatArray


@dataclass(frozen=True)
class Novelty:
    """Distance to the training rows, and the limit beyond which a row is novel.

    Parameters
    ----------
    mean, scale
        Of each feature over the training rows, shape (d,).
    whitener
        Lower triangle L with ``Lᵀ L`` the inverse of the shrunk correlation matrix, shape (d, d).
    limit
        Distance above which a row is novel.
    blocks_entry
        Whether a novel row allows no entry.
    """

    mean: FloatArray
    scale: FloatArray
    whitener: FloatArray
    limit: float
    blocks_entry: bool

    def distance(self, X: FloatArray) -> FloatArray:
        """Mahalanobis distance per feature, ``sqrt(d² / features)``, shape (n,): about 1 on a typical row.

        A row's bits do not depend on the rows beside it.
        """
        return _distance(np.ascontiguousarray(X, dtype=np.float64), self.mean, self.scale, self.whitener)

    def document(self) -> dict[str, Any]:
        """JSON form: the triangle row by row."""
        rows, columns = np.tril_indices(len(self.mean))
        return {
            "mean": self.mean.tolist(), "scale": self.scale.tolist(),
            "whitener": self.whitener[rows, columns].tolist(), "limit": self.limit, "blocks_entry": self.blocks_entry,
        }  # fmt: skip

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Novelty:
        """The gate of its JSON form."""
        mean = np.array(document["mean"], dtype=np.float64)
        whitener = np.zeros((len(mean), len(mean)))
        whitener[np.tril_indices(len(mean))] = document["whitener"]
        scale = np.array(document["scale"], dtype=np.float64)
        return cls(mean, scale, whitener, float(document["limit"]), bool(document["blocks_entry"]))


@compiled
def _distance(X: FloatArray, mean: FloatArray, scale: FloatArray, whitener: FloatArray) -> FloatArray:
    n, d = X.shape
    out = np.empty(n)
    row = np.empty(d)
    for i in range(n):
        for j in range(d):
            row[j] = (X[i, j] - mean[j]) / scale[j]
        total = 0.0
        for j in range(d):
            value = 0.0
            for k in range(j + 1):
                value += whitener[j, k] * row[k]
            total += value * value
        out[i] = np.sqrt(total / d)
    return out


@compiled
def _moments(X: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Mean, deviation, correlation matrix and mean fourth power of the standardised rows' length."""
    n, d = X.shape
    mean = np.zeros(d)
    for i in range(n):
        for j in range(d):
            mean[j] += X[i, j]
    mean /= n
    scale = np.zeros(d)
    for i in range(n):
        for j in range(d):
            scale[j] += (X[i, j] - mean[j]) ** 2
    for j in range(d):
        scale[j] = np.sqrt(scale[j] / n)
        if not scale[j] > 0:
            scale[j] = 1.0
    matrix = np.zeros((d, d))
    row = np.empty(d)
    fourth = 0.0
    for i in range(n):
        square = 0.0
        for j in range(d):
            row[j] = (X[i, j] - mean[j]) / scale[j]
            square += row[j] * row[j]
        fourth += square * square
        for j in range(d):
            for k in range(j + 1):
                matrix[j, k] += row[j] * row[k]
    for j in range(d):
        for k in range(j + 1):
            matrix[j, k] /= n
            matrix[k, j] = matrix[j, k]
    return mean, scale, matrix, fourth / n


@compiled
def _inverse_root(matrix: FloatArray) -> FloatArray:
    """Inverse of the Cholesky factor of a symmetric positive definite matrix, a lower triangle."""
    d = matrix.shape[0]
    factor = np.zeros((d, d))
    for j in range(d):
        for i in range(j, d):
            value = matrix[i, j]
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            factor[i, j] = np.sqrt(value) if i == j else value / factor[j, j]
    inverse = np.zeros((d, d))
    for j in range(d):
        inverse[j, j] = 1.0 / factor[j, j]
        for i in range(j + 1, d):
            value = 0.0
            for k in range(j, i):
                value -= factor[i, k] * inverse[k, j]
            inverse[i, j] = value / factor[i, i]
    return inverse


def shrinkage(correlation: FloatArray, fourth: float, n_independent: float) -> float:
    """Ledoit and Wolf's weight of the identity, for rows that are worth ``n_independent`` independent ones."""
    d = len(correlation)
    centre = float(np.trace(correlation)) / d
    apart = float(((correlation - centre * np.eye(d)) ** 2).sum())
    noise = (fourth - float((correlation**2).sum())) / n_independent
    return 1.0 if apart <= 0 else float(min(max(noise / apart, 0.0), 1.0))


def fit_novelty(
    X: FloatArray, *, n_independent: float, limit: float = float("inf"), blocks_entry: bool = False
) -> Novelty:
    """Centre and shape of the training rows: the Mahalanobis distance of a shrunk correlation matrix.

    Look-ahead: uses the rows given only.

    Parameters
    ----------
    X
        Finite training rows, shape (n, d).
    n_independent
        Independent rows they are worth, at least 1; overlapping labels make it far less than n, and the matrix is
        shrunk accordingly.
    limit
        Distance above which a row is novel; by the caller from distances of rows that were left out.
    blocks_entry
        Kept with the model.

    References
    ----------
    Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices; Lee et al. (2018),
    A simple unified framework for detecting out-of-distribution samples; Meyer and Pebesma (2021), Predicting into
    unknown space? (the limit from cross-validated distances).
    """
    mean, scale, matrix, fourth = _moments(np.ascontiguousarray(X, dtype=np.float64))
    weight = max(shrinkage(matrix, fourth, max(n_independent, 1.0)), 1e-3)
    shrunk = (1 - weight) * matrix + weight * np.eye(len(mean))
    return Novelty(mean, scale, _inverse_root(shrunk), float(limit), blocks_entry)
