"""Runs as a page shows them, and the keys that make one run of a button pressed twice."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

ACTIVE: Final = ("queued", "running")
STATES: Final = {
    "queued": ("waiting", "gray"),
    "running": ("running", "blue"),
    "finished": ("finished", "green"),
    "refused": ("refused entries", "orange"),
    "failed": ("failed", "red"),
    "cancelled": ("cancelled", "gray"),
    "killed": ("died", "red"),
}
"""What a state is called, and its colour."""

_AGAIN_SECONDS: Final = 3.0
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def log_text(lines: Sequence[str]) -> str:
    """The end of a log as text, without the codes by which a terminal is coloured."""
    return _COLOURS.sub("", "\n".join(lines))


@dataclass(frozen=True)
class Press:
    """A button that was pressed: the key it was sent with, what for, when, and the run it became."""

    key: str
    what: str
    at: float
    run_id: str | None = None


def press(last: Press | None, pipeline: str, body: Mapping[str, Any], now: float, active: Sequence[str]) -> Press:
    """The press to send: the last one again where it is of the same and its run goes on, or it was a moment ago.

    Parameters
    ----------
    last
        The last press, None for none.
    pipeline, body
        What is to be started.
    now
        Seconds, of any clock that does not go back.
    active
        Ids of runs that wait or run.
    """
    what = json.dumps([pipeline, body], sort_keys=True)
    if last is not None and last.what == what and (last.run_id in active or now - last.at < _AGAIN_SECONDS):
        return last
    return Press(f"dashboard-{secrets.token_hex(12)}", what, now)


def active_ids(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Ids of runs that wait or run."""
    return tuple(str(run["id"]) for run in runs if run["state"] in ACTIVE)


def state_words(state: str) -> str:
    """A state as a reader has it."""
    return STATES.get(state, (state, "gray"))[0]


def title(run: Mapping[str, Any]) -> str:
    """When, what, and how it went."""
    name = str(run["pipeline"]).replace("_", " ")
    return f"{when(run.get('created_at'))} · {name} · {state_words(run['state'])}"


def share(run: Mapping[str, Any]) -> float:
    """How much of a run is done, 0 to 1."""
    progress = run.get("progress")
    if run["state"] not in ACTIVE:
        return 1.0
    if not progress or not progress["total"]:
        return 0.0
    return min(max(float(progress["done"]) / float(progress["total"]), 0.0), 1.0)


def progress_words(run: Mapping[str, Any]) -> str:
    """Where a run is."""
    if run["state"] == "queued":
        place = run.get("position")
        return "Waiting" if place is None else f"Waiting, number {place} in the queue"
    if run.get("cancel_requested") and run["state"] == "running":
        return "Ending, as asked"
    progress, step = run.get("progress"), run.get("step")
    count = f"{progress['done']} of {progress['total']} steps" if progress and progress["total"] else "Starting"
    return f"{count} · {str(step).replace('_', ' ')}" if step else count


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one moment to another, ISO 8601; None where one is not known."""
    if not start or not end:
        return None
    return (_moment(end) - _moment(start)).total_seconds()


def duration(seconds: float | None) -> str:
    """A duration in words of one or two units."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"


def rows(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table of runs, in the order given."""
    return [
        {
            "State": state_words(run["state"]),
            "Pipeline": str(run["pipeline"]).replace("_", " "),
            "Started, UTC": when(run.get("started_at") or run.get("created_at")),
            "Took": duration(seconds_between(run.get("started_at"), run.get("finished_at"))),
            "What it said": first_line(run.get("error")),
            "Run": run["id"],
        }
        for run in runs
    ]


def recorded(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table of run records, which name the runs of the command line too, newest first."""
    ordered = sorted(records, key=lambda record: str(record["started_at"]), reverse=True)
    return [
        {
            "State": state_words(record["status"]),
            "Pipeline": ", ".join(name.replace("_", " ") for name in record["pipelines"]) or "research",
            "Started, UTC": when(record["started_at"]),
            "Took": duration(seconds_between(record["started_at"], record.get("finished_at"))),
            "What it said": first_line(record.get("error")),
            "Run": record["run_id"],
            "MLflow": record.get("mlflow_run_id"),
        }
        for record in ordered
    ]


def when(moment: str | None) -> str:
    """A moment to the minute."""
    return "–" if not moment else f"{_moment(moment):%Y-%m-%d %H:%M}"


def first_line(text: str | None, most: int = 160) -> str:
    """The first line of a message."""
    line = (text or "").strip().split("\n")[0]
    return line if len(line) <= most else line[: most - 1] + "…"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
