"""Nodes that join others of equal resolution: side by side, by sum, by product."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .node import Node, misfit
from .shape import TaggedShape
from .variables import Variable

__all__ = ["Add", "Concat", "FaithlessMerge", "MultMerge", "widest"]

logger = logging.getLogger(__name__)


class _Joined(Node):
    """Base of what lies side by side along one axis."""

    axis: str

    def __init__(self, parents: Sequence[Node], axis: str, name: str, print_repr: bool) -> None:
        super().__init__(parents, name, print_repr)
        self.axis = axis
        for parent in self.parents:
            if not parent.shape.hastag(axis):
                raise misfit(self, f"there is no axis {axis!r} in {parent.name!r} {parent.shape.text}.")

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the first parent's shape with the sum of sizes on the axis."""
        _check_alike(self, parents, but=self.axis)
        sizes = [shape[self.axis] for shape in parents]
        return widest(parents).updateshape(self.axis, None if None in sizes else sum(sizes))

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0


class ConcatOperation(nn.Module):
    """Concatenate along one axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Join the tensors."""
        return torch.cat(tensors, self.axis)


class Concat(_Joined):
    """Join nodes along an axis.

    Parameters
    ----------
    parent_nodes : sequence of Node
        As many as you like.
    axis : str
        Tag.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If there is no such axis, or another axis, the strides or the fragments of the parents differ.

    Notes
    -----
    A warning is logged when the parents don't lie on each other by a voxel or more.
    """

    def __init__(
        self, parent_nodes: Sequence[Node], axis: str = "f", name: str = "concat", print_repr: bool = False
    ) -> None:
        if not isinstance(parent_nodes, list | tuple) or not parent_nodes:
            raise ModelError(f"Concat {name!r} needs a list of nodes, not {parent_nodes!r}.")
        super().__init__(parent_nodes, axis, name, print_repr)
        self._build(ConcatOperation(self.parents[0].shape.tag2index(axis)))
        _warn_if_shifted(self)

    @property
    def detail(self) -> str:
        """The axis, if it isn't the features."""
        return "" if self.axis == "f" else f"axis {self.axis}"


class AddOperation(nn.Module):
    """Element-wise sum."""

    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """Add."""
        for other in others:
            first = first + other
        return first


class MultiplyOperation(nn.Module):
    """Element-wise product."""

    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        for other in others:
            first = first * other
        return first


class _ElementWise(Node):
    """Base of sum and product."""

    operation_class: ClassVar[type[nn.Module]]

    def __init__(self, n1: Node | Sequence[Node], n2: Node | None = None, name: str = "", print_repr: bool = False):
        parents: list[Any] = [*n1] if isinstance(n1, list | tuple) else [n1]
        super().__init__(parents if n2 is None else [*parents, n2], name, print_repr)
        if len(self.parents) < 2:
            raise ModelError(f"{self.title} needs two nodes or more, but got {len(self.parents)}.")
        self._build(self.operation_class())
        _warn_if_shifted(self)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the common shape."""
        _check_alike(self, parents)
        return widest(parents)


class Add(_ElementWise):
    """Element-wise sum of two nodes or more.

    Parameters
    ----------
    n1 : Node or sequence of Node
        A sequence of as many as you like instead of two.
    n2 : Node, optional
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If sizes, strides or fragments differ.
    """

    operation_class = AddOperation

    def __init__(
        self, n1: Node | Sequence[Node], n2: Node | None = None, name: str = "add", print_repr: bool = False
    ) -> None:
        super().__init__(n1, n2, name, print_repr)

    @property
    def computational_cost(self) -> int:
        """Counted as nothing."""
        return 0


class MultMerge(_ElementWise):
    """Element-wise product of two nodes or more.

    Parameters
    ----------
    n1 : Node or sequence of Node
        A sequence of as many as you like instead of two.
    n2 : Node, optional
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If sizes, strides or fragments differ.
    """

    operation_class = MultiplyOperation

    def __init__(
        self, n1: Node | Sequence[Node], n2: Node | None = None, name: str = "multmerge", print_repr: bool = False
    ) -> None:
        super().__init__(n1, n2, name, print_repr)


class FaithlessOperation(nn.Module):
    """Concatenate; in training one of the two is blanked now and then."""

    def __init__(self, axis: int, failing_prob: Variable, hardeasy_ratio: Variable) -> None:
        super().__init__()
        self.axis, self.failing_prob, self.hardeasy_ratio = axis, failing_prob, hardeasy_ratio

    def forward(self, hard: torch.Tensor, easy: torch.Tensor) -> torch.Tensor:
        """Join."""
        if self.training:
            draw, which = torch.rand(2, device=hard.device).unbind()
            fails = draw < self.failing_prob.value  # type: ignore[operator]
            hard_fails = which < self.hardeasy_ratio.value  # type: ignore[operator]
            hard = torch.where(fails & hard_fails, torch.zeros_like(hard), hard)
            easy = torch.where(fails & ~hard_fails, torch.zeros_like(easy), easy)
        return torch.cat((hard, easy), self.axis)


class FaithlessMerge(_Joined):
    """Join two sets of features of which one fails at random in training, so that the network doesn't lean on one.

    In each training pass something fails with the probability `failing_prob`: then, with the probability
    `hardeasy_ratio`, all hard features are 0, otherwise all easy ones. Nothing is rescaled. In evaluation nothing
    fails.

    Parameters
    ----------
    hard_features, easy_features : Node
    axis : str
        Tag of the axis along which they are joined, the hard ones first.
    failing_prob : float
        From 0 to 1; live as ``node.failing_prob``.
    hardeasy_ratio : float
        Share of the failures that hits the *hard* features, from 0 to 1; live as ``node.hardeasy_ratio``.
    name : str
    print_repr : bool

    Notes
    -----
    ELEKTRONN2's documentation says of `hardeasy_ratio` what is said here, but its code let the *easy* features fail
    in that share; it also let them fail in predictions. For its training behaviour give ``1 - hardeasy_ratio``.

    Raises
    ------
    ShapeError
        If there is no such axis, or another axis or the strides differ.
    ModelError
        If a probability is no number from 0 to 1.
    """

    def __init__(
        self,
        hard_features: Node,
        easy_features: Node,
        axis: str = "f",
        failing_prob: float = 0.5,
        hardeasy_ratio: float = 0.8,
        name: str = "faithless_merge",
        print_repr: bool = False,
    ) -> None:
        super().__init__((hard_features, easy_features), axis, name, print_repr)
        failing = self._add_variable(
            "failing_prob",
            failing_prob,
            minimum=0.0,
            maximum=1.0,
            help="probability that one of the two sets of features is 0 in a training pass",
        )
        ratio = self._add_variable(
            "hardeasy_ratio",
            hardeasy_ratio,
            minimum=0.0,
            maximum=1.0,
            help="share of the failures that hits the hard features instead of the easy ones",
        )
        self._build(FaithlessOperation(self.parents[0].shape.tag2index(axis), failing, ratio))
        _warn_if_shifted(self)

    @property
    def detail(self) -> str:
        """The probabilities."""
        failing, ratio = (self.variables[key].value for key in ("failing_prob", "hardeasy_ratio"))
        return f"fails {failing:g}, of this hard {ratio:g}"


def _check_alike(node: Node, shapes: Sequence[TaggedShape], but: str | None = None) -> None:
    """Raise unless all have equal axes (`but` may differ in size), strides and fragments."""
    a, name_a = shapes[0], node.parents[0].name
    for b, parent in zip(shapes[1:], node.parents[1:], strict=True):
        pair = f"{name_a!r} {a.text} and {parent.name!r} {b.text}"
        if a.tags != b.tags:
            raise misfit(node, f"{pair} have unlike axes.")
        for tag, n, m in zip(a.tags, a.shape, b.shape, strict=True):
            if tag != but and n != m and None not in (n, m):
                axis = tag if tag in a.spatial_tags else None
                message = f"{pair} differ on axis {tag}: {n} and {m}; both must have the same size."
                raise misfit(node, message, axis)
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
    tags = first.shape.spatial_tags
    for parent in node.parents[1:]:
        shifts = zip(tags, first.shape.centre, parent.shape.centre, strict=True)
        if any(abs(a - b) >= 1 for tag, a, b in shifts if tag != getattr(node, "axis", None)):
            logger.warning(
                "%s: %r starts at input voxel %s, %r at %s: they are shifted against each other.",
                node.title,
                first.name,
                first.shape.offsets,
                parent.name,
                parent.shape.offsets,
            )


def widest(shapes: Sequence[TaggedShape]) -> TaggedShape:
    """Return the first shape with, on each axis, the largest of all fields of view (-1 if one is unknown).

    A size that is unknown in the first is taken from another.
    """
    first = shapes[0]
    fovs = list(zip(*(shape.fov for shape in shapes), strict=True))
    fov = [-1 if min(f) < 0 else max(f) for f in fovs]
    known = [[n for n in sizes if n is not None] for sizes in zip(*(shape.shape for shape in shapes), strict=True)]
    sizes = [n[0] if n else None for n in known]
    return TaggedShape(sizes, first.tags, first.strides, first.mfp_offsets, fov, centre=first.centre)
