"""Steps 7 to 10: select, promote, infer, watch, aggregate; the shadow of these; and production changed by command."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.deployment.challenge import promote_challenger, promote_challenger_preview
from mntrading.pipelines.deployment.champions import select_champions
from mntrading.pipelines.deployment.guard import guarded
from mntrading.pipelines.deployment.inference import infer_signals
from mntrading.pipelines.deployment.monitoring import watch_production
from mntrading.pipelines.deployment.orders import aggregate_orders
from mntrading.pipelines.deployment.paper import settle_account
from mntrading.pipelines.deployment.promotion import promote, promote_preview
from mntrading.pipelines.deployment.rollback import rollback
from mntrading.pipelines.deployment.shadow import freeze_shadow, keep_record, open_shadow

FROZEN_FROM = [
    "champion_registry",
    "pair_models",
    "params:feature_engineering.features",
    "params:backtest",
    "params:production",
    "params:champions",
]
"""What a production map is made of."""

SHADOW = {
    "production_map": "shadow_map",
    "production_log_stored": "shadow_log",
    **{
        name: f"shadow_{name}"
        for name in (
            "ohlcv_1h",
            "ohlcv_5m",
            "funding_rates",
            "signals",
            "position_state_stored",
            "position_state",
            "monitoring",
            "paper_account_stored",
            "paper_account",
            "paper_equity_stored",
            "paper_equity",
            "latest_orders_stored",
            "latest_orders",
            "order_history",
        )
    },
}
"""What the shadow has of its own, by what production has."""

LIVE_TAGS = ("inference", "aggregate")

CLAIM = [
    "shadow_map",
    "shadow_log",
    "shadow_record_stored",
    "position_state",
    "production_models",
    "production_history_stored",
    "production_log_stored",
    "params:production",
]
"""What challengers are promoted on."""


def create_pipeline() -> Pipeline:
    """Champions to orders, and beside them the challengers' orders, which are never sent."""
    production = _production()
    return production + _shadow(production.only_nodes_with_tags(*LIVE_TAGS))


def _production() -> Pipeline:
    return Pipeline(
        [
            Node(
                select_champions,
                inputs=[
                    "roster",
                    "pair_curves",
                    "pair_windows",
                    "pair_models",
                    "pair_menus",
                    "ohlcv_5m",
                    "params:champions",
                ],
                outputs="champion_registry",
                name="select_champions",
                tags="select",
            ),
            Node(
                promote,
                inputs=[
                    *FROZEN_FROM,
                    "production_history_stored",
                    "production_log_stored",
                    "run_record",
                ],
                outputs=["production_models", "production_history", "production_log", "production_map"],
                name="promote",
                tags="promote",
            ),
            Node(
                infer_signals,
                inputs=[
                    "ohlcv_5m",
                    "markets",
                    "production_map",
                    "production_models",
                    "position_state_stored",
                    "ohlcv_1h",
                    "production_log_stored",
                ],
                outputs=["signals", "position_state"],
                name="infer_signals",
                tags="inference",
            ),
            Node(
                watch_production,
                inputs=[
                    "ohlcv_5m",
                    "ohlcv_1h",
                    "production_map",
                    "production_models",
                    "position_state",
                    "params:monitoring",
                    "params:screening",
                ],
                outputs="monitoring",
                name="watch_production",
                tags=["inference", "monitoring"],
            ),
            Node(
                settle_account,
                inputs=[
                    "position_state",
                    "production_map",
                    "ohlcv_5m",
                    "markets",
                    "funding_rates",
                    "params:portfolio",
                    "paper_account_stored",
                    "latest_orders_stored",
                    "paper_equity_stored",
                ],
                outputs=["paper_account", "paper_equity"],
                name="settle_account",
                tags="aggregate",
            ),
            Node(
                aggregate_orders,
                inputs=[
                    "signals",
                    "position_state",
                    "production_map",
                    "paper_account",
                    "ohlcv_5m",
                    "markets",
                    "params:portfolio",
                    "monitoring",
                ],
                outputs=["latest_orders", "order_history"],
                name="aggregate_orders",
                tags="aggregate",
            ),
        ]
    )


def _shadow(live: Pipeline) -> Pipeline:
    """The live steps once more, after production's orders are stored, with what begins and what judges them."""
    frozen = Pipeline(
        [
            Node(
                freeze_shadow,
                inputs=[*FROZEN_FROM, "production_map", "shadow_log_stored", "run_record"],
                outputs=["shadow_models", "shadow_log", "shadow_map"],
                name="freeze_shadow",
            )
        ]
    )
    around = Pipeline(
        [
            Node(
                open_shadow,
                inputs=[
                    "shadow_map",
                    "shadow_log",
                    "shadow_record_stored",
                    "production_map",
                    "position_state",
                    "paper_account",
                    "latest_orders",
                    "params:production",
                ],
                outputs=["shadow_position_state_stored", "shadow_paper_account_stored", "shadow_latest_orders_stored"],
                name="open_shadow",
            ),
            Node(
                keep_record,
                inputs=[
                    "shadow_log",
                    "shadow_record_stored",
                    "shadow_position_state",
                    "shadow_paper_account",
                    "shadow_paper_equity",
                    "shadow_order_history",
                    "shadow_monitoring",
                    "paper_account",
                    "paper_equity",
                    "order_history",
                    "params:production",
                ],
                outputs="shadow_record",
                name="keep_record",
            ),
        ]
    )
    return guarded(frozen, tags="promote") + guarded(around) + guarded(live, SHADOW)


def create_preview_pipeline() -> Pipeline:
    """What promotion would change, with nothing of production written."""
    return Pipeline(
        [
            Node(
                promote_preview,
                inputs=[
                    *FROZEN_FROM,
                    "production_map_stored",
                    "production_log_stored",
                ],
                outputs="promotion_preview",
                name="promote_preview",
            ),
        ]
    )


def create_rollback_pipeline() -> Pipeline:
    """Back to a production map there was."""
    return Pipeline(
        [
            Node(
                rollback,
                inputs=[
                    "production_log_stored",
                    "production_history_stored",
                    "production_models",
                    "params:production",
                    "run_record",
                ],
                outputs=["production_log", "production_map"],
                name="rollback",
            ),
        ]
    )


def create_challenge_pipeline() -> Pipeline:
    """Challengers into production on their record."""
    return Pipeline(
        [
            Node(
                promote_challenger,
                inputs=[*CLAIM, "run_record"],
                outputs=["production_history", "production_log", "production_map"],
                name="promote_challenger",
            ),
        ]
    )


def create_challenge_preview_pipeline() -> Pipeline:
    """What that would change, and which rules the record keeps, with nothing of production written."""
    return Pipeline(
        [
            Node(
                promote_challenger_preview,
                inputs=CLAIM,
                outputs="challenger_preview",
                name="promote_challenger_preview",
            ),
        ]
    )
