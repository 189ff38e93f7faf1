"""Convolution with pooling folded in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError

from .declared import checked
from .fragments import FragmentsToDense, fragment_offsets, fragment_pool
from .initialisation import ParameterLike, initweights
from .layer import Layer, LayerOperation, Normalisation
from .node import Node, misfit
from .shape import TaggedShape
from .spatial import CONV, MAX_POOL, check_layout, features_last, neighbours, spatial_tuple
from .upconv import UpConv
from .windows import window_max

__all__ = ["Conv"]


class ConvOperation(LayerOperation):
    """Convolution, pooling, then what a layer does.

    With a `dilation` the voxels of a filter, and those that are pooled, lie so far from each other, and every voxel
    begins a window of the pooling; see `elektronn_tui.models.engines`.
    """

    padding: tuple[int, ...]
    pool: tuple[int, ...] | None
    mfp: bool
    planar: bool
    dilation: tuple[int, ...] | None = None
    convolve: Callable[..., torch.Tensor]
    max_pool: Callable[..., torch.Tensor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, n_in, ...) to (b, n_f, ...).

        The bias is added before the maximum, which gives the same values, because torch fuses it with the convolution.
        """
        if self.planar and _slices_are_free(x, self.w):
            return self._in_slices(x)
        x = self.convolve(x, self.w, self.linear_bias(), 1, self.padding, self.dilation or 1)
        return self._pool_and_finish(x)

    def _pool_and_finish(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            if self.dilation is not None:
                x = window_max(x, self.pool, self.dilation)
            else:
                x = fragment_pool(x, self.pool, self.max_pool) if self.mfp else self.max_pool(x, self.pool)
        return self.finish(x)

    def _in_slices(self, x: torch.Tensor) -> torch.Tensor:
        """Compute each slice of a volume by itself, as z does nothing: voxels as rows of a matrix, or z as batch.

        Activations work in place, and in place on a view costs a copy in the gradient: they come before the way back.
        """
        n_out, n_in, _, *kernel = self.w.shape
        if max(kernel) == 1:
            sizes = (x.shape[0], *x.shape[2:])
            y = F.linear(x.movedim(1, -1).reshape(-1, n_in), self.w.reshape(n_out, n_in), self.linear_bias())
            if self.pool is None:
                return self.finish(y).unflatten(0, sizes).movedim(-1, 1)
            return self._pool_and_finish(y.unflatten(0, sizes).movedim(-1, 1))
        sizes = x.shape[0], x.shape[2]
        dilation = 1 if self.dilation is None else self.dilation[1:]
        y = F.conv2d(
            x.transpose(1, 2).flatten(0, 1), self.w[:, :, 0], self.linear_bias(), 1, self.padding[1:], dilation
        )
        if self.pool is not None and (self.pool[0] > 1 or self.mfp or self.dilation is not None):
            return self._pool_and_finish(y.unflatten(0, sizes).transpose(1, 2))
        if self.pool is not None:
            y = F.max_pool2d(y, self.pool[1:])
        return self.finish(y).unflatten(0, sizes).transpose(1, 2)


def _slices_are_free(x: torch.Tensor, w: torch.Tensor) -> bool:
    """Return whether slices are views and faster than the volume: channels-last in float32 on a CPU.

    One thread, AVX2, torch 2.13, forward and backward of the layers of neuro3d_lite and unet3d_lite, 3D time over this:
    1×1×1: 200 → 200 features 1.5, 200 → 2 2.5, 64 → 2 19; 1×3×3: 1 → 32 1.1, 32 → 32 1.4, 64 → 64 1.6,
    128 → 128 1.9, 200 → 200 1.4. Where features aren't last a matrix product is slower (0.6 to 1.0), and bf16 was not
    measured with the hardware for it.
    """
    return features_last(x) and w.stride(1) == 1


class Conv(Layer):
    """Convolution in one, two or three dimensions: linear map, max pooling, normalisation, bias, activation, dropout.

    It is a cross-correlation, as everywhere in torch.

    Parameters
    ----------
    parent : Node
        With the axes b, f and one to three of z, y, x.
    n_f : int
        Number of features; with ``maxout r`` before the maximum, so ``n_f / r`` come out.
    filter_shape : sequence of int
        Filter size on each spatial axis.
    pool_shape : sequence of int, optional
        Max pooling on each spatial axis, none by default. The size after the convolution must be a multiple.
    conv_mode : {'valid', 'same', 'full'}
        Output sizes n + 1 - filter, n (odd filters only), n - 1 + filter.
    activation_func : str
        One of `elektronn_tui.models.activations.ACTIVATIONS`, ``prelu`` or ``maxout r``.
    mfp : bool
        Max-fragment pooling: pool at every shift of the grid and put the results on the batch axis, shift-major, for
        `FragmentsToDense`. The size after the convolution, less ``pool - 1``, must then be a multiple.
    batch_normalisation : {False, 'train', 'predict', 'fadeout'}
        ``'train'``: by the statistics of the batch while training and by running ones otherwise;
        ``'predict'``: by the stored ones, and gamma isn't trained; ``'fadeout'``: as train, but with the rate
        r = ``node.gradnet_rate`` the mean m becomes r m, the deviation s becomes r s + 1 - r, and gamma becomes
        r gamma. After pooling, before bias and activation.
    dropout_rate : float
        Share of outputs set to 0 in training; live as ``node.dropout_rate`` unless it is 0 here.
    name : str
    print_repr : bool
    w : ParameterLike, (n_f, n_in, *filter)
    b : ParameterLike, (n_f,)
        For prelu (n_f, 2), with the slopes in column 1.
    gamma, mean, std : ParameterLike, (n_f,)
    gradnet_mode : bool or str, optional
        Make the live value ``node.gradnet_rate``, 1.0 at first, which ``batch_normalisation='fadeout'`` follows.
    invalidate_fov : bool
        Mark the field of view as unknown.

    Raises
    ------
    ShapeError
        If sizes don't fit: names the axis and sizes that would.
    ModelError
        If an argument is no good.

    Examples
    --------
    >>> from elektronn_tui.models import Conv, Input
    >>> raw = Input((1, 1, 23, 185, 185), "b,f,z,y,x", name="raw")
    >>> Conv(raw, 20, (1, 6, 6), (1, 2, 2)).shape
    [(1,b), (20,f), (23,z), (90,y), (90,x)]
    """

    operation: ConvOperation

    def __init__(
        self,
        parent: Node,
        n_f: int,
        filter_shape: Sequence[int],
        pool_shape: Sequence[int] | None = None,
        conv_mode: Literal["valid", "same", "full"] = "valid",
        activation_func: str = "relu",
        mfp: bool = False,
        batch_normalisation: Normalisation = False,
        dropout_rate: float = 0,
        name: str = "conv",
        print_repr: bool = False,
        w: ParameterLike = None,
        b: ParameterLike = None,
        gamma: ParameterLike = None,
        mean: ParameterLike = None,
        std: ParameterLike = None,
        gradnet_mode: bool | str | None = None,
        invalidate_fov: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        self._set_common(n_f, activation_func, batch_normalisation, dropout_rate, gradnet_mode)
        check_layout(self, parent.shape)
        ndim = parent.shape.ndim
        self.filter_shape = spatial_tuple(self, "filter_shape", filter_shape, ndim)
        self.pool_shape = spatial_tuple(self, "pool_shape", (1,) * ndim if pool_shape is None else pool_shape, ndim)
        if conv_mode not in ("valid", "same", "full"):
            raise ModelError(f"{self.title}: conv_mode must be 'valid', 'same' or 'full', not {conv_mode!r}.")
        if conv_mode == "same" and any(f % 2 == 0 for f in self.filter_shape):
            raise misfit(self, f"conv_mode='same' needs odd filters, not {self.filter_shape}.")
        self.conv_mode = conv_mode
        self._padding = tuple({"valid": 0, "same": f // 2, "full": f - 1}[conv_mode] for f in self.filter_shape)
        self.mfp = bool(mfp)
        self.invalidate_fov = bool(invalidate_fov)
        n_in = parent.shape["f"]
        w_shape = (self.n_f, n_in, *self.filter_shape)
        operation = self._make_operation(
            ConvOperation,
            (w, b, gamma, mean, std),
            w_shape,
            math.prod(self.filter_shape),
            lambda: initweights(w_shape, pool=self.pool_shape),
        )
        operation.padding = self._padding
        operation.pool = self.pool_shape if max(self.pool_shape) > 1 else None
        operation.mfp = self.mfp
        operation.planar = ndim == 3 and self.filter_shape[0] == 1
        operation.convolve, operation.max_pool = CONV[ndim], MAX_POOL[ndim]
        self._build(operation)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape after convolution and pooling."""
        (shape,) = parents
        sizes, fov, centre = [], [], []
        geometry = zip(
            shape.spatial_tags,
            shape.spatial_shape,
            self.filter_shape,
            self._padding,
            self.pool_shape,
            shape.fov,
            shape.strides,
            shape.centre,
            strict=True,
        )
        for tag, n, f, padding, p, F_in, S, c in geometry:
            assert n is not None
            lost = f - 1 - 2 * padding
            after = n - lost
            spare = p - 1 if self.mfp else 0
            if after < p + spare or (after - spare) % p:
                why = (
                    f"is too small for filter {f}" + (f" and pooling {p}" if p > 1 else "")
                    if after < p + spare
                    else f"is {after} after filter {f}, which is no multiple of pooling {p}"
                    + (f" plus {spare}, as mfp needs" if spare else "")
                )

                def fits(m: int, p: int = p, less: int = lost + spare) -> bool:
                    return m - less >= p and (m - less) % p == 0

                fit = neighbours(n, fits)
                raise misfit(self, f"axis {tag} of size {n} {why}; {fit} would fit.", tag)
            sizes.append(after // p)
            known = F_in > 0 and not self.invalidate_fov
            fov.append(round(F_in + (f + p - 2) * S) if known else -1)
            centre.append(c + (lost + p - 1) * S / 2)
        strides = [s * p for s, p in zip(shape.strides, self.pool_shape, strict=True)]
        batch, offsets = shape[0], shape.mfp_offsets
        if self.mfp:
            offsets = fragment_offsets(shape, self.pool_shape)
            batch = None if batch is None else batch * math.prod(self.pool_shape)
        return TaggedShape((batch, self._n_out, *sizes), shape.tags, strides, offsets, fov, centre=centre)

    @property
    def needs_whole_image(self) -> bool:
        """Whether it pads, by its mode."""
        return any(self._padding)

    @checked
    def make_dual(self, parent: Node, share_w: bool = False, mfp: bool = False, **kwargs: Any) -> UpConv:
        """Return the up-convolution that undoes this layer: it enlarges by `pool_shape`, to its input's features.

        Parameters
        ----------
        parent : Node
            With as many features as this layer has.
        share_w : bool
            Use this layer's weights, transposed, instead of new ones; only where filter and pooling are equal.
        mfp : bool
            Interleave the parent's fragments first, with `FragmentsToDense`.
        **kwargs
            Arguments of `UpConv` that differ from this layer's; the name is ``<name>_T`` by default.

        Raises
        ------
        ShapeError
            If the features don't match, or the weights can't be shared.
        """
        pool = kwargs.pop("pool_shape", self.pool_shape)
        if share_w and tuple(pool) != self.filter_shape:
            raise misfit(
                self, f"w can't be shared with its dual, whose pool_shape {tuple(pool)} must be this filter_shape."
            )
        n_in: int = self.parents[0].shape["f"]
        arguments = self._dual_arguments(parent, n_in, share_w, kwargs)
        if mfp:
            parent = FragmentsToDense(parent)
        return UpConv(parent, pool_shape=pool, **arguments)

    @property
    def computational_cost(self) -> int:
        """Size of the weights times the number of positions, before pooling."""
        shape = self.parents[0].shape
        sizes = zip(shape.spatial_shape, self.filter_shape, self._padding, strict=True)
        positions = math.prod((n or 1) + 2 * padding + 1 - f for n, f, padding in sizes)
        return self.operation.w.numel() * positions * (shape["b"] or 1)

    @property
    def detail(self) -> str:
        """Kernel, pooling, mode, activation."""
        parts = [f"{self.n_f} features", f"kernel {','.join(map(str, self.filter_shape))}"]
        if max(self.pool_shape) > 1:
            parts.append(f"pool {','.join(map(str, self.pool_shape))}" + (" mfp" if self.mfp else ""))
        if self.conv_mode != "valid":
            parts.append(self.conv_mode)
        return ", ".join([*parts, self.common_detail])
