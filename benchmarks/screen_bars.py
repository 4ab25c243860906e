"""The screen of real bars, window by window: how long it takes, what it finds, and how long that lasts.

    make screen-bars BARS=/path/to/folder
    python benchmarks/screen_bars.py /path/to/folder --formation 60 --trading 14

The folder holds ``ohlcv_1h.parquet`` as the ``files`` source reads it. Every symbol in it is screened over the
walk-forward schedule, with the rules of ``conf/base``, as the screening pipeline does; a symbol listed inside a window
takes part with the bars it has.

The last line has the figures. The exit code is 1 when a pair that was found has other figures than
``statsmodels.tsa.stattools.coint`` gives, or when the number of pairs paid for is not that of all pairs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mntrading.configuration import parameters
from mntrading.core.bars import from_ms
from mntrading.core.cointegration import engle_granger_pairs, engle_granger_residuals
from mntrading.core.schedule import walk_forward
from mntrading.core.screening import SELECTED, Screen, screen, without_gaps
from mntrading.core.types import Pair
from mntrading.market.files import FilesSource
from mntrading.params import ScheduleParams, ScreeningParams

CONF = Path(__file__).parents[1] / "conf"
THREADS = 2
MAX_T_OFF, MAX_P_OFF = 1e-7, 1e-8


def say(text: str = "") -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def matrices(folder: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes and volumes (hour × symbol) of every symbol in the folder, NaN where there is no bar."""
    source = FilesSource(folder, quote="USDT")
    grid_end = from_ms(source.server_time())
    columns: dict[str, pd.DataFrame] = {}
    for symbol in sorted(source.load_markets()):
        rows = source.fetch_ohlcv(symbol, "1h", None, None)
        opens = pd.DatetimeIndex(rows[:, 0].astype("int64").astype("datetime64[ms]")).tz_localize("UTC")
        columns[symbol] = pd.DataFrame(rows[:, 4:], index=opens, columns=["close", "volume"])
    start = min(part.index[0] for part in columns.values())
    grid = pd.date_range(start, grid_end, freq="h", inclusive="left", unit="ms", name="timestamp")
    close, volume = (
        pd.DataFrame({symbol: part[name].reindex(grid) for symbol, part in columns.items()})
        for name in ("close", "volume")
    )
    return close, volume


@dataclass
class Account:
    """What the windows so far have shown."""

    seconds: list[float] = field(default_factory=list)
    engine_seconds: list[float] = field(default_factory=list)
    pairs: list[frozenset[Pair]] = field(default_factory=list)
    n_tests: int = 0
    n_significant: int = 0
    n_compared: int = 0
    lags_differ: int = 0
    t_off: float = 0.0
    p_off: float = 0.0
    miscounted: int = 0

    def add(self, found: Screen, tested: pd.DataFrame, params: ScreeningParams) -> None:
        """Count a window and hold what was selected in it against statsmodels."""
        n = len(found.universe.symbols)
        self.miscounted += found.n_tests != n * (n - 1) // 2
        self.n_tests += 2 * found.n_tests
        self.n_significant += int((found.tests["p_adjusted"] <= params.level).sum())
        self.pairs.append(frozenset(found.selected))
        for row in found.pairs.loc[found.pairs["verdict"] == SELECTED].to_dict("records"):
            legs = tested[[row["dependent"], row["independent"]]].dropna().to_numpy()
            with threadpool_limits(1):
                t_stat, p_value, lag = statsmodels_coint(legs, params)
            self.n_compared += 1
            self.lags_differ += lag != row["lag"]
            t_off = 0.0 if t_stat == row["t_stat"] else abs(t_stat - row["t_stat"])
            # unlike max, it lets no NaN pass
            self.t_off = float(np.maximum(self.t_off, t_off))
            self.p_off = float(np.maximum(self.p_off, abs(p_value - row["p_value"])))

    @property
    def kept(self) -> list[float]:
        """Share of each window's pairs that are on the next window's roster."""
        return [len(a & b) / len(a) for a, b in pairwise(self.pairs) if a]


def statsmodels_coint(legs: np.ndarray, params: ScreeningParams) -> tuple[float, float, int]:
    """Statistic, p-value and lag of two log prices (T × 2)."""
    from statsmodels.tsa.stattools import adfuller, coint

    t_stat, p_value, _ = coint(
        legs[:, 0], legs[:, 1], trend=params.trend, maxlag=params.max_lag, autolag=params.autolag
    )
    design = np.column_stack((legs[:, 1], np.ones(len(legs))))
    residual = legs[:, 0] - design @ np.linalg.lstsq(design, legs[:, 0])[0]
    outcome = adfuller(residual, maxlag=params.max_lag, autolag=params.autolag, regression="n", result_object=False)
    return float(t_stat), float(p_value), int(outcome[2])


def still_cointegrated(pairs: pd.DataFrame, after: pd.DataFrame) -> float:
    """Share of pairs that a test of their direction alone finds at 5 % in the bars after their window."""
    legs = [Pair(*row) for row in pairs[["dependent", "independent"]].to_numpy()]
    together = {symbol for pair in legs for symbol in pair.symbols}
    known = np.log(after[sorted(together)]).dropna(axis=1)
    legs = [pair for pair in legs if set(pair.symbols) <= set(known.columns)]
    return float((engle_granger_residuals(known, legs)["p_value"] <= 0.05).mean()) if legs else float("nan")


def main() -> int:
    """Screen, compare, report; 0 when every invariant holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("MNTRADING_SAMPLE_BARS"))
    parser.add_argument("--formation", type=int, help="days of a formation window")
    parser.add_argument("--trading", type=int, help="days of a trading window, and from one fold to the next")
    arguments = parser.parse_args()
    if not arguments.folder:
        parser.error("name a folder of bars, or set MNTRADING_SAMPLE_BARS")
    blocks = parameters(CONF)
    params = cast(ScreeningParams, blocks["screening"])
    schedule = cast(ScheduleParams, blocks["schedule"])
    trading = arguments.trading or schedule.trading_days
    schedule = ScheduleParams(
        formation_days=arguments.formation or schedule.formation_days, trading_days=trading, step_days=trading
    )
    close, volume = matrices(arguments.folder)
    folds = walk_forward(close.index[0], close.index[-1] + pd.Timedelta(1, unit="h"), schedule)
    screen(folds[0].formation(close), folds[0].formation(volume), params, n_threads=THREADS)  # compiles
    say(f"{close.shape[1]} symbols, {len(close):,} hours; {len(folds)} windows of {schedule.formation_days} days")
    say("window ends   symbols  late     tests  screen s  engine s  significant  selected  kept  after: 5 %")
    account, before = Account(), ()
    for fold in folds:
        window = fold.formation(close)
        began = time.perf_counter()
        found = screen(window, fold.formation(volume), params, previous=before, n_threads=THREADS)
        account.seconds.append(time.perf_counter() - began)
        tested = without_gaps(np.log(window[list(found.universe.symbols)]))
        began = time.perf_counter()
        engle_granger_pairs(
            tested, max_lag=params.max_lag, autolag=params.autolag, trend=params.trend, n_threads=THREADS
        )
        account.engine_seconds.append(time.perf_counter() - began)
        account.add(found, tested, params)
        after = close.loc[(close.index >= fold.formation_end)].iloc[: 24 * schedule.formation_days]
        chosen = found.pairs.loc[found.pairs["verdict"] == SELECTED]
        lasting = still_cointegrated(chosen, after) if len(after) >= 24 * trading else float("nan")
        say(
            f"{fold.formation_end:%Y-%m-%d}    {len(found.universe.symbols):6,}  {int(tested.iloc[0].isna().sum()):4}"
            f"  {2 * found.n_tests:8,}  {account.seconds[-1]:8.2f}  {account.engine_seconds[-1]:8.2f}"
            f"  {int((found.tests['p_adjusted'] <= params.level).sum()):11,}  {len(found.selected):8}"
            f"  {len(set(found.selected) & set(before)):4}  {lasting:10.0%}"
        )
        before = found.selected
    say("\nuniverse of the last window: " + ", ".join(f"{n} {why}" for why, n in found.universe.funnel.items()))
    say("pairs of the last window: " + ", ".join(f"{n:,} {why}" for why, n in found.funnel.items()))
    for row in chosen.head(5).to_dict("records"):
        say(
            f"  {row['pair_id']}: t {row['t_stat']:.2f}, adjusted p {row['p_adjusted']:.2g}, "
            f"half-life {row['half_life_hours']:.0f} h"
        )
    exact = account.t_off <= MAX_T_OFF and account.p_off <= MAX_P_OFF
    broken = account.lags_differ or account.miscounted or not exact
    say(
        f"screen-bars: {len(folds)} windows, {account.n_tests:,} tests in {sum(account.engine_seconds):.2f} s "
        f"(whole screens {sum(account.seconds):.2f} s); {account.n_significant:,} significant pairs; "
        f"{statistics.mean(account.kept or [0.0]):.0%} of pairs stay from window to window; "
        f"{account.n_compared} selected pairs against statsmodels: {account.lags_differ} lags "
        f"differ, |dt| {account.t_off:.1e}, |dp| {account.p_off:.1e}; {'BROKEN' if broken else 'ok'}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
