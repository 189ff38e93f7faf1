"""Negative log likelihood of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .loss import EPS, check_target, full_precision, per_position, sizes_agree
from .node import Node, misfit
from .shape import TaggedShape
from .softmax import Softmax
from .variables import Variable

__all__ = ["MultinoulliNLL"]


class NLLOperation(nn.Module):
    """Negative log likelihood of classes, at every position."""

    def __init__(
        self,
        n_class: int,
        n_indep: int,
        sparse: bool,
        weakness: float,
        class_weights: Variable | None,
        extra: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.n_class, self.n_indep, self.sparse = n_class, n_indep, sparse
        self.weakness = weakness
        self.class_weights = class_weights
        self.extra = extra
        self._cached: tuple[Any, torch.Tensor] | None = None

    def forward(self, pred: torch.Tensor, target: torch.Tensor, *extra: torch.Tensor) -> torch.Tensor:
        """Map probabilities (b, n_indep * n_class, ...) and targets to losses (b, 1, ...)."""
        pred = full_precision(pred)
        given = dict(zip(self.extra, extra, strict=True))
        weights = self._weights(given.get("class_weights"), pred)
        if self.sparse and not self.weakness and given.keys() <= {"class_weights", "example_weights"}:
            up, n = self._sparse(pred, target, weights)
            if "example_weights" in given:
                up = up * per_position(given["example_weights"], pred)
            up = up.sum(1, keepdim=True)
        else:
            up, n = self._dense(pred, target, weights, given)
        return up * (pred.numel() / (n + EPS) / (self.n_indep * self.n_class))

    def _sparse(
        self, pred: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (b, n_indep, ...) and the number of labels: only the labelled class is looked at."""
        labelled = (target >= 0) & (target < self.n_class)
        ids = torch.where(labelled, target, 0).long()
        if self.n_indep > 1:
            first = torch.arange(self.n_indep, device=ids.device) * self.n_class
            ids = ids + first.reshape(-1, *(1,) * (ids.ndim - 2))
        up = -torch.log(pred.gather(1, ids) + EPS)
        up = torch.where(labelled, up if weights is None else up * weights[ids], 0)
        return up, labelled.sum().to(pred.dtype)

    def _dense(
        self,
        pred: torch.Tensor,
        target: torch.Tensor,
        weights: torch.Tensor | None,
        given: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (b, 1, ...) and the number of labels, with every term that there is."""
        spatial = (1,) * (pred.ndim - 2)
        if self.sparse:
            classes = torch.arange(self.n_class, device=target.device).reshape(-1, *spatial)
            t = (target.unsqueeze(2) == classes).flatten(1, 2).to(pred.dtype)
        else:
            t = target.to(pred.dtype)
        if "mask_class_labeled" in given:
            t = t * given["mask_class_labeled"].to(pred.dtype).reshape(*pred.shape[:2], *spatial)
        if self.weakness:
            groups = (t.unflatten(1, (self.n_indep, self.n_class)).sum(2, keepdim=True) > 0).to(pred.dtype)
            labelled = groups.expand(-1, -1, self.n_class, *[-1] * len(spatial)).flatten(1, 2)
            t = (1 - self.weakness) * t + self.weakness * pred * labelled
        factor = torch.ones((), dtype=pred.dtype, device=pred.device)
        if weights is not None:
            factor = factor * weights.reshape(-1, *spatial)
        if "example_weights" in given:
            factor = factor * per_position(given["example_weights"], pred)
        loss = -t * torch.log(pred + EPS)
        n = t.sum()
        if "mask_class_not_present" in given:
            absent = given["mask_class_not_present"].to(pred.dtype).reshape(*pred.shape[:2], *spatial)
            loss = loss - absent * torch.log(1 - pred + EPS)
            n = n + absent.expand_as(pred).sum()
        return (loss * factor).sum(1, keepdim=True), n.detach()

    def _weights(self, given: torch.Tensor | None, pred: torch.Tensor) -> torch.Tensor | None:
        if given is not None:
            return given.to(pred.dtype).reshape(-1)
        value = None if self.class_weights is None else self.class_weights.value
        if value is None:
            return None
        key = (tuple(value), pred.dtype, pred.device)  # type: ignore[arg-type]
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, torch.tensor(value, dtype=pred.dtype, device=pred.device))
        return self._cached[1]


class MultinoulliNLL(Node):
    """Negative log likelihood of class probabilities, at every position; see `AggregateLoss` for one number.

    The mean over all positions is ``sum(-t w e log(p + EPS)) / (number of labels)``: unlabelled positions don't
    count, and weights of classes and examples are not divided out again.

    Parameters
    ----------
    pred : Softmax
        Probabilities (b, n_indep * n_class, ...).
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
        target_is_sparse: bool = False,
        class_weights: Node | npt.ArrayLike | None = None,
        example_weights: Node | None = None,
        weakness: float = 0,
        mask_class_labeled: Node | None = None,
        mask_class_not_present: Node | None = None,
        name: str = "nll",
        print_repr: bool = False,
    ) -> None:
        given: dict[str, Any] = {
            "class_weights": class_weights if isinstance(class_weights, Node) else None,
            "example_weights": example_weights,
            "mask_class_labeled": mask_class_labeled,
            "mask_class_not_present": mask_class_not_present,
        }
        extra = {key: node for key, node in given.items() if node is not None}
        super().__init__((pred, target, *extra.values()), name, print_repr)
        if not isinstance(pred, Softmax):
            raise ModelError(f"{self.title} needs the output of a Softmax, not {pred.title}.")
        if not 0 <= weakness <= 1:
            raise ModelError(f"{self.title}: weakness must be from 0 to 1, not {weakness!r}.")
        self.n_class, self.n_indep = pred.n_class, pred.n_indep
        self.target_is_sparse = bool(target_is_sparse)
        self._extra = tuple(extra)
        if self.n_class < 2:
            raise ModelError(
                f"{self.title} needs 2 classes at least; {pred.title} has {self.n_class}, which are certain always. "
                "A yes or no has 2."
            )
        n_f = self.n_class * self.n_indep
        variable = None
        if not isinstance(class_weights, Node):
            if isinstance(class_weights, np.ndarray):
                class_weights = class_weights.reshape(-1).tolist()
            variable = self._add_variable(
                "class_weights",
                class_weights,
                minimum=0.0,
                help="weight of each class in the loss",
                length=n_f,
                optional=True,
                not_all_zero=True,
            )
        self._build(
            NLLOperation(self.n_class, self.n_indep, self.target_is_sparse, float(weakness), variable, self._extra)
        )

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the prediction with one feature."""
        pred, target = parents[:2]
        check_target(self, pred, target, self.n_indep if self.target_is_sparse else self.n_class * self.n_indep)
        n_f = pred["f"]
        for name, shape in zip(self._extra, parents[2:], strict=True):
            if name == "example_weights":
                sizes = tuple(n for n, tag in zip(pred.shape, pred.tags, strict=True) if tag != "f")
                ok = sizes_agree(shape.shape, sizes) or sizes_agree(shape.shape, pred.updateshape("f", 1).shape)
                wanted = f"{sizes}"
            elif name == "class_weights":
                ok, wanted = shape.stripnone_prod == n_f, f"{n_f} entries"
            else:
                ok, wanted = sizes_agree(shape.shape, (pred[0], n_f)), f"(batch, {n_f})"
            if not ok:
                raise misfit(self, f"{name} must have the shape {wanted}, not {shape.text}.")
        return pred.updateshape("f", 1)

    @property
    def detail(self) -> str:
        """Kind of target."""
        if "target_is_sparse" not in self.__dict__:
            return ""
        return "class ids" if self.target_is_sparse else "class probabilities"
