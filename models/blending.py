"""Overlapping tiles of networks that pad: how their values are weighted where they meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Blend", "corners", "window", "window_sum"]

Blend = Literal["gaussian", "constant"]

SIGMA = 1 / 8
"""Of the Gaussian, in sizes of the tile; the common choice since nnU-Net (Isensee et al., 2021)."""
LEAST = 1e-3
"""Weight of a tile's corners beside its middle, so that nothing is divided by a tiny number."""

Weights = npt.NDArray[np.float32]


def window(blend: Blend, size: int) -> Weights:
    """Return the weights of a tile along an axis of `size` voxels: its middle counts most, or all count the same."""
    if blend == "constant":
        return np.ones(size, np.float32)
    distance = (np.arange(size) - (size - 1) / 2) / (SIGMA * size)
    return np.maximum(np.exp(-(distance**2) / 2), LEAST).astype(np.float32)


def corners(size: int, patch: int, step: int) -> list[int]:
    """Return where tiles of `patch` voxels begin on an axis of `size`: the last one ends with it."""
    if patch >= size:
        return [0]
    count = math.ceil((size - patch) / step) + 1
    return [min(k * step, size - patch) for k in range(count)]


def window_sum(weights: npt.NDArray[Any], begins: Sequence[int], size: int) -> Weights:
    """Return the sum of the weights of all tiles along an axis of `size` result voxels."""
    total = np.zeros(size, np.float32)
    for begin in begins:
        part = total[begin : begin + len(weights)]
        part += weights[: len(part)]
    return total
