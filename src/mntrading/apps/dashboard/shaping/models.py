"""What models are worth, as a page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mntrading.core.roster import Roster
from mntrading.core.schedule import LIVE
from mntrading.reporting.context import Fact
from mntrading.reporting.desk_figures import pair_name
from mntrading.reporting.formats import MISSING, count, decimal, percent


def score_facts(scores: Mapping[str, Any]) -> list[Fact]:
    """Skill over all trading windows."""
    total = scores["total"]
    return [
        Fact("ROC AUC", decimal(total["roc_auc"], 3), "0.5 is chance, all trading windows"),
        Fact("Lift", decimal(total["lift"], 2), "average precision over the base rate"),
        Fact("Base rate", percent(total["base_rate"]), "of the rows reverted in time"),
        Fact("Calibration error", percent(total["ece"]), f"mean, over {count(total['n_rows'])} rows"),
    ]


def fold_days(scores: Mapping[str, Any], roster: Roster) -> list[str]:
    """Windows that were scored, by the day they begin where the roster knows it."""
    days = {entry.fold.name: f"{entry.fold.formation_end:%d %b %y}" for entry in roster.folds}
    return [days.get(name, name) for name in scores["out_of_sample"]]


def fits(scores: Mapping[str, Any]) -> dict[str, str]:
    """Ids of what was fitted, the live one first, by the words a reader chooses by."""
    ids = sorted(scores["cross_validated"], key=lambda id_: (id_.split("/", 1)[0] != LIVE, id_))
    return {id_: f"{id_.split('/', 1)[0].replace('_', ' ')} · {id_.split('/', 1)[1].replace('_', ' ')}" for id_ in ids}


def candidate_rows(fit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Models that were compared out of fold, the chosen one marked."""
    return [
        {
            "Model": f"{line['model'].replace('_', ' ')}{' · chosen' if line['model'] == fit['chosen'] else ''}",
            "Log loss": line["log_loss"],
            "ROC AUC": line["roc_auc"],
            "Lift": line["lift"],
            "Calibration error": line["ece"],
            "Brier score": line["brier"],
        }
        for line in sorted(fit["candidates"], key=lambda line: line["log_loss"])
    ]


FORMATS: Mapping[str, str] = {
    "Log loss": "%.4f", "ROC AUC": "%.3f", "Lift": "%.2f", "Calibration error": "%.3f", "Brier score": "%.4f",
}  # fmt: skip


def fit_words(fit: Mapping[str, Any]) -> str:
    """What was chosen, on how much, and how stable it is."""
    if not fit["chosen"]:
        return f"No model: {fit['reason'] or 'none was better than the base rate'}."
    details = fit["details"]
    independent = details["n_independent"]
    stability = details.get("stability") or {}
    spread = stability.get("roc_auc_std")
    words = [f"{fit['chosen'].replace('_', ' ').capitalize()}, of {count(details['n_trials'])} tried"]
    if independent is not None:
        words.append(f"worth {count(independent)} independent rows")
    if spread is not None:
        words.append(f"ROC AUC ± {decimal(spread, 3)} from split to split")
    return ", ".join(words) + "."


def registered(registry: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Pairs and the model each is traded with."""
    if registry is None:
        return []
    return [
        {
            "Pair": pair_name(entry["pair_id"]),
            "Verdict": "champion" if entry["champion"] else "challenger" if entry["challenger"] else "rejected",
            "Model": MISSING if not entry["model"] else str(entry["model"]["id"]),
            "Rule": entry["rule"]["label"],
            "Why not": ", ".join(entry["reasons"]) or MISSING,
        }
        for entry in (*registry["champions"], *registry["rejected"])
    ]
