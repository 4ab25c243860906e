"""``python -m mntrading.containers.entrypoint COMMAND …``: check the secrets, then become the command."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from mntrading.core.errors import MNTradingError, ParameterError
from mntrading.known_secrets import check_secrets


def main(command: Sequence[str]) -> None:
    """Replace this process by ``command``, unless a secret of its environment is a known default."""
    try:
        check_secrets(os.environ)
        if not command:
            return
        found = shutil.which(command[0])
        if found is None:
            raise ParameterError(f"there is no command {command[0]!r} in this image", fix="kedro run --pipelines …")
    except MNTradingError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise SystemExit(1) from None
    os.execv(found, list(command))  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
