"""What is refused of a production map, and which pairs of it are not entered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_production import AB, CD, Desk, champion, registry_of

from mntrading.core.errors import ArtifactError
from mntrading.datasets.storage import content_hash, plain
from mntrading.params import FeatureParams, StrategyParams
from mntrading.pipelines.deployment.production_map import check, doubts_by_entry, doubts_by_log


@pytest.fixture
def desk(tmp_path: Path, params: Any) -> Desk:
    return Desk(tmp_path, params)


def promoted(desk: Desk, *pairs: str) -> dict[str, Any]:
    model = desk.trained()
    made = desk.promote(registry_of(desk.params, [champion(pair_id, model) for pair_id in pairs]))
    return dict(plain(made))


def changed(document: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The map with other values, and the id of its content."""
    out = {key: value for key, value in (document | values).items() if key != "id"}
    return {**out, "id": content_hash(out)}


def test_a_promoted_map_is_taken_and_nothing_of_it_is_doubted(desk: Desk) -> None:
    document = promoted(desk, AB, CD)
    check(document, desk.log.load())
    assert doubts_by_log(document, desk.log.load()) == ()
    features, strategy = FeatureParams(**document["features"]), StrategyParams(**document["strategy"])
    assert [doubts_by_entry(entry, features, strategy) for entry in document["pairs"]] == [[], []]


def test_an_altered_map_is_refused_with_the_command_that_restores_the_one_of_the_log(desk: Desk) -> None:
    document = promoted(desk, AB)
    fix = rf"rollback --params production\.rollback_to={document['id'][:12]}"
    with pytest.raises(ArtifactError, match=rf"altered after promotion[\s\S]*{fix}"):
        check({**document, "fill_at": "close"}, desk.log.load())
    other = {**document, "fill_at": "close", "id": "0" * 64}
    with pytest.raises(ArtifactError, match=rf"altered after promotion[\s\S]*{fix}"):
        check(other, desk.log.load())
    assert desk.rollback(document["id"][:12]) == document


@pytest.mark.parametrize(
    ("block", "name", "value", "said"),
    [
        ("strategy", "entry_x", 1.0, "strategy.entry_x"),
        ("features", "beta_window", -1, "features.beta_window"),
        ("costs", "fee_rate", "free", "costs.fee_rate"),
    ],
)
def test_parameters_this_code_does_not_take_are_named(desk: Desk, block: str, name: str, value: Any, said: str) -> None:
    document = promoted(desk, AB)
    other = changed(document, **{block: document[block] | {name: value}})
    with pytest.raises(ArtifactError, match=rf"not one this code can trade by: {said}"):
        check(other, None)


def test_the_log_does_not_speak_for_a_map_of_another_id_and_is_not_believed_where_it_does_not_add_up(
    desk: Desk,
) -> None:
    first = promoted(desk, AB)
    second = promoted(desk, AB, CD)
    lines = desk.log.load()
    assert doubts_by_log(first, lines) == (
        f"the log of production says that map {second['id'][:12]} is live, not {first['id'][:12]}",
    )
    assert doubts_by_log(first, None) == ()
    (said,) = doubts_by_log(second, lines[1:])
    assert "can't be believed" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hedge": {"z_window": 7}}, "hedge.z_window is 7"),
        ({"hedge": {"price": "level"}}, "hedge.price is level"),
        ({"probability_threshold": 0.01}, "probability_threshold is 0.01"),
    ],
)
def test_an_entry_at_odds_with_its_rule_features_or_strategy_is_doubted(
    desk: Desk, change: dict[str, Any], said: str
) -> None:
    document = promoted(desk, AB)
    (entry,) = document["pairs"]
    other = {**entry, **{k: entry[k] | v if isinstance(v, dict) else v for k, v in change.items()}}
    features, strategy = FeatureParams(**document["features"]), StrategyParams(**document["strategy"])
    (doubt,) = doubts_by_entry(other, features, strategy)
    assert said in doubt
