"""How this package compiles its loops: without the GIL, and cached on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic as _untyped_intrinsic

__all__ = ["compiled", "intrinsic", "prefetch"]

# Its type says that the typing context is an argument of the calls.
intrinsic: Any = _untyped_intrinsic


def compiled(function: Callable[..., Any] | None = None, *, contract: bool = True) -> Any:
    """Compile `function` at its first call.

    The machine code is kept beside the source, or in the user's cache directory when the installation is read-only, or
    for the process alone when that can't be written either. With `contract` a product and a sum may become one
    operation, which rounds once: faster, but equal expressions needn't give equal bits.
    """
    if function is None:
        return lambda function: compiled(function, contract=contract)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"} if contract else False}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        # numba's "no locator available": nowhere to write.
        return njit(**options)(function)


@intrinsic
def prefetch(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Ask for the cache line of ``array[index]`` (flat, contiguous); an index outside of the array does no harm."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        address = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(address, [arguments[1]]), ir.IntType(8).as_pointer())
        int32 = ir.IntType(32)
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [address.type], ir.FunctionType(ir.VoidType(), [address.type, int32, int32, int32])
        )
        builder.call(prefetch, [address, int32(0), int32(2), int32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
