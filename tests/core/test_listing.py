"""The listing rule: every reason hit once, and what is deliberately let through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from made_bars import changed

from mntrading.core.errors import ParameterError, SourceError
from mntrading.core.listing import REASONS, choose, quote_volume
from mntrading.params import ListingParams

THEN = pd.Timestamp("2025-01-01", tz="UTC")
RULE = ListingParams(
    quote="USDT", top_n=3, ranked_at=None, ranked_days=30, min_age_days=10, excluded_bases=("USDC", "wbtc"),
    leveraged_suffixes=("UP", "DOWN", "3L"),
)  # fmt: skip


@dataclass(frozen=True)
class Info:
    base: str
    quote: str | None = "USDT"
    active: bool = True
    listed_ms: int | None = None


def days_old(days: float) -> int:
    return int((THEN - pd.Timedelta(days, unit="D")).value // 1_000_000)


MARKETS = {
    "BTC/EUR": Info("BTC", "EUR"),
    "NAMELESS": Info("NAMELESS", None),
    "USDC/USDT": Info("USDC"),
    "WBTC/USDT": Info("WBTC"),
    "BTCUP/USDT": Info("BTCUP"),
    "btc3l/USDT": Info("btc3l"),
    "LATER/USDT": Info("LATER", listed_ms=days_old(-1)),
    "YOUNG/USDT": Info("YOUNG", listed_ms=days_old(9.9)),
    "UNSEEN/USDT": Info("UNSEEN"),
    "SILENT/USDT": Info("SILENT", listed_ms=days_old(99)),
    "SMALL/USDT": Info("SMALL"),
    "BTC/USDT": Info("BTC", listed_ms=days_old(10)),
    "JUP/USDT": Info("JUP"),
    "GONE/USDT": Info("GONE", active=False),
}
VOLUMES = dict.fromkeys(MARKETS, 5.0) | {"SILENT/USDT": 0.0, "SMALL/USDT": 1.0, "JUP/USDT": 9.0}
del VOLUMES["UNSEEN/USDT"]


def test_each_reason_stops_the_symbol_it_is_made_for() -> None:
    listing = choose(MARKETS, VOLUMES, RULE, THEN)
    assert listing.symbols == ("BTC/USDT", "GONE/USDT", "JUP/USDT")
    assert listing.rejected == {
        "BTC/EUR": "other quote currency", "NAMELESS": "other quote currency", "USDC/USDT": "excluded base",
        "WBTC/USDT": "excluded base", "BTCUP/USDT": "leveraged token", "btc3l/USDT": "leveraged token",
        "LATER/USDT": "not yet listed", "YOUNG/USDT": "too young", "UNSEEN/USDT": "not traded yet",
        "SILENT/USDT": "not traded yet", "SMALL/USDT": "below the top n",
    }  # fmt: skip
    assert tuple(listing.funnel) == (*REASONS, "passed")
    assert list(listing.funnel.values()) == [2, 2, 2, 1, 1, 2, 1, 3]


def test_a_coin_that_ends_like_a_leveraged_token_is_one_only_if_the_rest_is_a_coin() -> None:
    assert "JUP/USDT" in choose(MARKETS, VOLUMES, RULE, THEN).symbols
    listing = choose(MARKETS | {"J/EUR": Info("J", "EUR")}, VOLUMES, RULE, THEN)
    assert listing.rejected["JUP/USDT"] == "leveraged token"


def test_equal_volumes_are_ranked_by_symbol() -> None:
    markets = {name: Info(name) for name in ("C", "B", "A")}
    listing = choose(markets, dict.fromkeys(markets, 1.0), changed(RULE, top_n=2), THEN)
    assert listing.symbols == ("A", "B")


def test_where_nothing_is_ranked_coins_listed_later_are_taken_too() -> None:
    everything = changed(RULE, top_n=None, min_age_days=0)
    for volumes in (None, VOLUMES):
        assert {"LATER/USDT", "YOUNG/USDT", "UNSEEN/USDT"} <= set(choose(MARKETS, volumes, everything, THEN).symbols)
    of_age = choose(MARKETS, None, changed(everything, min_age_days=10), THEN).rejected
    assert (of_age["LATER/USDT"], of_age["YOUNG/USDT"]) == ("not yet listed", "too young")


def test_when_nothing_passes_the_error_shows_the_funnel_and_the_likely_cause() -> None:
    with pytest.raises(ParameterError, match="none of 14 symbols passes: 14 other quote currency") as caught:
        choose(MARKETS, VOLUMES, changed(RULE, quote="USD"), THEN)
    assert caught.value.where == "ingestion.listing"
    assert "ingestion.listing.quote" in str(caught.value.fix)


def test_a_market_without_symbols_is_an_error() -> None:
    with pytest.raises(SourceError, match="has no symbols"):
        choose({}, None, RULE, THEN)


def test_ranking_without_volumes_is_an_error() -> None:
    with pytest.raises(ParameterError, match="no volumes are known"):
        choose(MARKETS, None, RULE, THEN)


def test_quote_volume_leaves_out_what_is_not_finite() -> None:
    rows = np.array([[0, 1, 1, 1, 2.0, 10], [1, 1, 1, 1, np.nan, 10], [2, 1, 1, 1, 3.0, np.inf], [3, 1, 1, 1, 4, 1]])
    assert quote_volume(rows) == 24.0
    assert quote_volume(np.empty((0, 6))) == 0.0
