"""Distances between vectors on the f axis, and the loss of two of them."""

from __future__ import annotations

import torch
from torch import nn

from .loss import check_target, full_precision, labelled_targets
from .node import Node, misfit
from .shape import TaggedShape
from .variables import Variable

__all__ = ["EuclideanDistance", "RampLoss"]


class EuclideanOperation(nn.Module):
    """Length of the difference."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map two arrays of vectors to their distances, of size 1 on the axis."""
        pred = full_precision(pred)
        target, known = labelled_targets(target, pred)
        known = known.all(self.axis, keepdim=True) & ~torch.isnan(pred).any(self.axis, keepdim=True)
        # What is not a number must not even enter the norm, or its gradient is none either.
        return torch.linalg.vector_norm(torch.where(known, target - pred, 0), dim=self.axis, keepdim=True)


class EuclideanDistance(Node):
    """Euclidean distance of vectors on the f axis, at every position; 0 where one of them isn't known.

    Parameters
    ----------
    pred, target : Node
        Of the same axes and sizes; where an entry is NaN, or one of the target -666, nothing is known.
    name : str
    print_repr : bool

    Notes
    -----
    The value keeps the f axis, with size 1. Where the distance is 0 the gradient is.

    Raises
    ------
    ShapeError
        If the target doesn't fit or there is no f axis.
    """

    def __init__(self, pred: Node, target: Node, name: str = "se", print_repr: bool = False) -> None:
        super().__init__((pred, target), name, print_repr)
        if not pred.shape.hastag("f"):
            raise misfit(self, f"needs vectors on an axis f, but {pred.name!r} has {pred.shape.text}.")
        self._build(EuclideanOperation(pred.shape.tag2index("f")))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the prediction with one feature."""
        pred, target = parents
        check_target(self, pred, target)
        return pred.updateshape("f", 1)


class RampOperation(nn.Module):
    """What one value exceeds another."""

    def __init__(self, axis: int | None, margin: Variable) -> None:
        super().__init__()
        self.axis, self.margin = axis, margin

    def forward(self, low: torch.Tensor, big: torch.Tensor) -> torch.Tensor:
        """Map two arrays to losses with one feature."""
        low, big = full_precision(low), full_precision(big)
        margin: float = self.margin.value  # type: ignore[assignment]
        d = low - big + margin
        loss = torch.where(torch.isnan(d), 0, d).clamp_min(0)
        return loss if self.axis is None else loss.mean(self.axis, keepdim=True)


class RampLoss(Node):
    """How far one distance is from being smaller than another: ``max(0, d_low - d_big + margin)``, as of triplets.

    Averaged over the features; 0 where a distance is NaN (Schroff et al., 2015, with distances of one anchor).

    Parameters
    ----------
    d_low, d_big : Node
        Of the same axes and sizes: what should be the smaller, and what the larger one.
    name : str
    margin : float, optional
        0 by default; live as ``node.margin``.
    print_repr : bool

    Raises
    ------
    ModelError
        If the margin is negative.
    ShapeError
        If sizes differ.
    """

    def __init__(
        self, d_low: Node, d_big: Node, name: str = "se", margin: float | None = None, print_repr: bool = False
    ) -> None:
        super().__init__((d_low, d_big), name, print_repr)
        variable = self._add_variable(
            "margin", 0.0 if margin is None else margin, minimum=0.0, help="by how much one must be smaller"
        )
        axis = d_low.shape.tag2index("f") if d_low.shape.hastag("f") else None
        self._build(RampOperation(axis, variable))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the distances with one feature."""
        low, big = parents
        check_target(self, low, big)
        return low.updateshape("f", 1) if low.hastag("f") else low
