"""Pairs: the order to look at them in, and where they stand now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mntrading.core.menu import Item
from mntrading.reporting.desk_figures import PairNow


def pairs_now(
    known: Mapping[str, tuple[Item, pd.Series | None]],
    signals: Sequence[Mapping[str, Any]],
    positions: Mapping[str, Any],
    rules: Mapping[str, Mapping[str, Any]],
) -> list[PairNow]:
    """Where every pair stands: those in production as their signals say, the others as their bars do.

    Parameters
    ----------
    known
        Rule and recent z by pair on the live roster.
    signals
        Of the newest bar.
    positions
        Strategy state by pair id.
    rules
        Rule by pair in production.
    """
    told = {line["pair_id"]: line for line in signals}
    out = []
    for pair_id in sorted({*known, *told}):
        line, rule = told.get(pair_id), rules.get(pair_id)
        item, z = known.get(pair_id, (None, None))
        levels = (
            [float(rule[name]) for name in ("entry_z", "exit_z", "stop_z")]
            if rule is not None
            else [item.levels.entry_z, item.levels.exit_z, item.levels.stop_z]
            if item is not None
            else None
        )
        if levels is None:
            continue
        newest = (
            line["z"] if line is not None else None if z is None or z.dropna().empty else float(z.dropna().iloc[-1])
        )
        held = positions.get(pair_id)
        out.append(
            PairNow(
                pair_id, newest, levels[0], levels[1], levels[2],
                side=0 if held is None else int(held["side"]),
                in_production=line is not None,
                doubts=tuple(line["doubts"]) if line is not None else (),
            )
        )  # fmt: skip
    return out


def order_of(pair_ids: Sequence[str], now: Sequence[PairNow]) -> list[str]:
    """Pairs in the order a desk looks at them: held, in production, then the furthest from their mean."""
    rank = {one.pair_id: (one.side == 0, not one.in_production, -one.reach) for one in now}
    last = (True, True, 2.0)
    return sorted(pair_ids, key=lambda pair_id: (*rank.get(pair_id, last), pair_id))
