"""Step 2: cointegrated pairs of every fold and their figures, then by itself the trading bars of their symbols."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.ingestion.nodes import fetch_bars_5m, fetch_funding_rates
from mntrading.pipelines.reporting.nodes import draw_screen
from mntrading.pipelines.screening.nodes import screen_pairs


def create_pipeline() -> Pipeline:
    """Screen, draw the newest screen, then fetch what the selected pairs need."""
    return Pipeline(
        [
            Node(
                screen_pairs,
                inputs=[
                    "ohlcv_1h",
                    "markets",
                    "roster_stored",
                    "params:screening",
                    "params:schedule",
                    "params:compute",
                ],
                outputs=["screened_pairs", "cointegration_tests", "roster"],
                name="screen_pairs",
            ),
            Node(
                draw_screen,
                inputs=["roster", "screened_pairs", "cointegration_tests", "params:screening"],
                outputs=["screening_heat_map", "pair_network"],
                name="draw_screen",
            ),
            Node(
                fetch_bars_5m,
                inputs=["params:market", "params:ingestion", "markets", "roster", "ohlcv_1h", "ohlcv_5m_stored"],
                outputs="ohlcv_5m",
                name="fetch_bars_5m",
            ),
            Node(
                fetch_funding_rates,
                inputs=["params:market", "params:ingestion", "markets", "roster", "funding_rates_stored"],
                outputs="funding_rates",
                name="fetch_funding_rates",
            ),
        ],
        tags="screen",
    )
