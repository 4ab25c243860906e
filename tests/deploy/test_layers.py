"""A secret in an image's layers is found wherever it lies."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from layers import _CHUNK, held_in


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("app/.env", b"TOKEN=canary-1"),
        ("app/large", b"-" * (_CHUNK - 4) + b"canary-1" + b"-" * 100),
        ("app/canary-1", b""),
    ],
)
def test_it_is_found_in_a_file_across_two_reads_and_in_a_name(
    tmp_path: Path, mode: str, name: str, content: bytes
) -> None:
    saved = tmp_path / "image.tar"
    layer = tar_of({"bin/sh": b"nothing", name: content}, mode)
    saved.write_bytes(tar_of({"blobs/config.json": b"{}", "blobs/layer": layer}))
    (found,) = held_in(saved, ["canary-0", "canary-1"])
    assert found == f"blobs/layer: {name} has secret 1"
    assert held_in(saved, ["canary-2"]) == []


def test_it_is_found_in_the_images_description(tmp_path: Path) -> None:
    saved = tmp_path / "image.tar"
    saved.write_bytes(tar_of({"blobs/config.json": b'{"Env": ["TOKEN=canary-0"]}'}))
    assert held_in(saved, ["canary-0"]) == ["blobs/config.json: itself has secret 0"]
