"""How the C library gives memory back, which decides over half of the time of large tensors."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep what tensors have freed for the next ones, instead of giving it back and clearing it anew.

    Inference of whole volumes took half of the time, for up to half more memory. Nothing is done elsewhere than on
    glibc, where ``ELEKTRONN_MALLOC=default`` says so, or where the user has set a threshold.

    Returns
    -------
    bool
        Whether it was done.
    """
    named = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"} & set(os.environ)
    if sys.platform != "linux" or named or os.environ.get("ELEKTRONN_MALLOC") == "default":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # The trim threshold alone makes it slower.
    return bool(mallopt(M_MMAP_THRESHOLD, MOST)) and bool(mallopt(M_TRIM_THRESHOLD, MOST))
