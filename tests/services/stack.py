"""An object store, a database and an MLflow server over them, as ``docker compose`` has them."""

from __future__ import annotations

from pathlib import Path

from ceph import Ceph
from faulty import FaultyWay
from mlflow_server import MlflowServer
from postgres import Postgres
from swift import Swift

BUCKET = "mntrading"
MLFLOW_BUCKET = "mlflow"


class Stack:
    """All three, with a way to each that can be made to fail.

    Parameters
    ----------
    root
        Folder of their data; must be reachable for the user ``postgres``.
    store
        The object store; a Swift server of its own where None.
    """

    def __init__(self, root: Path, store: Swift | Ceph | None = None) -> None:
        root.chmod(0o755)
        if store is None:
            (root / "swift").mkdir(mode=0o700)
            store = Swift(root / "swift")
        self.store = store
        self.postgres = Postgres(root / "postgres")
        self._root = root
        self.mlflow: MlflowServer
        self.s3_way: FaultyWay
        self.mlflow_way: FaultyWay

    def start(self) -> None:
        """Start all of them, in their order."""
        self.postgres.start()
        self.store.start()
        for bucket in (BUCKET, MLFLOW_BUCKET):
            self.store.create_bucket(bucket)
        keys = self.store.environment
        self.mlflow = MlflowServer(
            self._root / "mlflow",
            self.postgres.uri,
            f"s3://{MLFLOW_BUCKET}/artifacts",
            {**keys, "MLFLOW_S3_ENDPOINT_URL": keys["S3_ENDPOINT_URL"]},
        )
        self.mlflow.start()
        self.s3_way = FaultyWay(int(self.store.endpoint.rpartition(":")[2]))
        self.mlflow_way = FaultyWay(self.mlflow.port)

    def kill(self) -> None:
        """End all of them."""
        for way in (getattr(self, "s3_way", None), getattr(self, "mlflow_way", None)):
            if way is not None:
                way.close()
        if hasattr(self, "mlflow"):
            self.mlflow.kill()
        self.store.kill()
        self.postgres.kill()

    def environment(self, prefix: str) -> dict[str, str]:
        """What a user of ``--env minio`` exports, for a root of its own; the keys are of the store, not of MLflow."""
        return {
            **self.store.environment,
            "S3_ENDPOINT_URL": self.s3_way.address,
            "MNTRADING_S3_ROOT": f"s3://{BUCKET}/{prefix}",
            "MLFLOW_TRACKING_URI": self.mlflow_way.address,
            "MNTRADING_LEASE": "settled" if isinstance(self.store, Swift) else "strict",
            "NO_PROXY": "127.0.0.1",
            "DO_NOT_TRACK": "1",
        }
