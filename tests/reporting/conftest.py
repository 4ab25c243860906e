"""A small research run in memory: two trading windows, three pairs, one champion; and one without anything."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from mntrading.core.performance import Performance
from mntrading.core.roster import Roster, RosterPair
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.reporting.evidence import BarRange, Live, PairRecord, Research, Shadow
from mntrading.reporting.shadow import CHALLENGERS, PRODUCTION

DAY = pd.Timedelta(1, unit="D")
START = pd.Timestamp("2024-01-01", tz="UTC")
GOOD, BAD, GONE = Pair("AAA/USDT", "BBB/USDT"), Pair("CCC/USDT", "DDD/USDT"), Pair("EEE/USDT", "FFF/USDT")
FOLDS = (
    Fold("fold_00", START, START + 10 * DAY, START + 14 * DAY),
    Fold("fold_01", START + 4 * DAY, START + 14 * DAY, START + 18 * DAY),
    Fold("live", START + 9 * DAY, START + 19 * DAY, None),
)
RUN = {
    "run_id": "2024-01-20T00.00.00.000Z",
    "pipelines": ["__default__"],
    "env": "",
    "started_at": "2024-01-20T00:00:00Z",
    "revision": "abc1234",
    "parameters": {"schedule": {"formation_days": 10}},
    "python": "3.11.0",
    "packages": {"kedro": "1.7.0"},
}
NO_SCORE = dict.fromkeys(("roc_auc", "lift", "base_rate", "pr_auc", "log_loss", "brier")) | {"n_rows": 0.0}
STATISTICS = tuple(field.name for field in fields(Performance) if field.name not in ("n_days", "turnover", "costs"))
LINES = ("cash", "buy_and_hold", "z_rule", "placebo")
AMOUNTS = {"gross": 0.05, "fees": 0.01, "slippage": 0.002, "borrow": 0.001, "net": 0.037, "turnover": 3.0}
CANDIDATES = {
    "of": "pairs", "n_candidates": 3, "n_days": 8, "n_trials": 3, "best": "AAA-USDT__BBB-USDT", "pbo": 0.4,
    "spa_lower": 0.01, "spa_consistent": 0.02, "spa_upper": 0.03, "best_sharpe": 1.0, "trials_variance": 0.01,
    "block_length": 2.0,
}  # fmt: skip


LEVELS = pd.DataFrame(
    {"fold": ["fold_00", "fold_01"], "entry_z": [2.0, 2.0], "exit_z": [0.0, 0.5], "stop_z": [4.0, 4.0]}
)
RULES = {
    "n_candidates": 2, "n_days": 8, "n_windows": 3, "cost_multiple": 2.0, "best": "configured", "pbo": 0.2,
    "spa_lower": 0.01,
    "spa_consistent": 0.02, "spa_upper": 0.03, "best_sharpe": 1.0, "trials_variance": 0.01, "block_length": 2.0,
    "candidates": [
        {"label": "configured", "worth": 0.01, "net_pnl": 0.03, "sharpe": 1.0, "n_chosen": 2},
        {"label": "configured · optimal", "worth": -0.02, "net_pnl": -0.01, "sharpe": -0.5, "n_chosen": 1},
    ],
}  # fmt: skip


def screened(pair, verdict, reason="", *, p=0.001, significant=True, liquidity=1e6):
    """A row of a screen's pairs."""
    return {
        "pair_id": pair.id, "dependent": pair.dependent, "independent": pair.independent, "p_adjusted": p,
        "half_life_hours": 6.0, "liquidity": liquidity, "significant": significant, "verdict": verdict,
        "reason": reason,
    }  # fmt: skip


def screen(fold, pairs=(), *, tested=6, nearest=()):
    near = [screened(pair, "rejected", "not significant", p=p, significant=False) for pair, p in nearest]
    return {
        "fold": fold.name,
        "formation_end": f"{fold.formation_end:%Y-%m-%dT%H:%M:%SZ}",
        "n_symbols": 4,
        "n_tests": tested,
        "universe_funnel": {"too little volume": 2, "passed": 4},
        "funnel": {"tested": tested, "not significant": tested - len(pairs), "selected": len(pairs)},
        "pairs": [screened(pair, "selected") for pair in pairs] + near,
    }


BINS = [
    {"lower": 0.4, "upper": 0.5, "n_rows": 40.0, "probability": 0.45, "share": 0.4},
    {"lower": 0.5, "upper": 0.6, "n_rows": 60.0, "probability": 0.55, "share": 0.6},
]


def totals(value, *, fills=8.0, days=8.0):
    return dict.fromkeys(STATISTICS, value) | {
        "n_days": days, "n_fills": fills, "turnover": 2.0, "costs": 0.01,
    }  # fmt: skip


def lines(value, **of):
    """The parts of a summary that are about lines."""
    line = totals(value, **of)
    attribution = {"total": AMOUNTS, "folds": [{"fold": fold.name, **AMOUNTS} for fold in FOLDS[:2]]}
    return {
        "benchmarks": dict.fromkeys(LINES, line),
        "attribution": dict.fromkeys(("champions", "roster", *LINES), attribution),
        "candidates": CANDIDATES,
        "rules": RULES,
    }


ROBUSTNESS = {
    "entry_z": 2.0, "exit_z": 0.5, "cost_multiple": 2.0, "shift_bars": 1,
    "scenarios": [
        {"name": name, "looks_ahead": name == "earlier", **totals(0.3), "gross_pnl": 0.02}
        for name in ("as_traded", "costs", "later", "earlier")
    ],
    "late_legs": {"share": 0.2, "as_traded": 0.03, "net": 0.02},
    "neighbourhood": [
        {
            "entry_step": entry, "exit_step": leave, "total_return": 0.02 + entry / 100, "sharpe": 2 + entry,
            "n_trades": 3.0,
        }
        for entry in (-0.5, 0.0) for leave in (-0.25, 0.0)
    ],
}  # fmt: skip


def candidate(pair, *reasons):
    figures = {
        "n_windows": 2.0, "n_trades": 4.0, "net_pnl": 0.05, "costs": 0.01, "sharpe": 1.5,
        "deflated_sharpe": 0.7, "max_drawdown": 0.02,
    }  # fmt: skip
    return {
        "pair_id": pair.id, "champion": not reasons, "challenger": False, "reasons": list(reasons), "figures": figures,
    }  # fmt: skip


@pytest.fixture
def research(params):
    rows = {pair: RosterPair(pair, 6.0, 0.001, 1.1) for pair in (GOOD, BAD, GONE)}
    roster = Roster.build(zip(FOLDS, ([rows[GOOD], rows[GONE]], [rows[GOOD]], [rows[GOOD], rows[BAD]]), strict=True))
    index = pd.date_range(FOLDS[0].formation_end, FOLDS[1].trading_end, freq="5min", inclusive="left", unit="ms")
    wave = np.sin(np.arange(len(index)) / 30)
    equity = pd.DataFrame({"champions": 1000 + wave, "roster": 1000 - wave}, index=index)
    at = index[[10, 40, 1500, 1600]]
    trades = pd.DataFrame(
        {
            "fold": ["fold_00", "fold_01"],
            "side": [1, -1],
            "entry_decision": at[[0, 2]],
            "exit_decision": at[[1, 3]],
            "entry_z": [-2.1, 2.2],
            "exit_z": [-0.4, 0.4],
            "net_pnl": [0.01, -0.002],
            "reason": ["reverted: z back at the exit level", "time: held longer than the time stop"],
        }
    )
    tests = pd.DataFrame(
        {
            "dependent": [GOOD.dependent, BAD.dependent, GOOD.dependent],
            "independent": [GOOD.independent, BAD.independent, BAD.dependent],
            "p_adjusted": [1e-12, 0.001, 0.9],
        }
    )
    traded = [
        {"pair_id": pair.id, "n_windows": 1, "n_trades": 2.0, "net_pnl": pnl, "costs": 0.01}
        for pair, pnl in ((GOOD, 0.05), (GONE, -0.01))
    ]
    folds = [
        {
            "fold": fold.name, "trading_start": f"{fold.formation_end:%Y-%m-%dT%H:%M:%SZ}",
            "trading_end": f"{fold.trading_end:%Y-%m-%dT%H:%M:%SZ}", "n_pairs": 2, "n_champions": n,
            "n_trades": 3, "champions_return": 0.01 * n, "roster_return": 0.02,
        }
        for n, fold in enumerate(FOLDS[:2])
    ]  # fmt: skip
    scored = NO_SCORE | {"roc_auc": 0.6, "lift": 1.2, "base_rate": 0.5, "log_loss": 0.6, "n_rows": 100.0}
    fit = {
        "chosen": "lightgbm",
        "reason": "",
        "candidates": [scored | {"model": "base_rate"}, scored | {"model": "lightgbm"}],
        "details": {
            "calibration": {"bins": BINS},
            "importance": [
                {"feature": name, "gain": gain, "permutation": gain / 10, "permutation_std": 0.01}
                for name, gain in (("z", 0.7), ("beta_drift", 0.3))
            ],
        },
    }
    return Research(
        as_of=START + 19 * DAY,
        source="files:/bars",
        bars=(BarRange("1h", "files:/bars", 6, 2736, 3, START, START + 19 * DAY - pd.Timedelta(1, unit="h")),),
        roster=roster,
        screens={
            fold.name: screen(fold, [row.pair for row in entry.pairs], nearest=[(GONE, 0.07)])
            for fold, entry in zip(FOLDS, roster.folds, strict=True)
        },
        tests=tests,
        summary={
            "portfolio": {"champions": totals(0.1), "roster": totals(0.2)},
            **lines(0.3),
            "folds": folds,
            "pairs": traded,
        },
        robustness=ROBUSTNESS,
        equity=equity,
        best=PairRecord(GOOD.id, pd.DataFrame({"spread": wave / 100, "z": 3 * wave}, index=index), trades, LEVELS),
        scores={
            "cross_validated": {
                "fold_00/pooled": fit,
                "live/pooled": {"chosen": None, "reason": "too few rows", "candidates": [], "details": {}},
            },
            "out_of_sample": {"fold_00": scored, "fold_01": NO_SCORE},
            "total": scored,
            "details": {"total": {"bins": BINS}},
        },
        registry={
            "champions": [candidate(GOOD)],
            "rejected": [candidate(BAD, "Sharpe below 0.5")],
            "n_trials": 12,
            "explanation": "1 of 2 pairs",
        },
        run=RUN,
        hashes={"roster": "0" * 64},
        doubts=(),
        screening=params.screening,
        strategy=params.backtest.strategy,
        costs=params.backtest.costs,
        level=0.95,
        reporting=params.reporting,
    )


@pytest.fixture
def nothing(research):
    """No pair passes in any fold, so nothing follows."""
    roster = Roster.build((fold, ()) for fold in FOLDS)
    return replace(
        research,
        roster=roster,
        screens={fold.name: screen(fold, tested=435, nearest=[(GOOD, 0.08), (BAD, 0.3)]) for fold in FOLDS},
        summary={
            "portfolio": dict.fromkeys(("champions", "roster"), totals(None, fills=0.0, days=0.0)),
            **lines(None, fills=0.0, days=0.0),
            "folds": [line | {"n_pairs": 0, "n_champions": 0} for line in research.summary["folds"]],
            "pairs": [],
        },
        equity=research.equity.iloc[:0][[]],
        best=None,
        scores={
            "cross_validated": {},
            "out_of_sample": {"fold_00": NO_SCORE, "fold_01": NO_SCORE},
            "total": NO_SCORE,
            "details": {"total": {"bins": []}},
        },
        registry={"champions": [], "rejected": [], "n_trials": 0, "explanation": "0 of 0 pairs: the roster is empty"},
    )


@pytest.fixture
def no_window(nothing, research):
    """One formation window of history and no trading window after it, with pairs on the roster."""
    roster = Roster.build([(FOLDS[2], [RosterPair(GOOD, 6.0, 0.001, 1.1)])])
    return replace(
        nothing,
        roster=roster,
        screens={"live": screen(FOLDS[2], [GOOD])},
        summary={**nothing.summary, "folds": []},
        scores={**research.scores, "out_of_sample": {}, "total": NO_SCORE, "details": {"total": {"bins": []}}},
        registry={
            "champions": [],
            "rejected": [{**candidate(GOOD, "no completed trading window on the roster yet"), "figures": {}}],
            "n_trials": 0,
            "explanation": "0 of 1 pair: 1 has no completed trading window on the roster yet",
        },
    )


def monitored(pair_id, *, psi=0.1, drifted=False):
    """What monitoring says of one pair whose model can be compared."""
    words = f"features drifted: z PSI {psi:.2f}, limit 0.25"
    checks = [
        {"kind": "data", "name": "age of the data, bars", "value": 0.0, "limit": 0.0, "breached": False, "words": ""},
        {
            "kind": "drift", "name": "drifted features", "value": float(drifted), "limit": 0.0, "breached": drifted,
            "words": words if drifted else "",
        },
        {
            "kind": "calibration", "name": "share of ones less mean probability", "value": None, "limit": 0.1,
            "breached": False, "words": "too early: 0.0 independent labels",
        },
    ]  # fmt: skip
    relation = {"p_value": 0.001, "half_life_hours": 6.0, "hedge_ratio": 1.1, "n_bars": 240.0}
    column = {"psi": psi, "ks": 0.2, "p_value": 0.001, "n_rows": 300.0, "n_independent": 12.0}
    return {
        "level": "warning" if drifted else "ok",
        "reason": f"1 of 1 pairs have warnings: {pair_id}" if drifted else "",
        "pairs": [
            {
                "pair_id": pair_id, "side": 0, "warnings": [words] if drifted else [], "checks": checks,
                "drift": [{"column": "z", "drifted": drifted, **column}],
                "calibration": None, "relation": {"formation": relation, "now": relation},
            }
        ],
    }  # fmt: skip


@pytest.fixture
def health_of():
    return monitored


def shadowed(index: pd.DatetimeIndex) -> Shadow:
    """A challenger on trial that has earned more, and closed too few trades."""
    figures = {
        "since": f"{index[0]:%Y-%m-%dT%H:%M:%SZ}", "until": f"{index[-1]:%Y-%m-%dT%H:%M:%SZ}", "base": 100_000.0,
        "n_days": 15.0, "champion": 0.001, "challenger": 0.004, "gap": 0.003, "gap_errors": 1.4,
        "champion_drawdown": 0.002, "challenger_drawdown": 0.001, "trades": {"NEW-USDT__TRY-USDT": 1},
        "n_trades_champion": 6, "n_trades_challenger": 7,
    }  # fmt: skip
    record = {
        "since": figures["since"], "challengers": ["NEW-USDT__TRY-USDT"],
        "replaced": {"NEW-USDT__TRY-USDT": ["OLD-USDT__TRY-USDT"]}, "figures": figures, "ready": False,
        "rules": [
            {"name": "min_days", "holds": True, "value": 15.0, "limit": 14.0, "words": "15.0 of 14 days"},
            {"name": "min_trades", "holds": False, "value": 1.0, "limit": 5.0, "words": "1 of 5 closed trades"},
        ],
    }  # fmt: skip
    equity = pd.DataFrame({PRODUCTION: [100_000.0, 100_200.0, 100_100.0]}, index=index)
    return Shadow(record, equity.assign(**{CHALLENGERS: [100_000.0, 100_300.0, 100_400.0]}), "", trouble=False)


@pytest.fixture
def live(research):
    signal = {
        "pair_id": GOOD.id, "action": "enter", "side": -1, "z": 2.2, "probability": 0.7, "hedge_ratio": 1.1,
        "staleness_bars": 0, "reason": "entry: z beyond the entry level", "doubts": [],
    }  # fmt: skip
    orders = {
        "bar_close": "2024-01-20T00:00:00Z",
        "equity": 100_000.0,
        "gross": 0.2,
        "net": 0.0,
        "kill_switch": "active",
        "kill_switch_reason": "",
        "reason": "",
        "refused": {},
        "hedge_errors": {GOOD.id: 0.00041},
        "weights": {"AAA/USDT": -0.1},
        "orders": [
            {
                "side": "sell", "symbol": "AAA/USDT", "quantity": 31917.300000000003, "reference_price": 0.320224,
                "notional": 10_220.685, "reduce_only": False, "id": "0123456789abcdef",
            }
        ],
        "volatility": 0.08,
        "targets": {"AAA/USDT": -31917.3},
        "prices": {GOOD.dependent: 0.320224, GOOD.independent: 2000.0},
        "wanted": {"unsent": {}},
    }  # fmt: skip
    held = {
        "pair_id": GOOD.id, "side": -1, "dependent": GOOD.dependent, "units_dependent": -31917.3,
        "independent": GOOD.independent, "units_independent": 5.0,
    }  # fmt: skip
    account = {
        "bar_close": "2024-01-20T00:00:00Z",
        "before": {"bar_close": "2024-01-19T23:55:00Z", "book": {"cash": 100_000.0, "holdings": []}},
        "book": {"cash": 99_990.0, "holdings": [held]},
        "equity": 100_100.0,
        "totals": {"fees": 10.0, "slippage": 2.0, "borrow": 0.5, "turnover": 20_220.0},
        "fills": [
            {
                "time": "2024-01-19T23:55:00Z", "symbol": GOOD.dependent, "quantity": -31917.3, "price": 0.33,
                "fee": 5.0, "slippage": 1.0,
            }
        ],
        "off": [],
    }  # fmt: skip
    index = pd.date_range("2024-01-19T23:45:00Z", periods=3, freq="5min", name="timestamp")
    equity = pd.DataFrame({"equity": [100_000.0, 100_200.0, 100_100.0]}, index=index)
    state = {"side": -1, "bars_held": 7, "price_a": 0.33, "price_b": 1990.0}
    log = [
        {
            "as_of": "2024-01-19T00:00:00Z", "action": "promote", "map_id": "f" * 64, "pairs_added": [GOOD.id],
            "pairs_removed": [], "pairs_changed": [], "settings_changed": ["costs.fee_rate"],
        }
    ]  # fmt: skip
    production = {
        "id": "f" * 64,
        "expires": "2024-02-20T00:00:00Z",
        "pairs": [{"pair_id": GOOD.id, "rule": {"entry_z": 2.0, "exit_z": 0.0, "stop_z": 4.0}}],
        "strategy": research.strategy.model_dump(mode="json"),
    }
    return Live(
        production, True, (signal,), orders, monitored(GOOD.id), account, equity, {GOOD.id: {"strategy": state}}, log,
        shadowed(index),
    )  # fmt: skip


@pytest.fixture
def idle(live):
    """Production without any pair."""
    orders = {
        **live.orders,
        "orders": [],
        "reason": "no pair is in production: the registry has no champion",
        "weights": {},
    }
    account = {**live.account, "before": None, "fills": [], "book": {"cash": 100_000.0, "holdings": []}}
    nothing = {"level": "ok", "reason": "no pair is in production", "pairs": []}
    return Live(
        {**live.production_map, "pairs": []}, True, (), orders, nothing, account, live.equity[:1], {}, [],
        Shadow(None, pd.DataFrame(), "none has run yet", trouble=False),
    )  # fmt: skip
