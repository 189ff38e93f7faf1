"""Class probabilities."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["OneHot", "Softmax", "class_groups"]


def class_groups(node: Node) -> tuple[int, int] | None:
    """Return `n_class` and `n_indep` of a node whose features are class probabilities, or None.

    Such a node is a `Softmax`, or any node that has both attributes and as many features as they say, as a piece split
    from a Softmax has.
    """
    n_class, n_indep = getattr(node, "n_class", None), getattr(node, "n_indep", None)
    if n_class is None or n_indep is None or not node.shape.hastag("f") or n_class * n_indep != node.shape["f"]:
        return None
    return int(n_class), int(n_indep)


class SoftmaxOperation(nn.Module):
    """Softmax over groups of features, never in half precision."""

    def __init__(self, axis: int, n_indep: int, n_class: int) -> None:
        super().__init__()
        self.axis, self.n_indep, self.n_class = axis, n_indep, n_class

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map scores to probabilities of the same shape."""
        dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        if self.n_indep == 1:
            return torch.softmax(x, self.axis, dtype)
        groups = x.unflatten(self.axis, (self.n_indep, self.n_class))
        return torch.softmax(groups, self.axis + 1, dtype).flatten(self.axis, self.axis + 1)


class Softmax(Node):
    """Softmax over the features, in `n_indep` contiguous groups of `n_class`.

    Parameters
    ----------
    parent : Node
        With an f axis and, if it has an activation function, ``'lin'``.
    n_class : int or 'auto'
        Default: all features of a group.
    n_indep : int
        Number of independent groups.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If the parent has another activation.
    ShapeError
        If the features don't divide into the groups.
    """

    def __init__(
        self,
        parent: Node,
        n_class: int | Literal["auto"] = "auto",
        n_indep: int = 1,
        name: str = "softmax",
        print_repr: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        activation = getattr(parent, "activation_func", "lin")
        if activation not in ("lin", "linear"):
            raise ModelError(
                f"{self.title}: its parent {parent.name!r} has the activation {activation!r}; it needs 'lin'."
            )
        n_f = parent.shape["f"]
        if not isinstance(n_indep, int | np.integer) or (
            n_class != "auto" and not isinstance(n_class, int | np.integer)
        ):
            raise ModelError(f"{self.title}: n_class and n_indep must be whole numbers, not {n_class!r}, {n_indep!r}.")
        if n_f is None or n_indep < 1 or n_f % n_indep:
            raise misfit(self, f"{n_f} features of {parent.name!r} don't divide into {n_indep} groups.")
        self.n_indep = int(n_indep)
        self.n_class = n_f // self.n_indep if n_class == "auto" else int(n_class)
        if self.n_class * self.n_indep != n_f:
            raise misfit(
                self,
                f"{self.n_indep} × {self.n_class} classes need {self.n_class * self.n_indep} features, "
                f"but {parent.name!r} has {n_f}.",
            )
        self._build(SoftmaxOperation(parent.shape.tag2index("f"), self.n_indep, self.n_class))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the parent's shape."""
        return parents[0]

    @property
    def detail(self) -> str:
        """Classes."""
        return f"{self.n_class} classes" + (f" × {self.n_indep}" if self.n_indep > 1 else "")


class OneHotOperation(nn.Module):
    """Ids to one feature for each class."""

    def __init__(self, axis: int, n_class: int) -> None:
        super().__init__()
        self.axis, self.n_class = axis, n_class

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids of size 1 on an axis to 0 and 1, float32, of size n_class on that axis."""
        following = (1,) * (ids.ndim - self.axis - 1)
        classes = torch.arange(self.n_class, device=ids.device).reshape(-1, *following)
        return (ids == classes).to(torch.float64 if ids.dtype == torch.float64 else torch.float32)


class OneHot(Node):
    """Class ids as 0 and 1, one feature for each class; an id that is no class (-1, say) gives 0 everywhere.

    Parameters
    ----------
    target : Node
        Class ids, with size 1 on `axis`.
    n_class : int
    axis : str
        Tag of the axis on which the classes come to lie.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `n_class` is no whole number from 1 on.
    ShapeError
        If `target` has no such axis, or its size isn't 1.
    """

    def __init__(
        self, target: Node, n_class: int, axis: str = "f", name: str = "onehot", print_repr: bool = False
    ) -> None:
        super().__init__(target, name, print_repr)
        if isinstance(n_class, bool) or not isinstance(n_class, int | np.integer) or n_class < 1:
            raise ModelError(f"{self.title}: n_class must be a whole number from 1 on, not {n_class!r}.")
        if not isinstance(axis, str):
            raise ModelError(f"{self.title}: axis must be a tag, as 'f', not {axis!r}.")
        self.n_class, self.n_indep, self.axis = int(n_class), 1, axis
        if not target.shape.hastag(axis):
            raise misfit(self, f"{target.name!r} has no axis {axis!r}, only {target.shape.text}.")
        self._build(OneHotOperation(target.shape.tag2index(axis), self.n_class))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape with n_class on the axis."""
        (shape,) = parents
        if shape[self.axis] != 1:
            raise misfit(self, f"class ids must have size 1 on axis {self.axis}; they have {shape.text}.", self.axis)
        return shape.updateshape(self.axis, self.n_class)

    @property
    def detail(self) -> str:
        """Classes."""
        return f"{self.n_class} classes"
