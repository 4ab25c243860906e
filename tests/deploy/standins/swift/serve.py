"""A Swift cluster of one with its S3 interface on port 9000, below /data, for MinIO's root user and password.

Whatever of it dies, all of it ends, so that the container is started anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from typing import Any

from swift.common.ring import RingBuilder

DATA = Path("/data")
BIN = Path(sys.executable).parent
PORTS = {"account": 6202, "container": 6201, "object": 6200, "proxy": 9000}

COMMON = """
[DEFAULT]
bind_ip = {address}
bind_port = {port}
swift_dir = /data
devices = /data/devices
mount_check = false
user = {user}
workers = 0
log_address = /data/no-syslog
log_udp_host =
fallocate_reserve = 0
"""
STORAGE = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
PROXY = """
[pipeline:main]
pipeline = catch_errors healthcheck s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 30
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{account_user} = {secret} .admin
[filter:slo]
use = egg:swift#slo
allow_async_delete = false
[filter:dlo]
use = egg:swift#dlo
"""


def first_start() -> None:
    """Make rings and the salts of the hashes; they belong to the data."""
    (DATA / "devices" / "disk").mkdir(parents=True)
    for name in ("account", "container", "object"):
        builder = RingBuilder(1, 1, 0)
        device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": PORTS[name], "device": "disk", "weight": 1.0}
        builder.add_dev(device)
        builder.rebalance(seed=1)
        builder.get_ring().save(str(DATA / f"{name}.ring.gz"))
    salts = f"swift_hash_path_prefix = {token_hex(8)}\nswift_hash_path_suffix = {token_hex(8)}\n"
    (DATA / "swift.conf").write_text(f"[swift-hash]\n{salts}[storage-policy:0]\nname = one\ndefault = yes\n")


def main() -> int:
    """Serve until something ends."""
    if not (DATA / "swift.conf").exists():
        first_start()
    account, _, account_user = os.environ["MINIO_ROOT_USER"].partition(":")
    told: dict[str, Any] = {
        "user": subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip() or os.getuid(),
        "account": account, "account_user": account_user, "secret": os.environ["MINIO_ROOT_PASSWORD"],
        "region": "us-east-1",
    }  # fmt: skip
    servers = []
    for name, port in PORTS.items():
        address = "0.0.0.0" if name == "proxy" else "127.0.0.1"  # noqa: S104
        settings = Path("/tmp") / f"{name}.conf"  # noqa: S108
        settings.touch(mode=0o600)
        body = PROXY if name == "proxy" else STORAGE
        settings.write_text((COMMON + body).format(name=name, port=port, address=address, **told))
        servers.append(subprocess.Popen([BIN / f"swift-{name}-server", settings, "-v"]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.wait()
    return 1


if __name__ == "__main__":
    sys.exit(main())
