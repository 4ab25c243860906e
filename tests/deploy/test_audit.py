"""The audit fails by what advisories say, and calls nothing sound that it could not look up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import audit
import pytest

LOCK = """\
a==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:aa \\
    --hash=sha256:ab
b==2.0 \\
    --hash=sha256:bb
    # via a
"""


def answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **flaws: Any) -> tuple[int, str, list[int]]:
    """What is told where these packages have an answer, and how many were asked for at a time."""
    asked = []

    def audited(entries: Iterable[str]) -> list[dict[str, Any]]:
        rows = [entry.partition(" ")[0].partition("==") for entry in entries]
        asked.append(len(rows))
        return [
            {"name": name, "version": version, "vulns": flaws[name]} if name in flaws
            else {"name": name, "skip_reason": "not found"}
            for name, _, version in rows
        ]  # fmt: skip

    monkeypatch.setattr(audit, "audited", audited)
    (tmp_path / "requirements.lock").write_text(LOCK)
    return *audit.told([tmp_path / "requirements.lock"]), asked


def test_an_entry_has_its_marker_and_hashes() -> None:
    found = audit.pinned(LOCK)
    assert list(found) == ["a==1.0", "b==2.0"]
    assert found["a==1.0"].count("--hash") == 2
    assert "via" not in found["b==2.0"]


def test_a_vulnerable_version_fails_the_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flaw = {"id": "X-1", "fix_versions": ["2.1"]}
    code, text, _ = answered(monkeypatch, tmp_path, a=[], b=[flaw])
    assert code == 1
    assert text.splitlines() == [
        "b 2.0: X-1, mended in 2.1", "audit: 2 of 2 packages looked up, 1 with a known vulnerability",
    ]  # fmt: skip


def test_what_was_not_looked_up_is_not_counted_as_sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert answered(monkeypatch, tmp_path, a=[])[:2] == (
        0, "audit: 1 of 2 packages looked up, 0 with a known vulnerability",
    )  # fmt: skip


def test_a_registry_without_advisories_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, text, asked = answered(monkeypatch, tmp_path)
    assert (code, asked) == (0, [1])
    assert "NOT DONE" in text
