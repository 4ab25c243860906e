"""Backtest nodes on small stored artefacts: lines that add up, summaries that keep their schema, and nothing at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core.features import build_features
from mntrading.core.robustness import scenarios
from mntrading.core.roster import Roster, RosterPair
from mntrading.core.schedule import Fold
from mntrading.core.types import Pair
from mntrading.datasets import ArtifactDataset, BarsDataset, BarStore, BarsUpdate, Commit, PartitionedArtifactDataset
from mntrading.datasets.validation import check_document
from mntrading.pipelines.backtesting.benchmarks import COLUMNS, PLACEBO, Z_RULE, trade_benchmarks
from mntrading.pipelines.backtesting.desk import Desk, Exchange, Funding, exchange_limits
from mntrading.pipelines.backtesting.menus import choose_candidates
from mntrading.pipelines.backtesting.nodes import backtest_pairs, backtest_portfolio
from mntrading.pipelines.backtesting.robustness import probe_robustness
from mntrading.pipelines.common import digest

DAY = pd.Timedelta(1, unit="D")
T0 = pd.Timestamp("2025-01-01", tz="UTC").as_unit("ms")
SYMBOLS = [f"S{i}/USDT" for i in range(5)]
PAIRS = (Pair("S0/USDT", "S1/USDT"), Pair("S2/USDT", "S3/USDT"))
LINES = ("champions", "roster", "cash", "buy_and_hold", "z_rule", "placebo")
CAPITAL = 100_000.0


def changed(block: Any, **values: object) -> Any:
    return type(block).model_validate(block.model_dump() | values)


def closes() -> pd.DataFrame:
    """Five minutes of five symbols over ten days: two pairs that revert, and one symbol on its own."""
    n = 10 * 288
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.normal(0, 0.002, (n, 5)), axis=0)
    for follower, leader in ((0, 1), (2, 3)):
        noise = np.zeros(n)
        for t in range(1, n):
            noise[t] = 0.95 * noise[t - 1] + 0.004 * rng.normal()
        walks[:, follower] = 0.9 * walks[:, leader] + noise
    index = pd.date_range(T0, periods=n, freq="5min", unit="ms", name="timestamp")
    return pd.DataFrame(100 * np.exp(walks), index=index, columns=SYMBOLS)


def store(folder: Path, timeframe: str, close: pd.DataFrame) -> BarStore:
    dataset = BarsDataset(path=str(folder / f"ohlcv_{timeframe}.parquet"), timeframe=timeframe)
    frames = {}
    for symbol in close:
        own = close[symbol].dropna()
        opened = own.shift(1).fillna(own)
        frames[symbol] = pd.DataFrame(
            {
                "timestamp": own.index, "symbol": symbol, "open": opened, "high": np.maximum(own, opened),
                "low": np.minimum(own, opened), "close": own, "volume": 1e5,
            }
        )  # fmt: skip
    dataset.save(BarsUpdate("made:market", frames))
    return dataset.load()


def folder(path: Path, parts: dict[str, pd.DataFrame], **meta: object) -> Any:
    dataset = PartitionedArtifactDataset(path=str(path), format="parquet")
    dataset.save(parts)
    dataset.save(Commit(tuple(parts), meta))
    return dataset.load()


@dataclass
class Job:
    """Stored artefacts and parameters of a small backtest."""

    path: Path
    params: Any
    roster: dict[str, Any]
    hourly: BarStore
    bars: BarStore
    features: Any
    predictions: Any

    def __post_init__(self) -> None:
        rules = {"lot": None, "min_notional": None, "shortable": True, "listed": True}
        self.markets = {"symbols": dict.fromkeys(SYMBOLS, rules)}
        self.funding = folder(self.path / "funding", {})

    def menus(self) -> list[Any]:
        chunks = choose_candidates(
            self.bars, self.roster, self.markets, self.funding, self.rule, self.spec, self.params.portfolio,
            self.params.compute,
        )  # fmt: skip
        return self.keep(("menus", "candidates"), chunks)

    def keep(self, names: tuple[str, ...], chunks: Iterator[Any]) -> list[Any]:
        datasets = [PartitionedArtifactDataset(path=str(self.path / name), format="parquet") for name in names]
        for chunk in chunks:
            for dataset, part in zip(datasets, chunk, strict=True):
                dataset.save(part)
        return [dataset.load() for dataset in datasets]

    def benchmarks(self) -> pd.DataFrame:
        made = trade_benchmarks(
            self.hourly, self.bars, self.predictions, self.menus()[0], self.roster, self.markets, self.funding,
            self.spec, self.rule, self.params.portfolio, self.params.benchmarks, self.params.compute,
        )  # fmt: skip
        dataset = ArtifactDataset(filepath=str(self.path / "benchmark_trades.parquet"), format="parquet")
        dataset.save(made)
        return dataset.load()

    def desk(self) -> Desk:
        funding = Funding(self.markets, self.funding, self.rule.costs)
        roster = Roster.parse(self.roster)
        return Desk(
            self.bars, self.predictions, self.menus()[0], roster, funding, self.rule, self.spec, self.params.portfolio
        )

    def pairs(self) -> list[Any]:
        chunks = backtest_pairs(
            self.bars, self.features, self.predictions, self.menus()[0], self.roster, self.markets, self.funding,
            self.rule, self.spec, self.params.portfolio, self.params.compute,
        )  # fmt: skip
        return self.keep(("curves", "trades", "unfilled", "windows"), chunks)

    def portfolio(self) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
        symbols = pd.DataFrame({"dependent": SYMBOLS[:-1], "independent": SYMBOLS[1:]})
        stamps = [entry.fold.stamp for entry in Roster.parse(self.roster).folds]
        tests = folder(self.path / "tests", dict.fromkeys(stamps, symbols))
        models = folder(self.path / "models", {}, inputs={"roster": digest(self.roster)}, scores={})
        equity, fills, summary = backtest_portfolio(
            *self.pairs(), self.benchmarks(), self.hourly, self.bars, tests, self.roster, self.markets, models,
            *self.menus(), self.funding, self.rule, self.params.champions, self.params.portfolio,
            self.params.statistics,
        )  # fmt: skip
        return equity, fills, stored(summary)

    def robustness(self) -> dict[str, Any]:
        document = probe_robustness(
            self.bars, self.predictions, self.menus()[0], self.roster, self.markets, self.funding, self.rule,
            self.spec, self.params.portfolio, self.params.statistics, self.params.robustness, self.params.compute,
        )  # fmt: skip
        return stored(document)

    @property
    def spec(self) -> Any:
        return small_spec(self.params)

    @property
    def rule(self) -> Any:
        given = self.params.backtest.model_dump()
        given["strategy"] |= {"entry_z": 1.5, "cooldown_bars": 0, "min_hedge_ratio": 0.05, "max_hedge_ratio": 20.0}
        given["strategy"]["break_monitor"] |= {"max_p_value": None}
        given["menu"] |= {"enabled": False}
        return type(self.params.backtest).model_validate(given)


def stored(document: dict[str, Any]) -> dict[str, Any]:
    """A document as it is loaded."""
    return json.loads(json.dumps(document, default=lambda value: value.isoformat()))


def small_spec(params: Any) -> Any:
    return changed(
        params.feature_engineering.features, beta_window=120, z_window=60, volatility_window=12, lag_features=0,
        include=("z_dynamics",),
    )  # fmt: skip


def job_of(
    path: Path, params: Any, pairs: tuple[Pair, ...], n_folds: int = 2, missing: tuple[pd.Timestamp, str] | None = None
) -> Job:
    close = closes()
    if missing:
        close.loc[missing] = np.nan
    hourly = close.resample("1h").last()
    hourly.index = hourly.index.as_unit("ms")
    folds = [Fold(f"fold_{k:02d}", T0 + 2 * k * DAY, T0 + (4 + 2 * k) * DAY, T0 + (6 + 2 * k) * DAY) for k in range(2)]
    live = Fold("live", T0 + 6 * DAY, T0 + 10 * DAY, None)
    rows = [RosterPair(pair, 1.0, 0.001, 0.9) for pair in pairs]
    document = {
        "as_of": (T0 + 10 * DAY).isoformat(),
        **Roster.build([(fold, rows) for fold in [*folds[:n_folds], live]]).document(),
    }
    roster = stored(document)
    bars = store(path, "5m", close[sorted({symbol for pair in pairs for symbol in pair.symbols})])
    features = {
        pair.id: build_features(bars[pair.dependent], bars[pair.independent], small_spec(params)) for pair in pairs
    }
    told = pd.DataFrame(
        {"fold": pd.Series(dtype="str"), "probability": 0.0, "threshold": 0.0, "barred": pd.Series(dtype="bool")},
        index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp"),
    )
    head = {"inputs": {"roster": digest(roster)}}
    return Job(
        path, params, roster, store(path, "1h", hourly), bars, folder(path / "features", features, **head),
        folder(path / "predictions", {pair.id: told for pair in pairs}, **head),
    )  # fmt: skip


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, params: Any) -> Job:
    return job_of(tmp_path_factory.mktemp("job"), params, PAIRS)


@pytest.fixture(scope="module")
def made(job: Job) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    return job.portfolio()


def test_an_entry_whose_bar_is_missing_is_no_trade_and_is_kept_for_the_book(job, tmp_path, params):
    pair = PAIRS[0]
    trade = job.pairs()[1][pair.id].iloc[0]
    holed = job_of(tmp_path, params, PAIRS, missing=(trade["entry_fill"], pair.independent))
    _, trades, unfilled, _ = holed.pairs()
    assert trade["entry_decision"] not in trades[pair.id]["entry_decision"].tolist()
    assert unfilled[PAIRS[1].id].empty
    (off,) = unfilled[pair.id].to_dict("records")
    same = ["entry_decision", "entry_fill", "side", "entry_z", "hedge_ratio", "spread_std", "fold"]
    assert [off[name] for name in same] == [trade[name] for name in same]
    assert pd.isna(off["exit_fill"])
    assert off["reason"] == "off: a leg had no bar to be filled on"
    own = holed.benchmarks().query("line == @Z_RULE and pair_id == @pair.id")
    assert own.loc[own["exit_fill"].isna(), "entry_fill"].tolist() == [trade["entry_fill"]]


def test_pairs_leave_at_the_last_known_prices_where_a_window_has_no_last_bar(job, tmp_path, params):
    pair, end = PAIRS[0], T0 + 6 * DAY
    last = end - pd.Timedelta(5, unit="min")
    holed = job_of(tmp_path, params, PAIRS, missing=(last, pair.independent))
    exchange = Exchange.of(holed.bars, Roster.parse(holed.roster), holed.markets, holed.desk().funding)
    before = exchange.close[pair.independent].loc[last - pd.Timedelta(5, unit="min")]
    assert {name: fills[pair.independent].loc[last] for name, fills in exchange.fills.items()} == {
        "open": before, "close": before,
    }  # fmt: skip
    assert np.isnan(exchange.close[pair.independent].loc[last])
    whole = Exchange.of(job.bars, Roster.parse(job.roster), job.markets, job.desk().funding)
    changed_at = (whole.fills["open"] != exchange.fills["open"]).to_numpy().nonzero()
    assert {whole.close.index[row] for row in changed_at[0]} <= {last, end}  # made bars open at the close before


def test_the_rule_on_z_trades_the_roster_and_the_placebo_as_many_other_pairs(job):
    trades = job.benchmarks()
    assert tuple(trades.columns) == COLUMNS
    assert set(trades.loc[trades["line"] == Z_RULE, "pair_id"]) == {pair.id for pair in PAIRS}
    drawn = trades.loc[trades["line"] == PLACEBO]
    of_roster = {pair.unordered for pair in PAIRS}
    for _, part in drawn.groupby("fold"):
        pairs = {frozenset(legs) for legs in part[["dependent", "independent"]].to_numpy()}
        assert 0 < len(pairs) <= len(PAIRS)
        assert not pairs & of_roster
    folds = {entry.fold.name: entry.fold for entry in Roster.parse(job.roster).completed}
    for row in trades.itertuples():
        assert folds[row.fold].formation_end < row.entry_fill < row.exit_fill < folds[row.fold].trading_end


def test_symbols_that_are_gone_count_as_shortable_and_others_as_their_market_says():
    rules = {"lot": 0.1, "min_notional": None}
    found = exchange_limits(
        {
            "symbols": {
                "A": {**rules, "listed": True, "shortable": True},
                "B": {**rules, "listed": True, "shortable": False},
                "C": {**rules, "listed": False, "shortable": False},
            }
        }
    )
    assert {symbol: limit.shortable for symbol, limit in found.items()} == {"A": True, "B": False, "C": True}
    assert (found["A"].lot, found["A"].min_notional) == (0.1, 0.0)


def test_the_same_seed_draws_the_same_placebo(job):
    pd.testing.assert_frame_equal(job.benchmarks(), job.benchmarks())


def test_without_a_model_the_roster_is_the_rule_on_z(made):
    equity, _, summary = made
    pd.testing.assert_series_equal(equity["roster"], equity["z_rule"], check_names=False)
    assert summary["portfolio"]["roster"]["sharpe"] == summary["benchmarks"]["z_rule"]["sharpe"]


def test_every_line_begins_with_the_capital_and_stands_in_the_equity(made):
    equity, _, summary = made
    assert tuple(equity.columns) == LINES
    assert (equity["cash"] == CAPITAL).all()
    assert equity["roster"].iloc[0] == CAPITAL
    for name, line in {**summary["portfolio"], **summary["benchmarks"]}.items():
        assert equity[name].iloc[-1] / CAPITAL - 1 == pytest.approx(line["total_return"], abs=1e-9), name
        assert line["n_days"] == 4


def test_the_summary_keeps_its_schema_and_its_attribution_adds_up(made):
    _, _, summary = made
    check_document(summary, "backtest_summary")
    for name in LINES:
        document = summary["attribution"][name]
        for line in (document["total"], *document["folds"]):
            left = line["gross"] - line["fees"] - line["slippage"] - line["borrow"] - line["net"]
            assert abs(left) < 1e-9, name
        assert document["total"]["net"] == pytest.approx(sum(line["net"] for line in document["folds"]), abs=1e-9)
    total = summary["attribution"]["roster"]["total"]
    assert total["fees"] > 0.0
    assert total["slippage"] > 0.0
    assert summary["candidates"]["n_candidates"] == len(PAIRS)
    assert [line["pair_id"] for line in summary["pairs"]] == sorted(
        (pair.id for pair in PAIRS),
        key=lambda id_: -next(p["net_pnl"] for p in summary["pairs"] if p["pair_id"] == id_),
    )


def test_robustness_begins_with_what_was_traded_and_costs_only_take(job, made):
    _, _, summary = made
    found = job.robustness()
    check_document(found, "robustness")
    ways = {line["name"]: line for line in found["scenarios"]}
    roster = summary["portfolio"]["roster"]
    for name in ("total_return", "sharpe", "costs", "gross_pnl", "n_trades"):
        assert ways["as_traded"][name] == pytest.approx(roster[name], rel=1e-12), name
    assert ways["costs"]["costs"] > 1.5 * ways["as_traded"]["costs"]
    assert ways["costs"]["total_return"] < ways["as_traded"]["total_return"]
    own = [cell for cell in found["neighbourhood"] if (cell["entry_step"], cell["exit_step"]) == (0.0, 0.0)]
    assert own[0]["total_return"] == pytest.approx(roster["total_return"], abs=1e-9)
    assert len(found["neighbourhood"]) == 15


def test_a_delay_moves_every_decision_by_its_bars(job):
    window = next(job.desk().windows(PAIRS[0].id))
    now, late = window.trade().trades, window.trade(shift_bars=2).trades
    assert len(now) > 2
    assert late["entry_z"].iloc[0] == now["entry_z"].iloc[0]
    assert late["spread_std"].iloc[0] == now["spread_std"].iloc[0]
    assert now["spread_std"].tolist() == window.frame["spread_std"].loc[now["entry_decision"]].tolist()
    assert (now["half_life_hours"] == window.row.half_life_hours).all()
    assert (now["z_window_hours"] == window.item.z_window / 12).all()
    assert late["entry_decision"].iloc[0] == now["entry_decision"].iloc[0] + pd.Timedelta(10, unit="min")


def test_the_bound_that_looks_ahead_is_filled_at_the_close_of_the_bar_it_decided_on(job):
    window = next(job.desk().windows(PAIRS[0].id))
    earlier = next(way for way in scenarios(window.backtest, job.params.robustness) if way.name == "earlier")
    trades = window.trade(earlier.backtest, shift_bars=earlier.shift_bars).trades
    close = window.market.bars_a.set_index("timestamp")["close"]
    assert len(trades) > 2
    np.testing.assert_array_equal(trades["entry_price_a"], close.loc[trades["entry_fill"]])
    np.testing.assert_array_equal(trades["entry_z"], window.frame["z"].loc[trades["entry_fill"]])


@pytest.mark.parametrize(("pairs", "n_folds"), [((), 2), ((), 0), (PAIRS, 0)], ids=["pairs", "both", "folds"])
def test_no_pair_and_no_window_are_results_too(tmp_path, params, pairs, n_folds):
    job = job_of(tmp_path, params, pairs, n_folds)
    equity, fills, summary = job.portfolio()
    assert equity.empty
    assert fills.empty
    check_document(summary, "backtest_summary")
    check_document(job.robustness(), "robustness")
    assert summary["portfolio"]["roster"]["sharpe"] is None
    assert summary["pairs"] == []
    assert len(summary["folds"]) == n_folds
