"""What pages show, from plain values: presses, progress, ages, order of pairs, files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from stub_api import run_of

from mntrading.apps.catalog import Entry
from mntrading.apps.dashboard.shaping import artifacts, pairs, runs, status
from mntrading.core.menu import Item, Levels
from mntrading.reporting.desk_figures import PairNow

NOW = pd.Timestamp("2026-01-01T12:00:00Z")


def test_a_press_is_the_same_while_its_run_goes_on_and_new_once_it_has_ended() -> None:
    first = runs.press(None, "short_cycle", {}, 0.0, ())
    known = runs.Press(first.key, first.what, first.at, "run-a")
    assert runs.press(known, "short_cycle", {}, 100.0, ("run-a",)).key == first.key
    assert runs.press(known, "short_cycle", {}, 100.0, ()).key != first.key


def test_a_second_click_before_the_run_is_known_is_the_same_press() -> None:
    first = runs.press(None, "short_cycle", {}, 0.0, ())
    assert runs.press(first, "short_cycle", {}, 0.4, ()).key == first.key


@pytest.mark.parametrize(("pipeline", "body"), [("full_cycle", {}), ("short_cycle", {"portfolio": {"top_k": 3}})])
def test_another_wish_is_another_press(pipeline: str, body: dict[str, object]) -> None:
    first = runs.press(None, "short_cycle", {}, 0.0, ())
    assert runs.press(first, pipeline, body, 0.1, ()).key != first.key


@pytest.mark.parametrize(
    ("what", "share", "words"),
    [
        ({}, 0.25, "3 of 12 steps · infer signals"),
        ({"progress": None, "step": None}, 0.0, "Starting"),
        ({"progress": {"done": 0, "total": 0}, "step": None}, 0.0, "Starting"),
        ({"state": "queued", "position": 2, "progress": None}, 0.0, "Waiting, number 2 in the queue"),
        ({"cancel_requested": True}, 0.25, "Ending, as asked"),
        ({"progress": {"done": 13, "total": 12}}, 1.0, "13 of 12 steps · infer signals"),
    ],
)
def test_progress_is_told_at_every_stage(what: dict[str, object], share: float, words: str) -> None:
    run = run_of("run-a", **what)
    assert runs.share(run) == share
    assert runs.progress_words(run) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (10 * 86_400, "10 days")],
)
def test_durations_are_told_in_a_unit_that_fits(seconds: float | None, words: str) -> None:
    assert runs.duration(seconds) == words


def test_the_age_of_real_bars_is_told_and_old_ones_are_in_doubt() -> None:
    end = NOW - pd.Timedelta(2, unit="h")
    assert status.data_fact(end, "ccxt:binance", NOW).value == "2.0 h"
    (doubt,) = status.doubts(None, (), (), end, "ccxt:binance", NOW)
    assert "short_cycle" in doubt.text


def test_a_simulated_market_has_a_clock_of_its_own_and_is_never_old() -> None:
    end = NOW - pd.Timedelta(400, unit="D")
    assert "simulated" in status.data_fact(end, "simulator:demo:0", NOW).note
    assert status.doubts(None, (), (), end, "simulator:demo:0", NOW) == []


@pytest.mark.parametrize("state", ["failed", "killed"])
def test_a_last_run_that_went_wrong_comes_first(state: str) -> None:
    found = status.doubts(None, ("made from an earlier roster",), (run_of("a", state=state),), None, None, NOW)
    assert [one.level for one in found] == ["error", "warning"]


def test_pairs_are_ordered_as_a_desk_looks_at_them() -> None:
    now = [
        PairNow("far", 1.9, 2.0, 0.0, 4.0),
        PairNow("held", 0.1, 2.0, 0.0, 4.0, side=1, in_production=True),
        PairNow("live", 0.2, 2.0, 0.0, 4.0, in_production=True),
        PairNow("near", 0.3, 2.0, 0.0, 4.0),
    ]
    assert pairs.order_of(["near", "gone", "far", "live", "held"], now) == ["held", "live", "far", "near", "gone"]


def test_where_a_pair_stands_is_what_its_signal_says_else_what_its_bars_do() -> None:
    item = Item("configured", 2016, 576, Levels(1.5, 0.5, 4.0))
    z = pd.Series([0.1, 0.7, np.nan])
    rule = {"entry_z": 2.0, "exit_z": 0.0, "stop_z": 3.0}
    told = [{"pair_id": "A", "z": -2.2, "doubts": ["stale"]}]
    first, second, third = pairs.pairs_now({"A": (item, z), "B": (item, z), "C": (item, None)}, told,
                                           {"A": {"side": 1}}, {"A": rule})  # fmt: skip
    assert (first.z, first.entry_z, first.side, first.in_production, first.doubts) == (-2.2, 2.0, 1, True, ("stale",))
    assert (second.z, second.entry_z, second.in_production) == (0.7, 1.5, False)
    assert third.z is None


def _entry(path: str, kind: str = "file", format_: str = "json") -> Entry:
    at = "2026-01-01T00:00:00Z"
    return Entry("orders", "production", kind, format_, path, True, 12, "ab" * 32, at, None, "kedro run")


def test_a_download_has_the_name_of_its_file_and_a_part_that_of_its_entry() -> None:
    assert artifacts.file_name(_entry("portfolio/latest_orders.json")) == "latest_orders.json"
    assert artifacts.file_name(_entry("signals", "partitions", "jsonl"), "2026/01") == "orders_2026_01.jsonl"


def test_a_report_inside_a_page_keeps_its_own_links_and_loses_those_to_files_beside_it() -> None:
    page = '<a href="#now">x</a><a href="../tear_sheets/portfolio.html">y</a><a href="https://example.org">z</a>'
    assert artifacts.alone(page) == '<a href="#now">x</a><a>y</a><a href="https://example.org">z</a>'


@pytest.mark.parametrize(("n", "words"), [(None, "–"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3e9, "3.0 GB")])
def test_sizes_are_told_in_a_unit_that_fits(n: int | None, words: str) -> None:
    assert artifacts.size(n) == words


def test_a_log_is_shown_without_the_colours_of_a_terminal() -> None:
    assert runs.log_text(["\x1b[33mAdd type hints\x1b[0m", "[INFO] 3 of 12"]) == "Add type hints\n[INFO] 3 of 12"
