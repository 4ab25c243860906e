"""Commands of the project: Kedro's own ``run``, ending expected errors with one message and exit code 1."""

from __future__ import annotations

import copy

import click
from kedro.framework.cli.project import run as kedro_run

from mntrading.runs import stated


@click.group(name="mntrading")
def cli() -> None:
    """Commands of MNTrading."""


run = copy.copy(kedro_run)
run.callback = stated(kedro_run.callback) if kedro_run.callback else None
cli.add_command(run)
