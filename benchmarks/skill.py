"""What every model is worth out of sample, fold by fold, on the demo market and on real bars.

    make skill
    MNTRADING_SAMPLE_BARS=/path/to/bars make skill

Bars, screen, features and labels are made by the project's pipelines with its own parameters. In each fold every model
of ``modelling.models`` is fitted on the formation window, whether it would be chosen or not, and asked about the
trading window's labelled rows: ROC-AUC, lift (precision-recall area over the base rate), and log loss less that of the
formation window's base rate (below 0: better). ``driftless walk`` is the rank a walk without drift gives, from z and
two deviations with nothing fitted (``core.driftless``): what a model of ``z_threshold`` labels adds is what it ranks
better than that.

The last line has the figures; the exit code is 1 when a training label is not over at its formation window's end, when
a market has no rows to score, or when on the demo, whose planted pairs do revert, a model's AUC is below 0.55 or its
log loss no better than the base rate's.
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
import pandas as pd
from threadpoolctl import threadpool_limits

from mntrading import runs
from mntrading.configuration import parameters
from mntrading.core import fitting, training
from mntrading.core.driftless import reversion_chance
from mntrading.core.evaluation import score
from mntrading.core.features import feature_names
from mntrading.core.fitting import Sample
from mntrading.core.roster import Roster, RosterFold
from mntrading.core.uniqueness import label_uniqueness
from mntrading.params import FeatureEngineeringParams, LabelParams, ModellingParams

CONF = Path(__file__).parents[1] / "conf"
SAMPLE = "MNTRADING_SAMPLE_BARS"
STAGES = ("ingest", "screen", "features", "dataset")
FORMULA = "driftless walk"
LEAST_AUC = 0.55  # on the demo


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def made(root: Path, market: dict[str, Any]) -> tuple[Roster, dict[str, pd.DataFrame]]:
    """Roster and labelled rows by pair, of one market."""
    os.environ["MNTRADING_STORAGE_ROOT"] = str(root)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root / 'mlflow.db'}"
    runs.run("__default__", params={"market": market}, tags=STAGES)
    roster = Roster.parse(json.loads((root / "pairs/roster.json").read_text()))
    return roster, {id_: pd.read_parquet(root / f"datasets/pairs/{id_}.parquet") for id_ in roster.pairs}


def told(
    entry: RosterFold,
    sets: dict[str, pd.DataFrame],
    names: tuple[str, ...],
    params: ModellingParams,
    labels: LabelParams,
) -> tuple[pd.DataFrame, pd.Timestamp]:
    """What each model says of a fold's trading window, beside its labels, and when the last training label ended."""
    fold, mine = entry.fold, [row.pair.id for row in entry.pairs]
    window = training.formation_rows({id_: sets[id_] for id_ in mine}, fold.formation_start, fold.formation_end)
    window = window.loc[np.isfinite(window[list(names)].to_numpy()).all(axis=1)]
    after = pd.concat(
        [rows.loc[(rows.index >= fold.formation_end) & (rows.index < fold.trading_end)] for rows in map(sets.get, mine)]
    )
    after = after.loc[np.isfinite(after[list(names)].to_numpy()).all(axis=1)]
    y = window["label"].to_numpy(dtype=np.int64)
    weight = label_uniqueness(window) if params.sample_weights == "uniqueness" else None
    sample = Sample(
        window[list(names)].to_numpy(dtype=np.float64), y, weight,
        pd.DatetimeIndex(window.index), pd.DatetimeIndex(window["label_end"]), names,
    )  # fmt: skip
    X = after[list(names)].to_numpy(dtype=np.float64)
    said = pd.DataFrame({"label": after["label"].to_numpy(dtype=np.int64), "base_rate": y.mean()})
    for name in params.models:
        said[name] = fitting.fit(name, sample, params).predict(X)
    said[FORMULA] = reversion_chance(
        after["z"].to_numpy(), after["spread_std"].to_numpy(), after["spread_change_std"].to_numpy(),
        revert_z=labels.revert_z, horizon=labels.horizon,
    )  # fmt: skip
    return said, window["label_end"].max()


def lines(said: pd.DataFrame, models: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Scores by model."""
    y = said["label"].to_numpy()
    base = score("", y, said["base_rate"].to_numpy())
    out = {}
    for name in (*models, FORMULA):
        found = score("", y, said[name].to_numpy())
        out[name] = {"auc": found["roc_auc"], "lift": found["lift"], "loss": found["log_loss"] - base["log_loss"]}
    return out


def market(name: str, root: Path, source: dict[str, Any], broken: list[str]) -> dict[str, dict[str, float]]:
    """Scores of one market over all its folds, by model; prints those of each."""
    params = parameters(CONF)
    recipe, engineering = params["modelling"], params["feature_engineering"]
    assert isinstance(recipe, ModellingParams)
    assert isinstance(engineering, FeatureEngineeringParams)
    roster, sets = made(root, source)
    names, parts = feature_names(engineering.features), []
    say(f"{name}\n  {'':10}{'rows':>8}{'base':>7}" + "".join(f"{model:>24}" for model in (*recipe.models, FORMULA)))

    def row(label: str, said: pd.DataFrame) -> dict[str, dict[str, float]]:
        found = lines(said, recipe.models)
        cells = "".join(f"{f['auc']:>10.3f}{f['lift']:>6.2f}{f['loss']:>+8.3f}" for f in found.values())
        say(f"  {label:10}{len(said):>8,}{said['label'].mean():>7.3f}{cells}")
        return found

    for entry in roster.completed:
        if not entry.pairs:
            say(f"  {entry.fold.name:10}no pairs")
            continue
        said, ended = told(entry, sets, names, recipe, engineering.labels)
        if ended >= entry.fold.formation_end:
            broken.append(f"{name} {entry.fold.name}: a training label ends at {ended}")
        if said["label"].nunique() < 2:
            say(f"  {entry.fold.name:10}{len(said):,} rows of one label at most")
            continue
        row(entry.fold.name, said)
        parts.append(said)
    if not parts:
        broken.append(f"{name}: no rows to score")
        return {}
    return row("all", pd.concat(parts))


def main() -> int:
    """Run, print, judge."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    broken: list[str] = []
    say("out of sample: ROC-AUC, lift, log loss less the base rate's\n")
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        found = {"demo": market("demo", Path(folder) / "demo", {"source": "simulator"}, broken)}
        if sample := os.environ.get(SAMPLE):
            source = {"source": "files", "files": {"path": sample}}
            found["real"] = market("real", Path(folder) / "real", source, broken)
        else:
            say(f"{SAMPLE} names no folder: no real bars")
    for name, scores in found["demo"].items():
        if name != FORMULA and not (scores["auc"] >= LEAST_AUC and scores["loss"] < 0):
            broken.append(f"{name} on the demo: AUC {scores['auc']:.3f}, log loss {scores['loss']:+.3f}")
    figures = "; ".join(
        f"{market_}: " + ", ".join(f"{name} {f['auc']:.3f} ({f['lift']:.2f} x)" for name, f in scores.items())
        for market_, scores in found.items()
    )
    say(f"\nskill, AUC (lift): {figures}{'; BROKEN: ' + ', '.join(broken) if broken else ''}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
