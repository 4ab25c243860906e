"""The five markets: each invariant by hand-made lines that keep it and break it, and a short run of them all."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
T0 = pd.Timestamp("2025-03-01", tz="UTC")
BAR = pd.Timedelta(5, unit="min")


@pytest.fixture(scope="module")
def markets() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("markets")


@pytest.mark.slow
def test_a_short_run_of_every_market_keeps_every_invariant() -> None:
    command = [sys.executable, "benchmarks/markets.py", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    last = done.stdout.splitlines()[-1]
    assert last.startswith("markets: null: ")
    assert last.endswith("every invariant holds")


GOOD: dict[str, dict[str, Any]] = {
    "null": {"windows": 8, "with_pairs": 0, "trades": 0, "net_pnl": 0.0, "champions": 0},
    "ou": {"beta": 1.05, "true_beta": 1.0, "half_life": 9.0, "true_half_life": 8.0, "gross_sharpe": 9.0},
    "break": {
        "folds_before": 2, "on_live_roster": False, "champion": False, "worst_after": -0.05,
        "bars_to_last_entry": 8064, "bars_to_last_exit": 8100,
    },
    "demo": {
        "planted": 10, "found": 8, "selected": 10, "false": 1, "net_roster": 0.01, "net_champions": 0.0, "champions": 0,
    },
    "dirty": {"bars_stored": 9, "invalid": 0, "lost_without_reason": 0, "trades": 3, "across_gap": 2, "unsaid": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_keeps_the_invariants_is_not_called_broken(markets: ModuleType, name: str) -> None:
    assert markets.VERDICTS[name]([GOOD[name]] * 10).broken == []


@pytest.mark.parametrize(
    ("name", "change", "n", "said"),
    [
        ("null", {"with_pairs": 8}, 1, "10.0% of windows select a pair"),
        ("null", {"champions": 1}, 1, "1 of 10 seeds have a champion"),
        ("null", {"net_pnl": 0.001, "trades": 1}, 1, "net P&L is +0.010% a seed"),
        ("ou", {"gross_sharpe": 2.9}, 1, "a gross Sharpe of 2.90"),
        ("ou", {"gross_sharpe": None}, 1, "a gross Sharpe of -inf"),
        ("ou", {"beta": 1.2}, 1, "a hedge ratio off by 20.0%"),
        ("ou", {"beta": None}, 1, "a hedge ratio off by inf%"),
        ("ou", {"half_life": 16.5}, 1, "a half-life times 1.12 to 2.06"),
        ("break", {"folds_before": 0}, 1, "1 seeds never had the pair"),
        ("break", {"bars_to_last_entry": 8065}, 1, "an entry 8065 bars after the break"),
        ("break", {"worst_after": -0.11}, 1, "a loss of -11.00% of notional"),
        ("break", {"on_live_roster": True}, 1, "1 seeds still have the pair on the live roster"),
        ("demo", {"found": 7}, 10, "power 70.0%"),
        ("demo", {"false": 3}, 10, "false discoveries 30.0%"),
        ("demo", {"net_roster": -0.01}, 1, "a net out-of-sample return of -1.00%"),
        ("demo", {"net_champions": -0.01}, 1, "champions' mean net return -0.10%"),
        ("dirty", {"invalid": 1}, 1, "1 invalid bars are stored"),
        ("dirty", {"lost_without_reason": 2}, 1, "2 bars are lost without a reason"),
        ("dirty", {"unsaid": 1}, 1, "1 trades cross a hole and do not say so"),
    ],
)  # fmt: skip
def test_each_invariant_can_be_broken(
    markets: ModuleType, name: str, change: dict[str, Any], n: int, said: str
) -> None:
    lines = [GOOD[name] | change] * n + [GOOD[name]] * (10 - n)
    assert markets.VERDICTS[name](lines).broken == [said]


def bars(values: dict[int, float]) -> pd.DataFrame:
    times = [T0 + k * BAR for k in values]
    frame = pd.DataFrame({"timestamp": times, "volume": 1.0})
    prices = list(values.values())
    return frame.assign(open=prices, high=prices, low=prices, close=prices)


def test_stored_bars_are_told_apart_from_clean_ones(markets: ModuleType) -> None:
    clean = bars({0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0})
    removed = pd.Series([T0 + 2 * BAR])
    assert markets.compare(bars({0: 1.0, 1: 2.0, 3: 4.0}), clean, removed) == (3, 0, 0)
    assert markets.compare(bars({0: 1.0, 3: 4.0}), clean, removed) == (2, 0, 1)
    # another value, a bar that never was, and one that is no number
    assert markets.compare(bars({0: 1.0, 1: 2.1, 3: np.nan, 9: 1.0}), clean, removed) == (4, 3, 0)


@pytest.mark.parametrize(("hole", "crossed"), [(None, False), (2, False), (3, True), (6, True), (7, False)])
def test_a_trade_crosses_the_holes_between_its_fills(markets: ModuleType, hole: int | None, crossed: bool) -> None:
    whole = {k: 1.0 for k in range(9) if k != hole}
    store = {"A/USDT": bars(dict.fromkeys(range(9), 1.0)), "B/USDT": bars(whole), "C/USDT": bars({})}
    trade = {"pair_id": "A-USDT__B-USDT", "entry_fill": T0 + 3 * BAR, "exit_fill": T0 + 6 * BAR}
    assert markets.across_gap(trade, store) is crossed


def test_the_gross_sharpe_is_that_of_days_idle_ones_included(markets: ModuleType) -> None:
    folds = [
        {"formation_end": T0.isoformat(), "trading_end": (T0 + pd.Timedelta(4, unit="D")).isoformat()},
        {"formation_end": None, "trading_end": None},
    ]
    exits = [T0 + pd.Timedelta(h, unit="h") for h in (1, 2, 30)]
    trades = pd.DataFrame({"exit_fill": exits, "gross_pnl": [0.5, 0.5, 3.0]})
    daily = np.array([1.0, 3.0, 0.0, 0.0])
    assert markets.gross_sharpe(trades, folds) == pytest.approx(daily.mean() / daily.std(ddof=1) * np.sqrt(365))
    assert markets.gross_sharpe(trades.iloc[:0], folds) is None


def test_what_a_break_costs_is_the_deepest_point_since(markets: ModuleType) -> None:
    index = pd.date_range(T0, periods=6, freq="5min", unit="ms")
    curve = pd.DataFrame({"fold": ["a"] * 3 + ["b"] * 3, "equity": [1.0, 1.2, 1.1, 0.9, 0.8, 1.3]}, index=index)
    # since the third bar: −0.1, then in the next window −0.1 and −0.1, then +0.5
    assert markets._worst_since([curve], index[2]) == pytest.approx(-0.3)
    assert markets._worst_since([curve], index[5]) == 0.0
    assert markets._worst_since([], index[0]) == 0.0
    assert markets._bars_since(index[1], pd.Series([index[0], index[4]])) == 3
    assert markets._bars_since(index[4], pd.Series([index[0]])) == 0


def test_a_planted_pair_that_has_broken_is_not_there_to_be_found(markets: ModuleType) -> None:
    end = T0 + pd.Timedelta(60, unit="D")
    truth = pd.DataFrame({"dependent": ["A", "C"], "independent": ["B", "D"], "end": [end, T0]})

    def selected(*pairs: str) -> list[dict[str, str]]:
        return [{"dependent": pair[0], "independent": pair[1]} for pair in pairs]

    folds = [
        {"formation_end": T0.isoformat(), "pairs": selected("BA", "CD")},
        {"formation_end": end.isoformat(), "pairs": selected("CD", "AD")},
    ]
    total = {"total_return": 0.1, "sharpe": 1.0}
    found = SimpleNamespace(
        job=SimpleNamespace(truth=lambda: SimpleNamespace(truth=truth)), folds=folds, registry={"champions": []},
        summary={"portfolio": {"roster": total, "champions": total}, "folds": [{"n_trades": 2}]},
    )  # fmt: skip
    line = markets.demo_line(found)
    assert (line["planted"], line["found"], line["selected"], line["false"]) == (3, 2, 4, 2)
    assert line["power"] == pytest.approx(2 / 3)
