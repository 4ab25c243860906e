"""What is stored, as a page lists it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from mntrading.apps.catalog import Entry
from mntrading.apps.dashboard.shaping.runs import when

LAYERS: Final = (
    "raw",
    "intermediate",
    "primary",
    "feature",
    "model_input",
    "models",
    "model_output",
    "production",
    "reporting",
)
FIRST: Final = ("latest_orders", "latest_report_html", "latest_report", "research_report_html", "backtest_summary",
                "production_map")  # fmt: skip
"""What most come for."""

_LOCAL_LINK: Final = re.compile(r'(?<=<a) href="(?!#|https?:)[^"]*"')


def size(n: int | None) -> str:
    """Bytes as a reader has them."""
    if n is None:
        return "–"
    value = float(n)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries by layer, in the order data flows."""
    ranked = sorted(entries, key=lambda one: (LAYERS.index(one.layer) if one.layer in LAYERS else 99, one.name))
    return [
        {
            "Layer": entry.layer.replace("_", " "),
            "Name": entry.name,
            "Stored": "yes" if entry.exists else "not yet",
            "Files": entry.partitions if entry.partitions is not None else (1 if entry.exists else 0),
            "Size": size(entry.bytes),
            "Written, UTC": when(entry.modified_at),
            "Path": entry.path,
            "Hash": (entry.sha256 or "")[:12],
            "Made by": (entry.made_by or "").split(";")[0],
        }
        for entry in ranked
    ]


def file_name(entry: Entry, id_: str | None = None) -> str:
    """Name of a download."""
    name = PurePosixPath(entry.path).name
    if id_ is None:
        return name
    suffix = {"parquet": ".parquet", "json": ".json", "jsonl": ".jsonl", "model": ".zip", "png": ".png"}.get(
        entry.format, ".html"
    )
    return f"{entry.name}_{id_.replace('/', '_')}{suffix}"


def alone(page: str) -> str:
    """A report's page to be shown inside another: links to files beside it lead nowhere from there, and are text."""
    return _LOCAL_LINK.sub("", page)
