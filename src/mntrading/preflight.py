"""Whether everything a run leans on answers: asked at once, before anything runs, five seconds at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from mntrading.configuration import is_remote
from mntrading.core.errors import MNTradingError
from mntrading.objects.conditional import probe
from mntrading.objects.store import Store

SECONDS: Final = 5.0

_ASKED: Final = (
    "/api/2.0/mlflow/experiments/search"  # the health page answers whatever the host, and without a database
)


class PreflightError(MNTradingError):
    """Services that do not answer: a line for each of them, with the command to run next."""


@dataclass(frozen=True)
class Check:
    """One service.

    Parameters
    ----------
    name
        What it is for.
    where
        Its address.
    ask
        Raises an ``MNTradingError`` where it does not serve.
    """

    name: str
    where: str
    ask: Callable[[], None]


def checks(storage: Mapping[str, Any], credentials: Mapping[str, Any] | None, tracking_uri: str | None) -> list[Check]:
    """What a run with this storage root and this tracking store has to ask for; nothing where both are files.

    Parameters
    ----------
    storage
        ``storage`` of the globals.
    credentials
        Those of the root.
    tracking_uri
        None where nothing is tracked.
    """
    found, root = [], str(storage["root"])
    if is_remote(root) and root.startswith("s3://"):
        store = Store(root, credentials, attempts=1, read_seconds=SECONDS - 1)
        found.append(Check("storage", store.shown, store.reach))
    if tracking_uri and urlsplit(tracking_uri).scheme in ("http", "https"):
        found.append(Check("MLflow", tracking_uri, lambda: ask_mlflow(tracking_uri)))
    return found


def fly(asked: list[Check], *, seconds: float = SECONDS) -> None:
    """Ask all of them at once.

    Raises
    ------
    PreflightError
        With a line for each service that did not answer in time, or not as it should.
    """
    failures: dict[str, MNTradingError] = {}

    def ask(check: Check) -> None:
        try:
            check.ask()
        except MNTradingError as error:
            failures[check.name] = error
        except Exception as error:  # noqa: BLE001 -- told with the others; a thread has nobody to raise it to
            failures[check.name] = MNTradingError(f"{type(error).__name__}: {error}", where=check.where)

    threads = {check: threading.Thread(target=ask, args=(check,), daemon=True) for check in asked}
    until = time.monotonic() + seconds
    for thread in threads.values():
        thread.start()
    for check, thread in threads.items():
        thread.join(max(until - time.monotonic(), 0.0))
        if thread.is_alive():
            failures[check.name] = MNTradingError(
                f"did not answer within {seconds:g} s", where=check.where, fix="look at it, then: kedro preflight"
            )
    told = [_line(check, failures[check.name]) for check in asked if check.name in failures]
    if told:
        raise PreflightError("\n".join([f"{len(told)} of {len(asked)} services can't be used", *told]))


def told(storage: Mapping[str, Any], credentials: Mapping[str, Any] | None, tracking_uri: str | None) -> list[str]:
    """A line for each service that was found to answer; where runs need a lease, what its store is worth.

    Raises
    ------
    StoreError
        No lease can rest on the store, and ``storage.lease`` is ``strict``.
    """
    root, mode = str(storage["root"]), str(storage["lease"])
    lines = [f"storage: {root} is on this machine" if not is_remote(root) else f"storage: {root} answers"]
    if root.startswith("s3://") and mode != "off":
        store = Store(root, credentials)
        verdict = probe(store)
        if mode == "strict":
            verdict.require(store)
        lines.append(f"lease: {mode}; {verdict}")
    elif is_remote(root):
        lines.append("lease: off; nothing keeps a second run from this root")
    lines.append(f"MLflow: {tracking_uri} answers" if tracking_uri else "MLflow: off")
    return lines


def ask_mlflow(uri: str) -> None:
    """Ask an MLflow server for something that needs its database, under the name a client calls it by.

    Raises
    ------
    MNTradingError
        It does not answer, or not with 200.
    """
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    off = "or run without it: --params tracking=off"
    try:
        answer = http_request(  # type: ignore[no-untyped-call]
            host_creds=get_default_host_creds(uri),  # type: ignore[no-untyped-call]
            endpoint=_ASKED,
            method="GET",
            max_retries=0,
            raise_on_status=False,
            timeout=SECONDS - 1,
            params={"max_results": 1},
        )
    except (MlflowException, requests.RequestException, OSError) as error:
        raise MNTradingError(
            f"MLflow does not answer ({_reason(error)})", where=uri, fix=f"start it, unset MLFLOW_TRACKING_URI, {off}"
        ) from error
    if answer.status_code == 200:
        return
    fixes = {
        401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        403: f"start the server with --allowed-hosts for {urlsplit(uri).netloc!r}, or see what the user may do",
        404: "MLFLOW_TRACKING_URI is not the address of an MLflow server",
    }
    fix = fixes.get(answer.status_code, "look at the server's log and its database")
    raise MNTradingError(f"MLflow answers {answer.status_code}", where=uri, fix=f"{fix}; {off}")


def _reason(error: BaseException) -> str:
    """The innermost reason of a client's error: the rest repeats its address."""
    text = str(error)
    for known in (
        "Connection refused",
        "timed out",
        "Name or service not known",
        "Connection reset",
        "failed to resolve",
    ):
        if known.lower() in text.lower():
            return known
    return text.splitlines()[0][:200]


def _line(check: Check, error: MNTradingError) -> str:
    nexts = f". Next: {error.fix}" if error.fix else ""
    return f"  {check.name}: {error.where or check.where}: {error.what}{nexts}"
