"""Compiled drawing of strokes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compiled import compiled

__all__ = ["draw_strokes"]


@compiled
def draw_strokes(points: Any, joined: Any, radius: float, soft: float, out: Any) -> None:
    """Draw a line of round ends through `points` (n, 2: y, x in pixels) to `out` (y, x; float32, 0 to 1).

    ``joined[k]`` says whether point k is joined to point k + 1; `soft` is the width of the rim in pixels.
    """
    reach = radius + soft
    for k in range(len(points) - 1):
        if not joined[k]:
            continue
        ay, ax = points[k, 0], points[k, 1]
        by, bx = points[k + 1, 0] - ay, points[k + 1, 1] - ax
        length = by * by + bx * bx
        low_y, high_y = min(ay, ay + by) - reach, max(ay, ay + by) + reach
        low_x, high_x = min(ax, ax + bx) - reach, max(ax, ax + bx) + reach
        for y in range(max(int(np.ceil(low_y)), 0), min(int(np.floor(high_y)) + 1, out.shape[0])):
            for x in range(max(int(np.ceil(low_x)), 0), min(int(np.floor(high_x)) + 1, out.shape[1])):
                t = 0.0
                if length > 0.0:
                    t = min(max(((y - ay) * by + (x - ax) * bx) / length, 0.0), 1.0)
                dy, dx = y - ay - t * by, x - ax - t * bx
                value = 0.5 + (radius - np.sqrt(dy * dy + dx * dx)) / soft
                if value > out[y, x]:
                    out[y, x] = min(value, 1.0)
