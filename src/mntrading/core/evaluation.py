"""What a model is worth, in plain numbers: scores, calibration, curves, importance and stability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mntrading.core.types import FloatArray, IntArray

SCORE_COLUMNS = ("model", "log_loss", "brier", "roc_auc", "pr_auc", "base_rate", "lift", "ece", "n_rows")


def score(name: str, y: IntArray, probability: FloatArray, *, bins: int = 10) -> dict[str, float | str]:
    """Scores of probabilities against labels, every row counted once; ranking ones are NaN on one class alone.

    ``ece`` is the expected calibration error over ``bins`` bins of equal width.
    """
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    nan = float("nan")
    base = float(y.mean()) if len(y) else nan
    both = len(y) > 0 and y.min() != y.max()
    precision = float(average_precision_score(y, probability)) if both else nan
    return {
        "model": name,
        "log_loss": float(log_loss(y, probability, labels=[0, 1])) if len(y) else nan,
        "brier": float(brier_score_loss(y, probability)) if len(y) else nan,
        "roc_auc": float(roc_auc_score(y, probability)) if both else nan,
        "pr_auc": precision,
        "base_rate": base,
        "lift": precision / base if both else nan,
        "ece": calibration_error(reliability(y, probability, bins)),
        "n_rows": float(len(y)),
    }


def reliability(y: IntArray, probability: FloatArray, bins: int) -> list[dict[str, float]]:
    """Bins of the calibration curve that hold rows: their edges, rows, mean probability and share of ones."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    told = np.bincount(place, weights=probability, minlength=bins)
    came = np.bincount(place, weights=y.astype(np.float64), minlength=bins)
    return [
        {
            "lower": k / bins,
            "upper": (k + 1) / bins,
            "n_rows": float(counts[k]),
            "probability": float(told[k] / counts[k]),
            "share": float(came[k] / counts[k]),
        }
        for k in range(bins)
        if counts[k]
    ]


def calibration_error(curve: Sequence[Mapping[str, float]]) -> float:
    """Mean distance between probability and share over the bins, by their rows; NaN without rows."""
    total = sum(row["n_rows"] for row in curve)
    if total == 0:
        return float("nan")
    return float(sum(row["n_rows"] * abs(row["probability"] - row["share"]) for row in curve) / total)


def curves(y: IntArray, probability: FloatArray, points: int) -> dict[str, list[list[float]]]:
    """ROC (false, true positive rate) and precision-recall (recall, precision) curves of at most ``points`` points."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    if len(y) == 0 or y.min() == y.max():
        return {"roc": [], "precision_recall": []}
    false, true, _ = roc_curve(y, probability)
    precision, recall, _ = precision_recall_curve(y, probability)
    return {
        "roc": _thinned(np.column_stack([false, true]), points),
        "precision_recall": _thinned(np.column_stack([recall, precision])[::-1], points),
    }


def _thinned(curve: FloatArray, points: int) -> list[list[float]]:
    """Points evenly spread over the first coordinate, both ends kept."""
    if len(curve) > points:
        wanted = np.linspace(curve[0, 0], curve[-1, 0], points)
        keep = np.unique(np.append(np.searchsorted(curve[:, 0], wanted[:-1]), len(curve) - 1))
        curve = curve[keep]
    thinned: list[list[float]] = curve.tolist()
    return thinned


def feature_groups(names: Sequence[str], *, group_lags: bool) -> dict[str, list[int]]:
    """Columns that are permuted together: with ``group_lags`` all ``x_lag_1``, ``x_lag_2``, … as ``x_lags``."""
    out: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        stem, lag, number = name.rpartition("_lag_")
        out.setdefault(f"{stem}_lags" if group_lags and lag and number.isdigit() else name, []).append(k)
    return out


def permutation_importance(
    predict: Callable[[FloatArray], FloatArray],
    X: FloatArray,
    y: IntArray,
    groups: Mapping[str, Sequence[int]],
    *,
    max_rows: int,
    seed: int,
) -> dict[str, float]:
    """Rise of the log loss when a group of columns is shuffled among rows the model was not fitted on.

    Parameters
    ----------
    predict
        Rows to probabilities.
    X, y
        Out-of-fold rows, of which at most ``max_rows`` evenly spaced ones are used.
    groups
        Columns to shuffle together, by name.
    seed
        Of the shuffles.

    References
    ----------
    Breiman (2001), Random forests; López de Prado (2018), section 8.3.2 (mean decrease accuracy on purged folds).
    """
    from sklearn.metrics import log_loss

    some = np.unique(np.linspace(0, len(y) - 1, min(max_rows, len(y))).round().astype(np.int64))
    X, y = X[some], y[some]
    whole = log_loss(y, predict(X), labels=[0, 1])
    rng = np.random.default_rng(seed)
    out = {}
    for name, columns in groups.items():
        shuffled = X.copy()
        shuffled[:, list(columns)] = X[rng.permutation(len(y))][:, list(columns)]
        out[name] = float(log_loss(y, predict(shuffled), labels=[0, 1]) - whole)
    return out


def rank_correlation(values: Sequence[Sequence[float]]) -> float:
    """Mean Spearman correlation between every two rows of equal length; NaN where there are none or they are flat."""
    from scipy.stats import rankdata

    ranks = [rankdata(row) for row in values]
    found = [
        float(np.corrcoef(a, b)[0, 1]) for a, b in combinations(ranks, 2) if len(a) > 1 and a.std() > 0 and b.std() > 0
    ]
    return float(np.mean(found)) if found else float("nan")


def plain(value: Any) -> Any:
    """The same with None for what is not finite, as JSON has it."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
