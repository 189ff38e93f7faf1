"""Which features of a prediction are scores of which classes, and how often they are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from elektronn_tui.models.confusion import confusion

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["Classes"]

_SIGMOID = ("sig", "logistic", "sigmoid")


@dataclass(frozen=True)
class Classes:
    """How the features of a prediction are scores of classes.

    Attributes
    ----------
    n_class : int
        Classes of a group; 2 for a yes or no.
    n_indep : int
        Groups, each with a class id of its own in the target.
    axis : int
        Axis of the features.
    threshold : bool
        Each feature is the probability of class 1 of two.
    """

    n_class: int
    n_indep: int
    axis: int
    threshold: bool = False

    @classmethod
    def of(cls, model: Model) -> Classes | None:
        """Return them where the prediction are scores for an integer target of the same extent, else None."""
        target, prediction = model.target_node, model.prediction_node
        if target is None or "int" not in str(target.dtype) or "f" not in target.shape.tags:
            return None
        if prediction.shape.tags != target.shape.tags:
            return None
        if tuple(prediction.shape.spatial_shape) != tuple(target.shape.spatial_shape):
            return None
        features, groups = prediction.shape["f"], target.shape["f"]
        if not features or not groups:
            return None
        axis = prediction.shape.tag2index("f")
        if features == groups and getattr(prediction, "activation_func", "") in _SIGMOID:
            return cls(2, groups, axis, threshold=True)
        n_indep = getattr(prediction, "n_indep", groups)
        if n_indep != groups or features % groups or features // groups < 2:
            return None
        return cls(features // groups, groups, axis)

    def count(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Count how often each class was predicted for each, over all groups; see `confusion`."""
        prediction, target = prediction.movedim(self.axis, 1), target.movedim(self.axis, 1)
        if self.threshold:
            scores = torch.stack([1 - prediction, prediction], 1)
        else:
            scores = prediction.unflatten(1, (self.n_indep, self.n_class)).movedim(2, 1)
        return confusion(scores, target)
