"""How errors leave a dataset: as they were raised, whatever Kedro wraps around them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kedro.io.core import AbstractDataset, DatasetError

from mntrading.core.errors import ArtifactError, MNTradingError


class MissingPartitionError(ArtifactError, KeyError):
    """A partition that a folder of partitions does not have; a ``KeyError`` to mapping methods."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError's own form would quote the message


class PlainErrorsDataset(AbstractDataset[Any, Any]):
    """Base of datasets whose own errors reach the caller of ``catalog.load`` and ``catalog.save`` unchanged.

    Kedro turns any error of a dataset into a ``DatasetError`` ("Failed while loading data from …"), and the
    catalog turns each of these into another. An ``MNTradingError`` says all there is to say: it is taken out
    of the first wrapping, and the catalog lets it pass.
    """

    def exists(self) -> bool:
        """Whether there is something to load; a place that can't be asked is an error, not a no."""
        return bool(_plain_errors(AbstractDataset.exists)(self))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Put the way out around what Kedro has put around ``load`` and ``save``."""
        super().__init_subclass__(**kwargs)
        cls.load = _plain_errors(cls.load)  # type: ignore[method-assign]
        cls.save = _plain_errors(cls.save)  # type: ignore[method-assign]


def _plain_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*given: Any, **named: Any) -> Any:
        try:
            return method(*given, **named)
        except DatasetError as error:
            if isinstance(error.__cause__, MNTradingError):
                raise error.__cause__ from error.__cause__.__cause__
            raise

    # a subclass has Kedro wrap the bare method anew
    call.__wrapped__ = getattr(method, "__wrapped__", method)
    return call
