"""Back to a production map there was, by the log of production, with the models it was promoted with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.datasets import Partitions
from mntrading.kernels import code_stamp
from mntrading.params import ProductionParams
from mntrading.pipelines.common import seal_holds
from mntrading.pipelines.deployment import production_log as log
from mntrading.pipelines.deployment.changes import diff
from mntrading.pipelines.deployment.production_map import unreadable
from mntrading.pipelines.deployment.promotion import HISTORY_ID

LOGGER = logging.getLogger(__name__)

_HISTORY: Final = "models/production_history"
_TO: Final = "kedro run --pipelines rollback --params production.rollback_to=<id>"


def rollback(
    production_log: list[dict[str, Any]] | None,
    production_history: Partitions,
    production_models: Partitions,
    production: ProductionParams,
    run_record: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Put the map before the current one, or the one of ``rollback_to``, into production again, byte by byte.

    Returns the log and the map, in the order they are saved in.

    Raises
    ------
    ParameterError, ArtifactError
        There is no such map, this code can't read it, or a model of it is missing or altered.
    """
    lines = log.checked(production_log)
    wanted = production.rollback_to
    id_ = _before(lines) if wanted is None else _named(production_history, wanted)
    document = _whole(production_history, id_)
    check_readable(document, lines)
    check_models(document, production_models)
    now = log.current(lines)
    known = None if now is None or now[:HISTORY_ID] not in production_history else _whole(production_history, now)
    changes = diff(known, document)
    LOGGER.info("%s", "\n".join(changes.lines()))
    _warn(document, lines)
    return log.appended(lines, "rollback", document, changes, run_record), document


def _before(lines: log.Log) -> str:
    """Id of the map that the current one took the place of."""
    standing = log.promoted(lines)
    if len(standing) < 2:
        what = "there is no map before the current one" if standing else "nothing has been promoted yet"
        raise ArtifactError(
            f"{what}: nothing to go back to",
            where=log.WHERE,
            fix=f"{_TO}; or stop entering: kedro run --pipelines short_cycle --params portfolio.kill_switch=reducing"
            if standing
            else "kedro run --pipelines full_cycle",
        )
    return standing[-2]


def _named(history: Partitions, wanted: str) -> str:
    """Id of the one map whose id begins so."""
    near = [key for key in history if key.startswith(wanted[:HISTORY_ID])]
    found = [id_ for id_ in (str(history[key]["id"]) for key in near) if id_.startswith(wanted)]
    if len(found) != 1:
        kept = ", ".join(id_[:12] for id_ in found or history) or "none"
        what = f"begins the ids of {len(found)} maps" if found else "is the id of no map"
        raise ParameterError(
            f"{wanted!r} {what} ({'' if found else 'there are '}{kept})",
            where="production.rollback_to",
            fix=f"{_TO}, with an id of {log.WHERE}, or as much of it as makes it the only one",
        )
    return found[0]


def _whole(history: Partitions, id_: str) -> dict[str, Any]:
    """A map of the history, held to its id."""
    if id_[:HISTORY_ID] not in history:
        raise ArtifactError(f"map {id_[:12]} of the log is not there any more", where=_HISTORY, fix=_TO)
    document: dict[str, Any] = history[id_[:HISTORY_ID]]
    if not seal_holds(document) or document["id"] != id_:
        raise ArtifactError(f"map {id_[:12]} was altered after promotion", where=_HISTORY, fix=_TO)
    return document


def check_readable(document: Mapping[str, Any], lines: log.Log) -> None:
    """Refuse a map with parameters that this code does not know: live inference could make nothing of it."""
    unknown = unreadable(document)
    if unknown:
        raise ArtifactError(
            f"map {document['id'][:12]} is not one this code can trade by: {unknown}",
            where=_HISTORY,
            fix=f"check out {_revision(document, lines)}, or go to another map: {_TO}",
        )


def _revision(document: Mapping[str, Any], lines: log.Log) -> str:
    """Revision of the code a map was last promoted by."""
    by = [line["revision"] for line in lines if line["action"] != "rollback" and line["map_id"] == document["id"]]
    return str(by[-1]) if by else "the revision it was promoted by"


def check_models(document: Mapping[str, Any], models: Partitions) -> None:
    """Refuse a map without the very models it was promoted with."""
    for sha, uri in sorted({(e["model"]["sha256"], e["model"]["uri"]) for e in document["pairs"] if e["model"]}):
        what = "is missing"
        if sha in models:
            try:
                models.stored(sha)
            except ArtifactError as error:
                what = error.what
            else:
                what = "" if models.digests[sha] == sha else "is not the one that was promoted"
        if what:
            raise ArtifactError(
                f"a model of map {document['id'][:12]} {what}",
                where=uri,
                fix=f"restore the file from a backup, or go to another map: {_TO}",
            )


def _warn(document: Mapping[str, Any], lines: log.Log) -> None:
    """Say that a map is too old to be entered by, where that can be told; exits go on in any case."""
    newest = max((pd.Timestamp(line["as_of"]) for line in lines), default=pd.Timestamp(document["as_of"]))
    if pd.Timestamp(document["expires"]) < newest:
        LOGGER.warning("map %s expired at %s: no pair is entered by it", document["id"][:12], document["expires"])
    if document["core_code"] != code_stamp():
        LOGGER.warning(
            "map %s was made by other code of the core: check out %s to trade by it",
            document["id"][:12],
            _revision(document, lines),
        )
