"""Local response normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from elektronn_tui.errors import ModelError

from .loss import full_precision
from .node import Node, misfit
from .shape import TaggedShape
from .spatial import AVERAGE_POOL, check_layout, spatial_tuple
from .variables import Variable

__all__ = ["LRN"]


class LRNOperation(nn.Module):
    """Divide by a power of the mean square in a window."""

    def __init__(self, window: tuple[int, ...], channel: bool, alpha: Variable, k: Variable, beta: Variable) -> None:
        super().__init__()
        self.window, self.channel = window, channel
        self.alpha, self.k, self.beta = alpha, k, beta

    def mean_square(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean of x² over the window around each entry."""
        square = full_precision(x).square()
        if not self.channel:
            padding = tuple(n // 2 for n in self.window)
            return AVERAGE_POOL[len(self.window)](square, self.window, 1, padding)
        (n,) = self.window
        if n == 1:
            return square
        size = [-1] * square.ndim
        size[1] = n // 2
        padded = torch.cat((square[:, :1].expand(size), square, square[:, -1:].expand(size)), 1)
        columns = padded.reshape(padded.shape[0], 1, padded.shape[1], -1)
        return F.avg_pool2d(columns, (n, 1), 1).reshape(square.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, f, ...) to the same shape."""
        return (x / self._divisor(self.mean_square(x))).to(x.dtype)

    def intermediate(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the mean of squares m, and what x is divided by."""
        m = self.mean_square(x)
        return {"m": m, "divisor": self._divisor(m)}

    def _divisor(self, mean_square: torch.Tensor) -> torch.Tensor:
        alpha, k, beta = (float(variable.value) for variable in (self.alpha, self.k, self.beta))  # type: ignore[arg-type]
        return (k + alpha * mean_square).pow(beta)


class LRN(Node):
    """Local response normalisation: ``x / (k + alpha * m)^beta`` with m the mean of x² over a window.

    Parameters
    ----------
    parent : Node
        With the axes b, f and, for ``'spatial'``, one to three of z, y, x.
    filter_shape : sequence of int or int
        Window, odd. ``'spatial'``: one size for each spatial axis; ``'channel'``: one number of features.
    mode : {'spatial', 'channel'}
        ``'spatial'``: over neighbouring voxels of each feature; what lies outside counts as 0.
        ``'channel'``: over neighbouring features of each voxel; the first and last are repeated outside
        (Krizhevsky et al., 2012, with a mean instead of a sum).
    alpha, k, beta : float
        Live, as ``node.alpha``; alpha and beta from 0 on, k from 1e-6 on.
    name : str
    print_repr : bool

    Notes
    -----
    The field of view grows by the window, as that of a convolution of mode ``'same'``.

    Raises
    ------
    ShapeError
        If the axes are others, or the window isn't one odd number for each.
    ModelError
        If the mode is unknown or a value is outside of its limits.
    """

    def __init__(
        self,
        parent: Node,
        filter_shape: Sequence[int] | int,
        mode: Literal["spatial", "channel"] = "spatial",
        alpha: float = 0.0001,
        k: float = 1,
        beta: float = 0.75,
        name: str = "LRN",
        print_repr: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        shape = parent.shape
        if mode not in ("spatial", "channel"):
            raise ModelError(f"{self.title}: mode must be 'spatial' or 'channel', not {mode!r}.")
        if mode == "spatial":
            check_layout(self, shape)
            self.filter_shape = spatial_tuple(self, "filter_shape", filter_shape, shape.ndim)
        else:
            if shape.tags[:2] != ("b", "f"):
                raise misfit(self, f"needs the axes b and f first, but its parent has {shape.text}.")
            if isinstance(filter_shape, bool) or not isinstance(filter_shape, int | np.integer) or filter_shape < 1:
                raise misfit(self, f"with mode='channel' filter_shape is one odd number, not {filter_shape!r}.")
            self.filter_shape = (int(filter_shape),)
        if any(n % 2 == 0 for n in self.filter_shape):
            raise misfit(self, f"filter_shape must be odd, so that a window has a middle, not {self.filter_shape}.")
        self.mode = mode
        variables = (
            self._add_variable("alpha", alpha, minimum=0.0, help="weight of the mean square in the divisor"),
            self._add_variable("k", k, minimum=1e-6, help="constant part of the divisor"),
            self._add_variable("beta", beta, minimum=0.0, help="exponent of the divisor"),
        )
        self._build(LRNOperation(self.filter_shape, mode == "channel", *variables))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the parent's shape, with a larger field of view if the window is spatial."""
        (shape,) = parents
        if self.mode == "channel":
            return shape
        geometry = zip(shape.fov, self.filter_shape, shape.strides, strict=True)
        fov = [round(F_in + (n - 1) * S) if F_in > 0 else -1 for F_in, n, S in geometry]
        return TaggedShape(shape.shape, shape.tags, shape.strides, shape.mfp_offsets, fov, centre=shape.centre)

    @property
    def needs_whole_image(self) -> bool:
        """Whether the window lies in space: then it pads."""
        return self.mode == "spatial" and max(self.filter_shape) > 1

    @property
    def computational_cost(self) -> int:
        """Size of the parent times that of the window."""
        return self.parents[0].shape.stripnone_prod * math.prod(self.filter_shape)

    @property
    def detail(self) -> str:
        """Window and mode."""
        return f"{self.mode}, window {','.join(map(str, self.filter_shape))}"
