"""How the project is run in these tests, what it leaves, and what was found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import saves

PROJECT: Final = Path(__file__).parents[2]
LONGEST: Final = 240.0  # seconds a run may take to find out that something does not answer, on a busy machine
# what names its runs, and what is no artefact
NOT_DATA: Final = (
    *("runs/", ".lease/", "mlflow", ".lock"),
    *("models/production_log.jsonl", "models/shadow_log.jsonl"),
)


@dataclass
class Findings:
    """What was counted, and what does not hold."""

    figures: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def hold(self, holds: bool, otherwise: str) -> None:
        """An invariant."""
        if not holds:
            self.broken.append(otherwise)
            say(f"BROKEN: {otherwise}")

    def line(self) -> str:
        """All of it on one line."""
        said = ", ".join(f"{value} {name}" for name, value in self.figures.items())
        return f"services: {said}; {len(self.broken)} invariants broken"


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    code: int
    text: str
    seconds: float

    @property
    def message(self) -> str:
        """Its error, on one line."""
        found = re.search(r"^Error: (.*)\Z", self.text, re.DOTALL | re.MULTILINE)
        return " ".join(found[1].split()) if found else ""


class Project:
    """The project with the small market of the tests, on a storage root of its own.

    Parameters
    ----------
    conf
        Configuration in which ``minio`` has the parameters of ``test``.
    env
        Environment of its processes.
    name
        ``test`` for files, ``minio`` for the object store.
    """

    def __init__(self, conf: Path, env: dict[str, str], name: str) -> None:
        self.conf, self.env, self.name = conf, env, name

    def start(self, pipelines: str, *, params: str = "") -> subprocess.Popen[str]:
        """Start a run."""
        command = [sys.executable, "-m", "mntrading", "--conf-source", str(self.conf), "--env", self.name]
        command += ["--pipelines", pipelines, *(["--params", params] if params else [])]
        return subprocess.Popen(
            command, cwd=PROJECT, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, pipelines: str, *, params: str = "", patience: float = 0.0) -> Ended:
        """Run to the end; a root that another run holds is tried again for as long as ``patience`` says."""
        until = time.monotonic() + patience
        while True:
            ended = finish(self.start(pipelines, params=params))
            if ended.code == 0 or "holds the storage root" not in ended.text or time.monotonic() > until:
                return ended
            time.sleep(2)


def finish(run: subprocess.Popen[str], seconds: float = LONGEST * 3) -> Ended:
    """Wait for the end of a run."""
    begun = time.monotonic()
    try:
        text, _ = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.kill()
        text, _ = run.communicate()
        return Ended(-1, text, time.monotonic() - begun)
    return Ended(run.returncode, text, time.monotonic() - begun)


def say(text: str) -> None:
    """To whoever waits."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def data(place: str) -> dict[str, str]:
    """Hash of every artefact of a root; reports name their run, its start and its environment, which are left out."""
    found = saves.files(place)
    records = [json.loads(text) for name, text in found.items() if name.startswith("runs/") and b'"run_id"' in text]
    told = {str(record[name]).encode() for record in records for name in ("run_id", "started_at")}
    hashes = {}
    for name, content in found.items():
        if name.startswith(NOT_DATA) or saves.is_temporary(name):
            continue
        if "_report." in name:
            for one in sorted(told):
                content = content.replace(one, b"")
            content = re.sub(rb"\b(minio|test)\b", b"", content)
        hashes[name] = saves.sha256(content)
    return hashes


def difference(found: dict[str, str], expected: dict[str, str]) -> str:
    """Which files differ, in short."""
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"{len(names)} files differ: {', '.join(names[:5])}" if names else ""
