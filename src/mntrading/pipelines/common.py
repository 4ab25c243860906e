"""What the nodes of several pipelines share: artefact headers, table rows, fan-out over pairs, progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import joblib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mntrading.compute import workers
from mntrading.core.errors import ArtifactError
from mntrading.datasets import BarStore, Partitions
from mntrading.datasets.storage import content_hash, frame_hash
from mntrading.params import Block, ComputeParams

LOGGER = logging.getLogger(__name__)
SCHEMA_VERSION = 1

_MADE_BY = {
    "pair_features": "features",
    "pair_datasets": "dataset",
    "pair_models": "train",
    "predictions": "train",
    "pair_menus": "backtest",
    "candidate_returns": "backtest",
    "pair_windows": "backtest",
}

T = TypeVar("T")
R = TypeVar("R")


def digest(value: object) -> str:
    """Content hash of anything a catalog entry holds."""
    if isinstance(value, Partitions | BarStore):
        return value.digest
    if isinstance(value, pd.DataFrame):
        return frame_hash(value)
    return content_hash(value)


def header(as_of: str | pd.Timestamp, inputs: Mapping[str, object], params: Mapping[str, Block]) -> dict[str, Any]:
    """The head of every JSON artefact: version, time it is valid for, hashes of what it was made from."""
    return {
        "schema_version": SCHEMA_VERSION,
        "as_of": as_of,
        "inputs": {name: digest(value) for name, value in inputs.items()},
        "parameters": {name: content_hash(block.model_dump(mode="json")) for name, block in params.items()},
    }


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its ``id``, the hash of its content; whoever reads it can tell whether it was altered."""
    return {**document, "id": content_hash(document)}


def seal_holds(document: Mapping[str, Any]) -> bool:
    """Whether a document is as it was when it was sealed."""
    return bool(content_hash({key: value for key, value in document.items() if key != "id"}) == document["id"])


def intact(document: Mapping[str, Any], where: str, fix: str) -> Mapping[str, Any]:
    """A sealed document that was not altered.

    Raises
    ------
    ArtifactError
        It was.
    """
    if not seal_holds(document):
        raise ArtifactError(
            "its content does not match its id: it was altered since it was written", where=where, fix=fix
        )
    return document


def stamp_of(bar_close: pd.Timestamp) -> str:
    """Name of what belongs to a bar, by its close."""
    return f"{bar_close:%Y%m%dT%H%M%SZ}"


def must_follow(roster: Mapping[str, Any], **made: Partitions) -> None:
    """Refuse partitions that were made from another roster than the stored one.

    Raises
    ------
    ArtifactError
        Naming the partitions; stages run alone must be run in their order.
    """
    for name, partitions in made.items():
        if partitions.meta["inputs"].get("roster") != digest(roster):
            raise ArtifactError(
                "was made from another roster than the one that is stored now",
                where=name,
                fix=f"kedro run --tags {_MADE_BY[name]}, and the steps after it",
            )


def number(value: float) -> float | None:
    """A float as JSON has it: None for what is not finite."""
    return float(value) if np.isfinite(value) else None


def numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    """``number`` of every value."""
    return {name: number(value) for name, value in values.items()}


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as plain values, None for what is missing or not finite."""
    return [
        {str(name): None if isinstance(v, float) and not np.isfinite(v) else v for name, v in row.items()}
        for row in frame.to_dict("records")
    ]


def fan_out(
    function: Callable[[T], R],
    items: Sequence[T],
    compute: ComputeParams,
    what: str,
    *,
    reads: BarStore | Partitions | None = None,
) -> Iterator[R]:
    """Apply a function to every item on the workers of ``compute``, results in order as they are ready.

    Inner libraries are held to one thread, so that pools are never nested.

    Parameters
    ----------
    reads
        Some of the stored data that the function reads. The workers of a cluster read it by themselves, which they can
        where it is in an object store; where it is on this machine, or not named, threads of this process do the work.
    """

    def limited(item: T) -> R:
        with threadpool_limits(1):
            return function(item)

    def results() -> Iterator[R]:
        tasks = (joblib.delayed(limited)(item) for item in items)
        if compute.backend == "dask" and reads is not None and reads.is_remote:
            with workers(compute):
                yield from joblib.Parallel(return_as="generator")(tasks)
        else:
            backend = "threading" if compute.backend == "dask" else compute.backend
            yield from joblib.Parallel(n_jobs=compute.n_workers, backend=backend, return_as="generator")(tasks)

    return progress(results(), len(items), what)


def progress(items: Iterable[T], total: int, what: str, every_seconds: float = 2.0) -> Iterator[T]:
    """Pass items through, logging how far they are at most every few seconds and once at the end."""
    began = time.monotonic()
    tell = teller(what, every_seconds)
    done = 0
    for item in items:
        done += 1
        tell(done, total)
        yield item
    LOGGER.info("%s: %s of %s in %.1f s", what, f"{done:,}", f"{total:,}", time.monotonic() - began)


def teller(what: str, every_seconds: float = 2.0) -> Callable[[int, int], None]:
    """A callback ``(done, total)`` that logs how far the work is, at most every few seconds; nothing at the end."""
    began = last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_seconds and done < total:
            remaining = (now - began) / done * (total - done)
            LOGGER.info("%s: %s of %s, about %.0f s left", what, f"{done:,}", f"{total:,}", remaining)
            last = now

    return tell
