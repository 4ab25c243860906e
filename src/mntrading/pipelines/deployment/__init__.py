"""Champions, production, live signals and orders."""

from mntrading.pipelines.deployment.pipeline import (
    create_pipeline,
    create_preview_pipeline,
    create_rollback_pipeline,
)

__all__ = ["create_pipeline", "create_preview_pipeline", "create_rollback_pipeline"]
