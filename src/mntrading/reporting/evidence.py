"""The artefacts a report is made of, as plain values: no catalog, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mntrading.core.bars import timeframe_ms
from mntrading.core.roster import Roster
from mntrading.params import CostParams, ReportingParams, ScreeningParams, StrategyParams


@dataclass(frozen=True)
class BarRange:
    """What a store of bars holds; ``first`` and ``last`` are open times, None of an empty store."""

    timeframe: str
    source: str
    n_symbols: int
    n_bars: int
    missing_bars: int
    first: pd.Timestamp | None
    last: pd.Timestamp | None

    @classmethod
    def of(cls, timeframe: str, source: str, entries: Sequence[Mapping[str, Any]]) -> BarRange:
        """Range over the manifest entries of all symbols."""
        filled = [entry for entry in entries if "first" in entry]
        return cls(
            timeframe,
            source,
            len(entries),
            sum(int(entry["rows"]) for entry in entries),
            sum(int(entry["missing_bars"]) for entry in entries),
            min((pd.Timestamp(entry["first"]) for entry in filled), default=None),
            max((pd.Timestamp(entry["last"]) for entry in filled), default=None),
        )

    @property
    def end(self) -> pd.Timestamp | None:
        """Close of the last bar."""
        return None if self.last is None else self.last + pd.Timedelta(timeframe_ms(self.timeframe), unit="ms")


@dataclass(frozen=True)
class PairRecord:
    """One pair's ``spread`` and ``z`` as they were traded on, indexed by bar open, its trades, and its windows.

    A window has its ``fold`` and the levels ``entry_z``, ``exit_z`` and ``stop_z`` chosen for it.
    """

    pair_id: str
    curve: pd.DataFrame
    trades: pd.DataFrame
    windows: pd.DataFrame


@dataclass(frozen=True)
class Research:
    """Everything up to champions.

    Parameters
    ----------
    as_of, source
        Newest moment of the market, and its identity.
    bars
        The stores of bars.
    roster, screens, tests
        Pairs of every fold, each fold's screen by fold name, every test of the live fold's screen.
    summary, equity, best
        Out-of-sample results, equity of every line by name, and the pair with the highest net P&L, if any traded.
    robustness
        The whole-roster portfolio under other costs, timing and levels.
    scores, registry
        Documents of models and champions.
    run
        The run record: the only place from which run id, revision and wall clock come.
    hashes
        Content hash by artefact.
    doubts
        Sentences on artefacts that do not belong together.
    screening, strategy, costs, level, reporting
        Parameters the words and figures refer to; ``level`` is that of the intervals.
    """

    as_of: pd.Timestamp
    source: str
    bars: tuple[BarRange, ...]
    roster: Roster
    screens: Mapping[str, Mapping[str, Any]]
    tests: pd.DataFrame
    summary: Mapping[str, Any]
    equity: pd.DataFrame
    best: PairRecord | None
    robustness: Mapping[str, Any]
    scores: Mapping[str, Any]
    registry: Mapping[str, Any]
    run: Mapping[str, Any]
    hashes: Mapping[str, str]
    doubts: tuple[str, ...]
    screening: ScreeningParams
    strategy: StrategyParams
    costs: CostParams
    level: float
    reporting: ReportingParams

    @property
    def live_screen(self) -> Mapping[str, Any]:
        """The live fold's screen."""
        return self.screens[self.roster.live.fold.name]

    @property
    def simulated(self) -> bool:
        """Whether the bars are the built-in simulator's."""
        return self.source.startswith("simulator")

    @property
    def traded(self) -> bool:
        """Whether any walk-forward portfolio had a fill."""
        return any(total["n_fills"] for total in self.summary["portfolio"].values())

    @property
    def champions(self) -> tuple[str, ...]:
        """Pairs that may be promoted, best first."""
        return tuple(entry["pair_id"] for entry in self.registry["champions"])


@dataclass(frozen=True)
class Shadow:
    """Challengers on paper beside production.

    Parameters
    ----------
    record
        Their record at the newest bar; None where there is none.
    equity
        Equity of both accounts by bar since it began, ``Production`` and ``With challengers``.
    why
        Why there is no record; empty where there is one.
    trouble
        Whether something is wrong.
    """

    record: Mapping[str, Any] | None
    equity: pd.DataFrame
    why: str
    trouble: bool


@dataclass(frozen=True)
class Live:
    """What trades now.

    Parameters
    ----------
    production_map
        The promoted configuration.
    current
        Whether it was promoted from the champions this report shows.
    signals
        Signals of the newest bar, one per pair.
    orders
        The orders they net to, and the book.
    monitoring
        Health of every pair in production.
    account
        The paper account at the newest bar's close.
    equity
        Its equity and costs by bar.
    positions
        Strategy state by pair id.
    production_log
        Every change of the production map, oldest first.
    shadow
        What runs beside it.
    """

    production_map: Mapping[str, Any]
    current: bool
    signals: Sequence[Mapping[str, Any]]
    orders: Mapping[str, Any]
    monitoring: Mapping[str, Any]
    account: Mapping[str, Any]
    equity: pd.DataFrame
    positions: Mapping[str, Any]
    production_log: Sequence[Mapping[str, Any]]
    shadow: Shadow


def doubts_of(
    roster_hash: str,
    roster: Mapping[str, Any],
    summary: Mapping[str, Any],
    robustness: Mapping[str, Any],
    registry: Mapping[str, Any],
    parameters: Mapping[str, str],
) -> tuple[str, ...]:
    """Sentences on results that another roster or other parameters than the present ones have made.

    Parameters
    ----------
    roster_hash
        Content hash of ``roster``.
    roster, summary, robustness, registry
        The artefacts.
    parameters
        Content hash of each block that is compared.
    """
    out = []
    old = [
        name
        for name, made in (("backtest_summary", summary), ("robustness", robustness), ("champion_registry", registry))
        if made["inputs"]["roster"] != roster_hash
    ]
    if old:
        out.append(f"{' and '.join(old)} were made from an earlier roster than the one shown. Run: kedro run")
    used = {**roster["parameters"], **summary["parameters"]}
    changed = sorted(name for name, value in parameters.items() if used[name] != value)
    if changed:
        out.append(f"The parameters of {', '.join(changed)} have changed since these results were made. Run: kedro run")
    return tuple(out)
