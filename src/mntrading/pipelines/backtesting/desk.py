"""What is traded and where: each pair's trading windows as its menu chose them, and the exchange books meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mntrading.core import account, menu, portfolio, sizing
from mntrading.core.backtest import PairResult, run_pair
from mntrading.core.bars import timeframe_ms
from mntrading.core.engine_inputs import Book, due_rates, usual_volume
from mntrading.core.roster import Roster, RosterFold, RosterPair
from mntrading.core.types import IntArray, Pair, slug
from mntrading.datasets import BarStore, Partitions
from mntrading.params import BacktestParams, CostParams, FeatureParams, PortfolioParams

_HOUR = pd.Timedelta(1, unit="h")


@dataclass(frozen=True)
class Funding:
    """Funding rates by symbol, where they are charged; else none."""

    markets: Mapping[str, Any]
    rates: Partitions
    costs: CostParams

    def of(self, symbol: str) -> pd.Series | None:
        """Rates of the symbol's perpetual by time; None where there are none or they are not charged."""
        perpetual = self.markets["symbols"].get(symbol, {}).get("perpetual")
        if self.costs.carry != "funding" or perpetual is None or slug(perpetual) not in self.rates:
            return None
        found: pd.Series = self.rates[slug(perpetual)].set_index("timestamp")["rate"]
        return found

    def both(self, pair: Pair) -> tuple[pd.Series, pd.Series] | None:
        """Those of both legs; None where one has none."""
        a, b = self.of(pair.dependent), self.of(pair.independent)
        return None if a is None or b is None else (a, b)


def book_of(sizes: PortfolioParams) -> Book:
    """What one pair is traded with: its share of the capital. Lots are the portfolio's matter, as they are live."""
    return Book(sizes.capital * sizes.pair_gross)


def market_of(pair: Pair, ohlcv_5m: BarStore, funding: Funding, sizes: PortfolioParams) -> menu.Market:
    """A pair's bars, notional and funding."""
    return menu.Market(ohlcv_5m[pair.dependent], ohlcv_5m[pair.independent], book_of(sizes), funding.both(pair))


@dataclass(frozen=True)
class Window:
    """One pair in one trading window, with the rule chosen for it and what its model said.

    Parameters
    ----------
    entry, row
        The fold and the pair on its roster.
    item
        Chosen windows and levels.
    market
        The pair's bars, notional and funding.
    frame
        Spread of the chosen windows on every bar of the trading window: a leg delisted in it ends in missing bars,
        which nobody knew before.
    told
        What the fold's model said of the bars; no rows where there is none.
    backtest
        With the chosen levels.
    """

    entry: RosterFold
    row: RosterPair
    item: menu.Item
    market: menu.Market
    frame: pd.DataFrame
    told: pd.DataFrame
    backtest: BacktestParams
    half_life_bars: float
    z_window_hours: float

    def trade(self, backtest: BacktestParams | None = None, *, shift_bars: int = 0) -> PairResult:
        """Trade the window; with other parameters or signals that come later (or, negative, earlier) where given.

        Entries, filled or not, have their ``sizing.RISK_COLUMNS``.
        """
        probability = None if self.told.empty else self.told["probability"]
        barred = self.told["barred"]
        if shift_bars:
            index = self.frame.index
            barred = barred.reindex(index, fill_value=False).astype("bool").shift(shift_bars, fill_value=False)
            probability = None if probability is None else probability.reindex(index).shift(shift_bars)
        frame = self.frame.shift(shift_bars)
        result = run_pair(
            self.market.bars_a, self.market.bars_b, frame, backtest or self.backtest,
            probability, threshold=None if self.told.empty else float(self.told["threshold"].iloc[0]), barred=barred,
            half_life_bars=self.half_life_bars, book=self.market.book, funding=self.market.funding,
        )  # fmt: skip
        trades, unfilled = (
            sizing.with_risk(
                entries, frame, self.market.bars_a, half_life_hours=self.row.half_life_hours,
                z_window_hours=self.z_window_hours,
            )
            for entries in (result.trades, result.unfilled)
        )  # fmt: skip
        return replace(result, trades=trades, unfilled=unfilled)


@dataclass(frozen=True)
class Desk:
    """Everything pairs are traded by in the backtest."""

    ohlcv_5m: BarStore
    predictions: Partitions
    pair_menus: Partitions
    roster: Roster
    funding: Funding
    backtest: BacktestParams
    features: FeatureParams
    sizes: PortfolioParams

    @property
    def step(self) -> pd.Timedelta:
        """From bar to bar."""
        return pd.Timedelta(timeframe_ms(self.ohlcv_5m.timeframe), unit="ms")

    def market(self, pair: Pair) -> menu.Market:
        """A pair's bars, notional and funding."""
        return market_of(pair, self.ohlcv_5m, self.funding, self.sizes)

    def windows(self, pair_id: str) -> Iterator[Window]:
        """The trading windows whose roster the pair was on, oldest first."""
        market = self.market(self.roster.pairs[pair_id])
        menus, given = self.pair_menus[pair_id], self.predictions[pair_id]
        for entry in self.roster.completed:
            row = next((row for row in entry.pairs if row.pair.id == pair_id), None)
            if row is None:
                continue
            item = menu.chosen_item(menus.loc[menus["fold"] == entry.fold.name])
            spread = market.spread((item.beta_window, item.z_window), self.features)
            yield Window(
                entry=entry,
                row=row,
                item=item,
                market=market,
                frame=spread.reindex(entry.fold.trading_grid(self.step)),
                told=given.loc[given["fold"] == entry.fold.name],
                backtest=self.backtest.model_copy(update={"strategy": item.applied(self.backtest.strategy)}),
                half_life_bars=row.half_life_hours / (self.step / _HOUR),
                z_window_hours=sizing.window_hours(item.z_window, self.step),
            )


@dataclass(frozen=True)
class Exchange:
    """What the netted book meets over all trading windows: prices, usual volume, funding and rules.

    Frames are of every symbol on a roster (time on the complete grid × symbol). ``fills``, by the price orders fill at,
    have the last known close where a symbol lacks a window's last bar, as pairs leave on it whatever there is.
    """

    close: pd.DataFrame
    fills: Mapping[str, pd.DataFrame]
    liquidity: pd.DataFrame
    funding: pd.DataFrame
    limits: Mapping[str, portfolio.Limits]

    @classmethod
    def of(cls, ohlcv_5m: BarStore, roster: Roster, markets: Mapping[str, Any], funding: Funding) -> Exchange:
        """The exchange of the roster's symbols, over its completed trading windows."""
        limits = exchange_limits(markets)
        if not roster.completed or not roster.symbols:
            nothing = pd.DataFrame(index=pd.DatetimeIndex([], dtype="datetime64[ms, UTC]", name="timestamp"))
            return cls(nothing, {"open": nothing, "close": nothing}, nothing, nothing, limits)
        start, end = roster.completed[0].fold.formation_end, roster.completed[-1].fold.trading_end
        symbols = [symbol for symbol in roster.symbols if symbol in ohlcv_5m]
        close, opened = (ohlcv_5m.wide(column, symbols, start, end) for column in ("close", "open"))
        index = pd.DatetimeIndex(close.index)
        ends = index.searchsorted([entry.fold.trading_end for entry in roster.completed]) - 1
        ends = ends[ends >= 0]
        rates = {symbol: funding.of(symbol) for symbol in symbols}
        return cls(
            close,
            {"open": _closing(opened, close, ends), "close": _closing(close, close, ends)},
            pd.DataFrame({symbol: usual_volume(ohlcv_5m[symbol], index) for symbol in symbols}, index=index),
            pd.DataFrame(
                {symbol: 0.0 if own is None else due_rates(own, index) for symbol, own in rates.items()}, index=index
            ),
            limits,
        )

    def trade(
        self, signals: Mapping[int, Sequence[portfolio.Signal]], sizes: PortfolioParams, backtest: BacktestParams
    ) -> account.PortfolioResult:
        """Net the signals into one book and trade it."""
        return account.simulate(
            signals, self.close, self.fills[backtest.fill_at], self.limits, sizes, backtest.costs,
            liquidity=self.liquidity, funding=self.funding,
        )  # fmt: skip


def _closing(fill: pd.DataFrame, close: pd.DataFrame, ends: IntArray) -> pd.DataFrame:
    """Prices orders fill at; in the rows ``ends`` the close before where there is none."""
    out = fill.copy()
    out.iloc[ends] = fill.iloc[ends].where(fill.iloc[ends].notna(), close.ffill().shift().iloc[ends])
    return out


def exchange_limits(markets: Mapping[str, Any]) -> dict[str, portfolio.Limits]:
    """Lot sizes, smallest notionals and whether a symbol can be sold short, by symbol.

    Of a symbol that is not listed any more nobody knows whether it could be: a backtest that took that for a no would
    know beforehand which symbols were to go.
    """
    return {
        symbol: portfolio.Limits(
            rules["lot"] or 0.0, rules["min_notional"] or 0.0, rules["shortable"] or not rules["listed"]
        )
        for symbol, rules in markets["symbols"].items()
    }
