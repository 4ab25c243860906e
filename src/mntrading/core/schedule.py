"""The one walk-forward schedule that screening, fitting, trading and champion choice all follow."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mntrading.core.errors import ParameterError
from mntrading.params import ScheduleParams

LIVE = "live"


@dataclass(frozen=True)
class Fold:
    """One formation window and the trading window that follows it, half-open in time.

    ``trading_end`` of the live fold is None: it trades from ``formation_end`` on.
    """

    name: str
    formation_start: pd.Timestamp
    formation_end: pd.Timestamp
    trading_end: pd.Timestamp | None

    @property
    def is_live(self) -> bool:
        """Whether the fold trades from its formation end on, without a known end."""
        return self.trading_end is None

    def trading_grid(self, step: pd.Timedelta) -> pd.DatetimeIndex:
        """Open times of every bar of the trading window, whether or not there is one; empty for the live fold."""
        end = self.formation_end if self.trading_end is None else self.trading_end
        return pd.date_range(self.formation_end, end, freq=step, unit="ms", inclusive="left", name="timestamp")

    def formation_grid(self, step: pd.Timedelta) -> pd.DatetimeIndex:
        """Open times of every bar that closes within the formation window, whether or not there is one."""
        return pd.date_range(
            self.formation_start.ceil(step), self.formation_end - step, freq=step, unit="ms", name="timestamp"
        )

    def formation(self, bars: pd.DataFrame) -> pd.DataFrame:
        """Rows of a complete time grid that belong to the formation window: the bars closed at its end."""
        step = bars.index[1] - bars.index[0]
        inside: pd.DataFrame = bars.loc[
            (bars.index >= self.formation_start) & (bars.index + step <= self.formation_end)
        ]
        return inside

    @property
    def stamp(self) -> str:
        """Formation end as it appears in file names, ``20250302T000000Z``."""
        return f"{self.formation_end:%Y%m%dT%H%M%SZ}"


def walk_forward(start: pd.Timestamp, as_of: pd.Timestamp, params: ScheduleParams) -> tuple[Fold, ...]:
    """All folds whose trading window is complete at ``as_of``, oldest first, and the live fold last.

    The first formation window begins at ``start``. The live fold's formation window ends at ``as_of``.

    Raises
    ------
    ParameterError
        When the history does not hold one formation window.
    """
    formation, trading, step = (
        pd.Timedelta(days, unit="D") for days in (params.formation_days, params.trading_days, params.step_days)
    )
    if start + formation > as_of:
        raise ParameterError(
            f"bars from {start:%Y-%m-%d %H:%M} to {as_of:%Y-%m-%d %H:%M} UTC do not hold one formation window of "
            f"{params.formation_days} days",
            where="schedule.formation_days",
            fix="ingest an earlier ingestion.since_utc, or lower schedule.formation_days",
        )
    folds: list[Fold] = []
    begin = start
    while begin + formation + trading <= as_of:
        end = begin + formation
        folds.append(Fold(f"fold_{len(folds):02d}", begin, end, end + trading))
        begin += step
    folds.append(Fold(LIVE, as_of - formation, as_of, None))
    return tuple(folds)
