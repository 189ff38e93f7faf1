"""A compiled count of classes in blocks."""

from __future__ import annotations

from typing import Any

from ._compiled import compiled

__all__ = ["count_blocks"]


@compiled
def count_blocks(classes: Any, edges: Any, counts: Any) -> None:
    """Add up how often each class lies in each block.

    Parameters
    ----------
    classes
        (z, y, x) int16; those that `counts` has no entry for, such as negative ones, don't count.
    edges
        (z, y, x) of a block.
    counts
        (z, y, x, classes) int64, one entry for each block.
    """
    depth, height, width = classes.shape
    dz, dy, dx = edges
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                value = classes[z, y, x]
                if 0 <= value < counts.shape[3]:
                    counts[z // dz, y // dy, x // dx, value] += 1
