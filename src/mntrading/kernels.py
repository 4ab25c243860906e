"""Where compiled kernels are cached: apart for every state of the code.

Numba looks whether a cached kernel is out of date by the file it stands in, not by those it calls into. Were the
decision step changed and the engine not, the backtest would go on with the old decisions while live took the new ones.
So the cache has a folder for each state of the core's code.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Final

_VARIABLE: Final = "NUMBA_CACHE_DIR"
_PACKAGE: Final = Path(__file__).parent


def code_stamp(package: Path = _PACKAGE) -> str:
    """Hash of the names and bytes of the core's modules, and of the parameters they are told by."""
    digest = hashlib.blake2b(digest_size=10)
    for path in (*sorted((package / "core").glob("*.py")), package / "params.py"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def keep_apart() -> None:
    """Have numba cache kernels in a folder for this state of the code, below the folder it was told of or a default.

    Processes started from here inherit the folder, and leave it as it is.
    """
    own = f"mntrading-{code_stamp()}"
    told = os.environ.get(_VARIABLE)
    if told and Path(told).name == own:
        return
    above = Path(told) if told else _default()
    folder = str(above.parent / own if above.name.startswith("mntrading-") else above / own)
    os.environ[_VARIABLE] = folder
    if "numba" in sys.modules:  # it read the variable when it was imported
        from numba import config

        config.CACHE_DIR = folder


def _default() -> Path:
    """Beside the package's own bytecode where that can be written, else with the user's caches."""
    if os.access(_PACKAGE, os.W_OK):
        return _PACKAGE / "__pycache__"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
