"""Every file of every layer of an image, and its own description, searched for secrets."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Final

from engine import call

_CHUNK: Final = 1 << 22
_TAR_MAGIC: Final = (257, b"ustar")
_GZIP_MAGIC: Final = b"\x1f\x8b"


def traces(image: str, secrets: Collection[str]) -> list[str]:
    """``held_in`` of an image."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "image.tar"
        call("docker", "save", "--output", saved, image)
        return held_in(saved, secrets)


def held_in(saved: Path, secrets: Collection[str]) -> list[str]:
    """Files of a saved image, those that a later layer deletes as well, that hold one of these texts, and which."""
    wanted = [secret.encode() for secret in secrets]
    with tarfile.open(saved) as archive:
        return [
            f"{member.name[-20:]}: {name} has secret {number}"
            for member in archive
            if member.isfile()
            for name, number in _searched(archive.extractfile(member) or io.BytesIO(), wanted)
        ]


def _searched(blob: IO[bytes], wanted: list[bytes]) -> Iterator[tuple[str, int]]:
    head = blob.read(512)
    blob.seek(0)
    place, magic = _TAR_MAGIC
    if not (head.startswith(_GZIP_MAGIC) or head[place : place + len(magic)] == magic):
        yield from (("itself", number) for number in _held(blob, wanted))
        return
    with tarfile.open(fileobj=blob, mode="r|*") as layer:
        for member in layer:
            found = {n for n, secret in enumerate(wanted) if secret in f"{member.name} {member.pax_headers}".encode()}
            if member.isfile():
                found |= _held(layer.extractfile(member) or io.BytesIO(), wanted)
            yield from ((member.name, number) for number in sorted(found))


def _held(stream: IO[bytes], wanted: list[bytes]) -> set[int]:
    """Which of the texts are in a stream, those that lie across two reads as well."""
    found: set[int] = set()
    kept = b""
    overlap = max(map(len, wanted)) - 1
    while chunk := stream.read(_CHUNK):
        kept += chunk
        found |= {number for number, secret in enumerate(wanted) if secret in kept}
        kept = kept[-overlap:] if overlap else b""
    return found
