"""Forms from a JSON schema: which fields there are, what may be entered, and what of it is sent.

Only what differs from the environment's values is sent, so that a run without changes is a run without parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from jsonschema import Draft202012Validator

Kind = Literal["integer", "number", "boolean", "choice", "choices", "numbers", "text", "json"]
Path = tuple[str, ...]

_UNITS: Final = {
    "bps": "bps", "days": "days", "hours": "hours", "bars": "bars", "seconds": "s", "z": "in σ", "rate": "fraction",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One field of a form.

    Parameters
    ----------
    path
        Keys that lead to it.
    kind
        What is entered: a whole number, a number, yes or no, one of a list, several of a list, numbers separated by
        commas, text, or JSON where it is nothing simpler.
    value
        What it is without a change; None only where ``nullable``.
    nullable
        Whether it may be left empty.
    choices
        What may be chosen.
    low, high
        Bounds, inclusive; None where there is none.
    help
        What it is and may be, in words.
    """

    path: Path
    kind: Kind
    value: Any
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    help: str = ""

    @property
    def label(self) -> str:
        """Its name as a reader has it, with its unit."""
        words = self.path[-1].split("_")
        unit = _UNITS.get(words[-1], "") if len(words) > 1 else ""
        if unit in ("bps", "days", "hours", "bars", "s"):
            words = words[:-1]
        name = " ".join(words)
        shown = name[:1].upper() + name[1:]
        return f"{shown} ({unit})" if unit else shown

    @property
    def group(self) -> str:
        """The group within its block; empty for the block's own fields."""
        return " · ".join(part.replace("_", " ") for part in self.path[1:-1])


def entries_of(schema: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The fields of a form in the schema's order: those that the schema describes and that have a value.

    Parameters
    ----------
    schema
        Of an object of objects, with ``$defs``.
    values
        What each is without a change.
    """
    return tuple(_walk(schema, schema, values, ()))


def _walk(root: Mapping[str, Any], schema: Mapping[str, Any], values: Mapping[str, Any], path: Path) -> Iterator[Entry]:
    for name, given in _resolved(root, schema).get("properties", {}).items():
        if name not in values:
            continue
        part, nullable = _without_null(root, given)
        if "properties" in part and isinstance(values[name], Mapping):
            yield from _walk(root, part, values[name], (*path, name))
        else:
            yield _entry(root, part, nullable, (*path, name), values[name], str(given.get("description") or ""))


def _entry(
    root: Mapping[str, Any], part: Mapping[str, Any], nullable: bool, path: Path, value: Any, said: str
) -> Entry:
    low, high = _bound(part, "minimum", "exclusiveMinimum"), _bound(part, "maximum", "exclusiveMaximum")
    kind, choices = _kind(root, part)
    if kind == "integer":
        low = low if "exclusiveMinimum" not in part else part["exclusiveMinimum"] + 1
        high = high if "exclusiveMaximum" not in part else part["exclusiveMaximum"] - 1
    words = " · ".join(text for text in (said, _range_words(part), "may be left empty" if nullable else "") if text)
    return Entry(path, kind, value, nullable, choices, low, high, f"`{'.'.join(path)}` {words}".strip())


def _kind(root: Mapping[str, Any], part: Mapping[str, Any]) -> tuple[Kind, tuple[Any, ...]]:
    if "enum" in part:
        return "choice", tuple(part["enum"])
    if "const" in part:
        return "choice", (part["const"],)
    kind = part.get("type")
    if kind in ("integer", "number", "boolean"):
        return kind, ()
    if kind == "string":
        return "text", ()
    if kind == "array":
        items = _resolved(root, part["items"]) if "items" in part else {}
        if "enum" in items:
            return "choices", tuple(items["enum"])
        if items.get("type") in ("number", "integer"):
            return "numbers", ()
    return "json", ()


def _resolved(root: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in part:
        found: Any = root
        for key in part["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        part = {**found, **{key: value for key, value in part.items() if key != "$ref"}}
    return part


def _without_null(root: Mapping[str, Any], part: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """A schema without the choice of null, and whether there was one."""
    part = _resolved(root, part)
    if "anyOf" not in part:
        return part, part.get("type") == "null"
    options = [_resolved(root, one) for one in part["anyOf"]]
    left = [one for one in options if one.get("type") != "null"]
    nullable = len(left) < len(options)
    rest = {key: value for key, value in part.items() if key != "anyOf"}
    return ({**left[0], **rest} if len(left) == 1 else {**rest, "any": left}), nullable


def _bound(part: Mapping[str, Any], inclusive: str, exclusive: str) -> float | None:
    found = part.get(inclusive, part.get(exclusive))
    return None if found is None else found


def _range_words(part: Mapping[str, Any]) -> str:
    words = [
        f"{word} {part[key]:g}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"),
                          ("exclusiveMaximum", "below"))
        if key in part and abs(part[key]) < 1e6
    ]  # fmt: skip
    return " ".join(words)


def shown(entry: Entry) -> Any:
    """A field's value in the form it is entered in: text for numbers in a row and for JSON."""
    if entry.kind == "numbers" and entry.value is not None:
        return ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in entry.value)
    if entry.kind == "json":
        return json.dumps(entry.value)
    return entry.value


def parsed(entry: Entry, entered: Any) -> Any:
    """A field's value from what was entered.

    Raises
    ------
    ValueError
        It can't be read, in words.
    """
    if entry.kind in ("numbers", "text") and isinstance(entered, str) and not entered.strip() and entry.nullable:
        return None
    if entered is None or (entry.kind == "json" and not str(entered).strip()):
        if not entry.nullable:
            raise ValueError(f"{'.'.join(entry.path)} can't be left empty")
        return None
    try:
        if entry.kind == "numbers":
            return [_number(part) for part in str(entered).split(",") if part.strip()]
        if entry.kind == "json":
            return json.loads(entered)
    except ValueError as error:
        raise ValueError(f"{'.'.join(entry.path)} is not readable: {entered}") from error
    if entry.kind == "integer":
        return int(entered)
    if entry.kind == "number":
        # a whole number stays one where the environment's value is one, so that nothing seems to have changed
        same = isinstance(entry.value, int) and float(entered) == entry.value
        return entry.value if same else float(entered)
    return list(entered) if entry.kind == "choices" else entered


def _number(text: str) -> int | float:
    value = float(text)
    return int(text) if text.strip().lstrip("+-").isdigit() else value


def changes(entries: Sequence[Entry], entered: Mapping[Path, Any]) -> dict[str, Any]:
    """What differs from the environment, nested as a request has it.

    Raises
    ------
    ValueError
        Something entered can't be read.
    """
    body: dict[str, Any] = {}
    for entry in entries:
        value = parsed(entry, entered[entry.path])
        if value == entry.value:
            continue
        place = body
        for key in entry.path[:-1]:
            place = place.setdefault(key, {})
        place[entry.path[-1]] = value
    return body


def problems(schema: Mapping[str, Any], body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the schema says against a request: pointers and messages."""
    found = sorted(Draft202012Validator(schema).iter_errors(body), key=lambda error: list(map(str, error.path)))
    return [("/".join(("", "parameters", *(str(part) for part in error.path))), error.message) for error in found]


def flat(body: Mapping[str, Any], path: Path = ()) -> list[tuple[str, Any]]:
    """Dotted names and values of a nested request."""
    out: list[tuple[str, Any]] = []
    for key, value in body.items():
        here = (*path, key)
        out += flat(value, here) if isinstance(value, Mapping) else [(".".join(here), value)]
    return out
