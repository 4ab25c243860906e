"""Probabilities that mean what they say: monotone corrections fitted on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from mntrading.core.compiled import compiled
from mntrading.core.types import FloatArray, IntArray

CalibrationKind = Literal["none", "sigmoid", "isotonic"]
MIN_ROWS: Final = 100
"""Out-of-fold rows below which nothing is corrected."""
_CERTAIN: Final = 1e-6  # probabilities are held this far from 0 and 1 before their logit is taken
_PRIOR_DEVIATION: Final = 0.25  # of intercept and slope of a sigmoid, around 0 and 1


@dataclass(frozen=True)
class Calibration:
    """A correction of probabilities, of plain numbers only.

    Parameters
    ----------
    kind
        ``none``; ``sigmoid``: ``1 / (1 + exp(-(intercept + slope * logit(p))))``; ``isotonic``: straight lines
        between ``knots`` and ``values``.
    """

    kind: CalibrationKind = "none"
    intercept: float = 0.0
    slope: float = 1.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __call__(self, probability: FloatArray) -> FloatArray:
        """Corrected probabilities, shape (n,); each depends on its own alone."""
        given = np.asarray(probability, dtype=np.float64)
        if self.kind == "sigmoid":
            return _sigmoid(given, self.intercept, self.slope, _CERTAIN)
        if self.kind == "isotonic":
            return np.asarray(np.interp(given, self.knots, self.values), dtype=np.float64)
        return given

    def document(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "kind": self.kind, "intercept": self.intercept, "slope": self.slope, "knots": list(self.knots),
            "values": list(self.values),
        }  # fmt: skip

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Calibration:
        """The calibration of its JSON form."""
        return cls(
            document["kind"], float(document["intercept"]), float(document["slope"]),
            tuple(map(float, document["knots"])), tuple(map(float, document["values"])),
        )  # fmt: skip


@compiled
def _sigmoid(probability: FloatArray, intercept: float, slope: float, certain: float) -> FloatArray:
    out = np.empty(probability.shape[0])
    for i in range(probability.shape[0]):
        p = min(max(probability[i], certain), 1.0 - certain)
        out[i] = 1.0 / (1.0 + np.exp(-(intercept + slope * np.log(p / (1.0 - p)))))
    return out


def fit_calibration(
    kind: CalibrationKind, probability: FloatArray, y: IntArray, *, n_independent: float
) -> Calibration:
    """Fit a correction on predictions for rows the model was not fitted on.

    Every row counts the same, whatever it weighed in the fit: a row's uniqueness depends on what came after it, and so
    on its label. ``sigmoid`` starts from no correction and moves away from it as far as ``n_independent`` labels can
    say (a normal prior on both of its numbers); ``isotonic`` takes the rows at their word and wants many. Too few
    rows, or one class alone, are not corrected.

    Parameters
    ----------
    probability, y
        Predictions and labels, shape (n,).
    n_independent
        Independent labels that the rows are worth.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines; Zadrozny and Elkan (2002), Transforming
    classifier scores into accurate multiclass probability estimates.
    """
    if kind == "none" or len(y) < MIN_ROWS or y.min() == y.max():
        return Calibration()
    if kind == "sigmoid":
        held = np.clip(probability, _CERTAIN, 1 - _CERTAIN)
        intercept, slope = _newton(np.log(held / (1 - held)), y, n_independent / len(y))
        # a correction never turns the order round
        return Calibration("sigmoid", intercept, max(slope, 0.0))
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(probability, y)
    edge = 1.0 / (len(y) + 2)
    values = np.clip(fitted.y_thresholds_, edge, 1 - edge)
    return Calibration("isotonic", knots=tuple(map(float, fitted.X_thresholds_)), values=tuple(map(float, values)))


def _newton(margin: FloatArray, y: IntArray, weight: float) -> tuple[float, float]:
    """Intercept and slope that minimise ``weight * Σ log loss`` plus the prior around 0 and 1."""
    value = np.array([0.0, 1.0])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-(value[0] + value[1] * margin)))
        wrong, spread = weight * (chance - y), weight * chance * (1 - chance)
        pull = (value - [0.0, 1.0]) / _PRIOR_DEVIATION**2
        slope = np.array([wrong.sum(), (wrong * margin).sum()]) + pull
        a, b, c = spread.sum(), (spread * margin).sum(), (spread * margin * margin).sum()
        a, c = a + _PRIOR_DEVIATION**-2, c + _PRIOR_DEVIATION**-2
        step = np.array([c * slope[0] - b * slope[1], a * slope[1] - b * slope[0]]) / (a * c - b * b)
        value = value - np.clip(step, -1.0, 1.0)  # far from the optimum a whole step may overshoot
        if np.abs(step).max() < 1e-10:
            break
    return float(value[0]), float(value[1])


def calibrate_splits(
    kind: CalibrationKind,
    raw: Sequence[FloatArray],
    y: IntArray,
    splits: Sequence[tuple[IntArray, IntArray]],
    *,
    uniqueness: FloatArray,
) -> list[FloatArray]:
    """Each split's out-of-fold probabilities, corrected by what the splits before it have shown.

    A split is corrected by out-of-fold rows of earlier splits that it may train on, so purged and embargoed by the
    very rule of its training rows; the first one, and one with too few of them, stays as it is.

    Parameters
    ----------
    raw
        Predictions on each split's test rows.
    y
        Labels of all rows.
    splits
        Training and test rows of each split, in time order.
    uniqueness
        Of all rows' labels.
    """
    out: list[FloatArray] = []
    for i, (train, _) in enumerate(splits):
        before = np.concatenate([np.zeros(0, dtype=np.int64), *(rows for _, rows in splits[:i])])
        given = np.concatenate([np.zeros(0), *raw[:i]])
        known = np.isin(before, train)
        mine = before[known]
        corrected = fit_calibration(kind, given[known], y[mine], n_independent=float(uniqueness[mine].sum()))
        out.append(corrected(raw[i]))
    return out
