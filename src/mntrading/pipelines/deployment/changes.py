"""What differs between two production maps: pairs that enter, leave and stay, and every field that changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mntrading.datasets.storage import plain

_PROVENANCE: Final = ("schema_version", "id", "as_of", "inputs", "parameters")
"""Where a map comes from: it differs from promotion to promotion and decides nothing."""

_HASH: Final = re.compile(r"[0-9a-f]{20,}")
_SHOWN_OF_HASH: Final = 12


@dataclass(frozen=True)
class Change:
    """One field before and after; None where it was or is not there."""

    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{_shown(self.before)} -> {_shown(self.after)}"


@dataclass(frozen=True)
class Changes:
    """What a step from one production map to another does.

    Parameters
    ----------
    before, after
        Ids of the maps; ``before`` is None where nothing was in production.
    entered, left, stayed
        Pairs of the second map alone, of the first alone, and of both; sorted.
    changed
        Fields that change, by pair that stays and dotted path: ``rule.entry_z``.
    settings
        The same of what the pairs share: ``expires``, ``costs.fee_rate``, ``strategy.cooldown_bars``.
    """

    before: str | None
    after: str
    entered: tuple[str, ...]
    left: tuple[str, ...]
    stayed: tuple[str, ...]
    changed: Mapping[str, Mapping[str, Change]]
    settings: Mapping[str, Change]

    def document(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "before": self.before,
            "after": self.after,
            "entered": list(self.entered),
            "left": list(self.left),
            "stayed": list(self.stayed),
            "changed": {pair_id: _rows(fields) for pair_id, fields in self.changed.items()},
            "settings": _rows(self.settings),
        }

    def lines(self) -> list[str]:
        """The same in words, one line for each pair and each setting that changes."""
        if self.before == self.after:
            return [f"production map {self.after[:_SHOWN_OF_HASH]} is in production already: nothing changes"]
        was = "nothing" if self.before is None else self.before[:_SHOWN_OF_HASH]
        head = (
            f"production map {was} -> {self.after[:_SHOWN_OF_HASH]}: {len(self.entered)} pairs enter, "
            f"{len(self.left)} leave, {len(self.stayed)} stay, {len(self.changed)} of them changed"
        )
        return [
            head,
            *(f"  + {pair_id}" for pair_id in self.entered),
            *(f"  - {pair_id}" for pair_id in self.left),
            *(f"  = {pair_id}" for pair_id in self.stayed if pair_id not in self.changed),
            *(f"  ~ {pair_id}: {_told(fields)}" for pair_id, fields in self.changed.items()),
            *(f"  {path}: {change}" for path, change in self.settings.items()),
        ]


def diff(map_before: Mapping[str, Any] | None, map_after: Mapping[str, Any]) -> Changes:
    """What changes from one production map to another; neither is altered.

    Parameters
    ----------
    map_before
        The map there was; None where there was none, and every pair of the other enters then.
    map_after
        The map there is to be.

    Returns
    -------
    The changes; a map's provenance (``as_of``, hashes of inputs and parameters) is not among them.
    """
    before, after = plain(map_before or {}), plain(map_after)
    pairs_before = {entry["pair_id"]: entry for entry in before.get("pairs", [])}
    pairs_after = {entry["pair_id"]: entry for entry in after["pairs"]}
    stayed = sorted(set(pairs_before) & set(pairs_after))
    found = {pair_id: dict(_differences(pairs_before[pair_id], pairs_after[pair_id])) for pair_id in stayed}
    return Changes(
        before=before.get("id"),
        after=after["id"],
        entered=tuple(sorted(set(pairs_after) - set(pairs_before))),
        left=tuple(sorted(set(pairs_before) - set(pairs_after))),
        stayed=tuple(stayed),
        changed={pair_id: fields for pair_id, fields in found.items() if fields},
        settings=dict(_differences(_shared(before), _shared(after))) if map_before is not None else {},
    )


def _shared(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in (*_PROVENANCE, "pairs")}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Change]]:
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{above}{key}.")
        elif old != new:
            yield f"{above}{key}", Change(old, new)


def _rows(fields: Mapping[str, Change]) -> dict[str, dict[str, Any]]:
    return {path: {"from": change.before, "to": change.after} for path, change in fields.items()}


def _told(fields: Mapping[str, Change]) -> str:
    return ", ".join(f"{path} {change}" for path, change in fields.items())


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return _HASH.sub(lambda found: found[0][:_SHOWN_OF_HASH], text)
