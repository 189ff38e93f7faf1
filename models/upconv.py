"""Transposed convolution without overlap: the counterpart of pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from .initialisation import ParameterLike, initweights
from .layer import Layer, LayerOperation, Normalisation
from .node import Node
from .shape import TaggedShape
from .spatial import UP_CONV, check_layout, features_last, spatial_tuple

__all__ = ["UpConv"]


class UpConvOperation(LayerOperation):
    """Transposed convolution without overlap, then what a layer does."""

    pool: tuple[int, ...]
    transpose_w: bool
    convolve: Callable[..., torch.Tensor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, n_in, n, ...) to (b, n_f, n * pool, ...)."""
        w = self.w if self.transpose_w else self.w.transpose(0, 1)
        if features_last(x):
            return self._as_product(x, w)
        return self.finish(self.convolve(x, w, self.linear_bias(), self.pool))

    def _as_product(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Multiply each voxel's features with all weights of its block, then put the blocks in their places.

        One thread, AVX2, torch 2.13, float32 channels-last, forward and backward of the layers of unet3d_lite,
        transposed convolution's time over this: 256 → 512 features 1.3, 256 → 256 2.8, 128 → 128 2.9.
        """
        n_in, n_out = w.shape[:2]
        b, sizes, pool = x.shape[0], x.shape[2:], self.pool
        bias = self.linear_bias()
        blocks = F.linear(
            x.movedim(1, -1).reshape(-1, n_in),
            w.permute(2, 3, 4, 1, 0).reshape(-1, n_in),
            None if bias is None else bias.repeat(math.prod(pool)),
        )
        y = blocks.reshape(b, *sizes, *pool, n_out).permute(0, 1, 4, 2, 5, 3, 6, 7)
        # Rows of a new tensor: activations work in place, and in place on a view costs a copy in the gradient.
        y = self.finish(y.reshape(-1, n_out))
        return y.unflatten(0, (b, *(n * p for n, p in zip(sizes, pool, strict=True)))).movedim(-1, 1)


class UpConv(Layer):
    """Transposed convolution whose filter is as large as its stride: each voxel becomes a block.

    Output voxel ``i * pool + j`` is ``sum over n_in of x[i] * w[..., j]``, plus bias.

    Parameters
    ----------
    parent : Node
        With the axes b, f and one to three of z, y, x.
    n_f : int
        Number of features.
    pool_shape : sequence of int
        Enlargement on each spatial axis.
    activation_func : str
    identity_init : bool
        Start as repetition of voxels (with small noise) for the features that both sides have.
    batch_normalisation : {False, 'train', 'predict', 'fadeout'}
    dropout_rate : float
    name : str
    print_repr : bool
    w : ParameterLike, (n_f, n_in, *pool)
    b, gamma, mean, std : ParameterLike, (n_f,)
    gradnet_mode : bool or str, optional
        See `Conv`.
    transpose_w : bool
        `w` is given as (n_in, n_f, *pool), as the weights of the `Conv` that this layer undoes; see
        `Conv.make_dual`.

    Notes
    -----
    The field of view is unknown (-1) from here on, because it differs from voxel to voxel.

    Raises
    ------
    ShapeError
        If sizes don't fit.
    ModelError
        If an argument is no good.
    """

    operation: UpConvOperation

    def __init__(
        self,
        parent: Node,
        n_f: int,
        pool_shape: Sequence[int],
        activation_func: str = "relu",
        identity_init: bool = True,
        batch_normalisation: Normalisation = False,
        dropout_rate: float = 0,
        name: str = "upconv",
        print_repr: bool = False,
        w: ParameterLike = None,
        b: ParameterLike = None,
        gamma: ParameterLike = None,
        mean: ParameterLike = None,
        std: ParameterLike = None,
        gradnet_mode: bool | str | None = None,
        *,
        transpose_w: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        self._set_common(n_f, activation_func, batch_normalisation, dropout_rate, gradnet_mode)
        check_layout(self, parent.shape)
        ndim, n_in = parent.shape.ndim, parent.shape["f"]
        self.pool_shape = spatial_tuple(self, "pool_shape", pool_shape, ndim)
        self.identity_init = bool(identity_init)
        w_shape = (self.n_f, n_in, *self.pool_shape)

        def default_w() -> torch.Tensor:
            value = initweights(w_shape, pool=self.pool_shape)
            if self.identity_init:
                value *= 0.1
                for i in range(min(self.n_f, n_in)):
                    value[i, i] = 1.0
            return value.transpose(0, 1).contiguous() if transpose_w else value

        def identity_b() -> torch.Tensor:
            if activation_func == "prelu":
                return initweights((self.n_f, 2), 0.0, "prelu")
            return torch.zeros(self.n_f)

        operation = self._make_operation(
            UpConvOperation,
            (w, b, gamma, mean, std),
            (n_in, self.n_f, *self.pool_shape) if transpose_w else w_shape,
            math.prod(self.pool_shape),
            default_w,
            identity_b if self.identity_init else None,
        )
        self.transpose_w = operation.transpose_w = bool(transpose_w)
        operation.pool, operation.convolve = self.pool_shape, UP_CONV[ndim]
        self._build(operation)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the enlarged shape."""
        (shape,) = parents
        sizes = [(n or 1) * p for n, p in zip(shape.spatial_shape, self.pool_shape, strict=True)]
        strides = [s / p for s, p in zip(shape.strides, self.pool_shape, strict=True)]
        centre = [c - s * (p - 1) / 2 for c, s, p in zip(shape.centre, strides, self.pool_shape, strict=True)]
        fov = [-1] * shape.ndim
        return TaggedShape((shape[0], self._n_out, *sizes), shape.tags, strides, shape.mfp_offsets, fov, centre=centre)

    @property
    def computational_cost(self) -> int:
        """Size of the weights times (slightly less than) the number of output positions."""
        shape = self.parents[0].shape
        positions = math.prod((n or 1) * p + 1 - p for n, p in zip(shape.spatial_shape, self.pool_shape, strict=True))
        return self.operation.w.numel() * positions * (shape["b"] or 1)

    @property
    def detail(self) -> str:
        """Features, enlargement, activation."""
        return f"{self.n_f} features, enlarge {','.join(map(str, self.pool_shape))}, {self.common_detail}"
