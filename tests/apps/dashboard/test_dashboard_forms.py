"""Forms from JSON schemas: every field comes out as it went in, and only what was changed is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_api import SCHEMA, VALUES

from mntrading.apps.api import parameters
from mntrading.apps.dashboard import forms
from mntrading.apps.dashboard.services import project
from mntrading.configuration import parameters as configured


def _left(entries: tuple[forms.Entry, ...]) -> dict[forms.Path, Any]:
    return {entry.path: forms.shown(entry) for entry in entries}


@pytest.mark.parametrize("pipeline", sorted(parameters.PIPELINES))
def test_the_form_of_every_pipeline_left_as_it_is_changes_nothing(pipeline: str) -> None:
    blocks = configured(project() / "conf", None)
    schema, values = parameters.model_of(pipeline).model_json_schema(), parameters.settable(pipeline, blocks)
    entries = forms.entries_of(schema, values)
    assert forms.changes(entries, _left(entries)) == {}
    assert {name for name, _ in forms.flat(values) if _ != {}} == {".".join(entry.path) for entry in entries}
    assert forms.problems(schema, values) == []


def test_kinds_bounds_and_units_come_from_the_schema() -> None:
    found = {".".join(entry.path): entry for entry in forms.entries_of(SCHEMA, VALUES)}
    assert {name: entry.kind for name, entry in found.items()} == {
        "portfolio.kill_switch": "choice", "portfolio.top_k": "integer", "portfolio.target_volatility": "number",
        "portfolio.allow_short": "boolean", "backtest.strategy.entry_z": "number", "backtest.entry_steps": "numbers",
        "backtest.fill_at": "choice", "backtest.windows": "json",
    }  # fmt: skip
    assert (found["portfolio.top_k"].low, found["portfolio.top_k"].high) == (1, 1000)
    assert found["portfolio.target_volatility"].nullable
    assert found["backtest.strategy.entry_z"].group == "strategy"
    assert "Where a trade begins" in found["backtest.strategy.entry_z"].help


_NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))


@settings(deadline=None, max_examples=50)
@given(
    switch=st.sampled_from(["active", "reducing", "halted"]),
    top_k=st.integers(1, 1000),
    volatility=st.none() | st.floats(0.001, 10),
    short=st.booleans(),
    entry_z=st.floats(0.001, 10),
    steps=st.lists(_NUMBERS, max_size=12),
    windows=st.lists(st.lists(st.integers(1, 9999), min_size=2, max_size=2), max_size=3),
)
def test_what_is_entered_is_what_is_sent(
    switch: str, top_k: int, volatility: float | None, short: bool, entry_z: float, steps: list[float],
    windows: list[list[int]],
) -> None:  # fmt: skip
    wanted: dict[str, Any] = {
        "portfolio": {"kill_switch": switch, "top_k": top_k, "target_volatility": volatility, "allow_short": short},
        "backtest": {"strategy": {"entry_z": entry_z}, "entry_steps": steps, "fill_at": "open", "windows": windows},
    }
    entries = forms.entries_of(SCHEMA, VALUES)
    as_entered = {entry.path: forms.shown(entry) for entry in forms.entries_of(SCHEMA, wanted)}
    # a text field shows six digits: what it shows is what is meant
    as_entered["backtest", "entry_steps"] = ", ".join(map(str, steps))
    body = forms.changes(entries, as_entered)
    sent = dict(forms.flat(body))
    before, after = dict(forms.flat(VALUES)), dict(forms.flat(wanted))
    assert sent == {name: value for name, value in after.items() if value != before[name]}
    assert forms.problems(SCHEMA, body) == []


@pytest.mark.parametrize(
    ("path", "entered"),
    [(("backtest", "entry_steps"), "0.5, many"), (("backtest", "windows"), "[[1,"), (("portfolio", "top_k"), None)],
)
def test_what_can_not_be_read_is_refused_by_name(path: forms.Path, entered: Any) -> None:
    entries = forms.entries_of(SCHEMA, VALUES)
    with pytest.raises(ValueError, match=path[-1]):
        forms.changes(entries, _left(entries) | {path: entered})


def test_problems_point_at_the_field() -> None:
    ((pointer, _),) = forms.problems(SCHEMA, {"portfolio": {"top_k": 0}})
    assert pointer == "/parameters/portfolio/top_k"
