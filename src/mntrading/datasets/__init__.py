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
from mntrading.datasets.models import StoredModel

__all__ = [
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
    "Keyed",
    "PartitionedArtifactDataset",
    "Partitions",
    "StoredModel",
]
