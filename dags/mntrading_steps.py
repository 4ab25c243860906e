"""What the schedules run, in which order: plain data, which the project's own tests hold against its pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Step:
    """One task: a ``kedro run`` of its own.

    Parameters
    ----------
    name
        The task's id.
    tag
        Runs the nodes of the full cycle that have it.
    pipeline
        Runs a registered pipeline. A step has a tag or a pipeline.
    minutes
        After them the run is ended, and tried again.
    local
        Whether it works on a root of this machine, to be uploaded from there.
    """

    name: str
    tag: str = ""
    pipeline: str = ""
    minutes: int = 60
    local: bool = False

    def __post_init__(self) -> None:
        if bool(self.tag) == bool(self.pipeline):
            raise ValueError(f"{self.name}: a step has either a tag or a pipeline")

    def command(self, environment: Mapping[str, str]) -> list[str]:
        """Arguments of the process, of constants and of the scheduler's own environment.

        Parameters
        ----------
        environment
            ``MNTRADING_BIN`` names the project's ``kedro``, ``MNTRADING_ENV`` its configuration environment,
            ``MNTRADING_UPLOAD_ENV`` the one of local steps where that has its root in an object store. Without both
            local steps use ``upload``.
        """
        kedro = environment.get("MNTRADING_BIN") or str(PROJECT / ".venv" / "bin" / "kedro")
        what = ["--tags", self.tag] if self.tag else ["--pipelines", self.pipeline]
        env = environment.get("MNTRADING_ENV")
        if self.local:
            env = environment.get("MNTRADING_UPLOAD_ENV") or env or "upload"
        return [kedro, "run", *what, *(["--env", env] if env else [])]


_DATASET: Final = (
    Step("ingest", tag="ingest", minutes=180),
    Step("screen", tag="screen", minutes=180),
    Step("features", tag="features"),
    Step("dataset", tag="dataset"),
)

# what is uploaded is built on this machine's disk first, with conf/upload unless the scheduler says otherwise
DATASET_UPLOAD: Final = (
    *(replace(step, local=True) for step in _DATASET),
    Step("upload", pipeline="upload", local=True),
)

FULL_CYCLE: Final = (
    *_DATASET,
    Step("train", tag="train", minutes=240),
    Step("backtest", tag="backtest", minutes=120),
    Step("select", tag="select", minutes=30),
    Step("research_report", tag="research", minutes=30),
    Step("promote", tag="promote", minutes=30),
    Step("inference", tag="inference", minutes=30),
    Step("aggregate", tag="aggregate", minutes=30),
    Step("shadow", tag="shadow", minutes=30),
    Step("report", tag="report", minutes=30),
)

SHORT_CYCLE: Final = (Step("short_cycle", pipeline="short_cycle", minutes=15),)

SCHEDULES: Final[Mapping[str, tuple[Step, ...]]] = {
    "mntrading_dataset_upload": DATASET_UPLOAD,
    "mntrading_full_cycle": FULL_CYCLE,
    "mntrading_short_cycle": SHORT_CYCLE,
}
"""Steps of every schedule, each after the one before it."""
