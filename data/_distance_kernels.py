"""Compiled loops over distances to the nearest marked voxel, no farther than a reach."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compiled import compiled

__all__ = ["nearest_along_x", "nearest_along_y", "nearest_along_z"]

# An exact distance transform in three passes, one an axis, as each adds the square of its own step. Steps beyond the
# reach are left out: the passes over rows then need no parabolas (Felzenszwalb and Huttenlocher, 2012), and run through
# memory in order. `step` (z, y, x, 3) int16 is the way to the nearest voxel, or empty if it isn't asked for. Of several
# nearest voxels the one with the least steps along z counts, then y, then x, and the lower side before the higher.


@compiled
def nearest_along_x(marked: Any, size: Any, reach: int, squares: Any, step: Any) -> None:
    """Write the squares (float32) of the distances along x to voxels that are `marked` (int8), infinity if beyond."""
    depth, height, width = marked.shape
    ways = step.size > 0
    for z in range(depth):
        for y in range(height):
            line, row = marked[z, y], squares[z, y]
            last = -reach - 1
            for x in range(width):
                if line[x]:
                    last = x
                near = x - last <= reach
                row[x] = np.float32(x - last) * size * (np.float32(x - last) * size) if near else np.float32(np.inf)
                if ways:
                    step[z, y, x, 2] = last - x
            last = width + reach
            for x in range(width - 1, -1, -1):
                if line[x]:
                    last = x
                square = np.float32(last - x) * size * (np.float32(last - x) * size)
                if last - x <= reach and square < row[x]:
                    row[x] = square
                    if ways:
                        step[z, y, x, 2] = last - x


@compiled
def nearest_along_y(before: Any, size: Any, reach: int, squares: Any, step_before: Any, step: Any) -> None:
    """Write to `squares` the least of `before` in the rows of the same section, plus the squares of the way there."""
    depth, height, _ = before.shape
    for z in range(depth):
        for y in range(height):
            _start(before[z, y], squares[z, y], step_before[z : z + 1, y], step[z : z + 1, y])
            for n in range(1, reach + 1):
                for d in (-n, n):
                    if 0 <= y + d < height:
                        ways = step_before[z : z + 1, y + d], step[z : z + 1, y]
                        _improve(before[z, y + d], squares[z, y], np.float32(n) * size, d, 1, ways[0], ways[1])


@compiled
def nearest_along_z(before: Any, size: Any, reach: int, squares: Any, step_before: Any, step: Any) -> None:
    """Write to `squares` the least of `before` in the sections, plus the squares of the way there."""
    depth, height, _ = before.shape
    for y in range(height):
        for z in range(depth):
            _start(before[z, y], squares[z, y], step_before[z : z + 1, y], step[z : z + 1, y])
            for n in range(1, reach + 1):
                for d in (-n, n):
                    if 0 <= z + d < depth:
                        ways = step_before[z + d : z + d + 1, y], step[z : z + 1, y]
                        _improve(before[z + d, y], squares[z, y], np.float32(n) * size, d, 0, ways[0], ways[1])


@compiled
def _start(before: Any, squares: Any, step_before: Any, step: Any) -> None:
    squares[:] = before
    if step.size > 0:
        step[0] = step_before[0]


@compiled
def _improve(before: Any, squares: Any, way: Any, d: int, axis: int, step_before: Any, step: Any) -> None:
    added = way * way
    if step.size == 0:
        for x in range(squares.size):
            new, old = before[x] + added, squares[x]
            squares[x] = new if new < old else old
        return
    for x in range(squares.size):
        if before[x] + added < squares[x]:
            squares[x] = before[x] + added
            for a in range(3):
                step[0, x, a] = step_before[0, x, a]
            step[0, x, axis] = d
