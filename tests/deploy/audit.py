"""Known vulnerabilities of everything the locks pin.

    make audit

Advisories come from the package registry that pip-audit asks. Where it serves none, as behind a mirror that hands out
files alone, that is said, and nothing is called sound: the last line tells how many packages were looked up. The exit
code is 1 when an advisory concerns a pinned version.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[2]
_PINNED: Final = re.compile(r"^[A-Za-z0-9][^\n\\]*==[^\n\\]*(?:\\\n[^\n\\]*)*", re.MULTILINE)


def pinned(lock: str) -> dict[str, str]:
    """The entries of a lock by their first line: name, version, hashes."""
    return {entry.partition(" ")[0].lower(): entry for entry in _PINNED.findall(lock)}


def audited(entries: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What pip-audit says of each of these entries.

    Raises
    ------
    RuntimeError
        It did not come to an end.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(entries) + "\n")
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--disable-pip", "--require-hashes"]
        command += ["--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        yield from json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise RuntimeError(f"pip-audit ended with {done.returncode}: {done.stderr[-2000:]}") from None


def told(locks: Iterable[Path]) -> tuple[int, str]:
    """Exit code and closing line for these locks."""
    entries: dict[str, str] = {}
    for lock in locks:
        entries |= pinned(lock.read_text())
    # one first: a registry without advisories need not be asked for hundreds
    if all("skip_reason" in one for one in audited([entries[min(entries)]])):
        return 0, f"audit: NOT DONE: the registry serves no advisories; 0 of {len(entries)} packages looked up"
    found = list(audited(entries.values()))
    vulnerable = [one for one in found if one.get("vulns")]
    looked_up = sum("skip_reason" not in one for one in found)
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for one in vulnerable
        for flaw in one["vulns"]
    ]
    counted = f"{looked_up} of {len(entries)} packages looked up"
    lines.append(f"audit: {counted}, {len(vulnerable)} with a known vulnerability")
    return int(bool(vulnerable)), "\n".join(lines)


if __name__ == "__main__":
    code, text = told(sorted(PROJECT.glob("requirements*.lock")))
    sys.stdout.write(text + "\n")
    sys.exit(code)
