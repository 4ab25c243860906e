"""``python -m mntrading.apps.dashboard [--host 127.0.0.1] [--port 8501] [--env ENV]``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from streamlit.web import cli

from mntrading.apps.dashboard import services, settings
from mntrading.apps.dashboard.access import check_exposure
from mntrading.core.errors import MNTradingError

APP = Path(__file__).with_name("app.py")


def main(arguments: list[str] | None = None) -> None:
    """Check the settings, then serve; nothing listens before they are right."""
    parser = argparse.ArgumentParser(prog="python -m mntrading.apps.dashboard", description=__doc__)
    parser.add_argument("--host", default=os.environ.get("MNTRADING_DASHBOARD_HOST") or "127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("MNTRADING_DASHBOARD_PORT") or 8501))
    parser.add_argument("--env", help="environment of configuration")
    given = parser.parse_args(arguments)
    if given.env:
        os.environ["KEDRO_ENV"] = given.env
    try:
        check_exposure(given.host, services.current().password)
        services.store()
    except MNTradingError as error:
        sys.exit(str(error))
    options = [f"--server.address={given.host}", f"--server.port={given.port}"]
    options += [f"--server.allowedHosts={name}" for name in settings.allowed_hosts(os.environ)]
    sys.stderr.write(f"Dashboard on http://{given.host}:{given.port}\n")
    cli.main(["run", str(APP), *options], prog_name="streamlit")


if __name__ == "__main__":
    main()
