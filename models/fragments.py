"""Max-fragment pooling: every shift of a pooling grid at once, on the batch axis, and the way back to one dense image.

A network whose poolings all work so computes each voxel's output in one run and shares what neighbours have in common
(Masci et al., "A fast learning algorithm for image segmentation with max-pooling convolutional networks", 2013).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .node import Node, misfit
from .shape import TaggedShape
from .spatial import check_layout

__all__ = ["FragmentsToDense", "fragment_offsets", "fragment_pool", "interleave"]


def fragment_pool(
    x: torch.Tensor, pool: tuple[int, ...], pooling: Callable[[torch.Tensor, tuple[int, ...], int], torch.Tensor]
) -> torch.Tensor:
    """Pool at every shift of the grid.

    Parameters
    ----------
    x : Tensor, (b, f, n, ...)
        ``n - pool + 1`` is a multiple of ``pool`` on every axis.
    pool : tuple of int
        Window on each spatial axis.
    pooling : callable
        ``(x, window, step)`` → pooled tensor, as `torch.nn.functional.max_pool2d`.

    Returns
    -------
    Tensor, (prod(pool) * b, f, (n - pool + 1) / pool, ...)
        Shift-major, the last axis fastest, then the batch as it was.
    """
    # Pooling in steps of 1 gives the windows of all shifts, each once; the shifts are its phases.
    every = pooling(x, pool, 1)
    shifts = itertools.product(*(range(p) for p in pool))
    phases = [tuple(slice(i, None, p) for i, p in zip(shift, pool, strict=True)) for shift in shifts]
    return torch.cat([every[(slice(None), slice(None), *phase)] for phase in phases])


def fragment_offsets(shape: TaggedShape, pool: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the offsets of all fragments, (fragments, spatial axes), after `fragment_pool` of a node of `shape`."""
    shifts = np.array(list(itertools.product(*(range(p) for p in pool))), np.int64).reshape(-1, shape.ndim)
    strides = np.array(shape.strides)
    offsets = shifts[:, None] * strides + shape.mfp_offsets
    return offsets.reshape(-1, shape.ndim).astype(np.int64)


def interleave(x: torch.Tensor, order: torch.Tensor | None, steps: Sequence[int]) -> torch.Tensor:
    """Put fragments together.

    Parameters
    ----------
    x : Tensor, (prod(steps) * b, f, n, ...)
    order : Tensor of int64, (prod(steps),), optional
        The fragment of each shift, the last axis fastest; default: they are in this order.
    steps : sequence of int
        Distance between voxels of one fragment, for each spatial axis.

    Returns
    -------
    Tensor, (b, f, n * steps, ...)
    """
    fragments = x.unflatten(0, (math.prod(steps), -1))
    if order is not None:
        fragments = fragments.index_select(0, order)
    ndim = len(steps)
    fragments = fragments.unflatten(0, tuple(steps))  # shift by axis, b, f, sizes
    axes = [ndim, ndim + 1]
    for axis in range(ndim):
        axes += [ndim + 2 + axis, axis]
    b, f, *sizes = fragments.shape[ndim:]
    return fragments.permute(axes).reshape(b, f, *(n * s for n, s in zip(sizes, steps, strict=True)))


class InterleaveOperation(nn.Module):
    """Interleave the fragments on the batch axis."""

    order: torch.Tensor

    def __init__(self, order: npt.NDArray[np.int64], steps: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("order", torch.from_numpy(order), persistent=False)
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (fragments * b, f, n, ...) to (b, f, n * strides, ...)."""
        return interleave(x, self.order, self.steps)


class FragmentsToDense(Node):
    """Interleave the fragments that max-fragment pooling has put on the batch axis: one output for each input voxel.

    The output has strides of 1; its values are those of the network without max-fragment pooling, run once for each
    shift of its input.

    Parameters
    ----------
    parent : Node
        With the axes b, f and one to three of z, y, x, after layers with ``mfp=True``.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If the fragments don't lie at every shift within the parent's strides, as when a pooling is without
        ``mfp=True``.

    Examples
    --------
    >>> from elektronn_tui.models import Conv, FragmentsToDense, Input
    >>> raw = Input((1, 1, 22, 22), "b,f,y,x", name="raw")
    >>> conv = Conv(raw, 8, (4, 4), (2, 2), mfp=True)
    >>> conv.shape, FragmentsToDense(conv).shape
    ([(4,b), (8,f), (9,y), (9,x)], [(1,b), (8,f), (18,y), (18,x)])
    """

    def __init__(self, parent: Node, name: str = "to_dense", print_repr: bool = False) -> None:
        super().__init__(parent, name, print_repr)
        shape = parent.shape
        check_layout(self, shape)
        self._check_fragments(shape)
        # Keys of sorting: the first axis decides first.
        order = np.lexsort(shape.mfp_offsets.T[::-1])
        self._build(InterleaveOperation(order.astype(np.int64), tuple(int(s) for s in shape.strides)))

    def _check_fragments(self, shape: TaggedShape) -> None:
        count = len(shape.mfp_offsets)
        wanted = set(itertools.product(*(range(int(s)) for s in shape.strides)))
        if any(s != int(s) for s in shape.strides) or {tuple(o) for o in shape.mfp_offsets.tolist()} != wanted:
            raise misfit(
                self,
                f"needs one fragment for each of the {math.prod(shape.strides):g} shifts within strides of "
                f"{shape.strides}, but its parent has {count}; every pooling before it must have mfp=True.",
            )
        batch = shape["b"]
        if batch is not None and (batch == 0 or batch % count):
            raise misfit(self, f"axis b of size {batch} must be a multiple of the {count} fragments.", "b")

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the dense shape."""
        (shape,) = parents
        self._check_fragments(shape)
        sizes = [None if n is None else n * int(s) for n, s in zip(shape.spatial_shape, shape.strides, strict=True)]
        batch = None if shape["b"] is None else shape["b"] // len(shape.mfp_offsets)
        return TaggedShape((batch, shape["f"], *sizes), shape.tags, fov=shape.fov, centre=shape.centre)

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """Number of fragments."""
        return f"{len(self.parents[0].shape.mfp_offsets)} fragments"
