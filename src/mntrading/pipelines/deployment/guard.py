"""What keeps the shadow out of production's way: a node whose trouble becomes its output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, Final

from kedro.pipeline import Node, Pipeline

from mntrading.core.errors import MNTradingError
from mntrading.datasets import Unavailable

LOGGER = logging.getLogger(__name__)


NAMESPACE: Final = "shadow"
_NONE: Final[Mapping[str, str]] = {}


def guarded(
    pipeline: Pipeline, own: Mapping[str, str] = _NONE, *, tags: str = NAMESPACE, after: str | None = None
) -> Pipeline:
    """The nodes of a pipeline once more, on entries of the shadow, telling trouble in place of their outputs.

    An input that is ``Unavailable`` is handed on as the outputs, so one trouble is told to the end of the line.

    Parameters
    ----------
    pipeline
        Nodes as they serve production.
    own
        The shadow's entries by those of production in whose place they stand. What nodes put out must then be guarded
        entries (``mntrading.datasets.Guarded``).
    tags
        Of the nodes, in place of those they have.
    after
        An entry that every node waits for, without being given it.
    """
    waits = () if after is None else (after,)

    def shadowed(node: Node) -> Node:
        outputs = [own.get(name, name) for name in node.outputs]
        return Node(
            _guarded(node.func, len(outputs), len(waits)),
            inputs=[*(own.get(name, name) for name in node.inputs), *waits],
            outputs=outputs if len(outputs) > 1 else outputs[0],
            name=node.name,
            namespace=NAMESPACE,
            tags=tags,
        )

    return Pipeline([shadowed(node) for node in pipeline.nodes])


def _guarded(function: Callable[..., Any], n_outputs: int, n_waited: int) -> Callable[..., Any]:
    def told(missed: Unavailable) -> Any:
        return missed if n_outputs == 1 else (missed,) * n_outputs

    def missed_of(inputs: tuple[Any, ...]) -> Unavailable | None:
        return next((value for value in inputs if isinstance(value, Unavailable)), None)

    if isgeneratorfunction(function):

        @wraps(function)
        def generated(*inputs: Any) -> Iterator[Any]:
            missed = missed_of(inputs)
            try:
                yield from (told(missed),) if missed else function(*inputs[: len(inputs) - n_waited])
            except MNTradingError as error:
                yield told(_trouble(function, error))
            except Exception as error:
                LOGGER.exception("shadow: %s failed", function.__name__)
                yield told(_trouble(function, error))

        return generated

    @wraps(function)
    def called(*inputs: Any) -> Any:
        missed = missed_of(inputs)
        try:
            return told(missed) if missed else function(*inputs[: len(inputs) - n_waited])
        except MNTradingError as error:
            return told(_trouble(function, error))
        except Exception as error:
            # whatever is wrong with the shadow, production's run goes on (docs/adr/0007)
            LOGGER.exception("shadow: %s failed", function.__name__)
            return told(_trouble(function, error))

    return called


def _trouble(function: Callable[..., Any], error: Exception) -> Unavailable:
    LOGGER.warning("shadow: %s: %s", function.__name__, error)
    return Unavailable(str(error) or type(error).__name__)
