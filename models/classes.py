"""How the features of a prediction are classes, and what a target says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from elektronn_tui.errors import ModelError

from .loss import PROBABILITY, check_target, per_position
from .node import Node, misfit
from .shape import TaggedShape
from .softmax import class_groups

__all__ = ["ClassLayout", "class_layout"]


@dataclass(frozen=True)
class ClassLayout:
    """Which features belong to which class, and how targets are written.

    Attributes
    ----------
    n_class, n_indep : int
        `n_indep` independent questions with `n_class` answers each.
    yes_no : bool
        Each feature is the probability of one yes (`n_class` is 2), instead of `n_class` features a question.
    sparse : bool
        The target holds class ids (b, n_indep, ...), instead of a probability for each feature.
    axis : int
        Index of the f axis.
    """

    n_class: int
    n_indep: int
    yes_no: bool
    sparse: bool
    axis: int

    @property
    def n_features(self) -> int:
        """Features of the prediction."""
        return self.n_indep * (1 if self.yes_no else self.n_class)

    @property
    def n_target(self) -> int:
        """Features of the target."""
        return self.n_indep if self.sparse else self.n_features

    def check(self, node: Node, pred: TaggedShape, target: TaggedShape) -> None:
        """Raise `ShapeError` unless the target fits the prediction."""
        check_target(node, pred, target, self.n_target)

    def features_second(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return views with the features on axis 1."""
        return tensors if self.axis == 1 else tuple(x.movedim(self.axis, 1) for x in tensors)

    def features_back(self, x: torch.Tensor) -> torch.Tensor:
        """Return a view of values whose features are on axis 1 with the features where the prediction has them."""
        return x if self.axis == 1 else x.movedim(1, self.axis)

    def position_weights(self, weights: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
        """Return weights of positions in the type of `pred`, with an axis 1 of size 1, which they may lack."""
        has_features = weights.ndim == pred.ndim
        return per_position(self.features_second(weights)[0] if has_features else weights, pred)

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """Return (b, f, ...) as (b, f, positions)."""
        return x.reshape(*x.shape[:2], -1)

    def grouped(self, x: torch.Tensor) -> torch.Tensor:
        """Return (b, n_indep * n_class, ...) as (b, n_indep, n_class, ...)."""
        return x.unflatten(1, (self.n_indep, self.n_class))

    def chosen(self, pred: torch.Tensor) -> torch.Tensor:
        """Return the ids (b, n_indep, ...) of the most probable classes, int64; features are on axis 1."""
        return (pred > 0.5).long() if self.yes_no else self.grouped(pred).argmax(2)

    def true(self, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ids (b, n_indep, ...) that the target says, int64, and where it says something.

        An id that is no class, a yes or no below 0 or NaN, and a group of probabilities without a positive sum are
        "no label"; the id is 0 there.
        """
        if self.yes_no and not self.sparse:
            labelled = (target >= 0) & (target <= 1)
            return ((target > 0.5) & labelled).long(), labelled
        if self.sparse:
            labelled = (target >= 0) & (target < self.n_class)
            return torch.where(labelled, target, 0).long(), labelled
        groups = self.grouped(target)
        labelled = groups.sum(2) > 0
        return torch.where(labelled, groups.argmax(2), 0), labelled

    def probabilities(self, target: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the target as a probability for each feature, 0 where nothing is labelled, and where something is.

        Returns
        -------
        t : Tensor of `dtype`, (b, n_features, ...)
        labelled : Tensor of bool, (b, n_indep, ...)
        """
        if self.yes_no:
            labelled = (target >= 0) & (target <= 1)
            return torch.where(labelled, target, 0).to(dtype), labelled
        if self.sparse:
            spatial = (1,) * (target.ndim - 2)
            classes = torch.arange(self.n_class, device=target.device, dtype=torch.int64).reshape(-1, *spatial)
            t = (target.unsqueeze(2) == classes).flatten(1, 2).to(dtype)
            return t, (target >= 0) & (target < self.n_class)
        groups = self.grouped(target.to(dtype))
        labelled = groups.sum(2) > 0
        return torch.where(labelled.unsqueeze(2), groups, 0).flatten(1, 2), labelled

    def per_feature(self, x: torch.Tensor) -> torch.Tensor:
        """Repeat (b, n_indep, ...) for each feature of a group: (b, n_features, ...)."""
        return x if self.yes_no else x.repeat_interleave(self.n_class, 1)


def class_layout(
    node: Node,
    pred: Node,
    target_is_sparse: bool = False,
    n_class: int | Literal["auto"] = "auto",
    n_indep: int | Literal["auto"] = "auto",
) -> ClassLayout:
    """Find out how the features of `pred` are classes.

    Parameters
    ----------
    node : Node
        For whom, for messages.
    pred : Node
        A `Softmax` or another node of probabilities with `n_class` and `n_indep` (a piece split from one); a node
        with sigmoid activation; or any other if `n_class` and `n_indep` are given.

    Raises
    ------
    ModelError
        If it can't be known, or differs from what is given.
    ShapeError
        If the features don't divide into the classes.
    """
    for what, given in (("n_class", n_class), ("n_indep", n_indep)):
        if given != "auto" and (isinstance(given, bool) or not isinstance(given, int | np.integer)):
            raise ModelError(f"{node.title}: {what} must be a whole number or 'auto', not {given!r}.")
    known = class_groups(pred)
    yes_no = False
    if known is not None:
        classes, groups = known
    elif n_class != "auto" and n_indep != "auto":
        classes, groups = int(n_class), int(n_indep)
    elif getattr(pred, "activation_func", "") in PROBABILITY and pred.shape.hastag("f"):
        yes_no, classes, groups = True, 2, pred.shape["f"]
    else:
        raise ModelError(
            f"{node.title}: n_class and n_indep must be given, because {pred.title} is neither a Softmax nor a sigmoid."
        )
    for what, wanted, has in (("n_class", n_class, classes), ("n_indep", n_indep, groups)):
        if wanted not in ("auto", has):
            raise ModelError(f"{node.title}: {what} is {has} for {pred.name!r}, not {wanted}.")
    if not yes_no and (classes < 2 or groups < 1 or not pred.shape.hastag("f") or classes * groups != pred.shape["f"]):
        raise misfit(node, f"{groups} × {classes} classes don't fit {pred.shape.text}; a yes or no has 2 classes.", "f")
    return ClassLayout(classes, groups, yes_no, bool(target_is_sparse), pred.shape.tag2index("f"))
