"""JSON Schemas of the stored artefacts, kept in the package as ``mntrading/schemas/<name>.json``."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.resources
import json
import re
from typing import Any, Final

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry, Resource
from referencing.exceptions import NoSuchResource
from referencing.jsonschema import DRAFT202012

from mntrading.core.errors import ArtifactError, ParameterError

_PACKAGE: Final = "mntrading.schemas"
_NAME: Final = re.compile(r"[a-z0-9_]+")
_SHOWN: Final = 100

_formats: Final = FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or dt.datetime.fromisoformat(value).tzinfo is not None


@_formats.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(dt.date.fromisoformat(value))


def schema_text(name: str) -> str:
    """Text of a schema of the package.

    Raises
    ------
    ParameterError
        The name is not a bare name, or there is no such schema.
    """
    file = importlib.resources.files(_PACKAGE).joinpath(f"{name}.json")
    if not _NAME.fullmatch(name) or not file.is_file():
        raise ParameterError(f"unknown schema {name!r}, expected the name of a file in {_PACKAGE}")
    return file.read_text("utf-8")


@functools.cache
def validator(name: str) -> Draft202012Validator:
    """Validator of a schema of the package; ``$ref`` reaches other schemas of it and nothing else."""
    schema = json.loads(schema_text(name))
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ParameterError(f"schema {name!r} is no JSON Schema: {error.message}") from error
    registry: Registry[Any] = Registry(retrieve=_retrieve)  # type: ignore[call-arg]
    return Draft202012Validator(schema, registry=registry, format_checker=_formats)


def check_document(document: object, schema: str, *, place: str = "") -> None:
    """Raise ``ArtifactError`` if a document breaks a schema of the package.

    The message names the JSON path, the value there and what was expected.

    Parameters
    ----------
    document
        Plain JSON data.
    schema
        Bare name of the schema.
    place
        What to put before the JSON path, such as ``"line 3: "``.
    """
    error = best_match(validator(schema).iter_errors(document))
    if error is not None:
        raise ArtifactError(f"{place}{_complaint(error)} (schema {schema})")


def _retrieve(uri: str) -> Resource[Any]:
    name = uri.rsplit("/", 1)[-1].removesuffix(".json")
    try:
        return DRAFT202012.create_resource(json.loads(schema_text(name)))
    except ParameterError as error:
        raise NoSuchResource(uri) from error


def _complaint(error: ValidationError) -> str:
    path, rule, wanted = error.json_path, error.validator, error.validator_value
    if rule == "required":
        return f"{path} has no {error.message.split(' is a required')[0]}, expected the keys {wanted}"
    if rule == "additionalProperties" and wanted is False:
        known = sorted(error.schema.get("properties", {}))  # type: ignore[union-attr]
        return f"{path} has keys outside its schema: {error.message}; expected {known}"
    phrases = {
        "type": f"type {wanted}",
        "enum": f"one of {wanted}",
        "const": f"{wanted!r}",
        "minimum": f"at least {wanted}",
        "maximum": f"at most {wanted}",
        "exclusiveMinimum": f"more than {wanted}",
        "exclusiveMaximum": f"less than {wanted}",
        "pattern": f"text like {wanted}",
        "format": f"a {wanted}",
    }
    expected = phrases.get(str(rule), f"{rule} {wanted}")
    return f"{path} is {_shown(error.instance)}, expected {expected}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
