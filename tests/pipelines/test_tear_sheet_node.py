"""Tear sheets in their pipeline: which there are, when they are drawn anew, and that reports lead to them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from test_reporting_nodes import FOLDS, OTHER, TRADED, entries, run

from mntrading.core.roster import Roster
from mntrading.datasets import Commit, PartitionedArtifactDataset
from mntrading.pipelines.common import digest
from mntrading.pipelines.reporting import create_pipeline
from mntrading.pipelines.reporting.sheets import sheet_addresses

INDEX = pd.date_range(
    FOLDS[0].formation_end, FOLDS[0].trading_end, freq="5min", inclusive="left", unit="ms", name="timestamp"
)
LINE = {
    "n_windows": 1, "n_trades": 1.0, "net_pnl": 0.01, "gross_pnl": 0.02, "costs": 0.01, "cost_share": 0.5,
    "sharpe": 1.0, "sharpe_low": None, "sharpe_high": None, "deflated_sharpe": 0.5, "n_trials": 2.0, "hit_rate": 1.0,
    "mean_holding_hours": 3.8,
}  # fmt: skip
NODE = create_pipeline().only_nodes("draw_tear_sheets")
NAMES = ("tear_sheets", "tear_sheet_images")


def trade(net=0.01):
    return {
        "fold": "fold_00", "side": 1, "entry_decision": INDEX[4], "entry_fill": INDEX[5], "exit_decision": INDEX[50],
        "exit_fill": INDEX[51], "entry_z": -2.1, "exit_z": -0.3, "probability": 0.7, "hedge_ratio": 1.0,
        "gross_pnl": net + 0.01, "costs": 0.01, "net_pnl": net, "reason": "reverted: z back at the exit level",
        "across_gap": False,
    }  # fmt: skip


def curve(net=0.01):
    gains = np.where(np.arange(len(INDEX)) >= 51, net, 0.0)
    return pd.DataFrame(
        {"fold": "fold_00", "equity": 1 + gains, "side": 0.0, "fees": 0.0, "slippage": 0.0, "borrow": 0.0,
         "spread": np.sin(np.arange(len(INDEX)) / 30), "z": 1.5, "hedge_ratio": 1.0}, index=INDEX,
    )  # fmt: skip


def saved(path, parts, roster):
    dataset = PartitionedArtifactDataset(path=str(path), format="parquet")
    if parts:
        dataset.save(parts)
    dataset.save(Commit(tuple(parts), {"inputs": {"roster": digest(roster)}}))
    return dataset


@pytest.fixture
def make(tmp_path, params):
    def made(pairs):
        found = entries(tmp_path, pairs, params)
        roster, summary = found["roster"].load(), found["backtest_summary"].load()
        lines = [{"pair_id": pair.id, **LINE} for pair in pairs]
        chosen = [{**line, "champions": []} for line in summary["folds"]]
        levels = pd.DataFrame(
            {"fold": ["fold_00"], "rule": ["configured"], "entry_z": [2.0], "exit_z": [0.5], "stop_z": [4.0]}
        )
        fills = pd.DataFrame(
            {"time": INDEX[[5, 51]], "symbol": TRADED.dependent, "quantity": [1.0, -1.0], "price": 1.0, "fee": 0.0,
             "slippage": 0.0}
        )  # fmt: skip
        folders = {
            "pair_curves": {pair.id: curve() for pair in pairs},
            "pair_windows": {pair.id: levels for pair in pairs},
            "pair_menus": {pair.id: levels for pair in pairs},
            "trades": {pair.id: pd.DataFrame([trade()]) for pair in pairs},
        }
        blocks = {"portfolio": params.portfolio, "compute": params.compute}
        features = params.feature_engineering.features
        return found | {
            **{name: saved(tmp_path / "own" / name, parts, roster) for name, parts in folders.items()},
            "backtest_summary": MemoryDataset({**summary, "pairs": lines, "folds": chosen}),
            "portfolio_fills": MemoryDataset(fills if pairs else fills.iloc[:0]),
            "params:feature_engineering.features": MemoryDataset(features),
            **{f"params:{name}": MemoryDataset(block) for name, block in blocks.items()},
            **sheets(tmp_path),
        }

    return made


def sheets(path):
    out = {}
    for name, suffix, format in zip(NAMES, (".html", ".png"), ("text", "png"), strict=True):
        given = {"path": str(path / name), "suffix": suffix, "format": format}
        out[name] = PartitionedArtifactDataset(**given)
        out[f"{name}_stored"] = PartitionedArtifactDataset(**given, missing_ok=True, unfinished_ok=True)
    return out


def drawn(found):
    """What is stored after a run, and which of it was written by it."""
    folders = [Path(found[name].resolve_path()) for name in NAMES]
    before = {file: file.stat().st_mtime_ns for folder in folders for file in folder.glob("*.*")}
    SequentialRunner().run(NODE, DataCatalog(found))
    after = {file: file.stat().st_mtime_ns for folder in folders for file in folder.glob("*.*")}
    fresh = {file.name for file, moment in after.items() if before.get(file) != moment} - {"_manifest.json"}
    return [found[name].load() for name in NAMES], fresh


def test_every_traded_pair_and_the_portfolio_have_a_page_and_a_picture(make):
    (pages, pictures), _ = drawn(make([TRADED, OTHER]))
    assert set(pages) == set(pictures) == {TRADED.id, OTHER.id, "portfolio"}
    assert all(page.startswith("<!doctype html>") for page in pages.values())
    assert all(len(page.encode()) < 5_000_000 for page in pages.values())
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    assert f'href="images/{TRADED.id}.png"' in pages[TRADED.id]
    assert f'href="{TRADED.id}.html"' in pages["portfolio"]


def test_a_second_run_draws_nothing_and_changed_trades_one_pair_and_the_portfolio(make, tmp_path):
    found = make([TRADED, OTHER])
    drawn(found)
    assert drawn(found)[1] == set()
    parts = {TRADED.id: pd.DataFrame([trade(0.02)]), OTHER.id: pd.DataFrame([trade()])}
    found["trades"] = saved(tmp_path / "own" / "trades", parts, found["roster"].load())
    fresh = drawn(found)[1]
    assert fresh == {f"{name}.{end}" for name in (TRADED.id, "portfolio") for end in ("html", "png")}


def test_a_sheet_whose_page_was_damaged_is_drawn_again(make):
    found = make([TRADED])
    drawn(found)
    (Path(found["tear_sheets"].resolve_path()) / f"{TRADED.id}.html").write_text("cut")
    assert f"{TRADED.id}.html" in drawn(found)[1]


def test_results_of_another_roster_leave_the_sheets_as_they_are(make, caplog):
    found = make([TRADED])
    before, _ = drawn(found)
    summary = found["backtest_summary"].load()
    found["backtest_summary"] = MemoryDataset({**summary, "inputs": {"roster": "0" * 64}})
    after, fresh = drawn(found)
    assert fresh == set()
    assert [one.digests for one in after] == [one.digests for one in before]


def test_without_any_pair_the_portfolio_says_what_to_run(make):
    (pages, pictures), _ = drawn(make([]))
    assert set(pages) == set(pictures) == {"portfolio"}
    assert "No pair passed the screen" in pages["portfolio"]
    assert "kedro run" in pages["portfolio"]


def test_reports_lead_to_sheets_that_are_there(make):
    found = make([TRADED, OTHER])
    (pages, _), _ = drawn(found)
    roster = Roster.parse(found["roster"].load())
    addresses = sheet_addresses(roster, found["backtest_summary"].load(), "tear_sheets")
    assert addresses == {name: f"tear_sheets/{name}.html" for name in pages}
    reports = run(found)
    for name, folder in (("research_report", "tear_sheets"), ("latest_report", "../backtest_results/tear_sheets")):
        led = set(re.findall(rf'<a href="({re.escape(folder)}/[^"]*)"', reports[f"{name}_html"]))
        assert f"{folder}/portfolio.html" in led
        assert {one.removeprefix(f"{folder}/").removesuffix(".html") for one in led} <= set(pages)
        assert f"({folder}/portfolio.html)" in reports[name]
