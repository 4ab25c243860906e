"""Rollback: to the map before or to one by its id, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_production import AB, CD, Desk, champion, registry_of
from pydantic import ValidationError

from mntrading.core.errors import ArtifactError, MNTradingError, ParameterError
from mntrading.datasets.storage import canonical_json, content_hash
from mntrading.params import ProductionParams
from mntrading.pipelines.deployment.production_log import promoted


@pytest.fixture
def desk(tmp_path: Path, params: Any) -> Desk:
    return Desk(tmp_path, params)


def promotions(desk: Desk, n: int) -> list[tuple[str, bytes]]:
    """Id and bytes of maps promoted one after another, each with a model of its own."""
    made = []
    for seed in range(n):
        map_ = desk.promote(registry_of(desk.params, [champion(AB, desk.trained(seed=seed)), champion(CD)]))
        made.append((map_["id"], desk.map_bytes()))
    return made


def test_the_map_before_comes_back_byte_by_byte_and_is_logged(desk: Desk) -> None:
    (first, whole), (second, _) = promotions(desk, 2)
    desk.rollback()
    assert desk.map_bytes() == whole
    line = desk.log.load()[-1]
    assert (line["number"], line["action"], line["map_id"], line["previous_map_id"]) == (3, "rollback", first, second)
    assert line["pairs_changed"] == [AB]
    assert len(desk.history.load()) == 2


def test_rollbacks_walk_further_back_and_end_at_the_first_map(desk: Desk) -> None:
    maps = promotions(desk, 3)
    for _, whole in reversed(maps[:-1]):
        desk.rollback()
        assert desk.map_bytes() == whole
    before = desk.files()
    with pytest.raises(ArtifactError, match="no map before the current one"):
        desk.rollback()
    assert desk.files() == before


def test_a_rollback_is_undone_by_naming_the_map(desk: Desk) -> None:
    (_, first), (second, whole) = promotions(desk, 2)
    desk.rollback()
    desk.rollback(second[:10])
    assert desk.map_bytes() == whole
    desk.rollback()
    assert desk.map_bytes() == first


def test_a_map_several_promotions_back_is_reached_by_its_id(desk: Desk) -> None:
    (first, whole), _, _ = promotions(desk, 3)
    desk.rollback(first)
    assert desk.map_bytes() == whole
    with pytest.raises(ArtifactError, match="no map before the current one"):
        desk.rollback()


def test_promotion_goes_on_after_a_rollback(desk: Desk) -> None:
    (first, _), (second, whole) = promotions(desk, 2)
    desk.rollback()
    desk.promote(registry_of(desk.params, [champion(AB, desk.trained(seed=1)), champion(CD)]))
    assert desk.map_bytes() == whole
    assert [line["map_id"] for line in desk.log.load()] == [first, second, first, second]
    desk.rollback()
    assert desk.log.load()[-1]["map_id"] == first


def test_the_current_map_named_is_restored_without_a_line(desk: Desk) -> None:
    ((id_, whole),) = promotions(desk, 1)
    (desk.root / "models/production_map.json").write_text("{}")
    desk.rollback(id_)
    assert desk.map_bytes() == whole
    assert len(desk.log.load()) == 1


def test_before_any_promotion_there_is_nothing_to_go_back_to(desk: Desk) -> None:
    with pytest.raises(ArtifactError, match=r"nothing has been promoted yet[\s\S]*full_cycle"):
        desk.rollback()
    assert desk.files() == {}


def test_unknown_and_ambiguous_ids_are_refused(desk: Desk) -> None:
    ids = [id_ for id_, _ in promotions(desk, 17)]  # of 17 two begin alike
    twice = next(id_[0] for id_ in ids if sum(other.startswith(id_[0]) for other in ids) > 1)
    before = desk.files()
    with pytest.raises(ParameterError, match="begins the ids of"):
        desk.rollback(twice)
    for unknown in ("0" * 64, ids[0][:20] + ("0" if ids[0][20] != "0" else "1")):
        with pytest.raises(ParameterError, match="is the id of no map"):
            desk.rollback(unknown)
    assert desk.files() == before


@pytest.mark.parametrize("of", ["model", "map"])
@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_what_is_missing_or_altered_is_not_put_into_production(desk: Desk, of: str, damage: str) -> None:
    (id_, _), _ = promotions(desk, 2)
    (asked, _) = desk.history.load()[id_[:16]]["pairs"]
    path = desk.root / (asked["model"]["uri"] if of == "model" else f"models/production_history/{id_[:16]}.json")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    before = desk.files()
    with pytest.raises(ArtifactError, match=r"missing|altered") as told:
        desk.rollback()
    assert path.name in str(told.value)
    assert desk.files() == before


def test_a_model_that_the_folder_does_not_know_is_missing(desk: Desk) -> None:
    promotions(desk, 2)
    for path in (desk.root / "models/production").iterdir():
        path.unlink()
    with pytest.raises(ArtifactError, match=r"a model of map .* is missing"):
        desk.rollback()


def test_a_map_altered_together_with_its_manifest_is_refused(desk: Desk) -> None:
    (id_, _), _ = promotions(desk, 2)
    map_ = desk.history.load()[id_[:16]]
    desk.history.save({id_[:16]: map_ | {"expires": "2099-01-01T00:00:00Z"}})
    with pytest.raises(ArtifactError, match="altered after promotion"):
        desk.rollback()


@pytest.mark.parametrize("block", ["features", "strategy", "costs"])
def test_a_map_whose_parameters_this_code_does_not_know_is_refused(desk: Desk, block: str) -> None:
    ((id_, _),) = promotions(desk, 1)
    before, map_ = desk.map_bytes(), desk.history.load()[id_[:16]]
    older = {key: value for key, value in map_.items() if key != "id"} | {block: {**map_[block], "gone": 1}}
    older["id"] = content_hash(older)
    desk.history.save({older["id"][:16]: older})
    with pytest.raises(ArtifactError, match=rf"{block}\.gone[\s\S]*check out"):
        desk.rollback(older["id"])
    assert desk.map_bytes() == before


def test_a_map_of_another_log_can_be_named(desk: Desk) -> None:
    """The log may be lost: history alone is enough to go to a map by its id."""
    (first, whole), _ = promotions(desk, 2)
    (desk.root / "models/production_log.jsonl").unlink()
    with pytest.raises(MNTradingError):
        desk.rollback()
    desk.rollback(first)
    assert desk.map_bytes() == whole
    assert desk.log.load()[0]["previous_map_id"] is None


@pytest.mark.parametrize(
    ("lines", "standing"),
    [
        ("", ""),
        ("+a", "a"),
        ("+a +b", "ab"),
        ("+a +b -a", "a"),
        ("+a +b +c -b -a", "a"),
        ("+a +b +c -a", "a"),
        ("+a +b -a +b", "ab"),
        ("+a +b -a -b", "ab"),  # a rollback undone
        ("+a +b +a", "aba"),
        ("+a +b +a -b", "ab"),
        ("+a +b +a +c -a", "aba"),
    ],
)
def test_what_stands_after_promotions_and_rollbacks(lines: str, standing: str) -> None:
    log = [{"action": "promote" if word[0] == "+" else "rollback", "map_id": word[1]} for word in lines.split()]
    assert "".join(promoted(log)) == standing


@given(st.integers(1, 8), st.data())
def test_k_rollbacks_after_n_promotions_lead_to_the_map_k_before(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n - 1))
    log = [{"action": "promote", "map_id": str(number)} for number in range(n)]
    for _ in range(k):
        log.append({"action": "rollback", "map_id": promoted(log)[-2]})
    assert promoted(log) == [str(number) for number in range(n - k)]


@pytest.mark.parametrize("given", [123456, 12e4, "0xab", "ABC", "", "latest"])
def test_an_id_is_text_of_hexadecimal_digits(given: Any, params: Any) -> None:
    shadow = params.production.shadow
    with pytest.raises(ValidationError, match="rollback_to"):
        ProductionParams(valid_days=1, rollback_to=given, shadow=shadow)
    assert ProductionParams(valid_days=1, rollback_to="12ab", shadow=shadow).rollback_to == "12ab"


def test_a_map_in_the_history_has_the_bytes_of_the_map(desk: Desk) -> None:
    ((id_, whole),) = promotions(desk, 1)
    assert canonical_json(desk.history.load()[id_[:16]]) == whole
