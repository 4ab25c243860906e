"""An API in a process of its own: folder of the queue, port, and the command of its runs."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from api_harness import settings

from mntrading.apps.api.__main__ import SERVER
from mntrading.apps.api.main import create_app

if __name__ == "__main__":
    folder, port, *command = sys.argv[1:]
    app = create_app(settings(Path(folder), port=int(port), max_queued=100_000, max_failures=5_000), command)
    uvicorn.run(app, host="127.0.0.1", port=int(port), **SERVER)
