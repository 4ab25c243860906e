"""Runs that fail in every way there is, with secrets in their environment that must be found nowhere afterwards.

    python tests/faults/canary.py      some minutes

Looks through everything a run leaves: what it says, its records, MLflow's database and artefacts; and through what
kedro-viz exports of the project, on files and on an object store. Ends with one line of figures, and with exit code 1
where a secret was found, or a run that should fail did not.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
MARK: Final = "CaNaRy"
NAMES: Final = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "GITHUB_TOKEN", "EXCHANGE_API_KEY", "EXCHANGE_SECRET"),
)
NOWHERE: Final = "http://127.0.0.1:9"

# a source of bars that fails with a secret in its message, in its arguments, and in its local variables
SOURCE: Final = '''
"""A source that tells too much."""
import os
import warnings
import logging

from mntrading.market import MarketSource


class Leaky(MarketSource):
    identity = "leaky"

    def __init__(self, how="raise", **options):
        self.how, self.options = how, options

    def _tell(self):
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        token = os.environ["GITHUB_TOKEN"]
        logging.getLogger("leaky").warning("asked with %s and %s", secret, self.options)
        logging.getLogger("mntrading.leaky").info("asked with %s", token)
        if self.how == "chain":
            try:
                raise ValueError(f"inner {token}")
            except ValueError as error:
                raise RuntimeError(f"outer {secret}") from error
        if self.how == "expected":
            from mntrading.core.errors import SourceError
            raise SourceError(f"refused {secret}", where=f"https://user:{token}@exchange", fix=f"use {secret}")
        if self.how == "url":
            raise ConnectionError(f"https://key:{token}@host/x?X-Amz-Signature={secret}&X-Amz-Credential={token}")
        if self.how == "warn":
            warnings.warn(f"warned of {secret}")
        if self.how == "bytes":
            raise KeyError(secret.encode())
        raise RuntimeError(f"refused {secret}")

    def load_markets(self):
        self._tell()

    def fetch_ohlcv(self, symbol, timeframe, since, limit):
        self._tell()
'''


@dataclass(frozen=True)
class Case:
    """A run that fails."""

    name: str
    arguments: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


def cases(values: dict[str, str]) -> Iterator[Case]:
    """Thirty and more."""
    secret, token = values["AWS_SECRET_ACCESS_KEY"], values["GITHUB_TOKEN"]
    run = ("--env", "test", "--pipelines", "ingestion")
    source = "market.source=custom,market.custom.loader=leaky_source.Leaky,market.custom.options.how="
    for how in ("raise", "chain", "expected", "url", "warn", "bytes"):
        yield Case(f"source: {how}", (*run, "--params", source + how))
        yield Case(f"source: {how}, JSON", (*run, "--params", source + how), {"MNTRADING_LOG_FORMAT": "json"})
        named = f"{source}{how},market.custom.options.api_key={token},market.custom.options.note={secret}"
        yield Case(f"source: {how}, secrets among its options", (*run, "--params", named))
    for block in (
        "nonsense",
        "schedule.nonsense",
        "schedule.formation_days",
        "tracking",
        "market.source",
        "upload.workers",
    ):
        yield Case(f"parameter {block}", (*run, "--params", f"{block}={secret}"))
    for env in (
        {"MNTRADING_STORAGE_ROOT": f"s3://bucket/{secret}"},
        {"MLFLOW_TRACKING_URI": f"http://u:{token}@127.0.0.1:9"},
    ):
        yield Case(f"preflight of {next(iter(env))}", run, env)
    yield Case("database", run, {"MLFLOW_TRACKING_URI": f"postgresql+psycopg2://u:{token}@127.0.0.1:9/db"})
    yield Case("unknown database", run, {"MLFLOW_TRACKING_URI": f"nonsense://u:{token}@127.0.0.1:9/db"})
    minio = ("--env", "minio", "--pipelines", "ingestion")
    yield Case("store that is not there", minio, {"S3_ENDPOINT_URL": NOWHERE})
    yield Case("store with a user in its address", minio, {"S3_ENDPOINT_URL": f"http://u:{token}@127.0.0.1:9"})
    yield Case("store without a scheme", minio, {"S3_ENDPOINT_URL": f"u:{token}@127.0.0.1:9"})
    yield Case(
        "upload to a store that is not there", ("--env", "test", "--pipelines", "upload"), {"S3_ENDPOINT_URL": NOWHERE}
    )
    yield Case("environment", ("--env", secret))
    yield Case("pipeline", ("--env", "test", "--pipelines", secret))
    yield Case("node", (*run, "--nodes", secret))
    yield Case("tag", ("--env", "test", "--tags", secret))


def fails(case: Case, values: dict[str, str], work: Path) -> tuple[Case, int, str]:
    """Run a case; its exit code and all it said."""
    command = [sys.executable, "-m", "mntrading", *case.arguments]
    return case, *told(command, PROJECT, environment(values, work) | case.env)


def exported(env: str, values: dict[str, str], work: Path) -> tuple[Path, int, str]:
    """What kedro-viz makes of a copy of the project: its folder, exit code and all it said."""
    project = work / f"viz-{env}"
    for name in ("conf", "src"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", project)
    command = [sys.executable, "-m", "kedro", "viz", "build"]  # its hooks would ask the store, which is not there
    own = {"KEDRO_ENV": env, "S3_ENDPOINT_URL": NOWHERE, "PYTHONPATH": str(project / "src")}
    code, said = told(command, project, environment(values, work) | own)
    shutil.rmtree(project / "src")
    return project / "build", code, said


def environment(values: dict[str, str], work: Path) -> dict[str, str]:
    """The environment with secrets, and a storage root of its own."""
    root = work / secrets.token_hex(4)
    root.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env = kept | values | {"MNTRADING_STORAGE_ROOT": str(root), "PYTHONPATH": str(work), "DO_NOT_TRACK": "1"}
    database = f"postgresql://u:{values['EXCHANGE_SECRET']}@h/d"
    return env | {"AWS_EC2_METADATA_DISABLED": "true", "DATABASE_URL": database}


def told(command: list[str], where: Path, env: dict[str, str]) -> tuple[int, str]:
    """Exit code of a command and all it said."""
    done = subprocess.run(command, cwd=where, env=env, text=True, capture_output=True, check=False, timeout=600)
    return done.returncode, done.stdout + done.stderr


def traces(where: bytes, values: dict[str, str]) -> list[str]:
    """Names of the secrets in these bytes; any piece of one counts."""
    found = [name for name, value in values.items() if value.encode() in where]
    return found or (["a piece"] if MARK.encode() in where else [])


def main() -> int:
    """Run all of them and look."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    values = {name: f"{MARK}{secrets.token_hex(12)}" for name in NAMES}
    hits, wrong, n_files = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "leaky_source.py").write_text(SOURCE)
        todo = [case for case in cases(values) if chosen.only in case.name]
        with ThreadPoolExecutor(chosen.workers) as pool:
            for case, code, said in pool.map(lambda case: fails(case, values, work), todo):
                found = traces(said.encode(), values)
                if found:
                    hits.append(f"{case.name}: said {found}")
                    sys.stderr.write(f"{hits[-1]}\n{said[-1500:]}\n")
                if code == 0:
                    wrong.append(f"{case.name} did not fail")
                sys.stderr.write(f"{case.name}: exit {code}, {len(said)} characters, {len(found)} hits\n")
        for env in () if chosen.only else ("test", "minio"):
            build, code, said = exported(env, values, work)
            if code or not any(build.rglob("main")):
                wrong.append(f"kedro viz build, {env}: exit {code}: {said[-1500:]}")
            if found := traces(said.encode(), values):
                hits.append(f"kedro viz build, {env}: said {found}")
        for path in work.rglob("*"):
            if path.is_file() and path.suffix != ".py":
                n_files += 1
                if found := traces(path.read_bytes() + str(path).encode(), values):
                    hits.append(f"{path.relative_to(work)}: {found}")
                    sys.stderr.write(f"{hits[-1]}\n")
    sys.stdout.write(
        f"canary: {len(todo)} failing runs, {len(wrong)} that ended otherwise, {len(values)} secrets, {n_files} files "
        f"looked through, {len(hits)} hits\n"
    )
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if hits or wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
