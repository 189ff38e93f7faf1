"""numpy for the application, imported when the first curve or picture comes."""

from __future__ import annotations

import os
import sys

__all__ = ["load_numpy"]

_THREADS = "OPENBLAS_NUM_THREADS"


def load_numpy() -> None:
    """Import numpy without a pool of BLAS threads.

    The pool takes a third of the import, which the first full frame waits for, and nothing here multiplies matrices.
    The variable is taken back, so that a worker started from here has its own choice.
    """
    if "numpy" in sys.modules:
        return
    ours = _THREADS not in os.environ
    os.environ.setdefault(_THREADS, "1")
    try:
        import numpy  # noqa: F401 - the import is what is wanted
    finally:
        if ours:
            del os.environ[_THREADS]
