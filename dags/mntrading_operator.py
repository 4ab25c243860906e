"""A step of the project as an Airflow task: a process of the project's own environment, never a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import BaseOperator, chain
from mntrading_steps import PROJECT, Step

_GRACE: Final = 30.0
"""Seconds a step has to end by itself once it is told to."""


class KedroStep(BaseOperator):
    """Runs one step and fails where it ends with anything but 0.

    Nothing of it is a template, so that nothing a run is started with reaches the command. Every step can be run
    again: for the same bars it writes the same bytes, and one that was killed left whole files.

    Parameters
    ----------
    step
        What is run.
    """

    template_fields = ()

    def __init__(self, *, step: Step, **more: Any) -> None:
        super().__init__(task_id=step.name, execution_timeout=timedelta(minutes=step.minutes), **more)
        self.step = step
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Mapping[str, Any]) -> None:  # noqa: ARG002 - what a run is started with stays outside
        """Run the step, its lines going to the task's log."""
        command = self.step.command(os.environ)
        project = os.environ.get("MNTRADING_PROJECT") or str(PROJECT)
        self.log.info("%s", " ".join(command))
        with subprocess.Popen(  # noqa: S603 - a list of arguments, constants but for the scheduler's own settings
            command,
            cwd=project,
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as self._process:
            try:
                for line in self._process.stdout or ():
                    self.log.info("%s", line.rstrip())
                code = self._process.wait()
            finally:  # a timeout, or the task was stopped
                self.on_kill()
        if code:
            raise RuntimeError(f"{' '.join(command)} ended with {code}; its last lines above say why")

    def on_kill(self) -> None:
        """End the step and every process it has started."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def steps(which: Iterable[Step]) -> None:
    """Tasks of the DAG being made, each after the one before it."""
    chain(*(KedroStep(step=step) for step in which))


def _environment(scheduler: Mapping[str, str]) -> dict[str, str]:
    """The scheduler's environment without its own settings and secrets."""
    return {name: value for name, value in scheduler.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
