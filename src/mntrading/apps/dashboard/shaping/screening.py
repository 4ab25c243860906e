"""The screen of a formation window as a page shows it, and the roster over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mntrading.core.roster import Roster
from mntrading.reporting.context import Fact
from mntrading.reporting.desk_figures import pair_name
from mntrading.reporting.formats import count, day, percent

_ORDER = {"selected": 0}


def screen_facts(screen: Mapping[str, Any], listing: Mapping[str, Any] | None) -> list[Fact]:
    """How many went in, and how many came out."""
    funnel = screen["funnel"]
    significant = screen["n_tests"] - funnel.get("not significant", 0)
    listed = None if listing is None else sum(listing["funnel"].values())
    share = significant / screen["n_tests"] if screen["n_tests"] else 0.0
    return [
        Fact("Symbols screened", count(screen["n_symbols"]), "" if listed is None else f"of {listed} on the market"),
        Fact(
            "Pairs tested",
            count(screen["n_tests"]),
            f"{day(screen['formation_start'])} to {day(screen['formation_end'])}",
        ),
        Fact("Significant", count(significant), f"{percent(share)} of tests, after adjustment"),
        Fact("On the roster", count(funnel.get("selected", 0)), "past every later gate"),
    ]


def pair_rows(screen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pairs of a screen, those on the roster first, then by their evidence."""
    ordered = sorted(
        screen["pairs"], key=lambda row: (_ORDER.get(row["verdict"], 1), row["p_adjusted"], row["pair_id"])
    )
    return [
        {
            "Pair": pair_name(row["pair_id"]),
            "Verdict": "on the roster" if row["verdict"] == "selected" else row["reason"],
            "Adjusted p": row["p_adjusted"],
            "Half-life, h": row["half_life_hours"],
            "Hedge ratio β": row["beta"],
            "Drift of β": row["hedge_ratio_drift"],
            "Hurst": row["hurst"],
            "Mean crossings": row["mean_crossings"],
            "Correlation": row["return_correlation"],
            "Volume a bar, quote": row["liquidity"],
        }
        for row in ordered
    ]


FORMATS: Mapping[str, str] = {
    "Adjusted p": "%.1e", "Half-life, h": "%.1f", "Hedge ratio β": "%.3f", "Drift of β": "%.3f", "Hurst": "%.2f",
    "Correlation": "%.2f", "Volume a bar, quote": "compact",
}  # fmt: skip


def roster_states(
    roster: Roster, champions: Mapping[str, frozenset[str]]
) -> tuple[list[str], dict[str, list[str | None]]]:
    """Windows by the day they begin, and of every pair what it was in each.

    Parameters
    ----------
    roster
        Pairs of every fold.
    champions
        Pairs that were champions by fold name.
    """
    form = "%d %b" if _within_a_year(roster) else "%d %b %y"
    days = [f"{entry.fold.formation_end:{form}}" for entry in roster.folds]
    on = [{row.pair.id for row in entry.pairs} for entry in roster.folds]
    states: dict[str, list[str | None]] = {
        pair_id: [
            None if pair_id not in ids else "champion" if pair_id in champions.get(entry.fold.name, ()) else "roster"
            for entry, ids in zip(roster.folds, on, strict=True)
        ]
        for pair_id in roster.pairs
    }
    ordered = sorted(states, key=lambda one: (-sum(state is not None for state in states[one]), one))
    return days, {pair_id: states[pair_id] for pair_id in ordered}


def _within_a_year(roster: Roster) -> bool:
    return (roster.live.fold.formation_end - roster.folds[0].fold.formation_end).days < 360


def changes(roster: Roster) -> list[dict[str, Any]]:
    """Who came and who left with each window, the newest first."""
    return [
        {
            "Window begins": day(entry.fold.formation_end),
            "Pairs": len(entry.pairs),
            "Came": ", ".join(map(pair_name, entry.entered)) or "–",
            "Left": ", ".join(map(pair_name, entry.left)) or "–",
        }
        for entry in reversed(roster.folds)
    ]
