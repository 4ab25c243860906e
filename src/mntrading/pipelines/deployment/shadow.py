"""The shadow: production with challengers in it, on paper, by the functions that production runs by.

It begins as a copy of production's state and account, so that whatever differs later is the challengers' doing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Final, TypeGuard

import pandas as pd

from mntrading.core.challenge import Comparison, compare, rules
from mntrading.core.errors import ArtifactError, BarDataError
from mntrading.datasets import KEPT, DatedPartitions, Kept, Partitions, StoredModel, Unavailable
from mntrading.datasets.storage import content_hash
from mntrading.kernels import code_stamp
from mntrading.params import BacktestParams, ChampionParams, FeatureParams, ProductionParams
from mntrading.pipelines.common import header, intact, number, numbers, sealed, stamp_of
from mntrading.pipelines.deployment import production_log as log
from mntrading.pipelines.deployment.changes import diff
from mntrading.pipelines.deployment.promotion import entries_of, freeze, lined_up, stands

LOGGER = logging.getLogger(__name__)

RECORD: Final = "portfolio/shadow/_record.json"
OFF: Final = Unavailable("it is off (production.shadow.enabled)", trouble=False)
_NOTHING: Final = Unavailable("there is no map in shadow yet: kedro run --pipelines promote", trouble=False)
_NO_CHALLENGER: Final = Unavailable("the registry has no challenger that is not in production", trouble=False)
_TAKEN: Final = Unavailable("its challengers are in production; the next promotion names others", trouble=False)

_DIFFERS: Final = ("side", "units_dependent", "units_independent")


def freeze_shadow(
    champion_registry: dict[str, Any],
    pair_models: Partitions,
    features: FeatureParams,
    backtest: BacktestParams,
    production: ProductionParams,
    champions: ChampionParams,
    production_map: dict[str, Any],
    shadow_log: list[dict[str, Any]] | None,
    run_record: dict[str, Any],
) -> tuple[dict[str, StoredModel] | Kept, list[dict[str, Any]] | Kept, dict[str, Any] | Kept]:
    """The map production would be with challengers of the registry in it; models, log and map as promotion has them.

    Challengers on trial stay while none of them has become a champion, was taken in or has anything but evidence or a
    place against it; then the registry's best take the places of those that left, and another record begins. The same
    registry and production give the same bytes.
    """
    if not production.shadow.enabled:
        return KEPT, KEPT, KEPT
    if production_map["inputs"]["champion_registry"] != content_hash(champion_registry):
        raise ArtifactError(
            "production is not of this registry, and the shadow would be",
            where="models/registry.json",
            fix="kedro run --pipelines promote",
        )
    lines = log.checked(shadow_log, log.SHADOW)
    there = [entry["pair_id"] for entry in production_map["pairs"]]
    on_trial = lines[-1]["challengers"] if lines else []
    wanted = _challengers(champion_registry, there, on_trial)[: production.shadow.max_challengers]
    lineup = lined_up(champion_registry, there, wanted, champions)
    document, models = freeze(
        champion_registry, lineup.pairs, pair_models, features, backtest, production, code_stamp()
    )
    lines = log.appended(
        lines, "shadow", document, diff(production_map, document), run_record,
        challengers=lineup.challengers, replaced=lineup.replaced, production_map_id=production_map["id"],
    )  # fmt: skip
    LOGGER.info("shadow map %s: production with %s", document["id"][:12], ", ".join(lineup.challengers) or "nothing")
    return models, lines, document


def _challengers(registry: Mapping[str, Any], there: Sequence[str], on_trial: Sequence[str]) -> list[str]:
    """Those on trial where all of them stand; else those that do, and the registry's best after them."""
    entries = entries_of(registry)
    standing = [pair_id for pair_id in on_trial if pair_id not in there and stands(registry, pair_id)]
    if standing and len(standing) == len(on_trial):
        return standing
    named = [pair_id for pair_id, entry in entries.items() if entry["challenger"] and pair_id not in there]
    return list(dict.fromkeys([*standing, *named]))


def open_shadow(
    shadow_map: dict[str, Any] | None,
    shadow_log: list[dict[str, Any]] | None,
    shadow_record: dict[str, Any] | None,
    production_map: dict[str, Any],
    position_state: dict[str, Any],
    paper_account: dict[str, Any],
    latest_orders: dict[str, Any],
    production: ProductionParams,
) -> tuple[Any, Any, Any]:
    """What the shadow goes on from: its own state, account and orders, or production's where its record begins.

    Production's documents of this very bar hold what there was before it, so that the shadow steps this bar too. A
    record that no cycle has finished begins again.
    """
    lines = log.checked(shadow_log, log.SHADOW)
    idle = None
    if not production.shadow.enabled:
        idle = OFF
    elif shadow_map is None or not lines:
        idle = _NOTHING
    elif not lines[-1]["challengers"]:
        idle = _NO_CHALLENGER
    elif shadow_map["id"] == production_map["id"]:
        idle = _TAKEN
    if idle is not None:
        LOGGER.info("no challenger runs in shadow: %s", idle.why)
        return idle, idle, idle
    begins = not _continues(shadow_record, lines[-1], paper_account)
    LOGGER.info(
        "shadow, on paper from here: production with %s%s", ", ".join(lines[-1]["challengers"]),
        "; their record begins" if begins else "",
    )  # fmt: skip
    return (position_state, paper_account, latest_orders) if begins else (KEPT, KEPT, KEPT)


def _continues(
    record: Mapping[str, Any] | None, line: Mapping[str, Any], paper_account: Mapping[str, Any]
) -> TypeGuard[Mapping[str, Any]]:
    """Whether a stored record is of the challengers on trial, and of the account that production has now."""
    if record is None or set(whole(record)["challengers"]) != set(line["challengers"]):
        return False
    begun_anew = paper_account["before"] is None
    return not begun_anew or pd.Timestamp(record["since"]) == pd.Timestamp(paper_account["bar_close"])


def whole(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stored record, held to its id."""
    return intact(record, RECORD, "remove it: another record begins with the next kedro run --pipelines short_cycle")


def keep_record(
    shadow_log: list[dict[str, Any]],
    shadow_record: dict[str, Any] | None,
    shadow_state: dict[str, Any],
    shadow_account: dict[str, Any],
    shadow_equity: Partitions,
    shadow_orders: DatedPartitions,
    shadow_monitoring: dict[str, Any],
    paper_account: dict[str, Any],
    paper_equity: Partitions,
    order_history: DatedPartitions,
    production: ProductionParams,
) -> dict[str, Any]:
    """The challengers' record beside production over the same bars, and which rules of promotion it keeps.

    The same newest bar gives the same bytes, however often it is asked for.

    Raises
    ------
    BarDataError
        The record is of a later bar.
    """
    line, bar_close = log.checked(shadow_log, log.SHADOW)[-1], pd.Timestamp(shadow_state["as_of"])
    known = shadow_record if _continues(shadow_record, line, paper_account) else None
    since = _shared_until(paper_account, bar_close) if known is None else pd.Timestamp(known["since"])
    before = None if known is None else _before(known, bar_close)
    start = since if before is None else pd.Timestamp(before["as_of"])
    trades = {
        name: Counter({} if before is None else before["trades"][name]) + _closed(history, start, bar_close)
        for name, history in (("champion", order_history), ("challenger", shadow_orders))
    }
    mine, theirs = (_equity(equity, since) for equity in (shadow_equity, paper_equity))
    step = pd.Timestamp(shadow_account["bar_close"]) - mine.index[-1]
    shared = theirs.loc[theirs.index < since]
    if shared.empty:
        raise ArtifactError(
            f"has no bar ahead of {since}, when the record begins",
            where="portfolio/paper_equity",
            fix=f"restore it from a backup, or remove {RECORD}: another record begins",
        )
    base = float(shared.iloc[-1])
    found = compare(theirs, mine, base=base, since=since, step=step)
    own = {pair_id: trades["challenger"][pair_id] for pair_id in line["challengers"]}
    doubts = _doubts(line["challengers"], shadow_state, shadow_monitoring)
    checked = rules(found, own, doubts, production.shadow)
    made_from = {"position_state": shadow_state, "paper_account": shadow_account, "champion": paper_account}
    LOGGER.info(
        "shadow: gap %.2f%% in %.1f days, %d of %d rules hold", found.gap * 100, found.n_days,
        sum(rule.holds for rule in checked), len(checked),
    )  # fmt: skip
    return sealed({
        **header(bar_close, made_from, {"shadow": production.shadow}),
        "map_id": shadow_state["map_id"],
        "production_map_id": line["production_map_id"],
        "challengers": line["challengers"],
        "replaced": line["replaced"],
        "since": since,
        "before": before,
        "trades": {name: dict(sorted(counts.items())) for name, counts in trades.items()},
        "figures": {
            **numbers(asdict(found)),
            "since": since,
            "until": bar_close,
            "base": base,
            "trades": own,
            "n_trades_champion": trades["champion"].total(),
            "n_trades_challenger": trades["challenger"].total(),
        },
        "doubts": doubts,
        "rules": [{**asdict(rule), "value": number(rule.value), "limit": number(rule.limit)} for rule in checked],
        "ready": all(rule.holds for rule in checked),
    })  # fmt: skip


def figures_of(record: Mapping[str, Any]) -> Comparison:
    """The comparison a stored record tells of."""
    names = Comparison.__dataclass_fields__
    return Comparison(**{n: float("nan") if record["figures"][n] is None else record["figures"][n] for n in names})


def _shared_until(paper_account: Mapping[str, Any], bar_close: pd.Timestamp) -> pd.Timestamp:
    """Close of the last bar of the account that a record which begins on this bar has begun from."""
    told = pd.Timestamp(paper_account["bar_close"])
    if told < bar_close or paper_account["before"] is None:
        return told
    return pd.Timestamp(paper_account["before"]["bar_close"])


def _before(record: Mapping[str, Any], bar_close: pd.Timestamp) -> dict[str, Any] | None:
    """What was counted ahead of this bar; what the bar's first call went on from, asked for again."""
    written = pd.Timestamp(record["as_of"])
    if written > bar_close:
        raise BarDataError(
            f"the record is of {written}, ahead of the newest bar at {bar_close}",
            where=RECORD,
            fix="check the market's clock (kedro run --tags ingest), or remove the file: another record begins",
        )
    if written == bar_close:
        found: dict[str, Any] | None = record["before"]
        return found
    return {"as_of": record["as_of"], "trades": record["trades"]}


def _closed(history: DatedPartitions, start: pd.Timestamp, end: pd.Timestamp) -> Counter[str]:
    """Trades of an account that were closed from the book of one bar to that of another, by pair."""
    first, last = stamp_of(start), stamp_of(end)
    books = [
        {row["pair_id"]: tuple(row[name] for name in _DIFFERS) for row in history[stamp]["book"]["holdings"]}
        for day in history.days
        if f"{start:%Y%m%d}" <= day <= f"{end:%Y%m%d}"
        for stamp in history.of_day(day)
        if first <= stamp <= last
    ]
    return Counter(
        pair_id for held, then in pairwise(books) for pair_id, units in held.items() if then.get(pair_id) != units
    )


def _equity(stored: Partitions, since: pd.Timestamp) -> pd.Series:
    """Equity by bar, from the last day before ``since`` on."""
    first = f"{since:%Y-%m-%d}"
    days = sorted(stored)
    earlier = [day for day in days if day < first]
    found: pd.Series = pd.concat([stored[day]["equity"] for day in [*earlier[-1:], *(d for d in days if d >= first)]])
    return found


def _doubts(challengers: Sequence[str], state: Mapping[str, Any], monitoring: Mapping[str, Any]) -> list[str]:
    told = [f"{name}: {', '.join(state['doubts'][name])}" for name in challengers if name in state["doubts"]]
    return told if monitoring["level"] != "reducing" else [*told, f"monitoring: {monitoring['reason']}"]
