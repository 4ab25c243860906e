"""OpenStack Swift with its S3 interface, as a server of its own for the length of a test session."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from serving import environment, free_ports

BIN: Final = Path(__file__).parents[2] / ".services" / "swift" / "bin"
REGION: Final = "us-east-1"

_SERVERS: Final = ("account", "container", "object", "proxy")
_STARTS_WITHIN: Final = 30.0

# one zone, one device, one copy of everything
_RINGS: Final = """
import sys
from swift.common.ring import RingBuilder
for name, port in zip(("account", "container", "object"), sys.argv[2:]):
    builder = RingBuilder(1, 1, 0)
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1.0}
    builder.add_dev(device)
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
"""

_COMMON: Final = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {root}
devices = {root}/devices
mount_check = false
user = {user}
workers = 0
log_address = {root}/no-syslog
log_udp_host =
fallocate_reserve = 0
"""

_STORAGE: Final = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

_PROXY: Final = """
[pipeline:main]
pipeline = catch_errors s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 30
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user_name} = {secret} .admin
[filter:slo]
use = egg:swift#slo
allow_async_delete = false
[filter:dlo]
use = egg:swift#dlo
"""


def installed() -> bool:
    """Whether ``make test-s3`` has put the server in its place."""
    return (BIN / "swift-proxy-server").exists()


def create_bucket(endpoint: str, key: str, secret: str, name: str) -> None:
    """Create a bucket on any S3 server."""
    import botocore.config
    import botocore.session

    settings = botocore.config.Config(retries={"max_attempts": 1}, proxies={}, read_timeout=60)
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        config=settings,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
    try:
        client.create_bucket(Bucket=name)
    finally:
        client.close()


class Swift:
    """A Swift cluster of one, with random ports and keys, below one folder.

    Parameters
    ----------
    root
        Folder of its settings, logs and data; its disk must keep extended attributes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started_in = 0.0
        self._ports = dict(zip(_SERVERS, free_ports(len(_SERVERS)), strict=True))
        self._account, self._user = (f"{kind}{secrets.token_hex(4)}" for kind in "au")
        self._secret = secrets.token_urlsafe(24)
        self._servers: list[subprocess.Popen[bytes]] = []
        self._write_settings()

    @property
    def version(self) -> str:
        """Name and version of what runs."""
        asked = "from importlib.metadata import version; print(version('swift'))"
        done = subprocess.run([BIN / "python", "-c", asked], capture_output=True, text=True, check=True)
        return f"Swift {done.stdout.strip()}"

    @property
    def endpoint(self) -> str:
        """Address of the S3 interface."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a user of ``--env minio`` exports."""
        return {
            "S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": f"{self._account}:{self._user}",
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "AWS_DEFAULT_REGION": REGION,
        }

    def start(self) -> None:
        """Start the servers and wait until they answer."""
        begun = time.monotonic()
        for name in _SERVERS:
            command = [BIN / f"swift-{name}-server", self.root / f"{name}.conf", "-v"]
            with (self.root / f"{name}.log").open("ab") as log:
                server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment())
            self._servers.append(server)
        for name, port in self._ports.items():
            self._wait_for(name, port, begun + _STARTS_WITHIN)
        self.started_in = time.monotonic() - begun

    def kill(self) -> None:
        """Kill every server's process group with signal 9 and wait for the end."""
        for server in self._servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
        for server in self._servers:
            server.wait()
        self._servers.clear()

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        create_bucket(
            self.endpoint, self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"], name
        )

    def _write_settings(self) -> None:
        (self.root / "devices" / "disk").mkdir(parents=True)
        _check_attributes(self.root)
        hashed = f"swift_hash_path_prefix = {secrets.token_hex(8)}\nswift_hash_path_suffix = {secrets.token_hex(8)}\n"
        policy = "[storage-policy:0]\nname = one\ndefault = yes\n"
        self._write("swift.conf", f"[swift-hash]\n{hashed}{policy}")
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        said = {"root": self.root, "user": user, "region": REGION, "secret": self._secret}
        said |= {"account": self._account, "user_name": self._user}
        for name, port in self._ports.items():
            body = _PROXY if name == "proxy" else _STORAGE
            self._write(f"{name}.conf", (_COMMON + body).format(name=name, port=port, **said))
        storage = [str(self._ports[name]) for name in _SERVERS[:-1]]
        subprocess.run([BIN / "python", "-c", _RINGS, self.root, *storage], check=True, env=environment())

    def _write(self, name: str, text: str) -> None:
        file = self.root / name
        file.touch(mode=0o600)
        file.write_text(text, "utf-8")

    def _wait_for(self, name: str, port: int, until: float) -> None:
        while time.monotonic() < until:
            if any(server.poll() is not None for server in self._servers):
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.05)
        log = (self.root / f"{name}.log").read_text("utf-8", errors="replace")
        self.kill()
        raise RuntimeError(f"the {name} server of Swift did not start:\n{log[-2000:]}")


def _check_attributes(folder: Path) -> None:
    try:
        os.setxattr(folder, "user.swift", b"1")
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"Swift needs a disk with extended attributes, {folder} has none: {error}") from error
