"""Step 10: signals netted into orders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from mntrading.core import portfolio, sizing
from mntrading.core.bars import timeframe_ms
from mntrading.core.types import Pair
from mntrading.datasets import BarStore, Partitions
from mntrading.datasets.storage import content_hash
from mntrading.params import CostParams, FeatureParams, PortfolioParams
from mntrading.pipelines.backtesting.desk import exchange_limits
from mntrading.pipelines.common import header, number, stamp_of

LOGGER = logging.getLogger(__name__)


def aggregate_orders(
    signals: Partitions,
    position_state: dict[str, Any],
    production_map: dict[str, Any],
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    sizes: PortfolioParams,
    previous: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Net the newest bar's signals into orders, on the book the orders before left.

    The book takes orders as filled at their reference price with the production map's costs.
    """
    bar_close = pd.Timestamp(position_state["as_of"])
    stamp = stamp_of(bar_close)
    given = signals[stamp]
    book = _book_before(previous, bar_close, sizes.capital)
    told = {line["pair_id"] for line in given}
    unspoken = [
        portfolio.Signal(
            holding.pair, "exit", 0, float("nan"), 0.0, "closing: held, and nothing speaks for it any more"
        )
        for pair_id, holding in sorted(book.holdings.items())
        if pair_id not in told
    ]
    symbols = sorted({*book.units(), *(line[leg] for line in given for leg in ("dependent", "independent"))})
    prices = {symbol: _last_close(ohlcv_5m, symbol, bar_close) for symbol in symbols}
    wanted = [*(_signal(line, production_map, prices, ohlcv_5m.timeframe) for line in given), *unspoken]
    result = portfolio.build_orders(wanted, prices, book, exchange_limits(markets), sizes, bar_close=bar_close)
    charged = CostParams.model_validate(production_map["costs"])
    rate = charged.fee_rate + charged.slippage_bps * 1e-4
    paid = sum((o.notional if o.side == "buy" else -o.notional) + o.notional * rate for o in result.orders)
    after = replace(result.book, cash=book.cash - paid)
    weights = result.weights
    document = {
        **header(bar_close, {"signals": given, "production_map": production_map}, {"portfolio": sizes}),
        "bar_close": bar_close,
        "map_id": production_map["id"],
        "equity": result.equity,
        "gross": sum(abs(weight) for weight in weights.values()),
        "net": sum(weights.values()),
        "orders": [
            {**asdict(order), "id": content_hash([stamp, production_map["id"], asdict(order)])[:16]}
            for order in result.orders
        ],
        "targets": result.targets,
        "weights": weights,
        "refused": result.refused,
        "closed": result.closed,
        "hedge_errors": result.hedge_errors,
        "volatility": number(result.volatility),
        "kill_switch": sizes.kill_switch,
        "book_before": _book_document(book),
        "book": _book_document(after),
        "reason": _why_nothing(production_map, given) if not result.orders else "",
    }
    LOGGER.info("orders %s: %d, gross %.2f of equity", stamp, len(result.orders), document["gross"])
    return document, {stamp: document}


def _why_nothing(production_map: Mapping[str, Any], given: list[dict[str, Any]]) -> str:
    if not production_map["pairs"]:
        return "no pair is in production: the registry has no champion"
    return "no pair enters or exits on this bar: " + "; ".join(
        f"{line['pair_id']} {line['action']} ({line['reason'] or 'holding'})" for line in given
    )


def _signal(
    line: Mapping[str, Any], production_map: Mapping[str, Any], prices: Mapping[str, float], timeframe: str
) -> portfolio.Signal:
    """A stored signal as the order builder takes it, with the very figures a backtest's trade has of its entry."""
    deviation, half_life = (
        float("nan") if line[name] is None else line[name] for name in ("spread_std", "half_life_hours")
    )
    logs = FeatureParams.model_validate(production_map["features"]).price == "log"
    step = pd.Timedelta(timeframe_ms(timeframe), unit="ms")
    windows = {entry["pair_id"]: entry["rule"]["z_window"] for entry in production_map["pairs"]}
    pair_id = line["pair_id"]
    return portfolio.Signal(
        Pair(line["dependent"], line["independent"]),
        line["action"],
        line["side"],
        float("nan") if line["hedge_ratio"] is None else line["hedge_ratio"],
        0.0 if line["confidence"] is None else line["confidence"],
        line["reason"],
        spread_std=sizing.relative_std(deviation, prices[line["dependent"]], logs=logs),
        half_life_hours=half_life,
        z_window_hours=sizing.window_hours(windows[pair_id], step) if pair_id in windows else float("nan"),
        # a map made before clusters were kept in it gives signals without one
        cluster=line.get("cluster"),
    )


def _last_close(store: BarStore, symbol: str, bar_close: pd.Timestamp) -> float:
    bars = store[symbol]
    known = bars.loc[bars["timestamp"] < bar_close, "close"]
    return float(known.iloc[-1]) if len(known) else float("nan")


def _book_before(previous: Mapping[str, Any] | None, bar_close: pd.Timestamp, capital: float) -> portfolio.Book:
    """The book ahead of this bar; that of the same bar's first orders when they are asked for again."""
    if previous is None:
        return portfolio.Book(capital)
    again = pd.Timestamp(previous["bar_close"]) == bar_close
    document = previous["book_before"] if again else previous["book"]
    holdings = {
        row["pair_id"]: portfolio.Holding(
            Pair(row["dependent"], row["independent"]),
            row["side"],
            row["units_dependent"],
            row["units_independent"],
            row["confidence"],
            row["cluster"],
            row["daily_risk"],
        )
        for row in document["holdings"]
    }
    unsent = {symbol: portfolio.Unsent(symbol, units) for symbol, units in document["unsent"].items()}
    return portfolio.Book(document["cash"], holdings, unsent, document["day"], document["traded"])


def _book_document(book: portfolio.Book) -> dict[str, Any]:
    return {
        "cash": book.cash,
        "holdings": [
            {
                "pair_id": pair_id,
                "dependent": holding.pair.dependent,
                "independent": holding.pair.independent,
                "side": holding.side,
                "units_dependent": holding.units_dependent,
                "units_independent": holding.units_independent,
                "confidence": holding.confidence,
                "cluster": holding.cluster,
                "daily_risk": holding.daily_risk,
            }
            for pair_id, holding in sorted(book.holdings.items())
        ],
        "unsent": {symbol: unsent.held for symbol, unsent in sorted(book.unsent.items())},
        "day": book.day,
        "traded": book.traded,
    }
