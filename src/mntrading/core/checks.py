"""What functions of one series refuse."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from mntrading.core.errors import BarDataError, ParameterError
from mntrading.core.types import FloatArray

NO_VARIANCE: Final = 1e-12
"""Standard deviation relative to the largest value that is but rounding."""


def finite_series(series: npt.ArrayLike, role: str, *, at_least: int) -> FloatArray:
    """Values (T,) of a series.

    Raises
    ------
    BarDataError
        A value that is not finite; the message has its place, and the series' name or its ``role``.
    ParameterError
        Another shape, or fewer than ``at_least`` values.
    """
    values = np.asarray(series, dtype=np.float64)
    where = str(getattr(series, "name", None) or role)
    if values.ndim != 1:
        raise ParameterError(f"shape is {values.shape}, expected one value per bar", where=where)
    if len(values) < at_least:
        raise ParameterError(f"{len(values)} values given, expected at least {at_least}", where=where)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise BarDataError(f"value {bad[0]} is {values[bad[0]]}, expected a finite number", where=where)
    return values


def sample_deviation(values: FloatArray) -> float:
    """Sample standard deviation, 0 where it is but rounding, NaN for fewer than two values."""
    if values.size < 2:
        return math.nan
    deviation = float(values.std(ddof=1))
    return deviation if deviation > NO_VARIANCE * float(np.abs(values).max()) else 0.0
