"""Challengers into production on their record in shadow: by command, and only by what the rules say."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mntrading.core.challenge import Rule, rules
from mntrading.core.errors import ArtifactError
from mntrading.datasets import Partitions, Unavailable
from mntrading.datasets.storage import content_hash
from mntrading.kernels import code_stamp
from mntrading.params import ProductionParams
from mntrading.pipelines.common import SCHEMA_VERSION, intact
from mntrading.pipelines.deployment import production_log as log
from mntrading.pipelines.deployment.changes import Changes, diff
from mntrading.pipelines.deployment.promotion import HISTORY_ID, known
from mntrading.pipelines.deployment.rollback import check_models, check_readable
from mntrading.pipelines.deployment.shadow import RECORD, figures_of, whole

LOGGER = logging.getLogger(__name__)

MAP: Final = "models/shadow_map.json"
_CYCLE: Final = "kedro run --pipelines short_cycle"
_PROMOTE: Final = "kedro run --pipelines promote, then kedro run --pipelines short_cycle"


@dataclass(frozen=True)
class _Claim:
    """A map in shadow that is whole, and what its record says."""

    document: Mapping[str, Any]
    line: Mapping[str, Any]
    record: Mapping[str, Any]
    rules: Sequence[Rule]
    changes: Changes

    @property
    def broken(self) -> list[str]:
        return [f"{rule.words} ({rule.name})" for rule in self.rules if not rule.holds]


def promote_challenger(
    shadow_map: dict[str, Any] | Unavailable | None,
    shadow_log: list[dict[str, Any]] | Unavailable | None,
    shadow_record: dict[str, Any] | Unavailable | None,
    position_state: dict[str, Any],
    production_models: Partitions,
    production_history: Partitions,
    production_log: list[dict[str, Any]] | None,
    production: ProductionParams,
    run_record: dict[str, Any],
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Put the map in shadow into production, its challengers with it, where their record keeps every rule.

    Returns the map's entry in the history, the log with the record as the reason, and the map, in the order they are
    saved in. A rollback takes it back.

    Raises
    ------
    ArtifactError
        A rule is broken; or the map, a model or the record is missing, altered, or not of production as it is now.
    """
    lines = log.checked(production_log)
    claim = _claim(
        shadow_map, shadow_log, shadow_record, position_state, production_models, production_history, lines, production
    )
    if claim.broken:
        raise ArtifactError(
            f"{', '.join(claim.line['challengers'])} may not be promoted: {'; '.join(claim.broken)}",
            where=RECORD,
            fix=f"{_CYCLE}, until the record keeps the rules of production.shadow; "
            "kedro run --pipelines promote_challenger_preview says what is missing",
        )
    document = dict(claim.document)
    lines = log.appended(
        lines, "promote_challenger", document, claim.changes, run_record,
        challengers=claim.line["challengers"], replaced=claim.line["replaced"], record=claim.record["figures"],
    )  # fmt: skip
    LOGGER.info("%s", "\n".join(claim.changes.lines()))
    return {document["id"][:HISTORY_ID]: document}, lines, document


def promote_challenger_preview(
    shadow_map: dict[str, Any] | Unavailable | None,
    shadow_log: list[dict[str, Any]] | Unavailable | None,
    shadow_record: dict[str, Any] | Unavailable | None,
    position_state: dict[str, Any],
    production_models: Partitions,
    production_history: Partitions,
    production_log: list[dict[str, Any]] | None,
    production: ProductionParams,
) -> dict[str, Any]:
    """What taking the challengers in would change, and the rules their record keeps and breaks; nothing else is done.

    Raises
    ------
    ArtifactError
        As ``promote_challenger`` does, broken rules apart.
    """
    claim = _claim(
        shadow_map, shadow_log, shadow_record, position_state, production_models, production_history,
        log.checked(production_log), production,
    )  # fmt: skip
    verdict = "kedro run --pipelines promote_challenger does it" if not claim.broken else "not yet"
    told = [f"  {'kept' if rule.holds else 'broken'}: {rule.name}: {rule.words}" for rule in claim.rules]
    lines = [f"challengers {', '.join(claim.line['challengers'])}: {verdict}", *told, *claim.changes.lines()]
    LOGGER.info("%s", "\n".join(lines))
    return {
        "schema_version": SCHEMA_VERSION,
        "as_of": claim.record["as_of"],
        "inputs": {"shadow_record": content_hash(claim.record), "shadow_map": content_hash(claim.document)},
        **claim.changes.document(),
        "lines": lines,
        "challengers": claim.line["challengers"],
        "ready": not claim.broken,
        "broken": claim.broken,
    }


def _claim(
    shadow_map: dict[str, Any] | Unavailable | None,
    shadow_log: list[dict[str, Any]] | Unavailable | None,
    shadow_record: dict[str, Any] | Unavailable | None,
    position_state: Mapping[str, Any],
    models: Partitions,
    history: Partitions,
    production_log: log.Log,
    production: ProductionParams,
) -> _Claim:
    """The claim of the challengers, held against everything but the rules."""
    document = _had(shadow_map, MAP, _PROMOTE)
    lines = log.checked(_had(shadow_log, log.SHADOW, _PROMOTE), log.SHADOW)
    record = whole(_had(shadow_record, RECORD, _CYCLE))
    intact(document, MAP, _PROMOTE)
    line = lines[-1]
    if line["map_id"] != document["id"]:
        raise ArtifactError(f"is not the map its log speaks of ({line['map_id'][:12]})", where=MAP, fix=_PROMOTE)
    live = log.current(production_log)
    if live == document["id"] or not line["challengers"]:
        raise ArtifactError("no challenger is in it that is not in production", where=MAP, fix="kedro run")
    if live != line["production_map_id"]:
        raise ArtifactError(
            f"was made beside map {line['production_map_id'][:12]}, and {str(live)[:12]} is in production now",
            where=MAP,
            fix=_PROMOTE,
        )
    if document["core_code"] != code_stamp():
        raise ArtifactError("was made by other code of the core", where=MAP, fix="kedro run --pipelines full_cycle")
    check_readable(document, lines)
    check_models(document, models)
    if record["map_id"] != document["id"] or record["as_of"] != position_state["as_of"]:
        raise ArtifactError(
            f"is of map {record['map_id'][:12]} at {record['as_of']}; in shadow is {document['id'][:12]}, and "
            f"production is at {position_state['as_of']}",
            where=RECORD,
            fix=_CYCLE,
        )
    found = rules(figures_of(record), record["figures"]["trades"], record["doubts"], production.shadow)
    return _Claim(document, line, record, found, diff(known(history, live), document))


def _had(value: Any, where: str, fix: str) -> Any:
    """What is there to be judged."""
    if value is None or isinstance(value, Unavailable):
        why = "does not exist: no challenger has run in shadow" if value is None else value.why
        raise ArtifactError(why, where=where, fix=fix)
    return value
