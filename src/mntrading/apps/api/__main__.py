"""Start the API: ``python -m mntrading.apps.api``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn
from kedro.utils import find_kedro_project

from mntrading.apps.api import settings as settings_of
from mntrading.apps.api.main import create_app
from mntrading.core.errors import MNTradingError, ParameterError

LOGGER = logging.getLogger(__name__)

LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)-7s %(message)s", "datefmt": "%Y-%m-%dT%H:%M:%S%z"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "plain"}},
    "loggers": {"mntrading": {"level": "INFO"}, "uvicorn": {"level": "INFO"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}

SERVER: Final[dict[str, Any]] = {
    "log_config": LOGGING,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,  # or anyone could say who they are
    "ws": "none",
    "timeout_graceful_shutdown": 5,
}
"""How uvicorn serves it: one process, whatever the number of cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 1 when it can't be started."""
    parser = argparse.ArgumentParser(prog="python -m mntrading.apps.api", description="The HTTP API of MNTrading.")
    parser.add_argument("--host", help="address to listen on (MNTRADING_API_HOST, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (MNTRADING_API_PORT, 8000)")
    parser.add_argument("--env", help="configuration environment (KEDRO_ENV, local)")
    parser.add_argument("--demo", action="store_true", help="on this machine alone, with or without a token")
    options = parser.parse_args(arguments)
    try:
        project = find_kedro_project(Path.cwd())
        if project is None:
            raise ParameterError(
                f"{Path.cwd()} is not inside the project", fix="change into the project's folder first"
            )
        settings = settings_of.read(
            os.environ,
            Path(project),
            env=options.env,
            host=options.host,
            port=options.port,
            demo=options.demo,
        )
        app = create_app(settings)
        app.state.parts.jobs.open()
    except MNTradingError as error:
        sys.stderr.write(f"\nError: {error}\n")
        return 1
    if settings.token is None:
        sys.stderr.write("A demo without a token: whoever is on this machine may start runs and read everything.\n")
    uvicorn.run(app, host=settings.host, port=settings.port, **SERVER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
