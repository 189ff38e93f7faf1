"""Classes that were chosen, how often they are wrong, and the matrix of which was taken for which."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError, did_you_mean

from .classes import ClassLayout, class_layout
from .confusion import SCORES, Confusion, count_pairs
from .node import Node
from .shape import TaggedShape

__all__ = ["ClassScores", "Classification", "ConfusionMatrix", "Errors"]

Auto = int | Literal["auto"]


class ClassificationOperation(nn.Module):
    """Ids of the most probable classes."""

    def __init__(self, layout: ClassLayout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, pred: torch.Tensor) -> torch.Tensor:
        """Map probabilities (b, f, ...) to ids (b, n_indep, ...)."""
        return self.layout.features_back(self.layout.chosen(*self.layout.features_second(pred)))


class Classification(Node):
    """Ids of the most probable classes, one for each group.

    Parameters
    ----------
    pred : Node
        A `Softmax`, or any node of probabilities with `n_class` and `n_indep` (a piece split from one); a node with
        sigmoid activation (each feature is one yes or no, at 0.5); or any other with `n_class` and `n_indep` given.
    n_class, n_indep : int or 'auto'
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If classes are not known.
    ShapeError
        If the features don't divide into the classes.
    """

    dtype = "int64"

    def __init__(
        self, pred: Node, n_class: Auto = "auto", n_indep: Auto = "auto", name: str = "cls", print_repr: bool = False
    ) -> None:
        super().__init__(pred, name, print_repr)
        layout = class_layout(self, pred, False, n_class, n_indep)
        self.n_class, self.n_indep = layout.n_class, layout.n_indep
        self._build(ClassificationOperation(layout))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the parent's shape with one feature for each group."""
        return parents[0].updateshape("f", self.n_indep)


class _Metric(Node):
    """What compares chosen classes with a target."""

    def __init__(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool,
        n_class: Auto,
        n_indep: Auto,
        name: str,
        print_repr: bool,
    ) -> None:
        super().__init__((pred, target), name, print_repr)
        self._layout = class_layout(self, pred, target_is_sparse, n_class, n_indep)
        self.n_class, self.n_indep = self._layout.n_class, self._layout.n_indep
        self.target_is_sparse = bool(target_is_sparse)


class ErrorsOperation(nn.Module):
    """Share of wrong classes."""

    def __init__(self, layout: ClassLayout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map probabilities and targets to one number, (1,); 0 if nothing is labelled."""
        pred, target = self.layout.features_second(pred, target)
        true, labelled = self.layout.true(target)
        wrong = ((self.layout.chosen(pred) != true) & labelled).sum()
        return (wrong / labelled.sum().clamp_min(1)).reshape(1)


class Errors(_Metric):
    """Share of labelled positions at which the most probable class is wrong.

    Parameters
    ----------
    pred : Node
        As for `Classification`.
    target : Node
        Class ids (b, n_indep, ...); positions whose id is no class are left out. Or, not sparse, probabilities of
        pred's shape; positions where they are all 0 are left out, and for a sigmoid those below 0 or NaN.
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
        n_class: Auto = "auto",
        n_indep: Auto = "auto",
        name: str = "errors",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, target_is_sparse, n_class, n_indep, name, print_repr)
        self._build(ErrorsOperation(self._layout))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of one number."""
        self._layout.check(self, *parents)
        return TaggedShape((1,), "f")


class ConfusionOperation(nn.Module):
    """Counts of (true, predicted) in each example."""

    def __init__(self, layout: ClassLayout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map probabilities and targets to counts (b, n_indep * n_class * n_class)."""
        layout = self.layout
        pred, target = layout.features_second(pred, target)
        true, labelled = layout.true(target)
        true = torch.where(labelled, true, -1)
        counts = count_pairs(layout.rows(layout.chosen(pred)), layout.rows(true), layout.n_class)
        return counts.flatten(1)


class ConfusionMatrix(_Metric):
    """How often each class was predicted for each, in every example; `confusions` makes scores of it.

    Parameters
    ----------
    pred, target, target_is_sparse, n_class, n_indep
        As for `Errors`.
    name : str
    print_repr : bool

    Notes
    -----
    The value is int64 (b, n_indep * n_class * n_class), of which each group is a matrix (true, predicted) in C order.
    Counts of several batches may be added.

    Raises
    ------
    ModelError
        If classes are not known.
    ShapeError
        If the target doesn't fit.
    """

    dtype = "int64"

    def __init__(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool = False,
        n_class: Auto = "auto",
        n_indep: Auto = "auto",
        name: str = "confusion",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, target_is_sparse, n_class, n_indep, name, print_repr)
        self._build(ConfusionOperation(self._layout))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of one matrix for each group."""
        self._layout.check(self, *parents)
        first = parents[0].shape[0]
        return TaggedShape((first, self.n_indep * self.n_class**2), (parents[0].tags[0], "f"))

    def confusions(self, values: npt.ArrayLike) -> list[Confusion]:
        """Return a `Confusion` for each group from values of the node, summed over examples."""
        counts = np.asarray(values).reshape(-1, self.n_indep, self.n_class, self.n_class).sum(0)
        return [Confusion(group) for group in counts]


class ClassScoresOperation(nn.Module):
    """A score of each class over the batch."""

    def __init__(self, layout: ClassLayout, score: str) -> None:
        super().__init__()
        self.count = ConfusionOperation(layout)
        self.shape = (layout.n_indep, layout.n_class, layout.n_class)
        self.score = score

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map probabilities and targets to scores (n_indep * n_class,)."""
        counts = self.count(pred, target).sum(0).reshape(self.shape).double()
        found = counts.diagonal(dim1=1, dim2=2)
        true, predicted = counts.sum(2), counts.sum(1)
        part, whole = SCORES[self.score](found, true, predicted)
        return torch.where(whole > 0, part / whole, torch.nan).float().flatten()


class ClassScores(_Metric):
    """Precision, recall, IoU or Dice of each class over the labelled positions of the batch.

    Parameters
    ----------
    pred, target : Node
        As for `Errors`.
    score : {'iou', 'dice', 'precision', 'recall'}
    target_is_sparse : bool
    n_class, n_indep : int or 'auto'
    name : str
    print_repr : bool

    Notes
    -----
    The value is (n_indep * n_class,), NaN for a class that does not occur. Averages over batches are not those of all
    positions: for these add up a `ConfusionMatrix`.

    Raises
    ------
    ModelError
        If classes are not known or there is no such score.
    ShapeError
        If the target doesn't fit.
    """

    def __init__(
        self,
        pred: Node,
        target: Node,
        score: str = "iou",
        target_is_sparse: bool = False,
        n_class: Auto = "auto",
        n_indep: Auto = "auto",
        name: str = "scores",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, target_is_sparse, n_class, n_indep, name, print_repr)
        if not isinstance(score, str) or score not in SCORES:
            raise ModelError(
                f"{self.title}: there is no score {score!r}, only {', '.join(SCORES)}."
                f"{did_you_mean(str(score), SCORES)}"
            )
        self.score = score
        self._build(ClassScoresOperation(self._layout, score))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of one number for each class."""
        self._layout.check(self, *parents)
        return TaggedShape((self.n_indep * self.n_class,), "f")

    @property
    def detail(self) -> str:
        """Which score."""
        return self.score
