"""Step 11: what was found, and what to do now."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.reporting.nodes import render_report, render_research_report

RESEARCH = [
    "ohlcv_1h",
    "ohlcv_5m",
    "markets",
    "roster",
    "screened_pairs",
    "cointegration_tests",
    "pair_features",
    "trades",
    "equity_curves",
    "backtest_summary",
    "robustness",
    "model_scores",
    "champion_registry",
    "run_record",
    "params:screening",
    "params:backtest",
    "params:statistics",
    "params:reporting",
]


def create_pipeline() -> Pipeline:
    """The report of research, and the report of what is in production."""
    return Pipeline(
        [
            Node(
                render_research_report,
                inputs=RESEARCH,
                outputs=["research_report", "research_report_html", "research_figures"],
                name="render_research_report",
                tags="research",
            ),
            Node(
                render_report,
                inputs=["production_map", "signals", "position_state", "latest_orders", *RESEARCH],
                outputs=["latest_report", "latest_report_html"],
                name="render_report",
                tags="report",
            ),
        ]
    )
