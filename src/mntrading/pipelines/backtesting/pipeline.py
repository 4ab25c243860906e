"""Step 6: trade each window with what its formation window produced."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.backtesting.nodes import backtest_pairs, backtest_portfolio


def create_pipeline() -> Pipeline:
    """Pairs alone, then the netted portfolio."""
    return Pipeline(
        [
            Node(
                backtest_pairs,
                inputs=[
                    "ohlcv_5m",
                    "pair_features",
                    "predictions",
                    "roster",
                    "params:backtest",
                    "params:compute",
                ],
                outputs=["pair_curves", "trades", "pair_windows"],
                name="backtest_pairs",
            ),
            Node(
                backtest_portfolio,
                inputs=[
                    "pair_curves",
                    "trades",
                    "pair_windows",
                    "ohlcv_5m",
                    "roster",
                    "markets",
                    "pair_models",
                    "params:backtest",
                    "params:champions",
                    "params:portfolio",
                    "params:statistics",
                ],
                outputs=["equity_curves", "portfolio_fills", "backtest_summary"],
                name="backtest_portfolio",
            ),
        ],
        tags="backtest",
    )
