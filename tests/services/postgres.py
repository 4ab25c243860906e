"""PostgreSQL, as a database of its own for the length of a test session."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from serving import end, environment, free_ports, start, wait_for_port

_PLACES: Final = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt")
_ADVICE: Final = "no PostgreSQL is installed: apt-get install postgresql"


def binaries() -> Path | None:
    """Folder of ``initdb`` and ``postgres``, the newest there is."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = [path.parent for place in _PLACES for path in Path(place).glob("*/bin/initdb")]
    return max(
        versions, key=lambda path: [int(part) for part in path.parent.name.split(".") if part.isdigit()], default=None
    )


class Postgres:
    """A database server with one user, its password, and one database, below one folder.

    Parameters
    ----------
    root
        Folder of its data and log. Started by root, the server runs as ``postgres``, who must reach the folder.
    """

    ADVICE: Final = _ADVICE

    def __init__(self, root: Path) -> None:
        found = binaries()
        if found is None:
            raise RuntimeError(_ADVICE)
        self._bin, self.root = found, root
        self.port = free_ports(1)[0]
        self.password = secrets.token_urlsafe(16)
        self.started_in = 0.0
        self._server: subprocess.Popen[bytes] | None = None
        self._log = root / "postgres.log"
        self._as = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
        self._create()

    @property
    def version(self) -> str:
        """Name and version of what runs."""
        done = subprocess.run([self._bin / "postgres", "--version"], capture_output=True, text=True, check=True)
        return f"PostgreSQL {done.stdout.split()[2]}"

    @property
    def uri(self) -> str:
        """Address of the database with its user and password, as SQLAlchemy has it."""
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it takes connections; tried again while a killed one's memory is let go."""
        begun = time.monotonic()
        for attempt in range(20):
            command = [*self._as, self._bin / "postgres", "-D", self.root / "db"]
            self._server = start(command, self._log, environment(LC_ALL="C"))
            try:
                wait_for_port(self.port, self._server, self._log, seconds=20)
            except RuntimeError:
                if attempt == 19:
                    raise
                time.sleep(0.5)
            else:
                break
        self.started_in = time.monotonic() - begun

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End the server."""
        end(self._server, by)
        self._server = None

    def _create(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        password = self.root / "password"
        password.touch(mode=0o600)
        password.write_text(self.password, "utf-8")
        if self._as:
            owner = pwd.getpwnam("postgres")
            for path in (self.root, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        command = [*self._as, self._bin / "initdb", "-D", self.root / "db", "-U", "mlflow", "-A", "scram-sha-256"]
        options = ["--pwfile", password, "--no-sync", "-E", "UTF8", "--locale", "C"]
        subprocess.run([*command, *options], check=True, capture_output=True, env=environment())
        settings = f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
        with (self.root / "db" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(settings)
