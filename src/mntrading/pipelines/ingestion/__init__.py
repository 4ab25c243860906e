"""Bars from a market into the store."""

from mntrading.pipelines.ingestion.pipeline import create_pipeline, create_refresh_pipeline

__all__ = ["create_pipeline", "create_refresh_pipeline"]
