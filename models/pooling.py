"""Pooling as a node of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from elektronn_tui.errors import ModelError

from .conv import MAX_POOL, check_layout, neighbours, spatial_tuple
from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["Pool"]

MODES = ("max", "average", "average_inc_pad", "average_exc_pad", "sum")


class PoolOperation(nn.Module):
    """Maximum, average or sum over windows."""

    def __init__(self, pool: tuple[int, ...], stride: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.pool, self.stride, self.mode = pool, stride, mode
        ndim = len(pool)
        average = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[ndim]
        self.function = MAX_POOL[ndim] if mode == "max" else average
        self.factor = float(math.prod(pool)) if mode == "sum" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, f, n, ...) to (b, f, (n - pool) / stride + 1, ...)."""
        x = self.function(x, self.pool, self.stride)
        return x if self.factor is None else x * self.factor


class Pool(Node):
    """Pooling over windows.

    Parameters
    ----------
    parent : Node
        With the axes b, f and one to three of z, y, x.
    pool_shape : sequence of int
        Window on each spatial axis.
    stride : sequence of int, optional
        Step of the windows; default the window's size.
    mfp : bool
        Max-fragment pooling: not available.
    mode : {'max', 'average', 'average_inc_pad', 'average_exc_pad', 'sum'}
        The three averages are the same, because nothing is padded.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If windows don't cover the parent exactly: names axis and sizes that would fit.
    ModelError
        If mode or mfp are no good.
    """

    def __init__(
        self,
        parent: Node,
        pool_shape: Sequence[int],
        stride: Sequence[int] | None = None,
        mfp: bool = False,
        mode: Literal["max", "average", "average_inc_pad", "average_exc_pad", "sum"] = "max",
        name: str = "pool",
        print_repr: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        check_layout(self, parent.shape)
        ndim = parent.shape.ndim
        self.pool_shape = spatial_tuple(self, "pool_shape", pool_shape, ndim)
        self.stride = self.pool_shape if stride is None else spatial_tuple(self, "stride", stride, ndim)
        if mode not in MODES:
            raise ModelError(f"{self.title}: mode must be one of {', '.join(MODES)}, not {mode!r}.")
        if mfp:
            raise ModelError(f"{self.title}: max-fragment pooling (mfp=True) is not available; use mfp=False.")
        self.mode = mode
        self._build(PoolOperation(self.pool_shape, self.stride, mode))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape after pooling."""
        (shape,) = parents
        sizes, fov, centre = [], [], []
        for tag, n, p, st, F_in, S, c in zip(
            shape.spatial_tags,
            shape.spatial_shape,
            self.pool_shape,
            self.stride,
            shape.fov,
            shape.strides,
            shape.centre,
            strict=True,
        ):
            assert n is not None
            if n < p or (n - p) % st:
                fit = neighbours(n, lambda m, p=p, st=st: m >= p and (m - p) % st == 0)  # type: ignore[misc]
                raise misfit(
                    self, f"axis {tag} of size {n} can't be pooled by {p} in steps of {st}; {fit} would fit.", tag
                )
            sizes.append((n - p) // st + 1)
            fov.append(round(F_in + (p - 1) * S) if F_in > 0 else -1)
            centre.append(c + (p - 1) * S / 2)
        strides = [s * st for s, st in zip(shape.strides, self.stride, strict=True)]
        return TaggedShape((shape[0], shape["f"], *sizes), shape.tags, strides, shape.mfp_offsets, fov, centre=centre)

    @property
    def detail(self) -> str:
        """Window, step, mode."""
        if "pool_shape" not in self.__dict__:
            return ""
        text = f"{self.__dict__.get('mode', 'max')} of {','.join(map(str, self.pool_shape))}"
        stride = self.__dict__.get("stride", self.pool_shape)
        return text if stride == self.pool_shape else f"{text}, step {','.join(map(str, stride))}"
