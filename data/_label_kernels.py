"""Compiled loops over label volumes."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["grow_once", "mark_affinities", "mark_background", "mark_boundaries", "smooth_walls"]


@numba.njit(nogil=True, cache=True)
def _faces(a: Any, b: Any, face: Any, ignore: bool) -> None:
    """Write where the rows `a` and `b` differ; a face to id 0 is none if `ignore`."""
    if ignore:
        for x in range(a.size):
            face[x] = (a[x] != b[x]) & (a[x] != 0) & (b[x] != 0)
    else:
        for x in range(a.size):
            face[x] = a[x] != b[x]


@numba.njit(nogil=True, cache=True)
def _add(face: Any, row: Any) -> None:
    for x in range(row.size):
        row[x] |= face[x]


@numba.njit(nogil=True, cache=True)
def mark_boundaries(ids: Any, out: Any, tz: int, ty: int, tx: int, ignore: bool) -> None:
    """Add the walls between `ids` (unsigned, z, y, x) to `out` (int8), in one pass over rows.

    The face between voxels q and q + 1 makes walls of q + 1 - t // 2 to q + (t + 1) // 2. Faces are found once and
    added as bytes: comparing wide ids takes the time. `ignore`: faces to id 0 are none.
    """
    depth, height, width = ids.shape
    face = np.empty(width, np.int8)
    for z in range(depth):
        for y in range(height):
            line = ids[z, y]
            if tz > 0 and z < depth - 1:
                _faces(line, ids[z + 1, y], face, ignore)
                for p in range(max(z + 1 - tz // 2, 0), min(z + (tz + 1) // 2 + 1, depth)):
                    _add(face, out[p, y])
            if ty > 0 and y < height - 1:
                _faces(line, ids[z, y + 1], face, ignore)
                for p in range(max(y + 1 - ty // 2, 0), min(y + (ty + 1) // 2 + 1, height)):
                    _add(face, out[z, p])
            if tx > 0 and width > 1:
                _faces(line[:-1], line[1:], face, ignore)
                for d in range(1 - tx // 2, (tx + 1) // 2 + 1):
                    a, b = max(0, d), min(width, width - 1 + d)
                    if a < b:
                        _add(face[a - d : b - d], out[z, y, a:b])


@numba.njit(nogil=True, cache=True)
def mark_background(ids: Any, out: Any, mode: int) -> None:
    """Write what id 0 is to `out` (int8): `mode` 1 boundary, 2 unknown, 3 a class of its own where there is no wall."""
    depth, height, width = ids.shape
    zero = np.int8(1) if mode == 1 else np.int8(-1) if mode == 2 else np.int8(2)
    for z in range(depth):
        for y in range(height):
            line, row = ids[z, y], out[z, y]
            for x in range(width):
                if line[x] == 0 and (mode != 3 or row[x] == 0):
                    row[x] = zero


@numba.njit(nogil=True, cache=True)
def smooth_walls(walls: Any, out: Any) -> None:
    """Write the weighted majority of 3×3×3 voxels of `walls` (int8, 0 or 1) to `out` (int8).

    The weights are 10 in the centre, in its section 5 at edges and 3 at corners, in the sections beside it 3, 2 and 1:
    72 in all. Beyond the volume its outermost voxels repeat.
    """
    depth, height, width = walls.shape
    total = np.empty(width, np.int8)
    for z in range(depth):
        for y in range(height):
            total[:] = 0
            for dz in range(-1, 2):
                for dy in range(-1, 2):
                    row = walls[min(max(z + dz, 0), depth - 1), min(max(y + dy, 0), height - 1)]
                    near, far = dz == 0, dy != 0
                    middle = np.int8((5 if far else 10) if near else (2 if far else 3))
                    side = np.int8((3 if far else 5) if near else (1 if far else 2))
                    for x in range(1, width - 1):
                        total[x] += middle * row[x] + side * (row[x - 1] + row[x + 1])
                    total[0] += (middle + side) * row[0] + side * row[min(1, width - 1)]
                    if width > 1:
                        total[width - 1] += (middle + side) * row[width - 1] + side * row[width - 2]
            for x in range(width):
                out[z, y, x] = total[x] > 40


@numba.njit(nogil=True, cache=True)
def grow_once(ids: Any, out: Any, along_z: bool, along_y: bool, along_x: bool) -> None:
    """Write `ids` (unsigned, z, y, x) to `out`, where 0 becomes the least id of the neighbours along these axes."""
    depth, height, width = ids.shape
    one = ids.dtype.type(1)
    least = np.empty(width, ids.dtype)
    for z in range(depth):
        for y in range(height):
            line, row = ids[z, y], out[z, y]
            # Less one, 0 is the largest number there is, and becomes 0 again in the end.
            for x in range(width):
                least[x] = line[x] - one
            if along_z and z > 0:
                _take_less(ids[z - 1, y], least)
            if along_z and z < depth - 1:
                _take_less(ids[z + 1, y], least)
            if along_y and y > 0:
                _take_less(ids[z, y - 1], least)
            if along_y and y < height - 1:
                _take_less(ids[z, y + 1], least)
            if along_x:
                _take_less(line[:-1], least[1:])
                _take_less(line[1:], least[:-1])
            for x in range(width):
                row[x] = line[x] if line[x] != 0 else least[x] + one


@numba.njit(nogil=True, cache=True)
def _take_less(neighbours: Any, least: Any) -> None:
    one = neighbours.dtype.type(1)
    for x in range(least.size):
        least[x] = min(least[x], neighbours[x] - one)


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
