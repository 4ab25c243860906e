"""Runs of a project in processes of their own, forked from this one: real sessions, hooks, lock, record, exit code."""

from __future__ import annotations

import os

# libraries that start their threads on import would make the forks below unsafe
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"

import hashlib
import importlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

with warnings.catch_warnings():  # the frameworks warn about themselves when they are imported
    warnings.simplefilter("ignore")
    sys.modules["polars"] = None  # a test tool that mlflow imports where it is there, and that starts threads
    import mntrading.settings  # noqa: F401

    del sys.modules["polars"]

from kill_loop import _fork as fork

from mntrading import runs

HERE: Final = Path(__file__).parent
PROJECT: Final = HERE.parents[1]
TRACEBACK: Final = 70
"""Exit code of a run that ended with an error nobody has stated."""

NOT_DATA: Final = ("runs", "mlflow.db", "mlflow_artifacts", ".lock")


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code, and the error it stated on standard error, or all it wrote there."""

    code: int
    said: str


def served(end: str, **faults: Any) -> dict[str, Any]:
    """Parameters of the market of ``served.py`` at a time, with faults."""
    custom = {"loader": "served.Served", "options": {"end": end, **faults}}
    return {
        "market": {"source": "custom", "custom": custom},
        # the pairs' relation is no matter here: it would take the entries away that are looked at
        "monitoring": {"reducing": {"may_reduce": False}},
    }


def in_process(root: Path, pipelines: Sequence[str], params: dict[str, Any], tags: Sequence[str] = ()) -> int:
    """Run pipelines here, as the command line does, and return the exit code."""
    os.environ["MNTRADING_STORAGE_ROOT"] = str(root)
    os.chdir(PROJECT)
    warnings.simplefilter("ignore")
    try:
        runs.stated(runs.run_here)(PROJECT, tuple(pipelines), "test", params, tuple(tags))
    except SystemExit as end:
        return int(str(end.code))
    except BaseException:  # noqa: BLE001 -- that it is not stated is what is looked for
        traceback.print_exc()
        return TRACEBACK
    return 0


def tracked_in(folder: Path) -> None:
    """Keep MLflow's store of all runs in a folder: creating its tables takes longer than a run."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"


def forked(
    root: Path,
    params: dict[str, Any],
    pipelines: Sequence[str] = ("short_cycle",),
    tags: Sequence[str] = (),
    first: Callable[[], None] | None = None,
) -> Ended:
    """Run pipelines in a process forked from this one; ``first`` changes that process before it begins."""
    with tempfile.TemporaryFile("w+") as told:

        def act() -> None:
            for stream in (1, 2):
                os.dup2(told.fileno(), stream)
            if first is not None:
                first()
            code = in_process(root, pipelines, params, tags)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

        code = os.waitstatus_to_exitcode(os.waitpid(fork(act), 0)[1])
        told.seek(0)
        return Ended(code, stated(told.read()))


def command(root: Path, params: dict[str, Any]) -> Ended:
    """``kedro run --pipelines short_cycle`` in a shell's place."""
    flat = ",".join(f"{name}={value}" for name, value in _flat(params))
    done = subprocess.run(
        [Path(sys.executable).parent / "kedro", "run", "--env", "test", "--pipelines", "short_cycle", "--params", flat],
        env=os.environ | {"MNTRADING_STORAGE_ROOT": str(root), "PYTHONPATH": str(HERE)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    code = TRACEBACK if "Traceback (most recent call last)" in done.stderr else done.returncode
    return Ended(code, stated(done.stderr))


def stated(text: str) -> str:
    """What a run said in the end: the error it stated, else everything."""
    return text.rpartition("\nError: ")[2].strip() if "\nError: " in text else text


def _flat(params: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    out = []
    for name, value in params.items():
        out += _flat(value, f"{above}{name}.") if isinstance(value, dict) else [(f"{above}{name}", value)]
    return out


def apart(act: Callable[[], Any]) -> Any:
    """Result of a call that is made in a process of its own."""
    with tempfile.TemporaryFile() as answer:

        def tell() -> None:
            answer.write(pickle.dumps(act()))
            answer.flush()

        if os.waitpid(fork(tell), 0)[1]:
            raise RuntimeError("a process has failed, see above")
        answer.seek(0)
        return pickle.load(answer)  # noqa: S301 -- from this very program


def warm(root: Path, params: dict[str, Any]) -> None:
    """Import here what a short cycle imports on its way, so that the processes forked later have it already."""

    def modules() -> list[str]:
        in_process(root, ("short_cycle",), params)
        return sorted(sys.modules)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        used = [name for name in apart(modules) if "polars" not in name]
        sys.modules["polars"] = None
        for name in used:
            with suppress(Exception):  # what is made up while running can't be imported
                importlib.import_module(name)
        del sys.modules["polars"]


def copy(root: Path, to: Path) -> Path:
    """A storage root whose files are those of another until they are replaced."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to, copy_function=os.link, ignore=shutil.ignore_patterns(".lock"))
    return to


def replace(file: Path, data: bytes | None) -> None:
    """Put other bytes in a file's place, or nothing, and leave the files it shares its bytes with as they are."""
    file.unlink(missing_ok=True)
    if data is not None:
        file.write_bytes(data)


def tree(root: Path) -> dict[str, str]:
    """Hash of every stored file but run records, tracking, and what a killed process was writing."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in NOT_DATA and not path.name.startswith(".tmp-")
    }
