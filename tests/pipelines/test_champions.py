"""The choice of champions of a fold: from windows before it, with the trials there were, and as the registry has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.roster import Roster, RosterPair
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets import ArtifactDataset, BarsDataset, BarStore, BarsUpdate
from mntrading.kernels import code_stamp
from mntrading.pipelines.backtesting.nodes import candidates_tried, formation_spreads, judge
from mntrading.pipelines.common import digest
from mntrading.pipelines.deployment import champions as deployment

DAY = pd.Timedelta(1, unit="D")
T0 = pd.Timestamp("2025-01-01", tz="UTC").as_unit("ms")
FORMATION, TRADING = 20, 10
AB, CD, EF = Pair("A/USDT", "B/USDT"), Pair("C/USDT", "D/USDT"), Pair("E/USDT", "F/USDT")
PAIRS = (AB, CD, EF)


def fold(k: int, *, live: bool = False) -> Fold:
    start = T0 + k * TRADING * DAY
    end = start + FORMATION * DAY
    return Fold("live" if live else f"fold_{k:02d}", start, end, None if live else end + TRADING * DAY)


def roster_of(n_completed: int = 3) -> Roster:
    rows = [RosterPair(pair, 6.0, 0.001, 1.0) for pair in PAIRS]
    return Roster.build([(fold(k), rows) for k in range(n_completed)] + [(fold(n_completed, live=True), rows)])


def records(roster: Roster, means: dict[str, float]) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Curves and windows of pairs that earn ``means`` a day, on paths of their own."""
    curves, windows = {}, {}
    for number, (pair_id, mean) in enumerate(means.items()):
        rng = np.random.default_rng(number)
        curve, lines = [], []
        for entry in roster.completed:
            index = pd.date_range(
                entry.fold.formation_end, entry.fold.trading_end, freq="8h", inclusive="left", unit="ms"
            )
            steps = rng.normal(mean / 3, 0.001, len(index))
            equity = 1.0 + np.cumsum(steps - steps[0])
            curve.append(pd.DataFrame({"fold": entry.fold.name, "equity": equity}, index=index))
            net = float(equity[-1] - 1.0)
            lines.append({"fold": entry.fold.name, "n_trades": 4.0, "net_pnl": net, "costs": 0.001})
        curves[pair_id], windows[pair_id] = pd.concat(curve), pd.DataFrame(lines)
    return curves, windows


EVEN = {pair.id: 0.002 for pair in PAIRS}


@pytest.fixture
def rules(params: Any) -> Any:
    return params.champions


def entry_of(roster: Roster, name: str) -> Any:
    return next(entry for entry in roster.folds if entry.fold.name == name)


@pytest.mark.parametrize("name", ["fold_00", "fold_01", "fold_02"])
def test_nothing_from_a_folds_own_window_on_changes_its_champions(rules: Any, name: str) -> None:
    roster = roster_of()
    curves, windows = records(roster, EVEN)
    entry = entry_of(roster, name)
    before = judge(entry, roster, curves, windows, rules)
    later = [e.fold.name for e in roster.completed if e.fold.name >= name]
    for pair_id in EVEN:  # a fortune, a ruin, and the same path for all: clusters, trials and ranks would change
        curves[pair_id].loc[curves[pair_id]["fold"].isin(later), "equity"] = np.linspace(1, 9, 30 * len(later))
        windows[pair_id].loc[windows[pair_id]["fold"].isin(later), ["n_trades", "net_pnl", "costs"]] = (99.0, 8.0, -7.0)
    assert (
        judge(entry, roster, curves, windows, rules, tried=dict.fromkeys(((f, AB.id) for f in later), 1000)) == before
    )
    if name != "fold_02":
        assert judge(entry_of(roster, "fold_02"), roster, curves, windows, rules) != before


def test_the_first_fold_has_no_champion_and_the_live_one_sees_every_window(rules: Any) -> None:
    roster = roster_of()
    curves, windows = records(roster, EVEN)
    first = judge(roster.completed[0], roster, curves, windows, rules)
    assert first.champions == ()
    assert first.n_trials == 0
    assert first.explanation().startswith("0 of 3 pairs: 3 have no completed trading window on the roster yet")
    live = judge(roster.live, roster, curves, windows, rules)
    assert {candidate.figures["n_windows"] for candidate in live.candidates} == {3.0}


def test_trials_are_those_of_the_windows_before(rules: Any) -> None:
    roster = roster_of()
    curves, windows = records(roster, EVEN)
    tried = {("fold_00", AB.id): 3, ("fold_01", AB.id): 12, ("fold_02", AB.id): 36}
    counts = [judge(entry, roster, curves, windows, rules, tried=tried).n_trials for entry in roster.folds]
    assert counts == [0, 3 + 2, 12 + 2, 36 + 2]


def bars(folder: Path, roster: Roster, *, after: float = 1.0) -> BarStore:
    """One 5m bar in eight hours; second legs stand still, and prices past the live formation end are scaled."""
    end = roster.live.fold.formation_end
    index = pd.date_range(T0, end + 5 * DAY, freq="8h", unit="ms")
    moves = {"A/USDT": 1, "C/USDT": -1, "E/USDT": 2}  # A and C mirror each other
    frames = {}
    for symbol in sorted(s for pair in PAIRS for s in pair.symbols):
        rng = np.random.default_rng(abs(moves.get(symbol, 0)))
        path = moves.get(symbol, 0) * 0.001 * np.cumsum(rng.normal(size=len(index)))
        close = np.exp(path) * np.where(index < end, 1.0, after)
        frame = pd.DataFrame({"timestamp": index, "symbol": symbol, "volume": 1.0})
        frames[symbol] = frame.assign(open=close, high=close, low=close, close=close)
    dataset = BarsDataset(path=str(folder / "ohlcv_5m.parquet"), timeframe="5m")
    dataset.save(BarsUpdate("made", frames, {}))
    return dataset.load()


def test_spreads_are_those_of_the_formation_window(tmp_path: Path) -> None:
    roster = roster_of()
    spreads = formation_spreads(roster.live, bars(tmp_path / "a", roster))
    fold_ = roster.live.fold
    assert spreads.index[0] == fold_.formation_start
    assert spreads.index[-1] == fold_.formation_end - DAY
    later = formation_spreads(roster.live, bars(tmp_path / "b", roster, after=50.0))
    pd.testing.assert_frame_equal(spreads, later, check_exact=True)


class Made(dict):  # type: ignore[type-arg]
    """Stands in for stored partitions: what they hold, and what their manifest says."""

    def __init__(self, parts: dict[str, Any], meta: dict[str, Any]) -> None:
        super().__init__(parts)
        self.meta = meta
        self.digests = dict.fromkeys(parts, "a" * 64)


def menus(roster: Roster, n_rules: int) -> dict[str, pd.DataFrame]:
    """As many rules on every pair's menu in every fold, the first of them chosen."""
    rule = {
        "label": "configured", "beta_window": 4032, "z_window": 2016, "entry_z": 2.0, "exit_z": 0.5, "stop_z": 4.0
    }  # fmt: skip
    table = pd.DataFrame(
        [{"fold": entry.fold.name, **rule, "chosen": k == 0} for entry in roster.folds for k in range(n_rules)]
    )
    return dict.fromkeys((pair.id for pair in PAIRS), table)


def test_models_and_rules_tried_are_counted_whether_or_not_one_was_kept() -> None:
    fit = {"chosen": None, "details": {"n_trials": 60}}
    thin = {"chosen": None, "details": {}}
    scores = {"fold_00/pooled": fit, f"fold_01/{AB.id}": fit, f"fold_01/{CD.id}": thin, "live/pooled": fit}
    roster = roster_of(2)
    rules = Made(menus(roster, 7), {})
    tried = candidates_tried(roster, Made({}, {"scores": scores}), rules)  # type: ignore[arg-type]
    by_search = {("fold_00", pair.id): 67 for pair in PAIRS} | {("fold_01", AB.id): 67}
    assert tried == {("fold_01", pair.id): 7 for pair in PAIRS} | by_search


def test_the_registry_holds_every_candidate_with_cluster_figures_and_reasons(
    tmp_path: Path, rules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = roster_of()
    document = {"as_of": T0.isoformat(), "parameters": {}, **roster.document()}
    follows = {"inputs": {"roster": digest(document)}}
    parameters = {"backtest": "b" * 64, "features": "c" * 64}
    curves, windows = records(roster, EVEN | {EF.id: -0.002})
    scores = {f"fold_{k:02d}/pooled": {"chosen": "x", "details": {"n_trials": 3}} for k in range(3)}
    models = Made(
        {"live/pooled": None}, follows | {"parameters": parameters, "scores": scores, "feature_spec": "d" * 64}
    )
    recorded = Made(windows, follows | {"parameters": parameters})
    chosen = Made(menus(roster, 5), follows)
    hashes = {"pair_windows": recorded, "pair_models": models, "pair_menus": chosen}
    plain = deployment.header

    def header(as_of: Any, inputs: dict[str, Any], given: Any) -> dict[str, Any]:  # stubs have no content hash
        return plain(as_of, {k: "stub" if k in hashes else v for k, v in inputs.items()}, given)

    monkeypatch.setattr(deployment, "header", header)
    made = deployment.select_champions(
        document, Made(curves, {}), recorded, models, chosen, bars(tmp_path, roster),  # type: ignore[arg-type]
        rules.model_copy(update={"max_pairs_per_cluster": 1}),
    )  # fmt: skip
    assert (made["n_pairs_traded"], made["n_trials"]) == (3, 3 * (5 + 3))
    assert made["rejected"][0]["rule"]["label"] == "configured"
    assert made["trials_variance"] > 0
    assert made["core_code"] == code_stamp()
    assert {entry["pair_id"] for entry in made["champions"] + made["rejected"]} == set(EVEN)
    lossy = next(entry for entry in made["rejected"] if entry["pair_id"] == EF.id)
    assert not lossy["challenger"]
    assert lossy["figures"]["net_pnl"] < 0
    assert [failure["rule"] for failure in lossy["failures"]][:1] == ["min_sharpe"]
    assert len(lossy["failures"]) == len(lossy["reasons"])
    assert made["explanation"].startswith(f"{len(made['champions'])} of 3 pairs")
    assert lossy["model"] == {"id": "live/pooled", "sha256": "a" * 64}
    stored = ArtifactDataset(filepath=str(tmp_path / "registry.json"), format="json", schema="champion_registry")
    stored.save(made)
    assert stored.load()["trials_variance"] == made["trials_variance"]
