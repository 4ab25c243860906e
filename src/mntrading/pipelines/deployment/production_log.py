"""The logs of production and of its shadow: numbered lines, each with the hash of the line before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from mntrading.core.errors import ArtifactError
from mntrading.datasets.storage import content_hash, plain
from mntrading.pipelines.common import SCHEMA_VERSION
from mntrading.pipelines.deployment.changes import Changes

WHERE: Final = "models/production_log.jsonl"
SHADOW: Final = "models/shadow_log.jsonl"

Log = Sequence[Mapping[str, Any]]
Action = Literal["promote", "promote_challenger", "rollback", "shadow"]


def checked(log: Log | None, where: str = WHERE) -> list[dict[str, Any]]:
    """The log as a list, empty where there is none yet.

    Raises
    ------
    ArtifactError
        A line was altered, taken out or put in: numbers, maps or hashes do not follow each other.
    """
    lines = [dict(line) for line in log or ()]
    for place, line in enumerate(lines):
        before = lines[place - 1] if place else None
        expected = (place + 1, before and before["map_id"], before and content_hash(before))
        if (line["number"], line["previous_map_id"], line["previous_line"]) != expected:
            raise ArtifactError(
                f"line {place + 1} does not follow the one before it: the log was altered",
                where=where,
                fix="restore it from a backup; or move it away, and the next promotion begins another",
            )
    return lines


def current(log: Log) -> str | None:
    """Id of the map the log says is in production."""
    return str(log[-1]["map_id"]) if log else None


def appended(
    log: Log, action: Action, production_map: Mapping[str, Any], changes: Changes, run_record: Mapping[str, Any],
    **more: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """The log with a line for this change; as it was where its last line says the same of the same map.

    A line names the run and the code's revision: wall clock, host and parameters stand in that run's record. ``more``
    is what this action alone has to say.
    """
    told = plain(more)
    if current(log) == production_map["id"] and all(log[-1].get(name) == value for name, value in told.items()):
        return [dict(line) for line in log]
    line = {
        "schema_version": SCHEMA_VERSION,
        "number": len(log) + 1,
        "action": action,
        "map_id": production_map["id"],
        "previous_map_id": current(log),
        "as_of": production_map["as_of"],
        "registry": production_map["inputs"]["champion_registry"],
        "core_code": production_map["core_code"],
        "pairs_added": list(changes.entered),
        "pairs_removed": list(changes.left),
        "pairs_changed": sorted(changes.changed),
        "settings_changed": sorted(changes.settings),
        "run_id": run_record["run_id"],
        "revision": run_record["revision"],
        "previous_line": content_hash(log[-1]) if log else None,
        **told,
    }
    return [*(dict(line) for line in log), line]


def promoted(log: Log) -> list[str]:
    """The promotions that count: ids of the maps from the first to the current one, without those rolled back.

    A rollback takes back the promotions after the map it went to. So one after another they walk further back, and a
    promotion, or a rollback to a map by its id, goes on from where they came to.
    """
    return [str(line["map_id"]) for line in _standing(log)]


def taken(log: Log) -> tuple[str, ...]:
    """Challengers that promotions which count have taken in on their record, in the order they came."""
    told = [pair_id for line in _standing(log) for pair_id in line.get("challengers", ())]
    return tuple(dict.fromkeys(told))


def _standing(log: Log) -> list[Mapping[str, Any]]:
    standing: list[Mapping[str, Any]] = []
    for line in log:
        places = [place for place, other in enumerate(standing) if other["map_id"] == line["map_id"]]
        if line["action"] == "rollback" and places:
            del standing[places[-1] + 1 :]
        else:
            standing.append(line)
    return standing
