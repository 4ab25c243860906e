"""The probability from which a model's word is taken, chosen on rows it was not fitted on."""

from __future__ import annotations

import numpy as np

from mntrading.core.types import FloatArray, IntArray
from mntrading.params import ThresholdParams


def choose_threshold(
    probability: FloatArray, y: IntArray, size: FloatArray | None, params: ThresholdParams
) -> float | None:
    """Threshold of a model by its out-of-fold probabilities; None for the strategy's fixed one.

    ``expected_value`` keeps the rows on which the sum of ``size - margin`` is greatest, ``precision`` the most rows
    among which that share is right (or, where none has it, those with the greatest share), ``f_beta`` those of the
    greatest F score. At least ``min_share`` of the rows are kept; equals are decided for more rows.

    Look-ahead: uses the rows given only.

    Parameters
    ----------
    probability, y
        Calibrated out-of-fold probabilities and labels, shape (n,).
    size
        Move towards the mean in deviations, for ``expected_value``; None (fixed threshold) where labels have none.
    """
    if params.choose == "fixed" or len(y) == 0 or (params.choose == "expected_value" and size is None):
        return None
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    # a threshold takes in all rows of equal probability
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    kept = (last + 1).astype(np.float64)
    right = np.cumsum(y[order])[last].astype(np.float64)
    if params.choose == "expected_value" and size is not None:
        worth = np.cumsum(size[order] - params.margin)[last]
    elif params.choose == "precision":
        share = right / kept
        worth = np.where(share >= params.precision, 1.0 + kept, share)
    else:
        square = params.beta**2
        worth = (1 + square) * right / (square * max(int(y.sum()), 1) + kept)
    allowed = kept >= params.min_share * len(y)
    worth = np.where(allowed, worth, -np.inf)
    best = len(worth) - 1 - int(np.argmax(worth[::-1]))
    return float(ranked[last[best]])
