"""Step 11: what was found, and what to do now."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.reporting.nodes import render_report, render_research_report
from mntrading.pipelines.reporting.sheets import draw_tear_sheets

RESEARCH = [
    "ohlcv_1h",
    "ohlcv_5m",
    "markets",
    "roster",
    "screened_pairs",
    "cointegration_tests",
    "pair_curves",
    "pair_windows",
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

LIVE = [
    "production_map",
    "signals",
    "position_state",
    "latest_orders",
    "monitoring",
    "paper_account",
    "paper_equity",
    "production_log_stored",
    "shadow_record",
    "shadow_paper_equity",
]


def create_pipeline() -> Pipeline:
    """The report of research, the report of what is in production, and the tear sheets."""
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
                inputs=[*LIVE, *RESEARCH],
                outputs=["latest_report", "latest_report_html"],
                name="render_report",
                tags="report",
            ),
            Node(
                draw_tear_sheets,
                inputs=[
                    "pair_menus",
                    "pair_curves",
                    "pair_windows",
                    "trades",
                    "equity_curves",
                    "portfolio_fills",
                    "ohlcv_5m",
                    "roster",
                    "markets",
                    "backtest_summary",
                    "champion_registry",
                    "params:backtest",
                    "params:feature_engineering.features",
                    "params:portfolio",
                    "params:statistics",
                    "params:reporting",
                    "params:compute",
                    "tear_sheets_stored",
                    "tear_sheet_images_stored",
                ],
                outputs=["tear_sheets", "tear_sheet_images"],
                name="draw_tear_sheets",
                tags=["research", "report"],
            ),
        ]
    )
