"""``python -m mntrading`` is ``kedro run`` for the project in the current folder; ``preflight`` asks its services."""

from __future__ import annotations

import sys
from pathlib import Path

from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project


def main() -> None:
    """Run the project's ``run`` command."""
    project = find_kedro_project(Path.cwd())
    if project is None:
        sys.exit(f"{Path.cwd()} is not inside the MNTrading project: change into its folder first")
    bootstrap_project(Path(project))
    from mntrading.cli import cli, run

    if sys.argv[1:] and sys.argv[1] in cli.commands:
        cli()
    else:
        run()


if __name__ == "__main__":
    main()
