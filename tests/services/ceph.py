"""A Ceph object gateway (RGW) on a cluster of one, in memory: an S3 server whose conditional writes are atomic."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import Final

from serving import end, environment, free_ports, start, wait_for_port
from swift import create_bucket

ADVICE: Final = (
    "no Ceph is installed: apt-get install --no-install-recommends ceph-mon ceph-osd ceph-mgr radosgw ceph-common"
)
_NEEDED: Final = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")

_MAY: Final = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "client.rgw": {"mon": "allow rwx", "osd": "allow rwx"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
}

_SETTINGS: Final = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_objectstore = memstore
memstore_device_bytes = 2147483648
ms_bind_port_min = {low}
ms_bind_port_max = {high}
public_addr = 127.0.0.1
run_dir = {root}
pid_file = {root}/$name.pid
admin_socket = {root}/$name.asok
log_file = {root}/$name.log
log_to_file = true
mon_data = {root}/mon
osd_data = {root}/osd
rgw_data = {root}/rgw
rgw_relaxed_region_enforcement = true
rgw_dns_name =
rgw_enable_usage_log = false
keyring = {root}/keyring
"""


def installed() -> bool:
    """Whether the programs are there."""
    return all(shutil.which(name) for name in _NEEDED)


class Ceph:
    """A cluster of one monitor, one disk in memory and one gateway.

    Parameters
    ----------
    root
        Folder of its settings and logs.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.started_in = root, 0.0
        self._mon, self._rgw = free_ports(2)
        self._key, self._secret = secrets.token_hex(10), secrets.token_urlsafe(24)
        self._servers: list[subprocess.Popen[bytes]] = []
        for name in ("mon", "osd", "rgw"):
            (root / name).mkdir()
        settings = _SETTINGS.format(fsid=uuid.uuid4(), mon=self._mon, root=root, low=36800, high=37800)
        (root / "ceph.conf").write_text(settings, "utf-8")

    @property
    def version(self) -> str:
        """Name and version of what runs."""
        done = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True)
        return f"Ceph RGW {done.stdout.split()[2]}"

    @property
    def endpoint(self) -> str:
        """Address of the S3 interface."""
        return f"http://127.0.0.1:{self._rgw}"

    @property
    def environment(self) -> dict[str, str]:
        """What a user of ``--env minio`` exports."""
        return {
            "S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self._key,
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start everything and wait until the gateway answers."""
        begun = time.monotonic()
        conf, mon = ["-c", self.root / "ceph.conf"], f"v2:127.0.0.1:{self._mon}"
        fsid = (self.root / "ceph.conf").read_text().split("fsid = ")[1].splitlines()[0]
        self._do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[{mon}]", self.root / "monmap")
        keyring = self.root / "keyring"
        for name, may in _MAY.items():
            make = [] if keyring.exists() else ["--create-keyring"]
            caps = [part for kind, what in may.items() for part in ("--cap", kind, what)]
            self._do("ceph-authtool", *make, keyring, "-n", name, "--gen-key", *caps)
        self._do("ceph-mon", *conf, "-i", "a", "--mkfs", "--monmap", self.root / "monmap", "--keyring", keyring)
        self._serve("ceph-mon", *conf, "-i", "a", "-f")
        wait_for_port(self._mon, self._servers[-1], self.root / "ceph-mon.out")
        disk = str(uuid.uuid4())
        self._do("ceph", *conf, "osd", "create", disk)
        self._do("ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._serve("ceph-osd", *conf, "-i", "0", "-f")
        front = f"beast endpoint=127.0.0.1:{self._rgw}"
        self._serve("radosgw", *conf, "-n", "client.rgw", "-f", "--rgw-frontends", front)
        wait_for_port(self._rgw, self._servers[-1], self.root / "radosgw.out", seconds=120)
        keys = ["--access-key", self._key, "--secret-key", self._secret]
        self._do("radosgw-admin", *conf, "user", "create", "--uid", "mnt", "--display-name", "mnt", *keys)
        self.started_in = time.monotonic() - begun

    def kill(self) -> None:
        """Kill everything."""
        for server in reversed(self._servers):
            end(server)
        self._servers.clear()

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        create_bucket(self.endpoint, self._key, self._secret, name)

    def _serve(self, name: str, *options: object) -> None:
        command = [name, *(str(option) for option in options)]
        self._servers.append(start(command, self.root / f"{name}.out", environment()))

    def _do(self, *command: object) -> None:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, timeout=120, env=environment()
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
