"""What happens around every run: checks, the one-run lock, the run record, and tracking."""

from __future__ import annotations

import logging
import os
import platform
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks import MlflowHook
from kedro_mlflow.framework.hooks.utils import _flatten_dict
from pydantic import BaseModel

from mntrading import preflight, tracking, tracking_runs
from mntrading.core.errors import ArtifactError, DoubtError, ParameterError
from mntrading.core.redaction import redact_tree, secrets_of
from mntrading.datasets import ArtifactDataset, Guarded, PartitionedArtifactDataset
from mntrading.locking import RootLock
from mntrading.logs import redacted
from mntrading.objects.lease import LeaseLostError
from mntrading.params import BLOCKS
from mntrading.runs import JOURNAL, Progress, RunRecord, expected

LOGGER = logging.getLogger(__name__)

PACKAGES = ("kedro", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn", "lightgbm", "numba")
TRACKING = "tracking"
"""The one parameter that is no block: ``--params tracking=off`` runs without MLflow."""


def now() -> str:
    """Wall clock, ISO 8601, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def git_revision(project: Path) -> str:
    """Revision of the checkout, with ``+dirty`` for uncommitted changes; outside one, what an image was told."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(project), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        dirty = "+dirty" if revision and git("status", "--porcelain", "--untracked-files=no") else ""
    except FileNotFoundError:
        revision = dirty = ""
    return revision + dirty or os.environ.get("MNTRADING_REVISION", "")


def _record() -> RunRecord:
    if JOURNAL.record is None:
        raise RuntimeError("no run has begun: the run hook comes before all others")
    return JOURNAL.record


def _last_record(catalog: DataCatalog) -> dict[str, Any]:
    """The record of the last run that began; empty where there is none, or none that can be read."""
    try:
        return dict(catalog["run_record"].load()) if catalog["run_record"].exists() else {}
    except ArtifactError as error:
        LOGGER.warning("the record of the last run can't be read: %s", error.what)
        return {}


def is_tracked(parameters: Mapping[str, Any]) -> bool:
    """Whether a run goes to MLflow: unless it was told not to.

    Raises
    ------
    ParameterError
        ``tracking`` is neither on nor off.
    """
    told = str(parameters.get(TRACKING, "on")).lower()
    if told not in ("on", "off", "true", "false"):
        raise ParameterError(f"{TRACKING} is {told!r}", where="--params", fix="use on or off")
    return told in ("on", "true")


def _services(context: KedroContext) -> tuple[dict[str, Any], dict[str, Any] | None, str | None]:
    """Storage and its credentials, and the tracking store; None where nothing is tracked."""
    storage = dict(context.config_loader["globals"]["storage"])
    name = storage["credentials"]
    credentials = context.config_loader["credentials"][name] if name else None
    uri = context.config_loader["mlflow"]["server"]["mlflow_tracking_uri"] if is_tracked(context.params) else None
    return storage, credentials, uri


def services(context: KedroContext) -> list[str]:
    """What a run in this environment leans on, a line each, now that they have answered.

    Raises
    ------
    StoreError
        The store's conditional writes are not what ``storage.lease`` needs.
    """
    return preflight.told(*_services(context))


class RunHooks:
    """Refuses unknown parameters and second runs, and records who ran what, when, on which code."""

    def __init__(self) -> None:
        self._lock: RootLock | None = None
        self._project = Path()
        self._done, self._total = 0, 0

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check the names of the top-level parameter blocks, then that what the run leans on answers."""
        self._project = Path(context.project_path)
        unknown = sorted(set(context.params) - {*BLOCKS, TRACKING})
        if unknown:
            raise ParameterError(
                f"unknown parameter block {unknown[0]!r}",
                where="--params",
                fix=f"use one of {sorted(BLOCKS)}",
            )
        storage, credentials, uri = _services(context)
        preflight.fly(preflight.checks(storage, credentials, uri))
        self._lock = RootLock(storage, credentials)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Take the storage root's lock, then write the record of the run that begins."""
        JOURNAL.record = JOURNAL.close = None  # a session before this one in the same process has left its own
        self._done, self._total = 0, len(pipeline.nodes)
        record = RunRecord(
            run_id=run_params["run_id"],
            pipelines=tuple(run_params["pipeline_names"] or ("__default__",)),
            env=run_params["env"] or "",
            status="running",
            started_at=now(),
            finished_at="",
            revision=git_revision(self._project),
            mlflow_run_id="",
            error="",
        )
        about = {"run_id": record.run_id, "pipelines": list(record.pipelines), "started_at": record.started_at}
        lock = self._locked()
        lock.acquire(about | {"host": socket.gethostname()}, lambda: _last_record(catalog))
        JOURNAL.close = lambda error: self._fail(run_params, catalog, error)
        if lock.alone:
            self._bury(catalog)
        JOURNAL.record = record
        catalog["run_record"].save(self._document(run_params))

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Tell whoever watches which node begins."""
        JOURNAL.tell(Progress(node.name, self._done, self._total))

    @hook_impl
    def after_node_run(self) -> None:
        """Count the node."""
        self._done += 1
        if self._done == self._total:
            JOURNAL.tell(Progress("", self._done, self._total))

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Close the record and let the next run in; a run whose signals are in doubt ends as refused.

        Raises
        ------
        DoubtError
            After everything has been written, so that whoever started the run is told.
        """
        doubts = catalog["position_state"].load()["doubts"] if "position_state" in pipeline.all_outputs() else {}
        if not doubts:
            self._finish(run_params, catalog, "finished", "")
            return
        told = "; ".join(f"{pair_id}: {', '.join(why)}" for pair_id, why in doubts.items())
        error = DoubtError(
            f"no entry was allowed for {len(doubts)} {'pair' if len(doubts) == 1 else 'pairs'} ({told})",
            where="signals/",
            fix="kedro run --pipelines short_cycle once bars are there; where a map or a model is at fault, "
            "kedro run --pipelines rollback --params production.rollback_to=<its id> (restores the very map), or "
            "full_cycle",
        )
        self._finish(run_params, catalog, "refused", str(error))
        raise error

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Close the record with the error and let the next run in."""
        self._fail(run_params, catalog, error)

    def _locked(self) -> RootLock:
        if self._lock is None:
            raise RuntimeError("no context was created: the run hook comes before all others")
        return self._lock

    def _fail(self, run_params: dict[str, Any], catalog: DataCatalog, error: BaseException) -> None:
        """Close the record of a run that an error ends, unless another run holds the root by now."""
        JOURNAL.close = None
        if JOURNAL.record is None or isinstance(expected(error), LeaseLostError):
            self._locked().release()
            return
        try:
            self._finish(run_params, catalog, "failed", str(expected(error) or error) or type(error).__name__)
        except ArtifactError as unwritten:  # where the storage is what failed; what ended the run is told first
            LOGGER.warning("the record of this run was not closed: %s", unwritten.what)
        except LeaseLostError as lost:
            LOGGER.warning("the record of this run was not closed: %s", lost.what)

    def _bury(self, catalog: DataCatalog) -> None:
        """Put the record of a run that was killed into the history: none but this one runs once the lock is held."""
        last = _last_record(catalog)
        if last.get("status") != "running":
            return
        LOGGER.warning("run %s, since %s, was killed", last["run_id"], last["started_at"])
        dead = last | {"status": "killed", "error": "the process ended without closing its record"}
        catalog["run_history"].save({str(last["run_id"]).replace(":", ""): dead})

    def _document(self, run_params: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema_version": 1,
            **asdict(_record()),
            "tags": sorted(run_params["tags"] or ()),
            "parameters": redact_tree(run_params["runtime_params"] or {}, secrets_of(os.environ)),
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        }

    def _finish(self, run_params: dict[str, Any], catalog: DataCatalog, status: str, error: str) -> None:
        JOURNAL.close = None
        JOURNAL.record = replace(
            _record(),
            status=status,
            finished_at=now(),
            error=redacted(error),
            mlflow_run_id=TRACKING_HOOKS.run_id or "",
        )
        document = self._document(run_params)
        try:
            catalog["run_record"].save(document)
            catalog["run_history"].save({_record().run_id.replace(":", ""): document})
        finally:
            self._locked().release()


class TrackingHooks(MlflowHook):  # type: ignore[misc]
    """kedro-mlflow's hook, logging typed parameters flattened, and entries that ask for it by metadata.

    A catalog entry with ``metadata: {mlflow: artifact}`` is logged as an artefact at the end of the run that
    wrote it; with ``mlflow: metrics`` the numbers under its key ``metrics`` are logged as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[str, str] = {}
        self._saved: set[str] = set()
        self._tracked = True

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Connect to the tracking store, which the preflight has found to answer; not where tracking is off."""
        self.run_id, self._is_mlflow_enabled = None, False
        self._tracked = is_tracked(context.params)
        if not self._tracked:
            return
        uri = context.config_loader["mlflow"]["server"]["mlflow_tracking_uri"]
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        with tracking_runs.told():
            super().after_context_created(context)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """End what killed runs have left open, start this run's and tag it with the code's revision."""
        self._logged, self._saved = {}, set()
        if not self._tracked:
            return
        with tracking_runs.told():
            super().before_pipeline_run(self._without_secrets(run_params), pipeline, catalog)
            active = mlflow.active_run()
            if self._is_mlflow_enabled and active is not None:
                mlflow.set_tags({"revision": _record().revision, tracking_runs.RUN_ID: run_params["run_id"]})
                tracking_runs.reconcile(active.info, catalog["run_history"])

    @hook_impl
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Log the node's parameters, flattened, those not logged yet."""
        if not self._is_mlflow_enabled:
            return
        typed = {
            name.removeprefix("params:"): value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in inputs.items()
            if name.startswith("params:")
        }
        flat = {name: str(value) for name, value in _flatten_dict(typed, recursive=True, sep=".").items()}
        fresh = {name: value for name, value in flat.items() if name not in self._logged}
        if fresh:
            with tracking_runs.told():
                mlflow.log_params(redact_tree(fresh, secrets_of(os.environ)))
            self._logged |= fresh

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Remember what this run wrote."""
        self._saved.add(dataset_name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Log what the run wrote: hashes as tags, and the entries that ask for it."""
        if not self._is_mlflow_enabled:
            return
        began = time.monotonic()
        with tracking_runs.told():
            for name in sorted(self._saved):
                self._log_entry(name, catalog)
            self._log_models(catalog)
            super().after_pipeline_run(run_params, pipeline, catalog)
        LOGGER.info("tracking: %.1f s", time.monotonic() - began)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Close the run as failed; an error before it was started is not tracked."""
        if not self._is_mlflow_enabled or mlflow.active_run() is None:
            return
        try:
            with tracking_runs.told():
                super().on_pipeline_error(error, run_params, pipeline, catalog)
        except tracking_runs.TrackingError as untold:  # what ended the run is told first
            LOGGER.warning("the run stands open in MLflow until the next one ends it: %s", untold.what)

    def _without_secrets(self, run_params: dict[str, Any]) -> dict[str, Any]:
        return {
            name: redact_tree(value, secrets_of(os.environ)) if isinstance(value, str | dict) else value
            for name, value in run_params.items()
        }

    def _log_models(self, catalog: DataCatalog) -> None:
        """Models with runs of their own, and the registry's aliases by what this run chose and promoted."""
        if {"model_scores", "pair_models"} <= self._saved and self.run_id:
            known = {tracking_runs.RUN_ID: _record().run_id}
            tracking.log_models(self.run_id, catalog["model_scores"].load(), catalog["pair_models"].load(), known)
        if "champion_registry" in self._saved:
            for alias, hashes in tracking.contenders(catalog["champion_registry"].load()).items():
                tracking.move_alias(alias, hashes)
        if "production_map" in self._saved:
            promoted = catalog["production_map"].load()["pairs"]
            tracking.move_alias(tracking.PRODUCTION, tracking.hashes_of(promoted))

    def _log_entry(self, name: str, catalog: DataCatalog) -> None:
        dataset = catalog[name]
        # what the shadow could not save may not be readable either, and stops nobody
        if not isinstance(dataset, ArtifactDataset | PartitionedArtifactDataset) or isinstance(dataset, Guarded):
            return
        mlflow.set_tag(f"sha256.{name}", dataset.digest())
        wanted = (dataset.metadata or {}).get("mlflow")
        if wanted == "metrics":
            metrics = dataset.load()["metrics"]
            mlflow.log_metrics({key: value for key, value in metrics.items() if value is not None})
        if wanted is None:
            return
        path = Path(dataset.resolve_path())
        if path.is_dir():
            mlflow.log_artifacts(str(path), artifact_path=name)
        elif path.is_file():
            mlflow.log_artifact(str(path))
        else:  # on an object store: name it instead of copying it from one store to another
            mlflow.set_tag(f"path.{name}", dataset.resolve_path())


TRACKING_HOOKS = TrackingHooks()
RUN_HOOKS = RunHooks()
