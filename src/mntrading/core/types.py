"""Array aliases and the small value types shared by the core modules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._=@~-]|^\.")


@dataclass(frozen=True, order=True)
class Pair:
    """Two symbols, the dependent leg first: ``spread = log(dependent) - beta * log(independent)``.

    ``id`` is the name the pair has in paths and tables, ``APT-USDT__FIL-USDT``.
    """

    dependent: str
    independent: str

    @property
    def id(self) -> str:
        """Name in paths and tables."""
        return f"{slug(self.dependent)}__{slug(self.independent)}"

    @property
    def symbols(self) -> tuple[str, str]:
        """Both symbols, dependent leg first."""
        return (self.dependent, self.independent)

    @property
    def unordered(self) -> frozenset[str]:
        """The two symbols without the direction: the same pair seen from either leg."""
        return frozenset(self.symbols)


def slug(symbol: str) -> str:
    """File-name form of an exchange symbol: ``APT/USDT`` becomes ``APT-USDT``.

    What no path or URL should hold is written as ``~`` and its UTF-8 bytes: ``币/USDT`` becomes
    ``~e5~b8~81-USDT``.
    """
    return _UNSAFE.sub(
        lambda found: "".join(f"~{byte:02x}" for byte in found[0].encode()),
        symbol.replace("/", "-").replace(":", "_"),
    )
