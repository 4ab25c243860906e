"""The roster: for each fold of the schedule, the pairs its screen selected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mntrading.core.schedule import Fold
from mntrading.core.types import Pair


@dataclass(frozen=True)
class RosterPair:
    """A selected pair with what later stages need of its screen.

    ``half_life_hours`` is that of the formation window's residual.
    """

    pair: Pair
    half_life_hours: float
    p_adjusted: float
    beta: float
    significant: bool = True

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> RosterPair:
        """The pair of a row that has its legs and figures by name."""
        return cls(
            Pair(row["dependent"], row["independent"]),
            row["half_life_hours"],
            row["p_adjusted"],
            row["beta"],
            row["significant"],
        )


@dataclass(frozen=True)
class RosterFold:
    """One fold, its pairs, and how they differ from the fold before."""

    fold: Fold
    pairs: tuple[RosterPair, ...]
    entered: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class LiveBefore:
    """The live pairs of the run before this one, which the live screen holds on to (hysteresis)."""

    as_of: pd.Timestamp
    pairs: tuple[Pair, ...]

    @classmethod
    def of(
        cls,
        stored: Mapping[str, Any] | None,
        as_of: pd.Timestamp,
        *,
        parameters: Mapping[str, str],
        max_age: pd.Timedelta,
    ) -> LiveBefore | None:
        """What a stored roster says of the live pairs before ``as_of``; None where it says nothing.

        A roster of the same ``as_of`` is being made again, so what came before it is what came before then: the same
        bars give the same roster, however often they are screened. Later ones, those older than ``max_age``, and those
        of other ``parameters`` (their hashes) are not looked at.
        """
        if stored is None or dict(stored["parameters"]) != dict(parameters):
            return None
        at = pd.Timestamp(stored["as_of"])
        if as_of - max_age <= at < as_of:
            return cls(at, tuple(row.pair for row in Roster.parse(stored).live.pairs))
        return Roster.parse(stored).live_before if at == as_of else None


@dataclass(frozen=True)
class Roster:
    """Every fold's pairs, oldest first, the live fold last, and the live pairs of the run before."""

    folds: tuple[RosterFold, ...]
    live_before: LiveBefore | None = None

    @property
    def live(self) -> RosterFold:
        """The fold that trades from now on."""
        return self.folds[-1]

    @property
    def completed(self) -> tuple[RosterFold, ...]:
        """The folds whose trading window has ended."""
        return self.folds[:-1]

    @property
    def pairs(self) -> dict[str, Pair]:
        """Every pair of any fold by its id, sorted."""
        every = {entry.pair.id: entry.pair for fold in self.folds for entry in fold.pairs}
        return dict(sorted(every.items()))

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol of any fold's pairs, sorted."""
        return tuple(sorted({symbol for pair in self.pairs.values() for symbol in pair.symbols}))

    @classmethod
    def build(
        cls, selected: Iterable[tuple[Fold, Iterable[RosterPair]]], live_before: LiveBefore | None = None
    ) -> Roster:
        """Roster of the folds in order, with each fold's differences from the one before.

        The live fold's are from ``live_before``, where that is known.
        """
        folds: list[RosterFold] = []
        before: set[str] = set()
        for fold, pairs in selected:
            kept = tuple(pairs)
            ids = {entry.pair.id for entry in kept}
            if fold.is_live and live_before is not None:
                before = {pair.id for pair in live_before.pairs}
            folds.append(RosterFold(fold, kept, tuple(sorted(ids - before)), tuple(sorted(before - ids))))
            before = ids
        return cls(tuple(folds), live_before)

    def document(self) -> dict[str, Any]:
        """Plain values of the stored artefact's keys ``folds``, ``symbols`` and ``live_before``."""
        before = self.live_before
        return {
            "folds": [
                {
                    "name": entry.fold.name,
                    "formation_start": entry.fold.formation_start,
                    "formation_end": entry.fold.formation_end,
                    "trading_end": entry.fold.trading_end,
                    "pairs": [
                        {
                            "pair_id": row.pair.id,
                            "dependent": row.pair.dependent,
                            "independent": row.pair.independent,
                            "half_life_hours": row.half_life_hours,
                            "p_adjusted": row.p_adjusted,
                            "beta": row.beta,
                            "significant": row.significant,
                        }
                        for row in entry.pairs
                    ],
                    "entered": list(entry.entered),
                    "left": list(entry.left),
                }
                for entry in self.folds
            ],
            "symbols": list(self.symbols),
            "live_before": before
            and {
                "as_of": before.as_of,
                "pairs": [{"dependent": pair.dependent, "independent": pair.independent} for pair in before.pairs],
            },
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Roster:
        """The roster a stored artefact holds."""
        folds = []
        for entry in document["folds"]:
            end = entry["trading_end"]
            fold = Fold(
                entry["name"],
                pd.Timestamp(entry["formation_start"]),
                pd.Timestamp(entry["formation_end"]),
                None if end is None else pd.Timestamp(end),
            )
            rows = tuple(RosterPair.of_row(row) for row in entry["pairs"])
            folds.append(RosterFold(fold, rows, tuple(entry["entered"]), tuple(entry["left"])))
        before = document["live_before"]
        if before is not None:
            pairs = tuple(Pair(row["dependent"], row["independent"]) for row in before["pairs"])
            before = LiveBefore(pd.Timestamp(before["as_of"]), pairs)
        return cls(tuple(folds), before)
