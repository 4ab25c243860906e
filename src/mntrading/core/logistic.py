"""Ridge-penalised logistic regression by Newton's method, the same bits on any number of threads.

A library's solver multiplies matrices with as many threads as it is given, and the last bits of its coefficients follow
their number. Here sums keep their order, and the optimum is reached to machine precision rather than to a tolerance.
"""

from __future__ import annotations

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.types import FloatArray, IntArray

_SMALLEST_STEP = 1e-10  # of a standardised coefficient


@compiled
def _value(X: FloatArray, y: IntArray, weight: FloatArray, beta: FloatArray, penalty: float) -> float:
    total = 0.0
    d = X.shape[1]
    for j in range(d):
        total += 0.5 * penalty * beta[j] * beta[j]
    for i in range(X.shape[0]):
        margin = beta[d]
        for j in range(d):
            margin += X[i, j] * beta[j]
        if y[i] == 0:
            margin = -margin
        # log(1 + exp(-margin)) without overflow
        total += weight[i] * (np.log1p(np.exp(-margin)) if margin > 0 else np.log1p(np.exp(margin)) - margin)
    return total


@compiled
def _solve(A: FloatArray, b: FloatArray) -> FloatArray:
    """Solve A x = b for a symmetric positive definite A by Cholesky; A is overwritten."""
    n = b.shape[0]
    x = b.copy()
    for j in range(n):
        for k in range(j):
            for i in range(j, n):
                A[i, j] -= A[i, k] * A[j, k]
        root = np.sqrt(A[j, j])
        for i in range(j, n):
            A[i, j] /= root
    for i in range(n):
        for k in range(i):
            x[i] -= A[i, k] * x[k]
        x[i] /= A[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= A[k, i] * x[k]
        x[i] /= A[i, i]
    return x


@compiled
def _newton(
    X: FloatArray, y: IntArray, weight: FloatArray, penalty: float, max_iter: int, smallest: float
) -> tuple[FloatArray, int]:
    n, d = X.shape
    beta = np.zeros(d + 1)
    row = np.ones(d + 1)
    value = _value(X, y, weight, beta, penalty)
    for iteration in range(max_iter):
        gradient = np.zeros(d + 1)
        curvature = np.zeros((d + 1, d + 1))
        for j in range(d):
            gradient[j] = penalty * beta[j]
            curvature[j, j] = penalty
        for i in range(n):
            margin = beta[d]
            for j in range(d):
                row[j] = X[i, j]
                margin += row[j] * beta[j]
            chance = 1.0 / (1.0 + np.exp(-margin))
            residual = weight[i] * (chance - y[i])
            spread = weight[i] * max(chance * (1.0 - chance), 1e-12)
            for j in range(d + 1):
                gradient[j] += residual * row[j]
                scaled = spread * row[j]
                for k in range(j + 1):
                    curvature[j, k] += scaled * row[k]
        step = _solve(curvature, gradient)
        size = 1.0
        after = beta - step
        lower = _value(X, y, weight, after, penalty)
        while lower > value and size > 1e-6:
            size *= 0.5
            after = beta - size * step
            lower = _value(X, y, weight, after, penalty)
        largest = np.abs(size * step).max()
        if lower <= value:
            beta, value = after, lower
        if largest < smallest or lower > value:
            return beta, iteration + 1
    return beta, max_iter


def ridge_logistic(
    X: FloatArray, y: IntArray, weight: FloatArray, *, penalty: float, max_iter: int
) -> tuple[FloatArray, float, int]:
    """Coefficients, intercept and iterations that minimise ``Σ weight · log loss + penalty / 2 · |coefficients|²``.

    Parameters
    ----------
    X
        Standardised rows, shape (n, d).
    y, weight
        Labels 0 and 1 and positive weights, shape (n,).
    penalty
        Above 0; the intercept is not penalised. scikit-learn's ``1 / C``.
    max_iter
        Newton steps at most.
    """
    beta, iterations = _newton(
        np.ascontiguousarray(X, dtype=np.float64), np.asarray(y, dtype=np.int64),
        np.asarray(weight, dtype=np.float64), float(penalty), max_iter, _SMALLEST_STEP,
    )  # fmt: skip
    return beta[:-1], float(beta[-1]), int(iterations)
