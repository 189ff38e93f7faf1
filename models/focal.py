"""Cross-entropy that looks at what is hard."""

from __future__ import annotations

import numpy.typing as npt
import torch
from torch import nn

from .classes import ClassLayout, class_layout
from .loss import EPS, check_weights, full_precision
from .nll import ClassWeights, add_class_weights
from .node import Node
from .shape import TaggedShape
from .variables import Variable

__all__ = ["FocalNLL"]


class FocalOperation(nn.Module):
    """Cross-entropy times a power of what is missing to certainty, at every position."""

    def __init__(self, layout: ClassLayout, gamma: Variable, class_weights: ClassWeights) -> None:
        super().__init__()
        self.layout, self.gamma, self.class_weights = layout, gamma, class_weights

    def forward(self, pred: torch.Tensor, target: torch.Tensor, *example_weights: torch.Tensor) -> torch.Tensor:
        """Map probabilities (b, f, ...) and targets to losses (b, 1, ...)."""
        layout = self.layout
        pred, target = layout.features_second(full_precision(pred), target)
        t, labelled = layout.probabilities(target, pred.dtype)
        gamma: float = self.gamma.value  # type: ignore[assignment]

        def focal(p: torch.Tensor) -> torch.Tensor:
            # The bound keeps the gradient finite where p is 1 and gamma below 1.
            return -torch.log(p + EPS) * (1 - p).clamp_min(EPS) ** gamma

        loss = t * focal(pred)
        if layout.yes_no:
            loss = loss + labelled.to(pred.dtype) * (1 - t) * focal(1 - pred)
        weights = self.class_weights(pred)
        if weights is not None:
            loss = loss * weights.reshape(-1, *(1,) * (pred.ndim - 2))
        loss = loss.sum(1, keepdim=True)
        for given in example_weights:
            loss = loss * layout.position_weights(given, pred)
        return layout.features_back(loss * (loss.numel() / labelled.sum().clamp_min(1)))


class FocalNLL(Node):
    """Focal loss: ``-(1 - p)^gamma log(p + EPS)`` of the true class, at every position (Lin et al., 2017).

    What is right already counts little. For a sigmoid each feature is one yes or no, and its other answer counts
    likewise. The mean over all positions is the sum over the number of labels, as for `MultinoulliNLL`, which it equals
    at ``gamma = 0``.

    Parameters
    ----------
    pred : Node
        A `Softmax` or a piece of one, or a node with sigmoid activation.
    target : Node
        Class ids (b, n_indep, ...), or, not sparse, probabilities of pred's shape. No label: an id that is no class;
        probabilities that are 0 everywhere; for a sigmoid a number below 0 or NaN.
    target_is_sparse : bool
    gamma : float
        From 0 on; live, as ``node.gamma``.
    class_weights : sequence of float, optional
        One for each feature of `pred` (called alpha in the paper); live, as ``node.class_weights``.
    example_weights : Node, optional
        (b, ...) without the f axis, or with one of size 1.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `pred` is neither a Softmax nor a sigmoid, or an argument is no good.
    ShapeError
        If target or weights don't fit.
    """

    def __init__(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool = False,
        gamma: float = 2.0,
        class_weights: npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        name: str = "focal",
        print_repr: bool = False,
    ) -> None:
        extra = () if example_weights is None else (example_weights,)
        super().__init__((pred, target, *extra), name, print_repr)
        self._layout = class_layout(self, pred, target_is_sparse)
        self.n_class, self.n_indep = self._layout.n_class, self._layout.n_indep
        variable = self._add_variable("gamma", gamma, minimum=0.0, help="how little counts what is right already")
        weights = add_class_weights(self, class_weights, self._layout.n_features)
        self._build(FocalOperation(self._layout, variable, weights))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the prediction with one feature."""
        pred, target, *weights = parents
        self._layout.check(self, pred, target)
        for shape in weights:
            check_weights(self, shape, pred)
        return pred.updateshape("f", 1)
