"""How often the most probable class is wrong."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .loss import check_target
from .node import Node, misfit
from .shape import TaggedShape
from .softmax import Softmax

__all__ = ["Errors"]


class ErrorsOperation(nn.Module):
    """Share of wrong classes."""

    def __init__(self, n_class: int, n_indep: int, sparse: bool, threshold: bool) -> None:
        super().__init__()
        self.n_class, self.n_indep, self.sparse, self.threshold = n_class, n_indep, sparse, threshold

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map probabilities and targets to one number, (1,); 0 if nothing is labelled."""
        if self.threshold:
            found = (pred > 0.5).long()
        else:
            found = pred.unflatten(1, (self.n_indep, self.n_class)).argmax(2)
        if self.sparse:
            labelled = (target >= 0) & (target < self.n_class)
        elif self.threshold:
            labelled, target = target >= 0, target > 0.5
        else:
            groups = target.unflatten(1, (self.n_indep, self.n_class))
            labelled, target = groups.sum(2) > 0, groups.argmax(2)
        wrong = ((found != target) & labelled).sum()
        return (wrong / labelled.sum().clamp_min(1)).reshape(1)


class Errors(Node):
    """Share of labelled positions at which the most probable class is wrong.

    Parameters
    ----------
    pred : Node
        A `Softmax`; a node with sigmoid activation (each feature is one yes or no, at 0.5); or any other with
        `n_class` and `n_indep` given.
    target : Node
        Class ids (b, n_indep, ...); positions whose id is no class are left out. Or, not sparse, probabilities.
    target_is_sparse : bool
    n_class, n_indep : int or 'auto'
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If classes are not known.
    ShapeError
        If the target doesn't fit.
    """

    def __init__(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool = False,
        n_class: int | Literal["auto"] = "auto",
        n_indep: int | Literal["auto"] = "auto",
        name: str = "errors",
        print_repr: bool = False,
    ) -> None:
        super().__init__((pred, target), name, print_repr)
        threshold = False
        if isinstance(pred, Softmax):
            classes, groups = pred.n_class, pred.n_indep
        elif n_class != "auto" and n_indep != "auto":
            classes, groups = int(n_class), int(n_indep)
        elif getattr(pred, "activation_func", "") in ("sig", "logistic", "sigmoid"):
            threshold, classes, groups = True, 2, pred.shape["f"]
        else:
            raise ModelError(
                f"{self.title}: n_class and n_indep must be given, because {pred.title} is neither a Softmax "
                "nor a sigmoid."
            )
        for what, wanted, has in (("n_class", n_class, classes), ("n_indep", n_indep, groups)):
            if wanted not in ("auto", has):
                raise ModelError(f"{self.title}: {what} is {has} for {pred.name!r}, not {wanted}.")
        if not threshold and classes * groups != pred.shape["f"]:
            raise misfit(self, f"{groups} × {classes} classes don't fit {pred.shape.text}.")
        self.n_class, self.n_indep = classes, groups
        self.target_is_sparse = bool(target_is_sparse)
        self._n_target = groups if target_is_sparse or threshold else classes * groups
        self._build(ErrorsOperation(classes, groups, self.target_is_sparse, threshold))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of one number."""
        check_target(self, parents[0], parents[1], self._n_target)
        return TaggedShape((1,), "f")
