"""Steps 7 to 10: select, promote, infer, aggregate."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.deployment.champions import select_champions
from mntrading.pipelines.deployment.inference import infer_signals
from mntrading.pipelines.deployment.orders import aggregate_orders
from mntrading.pipelines.deployment.promotion import promote


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
                    "champion_registry",
                    "pair_models",
                    "params:feature_engineering.features",
                    "params:backtest",
                    "params:production",
                ],
                outputs=["production_map", "production_history", "production_models"],
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
                ],
                outputs=["signals", "position_state"],
                name="infer_signals",
                tags="inference",
            ),
            Node(
                aggregate_orders,
                inputs=[
                    "signals",
                    "position_state",
                    "production_map",
                    "ohlcv_5m",
                    "markets",
                    "params:portfolio",
                    "latest_orders_stored",
                ],
                outputs=["latest_orders", "order_history"],
                name="aggregate_orders",
                tags="aggregate",
            ),
        ]
    )
