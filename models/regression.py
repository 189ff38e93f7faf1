"""Losses of regressions: squared and absolute differences, of values and of their gradients in space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .conv import Conv
from .loss import check_target, full_precision, labelled_targets
from .node import Node
from .shape import TaggedShape
from .variables import Variable

__all__ = ["AbsLoss", "SobelizedLoss", "SquaredLoss"]


class DifferenceOperation(nn.Module, ABC):
    """A function of the difference, weighted, averaged over the features."""

    def __init__(self, axis: int | None, margin: Variable | None, scale_correction: Variable | None) -> None:
        super().__init__()
        self.axis, self.margin, self.scale_correction = axis, margin, scale_correction

    @abstractmethod
    def of_difference(self, d: torch.Tensor) -> torch.Tensor:
        """Return the loss of differences, all from 0 on."""

    @abstractmethod
    def correction(self, size: torch.Tensor, c: float) -> torch.Tensor:
        """Return the factor for targets of these absolute values."""

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map predictions and targets to losses with one feature."""
        pred = full_precision(pred)
        target, known = labelled_targets(target, pred)
        d = (target - pred).abs()
        loss = self.of_difference(d)
        if self.margin is not None:
            m: float = self.margin.value  # type: ignore[assignment]
            loss = (loss - self.of_difference(d.new_tensor(m))).clamp_min(0)
        if self.scale_correction is not None:
            loss = loss * self.correction(target.abs(), self.scale_correction.value)  # type: ignore[arg-type]
        loss = torch.where(known, loss, 0) * (pred.numel() / (known.sum() + 1))
        return loss if self.axis is None else loss.mean(self.axis, keepdim=True)


class SquaredOperation(DifferenceOperation):
    """Half the squared difference."""

    def of_difference(self, d: torch.Tensor) -> torch.Tensor:
        """Return ``d² / 2``."""
        return 0.5 * d * d

    def correction(self, size: torch.Tensor, c: float) -> torch.Tensor:
        """Return ``c / (|t| + c)``."""
        return c / (size + c)


class AbsOperation(DifferenceOperation):
    """Absolute difference."""

    def of_difference(self, d: torch.Tensor) -> torch.Tensor:
        """Return ``|d|``."""
        return d

    def correction(self, size: torch.Tensor, c: float) -> torch.Tensor:
        """Return ``c |t| + 1``."""
        return c * size + 1


class _Difference(Node):
    """What squared and absolute loss share."""

    operation_class: ClassVar[type[DifferenceOperation]]
    least_correction: ClassVar[float]

    def __init__(
        self,
        pred: Node,
        target: Node,
        margin: float | None,
        scale_correction: float | None,
        name: str,
        print_repr: bool,
    ) -> None:
        super().__init__((pred, target), name, print_repr)
        if margin is not None:
            self._add_variable("margin", margin, minimum=0.0, help="differences up to this one cost nothing")
        if scale_correction is not None:
            self._add_variable(
                "scale_correction",
                scale_correction,
                minimum=self.least_correction,
                help="how the size of the target weighs the loss",
            )
        axis = pred.shape.tag2index("f") if pred.shape.hastag("f") else None
        variables = self.variables.get("margin"), self.variables.get("scale_correction")
        self._build(self.operation_class(axis, *variables))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the prediction with one feature."""
        pred, target = parents
        check_target(self, pred, target)
        return pred.updateshape("f", 1) if pred.hastag("f") else pred


class SquaredLoss(_Difference):
    """Half the squared difference, at every position: ``s (t - p)² / 2``, averaged over the features.

    Where the target is -666 or NaN nothing is known: no loss. ``s`` is the number of values over that of the known ones
    plus 1, so that the mean over all positions is that over the known ones.

    Parameters
    ----------
    pred, target : Node
        Of the same axes and sizes.
    margin : float, optional
        Differences up to this one cost nothing, larger ones ``(d² - margin²) / 2``; live as ``node.margin``.
    scale_correction : float, optional
        c in the factor ``c / (|t| + c)``: targets of this size count half; live as ``node.scale_correction``.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If margin or correction are negative, or the correction 0.
    ShapeError
        If the target doesn't fit.
    """

    operation_class = SquaredOperation
    least_correction = 1e-6

    def __init__(
        self,
        pred: Node,
        target: Node,
        margin: float | None = None,
        scale_correction: float | None = None,
        name: str = "se",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, margin, scale_correction, name, print_repr)


class AbsLoss(_Difference):
    """Absolute difference, at every position: ``s |t - p|``, averaged over the features.

    Where the target is -666 or NaN nothing is known: no loss. ``s`` is as for `SquaredLoss`.

    Parameters
    ----------
    pred, target : Node
        Of the same axes and sizes.
    margin : float, optional
        Differences up to this one cost nothing, larger ones ``|d| - margin``; live as ``node.margin``.
    scale_correction : float, optional
        c in the factor ``c |t| + 1``; live as ``node.scale_correction``.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If margin or correction are negative.
    ShapeError
        If the target doesn't fit.
    """

    operation_class = AbsOperation
    least_correction = 0.0

    def __init__(
        self,
        pred: Node,
        target: Node,
        margin: float | None = None,
        scale_correction: float | None = None,
        name: str = "absloss",
        print_repr: bool = False,
    ) -> None:
        super().__init__(pred, target, margin, scale_correction, name, print_repr)


def SobelizedLoss(
    pred: Node, target: Node, loss_type: str = "abs", loss_kwargs: Mapping[str, Any] | None = None
) -> AbsLoss | SquaredLoss:
    """Return a loss between the gradients in space of prediction and target.

    Two `Conv` nodes of constant weights, ``pred_sobel`` and ``target_sobel``, make the derivative [1, 0, -1] along
    one axis after smoothing by [0.3, 0.4, 0.3] along the others. The derivative in direction d of feature i is their
    feature ``d * n_f + i``; the directions are the axes in order, but in 3D the first, the last, the middle one.

    Parameters
    ----------
    pred, target : Node
        Of the same axes and sizes, with one to three spatial ones; floats. NaN in the target makes the positions
        around it unknown.
    loss_type : {'abs', 'squared'}
        `AbsLoss` or `SquaredLoss`.
    loss_kwargs : mapping, optional
        Further arguments of that class.

    Raises
    ------
    ModelError
        If there is no such loss.
    ShapeError
        If the axes are none that a `Conv` takes, or the target doesn't fit.
    """
    losses: dict[str, type[AbsLoss | SquaredLoss]] = {"abs": AbsLoss, "squared": SquaredLoss}
    if loss_type not in losses:
        raise ModelError(f"SobelizedLoss: loss_type must be 'abs' or 'squared', not {loss_type!r}.")
    if not target.dtype.startswith(("float", "bfloat")):
        raise ModelError(f"SobelizedLoss: the target {target.name!r} must be of floats, not {target.dtype}.")
    n_f, ndim = pred.shape["f"], pred.shape.ndim
    weights = sobel_weights(n_f, ndim)

    def gradient(node: Node, name: str) -> Conv:
        return Conv(
            node,
            n_f * ndim,
            (3,) * ndim,
            conv_mode="same",
            activation_func="lin",
            name=name,
            w=[weights, "const"],
            b=[np.zeros(n_f * ndim), "const"],
        )

    return losses[loss_type](gradient(pred, "pred_sobel"), gradient(target, "target_sobel"), **dict(loss_kwargs or {}))


def sobel_weights(n_f: int, ndim: int) -> np.ndarray:
    """Return weights (n_f * ndim, n_f, 3, ...) of derivatives in all directions."""
    derivative, smooth = np.array([1.0, 0.0, -1.0]), np.array([0.3, 0.4, 0.3])
    weights = np.zeros((n_f * ndim, n_f, *(3,) * ndim), np.float32)
    for d, axis in enumerate((0, 2, 1) if ndim == 3 else range(ndim)):
        kernel = np.ones((1,) * ndim)
        for a in range(ndim):
            line = derivative if a == axis else smooth
            kernel = kernel * line.reshape(*(3 if i == a else 1 for i in range(ndim)))
        for i in range(n_f):
            weights[d * n_f + i, i] = kernel
    return weights
