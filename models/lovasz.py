"""The Lovász extension of the Jaccard loss."""

from __future__ import annotations

from typing import Literal

import numpy.typing as npt
import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError

from .classes import ClassLayout, class_layout
from .nll import ClassWeights
from .node import Node
from .overlap import OverlapNode, OverlapOperation
from .softmax import class_groups

__all__ = ["LovaszLoss"]


class LovaszOperation(OverlapOperation):
    """A convex extension of 1 - IoU, from sorted errors."""

    def __init__(
        self, layout: ClassLayout, per_example: bool, class_weights: ClassWeights, hinge: bool, present: bool
    ) -> None:
        super().__init__(layout, per_example, class_weights)
        self.hinge, self.present = hinge, present

    def loss(self, p: torch.Tensor, t: torch.Tensor, w: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the losses (b, f)."""
        truth = (t > 0.5).to(p.dtype)
        errors = 1 - p * (2 * truth - 1) if self.hinge else (truth - p).abs()
        # What isn't labelled goes to the end of the order, where it changes nothing before it.
        order = torch.where(known, errors.detach(), -torch.inf).argsort(2, descending=True)
        truth, valid = (truth * known).gather(2, order), known.gather(2, order)
        errors = torch.where(valid, errors.gather(2, order), 0)
        # The gradient is a difference of numbers near 1, which has no digits left in single precision.
        volume = truth.sum(2, keepdim=True, dtype=torch.float64)
        left = volume - truth.cumsum(2, dtype=torch.float64)
        union = volume + (valid.to(p.dtype) - truth).cumsum(2, dtype=torch.float64)
        jaccard = 1 - left / union.clamp_min(1)
        gradient = torch.diff(jaccard, dim=2, prepend=torch.zeros_like(volume)).to(p.dtype)
        if self.hinge:
            errors = F.relu(errors)
        return (errors * gradient).sum(2)

    def counts(self, t: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return which (b, f) count: those with a label, or with a position of their class."""
        return ((t > 0.5) & known).any(2) if self.present else known.any(2)


class LovaszLoss(OverlapNode):
    """Lovász loss of every class in every example: a convex stand-in for 1 - IoU (Berman, Triki, Blaschko, 2018).

    For probabilities (Softmax, sigmoid) errors are ``|t - p|``; for scores (a layer with activation ``lin``, each
    feature is one yes or no) they are hinges ``1 - score (2 t - 1)``. Targets count as 1 above 0.5.

    Parameters
    ----------
    pred : Node
        A `Softmax` or a piece of one, a node with sigmoid activation, or scores.
    target : Node
        As for `DiceLoss`; for scores as for a sigmoid.
    target_is_sparse : bool
    classes : {'present', 'all'}, optional
        Whether a class counts in an example in which it doesn't occur; by default not for a Softmax, but for yes or no.
    class_weights : sequence of float, optional
        One for each feature of `pred`, relative to each other. Live, as ``node.class_weights``.
    per_example : bool
        Whether positions are sorted in each example, or in the whole batch.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `pred` is none of these or an argument is no good.
    ShapeError
        If the target doesn't fit.
    """

    def __init__(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool = False,
        classes: Literal["present", "all"] | None = None,
        class_weights: npt.ArrayLike | None = None,
        per_example: bool = True,
        name: str = "lovasz",
        print_repr: bool = False,
    ) -> None:
        self._hinge = False
        super().__init__(pred, target, target_is_sparse, class_weights, None, per_example, name, print_repr)
        if classes not in (None, "present", "all"):
            raise ModelError(f"{self.title}: classes must be 'present' or 'all', not {classes!r}.")
        present = not self._layout.yes_no if classes is None else classes == "present"
        self._build(LovaszOperation(self._layout, self.per_example, self._weights, self._hinge, present))

    def _find_layout(self, pred: Node, target_is_sparse: bool) -> ClassLayout:
        if class_groups(pred) is None and getattr(pred, "activation_func", None) in ("lin", "linear"):
            self._hinge = True
            n_f = pred.shape["f"]
            return ClassLayout(2, n_f, True, bool(target_is_sparse), pred.shape.tag2index("f"))
        return class_layout(self, pred, target_is_sparse)

    @property
    def detail(self) -> str:
        """Kind of errors."""
        return "hinge" if self._hinge else ""
