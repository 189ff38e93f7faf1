"""Negative log likelihood of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .classes import ClassLayout, class_layout
from .loss import EPS, check_weights, full_precision, sizes_agree
from .node import Node, misfit
from .shape import TaggedShape
from .softmax import class_groups
from .variables import Variable

__all__ = ["BlockedMultinoulliNLL", "ClassWeights", "MultinoulliNLL", "add_class_weights"]


class ClassWeights(nn.Module):
    """Live weights of classes as a tensor, made anew only when they change."""

    def __init__(self, variable: Variable) -> None:
        super().__init__()
        self.variable = variable
        self._cached: tuple[Any, torch.Tensor] | None = None

    def forward(self, like: torch.Tensor) -> torch.Tensor | None:
        """Return the weights (entries,) in the type and on the device of `like`, or None if there are none."""
        value = self.variable.value
        if value is None:
            return None
        key = (tuple(value), like.dtype, like.device)  # type: ignore[arg-type]
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, torch.tensor(value, dtype=like.dtype, device=like.device))
        return self._cached[1]


def add_class_weights(node: Node, class_weights: npt.ArrayLike | None, length: int) -> ClassWeights:
    """Give `node` the live value ``class_weights``, a list of `length` numbers or None."""
    if isinstance(class_weights, np.ndarray | torch.Tensor):
        class_weights = class_weights.reshape(-1).tolist()
    variable = node._add_variable(
        "class_weights",
        class_weights,
        minimum=0.0,
        help="weight of each class in the loss",
        length=length,
        optional=True,
        not_all_zero=True,
    )
    node.arguments["class_weights"] = variable.value
    return ClassWeights(variable)


class NLLOperation(nn.Module):
    """Negative log likelihood of classes, at every position."""

    def __init__(
        self,
        layout: ClassLayout,
        weakness: float,
        class_weights: ClassWeights | None,
        extra: tuple[str, ...],
        smoothing: Variable | None = None,
        blocking: Variable | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.weakness = weakness
        self.class_weights = class_weights
        self.extra = extra
        self.smoothing = smoothing
        self.blocking = blocking

    def forward(self, pred: torch.Tensor, target: torch.Tensor, *extra: torch.Tensor) -> torch.Tensor:
        """Map probabilities (b, n_indep * n_class, ...) and targets to losses (b, 1, ...)."""
        layout = self.layout
        pred, target = layout.features_second(full_precision(pred), target)
        given = dict(zip(self.extra, extra, strict=True))
        weights: torch.Tensor | None
        if "class_weights" in given:
            weights = given["class_weights"].to(pred.dtype).reshape(-1)
        else:
            weights = None if self.class_weights is None else self.class_weights(pred)
        position = None
        if "example_weights" in given:
            position = layout.position_weights(given["example_weights"], pred)
        if self.blocking is not None:
            pred = self._blocked(pred)
        plain = not self.weakness and self.smoothing is None
        if layout.sparse and plain and given.keys() <= {"class_weights", "example_weights"}:
            loss, n = self._sparse(pred, target, weights)
            if position is not None:
                loss = loss * position
            if layout.n_indep > 1:
                loss = loss.sum(1, keepdim=True)
        else:
            loss, n = self._dense(pred, target, weights, position, given)
        return layout.features_back(loss * (pred.numel() / (n + EPS) / layout.n_features))

    def _blocked(self, pred: torch.Tensor) -> torch.Tensor:
        """Raise what lies below the bound to it; the bound is a constant for the gradient."""
        assert self.blocking is not None
        factor: float = self.blocking.value  # type: ignore[assignment]
        groups = self.layout.grouped(pred)
        bound = groups.detach()[:, :, 1:].amax(2, keepdim=True) * factor
        return torch.cat([groups[:, :, :1], torch.maximum(groups[:, :, 1:], bound)], 2).flatten(1, 2)

    def _sparse(
        self, pred: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (b, n_indep, ...) and the number of labels: only the labelled class is looked at."""
        layout = self.layout
        ids, labelled = layout.true(target)
        if layout.n_indep > 1:
            first = torch.arange(layout.n_indep, device=ids.device) * layout.n_class
            ids = ids + first.reshape(-1, *(1,) * (ids.ndim - 2))
        up = -torch.log(pred.gather(1, ids) + EPS)
        up = torch.where(labelled, up if weights is None else up * weights[ids], 0)
        return up, labelled.sum().to(pred.dtype)

    def _dense(
        self,
        pred: torch.Tensor,
        target: torch.Tensor,
        weights: torch.Tensor | None,
        position: torch.Tensor | None,
        given: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (b, 1, ...) and the number of labels, with every term that there is."""
        layout = self.layout
        spatial = (1,) * (pred.ndim - 2)
        t, labelled = layout.probabilities(target, pred.dtype)
        if "mask_class_labeled" in given:
            t = t * given["mask_class_labeled"].to(pred.dtype).reshape(*pred.shape[:2], *spatial)
            labelled = layout.grouped(t).sum(2) > 0
        known = layout.per_feature(labelled)
        if self.smoothing is not None:
            share: float = self.smoothing.value  # type: ignore[assignment]
            t = (1 - share) * t + share / layout.n_class * known
        if self.weakness:
            t = (1 - self.weakness) * t + self.weakness * pred * known
        factor = torch.ones((), dtype=pred.dtype, device=pred.device)
        if weights is not None:
            factor = factor * weights.reshape(-1, *spatial)
        if position is not None:
            factor = factor * position
        loss = -t * torch.log(pred + EPS)
        n = t.sum()
        if "mask_class_not_present" in given:
            absent = given["mask_class_not_present"].to(pred.dtype).reshape(*pred.shape[:2], *spatial)
            loss = loss - absent * torch.log(1 - pred + EPS)
            n = n + absent.expand_as(pred).sum()
        return (loss * factor).sum(1, keepdim=True), n.detach()


class MultinoulliNLL(Node):
    """Negative log likelihood of class probabilities, at every position; see `AggregateLoss` for one number.

    The mean over all positions is ``sum(-t w e log(p + EPS)) / (number of labels)``: unlabelled positions don't
    count, and weights of classes and examples are not divided out again.

    Parameters
    ----------
    pred : Node
        Probabilities (b, n_indep * n_class, ...): a `Softmax`, or any node of probabilities with the attributes
        `n_class` and `n_indep`, as the pieces that are split from one have.
    target : Node
        Class ids (b, n_indep, ...), where an id that is no class (below 0, say) means "no label"; or, not
        sparse, probabilities of pred's shape, where all 0 means "no label".
    target_is_sparse : bool
    class_weights : Node or sequence of float, optional
        One for each of the features of `pred`. Unless it is a node it is live, as ``node.class_weights``.
    example_weights : Node, optional
        (b, ...) without the f axis, or with one of size 1.
    weakness : float
        Share, 0 to 1, of the target that is replaced with the prediction (soft bootstrapping: Reed et al.,
        2014); only at labelled positions.
    mask_class_labeled : Node, optional
        (b, n_indep * n_class), 1 where positions of this class were labelled in this patch, else 0: those
        positions are ignored.
    mask_class_not_present : Node, optional
        (b, n_indep * n_class), 1 where the patch is known not to hold this class: its probability is then
        driven to 0 everywhere.
    name : str
    print_repr : bool
    label_smoothing : float
        Share, 0 to 1, of each label that is spread over all classes of its group (Szegedy et al., 2016); live, as
        ``node.label_smoothing``, unless it is 0 here.

    Raises
    ------
    ModelError
        If `pred` is none of those or an argument is no good.
    ShapeError
        If target, weights or masks don't fit.
    """

    def __init__(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool = False,
        class_weights: Node | npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        weakness: float = 0,
        mask_class_labeled: Node | None = None,
        mask_class_not_present: Node | None = None,
        name: str = "nll",
        print_repr: bool = False,
        label_smoothing: float = 0,
    ) -> None:
        masks = {"mask_class_labeled": mask_class_labeled, "mask_class_not_present": mask_class_not_present}
        self._make(
            pred, target, target_is_sparse, class_weights, example_weights, masks, name, print_repr, weakness,
            label_smoothing,
        )  # fmt: skip

    def _make(
        self,
        pred: Node,
        target: Node,
        target_is_sparse: bool,
        class_weights: Node | npt.ArrayLike | None,
        example_weights: Node | None,
        masks: dict[str, Node | None],
        name: str,
        print_repr: bool,
        weakness: float = 0,
        label_smoothing: float = 0,
        blocking_factor: float | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "class_weights": class_weights if isinstance(class_weights, Node) else None,
            "example_weights": example_weights,
            **masks,
        }
        extra = {key: node for key, node in given.items() if node is not None}
        super().__init__((pred, target, *extra.values()), name, print_repr)
        if (groups := class_groups(pred)) is None:
            raise ModelError(f"{self.title} needs the output of a Softmax, not {pred.title}.")
        if isinstance(weakness, bool) or not isinstance(weakness, int | float | np.floating) or not 0 <= weakness <= 1:
            raise ModelError(f"{self.title}: weakness must be from 0 to 1, not {weakness!r}.")
        self.n_class, self.n_indep = groups
        self.target_is_sparse = bool(target_is_sparse)
        self._extra = tuple(extra)
        if self.n_class < 2:
            raise ModelError(
                f"{self.title} needs 2 classes at least; {pred.title} has {self.n_class}, which are certain always. "
                "A yes or no has 2."
            )
        self._layout = class_layout(self, pred, self.target_is_sparse)
        for key in masks:
            if key in extra and pred.shape.tags[:2] != ("b", "f"):
                raise misfit(self, f"{key} needs a prediction whose axes begin with b, f; it has {pred.shape.text}.")
        weights = None
        if not isinstance(class_weights, Node):
            weights = add_class_weights(self, class_weights, self.n_class * self.n_indep)
        blocking = smoothing = None
        if blocking_factor is not None:
            blocking = self._add_variable(
                "blocking_factor",
                blocking_factor,
                minimum=0.0,
                maximum=1.0,
                help="share of the leading class's probability to which all but the background are raised",
            )
        if label_smoothing:
            smoothing = self._add_variable(
                "label_smoothing",
                label_smoothing,
                minimum=0.0,
                maximum=1.0,
                help="share of each label that is spread over all classes",
            )
        self._build(NLLOperation(self._layout, float(weakness), weights, self._extra, smoothing, blocking))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the prediction with one feature."""
        pred, target = parents[:2]
        self._layout.check(self, pred, target)
        n_f = self._layout.n_features
        for name, shape in zip(self._extra, parents[2:], strict=True):
            if name == "example_weights":
                check_weights(self, shape, pred)
            elif name == "class_weights":
                if shape.stripnone_prod != n_f:
                    raise misfit(self, f"{name} must have {n_f} entries, one for each class, not {shape.text}.")
            elif not sizes_agree(shape.shape, (pred[0], n_f)):
                raise misfit(self, f"{name} must have the shape (batch, {n_f}), not {shape.text}.")
        return pred.updateshape("f", 1)

    @property
    def detail(self) -> str:
        """Kind of target."""
        return "class ids" if self.target_is_sparse else "class probabilities"


class BlockedMultinoulliNLL(MultinoulliNLL):
    """`MultinoulliNLL` that gives up on a class where another one than the background is far ahead.

    Before the logarithm each probability but the background's (class 0 of each group) is raised to
    ``blocking_factor`` times the largest of them at its position. The bound is a constant for the gradient: a label
    that lies below it costs ``-log(bound + EPS)`` and pulls at nothing. So labels which the network contradicts firmly
    are blocked, and the class that leads is not raised by them.

    Parameters
    ----------
    pred, target
        As for `MultinoulliNLL`.
    blocking_factor : float
        From 0 (nothing is blocked) to 1; live, as ``node.blocking_factor``.
    target_is_sparse, class_weights, example_weights, mask_class_labeled, mask_class_not_present
        As for `MultinoulliNLL`.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `pred` is no `Softmax` or an argument is no good.
    ShapeError
        If target, weights or masks don't fit.
    """

    def __init__(
        self,
        pred: Node,
        target: Node,
        blocking_factor: float = 0.5,
        target_is_sparse: bool = False,
        class_weights: Node | npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        mask_class_labeled: Node | None = None,
        mask_class_not_present: Node | None = None,
        name: str = "nll",
        print_repr: bool = False,
    ) -> None:
        masks = {"mask_class_labeled": mask_class_labeled, "mask_class_not_present": mask_class_not_present}
        self._make(
            pred, target, target_is_sparse, class_weights, example_weights, masks, name, print_repr,
            blocking_factor=blocking_factor,
        )  # fmt: skip
