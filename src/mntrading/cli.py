"""Commands of the project: Kedro's own ``run``, ending expected errors with one message and exit code 1."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.utils import find_kedro_project

from mntrading.runs import open_session, stated


@click.group(name="mntrading")
def cli() -> None:
    """Commands of MNTrading."""


run = copy.copy(kedro_run)
run.callback = stated(kedro_run.callback) if kedro_run.callback else None
cli.add_command(run)


@cli.command()
@click.option("--env", "-e", default=None, help="Configuration environment.")
@stated
def preflight(env: str | None) -> None:
    """Ask object store and MLflow whether they can be used, and race writers for the store's lease."""
    from mntrading.hooks import services

    project = Path(find_kedro_project(Path.cwd()) or Path.cwd())
    with open_session(project, env) as session:
        for line in services(session.load_context()):  # which asks each of them whether it answers
            sys.stdout.write(f"{line}\n")
