"""Convolution with pooling folded in, and its counterpart that enlarges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError

from .initialisation import ParameterLike, initweights
from .layer import Layer, LayerOperation, Normalisation
from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["Conv", "UpConv", "neighbours", "spatial_tuple"]

CONV: Mapping[int, Callable[..., torch.Tensor]] = MappingProxyType({1: F.conv1d, 2: F.conv2d, 3: F.conv3d})
MAX_POOL: Mapping[int, Callable[..., torch.Tensor]] = MappingProxyType(
    {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
)
UP_CONV: Mapping[int, Callable[..., torch.Tensor]] = MappingProxyType(
    {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
)


def spatial_tuple(node: Node, what: str, value: Any, ndim: int, minimum: int = 1) -> tuple[int, ...]:
    """Return `value` as one int for each spatial axis.

    Raises
    ------
    ShapeError
        If the number of entries or an entry is wrong.
    """
    try:
        result = tuple(int(v) for v in value)
        whole = all(int(v) == v for v in value)
    except (TypeError, ValueError):
        raise misfit(node, f"{what} must be {ndim} whole numbers, not {value!r}.") from None
    if len(result) != ndim:
        raise misfit(node, f"{what} {result} must have one entry for each of the {ndim} spatial axes of its parent.")
    if not whole or min(result, default=minimum) < minimum:
        raise misfit(node, f"{what} must be whole numbers from {minimum} on, not {tuple(value)}.")
    return result


def neighbours(size: int, fits: Callable[[int], bool], reach: int = 64) -> str:
    """Return the nearest sizes below and above that fit, as words."""
    below = next((n for n in range(size - 1, max(0, size - reach), -1) if fits(n)), None)
    above = next((n for n in range(size + 1, size + reach) if fits(n)), None)
    return " or ".join(str(n) for n in (below, above) if n is not None) or "no size near it"


def check_layout(node: Node, shape: TaggedShape) -> None:
    """Raise if the axes aren't b, f and then one to three spatial ones."""
    if shape.tags[:2] != ("b", "f") or len(shape) != 2 + shape.ndim or not 1 <= shape.ndim <= 3:
        raise misfit(node, f"needs the axes b, f and one to three of z, y, x, but its parent has {shape.text}.")
    if None in shape.shape[1:]:
        raise misfit(node, f"needs known feature and spatial sizes, but its parent has {shape.text}.")


class ConvOperation(LayerOperation):
    """Convolution, pooling, then what a layer does."""

    padding: tuple[int, ...]
    pool: tuple[int, ...] | None
    convolve: Callable[..., torch.Tensor]
    max_pool: Callable[..., torch.Tensor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, n_in, ...) to (b, n_f, ...).

        The bias is added before the maximum, which gives the same values, because torch fuses it with the convolution.
        """
        x = self.convolve(x, self.w, self.linear_bias(), 1, self.padding)
        if self.pool is not None:
            x = self.max_pool(x, self.pool)
        return self.finish(x)


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
        Max-fragment pooling: not available.
    batch_normalisation : {False, 'train', 'predict'}
        ``'train'``: by the statistics of the batch while training and by running ones otherwise;
        ``'predict'``: by the stored ones, and gamma isn't trained. After pooling, before bias and activation.
    dropout_rate : float
        Share of outputs set to 0 in training; live as ``node.dropout_rate`` unless it is 0 here.
    name : str
    print_repr : bool
    w : ParameterLike, (n_f, n_in, *filter)
    b : ParameterLike, (n_f,)
        For prelu (n_f, 2), with the slopes in column 1.
    gamma, mean, std : ParameterLike, (n_f,)
    gradnet_mode : None
        Not available.
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
        gradnet_mode: None = None,
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
        if mfp:
            raise ModelError(f"{self.title}: max-fragment pooling (mfp=True) is not available yet; use mfp=False.")
        self.conv_mode = conv_mode
        self.mfp = False
        self.invalidate_fov = bool(invalidate_fov)
        n_in = parent.shape["f"]
        w_shape = (self.n_f, n_in, *self.filter_shape)
        parameters = self._parameters(
            w,
            b,
            gamma,
            mean,
            std,
            w_shape,
            math.prod(self.filter_shape),
            lambda: initweights(w_shape, pool=self.pool_shape),
        )
        operation = ConvOperation(
            parameters, activation_func, self.batch_normalisation, self.variables.get("dropout_rate")
        )
        operation.padding = tuple({"valid": 0, "same": f // 2, "full": f - 1}[conv_mode] for f in self.filter_shape)
        operation.pool = self.pool_shape if max(self.pool_shape) > 1 else None
        operation.convolve, operation.max_pool = CONV[ndim], MAX_POOL[ndim]
        self._build(operation)

    def _conv_size(self, n: int, f: int) -> int:
        return n + {"valid": 1 - f, "same": 0, "full": f - 1}[self.conv_mode]

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape after convolution and pooling."""
        (shape,) = parents
        sizes, fov, centre = [], [], []
        geometry = zip(
            shape.spatial_tags,
            shape.spatial_shape,
            self.filter_shape,
            self.pool_shape,
            shape.fov,
            shape.strides,
            shape.centre,
            strict=True,
        )
        for tag, n, f, p, F_in, S, c in geometry:
            assert n is not None
            after = self._conv_size(n, f)
            if after < p or after % p:
                why = (
                    f"is too small for filter {f}" + (f" and pooling {p}" if p > 1 else "")
                    if after < p
                    else f"is {after} after filter {f}, which is no multiple of pooling {p}"
                )
                fit = neighbours(n, lambda m, f=f, p=p: (k := self._conv_size(m, f)) >= p and k % p == 0)  # type: ignore[misc]
                raise misfit(self, f"axis {tag} of size {n} {why}; {fit} would fit.", tag)
            sizes.append(after // p)
            known = F_in > 0 and not self.invalidate_fov
            fov.append(round(F_in + (f + p - 2) * S) if known else -1)
            lead = {"valid": f - 1, "same": 0, "full": 1 - f}[self.conv_mode]
            centre.append(c + (lead + p - 1) * S / 2)
        strides = [s * p for s, p in zip(shape.strides, self.pool_shape, strict=True)]
        return TaggedShape(
            (shape[0], self.n_f // self._maxout, *sizes), shape.tags, strides, shape.mfp_offsets, fov, centre=centre
        )

    @property
    def computational_cost(self) -> int:
        """Size of the weights times the number of positions, before pooling."""
        shape = self.parents[0].shape
        positions = math.prod(
            self._conv_size(n or 1, f) for n, f in zip(shape.spatial_shape, self.filter_shape, strict=True)
        )
        return self.operation.w.numel() * positions * (shape["b"] or 1)

    @property
    def detail(self) -> str:
        """Kernel, pooling, mode, activation."""
        if "filter_shape" not in self.__dict__:
            return ""
        parts = [f"{self.n_f} features", f"kernel {','.join(map(str, self.filter_shape))}"]
        if max(self.__dict__.get("pool_shape", (1,))) > 1:
            parts.append(f"pool {','.join(map(str, self.pool_shape))}")
        if self.__dict__.get("conv_mode", "valid") != "valid":
            parts.append(self.conv_mode)
        return ", ".join([*parts, self.common_detail])


class UpConvOperation(LayerOperation):
    """Transposed convolution without overlap, then what a layer does."""

    pool: tuple[int, ...]
    convolve: Callable[..., torch.Tensor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, n_in, n, ...) to (b, n_f, n * pool, ...)."""
        return self.finish(self.convolve(x, self.w.transpose(0, 1), self.linear_bias(), self.pool))


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
    batch_normalisation : {False, 'train', 'predict'}
    dropout_rate : float
    name : str
    print_repr : bool
    w : ParameterLike, (n_f, n_in, *pool)
    b, gamma, mean, std : ParameterLike, (n_f,)
    gradnet_mode : None
        Not available.

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
        gradnet_mode: None = None,
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
            return value

        def identity_b() -> torch.Tensor:
            if activation_func == "prelu":
                return initweights((self.n_f, 2), 0.0, "prelu")
            return torch.zeros(self.n_f)

        parameters = self._parameters(
            w,
            b,
            gamma,
            mean,
            std,
            w_shape,
            math.prod(self.pool_shape),
            default_w,
            identity_b if self.identity_init else None,
        )
        operation = UpConvOperation(
            parameters, activation_func, self.batch_normalisation, self.variables.get("dropout_rate")
        )
        operation.pool, operation.convolve = self.pool_shape, UP_CONV[ndim]
        self._build(operation)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the enlarged shape."""
        (shape,) = parents
        sizes = [(n or 1) * p for n, p in zip(shape.spatial_shape, self.pool_shape, strict=True)]
        strides = [s / p for s, p in zip(shape.strides, self.pool_shape, strict=True)]
        centre = [c - s * (p - 1) / 2 for c, s, p in zip(shape.centre, strides, self.pool_shape, strict=True)]
        n_f = self.n_f // self._maxout
        fov = [-1] * shape.ndim
        return TaggedShape((shape[0], n_f, *sizes), shape.tags, strides, shape.mfp_offsets, fov, centre=centre)

    @property
    def computational_cost(self) -> int:
        """Size of the weights times (slightly less than) the number of output positions."""
        shape = self.parents[0].shape
        positions = math.prod((n or 1) * p + 1 - p for n, p in zip(shape.spatial_shape, self.pool_shape, strict=True))
        return self.operation.w.numel() * positions * (shape["b"] or 1)

    @property
    def detail(self) -> str:
        """Features, enlargement, activation."""
        if "pool_shape" not in self.__dict__:
            return ""
        return f"{self.n_f} features, enlarge {','.join(map(str, self.pool_shape))}, {self.common_detail}"
