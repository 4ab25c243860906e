"""Crash-safe Kedro datasets: artefacts, folders of partitions, bars and models."""

from mntrading.datasets.artifact import ArtifactDataset, Commit, Keyed, PartitionedArtifactDataset, Partitions
from mntrading.datasets.bars_store import BarsDataset, BarStore, BarsUpdate
from mntrading.datasets.models import StoredModel

__all__ = [
    "ArtifactDataset",
    "BarStore",
    "BarsDataset",
    "BarsUpdate",
    "Commit",
    "Keyed",
    "PartitionedArtifactDataset",
    "Partitions",
    "StoredModel",
]
