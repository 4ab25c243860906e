"""The paper account: orders filled on the bar after their own, as the backtest fills them, and what is held since."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from mntrading.core.account import SETTLED_COLUMNS, Due, Settled, Stretch, settle
from mntrading.core.bars import timeframe_ms
from mntrading.core.engine_inputs import charges_a_bar, due_rates, usual_volume
from mntrading.core.errors import ArtifactError
from mntrading.core.portfolio import Book, Order
from mntrading.datasets import BarStore, Partitions
from mntrading.params import CostParams, PortfolioParams
from mntrading.pipelines.backtesting.desk import Funding, exchange_limits
from mntrading.pipelines.common import header, intact, sealed
from mntrading.pipelines.deployment.books import bars_with_price, book_document, book_of, wanted_of

LOGGER = logging.getLogger(__name__)

_ORDERS: Final = "portfolio/latest_orders.json"
_ORDERS_FIX: Final = (
    "copy the newest file of portfolio/history to its place; or remove it and portfolio/paper_account.json, and "
    "another account begins"
)
_ACCOUNT: Final = "portfolio/paper_account.json"
_ACCOUNT_FIX: Final = "restore it from a backup, or run again once the next bar has closed"

TOTALS = ("fees", "slippage", "borrow", "turnover")


def settle_account(
    position_state: dict[str, Any],
    production_map: dict[str, Any],
    ohlcv_5m: BarStore,
    markets: dict[str, Any],
    funding_rates: Partitions,
    sizes: PortfolioParams,
    paper_account: dict[str, Any] | None,
    latest_orders: dict[str, Any] | None,
    paper_equity: Partitions,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """The account at the newest bar, and its equity by bar, a file a day.

    What was due is filled on the bar after its own with the production map's costs; then the account is held bar by
    bar. The same newest bar gives the same bytes, however often it is asked for.
    """
    bar_close = pd.Timestamp(position_state["as_of"])
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")
    before = _before(paper_account, latest_orders, bar_close)
    if before is None:
        book, totals = Book(sizes.capital), dict.fromkeys(TOTALS, 0.0)
        first = pd.DataFrame(
            [[sizes.capital, sizes.capital, *[0.0] * 6]],
            index=pd.DatetimeIndex([bar_close - step]).as_unit("ms"),
            columns=list(SETTLED_COLUMNS),
        )
        settled = Settled(book, first, (), ())
    else:
        opens = pd.date_range(pd.Timestamp(before["bar_close"]), bar_close - step, freq=step, unit="ms")
        costs = CostParams.model_validate(production_map["costs"])
        held = book_of(before["book"])
        orders = tuple(Order(**{k: v for k, v in order.items() if k != "id"}) for order in before["orders"])
        due = Due(held, wanted_of(before["wanted"], held), orders, before["prices"])
        bars = _stretch(due, opens, ohlcv_5m, production_map, costs, markets, funding_rates)
        settled = settle(due, bars, exchange_limits(markets), charges_a_bar(costs, pd.Timedelta(1, unit="D") / step))
        totals = {name: before["totals"][name] + float(settled.bars[name].sum()) for name in TOTALS}
    last = settled.bars.iloc[-1]
    document = sealed({
        **header(bar_close, {"position_state": position_state, "production_map": production_map}, {"portfolio": sizes}),
        "bar_close": bar_close,
        "before": before,
        "book": book_document(settled.book),
        "equity": float(last["equity"]),
        "gross": float(last["gross"]),
        "net": float(last["net"]),
        "totals": totals,
        "fills": [{"time": time, **asdict(trade)} for time, trade in settled.fills],
        "off": list(settled.off),
    })  # fmt: skip
    LOGGER.info("paper account: equity %.2f, %d fills", document["equity"], len(settled.fills))
    return document, _by_day(settled.bars, paper_equity)


def _before(
    paper_account: Mapping[str, Any] | None, latest_orders: Mapping[str, Any] | None, bar_close: pd.Timestamp
) -> dict[str, Any] | None:
    """What there was to settle from ahead of this bar; what the bar's first call settled from, asked for again.

    Raises
    ------
    ArtifactError
        One of the two is missing, and the other does not tell what was due; or the one that does was altered.
    """
    if paper_account is not None and pd.Timestamp(paper_account["bar_close"]) == bar_close:
        found: dict[str, Any] | None = intact(paper_account, _ACCOUNT, _ACCOUNT_FIX)["before"]
        return found
    if latest_orders is None:
        if paper_account is None:
            return None
        raise ArtifactError(
            "is missing, and the account goes on from it",
            where=_ORDERS,
            fix=_ORDERS_FIX,
        )
    intact(latest_orders, _ORDERS, _ORDERS_FIX)
    if pd.Timestamp(latest_orders["bar_close"]) >= bar_close:
        raise ArtifactError(
            f"is not of the bar of the newest orders, {latest_orders['bar_close']}: what was due before is not known",
            where=_ACCOUNT,
            fix=_ACCOUNT_FIX,
        )
    return {name: latest_orders[name] for name in ("bar_close", "book", "wanted", "orders", "prices", "totals")}


def _stretch(
    due: Due,
    opens: pd.DatetimeIndex,
    ohlcv_5m: BarStore,
    production_map: Mapping[str, Any],
    costs: CostParams,
    markets: Mapping[str, Any],
    funding_rates: Partitions,
) -> Stretch:
    """The bars since, of everything the account holds or trades."""
    step = pd.Timedelta(timeframe_ms(ohlcv_5m.timeframe), unit="ms")
    symbols = sorted({*due.book.units(), *due.wanted.units()})
    bars = {symbol: bars_with_price(ohlcv_5m, symbol, opens[0], opens[-1] + step) for symbol in symbols}
    by_time = {symbol: rows.set_index("timestamp") for symbol, rows in bars.items()}

    def columns(of: Mapping[str, Any]) -> pd.DataFrame:
        return pd.DataFrame(of, index=opens, columns=symbols, dtype="float64")

    funding = None
    if costs.carry == "funding":
        rates = {symbol: Funding(markets, funding_rates, costs).of(symbol) for symbol in symbols}
        funding = columns({s: 0.0 if own is None else due_rates(own, opens) for s, own in rates.items()})
    closes = {s: rows["close"].reindex(rows.index.union(opens)).ffill().reindex(opens) for s, rows in by_time.items()}
    return Stretch(
        columns({s: rows[production_map["fill_at"]].reindex(opens) for s, rows in by_time.items()}),
        # without any bar the last price there is is the one the orders were made with
        columns({s: known.fillna(due.prices[s]) if s in due.prices else known for s, known in closes.items()}),
        columns({s: usual_volume(rows, opens) for s, rows in bars.items()}),
        funding,
    )


def _by_day(bars: pd.DataFrame, stored: Partitions) -> dict[str, pd.DataFrame]:
    """The account's rows by UTC day, with those that a day's file holds from before."""
    out = {}
    for day, rows in bars.groupby(pd.DatetimeIndex(bars.index).floor("D")):
        name = f"{day:%Y-%m-%d}"
        if name in stored:
            old = stored[name]
            rows = pd.concat([old.loc[old.index < rows.index[0]], rows])
        out[name] = rows.rename_axis("timestamp")
    return out
