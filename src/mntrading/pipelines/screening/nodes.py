"""Which pairs each fold may trade."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from mntrading.compute import workers
from mntrading.core.roster import LiveBefore, Roster, RosterPair
from mntrading.core.schedule import Fold, walk_forward
from mntrading.core.screening import SELECTED, Screen, screen
from mntrading.core.types import Pair
from mntrading.datasets import BarStore
from mntrading.params import ComputeParams, ScheduleParams, ScreeningParams
from mntrading.pipelines.common import header, progress, rows, teller
from mntrading.pipelines.screening.account import funnel_table

LOGGER = logging.getLogger(__name__)


def screen_pairs(
    ohlcv_1h: BarStore,
    markets: dict[str, Any],
    roster_stored: dict[str, Any] | None,
    screening: ScreeningParams,
    schedule: ScheduleParams,
    compute: ComputeParams,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame], dict[str, Any]]:
    """Screen every fold's formation window, each with the roster before it in mind, the live one with yesterday's.

    Returns the screens by formation end, every test by formation end, and the roster.
    """
    as_of = pd.Timestamp(markets["as_of"])
    symbols = [symbol for symbol in ohlcv_1h if symbol in markets["symbols"]]
    close, volume = ohlcv_1h.wide("close", symbols), ohlcv_1h.wide("volume", symbols)
    since = pd.Timestamp(markets["since"])
    close, volume = close.loc[close.index >= since], volume.loc[volume.index >= since]
    folds = walk_forward(close.index[0], as_of, schedule)
    made_from: dict[str, object] = {"ohlcv_1h": ohlcv_1h}
    params = {"screening": screening, "schedule": schedule}
    live_before = LiveBefore.of(
        roster_stored, as_of, parameters=header(as_of, {}, params)["parameters"],
        max_age=pd.Timedelta(schedule.step_days, unit="D"),
    )  # fmt: skip
    screens: dict[str, Any] = {}
    tests: dict[str, pd.DataFrame] = {}
    selected: list[tuple[Fold, list[RosterPair]]] = []
    before: tuple[Pair, ...] = ()
    with workers(compute):
        for fold in progress(folds, len(folds), "screening"):
            if fold.is_live and live_before is not None:
                before = live_before.pairs
                made_from["live_before"] = [pair.id for pair in before]
            window = fold.formation(close), fold.formation(volume)
            tell = teller(f"screening {fold.name}, tests")
            found = screen(*window, screening, previous=before, n_threads=compute.n_workers, progress=tell)
            head = header(fold.formation_end, made_from, params)
            screens[f"screened_pairs_{fold.stamp}"] = {**head, **_document(fold, found)}
            tests[fold.stamp] = found.tests
            selected.append((fold, _roster_pairs(found)))
            before = found.selected
    roster = {**header(as_of, made_from, params), **Roster.build(selected, live_before).document()}
    LOGGER.info("\n".join(funnel_table(screens, roster)))
    return screens, tests, roster


def _document(fold: Fold, found: Screen) -> dict[str, Any]:
    return {
        "fold": fold.name,
        "formation_start": fold.formation_start,
        "formation_end": fold.formation_end,
        "n_symbols": len(found.universe.symbols),
        "n_tests": found.n_tests,
        "rows_dropped": found.rows_dropped,
        "universe_funnel": found.universe.funnel,
        "universe_rejected": found.universe.rejected,
        "funnel": found.funnel,
        "pairs": rows(found.pairs),
    }


def _roster_pairs(found: Screen) -> list[RosterPair]:
    kept = found.pairs.loc[found.pairs["verdict"] == SELECTED]
    return [RosterPair.of_row(row) for row in kept.to_dict("records")]
