"""Handwritten-looking digits, drawn on the spot: ten classes to learn that need no file.

Each digit is a few strokes through points, of which there are several styles. Each point is jittered, the whole is
turned, slanted, stretched and bent, and drawn with a pen of some width onto a noisy ground.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

__all__ = ["draw_digits"]

Points = tuple[tuple[float, float], ...]

# Strokes of (x, y), y down, in a unit box; a smooth line runs through the points of a stroke. Styles of a digit are
# equally likely.
_STYLES: dict[int, tuple[tuple[Points, ...], ...]] = {
    0: (
        (
            (
                (0.5, 0.04),
                (0.22, 0.22),
                (0.18, 0.6),
                (0.36, 0.94),
                (0.66, 0.93),
                (0.82, 0.55),
                (0.74, 0.16),
                (0.5, 0.04),
            ),
        ),
        (((0.6, 0.06), (0.3, 0.12), (0.2, 0.5), (0.32, 0.9), (0.62, 0.95), (0.8, 0.6), (0.72, 0.2), (0.42, 0.1)),),
    ),
    1: (
        (((0.5, 0.04), (0.5, 0.5), (0.5, 0.96)),),
        (((0.32, 0.26), (0.54, 0.05)), ((0.54, 0.05), (0.53, 0.5), (0.53, 0.96))),
        (((0.3, 0.26), (0.52, 0.05)), ((0.52, 0.05), (0.52, 0.95)), ((0.3, 0.95), (0.74, 0.95))),
    ),
    2: (
        (((0.2, 0.27), (0.32, 0.08), (0.58, 0.04), (0.78, 0.2), (0.7, 0.45), (0.2, 0.93)), ((0.2, 0.93), (0.82, 0.92))),
        (((0.22, 0.2), (0.5, 0.04), (0.75, 0.2), (0.6, 0.55), (0.28, 0.9), (0.2, 0.78), (0.4, 0.78), (0.82, 0.95)),),
    ),
    3: (
        (
            ((0.2, 0.14), (0.5, 0.03), (0.75, 0.2), (0.62, 0.41), (0.4, 0.47)),
            ((0.4, 0.47), (0.7, 0.53), (0.8, 0.74), (0.56, 0.96), (0.2, 0.87)),
        ),
        (
            ((0.22, 0.06), (0.76, 0.06)),
            ((0.76, 0.06), (0.46, 0.42)),
            ((0.46, 0.42), (0.76, 0.52), (0.78, 0.8), (0.5, 0.96), (0.2, 0.86)),
        ),
    ),
    4: (
        (((0.6, 0.05), (0.18, 0.63)), ((0.18, 0.63), (0.85, 0.62)), ((0.64, 0.34), (0.62, 0.96))),
        (((0.66, 0.05), (0.2, 0.64)), ((0.2, 0.64), (0.86, 0.64)), ((0.66, 0.05), (0.66, 0.96))),
        (((0.26, 0.06), (0.2, 0.34), (0.28, 0.52), (0.72, 0.48)), ((0.74, 0.08), (0.7, 0.5), (0.66, 0.96))),
    ),
    5: (
        (
            ((0.78, 0.06), (0.3, 0.07)),
            ((0.3, 0.07), (0.25, 0.45)),
            ((0.25, 0.45), (0.55, 0.37), (0.8, 0.58), (0.7, 0.88), (0.42, 0.97), (0.18, 0.86)),
        ),
        (
            ((0.8, 0.08), (0.5, 0.05), (0.32, 0.14), (0.28, 0.4)),
            ((0.28, 0.4), (0.6, 0.44), (0.76, 0.68), (0.6, 0.92), (0.2, 0.92)),
        ),
    ),
    6: (
        (
            (
                (0.7, 0.06),
                (0.4, 0.24),
                (0.23, 0.6),
                (0.32, 0.9),
                (0.54, 0.96),
                (0.75, 0.8),
                (0.7, 0.57),
                (0.48, 0.52),
                (0.26, 0.68),
            ),
        ),
        (((0.5, 0.04), (0.28, 0.4), (0.24, 0.75), (0.46, 0.96), (0.72, 0.84), (0.7, 0.6), (0.46, 0.56), (0.28, 0.72)),),
    ),
    7: (
        (((0.18, 0.07), (0.82, 0.07)), ((0.82, 0.07), (0.58, 0.45), (0.42, 0.95))),
        (((0.18, 0.07), (0.82, 0.07)), ((0.82, 0.07), (0.6, 0.45), (0.48, 0.95)), ((0.36, 0.5), (0.74, 0.48))),
        (((0.2, 0.24), (0.22, 0.07)), ((0.22, 0.07), (0.8, 0.08)), ((0.8, 0.08), (0.5, 0.5), (0.38, 0.96))),
    ),
    8: (
        (
            (
                (0.5, 0.47),
                (0.27, 0.3),
                (0.36, 0.08),
                (0.63, 0.06),
                (0.74, 0.25),
                (0.5, 0.47),
                (0.25, 0.7),
                (0.36, 0.94),
                (0.65, 0.94),
                (0.76, 0.7),
                (0.5, 0.47),
            ),
        ),
        (
            ((0.5, 0.46), (0.3, 0.28), (0.5, 0.05), (0.7, 0.26), (0.5, 0.46)),
            ((0.5, 0.46), (0.24, 0.7), (0.5, 0.96), (0.78, 0.72), (0.5, 0.46)),
        ),
    ),
    9: (
        (
            ((0.74, 0.33), (0.55, 0.5), (0.29, 0.42), (0.27, 0.18), (0.48, 0.04), (0.7, 0.14), (0.75, 0.36)),
            ((0.75, 0.36), (0.7, 0.95)),
        ),
        (
            (
                (0.72, 0.28),
                (0.5, 0.5),
                (0.28, 0.38),
                (0.34, 0.1),
                (0.6, 0.05),
                (0.74, 0.25),
                (0.72, 0.6),
                (0.56, 0.88),
                (0.3, 0.94),
            ),
        ),
    ),
}
_PER_SEGMENT = 6


def draw_digits(
    n: int, *, seed: int = 0, size: int = 28, noise: float = 0.06
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw images of the digits 0 to 9.

    Parameters
    ----------
    n
        Number of images. Each class has the same number of them, but for the remainder of ``n / 10``.
    seed
        Any integer ≥ 0; the same gives the same images, and more of them begin with the fewer.
    size
        Height and width in pixels, 12 at least.
    noise
        Standard deviation of the noise, as a fraction of white.

    Returns
    -------
    images : ndarray of uint8
        (n, y, x), bright on dark.
    labels : ndarray of uint8
        (n,), 0 to 9, in random order.

    Raises
    ------
    DataError
        A number makes no sense.

    Examples
    --------
    >>> images, labels = draw_digits(20, seed=1)
    >>> images.shape, images.dtype.name, sorted(labels.tolist())[:4]
    ((20, 28, 28), 'uint8', [0, 0, 1, 1])
    """
    for what, value, least in (("n", n, 1), ("seed", seed, 0), ("size", size, 12)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise DataError(f"draw_digits: {what}={value!r}; a whole number ≥ {least} is needed.")
    if not 0 <= noise <= 1:
        raise DataError(f"draw_digits: noise={noise!r}; a fraction of white from 0 to 1 is needed.")
    draw = _kernel()
    images = np.empty((n, size, size), np.uint8)
    labels = np.empty(n, np.uint8)
    for first in range(0, n, 10):
        # A set of ten has a generator of its own, so that it doesn't depend on how many are drawn.
        rng = np.random.default_rng([seed, first])
        classes = rng.permutation(10)
        for k in range(first, min(first + 10, n)):
            labels[k] = classes[k - first]
            images[k] = _image(rng, int(labels[k]), size, noise, draw)
    return images, labels


def _image(rng: np.random.Generator, label: int, size: int, noise: float, draw: Any) -> npt.NDArray[np.uint8]:
    style = _STYLES[label][rng.integers(len(_STYLES[label]))]
    where: dict[tuple[float, float], npt.NDArray[np.float64]] = {}  # strokes that meet stay joined
    for stroke in style:
        for point in stroke:
            jitter = rng.normal(0, 0.03, 2)
            where.setdefault(point, np.array(point) - 0.5 + jitter)
    lines = [_smooth(np.array([where[point] for point in stroke])) for stroke in style]
    joined = np.ones(sum(map(len, lines)), np.bool_)
    joined[np.cumsum([len(line) for line in lines]) - 1] = False
    x, y = np.concatenate(lines).T
    # Bend, slant, stretch, turn, move.
    bend = rng.normal(0, 0.05, 4)
    x, y = x + bend[0] * np.sin(3 * y + 60 * bend[2]), y + bend[1] * np.sin(3 * x + 60 * bend[3])
    slant, angle = rng.normal(0, 0.22), rng.normal(0, 0.16)
    x, y = (x - slant * y) * rng.uniform(0.5, 0.85), y * rng.uniform(0.6, 0.82)
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    move = rng.normal(0, 0.045, 2)
    points = np.stack([y + move[0] + 0.5, x + move[1] + 0.5], 1) * size - 0.5
    canvas = np.zeros((size, size), np.float32)
    draw(points, joined, size * rng.uniform(0.025, 0.075), size * rng.uniform(0.035, 0.07), canvas)
    canvas *= rng.uniform(0.65, 1.0)
    ground = np.random.default_rng(rng.integers(2**63))  # so that the size doesn't change the next image
    canvas += ground.normal(0, noise, canvas.shape).astype(np.float32)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def _smooth(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return points of a Catmull-Rom spline through `points`."""
    if len(points) == 2:
        return points
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.arange(_PER_SEGMENT)[:, None, None] / _PER_SEGMENT
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Return the compiled pen (numba is imported when it is first needed)."""
    from ._digit_kernels import draw_strokes

    return draw_strokes
