"""The shadow: challengers frozen beside production, promoted on their record alone, and rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.pipeline import Node, Pipeline
from made_production import AB, AS_OF, CD, EF, Desk, challenger, champion, registry_of

from mntrading.core.errors import ArtifactError, MNTradingError
from mntrading.datasets import KEPT, DatedArtifactDataset, PartitionedArtifactDataset, Unavailable
from mntrading.datasets.storage import content_hash, plain
from mntrading.datasets.validation import check_document
from mntrading.pipelines.deployment import shadow
from mntrading.pipelines.deployment.challenge import promote_challenger, promote_challenger_preview
from mntrading.pipelines.deployment.guard import guarded
from mntrading.pipelines.deployment.production_log import taken

GH = "G-USDT__H-USDT"
LENIENT = {"min_days": 1, "min_trades": 1, "min_return_gap": 0.0, "min_gap_errors": None, "max_drawdown": 0.5}
GOOD = {
    "since": "2025-02-20T00:00:00Z", "until": AS_OF, "base": 100.0, "n_days": 4.0, "champion": 0.01, "challenger": 0.03,
    "gap": 0.02, "gap_errors": None, "champion_drawdown": 0.1, "challenger_drawdown": 0.1, "n_trades_champion": 3,
    "n_trades_challenger": 4,
}  # fmt: skip
STATE = {"as_of": AS_OF}


@pytest.fixture
def desk(tmp_path: Path, params: Any) -> Desk:
    return Desk(tmp_path, params)


def on_trial(desk: Desk, *challengers: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A registry with AB as its champion, promoted, with challengers in shadow; the registry and the shadow's map."""
    registry = registry_of(desk.params, [champion(AB, desk.trained())], rejected=list(challengers))
    desk.promote(registry)
    map_ = desk.freeze_shadow(registry, **changes)
    assert isinstance(map_, dict)
    return registry, map_


def recorded(desk: Desk, *, of: str | None = None, **figures: Any) -> dict[str, Any]:
    """A record of the challengers in shadow."""
    line = desk.shadow_log.load()[-1]
    trades = dict.fromkeys(line["challengers"], 1)
    record = {
        "schema_version": 1, "as_of": AS_OF, "inputs": {}, "parameters": {}, "map_id": of or line["map_id"],
        "production_map_id": line["production_map_id"], "challengers": line["challengers"],
        "replaced": line["replaced"], "since": GOOD["since"], "before": None,
        "trades": {"champion": {}, "challenger": trades}, "figures": GOOD | {"trades": trades} | figures,
        "doubts": figures.pop("doubts", []), "rules": [{"name": "min_days", "holds": True, "value": 4.0, "limit": 1.0,
                                                        "words": "4 of 1 days"}], "ready": True,
    }  # fmt: skip
    record["figures"].pop("doubts", None)
    record["id"] = content_hash(record)
    check_document(plain(record), "shadow_record")
    return record


def lenient(desk: Desk, **limits: Any) -> Any:
    own = desk.params.production
    return own.model_copy(update={"shadow": own.shadow.model_copy(update=LENIENT | limits)})


def take_in(desk: Desk, record: Any, state: dict[str, Any] | None = None, **limits: Any) -> dict[str, Any]:
    made = promote_challenger(
        desk.shadow_map.load(), desk.shadow_log.load(), record, state or STATE, desk.models.load(),
        desk.history.load(), desk.log.load(), lenient(desk, **limits), desk.record(),
    )  # fmt: skip
    for dataset, data in zip((desk.history, desk.log, desk.map), made, strict=True):
        dataset.save(data)
    return made[-1]


def preview(desk: Desk, record: Any, **limits: Any) -> dict[str, Any]:
    made = promote_challenger_preview(
        desk.shadow_map.load(), desk.shadow_log.load(), record, STATE, desk.models.load(), desk.history.load(),
        desk.log.load(), lenient(desk, **limits),
    )  # fmt: skip
    check_document(plain(made), "challenger_preview")
    return made


# --- what is frozen -------------------------------------------------------------------------------------------


def test_the_shadow_is_production_with_the_registrys_challengers(desk: Desk) -> None:
    model = desk.trained(threshold=0.7)
    registry = registry_of(
        desk.params, [champion(AB, model)],
        rejected=[challenger(CD, model=model), challenger(EF, "performance", flagged=False), challenger(GH, cluster=3)],
    )  # fmt: skip
    live = desk.promote(registry)
    map_ = desk.freeze_shadow(registry)
    assert isinstance(map_, dict)
    assert [entry["pair_id"] for entry in map_["pairs"]] == [AB, CD, GH]
    assert map_["pairs"][0] == live["pairs"][0]
    assert map_["pairs"][1]["model"]["sha256"] in desk.models.load()
    assert content_hash({key: value for key, value in map_.items() if key != "id"}) == map_["id"]
    (line,) = desk.shadow_log.load()
    assert (line["action"], line["challengers"], line["production_map_id"]) == ("shadow", [CD, GH], live["id"])
    assert line["pairs_added"] == [CD, GH]


def test_the_same_registry_promoted_again_changes_no_byte_of_the_shadow(desk: Desk) -> None:
    registry, _ = on_trial(desk, challenger(CD), challenger(EF))
    before = desk.files()
    desk.promote(registry)
    desk.freeze_shadow(registry)
    assert desk.files() == before


def test_a_challenger_in_want_of_a_place_takes_the_last_champions(desk: Desk) -> None:
    registry = registry_of(desk.params, [champion(AB), champion(CD)], rejected=[challenger(EF, "cap")])
    desk.promote(registry)
    map_ = desk.freeze_shadow(registry)  # all three are of one cluster, which has two places
    assert isinstance(map_, dict)
    assert [entry["pair_id"] for entry in map_["pairs"]] == [AB, EF]
    assert desk.shadow_log.load()[-1]["replaced"] == {EF: [CD]}


def test_at_most_so_many_challengers_are_tried_at_once(desk: Desk) -> None:
    _, map_ = on_trial(desk, challenger(CD, cluster=3), challenger(EF, cluster=4), max_challengers=1)
    assert [entry["pair_id"] for entry in map_["pairs"]] == [AB, CD]


def test_those_on_trial_stay_while_they_stand(desk: Desk) -> None:
    on_trial(desk, challenger(CD), max_challengers=1)
    _, map_ = on_trial(desk, challenger(EF), challenger(CD, flagged=False), max_challengers=1)
    assert [entry["pair_id"] for entry in map_["pairs"]] == [AB, CD]
    assert [line["challengers"] for line in desk.shadow_log.load()] == [[CD], [CD]]


@pytest.mark.parametrize("gone", ["performance", "champion", "roster"])
def test_others_follow_those_that_fall_out(desk: Desk, gone: str) -> None:
    on_trial(desk, challenger(CD), max_challengers=1)
    champions = [champion(AB, desk.trained())] + ([champion(CD)] if gone == "champion" else [])
    rejected = [challenger(EF)] + ([challenger(CD, "performance", flagged=False)] if gone == "performance" else [])
    registry = registry_of(desk.params, champions, rejected=rejected)
    desk.promote(registry)
    desk.freeze_shadow(registry, max_challengers=1)
    assert desk.shadow_log.load()[-1]["challengers"] == [EF]


def test_a_registry_without_challengers_leaves_the_shadow_with_none(desk: Desk) -> None:
    _, map_ = on_trial(desk)
    assert map_["id"] == desk.map.load()["id"]
    assert desk.shadow_log.load()[-1]["challengers"] == []


def test_a_shadow_that_is_off_leaves_every_file_as_it_is(desk: Desk) -> None:
    registry, _ = on_trial(desk, challenger(CD))
    before = desk.files()
    desk.freeze_shadow(registry, enabled=False)
    assert desk.files() == before


def test_a_shadow_of_another_registry_than_productions_is_refused(desk: Desk) -> None:
    on_trial(desk, challenger(CD))
    with pytest.raises(ArtifactError, match=r"production is not of this registry[\s\S]*promote"):
        desk.freeze_shadow(registry_of(desk.params, [], rejected=[challenger(EF)]))


# --- what the shadow goes on from -----------------------------------------------------------------------------


ACCOUNT = {"bar_close": AS_OF, "before": {}}
BEGINS = ({"state": 1}, ACCOUNT, {"orders": 1})


def opened(
    desk: Desk, record: Any, *, production_map: Any = None, account: dict[str, Any] = ACCOUNT, **changes: Any
) -> Any:
    own = desk.params.production
    production = own.model_copy(update={"shadow": own.shadow.model_copy(update=changes)})
    documents = ({"state": 1}, account, {"orders": 1})
    return shadow.open_shadow(
        desk.shadow_map.load(),
        desk.shadow_log.load(),
        record,
        production_map or desk.map.load(),
        *documents,
        production,
    )


def test_a_record_begins_with_productions_state_account_and_orders(desk: Desk) -> None:
    on_trial(desk, challenger(CD))
    assert opened(desk, None) == BEGINS
    other = recorded(desk) | {"challengers": [EF]}
    other["id"] = content_hash({key: value for key, value in other.items() if key != "id"})
    assert opened(desk, other) == BEGINS


def test_a_record_of_these_challengers_goes_on_with_what_the_shadow_has(desk: Desk) -> None:
    on_trial(desk, challenger(CD))
    assert opened(desk, recorded(desk)) == (KEPT, KEPT, KEPT)
    with pytest.raises(ArtifactError, match="altered"):
        opened(desk, recorded(desk) | {"since": AS_OF})


def test_a_record_begins_again_with_another_account_of_production(desk: Desk) -> None:
    on_trial(desk, challenger(CD))
    first = ACCOUNT | {"before": None}
    assert opened(desk, recorded(desk), account=first) == ({"state": 1}, first, {"orders": 1})
    # the first bar of both, asked for again
    assert opened(desk, recorded(desk), account=first | {"bar_close": GOOD["since"]}) == (KEPT, KEPT, KEPT)


def test_where_nothing_is_to_be_followed_that_is_no_trouble(desk: Desk) -> None:
    empty = Desk(desk.root / "empty", desk.params)
    assert opened(empty, None, production_map={"id": "0"}) == (shadow._NOTHING,) * 3
    _, map_ = on_trial(desk, challenger(CD))
    assert opened(desk, None, enabled=False) == (shadow.OFF,) * 3
    assert opened(desk, None, production_map=map_) == (shadow._TAKEN,) * 3
    on_trial(desk)
    assert opened(desk, None) == (shadow._NO_CHALLENGER,) * 3
    assert not shadow._NO_CHALLENGER.trouble


# --- what is counted ------------------------------------------------------------------------------------------


def test_trades_are_counted_from_book_to_book(tmp_path: Path) -> None:
    def book(*held: tuple[str, int, float]) -> dict[str, Any]:
        rows = [{"pair_id": p, "side": s, "units_dependent": u, "units_independent": -u} for p, s, u in held]
        return {"book": {"holdings": rows}}

    dataset = DatedArtifactDataset(path=str(tmp_path / "history"), format="json")
    dataset.save({
        "20250224T000000Z": book((AB, 1, 9.0)),  # before the record: its exit is not counted
        "20250224T000500Z": book((CD, 1, 2.0)),
        "20250224T001000Z": book((CD, -1, 2.0), (EF, 1, 1.0)),  # turned round
        "20250224T001500Z": book((CD, -1, 2.0)),  # EF closed
        "20250224T002000Z": book(),  # after it
    })  # fmt: skip
    start, end = pd.Timestamp("2025-02-24T00:05:00Z"), pd.Timestamp("2025-02-24T00:15:00Z")
    assert shadow._closed(dataset.load(), start, end) == {CD: 1, EF: 1}
    assert shadow._closed(dataset.load(), end, end) == {}


@dataclass
class Books:
    """Both accounts and their books, bar by bar, from one bar that they share."""

    desk: Desk
    equity: dict[str, list[float]] = field(default_factory=lambda: {"champion": [], "challenger": []})

    def closed(self, number: int) -> pd.Timestamp:
        return pd.Timestamp("2025-02-24T00:00:00Z") + number * pd.Timedelta(minutes=5)

    def bar(self, number: int, record: Any, *, champion: Any, challenger: Any) -> dict[str, Any]:
        """One more bar of equities and pairs held; its record."""
        made = {}
        for name, (worth, held) in (("champion", champion), ("challenger", challenger)):
            self.equity[name] = [*self.equity[name][:number], worth]
            root = self.desk.root / name
            opens = [self.closed(k) - pd.Timedelta(minutes=5) for k in range(number + 1)]
            equity = PartitionedArtifactDataset(path=str(root / "equity"), format="parquet", append=True)
            frame = pd.DataFrame(
                {"equity": self.equity[name]}, index=pd.DatetimeIndex(opens, name="timestamp").as_unit("ms")
            )
            equity.save({f"{day:%Y-%m-%d}": rows for day, rows in frame.groupby(frame.index.floor("D"))})
            history = DatedArtifactDataset(path=str(root / "history"), format="json")
            rows = [{"pair_id": p, "side": 1, "units_dependent": 1.0, "units_independent": -1.0} for p in held]
            history.save({f"{self.closed(number):%Y%m%dT%H%M%SZ}": {"book": {"holdings": rows}}})
            made[name] = (equity.load(), history.load())
        at = f"{self.closed(number):%Y-%m-%dT%H:%M:%SZ}"
        before = None if number == 0 else {"bar_close": f"{self.closed(number - 1):%Y-%m-%dT%H:%M:%SZ}"}
        state = {"as_of": at, "map_id": self.desk.shadow_map.load()["id"], "doubts": {AB: ["no bars"]}}
        account = {"bar_close": at, "before": before}
        found = plain(
            shadow.keep_record(
                self.desk.shadow_log.load(), record, state, {"bar_close": at}, *made["challenger"],
                {"level": "ok", "reason": ""}, account, *made["champion"], lenient(self.desk, min_days=0),
            )
        )  # fmt: skip
        check_document(found, "shadow_record")
        return dict(found)


def test_a_record_is_kept_bar_by_bar_and_the_same_for_a_bar_asked_for_again(desk: Desk) -> None:
    on_trial(desk, challenger(CD))
    books = Books(desk)
    first = books.bar(0, None, champion=(100.0, []), challenger=(100.0, []))
    assert (first["since"], first["figures"]["gap"], first["ready"]) == ("2025-02-24T00:00:00Z", 0.0, False)
    second = books.bar(1, first, champion=(100.0, [AB]), challenger=(101.0, [AB, CD]))
    third = books.bar(2, second, champion=(99.0, []), challenger=(103.0, [AB]))
    figures = third["figures"]
    assert (figures["champion"], figures["challenger"]) == pytest.approx((-0.01, 0.03))
    assert (figures["trades"], figures["n_trades_champion"], figures["n_trades_challenger"]) == ({CD: 1}, 1, 1)
    assert (third["since"], third["doubts"], third["ready"]) == (first["since"], [], True)
    assert books.bar(2, third, champion=(99.0, []), challenger=(103.0, [AB])) == third
    with pytest.raises(MNTradingError, match="ahead of the newest bar"):
        books.bar(1, third, champion=(100.0, []), challenger=(101.0, []))


def test_a_record_that_begins_later_begins_with_productions_last_bar(desk: Desk) -> None:
    on_trial(desk, challenger(CD))
    books = Books(desk)
    books.bar(0, None, champion=(100.0, []), challenger=(100.0, []))
    books.bar(1, None, champion=(200.0, []), challenger=(500.0, []))  # of others on trial
    begun = books.bar(2, None, champion=(202.0, []), challenger=(206.0, []))
    assert (begun["since"], begun["figures"]["base"]) == ("2025-02-24T00:05:00Z", 200.0)
    assert (begun["figures"]["champion"], begun["figures"]["challenger"]) == pytest.approx((0.01, 0.03))


# --- promotion on the record ----------------------------------------------------------------------------------


def test_challengers_with_a_good_record_are_taken_in_and_the_log_says_why(desk: Desk) -> None:
    _, map_ = on_trial(desk, challenger(CD), challenger(EF, cluster=5))
    shadow_bytes = (desk.root / "models/shadow_map.json").read_bytes()
    record = recorded(desk)
    assert take_in(desk, record) == map_
    assert desk.map_bytes() == shadow_bytes
    line = desk.log.load()[-1]
    assert (line["action"], line["challengers"]) == ("promote_challenger", [CD, EF])
    assert line["record"] == record["figures"]
    assert line["pairs_added"] == [CD, EF]


def test_a_rollback_takes_them_back_byte_by_byte(desk: Desk) -> None:
    registry, _ = on_trial(desk, challenger(CD))
    before, shadow_map = desk.map_bytes(), desk.shadow_map.load()
    take_in(desk, recorded(desk))
    desk.rollback()
    assert desk.map_bytes() == before
    assert taken(desk.log.load()) == ()
    desk.promote(registry)
    assert desk.map_bytes() == before
    assert desk.shadow_map.load() == shadow_map


def test_those_taken_in_stay_through_later_promotions_while_they_stand(desk: Desk) -> None:
    registry, map_ = on_trial(desk, challenger(CD))
    take_in(desk, recorded(desk))
    lines = len(desk.log.load())
    assert desk.promote(registry) == map_  # the same registry changes nothing
    assert len(desk.log.load()) == lines
    newer = registry_of(desk.params, [champion(AB, exit_z=0.4)], rejected=[challenger(CD), challenger(EF)])
    assert [entry["pair_id"] for entry in desk.promote(newer)["pairs"]] == [AB, CD]
    desk.freeze_shadow(newer)
    assert desk.shadow_log.load()[-1]["challengers"] == [EF]
    worse = registry_of(desk.params, [champion(AB)], rejected=[challenger(CD, "performance")])
    assert [entry["pair_id"] for entry in desk.promote(worse)["pairs"]] == [AB]
    # once out, another record is needed
    assert [entry["pair_id"] for entry in desk.promote(newer)["pairs"]] == [AB]


@pytest.mark.parametrize(
    ("figures", "limits", "says"),
    [
        ({}, {"min_days": 5}, "4.0 of 5 days (min_days)"),
        ({}, {"min_trades": 2}, rf"1 of 2 closed trades of {CD} (min_trades)"),
        ({"gap": 0.0}, {}, "(min_return_gap)"),
        ({"gap_errors": 0.5}, {"min_gap_errors": 0.6}, "(min_gap_errors)"),
        ({"challenger_drawdown": 0.51}, {}, "drawdown 51.0%, at most 50.0% (max_drawdown)"),
        ({"doubts": [f"{CD}: no bars"]}, {}, f"in doubt: {CD}: no bars (doubts)"),
    ],
)
def test_one_broken_rule_is_enough_to_refuse_with_nothing_changed(
    desk: Desk, figures: dict[str, Any], limits: dict[str, Any], says: str
) -> None:
    on_trial(desk, challenger(CD))
    record, before = recorded(desk, **figures), desk.files()
    with pytest.raises(ArtifactError) as told:
        take_in(desk, record, **limits)
    assert says in str(told.value)
    assert "_record.json" in str(told.value)
    assert "Next: kedro run --pipelines short_cycle" in str(told.value)
    assert str(told.value).count("(min_") + str(told.value).count("(max_") + str(told.value).count("(doubts)") == 1
    assert desk.files() == before
    seen = preview(desk, record, **limits)
    assert (seen["ready"], len(seen["broken"])) == (False, 1)
    assert desk.files() == before


def test_a_preview_says_what_promotion_then_does(desk: Desk) -> None:
    on_trial(desk, challenger(CD))
    seen = preview(desk, recorded(desk))
    assert (seen["ready"], seen["entered"], seen["broken"]) == (True, [CD], [])
    assert take_in(desk, recorded(desk))["id"] == seen["after"]


def refused(desk: Desk, says: str, record: Any, state: dict[str, Any] | None = None) -> None:
    before = desk.files()
    with pytest.raises(MNTradingError, match=says) as told:
        take_in(desk, record, state)
    assert "\nNext: " in str(told.value)
    assert desk.files() == before


def test_what_is_not_of_now_is_refused(desk: Desk) -> None:
    refused(desk, "no challenger has run in shadow", None)
    registry, _ = on_trial(desk, challenger(CD))
    refused(desk, "no challenger has run in shadow", None)
    refused(desk, "is damaged", Unavailable("is damaged"))
    refused(desk, "production is at 2025-02-25", recorded(desk), {"as_of": "2025-02-25T00:00:00Z"})
    refused(desk, "is of map 000000000000", recorded(desk, of="0" * 64))
    refused(desk, "altered", recorded(desk) | {"since": AS_OF})
    desk.promote(registry | {"champions": []})
    refused(desk, "was made beside map", recorded(desk))


def test_what_is_damaged_is_refused(desk: Desk) -> None:
    model = desk.trained()
    registry = registry_of(desk.params, [champion(AB)], rejected=[challenger(CD, model=model)])
    desk.promote(registry)
    map_ = desk.freeze_shadow(registry)
    assert isinstance(map_, dict)
    record = recorded(desk)
    file = desk.root / map_["pairs"][1]["model"]["uri"]
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    refused(desk, "a model of map", record)
    file.write_bytes(whole)
    desk.shadow_map.save(map_ | {"expires": "2099-01-01T00:00:00Z"})
    refused(desk, "altered", record)


def test_without_a_challenger_there_is_nothing_to_take_in(desk: Desk) -> None:
    on_trial(desk)
    with pytest.raises(ArtifactError, match="no challenger is in it"):
        take_in(desk, {"id": content_hash({})})


# --- what keeps it out of the way -----------------------------------------------------------------------------


def doubled(value: int) -> int:
    if value < 0:
        raise ArtifactError("is negative", where="value", fix="another one")
    return 2 * value


def split(value: int) -> tuple[int, float]:
    return value, 1 / value


def counted(value: int) -> Iterator[int]:
    yield 1
    yield 1 // value


def node(function: Any, outputs: Any, **more: Any) -> Any:
    (made,) = guarded(
        Pipeline([Node(function, inputs="a", outputs=outputs, name="n")]), {"a": "shadow_a"}, **more
    ).nodes
    return made


def test_a_guarded_node_does_what_its_function_does_on_entries_of_its_own() -> None:
    made = node(doubled, "b")
    assert (made.inputs, made.name, made.tags) == (["shadow_a"], "shadow.n", {"shadow"})
    assert made.func(2) == 4
    assert node(doubled, "b", after="c").func(2, "done") == 4
    assert list(node(counted, "b").func(1)) == [1, 1]


def test_trouble_takes_the_place_of_every_output() -> None:
    assert node(doubled, "b").func(-1) == Unavailable("value: is negative\nNext: another one")
    assert node(split, ["b", "c"]).func(0) == (Unavailable("division by zero"),) * 2
    assert list(node(counted, "b").func(0)) == [1, Unavailable("integer division or modulo by zero")]


def test_what_could_not_be_had_is_handed_on() -> None:
    missed = Unavailable("no map", trouble=False)
    assert node(doubled, "b").func(missed) == missed
    assert node(split, ["b", "c"]).func(missed) == (missed, missed)
    assert list(node(counted, "b").func(missed)) == [missed]
    assert node(doubled, "b", after="c").func(1, missed) == missed
