"""Runs in MLflow beside the records below ``runs/``: errors of the server in words, and runs that were killed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mntrading.core.errors import MNTradingError

LOGGER = logging.getLogger(__name__)

RUN_ID: Final = "mntrading.run_id"
"""Tag of every run, and of the runs below it: the id of its record."""
_ENDS: Final = {"finished": "FINISHED", "refused": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_PAGE: Final = 1000


class TrackingError(MNTradingError):
    """MLflow failed while a run was told to it; what the run has written is whole."""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what MLflow's client raises into one message.

    Raises
    ------
    TrackingError
        The server failed, or could not be reached.
    """
    import mlflow
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        raise TrackingError(
            f"MLflow failed: {str(error).splitlines()[0][:300]}",
            where=mlflow.get_tracking_uri(),
            fix="what was written stays; once the server is well run it again, or without it: --params tracking=off",
        ) from error


def reconcile(run: Any, history: Any) -> list[str]:
    """End the runs of an experiment that stand as running and whose records are closed.

    A killed process leaves its run open, and a server that was away leaves that of a run which has ended. The record
    in the history says how each of them ended; runs without a record there belong to another storage root.

    Parameters
    ----------
    run
        ``info`` of the run that begins.
    history
        The dataset of closed records.

    Returns
    -------
    list of str
        Ids of the runs that were ended.
    """
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.search_runs([run.experiment_id], "attributes.status = 'RUNNING'", max_results=_PAGE)
    open_runs = [one for one in found if one.info.run_id != run.run_id and RUN_ID in one.data.tags]
    if not open_runs or not history.exists():
        return []
    records: Mapping[str, Any] = history.load()
    ended = []
    for one in open_runs:
        id_ = one.data.tags[RUN_ID].replace(":", "")
        status = _ENDS.get(records[id_]["status"]) if id_ in records else None
        if status is not None:
            client.set_terminated(one.info.run_id, status)
            ended.append(one.info.run_id)
    if ended:
        LOGGER.warning("%d runs stood open in MLflow and were ended by their records", len(ended))
    return ended
