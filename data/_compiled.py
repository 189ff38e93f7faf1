"""How this package compiles its loops: without the GIL, and cached on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.extending import intrinsic as _untyped_intrinsic

__all__ = ["compiled", "intrinsic"]

# Its type says that the typing context is an argument of the calls.
intrinsic: Any = _untyped_intrinsic


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` at its first call.

    The machine code is kept beside the source, or in the user's cache directory when the installation is read-only, or
    for the process alone when that can't be written either.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        # numba's "no locator available": nowhere to write.
        return njit(**options)(function)
