"""``python -m mntrading.containers.environment``: ``.env`` from ``.env.example``, with secrets of its own."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Final

from mntrading.known_secrets import SECRETS

EXAMPLE, MADE = ".env.example", ".env"
_RANDOM_BYTES: Final = 32
_SAME: Final = {"AWS_ACCESS_KEY_ID": "MINIO_ROOT_USER", "AWS_SECRET_ACCESS_KEY": "MINIO_ROOT_PASSWORD"}
"""MinIO's root user is the one S3 user it has at first."""


def filled(example: str) -> str:
    """An example with every empty secret generated, and every line else as it is.

    Parameters
    ----------
    example
        Lines of ``NAME=value`` and comments; secrets stand there without a value.
    """
    values: dict[str, str] = {}
    lines = []
    for line in example.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#") and not value:
            if name in _SAME:
                value = values[_SAME[name]]
            elif name in SECRETS:
                value = secrets.token_urlsafe(_RANDOM_BYTES)
            elif name == "MINIO_ROOT_USER":
                value = f"mntrading-{secrets.token_hex(4)}"
        if sign:
            values[name] = value
        lines.append(f"{name}{sign}{value}")
    return "\n".join(lines) + "\n"


def main(folder: Path = Path()) -> None:
    """Write ``.env``, readable for its owner alone; one that is there is left alone."""
    text = filled((folder / EXAMPLE).read_text("utf-8"))
    try:
        handle = os.open(folder / MADE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.stdout.write(f"{MADE} is there and stays as it is; remove it first to have new secrets\n")
        return
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
    sys.stdout.write(f"wrote {MADE} with secrets of its own; next: docker compose up -d --build\n")


if __name__ == "__main__":
    main()
