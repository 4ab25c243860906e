"""Run the whole research job on simulated markets and hold what it finds against their truth.

    make markets                 ten seeds of `null`, three of `ou`
    python benchmarks/markets.py --seeds 20

`null` has nothing to find: a pair selected there is a false one, and a champion would be luck taken for skill.
`ou` is one perfect pair: its hedge ratio and half-life are known. The last line has the figures, and the exit
code is 1 when an invariant is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mntrading import runs
from mntrading.core.simulation import market

END = "2025-06-18T00:00:00Z"


def research(name: str, seed: int, root: Path) -> dict[str, Any]:
    """Artefacts of the default pipeline on one market."""
    os.environ["MNTRADING_STORAGE_ROOT"] = str(root / f"{name}_{seed}")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root / 'mlflow.db'}"
    params = {"market": {"simulator": {"name": name, "seed": seed, "end": END}}}
    runs.run("__default__", params=params)
    stored = Path(os.environ["MNTRADING_STORAGE_ROOT"])
    files = {
        "roster": "pairs/roster.json",
        "summary": "backtest_results/_summary.json",
        "registry": "models/registry.json",
        "scores": "models/_scores.json",
    }
    return {key: json.loads((stored / path).read_text()) for key, path in files.items()}


def null_line(seed: int, found: dict[str, Any]) -> dict[str, Any]:
    """What was found where there is nothing to find."""
    folds = found["roster"]["folds"]
    return {
        "seed": seed,
        "selected": sum(len(fold["pairs"]) for fold in folds),
        "folds_with_pairs": sum(bool(fold["pairs"]) for fold in folds),
        "folds": len(folds),
        "champions": len(found["registry"]["champions"]),
        "net_pnl": sum(line["net_pnl"] for line in found["summary"]["folds"]),
        "auc": found["scores"]["total"]["roc_auc"],
    }


def ou_line(seed: int, found: dict[str, Any]) -> dict[str, Any]:
    """The hedge ratio and half-life recovered, beside the truth."""
    truth = market("ou", seed=seed).truth.iloc[0]
    pairs = [pair for fold in found["roster"]["folds"] for pair in fold["pairs"]]
    beta = [pair["beta"] if pair["dependent"] == truth["dependent"] else 1 / pair["beta"] for pair in pairs]
    gross = sum(line["gross_pnl"] for line in found["summary"]["pairs"])
    return {
        "seed": seed,
        "selected": len(pairs),
        "folds": len(found["roster"]["folds"]),
        "beta": float(np.median(beta)) if beta else None,
        "true_beta": float(truth["beta"]),
        "half_life": float(np.median([pair["half_life_hours"] for pair in pairs])) if pairs else None,
        "true_half_life": float(truth["half_life_hours"]),
        "gross_pnl": gross,
        "sharpe": found["summary"]["portfolio"]["roster"]["sharpe"],
    }


def show(title: str, lines: list[dict[str, Any]]) -> None:
    """A table on the terminal."""
    keys = list(lines[0])
    cells = [[f"{line[key]:.3f}" if isinstance(line[key], float) else str(line[key]) for key in keys] for line in lines]
    widths = [max(len(row[i]) for row in [keys, *cells]) for i in range(len(keys))]
    sys.stdout.write(f"\n{title}\n")
    for row in [keys, *cells]:
        sys.stdout.write("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "\n")


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of the null market")
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        null = [null_line(seed, research("null", seed, root)) for seed in range(seeds)]
        show("null: nothing to find", null)
        ou = [ou_line(seed, research("ou", seed, root)) for seed in range(3)]
        show("ou: one perfect pair", ou)
    champions = sum(line["champions"] > 0 for line in null)
    universes = sum(line["folds"] for line in null)
    hit = sum(line["folds_with_pairs"] for line in null)
    broken = []
    if hit > 0.07 * universes:
        broken.append(f"{hit} of {universes} formation windows of null select a pair")
    if any(line["gross_pnl"] <= 0 for line in ou):
        broken.append("ou does not pay before costs")
    if champions > max(1, 0.05 * seeds):
        broken.append(f"{champions} null markets have a champion")
    if any(line["beta"] is None or abs(line["beta"] / line["true_beta"] - 1) > 0.1 for line in ou):
        broken.append("a hedge ratio of ou is off by more than 10 %")
    if any(line["half_life"] is None or not 0.5 < line["half_life"] / line["true_half_life"] < 2 for line in ou):
        broken.append("a half-life of ou is off by more than a factor of 2")
    sys.stdout.write(
        f"\nmarkets: null: {hit} of {universes} formation windows select a pair, {champions} of {seeds} seeds have a "
        f"champion; ou: median beta error {np.median([abs(o['beta'] / o['true_beta'] - 1) for o in ou]):.1%}"
        f"{'; BROKEN: ' + ', '.join(broken) if broken else ''}\n"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
