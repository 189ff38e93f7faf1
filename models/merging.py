"""Nodes that cut, join and add, and the merge of two resolutions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError

from .node import Node, misfit
from .shape import TaggedShape
from .spatial import spatial_tuple
from .upconv import UpConv

__all__ = ["Add", "AutoMerge", "Concat", "Crop", "UpConvMerge"]

logger = logging.getLogger(__name__)


class ConcatOperation(nn.Module):
    """Concatenate along one axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Join the tensors."""
        return torch.cat(tensors, self.axis)


class Concat(Node):
    """Join nodes along an axis.

    Parameters
    ----------
    parent_nodes : sequence of Node
    axis : str
        Tag.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If another axis or the strides differ.

    Notes
    -----
    A warning is logged when the parents don't lie on each other by a voxel or more.
    """

    def __init__(
        self, parent_nodes: Sequence[Node], axis: str = "f", name: str = "concat", print_repr: bool = False
    ) -> None:
        if not isinstance(parent_nodes, list | tuple) or not parent_nodes:
            raise ModelError(f"Concat {name!r} needs a list of nodes, not {parent_nodes!r}.")
        super().__init__(parent_nodes, name, print_repr)
        self.axis = axis
        self._build(ConcatOperation(self.parents[0].shape.tag2index(axis)))
        _warn_if_shifted(self)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the first parent's shape with the sum of sizes on the axis."""
        first = parents[0]
        for i, shape in enumerate(parents[1:], 1):
            _check_alike(self, first, shape, self.parents[0], self.parents[i], but=self.axis)
        sizes = [shape[self.axis] for shape in parents]
        return _widest(parents).updateshape(self.axis, None if None in sizes else sum(sizes))

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """The axis, if it isn't the features."""
        return "" if self.__dict__.get("axis", "f") == "f" else f"axis {self.axis}"


class AddOperation(nn.Module):
    """Element-wise sum."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Add."""
        return a + b


class Add(Node):
    """Element-wise sum of two nodes.

    Parameters
    ----------
    n1, n2 : Node
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If sizes or strides differ.
    """

    def __init__(self, n1: Node, n2: Node, name: str = "add", print_repr: bool = False) -> None:
        super().__init__((n1, n2), name, print_repr)
        self._build(AddOperation())
        _warn_if_shifted(self)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the common shape."""
        _check_alike(self, *parents, *self.parents)  # type: ignore[arg-type]
        return _widest(parents)

    @property
    def computational_cost(self) -> int:
        """Counted as nothing."""
        return 0


class CropOperation(nn.Module):
    """Cut off both ends of the spatial axes."""

    def __init__(self, crop: tuple[int, ...], first_axis: int) -> None:
        super().__init__()
        self.index = (slice(None),) * first_axis + tuple(slice(c, -c if c else None) for c in crop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cut."""
        return x[self.index]


class Crop(Node):
    """Cut voxels off both sides of every spatial axis.

    Parameters
    ----------
    parent : Node
    crop : sequence of int
        Voxels to cut off each side, for each spatial axis.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If nothing would be left.
    """

    def __init__(self, parent: Node, crop: Sequence[int], name: str = "crop", print_repr: bool = False) -> None:
        super().__init__(parent, name, print_repr)
        shape = parent.shape
        if shape.spatial_axes != tuple(range(len(shape) - shape.ndim, len(shape))) or not shape.ndim:
            raise misfit(self, f"needs its spatial axes last, but its parent has {shape.text}.")
        self.crop = spatial_tuple(self, "crop", crop, shape.ndim, minimum=0)
        self._build(CropOperation(self.crop, len(shape) - shape.ndim))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the smaller shape."""
        (shape,) = parents
        result = shape
        for axis, tag, n, c in zip(shape.spatial_axes, shape.spatial_tags, shape.spatial_shape, self.crop, strict=True):
            if n is None or n - 2 * c < 1:
                raise misfit(
                    self, f"can't cut 2 × {c} from axis {tag} of size {n}; at most {((n or 1) - 1) // 2}.", tag
                )
            result = result.updateshape(axis, n - 2 * c)
        return result.updatecentre([m + c * s for m, c, s in zip(shape.centre, self.crop, shape.strides, strict=True)])

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """What is cut off."""
        return f"cut {','.join(map(str, self.crop))}" if "crop" in self.__dict__ else ""


def AutoMerge(
    parent1: Node,
    parent2: Node,
    upconv_n_f: int | None = None,
    merge_mode: Literal["concat", "add"] = "concat",
    disable_upconv: bool = False,
    upconv_kwargs: Mapping[str, Any] | None = None,
    name: str = "merge",
    print_repr: bool = False,
) -> Node:
    """Join two nodes of unlike resolution: enlarge the coarse one, crop the larger one, merge.

    Parameters
    ----------
    parent1, parent2 : Node
        In any order; the one with the larger strides is the coarse one.
    upconv_n_f : int, optional
        Features of the `UpConv`; needed if there is one.
    merge_mode : {'concat', 'add'}
        Coarse features come first.
    disable_upconv : bool
        Merge as they are.
    upconv_kwargs : mapping, optional
        More arguments of the `UpConv`.
    name : str
        Of the merging node.
    print_repr : bool

    Returns
    -------
    Concat or Add

    Raises
    ------
    ShapeError
        If the sizes differ by an odd number.
    ModelError
        If `upconv_n_f` is missing or the mode unknown.
    """
    what = f"Merge {name!r} of {parent1.name!r} {parent1.shape.text} and {parent2.name!r} {parent2.shape.text}"
    if merge_mode not in ("concat", "add"):
        raise ModelError(f"{what}: merge_mode must be 'concat' or 'add', not {merge_mode!r}.")
    if len(parent1.shape) != len(parent2.shape) or parent1.shape.spatial_axes != parent2.shape.spatial_axes:
        raise ShapeError(f"{what}: both need the same axes.")
    pairs = list(zip(parent1.shape.strides, parent2.shape.strides, strict=True))
    low, high = (parent1, parent2) if any(s2 // s1 < 1 for s1, s2 in pairs) else (parent2, parent1)
    factors = []
    for s_low, s_high in zip(low.shape.strides, high.shape.strides, strict=True):
        if s_low < s_high or s_low % s_high:
            raise ShapeError(
                f"{what}: the strides {parent1.shape.strides} and {parent2.shape.strides} don't divide: "
                "one of the two must be the finer one on all axes, by whole factors."
            )
        factors.append(int(s_low // s_high))
    if max(factors, default=1) > 1 and not disable_upconv:
        if upconv_n_f is None:
            raise ModelError(f"{what}: upconv_n_f is needed, because {low.name!r} must be enlarged by {factors}.")
        low = UpConv(low, upconv_n_f, factors, **{"print_repr": print_repr, **(upconv_kwargs or {})})
    crop_low, crop_high = [], []
    for tag, n_low, n_high in zip(
        low.shape.spatial_tags, low.shape.spatial_shape, high.shape.spatial_shape, strict=True
    ):
        if n_low is None or n_high is None:
            raise ShapeError(f"{what}: axis {tag} must have a known size.")
        difference = n_high - n_low
        if difference % 2:
            raise ShapeError(
                f"{what}: on axis {tag} the sizes {n_high} and {n_low} (enlarged) differ by an odd number, so they "
                "can't be centred on each other; another input size or filter is needed."
            )
        crop_high.append(max(difference // 2, 0))
        crop_low.append(max(-difference // 2, 0))
    if any(crop_high):
        high = Crop(high, crop_high, print_repr=print_repr)
    if any(crop_low):
        low = Crop(low, crop_low, print_repr=print_repr)
    if merge_mode == "add":
        return Add(low, high, name=name, print_repr=print_repr)
    return Concat((low, high), axis="f", name=name, print_repr=print_repr)


UpConvMerge = AutoMerge


def _check_alike(
    node: Node, a: TaggedShape, b: TaggedShape, node_a: Node, node_b: Node, but: str | None = None
) -> None:
    """Raise unless both have equal axes (`but` may differ in size), strides and positions."""
    pair = f"{node_a.name!r} {a.text} and {node_b.name!r} {b.text}"
    if a.tags != b.tags:
        raise misfit(node, f"{pair} have unlike axes.")
    for tag, n, m in zip(a.tags, a.shape, b.shape, strict=True):
        if tag != but and n != m and None not in (n, m):
            raise misfit(node, f"{pair} differ on axis {tag}: {n} and {m}; both must have the same size.")
    if a.strides != b.strides:
        raise misfit(
            node, f"{pair} have unlike strides, {a.strides} and {b.strides}; UpConvMerge brings them together."
        )
    if not np.array_equal(a.mfp_offsets, b.mfp_offsets):
        raise misfit(
            node,
            f"{pair} have unlike fragments on the batch axis: both must have been pooled with mfp=True by the same "
            "windows, or both have gone through FragmentsToDense.",
            "b",
        )


def _warn_if_shifted(node: Node) -> None:
    first = node.parents[0]
    for parent in node.parents[1:]:
        if any(abs(a - b) >= 1 for a, b in zip(first.shape.centre, parent.shape.centre, strict=True)):
            logger.warning(
                "%s: %r starts at input voxel %s, %r at %s: they are shifted against each other.",
                node.title,
                first.name,
                first.shape.offsets,
                parent.name,
                parent.shape.offsets,
            )


def _widest(shapes: Sequence[TaggedShape]) -> TaggedShape:
    """Return the first shape with, on each axis, the largest of all fields of view (-1 if one is unknown)."""
    first = shapes[0]
    fovs = list(zip(*(shape.fov for shape in shapes), strict=True))
    fov = [-1 if min(f) < 0 else max(f) for f in fovs]
    if tuple(fov) == first.fov:
        return first
    return TaggedShape(first.shape, first.tags, first.strides, first.mfp_offsets, fov, centre=first.centre)
