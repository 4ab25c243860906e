"""Steps 7 to 10: select, promote, infer, watch, aggregate; beside them what promotion would change, and rollback."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.deployment.champions import select_champions
from mntrading.pipelines.deployment.inference import infer_signals
from mntrading.pipelines.deployment.monitoring import watch_production
from mntrading.pipelines.deployment.orders import aggregate_orders
from mntrading.pipelines.deployment.paper import settle_account
from mntrading.pipelines.deployment.promotion import promote, promote_preview
from mntrading.pipelines.deployment.rollback import rollback

FROZEN_FROM = [
    "champion_registry",
    "pair_models",
    "params:feature_engineering.features",
    "params:backtest",
    "params:production",
]
"""What a production map is made of."""


def create_pipeline() -> Pipeline:
    """Champions to orders."""
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
                    "funding_rates_stored",
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


def create_preview_pipeline() -> Pipeline:
    """What promotion would change, with nothing of production written."""
    return Pipeline(
        [
            Node(
                promote_preview,
                inputs=[
                    *FROZEN_FROM,
                    "production_map_stored",
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
