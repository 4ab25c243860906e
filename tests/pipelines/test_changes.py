"""What differs between two production maps."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from mntrading.pipelines.deployment.changes import Change, diff


def entry(pair_id: str, entry_z: float = 2.0, model: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"pair_id": pair_id, "rule": {"entry_z": entry_z, "exit_z": 0.5}, "model": model}


def map_of(id_: str, *pairs: dict[str, Any], fee_rate: float = 0.001, **more: Any) -> dict[str, Any]:
    return {"id": id_, "as_of": "x", "inputs": {}, "costs": {"fee_rate": fee_rate}, "pairs": list(pairs), **more}


def test_pairs_enter_leave_and_stay_and_each_changed_field_is_named() -> None:
    model = {"sha256": "a" * 64, "threshold": None}
    before = map_of("m1", entry("A__B"), entry("C__D", model=model), entry("E__F"))
    after = map_of("m2", entry("G__H"), entry("E__F"), entry("C__D", 2.5, model | {"threshold": 0.6}), fee_rate=0.002)
    found = diff(before, after)
    assert (found.before, found.after) == ("m1", "m2")
    assert (found.entered, found.left, found.stayed) == (("G__H",), ("A__B",), ("C__D", "E__F"))
    assert found.changed == {"C__D": {"model.threshold": Change(None, 0.6), "rule.entry_z": Change(2.0, 2.5)}}
    assert found.settings == {"costs.fee_rate": Change(0.001, 0.002)}
    assert found.document()["changed"]["C__D"]["rule.entry_z"] == {"from": 2.0, "to": 2.5}


def test_a_model_that_comes_or_goes_is_one_change() -> None:
    model = {"sha256": "a" * 64}
    found = diff(map_of("m1", entry("A__B")), map_of("m2", entry("A__B", model=model)))
    assert found.changed == {"A__B": {"model": Change(None, model)}}
    back = diff(map_of("m2", entry("A__B", model=model)), map_of("m1", entry("A__B")))
    assert back.changed == {"A__B": {"model": Change(model, None)}}


def test_before_the_first_map_every_pair_enters_and_no_setting_changes() -> None:
    found = diff(None, map_of("m1", entry("A__B")))
    assert (found.before, found.entered, found.settings) == (None, ("A__B",), {})


def test_where_a_map_comes_from_is_no_change_and_a_time_is_its_text() -> None:
    before = map_of("m1", expires="2025-01-01T00:00:00Z")
    later = {**before, "id": "m2", "as_of": "y", "inputs": {"champion_registry": "b"}}
    found = diff(before, later | {"expires": pd.Timestamp("2025-01-01", tz="UTC")})
    assert (dict(found.changed), dict(found.settings)) == ({}, {})
    other = diff(before, later | {"expires": pd.Timestamp("2025-01-02", tz="UTC")})
    assert list(other.settings) == ["expires"]


def test_in_words_every_pair_and_every_setting_has_a_line() -> None:
    before = map_of("1" * 64, entry("A__B"), entry("C__D"), entry("E__F"))
    after = map_of("2" * 64, entry("G__H"), entry("E__F"), entry("C__D", 2.5), fee_rate=0.002)
    head, *lines = diff(before, after).lines()
    assert head.startswith(f"production map {'1' * 12} -> {'2' * 12}: 1 pairs enter, 1 leave, 2 stay, 1 of them")
    assert lines == [
        "  + G__H",
        "  - A__B",
        "  = E__F",
        "  ~ C__D: rule.entry_z 2.0 -> 2.5",
        "  costs.fee_rate: 0.001 -> 0.002",
    ]
    assert len(diff(before, before).lines()) == 1


pairs = st.dictionaries(
    st.sampled_from(["A__B", "C__D", "E__F", "G__H"]),
    st.tuples(st.sampled_from([1.5, 2.0]), st.sampled_from([None, {"sha256": "a"}, {"sha256": "b"}])),
)
maps = st.builds(
    lambda given, fee: map_of(
        repr((given, fee)), *(entry(pair_id, *rest) for pair_id, rest in given.items()), fee_rate=fee
    ),
    pairs,
    st.sampled_from([0.001, 0.002]),
)


@given(maps, maps)
def test_there_and_back_are_mirror_images_and_nothing_is_altered(before: dict[str, Any], after: dict[str, Any]) -> None:
    copies = deepcopy(before), deepcopy(after)
    there, back = diff(before, after), diff(after, before)
    assert (there.entered, there.left, there.stayed) == (back.left, back.entered, back.stayed)
    assert set(there.entered) | set(there.stayed) == {line["pair_id"] for line in after["pairs"]}
    turned = {
        pair: {path: Change(change.after, change.before) for path, change in fields.items()}
        for pair, fields in back.changed.items()
    }
    assert there.changed == turned
    assert not diff(after, after).changed
    assert not diff(after, after).settings
    assert (before, after) == copies
