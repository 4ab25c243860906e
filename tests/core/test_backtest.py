"""The pair backtest against a plain reference, its identities, and what it may know when."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bars import AS_CONFIGURED, ON_TIME, UNWATCHED, A, B, bars_of, changed, grid, two_legs, until

from mntrading.core.backtest import TRADE_COLUMNS, PairResult, run_pair, run_rules
from mntrading.core.engine import day_ends
from mntrading.core.engine_inputs import Book, late_fills
from mntrading.core.features import build_features
from mntrading.core.mackinnon import mackinnon_p_value
from mntrading.core.strategy import rule_of
from mntrading.params import (
    BacktestParams,
    BreakMonitorParams,
    CostParams,
    FeatureParams,
    LeggingParams,
    StrategyParams,
)

NAN = math.nan
RULE = StrategyParams(
    signals_from="auto", probability_threshold=0.6, entry_z=2.0, exit_z=0.5, stop_z=4.0, max_holding_half_lives=2.0,
    cooldown_bars=2, max_loss=None, min_hedge_ratio=0.2, max_hedge_ratio=5.0, break_monitor=UNWATCHED,
)  # fmt: skip
COSTS = CostParams(fee_rate=0.001, slippage_bps=3.0, borrow_bps_per_day=40.0, impact_bps=0.0, carry="borrow")
FREE = CostParams(fee_rate=0.0, slippage_bps=0.0, borrow_bps_per_day=0.0, impact_bps=0.0, carry="borrow")
PARAMS = BacktestParams(strategy=RULE, costs=COSTS, fill_at="open", legging=ON_TIME, menu=AS_CONFIGURED)


def frame_of(z: list[float], hedge_ratio: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({"z": z, "hedge_ratio": hedge_ratio}, index=grid(len(z)), dtype="float64")


def legs_of(close_a: list[float], close_b: list[float], **opens: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    return bars_of(A, close_a, open_=opens.get("open_a")), bars_of(B, close_b, open_=opens.get("open_b"))


def row(frame: pd.DataFrame, moment: pd.Timestamp) -> int:
    return int(frame.index.get_loc(moment))


# ------------------------------------------------------- a reference that shares no code with the engine


@dataclass
class World:
    """What the reference knows of the market besides prices and signals; by leg where it is a dict."""

    beta: list[float] | None = None
    usual_volume: dict[str, list[float]] | None = None
    funding: dict[str, list[float]] | None = None
    late: list[bool] | None = None
    past: dict[str, list[float]] | None = None  # log prices, with as many rows before the first as the monitor looks at
    notional: float = 1.0
    lot: dict[str, float] = field(default_factory=lambda: {"a": 0.0, "b": 0.0})
    smallest: dict[str, float] = field(default_factory=lambda: {"a": 0.0, "b": 0.0})


def adf_by_lstsq(values: np.ndarray, lags: int) -> float:
    """ADF t with a constant by QR, NaN where under 60 % of the rows are known."""
    change = np.diff(values)
    rows = []
    for k in range(lags, len(change)):
        rows.append([change[k], 1.0, values[k], *(change[k - 1 - j] for j in range(lags))])
    table = np.array(rows)
    whole = np.isfinite(table).all(axis=1)
    if whole.sum() < 0.6 * len(table):
        return NAN
    y, X = table[whole, 0], table[whole, 1:]
    coefficients, *_ = np.linalg.lstsq(X, y, rcond=None)
    rest = y - X @ coefficients
    variance = rest @ rest / (len(y) - X.shape[1]) * np.linalg.inv(X.T @ X)[1, 1]
    return float(coefficients[1] / math.sqrt(variance))


def reference(
    fill: list[tuple[float, float]],
    close: list[tuple[float, float]],
    z: list[float],
    hedge: list[float],
    chance: list[float] | None,
    params: BacktestParams,
    half_life_bars: float | None,
    world: World | None = None,
) -> tuple[list[dict[str, Any]], ...]:
    """Books of every bar, closed trades and entries that were not filled, bar by bar and leg by leg."""
    rule, costs, world = params.strategy, params.costs, world or World()
    watch = rule.break_monitor
    last_bar = len(z) - 1
    longest = math.inf if half_life_bars is None else max(1, math.ceil(rule.max_holding_half_lives * half_life_bars))
    per_bar = costs.borrow_bps_per_day / 10_000 / 288
    cash, held, mark = 1.0, {"a": 0.0, "b": 0.0}, {"a": NAN, "b": NAN}
    trade: dict[str, Any] | None = None
    to_do: list[dict[str, float]] = []  # fills that are due, the first on the next bar that exists
    leaving = False
    age = cooling = 0
    books, trades, unfilled = [], [], []

    def is_over(t: int, beta: float) -> bool:
        end = t + watch.window_bars
        points = watch.window_bars // watch.stride_bars
        at = [end - k * watch.stride_bars for k in range(points)][::-1]
        spread = np.array([world.past["a"][i] - beta * world.past["b"][i] for i in at])
        found = adf_by_lstsq(spread, watch.lags)
        return not math.isnan(found) and float(mackinnon_p_value(found)) > watch.max_p_value

    def lost_by(trade: dict[str, Any], at: tuple[float, float]) -> float:
        earned = [held[leg] * (value - trade["entry_price"][leg]) for leg, value in zip("ab", at, strict=True)]
        return -sum(earned)

    def slips(t: int) -> bool:
        return bool(world.late and world.late[t] and t < last_bar - 1)

    for t in range(last_bar + 1):
        price = dict(zip("ab", fill[t], strict=True))
        tradable = not any(math.isnan(p) for p in price.values())
        fees = slippage = turnover = carry = 0.0
        if trade and trade["open"]:
            for leg in "ab":
                if held[leg] and world.funding:
                    carry += held[leg] * mark[leg] * world.funding[leg][t]
                elif held[leg]:
                    carry += max(0.0, -held[leg] * mark[leg]) * per_bar
            cash -= carry
            trade["costs"] += carry
        if to_do and trade and not trade["open"] and not tradable:
            unfilled.append(trade)
            trade, to_do = None, []
        elif to_do and (tradable or t == last_bar):
            at = price if tradable else dict(mark)
            wanted = to_do.pop(0)
            if slips(t) and len(wanted) == 2:
                to_do.insert(0, {"b": wanted.pop("b")})
            for leg, units in wanted.items():
                worth = abs(units) * at[leg]
                rate = costs.slippage_bps / 10_000
                if costs.impact_bps:
                    usual = world.usual_volume[leg][t]
                    share = worth * world.notional / usual if usual > 0 else 100.0
                    rate += costs.impact_bps / 10_000 * math.sqrt(min(share, 100.0))
                turnover += worth
                fees += worth * costs.fee_rate
                slippage += worth * rate
                cash -= units * at[leg]
                trade["costs" if trade["open"] else "entry_costs"] += worth * (costs.fee_rate + rate)
                trade["paid"] += units * at[leg]
                trade["exit_price" if leaving else "entry_price"][leg] = at[leg]
                held[leg] = held[leg] + units if not leaving else 0.0
            cash -= fees + slippage
            if not leaving and not trade["open"]:
                trade["costs"] += trade.pop("entry_costs")
                trade.update(open=True, entry_fill=t)
            if leaving and not to_do:
                trade["gap"] = trade["gap"] or not tradable
                trades.append({**trade, "exit_fill": t, "gross": -trade["paid"]})
                trade, leaving = None, False
        for leg, value in zip("ab", close[t], strict=True):
            mark[leg] = mark[leg] if math.isnan(value) else value
        if trade and trade["open"] and not tradable:
            trade["gap"] = True
        equity = cash + sum(held[leg] * mark[leg] for leg in "ab" if held[leg])
        side = trade["side"] if trade and trade["open"] else 0
        books.append({
            "equity": equity, "cash": cash, "units_a": held["a"], "units_b": held["b"], "side": side,
            "fees": fees, "slippage": slippage, "borrow": carry, "turnover": turnover,
        })  # fmt: skip
        if to_do and trade and not leaving and t == last_bar - 1:
            # half an entry, and no bar left to complete it and leave again
            to_do, leaving = [{leg: -units for leg, units in held.items()}], True
            trade.update(exit_decision=t, reason="closing", exit_z=z[t], units=trade["units"] | {"b": 0.0})
            trade["entry_price"]["b"] = NAN
            continue
        if to_do or t == last_bar:
            if leaving:
                cooling = max(0, cooling - 1)
            continue
        ending = t == last_bar - 1
        if trade:
            age += 1
            away = -trade["side"] * z[t]
            why = ""
            if ending:
                why = "closing"
            elif age >= longest:
                why = "time"
            elif away <= rule.exit_z:
                why = "reverted"
            elif away >= rule.stop_z:
                why = "stop"
            elif rule.max_loss is not None and lost_by(trade, close[t]) >= rule.max_loss:
                why = "loss"
            elif watch.max_p_value is not None and age % watch.every_bars == 0 and is_over(t, trade["beta"]):
                why = "break"
            if why:
                to_do, leaving = [{leg: -units for leg, units in held.items()}], True
                trade.update(exit_decision=t, reason=why, exit_z=z[t])
                cooling = rule.cooldown_bars if why in ("stop", "break", "loss") else 0
            continue
        if cooling:
            cooling -= 1
            continue
        quoted = not any(math.isnan(p) for p in close[t])
        willing = chance is None or chance[t] >= rule.probability_threshold
        fits = rule.min_hedge_ratio <= hedge[t] <= rule.max_hedge_ratio
        if not ending and quoted and fits and willing and rule.entry_z <= abs(z[t]) < rule.stop_z:
            if watch.max_p_value is not None and is_over(t, world.beta[t]):
                continue
            side = 1 if z[t] < 0 else -1
            notional = {"a": side / (1 + hedge[t]), "b": -side * hedge[t] / (1 + hedge[t])}
            units = {leg: notional[leg] / value for leg, value in zip("ab", close[t], strict=True)}
            for leg, value in zip("ab", close[t], strict=True):
                if world.lot[leg]:
                    whole = math.floor(abs(units[leg]) * world.notional / world.lot[leg] + 1e-9)
                    units[leg] = math.copysign(whole * world.lot[leg] / world.notional, units[leg])
                if abs(units[leg]) * value * world.notional < world.smallest[leg]:
                    units[leg] = 0.0
            if not all(units.values()):
                continue
            to_do = [units]
            trade = {
                "side": side, "entry_decision": t, "entry_z": z[t], "open": False, "gap": False, "paid": 0.0,
                "costs": 0.0, "entry_costs": 0.0, "units": dict(units), "entry_price": {}, "exit_price": {},
                "beta": None if world.beta is None else world.beta[t],
            }  # fmt: skip
            age = 0
    return books, trades, unfilled


def assert_equals_reference(
    result: PairResult,
    books: list[dict[str, float]],
    trades: list[dict[str, Any]],
    unfilled: list[dict[str, Any]],
    index: pd.DatetimeIndex,
) -> None:
    table = pd.concat([result.equity, result.positions, result.costs], axis=1)
    for column in table.columns:
        np.testing.assert_allclose(table[column], [book[column] for book in books], rtol=0, atol=1e-12, err_msg=column)
    assert len(result.trades) == len(trades)
    for found, expected in zip(result.trades.itertuples(index=False), trades, strict=True):
        for moment in ("entry_decision", "entry_fill", "exit_decision", "exit_fill"):
            assert getattr(found, moment) == index[expected[moment]]
        assert (found.side, found.across_gap) == (expected["side"], expected["gap"])
        assert found.bars_held == expected["exit_decision"] - expected["entry_decision"]
        assert found.reason.startswith(expected["reason"])
        assert found.entry_z == expected["entry_z"]
        np.testing.assert_equal(found.exit_z, expected["exit_z"])
        numbers = (
            *(found.units_a, found.units_b, found.entry_price_a, found.entry_price_b),
            *(found.exit_price_a, found.exit_price_b, found.gross_pnl, found.costs, found.net_pnl),
        )
        same = (
            *expected["units"].values(), *expected["entry_price"].values(), *expected["exit_price"].values(),
            expected["gross"], expected["costs"], expected["gross"] - expected["costs"],
        )  # fmt: skip
        np.testing.assert_allclose(numbers, same, rtol=1e-12, atol=1e-12)
    assert [(one.entry_decision, one.side, one.entry_z) for one in result.unfilled.itertuples()] == [
        (index[one["entry_decision"]], one["side"], one["entry_z"]) for one in unfilled
    ]
    assert list(result.unfilled["entry_fill"]) == [index[one["entry_decision"] + 1] for one in unfilled]
    assert result.unfilled[["exit_decision", "exit_fill", "units_a", "exit_price_b"]].isna().all(axis=None)


def random_case(seed: int, n: int, missing: float) -> dict[str, Any]:
    """Two legs with forty bars before the window, its signals, and funding rates at odd moments."""
    rng = np.random.default_rng(seed)
    case: dict[str, Any] = {}
    before, index = 40, grid(n)
    common = np.cumsum(rng.normal(0, 0.02, n + before))
    for leg, symbol in (("a", A), ("b", B)):
        own = rng.normal(0, 0.02, n + before) if seed % 3 else np.cumsum(rng.normal(0, 0.02, n + before))
        close = rng.uniform(0.5, 50) * np.exp(common + own)
        open_ = close * np.exp(rng.normal(0, 0.01, n + before))
        gone = rng.uniform(size=n + before) < missing
        close[gone] = open_[gone] = np.nan
        volume = rng.lognormal(5, 1, n + before) * (rng.uniform(size=n + before) < 0.9)
        start = index[0] - before * pd.Timedelta(minutes=5)
        case[leg] = bars_of(symbol, close, open_=open_, volume=volume, start=start)
        case[f"open_{leg}"], case[f"close_{leg}"] = open_[before:], close[before:]
    z = rng.normal(0, 2.2, n).cumsum() * 0.5 if seed % 2 else rng.normal(0, 2.2, n)
    z[rng.uniform(size=n) < 0.05] = np.nan
    hedge = np.exp(rng.normal(0, 0.8, n))
    hedge[rng.uniform(size=n) < 0.05] = np.nan
    case["features"] = pd.DataFrame({"z": z, "hedge_ratio": hedge, "beta": hedge}, index=index)
    chance = rng.uniform(size=n)
    chance[rng.uniform(size=n) < 0.1] = np.nan
    case["probability"] = pd.Series(chance, index=index)
    due = index[0] + pd.to_timedelta(np.sort(rng.integers(-200, 300 * n + 200, 10)), unit="s").as_unit("ms")
    case["funding"] = tuple(pd.Series(rng.normal(0, 0.001, len(due)), index=due) for _ in "ab")
    return case


WATCHED = BreakMonitorParams(max_p_value=0.6, window_bars=30, stride_bars=2, lags=0, every_bars=3)


def the_world(case: dict[str, Any], params: BacktestParams, book: Book, funding: Any) -> World:
    """What the reference is told of the market, worked out without the engine's own helpers."""
    index, step = case["features"].index, pd.Timedelta(minutes=5)
    back = pd.date_range(index[0] - 30 * step, index[-1], freq=step)
    past, usual, rates = {}, {}, {}
    for i, leg in enumerate("ab"):
        bars = case[leg].set_index("timestamp")
        past[leg] = np.log(bars["close"].reindex(back)).tolist()
        quote = (bars["close"] * bars["volume"]).reindex(pd.date_range(index[0] - 400 * step, index[-1], freq=step))
        usual[leg] = quote.rolling(288, min_periods=29).mean().shift(1).reindex(index).tolist()
        if funding is not None:
            due = funding[i].groupby(funding[i].index.floor(step)).sum()
            rates[leg] = due.reindex(index, fill_value=0.0).tolist()
    late = late_fills(index, params.legging)
    return World(
        beta=case["features"]["beta"].tolist(), usual_volume=usual, funding=rates or None, late=late.tolist(),
        past=past, notional=book.notional, lot=dict(zip("ab", book.lots, strict=True)),
        smallest=dict(zip("ab", book.min_notionals, strict=True)),
    )  # fmt: skip


def both(
    case: dict[str, Any], params: BacktestParams, *, use_model: bool, half_life: float | None, book: Book,
    funded: bool,
) -> tuple[PairResult, tuple[list[dict[str, Any]], ...], dict[str, Any]]:  # fmt: skip
    """The engine's result and the reference's, and what both were given."""
    chance = case["probability"] if use_model else None
    given = {"half_life_bars": half_life, "book": book, "funding": case["funding"] if funded else None}
    result = run_pair(case["a"], case["b"], case["features"], params, chance, **given)
    close = list(zip(case["close_a"].tolist(), case["close_b"].tolist(), strict=True))
    opens = list(zip(case["open_a"].tolist(), case["open_b"].tolist(), strict=True))
    expected = reference(
        opens if params.fill_at == "open" else close, close,
        case["features"]["z"].tolist(), case["features"]["hedge_ratio"].tolist(),
        None if chance is None else chance.tolist(), params, half_life,
        the_world(case, params, book, given["funding"]),
    )  # fmt: skip
    return result, expected, given


@settings(max_examples=1000, deadline=None)
@given(
    seed=st.integers(0, 1_000_000),
    n=st.integers(2, 80),
    missing=st.sampled_from([0.0, 0.05, 0.25]),
    use_model=st.booleans(),
    fill_at=st.sampled_from(["open", "close"]),
    half_life=st.one_of(st.none(), st.floats(0.2, 10)),
    cooldown=st.integers(0, 4),
    entry=st.floats(0.6, 2.5),
    costs=st.builds(
        CostParams,
        fee_rate=st.floats(0, 0.01),
        slippage_bps=st.floats(0, 50),
        borrow_bps_per_day=st.floats(0, 500),
        impact_bps=st.one_of(st.just(0.0), st.floats(1, 300)),
        carry=st.sampled_from(["borrow", "funding"]),
    ),
    legging=st.sampled_from([0.0, 0.3]),
    watched=st.booleans(),
    max_loss=st.sampled_from([None, 0.005, 0.03]),
    book=st.sampled_from([Book(), Book(1e5), Book(1000.0, (0.5, 2.0), (50.0, 100.0))]),
)
def test_the_engine_equals_the_reference(
    seed, n, missing, use_model, fill_at, half_life, cooldown, entry, costs, legging, watched, max_loss, book
):
    case = random_case(seed, n, missing)
    watch = {"break_monitor": WATCHED.model_dump()} if watched else {}
    params = BacktestParams(
        strategy=changed(RULE, cooldown_bars=cooldown, entry_z=entry, max_loss=max_loss, **watch), costs=costs,
        fill_at=fill_at, legging=LeggingParams(probability=legging, seed=seed % 3), menu=AS_CONFIGURED,
    )  # fmt: skip
    funded = costs.carry == "funding"
    result, expected, given = both(case, params, use_model=use_model, half_life=half_life, book=book, funded=funded)
    assert_equals_reference(result, *expected, case["features"].index)
    assert_identities(result, case, params)
    rules = [
        rule_of(params.strategy, half_life_bars=half_life, needs_probability=use_model),
        rule_of(changed(params.strategy, entry_z=3.9), half_life_bars=half_life, needs_probability=use_model),
    ]
    chance = case["probability"] if use_model else None
    swept = run_rules(
        case["a"], case["b"], case["features"], params, rules, probability=chance, book=book, funding=given["funding"]
    )
    days = result.equity.groupby(result.equity.index.floor("D")).last()
    assert swept.returns[0].to_numpy().tolist() == np.diff(days.to_numpy(), prepend=1.0).tolist()
    assert swept.n_trades[0] == len(result.trades)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1_000_000),
    missing=st.sampled_from([0.0, 0.02]),
    use_model=st.booleans(),
    half_life=st.one_of(st.none(), st.floats(5, 200)),
    cooldown=st.sampled_from([0, 5, 400]),
    borrow=st.sampled_from([0.0, 40.0]),
    carry=st.sampled_from(["borrow", "funding"]),
    legging=st.sampled_from([0.0, 0.3]),
    watched=st.booleans(),
    max_loss=st.sampled_from([None, 0.01, 0.1]),
)
def test_a_sweep_over_days_equals_its_rules_one_by_one_and_the_reference(
    seed, missing, use_model, half_life, cooldown, borrow, carry, legging, watched, max_loss
):
    case, n = random_case(seed, 1000, missing), 1000
    rng, z = np.random.default_rng(seed), np.zeros(n)
    for t in range(1, n):  # slow enough for positions over days
        z[t] = 0.98 * z[t - 1] + rng.normal(0, 0.4)
    case["features"]["z"] = np.where(rng.uniform(size=n) < 0.01, NAN, z)
    watch = {"break_monitor": WATCHED.model_dump()} if watched else {}
    params = BacktestParams(
        strategy=changed(RULE, cooldown_bars=cooldown, stop_z=3.0, max_loss=max_loss, **watch),
        costs=changed(COSTS, borrow_bps_per_day=borrow, carry=carry), fill_at="open",
        legging=LeggingParams(probability=legging, seed=0), menu=AS_CONFIGURED,
    )  # fmt: skip
    levels = [(2.0, 0.5), (1.0, 0.0), (1.0, 0.5), (2.9, 0.0)]
    all_params = [
        changed(params, strategy=changed(params.strategy, entry_z=i, exit_z=o).model_dump()) for i, o in levels
    ]
    rules = [rule_of(p.strategy, half_life_bars=half_life, needs_probability=use_model) for p in all_params]
    chance = case["probability"] if use_model else None
    funding = case["funding"] if carry == "funding" else None
    swept = run_rules(case["a"], case["b"], case["features"], params, rules, probability=chance, funding=funding)
    assert len(swept.returns) == 4
    for k, one in enumerate(all_params):
        given = {"half_life_bars": half_life, "funding": funding}
        result = run_pair(case["a"], case["b"], case["features"], one, chance, **given)
        days = result.equity.groupby(result.equity.index.floor("D")).last()
        assert swept.returns[k].to_numpy().tolist() == np.diff(days.to_numpy(), prepend=1.0).tolist()
        assert swept.n_trades[k] == len(result.trades)
    result, expected, _ = both(
        case, params, use_model=use_model, half_life=half_life, book=Book(), funded=carry == "funding"
    )
    assert_equals_reference(result, *expected, case["features"].index)


def test_a_days_last_bar_is_found_where_days_have_none():
    assert day_ends(np.array([0, 0, 2, 2, 2, 3]), 5).tolist() == [1, 1, 4, 5, 5]
    assert day_ends(np.array([], dtype=np.int64), 0).tolist() == []


def assert_identities(result: PairResult, case: dict[str, Any], params: BacktestParams) -> None:
    price_a, price_b = (pd.Series(case[f"close_{leg}"]).ffill().fillna(0.0).to_numpy() for leg in "ab")
    held = result.positions
    marked = held["cash"] + held["units_a"] * price_a + held["units_b"] * price_b
    np.testing.assert_allclose(result.equity, marked, rtol=0, atol=1e-9)
    assert result.trades["net_pnl"].sum() == pytest.approx(result.equity.iloc[-1] - 1.0, abs=1e-9)
    np.testing.assert_allclose(
        result.trades["gross_pnl"] - result.trades["costs"], result.trades["net_pnl"], rtol=0, atol=1e-12
    )
    charges = result.costs
    np.testing.assert_allclose(charges["fees"], charges["turnover"] * params.costs.fee_rate, rtol=0, atol=1e-12)
    slippage = charges["turnover"] * params.costs.slippage_bps * 1e-4
    if params.costs.impact_bps:
        assert (charges["slippage"] >= slippage - 1e-12).all()
    else:
        np.testing.assert_allclose(charges["slippage"], slippage, rtol=0, atol=1e-12)
    paid = charges[["fees", "slippage", "borrow"]].to_numpy().sum()
    assert result.trades["costs"].sum() == pytest.approx(paid, abs=1e-9)
    assert held.iloc[-1][["side", "units_a", "units_b"]].tolist() == [0.0, 0.0, 0.0]
    index = result.equity.index
    for trade in result.trades.itertuples(index=False):
        assert index.get_loc(trade.entry_fill) == index.get_loc(trade.entry_decision) + 1
        assert index.get_loc(trade.exit_fill) >= index.get_loc(trade.exit_decision) + 1
        between = held.loc[trade.entry_fill : trade.exit_fill].iloc[:-1]
        if params.legging.probability == 0.0:
            assert (between["units_a"] == trade.units_a).all()
            assert (between["units_b"] == trade.units_b).all()
        assert (between["side"] == trade.side).all()
    summary = result.metrics
    assert summary["n_trades"] == len(result.trades)
    assert summary["net_pnl"] == pytest.approx(summary["gross_pnl"] - summary["costs"], abs=1e-9)
    assert summary["turnover"] == pytest.approx(charges["turnover"].sum())
    assert summary["exposure"] == pytest.approx((held["side"] != 0).mean())


def test_the_reference_is_not_blind():
    case = random_case(4, 80, 0.0)
    result = run_pair(case["a"], case["b"], case["features"], PARAMS)
    close = list(zip(case["close_a"].tolist(), case["close_b"].tolist(), strict=True))
    opens = list(zip(case["open_a"].tolist(), case["open_b"].tolist(), strict=True))
    columns = case["features"]["z"].tolist(), case["features"]["hedge_ratio"].tolist()
    assert len(result.trades) > 2
    assert_equals_reference(result, *reference(opens, close, *columns, None, PARAMS, None), case["features"].index)
    late = reference(opens, close, *columns, None, changed(PARAMS, fill_at="close"), 1.0)
    with pytest.raises(AssertionError):
        assert_equals_reference(result, *late, case["features"].index)
    same_bar = [opens[0], *opens[:-1]]
    with pytest.raises(AssertionError):
        assert_equals_reference(
            result, *reference(same_bar, close, *columns, None, PARAMS, None), case["features"].index
        )


# --------------------------------------------------------------------------------------- by hand

Z = [0.0, 2.5, 2.0, 0.2, 0.0, 0.0]
CLOSE_A = [10.0, 10.0, 11.0, 9.0, 8.0, 8.0]
CLOSE_B = [20.0, 20.0, 20.0, 22.0, 24.0, 24.0]
OPEN_A = [10.0, 10.0, 10.5, 9.5, 8.5, 8.0]
OPEN_B = [20.0, 20.0, 20.5, 21.0, 23.0, 24.0]


def test_a_short_trade_filled_at_opens_by_hand():
    legs = legs_of(CLOSE_A, CLOSE_B, open_a=OPEN_A, open_b=OPEN_B)
    frame = frame_of(Z, hedge_ratio=3.0)
    result = run_pair(*legs, frame, changed(PARAMS, costs=FREE.model_dump()))
    trade = result.trades.iloc[0]
    assert [row(frame, trade[name]) for name in TRADE_COLUMNS[:4]] == [1, 2, 3, 4]
    # a quarter of the notional short at a close of 10, three quarters long at a close of 20
    assert (trade["units_a"], trade["units_b"]) == pytest.approx((-0.025, 0.0375), abs=1e-15)
    assert trade["gross_pnl"] == pytest.approx(0.025 * (10.5 - 8.5) + 0.0375 * (23.0 - 20.5), abs=1e-15)
    assert trade["net_pnl"] == trade["gross_pnl"]
    assert (trade["side"], trade["reason"], trade["bars_held"]) == (-1, "reverted: z back at the exit level", 2)
    assert not trade["across_gap"]
    marked = 1.0 + 0.025 * (10.5 - 11.0) + 0.0375 * (20.0 - 20.5)
    assert result.equity.tolist()[:3] == pytest.approx([1.0, 1.0, marked], abs=1e-15)
    assert result.positions["side"].tolist() == [0, 0, -1, -1, 0, 0]


def test_the_same_trade_filled_at_closes_by_hand():
    legs = legs_of(CLOSE_A, CLOSE_B, open_a=OPEN_A, open_b=OPEN_B)
    result = run_pair(*legs, frame_of(Z, 3.0), changed(PARAMS, costs=FREE.model_dump(), fill_at="close"))
    gross = 0.025 * (11.0 - 8.0) + 0.0375 * (24.0 - 20.0)
    assert result.trades["gross_pnl"].tolist() == pytest.approx([gross], abs=1e-15)
    assert result.equity.iloc[2] == pytest.approx(1.0, abs=1e-15)


def test_costs_of_a_trade_by_hand():
    legs = legs_of(CLOSE_A, CLOSE_B, open_a=OPEN_A, open_b=OPEN_B)
    result = run_pair(*legs, frame_of(Z, 3.0), PARAMS)
    entry, leave = 0.025 * 10.5 + 0.0375 * 20.5, 0.025 * 8.5 + 0.0375 * 23.0
    assert result.costs["turnover"].tolist() == pytest.approx([0, 0, entry, 0, leave, 0], abs=1e-15)
    assert result.costs["fees"].sum() == pytest.approx((entry + leave) * 0.001, abs=1e-15)
    assert result.costs["slippage"].sum() == pytest.approx((entry + leave) * 0.0003, abs=1e-15)
    per_bar = 40e-4 / 288
    borrow = [0, 0, 0, 0.025 * 11.0 * per_bar, 0.025 * 9.0 * per_bar, 0]
    assert result.costs["borrow"].tolist() == pytest.approx(borrow, abs=1e-15)
    paid = (entry + leave) * 0.0013 + sum(borrow)
    assert result.trades["costs"].tolist() == pytest.approx([paid], abs=1e-15)


@pytest.mark.parametrize("cost", ["fee_rate", "slippage_bps", "borrow_bps_per_day"])
def test_each_cost_takes_from_the_result_and_more_of_it_takes_more(cost):
    legs = legs_of(CLOSE_A, CLOSE_B, open_a=OPEN_A, open_b=OPEN_B)
    net = []
    for multiple in (0.0, 1.0, 2.0):
        costs = FREE.model_dump() | {cost: getattr(COSTS, cost) * multiple}
        net.append(run_pair(*legs, frame_of(Z, 3.0), changed(PARAMS, costs=costs)).metrics["net_pnl"])
    assert net[0] > net[1] > net[2]
    assert net[0] - net[1] == pytest.approx(net[1] - net[2], rel=1e-9)


def test_nothing_is_traded_on_the_bar_it_was_decided_on():
    legs = legs_of(CLOSE_A, CLOSE_B)
    as_is = run_pair(*legs, frame_of(Z), PARAMS)
    for price in (0.01, 1000.0):
        opens = list(legs[0]["open"])
        opens[1] = opens[3] = price  # opens of the bars of the entry's and the exit's decision
        moved = run_pair(bars_of(A, CLOSE_A, open_=opens), legs[1], frame_of(Z), PARAMS)
        pd.testing.assert_frame_equal(moved.trades, as_is.trades, check_exact=True)


# ------------------------------------------------------------------------------------------ gaps


def test_a_missing_bar_to_fill_on_takes_the_entry_off():
    legs = legs_of([10, 10, NAN, 10, 10, 10], [20.0] * 6)
    result = run_pair(*legs, frame_of([0, 2.5, NAN, 1.0, 1.0, 1.0]), PARAMS)
    assert result.trades.empty
    assert (result.equity == 1.0).all()
    again = run_pair(*legs_of([10, 10, NAN, 10, 10, 10], [20.0] * 6), frame_of([0, 2.5, NAN, 2.5, 2, 2]), PARAMS)
    assert [row(again.positions, moment) for moment in again.trades["entry_fill"]] == [4]
    assert not again.trades["across_gap"].any()


def test_a_missing_bar_delays_the_exit_and_the_trade_says_so():
    frame = frame_of([2.5, 2.0, 0.0, NAN, NAN, 0.0, 0.0, 0.0])
    result = run_pair(*legs_of([10.0] * 8, [20, 20, 20, NAN, NAN, 21, 21, 21]), frame, PARAMS)
    trade = result.trades.iloc[0]
    assert (row(frame, trade["exit_decision"]), row(frame, trade["exit_fill"])) == (2, 5)
    assert trade["across_gap"]
    assert result.positions["side"].tolist() == [0, -1, -1, -1, -1, 0, 0, 0]
    assert result.equity.iloc[3] == result.equity.iloc[4] + result.costs["borrow"].iloc[4]


def test_a_position_held_over_a_missing_bar_says_so():
    frame = frame_of([2.5, 2.0, NAN, 2.0, 0.0, 0.0, 0.0])
    closes = [20, 20, NAN, 20, 20, 20, 20]
    assert run_pair(*legs_of([10.0] * 7, closes), frame, PARAMS).trades["across_gap"].tolist() == [True]
    whole = run_pair(*legs_of([10.0] * 7, [20.0] * 7), frame_of([2.5, 2, 2, 2, 0, 0, 0]), PARAMS)
    assert whole.trades["across_gap"].tolist() == [False]


def test_a_window_that_ends_on_a_missing_bar_closes_at_the_last_known_prices():
    frame = frame_of([2.5, 2.0, 2.0, 2.0])
    result = run_pair(*legs_of([10, 10, 11, NAN], [20, 20, 21, 22]), frame, PARAMS)
    trade = result.trades.iloc[0]
    assert (trade["exit_price_a"], trade["exit_price_b"]) == (11.0, 21.0)
    assert trade["across_gap"]
    assert trade["reason"].startswith("closing")


def test_no_bars_at_all_is_no_trade():
    legs = bars_of(A, []), bars_of(B, [])
    result = run_pair(*legs, frame_of([2.5] * 10), PARAMS)
    assert result.trades.empty
    assert (result.equity == 1.0).all()


# --------------------------------------------------------------------------------------- windows


def test_a_position_is_closed_on_the_windows_last_bar():
    result = run_pair(*legs_of([10.0] * 6, [20.0] * 6), frame_of([2.5] * 6), PARAMS)
    assert result.positions["side"].tolist() == [0, -1, -1, -1, -1, 0]
    assert result.trades["reason"].tolist() == ["closing: pair leaves the roster or its window ends"]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_window_too_short_for_a_trade_and_its_exit_has_none(n):
    result = run_pair(*legs_of([10.0] * n, [20.0] * n), frame_of([2.5] * n), PARAMS)
    assert len(result.trades) == (1 if n == 3 else 0)
    assert result.positions["side"].iloc[-1] == 0


def test_a_trade_takes_two_bars_at_least_and_every_second_bar_may_begin_one():
    z = [3.0, 0.0] * 20
    result = run_pair(*legs_of([10.0] * 40, [20.0] * 40), frame_of(z), PARAMS)
    assert len(result.trades) == 19
    assert (result.trades["exit_fill"] - result.trades["entry_fill"] == pd.Timedelta(minutes=5)).all()


def test_an_empty_window_is_a_result_without_rows():
    frame = frame_of([])
    result = run_pair(*legs_of([10.0] * 3, [20.0] * 3), frame, PARAMS)
    assert result.equity.empty
    assert result.trades.empty
    assert tuple(result.trades.columns) == TRADE_COLUMNS
    assert result.metrics["n_trades"] == 0.0
    assert result.metrics["net_pnl"] == 0.0
    assert math.isnan(result.metrics["sharpe"])


def test_trades_keep_their_dtypes_without_a_trade():
    legs = legs_of([10.0] * 8, [20.0] * 8)
    some, none = (run_pair(*legs, frame_of([0, z, 0, 0, 0, 0, 0, 0]), PARAMS).trades for z in (2.5, 0.0))
    assert len(some) == 1
    assert none.empty
    assert some.dtypes.to_dict() == none.dtypes.to_dict()


def test_prices_outside_the_window_are_not_used():
    legs = legs_of([1.0] * 5 + CLOSE_A + [999.0] * 5, [1.0] * 5 + CLOSE_B + [999.0] * 5)
    inside = frame_of([0.0] * 5 + Z + [0.0] * 5).iloc[5:11]
    cut = [bars.iloc[5:11] for bars in legs]
    pd.testing.assert_frame_equal(run_pair(*legs, inside, PARAMS).trades, run_pair(*cut, inside, PARAMS).trades)


# ------------------------------------------------------------------------------------ the signal


def test_model_signals_without_a_model_give_no_entry():
    strict = changed(PARAMS, strategy=changed(RULE, signals_from="model").model_dump())
    assert len(run_pair(*legs_of(CLOSE_A, CLOSE_B), frame_of(Z), strict).trades) == 0


def signals_from(source: str) -> BacktestParams:
    return changed(PARAMS, strategy=changed(RULE, signals_from=source).model_dump())


def test_signals_from_z_ignore_the_model_and_auto_asks_it_where_there_is_one():
    legs, frame = legs_of(CLOSE_A, CLOSE_B), frame_of(Z)
    against = pd.Series(0.1, index=frame.index)
    for_it = pd.Series(0.6, index=frame.index)
    assert len(run_pair(*legs, frame, signals_from("z"), against).trades) == 1
    assert len(run_pair(*legs, frame, signals_from("auto"), against).trades) == 0
    assert len(run_pair(*legs, frame, signals_from("auto"), for_it).trades) == 1
    assert len(run_pair(*legs, frame, signals_from("auto")).trades) == 1
    assert len(run_pair(*legs, frame, signals_from("model"), against).trades) == 0
    trade = run_pair(*legs, frame, signals_from("model"), for_it).trades.iloc[0]
    assert trade["probability"] == 0.6


def test_a_bar_the_model_says_nothing_about_is_not_entered_and_an_exit_needs_no_model():
    legs, frame = legs_of([10.0] * 8, [20.0] * 8), frame_of([0, 2.5, 2.5, 2.5, 0.0, 0, 0, 0])
    only = pd.Series([0.9], index=frame.index[[2]])
    trade = run_pair(*legs, frame, signals_from("model"), only).trades.iloc[0]
    assert row(frame, trade["entry_decision"]) == 2
    assert row(frame, trade["exit_decision"]) == 4


def test_time_stop_and_cool_down_keep_their_bars():
    legs = legs_of([10.0] * 14, [20.0] * 14)
    held = run_pair(*legs, frame_of([2.5] * 14), PARAMS, half_life_bars=2.0).trades
    assert held["bars_held"].tolist()[:2] == [4, 4]
    assert held["reason"].tolist()[0].startswith("time")
    frame = frame_of([2.5, 2.5, 4.5, 3.0, 3.0, 3.0, 3.0, 3.0, 0, 0, 0, 0, 0, 0])
    stopped = run_pair(*legs, frame, PARAMS).trades
    # the stop is filled on bar 3; bars 3 and 4 cool down
    assert [row(frame, moment) for moment in stopped["entry_decision"]] == [0, 5]


# ------------------------------------------------------------------------------- no look-ahead

SMALL = FeatureParams(
    price="log", beta_window=30, z_window=20, hedge_lag_bars=1, min_window_fill=0.8, volatility_window=12,
    lag_features=2,
    hedge="ols", kalman={"delta": 1e-5}, market_window_hours=6,
    include=("z_dynamics",),
)  # fmt: skip


Legs = tuple[pd.DataFrame, pd.DataFrame]
Run = Callable[[pd.DataFrame, pd.DataFrame, pd.DatetimeIndex], PairResult]
EAGER = changed(PARAMS, strategy=changed(RULE, entry_z=1.5).model_dump())


def run_on(bars_a: pd.DataFrame, bars_b: pd.DataFrame, index: pd.DatetimeIndex) -> PairResult:
    features = build_features(bars_a, bars_b, SMALL).reindex(index)
    return run_pair(bars_a, bars_b, features, EAGER, half_life_bars=6.0)


def run_on_the_next_bars_z(bars_a: pd.DataFrame, bars_b: pd.DataFrame, index: pd.DatetimeIndex) -> PairResult:
    features = build_features(bars_a, bars_b, SMALL).reindex(index)
    return run_pair(bars_a, bars_b, features.assign(z=features["z"].shift(-1)), EAGER)


def run_on_z_of_all_time(bars_a: pd.DataFrame, bars_b: pd.DataFrame, index: pd.DatetimeIndex) -> PairResult:
    features = build_features(bars_a, bars_b, SMALL).reindex(index)
    spread = features["spread"]
    return run_pair(bars_a, bars_b, features.assign(z=(spread - spread.mean()) / spread.std()), EAGER)


def known_at(result: PairResult, close_of: pd.Timestamp) -> list[pd.DataFrame]:
    """What stands at a bar's close: books, trades closed, entries filled, and exits decided on."""
    trades = result.trades
    books = pd.concat([result.equity, result.positions, result.costs], axis=1)
    return [
        books.loc[:close_of],
        trades.loc[trades["exit_fill"] <= close_of],
        trades.loc[trades["entry_fill"] <= close_of, ["entry_decision", "entry_fill", "side", "entry_z", "units_a"]],
        trades.loc[trades["exit_decision"] <= close_of, ["exit_decision", "exit_z", "reason"]],
    ]


def same(left: list[pd.DataFrame], right: list[pd.DataFrame]) -> bool:
    return all(one.equals(other) for one, other in zip(left, right, strict=True))


def cuts_that_change_the_past(run: Run, legs: Legs, rows: range) -> list[int]:
    """Rows t after which removing all bars changes anything that stood at the close of t."""
    index = grid(400)
    full = run(*legs, index)
    return [
        t
        for t in rows
        if not same(known_at(full, index[t]), known_at(run(*(until(bars, index[t]) for bars in legs), index), index[t]))
    ]


def prices_that_change_the_past(run: Run, legs: Legs, rows: range) -> list[int]:
    """Rows t for which later prices ten times as high change anything that stood at the close of t."""
    index = grid(400)
    full = run(*legs, index)
    out = []
    for t in rows:
        moved = []
        for bars in legs:
            later = bars["timestamp"] > index[t]
            moved.append(bars.assign(**{c: bars[c].where(~later, 10 * bars[c]) for c in ("open", "close")}))
        if not same(known_at(full, index[t]), known_at(run(*moved, index), index[t])):
            out.append(t)
    return out


@pytest.mark.parametrize("missing", [0.0, 0.02])
def test_later_bars_change_no_trade_and_no_book_before_them(missing):
    legs = two_legs(400, seed=11, missing=missing)
    assert len(run_on(*legs, grid(400)).trades) > 10
    assert cuts_that_change_the_past(run_on, legs, range(60, 400, 3)) == []
    assert prices_that_change_the_past(run_on, legs, range(60, 400, 8)) == []


@pytest.mark.parametrize("mutant", [run_on_the_next_bars_z, run_on_z_of_all_time])
def test_a_backtest_that_sees_the_future_is_caught_by_both_checks(mutant):
    legs = two_legs(400, seed=11)
    assert cuts_that_change_the_past(mutant, legs, range(100, 398, 4))
    assert prices_that_change_the_past(mutant, legs, range(100, 398, 4))
