"""What a netted book of pairs is traded on: prices, usual volumes and funding rates over the trading windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mntrading.core import portfolio
from mntrading.core.engine_inputs import due_rates, usual_volume
from mntrading.core.lines import signals_of
from mntrading.core.roster import Roster
from mntrading.core.types import Pair, slug
from mntrading.datasets import BarStore, Partitions
from mntrading.params import BacktestParams, CostParams, PortfolioParams


def exchange_limits(markets: Mapping[str, Any]) -> dict[str, portfolio.Limits]:
    """Lot sizes and smallest notionals by symbol."""
    return {
        symbol: portfolio.Limits(rules["lot"] or 0.0, rules["min_notional"] or 0.0)
        for symbol, rules in markets["symbols"].items()
    }


@dataclass(frozen=True)
class BookBars:
    """Matrices (bar × symbol) of every symbol on a roster, from the first trading window to the end of the last.

    ``liquidity`` and ``funding`` are None where no cost needs them.
    """

    close: pd.DataFrame
    fills: Mapping[str, pd.DataFrame]
    liquidity: pd.DataFrame | None
    funding: pd.DataFrame | None
    limits: Mapping[str, portfolio.Limits]

    @classmethod
    def of(
        cls,
        ohlcv_5m: BarStore,
        roster: Roster,
        markets: Mapping[str, Any],
        funding_rates: Partitions,
        costs: CostParams,
    ) -> BookBars:
        """The matrices of a roster; without rows where there is no trading window or no symbol."""
        limits = exchange_limits(markets)
        symbols = [symbol for symbol in roster.symbols if symbol in ohlcv_5m]
        if not roster.completed or not symbols:
            nothing = pd.DataFrame(index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp"))
            return cls(nothing, {"open": nothing, "close": nothing}, nothing, nothing, limits)
        start, end = roster.completed[0].fold.formation_end, roster.completed[-1].fold.trading_end
        close, opened = (ohlcv_5m.wide(column, symbols, start, end) for column in ("close", "open"))
        index = pd.DatetimeIndex(close.index)
        liquidity = funding = None
        if costs.impact_bps > 0.0:
            usual = {symbol: usual_volume(ohlcv_5m[symbol], index) for symbol in symbols}
            liquidity = pd.DataFrame(usual, index=index)
        if costs.carry == "funding":
            due = {symbol: due_rates(_rates(symbol, markets, funding_rates), index) for symbol in symbols}
            funding = pd.DataFrame(due, index=index)
        return cls(close, {"open": opened, "close": close}, liquidity, funding, limits)

    @property
    def index(self) -> pd.DatetimeIndex:
        """Bar opens."""
        return pd.DatetimeIndex(self.close.index)

    def trade(
        self,
        trades: Mapping[str, pd.DataFrame],
        members: Mapping[str, Sequence[Pair]],
        backtest: BacktestParams,
        sizes: PortfolioParams,
    ) -> portfolio.PortfolioResult:
        """The members' trades as one netted book."""
        return portfolio.simulate(
            signals_of(trades, members, self.index, backtest.strategy), self.close, self.fills[backtest.fill_at],
            self.limits, sizes, backtest.costs, liquidity=self.liquidity, funding=self.funding,
        )  # fmt: skip


def _rates(symbol: str, markets: Mapping[str, Any], funding_rates: Partitions) -> pd.Series:
    """Funding rates of a symbol's perpetual by time; empty where it has none, as no pair of it is traded then."""
    perpetual = markets["symbols"].get(symbol, {}).get("perpetual")
    if perpetual is None or slug(perpetual) not in funding_rates:
        return pd.Series(dtype="float64", index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]"))
    rates: pd.Series = funding_rates[slug(perpetual)].set_index("timestamp")["rate"]
    return rates
