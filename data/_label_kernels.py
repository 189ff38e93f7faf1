"""Compiled loops over label volumes."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["mark_boundaries"]


@numba.njit(nogil=True, cache=True)
def _mark_faces(a: Any, b: Any, out: Any, ignore: bool) -> None:
    """Mark ``out`` where the rows `a` and `b` differ; a face to id 0 is none if `ignore`."""
    if ignore:
        for x in range(out.size):
            out[x] |= (a[x] != b[x]) & (a[x] != 0) & (b[x] != 0)
    else:
        for x in range(out.size):
            out[x] |= a[x] != b[x]


@numba.njit(nogil=True, cache=True)
def mark_boundaries(ids: Any, out: Any, tz: int, ty: int, tx: int, mode: int) -> None:
    """Write the boundaries of `ids` (unsigned, z, y, x) to `out` (int8), in one pass over rows.

    Each row gathers: voxel p is wall if a face (q, q + 1) with p - up <= q < p + low differs, low and up being the
    voxels that a wall has on the lower and the higher side. `mode`: 0 object, 1 boundary, 2 ignore, 3 class.
    """
    depth, height, width = ids.shape
    ignore = mode == 2
    for z in range(depth):
        for y in range(height):
            row = out[z, y]
            for x in range(width):
                row[x] = 0
            for q in range(max(z - (tz + 1) // 2, 0), min(z + tz // 2, depth - 1)):
                _mark_faces(ids[q, y], ids[q + 1, y], row, ignore)
            for q in range(max(y - (ty + 1) // 2, 0), min(y + ty // 2, height - 1)):
                _mark_faces(ids[z, q], ids[z, q + 1], row, ignore)
            line = ids[z, y]
            for d in range(-((tx + 1) // 2), tx // 2):
                first, last = max(0, -d), min(width, width - 1 - d)
                if first < last:
                    _mark_faces(line[first + d : last + d], line[first + d + 1 : last + d + 1], row[first:last], ignore)
            if mode != 0:
                zero = np.int8(1) if mode == 1 else np.int8(-1) if mode == 2 else np.int8(2)
                for x in range(width):
                    if line[x] == 0 and (mode != 3 or row[x] == 0):
                        row[x] = zero
