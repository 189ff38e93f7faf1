"""Class probabilities."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["Softmax"]


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
        if "n_class" not in self.__dict__:
            return ""
        return f"{self.n_class} classes" + (f" × {self.n_indep}" if self.n_indep > 1 else "")
