"""Walk-forward trading."""

from mntrading.pipelines.backtesting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
