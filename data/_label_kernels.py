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


@numba.njit(nogil=True, cache=True)
def mark_affinities(ids: Any, offsets: Any, first: Any, strides: Any, mode: int, out: Any) -> None:
    """Write whether voxels of `ids` (int64, z, y, x) belong together to `out` (edges, z, y, x; int8 or int64).

    Edge e of output voxel k joins the voxels ``first + k * strides`` and that plus ``offsets[e]``. 1: the same id, 0:
    another one, -1: unknown, as one of them is negative or lies outside of `ids`. `mode` says what id 0 is: 0 an
    object, 1 boundary, 2 unknown.
    """
    depth, height, width = ids.shape
    _, n_z, n_y, n_x = out.shape
    for e in range(len(offsets)):
        dz, dy, dx = offsets[e, 0], offsets[e, 1], offsets[e, 2]
        for k in range(n_z):
            z = first[0] + k * strides[0]
            for j in range(n_y):
                y = first[1] + j * strides[1]
                row = out[e, k, j]
                if z + dz < 0 or z + dz >= depth or y + dy < 0 or y + dy >= height:
                    row[:] = -1
                    continue
                here, there = ids[z, y], ids[z + dz, y + dy]
                for i in range(n_x):
                    x = first[2] + i * strides[2]
                    if x + dx < 0 or x + dx >= width:
                        row[i] = -1
                        continue
                    a, b = here[x], there[x + dx]
                    if a < 0 or b < 0:
                        row[i] = -1
                    elif mode != 0 and (a == 0 or b == 0):
                        row[i] = 0 if mode == 1 else -1
                    else:
                        row[i] = 1 if a == b else 0
