"""Pooling as a node of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .fragments import fragment_offsets, fragment_pool
from .node import Node, misfit
from .shape import TaggedShape
from .spatial import AVERAGE_POOL, MAX_POOL, check_layout, neighbours, spatial_tuple
from .windows import window_max, window_sum

__all__ = ["Pool"]

MODES = ("max", "average", "average_inc_pad", "average_exc_pad", "sum")


class PoolOperation(nn.Module):
    """Maximum, average or sum over windows; with a `dilation` over those of every voxel, see `ConvOperation`."""

    dilation: tuple[int, ...] | None = None

    def __init__(self, pool: tuple[int, ...], stride: tuple[int, ...], mode: str, mfp: bool) -> None:
        super().__init__()
        self.pool, self.stride, self.mode, self.mfp = pool, stride, mode, mfp
        self.function = (MAX_POOL if mode == "max" else AVERAGE_POOL)[len(pool)]
        self.factor = float(math.prod(pool)) if mode == "sum" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, f, n, ...) to (b, f, (n - pool) / stride + 1, ...)."""
        if self.dilation is not None:
            return self._everywhere(x, self.dilation)
        x = fragment_pool(x, self.pool, self.function) if self.mfp else self.function(x, self.pool, self.stride)
        return x if self.factor is None else x * self.factor

    def _everywhere(self, x: torch.Tensor, dilation: tuple[int, ...]) -> torch.Tensor:
        if self.mode == "max":
            return window_max(x, self.pool, dilation)
        x = window_sum(x, self.pool, dilation)
        return x if self.mode == "sum" else x / math.prod(self.pool)


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
        Max-fragment pooling, see `Conv`; not with a `stride` of its own.
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
        if mfp and stride is not None and self.stride != self.pool_shape:
            raise ModelError(
                f"{self.title}: mfp=True pools in steps of the window {self.pool_shape}, so the stride "
                f"{self.stride} can't be kept; leave it out."
            )
        self.mode = mode
        self.mfp = bool(mfp)
        self._build(PoolOperation(self.pool_shape, self.stride, mode, self.mfp))

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
            spare = p - 1 if self.mfp else 0  # the windows of the last shift begin so much later
            if n < p + spare or (n - p - spare) % st:

                def fits(m: int, least: int = p + spare, st: int = st) -> bool:
                    return m >= least and (m - least) % st == 0

                how = "with mfp=True" if self.mfp else f"in steps of {st}"
                raise misfit(
                    self, f"axis {tag} of size {n} can't be pooled by {p} {how}; {neighbours(n, fits)} would fit.", tag
                )
            sizes.append((n - p - spare) // st + 1)
            fov.append(round(F_in + (p - 1) * S) if F_in > 0 else -1)
            centre.append(c + (p - 1) * S / 2)
        strides = [s * st for s, st in zip(shape.strides, self.stride, strict=True)]
        batch, offsets = shape[0], shape.mfp_offsets
        if self.mfp:
            offsets = fragment_offsets(shape, self.pool_shape)
            batch = None if batch is None else batch * math.prod(self.pool_shape)
        return TaggedShape((batch, shape["f"], *sizes), shape.tags, strides, offsets, fov, centre=centre)

    @property
    def detail(self) -> str:
        """Window, step, mode."""
        text = f"{self.mode} of {','.join(map(str, self.pool_shape))}"
        if self.mfp:
            text += ", mfp"
        return text if self.stride == self.pool_shape else f"{text}, step {','.join(map(str, self.stride))}"
