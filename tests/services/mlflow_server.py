"""An MLflow server with its database, and artefacts on S3 that clients reach through it alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from serving import STARTS_WITHIN, end, environment, free_ports, start, wait_for_port

_ASKED: Final = "/api/2.0/mlflow/experiments/search?max_results=1"


class MlflowServer:
    """A tracking server.

    Parameters
    ----------
    root
        Folder of its log, and of what else it keeps.
    backend
        Address of its database.
    artifacts
        Where it keeps artefacts, ``s3://bucket/prefix`` or a folder.
    env
        What it alone knows: the keys of the object store.
    allowed_hosts
        Names it may be called by; by default those of this machine.
    """

    def __init__(
        self,
        root: Path,
        backend: str,
        artifacts: str,
        env: Mapping[str, str],
        *,
        allowed_hosts: str = "localhost:*,127.0.0.1:*",
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.port = free_ports(1)[0]
        self.started_in = 0.0
        self._root, self._log = root, root / "mlflow.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._backend, self._artifacts, self._hosts = backend, artifacts, allowed_hosts
        self._env = environment(**dict(env), MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_LOGGING_LEVEL="WARNING")
        self._env["MLFLOW_BACKEND_STORE_URI"] = backend  # in no list of processes

    @property
    def uri(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server has said."""
        return self._log.read_text("utf-8", errors="replace")

    def start(self) -> None:
        """Start the server and wait until it answers from its database."""
        begun = time.monotonic()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", self._artifacts, "--serve-artifacts"]
        self._server = start([*command, "--allowed-hosts", self._hosts], self._log, self._env)
        wait_for_port(self.port, self._server, self._log)
        while (status := self.status()) != 200:
            if time.monotonic() > begun + STARTS_WITHIN:
                raise RuntimeError(f"MLflow answers {status}:\n{self.log[-3000:]}")
            time.sleep(0.2)
        self.started_in = time.monotonic() - begun

    def status(self, host: str | None = None) -> int:
        """What the server answers a question to its database, asked under a name; 0 where it does not."""
        asked = urllib.request.Request(self.uri + _ASKED, headers={"Host": host} if host else {})  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(asked, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End the server."""
        end(self._server, by)
        self._server = None
