"""Negative log likelihoods of numbers: yes or no, of a normal and of a beta distribution."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .loss import EPS, PROBABILITY, check_activation, check_target, full_precision, labelled_targets
from .node import Node
from .shape import TaggedShape

__all__ = ["BetaNLL", "BinaryNLL", "GaussianNLL"]


def sample_axis(node: Node, first: TaggedShape, other: TaggedShape) -> int | None:
    """Return where `other` lacks the axis s of samples that `first` has, or None; raise if they differ otherwise."""
    if first.hastag("s") and not other.hastag("s"):
        check_target(node, first.delaxis("s"), other)
        return first.tag2index("s")
    check_target(node, first, other)
    return None


class _Likelihood(Node):
    """Base of likelihoods: values like those of the first parent, of whose axes the others may lack s."""

    @property
    def _axes(self) -> tuple[int | None, ...]:
        """For each parent, where an axis of samples must be put in."""
        first, *others = (parent.shape for parent in self.parents)
        return (None, *(sample_axis(self, first, other) for other in others))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the first parent."""
        for shape in parents[1:]:
            sample_axis(self, parents[0], shape)
        return parents[0]


class LikelihoodOperation(nn.Module):
    """What likelihoods share: axes of samples, and the scale for what is not known."""

    def __init__(self, axes: tuple[int | None, ...]) -> None:
        super().__init__()
        self.axes = axes

    def aligned(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the tensors with an axis of samples where they lack one."""
        return tuple(x if a is None else x.unsqueeze(a) for x, a in zip(tensors, self.axes, strict=True))

    @staticmethod
    def masked(loss: torch.Tensor, known: torch.Tensor, plus: int = 0) -> torch.Tensor:
        """Return 0 where nothing is known, scaled so that the mean over all is that over what is known."""
        known = known.expand_as(loss)
        return torch.where(known, loss, 0) * (loss.numel() / (known.sum() + plus).clamp_min(1))


class BinaryOperation(LikelihoodOperation):
    """Bernoulli distribution."""

    subtract_label_entropy: bool

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map probabilities and targets to losses."""
        pred, target = self.aligned(full_precision(pred), target)
        target, known = labelled_targets(target, pred)
        known = known & (target >= 0)
        target = torch.where(known, target, 0)

        def cross_entropy(p: torch.Tensor) -> torch.Tensor:
            return -target * torch.log(p + EPS) - (1 - target) * torch.log(1 - p + EPS)

        loss = cross_entropy(pred)
        if self.subtract_label_entropy:
            loss = loss - cross_entropy(target)
        return self.masked(loss, known, 1)


class BinaryNLL(_Likelihood):
    """Negative log likelihood of yes or no, for every feature: ``s (-t log(p + EPS) - (1 - t) log(1 - p + EPS))``.

    Where the target is below 0 (-666, say) or NaN nothing is known: no loss. ``s`` is the number of values over that of
    the known ones plus 1.

    Parameters
    ----------
    pred : Node
        Probabilities of yes, as of a sigmoid.
    target : Node
        From 0 to 1, of pred's axes and sizes; the axis s may be missing.
    subtract_label_entropy : bool
        Subtract the entropy of the target, which gives the Kullback-Leibler divergence: 0 at ``p = t``.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `pred` is a layer whose values aren't probabilities.
    ShapeError
        If the target doesn't fit.
    """

    def __init__(
        self,
        pred: Node,
        target: Node,
        subtract_label_entropy: bool = False,
        name: str = "binary_nll",
        print_repr: bool = False,
    ) -> None:
        super().__init__((pred, target), name, print_repr)
        check_activation(self, pred, "the prediction", PROBABILITY)
        operation = BinaryOperation(self._axes)
        operation.subtract_label_entropy = bool(subtract_label_entropy)
        self._build(operation)


class GaussianOperation(LikelihoodOperation):
    """Normal distribution."""

    sig_is_log: bool

    def forward(self, mu: torch.Tensor, sig: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map mean, standard deviation or its logarithm, and target to losses."""
        mu, sig, target = self.aligned(full_precision(mu), full_precision(sig), target)
        target, known = labelled_targets(target, mu)
        if self.sig_is_log:
            log_sig, z = sig, (target - mu) * torch.exp(-sig)
        else:
            # Softplus may come down to 0 in single precision.
            sig = sig.clamp_min(1e-6)
            log_sig, z = torch.log(sig), (target - mu) / sig
        loss = 0.5 * math.log(2 * math.pi) + log_sig + 0.5 * z * z
        return self.masked(loss, known)


class GaussianNLL(_Likelihood):
    """Negative log likelihood of a normal distribution: ``log(2 pi) / 2 + log(sig) + ((t - mu) / sig)² / 2``.

    Where the target is -666 or NaN nothing is known: the loss is 0 there, and that of the others is scaled so that the
    mean over all is the mean over what is known.

    Parameters
    ----------
    mu : Node
        Mean.
    sig : Node
        Standard deviation (at least 1e-6 is taken), or its logarithm; of mu's axes and sizes.
    target : Node
        Of mu's axes and sizes. `sig` and `target` may lack the axis s.
    sig_is_log : bool
        Whether `sig` is the logarithm.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `sig` is a layer whose values may be negative, and no logarithm.
    ShapeError
        If sizes don't fit.
    """

    def __init__(
        self,
        mu: Node,
        sig: Node,
        target: Node,
        sig_is_log: bool = False,
        name: str = "g_nll",
        print_repr: bool = False,
    ) -> None:
        super().__init__((mu, sig, target), name, print_repr)
        if not sig_is_log:
            positive = ("soft+", *PROBABILITY, "relu", "abs", "concentration", "radius")
            check_activation(self, sig, "the standard deviation", positive)
        operation = GaussianOperation(self._axes)
        operation.sig_is_log = bool(sig_is_log)
        self._build(operation)


class BetaOperation(LikelihoodOperation):
    """Beta distribution."""

    def forward(self, mode: torch.Tensor, concentration: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map mode, concentration and target to losses."""
        mode, c, target = self.aligned(full_precision(mode), full_precision(concentration), target)
        target, known = labelled_targets(target, mode)
        known = known & (target >= 0)
        target = torch.where(known, target, 0.5)
        a, b = mode * (c - 2) + 1, (1 - mode) * (c - 2) + 1
        log_norm = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
        log_density = log_norm + (a - 1) * torch.log(target + EPS) + (b - 1) * torch.log(1 - target + EPS)
        return self.masked(F.softplus(-c) - log_density, known)


class BetaNLL(_Likelihood):
    """Negative log likelihood of a beta distribution, given by its mode and concentration.

    With ``a = mode (c - 2) + 1`` and ``b = (1 - mode) (c - 2) + 1`` it is
    ``-(lgamma(a + b) - lgamma(a) - lgamma(b) + (a - 1) log(t + EPS) + (b - 1) log(1 - t + EPS)) + softplus(-c)``, of
    which the last term keeps the concentration c off its lower end.

    Parameters
    ----------
    mode : Node
        From 0 to 1, as of a sigmoid.
    concentration : Node
        Above 2, as of the activation ``concentration``; of mode's axes and sizes.
    target : Node
        From 0 to 1; below 0 (-666, say) or NaN: nothing is known, as for `GaussianNLL`. `concentration` and `target`
        may lack the axis s.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `mode` or `concentration` are layers with other values.
    ShapeError
        If sizes don't fit.
    """

    def __init__(
        self, mode: Node, concentration: Node, target: Node, name: str = "beta_nll", print_repr: bool = False
    ) -> None:
        super().__init__((mode, concentration, target), name, print_repr)
        check_activation(self, mode, "the mode", PROBABILITY)
        check_activation(self, concentration, "the concentration", ("concentration", "radius"))
        self._build(BetaOperation(self._axes))
