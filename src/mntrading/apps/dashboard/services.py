"""What every session shares: settings, the way to the API, the catalog."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st
from kedro.utils import find_kedro_project

from mntrading.apps.catalog import ReadCatalog
from mntrading.apps.dashboard import settings
from mntrading.apps.dashboard.access import Throttle
from mntrading.apps.dashboard.client import Client
from mntrading.apps.dashboard.settings import Settings
from mntrading.apps.dashboard.store import Store
from mntrading.core.errors import MNTradingError


def project() -> Path:
    """The project's folder.

    Raises
    ------
    MNTradingError
        The current folder is not inside it.
    """
    found = find_kedro_project(Path.cwd())
    if found is None:
        raise MNTradingError("the current folder is not inside the MNTrading project", fix="cd into its folder")
    return Path(found)


def current() -> Settings:
    """Settings from the environment."""
    return settings.read(os.environ, project())


def client() -> Client:
    """The way to the API."""
    now = current()
    return _client(now.api_url, now.token)


def store() -> Store:
    """What is stored, as it is now."""
    now = current()
    return Store(_catalog(str(now.project), now.env, os.environ.get("MNTRADING_STORAGE_ROOT")))


@st.cache_resource(show_spinner=False)
def throttle() -> Throttle:
    """Counts refused passwords over all sessions."""
    return Throttle()


@st.cache_resource(show_spinner=False, max_entries=4)
def _client(url: str, _token: str | None) -> Client:
    return Client(url, _token)


@st.cache_resource(show_spinner=False, max_entries=4)
def _catalog(folder: str, env: str | None, root: str | None) -> ReadCatalog:  # noqa: ARG001 - a part of the key
    return ReadCatalog.open(Path(folder), env)
