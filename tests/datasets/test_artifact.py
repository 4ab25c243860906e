"""One stored file: crash safety, schemas, and what its errors say."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from kedro.io import DatasetError

from mntrading.core.errors import ArtifactError, ParameterError
from mntrading.datasets import ArtifactDataset, validation
from mntrading.datasets.storage import sha256

MADE_BY = "kedro run --pipelines screening"
SCHEMAS = {
    "orders": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["as_of", "orders"],
        "additionalProperties": False,
        "properties": {
            "as_of": {"type": "string", "format": "date-time"},
            "orders": {"type": "array", "items": {"$ref": "order.json"}},
        },
    },
    "order": {
        "type": "object",
        "required": ["side", "weight"],
        "properties": {"side": {"enum": ["buy", "sell"]}, "weight": {"type": "number", "maximum": 1}},
    },
    "elsewhere": {"$ref": "https://example.com/other.json"},
    "broken": {"type": "nothing"},
}


@pytest.fixture
def _schemas(monkeypatch):
    def text(name: str) -> str:
        if name not in SCHEMAS:
            raise ParameterError(f"unknown schema {name!r}")
        return json.dumps(SCHEMAS[name])

    monkeypatch.setattr(validation, "schema_text", text)
    validation.validator.cache_clear()
    yield
    validation.validator.cache_clear()


def _orders(**changes: object) -> dict:
    return {"as_of": "2024-01-01T00:00:00Z", "orders": [{"side": "buy", "weight": 0.5}], **changes}


def test_saved_value_comes_back_and_digest_is_of_its_bytes(tmp_path):
    dataset = ArtifactDataset(filepath=tmp_path / "pairs" / "roster.json", format="json")
    assert dataset.digest() is None
    assert not dataset.exists()
    dataset.save({"pairs": ["A__B"]})
    assert dataset.load() == {"pairs": ["A__B"]}
    assert dataset.exists()
    assert dataset.digest() == sha256((tmp_path / "pairs" / "roster.json").read_bytes())
    assert dataset.resolve_path() == f"{tmp_path}/pairs/roster.json"


def test_memory_filesystem_keeps_paths_apart(tmp_path):
    first = ArtifactDataset(filepath="memory://artifact/a/x.parquet", format="parquet")
    second = ArtifactDataset(filepath="memory://artifact/b/x.parquet", format="parquet")
    frame = pd.DataFrame({"x": [1.0]})
    first.save(frame)
    pd.testing.assert_frame_equal(first.load(), frame)
    assert not second.exists()
    assert first.resolve_path() == "memory:///artifact/a/x.parquet"
    with pytest.raises(ArtifactError, match=r"memory:///artifact/b/x\.parquet: does not exist"):
        second.load()


def test_missing_file_names_the_command_that_makes_it(tmp_path):
    dataset = ArtifactDataset(filepath=f"{tmp_path}/roster.json", format="json", made_by=MADE_BY)
    with pytest.raises(ArtifactError) as caught:
        dataset.load()
    assert str(caught.value) == f"{tmp_path}/roster.json: does not exist\nNext: {MADE_BY}"


def test_file_that_may_be_missing_loads_as_none(tmp_path):
    dataset = ArtifactDataset(filepath=f"{tmp_path}/x.json", format="json", missing_ok=True)
    assert dataset.load() is None
    dataset.save({"a": 1})
    assert dataset.load() == {"a": 1}


def test_a_damaged_file_that_may_be_missing_is_to_be_removed_first(tmp_path):
    path = tmp_path / "roster.json"
    path.write_bytes(b"{")
    dataset = ArtifactDataset(filepath=str(path), format="json", missing_ok=True, made_by=MADE_BY)
    with pytest.raises(ArtifactError) as caught:
        dataset.load()
    assert caught.value.fix == f"remove {path}, then: {MADE_BY}"


def test_missing_file_without_a_known_maker_says_no_more(tmp_path):
    with pytest.raises(ArtifactError, match=r"does not exist$"):
        ArtifactDataset(filepath=f"{tmp_path}/x", format="text").load()


@pytest.mark.parametrize(("format", "data"), [("json", b'{"a": '), ("parquet", b"PAR1"), ("model", b"PK")])
def test_cut_file_names_itself_and_the_command(tmp_path, format, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        ArtifactDataset(filepath=f"{tmp_path}/x", format=format, made_by=MADE_BY).load()
    assert caught.value.where == f"{tmp_path}/x"
    assert caught.value.fix == MADE_BY


def test_errors_reach_the_caller_unwrapped(tmp_path):
    dataset = ArtifactDataset(filepath=f"{tmp_path}/x.json", format="json")
    for act in (dataset.load, lambda: dataset.save({"a": float("nan")})):
        with pytest.raises(ArtifactError) as caught:
            act()
        assert not isinstance(caught.value, DatasetError)


def test_errors_of_others_stay_kedros(tmp_path):
    class Broken(ArtifactDataset):
        def load(self):
            raise RuntimeError("no idea")

    with pytest.raises(DatasetError, match=r"Failed while loading data from dataset.*\n?no idea"):
        Broken(filepath=f"{tmp_path}/x", format="text").load()
    with pytest.raises(DatasetError, match="Saving 'None'"):
        Broken(filepath=f"{tmp_path}/x", format="text").save(None)


def test_value_that_cannot_be_encoded_keeps_the_file_before(tmp_path):
    dataset = ArtifactDataset(filepath=f"{tmp_path}/x.json", format="json", made_by=MADE_BY)
    dataset.save({"a": 1})
    with pytest.raises(ArtifactError, match=r"x\.json: \$\.a\[0\] is nan") as caught:
        dataset.save({"a": [float("nan")]})
    assert caught.value.fix is None
    assert dataset.load() == {"a": 1}


def test_folder_in_place_of_the_file_is_no_missing_file(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ArtifactError, match="can't be reached: Is a directory"):
        ArtifactDataset(filepath=f"{tmp_path}/x", format="text").load()
    with pytest.raises(ArtifactError, match="can't be reached"):
        ArtifactDataset(filepath=f"{tmp_path}/x", format="text").save("new")
    assert not list((tmp_path).glob(".tmp-*"))


@pytest.mark.usefixtures("_schemas")
class TestSchema:
    def _dataset(self, tmp_path, schema: str = "orders", format: str = "json") -> ArtifactDataset:
        return ArtifactDataset(filepath=f"{tmp_path}/x", format=format, schema=schema, made_by=MADE_BY)

    def test_good_document_passes_both_ways(self, tmp_path):
        self._dataset(tmp_path).save(_orders(as_of=pd.Timestamp("2024-01-01", tz="UTC")))
        assert self._dataset(tmp_path).load() == _orders()

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (
                _orders(orders=[{"side": "hold", "weight": 0}]),
                r"\$\.orders\[0\]\.side is 'hold', expected one of",
            ),
            (
                _orders(orders=[{"side": "buy", "weight": 2}]),
                r"\$\.orders\[0\]\.weight is 2, expected at most 1",
            ),
            (_orders(orders=[{"side": "buy"}]), r"\$\.orders\[0\] has no 'weight', expected the keys"),
            (_orders(orders={}), r"\$\.orders is {}, expected type array"),
            (_orders(note=1), r"\$ has keys outside its schema.*'note'.*expected \['as_of', 'orders'\]"),
            (_orders(as_of="yesterday"), r"\$\.as_of is 'yesterday', expected a date-time"),
            (_orders(as_of="2024-01-01T00:00:00"), "expected a date-time"),
            (_orders(as_of=["x" * 500]), r"x…, expected type string"),
        ],
    )
    def test_bad_document_is_refused_on_save_and_on_load(self, tmp_path, document, message):
        dataset = self._dataset(tmp_path)
        dataset.save(_orders())
        with pytest.raises(ArtifactError, match=message) as caught:
            dataset.save(document)
        assert caught.value.fix is None
        assert dataset.load() == _orders()
        (tmp_path / "x").write_text(json.dumps(document))
        with pytest.raises(ArtifactError, match=message) as caught:
            dataset.load()
        assert caught.value.fix == MADE_BY

    def test_every_line_of_json_lines_is_held_to_the_schema(self, tmp_path):
        dataset = self._dataset(tmp_path, "order", "jsonl")
        dataset.save(_orders()["orders"])
        with pytest.raises(ArtifactError, match=r"line 2: \$ has no 'side'"):
            dataset.save([{"side": "buy", "weight": 1}, {"weight": 1}])

    def test_references_never_leave_the_package(self, tmp_path):
        with pytest.raises(DatasetError, match="other"):
            self._dataset(tmp_path, "elsewhere").save({})

    def test_schema_that_is_none_is_refused_at_once(self, tmp_path):
        for schema, format, message in (
            ("absent", "json", "unknown schema 'absent'"),
            ("broken", "json", "no JSON Schema"),
            ("orders", "parquet", "'parquet' has no schema"),
        ):
            with pytest.raises(ParameterError, match=message):
                self._dataset(tmp_path, schema, format)


@pytest.mark.parametrize("name", ["../core/x", "absent", "", "__init__", "Orders"])
def test_schemas_are_found_by_bare_name_only(name):
    with pytest.raises(ParameterError, match="unknown schema"):
        validation.schema_text(name)


def test_an_endpoint_without_a_protocol_is_refused_by_name():
    with pytest.raises(ParameterError, match="'localhost:9000' does not begin with http"):
        ArtifactDataset(filepath="s3://b/x.json", format="json", credentials={"endpoint_url": "localhost:9000"})
