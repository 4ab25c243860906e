"""Eight float64 numbers as one value in a kernel: the same arithmetic on eight pairs at once.

LLVM turns the type into the registers the machine has (one of AVX-512, two of AVX2, four of NEON), so a kernel
written with it keeps its sums in registers, which the loops numba vectorises by itself do not. A lane never sees
its neighbours: its result does not depend on them.
"""

from __future__ import annotations

import operator
from typing import Any, Final

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH: Final = 8

Lanes = Any
"""Eight numbers inside a kernel."""

_VECTOR: Final = ir.VectorType(ir.DoubleType(), WIDTH)
_UNDEFINED: Final = ir.Constant(_VECTOR, ir.Undefined)


class _LanesType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name=f"Lanes({WIDTH})")


class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


_LANES: Final = _LanesType()
register_model(_LanesType)(_LanesModel)


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _load(_context: Any, array: Any, _index: Any) -> Any:
    """Numbers ``array[index : index + 8]`` of a contiguous array (1-d)."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_place(context, builder, signature.args[0], *args))
        value.align = 8
        return value

    return _LANES(array, types.intp), code


def _store(_context: Any, array: Any, _index: Any, _value: Any) -> Any:
    """Write to ``array[index : index + 8]`` of a contiguous array (1-d)."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, signature.args[0], *args[:2])).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, _LANES), code


def _splat(_context: Any, _number: Any) -> Any:
    """The same number in all lanes."""

    def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        index = ir.IntType(32)
        first = builder.insert_element(_UNDEFINED, args[0], ir.Constant(index, 0))
        return builder.shuffle_vector(first, _UNDEFINED, ir.Constant(ir.VectorType(index, WIDTH), [0] * WIDTH))

    return _LANES(types.float64), code


def _emit(builder: Any, name: str, args: Any) -> Any:
    """Call of one of LLVM's own functions on whole vectors."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{WIDTH}f64"), args)


def _fma(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
    """``a·b + c``, rounded once."""

    def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _emit(builder, "fma", args)

    return _LANES(_LANES, _LANES, _LANES), code


def _fnma(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
    """``c - a·b``, rounded once."""

    def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _emit(builder, "fma", [builder.fneg(args[0]), args[1], args[2]])

    return _LANES(_LANES, _LANES, _LANES), code


def _root(_context: Any, _a: Any) -> Any:
    """Square root."""

    def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _emit(builder, "sqrt", args)

    return _LANES(_LANES), code


def _where_less(_context: Any, _a: Any, _b: Any, _yes: Any, _no: Any) -> Any:
    """``yes`` where ``a < b``, else ``no``, also where a or b is NaN."""

    def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return _LANES(_LANES, _LANES, _LANES, _LANES), code


def _arithmetic(operation: Any, instruction: str) -> None:
    """Give the type one of Python's operators."""

    def typer(_context: Any, _a: Any, _b: Any) -> Any:
        def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return _LANES(_LANES, _LANES), code

    emitted = intrinsic(typer)

    # numba wants both signatures alike, so neither is annotated
    overload(operation)(lambda a, b: (lambda a, b: emitted(a, b)) if a is b is _LANES else None)


for _operation, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _arithmetic(_operation, _instruction)

load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
splat: Any = intrinsic(_splat)
fma: Any = intrinsic(_fma)
fnma: Any = intrinsic(_fnma)
root: Any = intrinsic(_root)
where_less: Any = intrinsic(_where_less)
