"""Cointegrated pairs by fold."""

from mntrading.pipelines.screening.pipeline import create_pipeline

__all__ = ["create_pipeline"]
