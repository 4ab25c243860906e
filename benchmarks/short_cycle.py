"""What a short cycle costs for twenty pairs in production: a cold process, a warm one, and its steps.

    make bench-cycle

Research is run on the demo market. Then twenty pairs of its symbols are promoted, each with a rule of its own and the
models of the live fold, and the market's clock goes on bar by bar:

* ``cold``: ``kedro run --pipelines short_cycle`` in a fresh process, wall time and peak memory.
* ``warm``: the same session once more in a process that has run one, as a notebook has.
* ``steps``: the nodes alone in the warm process, the longest first.

The last line has the figures; the exit code is 1 when a cycle fails, or does not write the signals of its bar.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

with warnings.catch_warnings():  # the frameworks warn about themselves when they are imported
    warnings.simplefilter("ignore")
    from kedro.framework.project import pipelines
    from kedro.framework.startup import bootstrap_project
    from kedro.runner import SequentialRunner

    from mntrading import runs

from replay import PROJECT, ROOT, catalog_of, registry_of, say

from mntrading.core.roster import Roster
from mntrading.core.types import Pair
from mntrading.pipelines.common import stamp_of

N_PAIRS = 20
STEP = pd.Timedelta(5, unit="min")
START = pd.Timestamp("2025-06-20T18:00:00Z")


def at(moment: pd.Timestamp) -> dict[str, Any]:
    """Parameters that set the simulated market's clock."""
    return {"market": {"simulator": {"end": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}}}


def promote_twenty(root: Path) -> int:
    """Put twenty pairs of the research's symbols into production; how many symbols they have."""
    catalog, _ = catalog_of(root, None, {})
    roster = Roster.parse(catalog.load("roster"))
    registry = registry_of(roster.live, catalog)
    (pattern, *_) = registry["champions"]
    model = next((entry["model"] for entry in registry["champions"] if entry["model"]), None)
    legs = list(islice(combinations(sorted(catalog.load("ohlcv_5m")), 2), N_PAIRS))
    champions = [
        pattern
        | {"pair_id": Pair(*pair).id, "dependent": pair[0], "independent": pair[1], "cluster": k, "model": model}
        for k, pair in enumerate(legs, 1)
    ]
    catalog["champion_registry"].save(registry | {"champions": champions})
    SequentialRunner().run(pipelines["promote"], catalog)
    return len({symbol for pair in legs for symbol in pair})


def cold(moment: pd.Timestamp) -> tuple[float, float]:
    """Wall seconds and peak GiB of one cycle in a fresh process."""
    command = [
        sys.executable, "-m", "kedro", "run", "--pipelines", "short_cycle", "--params",
        f"market.simulator.end={moment:%Y-%m-%dT%H:%M:%SZ},monitoring.reducing.may_reduce=false",
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def warm(moment: pd.Timestamp) -> float:
    """Wall seconds of one cycle in this process."""
    began = time.perf_counter()
    with runs.open_session(PROJECT, None, at(moment)) as session:
        session.run(pipeline_names=["short_cycle"])
    return time.perf_counter() - began


def steps(root: Path, moment: pd.Timestamp) -> dict[str, float]:
    """Wall seconds of every node of a cycle, the longest first."""
    catalog, _ = catalog_of(root, None, at(moment))
    out = {}
    for node in pipelines["short_cycle"].nodes:
        began = time.perf_counter()
        SequentialRunner().run(pipelines["short_cycle"].only_nodes(node.name), catalog)
        out[node.name] = time.perf_counter() - began
    return dict(sorted(out.items(), key=lambda item: -item[1]))


def main() -> int:
    """Measure; 1 when a cycle fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, help="storage root of a finished research run of the demo, to use a copy of"
    )
    parser.add_argument("--cycles", type=int, default=3, help="cycles of each kind")
    args = parser.parse_args()
    for name in ("mntrading", "kedro"):
        logging.getLogger(name).setLevel(logging.WARNING)
    bootstrap_project(PROJECT)
    folder = Path(tempfile.mkdtemp())
    root = folder / "data"
    os.environ[ROOT] = str(root)
    if args.root is None:
        runs.run("__default__")
    else:
        subprocess.run(["cp", "-r", str(args.root), str(root)], check=True)  # noqa: S603, S607
    n_symbols = promote_twenty(root)
    moments = iter(START + k * STEP for k in range(1, 100))
    first = cold(next(moments))[0]
    cold_runs = [cold(next(moments)) for _ in range(args.cycles)]
    warm(next(moments))
    warm_runs = [warm(next(moments)) for _ in range(args.cycles)]
    moment = next(moments)
    parts = steps(root, moment)
    written = (root / f"signals/{stamp_of(moment)}.jsonl").read_text().splitlines()
    for name, seconds in parts.items():
        say(f"  {name:24} {seconds:6.2f} s")
    figures = {
        "pairs": N_PAIRS,
        "symbols": n_symbols,
        "first_s": round(first, 2),
        "cold_s": round(float(np.median([seconds for seconds, _ in cold_runs])), 2),
        "cold_GiB": round(max(peak for _, peak in cold_runs), 2),
        "warm_s": round(float(np.median(warm_runs)), 2),
        "nodes_s": round(sum(parts.values()), 2),
        "longest": next(iter(parts)),
        "lines": len(written),
    }
    say(f"short cycle: {json.dumps(figures)}")
    return 0 if len(written) == N_PAIRS else 1


if __name__ == "__main__":
    sys.exit(main())
