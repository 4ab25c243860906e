"""The registered pipelines. The default one stops at champions: nothing it runs writes production files."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from mntrading.pipelines import (
    backtesting,
    deployment,
    feature_engineering,
    ingestion,
    modelling,
    reporting,
    screening,
    upload,
)
from mntrading.pipelines.deployment.guard import guarded

LIVE_TAGS = ("inference", "aggregate", "shadow")


def register_pipelines() -> dict[str, Pipeline]:
    """Every pipeline by name; single stages, and the cycles composed of them."""
    stages = {
        "ingestion": ingestion.create_pipeline(),
        "screening": screening.create_pipeline(),
        "feature_engineering": feature_engineering.create_pipeline(),
        "modelling": modelling.create_pipeline(),
        "backtesting": backtesting.create_pipeline(),
        "deployment": deployment.create_pipeline(),
        "reporting": reporting.create_pipeline(),
    }
    deploy, report = stages["deployment"], stages["reporting"]
    research = (
        stages["ingestion"]
        + stages["screening"]
        + stages["feature_engineering"]
        + stages["modelling"]
        + stages["backtesting"]
        + deploy.only_nodes_with_tags("select")
        + report.only_nodes_with_tags("research")
    )
    latest_report = report.only_nodes("render_report")
    refresh = ingestion.create_refresh_pipeline()
    # what challengers alone need is fetched once production's orders are stored
    refresh += guarded(refresh.only_nodes_with_tags("refresh"), deployment.SHADOW, after="shadow_latest_orders_stored")
    live = deploy.only_nodes_with_tags(*LIVE_TAGS) + latest_report
    return {
        **stages,
        "__default__": research,
        "promote": deploy.only_nodes_with_tags("promote"),
        "upload": upload.create_pipeline(),
        "promote_preview": deployment.create_preview_pipeline(),
        "rollback": deployment.create_rollback_pipeline(),
        "promote_challenger": deployment.create_challenge_pipeline(),
        "promote_challenger_preview": deployment.create_challenge_preview_pipeline(),
        "full_cycle": research + deploy + latest_report,
        "short_cycle": refresh + live,
    }
