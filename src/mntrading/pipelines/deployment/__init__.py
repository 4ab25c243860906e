"""Champions, production and its shadow, live signals and orders."""

from mntrading.pipelines.deployment.pipeline import (
    SHADOW,
    create_challenge_pipeline,
    create_challenge_preview_pipeline,
    create_pipeline,
    create_preview_pipeline,
    create_rollback_pipeline,
)

__all__ = [
    "SHADOW",
    "create_challenge_pipeline",
    "create_challenge_preview_pipeline",
    "create_pipeline",
    "create_preview_pipeline",
    "create_rollback_pipeline",
]
