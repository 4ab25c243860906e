"""The one way kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compile without the interpreter lock, cached on disk; sums keep their order, so the bits do too."""
    return cast(_F, njit(nogil=True, cache=True)(function))


def vectorised(function: _F) -> _F:
    """``compiled`` for loops over rows that know nothing of each other: dividing by zero gives NaN, not an error."""
    return cast(_F, njit(nogil=True, cache=True, error_model="numpy")(function))
