"""Step 6: trade each window with what its formation window produced."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.backtesting.benchmarks import trade_benchmarks
from mntrading.pipelines.backtesting.menus import choose_candidates
from mntrading.pipelines.backtesting.nodes import backtest_pairs, backtest_portfolio
from mntrading.pipelines.backtesting.robustness import probe_robustness


def create_pipeline() -> Pipeline:
    """Rules, pairs alone, the netted portfolio beside the lines to beat, and again under other assumptions."""
    return Pipeline(
        [
            Node(
                choose_candidates,
                inputs=[
                    "ohlcv_5m",
                    "roster",
                    "markets",
                    "funding_rates",
                    "params:backtest",
                    "params:feature_engineering.features",
                    "params:portfolio",
                    "params:compute",
                ],
                outputs=["pair_menus", "candidate_returns"],
                name="choose_candidates",
            ),
            Node(
                backtest_pairs,
                inputs=[
                    "ohlcv_5m",
                    "pair_features",
                    "predictions",
                    "pair_menus",
                    "roster",
                    "markets",
                    "funding_rates",
                    "params:backtest",
                    "params:feature_engineering.features",
                    "params:portfolio",
                    "params:compute",
                ],
                outputs=["pair_curves", "trades", "unfilled_entries", "pair_windows"],
                name="backtest_pairs",
            ),
            Node(
                trade_benchmarks,
                inputs=[
                    "ohlcv_1h",
                    "ohlcv_5m",
                    "predictions",
                    "pair_menus",
                    "roster",
                    "markets",
                    "funding_rates",
                    "params:feature_engineering.features",
                    "params:backtest",
                    "params:portfolio",
                    "params:benchmarks",
                    "params:compute",
                ],
                outputs="benchmark_trades",
                name="trade_benchmarks",
            ),
            Node(
                backtest_portfolio,
                inputs=[
                    "pair_curves",
                    "trades",
                    "unfilled_entries",
                    "pair_windows",
                    "benchmark_trades",
                    "ohlcv_1h",
                    "ohlcv_5m",
                    "cointegration_tests",
                    "roster",
                    "markets",
                    "pair_models",
                    "pair_menus",
                    "candidate_returns",
                    "funding_rates",
                    "params:backtest",
                    "params:champions",
                    "params:portfolio",
                    "params:statistics",
                ],
                outputs=["equity_curves", "portfolio_fills", "backtest_summary"],
                name="backtest_portfolio",
            ),
            Node(
                probe_robustness,
                inputs=[
                    "ohlcv_5m",
                    "predictions",
                    "pair_menus",
                    "roster",
                    "markets",
                    "funding_rates",
                    "params:backtest",
                    "params:feature_engineering.features",
                    "params:portfolio",
                    "params:statistics",
                    "params:robustness",
                    "params:compute",
                ],
                outputs="robustness",
                name="probe_robustness",
            ),
        ],
        tags="backtest",
    )
