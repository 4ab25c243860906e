"""Models by fold."""

from mntrading.pipelines.modelling.pipeline import create_pipeline

__all__ = ["create_pipeline"]
