"""The parameters a request may set, made from the frozen blocks: some fields, each within bounds, and nothing else.

No storage, source, path, address, class name or free text is among them: every string is one of a list, or an id in
hexadecimal. A value is checked twice: alone, by its field's own type and bounds and those that keep a run's cost within
reason; and in its block, merged with the environment's values, by the block's own rules.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from mntrading.params import BLOCKS, Block

_CYCLE: Final = (
    "schedule", "screening", "feature_engineering", "modelling", "backtest", "statistics", "benchmarks", "robustness",
    "champions", "portfolio", "reporting",
)  # fmt: skip

PIPELINES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "short_cycle": (
        "Newest bars of the pairs in production, signals, account, orders and report",
        ("screening", "backtest", "statistics", "portfolio", "production", "monitoring", "reporting"),
    ),
    "full_cycle": (
        "Everything from bars to orders: screen, fit, backtest, choose champions, promote, trade, report",
        (*_CYCLE, "production", "monitoring"),
    ),
    "research": ("Everything up to champions and the research report; touches nothing that is live", _CYCLE),
    "ingestion": ("Newest bars of the universe", ()),
    "screening": ("Cointegrated pairs of every formation window, and their bars", ("schedule", "screening")),
    "feature_engineering": ("Features and labels of every pair", ("feature_engineering",)),
    "modelling": ("Models of every fold", ("feature_engineering", "modelling")),
    "backtesting": (
        "Walk-forward backtest of pairs and portfolio",
        ("feature_engineering", "backtest", "statistics", "benchmarks", "robustness", "champions", "portfolio"),
    ),
    "deployment": (
        "Champions, promotion, signals and orders from what is stored",
        ("screening", "feature_engineering", "backtest", "champions", "portfolio", "production", "monitoring"),
    ),
    "reporting": (
        "Reports and tear sheets from what is stored",
        ("screening", "feature_engineering", "backtest", "statistics", "portfolio", "reporting"),
    ),
    "promote": ("Champions into production", ("feature_engineering", "backtest", "champions", "production")),
    "promote_preview": (
        "What promotion would change; changes nothing",
        ("feature_engineering", "backtest", "champions", "production"),
    ),
    "promote_challenger": (
        "Challengers into production, where their record in shadow keeps every rule",
        ("production",),
    ),
    "promote_challenger_preview": ("What that would change, and the rules; changes nothing", ("production",)),
    "rollback": ("The production map before, or one by its id", ("production",)),
}
"""By pipeline: what it does, and the blocks a request may set fields of."""

UNSAFE: Final = frozenset({
    "screening.universe.excluded_bases",
    "feature_engineering.features.include",
    "modelling.search.space",
    "reporting.title",
})  # fmt: skip
"""Fields of those blocks that take free text."""

_MOST: Final[dict[str, float]] = {
    "max_lag": 100,
    "johansen_lags": 50,
    "kpss_lags": 500,
    "n_windows": 50,
    "max_pairs": 500,
    "n_reported": 1_000,
    "top_k": 1_000,
    "lag_features": 100,
    "n_splits": 20,
    "trials": 100,
    "n_groups": 12,
    "n_test_groups": 6,
    "permutation_rows": 100_000,
    "max_iter": 10_000,
    "n_estimators": 1_000,
    "rounds": 2_000,
    "num_leaves": 256,
    "max_depth": 32,
    "n_blocks": 64,
    "n_boot": 20_000,
    "n_challengers": 100,
    "n_table_rows": 1_000,
    "seed": 2**31 - 1,
    "placebo_seed": 2**31 - 1,
}
"""Upper bounds by a field's name, of those whose size is what a run costs."""

_MOST_INT: Final = 1_000_000
_MOST_FLOAT: Final = 1e9
_MOST_ITEMS: Final = 12

Values = dict[str, Any]


class Subset(BaseModel):
    """Base of what a request may set: fields that are there win, the others keep the environment's values."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@cache
def model_of(pipeline: str) -> type[Subset]:
    """The model of the parameters that a request for a pipeline may set."""
    fields: dict[str, Any] = {
        name: _field(_subset(BLOCKS[name], name), f"Block {name}") for name in PIPELINES[pipeline][1]
    }
    name = "".join(part.title() for part in pipeline.split("_"))
    return create_model(f"{name}Parameters", __base__=Subset, __doc__=f"Parameters of {pipeline}.", **fields)


def settable(pipeline: str, blocks: Mapping[str, Block]) -> Values:
    """The environment's values of what a request for a pipeline may set, nested like the parameters files."""
    return {
        name: _values(blocks[name].model_dump(mode="json"), name) for name in PIPELINES[pipeline][1] if name in blocks
    }


def checked(given: Values, blocks: Mapping[str, Block]) -> list[tuple[str, str]]:
    """What is wrong with values, each alone fine, once they stand among the environment's: pointers and messages."""
    wrong = []
    for name, values in given.items():
        merged = _merged(blocks[name].model_dump(mode="json"), values)
        try:
            BLOCKS[name].model_validate(merged)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False, include_context=False):
                place = "/".join(str(part) for part in (name, *one["loc"]))
                wrong.append((f"/parameters/{place}", str(one["msg"]).removeprefix("Value error, ")))
    return wrong


@cache
def _subset(block: type[BaseModel], path: str) -> type[Subset]:
    fields: dict[str, Any] = {}
    for name, info in block.model_fields.items():
        if f"{path}.{name}" in UNSAFE:
            continue
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields[name] = _field(_subset(annotation, f"{path}.{name}"), None)
        else:
            fields[name] = _field(_bounded(annotation, info, name), None)
    title = "".join(part.title() for part in path.replace("_", ".").split("."))
    made: type[Subset] = create_model(f"{title}Subset", __base__=Subset, __doc__=block.__doc__, **fields)
    return made


def _field(annotation: Any, description: str | None) -> tuple[Any, Any]:
    """A field that may be left out, which its schema does not call a default."""
    return annotation, Field(default=None, description=description, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _bounded(annotation: Any, info: FieldInfo, name: str) -> Any:
    """A field's type with its own constraints, and with bounds wherever it has none."""
    bounded = _within(annotation, name, _bounds(info.metadata))
    for one in info.metadata:
        bounded = Annotated[bounded, one]
    return bounded


def _within(annotation: Any, name: str, known: frozenset[str]) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *metadata = arguments
        bounded = _within(inner, name, known | _bounds(metadata))
        for one in metadata:
            bounded = Annotated[bounded, one]
        return bounded
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_within(one, name, known) for one in arguments)]  # noqa: UP007 - of a tuple
    if origin is tuple:
        inside = tuple(one if one is ... else _within(one, name, frozenset()) for one in arguments)
        made: Any = tuple.__class_getitem__(inside)
        return Annotated[made, Field(strict=False, max_length=_MOST_ITEMS if ... in arguments else None)]
    if origin is Literal or annotation in (bool, type(None)):
        return annotation
    if annotation is int:
        return _at_most(int, int(_MOST.get(name, _MOST_INT)), known)
    if annotation is float:
        return _at_most(float, _MOST_FLOAT, known)
    if annotation is str and "pattern" in known:
        return annotation
    raise TypeError(f"{name} is of {annotation}, which no request may set")


def _at_most(kind: Any, most: float, known: frozenset[str]) -> Any:
    bounded = kind if "upper" in known else Annotated[kind, Field(le=most)]
    return bounded if "lower" in known else Annotated[bounded, Field(ge=-most)]


def _bounds(metadata: typing.Iterable[Any]) -> frozenset[str]:
    """Which bounds constraints set: upper, lower, pattern."""
    return frozenset(_names(metadata))


def _names(metadata: typing.Iterable[Any]) -> Iterator[str]:
    for one in metadata:
        if isinstance(one, FieldInfo):
            yield from _names(one.metadata)
        for attribute, bound in (
            ("le", "upper"),
            ("lt", "upper"),
            ("ge", "lower"),
            ("gt", "lower"),
            ("pattern", "pattern"),
        ):
            if getattr(one, attribute, None) is not None:
                yield bound


def _values(values: Values, path: str) -> Values:
    return {
        name: _values(value, f"{path}.{name}") if isinstance(value, dict) else value
        for name, value in values.items()
        if f"{path}.{name}" not in UNSAFE
    }


def _merged(values: Values, given: Values) -> Values:
    return values | {
        name: _merged(values[name], value) if isinstance(value, dict) else value for name, value in given.items()
    }
