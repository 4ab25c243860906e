"""A market source of one's own, named by the dotted path of its class."""

from __future__ import annotations

import importlib
import inspect
from typing import Final

from mntrading.core.errors import MNTradingError, ParameterError
from mntrading.market.base import MarketSource
from mntrading.params import CustomParams

_LOADER: Final = "market.custom.loader"
_OPTIONS: Final = "market.custom.options"
_OWN: Final = ("identity", "load_markets", "fetch_ohlcv")  # what the protocol has no answer for
_METHODS: Final = ("load_markets", "fetch_ohlcv", "server_time", "timeframes_of", "fetch_funding_rates")
_INHERIT: Final = "let the class inherit from mntrading.market.MarketSource and define " + ", ".join(_OWN)


def load_custom(params: CustomParams) -> MarketSource:
    """Import the class the parameters name and call it with their options.

    Raises
    ------
    ParameterError
        No class is named, it can't be imported or called with these options, or what it makes is no market source.
    """
    if params.loader is None:
        raise ParameterError(
            "no class is named",
            where=_LOADER,
            fix="kedro run --params market.source=custom,market.custom.loader=my_package.my_module.MySource",
        )
    kind = _import_class(params.loader)
    source = _call(kind, params)
    _check_source(source, params.loader)
    return source


def _import_class(path: str) -> type:
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise ParameterError(
            f"{path!r} is no dotted path of a class",
            where=_LOADER,
            fix="write package, module and class, such as my_package.my_module.MySource",
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ParameterError(
            f"module {module_name!r} can't be imported: {_said(error)}",
            where=_LOADER,
            fix=f"put it into the project's src folder or install it, and try: python -c 'import {module_name}'",
        ) from error
    found = getattr(module, name, None)
    if found is None:
        there = sorted(key for key, value in vars(module).items() if inspect.isclass(value) and key[0] != "_")
        raise ParameterError(
            f"module {module_name!r} has no class {name!r}, it has {', '.join(there) or 'none at all'}",
            where=_LOADER,
            fix="correct the last part of the path",
        )
    if not inspect.isclass(found):
        raise ParameterError(
            f"{path} is a {type(found).__name__}, expected a class",
            where=_LOADER,
            fix="name a class; what it needs is given to it in market.custom.options",
        )
    return found


def _call(kind: type, params: CustomParams) -> MarketSource:
    """The class's instance; its own errors that say what to do next pass through."""
    try:
        source: MarketSource = kind(**params.options)
    except MNTradingError:
        raise
    except Exception as error:  # the options' values stay out of the text: one of them may be a key
        raise ParameterError(
            f"{params.loader} called with {', '.join(params.options) or 'no options'} fails: {_said(error)}",
            where=_OPTIONS,
            fix=f"give it what it takes: {kind.__name__}{_signature(kind)}",
        ) from error
    return source


def _check_source(source: MarketSource, loader: str) -> None:
    kind = type(source)
    lacking = [name for name in _OWN if getattr(kind, name, None) is getattr(MarketSource, name)]
    lacking += [name for name in _METHODS if not callable(getattr(source, name, None))]
    lacking += [] if hasattr(source, "concurrency") else ["concurrency"]
    if lacking:
        raise ParameterError(f"{loader} lacks {', '.join(lacking)}", where=_LOADER, fix=_INHERIT)
    identity = getattr(source, "identity", None)
    if not isinstance(identity, str) or not identity:
        raise ParameterError(
            f"identity of {loader} is {identity!r}, expected a text that names the market", where=_LOADER, fix=_INHERIT
        )


def _signature(kind: type) -> str:
    try:
        return str(inspect.signature(kind))
    except (TypeError, ValueError):  # a class written in C says nothing of it
        return "(…)"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
