"""From market bars to cointegrated pairs, mean-reversion signals and portfolio orders."""

import sys

from mntrading.kernels import keep_apart

__version__ = "0.1.0"

keep_apart()
# Where it is installed, jsonschema builds grammars of it for formats that no schema here has: a second of every start.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
