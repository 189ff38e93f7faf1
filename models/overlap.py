"""Losses of the overlap between prediction and target: Dice, Tversky, and Dice with cross-entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .classes import ClassLayout, class_layout
from .loss import EPS, check_weights, full_precision
from .nll import ClassWeights, add_class_weights
from .node import Node, misfit
from .shape import TaggedShape
from .variables import Variable

__all__ = ["BCEDiceLoss", "DiceLoss", "OverlapNode", "OverlapOperation", "TverskyLoss"]


class OverlapOperation(nn.Module, ABC):
    """A loss for every example and class from sums over positions."""

    def __init__(self, layout: ClassLayout, per_example: bool, class_weights: ClassWeights) -> None:
        super().__init__()
        self.layout, self.per_example, self.class_weights = layout, per_example, class_weights

    @abstractmethod
    def loss(self, p: torch.Tensor, t: torch.Tensor, w: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the losses (b, f) from rows (b, f, positions): prediction, target, weights, what is labelled."""

    def counts(self, t: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return which losses (b, f) count: those of examples with a label."""
        return known.any(2)

    def forward(self, pred: torch.Tensor, target: torch.Tensor, *example_weights: torch.Tensor) -> torch.Tensor:
        """Map probabilities (b, f, ...) and targets to losses (b, f), or (1, f) over the batch."""
        layout = self.layout
        pred, target = layout.features_second(full_precision(pred), target)
        t, labelled = layout.probabilities(target, pred.dtype)
        known = layout.per_feature(labelled)
        w = known.to(pred.dtype)
        for given in example_weights:
            w = w * layout.position_weights(given, pred)
        rows = [layout.rows(x) for x in (pred, t, w, known)]
        if not self.per_example:
            rows = [x.movedim(0, 1).flatten(1).unsqueeze(0) for x in rows]
        loss = self.loss(*rows)
        counted = self.counts(rows[1], rows[3])
        if loss.shape != counted.shape:  # one number for a group
            counted = layout.grouped(counted).any(2)
        elif (weights := self.class_weights(pred)) is not None:
            loss = loss * (weights * (len(weights) / weights.sum()))
        return torch.where(counted, loss, 0) * (loss.numel() / counted.sum().clamp_min(1))


class OverlapNode(Node):
    """What losses of overlap share: one number for each example and class, those without any label left out."""

    def __init__(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool,
        class_weights: npt.ArrayLike | None,
        example_weights: Node | None,
        per_example: bool,
        name: str,
        print_repr: bool,
    ) -> None:
        extra = () if example_weights is None else (example_weights,)
        super().__init__((pred, target, *extra), name, print_repr)
        self._layout = self._find_layout(pred, target_is_sparse)
        self.n_class, self.n_indep = self._layout.n_class, self._layout.n_indep
        self.per_example = bool(per_example)
        if pred.shape.tags[0] != "b":
            raise misfit(self, f"the first axis of the prediction must be b; it has {pred.shape.text}.")
        self._weights = add_class_weights(self, class_weights, self._layout.n_features)

    def _find_layout(self, pred: Node, target_is_sparse: bool) -> ClassLayout:
        return class_layout(self, pred, target_is_sparse)

    def _add_number(self, name: str, value: float, help: str) -> Variable:
        return self._add_variable(name, value, minimum=0.0, help=help)

    def _n_losses(self) -> int:
        return self._layout.n_features

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of one number for each example and class."""
        pred, target, *weights = parents
        self._layout.check(self, pred, target)
        for shape in weights:
            check_weights(self, shape, pred)
        return TaggedShape((pred["b"] if self.per_example else 1, self._n_losses()), "b,f")


class DiceOperation(OverlapOperation):
    """1 minus the soft Dice coefficient."""

    smooth: Variable
    generalised: bool
    squared: bool

    def loss(self, p: torch.Tensor, t: torch.Tensor, w: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the losses (b, f), or of groups (b, n_indep)."""
        smooth: float = self.smooth.value  # type: ignore[assignment]
        pw, tw = p * w, t * w
        # Products and sums, no einsum: autocast would multiply matrices in bfloat16.
        both = (pw * t).sum(2)
        volume = tw.sum(2)
        size = (pw * p).sum(2) + (tw * t).sum(2) if self.squared else pw.sum(2) + volume
        if self.generalised:
            share = volume.detach().clamp_min(1).pow(-2)
            weights = self.class_weights(p)
            if weights is not None:
                share = share * weights
            groups = self.layout.grouped(share)
            groups = groups * (self.layout.n_class / groups.sum(2, keepdim=True).clamp_min(1e-30))
            both = (groups * self.layout.grouped(both)).sum(2)
            size = (groups * self.layout.grouped(size)).sum(2)
        return 1 - _fraction(2 * both + smooth, size + smooth)


def _fraction(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return part / whole, 1 where there is nothing at all."""
    empty = whole <= 0
    return torch.where(empty, 1, part / whole.masked_fill(empty, 1))


class DiceLoss(OverlapNode):
    """1 minus the soft Dice coefficient of every class in every example: ``1 - (2 sum(p t) + s) / (sum(p + t) + s)``.

    Sums run over labelled positions (Milletari et al., 2016). Classes without a label in an example are left out, and
    the rest is scaled so that the mean is that over what counts.

    Parameters
    ----------
    pred : Node
        A `Softmax` or a piece of one, or a node with sigmoid activation (each feature is one yes or no).
    target : Node
        Class ids (b, n_indep, ...), or, not sparse, probabilities of pred's shape. No label: an id that is no class;
        probabilities that are 0 everywhere; for a sigmoid a number below 0 or NaN.
    target_is_sparse : bool
    class_weights : sequence of float, optional
        One for each feature of `pred`, relative to each other: the mean becomes a weighted one. Live, as
        ``node.class_weights``.
    example_weights : Node, optional
        (b, ...) without the f axis, or with one of size 1: weights of positions in the sums.
    smooth : float
        s in the formula, from 0 on; live, as ``node.smooth``.
    generalised : bool
        One number for each group of classes, in whose sums a class counts by the inverse square of its volume (at
        least 1), so that small classes weigh as much as large ones (Sudre et al., 2017). Not for sigmoids.
    squared : bool
        Sum ``p² + t²`` in the denominator, as Milletari et al. do.
    per_example : bool
        Whether sums are of each example, or of the whole batch.
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
        class_weights: npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        smooth: float = 1.0,
        generalised: bool = False,
        squared: bool = False,
        per_example: bool = True,
        name: str = "dice",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, target_is_sparse, class_weights, example_weights, per_example, name, print_repr)
        self.generalised = bool(generalised)
        if generalised and self._layout.yes_no:
            raise ModelError(f"{self.title}: generalised needs a Softmax; {pred.title} has one class a feature.")
        operation = DiceOperation(self._layout, self.per_example, self._weights)
        operation.smooth = self._add_number("smooth", smooth, "voxels added to both sides of the Dice fraction")
        operation.generalised, operation.squared = self.generalised, bool(squared)
        self._build(operation)

    def _n_losses(self) -> int:
        return self.n_indep if self.generalised else self._layout.n_features


class TverskyOperation(OverlapOperation):
    """1 minus the Tversky index, to a power."""

    alpha: Variable
    beta: Variable
    gamma: Variable
    smooth: Variable

    def loss(self, p: torch.Tensor, t: torch.Tensor, w: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the losses (b, f)."""
        alpha, beta, gamma, smooth = (
            float(v.value)  # type: ignore[arg-type]
            for v in (self.alpha, self.beta, self.gamma, self.smooth)
        )
        pw = p * w
        both = (pw * t).sum(2)
        false_positive, false_negative = pw.sum(2) - both, (t * w).sum(2) - both
        rest = 1 - _fraction(both + smooth, both + alpha * false_positive + beta * false_negative + smooth)
        if gamma == 1:
            return rest
        # The small number keeps the gradient finite at a perfect prediction and gamma below 1.
        return (rest.clamp_min(0) + EPS) ** gamma - EPS**gamma


class TverskyLoss(OverlapNode):
    """1 minus the Tversky index of every class in every example, which weighs false positives and negatives apart.

    ``(1 - (TP + s) / (TP + alpha FP + beta FN + s)) ^ gamma``: Salehi et al., 2017; with gamma it is the focal Tversky
    loss (Abraham and Khan, 2019, whose gamma is the inverse of this one's). ``alpha = beta = 0.5`` is Dice, with s
    counting double.

    Parameters
    ----------
    pred, target, target_is_sparse, class_weights, example_weights
        As for `DiceLoss`.
    alpha, beta, gamma, smooth : float
        Weight of false positives, of false negatives; power; s; all live, as ``node.alpha`` and so on.
    per_example : bool
        Whether sums are of each example, or of the whole batch.
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
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        class_weights: npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        smooth: float = 1.0,
        per_example: bool = True,
        name: str = "tversky",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, target_is_sparse, class_weights, example_weights, per_example, name, print_repr)
        operation = TverskyOperation(self._layout, self.per_example, self._weights)
        operation.alpha = self._add_number("alpha", alpha, "weight of false positives")
        operation.beta = self._add_number("beta", beta, "weight of false negatives")
        operation.gamma = self._add_number("gamma", gamma, "power of what is missing to a perfect overlap")
        operation.smooth = self._add_number("smooth", smooth, "voxels added to both sides of the fraction")
        self._build(operation)


class BCEDiceOperation(DiceOperation):
    """Cross-entropy and Dice of every example and class."""

    bce_weight: Variable
    dice_weight: Variable

    def loss(self, p: torch.Tensor, t: torch.Tensor, w: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the losses (b, f)."""
        entropy = -t * torch.log(p + EPS)
        if self.layout.yes_no:
            entropy = entropy - (1 - t) * torch.log(1 - p + EPS)
        entropy = (entropy * w).sum(2) / known.sum(2).clamp_min(1)
        if not self.layout.yes_no:
            entropy = self.layout.per_feature(self.layout.grouped(entropy).sum(2))
        dice = super().loss(p, t, w, known)
        first, second = (float(v.value) for v in (self.bce_weight, self.dice_weight))  # type: ignore[arg-type]
        return first * entropy + second * dice


class BCEDiceLoss(OverlapNode):
    """Cross-entropy plus Dice of every class in every example (Isensee et al., 2021).

    The first term is the mean over labelled positions: of a sigmoid's feature ``-t log(p + EPS) - (1 - t) log(1 - p +
    EPS)``, of a Softmax ``-sum t log(p + EPS)`` over the classes, the same for all of a group.

    Parameters
    ----------
    pred, target, target_is_sparse, class_weights, example_weights
        As for `DiceLoss`.
    bce_weight, dice_weight : float
        Of the two terms; live, as ``node.bce_weight`` and ``node.dice_weight``.
    smooth : float
        s in the Dice coefficient; live, as ``node.smooth``.
    per_example : bool
        Whether sums are of each example, or of the whole batch.
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
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        class_weights: npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        smooth: float = 1.0,
        per_example: bool = True,
        name: str = "bce_dice",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, target_is_sparse, class_weights, example_weights, per_example, name, print_repr)
        operation = BCEDiceOperation(self._layout, self.per_example, self._weights)
        operation.generalised = operation.squared = False
        operation.bce_weight = self._add_number("bce_weight", bce_weight, "weight of the cross-entropy")
        operation.dice_weight = self._add_number("dice_weight", dice_weight, "weight of the Dice loss")
        operation.smooth = self._add_number("smooth", smooth, "voxels added to both sides of the Dice fraction")
        self._build(operation)
