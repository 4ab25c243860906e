"""Features and labels by pair."""

from mntrading.pipelines.feature_engineering.pipeline import create_pipeline

__all__ = ["create_pipeline"]
