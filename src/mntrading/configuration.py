"""Configuration files: the resolvers they use, and their parameters, checked, for whoever runs outside Kedro."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.utils import find_kedro_project

from mntrading.core.errors import ParameterError
from mntrading.params import BLOCKS, Block


def env(name: str, default: Any = None) -> Any:
    """Value of an environment variable, or the default where it is not set or empty."""
    return os.environ.get(name) or default


def local_root(root: str) -> Path:
    """Absolute path of a storage root on this machine; a relative one is below the project."""
    project = find_kedro_project(Path.cwd()) or Path.cwd()
    return (project / root).resolve()


def is_remote(root: str) -> bool:
    """Whether a storage root is on an object store."""
    return "://" in str(root)


def tracking_uri(uri: str | None, root: str) -> str:
    """The MLflow store: the one named, else a sqlite file below the storage root."""
    if uri:
        return str(uri)
    if is_remote(root):
        raise ParameterError(
            f"no MLflow server is named and the storage root {root} can't hold a sqlite file",
            where="mlflow.tracking_uri",
            fix="set MLFLOW_TRACKING_URI",
        )
    return f"sqlite:///{local_root(root) / 'mlflow.db'}"


def artifact_location(uri: str | None, root: str) -> str | None:
    """Where MLflow keeps artefacts: below the storage root, or wherever the server says."""
    served = bool(uri) and not str(uri).startswith("sqlite:")
    return None if served else (local_root(root) / "mlflow_artifacts").as_uri()


_ENDPOINTS = ("S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")


def s3_settings() -> dict[str, Any]:
    """What clients of an object store are made with, from the environment; whichever of its names are set.

    The endpoint is the first of ``S3_ENDPOINT_URL``, ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` and
    ``MLFLOW_S3_ENDPOINT_URL``, or ``127.0.0.1`` at ``MINIO_PORT``; without any it is Amazon's. Keys are those every
    S3 client finds by itself (``AWS_ACCESS_KEY_ID`` and its companions, profiles, roles), or
    ``MINIO_ROOT_USER`` and ``MINIO_ROOT_PASSWORD``.
    """
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None and os.environ.get("MINIO_PORT"):
        endpoint = f"http://127.0.0.1:{os.environ['MINIO_PORT']}"
    region = env("AWS_DEFAULT_REGION") or env("AWS_REGION") or "us-east-1"
    # s3fs tries again by itself: with botocore's own attempts on top, a server that hangs would hold a run for minutes
    quick = {"connect_timeout": 5, "read_timeout": 30, "retries": {"total_max_attempts": 1}}
    settings: dict[str, Any] = {
        "endpoint_url": endpoint,
        "config_kwargs": quick,
        "client_kwargs": {"region_name": region},
    }
    keys = (env("MINIO_ROOT_USER"), env("MINIO_ROOT_PASSWORD"))
    if all(keys) and not env("AWS_ACCESS_KEY_ID"):
        settings |= {"key": keys[0], "secret": keys[1]}
    return settings


def bucket() -> str:
    """Name of the bucket: ``S3_BUCKET`` or ``MINIO_BUCKET``, ``mntrading`` where neither is set."""
    return str(env("S3_BUCKET") or env("MINIO_BUCKET") or "mntrading")


RESOLVERS: dict[str, Callable[..., Any]] = {
    "env": env,
    "tracking_uri": tracking_uri,
    "artifact_location": artifact_location,
    "s3_settings": s3_settings,
    "bucket": bucket,
}


LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft", "mlflow": "soft"},
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
    "custom_resolvers": RESOLVERS,
}
"""How configuration is merged and resolved, in sessions and outside them."""


def configured(conf: Path, kind: str, env: str | None = None) -> dict[str, Any]:
    """What an environment's files below ``conf`` say of a kind, ``catalog``; empty where there are none of it.

    Parameters
    ----------
    conf
        The folder of configuration.
    kind
        ``catalog``, ``parameters``, ``globals``, ``mlflow`` or ``credentials``.
    env
        The environment; None for ``local``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # kedro's own call of a deprecated function
        loader = OmegaConfigLoader(str(conf), env=env, **LOADER_ARGS)
        try:
            return dict(loader[kind])
        except MissingConfigException:
            return {}


def parameters(conf: Path, env: str | None = "base") -> dict[str, Block]:
    """Every parameter block of an environment below ``conf``, as its model."""
    return {key: BLOCKS[key].model_validate(block) for key, block in configured(conf, "parameters", env).items()}
