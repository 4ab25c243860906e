"""Datasets of what must be in nobody's way: what can't be loaded or saved is told as a value, and raises nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from kedro.io.core import DatasetError

from mntrading.core.errors import MNTradingError
from mntrading.datasets.artifact import ArtifactDataset, PartitionedArtifactDataset
from mntrading.datasets.bars_store import BarsDataset
from mntrading.datasets.dated import DatedArtifactDataset

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unavailable:
    """In the place of what can't be had.

    Parameters
    ----------
    why
        The reason, in words.
    trouble
        Whether something is wrong; False where there is nothing to be had.
    """

    why: str
    trouble: bool = True


@dataclass(frozen=True)
class Kept:
    """In the place of what is to stay as it is stored."""


KEPT: Final = Kept()


class Guarded:
    """Mixin of a dataset: errors become ``Unavailable``, which is handed on within the run and never stored.

    What is ``KEPT`` is left as it is stored.
    """

    _missed: Unavailable | None = None

    def load(self) -> Any:
        """The stored object, or why it can't be had."""
        if self._missed is not None:
            return self._missed
        try:
            return super().load()  # type: ignore[misc]
        except (MNTradingError, DatasetError) as error:
            return Unavailable(str(error))

    def save(self, data: Any) -> None:
        """Store an object, unless it is in the place of one."""
        self._missed = data if isinstance(data, Unavailable) else None
        if isinstance(data, Unavailable | Kept):
            return
        try:
            super().save(data)  # type: ignore[misc]
        except (MNTradingError, DatasetError) as error:
            LOGGER.warning("not saved: %s", error)
            self._missed = Unavailable(str(error))


class GuardedArtifactDataset(Guarded, ArtifactDataset):
    """``GuardedArtifactDataset`` is an ``ArtifactDataset`` that stops no run.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        shadow_map:
          type: mntrading.datasets.GuardedArtifactDataset
          filepath: ${globals:storage.root}/models/shadow_map.json
          format: json
          schema: production_map

    Using the Python API:

    >>> dataset = GuardedArtifactDataset(filepath="memory://doc/absent.json", format="json")
    >>> dataset.load()
    Unavailable(why='memory:///doc/absent.json: does not exist', trouble=True)
    """


class GuardedPartitionsDataset(Guarded, PartitionedArtifactDataset):
    """``GuardedPartitionsDataset`` is a ``PartitionedArtifactDataset`` that stops no run.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        shadow_paper_equity:
          type: mntrading.datasets.GuardedPartitionsDataset
          path: ${globals:storage.root}/portfolio/shadow/paper_equity
          format: parquet
          append: true
    """


class GuardedDatedDataset(Guarded, DatedArtifactDataset):
    """``GuardedDatedDataset`` is a ``DatedArtifactDataset`` that stops no run.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        shadow_signals:
          type: mntrading.datasets.GuardedDatedDataset
          path: ${globals:storage.root}/signals/shadow
          format: jsonl
    """


class GuardedBarsDataset(Guarded, BarsDataset):
    """``GuardedBarsDataset`` is a ``BarsDataset`` that stops no run.

    Examples
    --------
    Using the YAML API:

    .. code-block:: yaml

        shadow.ohlcv_5m:
          type: mntrading.datasets.GuardedBarsDataset
          path: ${globals:storage.root}/raw/ohlcv_5m.parquet
          timeframe: 5m
    """
