"""Champions, production, live signals and orders."""

from mntrading.pipelines.deployment.pipeline import create_pipeline

__all__ = ["create_pipeline"]
