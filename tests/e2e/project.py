"""A project folder to run in: real sessions in fresh processes."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

with warnings.catch_warnings():  # the frameworks warn about themselves when they are imported
    warnings.simplefilter("ignore")
    import mntrading.settings  # noqa: F401

from mntrading import runs

NOT_DATA = ("runs", "mlflow.db", "mlflow_artifacts", ".lock")


@dataclass(frozen=True)
class Project:
    """One storage root and the ways to use it."""

    root: Path

    def run(self, pipelines: str | Sequence[str], params: dict[str, Any] | None = None, **more: Any) -> runs.RunRecord:
        return runs.run(pipelines, env=more.pop("env", "test"), params=params, **more)

    def json(self, path: str) -> Any:
        return json.loads((self.root / path).read_text())

    def lines(self, path: str) -> list[Any]:
        return [json.loads(line) for line in (self.root / path).read_text().splitlines()]

    def files(self) -> dict[str, str]:
        """Hash of every stored file but run records and tracking."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] not in NOT_DATA
        }
