"""Step 10: signals netted into orders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from mntrading.core import health, portfolio, sizing
from mntrading.core.bars import timeframe_ms
from mntrading.core.errors import ArtifactError
from mntrading.core.types import Pair
from mntrading.datasets import BarStore
from mntrading.datasets.storage import content_hash
from mntrading.params import FeatureParams, PortfolioParams
from mntrading.pipelines.backtesting.desk import exchange_limits
from mntrading.pipelines.common import header, number, sealed, stamp_of
from mntrading.pipelines.deployment.books import bars_with_price, book_document, book_of

LOGGER = logging.getLogger(__name__)


def aggregate_orders(
    signals: Mapping[str, Any],
    position_state: dict[str, Any],
    production_map: dict[str, Any],
    paper_account: dict[str, Any],
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    sizes: PortfolioParams,
    monitoring: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Net the newest bar's signals into orders, on the book the account has at its close.

    The kill switch is the stricter one of the parameters and of monitoring.
    """
    bar_close = pd.Timestamp(position_state["as_of"])
    stamp = stamp_of(bar_close)
    given = signals[stamp]
    book = book_of(paper_account["book"])
    told = {line["pair_id"] for line in given}
    unspoken = [
        portfolio.Signal(
            holding.pair, "exit", 0, float("nan"), 0.0, "closing: held, and nothing speaks for it any more"
        )
        for pair_id, holding in sorted(book.holdings.items())
        if pair_id not in told
    ]
    symbols = sorted({*book.units(), *(line[leg] for line in given for leg in ("dependent", "independent"))})
    bars = {symbol: bars_with_price(ohlcv_5m, symbol, bar_close, bar_close) for symbol in symbols}
    # without any bar the last price there is is the one the orders before were made with
    before = {} if paper_account["before"] is None else paper_account["before"]["prices"]
    prices = {
        symbol: float(rows["close"].iloc[-1]) if len(rows) else before.get(symbol, float("nan"))
        for symbol, rows in bars.items()
    }
    wanted = [*(_signal(line, production_map, prices, ohlcv_5m.timeframe) for line in given), *unspoken]
    switch, why = _kill_switch(sizes, monitoring, bar_close)
    effective = sizes.model_copy(update={"kill_switch": switch})
    result = portfolio.build_orders(wanted, prices, book, exchange_limits(markets), effective, bar_close=bar_close)
    weights = result.weights
    document = sealed({
        **header(
            bar_close,
            {"signals": given, "production_map": production_map, "paper_account": paper_account},
            {"portfolio": sizes},
        ),
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
        "kill_switch": switch,
        "kill_switch_reason": why,
        "book": book_document(book),
        "wanted": book_document(result.book),
        "prices": {symbol: price for symbol, price in prices.items() if np.isfinite(price)},
        "totals": paper_account["totals"],
        "reason": _why_nothing(production_map, given) if not result.orders else "",
    })  # fmt: skip
    LOGGER.info("orders %s: %d, gross %.2f of equity", stamp, len(result.orders), document["gross"])
    return document, {stamp: document}


def _kill_switch(
    sizes: PortfolioParams, monitoring: Mapping[str, Any], bar_close: pd.Timestamp
) -> tuple[health.KillSwitch, str]:
    """The effective kill switch and why; monitoring of another bar says nothing about this one."""
    watched = pd.Timestamp(monitoring["as_of"])
    if watched != bar_close:
        raise ArtifactError(
            f"is of the bar closed at {watched}, and the signals are of {bar_close}",
            where="signals/_monitoring.json",
            fix="kedro run --tags monitoring,aggregate",
        )
    return health.effective_kill_switch(sizes.kill_switch, monitoring["level"], monitoring["reason"])


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
        cluster=line["cluster"],
    )
