"""A short run of the fuzzing that `books.py` does at length, and that it sees what it is there to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from books import Build, fuzz

from mntrading.core.portfolio import Limits, Orders, build_orders


def test_no_generated_book_breaks_a_cap_an_identity_or_a_rule_of_the_exchange() -> None:
    counts = fuzz(300).counts
    assert counts["books"] >= 300
    assert counts["broken"] == 0
    assert min(counts[name] for name in ("entered", "refused", "left", "closed", "orders", "unsent")) > 0


def without(**values: object) -> Build:
    """A builder to which some parameters say something else."""

    def build(signals: Any, prices: Any, state: Any, limits: Any, params: Any, **options: Any) -> Orders:
        return build_orders(signals, prices, state, limits, params.model_copy(update=values), **options)

    return build


def ruled(**values: object) -> Build:
    """A builder to which the exchange's rules say something else."""

    def build(
        signals: Any, prices: Any, state: Any, limits: Mapping[str, Limits], *rest: Any, **options: Any
    ) -> Orders:
        other = {symbol: replace(rule, **values) for symbol, rule in limits.items()}
        return build_orders(signals, prices, state, other, *rest, **options)

    return build


def of_one_cluster_each(signals: Any, *rest: Any, **options: Any) -> Orders:
    result = build_orders([replace(signal, cluster=None) for signal in signals], *rest, **options)
    given = {signal.pair.id: signal.cluster for signal in signals}
    held = {
        name: replace(holding, cluster=given[name]) if name in result.hedge_errors else holding
        for name, holding in result.book.holdings.items()
    }
    return replace(result, book=replace(result.book, holdings=held))


def of_yesterday(signals: Any, prices: Any, state: Any, *rest: Any, **options: Any) -> Orders:
    return build_orders(signals, prices, replace(state, traded=0.0), *rest, **options)


def forgetful(*given: Any, **options: Any) -> Orders:
    result = build_orders(*given, **options)
    return replace(result, book=replace(result.book, unsent={}))


def one_legged(*given: Any, **options: Any) -> Orders:
    result = build_orders(*given, **options)
    return replace(result, orders=result.orders[:1])


def silent(*given: Any, **options: Any) -> Orders:
    return replace(build_orders(*given, **options), refused={})


def clinging(signals: Any, *rest: Any, **options: Any) -> Orders:
    return build_orders([s for s in signals if s.action != "exit"], *rest, **options)


MUTANTS: dict[str, Build] = {
    "symbol cap": without(max_symbol_weight=50.0),
    "gross cap": without(max_gross=50.0),
    "net cap": without(max_net=50.0),
    "cluster cap": of_one_cluster_each,
    "volatility target": without(volatility_target=None),
    "correlation": without(pair_correlation=0.0),
    "turnover budget": without(max_daily_turnover=None),
    "turnover of the day": of_yesterday,
    "hedge error": without(max_hedge_error=50.0),
    "top_k": without(top_k=50),
    "kill switch": without(kill_switch="active"),
    "shorts": without(allow_short=True),
    "shorts of one symbol": ruled(shortable=True),
    "lots": ruled(lot=0.0),
    "smallest orders": ruled(min_notional=0.0),
    "what is not sent": forgetful,
    "both legs": one_legged,
    "reasons": silent,
    "exits": clinging,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_builder_that_is_wrong_is_found_out(name: str) -> None:
    with pytest.raises(AssertionError):
        fuzz(1000, build=MUTANTS[name], shrink=False)
