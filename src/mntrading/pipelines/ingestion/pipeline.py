"""Step 1: bars of the whole universe at the screening timeframe."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.ingestion.nodes import (
    fetch_bars_1h,
    fetch_markets,
    refresh_bars_1h,
    refresh_bars_5m,
    refresh_funding_rates,
)


def create_pipeline() -> Pipeline:
    """Markets, then their bars."""
    return Pipeline(
        [
            Node(
                fetch_markets,
                inputs=["params:market", "params:ingestion", "ohlcv_1h_stored", "markets_stored"],
                outputs=["markets", "market_rules"],
                name="fetch_markets",
            ),
            Node(
                fetch_bars_1h,
                inputs=["params:market", "params:ingestion", "markets", "ohlcv_1h_stored"],
                outputs="ohlcv_1h",
                name="fetch_bars_1h",
            ),
        ],
        tags="ingest",
    )


def create_refresh_pipeline() -> Pipeline:
    """The market's clock, and the newest bars and rates of the production pairs: what a live cycle begins with."""
    hourly = Node(
        refresh_bars_1h,
        inputs=["params:market", "params:ingestion", "markets", "production_map", "ohlcv_1h_stored"],
        outputs="ohlcv_1h",
        name="refresh_bars_1h",
    )
    refresh = Node(
        refresh_bars_5m,
        inputs=[
            "params:market",
            "params:ingestion",
            "markets",
            "production_map",
            "ohlcv_5m_stored",
            "latest_orders_stored",
        ],
        outputs="ohlcv_5m",
        name="refresh_bars_5m",
    )
    funding = Node(
        refresh_funding_rates,
        inputs=[
            "params:market",
            "params:ingestion",
            "markets",
            "production_map",
            "funding_rates_stored",
            "latest_orders_stored",
        ],
        outputs="funding_rates",
        name="refresh_funding_rates",
    )
    return create_pipeline().only_nodes("fetch_markets") + Pipeline([hourly, refresh, funding], tags="refresh")
