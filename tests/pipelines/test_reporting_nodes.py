"""The report nodes in their pipeline, on small stored artefacts."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

from mntrading.core.bars import bars_from_rows
from mntrading.core.performance import Performance
from mntrading.core.roster import Roster, RosterPair
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets import BarsDataset, BarsUpdate, Commit, PartitionedArtifactDataset, Unavailable
from mntrading.datasets.validation import check_document
from mntrading.params import BLOCKS
from mntrading.pipelines.common import digest
from mntrading.pipelines.reporting import create_pipeline
from mntrading.pipelines.reporting.nodes import draw_screen
from mntrading.pipelines.reporting.pipeline import LIVE

CONF = Path(__file__).parents[2] / "conf" / "base"
DAY = pd.Timedelta(1, unit="D")
START = pd.Timestamp("2024-01-01", tz="UTC")
TRADED, OTHER = Pair("AAA/USDT", "BBB/USDT"), Pair("CCC/USDT", "DDD/USDT")
FOLDS = (
    Fold("fold_00", START, START + 10 * DAY, START + 14 * DAY),
    Fold("live", START + 5 * DAY, START + 15 * DAY, None),
)
STAMP = "20240116T000000Z"
OUTPUTS = ("research_report", "research_report_html", "latest_report", "latest_report_html")
TOTAL = {field.name: 0.25 for field in fields(Performance)} | {"n_fills": 4.0}
AMOUNTS = dict.fromkeys(("gross", "fees", "slippage", "borrow", "net", "turnover"), 0.01)
LINES = ("cash", "buy_and_hold", "z_rule", "placebo")
SCORE = {"roc_auc": None, "lift": None, "base_rate": None, "n_rows": 0.0}


def stored(value):
    """A document as it is loaded: times as text."""
    return json.loads(json.dumps(value, default=str))


def bars(path, timeframe, symbols):
    dataset = BarsDataset(path=str(path / f"ohlcv_{timeframe}.parquet"), timeframe=timeframe)
    rows = np.array([[START.value // 10**6 + i * 3_600_000, 1, 2, 1, 2, 9] for i in range(3)], dtype=float)
    dataset.save(BarsUpdate("files:/bars", {symbol: bars_from_rows(rows, symbol) for symbol in symbols}))
    return dataset


def folder(path, parts, format="parquet"):
    dataset = PartitionedArtifactDataset(path=str(path), format=format)
    dataset.save(parts)
    dataset.save(Commit(tuple(parts)))
    return dataset


def entries(path, pairs, params):
    """Everything the nodes read, of a run whose folds all have the pairs."""
    given = vars(params)
    hashes = {name: digest(block.model_dump(mode="json")) for name, block in given.items()}
    row = [RosterPair(pair, 6.0, 0.001, 1.1) for pair in pairs]
    roster = stored(
        {
            "as_of": "2024-01-16T00:00:00Z",
            "parameters": {"screening": hashes["screening"]},
            **Roster.build((fold, row) for fold in FOLDS).document(),
        }
    )
    index = pd.date_range(
        FOLDS[0].formation_end, FOLDS[0].trading_end, freq="5min", inclusive="left", unit="ms", name="timestamp"
    )
    wave = np.sin(np.arange(len(index)) / 30)
    trade = {
        "fold": "fold_00", "side": 1, "entry_decision": index[5], "exit_decision": index[50], "entry_z": -2.1,
        "exit_z": -0.3, "net_pnl": 0.01, "reason": "reverted: z back at the exit level",
    }  # fmt: skip
    tests = pd.DataFrame(
        {"dependent": ["AAA/USDT"], "independent": ["BBB/USDT"], "p_adjusted": [0.001 if pairs else 0.08]}
    )
    legs = {"half_life_hours": 6.0, "liquidity": 1e6}
    screen = {
        "formation_end": "2024-01-16T00:00:00Z",
        "n_symbols": 4,
        "n_tests": 6,
        "universe_funnel": {"passed": 4},
        "funnel": {"tested": 6, "not significant": 6 - len(pairs), "selected": len(pairs)},
        "pairs": [
            {
                "pair_id": pair.id, "dependent": pair.dependent, "independent": pair.independent, **legs,
                "significant": pair in pairs, "p_adjusted": 0.001 if pair in pairs else 0.08,
                "verdict": "selected" if pair in pairs else "rejected",
                "reason": "" if pair in pairs else "not significant",
            }
            for pair in (TRADED, OTHER)
        ],
    }  # fmt: skip
    registry = stored(
        {
            "inputs": {"roster": digest(roster)},
            "champions": [
                {"pair_id": pair.id, "champion": True, "challenger": False, "reasons": [], "figures": {}}
                for pair in pairs
            ],
            "rejected": [],
            "n_trials": 1,
            "explanation": "all of them",
        }
    )
    summary = {
        "inputs": {"roster": digest(roster)},
        "parameters": {name: hashes[name] for name in ("backtest", "statistics")},
        "portfolio": {"champions": TOTAL, "roster": TOTAL},
        "benchmarks": dict.fromkeys(LINES, TOTAL),
        "attribution": {
            name: {"total": AMOUNTS, "folds": [{"fold": "fold_00", **AMOUNTS}]}
            for name in ("champions", "roster", *LINES)
        },
        "candidates": {
            "n_candidates": len(pairs), "n_days": 4, "pbo": None,
            **dict.fromkeys(("spa_lower", "spa_consistent", "spa_upper")),
        },
        "rules": {"n_candidates": 1, "n_windows": len(pairs), "candidates": []},
        "folds": [
            {
                "fold": "fold_00", "trading_start": str(FOLDS[0].formation_end),
                "trading_end": str(FOLDS[0].trading_end), "n_pairs": len(pairs), "n_champions": 0, "n_trades": 1,
                "champions_return": 0.0, "roster_return": 0.01,
            }
        ],
        "pairs": [
            {"pair_id": pair.id, "n_windows": 1, "n_trades": 1.0, "net_pnl": 0.01, "costs": 0.001} for pair in pairs
        ],
    }  # fmt: skip
    robustness = {
        "inputs": {"roster": digest(roster)},
        "entry_z": 2.0, "exit_z": 0.5, "cost_multiple": 2.0, "shift_bars": 1,
        "scenarios": [{"name": "as_traded", "looks_ahead": False, **TOTAL}],
        "late_legs": {"share": 0.2, "as_traded": 0.1, "net": 0.1},
        "neighbourhood": [{"entry_step": 0.0, "exit_step": 0.0, "total_return": 0.1, "sharpe": 1.0, "n_trades": 2.0}],
    }  # fmt: skip
    orders = {
        "bar_close": "2024-01-16T00:00:00Z", "equity": 1.0, "gross": 0.0, "net": 0.0, "kill_switch": "active",
        "reason": "no pair enters", "refused": {}, "hedge_errors": {}, "weights": {}, "orders": [],
        "wanted": {"unsent": {}}, "prices": {}, "volatility": None, "targets": {},
    }  # fmt: skip
    account = {
        "bar_close": "2024-01-16T00:00:00Z", "before": None, "book": {"cash": 1.0, "holdings": []}, "equity": 1.0,
        "totals": {"fees": 0.0, "slippage": 0.0, "borrow": 0.0, "turnover": 0.0}, "fills": [], "off": [],
    }  # fmt: skip
    production = {
        "id": "f" * 64, "expires": "2024-02-20T00:00:00Z",
        "pairs": [
            {
                "pair_id": pair.id, "dependent": pair.dependent, "independent": pair.independent,
                "rule": {
                    "label": "short", "beta_window": 20, "z_window": 10, "entry_z": 2.0, "exit_z": 0.0, "stop_z": 4.0,
                },
            }
            for pair in pairs
        ],
        "features": given["feature_engineering"].features.model_dump(mode="json"),
        "inputs": {"champion_registry": digest(registry)},
        "strategy": given["backtest"].strategy.model_dump(mode="json"),
    }  # fmt: skip
    signal = {
        "pair_id": TRADED.id, "action": "flat", "side": 0, "z": 0.1, "probability": None, "hedge_ratio": 1.0,
        "staleness_bars": 0, "reason": "no entry: z within the entry level", "doubts": [],
    }  # fmt: skip
    run = {
        "run_id": "r1", "pipelines": ["reporting"], "env": "", "started_at": "2024-01-16T00:00:01Z",
        "revision": "abc", "parameters": {}, "python": "3.11", "packages": {},
    }  # fmt: skip
    equity = pd.DataFrame({"champions": 100 + wave, "roster": 100 - wave}, index=index)
    features = pd.DataFrame({"spread": wave / 100, "z": wave * 3}, index=index)
    levels = pd.DataFrame({"fold": ["fold_00"], "entry_z": [2.0], "exit_z": [0.5], "stop_z": [4.0]})
    symbols = [symbol for pair in pairs for symbol in pair.symbols]
    values = {
        "markets": {"as_of": "2024-01-16T00:00:00Z", "source": "files:/bars"},
        "roster": roster,
        "equity_curves": equity if pairs else equity.iloc[:0][[]],
        "backtest_summary": summary,
        "robustness": robustness,
        "model_scores": {
            "cross_validated": {},
            "out_of_sample": {"fold_00": SCORE},
            "total": SCORE,
            "details": {"total": {"bins": []}},
        },
        "champion_registry": registry,
        "run_record": run,
        "production_map": production,
        "position_state": {"as_of": "2024-01-16T00:00:00Z", "pairs": {}},
        "paper_account": account,
        "production_log_stored": [],
        "shadow_record": Unavailable("the shadow's state was altered.\nNext: remove it"),
        "shadow_paper_equity": {},
        "latest_orders": orders,
        "monitoring": {"level": "ok", "reason": "no pair is in production", "pairs": []},
    } | {f"params:{name}": given[name] for name in ("screening", "backtest", "statistics", "reporting")}
    return {name: MemoryDataset(value) for name, value in values.items()} | {
        "ohlcv_1h": bars(path, "1h", ("AAA/USDT", "BBB/USDT")),
        "ohlcv_5m": bars(path, "5m", symbols),
        "screened_pairs": folder(path / "screens", {f"screened_pairs_{f.stamp}": screen for f in FOLDS}, "json"),
        "cointegration_tests": folder(path / "tests", {fold.stamp: tests for fold in FOLDS}),
        "pair_curves": folder(path / "curves", {pair.id: features for pair in pairs}),
        "pair_windows": folder(path / "windows", {pair.id: levels for pair in pairs}),
        "trades": folder(path / "trades", {pair.id: pd.DataFrame([trade]) for pair in pairs}),
        "paper_equity": folder(path / "paper", {"2024-01-15": pd.DataFrame({"equity": [1.0]}, index=index[-1:])}),
        "signals": folder(path / "signals", {STAMP: [signal] if pairs else []}, "jsonl"),
    }


def run(found, pipeline: Pipeline | None = None):
    """The reports alone; what draws tear sheets has its own tests."""
    catalog = DataCatalog(found | {name: MemoryDataset() for name in OUTPUTS})
    wanted = pipeline or create_pipeline()
    reports = Pipeline([node for node in wanted.nodes if node.name != "draw_tear_sheets"])
    SequentialRunner().run(reports, catalog)
    return {name: catalog[name].load() for name in OUTPUTS if catalog[name].exists()}


@pytest.fixture
def found(tmp_path, params):
    return entries(tmp_path, [TRADED, OTHER], params)


@pytest.fixture
def reports(found):
    return run(found)


def test_each_node_is_chosen_by_its_tag_alone():
    pipeline = create_pipeline()
    chosen = {tag: {node.name for node in pipeline.only_nodes_with_tags(tag).nodes} for tag in ("research", "report")}
    assert chosen == {
        "research": {"render_research_report", "draw_tear_sheets"},
        "report": {"render_report", "draw_tear_sheets"},
    }


def test_every_input_and_output_is_a_catalog_entry():
    pipeline = create_pipeline()
    known = {name for path in CONF.glob("catalog_*.yml") for name in yaml.safe_load(path.read_text())}
    named = {name for name in pipeline.datasets() if not name.startswith("params:")}
    assert named <= known
    blocks = {name.removeprefix("params:").split(".")[0] for name in pipeline.datasets() - named}
    assert blocks <= set(BLOCKS)


def test_every_output_says_something(reports):
    assert set(reports) == set(OUTPUTS)
    assert all(len(text) > 2000 for text in reports.values())
    assert reports["latest_report"].startswith("# MNTrading report")
    assert reports["latest_report_html"].startswith("<!doctype html>")


def test_each_markdown_names_its_own_html_file(reports):
    config = yaml.safe_load((CONF / "catalog_reporting.yml").read_text())
    for name in ("research_report", "latest_report"):
        assert f"`{Path(config[f'{name}_html']['filepath']).name}`" in reports[name]


def test_a_second_run_gives_the_same_bytes(found, reports):
    assert run(found) == reports


def test_research_alone_needs_nothing_of_production(found):
    for name in LIVE:
        del found[name]
    made = run(found, create_pipeline().only_nodes_with_tags("research"))
    assert set(made) == {"research_report", "research_report_html"}


def test_only_the_best_pair_is_read(found, tmp_path):
    (tmp_path / "curves" / f"{OTHER.id}.parquet").unlink()
    (tmp_path / "trades" / f"{OTHER.id}.parquet").unlink()
    assert "figure-pair" in run(found)["latest_report_html"]


def test_a_run_without_any_pair_is_reported_in_words(tmp_path, params):
    for text in run(entries(tmp_path, [], params)).values():
        assert "0 of 6 pairs pass" in text
        assert "No bars of 5m are stored" in text


def test_results_of_the_present_parameters_and_roster_raise_no_doubt(reports):
    assert "Run: kedro run" not in reports["research_report"]


def test_changed_parameters_are_said(found):
    given = found["params:backtest"].load()
    found["params:backtest"] = MemoryDataset(given.model_copy(update={"fill_at": "close"}))
    assert "parameters of backtest have changed" in run(found)["research_report"]


def test_results_of_another_roster_are_said(found):
    summary = found["backtest_summary"].load()
    found["backtest_summary"] = MemoryDataset({**summary, "inputs": {"roster": "0" * 64}})
    text = run(found)["research_report"]
    assert "backtest_summary were made from an earlier roster" in text.replace("\\", "")


def test_production_of_other_champions_is_said(found, reports):
    assert "promoted from earlier champions" not in reports["latest_report"]
    registry = found["champion_registry"].load()
    found["champion_registry"] = MemoryDataset({**registry, "champions": [], "rejected": registry["champions"]})
    assert "promoted from earlier champions" in run(found)["latest_report"]


def test_the_newest_screen_is_drawn_as_two_plots(found):
    given = {name: found[name].load() for name in ("roster", "screened_pairs", "cointegration_tests")}
    for figure in draw_screen(**given, screening=found["params:screening"].load()):
        assert [trace["type"] for trace in figure["data"]]
        check_document(figure, "figure")


def test_a_screen_without_a_significant_pair_is_drawn_all_the_same(tmp_path, params):
    empty = entries(tmp_path, [], params)
    given = {name: empty[name].load() for name in ("roster", "screened_pairs", "cointegration_tests")}
    heat_map, network = draw_screen(**given, screening=empty["params:screening"].load())
    assert heat_map["data"]
    assert not network["data"]
    assert "No pair is significant" in network["layout"]["annotations"][0]["text"]
