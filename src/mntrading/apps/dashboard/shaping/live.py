"""What is in production, as a page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mntrading.reporting.account_sections import SIDES
from mntrading.reporting.desk_figures import pair_name
from mntrading.reporting.formats import MISSING, chance, day

SWITCHES: Mapping[str, str] = {
    "active": "entries and exits, as configured",
    "reducing": "exits only: the book runs off",
    "halted": "no orders at all, held positions stay",
}


def signal_rows(signals: Sequence[Mapping[str, Any]], production_map: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What every pair in production does on the newest bar, and on what."""
    rules = {entry["pair_id"]: entry["rule"] for entry in production_map["pairs"]}
    return [
        {
            "Pair": pair_name(line["pair_id"]),
            "Action": line["action"],
            "Position": SIDES[line["side"]],
            "z": line["z"],
            "Enters at": None if line["pair_id"] not in rules else rules[line["pair_id"]]["entry_z"],
            "Probability": chance(line["probability"]),
            "Needs": chance(line["threshold"]),
            "Bars old": line["staleness_bars"],
            "Reason": line["reason"] or "holding",
            "Doubts": "; ".join(line["doubts"]) or MISSING,
        }
        for line in signals
    ]


def map_rows(production_map: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pairs of the production map."""
    return [
        {
            "Pair": pair_name(entry["pair_id"]),
            "Rule": entry["rule"]["label"],
            "Enter, exit, stop (z)": ", ".join(f"{entry['rule'][key]:.3g}" for key in ("entry_z", "exit_z", "stop_z")),
            "Model": MISSING if not entry["model"] else entry["model"]["name"].replace("_", " "),
            "Half-life, h": entry["half_life_hours"],
            "Cluster": entry["cluster"],
            "Expires": day(entry["expires"]),
        }
        for entry in production_map["pairs"]
    ]


def log_rows(log: Sequence[Mapping[str, Any]], most: int = 20) -> list[dict[str, Any]]:
    """Changes of production, the newest first."""
    return [
        {
            "Market time, UTC": str(line["as_of"])[:16].replace("T", " "),
            "Change": line["action"],
            "Map": line["map_id"][:12],
            "Came": ", ".join(map(pair_name, line["pairs_added"])) or MISSING,
            "Left": ", ".join(map(pair_name, line["pairs_removed"])) or MISSING,
            "Changed": len(line["pairs_changed"]),
            "Run": line["run_id"],
        }
        for line in list(reversed(log))[:most]
    ]


def held_weights(live_orders: Mapping[str, Any], account: Mapping[str, Any]) -> dict[str, float]:
    """Share of equity held now by symbol."""
    out: dict[str, float] = {}
    for row in account["book"]["holdings"]:
        for leg, units in (("dependent", "units_dependent"), ("independent", "units_independent")):
            price = live_orders["prices"].get(row[leg])
            if price is not None:
                out[row[leg]] = out.get(row[leg], 0.0) + row[units] * price / account["equity"]
    return out


def wanted_weights(live_orders: Mapping[str, Any]) -> dict[str, float]:
    """Share of equity by symbol once the orders are filled."""
    return {symbol: weight for symbol, weight in live_orders["weights"].items() if weight}
