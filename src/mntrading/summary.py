"""What a run has made, where it lies, and what to run next: ``python -m mntrading.summary``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.utils import find_kedro_project

from mntrading.core.errors import ArtifactError
from mntrading.runs import open_session, stated

MADE = ("latest_report_html", "latest_report", "latest_orders", "champion_registry", "backtest_summary")


def figures(catalog: DataCatalog) -> str:
    """One line of the newest results."""
    summary, registry = catalog.load("backtest_summary"), catalog.load("champion_registry")
    orders, roster = catalog.load("latest_orders"), catalog.load("roster")
    portfolio: dict[str, Any] = summary["portfolio"]["champions"]
    sharpe = "no trades" if portfolio["sharpe"] is None else (
        f"Sharpe {portfolio['sharpe']:.2f} ({portfolio['sharpe_low']:.2f} to {portfolio['sharpe_high']:.2f})"
    )  # fmt: skip
    return (
        f"{len(summary['folds'])} folds, {len(roster['folds'][-1]['pairs'])} pairs on the live roster, "
        f"{len(registry['champions'])} champions, {len(orders['orders'])} orders; walk-forward portfolio out of "
        f"sample after costs: {sharpe}"
    )


@stated
def main(env: str | None = None) -> None:
    """Print what lies where; fails when a part is missing."""
    project = Path(find_kedro_project(Path.cwd()) or Path.cwd())
    bootstrap_project(project)
    with open_session(project, env) as session:
        context = session.load_context()
        catalog = cast(DataCatalog, context.catalog)
        tracking = context.config_loader["mlflow"]["server"]["mlflow_tracking_uri"]
    lines = ["", "Made:"]
    for name in MADE:
        if not catalog.exists(name):
            raise ArtifactError(f"{name} was not made", fix="kedro run --pipelines full_cycle")
        lines.append(f"  {name:<20} {cast(Any, catalog[name]).resolve_path()}")
    lines += [
        f"  {'MLflow':<20} {tracking}",
        "Next:",
        "  make viz       the lineage of every artefact",
        "  make mlflow    the runs, their parameters and figures",
        "  make jupyter   the catalog in a notebook",
        "  kedro run --env live --pipelines full_cycle   the same on a real exchange's public bars",
        figures(catalog),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
