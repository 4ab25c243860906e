"""Adjustment of p-values for the number of tests made.

References
----------
Benjamini, Y., Hochberg, Y. (1995). Controlling the false discovery rate: a practical and powerful approach to
multiple testing. Journal of the Royal Statistical Society B, 57(1), 289-300.

Benjamini, Y., Yekutieli, D. (2001). The control of the false discovery rate in multiple testing under
dependency. Annals of Statistics, 29(4), 1165-1188.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray

Method = Literal["by", "bh", "bonferroni", "none"]

METHODS: Final = ("by", "bh", "bonferroni", "none")


def adjust(p_values: npt.ArrayLike, *, method: Method = "by") -> FloatArray:
    """Adjusted p-values: rejecting where they are at most q keeps the error rate of ``method`` at q.

    Parameters
    ----------
    p_values
        One p-value per test made, any shape, within [0, 1]. Every test counts, also those of no interest.
    method
        ``bh`` Benjamini-Hochberg: false discovery rate under independence or positive dependence;
        ``by`` Benjamini-Yekutieli: false discovery rate under any dependence;
        ``bonferroni``: chance of any false discovery; ``none``: the p-values as they are.

    Returns
    -------
    Array of the shape of ``p_values``, within [0, 1], in the same order; empty for no tests.

    Raises
    ------
    ParameterError
        Unknown ``method``, or a p-value that is NaN or outside [0, 1].

    References
    ----------
    Benjamini and Hochberg (1995); Benjamini and Yekutieli (2001).
    """
    p = _checked(p_values)
    if method not in METHODS:
        raise ParameterError(f"unknown method {method!r}, expected one of {list(METHODS)}", where="method")
    if method == "none" or p.size == 0:
        return p.copy()
    if method == "bonferroni":
        return np.minimum(p * p.size, 1.0)
    rank = np.arange(1, p.size + 1, dtype=np.float64)
    scale = np.sum(1.0 / rank) if method == "by" else 1.0
    order = np.argsort(p, axis=None, kind="stable")
    stepped = p.ravel()[order] * (p.size * scale / rank)
    adjusted = np.empty(p.size, dtype=np.float64)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return adjusted.reshape(p.shape)


def direction_adjusted(p_first: npt.ArrayLike, p_second: npt.ArrayLike) -> FloatArray:
    """p-value of a pair tested in both directions: min(1, 2·min), which pays for choosing the better one.

    Parameters
    ----------
    p_first, p_second
        p-values of the two directions, of one shape or broadcastable, within [0, 1].

    Returns
    -------
    Array of the common shape.

    Raises
    ------
    ParameterError
        A p-value that is NaN or outside [0, 1].
    """
    return np.asarray(np.minimum(2.0 * np.minimum(_checked(p_first), _checked(p_second)), 1.0))


def _checked(p_values: npt.ArrayLike) -> FloatArray:
    """p-values as an array, all within [0, 1]."""
    p = np.asarray(p_values, dtype=np.float64)
    wrong = ~((p >= 0.0) & (p <= 1.0))
    if wrong.any():
        position = int(np.flatnonzero(wrong)[0])
        raise ParameterError(
            f"p-value number {position} is {p.ravel()[position]}, expected a number within [0, 1]",
            where="p_values",
        )
    return p
