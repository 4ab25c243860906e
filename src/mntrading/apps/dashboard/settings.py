"""Settings of the dashboard, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mntrading.apps.dashboard.access import PASSWORD
from mntrading.core.errors import ParameterError

API_URL: Final = "MNTRADING_API_URL"
API_TOKEN: Final = "MNTRADING_API_TOKEN"  # noqa: S105 - the name, not the token
MLFLOW_URL: Final = "MNTRADING_MLFLOW_UI_URL"
S3_URL: Final = "MNTRADING_S3_CONSOLE_URL"
VIZ_URL: Final = "MNTRADING_KEDRO_VIZ_URL"
ALLOWED_HOSTS: Final = "MNTRADING_DASHBOARD_ALLOWED_HOSTS"


@dataclass(frozen=True, repr=False)
class Settings:
    """What the dashboard is started with; never printed, for token and password are in it.

    Parameters
    ----------
    project
        The project's folder.
    env
        Configuration environment; None for ``local``.
    api_url
        Where the API listens, without a slash at the end.
    token, password
        What the API asks for, and what the dashboard itself asks for where it is not on loopback; None for none.
    mlflow_url, s3_url, viz_url
        Where a browser finds MLflow, the object storage's console and kedro-viz; None where they are not linked.
    """

    project: Path
    env: str | None
    api_url: str
    token: str | None
    password: str | None
    mlflow_url: str | None = None
    s3_url: str | None = None
    viz_url: str | None = None

    def __repr__(self) -> str:
        return f"Settings({self.api_url}, env={self.env!r})"


def read(environ: Mapping[str, str], project: Path) -> Settings:
    """Settings from the environment.

    Raises
    ------
    ParameterError
        An address is not one of http or https.
    """
    api = _address(environ, API_URL) or "http://127.0.0.1:8000"
    return Settings(
        project=project,
        env=environ.get("KEDRO_ENV") or None,
        api_url=api,
        token=environ.get(API_TOKEN) or None,
        password=environ.get(PASSWORD) or None,
        mlflow_url=_address(environ, MLFLOW_URL),
        s3_url=_address(environ, S3_URL),
        viz_url=_address(environ, VIZ_URL),
    )


def allowed_hosts(environ: Mapping[str, str]) -> list[str]:
    """Names by which the dashboard may be called, those of loopback always among them."""
    named = [part.strip() for part in environ.get(ALLOWED_HOSTS, "").split(",")]
    return ["localhost", "127.0.0.1", "::1", *(name for name in named if name)]


def _address(environ: Mapping[str, str], name: str) -> str | None:
    text = (environ.get(name) or "").strip().rstrip("/")
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ParameterError("is no address such as http://127.0.0.1:8000, without user and password", where=name)
    return text
