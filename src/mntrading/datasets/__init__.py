"""Crash-safe Kedro datasets: artefacts, folders of partitions, bars and models."""

from mntrading.datasets.artifact import (
    ArtifactDataset,
    Commit,
    FigureDataset,
    Keyed,
    PartitionedArtifactDataset,
    Partitions,
)
from mntrading.datasets.bars_store import BarsDataset, BarsUpdate
from mntrading.datasets.bars_view import BarStore, Damage
from mntrading.datasets.contract import BarContract
from mntrading.datasets.dated import DatedArtifactDataset, DatedPartitions
from mntrading.datasets.guarded import (
    KEPT,
    Guarded,
    GuardedArtifactDataset,
    GuardedBarsDataset,
    GuardedDatedDataset,
    GuardedPartitionsDataset,
    Kept,
    Unavailable,
)
from mntrading.datasets.models import StoredModel

__all__ = [
    "KEPT",
    "ArtifactDataset",
    "BarContract",
    "BarStore",
    "BarsDataset",
    "BarsUpdate",
    "Commit",
    "Damage",
    "DatedArtifactDataset",
    "DatedPartitions",
    "FigureDataset",
    "Guarded",
    "GuardedArtifactDataset",
    "GuardedBarsDataset",
    "GuardedDatedDataset",
    "GuardedPartitionsDataset",
    "Kept",
    "Keyed",
    "PartitionedArtifactDataset",
    "Partitions",
    "StoredModel",
    "Unavailable",
]
